//! PURE: what is alive in a store, as a fold over its ledger and nothing else.

mod check;
mod fold;
mod groups;
mod scrub;
mod snapshot;
mod usage;

pub use scrub::Pass;
pub(crate) use snapshot::Decoder;

use std::collections::BTreeMap;
use std::collections::HashMap;
use std::num::NonZero;

use serde::Deserialize;
use serde::Serialize;

use crate::clock::Anchor;
use crate::clock::Credit;
use crate::config::ClassRule;
use crate::policy::name::Name;
use crate::policy::name::StorePath;
use crate::record::Actor;
use crate::record::Digest;
use crate::record::Event;
use crate::record::FORMAT;
use crate::record::Keys;
use crate::record::Line;
use crate::record::Snapshot;

pub use usage::Usage;

/// The number of the root directory, as the kernel wants it.
pub const ROOT: u64 = 1;

/// A file or a directory.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Node<'a> {
    /// A directory.
    Directory(&'a Directory),
    /// A sealed or incomplete file.
    File(&'a File),
}

/// A directory and what is in it.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Directory {
    /// The directory that it is in; the root is in itself.
    pub parent: u64,
    /// Its name; the root has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<Name>,
    /// What it is.
    pub kind: DirectoryKind,
    /// What is in it.
    #[serde(skip)]
    pub children: BTreeMap<Name, u64>,
    /// Permission bits.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// System time of its last change, milliseconds since 1970.
    pub changed_ms: i64,
}

/// The kinds of directory.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DirectoryKind {
    /// The root of the mount.
    Root,
    /// A class, with the rule for files sealed from now on.
    Class(Box<ClassRule>),
    /// `.incomplete` of a class.
    Incomplete,
    /// Made by somebody inside a class.
    Plain,
}

/// A finished file, or a log: then length and digest are those of its beginning that the ledger
/// covers, and the times are those of the line that does.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct File {
    /// The directory that it is in.
    pub parent: u64,
    /// Its name.
    pub name: Name,
    /// Length in bytes.
    pub size: u64,
    /// SHA-256 of its bytes; absent when it is incomplete.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<Digest>,
    /// Permission bits.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Modification time, nanoseconds since 1970.
    pub mtime_ns: i64,
    /// When it was sealed, on the retention clock.
    pub sealed_ms: i64,
    /// When it was sealed, on the system clock.
    pub sealed_system_ms: i64,
    /// Its own retention end, on the retention clock; its group may end later.
    pub retain_until_ms: i64,
    /// The file that this is a sidecar of, by the rule that stood when it was sealed.
    #[serde(skip)]
    pub main: Option<NonZero<u64>>,
    /// Its sidecars.
    #[serde(default, skip_serializing_if = "<[u64]>::is_empty")]
    pub sidecars: Box<[u64]>,
    /// It was sealed in governance mode: the admin may release it before its end.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub governance: bool,
}

/// A legal hold: what it is on stays until it is lifted.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Hold {
    /// What it is called.
    pub name: String,
    /// Why it was put.
    pub reason: String,
    /// By whom.
    pub by: Actor,
    /// When, on the system clock.
    pub since_ms: i64,
}

impl File {
    /// It was given up before it was whole.
    #[must_use]
    pub fn is_incomplete(&self) -> bool {
        self.sha256.is_none()
    }
}

/// A ledger that contradicts itself, or that this version cannot follow.
#[derive(Debug, thiserror::Error)]
#[error("ledger line {seq}: {what}")]
pub struct Inconsistent {
    /// The line's number.
    pub seq: u64,
    /// What is wrong.
    pub what: String,
}

/// The state of a store after some line of its ledger.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Catalog {
    /// The store's id.
    pub store: String,
    /// The keys that signed its heads.
    pub keys: Keys,
    /// The number that the next file or directory gets.
    pub next_id: u64,
    /// Number of the newest line.
    pub seq: u64,
    /// SHA-256 of the newest line.
    pub head: Digest,
    /// The newest moment at which all clocks were noted.
    pub anchor: Anchor,
    /// Downtimes credited by restarts.
    pub credits: Vec<Credit>,
    /// Downtime that the system clock showed and that nobody credited, in milliseconds.
    pub uncredited_ms: i64,
    /// What was read again.
    pub pass: Pass,
    /// Files that this run removed, by path, with their length: a crash may have come before
    /// their data was unlinked.
    pub removed: HashMap<StorePath, u64>,
    /// The snapshot that was recorded last.
    pub snapshot: Option<Snapshot>,
    /// Each by itself, and apart from directories: the tables are lean, for there are many files.
    files: HashMap<u64, Box<File>>,
    directories: HashMap<u64, Directory>,
    /// By the file that they were put on; they hold its whole group.
    holds: BTreeMap<u64, Vec<Hold>>,
    /// What each class has of what is limited, by the number of its directory.
    usage: BTreeMap<u64, Usage>,
}

impl Catalog {
    /// The state after the first line.
    ///
    /// # Errors
    /// When it is not the line that makes a store, or is of a newer format.
    pub fn new(first: &Line) -> Result<Self, Inconsistent> {
        let fail = |what: String| Inconsistent { seq: first.seq, what };
        let Event::Created { format, store, key, reading } = &first.event else {
            return Err(fail("the first line must be the one that made the store".to_owned()));
        };
        if *format > FORMAT {
            return Err(fail(format!("format {format} is of a newer version: use that version")));
        }
        let root = Directory {
            parent: ROOT,
            name: None,
            kind: DirectoryKind::Root,
            children: BTreeMap::new(),
            mode: 0o755,
            uid: 0,
            gid: 0,
            changed_ms: first.system_ms(),
        };
        Ok(Self {
            store: store.clone(),
            keys: Keys::new(store, key),
            next_id: ROOT + 1,
            seq: first.seq,
            head: Digest::ZERO,
            anchor: Anchor { clock_ms: first.clock_ms, reading: reading.clone() },
            credits: Vec::new(),
            uncredited_ms: 0,
            pass: Pass::none(first.clock_ms),
            removed: HashMap::new(),
            snapshot: None,
            files: HashMap::new(),
            directories: HashMap::from([(ROOT, root)]),
            holds: BTreeMap::new(),
            usage: BTreeMap::new(),
        })
    }

    /// A file or directory by its number.
    #[must_use]
    pub fn get(&self, id: u64) -> Option<Node<'_>> {
        let file = || self.get_file(id).map(Node::File);
        self.get_directory(id).map(Node::Directory).or_else(file)
    }

    /// A directory by its number.
    #[must_use]
    pub fn get_directory(&self, id: u64) -> Option<&Directory> {
        self.directories.get(&id)
    }

    /// A file by its number.
    #[must_use]
    pub fn get_file(&self, id: u64) -> Option<&File> {
        self.files.get(&id).map(AsRef::as_ref)
    }

    /// The number of what is at a path.
    #[must_use]
    pub fn find(&self, path: &StorePath) -> Option<u64> {
        let mut id = ROOT;
        for component in path.components() {
            let name = Name::new(component).ok()?;
            id = *self.get_directory(id)?.children.get(&name)?;
        }
        Some(id)
    }

    /// The path of a file or directory.
    #[must_use]
    pub fn path(&self, id: u64) -> StorePath {
        match self.get(id) {
            Some(Node::Directory(directory)) => match &directory.name {
                Some(name) => self.path(directory.parent).join(name.as_bytes()),
                None => StorePath::root(),
            },
            Some(Node::File(file)) => self.path(file.parent).join(file.name.as_bytes()),
            None => StorePath::root(),
        }
    }

    /// The class that a file or directory is in: its number and its rule.
    #[must_use]
    pub fn class_of(&self, id: u64) -> Option<(u64, &ClassRule)> {
        match self.get(id)? {
            Node::File(file) => self.class_of(file.parent),
            Node::Directory(directory) => match &directory.kind {
                DirectoryKind::Class(rule) => Some((id, rule)),
                DirectoryKind::Root => None,
                DirectoryKind::Incomplete | DirectoryKind::Plain => self.class_of(directory.parent),
            },
        }
    }

    /// Whether a file is a log: one of an append-only class, which grows.
    #[must_use]
    pub fn is_log(&self, id: u64) -> bool {
        self.get_file(id).is_some() && self.class_of(id).is_some_and(|(_, rule)| rule.append_only)
    }

    /// How many directories lie between a directory and the root.
    #[must_use]
    pub fn depth(&self, id: u64) -> usize {
        self.path(id).components().count()
    }

    /// Every file, in no order.
    pub fn files(&self) -> impl Iterator<Item = (u64, &File)> {
        self.files.iter().map(|(id, file)| (*id, file.as_ref()))
    }

    /// Every directory, in no order.
    pub fn directories(&self) -> impl Iterator<Item = (u64, &Directory)> {
        self.directories.iter().map(|(id, directory)| (*id, directory))
    }
}
