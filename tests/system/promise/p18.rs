//! Promise 18: The read-only view shows sealed files only, as 0440 and directories as 0550 of root
//! and the view's group, and answers every change with `EROFS`.

use rustix::fs::FileType;
use rustix::fs::OFlags;
use rustix::fs::RenameFlags;
use rustix::io::Errno;
use system_tests::session::Files;
use system_tests::session::GUEST;
use system_tests::session::Result;
use system_tests::worm_test;
use worm_fs::fs::Control;

worm_test!(the_view_shows_sealed_files_and_nothing_else, |worm| {
    worm.mkdir(b"hourly/dir", 0o755).unwrap();
    let digest = worm.put(b"hourly/dir/x", b"bytes");
    let fd = worm.create(b"hourly/open").unwrap();
    worm.write(fd, b"half").unwrap();
    let view = worm.view();
    let all = [&b".worm"[..], b"daily", b"guest", b"hourly", b"logs"];
    assert_eq!(view.list(b"").unwrap(), all);
    assert_eq!(view.list(b"hourly").unwrap(), [b"dir"]);
    assert_eq!(view.stat(b"hourly/open"), Err(Errno::NOENT));
    assert_eq!(view.get(b"hourly/dir/x").unwrap(), b"bytes");
    assert_eq!(view.worm(b"hourly/dir/x", "sha256").unwrap(), digest);
    worm.control(fd, Control::Commit).unwrap();
    assert_eq!(view.get(b"hourly/open").unwrap(), b"half", "sealed, so there");
    worm.close(fd).unwrap();
});

worm_test!(the_view_hides_what_is_incomplete, |worm| {
    let fd = worm.create(b"hourly/x").unwrap();
    worm.write(fd, b"half").unwrap();
    worm.control(fd, Control::Abort).unwrap();
    worm.close(fd).unwrap();
    let kept = worm.wait_incomplete(b"hourly/x");
    let view = worm.view();
    assert_eq!(view.list(b"hourly").unwrap(), [b""; 0]);
    assert_eq!(view.list(b"hourly/.incomplete"), Err(Errno::NOENT));
    assert_eq!(view.stat(b"hourly/.incomplete"), Err(Errno::NOENT));
    assert_eq!(view.get(&kept), Err(Errno::NOENT));
    assert_eq!(view.stat(b"hourly/x"), Err(Errno::NOENT));
});

worm_test!(the_view_has_modes_and_an_owner_of_its_own, |worm| {
    worm.mkdir(b"hourly/dir", 0o700).unwrap();
    worm.put(b"hourly/dir/x", b"bytes");
    for (path, mode) in [(&b"hourly/dir/x"[..], 0o440), (b"hourly/dir", 0o550), (b"", 0o550)] {
        let stat = worm.view().stat(path).unwrap();
        assert_eq!((stat.mode, stat.uid, stat.gid), (mode, 0, GUEST));
    }
    let (active, view) = (worm.stat(b"hourly/dir/x"), worm.view().stat(b"hourly/dir/x"));
    let (active, view) = (active.unwrap(), view.unwrap());
    assert_eq!((active.size, active.mtime_ns), (view.size, view.mtime_ns));
});

/// Every change that can be tried on a file `hourly/dir/x`.
type Change = (&'static str, fn(&dyn Files) -> Result<()>);

const X: &[u8] = b"hourly/dir/x";
const FREE: &[u8] = b"hourly/dir/free";

fn open(view: &dyn Files, path: &[u8], flags: OFlags) -> Result<()> {
    view.open(path, flags, 0o644).map(|_| ())
}

const CHANGES: &[Change] = &[
    ("open O_WRONLY", |view| open(view, X, OFlags::WRONLY)),
    ("open O_RDWR", |view| open(view, X, OFlags::RDWR)),
    ("open O_TRUNC", |view| open(view, X, OFlags::RDONLY | OFlags::TRUNC)),
    ("create", |view| view.create(FREE).map(|_| ())),
    ("create at the root", |view| view.create(b"free").map(|_| ())),
    ("truncate", |view| view.truncate(X, 0)),
    ("chmod", |view| view.chmod(X, 0o777)),
    ("chmod of a directory", |view| view.chmod(b"hourly/dir", 0o777)),
    ("chmod of the root", |view| view.chmod(b"", 0o777)),
    ("chown", |view| view.chown(X, 1, 1)),
    ("utimes", |view| view.utimes(X, 0)),
    ("rename", |view| view.rename(X, FREE, RenameFlags::empty())),
    ("rename of a directory", |view| {
        view.rename(b"hourly/dir", b"hourly/free", RenameFlags::empty())
    }),
    ("link", |view| view.link(X, FREE)),
    ("symlink", |view| view.symlink(X, FREE)),
    ("mknod", |view| view.mknod(FREE, FileType::Fifo)),
    ("mkdir", |view| view.mkdir(FREE, 0o755)),
    ("rmdir", |view| view.rmdir(b"hourly/empty")),
    ("unlink", |view| view.unlink(X)),
    ("setxattr", |view| view.setxattr(X, "user.x", b"1")),
    ("setxattr of the end", |view| {
        view.setxattr(X, "user.worm.retain_until", b"2027-01-01T00:00:00Z")
    }),
    ("removexattr", |view| view.removexattr(X, "user.worm.retain_until")),
];

worm_test!(the_view_answers_every_change_with_erofs, |worm| {
    worm.mkdir(b"hourly/dir", 0o755).unwrap();
    worm.mkdir(b"hourly/empty", 0o755).unwrap();
    worm.put(X, b"bytes");
    let before = worm.stat(X).unwrap();
    for (what, change) in CHANGES {
        assert_eq!(change(worm.view()), Err(Errno::ROFS), "{what}");
    }
    let fd = worm.view().open_to_read(X).unwrap();
    for control in [Control::Begin, Control::Commit, Control::Abort] {
        assert_eq!(worm.view().control(fd, control), Err(Errno::ROFS), "{control:?}");
    }
    assert_eq!(worm.view().write(fd, b"x"), Err(Errno::BADF));
    worm.view().close(fd).unwrap();
    assert_eq!(worm.stat(X).unwrap(), before);
    assert_eq!(worm.get(X).unwrap(), b"bytes");
});

worm_test!(what_the_store_removes_is_gone_from_the_view_too, |worm| {
    worm.put(b"guest/x", b"bytes");
    assert_eq!(worm.view().get(b"guest/x").unwrap(), b"bytes");
    worm.clock().advance(48 * worm_fs::clock::HOUR_MS);
    assert_eq!(worm.housekeep(), 1);
    worm.view().wait_gone(b"guest/x");
});
