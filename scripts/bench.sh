#!/usr/bin/env bash
# Measures what was built for speed against the same work done natively, one after the other in
# turns, and prints medians and their ratio. It judges nothing: the machine and its load do.
#
#   scripts/bench.sh [PART...]      the parts are scripts/bench/PART.sh; without one, all of them
#
#   BENCH_ROUNDS   how often each is measured (5)
#   BENCH_MIB      size of the large file in MiB (1024)
#   BENCH_FILES    how many small files (100000)
#   TMPDIR         where: that disk is what is measured
set -euo pipefail
export LC_ALL=C.UTF-8 LANGUAGE=

here=$(cd "$(dirname "$0")" && pwd)
# shellcheck source=scripts/bench/lib/measure.sh
. "$here/bench/lib/measure.sh"

parts=("$@")
if [ "${#parts[@]}" = 0 ]; then
    for file in "$here"/bench/*.sh; do
        file=${file##*/}
        parts+=("${file%.sh}")
    done
fi
for part in "${parts[@]}"; do
    [ -r "$here/bench/$part.sh" ] || fail "there is no part $part in scripts/bench"
done

[ "$(id -u)" = 0 ] || fail "run as root: mounting needs it"
programs=$(realpath -m "${CARGO_TARGET_DIR:-$here/../target}/release")
[ -x "$programs/worm" ] || fail "worm is not built: cargo build --release --workspace --bins"
PATH=$programs:$PATH
unset "${!WORM_@}" "${!BACKUP_@}"

tmp=$(mktemp -d "${TMPDIR:-/var/tmp}/worm-bench.XXXXXX")
trap leave EXIT

echo "$(uname -sr), $(nproc) CPUs, load $(cut -d' ' -f1-3 /proc/loadavg), $(df --output=fstype "$tmp" | tail -n1) in ${tmp%/*}"
for part in "${parts[@]}"; do
    echo
    echo "$part"
    # shellcheck source=/dev/null
    . "$here/bench/$part.sh"
done
