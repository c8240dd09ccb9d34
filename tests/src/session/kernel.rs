//! What the kernel answers before it asks a file system, for the session without a kernel.
//!
//! | call | when | errno |
//! |---|---|---|
//! | `open` | `O_CREAT` and `O_EXCL`, and the name is taken | `EEXIST` |
//! | `open` | a directory, with `O_CREAT` or to write | `EISDIR` |
//! | `open` | `O_TMPFILE`, which no file system has to offer | `EOPNOTSUPP` |
//! | `open` | `O_DIRECTORY` of a file | `ENOTDIR` |
//! | `write`, `fallocate` | the descriptor is for reading only | `EBADF` |
//! | `ftruncate` | the descriptor is for reading only | `EINVAL` |
//! | `fallocate` | a mode that FUSE does not know (collapse, insert, unshare), or a hole that may move the end | `EOPNOTSUPP` |
//! | `fallocate` | nothing is to be reserved | `EINVAL` |
//! | `mkdir`, `mknod`, `symlink`, `link` | the name is taken | `EEXIST` |
//! | `link` | of a directory | `EPERM` |
//! | `rename` | onto itself | success, and nothing is done |
//! | `rename` | `RENAME_NOREPLACE`, and the name is taken | `EEXIST` |
//! | `rename` | `RENAME_EXCHANGE`, and there is nothing to exchange with | `ENOENT` |
//! | `rename` | a directory onto a file, a file onto a directory | `ENOTDIR`, `EISDIR` |

use rustix::fs::FallocateFlags;
use rustix::fs::OFlags;
use rustix::fs::RenameFlags;
use rustix::io::Errno;
use worm_fs::fs::Attributes;
use worm_fs::fs::Kind;
use worm_fs::fs::Opening;

use super::Result;

/// Whether a descriptor with these flags writes.
pub(super) fn is_writable(flags: OFlags) -> bool {
    flags.intersects(OFlags::WRONLY | OFlags::RDWR)
}

/// Whether an open with these flags could change the file.
fn opens_to_write(flags: OFlags) -> bool {
    is_writable(flags) || flags.contains(OFlags::TRUNC)
}

/// How a file system is asked to open.
pub(super) fn opening(flags: OFlags) -> Opening {
    if !opens_to_write(flags) {
        Opening::Read
    } else if flags.contains(OFlags::APPEND) && !flags.contains(OFlags::TRUNC) {
        Opening::Append
    } else {
        Opening::Write
    }
}

/// Before `open` of something that is there.
pub(super) fn open(found: &Attributes, flags: OFlags) -> Result<()> {
    if flags.contains(OFlags::TMPFILE) {
        return Err(Errno::OPNOTSUPP);
    }
    if flags.contains(OFlags::CREATE | OFlags::EXCL) {
        return Err(Errno::EXIST);
    }
    match found.kind {
        Kind::Directory if flags.contains(OFlags::CREATE) || opens_to_write(flags) => {
            Err(Errno::ISDIR)
        }
        Kind::File if flags.contains(OFlags::DIRECTORY) => Err(Errno::NOTDIR),
        Kind::Directory | Kind::File => Ok(()),
    }
}

/// Before `fallocate`.
pub(super) fn fallocate(flags: OFlags, mode: FallocateFlags, length: u64) -> Result<()> {
    let known = FallocateFlags::KEEP_SIZE | FallocateFlags::PUNCH_HOLE | FallocateFlags::ZERO_RANGE;
    if length == 0 {
        return Err(Errno::INVAL);
    }
    let hole_that_moves_the_end =
        mode.contains(FallocateFlags::PUNCH_HOLE) && !mode.contains(FallocateFlags::KEEP_SIZE);
    if hole_that_moves_the_end {
        return Err(Errno::OPNOTSUPP);
    }
    if !is_writable(flags) {
        return Err(Errno::BADF);
    }
    if !known.contains(mode) {
        return Err(Errno::OPNOTSUPP);
    }
    Ok(())
}

/// Before something new gets a name.
pub(super) fn make(found: &Result<Attributes>) -> Result<()> {
    match found {
        Ok(_) => Err(Errno::EXIST),
        Err(Errno::NOENT) => Ok(()),
        Err(errno) => Err(*errno),
    }
}

/// Before `rename`. `Ok(false)`: all is done.
pub(super) fn rename(
    from: &Attributes,
    to: &Result<Attributes>,
    flags: RenameFlags,
) -> Result<bool> {
    match to {
        Ok(_) if flags.contains(RenameFlags::NOREPLACE) => Err(Errno::EXIST),
        Ok(to) if to.id == from.id => Ok(false),
        Ok(_) if flags.contains(RenameFlags::EXCHANGE) => Ok(true),
        Ok(to) => match (from.kind, to.kind) {
            (Kind::Directory, Kind::File) => Err(Errno::NOTDIR),
            (Kind::File, Kind::Directory) => Err(Errno::ISDIR),
            (Kind::File, Kind::File) | (Kind::Directory, Kind::Directory) => Ok(true),
        },
        Err(Errno::NOENT) if !flags.contains(RenameFlags::EXCHANGE) => Ok(true),
        Err(errno) => Err(*errno),
    }
}
