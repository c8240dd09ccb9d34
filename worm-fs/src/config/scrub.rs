//! PURE: how often, and how fast, everything is read again.

use serde::Deserialize;
use serde::Deserializer;

use super::size::Size;
use crate::clock::DAY_MS;

/// How often, and how fast, every sealed file is read again and compared with its digest.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Scrub {
    /// From the beginning of one pass to that of the next, in milliseconds; 0: never.
    #[serde(deserialize_with = "super::duration")]
    pub interval: i64,
    /// At most so many bytes a second.
    #[serde(deserialize_with = "bytes_per_second")]
    pub rate: u64,
}

/// A slower one would never end.
const RATE_MIN: u64 = 1 << 20;

impl Default for Scrub {
    fn default() -> Self {
        Self { interval: 7 * DAY_MS, rate: 64 << 20 }
    }
}

impl Scrub {
    /// How long to rest after reading so many bytes, in nanoseconds.
    #[must_use]
    pub fn rest_ns(&self, bytes: u64) -> u64 {
        let ns = u128::from(bytes) * 1_000_000_000 / u128::from(self.rate.max(1));
        u64::try_from(ns).unwrap_or(u64::MAX)
    }
}

fn bytes_per_second<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    match Size::deserialize(deserializer)? {
        Size::Bytes(bytes) if bytes >= RATE_MIN => Ok(bytes),
        Size::Bytes(_) | Size::Percent(_) => {
            Err(serde::de::Error::custom("rate is at least 1MiB, and no share of the disk"))
        }
    }
}
