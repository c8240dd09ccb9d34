//! PURE: how much of everything a class may have.

use serde::Deserialize;
use serde::Serialize;

use super::size::Size;
use crate::clock::HOUR_MS;

/// How much of everything a class may have. What is not written has a default that no small shop
/// meets by accident, and that a flood does meet.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Room in all: see [`crate::policy::limits::ENTRY_BYTES`] for what counts.
    pub bytes: Size,
    /// Room for one file.
    pub file_bytes: Size,
    /// Files, finished or not.
    pub files: u64,
    /// Directories below the class.
    pub directories: u64,
    /// Files that somebody holds open for writing.
    pub open_files: u64,
    /// Bytes that come in within a day.
    pub bytes_per_day: Size,
    /// Files and directories made within a day, and attributes and ends changed.
    pub creates_per_day: u64,
    /// How long a file may stay open without a byte written, in milliseconds.
    #[serde(deserialize_with = "super::duration", serialize_with = "super::seconds")]
    pub idle_time: i64,
    /// How long a file may stay open at all, in milliseconds.
    #[serde(deserialize_with = "super::duration", serialize_with = "super::seconds")]
    pub open_time: i64,
}

impl Default for Limits {
    /// An hourly class that keeps 48 hours writes half of what it holds every day. Beside a daily
    /// and a weekly class with backups of the same size that is at most 37 % of the disk, so 40 %
    /// a day stops no schedule, and whoever floods one class needs two days to fill it. Three
    /// files an hour are 72 a day.
    fn default() -> Self {
        Self {
            bytes: Size::Percent(90),
            file_bytes: Size::Percent(90),
            files: 200_000,
            directories: 10_000,
            open_files: 256,
            bytes_per_day: Size::Percent(40),
            creates_per_day: 10_000,
            idle_time: HOUR_MS,
            open_time: 48 * HOUR_MS,
        }
    }
}

impl Limits {
    pub(super) fn is_default(&self) -> bool {
        *self == Self::default()
    }
}
