//! Flags of inodes, and the other ioctls that change something on one file system or another.

use std::os::fd::AsFd;

use rustix::fs::Mode;
use rustix::fs::OFlags;
use rustix::io::Errno;

use super::Needs;
use super::Row;
use super::field::Field;
use super::raw;
use super::raw::Arg;
use crate::session::Result;

// From linux/fs.h.
const SET_FLAGS: u32 = 0x4008_6602;
const GET_FLAGS: u32 = 0x8008_6601;
const SET_EXTENDED: u32 = 0x401C_5820;
const SET_VERSION: u32 = 0x4008_7602;
// From linux/fsverity.h and linux/fscrypt.h.
const ENABLE_VERITY: u32 = 0x4080_6685;
const SET_POLICY: u32 = 0x800C_6613;
const ADD_KEY: u32 = 0xC050_6617;
// From linux/ext4.h and linux/btrfs.h.
const MOVE_EXTENT: u32 = 0xC028_660F;
const MIGRATE: u32 = 0x6609;
const BTRFS_DEFRAGMENT: u32 = 0x5000_9402;
const BTRFS_SNAPSHOT: u32 = 0x5000_9401;

const IMMUTABLE: u32 = 0x10;
const APPEND: u32 = 0x20;

fn set_flags(fd: impl AsFd, flags: u32) -> Result<()> {
    let mut flags = raw::words(&[u64::from(flags)]);
    raw::ioctl(fd, SET_FLAGS, &mut flags).map(drop)
}

fn directory(field: &Field) -> rustix::fd::OwnedFd {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::open(&field.dir, flags, Mode::empty()).expect("open the directory")
}

/// `struct fsxattr`: flags, extent size, number of extents, project, extent size for copies.
fn extended(flags: u32) -> [u8; 28] {
    let mut attributes = [0; 28];
    attributes[..4].copy_from_slice(&flags.to_ne_bytes());
    attributes
}

/// `file_setattr(2)`, from Linux 6.17: `struct file_attr` begins with 64 bits of flags.
fn file_setattr(field: &Field, flags: u64) -> Result<()> {
    let (path, mut attributes) = (raw::path(&field.file), raw::words(&[flags, 0, 0]));
    let cwd = Arg::Int(i64::from(libc::AT_FDCWD));
    let (attributes, size) = (Arg::Out(&mut attributes), Arg::Int(24));
    raw::call(469, &mut [cwd, Arg::In(&path), attributes, size, Arg::Int(0)]).map(drop)
}

/// No file of ours has flags; what the kernel checks first is its business.
const NOTTY: &[Errno] = &[Errno::NOTTY, Errno::OPNOTSUPP];
const NOTTY_OR_PERM: &[Errno] = &[Errno::NOTTY, Errno::OPNOTSUPP, Errno::PERM];

/// A row that no file of ours answers.
const fn unknown(what: &'static str, call: fn(&Field) -> Result<()>) -> Row {
    Row::new(what, NOTTY, call).and_owner(&[Errno::PERM])
}

/// See the module.
pub(super) const ROWS: &[Row] = &[
    unknown("FS_IOC_SETFLAGS, immutable", |f| set_flags(&f.reader, IMMUTABLE)),
    unknown("FS_IOC_SETFLAGS, append-only", |f| set_flags(&f.reader, APPEND)),
    unknown("FS_IOC_SETFLAGS, nothing", |f| set_flags(&f.reader, 0)),
    unknown("FS_IOC_SETFLAGS, no dump", |f| set_flags(&f.reader, 0x40)),
    unknown("FS_IOC_SETFLAGS, secure deletion and undelete", |f| set_flags(&f.reader, 0x03)),
    unknown("FS_IOC_SETFLAGS, no copy on write", |f| set_flags(&f.reader, 0x0080_0000)),
    unknown("FS_IOC_SETFLAGS by one that read while it was written", |f| {
        set_flags(&f.early, IMMUTABLE)
    }),
    unknown("FS_IOC_SETFLAGS of its directory", |f| set_flags(directory(f), APPEND)),
    unknown("FS_IOC_SETFLAGS by the writing descriptor", |f| {
        set_flags(&f.writer.as_ref().expect("it is open").fd, IMMUTABLE)
    })
    .needs(Needs::Writer),
    unknown("FS_IOC_FSSETXATTR, immutable", |f| {
        raw::ioctl(&f.reader, SET_EXTENDED, &mut extended(0x08)).map(drop)
    }),
    unknown("FS_IOC_FSSETXATTR, append-only", |f| {
        raw::ioctl(&f.reader, SET_EXTENDED, &mut extended(0x10)).map(drop)
    }),
    unknown("FS_IOC_FSSETXATTR of its directory, inherit", |f| {
        raw::ioctl(directory(f), SET_EXTENDED, &mut extended(0x200)).map(drop)
    }),
    unknown("FS_IOC_SETVERSION", |f| {
        raw::ioctl(&f.reader, SET_VERSION, &mut raw::words(&[7])).map(drop)
    }),
    unknown("file_setattr, immutable", |f| file_setattr(f, 0x08)),
    unknown("file_setattr, append-only", |f| file_setattr(f, 0x10)),
    unknown("file_setattr, nothing", |f| file_setattr(f, 0)),
    unknown("FS_IOC_ENABLE_VERITY", |f| {
        let mut argument = [0; 128];
        argument[..12].copy_from_slice(b"\x01\0\0\0\x01\0\0\0\0\x10\0\0");
        raw::ioctl(&f.reader, ENABLE_VERITY, &mut argument).map(drop)
    }),
    unknown("FS_IOC_SET_ENCRYPTION_POLICY of its directory", |f| {
        let mut policy = *b"\0\x01\x04\0key-name";
        raw::ioctl(directory(f), SET_POLICY, &mut policy).map(drop)
    }),
    unknown("FS_IOC_SET_ENCRYPTION_POLICY of the file", |f| {
        let mut policy = *b"\0\x01\x04\0key-name";
        raw::ioctl(&f.reader, SET_POLICY, &mut policy).map(drop)
    }),
    unknown("FS_IOC_ADD_ENCRYPTION_KEY", |f| {
        raw::ioctl(&f.reader, ADD_KEY, &mut [0; 0x50]).map(drop)
    }),
    unknown("EXT4_IOC_MOVE_EXT", |f| {
        let source = u64::try_from(std::os::fd::AsRawFd::as_raw_fd(&f.early)).expect("open");
        let mut extent = raw::words(&[source << 32, 0, 0, 1, 0]);
        raw::ioctl(&f.reader, MOVE_EXTENT, &mut extent).map(drop)
    }),
    unknown("EXT4_IOC_MIGRATE", |f| raw::ioctl(&f.reader, MIGRATE, &mut []).map(drop)),
    unknown("BTRFS_IOC_DEFRAG", |f| {
        raw::ioctl(&f.reader, BTRFS_DEFRAGMENT, &mut [0; 4096]).map(drop)
    }),
    unknown("BTRFS_IOC_SNAP_CREATE in its directory", |f| {
        let mut argument = vec![0; 4096];
        let fd = i64::from(std::os::fd::AsRawFd::as_raw_fd(&directory(f)));
        argument[..8].copy_from_slice(&fd.to_ne_bytes());
        argument[8..12].copy_from_slice(b"snap");
        raw::ioctl(directory(f), BTRFS_SNAPSHOT, &mut argument).map(drop)
    }),
    Row::refused("BEGIN on a reading descriptor", |f| ours(f, 0xF501)),
    Row::refused("COMMIT on a reading descriptor", |f| ours(f, 0xF502)),
    Row::refused("ABORT on a reading descriptor", |f| ours(f, 0xF503)),
    unknown("ABORT on its directory", |f| raw::ioctl(directory(f), 0xF503, &mut []).map(drop)),
    Row::harmless("FS_IOC_GETFLAGS", "it reads", |f| {
        raw::ioctl(&f.reader, GET_FLAGS, &mut raw::words(&[0])).map(drop)
    })
    .or(NOTTY_OR_PERM),
];

fn ours(field: &Field, number: u32) -> Result<()> {
    raw::ioctl(&field.reader, number, &mut []).map(drop)
}
