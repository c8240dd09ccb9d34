# The throw-away PostgreSQL of the demo, and the database that is backed up. Sourced, not run.
# shellcheck shell=bash

server_bin='' server_major='' server_user='' as_server=() source_url='' source_major=''

# Runs a program without the libpq variables, which may belong to the user's own database.
bare=(env)
for variable in "${!PG@}"; do
    bare+=(-u "$variable")
done

# Starts a server of at least release $1 on a unix socket, without TCP, as an unprivileged user.
start_server() {
    server_bin=$(compgen -G '/usr/lib/postgresql/*/bin' | sort -V | tail -n1) ||
        fail "no PostgreSQL server is installed: scripts/setup.sh"
    server_major=$(basename "${server_bin%/bin}")
    [ "$server_major" -ge "$1" ] ||
        fail "your server has release $1, here is $server_major: apt-get install postgresql-$1"
    local user
    for user in postgres nobody; do
        if id "$user" >/dev/null 2>&1; then
            server_user=$user
            break
        fi
    done
    [ -n "$server_user" ] || fail "neither a user postgres nor a user nobody on this machine"
    as_server=("${bare[@]}" -C / setpriv --reuid="$server_user" --regid="$(id -g "$server_user")"
        --init-groups -- env "PATH=$server_bin:$PATH")
    install -d -m 755 -o "$server_user" "$tmp/pg"
    must initdb "${as_server[@]}" initdb -D "$tmp/pg/data" -U postgres --no-sync --auth=trust \
        --encoding=UTF8 --locale=C.UTF-8
    # Nothing in it must survive, except the few minutes of the demo.
    must start "${as_server[@]}" pg_ctl -D "$tmp/pg/data" -l "$tmp/pg/log" -w -t 60 start \
        -o "-k $tmp/pg -h '' -c fsync=off -c max_wal_size=4GB -c max_connections=40"
}

stop_server() {
    [ -e "$tmp/pg/data/postmaster.pid" ] || return 0
    local pid
    pid=$(head -n1 "$tmp/pg/data/postmaster.pid")
    timeout --kill-after=5 30 "${as_server[@]}" pg_ctl -D "$tmp/pg/data" -m immediate -w -t 20 stop \
        >/dev/null 2>&1 </dev/null || kill -KILL "$pid" 2>/dev/null
}

server_url() {
    local path=$tmp/pg
    echo "postgresql://postgres@${path//\//%2F}:5432/$1"
}

# Asks our server, database $1.
server_sql() {
    "${bare[@]}" psql -XAtq -v ON_ERROR_STOP=1 -d "$(server_url "$1")" -c "$2"
}

# Asks the source. A password travels in the environment, where no other user can read it.
source_sql() {
    if [ -n "$source_password" ]; then
        PGPASSWORD=$source_password psql -XAtqw -v ON_ERROR_STOP=1 -d "$source_plain_url" -c "$1"
    else
        psql -XAtqw -v ON_ERROR_STOP=1 -d "$source_plain_url" -c "$1"
    fi
}

use_given_source() {
    source_url=$1
    case $source_url in
        postgres://* | postgresql://*) ;;
        *) fail "DATABASE_URL must be a URL: postgresql://USER:PASSWORD@HOST:PORT/DATABASE" ;;
    esac
    split_password
    source_major=$(source_sql 'SHOW server_version_num') || fail "the database does not answer"
    source_major=$((source_major / 10000))
}

# Takes the password out of the URL: source_plain_url and source_password.
split_password() {
    source_plain_url=$source_url source_password=''
    local pattern='^(postgres(ql)?://[^:@/?]*):([^@/]*)(@.*)$'
    if [[ $source_url =~ $pattern ]]; then
        source_plain_url=${BASH_REMATCH[1]}${BASH_REMATCH[4]}
        # Percent-encoding becomes what it stands for.
        printf -v source_password '%b' "$(sed 's/\\/\\\\/g; s/%\(..\)/\\x\1/g' <<<"${BASH_REMATCH[3]}")"
    elif [[ $source_url == *[?\&]password=* ]]; then
        fail "give the password in front of the host, postgresql://USER:PASSWORD@HOST/DATABASE"
    fi
}

fill_source() {
    server_sql postgres 'CREATE DATABASE app' >/dev/null
    source_url=$(server_url app)
    source_major=$server_major
    split_password
    must pgbench "${bare[@]}" "$server_bin/pgbench" -i -q -s "$1" "$source_url"
    must fill "${bare[@]}" psql -Xq -v ON_ERROR_STOP=1 -d "$source_url" -f "$here/demo.sql"
}

# An empty database `restored` on our server, with the encoding, the owners and the tablespaces
# that the dump refers to: a dump of one database has none of them.
create_target() {
    local create roles tablespaces locale
    create=$(source_sql "SELECT format('CREATE DATABASE restored TEMPLATE template0 ENCODING %L',
        pg_encoding_to_char(encoding)) FROM pg_database WHERE datname = current_database()")
    locale=$(source_sql "SELECT format('LC_COLLATE %L LC_CTYPE %L', datcollate, datctype)
        FROM pg_database WHERE datname = current_database()")
    # A locale that this machine lacks matters only for the order of text.
    server_sql postgres "$create $locale" >/dev/null 2>&1 ||
        server_sql postgres "$create LC_COLLATE 'C' LC_CTYPE 'C'" >/dev/null
    roles=$(source_sql "SELECT format('CREATE ROLE %I;', rolname) FROM pg_roles
        WHERE rolname !~ '^pg_' AND rolname <> 'postgres'")
    tablespaces=$(source_sql "SELECT format('CREATE TABLESPACE %I LOCATION '''';', spcname)
        FROM pg_tablespace WHERE spcname !~ '^pg_'")
    [ -z "$roles" ] || server_sql postgres "$roles" >/dev/null
    if [ -n "$tablespaces" ]; then
        "${bare[@]}" psql -Xq -v ON_ERROR_STOP=1 -d "$(server_url postgres)" \
            <<<"SET allow_in_place_tablespaces = on; $tablespaces" >/dev/null
    fi
}

# Takes the fingerprint of the database at $1 into $tmp/$2.json.
fingerprint() {
    COMPARE_URL=$1 must "fingerprint-$2" compare-databases fingerprint "$tmp/$2.json"
}
