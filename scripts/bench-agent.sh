#!/bin/bash
# bench-agent.sh: the speed of a backup, beside that of pg_dump alone and of pg_dump | gzip.
#
# Makes a throw-away server with a database of about SIZE_MIB (1024) and runs each in turn, ROUNDS (3) times, so
# that whatever else the machine does befalls all alike. Prints each time, medians, ratios, and the most
# memory that the agent had. COMPRESS names one more compression to try, such as zstd:1.
# The backup goes into a plain directory: what a mount costs is measured elsewhere.
set -euo pipefail

size_mib=${SIZE_MIB:-1024} rounds=${ROUNDS:-3} compress=${COMPRESS:-}
agent=${AGENT:-$(dirname "$0")/../target/release/worm-ingest}
[ -x "$agent" ] || { echo "build first: cargo build --release -p worm-ingest" >&2; exit 2; }
programs=$(find /usr/lib/postgresql -path '*/bin/initdb' | sort -V | tail -n 1 | xargs dirname)
place=$(mktemp -d "${TMPDIR:-/tmp}/worm-bench-XXXXXX")
server=
clean() {
    if [ -n "$server" ] && kill -INT "$server"; then wait "$server" || true; fi
    rm -rf "$place"
}
trap clean EXIT

user=()
if [ "$(id -u)" = 0 ]; then
    chmod 755 "$place"
    mkdir "$place/server"
    chown nobody "$place/server"
    user=(setpriv --reuid=nobody --regid="$(id -g nobody)" --clear-groups --)
else
    mkdir "$place/server"
fi
"${user[@]}" "$programs/initdb" -D "$place/server/data" -U postgres --no-sync -A trust >/dev/null
"${user[@]}" "$programs/postgres" -D "$place/server/data" -k "$place/server" -c listen_addresses= \
    -c fsync=off -c shared_buffers=256MB -c max_wal_size=8GB -c autovacuum=off 2>"$place/log" &
server=$!
export PGHOST=$place/server PGUSER=postgres PGDATABASE=bench
until "$programs/pg_isready" -q -d postgres; do sleep 0.1; done
"$programs/createdb" bench
# A third each: pgbench's own rows, which compress to little; texts; numbers. The database has about this size.
"$programs/pgbench" -i -q -s $((size_mib / 45 + 1)) 2>/dev/null
"$programs/psql" -Xqc "
    CREATE TABLE events AS SELECT n AS id, now() - n * interval '1 s' AS at, md5(n::text) AS session,
        'GET /shop/item/' || n % 5000 || '?ref=' || n % 37 AS request, (random() * 1000)::int AS took
        FROM generate_series(1, $size_mib * 2700) AS n;
    CREATE TABLE measures AS SELECT n AS id, n % 400 AS sensor, random() AS value, random() * 100 AS other
        FROM generate_series(1, $size_mib * 6000) AS n" -c "VACUUM ANALYZE"
echo "database: $("$programs/psql" -XAtc 'SELECT pg_size_pretty(pg_database_size(current_database()))')," \
    "dump: $("$programs/pg_dump" | wc -c | numfmt --to=iec), $(nproc) processors," \
    "load at the start $(cut -d' ' -f1 /proc/loadavg)"

mkdir -p "$place/active/hourly"
peak=0
alone() { "$programs/pg_dump" >/dev/null; }
gzipped() { "$programs/pg_dump" | gzip >"$place/dump.gz"; rm "$place/dump.gz"; }
backup() {
    env -u PGDATABASE "$agent" backup hourly --allow-plain --backups "$place/active" --audit-log "$place/audit" \
        --dbname bench --compress "$1" >"$place/said" 2>&1 &
    local pid=$! now
    while now=$(awk '/^VmHWM/ { print $2 }' "/proc/$pid/status" 2>/dev/null) && [ -n "$now" ]; do
        [ "$now" -le "$peak" ] || peak=$now
        sleep 0.2
    done
    wait "$pid" || { cat "$place/said" >&2; exit 1; }
    stat -c %s "$place"/active/hourly/*.sql* | sort -n | tail -n 1 >"$place/bytes"
    rm -f "$place"/active/hourly/*
}
timed() { # NAME COMMAND...: notes the seconds
    local begin end name=$1
    shift
    begin=$(date +%s%N)
    "$@"
    end=$(date +%s%N)
    awk -v t=$((end - begin)) 'BEGIN { printf "%.2f\n", t / 1e9 }' >>"$place/times-$name"
    echo "  $name: $(tail -n 1 "$place/times-$name") s"
}
median() { sort -n "$place/times-$1" | awk '{ t[NR] = $1 } END { print t[int((NR + 1) / 2)] }'; }

default=gzip:2
alone # What is not cached yet is now.
for _ in $(seq "$rounds"); do
    timed alone alone
    timed "$default" backup "$default"
    cp "$place/bytes" "$place/bytes-$default"
    if [ -n "$compress" ]; then
        timed "$compress" backup "$compress"
        cp "$place/bytes" "$place/bytes-$compress"
    fi
    timed gzip gzipped
done
echo "medians: pg_dump >/dev/null $(median alone) s, pg_dump | gzip $(median gzip) s"
for codec in $default $compress; do
    awk -v c="$codec" -v b="$(median "$codec")" -v a="$(median alone)" -v g="$(median gzip)" -v s="$(cat "$place/bytes-$codec")" \
        'BEGIN { printf "backup %s: %.2f s, %.2f of pg_dump, %.2f of pg_dump | gzip, %d MiB\n", c, b, b / a, b / g, s / 1048576 }'
done
echo "most memory of the agent: $((peak / 1024)) MiB"
