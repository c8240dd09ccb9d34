//! A file on its way in: created, written, and then either sealed or gone.

use std::fs::File;
use std::io;
use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;

use rustix::fs::AtFlags;
use rustix::fs::Dir;
use rustix::fs::FlockOperation;
use rustix::fs::Mode;
use rustix::fs::OFlags;
use rustix::fs::RenameFlags;
use rustix::io::Errno;

use super::Class;
use super::Kind;
use super::VaultError;
use super::ioctl;
use crate::name::BackupName;

/// Where a plain directory keeps files that are not whole; the mount has one of that name too.
pub(super) const INCOMPLETE: &str = ".incomplete";
/// What may be read by those who carry backups away.
pub(super) const MODE: u32 = 0o640;
/// What may be read by nobody else: passwords stand in it, as the server keeps them.
pub(super) const SECRET_MODE: u32 = 0o600;

/// A file that is not whole yet. Dropped without [`Draft::seal`] it never will be.
#[derive(Debug)]
pub(crate) struct Draft {
    class: Arc<Class>,
    name: String,
    file: File,
    sealed: bool,
}

impl Draft {
    /// Starts a file. `None`: the name is taken.
    pub(super) fn create(
        class: &Arc<Class>,
        name: &str,
        mode: u32,
    ) -> Result<Option<Self>, VaultError> {
        let failed =
            |doing| move |errno: Errno| VaultError::io(doing, class.path.join(name), errno.into());
        let at = match class.kind {
            Kind::Worm(_) => name.to_owned(),
            Kind::Plain => {
                match rustix::fs::mkdirat(&class.fd, INCOMPLETE, Mode::RWXU) {
                    Ok(()) | Err(Errno::EXIST) => {}
                    Err(errno) => return Err(failed("make a directory for")(errno)),
                }
                staging(name)
            }
        };
        let flags =
            OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = match rustix::fs::openat(&class.fd, at, flags, Mode::from_raw_mode(mode)) {
            Ok(fd) => File::from(fd),
            Err(Errno::EXIST) => return Ok(None),
            Err(errno) => return Err(failed("create")(errno)),
        };
        let draft = Self { class: Arc::clone(class), name: name.to_owned(), file, sealed: false };
        match class.kind {
            Kind::Worm(_) => ioctl::begin(&draft.file).map_err(|errno| {
                let why = format!("it does not understand BEGIN ({errno})");
                VaultError::NotWriteOnce { path: class.path.clone(), why }
            })?,
            Kind::Plain => {
                // Tells a sweep that somebody is still at it.
                rustix::fs::flock(&draft.file, FlockOperation::NonBlockingLockExclusive)
                    .map_err(failed("lock"))?;
                // Looked at only now: whoever publishes this name had the staging name before us.
                if class.is_taken(name)? {
                    return Ok(None);
                }
            }
        }
        Ok(Some(draft))
    }

    /// The name that it will have.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// The same on a disk that is always full.
    #[cfg(test)]
    pub(super) fn broken(mut self) -> Self {
        self.file = File::options().write(true).open("/dev/full").unwrap();
        self
    }

    /// Where it will be.
    pub(crate) fn path(&self) -> PathBuf {
        self.class.path.join(&self.name)
    }

    /// Makes it whole: when this returns, the file is there for good under its name.
    ///
    /// After an error nobody knows whether it is; without a manifest it is no backup either way.
    pub(crate) fn seal(mut self) -> Result<(), VaultError> {
        let class = Arc::clone(&self.class);
        let path = self.path();
        match class.kind {
            Kind::Worm(_) => ioctl::commit(&self.file)
                .map_err(|errno| VaultError::io("seal", path, errno.into()))?,
            Kind::Plain => {
                self.file
                    .sync_all()
                    .map_err(|source| VaultError::io("sync", path.clone(), source))?;
                publish(&class, &self.name)
                    .and_then(|()| rustix::fs::fsync(&class.fd))
                    .map_err(|errno| VaultError::io("publish", path, errno.into()))?;
            }
        }
        self.sealed = true;
        Ok(())
    }
}

impl Write for Draft {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        if self.sealed {
            return;
        }
        let gone = match self.class.kind {
            Kind::Worm(_) => ioctl::abort(&self.file),
            Kind::Plain => {
                rustix::fs::unlinkat(&self.class.fd, staging(&self.name), AtFlags::empty())
            }
        };
        // Closing has the same effect on the mount, and a sweep on a plain directory.
        if let Err(errno) = gone {
            tracing::debug!(name = self.name, %errno, "an unfinished file could not be put away");
        }
    }
}

fn staging(name: &str) -> String {
    format!("{INCOMPLETE}/{name}")
}

/// Gives a synced file its name without replacing anything.
fn publish(class: &Class, name: &str) -> Result<(), Errno> {
    let (fd, staging) = (&class.fd, staging(name));
    match rustix::fs::renameat_with(fd, &staging, fd, name, RenameFlags::NOREPLACE) {
        // Some network file systems cannot do it in one step.
        Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => {
            rustix::fs::linkat(fd, &staging, fd, name, AtFlags::empty())?;
            rustix::fs::unlinkat(fd, &staging, AtFlags::empty())
        }
        result => result,
    }
}

/// Removes what runs that were killed left in a plain directory. Never fails a backup.
pub(super) fn sweep(class: &Class) {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let open =
        |name: &str, extra| rustix::fs::openat(&class.fd, name, flags | extra, Mode::empty());
    let Ok(entries) = open(INCOMPLETE, OFlags::DIRECTORY).and_then(|fd| Dir::read_from(&fd)) else {
        return;
    };
    for entry in entries.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        // Only what could be ours: a stranger's file is not ours to remove.
        if BackupName::of_file(&name).is_none() {
            continue;
        }
        let path = staging(&name);
        let Ok(file) = open(&path, OFlags::empty()) else { continue };
        let dead = rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive).is_ok();
        if dead && rustix::fs::unlinkat(&class.fd, &path, AtFlags::empty()).is_ok() {
            tracing::info!(name, "removed what a killed run had left");
        }
    }
}
