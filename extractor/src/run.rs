//! The extractor that runs by itself: a round of [`crate::once`], a pause, the next round.
//!
//! A mount that is not there, a mirror that is full or a damaged backup ends a round, and the next
//! one tries again: only arguments that make no sense end the run. How it goes is noted in a small
//! file, which `health` judges; it is lost with the machine, and nothing depends on it.

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::time::Duration;

use jiff::Timestamp;
use sd_notify::NotifyState;
use tracing::debug;
use tracing::error;
use tracing::info;

use crate::cancel::Cancel;
use crate::cli::RunArgs;
use crate::config::OnceConfig;
use crate::error::Error;
use crate::error::Result;
use crate::exit::Exit;
use crate::health;
use crate::health::Health;
use crate::health::Round;
use crate::once;

/// Goes on until a signal comes.
///
/// # Errors
/// [`Error::Usage`] when the arguments make no sense, whatever becomes of the world.
pub async fn run(args: &RunArgs, cancel: &Cancel) -> Result<()> {
    let every = args.every;
    let mut health = Health { under_way_since: None, last: None };
    tell(&[NotifyState::Ready]);
    while !cancel.is_requested() {
        health.under_way_since = Some(Timestamp::now());
        note(&args.health, &health)?;
        let (exit, message) = round(args, cancel).await?;
        if exit == Exit::Cancelled {
            break;
        }
        let before = health.last.as_ref().map_or(0, |last| last.failures);
        let failures = if exit == Exit::Done {
            0
        } else if exit == Exit::Busy {
            // Somebody runs `once` by hand, and does what this round would have done.
            before
        } else {
            before.saturating_add(1)
        };
        let pause = health::pause(every, failures);
        report(exit, &message, failures, pause);
        let ended = Timestamp::now();
        let pause_ms = u64::try_from(pause.as_millis()).unwrap_or(u64::MAX);
        let last = Round { ended, exit: exit.code(), message, failures, pause_ms };
        health = Health { under_way_since: None, last: Some(last) };
        note(&args.health, &health)?;
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = cancel.requested() => {}
        }
    }
    tell(&[NotifyState::Stopping]);
    info!("told to end");
    Ok(())
}

/// One round, and what became of it.
async fn round(args: &RunArgs, cancel: &Cancel) -> Result<(Exit, String)> {
    let (args, cancel) = (args.mirror.clone(), cancel.clone());
    let once = move || once::once(&OnceConfig::unattended(args)?, &cancel);
    match tokio::task::spawn_blocking(once).await {
        Ok(Ok(report)) => Ok((report.exit, report.text())),
        Ok(Err(error @ Error::Usage(_))) => Err(error),
        Ok(Err(error)) => Ok((error.exit(), error.to_string())),
        Err(error) => Ok((Exit::Failed, format!("the round ended early: {error}"))),
    }
}

fn report(exit: Exit, message: &str, failures: u32, pause: Duration) {
    let next_s = pause.as_secs();
    if exit == Exit::Done {
        debug!(next_s, "{message}");
    } else {
        error!(exit = exit.code(), failures, next_s, "{message}");
    }
    tell(&[NotifyState::Status(message)]);
}

/// Only where something listens: without a service manager this does nothing.
fn tell(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        debug!(%error, "the service manager was not told");
    }
}

/// Replaces the note: whoever reads it sees the one before or this one.
fn note(path: &Path, health: &Health) -> Result<()> {
    let refused = |error: std::io::Error| {
        let path = path.display();
        Error::Usage(format!("cannot note the health in {path}: {error} (see --health)"))
    };
    let text = serde_json::to_string(health)
        .map_err(|error| Error::Failed(format!("could not note the health: {error}")))?;
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent).map_err(refused)?;
    }
    let mut new = path.as_os_str().to_owned();
    new.push(".new");
    let mut file = File::create(&new).map_err(refused)?;
    file.write_all(text.as_bytes()).map_err(refused)?;
    rustix::fs::rename(&new, path).map_err(|errno| refused(errno.into()))
}

/// What the note of a run says, as a line.
///
/// # Errors
/// [`Error::NotFound`] when there is no note, [`Error::Failed`] when it is not well.
pub fn judge(path: &Path, now: Timestamp) -> Result<String> {
    let shown = path.display();
    let text = std::fs::read_to_string(path).map_err(|error| {
        Error::NotFound(format!("{shown}: {error}: is worm-extractor run running?"))
    })?;
    let health: Health = serde_json::from_str(&text)
        .map_err(|error| Error::Failed(format!("{shown} is no note of a run: {error}")))?;
    health.judge(now).map_err(Error::Failed)
}
