//! PURE: what a ledger says should stand in `data/`, also when only a part of its lines is left.

use std::collections::BTreeMap;
use std::collections::BTreeSet;

use crate::catalog::Catalog;
use crate::policy::name::INCOMPLETE;
use crate::policy::name::StorePath;
use crate::record::Digest;
use crate::record::Event;

/// What a line says about a path. Nothing here can contradict anything, so it can be followed
/// when lines before it are gone.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Fact {
    /// A file was finished.
    File(StorePath, KnownFile),
    /// A directory was made.
    Directory(StorePath),
    /// A file or directory was removed.
    Gone(StorePath),
    /// A daemon began, and what was removed before is gone.
    Began,
    /// Nothing about `data/`.
    Other,
}

/// A file that should be there.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct KnownFile {
    /// Its number.
    pub(super) id: u64,
    /// Length in bytes.
    pub(super) size: u64,
    /// SHA-256 of its bytes; absent when it is incomplete: nothing was promised about it.
    pub(super) sha256: Option<Digest>,
    /// It is a log: it may be longer, and what comes after `size` is not recorded yet.
    pub(super) is_log: bool,
}

/// Everything that should be there.
#[derive(Debug, Default)]
pub(super) struct Known {
    /// Finished files.
    pub(super) files: BTreeMap<StorePath, KnownFile>,
    /// Directories.
    pub(super) directories: BTreeSet<StorePath>,
    /// What was removed and may still be on its way out.
    pub(super) leaving: BTreeSet<StorePath>,
    /// Lines of the ledger are gone, and with them records of what may be right.
    pub(super) lines_lost: bool,
}

impl Fact {
    pub(super) fn of(event: &Event) -> Self {
        if let Event::Sealed { id, path, size, sha256, .. } = event {
            let file = KnownFile { id: *id, size: *size, sha256: Some(*sha256), is_log: false };
            Self::File(path.clone(), file)
        } else if let Event::Appended { id, path, size, sha256, .. } = event {
            let file = KnownFile { id: *id, size: *size, sha256: Some(*sha256), is_log: true };
            Self::File(path.clone(), file)
        } else if let Event::LogMade { id, path, .. } = event {
            let sha256 = Some(Digest::of(b""));
            Self::File(path.clone(), KnownFile { id: *id, size: 0, sha256, is_log: true })
        } else if let Event::Incomplete { id, path, size, .. } = event {
            let file = KnownFile { id: *id, size: *size, sha256: None, is_log: false };
            Self::File(path.clone(), file)
        } else if let Event::Class { path, .. } | Event::DirectoryMade { path, .. } = event {
            Self::Directory(path.clone())
        } else if let Event::Removed { path, .. } | Event::DirectoryRemoved { path, .. } = event {
            Self::Gone(path.clone())
        } else if let Event::Started { unremoved: 0, .. } = event {
            Self::Began
        } else {
            Self::Other
        }
    }

    /// The path that this is about.
    pub(super) fn path(&self) -> Option<&StorePath> {
        match self {
            Self::File(path, _) | Self::Directory(path) | Self::Gone(path) => Some(path),
            Self::Began | Self::Other => None,
        }
    }
}

impl Known {
    /// What a whole ledger amounts to.
    pub(super) fn of_catalog(catalog: &Catalog) -> Self {
        let file = |id, file: &crate::catalog::File| KnownFile {
            id,
            size: file.size,
            sha256: file.sha256,
            is_log: catalog.is_log(id),
        };
        Self {
            files: catalog.files().map(|(id, f)| (catalog.path(id), file(id, f))).collect(),
            directories: catalog.directories().map(|(id, _)| catalog.path(id)).collect(),
            leaving: catalog.removed.keys().cloned().collect(),
            lines_lost: false,
        }
    }

    /// Follows one more line.
    pub(super) fn apply(&mut self, fact: &Fact) {
        match fact {
            Fact::File(path, file) => {
                self.files.insert(path.clone(), *file);
                // Directories that a lost line made.
                let mut above = path.split().0;
                while above != StorePath::root() {
                    self.add_directory(&above);
                    above = above.split().0;
                }
            }
            Fact::Directory(path) => self.add_directory(path),
            Fact::Gone(path) => {
                self.files.remove(path);
                self.directories.remove(path);
                self.leaving.insert(path.clone());
            }
            Fact::Began => self.leaving.clear(),
            Fact::Other => {}
        }
    }

    fn add_directory(&mut self, path: &StorePath) {
        self.directories.insert(path.clone());
        // A class is recorded together with the place of what was never finished in it.
        if path.components().count() == 1 {
            self.directories.insert(path.join(INCOMPLETE.as_bytes()));
        }
    }

    /// Whether the same stands at a path in both.
    pub(super) fn agrees(&self, other: &Self, path: &StorePath) -> bool {
        self.files.get(path) == other.files.get(path)
            && self.directories.contains(path) == other.directories.contains(path)
    }

    /// Whether anything stands at a path.
    pub(super) fn contains(&self, path: &StorePath) -> bool {
        self.files.contains_key(path) || self.directories.contains(path)
    }
}
