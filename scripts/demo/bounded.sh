# Running programs without waiting for ever, and cleaning up whatever happened. Sourced, not run.
# shellcheck shell=bash

child=''

# Runs a program for at most $limit seconds; its output goes to logs/$1.log. Gives its exit code.
# In the background, because bash hears a signal at once only while it waits.
bounded() {
    local log=$tmp/logs/$1.log status=0 alarm ended
    shift
    timeout --kill-after=5 "$limit" "$@" >"$log" 2>&1 </dev/null &
    child=$!
    # Who waits for a silent file system cannot be killed, not even by `timeout`.
    sleep "$((limit + 10))" &
    alarm=$!
    wait -n -p ended "$child" "$alarm" 2>/dev/null || status=$?
    [ "$ended" != "$alarm" ] || return 124
    child=''
    kill "$alarm"
    wait "$alarm" 2>/dev/null || true
    return "$status"
}

# The same, for a program that must succeed.
must() {
    local status=0
    bounded "$@" || status=$?
    case $status in
        0) ;;
        124 | 137) fail_with_log "$1" "no end after $limit seconds: ${*:2}" ;;
        *) fail_with_log "$1" "exit code $status: ${*:2}" ;;
    esac
}

# On every way out. Each wait is bounded, and only what this script made is touched.
clean_up() {
    local status=$?
    trap '' HUP INT TERM
    trap - EXIT
    set +e
    forget_step
    stop_child
    unmount_ours
    stop_daemon
    stop_server
    if mounts_below "$tmp" | grep -q .; then
        echo "demo: could not unmount everything below $tmp, please look" >&2
    else
        rm -rf --one-file-system "$tmp"
    fi
    exit "$status"
}

stop_child() {
    [ -n "$child" ] || return 0
    disown "$child"
    kill -TERM "$child" 2>/dev/null
    # `timeout` passes the signal on, and kills ten seconds later.
    timeout 15 tail --pid="$child" -f /dev/null
}

# Mounts below a directory: minor device number, mount point and kind, the last mounted first.
mounts_below() {
    awk -v below="$1/" 'index($5, below) == 1 {
        for (kind = 7; $kind != "-"; kind++);
        sub(/.*:/, "", $3); print $3, $5, $(kind + 1) }' /proc/self/mountinfo | tac
}

unmount_ours() {
    local minor point kind
    if mounts_below "$tmp" | grep -q " $tmp/active "; then
        timeout --kill-after=5 30 worm umount "$tmp/active" --guard --run-dir "$tmp/run" \
            >/dev/null 2>&1 </dev/null
    fi
    # What is left did not answer. An aborted connection lets go of whoever waits for it.
    mounts_below "$tmp" | while read -r minor point kind; do
        case $kind in
            fuse | fuse.*)
                if [ -w "/sys/fs/fuse/connections/$minor/abort" ]; then
                    echo 1 >"/sys/fs/fuse/connections/$minor/abort"
                else
                    timeout --kill-after=5 10 umount --no-canonicalize -f "$point"
                fi
                ;;
        esac
        timeout --kill-after=5 10 umount --no-canonicalize -l "$point"
    done 2>/dev/null
}

# The daemon of our store, also one that was about to start: by its whole command line.
our_daemon() {
    pgrep -f "^[^ ]*worm mount $tmp/store "
}

# A daemon whose mounts are gone ends by itself, and leaves a guard. One that is stuck is ended.
stop_daemon() {
    local pid
    for pid in $(our_daemon); do
        timeout 10 tail --pid="$pid" -f /dev/null
        # The number may belong to somebody else by now.
        ! our_daemon | grep -qx "$pid" || kill -KILL "$pid"
    done
    unmount_ours
}
