//! Mode, owner and times, of the file and of what lies above it.

use std::os::fd::AsFd as _;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::AtFlags;
use rustix::fs::CWD;
use rustix::fs::Gid;
use rustix::fs::Mode;
use rustix::fs::Timespec;
use rustix::fs::Timestamps;
use rustix::fs::Uid;
use rustix::io::Errno;

use super::BADF;
use super::Needs;
use super::Row;
use super::field::Field;
use super::open::by_descriptor;
use super::raw;
use super::raw::Arg;
use crate::session::Result;

const NOW: i64 = libc::UTIME_NOW;
const OMIT: i64 = libc::UTIME_OMIT;
/// Said by the kernel of what belongs to others.
const CLOSED: &[Errno] = &[Errno::ACCESS];

fn chmod(path: &Path, mode: u32) -> Result<()> {
    rustix::fs::chmod(path, Mode::from_raw_mode(mode))
}

/// `fchmodat2(2)`
fn fchmodat2(fd: Arg, path: &[u8], flags: i32) -> Result<()> {
    let args = &mut [fd, Arg::In(path), Arg::Int(0o600), Arg::Int(i64::from(flags))];
    raw::call(452, args).map(drop)
}

fn chown(path: &Path, uid: Option<u32>, gid: Option<u32>, flags: AtFlags) -> Result<()> {
    let (uid, gid) = (uid.map(Uid::from_raw), gid.map(Gid::from_raw));
    rustix::fs::chownat(CWD, path, uid, gid, flags)
}

/// To itself, so that who is no root may ask, too.
fn chown_to_self(path: &Path) -> Result<()> {
    let (uid, gid) = (rustix::process::geteuid(), rustix::process::getegid());
    chown(path, Some(uid.as_raw()), Some(gid.as_raw()), AtFlags::empty())
}

/// Access and modification time: seconds and nanoseconds, or `UTIME_...`.
fn times(atime: (i64, i64), mtime: (i64, i64)) -> Timestamps {
    let time = |(tv_sec, tv_nsec)| Timespec { tv_sec, tv_nsec };
    Timestamps { last_access: time(atime), last_modification: time(mtime) }
}

fn utimens(path: &Path, atime: (i64, i64), mtime: (i64, i64)) -> Result<()> {
    rustix::fs::utimensat(CWD, path, &times(atime, mtime), AtFlags::empty())
}

fn futimens(fd: &OwnedFd) -> Result<()> {
    rustix::fs::futimens(fd, &times((5, 0), (5, 0)))
}

/// A row that needs the descriptor that created the file.
const fn held(what: &'static str, call: fn(&Field) -> Result<()>) -> Row {
    Row::refused(what, call).needs(Needs::Writer)
}

fn writer(field: &Field) -> &OwnedFd {
    &field.writer.as_ref().expect("it is open").fd
}

/// See the module.
pub(super) const ROWS: &[Row] = &[
    Row::refused("chmod", |f| chmod(&f.file, 0o600)),
    Row::refused("chmod to what it is", |f| chmod(&f.file, 0o644)),
    Row::refused("chmod to set-user-ID", |f| chmod(&f.file, 0o4755)),
    Row::refused("chmod to read-only", |f| chmod(&f.file, 0o444)),
    Row::refused("chmod through /proc/self/fd", |f| chmod(&by_descriptor(f.place.as_fd()), 0o600)),
    Row::refused("fchmod of a reading descriptor", |f| rustix::fs::fchmod(&f.reader, Mode::RUSR)),
    Row::refused("fchmod of one that read while it was written", |f| {
        rustix::fs::fchmod(&f.early, Mode::RUSR)
    }),
    Row::new("fchmod of an O_PATH descriptor", BADF, |f| rustix::fs::fchmod(&f.place, Mode::RUSR)),
    Row::refused("fchmodat2", |f| {
        fchmodat2(Arg::Int(i64::from(libc::AT_FDCWD)), &raw::path(&f.file), 0)
    }),
    Row::refused("fchmodat2 AT_SYMLINK_NOFOLLOW", |f| {
        let cwd = Arg::Int(i64::from(libc::AT_FDCWD));
        fchmodat2(cwd, &raw::path(&f.file), libc::AT_SYMLINK_NOFOLLOW)
    }),
    Row::refused("fchmodat2 AT_EMPTY_PATH of an O_PATH descriptor", |f| {
        fchmodat2(Arg::Fd(f.place.as_fd()), b"\0", libc::AT_EMPTY_PATH)
    }),
    Row::refused("chown", |f| chown(&f.file, Some(1), Some(1), AtFlags::empty())),
    Row::refused("chown of the user alone", |f| chown(&f.file, Some(1), None, AtFlags::empty())),
    Row::refused("chown of the group alone", |f| chown(&f.file, None, Some(1), AtFlags::empty())),
    Row::refused("chown to who it is", |f| chown_to_self(&f.file)),
    // The kernel asks, with nothing to change.
    Row::refused("chown of neither", |f| chown(&f.file, None, None, AtFlags::empty())),
    Row::refused("lchown", |f| chown(&f.file, Some(1), Some(1), AtFlags::SYMLINK_NOFOLLOW)),
    Row::refused("fchown of a reading descriptor", |f| {
        rustix::fs::fchown(&f.reader, Some(Uid::from_raw(1)), Some(Gid::from_raw(1)))
    }),
    Row::refused("fchownat AT_EMPTY_PATH of an O_PATH descriptor", |f| {
        let (uid, gid) = (Some(Uid::from_raw(1)), Some(Gid::from_raw(1)));
        rustix::fs::chownat(&f.place, "", uid, gid, AtFlags::EMPTY_PATH)
    }),
    Row::refused("utimensat to the past", |f| utimens(&f.file, (1, 0), (1, 0))),
    Row::refused("utimensat to the future", |f| utimens(&f.file, (1 << 33, 9), (1 << 33, 9))),
    Row::refused("utimensat to before 1970", |f| utimens(&f.file, (-5, 5), (-5, 5))),
    Row::refused("utimensat, both UTIME_NOW", |f| utimens(&f.file, (0, NOW), (0, NOW))),
    Row::refused("utimensat, UTIME_NOW and a time", |f| utimens(&f.file, (0, NOW), (7, 0))),
    Row::refused("utimensat, a time and UTIME_NOW", |f| utimens(&f.file, (7, 0), (0, NOW))),
    Row::refused("utimensat, access time alone", |f| utimens(&f.file, (7, 0), (0, OMIT))),
    Row::refused("utimensat, access time alone, UTIME_NOW", |f| {
        utimens(&f.file, (0, NOW), (0, OMIT))
    }),
    Row::refused("utimensat, modification time alone", |f| utimens(&f.file, (0, OMIT), (7, 0))),
    Row::refused("utimensat, modification time alone, UTIME_NOW", |f| {
        utimens(&f.file, (0, OMIT), (0, NOW))
    }),
    Row::harmless("utimensat, both UTIME_OMIT", "the kernel asks nobody: nothing is wanted", |f| {
        utimens(&f.file, (0, OMIT), (0, OMIT))
    }),
    Row::refused("utimensat without times", |f| {
        let (cwd, path) = (Arg::Int(i64::from(libc::AT_FDCWD)), raw::path(&f.file));
        let args = &mut [cwd, Arg::In(&path), Arg::In(&[]), Arg::Int(0)];
        raw::call(libc::SYS_utimensat, args).map(drop)
    }),
    Row::refused("utimensat AT_EMPTY_PATH of an O_PATH descriptor", |f| {
        let times = times((9, 0), (9, 0));
        rustix::fs::utimensat(&f.place, "", &times, AtFlags::EMPTY_PATH)
    }),
    Row::refused("utimes", |f| {
        let (path, times) = (raw::path(&f.file), raw::words(&[3, 0, 3, 0]));
        raw::call(libc::SYS_utimes, &mut [Arg::In(&path), Arg::In(&times)]).map(drop)
    }),
    Row::refused("futimesat", |f| {
        let (path, times) = (raw::path(&f.file), raw::words(&[3, 0, 3, 0]));
        let cwd = Arg::Int(i64::from(libc::AT_FDCWD));
        raw::call(libc::SYS_futimesat, &mut [cwd, Arg::In(&path), Arg::In(&times)]).map(drop)
    }),
    Row::refused("utime", |f| {
        let (path, times) = (raw::path(&f.file), raw::words(&[3, 3]));
        raw::call(libc::SYS_utime, &mut [Arg::In(&path), Arg::In(&times)]).map(drop)
    }),
    Row::refused("futimens of a reading descriptor", |f| futimens(&f.reader)),
    Row::refused("futimens of one that read while it was written", |f| futimens(&f.early)),
    held("fchmod of the writing descriptor", |f| rustix::fs::fchmod(writer(f), Mode::RUSR)),
    held("fchown of the writing descriptor", |f| {
        rustix::fs::fchown(writer(f), Some(Uid::from_raw(1)), Some(Gid::from_raw(1)))
    }),
    held("futimens of the writing descriptor", |f| futimens(writer(f))),
    Row::refused("chmod of its directory", |f| chmod(&f.dir, 0o700)),
    Row::refused("chmod of the directory above", |f| chmod(&f.above, 0o700)),
    Row::refused("chmod of the class", |f| chmod(&f.class, 0o700)),
    Row::refused("chmod of the mount", |f| chmod(&f.root, 0o700)),
    Row::refused("chown of its directory", |f| chown(&f.dir, Some(1), Some(1), AtFlags::empty())),
    Row::refused("chown of the class", |f| chown(&f.class, Some(1), Some(1), AtFlags::empty())),
    Row::refused("chown of the mount", |f| chown(&f.root, Some(1), Some(1), AtFlags::empty())),
    Row::refused("utimensat of its directory", |f| utimens(&f.dir, (1, 0), (1, 0))),
    Row::refused("utimensat of its directory, UTIME_NOW", |f| utimens(&f.dir, (0, NOW), (0, NOW)))
        .and_owner(CLOSED),
    Row::refused("utimensat of the class", |f| utimens(&f.class, (1, 0), (1, 0))),
    Row::refused("utimensat of the mount", |f| utimens(&f.root, (1, 0), (1, 0))),
];
