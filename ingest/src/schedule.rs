//! PURE: when which class is to be backed up: cron lines, what is due, what was missed.
//!
//! What is due follows from the moment and from what is sealed. Only the newest time of a class that
//! has come counts, so an outage, however long, costs one run and not one for each time it covered.
//! Whatever is due at one moment is one run with several classes: one dump.

pub mod agenda;
pub mod line;

use std::collections::BTreeSet;

use jiff::SignedDuration;
use jiff::Timestamp;
use jiff::tz::TimeZone;

use self::line::Line;

/// A run that is at most so late is on time: the service looks once a minute.
pub const ON_TIME: SignedDuration = SignedDuration::from_mins(5);
/// The first retry comes after so long; each further one after twice as long.
const FIRST_RETRY: SignedDuration = SignedDuration::from_mins(1);
/// Between two tries that were refused before anything was written, at most.
const RETRY_REFUSED: SignedDuration = SignedDuration::from_mins(5);
/// Between two tries that failed while dumping, at most: what they wrote counts against the limits
/// of the class.
const RETRY_FAILED: SignedDuration = SignedDuration::from_hours(2);
/// Nobody looks further back than so many times of one class.
const COUNTED_MAX: u64 = 100_000;

/// When the classes are backed up.
#[derive(Clone, Debug)]
pub struct Schedule {
    /// One for each class, each class once.
    pub lines: Vec<Line>,
    /// The zone of the lines.
    pub zone: TimeZone,
    /// For how long after its time a run that did not happen is made up for. By default for three
    /// quarters of the time to the next one.
    pub catch_up: Option<SignedDuration>,
    /// By how much runs are put off.
    pub jitter: Jitter,
}

/// Puts runs off, always by the same share, so that many agents do not begin at once.
#[derive(Clone, Copy, Debug, Default)]
pub struct Jitter {
    /// At most so long.
    pub most: SignedDuration,
    /// The share of it, as a part of 2^32.
    pub share: u32,
}

/// What is known of a class.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Known {
    /// When its newest backup was begun; of several databases, that of the one that is worst off.
    /// Without any the class is due at once.
    pub last_start: Option<Timestamp>,
    /// The tries that failed since.
    pub failed: Option<Failed>,
}

/// Tries that failed for one time of the schedule.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Failed {
    /// That time.
    pub occurrence: Timestamp,
    /// How many tries.
    pub tries: u32,
    /// How long ago the last one ended, by a clock that nobody sets.
    pub ago: SignedDuration,
    /// Whether it had begun to write.
    pub wrote: bool,
}

/// One run: one dump, sealed in each of these classes.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Run {
    /// When it is to begin.
    pub at: Timestamp,
    /// The classes with the time of the schedule that each is for, in the order of the schedule.
    pub classes: Vec<(String, Timestamp)>,
}

impl Run {
    /// The names of its classes, for messages.
    #[must_use]
    pub fn names(&self) -> String {
        let names: Vec<&str> = self.classes.iter().map(|(class, _)| class.as_str()).collect();
        names.join("+")
    }
}

/// What to do about one class at one moment.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Turn {
    /// Nothing before its next time.
    Rests,
    /// It has come, and is to begin later: jitter.
    Later(Timestamp),
    /// It is to be made now.
    Due(Timestamp),
    /// It failed, and is to be tried again in so long, or with the next run of any class.
    Waits(Timestamp, SignedDuration),
}

impl Schedule {
    /// The run to begin at `now`, if any. A class that is not in `known` is left alone: what is not
    /// known to be missing is not made again.
    #[must_use]
    pub fn due(&self, now: Timestamp, known: &[(&str, Known)]) -> Option<Run> {
        let turns: Vec<(&Line, Turn)> = self.turns(now, known).collect();
        if !turns.iter().any(|(_, turn)| matches!(turn, Turn::Due(_))) {
            return None;
        }
        let classes = turns.into_iter().filter_map(|(line, turn)| match turn {
            // One that waits to be tried again comes along: the dump is made anyway.
            Turn::Due(occurrence) | Turn::Waits(occurrence, _) => {
                Some((line.class.clone(), occurrence))
            }
            Turn::Rests | Turn::Later(_) => None,
        });
        Some(Run { at: now, classes: classes.collect() })
    }

    /// How long until [`Schedule::due`] can answer otherwise than now, by the clock as it goes.
    #[must_use]
    pub fn wait(&self, now: Timestamp, known: &[(&str, Known)]) -> Option<SignedDuration> {
        let next = self.lines.iter().filter_map(|line| {
            let next = line.after(now, &self.zone)?;
            Some(self.begin(next).duration_since(now))
        });
        let turns = self.turns(now, known).filter_map(|(_, turn)| match turn {
            Turn::Rests => None,
            Turn::Later(at) => Some(at.duration_since(now)),
            Turn::Due(_) => Some(SignedDuration::ZERO),
            Turn::Waits(_, left) => Some(left),
        });
        next.chain(turns).min()
    }

    /// The next `count` runs after `now`, as the schedule has them.
    #[must_use]
    pub fn next(&self, now: Timestamp, count: usize) -> Vec<Run> {
        let mut runs = Vec::new();
        // A time that has come and is put off still lies ahead.
        let mut after = self.lines.iter().filter_map(|line| line.until(now, &self.zone)).max();
        after = after.filter(|at| self.begin(*at) > now);
        let mut after = after.map_or(now, |at| at - SignedDuration::from_nanos(1));
        while runs.len() < count {
            let times = self.lines.iter().map(|line| (line, line.after(after, &self.zone)));
            let times: Vec<_> = times.filter_map(|(line, at)| Some((line, at?))).collect();
            let Some(first) = times.iter().map(|(_, at)| *at).min() else { break };
            let classes = times.iter().filter(|(_, at)| *at == first);
            let classes = classes.map(|(line, at)| (line.class.clone(), *at)).collect();
            runs.push(Run { at: self.begin(first), classes });
            after = first;
        }
        runs
    }

    fn turns<'a>(
        &'a self,
        now: Timestamp,
        known: &'a [(&str, Known)],
    ) -> impl Iterator<Item = (&'a Line, Turn)> {
        self.lines.iter().filter_map(move |line| {
            let (_, known) = known.iter().find(|(class, _)| *class == line.class)?;
            Some((line, self.turn(line, now, known)))
        })
    }

    fn turn(&self, line: &Line, now: Timestamp, known: &Known) -> Turn {
        let Some(occurrence) = line.until(now, &self.zone) else { return Turn::Rests };
        if known.last_start.is_some_and(|start| start >= occurrence) {
            return Turn::Rests;
        }
        let begin = self.begin(occurrence);
        // A class without any backup waits for nothing.
        if known.last_start.is_some() {
            if now < begin {
                return Turn::Later(begin);
            }
            if now > self.end(line, occurrence) {
                return Turn::Rests;
            }
        }
        match known.failed.filter(|failed| failed.occurrence == occurrence) {
            Some(failed) if failed.ago < failed.pause() => {
                Turn::Waits(occurrence, failed.pause() - failed.ago)
            }
            Some(_) | None => Turn::Due(occurrence),
        }
    }

    /// When the run for this time begins: never after the next time of any class.
    #[must_use]
    pub fn begin(&self, occurrence: Timestamp) -> Timestamp {
        let next = self.lines.iter().filter_map(|line| line.after(occurrence, &self.zone)).min();
        let room = next.map_or(SignedDuration::ZERO, |next| next.duration_since(occurrence));
        let most = self.jitter.most.min(room).max(SignedDuration::ZERO);
        let off = most.as_nanos() * i128::from(self.jitter.share) / (1 << 32);
        let off = SignedDuration::from_nanos(i64::try_from(off).unwrap_or_default());
        occurrence.checked_add(off).unwrap_or(occurrence)
    }

    /// Until when the run for this time is made up for.
    fn end(&self, line: &Line, occurrence: Timestamp) -> Timestamp {
        let next = line.after(occurrence, &self.zone).unwrap_or(Timestamp::MAX);
        let interval = next.duration_since(occurrence);
        let window = self.catch_up.unwrap_or(interval * 3 / 4).min(interval);
        let end = occurrence.checked_add(window).unwrap_or(next);
        let on_time = self.begin(occurrence).checked_add(ON_TIME).unwrap_or(next);
        end.max(on_time).min(next)
    }

    /// How many times of a class after `settled` have passed for good without a backup of each of
    /// these databases, and up to when this is settled now.
    fn missed(
        &self,
        line: &Line,
        settled: Timestamp,
        now: Timestamp,
        databases: &[&BTreeSet<Timestamp>],
    ) -> (u64, Timestamp) {
        let (mut missed, mut settled) = (0, settled);
        for _ in 0..COUNTED_MAX {
            let Some(occurrence) = line.after(settled, &self.zone) else { break };
            if occurrence > now {
                break;
            }
            let next = line.after(occurrence, &self.zone).unwrap_or(Timestamp::MAX);
            let is_served =
                |starts: &&BTreeSet<Timestamp>| starts.range(occurrence..next).next().is_some();
            if databases.is_empty() || !databases.iter().all(is_served) {
                // A class without any backup is due until its next time comes.
                let end = if databases.is_empty() { next } else { self.end(line, occurrence) };
                if now <= end {
                    break;
                }
                missed += 1;
            }
            settled = occurrence;
        }
        (missed, settled)
    }
}

impl Failed {
    /// How long after the last try the next one comes.
    fn pause(&self) -> SignedDuration {
        let most = if self.wrote { RETRY_FAILED } else { RETRY_REFUSED };
        let doubled = self.tries.saturating_sub(1).min(16);
        (FIRST_RETRY * (1 << doubled)).min(most)
    }
}

#[cfg(test)]
mod tests;
