//! The thread that reads everything again, when nobody else wants the disk.

use std::sync::Arc;
use std::sync::mpsc::RecvTimeoutError;
use std::sync::mpsc::Sender;
use std::sync::mpsc::channel;
use std::thread::JoinHandle;
use std::time::Duration;

use worm_fs::config::Scrub;
use worm_fs::fs::WormFs;

use crate::outcome::Failure;
use crate::outcome::Outcome;

/// The longest sleep: the retention clock may have been moved on meanwhile.
const SLEEP_MAX: Duration = Duration::from_secs(60);

/// The thread at work. It ends at once when this is dropped.
#[derive(Debug)]
pub(crate) struct Scrubber {
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Scrubber {
    /// Starts it.
    pub(crate) fn start(fs: Arc<WormFs>, rule: Scrub) -> Outcome<Self> {
        let (stop, stopped) = channel::<()>();
        // Whether that long passed without an end.
        let rest = move |pause| stopped.recv_timeout(pause) == Err(RecvTimeoutError::Timeout);
        let work = move || {
            WormFs::yield_to_others();
            loop {
                let sleep = match fs.scrub(&rule, &rest) {
                    Ok(ms) => Duration::from_millis(ms.unsigned_abs()).min(SLEEP_MAX),
                    Err(error) => {
                        tracing::error!(%error, "the scrub cannot be recorded");
                        SLEEP_MAX
                    }
                };
                if !rest(sleep) {
                    return;
                }
            }
        };
        let thread = std::thread::Builder::new().name("scrub".to_owned()).spawn(work);
        let thread = thread.map_err(Failure::doing("start the scrub"))?;
        Ok(Self { stop: Some(stop), thread: Some(thread) })
    }
}

impl Drop for Scrubber {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the scrub's thread panicked");
        }
    }
}
