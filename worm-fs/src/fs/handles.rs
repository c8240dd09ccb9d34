//! What is open: a number for each descriptor that the kernel holds.

use std::collections::HashMap;
use std::fs::File;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;

use parking_lot::RwLock;

use super::carry::Text;
use super::log_file::LogFile;
use super::meter::Share;
use super::open_file::OpenFile;
use super::read::Entry;
use crate::error::Error;
use crate::error::Result;

/// The number of an open file or directory.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct HandleId(pub u64);

/// What a handle stands for.
#[derive(Clone, Debug)]
pub(crate) enum Handle {
    /// The descriptor that created the file.
    Writer(Arc<OpenFile>),
    /// Reads a file that is not finished.
    Watcher(Arc<OpenFile>),
    /// Reads a finished file.
    Reader(Arc<File>),
    /// Reads a small file of `.worm`, as it was when it was opened.
    Text(Arc<Text>),
    /// Reads a segment of the ledger, by its number.
    Segment(Arc<File>, u64),
    /// Reads a log, or appends to it.
    Log(LogHandle),
    /// Lists a directory as it was when it was opened.
    Directory(Arc<Vec<Entry>>),
}

/// A log that somebody has open.
#[derive(Clone, Debug)]
pub(crate) struct LogHandle {
    pub(crate) log: Arc<LogFile>,
    pub(crate) file: Arc<File>,
    /// It was opened to append, and counts as a file that is open for writing.
    pub(crate) appends: Option<Arc<Share>>,
}

/// All handles.
#[derive(Debug)]
pub(crate) struct Handles {
    most: usize,
    next: AtomicU64,
    open: RwLock<HashMap<u64, Handle>>,
}

/// The most handles that may be open, however many descriptors this process may have.
const HANDLES_MAX: u64 = 1 << 16;
/// Descriptors that readers leave for what is written, and for the store itself.
const DESCRIPTORS_KEPT: u64 = super::OPEN_FILES_MAX + 256;

impl Handles {
    /// As many as this process may have descriptors, less those that writing needs: whoever
    /// only reads must not stop the store.
    pub(crate) fn new() -> Self {
        let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
        let most = limit.unwrap_or(u64::MAX).saturating_sub(DESCRIPTORS_KEPT);
        let most = usize::try_from(most.clamp(64, HANDLES_MAX)).unwrap_or(64);
        Self { most, next: AtomicU64::new(0), open: RwLock::default() }
    }

    /// Adds a handle that reads or lists, unless there are too many.
    pub(crate) fn add_reader(&self, handle: Handle) -> Result<HandleId> {
        if self.open.read().len() >= self.most {
            return Err(Error::store("open it")(rustix::io::Errno::NFILE));
        }
        Ok(self.add(handle))
    }

    pub(crate) fn add(&self, handle: Handle) -> HandleId {
        let number = self.next.fetch_add(1, Ordering::Relaxed) + 1;
        self.open.write().insert(number, handle);
        HandleId(number)
    }

    pub(crate) fn get(&self, id: HandleId) -> Result<Handle> {
        self.open.read().get(&id.0).cloned().ok_or(Error::BadHandle)
    }

    pub(crate) fn remove(&self, id: HandleId) -> Result<Handle> {
        self.open.write().remove(&id.0).ok_or(Error::BadHandle)
    }

    /// Whether nothing is open.
    pub(crate) fn is_empty(&self) -> bool {
        self.open.read().is_empty()
    }

    /// The file that this handle created.
    pub(crate) fn writer(&self, id: HandleId) -> Result<Arc<OpenFile>> {
        match self.get(id)? {
            Handle::Writer(open) => Ok(open),
            Handle::Watcher(_)
            | Handle::Reader(_)
            | Handle::Log(_)
            | Handle::Text(_)
            | Handle::Segment(..)
            | Handle::Directory(_) => Err(Error::BadHandle),
        }
    }
}
