//! Promise 4: No path-based operation ever removes, renames, truncates or writes a file that has
//! not expired, sealed or not. Until RELEASE, chmod, chown and utimes set what will be sealed.

use rustix::fs::OFlags;
use rustix::fs::RenameFlags;
use rustix::io::Errno;
use system_tests::session::End;
use system_tests::worm_test;
use worm_fs::clock::HOUR_MS;
use worm_fs::fs::Control;

worm_test!(no_path_takes_anything_from_a_file_being_written, |worm| {
    worm.put(b"hourly/other", b"other");
    let fd = worm.create(b"hourly/x").unwrap();
    worm.write(fd, b"bytes").unwrap();
    let exchange = RenameFlags::EXCHANGE;
    for _ in 0..2 {
        assert_eq!(worm.unlink(b"hourly/x"), Err(Errno::PERM));
        assert_eq!(worm.truncate(b"hourly/x", 0), Err(Errno::PERM));
        let plain = RenameFlags::empty();
        assert_eq!(worm.rename(b"hourly/x", b"hourly/y", plain), Err(Errno::PERM));
        assert_eq!(worm.rename(b"hourly/x", b"hourly/other", exchange), Err(Errno::PERM));
        assert_eq!(worm.rename(b"hourly/other", b"hourly/x", plain), Err(Errno::PERM));
        assert_eq!(worm.link(b"hourly/x", b"hourly/y"), Err(Errno::PERM));
        let truncated = worm.open(b"hourly/x", OFlags::RDONLY | OFlags::TRUNC, 0);
        assert_eq!(truncated, Err(Errno::BUSY));
        assert_eq!(worm.rmdir(b"hourly/x"), Err(Errno::NOTDIR));
        assert_eq!(worm.setxattr(b"hourly/x", "user.x", b"1"), Err(Errno::OPNOTSUPP));
        let end = worm.setxattr(b"hourly/x", "user.worm.retain_until", b"2027-01-01T00:00:00Z");
        assert_eq!(end, Err(Errno::OPNOTSUPP));
        // However long it takes to write.
        worm.clock().advance(100 * HOUR_MS);
    }
    worm.close(fd).unwrap();
    worm.wait_sealed(b"hourly/x");
    assert_eq!(worm.get(b"hourly/x").unwrap(), b"bytes");
    assert_eq!(worm.unlink(b"hourly/x"), Err(Errno::PERM), "retention begins at the seal");
});

worm_test!(attributes_set_before_the_last_close_are_sealed, |worm| {
    let fd = worm.create(b"hourly/x").unwrap();
    worm.write(fd, b"bytes").unwrap();
    worm.fchmod(fd, 0o600).unwrap();
    worm.chown(b"hourly/x", 1_000, 2_000).unwrap();
    worm.chmod(b"hourly/x", 0o440).unwrap();
    worm.utimes(b"hourly/x", 1_234_567_890_123_456_789).unwrap();
    worm.close(fd).unwrap();
    worm.wait_sealed(b"hourly/x");
    let check = || {
        let stat = worm.stat(b"hourly/x").unwrap();
        assert_eq!((stat.mode, stat.uid, stat.gid), (0o440, 1_000, 2_000));
        assert_eq!(stat.mtime_ns, 1_234_567_890_123_456_789);
    };
    check();
    worm.restart(End::Crash);
    check();
    assert_eq!(worm.chmod(b"hourly/x", 0o644), Err(Errno::PERM));
    assert_eq!(worm.chown(b"hourly/x", 0, 0), Err(Errno::PERM));
    assert_eq!(worm.utimes(b"hourly/x", 0), Err(Errno::PERM));
    check();
});

worm_test!(times_before_1970_are_sealed_too, |worm| {
    let fd = worm.create(b"hourly/x").unwrap();
    worm.utimes(b"hourly/x", -86_400_000_000_000).unwrap();
    worm.close(fd).unwrap();
    worm.wait_sealed(b"hourly/x");
    assert_eq!(worm.stat(b"hourly/x").unwrap().mtime_ns, -86_400_000_000_000);
});

worm_test!(from_the_commit_on_nothing_changes, |worm| {
    let fd = worm.create(b"hourly/x").unwrap();
    worm.write(fd, b"bytes").unwrap();
    worm.control(fd, Control::Commit).unwrap();
    let before = worm.stat(b"hourly/x").unwrap();
    assert_eq!(worm.chmod(b"hourly/x", 0o600), Err(Errno::PERM));
    assert_eq!(worm.fchmod(fd, 0o600), Err(Errno::PERM));
    assert_eq!(worm.utimes(b"hourly/x", 0), Err(Errno::PERM));
    worm.close(fd).unwrap();
    assert_eq!(worm.stat(b"hourly/x").unwrap(), before);
});
