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

impl Reading {
    /// `CLOCK_REALTIME` in nanoseconds.
    #[must_use]
    pub fn system_ns(&self) -> i64 {
        self.system_ms.saturating_mul(1_000_000)
    }
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
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize, Deserialize)]
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

    /// How long the machine was off before `reading`, as its system clock shows: zero in the same
    /// boot, or when the system clock went back.
    #[must_use]
    pub fn down(&self, reading: &Reading) -> i64 {
        if reading.boot == self.reading.boot {
            return 0;
        }
        reading.system_ms.saturating_sub(self.reading.system_ms).max(0)
    }

    /// Why `reading` cannot follow this anchor in one boot, if it cannot: the uptime clock only
    /// goes on. Half a minute is allowed for clocks that are read one after the other.
    #[must_use]
    pub fn doubt(&self, reading: &Reading) -> Option<String> {
        let back_ms = self.reading.raw_ms.saturating_sub(reading.raw_ms);
        if reading.boot != self.reading.boot || back_ms <= 30 * SECOND_MS {
            return None;
        }
        let seconds = back_ms / SECOND_MS;
        Some(format!("the uptime clock is {seconds} s behind what was noted in the same boot"))
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
        let limit = CREDIT_MS_MAX.min(credit_left(self.clock_ms, credits));
        let credit_ms = self.down(&reading).min(limit);
        (Self { clock_ms: self.clock_ms.saturating_add(credit_ms), reading }, credit_ms)
    }
}

/// What restarts may still credit at a moment of the retention clock.
#[must_use]
pub fn credit_left(clock_ms: i64, credits: &[Credit]) -> i64 {
    let window_start = clock_ms.saturating_sub(CREDIT_WINDOW_MS);
    let in_window = credits.iter().filter(|credit| credit.clock_ms > window_start);
    let used: i64 = in_window.map(|credit| credit.credit_ms).sum();
    CREDIT_WINDOW_MS_MAX.saturating_sub(used).max(0)
}

/// Where the retention clock stands, and what explains the difference to the system clock.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct ClockReport {
    /// The retention clock, milliseconds since 1970.
    pub clock_ms: i64,
    /// The system clock, milliseconds since 1970.
    pub system_ms: i64,
    /// By how much the system clock is ahead.
    pub lag_ms: i64,
    /// How much of that is downtime that was not credited.
    pub uncredited_ms: i64,
    /// What restarts may still credit in this window.
    pub credit_left_ms: i64,
    /// Why nothing expires, if it is so because of the clocks.
    pub doubt: Option<String>,
}

impl ClockReport {
    /// One sentence for each part of the lag.
    #[must_use]
    pub fn reasons(&self) -> Vec<String> {
        let mut reasons = Vec::new();
        if self.uncredited_ms >= SECOND_MS {
            reasons.push(format!(
                "{} of downtime were not credited: worm clock credit can add them",
                for_people(self.uncredited_ms)
            ));
        }
        let set_ms = self.lag_ms.saturating_sub(self.uncredited_ms);
        if set_ms.abs() >= SECOND_MS {
            let how = if set_ms > 0 { "ahead" } else { "back" };
            reasons.push(format!(
                "the system clock was set {how} by {} since the store was made, or runs at \
                 another rate",
                for_people(set_ms.abs())
            ));
        }
        reasons.extend(self.doubt.clone());
        reasons
    }
}

/// A duration as people say it, with its two biggest units.
#[must_use]
pub fn for_people(ms: i64) -> String {
    let seconds = ms / SECOND_MS;
    let (days, hours) = (seconds / 86_400, seconds / 3_600 % 24);
    let (minutes, seconds) = (seconds / 60 % 60, seconds % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds} s"),
        (0, 0, _) => format!("{minutes} min {seconds} s"),
        (0, _, _) => format!("{hours} h {minutes} min"),
        (_, _, _) => format!("{days} d {hours} h"),
    }
}

/// Reads the machine's clocks. A value in tests, so that no test waits for time to pass.
pub trait Clock: Send + Sync {
    /// All clocks at this moment.
    fn read(&self) -> Reading;

    /// Why the clocks are not to be trusted, if they are not. Then nothing expires.
    fn doubt(&self) -> Option<String>;
}

/// The clocks of this machine.
#[derive(Debug)]
pub struct MachineClock {
    boot: String,
    offsets: Offsets,
    doubt: Option<String>,
}

impl MachineClock {
    /// Finds out which boot this is, and whether a time namespace moves the uptime clock.
    ///
    /// # Errors
    /// When `/proc` cannot be read.
    pub fn new() -> std::io::Result<Self> {
        let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id")?;
        let (offsets, doubt) = match std::fs::read_to_string("/proc/self/timens_offsets") {
            // A kernel without time namespaces.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                (Offsets::default(), None)
            }
            Err(error) => return Err(error),
            Ok(text) => doubt_namespace(Offsets::parse(&text), is_own_namespace()),
        };
        Ok(Self { boot: boot.trim().to_owned(), offsets, doubt })
    }
}

/// Whether the time namespace of this process is the one that `timens_offsets` tells of, which is
/// that of its children.
fn is_own_namespace() -> bool {
    let own = std::fs::read_link("/proc/self/ns/time");
    let children = std::fs::read_link("/proc/self/ns/time_for_children");
    match (own, children) {
        (Ok(own), Ok(children)) => inode(&own).is_some() && inode(&own) == inode(&children),
        (Ok(_) | Err(_), _) => false,
    }
}

/// The number in `time:[4026531834]` or `time_for_children:[4026531834]`.
fn inode(link: &std::path::Path) -> Option<&str> {
    link.to_str()?.split_once('[').map(|(_, inode)| inode)
}

/// By how much a time namespace moves the clocks, in milliseconds: time_namespaces(7).
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
struct Offsets {
    monotonic_ms: i64,
    boottime_ms: i64,
}

impl Offsets {
    /// Reads `/proc/PID/timens_offsets`: a line each with a clock, seconds and nanoseconds.
    fn parse(text: &str) -> Option<Self> {
        let of = |clock: &str| {
            let line = text.lines().find(|line| line.split_whitespace().next() == Some(clock))?;
            let mut numbers = line.split_whitespace().skip(1).map(str::parse::<i64>);
            let (seconds, nanos) = (numbers.next()?.ok()?, numbers.next()?.ok()?);
            seconds.checked_mul(SECOND_MS)?.checked_add(nanos / 1_000_000)
        };
        Some(Self { monotonic_ms: of("monotonic")?, boottime_ms: of("boottime")? })
    }
}

/// What a time namespace means for the clocks: offsets that are known are taken off again, and
/// nothing expires all the same.
fn doubt_namespace(offsets: Option<Offsets>, is_own: bool) -> (Offsets, Option<String>) {
    match offsets {
        Some(offsets) if is_own && offsets == Offsets::default() => (offsets, None),
        Some(offsets) if is_own => {
            let what = "the daemon runs in a time namespace that moves the uptime clock: start it \
                        outside of one";
            (offsets, Some(what.to_owned()))
        }
        Some(_) | None => {
            let what = "whether a time namespace moves the uptime clock cannot be told";
            (Offsets::default(), Some(what.to_owned()))
        }
    }
}

impl Clock for MachineClock {
    fn read(&self) -> Reading {
        use rustix::time::ClockId;
        let read = |clock| {
            let now = rustix::time::clock_gettime(clock);
            now.tv_sec.saturating_mul(SECOND_MS).saturating_add(now.tv_nsec / 1_000_000)
        };
        let monotonic = read(ClockId::Monotonic) - self.offsets.monotonic_ms;
        let boottime = read(ClockId::Boottime) - self.offsets.boottime_ms;
        Reading {
            boot: self.boot.clone(),
            raw_ms: read(ClockId::MonotonicRaw) - self.offsets.monotonic_ms,
            suspend_ms: (boottime - monotonic).max(0),
            system_ms: read(ClockId::Realtime),
        }
    }

    fn doubt(&self) -> Option<String> {
        self.doubt.clone()
    }
}

/// A clock that tests set by hand.
#[derive(Debug)]
pub struct ManualClock {
    reading: parking_lot::Mutex<Reading>,
    doubt: parking_lot::Mutex<Option<String>>,
}

impl ManualClock {
    /// A machine that was just switched on at `system_ms`.
    #[must_use]
    pub fn new(system_ms: i64) -> Self {
        let boot = "boot-1".to_owned();
        let reading = Reading { boot, raw_ms: 0, suspend_ms: 0, system_ms };
        Self { reading: parking_lot::Mutex::new(reading), doubt: parking_lot::Mutex::new(None) }
    }

    /// Lets time pass on all clocks.
    pub fn advance(&self, passed_ms: i64) {
        let mut reading = self.reading.lock();
        reading.raw_ms += passed_ms;
        reading.system_ms += passed_ms;
    }

    /// Changes the reading in any other way.
    pub fn set(&self, change: impl FnOnce(&mut Reading)) {
        change(&mut self.reading.lock());
    }

    /// Makes the clock one that is not to be trusted, or trusted again.
    pub fn doubt(&self, why: Option<&str>) {
        *self.doubt.lock() = why.map(str::to_owned);
    }
}

impl Clock for ManualClock {
    fn read(&self) -> Reading {
        self.reading.lock().clone()
    }

    fn doubt(&self) -> Option<String> {
        self.doubt.lock().clone()
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
    fn the_uptime_clock_cannot_go_back_in_one_boot() {
        let noted = Anchor { clock_ms: START, reading: reading("a", 90_000, 0, START) };
        assert_eq!(noted.doubt(&reading("a", 60_000, 0, START)), None);
        assert_eq!(noted.doubt(&reading("b", 5, 0, START)), None);
        let doubt = noted.doubt(&reading("a", 59_000, 0, START)).unwrap();
        assert!(doubt.contains("31 s behind"), "{doubt}");
    }

    #[test]
    fn a_time_namespace_is_a_doubt_and_its_offsets_are_known() {
        let inside = Offsets::parse("monotonic  100000  5000000\nboottime  200000  0\n").unwrap();
        assert_eq!(inside, Offsets { monotonic_ms: 100_000_005, boottime_ms: 200_000_000 });
        let (offsets, doubt) = doubt_namespace(Some(inside), true);
        assert_eq!(offsets, inside);
        assert!(doubt.unwrap().contains("time namespace"));
        let outside = Offsets::parse("monotonic 0 0\nboottime 0 0\n");
        assert_eq!(doubt_namespace(outside, true), (Offsets::default(), None));
        for (offsets, is_own) in [(outside, false), (None, true), (Offsets::parse("new"), true)] {
            let (offsets, doubt) = doubt_namespace(offsets, is_own);
            assert_eq!(offsets, Offsets::default());
            assert!(doubt.is_some());
        }
    }

    #[test]
    fn any_number_has_a_date() {
        assert_eq!(rfc3339(START), "2026-01-18T00:00:00Z");
        assert!(rfc3339(i64::MAX).starts_with("9999"));
        assert!(rfc3339(i64::MIN).starts_with('-'));
    }
}
