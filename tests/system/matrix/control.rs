//! The control: the same ways change a plain file on the same file systems. Otherwise it would
//! prove little that they change no sealed one.

use std::collections::BTreeSet;
use std::path::PathBuf;

use system_tests::matrix::State;
use system_tests::matrix::TABLE;
use system_tests::session::GUEST;

use super::attack::Attacker;
use super::attack::User;
use super::backing::Backing;
use super::backing::Kind;

/// Ways that change a plain file, at the least, on each file system, by root and by its owner.
const CHANGED_MIN: [(Kind, usize, usize); 5] = [
    (Kind::Ext4, 300, 260),
    (Kind::Xfs, 300, 260),
    (Kind::Btrfs, 300, 260),
    (Kind::Tmpfs, 300, 260),
    (Kind::Overlay, 300, 260),
];

/// Ways that change no plain file either, on any of these file systems, by reason.
const NEVER: &[(&str, &[&str])] = &[
    (
        "only the file system under test knows it",
        &[
            "ABORT",
            "ABORT on a reading descriptor",
            "ABORT on its directory",
            "BEGIN again",
            "BEGIN on a reading descriptor",
            "COMMIT again",
            "COMMIT on a reading descriptor",
        ],
    ),
    (
        "tried on ours only: on a plain file it would change the machine",
        &[
            "a loop device on the file, write to it",
            "acct, process accounting into the file",
            "swapon",
        ],
    ),
    (
        "only for who has not the right",
        &[
            "chroot into its directory, without the right",
            "mount --bind over the file, without the right",
            "mount of a tmpfs over its directory, without the right",
            "umount by force, without the right",
            "umount, without the right",
        ],
    ),
    (
        "the descriptor cannot write; the row is there in case ours could",
        &[
            "FICLONE into a reading descriptor",
            "FS_IOC_ZERO_RANGE of a reading descriptor",
            "copy_file_range into a reading descriptor",
            "fallocate of a reading descriptor",
            "fallocate of one that read while it was written",
            "fallocate, punching a hole, of a reading descriptor",
            "fchmod of an O_PATH descriptor",
            "fsetxattr of an O_PATH descriptor",
            "ftruncate of a reading descriptor",
            "ftruncate of an O_PATH descriptor",
            "ftruncate of one that read while it was written",
            "io_submit, a write to a reading descriptor",
            "io_uring fallocate of a reading descriptor",
            "io_uring ftruncate of a reading descriptor",
            "io_uring write to a reading descriptor",
            "open with access mode 3",
            "pwrite to a reading descriptor",
            "pwritev2 RWF_APPEND to a reading descriptor",
            "sendfile into a reading descriptor",
            "splice into a reading descriptor",
            "tee from a pipe into the file",
            "vmsplice into the file",
            "write after fcntl F_SETFL O_RDWR|O_APPEND",
            "write to a reading descriptor",
            "write to an O_PATH descriptor",
            "write to one that read while it was written",
        ],
    ),
    (
        "the mapping cannot write, or writes to a copy",
        &[
            "madvise MADV_DONTNEED, MADV_PAGEOUT",
            "madvise MADV_POPULATE_WRITE",
            "madvise MADV_REMOVE",
            "map a reading descriptor, mprotect to writable",
            "map a reading descriptor, shared and writable",
            "map a reading descriptor without rights, mprotect to writable",
            "map a reading descriptor, read(2) into the mapping",
            "map a reading descriptor, as a buffer of io_uring",
            "map a reading descriptor, write by /proc/self/mem",
            "map one that read while it was written, shared",
            "map private, write by /proc/self/mem",
            "map the writing descriptor, MAP_SHARED_VALIDATE|MAP_SYNC",
            "store into a private mapping",
            "store into a private mapping of one that read while it was written",
        ],
    ),
    (
        "the name is taken, or the directory is not empty",
        &[
            "bind a socket over it",
            "io_uring mkdirat over it",
            "link from outside over it",
            "link over it",
            "mkdir inside it",
            "mkdir over it",
            "mknod of a FIFO over it",
            "mknod of a block device over it",
            "mknod of a character device over it",
            "mknod of a plain file over it",
            "mknod of a socket over it",
            "open O_RDWR|O_CREAT|O_EXCL|O_TRUNC",
            "open O_WRONLY|O_CREAT|O_EXCL",
            "open O_WRONLY|O_DIRECTORY",
            "rename another over it, RENAME_NOREPLACE",
            "rename of another directory over it",
            "rmdir $d",
            "rmdir of its directory",
            "rmdir of the class",
            "rmdir of the directory above",
            "rmdir of the mount",
            "symlink over it",
            "unlink of its directory",
            "unlinkat AT_REMOVEDIR of the file",
        ],
    ),
    (
        "the other file system is in the way",
        &[
            "FICLONE from another file system",
            "FIDEDUPERANGE from another file system",
            "copy_file_range from another file system",
            "link out of the mount",
            "rename into the mount over it",
            "rename into the mount, RENAME_EXCHANGE",
            "rename its directory out of the mount",
            "rename of /proc/self/fd",
            "rename out of the mount",
        ],
    ),
    (
        "no kernel or file system here takes it so",
        &[
            "BTRFS_IOC_DEFRAG",
            "BTRFS_IOC_SNAP_CREATE in its directory",
            "EXT4_IOC_MIGRATE",
            "EXT4_IOC_MOVE_EXT",
            "FS_IOC_ADD_ENCRYPTION_KEY",
            "FS_IOC_ENABLE_VERITY",
            "FS_IOC_SET_ENCRYPTION_POLICY of its directory",
            "FS_IOC_SET_ENCRYPTION_POLICY of the file",
            "fallocate FALLOC_FL_NO_HIDE_STALE",
            "fallocate FALLOC_FL_PUNCH_HOLE",
            "fallocate with an unknown mode",
            "fcntl F_ADD_SEALS",
            "openat2 O_RDWR|O_TRUNC, RESOLVE_CACHED",
            "openat2 with an unknown flag",
            "pwritev2 RWF_ATOMIC",
            "pwritev2 RWF_NOWAIT",
            "quotactl_fd, setting a quota",
            "rename with unknown flags",
            "setxattr in no namespace",
            "setxattr system.x",
        ],
    ),
    (
        "bytes and names stay by its very meaning",
        &[
            "FIDEDUPERANGE from the same mount",
            "FIDEDUPERANGE into the file",
            "FS_IOC_GETFLAGS",
            "FS_IOC_SETVERSION",
            "a read with O_DIRECT",
            "fallocate -d $f",
            "fanotify_mark",
            "fcntl F_OFD_SETLK, for reading",
            "fcntl F_OFD_SETLK, for writing",
            "fcntl F_SETLEASE, for reading",
            "fcntl F_SETLEASE, for writing",
            "fcntl F_SETLK, for reading",
            "fcntl F_SET_RW_HINT",
            "flock LOCK_EX",
            "fsync and fdatasync",
            "fsync of a reading descriptor",
            "inotify_add_watch",
            "open O_PATH|O_TRUNC|O_CREAT",
            "open O_RDONLY|O_CREAT",
            "open O_TMPFILE|O_WRONLY|O_EXCL",
            "posix_fadvise POSIX_FADV_DONTNEED",
            "readahead",
            "rename to itself",
            "splice a page into a pipe, write to the pipe",
            "sync_file_range",
            "syncfs",
            "utimensat, both UTIME_OMIT",
        ],
    ),
];

#[test]
fn the_same_ways_change_a_plain_file() {
    let mut never: BTreeSet<&str> =
        TABLE.iter().flat_map(|(_, rows)| rows.iter().map(|row| row.what)).collect();
    let mut few = Vec::new();
    for (kind, by_root, by_owner) in CHANGED_MIN {
        let backing = Backing::new(kind);
        let attacker = Attacker::new();
        for (user, least) in [(User::Root, by_root), (User::Owner, by_owner)] {
            let root = plain(&backing, user);
            let reports = attacker.attack(user, State::Plain, (&root, &root), &mut || {});
            let changed: Vec<_> = reports
                .iter()
                // Reading moves the access time.
                .filter(|report| report.changed.iter().any(|what| what != "atime"))
                .collect();
            for report in &changed {
                never.remove(report.what.as_str());
            }
            if changed.len() < least {
                few.push(format!("{kind:?} {user:?}: {} of {}", changed.len(), reports.len()));
            }
        }
    }
    assert!(few.is_empty(), "{few:#?}");
    let known: BTreeSet<&str> =
        NEVER.iter().flat_map(|(_why, ways)| ways.iter().copied()).collect();
    assert_eq!(never, known);
}

/// Where plain files are made.
fn plain(backing: &Backing, user: User) -> PathBuf {
    let root = backing.path().join(format!("{user:?}"));
    std::fs::create_dir(&root).unwrap();
    if user == User::Owner {
        std::os::unix::fs::chown(&root, Some(GUEST), Some(GUEST)).unwrap();
    }
    root
}
