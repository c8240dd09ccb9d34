//! Requests that wait for the disk or for a seal run on threads of their own, so that they never
//! hold up the threads that read requests.

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;

/// How many may run beside each other. Beyond that a request waits its turn where it came in.
const BESIDE_MAX: usize = 256;

/// Runs slow requests.
#[derive(Debug, Default)]
pub(super) struct Slow {
    running: Arc<AtomicUsize>,
}

impl Slow {
    /// Runs `act` on a thread of its own, or here when there are too many.
    pub(super) fn run(&self, act: impl FnOnce() + Send + 'static) {
        let leave = Running(Arc::clone(&self.running));
        if leave.0.fetch_add(1, Ordering::AcqRel) >= BESIDE_MAX {
            return act();
        }
        // The thread takes `act` only when it really starts; else it is carried out here.
        let act = Arc::new(parking_lot::Mutex::new(Some(act)));
        let theirs = Arc::clone(&act);
        let started = std::thread::Builder::new().name("slow".to_owned()).spawn(move || {
            let _leave = leave;
            let act = theirs.lock().take();
            if let Some(act) = act {
                act();
            }
        });
        if let Err(error) = started {
            tracing::warn!(%error, "no thread for a slow request");
            let act = act.lock().take();
            if let Some(act) = act {
                act();
            }
        }
    }
}

/// Counts one less when it goes.
struct Running(Arc<AtomicUsize>);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}
