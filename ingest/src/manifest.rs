//! PURE: the manifest of one backup, `NAME.manifest.json`: encode, decode, nothing else.
//!
//! A backup is whole when its manifest exists, so the manifest is always written last. It says
//! everything that a restore needs to know and to check.

use jiff::Timestamp;
use serde::Deserialize;
use serde::Serialize;

/// The newest manifest format that this version writes and reads.
pub const FORMAT: u32 = 1;
/// Appended to the name of a backup to name its manifest.
pub const MANIFEST_SUFFIX: &str = ".manifest.json";
/// Appended to the name of a backup to name its digest in `sha256sum -c` form.
pub const DIGEST_SUFFIX: &str = ".sha256";

/// What one backup is: where it came from, what it holds, and how to check it.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// Version of this form, [`FORMAT`].
    pub format: u32,
    /// File name of the backup that this describes, in the same directory.
    pub name: String,
    /// Retention class: `hourly`, `daily`, `weekly`, or another directory of the mount.
    pub class: String,
    /// All classes that the same dump was to be sealed in, this one among them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub classes: Vec<String>,
    /// The run that made it, as in the audit log.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run_id: Option<String>,
    /// The database that was dumped.
    pub database: String,
    /// When the dump began (UTC).
    pub started_at: Timestamp,
    /// When its last byte was sealed (UTC).
    pub finished_at: Timestamp,
    /// Name and version of the program that wrote this.
    pub agent: String,
    /// The server's own words, `SHOW server_version`.
    pub server_version: String,
    /// `SHOW server_version_num`, for example 150018.
    pub server_version_num: u32,
    /// What `pg_dump --version` printed.
    pub dump_version: String,
    /// The exported snapshot that dump and table list share.
    pub snapshot: String,
    /// Size of the database on the server, `pg_database_size`, in bytes.
    pub database_bytes: u64,
    /// How the stream was compressed.
    pub compression: Compression,
    /// The dump before compression.
    pub raw: Content,
    /// The file as stored. Its digest is what the mount and `sha256sum` must report.
    pub stored: Content,
    /// Every table of the snapshot that has rows of its own, with the rows counted in the stream.
    pub tables: Vec<TableRows>,
    /// Installed extensions and their versions.
    pub extensions: Vec<Extension>,
    /// Until when the mount promised to keep the backup; absent on a plain directory.
    pub retain_until: Option<Timestamp>,
    /// `user.worm.store` of the mount; absent on a plain directory.
    pub store: Option<String>,
}

/// How a stream was compressed.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct Compression {
    /// `gzip`, `zstd` or `none`.
    pub codec: String,
    /// The codec's own level.
    pub level: i32,
}

/// A number of bytes and their SHA-256.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct Content {
    /// Length in bytes.
    pub bytes: u64,
    /// SHA-256 in lower-case hexadecimal.
    pub sha256: String,
}

/// The rows of one table, as counted in its COPY block.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd, Serialize, Deserialize)]
pub struct TableRows {
    /// Schema, unquoted.
    pub schema: String,
    /// Table, unquoted.
    pub table: String,
    /// Rows in the dump.
    pub rows: u64,
    /// A configuration table of an extension. The dump holds only the rows that its users made, and
    /// `CREATE EXTENSION` makes others, so that a restored table may have more than `rows`.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub extension: bool,
}

/// An extension of the database.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct Extension {
    /// `extname`.
    pub name: String,
    /// `extversion`.
    pub version: String,
}

/// Why a manifest cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// Not JSON, or fields are missing.
    #[error("manifest cannot be read: {0}")]
    Malformed(#[from] serde_json::Error),
    /// Written by a newer version.
    #[error("manifest has format {0}, this version reads up to {FORMAT}: use a newer version")]
    Newer(u32),
}

impl Manifest {
    /// The bytes of the manifest file: JSON for people, with a final newline.
    ///
    /// # Errors
    /// [`ManifestError::Malformed`] when it cannot be expressed as JSON.
    pub fn encode(&self) -> Result<Vec<u8>, ManifestError> {
        let mut bytes = serde_json::to_vec_pretty(self)?;
        bytes.push(b'\n');
        Ok(bytes)
    }

    /// Reads a manifest file. Unknown fields are ignored, a newer format is not.
    ///
    /// # Errors
    /// [`ManifestError`]
    pub fn decode(bytes: &[u8]) -> Result<Self, ManifestError> {
        #[derive(Deserialize)]
        struct Version {
            format: u32,
        }
        let Version { format } = serde_json::from_slice(bytes)?;
        if format > FORMAT {
            return Err(ManifestError::Newer(format));
        }
        Ok(serde_json::from_slice(bytes)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_tables_of_extensions_say_so() {
        let mut table =
            TableRows { schema: "s".to_owned(), table: "t".to_owned(), rows: 1, extension: false };
        let plain = r#"{"schema":"s","table":"t","rows":1}"#;
        assert_eq!(serde_json::to_string(&table).unwrap(), plain);
        assert_eq!(serde_json::from_str::<TableRows>(plain).unwrap(), table);
        table.extension = true;
        let marked = r#"{"schema":"s","table":"t","rows":1,"extension":true}"#;
        assert_eq!(serde_json::to_string(&table).unwrap(), marked);
        assert_eq!(serde_json::from_str::<TableRows>(marked).unwrap(), table);
    }
}
