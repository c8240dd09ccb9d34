#!/usr/bin/env bash
# Shows the main job from end to end: backs up a PostgreSQL into write-once storage, tries as root
# to destroy the backup, mirrors it, restores it and compares the two databases row by row.
#
# Without DATABASE_URL the database is a throw-away one. With it, that database is backed up, and
# nothing in it is changed; the restore goes into a throw-away server all the same.
# Ends with 0 only when everything went as promised, and leaves nothing behind either way.
#
#   DEMO_SCALE   size of the throw-away database in pgbench units of 15 MB (10)
#   DEMO_LIMIT   seconds that one step may take (600; a day with DATABASE_URL)
set -euo pipefail
export LC_ALL=C.UTF-8 LANGUAGE=

here=$(cd "$(dirname "$0")" && pwd)
# shellcheck source=scripts/demo/terminal.sh
. "$here/demo/terminal.sh"
# shellcheck source=scripts/demo/bounded.sh
. "$here/demo/bounded.sh"
# shellcheck source=scripts/demo/server.sh
. "$here/demo/server.sh"
# shellcheck source=scripts/demo/attacks.sh
. "$here/demo/attacks.sh"

readonly CLASS=daily
database_url=${DATABASE_URL:-}
limit=600
[ -z "$database_url" ] || limit=86400
limit=${DEMO_LIMIT:-$limit}

# Only what this script says may steer the programs that it starts.
unset DATABASE_URL DATABASE_URL_FILE "${!WORM_@}" "${!BACKUP_@}" "${!POSTGRES_@}"
[ -n "$database_url" ] || unset "${!PG@}"

programs=$(realpath -m "${CARGO_TARGET_DIR:-$here/../target}/release")
PATH=$programs:$PATH

check_machine() {
    [ "$(id -u)" = 0 ] || fail "run as root: mounting needs it"
    local program
    for program in worm worm-ingest worm-extractor compare-databases; do
        [ -x "$programs/$program" ] || fail "$program is not built: cargo build --release --workspace"
    done
}

# Store, mirror and restored database all lie in $tmp.
check_space() {
    local free needed=$(($1 * 2 + 500000000))
    free=$(df --output=avail -B1 "$tmp" | tail -n1)
    [ "$free" -gt "$needed" ] ||
        fail "${tmp%/*} needs $(megabytes "$needed") MB of free space: set TMPDIR to another place"
}

prepare_source() {
    if [ -n "$database_url" ]; then
        begin "Looking at the database"
        use_given_source "$database_url"
        end "your database $(source_sql 'SELECT current_database()') on PostgreSQL $source_major, read only"
        begin "Starting a PostgreSQL to restore into"
        start_server "$source_major"
        end "PostgreSQL $server_major to restore into, throw-away"
    else
        begin "Starting a PostgreSQL"
        start_server 0
        end "PostgreSQL $server_major, throw-away, as user $server_user"
        begin "Filling a database"
        fill_source "${DEMO_SCALE:-10}"
        end "filled by pgbench and by scripts/demo.sql, with everything that backups get wrong"
    fi
    check_space "$(source_sql 'SELECT pg_database_size(current_database())')"
    begin "Taking the fingerprint of every row"
    fingerprint "$source_url" before
    end "fingerprint of every row, to compare with later"
}

mount_store() {
    begin "Mounting"
    mkdir "$tmp/active" "$tmp/view" "$tmp/audit" "$tmp/external_storage"
    # The defaults, said aloud, whatever /etc/worm/worm.toml says on this machine.
    printf '[class.%s]\nretention = "%s"\n' hourly 48h daily 7d weekly 4w >"$tmp/worm.toml"
    must mount worm mount "$tmp/store" "$tmp/active" --view "$tmp/view" --key "$tmp/key" \
        --run-dir "$tmp/run" --config "$tmp/worm.toml"
    end "write-once storage mounted at $tmp/active, read-only view at $tmp/view"
}

back_up() {
    begin "Backing up"
    DATABASE_URL=$source_url must backup worm-ingest backup "$CLASS" --backups "$tmp/active" \
        --audit-log "$tmp/audit/backup_audit.jsonl"
    backup_seconds=$(elapsed)
    manifest=$(compgen -G "$tmp/active/$CLASS/*.manifest.json") || fail "the backup has no manifest"
    name=$(jq -er .name "$manifest")
    sha256=$(jq -er .stored.sha256 "$manifest")
    raw_bytes=$(jq -er .raw.bytes "$manifest")
    stored_bytes=$(jq -er .stored.bytes "$manifest")
    database_bytes=$(jq -er .database_bytes "$manifest")
    local file
    for file in "$name" "$name.sha256" "$name.manifest.json"; do
        must wait worm wait "$tmp/active/$CLASS/$file"
    done
    [ "$(getfattr --absolute-names --only-values -n user.worm.sha256 "$tmp/active/$CLASS/$name")" = "$sha256" ] ||
        fail "the file system and the manifest disagree on the SHA-256 of $name"
    end "backed up and sealed: $CLASS/$name, $(megabytes "$stored_bytes") MB"
}

mirror() {
    begin "Mirroring"
    must mirror worm-extractor once --from "$tmp/view" --to "$tmp/external_storage" \
        --audit "$tmp/audit/extraction_audit.jsonl"
    mirror_seconds=$(elapsed)
    mirrored=$(compgen -G "$tmp/external_storage/$CLASS/*/$name") || fail "$name is not in the mirror"
    must sha256sum env -C "${mirrored%/*}" sha256sum -c --strict "$name.sha256"
    end "mirrored to ${mirrored#"$tmp/"}, sha256sum -c agrees"
}

restore() {
    create_target
    begin "Restoring"
    must restore "${bare[@]}" worm-extractor restore latest --from "$tmp/external_storage" \
        --audit "$tmp/audit/extraction_audit.jsonl" --to "$(server_url restored)"
    restore_seconds=$(elapsed)
    end "restored from the mirror into an empty database"
}

# The source may be in use. Then it cannot be compared row by row, and the manifest's counts,
# taken in the snapshot of the dump, are what the copy must have.
compare() {
    begin "Comparing"
    fingerprint "$(server_url restored)" restored
    if bounded compare compare-databases compare "$tmp/before.json" "$tmp/restored.json"; then
        agreement='the copy is equal to its source'
        end "source and restored database are equal: $(cat "$tmp/logs/compare.log")"
        return
    fi
    [ -n "$database_url" ] || fail_with_log compare "the restored database differs from its source"
    fingerprint "$source_url" after
    if bounded changed compare-databases compare "$tmp/before.json" "$tmp/after.json"; then
        fail_with_log compare "the restored database differs from its source, which did not change"
    fi
    agreement='the copy has every row of the dump'
    must counts compare-databases manifest "$manifest" "$tmp/restored.json"
    end "the source changed meanwhile; the copy has the rows that the dump had: $(cat "$tmp/logs/counts.log")"
}

verify() {
    begin "Verifying the store"
    must verify worm verify "$tmp/store" --run-dir "$tmp/run"
    verify_seconds=$(elapsed)
    end "store verified: $(tail -n1 "$tmp/logs/verify.log")"
}

# One row of the table: what, and its bytes, its seconds, a remark.
row() {
    printf '  %-26s %12s %10s   %s\n' "$1" "$2" "$3" "$4"
}

# A row for a step: its name, seconds, and the bytes that its rate is about.
timed() {
    row "$1" '' "$2 s" "$(rate "$3" "$2") MB/s of $4"
}

summary() {
    title "In numbers"
    row 'database on the server' "$(megabytes "$database_bytes") MB" '' ''
    row 'dump' "$(megabytes "$raw_bytes") MB" '' ''
    row 'backup as stored' "$(megabytes "$stored_bytes") MB" '' "ratio $(ratio "$raw_bytes" "$stored_bytes"):1"
    timed 'backup, proven and sealed' "$backup_seconds" "$raw_bytes" dump
    timed 'mirror, digests checked' "$mirror_seconds" "$stored_bytes" backup
    timed 'restore, rows counted' "$restore_seconds" "$raw_bytes" dump
    timed 'verify the whole store' "$verify_seconds" "$stored_bytes" backup
    say
}

tmp=$(mktemp -d "${TMPDIR:-/tmp}/worm-demo.XXXXXX")
mkdir "$tmp/logs"
chmod 711 "$tmp"
trap clean_up EXIT
trap 'exit 129' HUP
trap 'exit 130' INT
trap 'exit 143' TERM

title "A PostgreSQL backup that root cannot destroy"
check_machine
prepare_source
mount_store
back_up
title "Root tries to destroy it; every attempt must fail"
attack_backup
title "The same through the read-only view"
attack_view
title "What the storage says"
must ls worm ls "$tmp/active" --run-dir "$tmp/run"
sed 's/^/  /' "$tmp/logs/ls.log"
! compgen -G "$tmp/active/$CLASS/sed*" >/dev/null ||
    say "  (sed's temporary file was sealed when sed closed it, like any new file. It will expire.)"
title "Away, and back again"
mirror
restore
compare
verify
summary
success "Success: sealed, attacked $attacks times, mirrored, restored: $agreement."
