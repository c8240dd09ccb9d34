//! PURE: which name in the store's directory belongs to what.

use crate::policy::name::NAME_BYTES_MAX;
use crate::policy::name::Name;

/// Format version, store id, public key.
pub const STORE_JSON: &str = "store.json";
/// Locked by the one daemon that serves the store.
pub const LOCK: &str = "lock";
/// Files being written; nothing here was promised.
pub const OPEN: &str = "open";
/// Sealed files under their own names.
pub const DATA: &str = "data";
/// The ledger's segments.
pub const LEDGER: &str = "ledger";
/// What was alive after the last line of a segment, written out.
pub const SNAPSHOT: &str = "snapshot";
/// The newest signed head.
pub const HEAD: &str = "head";
/// Where the next head is written before it takes the place of the last.
pub const HEAD_SPARE: &str = "head.spare";
/// The newest head that was read through a view.
pub const CARRIED: &str = "carried";
/// Where the next of these is written.
pub const CARRIED_SPARE: &str = "carried.spare";

/// All of the above: what a store's directory may hold.
pub const ENTRIES: [&str; 10] =
    [STORE_JSON, LOCK, OPEN, DATA, LEDGER, SNAPSHOT, HEAD, HEAD_SPARE, CARRIED, CARRIED_SPARE];

/// The file name of a ledger segment.
#[must_use]
pub fn segment(number: u64) -> String {
    format!("{number:06}.jsonl")
}

/// The file name of a snapshot.
#[must_use]
pub fn snapshot(number: u64) -> String {
    format!("{number:06}")
}

/// A file being written, as its name in `open/` tells it: `ID.PARENT.NAME`, so that a crash
/// does not lose what it was meant to be called. A long name is cut to fit.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct OpenName {
    /// The file's number.
    pub id: u64,
    /// The number of its directory.
    pub parent: u64,
    /// What it is meant to be called, or the beginning of that.
    pub name: Name,
}

impl OpenName {
    /// The name in `open/`.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let prefix = format!("{}.{}.", self.id, self.parent);
        let room = NAME_BYTES_MAX - prefix.len();
        let kept = &self.name.as_bytes()[..self.name.as_bytes().len().min(room)];
        [prefix.as_bytes(), kept].concat()
    }

    /// Reads a name in `open/`; anything else there is not ours.
    #[must_use]
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let mut parts = bytes.splitn(3, |byte| *byte == b'.');
        let mut number = || std::str::from_utf8(parts.next()?).ok()?.parse().ok();
        let (id, parent) = (number()?, number()?);
        Some(Self { id, parent, name: Name::new(parts.next()?).ok()? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_open_name_tells_all() {
        for name in [&b"x"[..], b".hidden.sql.gz", b"\xff", &[b'n'; 240]] {
            let open = OpenName { id: 7, parent: 30, name: Name::new(name).unwrap() };
            assert_eq!(OpenName::decode(&open.encode()), Some(open));
        }
        let long = OpenName { id: 7, parent: 30, name: Name::new(&[b'n'; 255]).unwrap() };
        assert_eq!(long.encode().len(), NAME_BYTES_MAX);
        for foreign in [&b"x"[..], b"7", b"7.", b"7.x.y", b"7.3.", b"-1.2.x"] {
            assert_eq!(OpenName::decode(foreign), None, "{foreign:?}");
        }
    }
}
