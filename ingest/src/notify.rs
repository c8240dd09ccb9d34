//! Tells the outside how runs begin and end: pings, webhooks, hooks.
//!
//! Everything here is told behind the fact. A run begins without waiting for its first ping, and
//! what is sealed stays so whatever becomes of the others: a failure is a warning and is counted.
//! All of it together is bounded in time, so that no receiver holds up the next run.

mod hook;
mod http;
pub(crate) mod message;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::task::JoinHandle;

use self::http::Poster;
use self::message::Ending;
use self::message::Ping;
use self::message::Verb;
use crate::connect::Secret;
use crate::error::Error;
use crate::job::Outcome;

/// All that is told about one run takes no longer.
const LONGEST: Duration = Duration::from_secs(180);
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
    beginning: Option<JoinHandle<()>>,
}

impl Notifier {
    /// Says that a run of these classes begins. Does not wait until anybody has heard it.
    pub(crate) fn begin(receivers: &Receivers, classes: &[String]) -> Self {
        let receivers = receivers.clone();
        if receivers.is_nobody() {
            return Self { receivers, poster: None, beginning: None };
        }
        let poster = match Poster::new(receivers.authority.as_deref(), receivers.patience) {
            Ok(poster) => Some(Arc::new(poster)),
            Err(error) => {
                failed("pings and webhooks", &error);
                None
            }
        };
        let pings: Vec<Ping> =
            receivers.pings.iter().filter(|ping| ping.is_for(classes)).cloned().collect();
        let beginning = poster.clone().filter(|_| !pings.is_empty()).map(|poster| {
            tokio::task::spawn_blocking(move || {
                for ping in pings {
                    report(&ping.label(), poster.ping(&ping.url(Verb::Start), "", 1));
                }
            })
        });
        Self { receivers, poster, beginning }
    }

    /// Tells how the run ended.
    pub(crate) async fn end(self, outcome: &Outcome) {
        if self.receivers.is_nobody() {
            return;
        }
        let endings: Vec<Ending> = outcome.parts.iter().map(Ending::of).collect();
        let told = tokio::time::timeout(LONGEST, self.tell(endings)).await;
        if told.is_err() {
            let limit = LONGEST.as_secs();
            failed("everybody", &format!("it took longer than {limit} s"));
        }
    }

    async fn tell(self, endings: Vec<Ending>) {
        if let Some(beginning) = self.beginning
            && beginning.await.is_err()
        {
            failed("ping", &"its thread broke");
        }
        if let Some(poster) = self.poster {
            let (pings, webhooks) = (self.receivers.pings, self.receivers.webhooks);
            let told = endings.clone();
            let posted = tokio::task::spawn_blocking(move || {
                post(&poster, &pings, &webhooks, &told);
            });
            if posted.await.is_err() {
                failed("ping", &"its thread broke");
            }
        }
        for ending in &endings {
            let (name, command) = match ending.is_good {
                true => ("hook-success", &self.receivers.on_success),
                false => ("hook-failure", &self.receivers.on_failure),
            };
            if let Some(command) = command
                && let Err(why) = hook::run(command, &ending.variables()).await
            {
                failed(name, &why);
            }
        }
    }
}

/// Sends what goes over the network, each receiver three times at most.
fn post(poster: &Poster, pings: &[Ping], webhooks: &[Secret], endings: &[Ending]) {
    for ping in pings {
        let own: Vec<&Ending> = endings
            .iter()
            .filter(|ending| ping.is_for(std::slice::from_ref(&ending.class)))
            .collect();
        if own.is_empty() {
            continue;
        }
        let verb = match own.iter().all(|ending| ending.is_good) {
            true => Verb::Success,
            false => Verb::Failure,
        };
        report(&ping.label(), poster.ping(&ping.url(verb), &message::body(&own), 3));
    }
    for Secret(url) in webhooks {
        for ending in endings {
            report("webhook", poster.json(url, &ending.json, 3));
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
