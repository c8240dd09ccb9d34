//! The backing directory: makes a new one, opens one that is there, and reaches what is in it.
//!
//! It obeys and does not judge: whether something may be done was decided before.

pub(crate) mod create;
pub(crate) mod durable;
pub(crate) mod files;
pub mod layout;
pub mod ledger;
pub mod note;
pub mod recover;

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

use crate::catalog::Catalog;
use crate::catalog::Inconsistent;
use crate::clock::Anchor;
use crate::clock::HOUR_MS;
use crate::clock::Reading;
use crate::clock::rfc3339;
use crate::record::FORMAT;
use ledger::LedgerError;
use note::Head;
use note::NoteError;
use note::StoreSigner;

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
struct StoreJson {
    format: u32,
    store: String,
    key: String,
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
    public: String,
    /// Held for as long as the store is served.
    _lock: Option<File>,
}

/// What a store's ledger amounts to.
#[derive(Debug)]
pub struct Loaded {
    /// What is alive.
    pub catalog: Catalog,
    /// Where the ledger ends on disk.
    pub end: ledger::End,
    /// How far the signed head reaches.
    pub signed: u64,
    /// The newest clock that the signed part of the ledger knows.
    pub signed_anchor: Anchor,
    /// How many of the downtimes credited are in the signed part.
    pub signed_credits: usize,
    /// The latest moment that a line beyond the signed head claims, on the retention clock.
    pub unsigned_ms: Option<i64>,
}

/// How far the unsigned end of a ledger may be ahead of the last signed note of the clocks when
/// the machine was started anew since: the clocks are noted every hour.
const UNSIGNED_MS_MAX: i64 = 2 * HOUR_MS;

impl Loaded {
    /// Whether the lines beyond the signed head can be what a crash left behind. Nobody signed
    /// them, so they are not to be believed about the time: else whoever can write the file
    /// could make everything expire.
    ///
    /// # Errors
    /// One sentence that says what is wrong.
    pub fn check_unsigned(&self, reading: &Reading) -> Result<(), String> {
        let Some(claimed_ms) = self.unsigned_ms else { return Ok(()) };
        let anchor = &self.signed_anchor;
        let latest_ms = if reading.boot == anchor.reading.boot {
            anchor.now(reading)
        } else {
            // A daemon that had just begun may have credited a downtime: no more of it than this
            // start would credit itself.
            let (signed, unsigned) = self.catalog.credits.split_at(self.signed_credits);
            let claimed_ms: i64 = unsigned.iter().map(|credit| credit.credit_ms).sum();
            let (_, credit_ms) = anchor.restart(reading.clone(), signed);
            let most_ms = UNSIGNED_MS_MAX.saturating_add(claimed_ms.min(credit_ms));
            anchor.clock_ms.saturating_add(most_ms)
        };
        if claimed_ms <= latest_ms {
            return Ok(());
        }
        Err(format!(
            "the lines after {} are not signed and claim a time that has not come ({})",
            self.signed,
            rfc3339(claimed_ms)
        ))
    }
}

/// Whether a store is opened to be served or only looked at.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Access {
    /// To serve it: takes the lock, and nobody else can.
    Serve,
    /// To look at it: changes nothing, also while a daemon serves it.
    Look,
}

impl Store {
    /// Opens a store and reads what is alive in it.
    ///
    /// # Errors
    /// [`OpenError`]
    pub fn open(path: &Path, access: Access) -> Result<(Self, Loaded), OpenError> {
        let doing = || format!("open the store {}", path.display());
        let root: OwnedFd = match File::open(path) {
            Ok(root) => root.into(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(OpenError::NotAStore(path.to_owned()));
            }
            Err(error) => return Err(disk(doing())(error)),
        };
        let json = match read_small(&root, layout::STORE_JSON) {
            Ok(json) => json,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(OpenError::NotAStore(path.to_owned()));
            }
            Err(error) => return Err(disk(doing())(error)),
        };
        let json = parse_store_json(path, &json)?;
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
            Access::Look => None,
        };
        let path = path.to_owned();
        let store =
            Self { path, id: json.store, root, open, data, ledger, public: json.key, _lock: lock };
        let loaded = store.load()?;
        Ok((store, loaded))
    }

    /// Reads the ledger once more, for those who look while a daemon writes.
    ///
    /// # Errors
    /// [`OpenError`]
    pub fn load(&self) -> Result<Loaded, OpenError> {
        let damaged = |what: String| OpenError::Damaged { path: self.path.clone(), what };
        let head = match self.head() {
            Ok(head) => head,
            Err(error) => return Err(damaged(format!("head: {error}"))),
        };
        let mut catalog: Option<Catalog> = None;
        let (mut signed_anchor, mut signed_credits, mut unsigned_ms) = (None, 0, None);
        let end = ledger::read(&self.ledger, head.seq, |line, digest| -> Result<(), Stop> {
            let state = match &mut catalog {
                Some(state) => state,
                None => catalog.insert(Catalog::new(&line)?),
            };
            state.apply(&line, digest)?;
            if line.seq == head.seq {
                signed_anchor = Some(state.anchor.clone());
                signed_credits = state.credits.len();
            } else if line.seq > head.seq {
                unsigned_ms = unsigned_ms.max(Some(line.clock_ms));
            }
            if line.seq == head.seq && digest != head.digest {
                return Err(Stop::Head(line.seq));
            }
            Ok(())
        })
        .map_err(|stop| match stop {
            Stop::Ledger(LedgerError::Newer { segment, line, what }) => OpenError::Newer {
                path: self.path.clone(),
                what: format!("{segment} line {line}: {what}"),
            },
            Stop::Ledger(error) => damaged(error.to_string()),
            Stop::Inconsistent(error) => damaged(error.to_string()),
            Stop::Head(seq) => damaged(format!("line {seq} is not the one that was signed")),
        })?;
        let catalog = catalog.ok_or_else(|| damaged("the ledger is empty".to_owned()))?;
        if catalog.store != self.id || catalog.key != self.public {
            return Err(damaged("store.json and the ledger are not of the same store".to_owned()));
        }
        let Some(signed_anchor) = signed_anchor else {
            return Err(damaged(format!(
                "the ledger ends at line {}, but line {} was signed",
                catalog.seq, head.seq
            )));
        };
        Ok(Loaded { catalog, end, signed: head.seq, signed_anchor, signed_credits, unsigned_ms })
    }

    /// The newest signed head, checked with the store's own public key.
    ///
    /// # Errors
    /// When it cannot be read, or the signature is not right.
    pub fn head(&self) -> Result<Head, NoteError> {
        let note = self.signed_head().map_err(|error| NoteError::from(error.to_string()))?;
        let head = Head::verify(&note, &self.public)?;
        if head.store == self.id {
            Ok(head)
        } else {
            Err(NoteError::from(format!("it is that of store {}", head.store)))
        }
    }

    /// The newest head as it was signed.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn signed_head(&self) -> io::Result<String> {
        String::from_utf8(read_small(&self.root, layout::HEAD)?).map_err(io::Error::other)
    }

    /// Reads the store's signing key.
    ///
    /// # Errors
    /// [`OpenError::Key`]
    pub fn signer(&self, path: &Path) -> Result<StoreSigner, OpenError> {
        let fail = |what: String| OpenError::Key { path: path.to_owned(), what };
        let text = std::fs::read_to_string(path)
            .map_err(|error| fail(format!("{error}: give the one of this store with --key")))?;
        let signer =
            StoreSigner::decode(&text, &self.id).map_err(|error| fail(error.to_string()))?;
        if signer.public() == self.public {
            Ok(signer)
        } else {
            Err(fail("it is not the one that signed this store".to_owned()))
        }
    }
}

/// What can stop the reading of a ledger.
enum Stop {
    Ledger(LedgerError),
    Inconsistent(Inconsistent),
    Head(u64),
}

impl From<LedgerError> for Stop {
    fn from(error: LedgerError) -> Self {
        Self::Ledger(error)
    }
}

impl From<Inconsistent> for Stop {
    fn from(error: Inconsistent) -> Self {
        Self::Inconsistent(error)
    }
}

fn parse_store_json(path: &Path, json: &[u8]) -> Result<StoreJson, OpenError> {
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

fn read_small(dir: &OwnedFd, name: &str) -> io::Result<Vec<u8>> {
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
