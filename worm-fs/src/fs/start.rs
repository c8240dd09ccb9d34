//! Opening a store to serve it: read the ledger, put right what a crash left, make the classes.

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::sync::mpsc::Receiver;
use std::sync::mpsc::channel;

use parking_lot::Mutex;
use parking_lot::RwLock;

use super::WormFs;
use super::carry::Carried;
use super::carry::Carry;
use super::end::Parts;
use super::end::incomplete;
use super::handles::Handles;
use super::meter::Room;
use super::open_file::Ending;
use super::open_file::Outcome;
use super::state::Doubt;
use super::state::State;
use super::state::Undone;
use crate::catalog::Catalog;
use crate::catalog::DirectoryKind;
use crate::clock::Clock;
use crate::committer::Committer;
use crate::committer::Writer;
use crate::config::ClassRule;
use crate::config::Config;
use crate::config::INCOMPLETE_RETENTION_MS;
use crate::error::Error;
use crate::policy::name::StorePath;
use crate::record::Event;
use crate::refusals::Refusals;
use crate::store::Access;
use crate::store::Ended;
use crate::store::Loaded;
use crate::store::OpenError;
use crate::store::Store;
use crate::store::layout::OpenName;
use crate::store::ledger::append::Appender;
use crate::store::recover;
use crate::store::recover::Repair;

/// What a store needs to be served.
pub struct Options {
    /// The store's directory.
    pub store: PathBuf,
    /// The file of its signing key.
    pub key: PathBuf,
    /// The classes and their rules.
    pub config: Config,
    /// The machine's clocks.
    pub clock: Arc<dyn Clock>,
    /// From how many bytes on a segment of the ledger ends, usually [`SEGMENT_BYTES`]; it is
    /// also never shorter than the newest snapshot.
    pub segment_bytes: u64,
}

/// How long a segment of the ledger is at least: some 200,000 lines, read in a second or two.
pub const SEGMENT_BYTES: u64 = 64 << 20;

impl std::fmt::Debug for Options {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Options").field("store", &self.store).finish_non_exhaustive()
    }
}

/// What is known about the descriptors of a mount that has gone.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Descriptors {
    /// It was unmounted, not aborted, and the kernel has let go of it: all are closed.
    AllClosed,
    /// Somebody may still hold one.
    Unknown,
}

impl WormFs {
    /// Opens a store to serve it, and puts right what a crash left behind.
    ///
    /// # Errors
    /// [`OpenError`]; then nothing was promised and nothing removed.
    pub fn serve(options: Options) -> Result<Arc<Self>, OpenError> {
        let Options { store: path, key, config, clock, segment_bytes } = options;
        let (store, loaded) = Store::open(&path, Access::Serve)?;
        let disk = |doing: &str| {
            let doing = format!("{doing} of {}", path.display());
            move |source| OpenError::Disk { doing, source }
        };
        let signer = store.signer(&key, &loaded.catalog.keys)?;
        let reading = clock.read();
        loaded
            .check_unsigned(&reading)
            .map_err(|what| OpenError::Damaged { path: path.clone(), what })?;
        check_classes(&config, &loaded.catalog)?;
        let Loaded { catalog, end, signed, from, unmade, findings, .. } = loaded;
        let mut ledger = Appender::open(&store.ledger, &end).map_err(disk("open the ledger"))?;
        if let Err(error) = ledger.reserve() {
            tracing::warn!(%error, "no room to reserve for the ledger");
        }
        let open = store.scan_open().map_err(disk("list the open files"))?;
        let data = store.look_at(recover::wanted(&catalog, &open)).map_err(disk("look at data"))?;
        let repairs = recover::plan(&catalog, &open, &data);

        let (_, credit_ms) = catalog.anchor.restart(reading.clone(), &catalog.credits);
        let noted = catalog.anchor.doubt(&reading);
        let unsigned = catalog.seq - signed;
        let mut state = State::new(catalog);
        state.carry = Carry::new(&store, &end, signed).map_err(disk("read the ledger"))?;
        state.doubt(Doubt::Clock, clock.doubt());
        state.doubt(Doubt::Noted, noted);
        state.comparing = true;
        state.next_id = next_id(state.next_id, &open);
        state.find_logs(&data);
        let state = Arc::new(RwLock::new(state));
        let root = store.root.try_clone().map_err(disk("reach the directory"))?;
        let (ended, of_ended) = channel();
        let begun = unmade.map_or(Ok(()), |before| ended.send(before));
        begun.map_err(|error| disk("begin")(std::io::Error::other(error)))?;
        let writer = Writer {
            ledger,
            root,
            signer,
            state: Arc::clone(&state),
            clock: Arc::clone(&clock),
            segment_bytes,
            ended,
        };
        let committer = Committer::start(writer).map_err(disk("start the ledger"))?;
        let at = store.data.try_clone().map_err(disk("reach the data"))?;
        let room = Room::new(at, config.reserve);
        let fs = Self::new(store, state, clock, Some(committer), room);

        let failed = |error: Error| {
            let Error::Store { doing, source } = error else {
                return disk("recover")(std::io::Error::other(error.to_string()));
            };
            disk(doing)(source)
        };
        // Before the new beginning is noted: it says whether what was being removed is gone.
        let left = fs.repair_disk(&repairs);
        let version = env!("CARGO_PKG_VERSION").to_owned();
        let unremoved = u64::try_from(left.len()).unwrap_or(u64::MAX);
        fs.commit(vec![Event::Started { version, reading, credit_ms, unsigned, unremoved }])
            .map_err(failed)?;
        // It is tried again, by this daemon and by every start after it.
        fs.state.write().catalog.removed.retain(|path, _| left.contains(path));
        fs.finish_open(&repairs).map_err(failed)?;
        fs.make_classes(&config).map_err(failed)?;
        fs.watch_limits(fs.now_ms());
        let findings = findings.into_iter().map(|(path, what)| format!("{path}: {what}"));
        for alarm in findings.chain(fs.carried.lock().contradicts(signed)) {
            fs.state.write().alarm(alarm);
        }
        let fs = Arc::new(fs);
        fs.start_background(of_ended, from).map_err(disk("start the background"))?;
        Ok(fs)
    }

    fn start_background(
        self: &Arc<Self>,
        ended: Receiver<Ended>,
        from: Option<u64>,
    ) -> std::io::Result<()> {
        for thread in [self.keep_snapshots(ended, from), self.compare_data()] {
            self.background.lock().push(thread?);
        }
        Ok(())
    }

    /// Opens a store that nobody serves, to show what is in it and change nothing.
    ///
    /// # Errors
    /// [`OpenError`]
    pub fn show(path: &std::path::Path, clock: Arc<dyn Clock>) -> Result<Arc<Self>, OpenError> {
        let (store, loaded) = Store::open(path, Access::Look)?;
        let disk = |doing: &str| {
            let doing = format!("{doing} of {}", path.display());
            move |source| OpenError::Disk { doing, source }
        };
        let open = store.scan_open().map_err(disk("list the open files"))?;
        let Loaded { catalog, end, signed, .. } = loaded;
        let data = store.look_at(recover::wanted(&catalog, &open));
        let data = data.map_err(disk("look at the data"))?;
        let mut state = State::new(catalog);
        state.find_logs(&data);
        state.carry = Carry::new(&store, &end, signed).map_err(disk("read the ledger"))?;
        for (name, _) in open {
            if let Some(decoded) = OpenName::decode(&name)
                && state.catalog.get_file(decoded.id).is_some()
            {
                state.unplaced.insert(decoded.id, name);
            }
        }
        let at = store.data.try_clone().map_err(|source| OpenError::Disk {
            doing: format!("reach the data of {}", path.display()),
            source,
        })?;
        let room = Room::new(at, None);
        Ok(Arc::new(Self::new(store, Arc::new(RwLock::new(state)), clock, None, room)))
    }

    fn new(
        store: Store,
        state: Arc<RwLock<State>>,
        clock: Arc<dyn Clock>,
        committer: Option<Committer>,
        room: Room,
    ) -> Self {
        let carried = Carried::of(&store, &state.read().catalog.keys);
        Self {
            carried: Mutex::new(carried),
            over: Mutex::default(),
            store,
            state,
            handles: Handles::new(),
            clock,
            committer,
            notices: Mutex::new(Vec::new()),
            refusals: Refusals::new(),
            room: Arc::new(room),
            ending: AtomicBool::new(false),
            background: Mutex::new(Vec::new()),
        }
    }

    /// What needs no record: the record is there. Gives what could not be removed.
    fn repair_disk(&self, repairs: &[Repair]) -> HashSet<StorePath> {
        let mut left = HashSet::new();
        for repair in repairs {
            let (path, done) = match repair {
                Repair::MakeDirectory(path) => (path, self.store.make_data_directory(path)),
                Repair::FinishRemoval(path) => (path, self.store.remove_data(path)),
                Repair::RemoveDirectory(path) => (path, self.store.remove_data_directory(path)),
                Repair::Publish { id, from } => {
                    let path = self.state.read().catalog.path(*id);
                    self.place(*id, from, &path);
                    continue;
                }
                Repair::Sync(path) => {
                    if let Err(error) = self.store.sync_data_directory(path) {
                        let what = format!("{path}: what went from it could come back: {error}");
                        self.state.write().alarm(what);
                    }
                    continue;
                }
                Repair::GiveUp { .. } => continue,
                Repair::Forget { from, path } => (path, self.store.forget_open(from, path)),
                Repair::Stray(path) => {
                    self.found_stray(path);
                    continue;
                }
                Repair::StrayOpen(name) => {
                    let name = crate::policy::name::encode(name);
                    self.state.write().alarm(format!("open/{name}: nobody recorded it"));
                    continue;
                }
            };
            if let Err(error) = done {
                let mut state = self.state.write();
                state.strays.insert(path.clone());
                let alarm = format!("{path}: what a crash left could not be put right: {error}");
                state.failed(Undone::Data(path.clone()), alarm);
                if state.catalog.removed.contains_key(path) {
                    left.insert(path.clone());
                }
            }
        }
        left
    }

    /// Files that were being written when the last daemon ended are incomplete.
    fn finish_open(&self, repairs: &[Repair]) -> Result<(), Error> {
        for repair in repairs {
            let Repair::GiveUp { from, bytes } = repair else { continue };
            // After a kill the bytes may be in memory only, and a power cut must not leave the
            // record without them.
            if let Err(error) = self.store.sync_unplaced(&from.encode()) {
                tracing::warn!(id = from.id, %error, "an incomplete file could not be synced");
            }
            let parts = Parts {
                id: from.id,
                parent: from.parent,
                name: &from.name,
                size: *bytes,
                mode: 0o600,
                uid: 0,
                gid: 0,
                mtime_ns: self.system_ns(),
            };
            let why = "the daemon ended while it was written";
            let record = incomplete(&self.state.read().catalog, &parts, why);
            match record {
                Ok((event, path)) => {
                    self.commit_kept(event, INCOMPLETE_RETENTION_MS)?;
                    self.place(from.id, &from.encode(), &path);
                }
                Err(error) => {
                    let name = crate::policy::name::encode(&from.encode());
                    self.state.write().alarm(format!("open/{name}: {error}"));
                }
            }
        }
        Ok(())
    }

    /// Makes new classes and records changed rules. A class that the configuration does not name
    /// any more keeps its files and its last rule.
    fn make_classes(&self, config: &Config) -> Result<(), Error> {
        for (name, rule) in &config.classes {
            let path = StorePath::root().join(name.as_bytes());
            let id = {
                let mut state = self.state.write();
                let found = state.catalog.find(&path);
                let kind = found.and_then(|id| state.catalog.get_directory(id)).map(|d| &d.kind);
                match (found, kind) {
                    (Some(_), Some(DirectoryKind::Class(stands))) if **stands == *rule => None,
                    (Some(id), _) => Some(id),
                    (None, _) => {
                        let id = state.take_id();
                        // The next number is that of its `.incomplete`.
                        state.take_id();
                        Some(id)
                    }
                }
            };
            if let Some(id) = id {
                self.commit(vec![Event::Class { id, path: path.clone(), rule: rule.clone() }])?;
            }
            let inside = path.join(crate::policy::name::INCOMPLETE.as_bytes());
            for path in [&path, &inside] {
                self.store
                    .make_data_directory(path)
                    .map_err(Error::store("make the directory of a class"))?;
            }
        }
        Ok(())
    }

    /// Ends the service: what is closed gets its seal, what is open is incomplete, the clocks
    /// are noted.
    ///
    /// The kernel drops closings that it has not handed over when a mount goes. Where the last
    /// descriptor is known to be closed, what is left is closed, too.
    pub fn shut_down(&self, descriptors: Descriptors) {
        let open: Vec<_> = self.state.read().open.values().cloned().collect();
        let ending = match descriptors {
            Descriptors::AllClosed => Ending::LastClose,
            Descriptors::Unknown => Ending::Shutdown,
        };
        for file in open {
            if self.end(&file, ending).is_none() {
                // Its seal is on its way on another thread.
                let outcome = file.wait(super::xattr::SEAL_WAIT);
                if !matches!(outcome, Some(Outcome::Sealed | Outcome::Incomplete)) {
                    tracing::error!(name = ?file.name, "the seal was not done at the end");
                }
            }
        }
        self.record_all_logs();
        if self.committer.is_some() {
            self.keep_carried();
        }
        if let Some(committer) = &self.committer {
            let reading = self.clock.read();
            if let Err(error) = committer.commit(vec![Event::Clock { reading }.into()]) {
                tracing::error!(%error, "the clocks could not be noted");
            }
            self.ending.store(true, Ordering::Relaxed);
            committer.stop();
        }
        self.end_background();
    }
}

/// The next number to give out, behind those of open files, too.
fn next_id(first: u64, open: &[(Vec<u8>, u64)]) -> u64 {
    let open_ids = open.iter().filter_map(|(name, _)| Some(OpenName::decode(name)?.id));
    open_ids.fold(first, |next, id| next.max(id + 1))
}

/// Whether every class that there is can go on as it is configured.
fn check_classes(config: &Config, catalog: &Catalog) -> Result<(), OpenError> {
    let differs = |(name, rule): &(&String, &ClassRule)| {
        let class = catalog.find(&StorePath::root().join(name.as_bytes()));
        let stands = class.and_then(|class| catalog.class_of(class));
        stands.is_some_and(|(_, stands)| stands.append_only != rule.append_only)
    };
    match config.classes.iter().find(differs) {
        Some((name, _)) => Err(OpenError::Class(name.clone())),
        None => Ok(()),
    }
}
