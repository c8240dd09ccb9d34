//! Logs: making one, opening it to append, appending, and recording how far it has grown.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::Attributes;
use super::Caller;
use super::HandleId;
use super::Place;
use super::WormFs;
use super::attributes::attributes;
use super::handles::Handle;
use super::handles::LogHandle;
use super::log_file::LogFile;
use super::meter::Allowance;
use super::meter::Share;
use super::state::OPEN_FILES_MAX;
use super::state::State;
use crate::error::Error;
use crate::error::Result;
use crate::policy;
use crate::policy::FileState;
use crate::policy::Refusal;
use crate::policy::Request;
use crate::policy::Retention;
use crate::policy::Target;
use crate::policy::limits::Amounts;
use crate::policy::limits::Limit;
use crate::policy::name::Name;
use crate::policy::name::StorePath;
use crate::record::Digest;
use crate::record::Event;
use crate::store::files::Found;

/// How a file is to be opened.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Opening {
    /// To read it.
    Read,
    /// To write at its end.
    Append,
    /// In any other way that could change it.
    Write,
}

impl Opening {
    fn request(self) -> Request {
        match self {
            Self::Read => Request::OpenToRead,
            Self::Append => Request::OpenToAppend,
            Self::Write => Request::OpenToWrite,
        }
    }
}

impl State {
    /// Takes note of every log, as long as it is on the disk: what came after the last record is
    /// not lost.
    pub(super) fn find_logs(&mut self, data: &BTreeMap<StorePath, Found>) {
        let logs = self.catalog.files().filter(|(id, _)| self.catalog.is_log(*id));
        let mut damaged = Vec::new();
        let logs = logs.map(|(id, file)| {
            let bytes = match data.get(&self.catalog.path(id)) {
                Some(Found::File(bytes)) => *bytes,
                Some(Found::Directory | Found::Other) | None => 0,
            };
            if bytes < file.size {
                damaged.push((id, format!("its data has {bytes} bytes, not {}", file.size)));
            }
            (id, Arc::new(LogFile::new(id, bytes, file.size, file.mtime_ns)))
        });
        self.logs = logs.collect();
        for (id, what) in damaged {
            self.damage(id, &what);
        }
    }
}

impl WormFs {
    /// The place where the logs of an append-only class are served. `None`: there is no such
    /// class.
    #[must_use]
    pub fn logs(&self, class: &str) -> Option<Place> {
        let state = self.state.read();
        let class = state.catalog.find(&StorePath::root().join(class.as_bytes()))?;
        let (id, rule) = state.catalog.class_of(class)?;
        (id == class && rule.append_only).then_some(Place::Logs { class })
    }

    /// Makes a log and opens it, to append or to read. When it returns `Ok`, the log is there for
    /// good.
    ///
    /// # Errors
    /// What the policy or the disk says.
    pub fn create_log(
        &self,
        place: Place,
        caller: Caller,
        (parent, name): (u64, &[u8]),
        mode: u32,
        opening: Opening,
    ) -> Result<(Attributes, HandleId)> {
        self.writable(place)?;
        let name = Name::new(name)?;
        let (now_ms, look) = (self.now_ms(), self.room.look()?);
        let (id, path, kept_ms, _until_recorded) = {
            let mut state = self.state.write();
            state.accepting()?;
            attributes(&state, place, parent)?;
            state.directory(parent)?;
            policy::verdict(Request::Create, state.target(parent, now_ms)?)?;
            let new = Target::File(FileState::Appending(Retention::Running));
            policy::verdict(opening.request(), new)?;
            state.check_new(parent, &name)?;
            look.admit()?;
            state.disk_bytes = look.disk_bytes;
            let share = state.share(parent, Amounts::FILE, now_ms)?;
            let (_, rule) = state.catalog.class_of(parent).ok_or(Error::NotFound)?;
            let kept_ms = rule.retention;
            let path = state.catalog.path(parent).join(name.as_bytes());
            (state.reserve(parent, &name)?, path, kept_ms, share)
        };
        if let Err(error) = self.clear_way(parent, &name) {
            self.state.write().pending.remove(&(parent, name));
            return Err(error);
        }
        // No set-user-id and the like: the kernel would want to take those away at each write.
        let (mode, uid, gid) = (mode & 0o777, caller.uid, caller.gid);
        let made = Event::LogMade { id, path, mode, uid, gid, retain_until_ms: 0 };
        let log = Arc::new(LogFile::new(id, 0, 0, self.system_ns()));
        self.state.write().logs.insert(id, Arc::clone(&log));
        let made = self.commit_kept(made, kept_ms);
        {
            let mut state = self.state.write();
            state.pending.remove(&(parent, name));
            if made.is_err() {
                state.logs.remove(&id);
            }
        }
        made?;
        let handle = self.open_log(log, opening == Opening::Append)?;
        Ok((self.attributes(place, id)?, handle))
    }

    /// Opens a log to append. The first time since the start that takes as long as reading it.
    ///
    /// # Errors
    /// [`Refusal`] for everything that is not a log, or what the disk says.
    pub fn open_to_append(&self, place: Place, id: u64) -> Result<HandleId> {
        self.allowed(place, id, Request::OpenToAppend)?;
        let log = self.state.read().logs.get(&id).cloned().ok_or(Error::NotFound)?;
        self.open_log(log, true)
    }

    /// Opens a log that there is.
    pub(super) fn open_log(&self, log: Arc<LogFile>, appends: bool) -> Result<HandleId> {
        let file = self.log_data(&log)?;
        if !appends {
            return self.handles.add_reader(Handle::Log(LogHandle { log, file, appends: None }));
        }
        self.prove(&log, &file)?;
        let appends = Some(Arc::new(self.count_open(&log)?));
        Ok(self.handles.add(Handle::Log(LogHandle { log, file, appends })))
    }

    /// Counts one more descriptor that writes, and lets the log grow within its class's limits.
    fn count_open(&self, log: &LogFile) -> Result<Share> {
        let now_ms = self.now_ms();
        let (open, growth) = {
            let mut state = self.state.write();
            let open = Amounts::NONE.with(Limit::OpenFiles, 1);
            let open = state.share(log.id, open, now_ms)?;
            if state.open_files() > OPEN_FILES_MAX {
                return Err(Refusal::TooManyOpen.into());
            }
            (open, state.share(log.id, Amounts::NONE, now_ms)?)
        };
        log.allow(|bytes| Allowance::of_log(growth, Arc::clone(&self.room), bytes));
        Ok(open)
    }

    /// The data of a log. It is made when nothing was ever written to it: the record of a log
    /// comes before its data.
    fn log_data(&self, log: &LogFile) -> Result<Arc<std::fs::File>> {
        let (path, covered, _) = self.log_record(log.id)?;
        let shown_only = self.committer.is_none();
        let mut lengths = None;
        let opened = log.file(|| {
            let file = if shown_only {
                self.store.open_data(&path)?
            } else {
                self.store.open_log(&path, log.bytes() == 0)?
            };
            // Whoever has it open makes it longer; here nobody has.
            lengths = Some((file.metadata()?.len(), log.bytes()));
            Ok(file)
        });
        let damaged = |what: String| {
            self.state.write().damage(log.id, &what);
            Error::Corrupt(format!("{path}: {what}"))
        };
        let file = match opened {
            Ok(file) => file,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                // It may have been removed between the two looks.
                self.log_record(log.id)?;
                return Err(damaged("its data is gone".to_owned()));
            }
            Err(error) => return Err(Error::store("open the data of the log")(error)),
        };
        match lengths {
            // A write that could not be taken back leaves more than counts.
            Some((found, bytes)) if found > bytes && log.is_broken() => Ok(file),
            Some((found, bytes)) if found != bytes || found < covered => {
                let bytes = bytes.max(covered);
                Err(damaged(format!("its data has {found} bytes, not {bytes}")))
            }
            Some(_) | None => Ok(file),
        }
    }

    /// Where a log is, and what the ledger covers of it.
    fn log_record(&self, id: u64) -> Result<(StorePath, u64, Digest)> {
        let state = self.state.read();
        let file = state.catalog.get_file(id).ok_or(Error::NotFound)?;
        let sha256 = file.sha256.ok_or(Error::NotFound)?;
        Ok((state.catalog.path(id), file.size, sha256))
    }

    /// Compares what was found at the start with the ledger, once.
    fn prove(&self, log: &LogFile, file: &std::fs::File) -> Result<()> {
        let (_, covered, sha256) = self.log_record(log.id)?;
        log.prove(file, covered, sha256).inspect_err(|error| {
            self.state.write().damage(log.id, &error.to_string());
        })
    }

    /// Adds bytes at the end of a log, all of them or none.
    pub(super) fn append(&self, handle: &LogHandle, bytes: &[u8]) -> Result<usize> {
        if handle.appends.is_none() {
            return Err(Error::BadHandle);
        }
        let now_ms = self.now_ms();
        {
            let state = self.state.read();
            state.accepting()?;
            policy::verdict(Request::Write, state.target(handle.log.id, now_ms)?)?;
        }
        handle.log.append(&handle.file, bytes, self.system_ns())
    }

    /// Records how far logs have grown, of which a record is due. To be called a few times in a
    /// second. Returns how many records were made.
    pub fn record_logs(&self) -> usize {
        let raw_ms = self.clock.read().raw_ms;
        self.record_those(|log| log.is_due(raw_ms))
    }

    /// As [`Self::record_logs`], due or not.
    pub(super) fn record_all_logs(&self) {
        self.record_those(|log| log.is_due(i64::MAX));
    }

    fn record_those(&self, due: impl Fn(&LogFile) -> bool) -> usize {
        if self.committer.is_none() {
            return 0;
        }
        let logs: Vec<Arc<LogFile>> = {
            let state = self.state.read();
            state.logs.values().filter(|log| due(log)).cloned().collect()
        };
        let mut made = 0;
        for log in logs {
            match self.record_log(&log) {
                Ok(true) => made += 1,
                Ok(false) => {}
                Err(error) => tracing::error!(id = log.id, %error, "the log was not recorded"),
            }
        }
        made
    }

    /// Covers all bytes of a log by a line of the ledger. `Ok(false)`: they were covered.
    fn record_log(&self, log: &LogFile) -> Result<bool> {
        let _one_at_a_time = log.recording.lock();
        let file = self.log_data(log)?;
        self.prove(log, &file)?;
        let Some((size, sha256)) = log.uncovered() else { return Ok(false) };
        log.sync(&file)?;
        let (path, _, _) = self.log_record(log.id)?;
        let kept_ms = {
            let state = self.state.read();
            let (_, rule) = state.catalog.class_of(log.id).ok_or(Error::NotFound)?;
            rule.retention
        };
        let raw_ms = self.clock.read().raw_ms;
        let id = log.id;
        let appended = Event::Appended { id, path, size, sha256, retain_until_ms: 0 };
        self.commit_kept(appended, kept_ms)?;
        log.recorded(size, raw_ms);
        Ok(true)
    }

    /// Closes those logs of a group that is to be removed. `false`: not all of one is recorded.
    pub(super) fn close_logs(&self, group: &[u64]) -> bool {
        let logs: Vec<Arc<LogFile>> = {
            let state = self.state.read();
            group.iter().filter_map(|id| state.logs.get(id)).cloned().collect()
        };
        logs.iter().all(|log| log.leave())
    }
}
