# shellcheck shell=bash
# Measuring, and cleaning up after it. Sourced by bench.sh.

rounds=${BENCH_ROUNDS:-5}
mib=${BENCH_MIB:-1024}
files=${BENCH_FILES:-100000}

# What a part has to undo, newest first.
undo=()

fail() {
    echo "bench: $*" >&2
    exit 1
}

# Undoes everything, whatever happened.
leave() {
    local status=$? at
    trap - EXIT
    for ((at = ${#undo[@]} - 1; at >= 0; at--)); do
        ${undo[at]} || status=1
    done
    # A mount that is still there would be emptied, not removed.
    rm -rf --one-file-system -- "$tmp" || status=1
    exit "$status"
}

# seconds COMMAND...: how long it takes
seconds() {
    local begin end
    begin=$(date +%s%N)
    "$@" >/dev/null
    end=$(date +%s%N)
    awk -v ns=$((end - begin)) 'BEGIN { printf "%.6f\n", ns / 1e9 }'
}

# median: of the numbers on stdin
median() {
    sort -g | awk '{ all[NR] = $1 } END { print NR % 2 ? all[(NR + 1) / 2] : (all[NR / 2] + all[NR / 2 + 1]) / 2 }'
}

# compare WHAT AMOUNT UNIT NATIVE OURS: runs both in turns, and prints how much of AMOUNT each does
# in a second, and how many times as fast ours is. With AMOUNT 0 it prints the seconds.
compare() {
    local what=$1 amount=$2 unit=$3 native=$4 ours=$5 round
    : >"$tmp/native.times"
    : >"$tmp/ours.times"
    for ((round = 0; round < rounds; round++)); do
        "before_$native" 2>/dev/null || true
        seconds "$native" >>"$tmp/native.times"
        "before_$ours" 2>/dev/null || true
        seconds "$ours" >>"$tmp/ours.times"
    done
    awk -v what="$what" -v amount="$amount" -v unit="$unit" \
        -v native="$(median <"$tmp/native.times")" -v ours="$(median <"$tmp/ours.times")" 'BEGIN {
            if (amount > 0) {
                printf "  %-34s native %9.1f   here %9.1f %-8s %5.2fx\n", what, amount / native, amount / ours, unit, native / ours
            } else {
                printf "  %-34s native %9.3f   here %9.3f %-8s %5.2fx\n", what, native, ours, "s", native / ours
            }
        }'
}

# alone WHAT COMMAND: runs it as often, and prints the seconds.
alone() {
    local what=$1 command=$2 round
    : >"$tmp/ours.times"
    for ((round = 0; round < rounds; round++)); do
        "before_$command" 2>/dev/null || true
        seconds "$command" >>"$tmp/ours.times"
    done
    show "$what" "$(printf '%.3f' "$(median <"$tmp/ours.times")")" s
}

# show WHAT FIGURE UNIT: of ours alone
show() {
    printf '  %-34s %16s   here %9s %s\n' "$1" "" "$2" "$3"
}
