//! PURE: how much of everything a class may have, and what counts.

use serde::Deserialize;
use serde::Serialize;

use super::Refusal;
use crate::clock::HOUR_MS;
use crate::config::Limits;
use crate::config::Size;

/// What each file and each directory counts beside its length, for as long as it is there: its
/// inode, its name, and the part of its last block that it does not use.
pub const ENTRY_BYTES: u64 = 4096;
/// What a line of the ledger counts, for ever, beside the paths that it names: no line is ever
/// removed.
pub const LINE_BYTES: u64 = 512;
/// The most bytes that a byte of a path takes in the ledger, where it is percent-encoded.
pub const LINE_BYTES_PER_PATH_BYTE: u64 = 3;

/// What is limited.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Limit {
    /// Room in all.
    Bytes,
    /// Room for one file.
    FileBytes,
    /// Files.
    Files,
    /// Directories.
    Directories,
    /// Files open for writing.
    OpenFiles,
    /// Bytes within a day.
    BytesPerDay,
    /// Files and directories made within a day.
    CreatesPerDay,
}

/// Every [`Limit`], in their order.
pub const LIMITS: [Limit; 7] = [
    Limit::Bytes,
    Limit::FileBytes,
    Limit::Files,
    Limit::Directories,
    Limit::OpenFiles,
    Limit::BytesPerDay,
    Limit::CreatesPerDay,
];

impl Limit {
    /// Its key in `worm.toml`.
    #[must_use]
    pub fn key(self) -> &'static str {
        match self {
            Self::Bytes => "bytes",
            Self::FileBytes => "file_bytes",
            Self::Files => "files",
            Self::Directories => "directories",
            Self::OpenFiles => "open_files",
            Self::BytesPerDay => "bytes_per_day",
            Self::CreatesPerDay => "creates_per_day",
        }
    }

    /// Whether it fills up: then an alarm comes at half of it.
    #[must_use]
    pub fn fills_up(self) -> bool {
        match self {
            Self::Bytes
            | Self::Files
            | Self::Directories
            | Self::BytesPerDay
            | Self::CreatesPerDay => true,
            // Of one file, and gone with it.
            Self::FileBytes | Self::OpenFiles => false,
        }
    }
}

impl std::fmt::Display for Limit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.key())
    }
}

/// A number for each [`Limit`]: what a class has, what it may have, or what is added to it.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Amounts([u64; LIMITS.len()]);

impl Amounts {
    /// Nothing.
    pub const NONE: Self = Self([0; LIMITS.len()]);
    /// A change that takes a line of the ledger and nothing else.
    pub const CHANGE: Self = Self::NONE.with(Limit::CreatesPerDay, 1);
    /// A new directory.
    pub const DIRECTORY: Self =
        Self::CHANGE.with(Limit::Bytes, ENTRY_BYTES).with(Limit::Directories, 1);
    /// A new file, which nobody holds open.
    pub const FILE: Self = Self::CHANGE.with(Limit::Bytes, ENTRY_BYTES).with(Limit::Files, 1);
    /// A new file, open for writing.
    pub const OPEN_FILE: Self = Self::FILE.with(Limit::OpenFiles, 1);

    /// So many more bytes of a file.
    #[must_use]
    pub const fn growth(bytes: u64) -> Self {
        Self::NONE.with(Limit::Bytes, bytes).with(Limit::BytesPerDay, bytes)
    }

    /// What a class may have on a disk of `disk_bytes`.
    #[must_use]
    pub fn of(limits: &Limits, disk_bytes: u64) -> Self {
        Self(LIMITS.map(|limit| match limit {
            Limit::Bytes => limits.bytes.bytes(disk_bytes),
            Limit::FileBytes => limits.file_bytes.bytes(disk_bytes),
            Limit::Files => limits.files,
            Limit::Directories => limits.directories,
            Limit::OpenFiles => limits.open_files,
            Limit::BytesPerDay => limits.bytes_per_day.bytes(disk_bytes),
            Limit::CreatesPerDay => limits.creates_per_day,
        }))
    }

    /// The number for one limit.
    #[must_use]
    pub const fn get(&self, limit: Limit) -> u64 {
        self.0[limit as usize]
    }

    /// The same, but for one limit.
    #[must_use]
    pub const fn with(mut self, limit: Limit, amount: u64) -> Self {
        self.0[limit as usize] = amount;
        self
    }

    /// Both together.
    #[must_use]
    pub fn plus(self, more: Self) -> Self {
        Self(LIMITS.map(|limit| self.get(limit).saturating_add(more.get(limit))))
    }

    /// Without `less`.
    #[must_use]
    pub fn minus(self, less: Self) -> Self {
        Self(LIMITS.map(|limit| self.get(limit).saturating_sub(less.get(limit))))
    }
}

/// Whether `more` may come to what a class has. Only what grows is asked for: a limit lowered
/// below what is there stops nothing else.
///
/// # Errors
/// [`Refusal::OverLimit`]
pub fn admit(has: Amounts, more: Amounts, may_have: Amounts) -> Result<(), Refusal> {
    let over = |limit: &&Limit| {
        let grows = more.get(**limit) > 0;
        grows && has.plus(more).get(**limit) > may_have.get(**limit)
    };
    match LIMITS.iter().find(over) {
        Some(limit) => Err(Refusal::OverLimit(*limit)),
        None => Ok(()),
    }
}

/// What fills up and is half full or more.
pub fn half_full(has: Amounts, may_have: Amounts) -> impl Iterator<Item = Limit> {
    let half = move |limit: &Limit| {
        let has = has.get(*limit);
        has > 0 && has >= may_have.get(*limit).div_ceil(2)
    };
    LIMITS.into_iter().filter(|limit| limit.fills_up()).filter(half)
}

/// Whether a file has been open for too long, and why: PURE. All in milliseconds of uptime.
#[must_use]
pub fn overdue(limits: &Limits, open_ms: i64, idle_ms: i64) -> Option<&'static str> {
    if open_ms >= limits.open_time {
        Some("it was open for too long")
    } else if idle_ms >= limits.idle_time {
        Some("nothing was written to it for too long")
    } else {
        None
    }
}

/// What came in within the last day, by the hour. It forgets in whole hours, so that it looks
/// back at least 24 of them and at most 25.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
pub struct Day(Vec<Hour>);

#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize, Deserialize)]
struct Hour {
    /// Since 1970, on the retention clock.
    hour: i64,
    creates: u64,
    bytes: u64,
}

impl Day {
    /// Hours that are looked back upon beside the present one.
    const HOURS: i64 = 24;

    /// Notes what came in at a moment of the retention clock.
    pub fn add(&mut self, now_ms: i64, creates: u64, bytes: u64) {
        let hour = now_ms.div_euclid(HOUR_MS);
        self.0.retain(|past| past.hour >= hour.saturating_sub(Self::HOURS));
        match self.0.last_mut() {
            Some(last) if last.hour >= hour => {
                last.creates = last.creates.saturating_add(creates);
                last.bytes = last.bytes.saturating_add(bytes);
            }
            Some(_) | None => self.0.push(Hour { hour, creates, bytes }),
        }
    }

    /// What came in within the day before a moment.
    #[must_use]
    pub fn amounts(&self, now_ms: i64) -> Amounts {
        let first = now_ms.div_euclid(HOUR_MS).saturating_sub(Self::HOURS);
        let hours = self.0.iter().filter(|past| past.hour >= first);
        hours.fold(Amounts::NONE, |sum, hour| {
            let creates = Amounts::NONE.with(Limit::CreatesPerDay, hour.creates);
            sum.plus(creates.with(Limit::BytesPerDay, hour.bytes))
        })
    }
}

/// The share of the disk that no class can take, at most [`RESERVE_BYTES_MAX`], unless the
/// configuration says otherwise.
const RESERVE_PART: u64 = 64;
/// The ledger grows to 64 MiB, or more, before a snapshot of it is written, and old segments stay.
const RESERVE_BYTES_MAX: u64 = 256 << 20;

/// How many bytes of a disk no class can take: the ledger and its snapshots need them.
#[must_use]
pub fn reserve(configured: Option<Size>, disk_bytes: u64) -> u64 {
    match configured {
        Some(size) => size.bytes(disk_bytes),
        None => (disk_bytes / RESERVE_PART).min(RESERVE_BYTES_MAX),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::DAY_MS;

    #[test]
    fn each_limit_is_kept_to_the_last_and_no_further() {
        for limit in LIMITS {
            let some = |amount| Amounts::NONE.with(limit, amount);
            assert_eq!(admit(some(2), some(1), some(3)), Ok(()), "{limit}");
            assert_eq!(admit(some(2), some(1), some(2)), Err(Refusal::OverLimit(limit)));
            assert_eq!(admit(some(2), some(u64::MAX), some(2)), Err(Refusal::OverLimit(limit)));
            assert_eq!(admit(some(2), Amounts::NONE, some(1)), Ok(()), "{limit} does not grow");
        }
    }

    #[test]
    fn a_day_forgets_after_a_day_and_within_the_next_hour() {
        let mut day = Day::default();
        day.add(10, 1, 100);
        day.add(HOUR_MS + 10, 2, 200);
        let creates = |day: &Day, now_ms| day.amounts(now_ms).get(Limit::CreatesPerDay);
        assert_eq!(creates(&day, HOUR_MS + 10), 3);
        assert_eq!(day.amounts(HOUR_MS + 10).get(Limit::BytesPerDay), 300);
        assert_eq!(creates(&day, DAY_MS + 10), 3, "exactly a day");
        assert_eq!(creates(&day, DAY_MS + HOUR_MS), 2);
        assert_eq!(creates(&day, DAY_MS + 2 * HOUR_MS), 0);
        // However long it runs, it holds a day.
        for hour in 0..1000 {
            day.add(hour * HOUR_MS, 1, 1);
        }
        assert_eq!(day.0.len(), 25);
    }

    #[test]
    fn alarms_come_at_half_of_what_fills_up() {
        let may_have = Amounts::of(&Limits::default(), 1000);
        let half = |limit, amount| {
            half_full(Amounts::NONE.with(limit, amount), may_have).collect::<Vec<_>>()
        };
        for (limit, at) in [
            (Limit::Bytes, 450),
            (Limit::Files, 100_000),
            (Limit::Directories, 5_000),
            (Limit::BytesPerDay, 200),
            (Limit::CreatesPerDay, 5_000),
        ] {
            assert_eq!((half(limit, at - 1), half(limit, at)), (vec![], vec![limit]));
        }
        for limit in [Limit::OpenFiles, Limit::FileBytes] {
            assert_eq!(half(limit, u64::MAX), []);
        }
    }

    #[test]
    fn a_file_is_overdue_when_it_is_idle_or_open_for_too_long() {
        let limits = Limits::default();
        assert_eq!(overdue(&limits, HOUR_MS, HOUR_MS - 1), None);
        assert!(overdue(&limits, HOUR_MS, HOUR_MS).unwrap().contains("nothing was written"));
        assert!(overdue(&limits, 48 * HOUR_MS, 0).unwrap().contains("open for too long"));
        assert_eq!(overdue(&limits, 48 * HOUR_MS - 1, 0), None);
    }

    #[test]
    fn a_small_disk_has_a_small_reserve() {
        assert_eq!(reserve(None, 64 << 20), 1 << 20);
        assert_eq!(reserve(None, 1 << 40), 256 << 20);
        assert_eq!(reserve(Some(Size::Percent(10)), 1000), 100);
    }
}
