//! PURE: what a service remembers between two looks: what is sealed as far as it was seen, which
//! tries failed, which times were missed. All of it but the failures comes from what is sealed, so
//! a restart costs nothing but the patience of a retry.
//!
//! A clock that was set back would make backups of the future look like those of the times that are
//! still to come, and nothing would be backed up until it has caught up. So a backup that was ever
//! seen to begin in the future counts for nothing: what its clock said is not true.
//!
//! Of several databases a class is as well backed up as the one that is worst off. One that has no
//! backup yet, where others have, is made up for like a run that was missed.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::time::Duration;

use jiff::SignedDuration;
use jiff::Timestamp;

use super::Failed;
use super::Known;
use super::Run;
use super::Schedule;

/// Clocks that are corrected by less than this are not taken for wrong.
pub const TOLERANCE: SignedDuration = SignedDuration::from_mins(5);

/// What one service knows and remembers.
#[derive(Debug)]
pub struct Agenda {
    schedule: Schedule,
    classes: Vec<Class>,
}

/// Tells which backups of a class count.
#[derive(Clone, Debug)]
pub struct Judge {
    now: Timestamp,
    ahead: BTreeSet<Timestamp>,
}

impl Judge {
    /// Whether one that began at `start` does.
    #[must_use]
    pub fn counts(&self, start: Timestamp) -> bool {
        !is_ahead(start, self.now) && !self.ahead.contains(&start)
    }
}

/// What is sealed of one database in a class.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Sealed {
    /// The database.
    pub database: String,
    /// When its backups began: all that do not count, and the newest that does.
    pub starts: Vec<Timestamp>,
}

/// A backup that is to be made.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// In this class.
    pub class: String,
    /// For this time of the schedule.
    pub occurrence: Timestamp,
    /// Which backups count.
    pub judge: Judge,
}

impl Wanted {
    /// Whether one that began at `start` will do.
    #[must_use]
    pub fn is_met_by(&self, start: Timestamp) -> bool {
        start >= self.occurrence && self.judge.counts(start)
    }
}

#[derive(Debug)]
struct Class {
    name: String,
    /// Whether what is sealed could be seen.
    seen: bool,
    /// When the backups of each database began that count, the newest of them at least.
    databases: BTreeMap<String, BTreeSet<Timestamp>>,
    /// When those began that were seen to begin in the future.
    ahead: BTreeSet<Timestamp>,
    failure: Option<Failure>,
    /// All times until then were told to be missed, or served, before this service began.
    noted: Option<Timestamp>,
    /// All times until then were seen to be served or missed.
    settled: Option<Timestamp>,
    missed: u64,
}

#[derive(Clone, Copy, Debug)]
struct Failure {
    occurrence: Timestamp,
    tries: u32,
    /// By a clock that nobody sets.
    at: Duration,
    wrote: bool,
}

impl Class {
    /// Since when every database is backed up: the oldest of their newest.
    fn last_start(&self) -> Option<Timestamp> {
        let newest = self.oldest_newest()?;
        let all = self.databases.values().all(|starts| !starts.is_empty());
        // Where some have a backup, one that has none has it since before all time.
        Some(if all { newest } else { Timestamp::MIN })
    }

    /// The same, without those that have no backup.
    fn oldest_newest(&self) -> Option<Timestamp> {
        self.databases.values().filter_map(|starts| starts.last().copied()).min()
    }
}

impl Agenda {
    /// Knows nothing yet.
    #[must_use]
    pub fn new(schedule: Schedule) -> Self {
        let class = |name: &String| Class {
            name: name.clone(),
            seen: false,
            databases: BTreeMap::new(),
            ahead: BTreeSet::new(),
            failure: None,
            noted: None,
            settled: None,
            missed: 0,
        };
        let classes = schedule.lines.iter().map(|line| class(&line.class)).collect();
        Self { schedule, classes }
    }

    /// What it follows.
    #[must_use]
    pub fn schedule(&self) -> &Schedule {
        &self.schedule
    }

    /// Tells which backups of `class` count at `now`.
    #[must_use]
    pub fn judge(&self, class: &str, now: Timestamp) -> Judge {
        let class = self.classes.iter().find(|known| known.name == class);
        Judge { now, ahead: class.map(|class| class.ahead.clone()).unwrap_or_default() }
    }

    /// This is sealed in `class`, of every database that is to be backed up.
    pub fn saw(&mut self, class: &str, sealed: impl IntoIterator<Item = Sealed>) {
        let Some(class) = self.class(class) else { return };
        class.seen = true;
        let mut before = std::mem::take(&mut class.databases);
        for Sealed { database, starts } in sealed {
            let mut known = before.remove(&database).unwrap_or_default();
            known.extend(starts.into_iter().filter(|start| !class.ahead.contains(start)));
            class.databases.insert(database, known);
        }
    }

    /// What `class` missed up to `until` has been told before.
    pub fn noted(&mut self, class: &str, until: Timestamp) {
        if let Some(class) = self.class(class) {
            class.noted = class.noted.max(Some(until));
        }
    }

    /// What is sealed in `class` cannot be seen: until it can, nothing is made there.
    pub fn lost(&mut self, class: &str) {
        if let Some(class) = self.class(class) {
            class.seen = false;
        }
    }

    /// A try for `occurrence` ended with sealed backups of all databases. It began at `start`.
    pub fn succeeded(&mut self, class: &str, occurrence: Timestamp, start: Timestamp) {
        if let Some(class) = self.class(class) {
            // The clock may have been set back a little between the decision and the start.
            let start = start.max(occurrence);
            for starts in class.databases.values_mut() {
                starts.insert(start);
            }
            class.failure = None;
        }
    }

    /// A try for `occurrence` failed at `at`, by a clock that nobody sets. `wrote`: a dump had begun.
    pub fn failed(&mut self, class: &str, occurrence: Timestamp, at: Duration, wrote: bool) {
        if let Some(class) = self.class(class) {
            let before = class.failure.filter(|failure| failure.occurrence == occurrence);
            let tries = before.map_or(0, |failure| failure.tries).saturating_add(1);
            class.failure = Some(Failure { occurrence, tries, at, wrote });
        }
    }

    /// What is to be done at `now`; `clock` is the one that nobody sets.
    #[must_use]
    pub fn due(&mut self, now: Timestamp, clock: Duration) -> Option<Run> {
        self.settle(now);
        self.schedule.due(now, &self.known(clock))
    }

    /// How long nothing is to be done, if the clock is not set.
    #[must_use]
    pub fn wait(&self, now: Timestamp, clock: Duration) -> Option<Duration> {
        let wait = self.schedule.wait(now, &self.known(clock))?;
        Some(wait.try_into().unwrap_or(Duration::ZERO))
    }

    /// How many times each class has missed for good, in the order of the schedule, and the last
    /// time of which that is known.
    pub fn missed(&self) -> impl Iterator<Item = (&str, u64, Option<Timestamp>)> {
        self.classes.iter().map(|class| (class.name.as_str(), class.missed, class.settled))
    }

    /// When the newest backup of each class that counts began, of the database whose is oldest.
    pub fn last_starts(&self) -> impl Iterator<Item = (&str, Option<Timestamp>)> {
        let seen = self.classes.iter().filter(|class| class.seen);
        seen.map(|class| (class.name.as_str(), class.oldest_newest()))
    }

    /// The moments of the backups that began in the future.
    pub fn ahead(&self) -> impl Iterator<Item = (&str, Timestamp)> {
        let ahead = |class: &Class| class.ahead.last().copied();
        self.classes.iter().filter_map(move |class| Some((class.name.as_str(), ahead(class)?)))
    }

    fn class(&mut self, name: &str) -> Option<&mut Class> {
        self.classes.iter_mut().find(|class| class.name == name)
    }

    fn known(&self, clock: Duration) -> Vec<(&str, Known)> {
        let seen = self.classes.iter().filter(|class| class.seen);
        let known = seen.map(|class| {
            let failed = class.failure.map(|failure| Failed {
                occurrence: failure.occurrence,
                tries: failure.tries,
                ago: clock.saturating_sub(failure.at).try_into().unwrap_or(SignedDuration::MAX),
                wrote: failure.wrote,
            });
            (class.name.as_str(), Known { last_start: class.last_start(), failed })
        });
        known.collect()
    }

    /// Sets aside what began in the future, and counts what was missed.
    fn settle(&mut self, now: Timestamp) {
        for class in self.classes.iter_mut().filter(|class| class.seen) {
            for starts in class.databases.values_mut() {
                while let Some(start) = starts.last().copied().filter(|at| is_ahead(*at, now)) {
                    starts.remove(&start);
                    class.ahead.insert(start);
                }
            }
            let Some(line) = self.schedule.lines.iter().find(|line| line.class == class.name)
            else {
                continue;
            };
            let newest = class.oldest_newest();
            // What never had a backup has missed nothing yet.
            let settled = class.settled.or(newest.max(class.noted)).unwrap_or(now);
            let settled = if is_ahead(settled, now) { now } else { settled };
            let backed = class.databases.values().filter(|starts| !starts.is_empty());
            let backed: Vec<&BTreeSet<Timestamp>> = backed.collect();
            let (missed, settled) = self.schedule.missed(line, settled, now, &backed);
            class.missed += missed;
            class.settled = Some(settled);
            // What is older decides nothing any more.
            for starts in class.databases.values_mut() {
                let newest = starts.last().copied();
                starts.retain(|start| *start >= settled || Some(*start) == newest);
            }
            class.ahead.retain(|start| newest.is_none_or(|newest| *start > newest));
        }
    }
}

fn is_ahead(start: Timestamp, now: Timestamp) -> bool {
    start.duration_since(now) > TOLERANCE
}
