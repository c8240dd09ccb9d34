//! What the service manager is told, if there is one: `READY`, `STATUS`, `WATCHDOG`, `STOPPING`.

use std::time::Duration;

use sd_notify::NotifyState;

use super::health::Pulse;
use super::status::Status;

/// How often somebody hears from us, when the manager does not say how often it wants to.
const BEAT: Duration = Duration::from_mins(1);

/// The service manager.
#[derive(Debug)]
pub(super) struct Manager {
    /// Whether it waits for a sign of life.
    watches: bool,
    beat: Duration,
    pulse: Pulse,
    ready: bool,
    told: String,
}

impl Manager {
    pub(super) fn new(pulse: Pulse) -> Self {
        let watchdog = sd_notify::watchdog_enabled();
        // Twice as often as it asks for.
        let beat = watchdog.map_or(BEAT, |limit| (limit / 2).min(BEAT));
        let beat = beat.max(Duration::from_millis(10));
        Self { watches: watchdog.is_some(), beat, pulse, ready: false, told: String::new() }
    }

    /// Waits for `future`, and gives signs of life meanwhile: from this task, so that none come
    /// when it is stuck.
    pub(super) async fn alive<T>(&self, future: impl Future<Output = T>) -> T {
        let mut future = std::pin::pin!(future);
        loop {
            self.pulse.beat();
            if self.watches {
                send(&[NotifyState::Watchdog]);
            }
            match tokio::time::timeout(self.beat, &mut future).await {
                Ok(result) => return result,
                Err(_elapsed) => {}
            }
        }
    }

    /// Tells it what has changed.
    pub(super) fn tell(&mut self, status: &Status) {
        let line = status.line();
        if line != self.told {
            send(&[NotifyState::Status(&line)]);
            self.told = line;
        }
        if status.ready() && !self.ready {
            self.ready = true;
            tracing::info!("ready: {}", self.told);
            send(&[NotifyState::Ready]);
        }
    }

    /// Tells it that the service ends.
    pub(super) fn stopping() {
        send(&[NotifyState::Stopping]);
    }
}

/// Nothing depends on whether it hears us.
fn send(words: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(words) {
        tracing::debug!(%error, "the service manager could not be told");
    }
}
