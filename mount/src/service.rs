//! What a service manager hears of the daemon (sd_notify(3)): that it serves, that it lives, and
//! that it ends. Without one, nothing.

use std::path::Path;
use std::time::Duration;
use std::time::Instant;

use sd_notify::NotifyState;

use crate::alarms::Alarms;

/// The life signs of a daemon that serves.
#[derive(Debug)]
pub(crate) struct Service {
    /// How often to give one, if anybody waits for them.
    every: Option<Duration>,
    last: Instant,
}

impl Service {
    /// Says that the mount answers.
    pub(crate) fn ready(mountpoint: &Path) -> Self {
        let status = format!("serving {}", mountpoint.display());
        tell(&[NotifyState::Ready, NotifyState::Status(&status)]);
        // Half of what is allowed, so that one late sign is no end.
        let every = sd_notify::watchdog_enabled().map(|patience| patience / 2);
        Self { every, last: Instant::now() }
    }

    /// Gives a life sign where one is due. It is one of the file system, too: what every request
    /// needs is taken and let go of for it.
    pub(crate) fn alive(&mut self, alarms: &Alarms) {
        if self.every.is_none_or(|every| self.last.elapsed() < every) {
            return;
        }
        let raised = alarms.fs.alarms().len();
        let status = format!("serving, {raised} alarms");
        tell(&[NotifyState::Watchdog, NotifyState::Status(&status)]);
        self.last = Instant::now();
    }
}

/// Says that it is going.
pub(crate) fn stopping() {
    tell(&[NotifyState::Stopping]);
}

fn tell(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        tracing::debug!(%error, "the service manager was not told");
    }
}
