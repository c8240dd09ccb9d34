//! PURE: what a service remembers between two looks: what is sealed as far as it was seen, which
//! tries failed, which times were missed. All of it but the failures comes from what is sealed, so
//! a restart costs nothing but the patience of a retry.
//!
//! A clock that was set back would make backups of the future look like those of the times that are
//! still to come, and nothing would be backed up until it has caught up. So a backup that was ever
//! seen to begin in the future counts for nothing: what its clock said is not true.

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

#[derive(Debug)]
struct Class {
    name: String,
    /// Whether what is sealed could be seen.
    seen: bool,
    /// When its backups began that count, the newest of them at least.
    starts: BTreeSet<Timestamp>,
    /// When those began that were seen to begin in the future.
    ahead: BTreeSet<Timestamp>,
    failure: Option<Failure>,
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

impl Agenda {
    /// Knows nothing yet.
    #[must_use]
    pub fn new(schedule: Schedule) -> Self {
        let class = |name: &String| Class {
            name: name.clone(),
            seen: false,
            starts: BTreeSet::new(),
            ahead: BTreeSet::new(),
            failure: None,
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

    /// In `class` backups are sealed that began at `starts`: all that do not count, and the newest
    /// that does.
    pub fn saw(&mut self, class: &str, starts: impl IntoIterator<Item = Timestamp>) {
        if let Some(class) = self.class(class) {
            class.seen = true;
            let ahead = &class.ahead;
            class.starts.extend(starts.into_iter().filter(|start| !ahead.contains(start)));
        }
    }

    /// What is sealed in `class` cannot be seen: until it can, nothing is made there.
    pub fn lost(&mut self, class: &str) {
        if let Some(class) = self.class(class) {
            class.seen = false;
        }
    }

    /// A try for `occurrence` ended with a sealed backup that began at `start`.
    pub fn succeeded(&mut self, class: &str, occurrence: Timestamp, start: Timestamp) {
        if let Some(class) = self.class(class) {
            // The clock may have been set back a little between the decision and the start.
            class.starts.insert(start.max(occurrence));
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

    /// How many times each class has missed for good, in the order of the schedule.
    pub fn missed(&self) -> impl Iterator<Item = (&str, u64)> {
        self.classes.iter().map(|class| (class.name.as_str(), class.missed))
    }

    /// When the newest backup of each class that counts began, where that is known.
    pub fn last_starts(&self) -> impl Iterator<Item = (&str, Option<Timestamp>)> {
        let seen = self.classes.iter().filter(|class| class.seen);
        seen.map(|class| (class.name.as_str(), class.starts.last().copied()))
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
            (class.name.as_str(), Known { last_start: class.starts.last().copied(), failed })
        });
        known.collect()
    }

    /// Sets aside what began in the future, and counts what was missed.
    fn settle(&mut self, now: Timestamp) {
        for class in self.classes.iter_mut().filter(|class| class.seen) {
            while let Some(start) = class.starts.last().copied().filter(|at| is_ahead(*at, now)) {
                class.starts.remove(&start);
                class.ahead.insert(start);
            }
            let Some(line) = self.schedule.lines.iter().find(|line| line.class == class.name)
            else {
                continue;
            };
            let newest = class.starts.last().copied();
            // A class that never had a backup has missed nothing yet.
            let settled = class.settled.or(newest).unwrap_or(now);
            let settled = if is_ahead(settled, now) { now } else { settled };
            let starts: Vec<Timestamp> = class.starts.iter().copied().collect();
            let (missed, settled) = self.schedule.missed(line, settled, now, &starts);
            class.missed += missed;
            class.settled = Some(settled);
            // What is older decides nothing any more.
            class.starts.retain(|start| *start >= settled || Some(*start) == newest);
            class.ahead.retain(|start| newest.is_none_or(|newest| *start > newest));
        }
    }
}

fn is_ahead(start: Timestamp, now: Timestamp) -> bool {
    start.duration_since(now) > TOLERANCE
}
