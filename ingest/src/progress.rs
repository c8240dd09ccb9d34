//! Watches the stream: a line on the terminal that moves while the dump runs, and a word when it
//! does not move any more.

use std::io::IsTerminal;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::Weak;
use std::sync::atomic::Ordering;
use std::time::Duration;

use indicatif::HumanDuration;
use indicatif::ProgressBar;

use crate::stream::pipeline::Progress;
use crate::summary::bytes;

/// The dumps under way in this process, for the numbers that it tells.
static UNDER_WAY: Mutex<Vec<Weak<Progress>>> = Mutex::new(Vec::new());

/// Counts `progress` as under way until it is dropped.
pub(crate) fn follow(progress: &Arc<Progress>) {
    let mut under_way = UNDER_WAY.lock().unwrap_or_else(PoisonError::into_inner);
    under_way.retain(|known| known.strong_count() > 0);
    under_way.push(Arc::downgrade(progress));
}

/// How many dumps are under way, and how many bytes they have read.
pub(crate) fn under_way() -> (usize, u64) {
    let under_way = UNDER_WAY.lock().unwrap_or_else(PoisonError::into_inner);
    let alive: Vec<Arc<Progress>> = under_way.iter().filter_map(Weak::upgrade).collect();
    (alive.len(), alive.iter().map(|progress| progress.raw.load(Ordering::Relaxed)).sum())
}

/// How often the line changes.
const EVERY: Duration = Duration::from_millis(250);
/// How many times within its patience a watcher looks whether anything has moved.
const LOOKS: u32 = 8;

/// Shows `progress` until dropped or cancelled; never returns by itself. Silent without a terminal.
pub(crate) async fn show(progress: &Progress) -> std::convert::Infallible {
    if !std::io::stderr().is_terminal() {
        std::future::pending::<()>().await;
    }
    let bar = Bar(ProgressBar::new_spinner());
    let mut ticks = tokio::time::interval(EVERY);
    loop {
        ticks.tick().await;
        let (raw, stored) =
            (progress.raw.load(Ordering::Relaxed), progress.stored.load(Ordering::Relaxed));
        let elapsed = bar.0.elapsed();
        let rate = rate(raw, elapsed);
        let line = format!(
            "{} of SQL, {} written, {}/s, {}",
            bytes(raw),
            bytes(stored),
            bytes(rate),
            HumanDuration(elapsed)
        );
        bar.0.set_message(line);
        bar.0.tick();
    }
}

/// Returns when nothing was read and nothing written for `patience`, or at most an eighth longer.
pub(crate) async fn stalled(progress: &Progress, patience: Duration) {
    let now = || (progress.raw.load(Ordering::Relaxed), progress.stored.load(Ordering::Relaxed));
    let (mut seen, mut quiet) = (now(), 0);
    while quiet < LOOKS {
        tokio::time::sleep(patience / LOOKS).await;
        quiet = if now() == seen { quiet + 1 } else { 0 };
        seen = now();
    }
}

/// Bytes in a second.
pub(crate) fn rate(bytes: u64, elapsed: Duration) -> u64 {
    let milliseconds = elapsed.as_millis().max(1);
    u64::try_from(u128::from(bytes) * 1000 / milliseconds).unwrap_or(u64::MAX)
}

/// Leaves a clean line behind, also when the wait is given up.
struct Bar(ProgressBar);

impl Drop for Bar {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}
