//! The world as it is: this machine's clocks, the mount, the database, the service manager.

use std::sync::Arc;
use std::time::Duration;
use std::time::Instant;

use jiff::Timestamp;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::Failure;
use super::Ran;
use super::World;
use super::manager::Manager;
use super::status::Status;
use crate::config::Config;
use crate::error::Error;
use crate::exit::Exit;
use crate::history::History;
use crate::job;
use crate::job::Job;
use crate::job::Outcome;
use crate::schedule::agenda::Judge;

/// A mount that does not answer in this time does not answer.
const LOOK_PATIENCE: Duration = Duration::from_secs(30);
/// After its deadline, or after it was told to end, a run gets so long to end.
const GRACE: Duration = Duration::from_mins(1);

type Looking = JoinHandle<Result<Vec<Timestamp>, String>>;

/// This machine.
#[derive(Debug)]
pub(crate) struct Machine {
    config: Arc<Config>,
    /// Turns true when the service is to end.
    stop: watch::Receiver<bool>,
    manager: Manager,
    status: watch::Sender<Status>,
    began: Instant,
    /// A look at a mount that does not answer.
    stuck: Option<Looking>,
}

impl Machine {
    /// `status` is kept up to date for whoever shows it.
    pub(crate) fn new(
        config: Arc<Config>,
        stop: watch::Receiver<bool>,
        status: watch::Sender<Status>,
    ) -> Self {
        let manager = Manager::new();
        Self { config, stop, manager, status, began: Instant::now(), stuck: None }
    }

    /// Waits until the service is to end.
    async fn stopped(&self) {
        let mut stop = self.stop.clone();
        if stop.wait_for(|stop| *stop).await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

impl World for Machine {
    fn now(&self) -> Timestamp {
        Timestamp::now()
    }

    fn clock(&self) -> Duration {
        self.began.elapsed()
    }

    async fn sleep(&mut self, time: Duration) {
        let waiting = async {
            tokio::select! {
                () = tokio::time::sleep(time) => {}
                () = self.stopped() => {}
            }
        };
        self.manager.alive(waiting).await;
    }

    fn is_stopped(&self) -> bool {
        *self.stop.borrow()
    }

    async fn look(&mut self, class: &str, judge: Judge) -> Result<Vec<Timestamp>, String> {
        let silent = || format!("{} does not answer", self.config.backups.display());
        if self.stuck.as_ref().is_some_and(|looking| !looking.is_finished()) {
            return Err(silent());
        }
        let (config, class) = (Arc::clone(&self.config), class.to_owned());
        let mut looking = tokio::task::spawn_blocking(move || starts(&config, &class, &judge));
        let waiting = tokio::time::timeout(LOOK_PATIENCE, &mut looking);
        match self.manager.alive(waiting).await {
            Ok(Ok(starts)) => starts,
            Ok(Err(panic)) => Err(panic.to_string()),
            Err(_elapsed) => {
                self.stuck = Some(looking);
                Err(silent())
            }
        }
    }

    async fn run(&mut self, classes: &[String]) -> Ran {
        let job = Job { config: Arc::clone(&self.config), classes: classes.to_vec() };
        let stop = self.stop.clone();
        // On a task of its own: what hangs in it does not stop the signs of life.
        let running = tokio::spawn(async move { job::run(&job, stop).await });
        let late = self.config.deadline.saturating_add(GRACE);
        let waiting = async {
            tokio::select! {
                ended = running => Some(ended),
                () = tokio::time::sleep(late) => None,
                () = async { self.stopped().await; tokio::time::sleep(GRACE).await } => None,
            }
        };
        match self.manager.alive(waiting).await {
            Some(Ok(outcome)) => ended(&outcome, classes),
            Some(Err(panic)) => {
                let failure = Failure { message: panic.to_string(), wrote: true };
                Ran::Ended(vec![Err(failure); classes.len()])
            }
            None => {
                tracing::error!("the run cannot be ended: it waits for a disk or a mount");
                if self.is_stopped() { Ran::Cancelled } else { Ran::Hangs }
            }
        }
    }

    fn tell(&mut self, status: &Status) {
        self.manager.tell(status);
        self.status.send_if_modified(|known| {
            let changed = known != status;
            known.clone_from(status);
            changed
        });
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        Manager::stopping();
    }
}

/// The name of this host.
pub(super) fn host() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    name.trim().to_owned()
}

/// When the backups of a class began: the newest that counts, and all that are newer.
fn starts(config: &Config, class: &str, judge: &Judge) -> Result<Vec<Timestamp>, String> {
    let database = &config.target.database;
    let history = History::open(&config.backups, class, None, database, config.allow_plain);
    let mut starts = Vec::new();
    for manifest in history.map_err(|error| error.to_string())? {
        let start = manifest.map_err(|error| error.to_string())?.started_at;
        starts.push(start);
        if judge.counts(start) {
            break;
        }
    }
    Ok(starts)
}

/// What became of each class: good is what is good for every database.
fn ended(outcome: &Outcome, classes: &[String]) -> Ran {
    for part in &outcome.parts {
        match part.error.as_deref() {
            Some(error) => {
                let (class, database) = (&part.record.class, &part.record.database);
                tracing::error!(class, database, code = error.code(), "{error}");
            }
            None => tracing::info!("{}", crate::summary::line(&part.record)),
        }
    }
    let cancelled = |error: &Error| error.exit() == Exit::Cancelled;
    if outcome.errors().any(cancelled) {
        return Ran::Cancelled;
    }
    let result = |class: &String| {
        let mut parts = outcome.parts.iter().filter(|part| part.record.class == *class);
        let failed = parts.find(|part| !part.is_good()).and_then(|part| part.error.as_deref());
        failed.map_or(Ok(()), |error| {
            Err(Failure { message: error.to_string(), wrote: error.may_have_written() })
        })
    };
    Ran::Ended(classes.iter().map(result).collect())
}
