//! The few steps that make something last: create exclusively, sync, publish without replacing,
//! sync the directory. With `ledger.rs`, the place where the store's disk is written.

use std::fs::File;
use std::io;
use std::io::Write as _;
use std::os::fd::AsFd;
use std::os::fd::OwnedFd;

use rustix::fs::Mode;
use rustix::fs::OFlags;
use rustix::fs::RenameFlags;
use rustix::fs::ResolveFlags;
use rustix::io::Errno;

/// Opens a directory below `dir`, without following anything out of it.
///
/// # Errors
/// What the disk says.
pub(crate) fn open_directory(dir: impl AsFd, path: &[u8]) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
    let path = if path.is_empty() { b"." } else { path };
    Ok(rustix::fs::openat2(dir, path, flags, Mode::empty(), resolve)?)
}

/// Opens a file below `dir` for reading, without following anything out of it.
///
/// # Errors
/// What the disk says.
pub(crate) fn open_file(dir: impl AsFd, path: &[u8]) -> io::Result<File> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
    let open = |flags| rustix::fs::openat2(&dir, path, flags, Mode::empty(), resolve);
    // Not touching the access time needs ownership, which a copy of a store may not give.
    let opened = match open(flags | OFlags::NOATIME) {
        Err(Errno::PERM) => open(flags),
        other => other,
    };
    match opened {
        // It was found here and moved elsewhere before the kernel had looked whether it is
        // beneath: openat2(2), RESOLVE_BENEATH.
        Err(Errno::XDEV) => Err(Errno::NOENT.into()),
        opened => Ok(opened?.into()),
    }
}

/// Opens a file below `dir` for reading and writing, without following anything out of it.
///
/// # Errors
/// What the disk says.
pub(crate) fn open_to_write(dir: impl AsFd, path: &[u8]) -> io::Result<File> {
    let flags = OFlags::RDWR | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
    Ok(rustix::fs::openat2(dir, path, flags, Mode::empty(), resolve)?.into())
}

/// Creates a file that must not exist yet, readable by its owner only.
///
/// # Errors
/// What the disk says; `EEXIST` when it exists.
pub(crate) fn create_new(dir: impl AsFd, name: &[u8]) -> io::Result<File> {
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(rustix::fs::openat(dir, name, flags, Mode::RUSR | Mode::WUSR)?.into())
}

/// Makes a directory that may exist already, and syncs the one it is in.
///
/// # Errors
/// What the disk says.
pub(crate) fn make_directory(dir: impl AsFd, name: &[u8]) -> io::Result<()> {
    match rustix::fs::mkdirat(&dir, name, Mode::RWXU) {
        Ok(()) | Err(Errno::EXIST) => sync_directory(dir),
        Err(errno) => Err(errno.into()),
    }
}

/// Makes the names in a directory last.
///
/// # Errors
/// What the disk says.
pub(crate) fn sync_directory(dir: impl AsFd) -> io::Result<()> {
    Ok(rustix::fs::fsync(dir)?)
}

/// Gives a file its final name, for good. Fails with `EEXIST` if the name is taken: this never
/// replaces. When it returns `Ok`, the name lasts.
///
/// # Errors
/// What the disk says. After an error of the sync the name may be in place all the same.
pub(crate) fn publish(from: (impl AsFd, &[u8]), to: (impl AsFd, &[u8])) -> io::Result<()> {
    let (from_dir, from_name) = from;
    let (to_dir, to_name) = to;
    match rustix::fs::renameat_with(&from_dir, from_name, &to_dir, to_name, RenameFlags::NOREPLACE)
    {
        Ok(()) => {}
        // File systems without RENAME_NOREPLACE (NFS): a link cannot replace either.
        Err(Errno::INVAL | Errno::NOSYS) => {
            rustix::fs::linkat(
                &from_dir,
                from_name,
                &to_dir,
                to_name,
                rustix::fs::AtFlags::empty(),
            )?;
            rustix::fs::unlinkat(&from_dir, from_name, rustix::fs::AtFlags::empty())?;
        }
        Err(errno) => return Err(errno.into()),
    }
    sync_directory(to_dir)
}

/// Puts `bytes` in the place of a small file, so that a power cut leaves the old or the new.
///
/// The spare file that it writes first stays and is used again, so that this works on a full
/// disk too.
///
/// # Errors
/// What the disk says.
pub(crate) fn replace(dir: impl AsFd, name: &str, spare: &str, bytes: &[u8]) -> io::Result<()> {
    let file = open_spare(&dir, spare)?;
    replace_by(dir, (name, spare), file, bytes)
}

/// Opens the spare file of [`replace_by`], which is made when it is not there.
///
/// # Errors
/// What the disk says.
pub(crate) fn open_spare(dir: impl AsFd, spare: &str) -> io::Result<File> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mode = Mode::RUSR | Mode::WUSR | Mode::RGRP | Mode::ROTH;
    Ok(rustix::fs::openat(dir, spare, flags, mode)?.into())
}

/// As [`replace`], with the spare file opened before.
///
/// # Errors
/// What the disk says.
pub(crate) fn replace_by(
    dir: impl AsFd,
    (name, spare): (&str, &str),
    mut file: File,
    bytes: &[u8],
) -> io::Result<()> {
    file.write_all(bytes)?;
    file.set_len(bytes.len() as u64)?;
    file.sync_data()?;
    let exchange = |flags| rustix::fs::renameat_with(&dir, spare, &dir, name, flags);
    match exchange(RenameFlags::EXCHANGE) {
        Ok(()) => {}
        Err(Errno::NOENT | Errno::INVAL | Errno::NOSYS) => {
            rustix::fs::renameat(&dir, spare, &dir, name)?;
        }
        Err(errno) => return Err(errno.into()),
    }
    sync_directory(dir)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn directory() -> (tempfile::TempDir, OwnedFd) {
        let dir = tempfile::tempdir().unwrap();
        let fd = File::open(dir.path()).unwrap().into();
        (dir, fd)
    }

    #[test]
    fn publish_never_replaces() {
        let (dir, fd) = directory();
        create_new(&fd, b"a").unwrap().write_all(b"a").unwrap();
        create_new(&fd, b"b").unwrap().write_all(b"b").unwrap();
        let taken = publish((&fd, b"a"), (&fd, b"b")).unwrap_err();
        assert_eq!(taken.kind(), io::ErrorKind::AlreadyExists);
        publish((&fd, b"a"), (&fd, b"c")).unwrap();
        assert_eq!(std::fs::read(dir.path().join("b")).unwrap(), b"b");
        assert_eq!(std::fs::read(dir.path().join("c")).unwrap(), b"a");
        assert!(!dir.path().join("a").exists());
    }

    #[test]
    fn replace_leaves_the_new_bytes_whatever_the_length() {
        let (dir, fd) = directory();
        for bytes in [&b"a long first text"[..], b"short", b"", b"again"] {
            replace(&fd, "head", "head.spare", bytes).unwrap();
            assert_eq!(std::fs::read(dir.path().join("head")).unwrap(), bytes);
        }
    }

    #[test]
    fn nothing_leads_out_of_the_directory() {
        let (dir, fd) = directory();
        std::os::unix::fs::symlink("/etc", dir.path().join("out")).unwrap();
        assert!(open_file(&fd, b"out/passwd").is_err());
        assert!(open_file(&fd, b"../etc/passwd").is_err());
        assert!(open_file(&fd, b"/etc/passwd").is_err());
        assert!(open_directory(&fd, b"out").is_err());
    }
}
