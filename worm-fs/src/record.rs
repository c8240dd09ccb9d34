//! PURE: one line of the ledger: encode, decode, chain.
//!
//! A line is a JSON object and a newline. `prev` is the SHA-256 of the whole line before it, its
//! newline included, so `sed -n 3p 000001.jsonl | sha256sum` is what line 4 must name. The first
//! line of a store names sixty-four zeros.

use serde::Deserialize;
use serde::Serialize;
use sha2::Digest as _;
use sha2::Sha256;

use crate::clock::Reading;
use crate::config::ClassRule;
use crate::policy::name::StorePath;

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

/// What can happen to a store. State is a fold over these and nothing else.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// The store was made. Always and only the first line.
    Created {
        /// [`FORMAT`].
        format: u32,
        /// The store's id.
        store: String,
        /// Public key of its signer, as a C2SP verifier key.
        key: String,
        /// The machine's clocks.
        reading: Reading,
    },
    /// A daemon began to serve it.
    Started {
        /// Its version.
        version: String,
        /// The machine's clocks.
        reading: Reading,
        /// Downtime credited to the retention clock, in milliseconds.
        credit_ms: i64,
        /// Lines before this one that the signed head did not reach when the daemon started.
        unsigned: u64,
    },
    /// The clocks, noted now and then and at the end, so that a restart knows where they stood.
    Clock {
        /// The machine's clocks.
        reading: Reading,
    },
    /// A class was made, or its rule changed.
    Class {
        /// Number of its directory; the next number is that of its `.incomplete`.
        id: u64,
        /// Its directory.
        path: StorePath,
        /// What holds for files sealed from now on.
        rule: ClassRule,
    },
    /// A directory was made.
    DirectoryMade {
        /// Its number.
        id: u64,
        /// Where.
        path: StorePath,
        /// Its permission bits.
        mode: u32,
        /// Its owner.
        uid: u32,
        /// Its group.
        gid: u32,
    },
    /// The attributes of an empty directory changed.
    DirectoryChanged {
        /// Its number.
        id: u64,
        /// Its permission bits.
        mode: u32,
        /// Its owner.
        uid: u32,
        /// Its group.
        gid: u32,
    },
    /// An empty directory was removed.
    DirectoryRemoved {
        /// Its number.
        id: u64,
        /// Where it was.
        path: StorePath,
        /// By whom.
        uid: u32,
    },
    /// A file was sealed: from here on it does not change.
    Sealed {
        /// Its number.
        id: u64,
        /// Its name, and that of its data below `data/`.
        path: StorePath,
        /// Length in bytes.
        size: u64,
        /// SHA-256 of its bytes.
        sha256: Digest,
        /// Permission bits.
        mode: u32,
        /// Owner.
        uid: u32,
        /// Group.
        gid: u32,
        /// Modification time, nanoseconds since 1970.
        mtime_ns: i64,
        /// Retention end on the retention clock.
        retain_until_ms: i64,
        /// It was committed explicitly, not just closed.
        committed: bool,
    },
    /// A file was given up before it was whole.
    Incomplete {
        /// Its number.
        id: u64,
        /// Where it is kept.
        path: StorePath,
        /// The name that it was meant to have.
        meant: StorePath,
        /// Length in bytes of what is there.
        size: u64,
        /// Permission bits.
        mode: u32,
        /// Owner.
        uid: u32,
        /// Group.
        gid: u32,
        /// Modification time, nanoseconds since 1970.
        mtime_ns: i64,
        /// Retention end on the retention clock.
        retain_until_ms: i64,
        /// What ended it.
        why: String,
    },
    /// Retention was lengthened.
    Extended {
        /// Number of the file.
        id: u64,
        /// Its name.
        path: StorePath,
        /// The new retention end on the retention clock.
        retain_until_ms: i64,
        /// By whom.
        uid: u32,
    },
    /// An expired file was removed.
    Removed {
        /// Number of the file.
        id: u64,
        /// Its name.
        path: StorePath,
        /// `expired` by the store, or `unlink` by somebody.
        why: String,
        /// By whom; absent for the store itself.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        uid: Option<u32>,
    },
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

impl Event {
    /// The number of the file or directory that this is about, and its path where it is named.
    #[must_use]
    pub fn subject(&self) -> Option<(u64, Option<&StorePath>)> {
        match self {
            Self::Created { .. } | Self::Started { .. } | Self::Clock { .. } => None,
            Self::DirectoryChanged { id, .. } => Some((*id, None)),
            Self::Class { id, path, .. }
            | Self::DirectoryMade { id, path, .. }
            | Self::DirectoryRemoved { id, path, .. }
            | Self::Sealed { id, path, .. }
            | Self::Incomplete { id, path, .. }
            | Self::Extended { id, path, .. }
            | Self::Removed { id, path, .. } => Some((*id, Some(path))),
        }
    }

    /// The same event with the retention end of the file that it is the end of. Other events
    /// have none.
    #[must_use]
    pub fn kept_until(mut self, end_ms: i64) -> Self {
        if let Self::Sealed { retain_until_ms, .. } | Self::Incomplete { retain_until_ms, .. } =
            &mut self
        {
            *retain_until_ms = end_ms;
        }
        self
    }
}

impl Line {
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
            },
        };
        let bytes = line.encode().unwrap();
        let text = String::from_utf8(bytes.clone()).unwrap();
        assert!(text.starts_with(r#"{"seq":7,"prev":""#), "{text}");
        assert!(text.contains(r#""event":"removed","id":9,"path":"hourly/a b%0A""#), "{text}");
        assert_eq!(Line::decode(&bytes).unwrap(), line);
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
