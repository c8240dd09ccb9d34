//! The directory that backups go into: the mount, or, where that is allowed, a plain one.
//!
//! Both keep the same promise to the rest of the program: a file appears under its name whole or
//! not at all, and never replaces another. The mount does it by `BEGIN` and `COMMIT`, a plain
//! directory by a file in `.incomplete/` that is synced and then renamed without replacing.

mod draft;
mod ioctl;
mod tee;

use std::ffi::OsStr;
use std::io;
use std::io::Write;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;

use jiff::Timestamp;
use rustix::fd::AsFd;
use rustix::fd::OwnedFd;
use rustix::fs::AtFlags;
use rustix::fs::Mode;
use rustix::fs::OFlags;
use rustix::io::Errno;

pub(crate) use self::draft::Draft;
use self::draft::INCOMPLETE;
pub(crate) use self::tee::Tee;
use crate::manifest::beside::ENDINGS;

/// Why the vault could not do something.
#[derive(Debug, thiserror::Error)]
pub enum VaultError {
    /// There is no such class.
    #[error("there is no class {class:?} in {}; there is: {known}", root.display())]
    UnknownClass {
        /// What was asked for.
        class: String,
        /// Where.
        root: PathBuf,
        /// What there is.
        known: String,
    },
    /// The directory protects nothing.
    #[error(
        "{} is not write-once: {why}. Is the mount up? \
         (--allow-plain writes to a directory that protects nothing)",
        path.display()
    )]
    NotWriteOnce {
        /// The directory.
        path: PathBuf,
        /// How we know.
        why: String,
    },
    /// All names tried are taken.
    #[error("no free name in {}: {tried} names were tried", path.display())]
    NoFreeName {
        /// The directory.
        path: PathBuf,
        /// How many.
        tried: usize,
    },
    /// No space left, or the class is at its limit.
    #[error(
        "no space left in {} ({source}): make room or raise the limit of the class, then run again",
        path.display()
    )]
    Full {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Sealed, but for how long?
    #[error(
        "{} was sealed, but the mount does not tell until when it keeps it: {found}. \
         It was left without a manifest. See what is mounted there (`worm status`)",
        path.display()
    )]
    NoPromise {
        /// The file.
        path: PathBuf,
        /// What was there instead.
        found: String,
    },
    /// The mount died under us.
    #[error(
        "could not {doing} {}: the mount is gone ({source}). \
         Mount the store again (`worm mount`), then run again",
        path.display()
    )]
    MountGone {
        /// What was being done.
        doing: &'static str,
        /// To what.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Anything else.
    #[error("could not {doing} {}: {source}", path.display())]
    Io {
        /// What was being done.
        doing: &'static str,
        /// To what.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

impl VaultError {
    /// Says what was being done to what, and tells a full disk and a dead mount from the rest.
    pub(crate) fn io(doing: &'static str, path: PathBuf, source: io::Error) -> Self {
        match Errno::from_io_error(&source) {
            Some(Errno::NOSPC | Errno::DQUOT) => Self::Full { path, source },
            // Requests after the end of the daemon, and those that were under way.
            Some(Errno::NOTCONN | Errno::CONNABORTED) => Self::MountGone { doing, path, source },
            _ => Self::Io { doing, path, source },
        }
    }
}

/// What holds the class.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Kind {
    /// The write-once mount with this store id.
    Worm(String),
    /// A directory that protects nothing.
    Plain,
}

/// The directory of one class.
#[derive(Debug)]
pub(crate) struct Class {
    fd: OwnedFd,
    path: PathBuf,
    kind: Kind,
}

/// What the mount says about a sealed file, and what is plain to see.
#[derive(Debug)]
pub(crate) struct Attributes {
    /// Length.
    pub(crate) bytes: u64,
    /// `user.worm.sha256`; absent on a plain directory.
    pub(crate) sha256: Option<String>,
    /// `user.worm.retain_until`; absent on a plain directory.
    pub(crate) retain_until: Option<Timestamp>,
}

impl Class {
    /// Opens the directory of `class` below `root`, after checking that it is write-once.
    pub(crate) fn open(root: &Path, class: &str, allow_plain: bool) -> Result<Self, VaultError> {
        let root_fd = open_directory(rustix::fs::CWD, root.as_os_str())
            .map_err(|errno| not_write_once(root, format!("it cannot be opened ({errno})")))?;
        let kind = kind_of(&root_fd, root, allow_plain)?;
        let path = root.join(class);
        let fd = open_directory(&root_fd, OsStr::new(class)).map_err(|errno| match errno {
            Errno::NOENT | Errno::NOTDIR => VaultError::UnknownClass {
                class: class.to_owned(),
                root: root.to_owned(),
                known: known_classes(root),
            },
            errno => VaultError::io("open", path.clone(), errno.into()),
        })?;
        if kind_of(&fd, &path, allow_plain)? != kind {
            let why = "it belongs to another file system than the directory above it".to_owned();
            return Err(not_write_once(&path, why));
        }
        let class = Self { fd, path, kind };
        if class.kind == Kind::Plain {
            draft::sweep(&class);
        }
        Ok(class)
    }

    /// The directory of one database in the class. Made if it is not there yet.
    pub(crate) fn folder(&self, name: &str) -> Result<Self, VaultError> {
        let path = self.path.join(name);
        let failed = |doing| {
            let path = path.clone();
            move |errno: Errno| VaultError::io(doing, path, errno.into())
        };
        match rustix::fs::mkdirat(&self.fd, name, Mode::from_raw_mode(0o750)) {
            Ok(()) => rustix::fs::fsync(&self.fd).map_err(failed("sync the directory above"))?,
            Err(Errno::EXIST) => {}
            Err(errno) => return Err(failed("make the directory")(errno)),
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = rustix::fs::openat(&self.fd, name, flags, Mode::empty())
            .map_err(failed("open the directory"))?;
        if kind_of(&fd, &path, self.kind == Kind::Plain)? != self.kind {
            let why = "it belongs to another file system than its class".to_owned();
            return Err(not_write_once(&path, why));
        }
        let folder = Self { fd, path, kind: self.kind.clone() };
        if folder.kind == Kind::Plain {
            draft::sweep(&folder);
        }
        Ok(folder)
    }

    /// What holds it.
    pub(crate) fn kind(&self) -> &Kind {
        &self.kind
    }

    /// Its open directory.
    pub(crate) fn directory(&self) -> &OwnedFd {
        &self.fd
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Writes a whole small file and seals it.
    pub(crate) fn put(self: &Arc<Self>, name: &str, bytes: &[u8]) -> Result<(), VaultError> {
        self.put_as(name, bytes, draft::MODE)
    }

    /// The same for a file that only its owner may read.
    pub(crate) fn put_secret(self: &Arc<Self>, name: &str, bytes: &[u8]) -> Result<(), VaultError> {
        self.put_as(name, bytes, draft::SECRET_MODE)
    }

    fn put_as(self: &Arc<Self>, name: &str, bytes: &[u8], mode: u32) -> Result<(), VaultError> {
        let taken = || VaultError::io("create", self.path.join(name), Errno::EXIST.into());
        let mut draft = Draft::create(self, name, mode)?.ok_or_else(taken)?;
        draft
            .write_all(bytes)
            .map_err(|source| VaultError::io("write", self.path.join(name), source))?;
        draft.seal()
    }

    /// What stands under `name` now. Opens it anew, so it also proves that the name leads there.
    pub(crate) fn attributes(&self, name: &str) -> Result<Attributes, VaultError> {
        let failed = |errno: Errno| VaultError::io("read back", self.path.join(name), errno.into());
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = rustix::fs::openat(&self.fd, name, flags, Mode::empty()).map_err(failed)?;
        let bytes = rustix::fs::fstat(&file).map_err(failed)?.st_size;
        let retain_until = attribute(&file, "user.worm.retain_until").map_err(failed)?;
        Ok(Attributes {
            bytes: u64::try_from(bytes).unwrap_or_default(),
            sha256: attribute(&file, "user.worm.sha256").map_err(failed)?,
            retain_until: promise(&self.kind, retain_until.as_deref())
                .map_err(|found| VaultError::NoPromise { path: self.path.join(name), found })?,
        })
    }

    /// Whether a backup of that name, or a file that would belong to it, is there.
    fn is_taken_with_companions(&self, name: &str) -> Result<bool, VaultError> {
        for suffix in ENDINGS {
            if self.is_taken(&format!("{name}{suffix}"))? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn is_taken(&self, name: &str) -> Result<bool, VaultError> {
        match rustix::fs::statat(&self.fd, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(_) => Ok(true),
            Err(Errno::NOENT) => Ok(false),
            Err(errno) => Err(VaultError::io("look at", self.path.join(name), errno.into())),
        }
    }
}

/// Whether a backup could be called so in a directory, which need not exist yet. Only a look: what
/// cannot be looked at is found out when the file is made.
pub(crate) fn is_free(directory: &Path, name: &str) -> bool {
    let taken = |suffix| directory.join(format!("{name}{suffix}")).symlink_metadata().is_ok();
    !ENDINGS.into_iter().any(taken)
}

/// Opens a directory. A class may be a link on a plain file system; the mount knows none.
fn open_directory(at: impl AsFd, path: &OsStr) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::openat(at, path, flags, Mode::empty())
}

fn kind_of(fd: &OwnedFd, path: &Path, allow_plain: bool) -> Result<Kind, VaultError> {
    match attribute(fd, "user.worm.store") {
        Ok(Some(store)) => Ok(Kind::Worm(store)),
        Ok(None) if allow_plain => Ok(Kind::Plain),
        Ok(None) => Err(not_write_once(path, "it has no user.worm.store".to_owned())),
        Err(errno) => {
            Err(not_write_once(path, format!("user.worm.store cannot be read ({errno})")))
        }
    }
}

fn not_write_once(path: &Path, why: String) -> VaultError {
    VaultError::NotWriteOnce { path: path.to_owned(), why }
}

/// Until when a sealed file is kept. A mount that does not say it has not promised it.
fn promise(kind: &Kind, attribute: Option<&str>) -> Result<Option<Timestamp>, String> {
    match (kind, attribute) {
        (Kind::Plain, _) => Ok(None),
        (Kind::Worm(_), None) => Err("it has no user.worm.retain_until".to_owned()),
        (Kind::Worm(_), Some(text)) => {
            let odd = |_not_a_time| format!("user.worm.retain_until is {text:?}");
            text.parse().map(Some).map_err(odd)
        }
    }
}

/// Reads one attribute; `None` where there is none.
fn attribute(fd: impl AsFd, name: &str) -> Result<Option<String>, Errno> {
    let mut value = [0; 256];
    match rustix::fs::fgetxattr(fd, name, &mut value[..]) {
        Ok(length) => Ok(Some(String::from_utf8_lossy(&value[..length]).into_owned())),
        Err(Errno::NODATA | Errno::OPNOTSUPP) => Ok(None),
        Err(errno) => Err(errno),
    }
}

/// The classes there are: the directories right below the mount, without the hidden ones.
pub(crate) fn classes(root: &Path) -> Result<Vec<String>, VaultError> {
    let failed = |source| VaultError::io("list", root.to_owned(), source);
    let mut names = Vec::new();
    for entry in std::fs::read_dir(root).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if entry.path().is_dir() && !name.starts_with('.') && name != INCOMPLETE {
            names.push(name);
        }
    }
    names.sort();
    Ok(names)
}

/// The store that a mount shows; none for a plain directory.
pub(crate) fn store(root: &Path) -> Result<Option<String>, VaultError> {
    let fd = open_directory(rustix::fs::CWD, root.as_os_str())
        .map_err(|errno| not_write_once(root, format!("it cannot be opened ({errno})")))?;
    match kind_of(&fd, root, true)? {
        Kind::Worm(store) => Ok(Some(store)),
        Kind::Plain => Ok(None),
    }
}

/// Until when the mount keeps a file, as far as it says so.
pub(crate) fn retain_until(path: &Path) -> Option<Timestamp> {
    let mut value = [0; 256];
    let length = rustix::fs::lgetxattr(path, "user.worm.retain_until", &mut value[..]).ok()?;
    std::str::from_utf8(&value[..length]).ok()?.parse().ok()
}

/// The classes there are, for a message.
fn known_classes(root: &Path) -> String {
    match classes(root) {
        Ok(names) if !names.is_empty() => names.join(", "),
        Ok(_) | Err(_) => "none".to_owned(),
    }
}

#[cfg(test)]
mod tests;
