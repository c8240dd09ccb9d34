//! A file on its way in: written by the one who created it, then closing, then finished.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicI64;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::time::Duration;
use std::time::Instant;

use parking_lot::Condvar;
use parking_lot::Mutex;
use rustix::io::Errno;

use super::meter::Allowance;
use crate::clock::Reading;
use crate::config::Limits;
use crate::digest::Digester;
use crate::error::Error;
use crate::error::Result;
use crate::policy;
use crate::policy::FileState;
use crate::policy::Refusal;
use crate::policy::Request;
use crate::policy::Target;
use crate::policy::limits;
use crate::policy::name::Name;
use crate::store::layout::OpenName;
use crate::sys;

/// After so many bytes the kernel is asked to begin writing them to the disk.
const WRITE_BACK_BYTES: u64 = 8 << 20;

/// A file that is not finished.
#[derive(Debug)]
pub(crate) struct OpenFile {
    pub(crate) id: u64,
    pub(crate) parent: u64,
    pub(crate) name: Name,
    /// The backing file in `open/`.
    pub(crate) file: File,
    bytes: AtomicU64,
    modified_ns: AtomicI64,
    /// The uptime when it was created, and when bytes last came.
    opened_ms: i64,
    written_ms: AtomicI64,
    /// Takes bytes. Changed under the lock of `writing`, read without it: whoever asks for the
    /// state of a file must not wait for its disk.
    is_open: AtomicBool,
    owner: Mutex<Owner>,
    writing: Mutex<Writing>,
    finished: Mutex<Option<Outcome>>,
    finish: Condvar,
}

/// What `chmod` and `chown` set.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Owner {
    pub(crate) mode: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
}

#[derive(Debug)]
struct Writing {
    begun: bool,
    digester: Option<Digester>,
    failed: Option<Failure>,
    allowance: Allowance,
    unsynced: bool,
    written_back: u64,
}

/// Why a file cannot become whole any more.
#[derive(Clone, Copy, Debug)]
enum Failure {
    /// The disk failed.
    Disk(Errno),
    /// A write was over a limit. Whoever does not look at the answers of his writes, as many a
    /// pipeline, must not get a short file sealed.
    Refused(Refusal),
}

impl Failure {
    fn why(self) -> String {
        match self {
            Self::Disk(_) => "the disk failed".to_owned(),
            Self::Refused(refusal) => format!("a write was refused: {refusal}"),
        }
    }
}

/// How a file ended, for those who wait for it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Outcome {
    /// It is sealed.
    Sealed,
    /// It was given up.
    Incomplete,
    /// The disk failed.
    Failed(Errno),
}

/// What asks for the end of a file.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Ending {
    /// The last holder closed it, or died.
    LastClose,
    /// `COMMIT`.
    Commit,
    /// `ABORT`.
    Abort,
    /// The daemon ends.
    Shutdown,
    /// It was open for too long, for this reason.
    Overdue(&'static str),
}

/// What is left to do when a file has stopped taking bytes.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) digester: Option<Digester>,
    /// Why it cannot be sealed.
    pub(crate) give_up: Option<String>,
    /// It ends by `COMMIT`.
    pub(crate) committed: bool,
}

impl OpenFile {
    pub(crate) fn new(
        name: OpenName,
        file: File,
        owner: Owner,
        allowance: Allowance,
        reading: &Reading,
    ) -> Self {
        Self {
            id: name.id,
            parent: name.parent,
            name: name.name,
            file,
            bytes: AtomicU64::new(0),
            modified_ns: AtomicI64::new(reading.system_ns()),
            opened_ms: reading.raw_ms,
            written_ms: AtomicI64::new(reading.raw_ms),
            is_open: AtomicBool::new(true),
            owner: Mutex::new(owner),
            writing: Mutex::new(Writing {
                begun: false,
                digester: Some(Digester::new()),
                failed: None,
                allowance,
                unsynced: false,
                written_back: 0,
            }),
            finished: Mutex::new(None),
            finish: Condvar::new(),
        }
    }

    /// Its name in `open/`.
    pub(crate) fn open_name(&self) -> OpenName {
        OpenName { id: self.id, parent: self.parent, name: self.name.clone() }
    }

    /// Its length in bytes.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Acquire)
    }

    /// Its modification time, nanoseconds since 1970.
    pub(crate) fn modified_ns(&self) -> i64 {
        self.modified_ns.load(Ordering::Acquire)
    }

    /// Mode, owner and group.
    pub(crate) fn owner(&self) -> Owner {
        *self.owner.lock()
    }

    /// Its state as the policy knows it.
    pub(crate) fn file_state(&self, by_writer: bool) -> FileState {
        if self.is_open.load(Ordering::Acquire) {
            FileState::Writing { by_writer }
        } else {
            FileState::Closing
        }
    }

    /// Asks the policy and hands the writing out in one step, so that no seal comes between.
    fn writing(&self, request: Request) -> Result<parking_lot::MutexGuard<'_, Writing>> {
        let writing = self.writing.lock();
        policy::verdict(request, Target::File(self.file_state(true)))?;
        Ok(writing)
    }

    pub(crate) fn write(&self, offset: u64, bytes: &[u8], reading: &Reading) -> Result<usize> {
        let mut writing = self.writing(Request::Write)?;
        writing.usable("write to the file")?;
        let end = offset
            .checked_add(bytes.len() as u64)
            .filter(|end| i64::try_from(*end).is_ok())
            .ok_or_else(|| Error::store("write to the file")(Errno::FBIG))?;
        writing.admit(bytes.len() as u64, end)?;
        writing.unsynced = true;
        if let Err(error) = self.file.write_all_at(bytes, offset) {
            return Err(writing.fail("write to the file", error));
        }
        if let Some(digester) = &mut writing.digester {
            digester.update(offset, bytes);
        }
        self.bytes.fetch_max(end, Ordering::AcqRel);
        self.touch(reading);
        if end >= writing.written_back + WRITE_BACK_BYTES {
            sys::start_writing_back(&self.file, writing.written_back, end - writing.written_back);
            writing.written_back = end;
        }
        Ok(bytes.len())
    }

    pub(crate) fn set_length(&self, bytes: u64, reading: &Reading) -> Result<()> {
        let mut writing = self.writing(Request::SetLength)?;
        writing.usable("set the length of the file")?;
        writing.admit(0, bytes)?;
        writing.unsynced = true;
        if let Err(error) = self.file.set_len(bytes) {
            return Err(writing.fail("set the length of the file", error));
        }
        if bytes != self.bytes()
            && let Some(digester) = &mut writing.digester
        {
            digester.scatter();
        }
        self.bytes.store(bytes, Ordering::Release);
        self.touch(reading);
        Ok(())
    }

    /// Reserves room; without `keep_size` the file becomes at least so long.
    pub(crate) fn allocate(
        &self,
        offset: u64,
        bytes: u64,
        keep_size: bool,
        reading: &Reading,
    ) -> Result<()> {
        let mut writing = self.writing(Request::Allocate)?;
        writing.usable("reserve room for the file")?;
        let flags = if keep_size {
            rustix::fs::FallocateFlags::KEEP_SIZE
        } else {
            rustix::fs::FallocateFlags::empty()
        };
        let end = offset.saturating_add(bytes);
        let growth = writing.allowance.take(bytes, end)?;
        if let Err(errno) = rustix::fs::fallocate(&self.file, flags, offset, bytes) {
            writing.allowance.give_back(growth);
            // Nothing is lost when there is no room; but the file may have grown on the way.
            if let Err(error) = self.file.set_len(self.bytes()) {
                return Err(writing.fail("give the room of the file back", error));
            }
            return Err(Error::store("reserve room for the file")(errno));
        }
        self.written_ms.store(reading.raw_ms, Ordering::Release);
        if !keep_size && end > self.bytes() {
            writing.unsynced = true;
            if let Some(digester) = &mut writing.digester {
                digester.scatter();
            }
            self.bytes.store(end, Ordering::Release);
        }
        Ok(())
    }

    /// Why it has been open for too long, if it has.
    pub(crate) fn overdue(&self, limits: &Limits, uptime_ms: i64) -> Option<&'static str> {
        let open_ms = uptime_ms.saturating_sub(self.opened_ms);
        let idle_ms = uptime_ms.saturating_sub(self.written_ms.load(Ordering::Acquire));
        limits::overdue(limits, open_ms, idle_ms)
    }

    fn touch(&self, reading: &Reading) {
        self.modified_ns.store(reading.system_ns(), Ordering::Release);
        self.written_ms.store(reading.raw_ms, Ordering::Release);
    }

    /// Gives back what room was reserved behind the end of the file. Nobody may write any more.
    pub(crate) fn trim(&self) -> std::io::Result<()> {
        if !self.writing.lock().allowance.reaches_beyond(self.bytes()) {
            return Ok(());
        }
        self.file.set_len(self.file.metadata()?.len())
    }

    /// The catalog counts the file from here on.
    pub(crate) fn is_recorded(&self) {
        self.writing.lock().allowance.is_recorded();
    }

    /// Nobody can write it any more.
    pub(crate) fn is_closed(&self) {
        self.writing.lock().allowance.is_closed();
    }

    /// Sets attributes that will be sealed.
    pub(crate) fn set_attributes(
        &self,
        change: impl FnOnce(&mut Owner),
        modified_ns: Option<i64>,
    ) -> Result<()> {
        let _writing = self.writing(Request::SetAttributes)?;
        change(&mut self.owner.lock());
        if let Some(modified_ns) = modified_ns {
            self.modified_ns.store(modified_ns, Ordering::Release);
        }
        Ok(())
    }

    /// `BEGIN`: from here on only `COMMIT` makes the file whole.
    pub(crate) fn begin(&self) -> Result<()> {
        self.writing(Request::Begin)?.begun = true;
        Ok(())
    }

    /// Makes the bytes so far last, and tells of a failure that happened before.
    pub(crate) fn sync(&self) -> Result<()> {
        {
            let mut writing = self.writing.lock();
            if !self.is_open.load(Ordering::Acquire) {
                return Ok(());
            }
            writing.usable("sync the file")?;
            if !std::mem::take(&mut writing.unsynced) {
                return Ok(());
            }
        }
        // Without the lock: others go on writing, and what they write is synced later.
        self.file.sync_data().map_err(|error| self.writing.lock().fail("sync the file", error))
    }

    /// Whether bytes wait for a sync.
    pub(crate) fn has_unsynced(&self) -> bool {
        let writing = self.writing.lock();
        writing.unsynced && self.is_open.load(Ordering::Acquire)
    }

    /// Stops taking bytes. `None` when it had stopped before: then somebody else finishes it.
    pub(crate) fn end(&self, ending: Ending) -> Option<Ended> {
        let mut writing = self.writing.lock();
        if !self.is_open.swap(false, Ordering::AcqRel) {
            return None;
        }
        let give_up = match ending {
            Ending::Abort => Some("aborted".to_owned()),
            Ending::Shutdown => Some("the daemon ended".to_owned()),
            Ending::Overdue(why) => Some(why.to_owned()),
            Ending::LastClose | Ending::Commit if writing.failed.is_some() => {
                writing.failed.map(Failure::why)
            }
            Ending::LastClose if writing.begun => Some("closed without commit".to_owned()),
            Ending::LastClose | Ending::Commit => None,
        };
        let committed = ending == Ending::Commit;
        Some(Ended { digester: writing.digester.take(), give_up, committed })
    }

    /// Tells those who wait.
    pub(crate) fn finished(&self, outcome: Outcome) {
        *self.finished.lock() = Some(outcome);
        self.finish.notify_all();
    }

    /// Whether its end could not be recorded.
    pub(crate) fn has_failed(&self) -> bool {
        matches!(*self.finished.lock(), Some(Outcome::Failed(_)))
    }

    /// Waits until the file is finished.
    pub(crate) fn wait(&self, longest: Duration) -> Option<Outcome> {
        let deadline = Instant::now() + longest;
        let mut finished = self.finished.lock();
        while finished.is_none() {
            if self.finish.wait_until(&mut finished, deadline).timed_out() {
                break;
            }
        }
        *finished
    }
}

impl Writing {
    /// Takes what is needed to put so many bytes into the file, which then reaches to `end`.
    fn admit(&mut self, bytes: u64, end: u64) -> Result<()> {
        self.allowance.take(bytes, end).map(|_growth| ()).inspect_err(|error| {
            self.failed = Some(if let Error::Refused(refusal) = error {
                Failure::Refused(*refusal)
            } else {
                Failure::Disk(error.errno())
            });
            self.digester = None;
        })
    }

    /// A file whose disk failed once answers the same for ever and is never sealed: a later
    /// success would prove nothing about what was lost.
    fn usable(&self, doing: &'static str) -> Result<()> {
        match self.failed {
            Some(Failure::Disk(errno)) => Err(Error::store(doing)(errno)),
            Some(Failure::Refused(refusal)) => Err(refusal.into()),
            None => Ok(()),
        }
    }

    fn fail(&mut self, doing: &'static str, error: std::io::Error) -> Error {
        self.failed = Some(Failure::Disk(Errno::from_io_error(&error).unwrap_or(Errno::IO)));
        self.digester = None;
        Error::store(doing)(error)
    }
}
