//! `worm-ingest run`: waits, looks at what is sealed, makes what is due, and looks again.
//!
//! The loop has no clock, no mount and no database of its own: it asks a [`World`]. It sleeps by the
//! clock that nobody sets, and looks at the other one at least once a minute, so that neither a
//! suspended machine nor a clock that was set makes it sleep through.

pub mod health;
pub(crate) mod machine;
mod manager;
mod sealed;
pub(crate) mod settings;
pub mod status;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::watch;

use self::health::Known;
use self::health::Pulse;
use self::machine::Machine;
use self::status::Status;
use crate::audit::Missed;
use crate::audit::MissedEvent;
use crate::config::Config;
use crate::error::Error;
use crate::exit::Exit;
use crate::http::Door;
use crate::http::Health;
use crate::schedule::ON_TIME;
use crate::schedule::Run;
use crate::schedule::Schedule;
use crate::schedule::agenda::Agenda;
use crate::schedule::agenda::Judge;
use crate::schedule::agenda::Sealed;
use crate::schedule::agenda::Wanted;
use crate::settings::Settings;

/// The clock on the wall is looked at so often.
const TICK: Duration = Duration::from_mins(1);
/// And the mount so often, when nothing is due: to tell that it went away.
const LOOK_EVERY: Duration = Duration::from_mins(10);

/// The schedule of these settings.
///
/// # Errors
/// [`Error::Usage`] and [`Error::Settings`] say what makes no sense.
pub fn schedule(settings: &Settings, database: &str) -> Result<Schedule, Error> {
    self::settings::schedule(settings, &machine::host(), database)
}

/// Makes backups by the clock until `stop` turns true, and tells probes how it stands.
///
/// # Errors
/// [`Error::Usage`] when it cannot listen where it is to.
pub async fn run(
    config: Arc<Config>,
    schedule: Schedule,
    stop: watch::Receiver<bool>,
) -> Result<Exit, Error> {
    let (status, shown) = watch::channel(Status::default());
    let pulse = Pulse::new();
    let known = Arc::new(Known {
        config: Arc::clone(&config),
        schedule: schedule.clone(),
        status: shown,
        pulse: pulse.clone(),
    });
    let _door = match &config.listen {
        Some(address) => {
            let mut door = Door::open(address)?;
            door.serve(Arc::clone(&known) as Arc<dyn Health>)?;
            Some(door)
        }
        None => None,
    };
    if let Some(path) = &config.metrics_textfile {
        health::write_always(path, known).map_err(|error| Error::Internal(error.to_string()))?;
    }
    let mut machine = Machine::new(config, stop, status, pulse);
    let mut agenda = Agenda::new(schedule);
    for (class, until) in machine.noted().await {
        agenda.noted(&class, until);
    }
    let exit = serve(&mut machine, agenda).await;
    machine.finish().await;
    Ok(exit)
}

/// What the loop asks of the world around it.
pub(crate) trait World {
    /// The clock on the wall.
    fn now(&self) -> Timestamp;

    /// A clock that nobody sets.
    fn clock(&self) -> Duration;

    /// Waits so long, or until the service is to end.
    fn sleep(&mut self, time: Duration) -> impl Future<Output = ()>;

    /// Whether the service is to end.
    fn is_stopped(&self) -> bool;

    /// What is sealed in a class, of every database that is to be backed up.
    fn look(
        &mut self,
        class: &str,
        judge: Judge,
    ) -> impl Future<Output = Result<Vec<Sealed>, String>>;

    /// Makes one dump of each database and seals it in these classes, where it is not yet. There is
    /// one result for each class, in their order.
    fn run(&mut self, wanted: Vec<Wanted>) -> impl Future<Output = Ran>;

    /// Writes into the audit log that runs were missed.
    fn note(&mut self, missed: &Missed) -> impl Future<Output = Result<(), String>>;

    /// Tells whoever wants to know how it stands.
    fn tell(&mut self, status: &Status);
}

/// How a run ended.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Ran {
    /// By itself: what became of each class.
    Ended(Vec<Result<(), Failure>>),
    /// The service was told to end, and it was given up.
    Cancelled,
    /// It can neither be waited for nor ended.
    Hangs,
}

/// Why there is no backup in a class.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Failure {
    /// What was said.
    pub(crate) message: String,
    /// Whether a dump had begun, and may have taken space.
    pub(crate) wrote: bool,
}

/// A service at work.
struct Service<'world, W> {
    world: &'world mut W,
    agenda: Agenda,
    status: Status,
    /// How many missed runs of each class the audit log tells of, of those found out here.
    noted: BTreeMap<String, u64>,
    /// When the mount was last looked at, by the clock that nobody sets.
    looked: Option<Duration>,
}

/// Serves until it is told to end. The exit code is 0 when nothing was given up.
pub(crate) async fn serve<W: World>(world: &mut W, agenda: Agenda) -> Exit {
    let status = Status::new(&agenda);
    let mut service = Service { world, agenda, status, noted: BTreeMap::new(), looked: None };
    while !service.world.is_stopped() {
        match service.turn().await {
            Ok(wait) => {
                if !wait.is_zero() {
                    service.world.sleep(wait).await;
                }
            }
            Err(exit) => return exit,
        }
    }
    Exit::Done
}

impl<W: World> Service<'_, W> {
    /// Does what is to be done now, and says how long to wait then.
    async fn turn(&mut self) -> Result<Duration, Exit> {
        let idle = self.looked.is_none_or(|at| self.world.clock().saturating_sub(at) >= LOOK_EVERY);
        if idle || !self.status.complete() || self.due().is_some() {
            self.look().await;
        }
        let due = self.due();
        self.count_missed().await;
        self.publish();
        let Some(run) = due else { return Ok(self.wait()) };
        let result = self.make(&run).await;
        self.status.running = None;
        self.look().await;
        self.publish();
        result.map(|()| Duration::ZERO)
    }

    fn due(&mut self) -> Option<Run> {
        self.agenda.due(self.world.now(), self.world.clock())
    }

    fn wait(&self) -> Duration {
        let next = self.agenda.wait(self.world.now(), self.world.clock());
        // Never zero, and just past the moment: a timer that fires early would find nothing.
        let next = next.unwrap_or(TICK).saturating_add(Duration::from_millis(1));
        next.min(TICK)
    }

    /// Reads what is sealed.
    async fn look(&mut self) {
        let now = self.world.now();
        self.looked = Some(self.world.clock());
        let classes: Vec<String> =
            self.agenda.schedule().lines.iter().map(|line| line.class.clone()).collect();
        for class in classes {
            let judge = self.agenda.judge(&class, now);
            match self.world.look(&class, judge).await {
                Ok(sealed) => {
                    self.agenda.saw(&class, sealed);
                    self.status.problem(&class, None);
                }
                Err(why) => {
                    self.agenda.lost(&class);
                    self.status.problem(&class, Some(why));
                }
            }
        }
        let was_ahead = self.agenda.ahead().count();
        // Also sets aside what began in the future.
        let _due = self.due();
        if self.agenda.ahead().count() > was_ahead {
            for (class, start) in self.agenda.ahead() {
                tracing::warn!(class, %start, "a backup begins in the future: is the clock right?");
            }
        }
    }

    /// Makes what is due.
    async fn make(&mut self, run: &Run) -> Result<(), Exit> {
        let begun = self.world.now();
        let late = run.classes.iter().filter(|(_, occurrence)| {
            begun.duration_since(self.agenda.schedule().begin(*occurrence)) > ON_TIME
        });
        for (class, occurrence) in late {
            tracing::info!(class, since = %occurrence, "making up for a run that is late");
        }
        let classes: Vec<String> = run.classes.iter().map(|(class, _)| class.clone()).collect();
        self.status.begin(&classes, begun);
        self.publish();
        let wanted = run.classes.iter().map(|(class, occurrence)| Wanted {
            class: class.clone(),
            occurrence: *occurrence,
            judge: self.agenda.judge(class, begun),
        });
        let results = match self.world.run(wanted.collect()).await {
            Ran::Ended(results) => results,
            Ran::Cancelled => return Err(Exit::Cancelled),
            Ran::Hangs => return Err(Exit::Failed),
        };
        let clock = self.world.clock();
        for ((class, occurrence), result) in run.classes.iter().zip(results) {
            match &result {
                Ok(()) => self.agenda.succeeded(class, *occurrence, begun),
                Err(failure) => self.agenda.failed(class, *occurrence, clock, failure.wrote),
            }
            self.status.end(class, result.err().map(|failure| failure.message));
        }
        Ok(())
    }

    /// Notes runs that were missed, in the audit log too: again until that works.
    async fn count_missed(&mut self) {
        let missed: Vec<_> = self
            .agenda
            .missed()
            .map(|(class, missed, until)| (class.to_owned(), missed, until))
            .collect();
        for (class, missed, until) in missed {
            let more = self.status.missed(&class, missed);
            if more > 0 {
                tracing::warn!(class, more, missed, "runs were missed, and are not made up for");
            }
            let noted = self.noted.entry(class.clone()).or_default();
            let Some(until) = until.filter(|_| missed > *noted) else { continue };
            let (ts, event) = (self.world.now(), MissedEvent::Missed);
            let line = Missed { ts, event, class, count: missed - *noted, until };
            match self.world.note(&line).await {
                Ok(()) => *noted = missed,
                Err(why) if more > 0 => {
                    tracing::warn!(class = line.class, why, "the audit log could not be written");
                }
                Err(_told) => {}
            }
        }
        self.status.last_starts(self.agenda.last_starts());
    }

    fn publish(&mut self) {
        let next = self.agenda.schedule().next(self.world.now(), 1).pop();
        self.status.next = next.map(|run| (run.at, run.names()));
        self.world.tell(&self.status);
    }
}

#[cfg(test)]
mod tests;
