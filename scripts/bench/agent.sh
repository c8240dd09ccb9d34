# shellcheck shell=bash
# The agent: a backup of a database of about BENCH_MIB, beside pg_dump alone and pg_dump | gzip, into
# a plain directory and into the mount. "native" is pg_dump alone, but for the last line.
# Sourced by bench.sh.

pg_programs=$(find /usr/lib/postgresql -path '*/bin/initdb' | sort -V | tail -n 1 | xargs -r dirname)
[ -n "$pg_programs" ] || fail "there is no PostgreSQL: scripts/setup.sh installs it"
PATH=$pg_programs:$PATH
pg=$tmp/pg mounted=$tmp/mounted directory=$tmp/directory
chmod 755 "$tmp"
mkdir -p "$pg" "$mounted" "$directory/hourly"
chown nobody "$pg"
as_nobody=(setpriv --reuid=nobody "--regid=$(id -g nobody)" --clear-groups --)
"${as_nobody[@]}" initdb -D "$pg/data" -U postgres --no-sync -A trust >/dev/null
"${as_nobody[@]}" postgres -D "$pg/data" -k "$pg" -c listen_addresses= -c fsync=off \
    -c shared_buffers=256MB -c max_wal_size=8GB -c autovacuum=off 2>"$pg/log" &
server=$!
stop_server() { kill -INT "$server" && wait "$server"; }
undo+=(stop_server)
export PGHOST=$pg PGUSER=postgres
until pg_isready -q -d postgres; do
    kill -0 "$server" || fail "the server did not start: $(tail -n 1 "$pg/log")"
    sleep 0.1
done

# A third each: pgbench's own rows, which compress to little; texts; numbers.
createdb bench
pgbench -i -q -s $((mib / 45 + 1)) bench 2>/dev/null
psql -Xqd bench -c "
    CREATE TABLE events AS SELECT n AS id, now() - n * interval '1 s' AS at, md5(n::text) AS session,
        'GET /shop/item/' || n % 5000 || '?ref=' || n % 37 AS request, (random() * 1000)::int AS took
        FROM generate_series(1, $mib * 2700) AS n;
    CREATE TABLE measures AS SELECT n AS id, n % 400 AS sensor, random() AS value, random() * 100 AS other
        FROM generate_series(1, $mib * 6000) AS n" -c "VACUUM ANALYZE"
dump_mib=$(pg_dump bench | wc -c | awk '{ printf "%d", $1 / 1048576 }')
echo "  database: $(psql -XAtd bench -c 'SELECT pg_size_pretty(pg_database_size(current_database()))'), $dump_mib MiB of SQL"

cat >"$tmp/agent.toml" <<'TOML'
[class.hourly]
retention = "1h"
limits = { bytes_per_day = "100TiB", bytes = "100TiB" }
TOML
worm mount "$tmp/agent-store" "$mounted" --config "$tmp/agent.toml" --key "$tmp/agent-key" \
    --run-dir "$tmp/agent-run" >/dev/null
unmount_agents() { worm umount "$mounted" --guard --run-dir "$tmp/agent-run" >/dev/null; }
undo+=(unmount_agents)

# The most memory that the agent had, in KiB.
peak=0
backup() { # WHERE CODEC ARGUMENT...
    local where=$1 codec=$2 now pid
    shift 2
    worm-ingest backup hourly --backups "$where" --audit-log "$tmp/audit" --dbname bench \
        --compress "$codec" "$@" >"$tmp/said" 2>&1 &
    pid=$!
    while now=$(awk '/^VmHWM/ { print $2 }' "/proc/$pid/status" 2>/dev/null) && [ -n "$now" ]; do
        [ "$now" -le "$peak" ] || peak=$now
        sleep 0.1
    done
    wait "$pid" || fail "$(cat "$tmp/said")"
}
pg_dump_alone() { pg_dump bench; }
pg_dump_gzip() { pg_dump bench | gzip >"$tmp/dump.gz"; }
before_backup() { rm -f "$directory/hourly"/* && sync; }
for codec in gzip:1 zstd:1; do
    before_backup_plain() { before_backup; }
    backup_plain() { backup "$directory" "$codec" --allow-plain; }
    compare "backup $codec, plain directory" "$dump_mib" MiB/s pg_dump_alone backup_plain
    size=$(stat -c %s "$directory"/hourly/*.sql.* | sort -n | tail -n 1)
    show "  its file" $((size / 1048576)) MiB
    before_backup_sealed() { before_backup; }
    backup_sealed() { backup "$mounted" "$codec"; }
    compare "backup $codec, mount" "$dump_mib" MiB/s pg_dump_alone backup_sealed
done
default_plain() { backup "$directory" gzip:1 --allow-plain; }
before_default_plain() { before_backup; }
compare "backup gzip:1, beside pg_dump | gzip" "$dump_mib" MiB/s pg_dump_gzip default_plain
show "most memory of the agent" $((peak / 1024)) MiB
