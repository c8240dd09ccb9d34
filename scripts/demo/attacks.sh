# The shell's ways to destroy a backup, tried as root. Sourced, not run.
# shellcheck shell=bash

# A backup up to this size is read whole after each attempt; a larger one at the end only.
readonly READ_EACH_TIME_MAX=256000000

attacks=0

# Everything that must stay as it is, as text: names, sizes, owners, modes, times, links, bytes.
state_of_backup() {
    local directory=$tmp/active/$CLASS file
    for file in "$name" "$name.sha256" "$name.manifest.json"; do
        stat -c '%n %s %u %g %a %Y %Z %h' "$directory/$file" 2>&1 || true
    done
    sha256sum "$directory/$name.sha256" "$directory/$name.manifest.json" 2>&1 || true
    if [ "$1" = all ] || [ "$stored_bytes" -le "$READ_EACH_TIME_MAX" ]; then
        sha256sum "$directory/$name" 2>&1 || true
    fi
}

# Tries a command line in directory $1, as a person would type it. It must fail, change nothing,
# and end.
attempt() {
    local directory=$1 command=$2 status=0 said more
    limit=60 bounded attack env -C "$directory" bash -c "$command" || status=$?
    attacks=$((attacks + 1))
    # What a shell says of itself is of no interest here.
    said=$(sed -E '1s/^bash: line [0-9]+: //; 1q' "$tmp/logs/attack.log")
    more=$(($(wc -l <"$tmp/logs/attack.log") - 1))
    printf '  %s# %s%s\n      %s%s\n' "$bold" "$command" "$plain" \
        "$said" "$([ "$more" -le 0 ] || echo " (and $more more lines)")"
    case $status in
        0) fail "this SUCCEEDED, and must not: $command" ;;
        124 | 137) fail "this HUNG: $command" ;;
    esac
    [ "$(state_of_backup quick)" = "$state_before" ] || fail "this CHANGED the backup: $command"
}

attack_backup() {
    local inside=$tmp/active/$CLASS
    mkdir "$tmp/empty"
    state_before=$(state_of_backup quick)
    [ "$(sha256sum <"$inside/$name")" = "$sha256  -" ] || fail "$name has not the SHA-256 of its manifest"

    attempt "$inside" "echo tampered >> $name"
    attempt "$inside" "echo tampered > $name"
    attempt "$inside" "dd if=/dev/zero of=$name bs=4096 count=1 conv=notrunc"
    attempt "$inside" "truncate -s 0 $name"
    attempt "$inside" "cp /dev/null $name"
    attempt "$inside" "cp --remove-destination /etc/hostname $name"
    attempt "$inside" "sed -i s/a/b/ $name"
    attempt "$inside" "shred -n 1 $name"
    attempt "$inside" "rm -f $name"
    attempt "$inside" "mv $name gone"
    attempt "$inside" "mv $name $tmp/stolen"
    attempt "$inside" "ln $name link"
    attempt "$inside" "chmod 777 $name"
    attempt "$inside" "chown nobody $name"
    attempt "$inside" "touch -d 2001-01-01 $name"
    attempt "$inside" "setfattr -n user.worm.retain_until -v 2001-01-01T00:00:00Z $name"
    attempt "$inside" "setfattr -x user.worm.sha256 $name"
    attempt "$inside" "rm -f $name.manifest.json"
    attempt "$inside" "find . -delete"
    attempt "$tmp/active" "rsync -r --delete $tmp/empty/ $CLASS/"
    attempt "$tmp/active" "mv $CLASS gone"
    attempt "$tmp/active" "chmod 777 $CLASS"
    attempt "$tmp/active" "rm -rf $CLASS"

    [ "$(sha256sum <"$inside/$name")" = "$sha256  -" ] || fail "the SHA-256 of $name changed"
    say "  SHA-256 before and after: $sha256"
}

attack_view() {
    local inside=$tmp/view/$CLASS
    attempt "$inside" "echo tampered >> $name"
    attempt "$inside" "echo new > new"
    attempt "$inside" "rm -f $name"
    [ "$(sha256sum <"$inside/$name")" = "$sha256  -" ] || fail "the view shows other bytes"
}
