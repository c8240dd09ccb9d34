//! Everything that could change a sealed file, as a table: each line must be refused, and the
//! file must be as it was.

use rustix::fs::FileType;
use rustix::fs::OFlags;
use rustix::fs::RenameFlags;
use rustix::io::Errno;
use system_tests::session::Files;
use system_tests::session::Result;
use system_tests::session::Stat;

/// A call by path, and what it must answer.
pub(crate) struct Attempt {
    pub(crate) what: &'static str,
    pub(crate) call: fn(&dyn Files, &[u8]) -> Result<()>,
    pub(crate) answer: Errno,
}

/// A sealed file that lies beside the one under attack, in `hourly`.
pub(crate) const OTHER: &[u8] = b"hourly/other";
/// A free name in `hourly`.
const FREE: &[u8] = b"hourly/free";
/// A free name in another class.
const FAR: &[u8] = b"daily/free";

const fn line(
    what: &'static str,
    call: fn(&dyn Files, &[u8]) -> Result<()>,
    answer: Errno,
) -> Attempt {
    Attempt { what, call, answer }
}

/// Opens, and closes again if that was possible.
fn open(worm: &dyn Files, path: &[u8], flags: OFlags) -> Result<()> {
    worm.open(path, flags, 0o644).and_then(|fd| worm.close(fd))
}

/// All that can be tried with the path of a finished file. `EPERM` is the answer of the file
/// system, every other that of the kernel.
pub(crate) const BY_PATH: &[Attempt] = &[
    line("open O_WRONLY", |worm, path| open(worm, path, OFlags::WRONLY), Errno::PERM),
    line("open O_RDWR", |worm, path| open(worm, path, OFlags::RDWR), Errno::PERM),
    line(
        "open O_APPEND",
        |worm, path| open(worm, path, OFlags::WRONLY | OFlags::APPEND),
        Errno::PERM,
    ),
    line(
        "open O_TRUNC",
        |worm, path| open(worm, path, OFlags::WRONLY | OFlags::TRUNC),
        Errno::PERM,
    ),
    line(
        "open O_RDONLY|O_TRUNC",
        |worm, path| open(worm, path, OFlags::RDONLY | OFlags::TRUNC),
        Errno::PERM,
    ),
    line(
        "open O_CREAT",
        |worm, path| open(worm, path, OFlags::WRONLY | OFlags::CREATE),
        Errno::PERM,
    ),
    line(
        "open O_CREAT|O_TRUNC",
        |worm, path| open(worm, path, OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC),
        Errno::PERM,
    ),
    line("open O_CREAT|O_EXCL", |worm, path| worm.create(path).map(|_| ()), Errno::EXIST),
    line("truncate to nothing", |worm, path| worm.truncate(path, 0), Errno::PERM),
    line("truncate to what it is", |worm, path| worm.truncate(path, 5), Errno::PERM),
    line("truncate to more", |worm, path| worm.truncate(path, 1 << 20), Errno::PERM),
    line("chmod", |worm, path| worm.chmod(path, 0o600), Errno::PERM),
    line("chmod to what it is", |worm, path| worm.chmod(path, 0o644), Errno::PERM),
    line("chmod setuid", |worm, path| worm.chmod(path, 0o4755), Errno::PERM),
    line("chown", |worm, path| worm.chown(path, 1, 1), Errno::PERM),
    line("chown to who it is", |worm, path| worm.chown(path, 0, 0), Errno::PERM),
    line("utimes to the past", |worm, path| worm.utimes(path, 0), Errno::PERM),
    line("utimes to the future", |worm, path| worm.utimes(path, 1 << 61), Errno::PERM),
    line("setxattr", |worm, path| worm.setxattr(path, "user.x", b"1"), Errno::PERM),
    line("setxattr trusted", |worm, path| worm.setxattr(path, "trusted.x", b"1"), Errno::PERM),
    line(
        "setxattr of the digest",
        |worm, path| worm.setxattr(path, "user.worm.sha256", b"0"),
        Errno::PERM,
    ),
    line(
        "setxattr of the state",
        |worm, path| worm.setxattr(path, "user.worm.state", b"writing"),
        Errno::PERM,
    ),
    line("removexattr", |worm, path| worm.removexattr(path, "user.x"), Errno::PERM),
    line(
        "removexattr of the end",
        |worm, path| worm.removexattr(path, "user.worm.retain_until"),
        Errno::PERM,
    ),
    line("rename", |worm, path| worm.rename(path, FREE, RenameFlags::empty()), Errno::PERM),
    line(
        "rename RENAME_NOREPLACE",
        |worm, path| worm.rename(path, FREE, RenameFlags::NOREPLACE),
        Errno::PERM,
    ),
    line(
        "rename RENAME_WHITEOUT",
        |worm, path| worm.rename(path, FREE, RenameFlags::WHITEOUT),
        Errno::PERM,
    ),
    line(
        "rename to another class",
        |worm, path| worm.rename(path, FAR, RenameFlags::empty()),
        Errno::PERM,
    ),
    line(
        "rename over another",
        |worm, path| worm.rename(path, OTHER, RenameFlags::empty()),
        Errno::PERM,
    ),
    line(
        "rename another over it",
        |worm, path| worm.rename(OTHER, path, RenameFlags::empty()),
        Errno::PERM,
    ),
    line(
        "rename another over it, RENAME_NOREPLACE",
        |worm, path| worm.rename(OTHER, path, RenameFlags::NOREPLACE),
        Errno::EXIST,
    ),
    line(
        "rename RENAME_EXCHANGE",
        |worm, path| worm.rename(path, OTHER, RenameFlags::EXCHANGE),
        Errno::PERM,
    ),
    line(
        "rename RENAME_EXCHANGE, the other way",
        |worm, path| worm.rename(OTHER, path, RenameFlags::EXCHANGE),
        Errno::PERM,
    ),
    line("link", |worm, path| worm.link(path, FREE), Errno::PERM),
    line("link over it", |worm, path| worm.link(OTHER, path), Errno::EXIST),
    line("symlink over it", |worm, path| worm.symlink(OTHER, path), Errno::EXIST),
    line("mkdir over it", |worm, path| worm.mkdir(path, 0o755), Errno::EXIST),
    line("mknod over it", |worm, path| worm.mknod(path, FileType::RegularFile), Errno::EXIST),
    line("unlink", |worm, path| worm.unlink(path), Errno::PERM),
    line("rmdir", |worm, path| worm.rmdir(path), Errno::NOTDIR),
];

/// All that can be seen of a file.
#[derive(Debug, Eq, PartialEq)]
pub(crate) struct Seen {
    stat: Stat,
    bytes: Vec<u8>,
    xattrs: Vec<(String, Result<Vec<u8>>)>,
}

/// Looks at everything that can be seen of a file.
#[track_caller]
pub(crate) fn look(worm: &dyn Files, path: &[u8]) -> Seen {
    let names = worm.listxattr(path).unwrap();
    let value = |name: String| {
        let value = worm.getxattr(path, &name);
        (name, value)
    };
    Seen {
        stat: worm.stat(path).unwrap(),
        bytes: worm.get(path).unwrap(),
        xattrs: names.into_iter().map(value).collect(),
    }
}

/// Tries every line of [`BY_PATH`] but those named, and looks whether the file is as it was.
#[track_caller]
pub(crate) fn try_all(worm: &dyn Files, path: &[u8], but: &[&str]) {
    let before = look(worm, path);
    let mut wrong = Vec::new();
    for Attempt { what, call, answer } in BY_PATH {
        if but.contains(what) {
            continue;
        }
        let got = call(worm, path);
        if got != Err(*answer) {
            wrong.push(format!("{what}: {got:?} instead of {answer:?}"));
        }
        assert_eq!(look(worm, path), before, "after {what}");
    }
    assert!(wrong.is_empty(), "{}:\n{}", String::from_utf8_lossy(path), wrong.join("\n"));
    assert_eq!(worm.stat(FREE), Err(Errno::NOENT));
    assert_eq!(worm.stat(FAR), Err(Errno::NOENT));
}
