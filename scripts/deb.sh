#!/usr/bin/env bash
# Builds the Debian package with cargo-deb from crates.io, tries it, and prints where it is.
set -euo pipefail
cd "$(dirname "$0")/.."

target=${CARGO_TARGET_DIR:-$PWD/target}
tools=$target/tools
if [ ! -x "$tools/bin/cargo-deb" ]; then
    cargo install --quiet --locked --root "$tools" cargo-deb --version '^3.8'
fi
cargo build --release --workspace --bins
rm -rf target/manual
"$target/release/worm-manual" target/manual
# mount(8) looks for it when it is told `-t worm`.
mkdir target/manual/sbin
ln -s ../bin/worm target/manual/sbin/mount.worm
rm -f "$target"/debian/worm_*.deb
"$tools/bin/cargo-deb" deb --package worm-packaging --no-build --strip --output "$target/debian/" >/dev/null

# It is tried in a fresh Debian of its own: installed, mounted as mount(8) does it, and purged.
package=$(echo "$target"/debian/worm_*.deb)
host=$(mktemp -d "${TMPDIR:-/var/tmp}/worm-deb.XXXXXX")
trap 'rm -rf --one-file-system "$host"' EXIT
mmdebstrap --quiet --variant=minbase bookworm "$host/root"
cp "$package" "$host/root/worm.deb"
# shellcheck disable=SC2016 # for the shells inside
unshare --mount --pid --fork --kill-child sh -euc '
    cd "$1"
    mount --make-rprivate / && mount -t proc proc proc
    mount --rbind /dev dev && mount -t tmpfs tmpfs srv
    exec chroot . sh -euc "$2"
' sh "$host/root" '
    dpkg --install /worm.deb >/dev/null
    mount -t worm /srv/worm /backups/active -o view=/backups/view,logs=/backups/logs
    echo kept >/backups/active/daily/x
    worm wait /backups/active/daily/x >/dev/null
    ! rm /backups/active/daily/x 2>/dev/null
    worm-ingest config show >/dev/null
    worm-extractor once --from /backups/view --to /external_storage >/dev/null
    worm umount /backups/active --guard
    dpkg --purge worm >/dev/null
    worm=$(cat /srv/worm/data/daily/x) && [ "$worm" = kept ] && ! [ -e /usr/bin/worm ]
'
echo "$package"
