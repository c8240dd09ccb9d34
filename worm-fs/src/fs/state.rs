//! What the daemon knows: the catalog, and what is on its way into it.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::collections::HashMap;
use std::collections::HashSet;
use std::sync::Arc;

use super::carry::Carry;
use super::carry::Item;
use super::log_file::LogFile;
use super::meter::Meter;
use super::meter::Share;
use super::open_file::OpenFile;
use crate::catalog::Catalog;
use crate::catalog::Directory;
use crate::catalog::DirectoryKind;
use crate::catalog::Node;
use crate::catalog::ROOT;
use crate::error::Error;
use crate::error::Result;
use crate::policy::FileState;
use crate::policy::Refusal;
use crate::policy::Retention;
use crate::policy::Target;
use crate::policy::limits::Amounts;
use crate::policy::limits::Limit;
use crate::policy::name::Name;
use crate::policy::name::PATH_BYTES_MAX;
use crate::policy::name::StorePath;

/// How many files may be open for writing at a time.
pub const OPEN_FILES_MAX: u64 = 1024;

/// All that is known. One lock guards it; nothing waits for a disk while holding that.
#[derive(Debug)]
pub(crate) struct State {
    /// What the ledger says.
    pub(crate) catalog: Catalog,
    /// The next number to give out.
    pub(crate) next_id: u64,
    /// Names that are being made: files being written, directories on their way to the ledger.
    pub(crate) pending: BTreeMap<(u64, Name), u64>,
    /// Files that are not finished.
    pub(crate) open: HashMap<u64, Arc<OpenFile>>,
    /// Every log, open or not: how long it is.
    pub(crate) logs: HashMap<u64, Arc<LogFile>>,
    /// What is being removed.
    pub(crate) leaving: HashSet<u64>,
    /// Names of what is being removed: they stay taken until the data is gone.
    pub(crate) leaving_names: HashSet<(u64, Name)>,
    /// Names in `data/` that nobody recorded, by path. They stay taken.
    pub(crate) strays: BTreeSet<StorePath>,
    /// Finished files whose data still stands in `open/`, under this name.
    pub(crate) unplaced: HashMap<u64, Vec<u8>>,
    /// What each class has of what is limited, by the number of its directory.
    meters: HashMap<u64, Arc<Meter>>,
    /// The size of the disk when it was last asked.
    pub(crate) disk_bytes: u64,
    /// What somebody should look at, until a restart.
    alarms: Vec<String>,
    /// What could not be done and is tried again.
    undone: BTreeMap<Undone, String>,
    /// Why nothing expires for now.
    pub(crate) doubts: BTreeMap<Doubt, String>,
    /// Finished files whose data is not what was sealed, and what is wrong with it. While one of
    /// them is under retention, nothing of its class expires: an older backup may be all there is.
    pub(crate) damaged: BTreeMap<u64, String>,
    /// What is running out, and what to do about it.
    scarce: BTreeMap<Scarce, String>,
    /// The data is still being compared with the ledger: nobody knows all strays yet.
    pub(crate) comparing: bool,
    /// What the view shows of the ledger.
    pub(crate) carry: Carry,
    /// Why nothing is accepted any more.
    pub(crate) stopped: Option<String>,
}

/// What can be in doubt.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) enum Doubt {
    /// The machine's clocks.
    Clock,
    /// The clocks of this boot, as the ledger noted them.
    Noted,
    /// What is in `data/`.
    Data,
}

/// What can fail and is tried again.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) enum Undone {
    /// The data at a path was to be moved there, or to be removed.
    Data(StorePath),
    /// A snapshot was to be made.
    Snapshot,
}

/// What can run out.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) enum Scarce {
    /// The disk.
    Room,
    /// What the class with this directory may have.
    Class(u64, Limit),
}

impl State {
    pub(crate) fn new(catalog: Catalog) -> Self {
        let what = "it was not what was sealed when it was read last";
        let damaged = catalog.pass.damaged.iter().map(|id| (*id, what.to_owned())).collect();
        Self {
            next_id: catalog.next_id,
            catalog,
            pending: BTreeMap::new(),
            open: HashMap::new(),
            logs: HashMap::new(),
            leaving: HashSet::new(),
            leaving_names: HashSet::new(),
            strays: BTreeSet::new(),
            unplaced: HashMap::new(),
            meters: HashMap::new(),
            disk_bytes: 0,
            alarms: Vec::new(),
            undone: BTreeMap::new(),
            doubts: BTreeMap::new(),
            damaged,
            scarce: BTreeMap::new(),
            comparing: false,
            carry: Carry::default(),
            stopped: None,
        }
    }

    /// Notes or settles a doubt.
    pub(crate) fn doubt(&mut self, doubt: Doubt, why: Option<String>) {
        match why {
            Some(why) if self.doubts.get(&doubt) != Some(&why) => {
                tracing::error!(%why, "in doubt: nothing expires");
                self.doubts.insert(doubt, why);
            }
            Some(_) => {}
            None => drop(self.doubts.remove(&doubt)),
        }
    }

    /// Notes that the data of a finished file is not what was sealed.
    pub(crate) fn damage(&mut self, id: u64, what: &str) {
        let path = self.catalog.path(id);
        if self.damaged.insert(id, what.to_owned()).is_none() {
            tracing::error!(%path, what, "damaged");
        }
    }

    /// Notes that the data of a file was read and is what was sealed.
    pub(crate) fn found_right(&mut self, id: u64) {
        if self.damaged.remove(&id).is_some() {
            tracing::info!(path = %self.catalog.path(id), "it is what was sealed again");
        }
    }

    /// What somebody should look at.
    pub(crate) fn alarms(&self) -> Vec<String> {
        let doubts = self.doubts.values().map(|why| format!("nothing expires: {why}"));
        let known = self.damaged.iter().filter(|(id, _)| self.catalog.get_file(**id).is_some());
        let damaged = known.map(|(id, what)| format!("{}: {what}", self.catalog.path(*id)));
        let lasting = self.undone.values().chain(self.scarce.values()).cloned();
        self.alarms.iter().cloned().chain(doubts).chain(damaged).chain(lasting).collect()
    }

    /// Whether what is over in the class of a file stays all the same: something is in doubt.
    pub(crate) fn is_frozen(&self, id: u64, now_ms: i64) -> bool {
        self.frozen_by(id, now_ms).is_some()
    }

    /// What is in doubt, so that what is over in the class of a file stays all the same.
    pub(crate) fn frozen_by(&self, id: u64, now_ms: i64) -> Option<String> {
        if let Some(why) = self.doubts.values().next() {
            return Some(why.clone());
        }
        if self.comparing {
            return Some("the data is still being compared with the ledger".to_owned());
        }
        let class = |id| self.catalog.class_of(id).map(|(class, _)| class);
        let keeps = |damaged: &u64| {
            class(*damaged) == class(id)
                && self.catalog.get_file(*damaged).is_some()
                && self.catalog.retention_of(*damaged, now_ms) != Retention::Over
        };
        let (damaged, what) = self.damaged.iter().find(|(damaged, _)| keeps(damaged))?;
        Some(format!("{}: {what}", self.catalog.path(*damaged)))
    }

    /// Notes what somebody should look at, once.
    pub(crate) fn alarm(&mut self, what: String) {
        tracing::error!(alarm = %what);
        if !self.alarms.contains(&what) {
            self.alarms.push(what);
        }
    }

    /// Notes what could not be done: an alarm until it is.
    pub(crate) fn failed(&mut self, what: Undone, alarm: String) {
        tracing::error!(%alarm);
        self.undone.insert(what, alarm);
    }

    /// Notes what was done, also after it had failed before.
    pub(crate) fn done(&mut self, what: &Undone) {
        if let Some(alarm) = self.undone.remove(what) {
            tracing::info!(%alarm, "over");
        }
    }

    /// Notes what is running out by now. What is not among it any more raises no alarm from here on.
    pub(crate) fn scarce(&mut self, by_now: BTreeMap<Scarce, String>) {
        for (what, alarm) in &by_now {
            if !self.scarce.contains_key(what) {
                tracing::error!(%alarm);
            }
        }
        for (_, alarm) in self.scarce.iter().filter(|(what, _)| !by_now.contains_key(what)) {
            tracing::info!(%alarm, "over");
        }
        self.scarce = by_now;
    }

    /// A directory that is there and stays there.
    pub(crate) fn directory(&self, id: u64) -> Result<&Directory> {
        match self.catalog.get(id) {
            Some(Node::Directory(_)) if self.leaving.contains(&id) => Err(Error::NotFound),
            Some(Node::Directory(directory)) => Ok(directory),
            Some(Node::File(_)) => Err(Error::NotADirectory),
            None if self.open.contains_key(&id) => Err(Error::NotADirectory),
            // Nothing is made or removed there, through whatever place.
            None if Item::of(id).is_some() => Err(Refusal::ReadOnlyView.into()),
            None => Err(Error::NotFound),
        }
    }

    /// What has a name in a directory: finished first, because for a moment a file is both.
    pub(crate) fn child(&self, parent: u64, name: &Name) -> Option<u64> {
        let finished = self.catalog.get_directory(parent).and_then(|d| d.children.get(name));
        let pending = || self.pending.get(&(parent, name.clone()));
        finished.or_else(pending).copied()
    }

    /// What is at a path, finished or not.
    pub(crate) fn find(&self, path: &StorePath) -> Option<u64> {
        let (parent, name) = path.split();
        let Ok(name) = Name::new(name) else { return self.catalog.find(path) };
        self.child(self.catalog.find(&parent)?, &name)
    }

    /// Whether a name can still be given to something new.
    pub(crate) fn is_free(&self, parent: u64, name: &Name) -> bool {
        self.child(parent, name).is_none()
            && !self.leaving_names.contains(&(parent, name.clone()))
            && (self.strays.is_empty()
                || !self.strays.contains(&self.catalog.path(parent).join(name.as_bytes())))
    }

    /// Whether a directory holds nothing, finished or not.
    pub(crate) fn is_empty(&self, id: u64, directory: &Directory) -> bool {
        let first = Name::first();
        directory.children.is_empty()
            && !self.leaving_names.iter().any(|(parent, _)| *parent == id)
            && self.pending.range((id, first)..).next().is_none_or(|((parent, _), _)| *parent != id)
    }

    /// What a request is asked of.
    pub(crate) fn target(&self, id: u64, now_ms: i64) -> Result<Target> {
        if let Some(file) = self.catalog.get_file(id) {
            let retention = match self.catalog.retention_of(id, now_ms) {
                Retention::Over if self.is_frozen(id, now_ms) => Retention::Frozen,
                kept @ (Retention::Running
                | Retention::Held
                | Retention::Frozen
                | Retention::Over) => kept,
            };
            let state = if file.is_incomplete() {
                FileState::Incomplete(retention)
            } else if self.catalog.is_log(id) {
                FileState::Appending(retention)
            } else {
                FileState::Sealed(retention)
            };
            return Ok(Target::File(state));
        }
        if let Some(open) = self.open.get(&id) {
            return Ok(Target::File(open.file_state(false)));
        }
        let directory = self.directory(id)?;
        Ok(match directory.kind {
            DirectoryKind::Root => Target::Root,
            DirectoryKind::Class(_) => Target::Class,
            DirectoryKind::Incomplete => Target::IncompleteDirectory,
            DirectoryKind::Plain => Target::Directory { empty: self.is_empty(id, directory) },
        })
    }

    /// Begins a removal: from here on nobody else removes it, and nobody takes its name.
    pub(crate) fn leave(&mut self, id: u64, parent: u64, name: &Name) -> bool {
        let first = self.leaving.insert(id);
        if first {
            self.leaving_names.insert((parent, name.clone()));
        }
        first
    }

    /// Refuses when nothing is accepted any more.
    pub(crate) fn accepting(&self) -> Result<()> {
        match &self.stopped {
            Some(why) => Err(Error::Stopped(why.clone())),
            None => Ok(()),
        }
    }

    /// Refuses a path that the disk below could not take as one, and a name that is taken.
    pub(crate) fn check_new(&self, parent: u64, name: &Name) -> Result<()> {
        let path = self.catalog.path(parent).join(name.as_bytes());
        if path.as_bytes().len() > PATH_BYTES_MAX {
            return Err(Refusal::TooDeep.into());
        }
        if !self.is_free(parent, name) {
            return Err(Refusal::NameTaken.into());
        }
        Ok(())
    }

    /// Tells the meters what the catalog says by now.
    pub(crate) fn settle(&mut self, now_ms: i64) {
        let Some(root) = self.catalog.get_directory(ROOT) else { return };
        let classes = root.children.values().filter_map(|id| self.catalog.class_of(*id));
        for (class, rule) in classes {
            let may_have = Amounts::of(&rule.limits, self.disk_bytes);
            let meter = self.meters.entry(class).or_default();
            meter.settle(self.catalog.usage(class, now_ms), may_have);
        }
    }

    /// Counts what is about to come to the class of a directory, unless a limit says no.
    pub(crate) fn share(&mut self, within: u64, more: Amounts, now_ms: i64) -> Result<Share> {
        let (class, _) = self.catalog.class_of(within).ok_or(Refusal::NotAClass)?;
        self.settle(now_ms);
        let meter = self.meters.get(&class).ok_or(Refusal::NotAClass)?;
        Ok(Share::of(meter, more)?)
    }

    /// What each class has, by the number of its directory, and what it may have.
    pub(crate) fn meters(&self) -> impl Iterator<Item = (u64, Amounts, Amounts)> {
        self.meters.iter().map(|(class, meter)| {
            let (has, may_have) = meter.amounts();
            (*class, has, may_have)
        })
    }

    /// How many files somebody holds open for writing.
    pub(crate) fn open_files(&self) -> u64 {
        self.meters().map(|(_, has, _)| has.get(Limit::OpenFiles)).sum()
    }

    /// The next number.
    pub(crate) fn take_id(&mut self) -> u64 {
        self.next_id = self.next_id.max(self.catalog.next_id);
        let id = self.next_id;
        self.next_id += 1;
        id
    }

    /// Takes a name for something new.
    pub(crate) fn reserve(&mut self, parent: u64, name: &Name) -> Result<u64> {
        if !self.is_free(parent, name) {
            return Err(Refusal::NameTaken.into());
        }
        let id = self.take_id();
        self.pending.insert((parent, name.clone()), id);
        Ok(id)
    }
}
