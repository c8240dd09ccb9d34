#!/bin/sh
# Makes this host ready for compose.yaml: directories, shared mounts, passwords, .env. Run it as root.
# It keeps what is there, so it may be run again at any time; on hosts without systemd run it at boot,
# before the containers.
#
#   WORM_HOST         where store, key and mount points are, on a disk with room (/srv/worm)
#   EXTERNAL_STORAGE  where the mirror goes, better on another disk (/srv/external_storage)
set -eu
cd "$(dirname "$0")"

fail() {
    echo "prepare: $*" >&2
    exit 1
}

# What .env says, unless the environment says otherwise.
setting() {
    eval "given=\${$1:-}"
    [ -n "$given" ] || given=$(sed -n "s/^$1=//p" .env 2>/dev/null | tail -n 1)
    echo "${given:-$2}"
}

[ "$(id -u)" = 0 ] || fail "run as root"
umask 022
host=$(setting WORM_HOST /srv/worm)
mirror=$(setting EXTERNAL_STORAGE /srv/external_storage)
secrets=$(setting WORM_SECRETS ./secrets)

if [ "${1:-}" = --undo ]; then
    # After `docker compose down`: what stands below the mount points then is a guard.
    for place in "$host"/agent/* "$host/agent" "$host"/view/* "$host/view"; do
        while mountpoint -q "$place"; do umount -l "$place"; done
        chattr -i "$place" 2>/dev/null || true
    done
    echo "undone: nothing is mounted below $host; store, key and mirror are where they were"
    exit
fi
[ $# = 0 ] || fail "usage: prepare.sh [--undo]"

[ -c /dev/fuse ] || modprobe fuse || true
[ -c /dev/fuse ] || fail "/dev/fuse is missing: modprobe fuse"

if [ ! -e .env ]; then
    cat >.env <<END
# Which files make up the deployment: exactly one of try-, own- and remote-database.yaml.
COMPOSE_FILE=compose.yaml:try-database.yaml
WORM_HOST=$host
EXTERNAL_STORAGE=$mirror
END
fi

mkdir -p "$host" "$mirror"
mkdir -p "$host/store" "$host/keys"
chmod 0700 "$host/store" "$host/keys"
mkdir -p "$host/audit"
chown 935:935 "$host/audit" "$mirror"
chmod 0750 "$host/audit" "$mirror"

# One directory for each consumer, and a mount that is shared with their containers.
for consumer in agent view; do
    place=$host/$consumer
    mkdir -p "$place"
    if [ "$(findmnt -n -o PROPAGATION -T "$place" | tail -n 1)" != shared ]; then
        mount --bind "$place" "$place"
        mount --make-shared "$place"
    fi
done
# The bare directories take nothing while nothing is mounted. An error only means that something is.
for bare in agent/active agent/logs view/active view/logs; do
    mkdir "$host/$bare" 2>/dev/null && chmod 0555 "$host/$bare"
    mountpoint -q "$host/$bare" || chattr +i "$host/$bare" 2>/dev/null || true
done

# Each file belongs to who reads it: compose gives secrets no owner of their own.
mkdir -p "$secrets"
chmod 0711 "$secrets"
if [ ! -e "$secrets/db_password" ]; then
    password=$(od -An -N24 -tx1 /dev/urandom | tr -d ' \n')
    for secret in db_password:34 restore_password:935 server_password:999; do
        (umask 077 && printf %s "$password" >"$secrets/${secret%:*}")
        chown "${secret#*:}" "$secrets/${secret%:*}"
    done
fi
echo "prepared: store and mount points in $host, mirror in $mirror"
