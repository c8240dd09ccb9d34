//! Promise 3: From seal to retention end every change is refused, for root as for anyone, with
//! `EPERM`, or with what the kernel answers before it asks.

use rustix::fs::FallocateFlags;
use rustix::fs::OFlags;
use rustix::fs::RenameFlags;
use rustix::io::Errno;
use system_tests::session::Mounted;
use system_tests::session::Session;
use system_tests::worm_test;
use worm_fs::clock::HOUR_MS;
use worm_fs::fs::Control;

use super::attempts;
use super::attempts::OTHER;
use super::attempts::look;

worm_test!(a_sealed_file_refuses_everything_that_can_be_tried_by_path, |worm| {
    worm.put(OTHER, b"other");
    worm.put(b"hourly/x", b"bytes");
    let other = look(worm.active(), OTHER);
    attempts::try_all(worm.active(), b"hourly/x", &[]);
    assert_eq!(look(worm.active(), OTHER), other);
});

worm_test!(a_sealed_file_in_a_directory_refuses_the_same, |worm| {
    worm.put(OTHER, b"other");
    worm.mkdir(b"hourly/dir", 0o755).unwrap();
    worm.put(b"hourly/dir/x", b"bytes");
    attempts::try_all(worm.active(), b"hourly/dir/x", &[]);
});

worm_test!(a_committed_file_refuses_the_same_while_its_descriptor_is_open, |worm| {
    worm.put(OTHER, b"other");
    let fd = worm.create(b"hourly/x").unwrap();
    worm.write(fd, b"bytes").unwrap();
    worm.control(fd, Control::Commit).unwrap();
    attempts::try_all(worm.active(), b"hourly/x", &[]);
    worm.close(fd).unwrap();
});

worm_test!(an_expired_file_may_be_removed_and_still_never_changed, |worm| {
    worm.put(OTHER, b"other");
    worm.put(b"hourly/x", b"bytes");
    worm.clock().advance(48 * HOUR_MS);
    assert_eq!(worm.worm(b"hourly/x", "state").unwrap(), "expired");
    attempts::try_all(worm.active(), b"hourly/x", &["unlink"]);
    worm.unlink(b"hourly/x").unwrap();
    assert_eq!(worm.stat(b"hourly/x"), Err(Errno::NOENT));
});

worm_test!(a_descriptor_for_reading_changes_nothing, |worm| {
    worm.put(b"hourly/x", b"bytes");
    let before = look(worm.active(), b"hourly/x");
    let fd = worm.open_to_read(b"hourly/x").unwrap();
    assert_eq!(worm.write(fd, b"x"), Err(Errno::BADF));
    assert_eq!(worm.write_at(fd, b"x", 0), Err(Errno::BADF));
    assert_eq!(worm.ftruncate(fd, 0), Err(Errno::INVAL));
    assert_eq!(worm.fallocate(fd, FallocateFlags::empty(), 0, 99), Err(Errno::BADF));
    assert_eq!(worm.fchmod(fd, 0o600), Err(Errno::PERM));
    for control in [Control::Begin, Control::Commit, Control::Abort] {
        assert_eq!(worm.control(fd, control), Err(Errno::PERM), "{control:?}");
    }
    worm.close(fd).unwrap();
    assert_eq!(look(worm.active(), b"hourly/x"), before);
});

worm_test!(the_descriptor_that_wrote_it_changes_nothing_after_the_commit, |worm| {
    let fd = worm.create(b"hourly/x").unwrap();
    worm.write(fd, b"bytes").unwrap();
    worm.control(fd, Control::Commit).unwrap();
    let before = look(worm.active(), b"hourly/x");
    let punch = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
    assert_eq!(worm.write(fd, b"x"), Err(Errno::PERM));
    assert_eq!(worm.write_at(fd, b"x", 0), Err(Errno::PERM));
    assert_eq!(worm.ftruncate(fd, 0), Err(Errno::PERM));
    assert_eq!(worm.ftruncate(fd, 5), Err(Errno::PERM));
    assert_eq!(worm.fallocate(fd, FallocateFlags::empty(), 0, 99), Err(Errno::PERM));
    assert_eq!(worm.fallocate(fd, FallocateFlags::KEEP_SIZE, 0, 99), Err(Errno::PERM));
    assert_eq!(worm.fallocate(fd, punch, 0, 4), Err(Errno::PERM));
    assert_eq!(worm.fallocate(fd, FallocateFlags::ZERO_RANGE, 0, 4), Err(Errno::PERM));
    assert_eq!(worm.fchmod(fd, 0o600), Err(Errno::PERM));
    for control in [Control::Begin, Control::Commit, Control::Abort] {
        assert_eq!(worm.control(fd, control), Err(Errno::PERM), "{control:?}");
    }
    assert_eq!(worm.fsync(fd), Ok(()));
    assert_eq!(worm.close(fd), Ok(()));
    assert_eq!(look(worm.active(), b"hourly/x"), before);
});

worm_test!(a_sealed_file_refuses_rename_over_it_by_an_open_one, |worm| {
    worm.put(b"hourly/x", b"bytes");
    let fd = worm.create(b"hourly/new").unwrap();
    for flags in [RenameFlags::empty(), RenameFlags::EXCHANGE] {
        assert_eq!(worm.rename(b"hourly/new", b"hourly/x", flags), Err(Errno::PERM));
        assert_eq!(worm.rename(b"hourly/x", b"hourly/new", flags), Err(Errno::PERM));
    }
    worm.close(fd).unwrap();
    assert_eq!(worm.get(b"hourly/x").unwrap(), b"bytes");
});

worm_test!(no_directory_above_a_sealed_file_is_renamed_or_removed, |worm| {
    worm.mkdir(b"hourly/a", 0o755).unwrap();
    worm.mkdir(b"hourly/a/b", 0o755).unwrap();
    worm.put(b"hourly/a/b/x", b"bytes");
    for directory in [&b"hourly"[..], b"hourly/a", b"hourly/a/b"] {
        let to = [directory, b"-moved"].concat();
        for flags in [RenameFlags::empty(), RenameFlags::NOREPLACE] {
            assert_eq!(worm.rename(directory, &to, flags), Err(Errno::PERM), "{flags:?}");
        }
        let removed = worm.rmdir(directory);
        let kept = if directory == b"hourly" { Errno::PERM } else { Errno::NOTEMPTY };
        assert_eq!(removed, Err(kept));
        assert_eq!(worm.unlink(directory), Err(Errno::ISDIR));
    }
    worm.mkdir(b"hourly/empty", 0o755).unwrap();
    for (from, to) in [(&b"hourly/a"[..], &b"hourly/empty"[..]), (b"hourly/empty", b"hourly/a")] {
        for flags in [RenameFlags::empty(), RenameFlags::EXCHANGE] {
            let renamed = worm.rename(from, to, flags);
            assert!(matches!(renamed, Err(Errno::PERM)), "{renamed:?}");
        }
    }
    assert_eq!(worm.get(b"hourly/a/b/x").unwrap(), b"bytes");
});

/// Ways into a file that only the kernel knows: copy, splice, clone, dedupe.
#[test]
fn nothing_is_copied_spliced_or_cloned_into_a_sealed_file() {
    let session = Mounted::default();
    let worm: &dyn Session = &session;
    worm.put(OTHER, b"other");
    let fd = worm.create(b"hourly/x").unwrap();
    worm.write(fd, b"bytes").unwrap();
    worm.control(fd, Control::Commit).unwrap();
    let before = look(worm.active(), b"hourly/x");
    let writer = session.owned(fd);
    let source = worm.open_to_read(OTHER).unwrap();
    let source = session.owned(source);

    let mut at = 0;
    let copied = rustix::fs::copy_file_range(&source, None, &writer, Some(&mut at), 5);
    assert_eq!(copied, Err(Errno::PERM));
    let (reader, pipe) = rustix::pipe::pipe().unwrap();
    rustix::io::write(&pipe, b"pipe").unwrap();
    let flags = rustix::pipe::SpliceFlags::empty();
    let spliced = rustix::pipe::splice(&reader, None, &writer, Some(&mut at), 4, flags);
    assert_eq!(spliced, Err(Errno::PERM));
    assert_eq!(rustix::fs::sendfile(&writer, &source, None, 5), Err(Errno::PERM));
    // FUSE has no clone: the kernel says so.
    let cloned = rustix::fs::ioctl_ficlone(&writer, &source);
    assert!(matches!(cloned, Err(Errno::OPNOTSUPP | Errno::NOTTY)), "{cloned:?}");
    let written = rustix::io::pwritev(&writer, &[std::io::IoSlice::new(b"vector")], 0);
    assert_eq!(written, Err(Errno::PERM));
    drop(writer);
    worm.close(fd).unwrap();
    assert_eq!(look(worm.active(), b"hourly/x"), before);
}

/// A nameless file could be given a name later. The kernel refuses it for us.
#[test]
fn there_are_no_nameless_files() {
    let session = Mounted::default();
    let worm: &dyn Session = &session;
    let nameless = worm.open(b"hourly", OFlags::TMPFILE | OFlags::WRONLY, 0o644);
    assert_eq!(nameless, Err(Errno::OPNOTSUPP));
}

/// The adapter counts, so this goes through a mount.
#[test]
fn every_refusal_is_counted() {
    let session = Mounted::default();
    let worm: &dyn Session = &session;
    worm.put(b"hourly/x", b"bytes");
    let before = worm.fs().refusals();
    assert_eq!(worm.chmod(b"hourly/x", 0o600), Err(Errno::PERM));
    assert_eq!(worm.unlink(b"hourly/x"), Err(Errno::PERM));
    assert_eq!(worm.fs().refusals(), before + 2);
}
