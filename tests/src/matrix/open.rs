//! Opening in any way that could change the file.

use std::os::fd::AsFd as _;
use std::os::fd::AsRawFd as _;
use std::os::fd::BorrowedFd;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::path::PathBuf;

use rustix::fs::AtFlags;
use rustix::fs::CWD;
use rustix::fs::Mode;
use rustix::fs::OFlags;
use rustix::fs::ResolveFlags;
use rustix::io::Errno;

use super::PERM;
use super::Row;
use super::field::Field;
use super::raw;
use super::raw::Arg;
use crate::session::Result;

const MODE: Mode = Mode::from_raw_mode(0o644);

/// As direct I/O wants it.
#[repr(align(4096))]
struct Block([u8; 4096]);

/// Opens, writes if that is possible, and closes again.
pub(super) fn open(path: &Path, flags: OFlags) -> Result<()> {
    rustix::fs::open(path, flags | OFlags::CLOEXEC, MODE).map(|fd| use_it(&fd))
}

/// What somebody would do with a descriptor that he should not have got.
pub(super) fn use_it(fd: &OwnedFd) {
    static BLOCK: Block = Block([b'B'; 4096]);
    let _read_only = rustix::io::pwrite(fd, &BLOCK.0, 0);
}

/// The name under which the kernel shows an open descriptor.
pub(super) fn by_descriptor(fd: BorrowedFd) -> PathBuf {
    format!("/proc/self/fd/{}", fd.as_raw_fd()).into()
}

fn plainly(field: &Field, flags: OFlags) -> Result<()> {
    open(&field.file, flags)
}

fn again(fd: BorrowedFd, flags: OFlags) -> Result<()> {
    open(&by_descriptor(fd), flags)
}

fn openat2(field: &Field, flags: OFlags, resolve: ResolveFlags) -> Result<()> {
    let dir = rustix::fs::open(&field.dir, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
    let name = field.file.file_name().expect("a name");
    rustix::fs::openat2(&dir, name, flags | OFlags::CLOEXEC, Mode::empty(), resolve)
        .map(|fd| use_it(&fd))
}

fn by_handle(field: &Field, flags: i32) -> Result<()> {
    if field.handle.is_empty() {
        return Err(Errno::OPNOTSUPP);
    }
    let mount = rustix::fs::open(&field.root, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
    let (mount, flags) = (Arg::Fd(mount.as_fd()), Arg::Int(i64::from(flags | libc::O_CLOEXEC)));
    let args = &mut [mount, Arg::In(&field.handle), flags];
    raw::call(libc::SYS_open_by_handle_at, args).map(|fd| use_it(&raw::own(fd)))
}

fn nameless(field: &Field, flags: OFlags) -> Result<()> {
    let flags = flags | OFlags::TMPFILE | OFlags::CLOEXEC;
    let fd = rustix::fs::open(&field.dir, flags, MODE)?;
    let path = by_descriptor(fd.as_fd());
    rustix::fs::linkat(CWD, &path, CWD, &field.free, AtFlags::SYMLINK_FOLLOW)
}

/// What may open by a handle differs between kernels for who is not root.
const BY_HANDLE: &[Errno] = &[Errno::PERM, Errno::STALE];
const EXIST: &[Errno] = &[Errno::EXIST];

/// See the module.
pub(super) const ROWS: &[Row] = &[
    Row::refused("open O_WRONLY", |f| plainly(f, OFlags::WRONLY)),
    Row::refused("open O_RDWR", |f| plainly(f, OFlags::RDWR)),
    Row::refused("open O_WRONLY|O_APPEND", |f| plainly(f, OFlags::WRONLY | OFlags::APPEND)),
    Row::refused("open O_RDWR|O_APPEND", |f| plainly(f, OFlags::RDWR | OFlags::APPEND)),
    Row::refused("open O_WRONLY|O_TRUNC", |f| plainly(f, OFlags::WRONLY | OFlags::TRUNC)),
    Row::refused("open O_RDWR|O_TRUNC", |f| plainly(f, OFlags::RDWR | OFlags::TRUNC)),
    Row::refused("open O_RDONLY|O_TRUNC", |f| plainly(f, OFlags::TRUNC)),
    Row::refused("open O_RDONLY|O_APPEND|O_TRUNC", |f| plainly(f, OFlags::APPEND | OFlags::TRUNC)),
    Row::refused("open O_WRONLY|O_CREAT", |f| plainly(f, OFlags::WRONLY | OFlags::CREATE)),
    Row::refused("open O_RDWR|O_CREAT|O_TRUNC", |f| {
        plainly(f, OFlags::RDWR | OFlags::CREATE | OFlags::TRUNC)
    }),
    Row::refused("open O_RDONLY|O_CREAT|O_TRUNC", |f| plainly(f, OFlags::CREATE | OFlags::TRUNC)),
    Row::harmless("open O_RDONLY|O_CREAT", "the name is there: it opens for reading", |f| {
        plainly(f, OFlags::CREATE)
    }),
    Row::new("open O_WRONLY|O_CREAT|O_EXCL", EXIST, |f| {
        plainly(f, OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL)
    }),
    Row::new("open O_RDWR|O_CREAT|O_EXCL|O_TRUNC", EXIST, |f| {
        plainly(f, OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::TRUNC)
    }),
    Row::refused("creat", |f| {
        let path = raw::path(&f.file);
        let args = &mut [Arg::In(&path), Arg::Int(0o644)];
        raw::call(libc::SYS_creat, args).map(|fd| drop(raw::own(fd)))
    }),
    Row::refused("open O_WRONLY|O_DIRECT", |f| plainly(f, OFlags::WRONLY | OFlags::DIRECT)),
    Row::refused("open O_RDWR|O_SYNC", |f| plainly(f, OFlags::RDWR | OFlags::SYNC)),
    Row::refused("open O_WRONLY|O_DSYNC", |f| plainly(f, OFlags::WRONLY | OFlags::DSYNC)),
    Row::refused("open O_WRONLY|O_NONBLOCK|O_TRUNC", |f| {
        plainly(f, OFlags::WRONLY | OFlags::NONBLOCK | OFlags::TRUNC)
    }),
    Row::refused("open O_RDWR|O_NOATIME|O_NOFOLLOW", |f| {
        plainly(f, OFlags::RDWR | OFlags::NOATIME | OFlags::NOFOLLOW)
    }),
    Row::refused("open with access mode 3", |f| {
        plainly(f, OFlags::from_bits_retain(libc::O_ACCMODE.cast_unsigned()))
    }),
    Row::refused("open O_WRONLY|O_ASYNC|O_NOCTTY", |f| {
        plainly(f, OFlags::WRONLY | OFlags::from_bits_retain(libc::O_ASYNC.cast_unsigned()))
    }),
    Row::new("open O_WRONLY|O_DIRECTORY", &[Errno::NOTDIR], |f| {
        plainly(f, OFlags::WRONLY | OFlags::DIRECTORY)
    }),
    Row::harmless("open O_PATH|O_TRUNC|O_CREAT", "O_PATH ignores what would open", |f| {
        let flags = OFlags::PATH | OFlags::TRUNC | OFlags::CREATE;
        match plainly(f, flags) {
            // Newer kernels refuse the combination.
            Err(Errno::INVAL) => Ok(()),
            other => other,
        }
    }),
    Row::refused("an O_PATH descriptor, opened anew O_WRONLY", |f| {
        again(f.place.as_fd(), OFlags::WRONLY)
    }),
    Row::refused("an O_PATH descriptor, opened anew O_RDONLY|O_TRUNC", |f| {
        again(f.place.as_fd(), OFlags::TRUNC)
    }),
    Row::refused("a reading descriptor, opened anew O_RDWR", |f| {
        again(f.reader.as_fd(), OFlags::RDWR)
    }),
    Row::refused("a reading descriptor, opened anew O_WRONLY|O_TRUNC", |f| {
        again(f.reader.as_fd(), OFlags::WRONLY | OFlags::TRUNC)
    }),
    Row::refused("a descriptor that read while it was written, opened anew O_RDWR", |f| {
        again(f.early.as_fd(), OFlags::RDWR)
    }),
    Row::refused("a descriptor that read while it was written, opened anew O_TRUNC", |f| {
        again(f.early.as_fd(), OFlags::TRUNC)
    }),
    Row::refused("openat2 O_RDWR", |f| openat2(f, OFlags::RDWR, ResolveFlags::empty())),
    Row::refused("openat2 O_RDWR, RESOLVE_NO_XDEV", |f| {
        openat2(f, OFlags::RDWR, ResolveFlags::NO_XDEV)
    }),
    Row::refused("openat2 O_WRONLY, RESOLVE_NO_MAGICLINKS", |f| {
        openat2(f, OFlags::WRONLY, ResolveFlags::NO_MAGICLINKS)
    }),
    Row::refused("openat2 O_RDWR, RESOLVE_NO_SYMLINKS", |f| {
        openat2(f, OFlags::RDWR, ResolveFlags::NO_SYMLINKS)
    }),
    Row::refused("openat2 O_TRUNC, RESOLVE_BENEATH", |f| {
        openat2(f, OFlags::TRUNC, ResolveFlags::BENEATH)
    }),
    Row::refused("openat2 O_WRONLY|O_TRUNC, RESOLVE_IN_ROOT", |f| {
        openat2(f, OFlags::WRONLY | OFlags::TRUNC, ResolveFlags::IN_ROOT)
    }),
    // The kernel gives up where it would have to ask the file system.
    Row::new("openat2 O_RDWR, RESOLVE_CACHED", &[Errno::PERM, Errno::AGAIN], |f| {
        openat2(f, OFlags::RDWR, ResolveFlags::CACHED)
    }),
    Row::new("openat2 O_RDWR|O_TRUNC, RESOLVE_CACHED", &[Errno::AGAIN], |f| {
        openat2(f, OFlags::RDWR | OFlags::TRUNC, ResolveFlags::CACHED)
    }),
    Row::new("openat2 with an unknown flag", &[Errno::INVAL], |f| {
        openat2(f, OFlags::RDWR, ResolveFlags::from_bits_retain(1 << 20))
    }),
    Row::new("open_by_handle_at O_RDWR", BY_HANDLE, |f| by_handle(f, libc::O_RDWR)),
    Row::new("open_by_handle_at O_RDONLY|O_TRUNC", BY_HANDLE, |f| by_handle(f, libc::O_TRUNC)),
    Row::new("open_by_handle_at O_WRONLY|O_APPEND", BY_HANDLE, |f| {
        by_handle(f, libc::O_WRONLY | libc::O_APPEND)
    }),
    Row::new("open O_TMPFILE|O_RDWR, and a name for it", &[Errno::OPNOTSUPP], |f| {
        nameless(f, OFlags::RDWR)
    })
    .and_owner(PERM),
    Row::new("open O_TMPFILE|O_WRONLY|O_EXCL", &[Errno::OPNOTSUPP], |f| {
        nameless(f, OFlags::WRONLY | OFlags::EXCL)
    })
    .and_owner(PERM),
    Row::refused("open through a path with .. and /proc/self/root", |f| {
        let name = f.dir.file_name().expect("a name");
        let there = Path::new("/proc/self/root").join(f.dir.strip_prefix("/").expect("absolute"));
        let path = there.join("..").join(name).join(f.file.file_name().expect("a name"));
        open(&path, OFlags::RDWR)
    }),
    Row::refused("open in another working directory, by a relative path", |f| {
        let dir = rustix::fs::open(&f.dir, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
        let back = rustix::fs::openat(CWD, ".", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
        rustix::process::fchdir(&dir)?;
        let opened = open(Path::new(f.file.file_name().expect("a name")), OFlags::WRONLY);
        rustix::process::fchdir(&back)?;
        opened
    }),
];
