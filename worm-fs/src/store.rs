//! The backing directory: makes a new one, opens one that is there, and reaches what is in it.
//!
//! It obeys and does not judge: whether something may be done was decided before.

pub(crate) mod create;
pub(crate) mod durable;
pub(crate) mod files;
pub(crate) mod key;
pub mod layout;
pub mod ledger;
pub(crate) mod load;
pub mod note;
pub mod pages;
pub mod recover;
pub(crate) mod snapshot;

use std::fs::File;
use std::io;
use std::io::Read as _;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::path::PathBuf;

use rustix::fs::FlockOperation;
use rustix::fs::Mode;
use rustix::fs::OFlags;
use rustix::io::Errno;
use serde::Deserialize;
use serde::Serialize;

use crate::record::FORMAT;
pub use load::Ended;
pub use load::Loaded;
use note::NoteError;
use note::SignedHead;

/// The largest `store.json`, head or key file that is read.
const SMALL_FILE_BYTES_MAX: u64 = 64 * 1024;

/// How often, and with what pause, a taken lock is tried again.
const LOCK_TRIES: u32 = 5;
/// See [`LOCK_TRIES`].
const LOCK_PAUSE: std::time::Duration = std::time::Duration::from_millis(20);

/// Why a store cannot be made or opened. Each says what to do.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The disk failed.
    #[error("cannot {doing}: {source}")]
    Disk {
        /// What was being done.
        doing: String,
        /// What the disk said.
        source: io::Error,
    },
    /// There is no store.
    #[error("{0} is not a store: it has no store.json")]
    NotAStore(PathBuf),
    /// There is something else.
    #[error("{path} is not a store and not empty ({found} is in it): choose another directory")]
    NotEmpty {
        /// The directory.
        path: PathBuf,
        /// Something in it.
        found: String,
    },
    /// Another daemon serves it.
    #[error("{0} is served by another daemon: end that one with worm umount first")]
    Busy(PathBuf),
    /// The format is newer than this version.
    #[error("{path} was written by a newer version: {what}")]
    Newer {
        /// The store.
        path: PathBuf,
        /// What shows it.
        what: String,
    },
    /// The store is not what it should be.
    #[error(
        "{path} is damaged: {what}; nothing was changed; run worm verify {path} and restore what it names from a mirror"
    )]
    Damaged {
        /// The store.
        path: PathBuf,
        /// What is wrong.
        what: String,
    },
    /// The configuration wants of a class what it cannot become.
    #[error(
        "class {0}: append_only is settled when a class is made: name a new class in the configuration"
    )]
    Class(String),
    /// An earlier head cannot be compared with.
    #[error("{name}: {what}: give heads of this store, as they were carried away")]
    Witness {
        /// The file that it was read from.
        name: String,
        /// What is wrong with it.
        what: String,
    },
    /// The signing key is not there or not the right one.
    #[error("signing key {path}: {what}")]
    Key {
        /// The key file.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
    },
}

/// Says what was being done when the disk failed.
fn disk<E: Into<io::Error>>(doing: impl Into<String>) -> impl FnOnce(E) -> OpenError {
    let doing = doing.into();
    move |source| OpenError::Disk { doing, source: source.into() }
}

/// `store.json`.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct StoreJson {
    format: u32,
    pub(crate) store: String,
    pub(crate) key: String,
}

/// An open store.
#[derive(Debug)]
pub struct Store {
    /// Where it is, as it was given.
    pub path: PathBuf,
    /// Its id.
    pub id: String,
    pub(crate) root: OwnedFd,
    pub(crate) open: OwnedFd,
    pub(crate) data: OwnedFd,
    pub(crate) ledger: OwnedFd,
    /// Absent in a store that no version with snapshots has served yet.
    pub(crate) snapshot: Option<OwnedFd>,
    access: Access,
    /// The public key in `store.json`, a C2SP verifier key.
    first_key: String,
    /// Held for as long as the store is served.
    _lock: Option<File>,
}

/// Whether a store is opened to be served or only looked at.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Access {
    /// To serve it: takes the lock, and nobody else can.
    Serve,
    /// To look at it: changes nothing, also while a daemon serves it.
    Look,
    /// To check it: as to look at it, but the ledger is read from its first line, whatever
    /// snapshots there are, and they are compared with it.
    Check,
}

impl Store {
    /// Opens a store and reads what is alive in it.
    ///
    /// # Errors
    /// [`OpenError`]
    pub fn open(path: &Path, access: Access) -> Result<(Self, Loaded), OpenError> {
        let doing = || format!("open the store {}", path.display());
        let (root, json) = read_store_json(path)?;
        let open = |name: &str| {
            durable::open_directory(&root, name.as_bytes()).map_err(|error| OpenError::Damaged {
                path: path.to_owned(),
                what: format!("{name}/ cannot be opened: {error}"),
            })
        };
        let (open, data, ledger) =
            (open(layout::OPEN)?, open(layout::DATA)?, open(layout::LEDGER)?);
        let lock = match access {
            Access::Serve => Some(take_lock(path, &root)?),
            Access::Look | Access::Check => None,
        };
        if access == Access::Serve {
            durable::make_directory(&root, layout::SNAPSHOT.as_bytes()).map_err(disk(doing()))?;
        }
        let snapshot = match durable::open_directory(&root, layout::SNAPSHOT.as_bytes()) {
            Ok(snapshot) => Some(snapshot),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(disk(doing())(error)),
        };
        let (path, id, first_key) = (path.to_owned(), json.store, json.key);
        let store =
            Self { path, id, root, open, data, ledger, snapshot, access, first_key, _lock: lock };
        let loaded = store.load()?;
        Ok((store, loaded))
    }

    /// The id of the store in a directory, without reading its ledger.
    ///
    /// # Errors
    /// [`OpenError`]
    pub fn id_of(path: &Path) -> Result<String, OpenError> {
        Ok(read_store_json(path)?.1.store)
    }

    /// The disk that it is on.
    ///
    /// # Errors
    /// What the disk says.
    pub fn disk(&self) -> io::Result<rustix::fs::StatVfs> {
        Ok(rustix::fs::fstatvfs(&self.data)?)
    }

    /// What the newest head claims. By whose key it must be signed depends on the line that it
    /// names: see [`Keys::verify`].
    ///
    /// [`Keys::verify`]: crate::record::Keys::verify
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn claimed_head(&self) -> Result<SignedHead, NoteError> {
        let note = self.signed_head().map_err(|error| NoteError::from(error.to_string()))?;
        SignedHead::read(&note)
    }

    /// The newest head as it was signed.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn signed_head(&self) -> io::Result<String> {
        String::from_utf8(read_small(&self.root, layout::HEAD)?).map_err(io::Error::other)
    }

    /// The newest head that was read through a view, as it was signed, and what it claims; `None`
    /// when none was.
    ///
    /// # Errors
    /// When it cannot be read.
    pub(crate) fn carried(&self) -> Result<Option<(String, SignedHead)>, NoteError> {
        let said = |error: io::Error| NoteError::from(error.to_string());
        let note = match read_small(&self.root, layout::CARRIED) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            read => String::from_utf8(read.map_err(said)?).map_err(io::Error::other),
        };
        let note = note.map_err(said)?;
        let head = SignedHead::read(&note)?;
        Ok(Some((note, head)))
    }

    /// Keeps a head that was read through a view, for good.
    ///
    /// # Errors
    /// What the disk says.
    pub(crate) fn keep_carried(&self, note: &[u8]) -> io::Result<()> {
        durable::replace(&self.root, layout::CARRIED, layout::CARRIED_SPARE, note)
    }

    /// `store.json` as it is on the disk.
    pub(crate) fn read_json(&self) -> io::Result<Vec<u8>> {
        read_small(&self.root, layout::STORE_JSON)
    }

    /// When the head was written, on the system clock.
    pub(crate) fn head_changed_ms(&self) -> io::Result<i64> {
        let stat = rustix::fs::statat(&self.root, layout::HEAD, rustix::fs::AtFlags::empty())?;
        Ok(stat.st_mtime.saturating_mul(1000))
    }

    /// Opens a segment of the ledger for reading.
    pub(crate) fn open_segment(&self, number: u64) -> io::Result<File> {
        durable::open_file(&self.ledger, layout::segment(number).as_bytes())
    }
}

/// The directory of a store, and what it says it is.
fn read_store_json(path: &Path) -> Result<(OwnedFd, StoreJson), OpenError> {
    let fail = |error: io::Error| {
        if error.kind() == io::ErrorKind::NotFound {
            OpenError::NotAStore(path.to_owned())
        } else {
            disk(format!("open the store {}", path.display()))(error)
        }
    };
    let root: OwnedFd = File::open(path).map_err(fail)?.into();
    let json = read_small(&root, layout::STORE_JSON).map_err(fail)?;
    let json = parse_store_json(path, &json)?;
    Ok((root, json))
}

pub(crate) fn parse_store_json(path: &Path, json: &[u8]) -> Result<StoreJson, OpenError> {
    #[derive(Deserialize)]
    struct Version {
        format: u32,
    }
    let damaged = |error: serde_json::Error| OpenError::Damaged {
        path: path.to_owned(),
        what: format!("store.json: {error}"),
    };
    let Version { format } = serde_json::from_slice(json).map_err(damaged)?;
    if format > FORMAT {
        let what =
            format!("its format is {format}, this version knows {FORMAT}: use the newer version");
        return Err(OpenError::Newer { path: path.to_owned(), what });
    }
    serde_json::from_slice(json).map_err(damaged)
}

pub(crate) fn read_small(dir: &OwnedFd, name: &str) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    durable::open_file(dir, name.as_bytes())?.take(SMALL_FILE_BYTES_MAX).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn take_lock(path: &Path, root: &OwnedFd) -> Result<File, OpenError> {
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = rustix::fs::openat(root, layout::LOCK, flags, Mode::RUSR | Mode::WUSR)
        .map_err(disk(format!("lock the store {}", path.display())))?;
    // Somebody who only asks holds the lock for a moment.
    for _ in 0..LOCK_TRIES {
        match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(file.into()),
            Err(Errno::WOULDBLOCK) => std::thread::sleep(LOCK_PAUSE),
            Err(errno) => return Err(disk(format!("lock the store {}", path.display()))(errno)),
        }
    }
    Err(OpenError::Busy(path.to_owned()))
}

/// Whether a daemon serves the store at this moment.
#[must_use]
pub fn is_served(path: &Path) -> bool {
    let Ok(lock) = File::open(path.join(layout::LOCK)) else { return false };
    let asked = rustix::fs::flock(&lock, FlockOperation::NonBlockingLockShared);
    matches!(asked, Err(Errno::WOULDBLOCK))
}
