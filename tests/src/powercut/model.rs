//! PURE: a file system that knows what of it would survive a power cut.
//!
//! For each file it keeps the bytes as programs see them and the bytes on the disk; `fsync` makes
//! the second what the first are. For each directory it keeps the names in the same way, and a
//! list of the changes that no `fsync` of that directory has made last.
//!
//! What is assumed of a disk: what was synced is there. What was not may be there or not, each
//! block and each change of a name by itself, in any order. A rename within a directory is one
//! change. One between two directories is two, of which the old name goes only after the new one
//! is there; this is less than journaling file systems give.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::sync::Arc;

use rustix::io::Errno;

use crate::random::Random;

/// The number of the root directory, as the kernel wants it.
pub const ROOT: u64 = 1;
/// What a disk writes in one piece.
const BLOCK: usize = 512;
/// What the kernel writes back in one piece.
const PAGE: usize = 4096;

/// A name in a directory.
pub type Name = Vec<u8>;

/// A request that changes something or makes it last.
#[derive(Clone)]
pub enum Op {
    /// `open` with `O_CREAT` of a free name, or `mkdir`.
    Create { directory: u64, name: Name, is_directory: bool },
    /// `unlink` or `rmdir`.
    Remove { directory: u64, name: Name },
    /// `renameat2`, which replaces what is in the way.
    Move { from: (u64, Name), to: (u64, Name) },
    /// `renameat2` with `RENAME_EXCHANGE`, within one directory.
    Exchange { directory: u64, one: Name, other: Name },
    /// `link`.
    Link { inode: u64, directory: u64, name: Name },
    /// `pwrite`.
    Write { inode: u64, offset: usize, bytes: Arc<[u8]> },
    /// `ftruncate`.
    SetSize { inode: u64, size: usize },
    /// `fallocate`, which with `KEEP_SIZE` changes nothing that can be seen.
    Allocate { inode: u64, end: Option<usize> },
    /// `fsync` or `fdatasync` of a file.
    Sync { inode: u64 },
    /// The same, failing: what it should have written is not tried again.
    SyncFailed { inode: u64 },
    /// `fsync` of a directory.
    SyncDirectory { inode: u64 },
}

impl std::fmt::Debug for Op {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let text = |name: &Name| String::from_utf8_lossy(name).into_owned();
        match self {
            Self::Create { directory, name, .. } => write!(f, "create {directory}/{}", text(name)),
            Self::Remove { directory, name } => write!(f, "remove {directory}/{}", text(name)),
            Self::Move { from, to } => {
                write!(f, "move {}/{} to {}/{}", from.0, text(&from.1), to.0, text(&to.1))
            }
            Self::Exchange { directory, one, other } => {
                write!(f, "exchange {directory}/{} and {}", text(one), text(other))
            }
            Self::Link { inode, directory, name } => {
                write!(f, "link {inode} to {directory}/{}", text(name))
            }
            Self::Write { inode, offset, bytes } => {
                write!(f, "write {inode}: {} at {offset}", bytes.len())
            }
            Self::SetSize { inode, size } => write!(f, "size {inode}: {size}"),
            Self::Allocate { inode, end } => write!(f, "allocate {inode}: {end:?}"),
            Self::Sync { inode } => write!(f, "sync {inode}"),
            Self::SyncFailed { inode } => write!(f, "sync {inode} failed"),
            Self::SyncDirectory { inode } => write!(f, "sync directory {inode}"),
        }
    }
}

/// Which of what was not synced is on the disk after a power cut.
#[derive(Clone, Copy, Debug)]
pub enum Survives {
    /// Nothing.
    Nothing,
    /// All of it.
    Everything,
    /// Some of it, chosen with this seed.
    Some(u64),
}

/// A file or a directory.
#[derive(Clone, Debug)]
enum Node {
    File(File),
    Directory(Directory),
}

#[derive(Clone, Debug, Default)]
struct File {
    live: Arc<Vec<u8>>,
    durable: Arc<Vec<u8>>,
    /// Blocks that the next sync writes.
    dirty: BTreeSet<usize>,
    /// Blocks that a failed sync has dropped: they are on the disk or not, and no sync helps.
    lost: BTreeSet<usize>,
}

#[derive(Clone, Debug, Default)]
struct Directory {
    live: BTreeMap<Name, u64>,
    durable: BTreeMap<Name, u64>,
}

/// A change of names in one directory that is not on the disk for sure.
#[derive(Clone, Debug)]
struct Step {
    number: u64,
    directory: u64,
    sets: Vec<(Name, Option<u64>)>,
    /// A change that is on the disk before this one.
    needs: Option<u64>,
}

/// The whole of it.
#[derive(Clone, Debug)]
pub struct Model {
    nodes: BTreeMap<u64, Node>,
    next_inode: u64,
    steps: Vec<Step>,
    next_step: u64,
}

impl Default for Model {
    fn default() -> Self {
        let nodes = BTreeMap::from([(ROOT, Node::Directory(Directory::default()))]);
        Self { nodes, next_inode: ROOT + 1, steps: Vec::new(), next_step: 0 }
    }
}

impl Model {
    /// Carries a request out; the number of what it made, or 0.
    ///
    /// # Errors
    /// As the system call.
    pub fn apply(&mut self, op: &Op) -> Result<u64, Errno> {
        match op {
            Op::Create { directory, name, is_directory } => {
                return self.create(*directory, name, *is_directory);
            }
            Op::Remove { directory, name } => {
                let inode = self.find(*directory, name)?;
                self.step(*directory, vec![(name.clone(), None)], None)?;
                let empty = self.entries(inode).is_none_or(|names| names.is_empty());
                debug_assert!(empty, "asked before");
            }
            Op::Move { from, to } => {
                let inode = self.find(from.0, &from.1)?;
                let (gone, come) = ((from.1.clone(), None), (to.1.clone(), Some(inode)));
                if from.0 == to.0 {
                    self.step(from.0, vec![gone, come], None)?;
                } else {
                    let new = self.step(to.0, vec![come], None)?;
                    self.step(from.0, vec![gone], Some(new))?;
                }
            }
            Op::Exchange { directory, one, other } => {
                let (first, second) = (self.find(*directory, one)?, self.find(*directory, other)?);
                let sets = vec![(one.clone(), Some(second)), (other.clone(), Some(first))];
                self.step(*directory, sets, None)?;
            }
            Op::Link { inode, directory, name } => {
                if self.find(*directory, name).is_ok() {
                    return Err(Errno::EXIST);
                }
                self.step(*directory, vec![(name.clone(), Some(*inode))], None)?;
            }
            Op::Write { inode, offset, bytes } => self.file_mut(*inode)?.write(*offset, bytes),
            Op::SetSize { inode, size } => self.file_mut(*inode)?.set_size(*size),
            Op::Allocate { inode, end } => {
                let file = self.file_mut(*inode)?;
                if let Some(end) = end.filter(|end| *end > file.live.len()) {
                    file.set_size(end);
                }
            }
            Op::Sync { inode } => self.file_mut(*inode)?.sync(),
            Op::SyncFailed { inode } => self.file_mut(*inode)?.lose(),
            Op::SyncDirectory { inode } => self.sync_directory(*inode),
        }
        Ok(0)
    }

    /// Carries out again what was recorded next.
    ///
    /// # Panics
    /// When it was recorded elsewhere.
    pub fn play(&mut self, ops: &[Op]) {
        for op in ops {
            self.apply(op).expect("it went well when it was recorded");
        }
    }

    fn create(&mut self, directory: u64, name: &Name, is_directory: bool) -> Result<u64, Errno> {
        if self.find(directory, name).is_ok() {
            return Err(Errno::EXIST);
        }
        let inode = self.next_inode;
        let node = if is_directory {
            Node::Directory(Directory::default())
        } else {
            Node::File(File::default())
        };
        self.step(directory, vec![(name.clone(), Some(inode))], None)?;
        self.nodes.insert(inode, node);
        self.next_inode += 1;
        Ok(inode)
    }

    /// Changes names as programs see them, and notes the change as not synced.
    fn step(
        &mut self,
        directory: u64,
        sets: Vec<(Name, Option<u64>)>,
        needs: Option<u64>,
    ) -> Result<u64, Errno> {
        set_all(&mut self.directory_mut(directory)?.live, &sets);
        let number = self.next_step;
        self.next_step += 1;
        self.steps.push(Step { number, directory, sets, needs });
        Ok(number)
    }

    fn sync_directory(&mut self, directory: u64) {
        let (mine, rest): (Vec<_>, Vec<_>) = std::mem::take(&mut self.steps)
            .into_iter()
            .partition(|step| step.directory == directory);
        self.steps = rest;
        for step in mine {
            if let Some(needed) = step.needs {
                self.make_last(needed);
            }
            if let Ok(directory) = self.directory_mut(directory) {
                set_all(&mut directory.durable, &step.sets);
            }
        }
    }

    /// Makes one change last, and with it what happened to the same directory before.
    fn make_last(&mut self, number: u64) {
        let Some(directory) =
            self.steps.iter().find(|step| step.number == number).map(|step| step.directory)
        else {
            return;
        };
        let due = |step: &Step| step.directory == directory && step.number <= number;
        let (due, rest): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.steps).into_iter().partition(due);
        self.steps = rest;
        for step in due {
            if let Ok(directory) = self.directory_mut(directory) {
                set_all(&mut directory.durable, &step.sets);
            }
        }
    }

    /// What stands on the disk when the power is cut now: all of it synced.
    #[must_use]
    pub fn cut(&self, survives: Survives) -> Self {
        let mut random = match survives {
            Survives::Nothing | Survives::Everything => Random::new(0),
            Survives::Some(seed) => Random::new(seed),
        };
        let mut names: BTreeMap<u64, BTreeMap<Name, u64>> = self
            .nodes
            .iter()
            .filter_map(|(inode, node)| match node {
                Node::Directory(directory) => Some((*inode, directory.durable.clone())),
                Node::File(_) => None,
            })
            .collect();
        let pending: BTreeSet<u64> = self.steps.iter().map(|step| step.number).collect();
        let mut chosen = BTreeSet::new();
        for step in &self.steps {
            let possible = step
                .needs
                .is_none_or(|needed| !pending.contains(&needed) || chosen.contains(&needed));
            let survived = match survives {
                Survives::Nothing => false,
                Survives::Everything => true,
                Survives::Some(_) => random.below(2) == 0,
            };
            if possible && survived {
                chosen.insert(step.number);
                set_all(names.entry(step.directory).or_default(), &step.sets);
            }
        }
        let mut nodes = BTreeMap::new();
        let mut left = vec![ROOT];
        while let Some(inode) = left.pop() {
            let node = match self.nodes.get(&inode) {
                Some(Node::File(file)) => {
                    let bytes = Arc::new(file.cut(survives, &mut random));
                    let (live, durable) = (Arc::clone(&bytes), bytes);
                    Node::File(File { live, durable, ..File::default() })
                }
                Some(Node::Directory(_)) => {
                    let live = names.remove(&inode).unwrap_or_default();
                    left.extend(live.values().copied().filter(|inode| !nodes.contains_key(inode)));
                    Node::Directory(Directory { durable: live.clone(), live })
                }
                None => continue,
            };
            nodes.insert(inode, node);
        }
        Self { nodes, next_inode: self.next_inode, steps: Vec::new(), next_step: 0 }
    }

    /// The number that a name stands for.
    ///
    /// # Errors
    /// `ENOENT`, `ENOTDIR`
    pub fn find(&self, directory: u64, name: &[u8]) -> Result<u64, Errno> {
        let names = self.entries(directory).ok_or(Errno::NOTDIR)?;
        names.get(name).copied().ok_or(Errno::NOENT)
    }

    /// The names in a directory.
    #[must_use]
    pub fn entries(&self, inode: u64) -> Option<&BTreeMap<Name, u64>> {
        match self.nodes.get(&inode)? {
            Node::Directory(directory) => Some(&directory.live),
            Node::File(_) => None,
        }
    }

    /// The bytes of a file.
    #[must_use]
    pub fn bytes(&self, inode: u64) -> Option<&[u8]> {
        match self.nodes.get(&inode)? {
            Node::File(file) => Some(&file.live),
            Node::Directory(_) => None,
        }
    }

    fn file_mut(&mut self, inode: u64) -> Result<&mut File, Errno> {
        match self.nodes.get_mut(&inode) {
            Some(Node::File(file)) => Ok(file),
            Some(Node::Directory(_)) => Err(Errno::ISDIR),
            None => Err(Errno::STALE),
        }
    }

    fn directory_mut(&mut self, inode: u64) -> Result<&mut Directory, Errno> {
        match self.nodes.get_mut(&inode) {
            Some(Node::Directory(directory)) => Ok(directory),
            Some(Node::File(_)) => Err(Errno::NOTDIR),
            None => Err(Errno::STALE),
        }
    }
}

impl File {
    fn write(&mut self, offset: usize, bytes: &[u8]) {
        let end = offset + bytes.len();
        let live = Arc::make_mut(&mut self.live);
        if live.len() < end {
            live.resize(end, 0);
        }
        live[offset..end].copy_from_slice(bytes);
        self.touch(offset, end);
    }

    fn set_size(&mut self, size: usize) {
        let before = self.live.len();
        Arc::make_mut(&mut self.live).resize(size, 0);
        self.touch(size.min(before), size.max(before));
    }

    /// These bytes wait for a sync.
    fn touch(&mut self, start: usize, end: usize) {
        for block in start / BLOCK..end.div_ceil(BLOCK) {
            self.dirty.insert(block);
            self.lost.remove(&block);
        }
    }

    fn sync(&mut self) {
        let durable = Arc::make_mut(&mut self.durable);
        durable.resize(self.live.len(), 0);
        for block in std::mem::take(&mut self.dirty) {
            copy_block(durable, &self.live, block);
        }
    }

    fn lose(&mut self) {
        self.lost.append(&mut self.dirty);
    }

    /// The bytes on the disk after a power cut.
    fn cut(&self, survives: Survives, random: &mut Random) -> Vec<u8> {
        let size = match survives {
            Survives::Nothing => return self.durable.to_vec(),
            Survives::Everything => return self.live.to_vec(),
            Survives::Some(_) => {
                let (one, other) = (self.live.len(), self.durable.len());
                match random.below(4) {
                    0 => one,
                    1 => other,
                    2 => one.max(other),
                    _ => one.min(other) + random.below(one.abs_diff(other) + 1),
                }
            }
        };
        let mut bytes = self.durable.to_vec();
        bytes.resize(size, 0);
        // Either sectors or whole pages get there one by one.
        let together = [1, PAGE / BLOCK][random.below(2)];
        let (mut page, mut survived) = (usize::MAX, false);
        for block in self.dirty.union(&self.lost) {
            if block / together != page {
                page = block / together;
                survived = random.below(2) == 0;
            }
            if survived {
                copy_block(&mut bytes, &self.live, *block);
            }
        }
        bytes
    }
}

/// Copies a block, as far as there is room for it; beyond the end of the source are zeros.
fn copy_block(to: &mut [u8], from: &[u8], block: usize) {
    let start = (block * BLOCK).min(to.len());
    let end = (start + BLOCK).min(to.len());
    for (byte, at) in to[start..end].iter_mut().zip(start..) {
        *byte = from.get(at).copied().unwrap_or(0);
    }
}

fn set_all(names: &mut BTreeMap<Name, u64>, sets: &[(Name, Option<u64>)]) {
    for (name, inode) in sets {
        match inode {
            Some(inode) => names.insert(name.clone(), *inode),
            None => names.remove(name),
        };
    }
}

#[cfg(test)]
mod tests;
