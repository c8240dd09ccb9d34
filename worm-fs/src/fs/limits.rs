//! What classes have of what they may have: files that are open for too long, alarms, and what
//! is told of it.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Deserialize;
use serde::Serialize;

use super::WormFs;
use super::meter::Share;
use super::open_file::Ending;
use super::open_file::OpenFile;
use super::state::Scarce;
use crate::error::Result;
use crate::policy::limits;
use crate::policy::limits::Amounts;
use crate::policy::limits::LIMITS;
use crate::policy::limits::Limit;

/// What a class has of what it may have.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct ClassUsage {
    /// Its name, percent-encoded.
    pub class: String,
    /// One row for each limit but that of a single file.
    pub limits: Vec<LimitUsage>,
}

/// What a class has of one thing that is limited.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct LimitUsage {
    /// Its key in `worm.toml`.
    pub name: String,
    /// What the class has, files that are being written included.
    pub used: u64,
    /// What it may have.
    pub limit: u64,
}

impl WormFs {
    /// What each class has of what it may have, by its name.
    #[must_use]
    pub fn usage(&self) -> Vec<ClassUsage> {
        let now_ms = self.now_ms();
        let mut state = self.state.write();
        state.settle(now_ms);
        let mut classes: Vec<ClassUsage> = state
            .meters()
            .map(|(class, has, may_have)| {
                let shown = LIMITS.into_iter().filter(|limit| *limit != Limit::FileBytes);
                let rows = shown.map(|limit| LimitUsage {
                    name: limit.to_string(),
                    used: has.get(limit),
                    limit: may_have.get(limit),
                });
                ClassUsage { class: state.catalog.path(class).to_string(), limits: rows.collect() }
            })
            .collect();
        classes.sort_by(|a, b| a.class.cmp(&b.class));
        classes
    }

    /// Counts what is about to be recorded, until that is done.
    pub(super) fn share(&self, within: u64, more: Amounts) -> Result<Share> {
        let now_ms = self.now_ms();
        self.state.write().share(within, more, now_ms)
    }

    /// Gives up files that are open for too long. Uptime counts: no setting of a clock ends a
    /// backup.
    pub(super) fn end_overdue(&self, uptime_ms: i64) {
        let overdue: Vec<(Arc<OpenFile>, &'static str)> = {
            let state = self.state.read();
            let why = |open: &Arc<OpenFile>| {
                let (_, rule) = state.catalog.class_of(open.parent)?;
                open.overdue(&rule.limits, uptime_ms)
            };
            let open = state.open.values();
            open.filter_map(|open| Some((Arc::clone(open), why(open)?))).collect()
        };
        for (open, why) in overdue {
            // One that is on its way to its seal has ended and is left alone.
            if self.end(&open, Ending::Overdue(why)).is_some() {
                tracing::warn!(id = open.id, name = ?open.name, why, "given up");
            }
        }
    }

    /// Raises alarms for what runs out, and ends those whose reason is gone.
    pub(super) fn watch_limits(&self, now_ms: i64) {
        let look = match self.room.look() {
            Ok(look) => look,
            Err(error) => return tracing::error!(%error, "limits are not watched"),
        };
        let mut state = self.state.write();
        state.disk_bytes = look.disk_bytes;
        state.settle(now_ms);
        let mut scarce = BTreeMap::new();
        if look.admit().is_err() {
            let what = "the disk is full, up to the reserve of the ledger: nothing new is taken";
            scarce.insert(Scarce::Room, what.to_owned());
        }
        for (class, has, may_have) in state.meters() {
            for limit in limits::half_full(has, may_have) {
                let path = state.catalog.path(class);
                let most = shown(limit, may_have.get(limit));
                let what = format!(
                    "class {path}: half of its limits.{limit} ({most}) is used: look who writes, \
                     or raise it in worm.toml"
                );
                scarce.insert(Scarce::Class(class, limit), what);
            }
        }
        state.scarce(scarce);
    }
}

/// A number as a person reads it.
fn shown(limit: Limit, amount: u64) -> String {
    match limit {
        Limit::Bytes | Limit::FileBytes | Limit::BytesPerDay => format!("{} MiB", amount >> 20),
        Limit::Files | Limit::Directories | Limit::OpenFiles | Limit::CreatesPerDay => {
            amount.to_string()
        }
    }
}
