//! What a store holds, for people and for scripts: `worm ls` and `worm status`.

use serde::Serialize;

use crate::catalog::Catalog;
use crate::catalog::DirectoryKind;
use crate::clock::Reading;
use crate::clock::rfc3339;
use crate::policy::Retention;
use crate::store::Loaded;

/// One file.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct FileRow {
    /// Where it is below the mount, percent-encoded.
    pub path: String,
    /// Length in bytes.
    pub size: u64,
    /// SHA-256; absent when incomplete.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
    /// `sealed`, `expired` or `incomplete`.
    pub state: &'static str,
    /// When it was sealed, RFC 3339.
    pub sealed_at: String,
    /// Until when it is kept, RFC 3339, in system time.
    pub retain_until: String,
    /// Seconds until then; negative when it has passed.
    pub left_seconds: i64,
}

/// One class.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct ClassRow {
    /// Its name.
    pub name: String,
    /// For how many seconds a new file is kept.
    pub retention_seconds: i64,
    /// Sealed files.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Files that were never finished.
    pub incomplete: u64,
    /// When its newest file was sealed, RFC 3339.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub newest: Option<String>,
}

/// A store at a glance.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct Status {
    /// Its id.
    pub store: String,
    /// Whether a daemon serves it.
    pub served: bool,
    /// Lines of the ledger.
    pub lines: u64,
    /// How many of them the signed head covers.
    pub signed: u64,
    /// The retention clock, RFC 3339.
    pub clock: String,
    /// By how many seconds the system clock is ahead of it.
    pub lag_seconds: i64,
    /// Its classes.
    pub classes: Vec<ClassRow>,
    /// What its daemon wants somebody to look at.
    pub alarms: Vec<String>,
}

/// The retention clock and the lag at a moment. When nobody serves the store and the machine was
/// started anew since, the clock stands where the next daemon would begin.
fn clock(catalog: &Catalog, reading: &Reading) -> (i64, i64) {
    let (anchor, _) = catalog.anchor.restart(reading.clone(), &catalog.credits);
    (anchor.clock_ms, reading.system_ms.saturating_sub(anchor.clock_ms))
}

/// Every finished file, by path.
#[must_use]
pub fn files(catalog: &Catalog, reading: &Reading) -> Vec<FileRow> {
    let (now_ms, lag_ms) = clock(catalog, reading);
    let mut rows: Vec<FileRow> = catalog
        .files()
        .map(|(id, file)| {
            let end = catalog.end_of(id).unwrap_or(file.retain_until_ms);
            FileRow {
                path: catalog.path(id).to_string(),
                size: file.size,
                sha256: file.sha256.map(|sha256| sha256.to_string()),
                state: match file.sha256 {
                    None => "incomplete",
                    Some(_) if catalog.retention_of(id, now_ms) == Retention::Over => "expired",
                    Some(_) => "sealed",
                },
                sealed_at: rfc3339(file.sealed_system_ms),
                retain_until: rfc3339(end.saturating_add(lag_ms)),
                left_seconds: end.saturating_sub(now_ms) / 1000,
            }
        })
        .collect();
    rows.sort_by(|a, b| a.path.cmp(&b.path));
    rows
}

/// A store at a glance.
#[must_use]
pub fn status(loaded: &Loaded, reading: &Reading, served: bool, alarms: Vec<String>) -> Status {
    let catalog = &loaded.catalog;
    let (now_ms, lag_ms) = clock(catalog, reading);
    let mut classes: Vec<(u64, ClassRow, i64)> = catalog
        .directories()
        .filter_map(|(id, directory)| match &directory.kind {
            DirectoryKind::Class(rule) => {
                let row = ClassRow {
                    name: catalog.path(id).to_string(),
                    retention_seconds: rule.retention / 1000,
                    files: 0,
                    bytes: 0,
                    incomplete: 0,
                    newest: None,
                };
                Some((id, row, i64::MIN))
            }
            DirectoryKind::Root | DirectoryKind::Incomplete | DirectoryKind::Plain => None,
        })
        .collect();
    for (id, file) in catalog.files() {
        let class = catalog.class_of(id).map(|(class, _)| class);
        let Some((_, row, newest)) = classes.iter_mut().find(|(id, ..)| Some(*id) == class) else {
            continue;
        };
        if file.is_incomplete() {
            row.incomplete += 1;
            continue;
        }
        row.files += 1;
        row.bytes += file.size;
        if file.sealed_system_ms > *newest {
            *newest = file.sealed_system_ms;
            row.newest = Some(rfc3339(file.sealed_system_ms));
        }
    }
    let mut classes: Vec<ClassRow> = classes.into_iter().map(|(_, row, _)| row).collect();
    classes.sort_by(|a, b| a.retention_seconds.cmp(&b.retention_seconds).then(a.name.cmp(&b.name)));
    Status {
        store: catalog.store.clone(),
        served,
        lines: catalog.seq,
        signed: loaded.signed,
        clock: rfc3339(now_ms),
        lag_seconds: lag_ms / 1000,
        classes,
        alarms,
    }
}
