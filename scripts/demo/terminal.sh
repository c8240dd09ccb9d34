# What the demo shows: a line for each step, with its time. Sourced, not run.
# shellcheck shell=bash

bold='' red='' green='' plain=''
if [ -t 1 ] && [ -z "${NO_COLOR:-}" ]; then
    bold=$'\e[1m' red=$'\e[31m' green=$'\e[32m' plain=$'\e[0m'
fi

say() {
    printf '%s\n' "$*"
}

title() {
    printf '\n%s%s%s\n' "$bold" "$1" "$plain"
}

success() {
    printf '%s%s%s\n' "$green" "$1" "$plain"
}

# Prints why, and ends the demo. What was promised did not happen.
fail() {
    forget_step
    printf '%sdemo FAILED: %s%s\n' "$red" "$*" "$plain" >&2
    exit 1
}

# The same, with the last words of the program of that step.
fail_with_log() {
    forget_step
    tail -n 20 "$tmp/logs/$1.log" 2>/dev/null | sed 's/^/    /' >&2
    shift
    fail "$@"
}

# Begins a step: says what is being done, as long as it is being done, and only to a person.
begin() {
    step_began=$EPOCHREALTIME
    [ ! -t 1 ] || printf '    ...  %s' "$1"
}

# Ends it, with what has been done.
end() {
    local took
    took=$(elapsed)
    forget_step
    printf '%6s s  %s\n' "$took" "$1"
}

forget_step() {
    [ ! -t 1 ] || printf '\r\e[K'
}

# Seconds since the step began.
elapsed() {
    awk -v from="$step_began" -v to="$EPOCHREALTIME" 'BEGIN { printf "%.2f", to - from }'
}

megabytes() {
    awk -v bytes="$1" 'BEGIN { printf "%.1f", bytes / 1e6 }'
}

ratio() {
    awk -v a="$1" -v b="$2" 'BEGIN { printf "%.1f", a / b }'
}

# Megabytes a second, of $1 bytes in $2 seconds. A step of no time has no rate.
rate() {
    awk -v bytes="$1" -v seconds="$2" \
        'BEGIN { if (seconds > 0) printf "%.0f", bytes / 1e6 / seconds; else printf "-" }'
}
