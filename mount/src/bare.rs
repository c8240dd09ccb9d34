//! The bare directory beneath all that is mounted on it: whether it is empty, and its immutable
//! flag (`chattr +i`, see `FS_IOC_SETFLAGS` in ioctl_iflags(2)).

use std::os::fd::AsFd;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::CWD;
use rustix::fs::IFlags;
use rustix::fs::Mode;
use rustix::fs::OFlags;
use rustix::io::Errno;
use rustix::mount::OpenTreeFlags;

/// Opens the directory itself, whatever is mounted on it.
///
/// What is mounted on a directory is not in a copy of the mount that the directory is in.
pub(crate) fn open(path: &Path) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
        return rustix::fs::open(path, flags, Mode::empty());
    };
    let copy = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    let above = rustix::mount::open_tree(CWD, parent, copy)?;
    rustix::fs::openat(&above, name, flags, Mode::empty())
}

/// Whether nothing is in it.
pub(crate) fn is_empty(directory: &OwnedFd) -> Result<bool, Errno> {
    for entry in rustix::fs::Dir::read_from(directory)? {
        let entry = entry?;
        if !matches!(entry.file_name().to_bytes(), b"." | b"..") {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Whether it is immutable.
pub(crate) fn is_locked(directory: impl AsFd) -> bool {
    rustix::fs::ioctl_getflags(directory).is_ok_and(|flags| flags.contains(IFlags::IMMUTABLE))
}

/// Makes it immutable: from then on not even root makes anything in it.
///
/// # Errors
/// `EOPNOTSUPP` or `ENOTTY` where the file system has no such flag, `EPERM` without
/// `CAP_LINUX_IMMUTABLE`.
pub(crate) fn lock(directory: &OwnedFd) -> Result<(), Errno> {
    let flags = rustix::fs::ioctl_getflags(directory)?;
    if flags.contains(IFlags::IMMUTABLE) {
        return Ok(());
    }
    rustix::fs::ioctl_setflags(directory, flags | IFlags::IMMUTABLE)
}

/// Makes it an ordinary directory again.
///
/// # Errors
/// `EPERM` without `CAP_LINUX_IMMUTABLE`. A file system without the flag is no error.
pub(crate) fn unlock(directory: &OwnedFd) -> Result<(), Errno> {
    match rustix::fs::ioctl_getflags(directory) {
        Ok(flags) if flags.contains(IFlags::IMMUTABLE) => {
            rustix::fs::ioctl_setflags(directory, flags - IFlags::IMMUTABLE)
        }
        Ok(_) | Err(_) => Ok(()),
    }
}
