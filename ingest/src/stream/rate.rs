//! PURE: a limit on bytes per second, as a bucket that fills with time. Time is handed in.

use std::num::NonZeroU64;
use std::time::Duration;

/// So many times a second the bucket is looked at: what is waited for at once is short, so that a
/// run can be stopped, and the stream does not go in jerks.
const LOOKS: u64 = 10;

/// Bytes that may pass.
#[derive(Debug)]
pub(crate) struct Bucket {
    per_second: u64,
    /// When it began.
    begun: Duration,
    /// Bytes that have passed since then.
    passed: u64,
}

impl Bucket {
    /// A bucket that begins now; `now` counts from any moment that stays the same.
    pub(crate) fn new(per_second: NonZeroU64, now: Duration) -> Self {
        Self { per_second: per_second.get(), begun: now, passed: 0 }
    }

    /// The most that may be taken at once.
    pub(crate) fn most(&self) -> u64 {
        (self.per_second / LOOKS).max(1)
    }

    /// Takes `bytes`, at most [`Bucket::most`], and says how long to wait after them.
    pub(crate) fn take(&mut self, bytes: u64, now: Duration) -> Duration {
        self.passed += bytes;
        let due = Duration::from_secs_f64(self.passed as f64 / self.per_second as f64);
        let wait = (self.begun + due).saturating_sub(now);
        // Who was slow for a while is not let off the limit afterwards.
        if wait.is_zero() {
            (self.begun, self.passed) = (now, 0);
        }
        wait
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(milliseconds: u64) -> Duration {
        Duration::from_millis(milliseconds)
    }

    #[test]
    fn a_steady_stream_has_its_rate() {
        let mut bucket = Bucket::new(NonZeroU64::new(1000).unwrap(), at(5000));
        assert_eq!(bucket.most(), 100);
        let mut now = at(5000);
        for _ in 0..50 {
            now += bucket.take(100, now);
        }
        assert_eq!(now, at(10_000), "5000 bytes in 5 s");
    }

    #[test]
    fn a_pause_is_not_made_up_for() {
        let mut bucket = Bucket::new(NonZeroU64::new(1000).unwrap(), at(0));
        assert_eq!(bucket.take(100, at(0)), at(100));
        assert_eq!(bucket.take(100, at(60_000)), at(0));
        assert_eq!(bucket.take(100, at(60_000)), at(100));
        assert_eq!(bucket.take(100, at(60_050)), at(150));
    }

    #[test]
    fn the_slowest_limit_still_moves() {
        let mut bucket = Bucket::new(NonZeroU64::new(1).unwrap(), at(0));
        assert_eq!((bucket.most(), bucket.take(1, at(0))), (1, at(1000)));
    }
}
