//! PURE: the files beside a dump that hold what no dump holds: roles, tablespaces, settings of the
//! server. They are sealed before the manifest, which names them.

use serde::Deserialize;
use serde::Serialize;

use super::Content;
use super::DIGEST_SUFFIX;
use super::MANIFEST_SUFFIX;

/// Appended to the name of a backup to name its roles and tablespaces, as SQL.
pub const GLOBALS_SUFFIX: &str = ".globals.sql";
/// Appended to the name of a backup to name what is known of its server, as JSON.
pub const CLUSTER_SUFFIX: &str = ".cluster.json";
/// Appended to these where they are encrypted.
pub const ENCRYPTED_SUFFIX: &str = ".age";

/// Every ending of a file that belongs to a dump, and none for the dump itself.
pub const ENDINGS: [&str; 7] = [
    "",
    DIGEST_SUFFIX,
    MANIFEST_SUFFIX,
    GLOBALS_SUFFIX,
    ".globals.sql.age",
    CLUSTER_SUFFIX,
    ".cluster.json.age",
];

/// A file beside a dump.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct Sidecar {
    /// What is appended to the name of the backup.
    pub suffix: String,
    /// The file as stored.
    #[serde(flatten)]
    pub content: Content,
}

impl Sidecar {
    /// Whether its ending names a file of the same directory that is none of the other three.
    #[must_use]
    pub fn is_beside(&self) -> bool {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b".-_".contains(&byte);
        self.suffix.len() > 1
            && self.suffix.starts_with('.')
            && self.suffix.bytes().all(plain)
            && ![DIGEST_SUFFIX, MANIFEST_SUFFIX].contains(&self.suffix.as_str())
    }
}

/// Something that the backup lacks beside its dump, which is whole.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct Lack {
    /// Its stable name, such as `globals.passwords`.
    pub code: String,
    /// The same for people, with what to do.
    pub message: String,
}

impl Lack {
    pub(crate) fn new(code: &str, message: impl Into<String>) -> Self {
        Self { code: code.to_owned(), message: message.into() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sidecar_cannot_lead_elsewhere() {
        let is_beside = |suffix: &str| {
            let content = Content { bytes: 0, sha256: String::new() };
            Sidecar { suffix: suffix.to_owned(), content }.is_beside()
        };
        assert!(ENDINGS[3..].iter().all(|suffix| is_beside(suffix)));
        assert!(ENDINGS.contains(&format!("{GLOBALS_SUFFIX}{ENCRYPTED_SUFFIX}").as_str()));
        assert!(ENDINGS.contains(&format!("{CLUSTER_SUFFIX}{ENCRYPTED_SUFFIX}").as_str()));
        for suffix in ["", ".", "x", "/../x", "./x", ".sha256", ".manifest.json", ".a b"] {
            assert!(!is_beside(suffix), "{suffix:?}");
        }
    }

    #[test]
    fn it_stands_in_a_manifest_as_one_object() {
        let content = Content { bytes: 3, sha256: "ab".to_owned() };
        let sidecar = Sidecar { suffix: GLOBALS_SUFFIX.to_owned(), content };
        let text = r#"{"suffix":".globals.sql","bytes":3,"sha256":"ab"}"#;
        assert_eq!(serde_json::to_string(&sidecar).unwrap(), text);
        assert_eq!(serde_json::from_str::<Sidecar>(text).unwrap(), sidecar);
    }
}
