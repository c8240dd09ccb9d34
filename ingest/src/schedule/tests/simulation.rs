//! A machine with a clock that can be set, a service that can be down, and a database that can be
//! away, minute by minute.

use std::time::Duration;

use jiff::SignedDuration;
use jiff::Timestamp;

use super::super::Schedule;
use super::super::agenda;
use super::super::agenda::Agenda;
use super::super::agenda::TOLERANCE;

/// What happens in some minute, counted from the beginning.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Event {
    /// The service ends, or the machine.
    Down,
    /// It starts, and knows only what is sealed.
    Up,
    /// The clock is set by so many minutes.
    Clock(i64),
    /// The database does not answer.
    Away,
    /// Every dump breaks off.
    Broken,
    /// It answers, and dumps are whole.
    Back,
    /// What is sealed cannot be read.
    Unmounted,
    /// It can again.
    Mounted,
}

/// A backup that was made.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Sealed {
    pub(crate) start: Timestamp,
    pub(crate) class: String,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Database {
    Good,
    Away,
    Broken,
}

#[derive(Debug)]
pub(crate) struct Simulation {
    pub(crate) sealed: Vec<Sealed>,
    /// Each run that was made: when, and its classes.
    pub(crate) runs: Vec<String>,
    pub(crate) failed: usize,
    pub(crate) agenda: Agenda,
    schedule: Schedule,
    begin: Timestamp,
    minute: i64,
    set_by: i64,
    dump_minutes: i64,
    busy_until: i64,
    up: bool,
    mounted: bool,
    database: Database,
}

impl Simulation {
    /// With an empty store; each dump takes so many minutes.
    pub(crate) fn new(schedule: &Schedule, begin: Timestamp, dump_minutes: i64) -> Self {
        Self {
            sealed: Vec::new(),
            runs: Vec::new(),
            failed: 0,
            agenda: Agenda::new(schedule.clone()),
            schedule: schedule.clone(),
            begin,
            minute: 0,
            set_by: 0,
            dump_minutes,
            busy_until: 0,
            up: true,
            mounted: true,
            database: Database::Good,
        }
    }

    /// The clock on the wall.
    pub(crate) fn now(&self) -> Timestamp {
        self.begin + SignedDuration::from_mins(self.minute + self.set_by)
    }

    pub(crate) fn happen(&mut self, event: Event) {
        match event {
            Event::Down => self.up = false,
            Event::Up => {
                self.up = true;
                self.agenda = Agenda::new(self.schedule.clone());
            }
            Event::Clock(minutes) => self.set_by += minutes,
            Event::Away => self.database = Database::Away,
            Event::Broken => self.database = Database::Broken,
            Event::Back => self.database = Database::Good,
            Event::Unmounted => self.mounted = false,
            Event::Mounted => self.mounted = true,
        }
    }

    /// Runs until the clock on the wall shows this.
    pub(crate) fn until(&mut self, moment: Timestamp) -> &mut Self {
        while self.now() < moment {
            self.tick();
        }
        self
    }

    /// One minute.
    pub(crate) fn tick(&mut self) {
        if self.up && self.minute >= self.busy_until {
            self.look();
        }
        self.minute += 1;
    }

    fn look(&mut self) {
        let (now, clock) = (self.now(), Duration::from_secs(self.minute.cast_unsigned() * 60));
        for line in &self.schedule.lines {
            let class = line.class.as_str();
            if !self.mounted {
                self.agenda.lost(class);
                continue;
            }
            let mut starts: Vec<Timestamp> = self
                .sealed
                .iter()
                .filter(|made| made.class == class)
                .map(|made| made.start)
                .collect();
            starts.sort_unstable();
            let counting = {
                let judge = self.agenda.judge(class, now);
                starts.iter().rposition(|start| judge.counts(*start))
            };
            let starts = starts.split_off(counting.unwrap_or_default());
            self.agenda.saw(class, [agenda::Sealed { database: "app".to_owned(), starts }]);
        }
        let Some(run) = self.agenda.due(now, clock) else { return };
        let ended = clock + Duration::from_secs(self.dump_minutes.cast_unsigned() * 60);
        match self.database {
            Database::Good => {
                self.busy_until = self.minute + self.dump_minutes;
                self.runs.push(format!("{} {}", now.strftime("%a %d %H:%M"), run.names()));
                for (class, occurrence) in &run.classes {
                    self.sealed.push(Sealed { start: now, class: class.clone() });
                    self.agenda.succeeded(class, *occurrence, now);
                }
            }
            Database::Away | Database::Broken => {
                self.failed += 1;
                let wrote = self.database == Database::Broken;
                for (class, occurrence) in &run.classes {
                    self.agenda.failed(
                        class,
                        *occurrence,
                        if wrote { ended } else { clock },
                        wrote,
                    );
                }
                self.busy_until = self.minute + if wrote { self.dump_minutes } else { 0 };
            }
        }
    }

    /// How many backups of a class were made.
    pub(crate) fn made(&self, class: &str) -> u64 {
        self.sealed.iter().filter(|made| made.class == class).count() as u64
    }

    pub(crate) fn missed(&self, class: &str) -> u64 {
        let missed = self.agenda.missed().find(|(name, _, _)| *name == class);
        missed.map_or(0, |(_, missed, _)| missed)
    }

    /// Whether a clock that was set back is not caught up with, as far as it matters.
    pub(crate) fn is_set_back(&self) -> bool {
        let newest = self.sealed.iter().map(|made| made.start).max();
        newest.is_some_and(|newest| newest.duration_since(self.now()) > TOLERANCE)
    }
}
