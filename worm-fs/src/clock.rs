//! The retention clock: the store's own time, which nothing but running moves.
//!
//! PURE but for [`MachineClock`]. All values are milliseconds. The retention clock starts at the
//! system time of the store's first moment and then only counts: the raw uptime clock plus
//! suspend while the machine runs, and after a reboot, once, the downtime that the system clock
//! shows, within limits. So no change of the system clock ends a retention early.

use serde::Deserialize;
use serde::Serialize;

/// Milliseconds in a second, an hour and a day.
pub const SECOND_MS: i64 = 1_000;
/// See [`SECOND_MS`].
pub const HOUR_MS: i64 = 3_600 * SECOND_MS;
/// See [`SECOND_MS`].
pub const DAY_MS: i64 = 24 * HOUR_MS;
/// The most that one reboot may credit.
pub const CREDIT_MS_MAX: i64 = 24 * HOUR_MS;
/// The most that reboots may credit together in [`CREDIT_WINDOW_MS`] of the retention clock.
pub const CREDIT_WINDOW_MS_MAX: i64 = 7 * DAY_MS;
/// See [`CREDIT_WINDOW_MS_MAX`].
pub const CREDIT_WINDOW_MS: i64 = 30 * DAY_MS;

/// What the machine's clocks showed at one moment.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct Reading {
    /// The boot that this belongs to, `/proc/sys/kernel/random/boot_id`.
    pub boot: String,
    /// `CLOCK_MONOTONIC_RAW`: time run since boot, not slewed, without suspend.
    pub raw_ms: i64,
    /// Time suspended since boot: `CLOCK_BOOTTIME` less `CLOCK_MONOTONIC`.
    pub suspend_ms: i64,
    /// `CLOCK_REALTIME`, since 1970.
    pub system_ms: i64,
}

/// The retention clock at one moment, and the machine's clocks at the same moment.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct Anchor {
    /// The retention clock, since 1970 if the system clock was right when the store was made.
    pub clock_ms: i64,
    /// What the machine showed.
    pub reading: Reading,
}

/// A downtime that was credited, and when on the retention clock.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Credit {
    /// The retention clock after the credit.
    pub clock_ms: i64,
    /// By how much it jumped.
    pub credit_ms: i64,
}

impl Anchor {
    /// The retention clock at `reading`, which is of the same boot. Never before the anchor.
    #[must_use]
    pub fn now(&self, reading: &Reading) -> i64 {
        let ran = reading.raw_ms.saturating_sub(self.reading.raw_ms).max(0);
        let slept = reading.suspend_ms.saturating_sub(self.reading.suspend_ms).max(0);
        self.clock_ms.saturating_add(ran).saturating_add(slept)
    }

    /// The retention clock of a daemon's first line, given what [`Self::restart`] credited.
    #[must_use]
    pub fn started(&self, reading: &Reading, credit_ms: i64) -> i64 {
        if reading.boot == self.reading.boot {
            self.now(reading)
        } else {
            self.clock_ms.saturating_add(credit_ms)
        }
    }

    /// The anchor with which a daemon starts at `reading`, and the downtime credited in it.
    ///
    /// In the same boot the uptime clock has gone on and nothing is credited. After a reboot it
    /// began anew; then the system clock says how long nobody counted, and is believed within
    /// the limits, less what `credits` have used up.
    #[must_use]
    pub fn restart(&self, reading: Reading, credits: &[Credit]) -> (Self, i64) {
        if reading.boot == self.reading.boot {
            return (Self { clock_ms: self.now(&reading), reading }, 0);
        }
        let window_start = self.clock_ms.saturating_sub(CREDIT_WINDOW_MS);
        let used: i64 = credits
            .iter()
            .filter(|credit| credit.clock_ms > window_start)
            .map(|credit| credit.credit_ms)
            .sum();
        let limit = CREDIT_MS_MAX.min(CREDIT_WINDOW_MS_MAX.saturating_sub(used)).max(0);
        let down = reading.system_ms.saturating_sub(self.reading.system_ms);
        let credit_ms = down.clamp(0, limit);
        (Self { clock_ms: self.clock_ms.saturating_add(credit_ms), reading }, credit_ms)
    }
}

/// Reads the machine's clocks. A value in tests, so that no test waits for time to pass.
pub trait Clock: Send + Sync {
    /// All clocks at this moment.
    fn read(&self) -> Reading;
}

/// The clocks of this machine.
#[derive(Debug)]
pub struct MachineClock {
    boot: String,
}

impl MachineClock {
    /// Finds out which boot this is.
    ///
    /// # Errors
    /// When `/proc` cannot be read.
    pub fn new() -> std::io::Result<Self> {
        let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id")?;
        Ok(Self { boot: boot.trim().to_owned() })
    }
}

impl Clock for MachineClock {
    fn read(&self) -> Reading {
        use rustix::time::ClockId;
        let read = |clock| {
            let now = rustix::time::clock_gettime(clock);
            now.tv_sec.saturating_mul(SECOND_MS).saturating_add(now.tv_nsec / 1_000_000)
        };
        let monotonic = read(ClockId::Monotonic);
        Reading {
            boot: self.boot.clone(),
            raw_ms: read(ClockId::MonotonicRaw),
            suspend_ms: (read(ClockId::Boottime) - monotonic).max(0),
            system_ms: read(ClockId::Realtime),
        }
    }
}

/// A clock that tests set by hand.
#[derive(Debug)]
pub struct ManualClock(parking_lot::Mutex<Reading>);

impl ManualClock {
    /// A machine that was just switched on at `system_ms`.
    #[must_use]
    pub fn new(system_ms: i64) -> Self {
        let boot = "boot-1".to_owned();
        Self(parking_lot::Mutex::new(Reading { boot, raw_ms: 0, suspend_ms: 0, system_ms }))
    }

    /// Lets time pass on all clocks.
    pub fn advance(&self, passed_ms: i64) {
        let mut reading = self.0.lock();
        reading.raw_ms += passed_ms;
        reading.system_ms += passed_ms;
    }

    /// Changes the reading in any other way.
    pub fn set(&self, change: impl FnOnce(&mut Reading)) {
        change(&mut self.0.lock());
    }
}

impl Clock for ManualClock {
    fn read(&self) -> Reading {
        self.0.lock().clone()
    }
}

/// A moment in RFC 3339, UTC. Moments that no calendar holds are shown as its last day.
#[must_use]
pub fn rfc3339(ms: i64) -> String {
    let moment = jiff::Timestamp::from_millisecond(ms).unwrap_or(if ms < 0 {
        jiff::Timestamp::MIN
    } else {
        jiff::Timestamp::MAX
    });
    moment.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: i64 = 1_768_694_400_000;

    fn reading(boot: &str, raw_ms: i64, suspend_ms: i64, system_ms: i64) -> Reading {
        Reading { boot: boot.into(), raw_ms, suspend_ms, system_ms }
    }

    fn anchor() -> Anchor {
        Anchor { clock_ms: START, reading: reading("a", 1_000, 0, START) }
    }

    #[test]
    fn the_system_clock_moves_nothing_within_a_boot() {
        for system in [START - 10 * 365 * DAY_MS, START + 10 * 365 * DAY_MS] {
            assert_eq!(anchor().now(&reading("a", 6_000, 0, system)), START + 5_000);
            let (after, credit) = anchor().restart(reading("a", 6_000, 0, system), &[]);
            assert_eq!((after.clock_ms, credit), (START + 5_000, 0));
        }
    }

    #[test]
    fn suspend_counts_and_nothing_runs_backward() {
        assert_eq!(anchor().now(&reading("a", 2_000, 7_000, START)), START + 8_000);
        assert_eq!(anchor().now(&reading("a", 0, 0, 0)), START);
    }

    #[test]
    fn a_reboot_credits_what_the_system_clock_shows_up_to_a_day() {
        let check = |down: i64, expected: i64| {
            let (after, credit) = anchor().restart(reading("b", 5, 0, START + down), &[]);
            assert_eq!((after.clock_ms - START, credit), (expected, expected), "{down}");
        };
        check(HOUR_MS, HOUR_MS);
        check(30 * DAY_MS, DAY_MS);
        check(-30 * DAY_MS, 0);
        check(i64::MAX - START, DAY_MS);
    }

    #[test]
    fn reboots_together_credit_at_most_a_week_in_thirty_days() {
        let credits: Vec<Credit> =
            (1..=7).map(|day| Credit { clock_ms: START - day, credit_ms: DAY_MS }).collect();
        let (_, credit) = anchor().restart(reading("b", 0, 0, START + DAY_MS), &credits);
        assert_eq!(credit, 0);
        let (_, credit) = anchor().restart(reading("b", 0, 0, START + DAY_MS), &credits[..6]);
        assert_eq!(credit, DAY_MS);
        let old = [Credit { clock_ms: START - CREDIT_WINDOW_MS, credit_ms: 7 * DAY_MS }];
        let (_, credit) = anchor().restart(reading("b", 0, 0, START + HOUR_MS), &old);
        assert_eq!(credit, HOUR_MS);
    }

    #[test]
    fn any_number_has_a_date() {
        assert_eq!(rfc3339(START), "2026-01-18T00:00:00Z");
        assert!(rfc3339(i64::MAX).starts_with("9999"));
        assert!(rfc3339(i64::MIN).starts_with('-'));
    }
}
