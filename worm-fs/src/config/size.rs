//! PURE: amounts of room as people write them.

use serde::Deserialize;
use serde::Deserializer;
use serde::Serialize;
use serde::Serializer;

/// The units, largest first.
const UNITS: [(&str, u64); 5] =
    [("TiB", 1 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10), ("B", 1)];

/// An amount of room.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Size {
    /// So many bytes; written `10GiB`.
    Bytes(u64),
    /// A share of the disk that the store is on, as large as that is at the moment; written `40%`.
    Percent(u8),
}

impl Size {
    /// How many bytes that is on a disk of `disk_bytes`.
    #[must_use]
    pub fn bytes(self, disk_bytes: u64) -> u64 {
        match self {
            Self::Bytes(bytes) => bytes,
            Self::Percent(percent) => {
                let bytes = u128::from(disk_bytes) * u128::from(percent) / 100;
                u64::try_from(bytes).unwrap_or(u64::MAX)
            }
        }
    }

    /// Reads `512B`, `100MiB`, `10GiB`, `2TiB` or `40%`.
    ///
    /// # Errors
    /// One sentence that says what a size looks like.
    pub fn parse(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} is not a size: write 100MiB, 10GiB, 2TiB or 40%");
        let unit_at = text.find(|c: char| !c.is_ascii_digit()).ok_or_else(wrong)?;
        let (number, unit) = text.split_at(unit_at);
        let number: u64 = number.parse().map_err(|_parse: std::num::ParseIntError| wrong())?;
        if unit == "%" {
            let percent = u8::try_from(number).ok().filter(|percent| *percent <= 100);
            return percent.map(Self::Percent).ok_or_else(wrong);
        }
        let unit_bytes = UNITS.iter().find(|(name, _)| *name == unit).ok_or_else(wrong)?.1;
        number
            .checked_mul(unit_bytes)
            .filter(|bytes| i64::try_from(*bytes).is_ok())
            .map(Self::Bytes)
            .ok_or_else(|| format!("{text:?} is more than any disk has"))
    }
}

impl std::fmt::Display for Size {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Bytes(bytes) => {
                let exact = UNITS.iter().find(|(_, unit)| *bytes >= *unit && bytes % unit == 0);
                let (name, unit) = exact.unwrap_or(&("B", 1));
                write!(f, "{}{name}", bytes / unit)
            }
            Self::Percent(percent) => write!(f, "{percent}%"),
        }
    }
}

impl Serialize for Size {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Size {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_units() {
        assert_eq!(Size::parse("10GiB"), Ok(Size::Bytes(10 << 30)));
        assert_eq!(Size::parse("0B"), Ok(Size::Bytes(0)));
        assert_eq!(Size::parse("100%"), Ok(Size::Percent(100)));
        for wrong in ["", "10", "GiB", "1.5GiB", "10 GiB", "10gib", "10G", "101%", "-1%", "%"] {
            assert!(Size::parse(wrong).is_err(), "{wrong}");
        }
        assert!(Size::parse("9000000TiB").unwrap_err().contains("more than any disk"));
    }

    #[test]
    fn what_is_written_is_read_again() {
        for bytes in [0, 1, 1023, 1024, 1536, 10 << 30, (10 << 30) + 1, i64::MAX as u64] {
            let text = Size::Bytes(bytes).to_string();
            assert_eq!(Size::parse(&text), Ok(Size::Bytes(bytes)), "{text}");
        }
        assert_eq!(Size::Bytes(1536).to_string(), "1536B");
        assert_eq!(Size::Bytes(10 << 30).to_string(), "10GiB");
        assert_eq!(Size::parse(&Size::Percent(40).to_string()), Ok(Size::Percent(40)));
    }

    #[test]
    fn a_share_follows_the_disk() {
        assert_eq!(Size::Percent(40).bytes(1000), 400);
        assert_eq!(Size::Percent(100).bytes(u64::MAX), u64::MAX);
        assert_eq!(Size::Bytes(7).bytes(1), 7);
    }
}
