#!/bin/sh
# Makes a database where there is none yet, then serves it. For trying out; see compose/README.md.
set -eu
data=/var/lib/postgresql/data
programs=$(dirname "$(find /usr/lib/postgresql -path "*/bin/postgres" | sort | tail -n 1)")
if [ ! -s "$data/PG_VERSION" ]; then
    rm -rf "${data:?}"/*
    "$programs/initdb" -D "$data" -U "$POSTGRES_USER" --pwfile="$POSTGRES_PASSWORD_FILE" \
        --auth-local=trust --auth-host=scram-sha-256 --encoding=UTF8 --locale=C.UTF-8
    echo 'host all all all scram-sha-256' >>"$data/pg_hba.conf"
    "$programs/pg_ctl" -D "$data" -w start -o '-h ""'
    [ "$POSTGRES_DB" = postgres ] || "$programs/createdb" -U "$POSTGRES_USER" "$POSTGRES_DB"
    "$programs/pg_ctl" -D "$data" -w stop
fi
exec "$programs/postgres" -D "$data" -h '*'
