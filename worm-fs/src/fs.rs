//! The file system without FUSE: its requests, in our own words. Everything that it does can be
//! tried without a mount.
//!
//! Each request finds what is meant, asks [`crate::policy::verdict`], and lets the store act.
//! The question and the reservation that follows from it happen under one lock.

pub(crate) mod admin;
pub(crate) mod attributes;
pub(crate) mod carry;
pub(crate) mod compare;
pub(crate) mod end;
pub(crate) mod expire;
pub(crate) mod handles;
pub(crate) mod limits;
pub(crate) mod log_file;
pub(crate) mod logs;
pub(crate) mod look;
pub(crate) mod meter;
pub(crate) mod namespace;
pub(crate) mod open_file;
pub(crate) mod read;
pub(crate) mod rotate;
pub(crate) mod scrub;
pub(crate) mod snapshots;
pub(crate) mod start;
pub(crate) mod state;
pub(crate) mod write;
pub(crate) mod xattr;

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::mpsc::Receiver;
use std::sync::mpsc::Sender;
use std::sync::mpsc::channel;
use std::thread::JoinHandle;

use parking_lot::Mutex;
use parking_lot::RwLock;

pub use attributes::Attributes;
pub use attributes::Kind;
pub use attributes::Life;
pub use handles::HandleId;
pub use limits::ClassUsage;
pub use limits::LimitUsage;
pub use logs::Opening;
pub use read::Content;
pub use read::Entry;
pub use rotate::RotateError;
pub use rotate::Rotated;
pub use rotate::rotate_key;
pub use scrub::Rest;
pub use start::Descriptors;
pub use start::Options;
pub use start::SEGMENT_BYTES;
pub use state::OPEN_FILES_MAX;
pub use write::AttributeChange;
pub use write::Control;
pub use write::Finish;

use crate::catalog::ROOT;
use crate::clock::Clock;
use crate::committer::Committer;
use crate::committer::Draft;
use crate::error::Error;
use crate::error::Result;
use crate::policy::Refusal;
use crate::policy::name::Name;
use crate::policy::name::StorePath;
use crate::record::Event;
use crate::refusals::RefusalCount;
use crate::refusals::Refusals;
use crate::refusals::Refused;
use crate::store::Store;
use carry::Carried;
use handles::Handles;
use meter::Room;
use state::State;

/// Who asks.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Caller {
    /// User.
    pub uid: u32,
    /// Group.
    pub gid: u32,
}

/// A request as the log names it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Asked<'a> {
    /// Its name in FUSE.
    pub request: &'static str,
    /// The file or directory that it is asked of.
    pub of: u64,
    /// What is meant in that directory; empty when the directory or file itself is.
    pub name: &'a [u8],
    /// User.
    pub uid: u32,
    /// Process; 0 when the daemon cannot see it.
    pub pid: u32,
}

impl Asked<'_> {
    /// The same, of a name in the directory.
    #[must_use]
    pub fn named(self, name: &[u8]) -> Asked<'_> {
        let Self { request, of, uid, pid, .. } = self;
        Asked { request, of, name, uid, pid }
    }
}

/// Through which mount somebody asks.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Place {
    /// The mount that takes new files.
    Active,
    /// The read-only view: finished whole files and logs, nothing else.
    View {
        /// The group that may read in it.
        group: u32,
    },
    /// The logs of an append-only class, whose directory is the root here.
    Logs {
        /// The number of that directory.
        class: u64,
    },
}

impl Place {
    /// The file or directory that has this number here.
    #[must_use]
    pub fn node(self, number: u64) -> u64 {
        match self {
            Self::Logs { class } if number == ROOT => class,
            Self::Active | Self::View { .. } | Self::Logs { .. } => number,
        }
    }

    /// The number that a file or directory has here.
    #[must_use]
    pub fn number(self, node: u64) -> u64 {
        match self {
            Self::Logs { class } if node == class => ROOT,
            Self::Active | Self::View { .. } | Self::Logs { .. } => node,
        }
    }
}

/// Something that the kernel may still remember otherwise.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Notice {
    /// A file or directory is gone.
    Gone {
        /// Where it was.
        parent: u64,
        /// What it was called.
        name: Name,
        /// Its number.
        id: u64,
    },
}

/// A served store.
pub struct WormFs {
    store: Store,
    state: Arc<RwLock<State>>,
    handles: Handles,
    clock: Arc<dyn Clock>,
    /// Absent when the store is only shown.
    committer: Option<Committer>,
    notices: Mutex<Vec<Sender<Notice>>>,
    refusals: Refusals,
    /// What is left of the disk.
    room: Arc<Room>,
    /// Set when what runs in the background should stop.
    ending: AtomicBool,
    background: Mutex<Vec<JoinHandle<()>>>,
    /// The newest head that was read through a view.
    carried: Mutex<Carried>,
    /// Groups that were found to be over, and are not removed yet.
    over: Mutex<VecDeque<Vec<u64>>>,
}

impl std::fmt::Debug for WormFs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("WormFs").field("store", &self.store).finish_non_exhaustive()
    }
}

impl WormFs {
    /// The store's id.
    #[must_use]
    pub fn store_id(&self) -> &str {
        &self.store.id
    }

    /// What somebody should look at.
    #[must_use]
    pub fn alarms(&self) -> Vec<String> {
        self.state.read().alarms()
    }

    /// Whether nobody has anything open, and nothing is on its way into the store.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.handles.is_empty() && self.state.read().open.is_empty()
    }

    /// How many requests were refused since the start.
    #[must_use]
    pub fn refusals(&self) -> u64 {
        self.refusals.total()
    }

    /// How many requests were refused since the start, by request and reason.
    #[must_use]
    pub fn refusal_counts(&self) -> Vec<RefusalCount> {
        self.refusals.counts()
    }

    /// Tells from now on what the kernel should forget.
    pub fn notices(&self) -> Receiver<Notice> {
        let (sender, receiver) = channel();
        self.notices.lock().push(sender);
        receiver
    }

    fn notify(&self, notice: &Notice) {
        self.notices.lock().retain(|sender| sender.send(notice.clone()).is_ok());
    }

    /// The retention clock.
    fn now_ms(&self) -> i64 {
        let reading = self.clock.read();
        self.state.read().catalog.anchor.now(&reading)
    }

    /// By how much the system clock is ahead of the retention clock, in milliseconds. Added to
    /// an end on the retention clock it gives the moment at which that comes to pass.
    fn lag_ms(&self) -> i64 {
        let reading = self.clock.read();
        let now = self.state.read().catalog.anchor.now(&reading);
        reading.system_ms.saturating_sub(now)
    }

    /// The system clock, nanoseconds since 1970.
    #[must_use]
    pub fn system_ns(&self) -> i64 {
        self.clock.read().system_ns()
    }

    fn commit(&self, events: Vec<Event>) -> Result<()> {
        self.commit_drafts(events.into_iter().map(Draft::from).collect())
    }

    /// Records the end of a file that is kept from that moment on.
    fn commit_kept(&self, event: Event, kept_ms: i64) -> Result<()> {
        self.commit_drafts(vec![Draft { event, kept_ms: Some(kept_ms), signer: None }])
    }

    fn commit_drafts(&self, drafts: Vec<Draft>) -> Result<()> {
        match &self.committer {
            Some(committer) => committer.commit(drafts),
            None => Err(Refusal::ReadOnlyView.into()),
        }
    }

    /// Every change starts here: the view takes none.
    fn writable(&self, place: Place) -> Result<()> {
        match place {
            Place::Active | Place::Logs { .. } if self.committer.is_some() => {
                self.state.read().accepting()
            }
            Place::Active | Place::Logs { .. } | Place::View { .. } => {
                Err(Refusal::ReadOnlyView.into())
            }
        }
    }

    /// Counts and logs a failed request, once. The only way out of a request with a failure.
    pub fn failed(&self, asked: Asked, error: &Error) {
        let request = asked.request;
        match error {
            // Programs ask for these to find out what there is: nobody tried to change anything.
            Error::Refused(Refusal::Unsupported | Refusal::NoSuchIoctl) => {
                tracing::debug!(request, %error, "not supported");
            }
            Error::Refused(refusal) => {
                let count = self.refusals.count(request, *refusal);
                if self.refusals.may_log(self.clock.read().raw_ms) {
                    let path = self.path_of(asked);
                    let (uid, pid, refusal) = (asked.uid, asked.pid, *refusal);
                    self.refusals.log(Refused { request, path, uid, pid, refusal, count });
                }
            }
            Error::Store { .. } | Error::Corrupt(_) | Error::Stopped(_) => {
                tracing::error!(request, %error, "failed");
            }
            Error::NotFound
            | Error::NotADirectory
            | Error::IsADirectory
            | Error::BadHandle
            | Error::NoAttribute
            | Error::NotYet => tracing::debug!(request, %error, "failed"),
        }
    }

    /// Where somebody asked for something, also where nothing is.
    fn path_of(&self, asked: Asked) -> StorePath {
        let state = self.state.read();
        let path = match state.open.get(&asked.of) {
            Some(open) => state.catalog.path(open.parent).join(open.name.as_bytes()),
            None => state.catalog.path(asked.of),
        };
        if asked.name.is_empty() { path } else { path.join(asked.name) }
    }
}
