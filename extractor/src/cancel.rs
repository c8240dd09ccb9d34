//! The wish to stop, carried from the signal handler to the loops that copy bytes.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;

use tokio::sync::Notify;

/// Set once, by SIGINT or SIGTERM, and never unset.
#[derive(Clone, Debug, Default)]
pub struct Cancel {
    wanted: Arc<AtomicBool>,
    changed: Arc<Notify>,
}

impl Cancel {
    /// Asks everybody who holds a clone to stop.
    pub fn request(&self) {
        self.wanted.store(true, Ordering::SeqCst);
        self.changed.notify_waiters();
    }

    /// Whether a stop was asked for.
    #[must_use]
    pub fn is_requested(&self) -> bool {
        self.wanted.load(Ordering::SeqCst)
    }

    /// Returns when a stop is asked for.
    pub async fn requested(&self) {
        loop {
            // Registered before the flag is read, so that a request in between is not missed.
            let changed = self.changed.notified();
            tokio::pin!(changed);
            let _already = changed.as_mut().enable();
            if self.is_requested() {
                return;
            }
            changed.await;
        }
    }
}
