//! PURE: what a store holds, for people and for scripts. It is told from the catalog, so a
//! daemon and whoever reads the ledger of a store that nobody serves say the same.

mod describe;
mod expiry;

use serde::Deserialize;
use serde::Serialize;

pub use describe::Description;
pub use describe::FileAttributes;
pub use describe::HoldRow;
pub use describe::InClass;
pub use describe::Keeping;
pub use describe::Standing;
pub use describe::describe;
pub use expiry::ExpiryPlan;
pub use expiry::GroupRow;
pub use expiry::Keeper;
pub use expiry::KeptRow;
pub use expiry::expiry;

use crate::catalog::Catalog;
use crate::catalog::DirectoryKind;
use crate::clock::ClockReport;
use crate::clock::Reading;
use crate::clock::credit_left;
use crate::clock::rfc3339;
use crate::fs::ClassUsage;
use crate::policy::Retention;
use crate::refusals::RefusalCount;

/// One file.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct FileRow {
    /// Where it is below the mount, percent-encoded.
    pub path: String,
    /// Length in bytes; of a log, what the ledger covers.
    pub size: u64,
    /// SHA-256 of these bytes; absent when incomplete.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
    /// `sealed`, `expired`, `incomplete` or `appending`.
    pub state: &'static str,
    /// When it was sealed, or last recorded, RFC 3339.
    pub sealed_at: String,
    /// Until when it is kept, RFC 3339, in system time.
    pub retain_until: String,
    /// Seconds until then; negative when it has passed.
    pub left_seconds: i64,
}

/// One class.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
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
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub newest: Option<String>,
}

/// The disk below a store.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct Room {
    /// Its size in bytes.
    pub bytes: u64,
    /// What can still be written, in bytes.
    pub free_bytes: u64,
}

impl Room {
    /// As `statvfs` tells it.
    #[must_use]
    pub fn of(disk: &rustix::fs::StatVfs) -> Self {
        Self {
            bytes: disk.f_blocks.saturating_mul(disk.f_frsize),
            free_bytes: disk.f_bavail.saturating_mul(disk.f_frsize),
        }
    }
}

/// The sealed file that was not read for the longest time.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct Unread {
    /// Where it is below the mount, percent-encoded.
    pub path: String,
    /// How many seconds ago it was sealed, or the pass that read it began.
    pub seconds: i64,
}

/// What only a daemon knows.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
pub struct Serving {
    /// Its process id, in its own PID namespace.
    pub pid: u32,
    /// Its version.
    pub version: String,
    /// When it began to serve, RFC 3339.
    pub started_at: String,
    /// Files being written, or on their way to their seal.
    pub open_files: usize,
    /// Lines since the newest head that was read through a view, by whomever and whatever became
    /// of it; absent when none was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unwitnessed: Option<u64>,
    /// Requests refused since its start.
    pub refusals: Vec<RefusalCount>,
    /// What each class has of what it may have.
    #[serde(default)]
    pub usage: Vec<ClassUsage>,
}

/// A store at a glance.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
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
    /// The disk that it is on, where that can be asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub room: Option<Room>,
    /// The sealed file that was not read for the longest time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unread: Option<Unread>,
    /// Its classes.
    pub classes: Vec<ClassRow>,
    /// What its daemon says of itself, where it could be asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub daemon: Option<Serving>,
    /// What its daemon wants somebody to look at.
    pub alarms: Vec<String>,
}

/// The retention clock and the lag at a moment.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Now {
    /// The retention clock, milliseconds.
    pub clock_ms: i64,
    /// By how much the system clock is ahead of it, milliseconds.
    pub lag_ms: i64,
}

impl Now {
    /// At `reading`. When nobody serves the store and the machine was started anew since, the
    /// clock stands where the next daemon would begin.
    #[must_use]
    pub fn of(catalog: &Catalog, reading: &Reading) -> Self {
        let (anchor, _) = catalog.anchor.restart(reading.clone(), &catalog.credits);
        let lag_ms = reading.system_ms.saturating_sub(anchor.clock_ms);
        Self { clock_ms: anchor.clock_ms, lag_ms }
    }

    /// A moment of the retention clock as the system clock will show it, RFC 3339.
    #[must_use]
    pub fn in_system_time(self, ms: i64) -> String {
        rfc3339(ms.saturating_add(self.lag_ms))
    }
}

/// Where the retention clock stands at `reading`, and why it is not the system clock.
#[must_use]
pub fn clock(catalog: &Catalog, reading: &Reading, doubt: Option<String>) -> ClockReport {
    let (anchor, credit_ms) = catalog.anchor.restart(reading.clone(), &catalog.credits);
    // After a reboot that no daemon has seen, what the next one would not credit.
    let lost_ms = catalog.anchor.down(reading).saturating_sub(credit_ms);
    ClockReport {
        clock_ms: anchor.clock_ms,
        system_ms: reading.system_ms,
        lag_ms: reading.system_ms.saturating_sub(anchor.clock_ms),
        uncredited_ms: catalog.uncredited_ms.saturating_add(lost_ms),
        credit_left_ms: credit_left(anchor.clock_ms, &catalog.credits),
        doubt,
    }
}

/// Every finished file, by path.
#[must_use]
pub fn files(catalog: &Catalog, now: Now) -> Vec<FileRow> {
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
                    Some(_) if catalog.retention_of(id, now.clock_ms) == Retention::Over => {
                        "expired"
                    }
                    Some(_) if catalog.is_log(id) => "appending",
                    Some(_) => "sealed",
                },
                sealed_at: rfc3339(file.sealed_system_ms),
                retain_until: now.in_system_time(end),
                left_seconds: end.saturating_sub(now.clock_ms) / 1000,
            }
        })
        .collect();
    rows.sort_by(|a, b| a.path.cmp(&b.path));
    rows
}

/// A store at a glance; `signed` lines of its ledger are under the signed head.
#[must_use]
pub fn status(
    catalog: &Catalog,
    signed: u64,
    now: Now,
    room: Option<Room>,
    daemon: Option<Serving>,
    alarms: Vec<String>,
) -> Status {
    Status {
        store: catalog.store.clone(),
        served: daemon.is_some(),
        lines: catalog.seq,
        signed,
        clock: rfc3339(now.clock_ms),
        lag_seconds: now.lag_ms / 1000,
        room,
        unread: catalog.oldest_read().map(|(id, read_ms)| Unread {
            path: catalog.path(id).to_string(),
            seconds: now.clock_ms.saturating_sub(read_ms) / 1000,
        }),
        classes: classes(catalog),
        daemon,
        alarms,
    }
}

/// The classes, those that keep shortest first.
fn classes(catalog: &Catalog) -> Vec<ClassRow> {
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
    classes
}
