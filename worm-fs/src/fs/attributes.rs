//! What `stat` shows. It comes from the ledger, never from the backing file.

use super::Place;
use super::WormFs;
use super::carry::Item;
use super::log_file::LogFile;
use super::open_file::OpenFile;
use super::state::State;
use crate::catalog::Directory;
use crate::catalog::DirectoryKind;
use crate::catalog::File;
use crate::catalog::Node;
use crate::catalog::ROOT;
use crate::error::Error;
use crate::error::Result;

/// What something is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Kind {
    /// A plain file.
    File,
    /// A directory.
    Directory,
}

/// How long what is shown stays true.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Life {
    /// It can change at any moment.
    Changing,
    /// It is finished and stays so until it is removed.
    Finished,
}

/// What `stat` shows of a file or directory.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Attributes {
    /// Its number.
    pub id: u64,
    /// What it is.
    pub kind: Kind,
    /// How long the rest stays true.
    pub life: Life,
    /// Length in bytes.
    pub size: u64,
    /// Permission bits.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Names.
    pub links: u32,
    /// Modification time, nanoseconds since 1970.
    pub mtime_ns: i64,
    /// Change time, nanoseconds since 1970.
    pub ctime_ns: i64,
}

impl WormFs {
    /// What `stat` shows.
    ///
    /// # Errors
    /// [`Error::NotFound`]
    pub fn attributes(&self, place: Place, id: u64) -> Result<Attributes> {
        attributes(&self.state.read(), place, id)
    }
}

/// What `stat` shows, and whether a place shows it at all.
pub(crate) fn attributes(state: &State, place: Place, id: u64) -> Result<Attributes> {
    let item = Item::of(id);
    let shown = match state.catalog.get(id) {
        _ if item.is_some() => item.map(|item| item.attributes(state, place)).transpose()?,
        Some(_) if !is_of(state, place, id) => None,
        Some(Node::Directory(directory)) if is_shown(place, directory) => {
            Some(of_directory(state, id, directory))
        }
        Some(Node::File(file)) if is_file_shown(place, file) => match state.logs.get(&id) {
            Some(log) => Some(of_log(id, file, log)),
            None => Some(of_file(id, file)),
        },
        Some(Node::Directory(_) | Node::File(_)) => None,
        None if place == Place::Active => state.open.get(&id).map(|open| of_open(open)),
        None => None,
    };
    let mut shown = shown.ok_or(Error::NotFound)?;
    if let Place::View { group } = place {
        (shown.uid, shown.gid) = (0, group);
        shown.mode = match shown.kind {
            Kind::File => 0o440,
            Kind::Directory => 0o550,
        };
    }
    Ok(shown)
}

/// Whether a place is about this at all. Logs have one of their own, and the view shows all.
fn is_of(state: &State, place: Place, id: u64) -> bool {
    let class = state.catalog.class_of(id);
    match place {
        Place::Active => class.is_none_or(|(_, rule)| !rule.append_only),
        Place::View { .. } => true,
        Place::Logs { class: logs } => class.is_some_and(|(class, _)| class == logs),
    }
}

fn is_shown(place: Place, directory: &Directory) -> bool {
    match place {
        Place::Active => true,
        Place::View { .. } | Place::Logs { .. } => directory.kind != DirectoryKind::Incomplete,
    }
}

fn is_file_shown(place: Place, file: &File) -> bool {
    match place {
        Place::Active | Place::Logs { .. } => true,
        Place::View { .. } => !file.is_incomplete(),
    }
}

fn of_directory(state: &State, id: u64, directory: &Directory) -> Attributes {
    let is_directory = |child: &&u64| state.catalog.get_directory(**child).is_some();
    // Below the root there are few directories and many files, and nobody counts on the number
    // of links there; at the root it is cheap.
    let links = if id == ROOT {
        2 + u32::try_from(directory.children.values().filter(is_directory).count()).unwrap_or(0)
    } else {
        1
    };
    let changed_ns = directory.changed_ms.saturating_mul(1_000_000);
    Attributes {
        id,
        kind: Kind::Directory,
        life: Life::Changing,
        size: 0,
        mode: directory.mode,
        uid: directory.uid,
        gid: directory.gid,
        links,
        mtime_ns: changed_ns,
        ctime_ns: changed_ns,
    }
}

fn of_file(id: u64, file: &File) -> Attributes {
    Attributes {
        id,
        kind: Kind::File,
        life: Life::Finished,
        size: file.size,
        mode: file.mode,
        uid: file.uid,
        gid: file.gid,
        links: 1,
        mtime_ns: file.mtime_ns,
        ctime_ns: file.sealed_system_ms.saturating_mul(1_000_000),
    }
}

/// Owner and mode from the ledger; length and time go ahead of it.
fn of_log(id: u64, file: &File, log: &LogFile) -> Attributes {
    let (mtime_ns, ctime_ns) = (log.modified_ns(), log.modified_ns());
    let (life, size) = (Life::Changing, log.bytes());
    Attributes { life, size, mtime_ns, ctime_ns, ..of_file(id, file) }
}

pub(crate) fn of_open(open: &OpenFile) -> Attributes {
    let owner = open.owner();
    Attributes {
        id: open.id,
        kind: Kind::File,
        life: Life::Changing,
        size: open.bytes(),
        mode: owner.mode,
        uid: owner.uid,
        gid: owner.gid,
        links: 1,
        mtime_ns: open.modified_ns(),
        ctime_ns: open.modified_ns(),
    }
}
