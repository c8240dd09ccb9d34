//! What the daemon does about a question. It decides nothing: the file system does.

use std::fmt::Display;
use std::sync::Arc;
use std::time::Duration;
use std::time::Instant;

use serde::Serialize;
use serde_json::Value;
use worm_fs::clock::rfc3339;
use worm_fs::error::Error;
use worm_fs::fs::WormFs;
use worm_fs::policy::Refusal;
use worm_fs::policy::name::StorePath;
use worm_fs::record::Actor;
use worm_fs::report::Description;
use worm_fs::report::Serving;
use worm_fs::report::Status;

use super::Ask;
use super::Expired;
use super::Glance;
use super::Longer;
use crate::alarms::Alarms;
use crate::outcome::Exit;
use crate::outcome::Failure;
use crate::outcome::Outcome;
use crate::words::moment;
use crate::words::span;

/// How long one answer to [`Ask::Expire`] may go on removing.
const EXPIRE_FOR: Duration = Duration::from_secs(20);

/// A served store, as the doors see it.
#[derive(Clone, Debug)]
pub(crate) struct Daemon {
    fs: Arc<WormFs>,
    alarms: Arc<Alarms>,
    sandbox: String,
    started_at: String,
}

impl Daemon {
    /// One that began just now.
    pub(crate) fn new(alarms: Arc<Alarms>, sandbox: String) -> Self {
        let fs = Arc::clone(&alarms.fs);
        let started_at = rfc3339(fs.system_ns() / 1_000_000);
        Self { fs, alarms, sandbox, started_at }
    }

    /// The store at a glance.
    pub(crate) fn status(&self) -> Glance {
        let (places, alarms) = self.alarms.now();
        let status = self.fs.status(Serving {
            pid: std::process::id(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            started_at: self.started_at.clone(),
            ..Serving::default()
        });
        let status = Status { alarms, ..status };
        Glance { status, places, sandbox: self.sandbox.clone() }
    }

    /// Does what is asked.
    pub(crate) fn answer(&self, by: Actor, ask: Ask) -> Outcome<Value> {
        let fs = &self.fs;
        match ask {
            Ask::Status => value(&self.status()),
            Ask::Describe { path } => value(&fs.describe(&path)),
            Ask::Clock => value(&fs.clock_report()),
            Ask::Expiry => value(&fs.expiry()),
            Ask::Expire => value(&self.expire(by)?),
            Ask::Ledger { from } => {
                value(&fs.ledger_page(from).map_err(|error| failure(&error, "the ledger"))?)
            }
            Ask::Hold { path, hold, reason } => self.hold(by, &path, &hold, &reason),
            Ask::LiftHold { path, hold, reason } => self.lift_hold(by, &path, &hold, &reason),
            Ask::Release { path, reason } => self.release(by, &path, &reason),
            Ask::Extend { path, to, reason } => self.extend(by, &path, to, reason.as_deref()),
            Ask::Credit { credit_ms, reason } => self.credit(by, credit_ms, &reason),
        }
    }

    fn hold(&self, by: Actor, path: &StorePath, hold: &str, reason: &str) -> Outcome<Value> {
        tracing::info!(%path, hold, reason, %by, "hold");
        match self.fs.hold(by, path, hold, reason) {
            Ok(()) => value(&self.fs.describe(path)),
            Err(Error::Refused(Refusal::NameTaken)) => {
                Err(refused(path, "a hold of that name is on it already"))
            }
            Err(Error::Refused(Refusal::BadValue)) => Err(refused(path, HOLD_VALUES)),
            Err(error) => Err(failure(&error, path)),
        }
    }

    fn lift_hold(&self, by: Actor, path: &StorePath, hold: &str, reason: &str) -> Outcome<Value> {
        tracing::info!(%path, hold, reason, %by, "lift hold");
        match self.fs.lift_hold(by, path, hold, reason) {
            Ok(()) => value(&self.fs.describe(path)),
            Err(Error::NotFound) if self.fs.describe(path).kept.is_some() => {
                let message = format!("{path}: no hold {hold:?} is on it");
                Err(Failure::new(Exit::NotFound, message))
            }
            Err(Error::Refused(Refusal::BadValue)) => Err(refused(path, HOLD_VALUES)),
            Err(error) => Err(failure(&error, path)),
        }
    }

    fn release(&self, by: Actor, path: &StorePath, reason: &str) -> Outcome<Value> {
        tracing::info!(%path, reason, %by, "release");
        match self.fs.release_group(by, path, reason) {
            Ok(()) => value(&self.fs.describe(path)),
            Err(Error::Refused(Refusal::Retained)) => Err(refused(
                path,
                "it, or a file of its group, was sealed in compliance mode: nobody ends that early",
            )),
            Err(Error::Refused(Refusal::BadValue)) => Err(refused(path, REASON_VALUES)),
            Err(error) => Err(failure(&error, path)),
        }
    }

    fn extend(
        &self,
        by: Actor,
        path: &StorePath,
        to: Longer,
        reason: Option<&str>,
    ) -> Outcome<Value> {
        tracing::info!(%path, ?to, reason, %by, "extend");
        let before = self.fs.describe(path);
        let until_ms = match to {
            Longer::UntilMs(until_ms) => until_ms,
            Longer::ByMs(by_ms) => end_of(&before).saturating_add(by_ms),
        };
        match (self.fs.extend(by, path, until_ms, reason), before.kept, before.class) {
            (Ok(()), ..) => value(&self.fs.describe(path)),
            (Err(Error::Refused(Refusal::RetentionShortened)), Some(kept), Some(class)) => {
                let what = format!(
                    "its end is {} and can only be moved later, at most to {} after its seal at {} \
                     (max_retention of class {})",
                    moment(&kept.own_end),
                    span(class.max_retention_seconds),
                    moment(&kept.sealed_at),
                    class.name
                );
                Err(refused(path, &what))
            }
            (Err(Error::Refused(Refusal::BadValue)), ..) => Err(refused(path, REASON_VALUES)),
            (Err(error), ..) => Err(failure(&error, path)),
        }
    }

    fn credit(&self, by: Actor, credit_ms: i64, reason: &str) -> Outcome<Value> {
        tracing::info!(credit_ms, reason, %by, "credit");
        match self.fs.credit(by, credit_ms, reason) {
            Ok(()) => value(&()),
            Err(Error::Refused(Refusal::BadValue)) => Err(refused("the clock", CREDIT_VALUES)),
            Err(error) => Err(failure(&error, "the clock")),
        }
    }

    /// Removes what is over now, for a bounded time.
    fn expire(&self, by: Actor) -> Outcome<Expired> {
        tracing::info!(%by, "expire");
        let deadline = Instant::now() + EXPIRE_FOR;
        let mut removed = 0;
        loop {
            match self.fs.expire_now(by) {
                Ok(0) => return Ok(Expired { removed, more: false }),
                Ok(more) => removed += more,
                Err(error) => return Err(failure(&error, "expire")),
            }
            if Instant::now() >= deadline {
                return Ok(Expired { removed, more: true });
            }
        }
    }
}

/// What a name and a reason must be.
const HOLD_VALUES: &str = "a name has at most 64 letters, digits or -_.:/#@; a reason is one line \
                           of at most 1024 bytes, and not empty";
/// What a reason must be.
pub(crate) const REASON_VALUES: &str = "a reason is one line of at most 1024 bytes, and not empty";
/// What a credit must be.
const CREDIT_VALUES: &str = "credit at least a millisecond and at most the lag (see worm clock), \
                             with a reason of one line of at most 1024 bytes";

/// The end of a file's group by the system clock as it runs now, milliseconds since 1970.
fn end_of(description: &Description) -> i64 {
    let end = description.kept.as_ref().map(|kept| &kept.retain_until);
    let end = end.and_then(|end| end.parse::<jiff::Timestamp>().ok());
    end.map_or(0, jiff::Timestamp::as_millisecond)
}

fn value(answer: &impl Serialize) -> Outcome<Value> {
    serde_json::to_value(answer).map_err(Failure::doing("put the answer into words"))
}

fn refused(what: impl Display, why: &str) -> Failure {
    Failure::new(Exit::Preflight, format_args!("{what}: {why}"))
}

/// Says what failed, and how bad that is.
fn failure(error: &Error, what: impl Display) -> Failure {
    match error {
        Error::NotFound => {
            let message = format!("{what}: there is no finished file of that name");
            Failure::new(Exit::NotFound, message)
        }
        Error::Refused(Refusal::Busy) => {
            Failure::new(Exit::Busy, format_args!("{what}: it is being written"))
        }
        Error::Refused(refusal) => refused(what, &refusal.to_string()),
        Error::IsADirectory => refused(what, "it is a directory: name a file"),
        Error::NotADirectory
        | Error::BadHandle
        | Error::NoAttribute
        | Error::NotYet
        | Error::Stopped(_)
        | Error::Store { .. }
        | Error::Corrupt(_) => Failure::new(Exit::Failed, format_args!("{what}: {error}")),
    }
}
