//! PURE: which names are accepted, and how paths are written into the ledger.

use std::fmt;
use std::sync::Arc;

use percent_encoding::AsciiSet;
use percent_encoding::CONTROLS;

use super::Refusal;

/// The longest name in bytes, `NAME_MAX` of Linux.
pub const NAME_BYTES_MAX: usize = 255;
/// The deepest directory below the mount.
pub const DEPTH_MAX: usize = 16;
/// The longest path below the mount in bytes, `PATH_MAX` less its final NUL.
pub const PATH_BYTES_MAX: usize = 4095;
/// The directory of each class that shows what was never finished.
pub const INCOMPLETE: &str = ".incomplete";

/// One component of a path: bytes, as Linux has them. A clone is the same bytes in memory, not
/// a copy: what is alive and its directory have one name.
#[derive(Clone, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Name(Arc<[u8]>);

impl Name {
    /// Accepts what can be a file's name here.
    ///
    /// # Errors
    /// [`Refusal::NameTooLong`] beyond [`NAME_BYTES_MAX`]; [`Refusal::BadName`] for `.`, `..`,
    /// an empty name, a slash or a NUL.
    pub fn new(bytes: &[u8]) -> Result<Self, Refusal> {
        if bytes.len() > NAME_BYTES_MAX {
            return Err(Refusal::NameTooLong);
        }
        let bad =
            matches!(bytes, b"" | b"." | b"..") || bytes.contains(&b'/') || bytes.contains(&0);
        if bad { Err(Refusal::BadName) } else { Ok(Self(bytes.into())) }
    }

    /// The name under which an unfinished file is kept: `NAME.N`, shortened to fit.
    #[must_use]
    pub fn incomplete(&self, id: u64) -> Self {
        let suffix = format!(".{id}");
        let room = NAME_BYTES_MAX - suffix.len();
        let kept = &self.0[..self.0.len().min(room)];
        Self([kept, suffix.as_bytes()].concat().into())
    }

    /// What sorts before every name, for the beginning of a range.
    pub(crate) fn first() -> Self {
        Self(Arc::default())
    }

    /// The bytes of the name.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", encode(&self.0))
    }
}

impl serde::Serialize for Name {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&percent_encoding::percent_encode(&self.0, ENCODED))
    }
}

impl<'de> serde::Deserialize<'de> for Name {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        let bytes: Vec<u8> = percent_encoding::percent_decode_str(&text).collect();
        Self::new(&bytes).map_err(serde::de::Error::custom)
    }
}

/// What is written as `%XX` in the ledger, beside every byte that is not ASCII.
const ENCODED: &AsciiSet = &CONTROLS.add(b'%').add(b'"').add(b'\\');

/// A path from the mount's root, `hourly/x`, in bytes and without a leading slash.
#[derive(Clone, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct StorePath(Vec<u8>);

impl StorePath {
    /// The mount's root.
    #[must_use]
    pub fn root() -> Self {
        Self(Vec::new())
    }

    /// The path of `name` in this directory.
    #[must_use]
    pub fn join(&self, name: &[u8]) -> Self {
        let mut path = self.0.clone();
        if !path.is_empty() {
            path.push(b'/');
        }
        path.extend_from_slice(name);
        Self(path)
    }

    /// Reads a path as it stands in the ledger.
    ///
    /// # Errors
    /// [`Refusal::BadName`] where a component could not be a name.
    pub fn decode(text: &str) -> Result<Self, Refusal> {
        let bytes: Vec<u8> = percent_encoding::percent_decode_str(text).collect();
        for component in bytes.split(|byte| *byte == b'/') {
            Name::new(component)?;
        }
        Ok(Self(bytes))
    }

    /// The components, from the class down.
    pub fn components(&self) -> impl Iterator<Item = &[u8]> {
        self.0.split(|byte| *byte == b'/').filter(|component| !component.is_empty())
    }

    /// Everything but the last component, and the last component.
    #[must_use]
    pub fn split(&self) -> (Self, &[u8]) {
        match self.0.iter().rposition(|byte| *byte == b'/') {
            Some(slash) => (Self(self.0[..slash].to_vec()), &self.0[slash + 1..]),
            None => (Self::root(), &self.0),
        }
    }

    /// The bytes of the path.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Display for StorePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&encode(&self.0))
    }
}

impl fmt::Debug for StorePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl serde::Serialize for StorePath {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> serde::Deserialize<'de> for StorePath {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        Self::decode(&text).map_err(serde::de::Error::custom)
    }
}

/// Bytes as printable ASCII: control characters, `%`, `"`, `\` and everything beyond ASCII
/// become `%XX`.
#[must_use]
pub fn encode(bytes: &[u8]) -> String {
    percent_encoding::percent_encode(bytes, ENCODED).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_any_bytes_but_slash_and_nul() {
        for good in [&b"x"[..], b"a b", b"\xff\xfe", b"...", &[b'n'; 255]] {
            assert_eq!(Name::new(good).unwrap().as_bytes(), good);
        }
        for bad in [&b""[..], b".", b"..", b"a/b", b"a\0b"] {
            assert_eq!(Name::new(bad), Err(Refusal::BadName), "{bad:?}");
        }
        assert_eq!(Name::new(&[b'n'; 256]), Err(Refusal::NameTooLong));
    }

    #[test]
    fn the_incomplete_name_of_a_long_name_still_fits() {
        let long = Name::new(&[b'n'; 255]).unwrap().incomplete(1234);
        assert_eq!(long.as_bytes().len(), 255);
        assert!(long.as_bytes().ends_with(b"n.1234"));
    }

    #[test]
    fn paths_survive_the_ledger_byte_for_byte() {
        let path = StorePath::root().join(b"hourly").join(b"odd \xff%\"\\\n name");
        assert_eq!(path.to_string(), "hourly/odd %FF%25%22%5C%0A name");
        assert_eq!(StorePath::decode(&path.to_string()).unwrap(), path);
        assert!(StorePath::decode("hourly/../store.json").is_err());
        assert!(StorePath::decode("/etc").is_err());
    }
}
