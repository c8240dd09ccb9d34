//! PURE: what is alive in a store, as a fold over its ledger and nothing else.

mod check;
mod groups;

use std::collections::BTreeMap;
use std::collections::HashMap;

use crate::clock::Anchor;
use crate::clock::Credit;
use crate::config::ClassRule;
use crate::policy::name::INCOMPLETE;
use crate::policy::name::Name;
use crate::policy::name::StorePath;
use crate::record::Digest;
use crate::record::Event;
use crate::record::FORMAT;
use crate::record::Line;

/// The number of the root directory, as the kernel wants it.
pub const ROOT: u64 = 1;

/// A file or a directory.
#[derive(Clone, Debug)]
pub enum Node {
    /// A directory.
    Directory(Directory),
    /// A sealed or incomplete file.
    File(File),
}

/// A directory and what is in it.
#[derive(Clone, Debug)]
pub struct Directory {
    /// The directory that it is in; the root is in itself.
    pub parent: u64,
    /// Its name; the root has none.
    pub name: Option<Name>,
    /// What it is.
    pub kind: DirectoryKind,
    /// What is in it.
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
#[derive(Clone, Debug, Eq, PartialEq)]
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

/// A finished file.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct File {
    /// The directory that it is in.
    pub parent: u64,
    /// Its name.
    pub name: Name,
    /// Length in bytes.
    pub size: u64,
    /// SHA-256 of its bytes; absent when it is incomplete.
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
    pub main: Option<u64>,
    /// Its sidecars.
    pub sidecars: Vec<u64>,
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
#[derive(Clone, Debug)]
pub struct Catalog {
    /// The store's id.
    pub store: String,
    /// Its signer's public key, a C2SP verifier key.
    pub key: String,
    /// The number that the next file or directory gets.
    pub next_id: u64,
    /// Number of the newest line.
    pub seq: u64,
    /// SHA-256 of the newest line.
    pub head: Digest,
    /// The newest moment at which all clocks were noted.
    pub anchor: Anchor,
    /// Downtimes credited.
    pub credits: Vec<Credit>,
    /// Files that this run removed, by path, with their length: a crash may have come before
    /// their data was unlinked.
    pub removed: HashMap<StorePath, u64>,
    nodes: HashMap<u64, Node>,
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
            changed_ms: system_ms(first),
        };
        Ok(Self {
            store: store.clone(),
            key: key.clone(),
            next_id: ROOT + 1,
            seq: first.seq,
            head: Digest::ZERO,
            anchor: Anchor { clock_ms: first.clock_ms, reading: reading.clone() },
            credits: Vec::new(),
            removed: HashMap::new(),
            nodes: HashMap::from([(ROOT, Node::Directory(root))]),
        })
    }

    /// Follows one more line, whose digest is `digest`. The chain is the reader's to check.
    ///
    /// # Errors
    /// When the line contradicts what stands.
    pub fn apply(&mut self, line: &Line, digest: Digest) -> Result<(), Inconsistent> {
        if line.seq > 1 {
            self.follow(line).map_err(|what| Inconsistent { seq: line.seq, what })?;
        }
        self.seq = line.seq;
        self.head = digest;
        Ok(())
    }

    fn follow(&mut self, line: &Line) -> Result<(), String> {
        self.check(&line.event, line.clock_ms)?;
        match &line.event {
            Event::Created { .. } => Err("a store is made once".to_owned()),
            Event::Started { reading, credit_ms, .. } => {
                self.removed.clear();
                if *credit_ms > 0 {
                    self.credits.push(Credit { clock_ms: line.clock_ms, credit_ms: *credit_ms });
                }
                self.anchor = Anchor { clock_ms: line.clock_ms, reading: reading.clone() };
                Ok(())
            }
            Event::Clock { reading } => {
                self.anchor = Anchor { clock_ms: line.clock_ms, reading: reading.clone() };
                Ok(())
            }
            Event::Class { id, path, rule } => self.class(line, *id, path, rule),
            Event::DirectoryMade { id, path, mode, uid, gid } => {
                let directory =
                    self.directory(line, path, DirectoryKind::Plain, (*mode, *uid, *gid))?;
                self.insert(line, *id, path, Node::Directory(directory))
            }
            Event::DirectoryChanged { id, mode, uid, gid } => {
                let Some(Node::Directory(directory)) = self.nodes.get_mut(id) else {
                    return Err(format!("no directory {id}"));
                };
                (directory.mode, directory.uid, directory.gid) = (*mode, *uid, *gid);
                directory.changed_ms = system_ms(line);
                Ok(())
            }
            Event::DirectoryRemoved { id, path, .. } => {
                self.remove(line, *id, path)?;
                // No file has this length.
                self.removed.insert(path.clone(), u64::MAX);
                Ok(())
            }
            Event::Sealed { .. } | Event::Incomplete { .. } => self.finished(line),
            Event::Extended { id, retain_until_ms, .. } => {
                if let Some(Node::File(file)) = self.nodes.get_mut(id) {
                    // Whoever wrote the line, nothing here shortens a retention.
                    file.retain_until_ms = file.retain_until_ms.max(*retain_until_ms);
                }
                Ok(())
            }
            Event::Removed { id, path, .. } => {
                let size = self.get_file(*id).map_or(0, |file| file.size);
                self.removed.insert(path.clone(), size);
                self.remove(line, *id, path)
            }
        }
    }

    fn class(
        &mut self,
        line: &Line,
        id: u64,
        path: &StorePath,
        rule: &ClassRule,
    ) -> Result<(), String> {
        let kind = DirectoryKind::Class(Box::new(rule.clone()));
        let owner = (rule.permissions, rule.owner, rule.group);
        if let Some(Node::Directory(directory)) = self.nodes.get_mut(&id) {
            directory.kind = kind;
            (directory.mode, directory.uid, directory.gid) = owner;
            return Ok(());
        }
        let directory = self.directory(line, path, kind, owner)?;
        self.insert(line, id, path, Node::Directory(directory))?;
        let path = path.join(INCOMPLETE.as_bytes());
        let directory = self.directory(line, &path, DirectoryKind::Incomplete, (0o755, 0, 0))?;
        self.insert(line, id + 1, &path, Node::Directory(directory))
    }

    fn directory(
        &self,
        line: &Line,
        path: &StorePath,
        kind: DirectoryKind,
        (mode, uid, gid): (u32, u32, u32),
    ) -> Result<Directory, String> {
        let (parent, name) = self.place(path)?;
        let (name, children) = (Some(name), BTreeMap::new());
        let changed_ms = system_ms(line);
        Ok(Directory { parent, name, kind, children, mode, uid, gid, changed_ms })
    }

    fn finished(&mut self, line: &Line) -> Result<(), String> {
        let (id, path, mut file) = match &line.event {
            Event::Sealed {
                id,
                path,
                size,
                sha256,
                mode,
                uid,
                gid,
                mtime_ns,
                retain_until_ms,
                ..
            } => {
                let own = (*size, *mode, *uid, *gid, *mtime_ns, *retain_until_ms);
                (*id, path, self.file(line, path, Some(*sha256), own)?)
            }
            Event::Incomplete {
                id, path, size, mode, uid, gid, mtime_ns, retain_until_ms, ..
            } => {
                let own = (*size, *mode, *uid, *gid, *mtime_ns, *retain_until_ms);
                (*id, path, self.file(line, path, None, own)?)
            }
            Event::Created { .. }
            | Event::Started { .. }
            | Event::Clock { .. }
            | Event::Class { .. }
            | Event::DirectoryMade { .. }
            | Event::DirectoryChanged { .. }
            | Event::DirectoryRemoved { .. }
            | Event::Extended { .. }
            | Event::Removed { .. } => return Err("not the end of a file".to_owned()),
        };
        file.mode &= 0o7777;
        let main = self.main_of(&file);
        file.main = main;
        self.insert(line, id, path, Node::File(file))?;
        if let Some(Node::File(main)) = main.and_then(|main| self.nodes.get_mut(&main)) {
            main.sidecars.push(id);
        }
        Ok(())
    }

    fn file(
        &self,
        line: &Line,
        path: &StorePath,
        sha256: Option<Digest>,
        (size, mode, uid, gid, mtime_ns, retain_until_ms): (u64, u32, u32, u32, i64, i64),
    ) -> Result<File, String> {
        let (parent, name) = self.place(path)?;
        let (sealed_ms, sealed_system_ms) = (line.clock_ms, system_ms(line));
        let owner = (mode, uid, gid);
        let (mode, uid, gid) = owner;
        Ok(File {
            parent,
            name,
            size,
            sha256,
            mode,
            uid,
            gid,
            mtime_ns,
            sealed_ms,
            sealed_system_ms,
            retain_until_ms,
            main: None,
            sidecars: Vec::new(),
        })
    }

    /// The directory and the name that a path means.
    fn place(&self, path: &StorePath) -> Result<(u64, Name), String> {
        let (parent, name) = path.split();
        let name = Name::new(name).map_err(|refusal| format!("{path}: {refusal}"))?;
        let parent = self.find(&parent).ok_or_else(|| format!("{path}: no such directory"))?;
        Ok((parent, name))
    }

    fn insert(&mut self, line: &Line, id: u64, path: &StorePath, node: Node) -> Result<(), String> {
        let (parent, name) = self.place(path)?;
        let directory = self.directory_mut(parent).ok_or_else(|| format!("{path}: in a file"))?;
        directory.children.insert(name, id);
        directory.changed_ms = system_ms(line);
        self.nodes.insert(id, node);
        self.next_id = self.next_id.max(id + 1);
        Ok(())
    }

    fn remove(&mut self, line: &Line, id: u64, path: &StorePath) -> Result<(), String> {
        let (parent, name) = self.place(path)?;
        if let Some(directory) = self.directory_mut(parent) {
            directory.children.remove(&name);
            directory.changed_ms = system_ms(line);
        }
        if let Some(Node::File(file)) = self.nodes.remove(&id) {
            if let Some(Node::File(main)) = file.main.and_then(|main| self.nodes.get_mut(&main)) {
                main.sidecars.retain(|sidecar| *sidecar != id);
            }
            for sidecar in file.sidecars {
                if let Some(Node::File(sidecar)) = self.nodes.get_mut(&sidecar) {
                    sidecar.main = None;
                }
            }
        }
        Ok(())
    }

    fn directory_mut(&mut self, id: u64) -> Option<&mut Directory> {
        match self.nodes.get_mut(&id)? {
            Node::Directory(directory) => Some(directory),
            Node::File(_) => None,
        }
    }

    /// A file or directory by its number.
    #[must_use]
    pub fn get(&self, id: u64) -> Option<&Node> {
        self.nodes.get(&id)
    }

    /// A directory by its number.
    #[must_use]
    pub fn get_directory(&self, id: u64) -> Option<&Directory> {
        match self.nodes.get(&id)? {
            Node::Directory(directory) => Some(directory),
            Node::File(_) => None,
        }
    }

    /// A file by its number.
    #[must_use]
    pub fn get_file(&self, id: u64) -> Option<&File> {
        match self.nodes.get(&id)? {
            Node::File(file) => Some(file),
            Node::Directory(_) => None,
        }
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
        match self.nodes.get(&id) {
            Some(Node::Directory(Directory { parent, name: Some(name), .. })) => {
                self.path(*parent).join(name.as_bytes())
            }
            Some(Node::File(File { parent, name, .. })) => self.path(*parent).join(name.as_bytes()),
            Some(Node::Directory(Directory { name: None, .. })) | None => StorePath::root(),
        }
    }

    /// The class that a file or directory is in: its number and its rule.
    #[must_use]
    pub fn class_of(&self, id: u64) -> Option<(u64, &ClassRule)> {
        match self.nodes.get(&id)? {
            Node::File(file) => self.class_of(file.parent),
            Node::Directory(directory) => match &directory.kind {
                DirectoryKind::Class(rule) => Some((id, rule)),
                DirectoryKind::Root => None,
                DirectoryKind::Incomplete | DirectoryKind::Plain => self.class_of(directory.parent),
            },
        }
    }

    /// How many directories lie between a directory and the root.
    #[must_use]
    pub fn depth(&self, id: u64) -> usize {
        self.path(id).components().count()
    }

    /// Every file, in no order.
    pub fn files(&self) -> impl Iterator<Item = (u64, &File)> {
        self.nodes.iter().filter_map(|(id, node)| match node {
            Node::File(file) => Some((*id, file)),
            Node::Directory(_) => None,
        })
    }

    /// Every directory, in no order.
    pub fn directories(&self) -> impl Iterator<Item = (u64, &Directory)> {
        self.nodes.iter().filter_map(|(id, node)| match node {
            Node::Directory(directory) => Some((*id, directory)),
            Node::File(_) => None,
        })
    }
}

fn system_ms(line: &Line) -> i64 {
    line.time.parse::<jiff::Timestamp>().map_or(line.clock_ms, jiff::Timestamp::as_millisecond)
}
