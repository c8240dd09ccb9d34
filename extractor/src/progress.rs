//! A bar for people who wait, on a terminal only, and sizes in words.

use std::time::Duration;

use indicatif::BinaryBytes;
use indicatif::ProgressBar;
use indicatif::ProgressDrawTarget;
use indicatif::ProgressStyle;

/// Bytes done, rate, and time left. Without a terminal it draws nothing.
#[derive(Debug)]
pub(crate) struct Progress(ProgressBar);

impl Progress {
    /// Begins at zero of `bytes`.
    pub(crate) fn of_bytes(bytes: u64) -> Self {
        let bar = ProgressBar::with_draw_target(Some(bytes), ProgressDrawTarget::stderr());
        let template = "{msg} {wide_bar} {binary_bytes}/{binary_total_bytes} \
                        {binary_bytes_per_sec}, {eta} left";
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style);
        }
        Self(bar)
    }

    /// Says what is being worked on.
    pub(crate) fn on(&self, what: &str) {
        self.0.set_message(what.to_owned());
    }

    /// So many more are done.
    pub(crate) fn add(&self, bytes: u64) {
        self.0.inc(bytes);
    }

    /// Takes the bar away.
    pub(crate) fn end(&self) {
        self.0.finish_and_clear();
    }

    /// Lets something else be written without the bar in its way.
    pub(crate) fn aside(&self, write: impl FnOnce()) {
        self.0.suspend(write);
    }
}

/// A size and a time as people read them: `1.17 GiB in 3.2 s (374.40 MiB/s)`.
pub(crate) fn pace(bytes: u64, took: Duration) -> String {
    // Below a millisecond a rate says nothing.
    let millis = u64::try_from(took.as_millis()).unwrap_or(u64::MAX).max(1);
    let rate = u128::from(bytes) * 1000 / u128::from(millis);
    let rate = BinaryBytes(u64::try_from(rate).unwrap_or(u64::MAX));
    format!("{} in {:.1} s ({rate}/s)", BinaryBytes(bytes), took.as_secs_f64())
}
