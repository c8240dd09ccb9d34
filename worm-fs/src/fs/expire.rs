//! What the store does by itself: removes what is over, notes the clocks, and ends what it could
//! not end before.

use super::WormFs;
use super::state::Doubt;
use crate::catalog::File;
use crate::clock::HOUR_MS;
use crate::error::Result;
use crate::policy::Retention;
use crate::policy::name::Name;
use crate::record::Actor;
use crate::record::Event;

/// How often the clocks are noted in the ledger. After a reboot, what ran since the last note
/// counts as downtime.
const CLOCK_NOTE_MS: i64 = HOUR_MS;
/// The most files removed in one go, so that nobody waits long behind it.
const REMOVALS_MAX: usize = 64;

impl WormFs {
    /// Removes groups that are over, oldest first, notes the clocks when it is time, and tries
    /// again what the disk refused before: to record the end of a file, to move data into its
    /// place, to remove it. Keeps which head was read through a view. Returns how many files were removed; call it
    /// again while that is not zero.
    ///
    /// # Errors
    /// What the disk says.
    pub fn housekeep(&self) -> Result<usize> {
        self.keep_house(None)
    }

    /// As [`Self::housekeep`], because the admin wants it now: what goes is recorded with who did
    /// that.
    ///
    /// # Errors
    /// What the disk says.
    pub fn expire_now(&self, by: Actor) -> Result<usize> {
        self.keep_house(Some(by))
    }

    fn keep_house(&self, by: Option<Actor>) -> Result<usize> {
        if self.committer.is_none() {
            return Ok(0);
        }
        let (reading, doubt) = (self.clock.read(), self.clock.doubt());
        self.state.write().doubt(Doubt::Clock, doubt);
        self.keep_carried();
        let (now_ms, noted_ms) = {
            let state = self.state.read();
            state.accepting()?;
            (state.catalog.anchor.now(&reading), state.catalog.anchor.clock_ms)
        };
        if now_ms.saturating_sub(noted_ms) >= CLOCK_NOTE_MS {
            self.commit(vec![Event::Clock { reading: reading.clone() }])?;
        }
        if let Err(error) = self.give_up_failed() {
            tracing::warn!(%error, "the end of a file still cannot be recorded");
        }
        self.place_again();
        self.remove_again();
        self.end_overdue(reading.raw_ms);
        self.watch_limits(now_ms);
        self.expire(now_ms, by)
    }

    /// The next groups to remove. They are looked for in all directories when those that were found
    /// the last time are gone: however many are over, each directory is sorted once or twice.
    fn next_over(&self, now_ms: i64) -> Vec<Vec<u64>> {
        let mut over = self.over.lock();
        let (mut groups, mut files, mut looked) = (Vec::new(), 0, false);
        while files < REMOVALS_MAX {
            let Some(group) = over.pop_front() else {
                if looked || files > 0 {
                    break;
                }
                *over = self.state.read().catalog.over(now_ms).into();
                looked = true;
                continue;
            };
            let state = self.state.read();
            // Since they were found somebody may have put a hold on one, or lengthened it.
            let over = |main: &u64| state.catalog.retention_of(*main, now_ms) == Retention::Over;
            let frozen = group.iter().any(|id| state.is_frozen(*id, now_ms));
            if group.first().is_some_and(over) && !frozen {
                files += group.len();
                groups.push(group);
            }
        }
        groups
    }

    fn expire(&self, now_ms: i64, by: Option<Actor>) -> Result<usize> {
        let mut groups = self.next_over(now_ms);
        // What came last to a log is yet to be recorded, and moves its end.
        groups.retain(|group| self.close_logs(group));
        if groups.is_empty() {
            return Ok(0);
        }
        let mut removals: Vec<(u64, Name, Event)> = Vec::new();
        {
            let mut state = self.state.write();
            for group in groups {
                // The sidecars go first: a backup without its manifest is no backup.
                for id in group.into_iter().rev() {
                    let Some(File { parent, name, .. }) = state.catalog.get_file(id).cloned()
                    else {
                        continue;
                    };
                    // What is not in its place stays until it is.
                    let on_its_way =
                        state.open.contains_key(&id) || state.unplaced.contains_key(&id);
                    if on_its_way || !state.leave(id, parent, &name) {
                        continue;
                    }
                    let path = state.catalog.path(id);
                    tracing::info!(%path, "expired");
                    let (why, uid) = ("expired".to_owned(), by.map(|by| by.uid));
                    let login_uid = by.and_then(|by| by.login_uid);
                    let event = Event::Removed { id, path, why, uid, login_uid };
                    removals.push((parent, name, event));
                }
            }
        }
        let removed = removals.len();
        if removed > 0 {
            self.carry_out(removals)?;
        }
        Ok(removed)
    }
}
