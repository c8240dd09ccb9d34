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
use super::health::Pulse;
use super::manager::Manager;
use super::sealed;
use super::sealed::Listing;
use super::status::Status;
use crate::audit;
use crate::audit::Missed;
use crate::config::Config;
use crate::error::Error;
use crate::exit::Exit;
use crate::job;
use crate::job::Job;
use crate::job::Outcome;
use crate::metrics::attempts;
use crate::notify;
use crate::schedule::agenda::Judge;
use crate::schedule::agenda::Sealed;
use crate::schedule::agenda::Wanted;
use crate::source::databases::Databases;
use crate::source::postgres::Postgres;

/// A mount that does not answer in this time does not answer.
const LOOK_PATIENCE: Duration = Duration::from_secs(30);
/// After its deadline, or after it was told to end, a run gets so long to end.
const GRACE: Duration = Duration::from_mins(1);

/// So long the end waits until the last run is told to those outside.
const LAST_WORDS: Duration = Duration::from_secs(10);

type Looking = JoinHandle<Result<Vec<Sealed>, String>>;

/// This machine.
#[derive(Debug)]
pub(crate) struct Machine {
    config: Arc<Config>,
    /// Turns true when the service is to end.
    stop: watch::Receiver<bool>,
    manager: Manager,
    status: watch::Sender<Status>,
    began: Instant,
    listing: Listing,
    /// What is being told about earlier runs.
    notices: Vec<JoinHandle<()>>,
    /// A look at a mount that does not answer.
    stuck: Option<Looking>,
}

impl Machine {
    /// `status` is kept up to date for whoever shows it.
    pub(crate) fn new(
        config: Arc<Config>,
        stop: watch::Receiver<bool>,
        status: watch::Sender<Status>,
        pulse: Pulse,
    ) -> Self {
        let manager = Manager::new(pulse);
        let (began, listing) = (Instant::now(), Listing::default());
        let notices = Vec::new();
        Self { config, stop, manager, status, began, listing, notices, stuck: None }
    }

    /// The databases of the server, as far as it matters which there are.
    async fn list(&mut self) -> Option<Vec<String>> {
        if matches!(self.config.databases, Databases::One) {
            return None;
        }
        if self.listing.is_old() {
            let asking = async {
                tokio::select! {
                    asked = tokio::time::timeout(LOOK_PATIENCE, Postgres::databases(&self.config)) => {
                        asked.map_err(|_elapsed| "it does not answer".to_owned())
                            .and_then(|asked| asked.map_err(|error| error.to_string()))
                    }
                    () = self.stopped() => Err("the service ends".to_owned()),
                }
            };
            let answer = self.manager.alive(asking).await;
            self.listing.heard(answer);
        }
        self.listing.databases()
    }

    /// Until when the audit log tells which runs each class missed.
    pub(crate) async fn noted(&self) -> Vec<(String, Timestamp)> {
        let path = self.config.audit_log.clone();
        let reading = tokio::task::spawn_blocking(move || attempts::read(&path));
        let reading = tokio::time::timeout(LOOK_PATIENCE, reading);
        match self.manager.alive(reading).await {
            Ok(Ok(Ok(told))) => {
                told.missed.into_iter().map(|line| (line.class, line.until)).collect()
            }
            Ok(Ok(Err(error))) => {
                tracing::warn!(%error, "the audit log does not tell which runs were missed before");
                Vec::new()
            }
            Ok(Err(_)) | Err(_) => Vec::new(),
        }
    }

    /// Lets those outside hear how the last run went.
    pub(crate) async fn finish(&mut self) {
        let notices = std::mem::take(&mut self.notices);
        let telling = async {
            for told in notices {
                if let Err(panic) = told.await {
                    tracing::warn!(%panic, "could not tell how the run went");
                }
            }
        };
        let telling = tokio::time::timeout(LAST_WORDS, telling);
        if self.manager.alive(telling).await.is_err() {
            tracing::warn!("not everybody was told how the last run went");
        }
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

    async fn look(&mut self, class: &str, judge: Judge) -> Result<Vec<Sealed>, String> {
        let path = self.config.backups.display().to_string();
        let silent = || format!("{path} does not answer");
        if self.stuck.as_ref().is_some_and(|looking| !looking.is_finished()) {
            return Err(silent());
        }
        let listed = self.list().await;
        let (config, class) = (Arc::clone(&self.config), class.to_owned());
        let mut looking =
            tokio::task::spawn_blocking(move || sealed::read(&config, &class, listed, &judge));
        let waiting = tokio::time::timeout(LOOK_PATIENCE, &mut looking);
        match self.manager.alive(waiting).await {
            Ok(Ok(sealed)) => sealed,
            Ok(Err(panic)) => Err(panic.to_string()),
            Err(_elapsed) => {
                self.stuck = Some(looking);
                Err(silent())
            }
        }
    }

    async fn run(&mut self, wanted: Vec<Wanted>) -> Ran {
        let classes: Vec<String> = wanted.iter().map(|wanted| wanted.class.clone()).collect();
        let job = Job { config: Arc::clone(&self.config), classes: classes.clone(), wanted };
        let stop = self.stop.clone();
        // On a task of its own: what hangs in it does not stop the signs of life.
        let running = tokio::spawn(async move { job::run(&job, stop).await });
        // Each database has its own deadline, and one more may have come.
        let turns = (self.listing.number() + 1).div_ceil(self.config.parallel);
        let turns = u32::try_from(turns).unwrap_or(u32::MAX);
        let late = self.config.deadline.saturating_mul(turns).saturating_add(GRACE);
        let waiting = async {
            tokio::select! {
                ended = running => Some(ended),
                () = tokio::time::sleep(late) => None,
                () = async { self.stopped().await; tokio::time::sleep(GRACE).await } => None,
            }
        };
        match self.manager.alive(waiting).await {
            Some(Ok((outcome, notices))) => {
                self.notices.retain(|told| !told.is_finished());
                self.notices.push(tokio::spawn(notices.told(notify::LONGEST)));
                ended(&outcome, &classes)
            }
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

    async fn note(&mut self, missed: &Missed) -> Result<(), String> {
        let (path, missed) = (self.config.audit_log.clone(), missed.clone());
        let noting = tokio::task::spawn_blocking(move || {
            audit::append_missed(&path, &missed).map_err(|error| error.to_string())
        });
        let noting = tokio::time::timeout(LOOK_PATIENCE, noting);
        match self.manager.alive(noting).await {
            Ok(noted) => noted.map_err(|panic| panic.to_string())?,
            Err(_elapsed) => Err("it does not answer".to_owned()),
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
