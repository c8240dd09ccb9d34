//! PURE: one line of the ledger: encode, decode, chain.
//!
//! A line is a JSON object and a newline. `prev` is the SHA-256 of the whole line before it, its
//! newline included, so `sed -n 3p 000001.jsonl | sha256sum` is what line 4 must name. The first
//! line of a store names sixty-four zeros.

mod event;
mod keys;

use serde::Deserialize;
use serde::Serialize;
use sha2::Digest as _;
use sha2::Sha256;

pub use event::Actor;
pub use event::Event;
pub use event::Removal;
pub use event::Snapshot;
pub use keys::KeyChange;
pub use keys::Keys;

/// The newest format that this version writes and reads.
pub const FORMAT: u32 = 1;
/// The longest line, so that a damaged file cannot fill the memory.
pub const LINE_BYTES_MAX: usize = 64 * 1024;

/// A SHA-256, written in lower-case hexadecimal.
#[derive(Clone, Copy, Eq, Hash, PartialEq)]
pub struct Digest(pub [u8; 32]);

impl Digest {
    /// What the first line names as the line before it.
    pub const ZERO: Self = Self([0; 32]);

    /// The digest of `bytes`.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }
}

impl std::fmt::Display for Digest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl std::fmt::Debug for Digest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{self}")
    }
}

impl std::str::FromStr for Digest {
    type Err = hex::FromHexError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut bytes = [0; 32];
        hex::decode_to_slice(text, &mut bytes)?;
        Ok(Self(bytes))
    }
}

impl Serialize for Digest {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// A line of the ledger.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct Line {
    /// Position in the ledger, from 1.
    pub seq: u64,
    /// SHA-256 of the line before.
    pub prev: Digest,
    /// The retention clock, in milliseconds.
    pub clock_ms: i64,
    /// The system clock, in RFC 3339, for people.
    pub time: String,
    /// What happened.
    #[serde(flatten)]
    pub event: Event,
}

/// Why a line cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum LineError {
    /// Written by a newer version.
    #[error("it was written by a newer version ({0}): use that version")]
    Newer(String),
    /// Anything else.
    #[error("it cannot be read: {0}")]
    Malformed(String),
}

impl Line {
    /// The system clock when it was written, in milliseconds since 1970.
    #[must_use]
    pub fn system_ms(&self) -> i64 {
        let time = self.time.parse::<jiff::Timestamp>();
        time.map_or(self.clock_ms, jiff::Timestamp::as_millisecond)
    }

    /// The line's bytes, its newline included.
    ///
    /// # Errors
    /// When it cannot be expressed, or is longer than [`LINE_BYTES_MAX`].
    pub fn encode(&self) -> Result<Vec<u8>, LineError> {
        let malformed = |error: serde_json::Error| LineError::Malformed(error.to_string());
        let mut bytes = serde_json::to_vec(self).map_err(malformed)?;
        bytes.push(b'\n');
        if bytes.len() > LINE_BYTES_MAX {
            return Err(LineError::Malformed(format!("longer than {LINE_BYTES_MAX} bytes")));
        }
        Ok(bytes)
    }

    /// Reads a line, with or without its newline.
    ///
    /// # Errors
    /// [`LineError::Newer`] for an event that this version does not know.
    pub fn decode(bytes: &[u8]) -> Result<Self, LineError> {
        serde_json::from_slice(bytes).map_err(|error| {
            let text = error.to_string();
            if text.contains("unknown variant") || text.contains("unknown field") {
                LineError::Newer(text)
            } else {
                LineError::Malformed(text)
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::name::StorePath;

    #[test]
    fn a_line_survives_and_is_readable() {
        let line = Line {
            seq: 7,
            prev: Digest::of(b"before\n"),
            clock_ms: 1_768_694_400_000,
            time: "2026-01-18T00:00:00Z".into(),
            event: Event::Removed {
                id: 9,
                path: StorePath::decode("hourly/a b%0A").unwrap(),
                why: "expired".into(),
                uid: None,
                login_uid: None,
            },
        };
        let bytes = line.encode().unwrap();
        let text = String::from_utf8(bytes.clone()).unwrap();
        assert!(text.starts_with(r#"{"seq":7,"prev":""#), "{text}");
        assert!(text.contains(r#""event":"removed","id":9,"path":"hourly/a b%0A""#), "{text}");
        assert_eq!(Line::decode(&bytes).unwrap(), line);
    }

    /// Found when a field of an event was called as one of the line is.
    #[test]
    fn regression_the_record_of_a_snapshot_can_be_read() {
        let (number, up_to, sha256, bytes) = (1, 2, Digest::of(b"x"), 3);
        let event = Event::Snapshot(Snapshot { number, up_to, sha256, bytes });
        let (prev, time) = (Digest::of(b"before"), "2026-01-18T00:00:00Z".into());
        let line = Line { seq: 7, prev, clock_ms: 0, time, event };
        assert_eq!(Line::decode(&line.encode().unwrap()).unwrap(), line);
    }

    #[test]
    fn the_longest_paths_fit_into_a_line_and_what_is_longer_is_no_line() {
        let path = (0..16).fold(StorePath::root(), |path, _| path.join(&[b'\xff'; 255]));
        assert_eq!(path.as_bytes().len(), crate::policy::name::PATH_BYTES_MAX);
        let line = |why_bytes| Line {
            seq: u64::MAX,
            prev: Digest::ZERO,
            clock_ms: i64::MIN,
            time: "2026-01-18T00:00:00.000Z".into(),
            event: Event::Incomplete {
                id: u64::MAX,
                path: path.clone(),
                meant: path.clone(),
                size: u64::MAX,
                mode: u32::MAX,
                uid: u32::MAX,
                gid: u32::MAX,
                mtime_ns: i64::MIN,
                retain_until_ms: i64::MIN,
                why: "x".repeat(why_bytes),
            },
        };
        let encoded = line(1000).encode().unwrap();
        assert_eq!(Line::decode(&encoded).unwrap(), line(1000));
        let room = 1000 + LINE_BYTES_MAX - encoded.len();
        assert_eq!(line(room).encode().unwrap().len(), LINE_BYTES_MAX);
        assert!(line(room + 1).encode().is_err());
    }

    #[test]
    fn a_newer_event_asks_for_the_newer_version() {
        let prev = Digest::ZERO;
        let text =
            format!(r#"{{"seq":1,"prev":"{prev}","clock_ms":0,"time":"","event":"teleported"}}"#);
        let error = Line::decode(text.as_bytes()).unwrap_err();
        assert!(matches!(error, LineError::Newer(_)), "{error}");
        assert!(matches!(Line::decode(b"{}").unwrap_err(), LineError::Malformed(_)));
    }
}
