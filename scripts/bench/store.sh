# shellcheck shell=bash
# The write-once file system: its write path, its read path, attributes, and the start.
# Sourced by bench.sh.

key=$tmp/key store=$tmp/store active=$tmp/active plain=$tmp/plain config=$tmp/worm.toml
mkdir "$active" "$plain"
cat >"$config" <<'TOML'
[class.large]
retention = "1h"
limits = { bytes_per_day = "100TiB", bytes = "100TiB", file_bytes = "1TiB" }

[class.small]
retention = "1h"
limits = { files = 10000000, creates_per_day = 10000000 }
TOML

mount_store() {
    worm mount "$store" "$active" --config "$config" --key "$key" --run-dir "$tmp/run" >/dev/null
}
unmount_store() {
    worm umount "$active" --guard --run-dir "$tmp/run" >/dev/null
}
unmount_if_mounted() {
    ! mountpoint -q "$active" || unmount_store
}
undo+=(unmount_if_mounted)
mount_store

# Writing. Every round writes a new file here, for there is no other way. What the disk still has to
# do for the round before is not measured.
round_number=0
before_write_natively() { rm -f "$plain/file" && sync; }
write_natively() {
    dd if=/dev/zero of="$plain/file" bs=1M count="$mib" conv=fsync status=none && sha256sum "$plain/file"
}
before_write_here() { round_number=$((round_number + 1)) && sync; }
write_here() {
    dd if=/dev/zero of="$active/large/$round_number" bs=1M count="$mib" status=none
    worm wait "$active/large/$round_number"
}
compare "write, sync, sha256, record" "$mib" MiB/s write_natively write_here

# Reading.
backing=$store/data/large/1 sealed=$active/large/1
forget() { dd if="$1" iflag=nocache count=0 status=none; }
before_read_cold_natively() { forget "$plain/file"; }
read_cold_natively() { dd if="$plain/file" of=/dev/null bs=1M status=none; }
before_read_cold_here() { forget "$backing" && forget "$sealed"; }
read_cold_here() { dd if="$sealed" of=/dev/null bs=1M status=none; }
compare "read a sealed file, cold" "$mib" MiB/s read_cold_natively read_cold_here
read_natively() { read_cold_natively; }
read_here() { read_cold_here; }
read_natively && read_here
compare "read a sealed file, warm" "$mib" MiB/s read_natively read_here
rm -f "$plain/file"

# Attributes: one program, many calls.
readonly STATS=200000
stat_often() { perl -e 'for (1..$ARGV[1]) { stat($ARGV[0]) or die "$ARGV[0]: $!" }' "$1" "$STATS"; }
stat_natively() { stat_often "$backing"; }
stat_here() { stat_often "$sealed"; }
compare "stat of a sealed file" $((STATS / 1000)) "1000/s" stat_natively stat_here

# Many files, in a store that is in memory: what the disk takes for its syncs is measured above.
unmount_store
mkdir "$tmp/ram"
mount -t tmpfs -o size=50% bench "$tmp/ram"
undo=("umount $tmp/ram" "${undo[@]}")
key=$tmp/ram/key store=$tmp/ram/store
mount_store
sealed_files() { worm status "$active" --run-dir "$tmp/run" --json | jq '.classes[] | select(.name == "small").files'; }
# In portions: seals come after their closes, and only so many files may be open.
make_files() {
    local done_so_far=0 next
    mkdir "$active/small/many"
    while [ "$done_so_far" -lt "$files" ]; do
        next=$((done_so_far + 500 < files ? done_so_far + 500 : files))
        (cd "$active/small/many" && seq -f '2026-01-18_%06.0f.sql.gz' $((done_so_far + 1)) "$next" | xargs touch)
        done_so_far=$next
        while [ "$(sealed_files)" -lt "$done_so_far" ]; do sleep 0.05; done
    done
}
memory_bytes() { echo $(($(awk '/^RssAnon:/ { print $2 }' "/proc/$(jq .pid "$tmp"/run/*.json)/status") * 1024)); }
empty=$(memory_bytes)
taken=$(seconds make_files)
show "$files files made and sealed" "$(awk -v files="$files" -v s="$taken" 'BEGIN { printf "%.0f", files / s }')" "files/s"
unmount_if_mounted
mount_store
show "memory of a file after a start" $((($(memory_bytes) - empty) / files)) bytes

before_start() { unmount_if_mounted; }
start() { mount_store; }
alone "start with $files files" start
list_first() { find "$active/small/many" -printf '%s\n'; }
before_list_first() { unmount_if_mounted && mount_store; }
list_natively() { find "$store/data/small/many" -printf '%s\n'; }
compare "list $files files, first" 0 s list_natively list_first
list_again() { list_first; }
list_again >/dev/null
compare "list $files files, again" 0 s list_natively list_again
unmount_store
