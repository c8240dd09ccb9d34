//! PURE: what would be removed now, and what is kept beyond its end and by which rule.

use serde::Deserialize;
use serde::Serialize;

use super::Now;
use crate::catalog::Catalog;
use crate::policy::retention;
use crate::policy::retention::Group;

/// How many groups are listed of each kind; the rest is counted.
pub(super) const LISTED_MAX: usize = 1000;

/// What expiry would do.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
pub struct ExpiryPlan {
    /// Nothing keeps these: the store removes them at its next round. Oldest end first.
    pub due: Vec<GroupRow>,
    /// How many there are, listed or not.
    pub due_count: usize,
    /// These have a file whose own end has passed, and are kept all the same. Oldest end first.
    pub kept: Vec<KeptRow>,
    /// How many there are, listed or not.
    pub kept_count: usize,
    /// The end that comes next, RFC 3339, in system time as it runs now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_end: Option<String>,
}

/// Files that end together.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct GroupRow {
    /// Their paths, percent-encoded, the main file first.
    pub files: Vec<String>,
    /// Their bytes.
    pub bytes: u64,
    /// Their end, RFC 3339, in system time as it runs now.
    pub end: String,
}

/// Files that are kept although an end has passed.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct KeptRow {
    /// The files.
    #[serde(flatten)]
    pub group: GroupRow,
    /// What keeps them.
    pub by: Vec<Keeper>,
}

/// A rule that keeps files beyond an end.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "rule")]
pub enum Keeper {
    /// A hold.
    Hold {
        /// What it is called.
        name: String,
    },
    /// They are one of the newest whole groups of their directory.
    KeepLast {
        /// How many of those are kept.
        keep_last: usize,
    },
    /// A file of the group ends later, and they end together.
    Group,
    /// Something is in doubt, and nothing goes until that is settled.
    Doubt {
        /// What.
        why: String,
    },
}

/// What expiry would do now; `doubt` tells what freezes a file that is over.
#[must_use]
pub fn expiry(catalog: &Catalog, now: Now, doubt: impl Fn(u64) -> Option<String>) -> ExpiryPlan {
    let (mut due, mut kept, mut next) = (Vec::new(), Vec::new(), None);
    for (id, directory) in catalog.directories() {
        let groups = catalog.groups_in(directory);
        let keep_last = catalog.class_of(id).map_or(0, |(_, rule)| rule.keep_last);
        let protected = retention::protected(&groups, keep_last);
        for group in groups {
            let is_over = group.until_ms <= now.clock_ms;
            let last = group.files.first().is_some_and(|main| protected.contains(main));
            let mut by: Vec<Keeper> = Vec::new();
            let main = group.files.first().copied().unwrap_or_default();
            by.extend(catalog.holds_of(main).map(|hold| Keeper::Hold { name: hold.name.clone() }));
            by.extend((is_over && last).then_some(Keeper::KeepLast { keep_last }));
            if is_over && by.is_empty() {
                by.extend(doubt(main).map(|why| Keeper::Doubt { why }));
            }
            if !is_over {
                by.push(Keeper::Group);
                next = Some(group.until_ms.min(next.unwrap_or(i64::MAX)));
            }
            if by.is_empty() {
                due.push(group);
            } else if has_ended_file(catalog, &group, now) {
                kept.push((group, by));
            }
        }
    }
    due.sort_by_key(|group| group.until_ms);
    kept.sort_by_key(|(group, _)| group.until_ms);
    let row = |group: &Group| row(catalog, now, group);
    ExpiryPlan {
        due: due.iter().take(LISTED_MAX).map(row).collect(),
        due_count: due.len(),
        kept_count: kept.len(),
        kept: kept
            .into_iter()
            .take(LISTED_MAX)
            .map(|(group, by)| KeptRow { group: row(&group), by })
            .collect(),
        next_end: next.map(|end| now.in_system_time(end)),
    }
}

fn has_ended_file(catalog: &Catalog, group: &Group, now: Now) -> bool {
    let mut files = group.files.iter().filter_map(|id| catalog.get_file(*id));
    files.any(|file| file.retain_until_ms <= now.clock_ms)
}

fn row(catalog: &Catalog, now: Now, group: &Group) -> GroupRow {
    let files = group.files.iter();
    GroupRow {
        files: files.clone().map(|id| catalog.path(*id).to_string()).collect(),
        bytes: files.filter_map(|id| catalog.get_file(*id)).map(|file| file.size).sum(),
        end: now.in_system_time(group.until_ms),
    }
}
