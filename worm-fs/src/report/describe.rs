//! PURE: everything that is known about one path, as `worm show` and `worm why` tell it.

use serde::Deserialize;
use serde::Serialize;

use super::Now;
use crate::catalog::Catalog;
use crate::catalog::Directory;
use crate::catalog::DirectoryKind;
use crate::catalog::File;
use crate::catalog::Node;
use crate::clock::rfc3339;
use crate::config::Mode;
use crate::policy::Retention;
use crate::policy::name::StorePath;
use crate::record::Actor;

/// What stands at a path.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Standing {
    /// Nothing, and something may be made there.
    Free,
    /// Nothing, and nothing may be made there: files live in classes.
    NotAClass,
    /// Nothing, and its directory is not there either.
    NoDirectory,
    /// Data that nobody recorded: it is not served, and its name stays taken.
    Stray,
    /// Something that is being made or removed at this moment.
    Moving,
    /// The root of the mount.
    Root,
    /// A class.
    Class,
    /// A directory inside a class.
    Directory,
    /// `.incomplete` of a class.
    IncompleteDirectory,
    /// A file that somebody writes.
    Writing,
    /// A file that was closed; the seal is on its way.
    Closing,
    /// A sealed file that something keeps.
    Sealed,
    /// A log, which grows at its end and is kept.
    Appending,
    /// A sealed file or a log that nothing keeps any more.
    Expired,
    /// A file that was never finished.
    Incomplete,
}

/// Everything known about one path.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct Description {
    /// The path below the mount, percent-encoded.
    pub path: String,
    /// What stands there.
    pub standing: Standing,
    /// The class it is in, with its rule.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub class: Option<InClass>,
    /// How many entries a directory has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub entries: Option<usize>,
    /// Of a file: its attributes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<FileAttributes>,
    /// Of a finished file: what keeps it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kept: Option<Keeping>,
}

/// A class, as far as its files are concerned.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct InClass {
    /// Its name, percent-encoded.
    pub name: String,
    /// For how many seconds a file sealed now is kept.
    pub retention_seconds: i64,
    /// Up to how many seconds after its seal a file's end may be moved.
    pub max_retention_seconds: i64,
    /// Whether the admin may release files sealed now.
    pub mode: Mode,
    /// How many of the newest whole groups of each directory are kept however old.
    pub keep_last: usize,
    /// Its files are logs.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub append_only: bool,
}

/// What `stat` shows of a file, and its digest.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct FileAttributes {
    /// Length in bytes.
    pub size: u64,
    /// SHA-256 of a sealed file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
    /// Permission bits, octal.
    pub mode: String,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Modification time, RFC 3339.
    pub modified_at: String,
}

/// What keeps a finished file.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct Keeping {
    /// When it was sealed or given up, or as a log last recorded, RFC 3339.
    pub sealed_at: String,
    /// The end that its own seal or extension gave it, RFC 3339, in system time as it runs now.
    pub own_end: String,
    /// The end of its group, RFC 3339, in system time as it runs now.
    pub retain_until: String,
    /// Seconds until then; negative when it has passed.
    pub left_seconds: i64,
    /// It was sealed in governance mode, as were all of its group: the admin may release it.
    pub governance: bool,
    /// The files that end together with it, itself among them, the main file first.
    pub group: Vec<String>,
    /// It is in one of the newest whole groups of its directory: those stay however old.
    pub keep_last: bool,
    /// The holds on it and its group.
    pub holds: Vec<HoldRow>,
    /// What is in doubt, so that it stays although its end has passed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub doubt: Option<String>,
}

/// A hold.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct HoldRow {
    /// What it is called.
    pub name: String,
    /// Why it was put.
    pub reason: String,
    /// By whom.
    pub by: Actor,
    /// When, RFC 3339.
    pub since: String,
}

/// Everything that the ledger knows about a path.
#[must_use]
pub fn describe(catalog: &Catalog, now: Now, path: &StorePath) -> Description {
    let id = catalog.find(path);
    let standing = match id.and_then(|id| catalog.get(id)) {
        Some(Node::Directory(directory)) => of_directory(directory),
        Some(Node::File(file)) => of_file(catalog, now, id.unwrap_or_default(), file),
        None => of_nothing(catalog, path),
    };
    // A free name is told the class that it would be in.
    let near = (1..=path.components().count()).rev().find_map(|depth| above(catalog, path, depth));
    let found = id.or(near).filter(|_| standing != Standing::NotAClass);
    let class = found.and_then(|id| catalog.class_of(id)).map(|(class, rule)| InClass {
        name: catalog.path(class).to_string(),
        retention_seconds: rule.retention / 1000,
        max_retention_seconds: rule.max_retention.unwrap_or(rule.retention) / 1000,
        mode: rule.mode,
        keep_last: rule.keep_last,
        append_only: rule.append_only,
    });
    let file = id.and_then(|id| Some((id, catalog.get_file(id)?)));
    Description {
        path: path.to_string(),
        standing,
        class,
        entries: id.and_then(|id| catalog.get_directory(id)).map(|d| d.children.len()),
        file: file.map(|(_, file)| attributes(file)),
        kept: file.map(|(id, file)| keeping(catalog, now, id, file)),
    }
}

/// The directory that so many components of a path name.
fn above(catalog: &Catalog, path: &StorePath, depth: usize) -> Option<u64> {
    let join = |above: StorePath, name: &[u8]| above.join(name);
    catalog.find(&path.components().take(depth).fold(StorePath::root(), join))
}

fn of_directory(directory: &Directory) -> Standing {
    match directory.kind {
        DirectoryKind::Root => Standing::Root,
        DirectoryKind::Class(_) => Standing::Class,
        DirectoryKind::Incomplete => Standing::IncompleteDirectory,
        DirectoryKind::Plain => Standing::Directory,
    }
}

fn of_file(catalog: &Catalog, now: Now, id: u64, file: &File) -> Standing {
    match catalog.retention_of(id, now.clock_ms) {
        _ if file.is_incomplete() => Standing::Incomplete,
        Retention::Over | Retention::Frozen => Standing::Expired,
        Retention::Running | Retention::Held if catalog.is_log(id) => Standing::Appending,
        Retention::Running | Retention::Held => Standing::Sealed,
    }
}

fn of_nothing(catalog: &Catalog, path: &StorePath) -> Standing {
    let parent = catalog.find(&path.split().0).and_then(|id| catalog.get_directory(id));
    match parent.map(|directory| &directory.kind) {
        Some(DirectoryKind::Class(_) | DirectoryKind::Plain) => Standing::Free,
        Some(DirectoryKind::Root | DirectoryKind::Incomplete) => Standing::NotAClass,
        None => Standing::NoDirectory,
    }
}

fn attributes(file: &File) -> FileAttributes {
    FileAttributes {
        size: file.size,
        sha256: file.sha256.map(|sha256| sha256.to_string()),
        mode: format!("{:04o}", file.mode),
        uid: file.uid,
        gid: file.gid,
        modified_at: rfc3339(file.mtime_ns / 1_000_000),
    }
}

fn keeping(catalog: &Catalog, now: Now, id: u64, file: &File) -> Keeping {
    let end = catalog.end_of(id).unwrap_or(file.retain_until_ms);
    let holds = catalog.holds_of(id).map(|hold| HoldRow {
        name: hold.name.clone(),
        reason: hold.reason.clone(),
        by: hold.by,
        since: rfc3339(hold.since_ms),
    });
    Keeping {
        sealed_at: rfc3339(file.sealed_system_ms),
        own_end: now.in_system_time(file.retain_until_ms),
        retain_until: now.in_system_time(end),
        left_seconds: end.saturating_sub(now.clock_ms) / 1000,
        governance: catalog.is_governance(id),
        group: catalog.group_of(id).into_iter().map(|id| catalog.path(id).to_string()).collect(),
        keep_last: catalog.is_protected(id),
        holds: holds.collect(),
        doubt: None,
    }
}
