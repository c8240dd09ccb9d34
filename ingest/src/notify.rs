//! Tells the outside how runs begin and end: pings, webhooks, hooks.
//!
//! Everything here is told behind the fact. A run begins without waiting for its first ping, and
//! what is sealed stays so whatever becomes of the others: a failure is a warning and is counted.
//! Each receiver is told on its own, so that none waits for another, and all of it is bounded in
//! time. Nobody who holds a lock waits for it, and the next run does not either.

mod hook;
mod http;
pub(crate) mod message;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::time::Duration;
use std::time::Instant;

use tokio::task::JoinHandle;

use self::http::Poster;
use self::message::Ending;
use self::message::Ping;
use self::message::Verb;
use crate::connect::Secret;
use crate::error::Error;
use crate::job::Outcome;

/// All that is told about one run takes no longer.
pub const LONGEST: Duration = Duration::from_secs(180);
/// Who failed to be told since this process began.
static FAILURES: AtomicU64 = AtomicU64::new(0);

/// How often nobody could be told, since this process began.
pub(crate) fn failures() -> u64 {
    FAILURES.load(Ordering::Relaxed)
}

/// Who is to be told. Addresses are secrets: whoever has one can send to it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Receivers {
    /// Addresses in the manner of healthchecks, each for one class or for all.
    pub(crate) pings: Vec<Ping>,
    /// Get every line of the audit log, as JSON.
    pub(crate) webhooks: Vec<Secret>,
    /// Who vouches for their servers, instead of the authorities that browsers trust.
    pub(crate) authority: Option<PathBuf>,
    /// How long one try over the network may take.
    pub(crate) patience: Duration,
    /// A shell command after a good backup.
    pub(crate) on_success: Option<String>,
    /// A shell command after any other end.
    pub(crate) on_failure: Option<String>,
}

impl Receivers {
    fn is_nobody(&self) -> bool {
        self.pings.is_empty()
            && self.webhooks.is_empty()
            && self.on_success.is_none()
            && self.on_failure.is_none()
    }
}

/// Tells about one run.
pub(crate) struct Notifier {
    receivers: Receivers,
    poster: Option<Arc<Poster>>,
    /// What is said to each ping that this run begins.
    beginning: Vec<(Ping, Option<JoinHandle<()>>)>,
}

/// What is being told about a run that has ended.
#[derive(Debug)]
pub struct Notices(Vec<(&'static str, JoinHandle<()>)>);

impl Notifier {
    /// Says that a run of these classes begins. Does not wait until anybody has heard it.
    pub(crate) fn begin(receivers: &Receivers, classes: &[String]) -> Self {
        let receivers = receivers.clone();
        if receivers.is_nobody() {
            return Self { receivers, poster: None, beginning: Vec::new() };
        }
        let poster = match Poster::new(receivers.authority.as_deref(), receivers.patience) {
            Ok(poster) => Some(Arc::new(poster)),
            Err(error) => {
                failed("pings and webhooks", &error);
                None
            }
        };
        let begin = |ping: &Ping| {
            let poster = poster.clone().filter(|_| ping.is_for(classes));
            let said = poster.map(|poster| {
                let ping = ping.clone();
                tokio::task::spawn_blocking(move || {
                    report(&ping.label(), poster.ping(&ping.url(Verb::Start), "", 1));
                })
            });
            (ping.clone(), said)
        };
        let beginning = receivers.pings.iter().map(begin).collect();
        Self { receivers, poster, beginning }
    }

    /// Tells how the run ended, behind whoever calls this.
    pub(crate) fn end(self, outcome: &Outcome) -> Notices {
        if self.receivers.is_nobody() {
            return Notices(Vec::new());
        }
        let endings: Arc<[Ending]> = outcome.parts.iter().map(Ending::of).collect();
        let mut notices = Vec::new();
        if let Some(poster) = self.poster {
            for (ping, begun) in self.beginning {
                let (poster, endings) = (Arc::clone(&poster), Arc::clone(&endings));
                notices.push(("ping", tokio::spawn(tell_ping(poster, ping, begun, endings))));
            }
            for url in self.receivers.webhooks {
                let (poster, endings) = (Arc::clone(&poster), Arc::clone(&endings));
                let post = tokio::task::spawn_blocking(move || {
                    for ending in endings.iter() {
                        report("webhook", poster.json(&url.0, &ending.json, 3));
                    }
                });
                notices.push(("webhook", post));
            }
        }
        let (success, failure) = (self.receivers.on_success, self.receivers.on_failure);
        if success.is_some() || failure.is_some() {
            notices.push(("hook", tokio::spawn(run_hooks(success, failure, endings))));
        }
        Notices(notices)
    }
}

impl Notices {
    /// Waits until all have been told, or until `limit` is over.
    pub async fn told(self, limit: Duration) {
        let until = tokio::time::Instant::now() + limit;
        for (who, notice) in self.0 {
            match tokio::time::timeout_at(until, notice).await {
                Ok(Ok(())) => {}
                Ok(Err(panic)) => failed(who, &panic),
                Err(_elapsed) => failed(who, &format!("it took longer than {} s", limit.as_secs())),
            }
        }
    }
}

/// Tells one ping how it ended, after it was told that it begins.
async fn tell_ping(
    poster: Arc<Poster>,
    ping: Ping,
    begun: Option<JoinHandle<()>>,
    endings: Arc<[Ending]>,
) {
    if let Some(begun) = begun
        && begun.await.is_err()
    {
        failed("ping", &"its thread broke");
    }
    let posted = tokio::task::spawn_blocking(move || {
        let is_own = |ending: &&Ending| ping.is_for(std::slice::from_ref(&ending.class));
        let own: Vec<&Ending> = endings.iter().filter(is_own).collect();
        if own.is_empty() {
            return;
        }
        let verb = match own.iter().all(|ending| ending.is_good) {
            true => Verb::Success,
            false => Verb::Failure,
        };
        report(&ping.label(), poster.ping(&ping.url(verb), &message::body(&own), 3));
    });
    if posted.await.is_err() {
        failed("ping", &"its thread broke");
    }
}

/// Runs the hook of each ending, one after the other.
async fn run_hooks(success: Option<String>, failure: Option<String>, endings: Arc<[Ending]>) {
    let begun = Instant::now();
    for ending in endings.iter() {
        let (name, command) = match ending.is_good {
            true => ("hook-success", &success),
            false => ("hook-failure", &failure),
        };
        let Some(command) = command else { continue };
        if begun.elapsed() + hook::PATIENCE > LONGEST {
            failed(name, &"the hooks before it took too long");
        } else if let Err(why) = hook::run(command, &ending.variables()).await {
            failed(name, &why);
        }
    }
}

fn report(who: &str, result: Result<(), String>) {
    if let Err(why) = result {
        failed(who, &why);
    }
}

fn failed(who: &str, why: &dyn std::fmt::Display) {
    FAILURES.fetch_add(1, Ordering::Relaxed);
    tracing::warn!(who, %why, "could not tell how the run went; what is sealed stays sealed");
}

/// Whether an address can be sent to at all.
pub(crate) fn address(text: &str) -> Option<Secret> {
    message::is_address(text).then(|| Secret(text.to_owned()))
}

/// Whether the certificates can be read.
///
/// # Errors
/// [`Error::Usage`] says what is wrong with them.
pub(crate) fn check(receivers: &Receivers) -> Result<(), Error> {
    match &receivers.authority {
        Some(_) => Poster::new(receivers.authority.as_deref(), receivers.patience)
            .map(drop)
            .map_err(Error::Usage),
        None => Ok(()),
    }
}
