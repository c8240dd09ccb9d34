#!/usr/bin/env bash
# Brings a machine to the state in which `make demo` and `make test` work.
#
# Made for a fresh Debian 12, as root, with package registries only. It asks for what is there
# before it installs anything, so a second run takes a moment and changes nothing. Elsewhere it
# installs nothing and says what is missing.
set -euo pipefail

cd "$(dirname "$0")/.."

# A command, and the Debian package that brings it.
needs=(
    'make make' 'gcc gcc' 'autoconf autoconf' 'automake automake' 'libtoolize libtool' 'nasm nasm'
    'git git' 'fusermount3 fuse3' 'strace strace' 'rsync rsync'
    'setfattr attr' 'chattr e2fsprogs' 'setfacl acl' 'perl perl' 'jq jq' 'ps procps'
    'setpriv util-linux' 'unshare util-linux' 'fsfreeze util-linux' 'mount mount' 'losetup mount'
    'mkfs.ext4 e2fsprogs' 'mkfs.xfs xfsprogs' 'mkfs.btrfs btrfs-progs'
    'shellcheck shellcheck' 'openssl openssl' 'systemd-analyze systemd'
    'dockerd docker.io' 'docker docker.io' 'docker-compose docker-compose' 'mmdebstrap mmdebstrap'
    'slirp4netns slirp4netns' 'ip iproute2' 'nsenter util-linux' 'flock util-linux'
)

# What is no command, and the package that brings it. A server of any release will do.
needs_files=(
    '/usr/include/stdio.h libc6-dev'
    '/usr/include/linux/fuse.h linux-libc-dev'
    '/usr/lib/*-linux-gnu/faketime/libfaketimeMT.so.1 libfaketime'
    '/etc/ssl/certs/ca-certificates.crt ca-certificates'
    '/usr/lib/postgresql/*/bin/initdb postgresql'
    '/usr/lib/postgresql/*/bin/pgbench postgresql-contrib'
    '/usr/share/postgresql/*/extension/hstore.control postgresql-contrib'
)

fail() {
    printf 'setup: %s\n' "$*" >&2
    exit 1
}

# Prints the packages that are missing, one a line.
missing_packages() {
    local need
    for need in "${needs[@]}"; do
        command -v "${need% *}" >/dev/null || echo "${need#* }"
    done
    for need in "${needs_files[@]}"; do
        compgen -G "${need% *}" >/dev/null || echo "${need#* }"
    done
}

is_debian() {
    [ -r /etc/debian_version ] && command -v apt-get >/dev/null
}

install_packages() {
    is_debian || fail "this is not Debian. Install by hand what Debian calls: $*"
    [ "$(id -u)" = 0 ] || fail "run as root, or run: apt-get install $*"
    echo "setup: installing $*"
    export DEBIAN_FRONTEND=noninteractive
    apt_get update
    apt_get install --yes --no-install-recommends "$@"
}

# Quiet when all is well, and everything it said when not.
apt_get() {
    local log
    log=$(mktemp)
    if ! apt-get -o DPkg::Lock::Timeout=120 "$@" >"$log" 2>&1 </dev/null; then
        cat "$log" >&2
        rm -f "$log"
        fail "apt-get $1 failed, see above"
    fi
    rm -f "$log"
}

readonly CLUSTER_CONF=/etc/postgresql-common/createcluster.conf
readonly CLUSTER_MARK='create_main_cluster = false # for the moment of one installation'

# Debian's package creates and starts a server of its own, which nobody asked us for. The setting
# that prevents it is needed only while the package is installed.
install_postgresql() {
    install_packages postgresql-common
    if ! grep -qE '^[[:space:]]*create_main_cluster' "$CLUSTER_CONF"; then
        trap allow_cluster EXIT
        echo "$CLUSTER_MARK" >>"$CLUSTER_CONF"
    fi
    install_packages "$@"
    allow_cluster
    trap - EXIT
}

# Also for what an earlier run that was killed left behind.
allow_cluster() {
    if grep -qsFx "$CLUSTER_MARK" "$CLUSTER_CONF"; then
        sed -i "\|^$CLUSTER_MARK\$|d" "$CLUSTER_CONF"
    fi
}

ensure_packages() {
    local missing=()
    mapfile -t missing < <(missing_packages | sort -u)
    case " ${missing[*]} " in
        "  ") ;;
        *" postgresql"*) install_postgresql "${missing[@]}" ;;
        *) install_packages "${missing[@]}" ;;
    esac
}

# Whether the cargo that this directory gets is new enough. rustup obeys rust-toolchain.toml.
has_cargo() {
    local have
    have=$(cargo --version 2>/dev/null | cut -d' ' -f2) || return 1
    [ "$(printf '%s\n' "$1" "$have" | sort -V | head -n1)" = "$1" ]
}

ensure_cargo() {
    local wanted
    wanted=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' Cargo.toml)
    has_cargo "$wanted" && return
    if command -v rustup >/dev/null; then
        local channel
        channel=$(sed -n 's/^channel = "\(.*\)"/\1/p' rust-toolchain.toml)
        fail "cargo $wanted or newer is needed; run: rustup toolchain install $channel"
    fi
    # Debian keeps a current compiler under these names, for its browsers.
    if is_debian && [ "$(id -u)" = 0 ]; then
        install_packages cargo-web rustc-web rustfmt-web
        hash -r
    fi
    has_cargo "$wanted" || fail "cargo $wanted or newer is needed. Get it from https://rustup.rs," \
        "or, on Debian 12 with its security updates: apt-get install cargo-web rustfmt-web"
}

ensure_fuse() {
    if [ ! -c /dev/fuse ] && [ "$(id -u)" = 0 ]; then
        modprobe fuse 2>/dev/null || true
        # Without udev nobody makes the node. A kernel that has FUSE says its number.
        if [ ! -c /dev/fuse ] && [ -r /sys/class/misc/fuse/dev ]; then
            mknod -m 666 /dev/fuse c "$(cut -d: -f1 /sys/class/misc/fuse/dev)" \
                "$(cut -d: -f2 /sys/class/misc/fuse/dev)" || true
        fi
    fi
    [ -c /dev/fuse ] || fail "/dev/fuse is missing. Load the module (modprobe fuse); in a container" \
        "start it with --device /dev/fuse --cap-add SYS_ADMIN --security-opt apparmor:unconfined"
    # Where a stuck mount can be cut off. systemd mounts it; a container may lack it.
    local control=/sys/fs/fuse/connections
    if [ "$(id -u)" = 0 ] && [ -d "$control" ] && ! mountpoint -q "$control"; then
        mount -t fusectl fusectl "$control" 2>/dev/null || true
    fi
}

allow_cluster
ensure_packages
ensure_cargo
ensure_fuse
