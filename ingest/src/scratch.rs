//! Scratch directories: room for files that a program must have as files, gone with who made them.
//!
//! Each is a directory of its own, 0700 and locked. Whoever makes one sweeps away what the dead left:
//! the system frees the lock of a process that ends in any way.

use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::path::PathBuf;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering;

use rustix::fs::CWD;
use rustix::fs::FlockOperation;
use rustix::fs::Mode;
use rustix::fs::OFlags;
use rustix::io::Errno;

/// How the names of ours begin.
const PREFIX: &str = ".worm-scratch-";
/// So many names are tried.
const TRIES: u32 = 100;
/// `TMPFS_MAGIC` and `RAMFS_MAGIC` of statfs(2).
const IN_MEMORY: [u64; 2] = [0x0102_1994, 0x8584_58f6];

/// A directory that is gone when this is dropped.
#[derive(Debug)]
pub struct Scratch {
    path: PathBuf,
    /// Holds the lock.
    _fd: OwnedFd,
}

impl Scratch {
    /// Makes one below `root`, which must exist, and removes those that nobody holds any more.
    ///
    /// # Errors
    /// What the system said.
    pub fn make(root: &Path) -> io::Result<Self> {
        static MADE: AtomicU32 = AtomicU32::new(0);
        sweep(root);
        for _ in 0..TRIES {
            let number = MADE.fetch_add(1, Ordering::Relaxed);
            let path = root.join(format!("{PREFIX}{}-{number}", std::process::id()));
            match rustix::fs::mkdir(&path, Mode::RWXU) {
                Ok(()) => {}
                Err(Errno::EXIST) => continue,
                Err(errno) => return Err(errno.into()),
            }
            // Somebody's sweep may have been there first, and taken it for a dead one's.
            if let Ok(fd) = lock(&path) {
                return Ok(Self { path, _fd: fd });
            }
        }
        Err(Errno::EXIST.into())
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Bytes in it now, as far as they can be counted: programs are at work in it.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        bytes(&self.path)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.path) {
            tracing::warn!(path = %self.path.display(), %error, "a scratch directory is left");
        }
    }
}

/// Whether what is written to `directory` stays in memory.
///
/// # Errors
/// What the system said.
pub fn is_in_memory(directory: &Path) -> io::Result<bool> {
    let kind = rustix::fs::statfs(directory)?.f_type;
    // A number of 32 bits that some machines hold in a signed word.
    Ok(IN_MEMORY.contains(&(kind.cast_unsigned() & u64::from(u32::MAX))))
}

fn lock(path: &Path) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let fd = rustix::fs::openat(CWD, path, flags, Mode::empty())?;
    rustix::fs::flock(&fd, FlockOperation::NonBlockingLockExclusive)?;
    Ok(fd)
}

/// Removes what the dead left. Never fails anybody.
fn sweep(root: &Path) {
    for entry in std::fs::read_dir(root).into_iter().flatten().flatten() {
        if !entry.file_name().to_string_lossy().starts_with(PREFIX) {
            continue;
        }
        let path = entry.path();
        let Ok(_held) = lock(&path) else { continue };
        if std::fs::remove_dir_all(&path).is_ok() {
            tracing::info!(path = %path.display(), "removed what a killed run had left");
        }
    }
}

fn bytes(directory: &Path) -> u64 {
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    let sizes = entries.map(|entry| match entry.metadata() {
        Ok(found) if found.is_dir() => bytes(&entry.path()),
        Ok(found) => found.len(),
        Err(_gone) => 0,
    });
    sizes.sum()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn put(path: &Path) {
        use std::io::Write;
        std::fs::File::create_new(path).unwrap().write_all(b"secret").unwrap();
    }

    #[test]
    fn it_is_private_counted_and_gone_when_dropped() {
        let root = tempfile::tempdir().unwrap();
        let scratch = Scratch::make(root.path()).unwrap();
        assert_eq!(std::fs::metadata(scratch.path()).unwrap().permissions().mode() & 0o777, 0o700);
        std::fs::create_dir(scratch.path().join("below")).unwrap();
        put(&scratch.path().join("below/file"));
        assert_eq!(scratch.bytes(), 6);
        drop(scratch);
        assert_eq!(std::fs::read_dir(root.path()).unwrap().count(), 0);
    }

    #[test]
    fn what_the_dead_left_is_swept_and_nothing_else() {
        let root = tempfile::tempdir().unwrap();
        let alive = Scratch::make(root.path()).unwrap();
        for name in [".worm-scratch-1-0", "notes"] {
            std::fs::create_dir(root.path().join(name)).unwrap();
            put(&root.path().join(name).join("file"));
        }
        let second = Scratch::make(root.path()).unwrap();
        let left = std::fs::read_dir(root.path()).unwrap().count();
        assert_eq!(left, 3, "both of ours, and the stranger's");
        assert!(alive.path().exists() && root.path().join("notes/file").exists());
        drop(second);
    }

    #[test]
    fn memory_is_told_from_disks() {
        assert!(is_in_memory(Path::new("/dev/shm")).unwrap());
        assert!(!is_in_memory(Path::new("/proc")).unwrap());
        assert!(is_in_memory(Path::new("/nonexistent")).is_err());
    }
}
