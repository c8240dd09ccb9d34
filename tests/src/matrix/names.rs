//! Names: of the file, of the directories above it, of what could be put in their place.

use std::os::fd::AsRawFd as _;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::path::PathBuf;

use io_uring::opcode;
use io_uring::types::Fd;
use rustix::fs::AtFlags;
use rustix::fs::CWD;
use rustix::fs::FileType;
use rustix::fs::Mode;
use rustix::fs::RenameFlags;
use rustix::io::Errno;

use super::PERM;
use super::Row;
use super::bytes::by_ring;
use super::field::Field;
use super::open::by_descriptor;
use super::raw;
use crate::session::Result;

const NONE: RenameFlags = RenameFlags::empty();
const CWD_FD: Fd = Fd(libc::AT_FDCWD);

/// Who is not root may not write the directory in question, or not make such a thing at all.
const CLOSED: &[Errno] = &[Errno::ACCESS];
const EXIST: &[Errno] = &[Errno::EXIST];
const XDEV: &[Errno] = &[Errno::XDEV];

fn rename(from: &Path, to: &Path, flags: RenameFlags) -> Result<()> {
    rustix::fs::renameat_with(CWD, from, CWD, to, flags)
}

/// The same name, and something more.
fn moved(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push("-moved");
    name.into()
}

/// A new file outside.
fn outside(field: &Field) -> PathBuf {
    let path = field.outside.join("replacement");
    drop(std::fs::File::create(&path).expect("make a file outside"));
    path
}

/// A free name outside.
fn free_outside(field: &Field) -> PathBuf {
    let path = field.outside.join("stolen");
    drop(std::fs::remove_file(&path));
    path
}

fn mknod(path: &Path, kind: FileType) -> Result<()> {
    let device = if kind.is_char_device() { rustix::fs::makedev(1, 3) } else { 0 };
    rustix::fs::mknodat(CWD, path, kind, Mode::from_raw_mode(0o644), device)
}

fn bind(path: &Path) -> Result<()> {
    // The path of a socket is short: 108 bytes.
    let parent = path.parent().expect("a directory");
    let back = std::env::current_dir().expect("a working directory");
    rustix::process::chdir(parent)?;
    let bound = UnixListener::bind(path.file_name().expect("a name"));
    rustix::process::chdir(&back)?;
    bound.map(drop).map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))
}

/// See the module.
pub(super) const ROWS: &[Row] = &[
    Row::refused("rename to a free name", |f| rename(&f.file, &f.free, NONE)),
    Row::refused("rename, RENAME_NOREPLACE", |f| rename(&f.file, &f.free, RenameFlags::NOREPLACE)),
    Row::refused("rename, RENAME_WHITEOUT", |f| rename(&f.file, &f.free, RenameFlags::WHITEOUT)),
    Row::harmless("rename to itself", "the kernel has nothing to do", |f| {
        rename(&f.file, &f.file, NONE)
    }),
    Row::new("rename with unknown flags", &[Errno::INVAL], |f| {
        rename(&f.file, &f.free, RenameFlags::from_bits_retain(1 << 10))
    }),
    Row::refused("rename to the directory above", |f| rename(&f.file, &f.above.join("free"), NONE)),
    Row::refused("rename to another class", |f| rename(&f.file, &f.far_class.join("free"), NONE))
        .and_owner(CLOSED),
    Row::refused("rename to the root", |f| rename(&f.file, &f.root.join("free"), NONE))
        .and_owner(CLOSED),
    Row::refused("rename over another", |f| rename(&f.file, &f.other, NONE)),
    Row::refused("rename another over it", |f| rename(&f.other, &f.file, NONE)),
    Row::new("rename another over it, RENAME_NOREPLACE", EXIST, |f| {
        rename(&f.other, &f.file, RenameFlags::NOREPLACE)
    }),
    Row::refused("rename, RENAME_EXCHANGE", |f| rename(&f.file, &f.other, RenameFlags::EXCHANGE)),
    Row::refused("rename, RENAME_EXCHANGE, the other way", |f| {
        rename(&f.other, &f.file, RenameFlags::EXCHANGE)
    }),
    Row::refused("rename, RENAME_EXCHANGE with a directory", |f| {
        rename(&f.file, &f.aside, RenameFlags::EXCHANGE)
    }),
    Row::refused("rename of its directory, RENAME_EXCHANGE", |f| {
        rename(&f.dir, &f.aside, RenameFlags::EXCHANGE)
    })
    .and_owner(CLOSED),
    Row::refused("rename of another directory over it", |f| rename(&f.aside, &f.dir, NONE))
        .or(&[Errno::PERM, Errno::NOTEMPTY])
        .and_owner(CLOSED),
    Row::new("rename out of the mount", XDEV, |f| rename(&f.file, &free_outside(f), NONE)),
    Row::new("rename into the mount over it", XDEV, |f| rename(&outside(f), &f.file, NONE)),
    Row::new("rename into the mount, RENAME_EXCHANGE", XDEV, |f| {
        rename(&outside(f), &f.file, RenameFlags::EXCHANGE)
    }),
    Row::refused("rename its directory", |f| rename(&f.dir, &moved(&f.dir), NONE)),
    Row::refused("rename its directory, RENAME_NOREPLACE", |f| {
        rename(&f.dir, &moved(&f.dir), RenameFlags::NOREPLACE)
    }),
    Row::refused("rename its directory, RENAME_WHITEOUT", |f| {
        rename(&f.dir, &moved(&f.dir), RenameFlags::WHITEOUT)
    }),
    Row::new("rename its directory out of the mount", XDEV, |f| {
        rename(&f.dir, &free_outside(f), NONE)
    }),
    Row::refused("rename its directory to another class", |f| {
        rename(&f.dir, &f.far_class.join("free"), NONE)
    })
    .and_owner(CLOSED),
    Row::refused("rename the directory above", |f| rename(&f.above, &moved(&f.above), NONE))
        .and_owner(CLOSED),
    Row::refused("rename the class", |f| rename(&f.class, &moved(&f.class), NONE))
        .and_owner(CLOSED),
    Row::refused("rename the class, RENAME_EXCHANGE", |f| {
        rename(&f.class, &f.far_class, RenameFlags::EXCHANGE)
    })
    .and_owner(CLOSED),
    Row::new("rename the mount", &[Errno::BUSY], |f| rename(&f.root, &moved(&f.root), NONE))
        .and_owner(CLOSED),
    Row::refused("link", |f| rustix::fs::link(&f.file, &f.free)),
    Row::refused("link to another class", |f| rustix::fs::link(&f.file, f.far_class.join("free")))
        .and_owner(CLOSED),
    Row::new("link over it", EXIST, |f| rustix::fs::link(&f.other, &f.file)),
    Row::refused("linkat AT_EMPTY_PATH of an O_PATH descriptor", |f| {
        rustix::fs::linkat(&f.place, "", CWD, &f.free, AtFlags::EMPTY_PATH)
    })
    // Without CAP_DAC_READ_SEARCH, in older kernels.
    .and_owner(&[Errno::NOENT]),
    Row::refused("linkat through /proc/self/fd", |f| {
        let from = by_descriptor(std::os::fd::AsFd::as_fd(&f.reader));
        rustix::fs::linkat(CWD, &from, CWD, &f.free, AtFlags::SYMLINK_FOLLOW)
    }),
    Row::new("link out of the mount", XDEV, |f| rustix::fs::link(&f.file, free_outside(f))),
    Row::new("link from outside over it", &[Errno::EXIST, Errno::XDEV], |f| {
        rustix::fs::link(outside(f), &f.file)
    }),
    Row::new("symlink over it", EXIST, |f| rustix::fs::symlink(&f.other, &f.file)),
    Row::refused("symlink beside it", |f| rustix::fs::symlink(&f.file, &f.free)),
    Row::new("mkdir over it", EXIST, |f| rustix::fs::mkdir(&f.file, Mode::RWXU)),
    Row::new("mkdir inside it", &[Errno::NOTDIR], |f| {
        rustix::fs::mkdir(f.file.join("below"), Mode::RWXU)
    }),
    Row::new("mknod of a plain file over it", EXIST, |f| mknod(&f.file, FileType::RegularFile)),
    Row::new("mknod of a FIFO over it", EXIST, |f| mknod(&f.file, FileType::Fifo)),
    Row::new("mknod of a character device over it", &[Errno::EXIST], |f| {
        mknod(&f.file, FileType::CharacterDevice)
    })
    .and_owner(PERM),
    Row::new("mknod of a block device over it", &[Errno::EXIST], |f| {
        mknod(&f.file, FileType::BlockDevice)
    })
    .and_owner(PERM),
    Row::new("mknod of a socket over it", EXIST, |f| mknod(&f.file, FileType::Socket)),
    Row::new("bind a socket over it", &[Errno::ADDRINUSE], |f| bind(&f.file)),
    Row::refused("mknod of a plain file beside it", |f| mknod(&f.free, FileType::RegularFile)),
    Row::refused("mknod of a FIFO beside it", |f| mknod(&f.free, FileType::Fifo)),
    Row::refused("mknod of a character device beside it", |f| {
        mknod(&f.free, FileType::CharacterDevice)
    }),
    Row::refused("mknod of a block device beside it", |f| mknod(&f.free, FileType::BlockDevice)),
    Row::refused("mknod of a socket beside it", |f| mknod(&f.free, FileType::Socket)),
    Row::refused("bind a socket beside it", |f| bind(&f.free)),
    Row::refused("unlink", |f| rustix::fs::unlink(&f.file)),
    Row::refused("unlinkat from its directory", |f| {
        let flags = rustix::fs::OFlags::PATH | rustix::fs::OFlags::CLOEXEC;
        let dir = rustix::fs::open(&f.dir, flags, Mode::empty())?;
        rustix::fs::unlinkat(&dir, f.file.file_name().expect("a name"), AtFlags::empty())
    }),
    Row::new("unlinkat AT_REMOVEDIR of the file", &[Errno::NOTDIR], |f| {
        rustix::fs::unlinkat(CWD, &f.file, AtFlags::REMOVEDIR)
    }),
    Row::new("unlink of its directory", &[Errno::ISDIR], |f| rustix::fs::unlink(&f.dir))
        .and_owner(CLOSED),
    Row::new("rmdir of its directory", NOT_EMPTY, |f| rustix::fs::rmdir(&f.dir)).and_owner(CLOSED),
    Row::new("rmdir of the directory above", NOT_EMPTY, |f| rustix::fs::rmdir(&f.above))
        .and_owner(CLOSED),
    Row::refused("rmdir of the class", |f| rustix::fs::rmdir(&f.class)).and_owner(CLOSED),
    Row::new("rmdir of the mount", &[Errno::BUSY], |f| rustix::fs::rmdir(&f.root))
        .and_owner(CLOSED),
    Row::refused("io_uring unlinkat", |f| {
        let path = raw::path(&f.file);
        by_ring(&opcode::UnlinkAt::new(CWD_FD, path.as_ptr().cast()).build())
    }),
    Row::refused("io_uring renameat", |f| ring_rename(&f.file, &f.free, 0)),
    Row::refused("io_uring renameat over it", |f| ring_rename(&f.other, &f.file, 0)),
    Row::refused("io_uring renameat, RENAME_EXCHANGE", |f| {
        ring_rename(&f.other, &f.file, RenameFlags::EXCHANGE.bits())
    }),
    Row::refused("io_uring renameat of its directory", |f| ring_rename(&f.dir, &moved(&f.dir), 0)),
    Row::refused("io_uring linkat", |f| {
        let (from, to) = (raw::path(&f.file), raw::path(&f.free));
        let (from, to) = (from.as_ptr().cast(), to.as_ptr().cast());
        by_ring(&opcode::LinkAt::new(CWD_FD, from, CWD_FD, to).build())
    }),
    Row::refused("io_uring symlinkat", |f| {
        let (from, to) = (raw::path(&f.file), raw::path(&f.free));
        by_ring(&opcode::SymlinkAt::new(CWD_FD, from.as_ptr().cast(), to.as_ptr().cast()).build())
    }),
    Row::new("io_uring mkdirat over it", EXIST, |f| {
        let path = raw::path(&f.file);
        by_ring(&opcode::MkDirAt::new(CWD_FD, path.as_ptr().cast()).mode(0o755).build())
    }),
    Row::new("rename of /proc/self/fd", &[Errno::XDEV, Errno::PERM], |f| {
        let from = format!("/proc/self/fd/{}", f.reader.as_raw_fd());
        rename(Path::new(&from), &f.free, NONE)
    }),
];

/// `.incomplete` is no directory of the caller's to begin with.
const NOT_EMPTY: &[Errno] = &[Errno::NOTEMPTY, Errno::PERM];

fn ring_rename(from: &Path, to: &Path, flags: u32) -> Result<()> {
    let (from, to) = (raw::path(from), raw::path(to));
    let (from, to) = (from.as_ptr().cast(), to.as_ptr().cast());
    by_ring(&opcode::RenameAt::new(CWD_FD, from, CWD_FD, to).flags(flags).build())
}
