//! PURE: the manifest of one backup, `NAME.manifest.json`: encode, decode, nothing else.
//!
//! A backup is whole when its manifest exists, so the manifest is always written last. It says
//! everything that a restore needs to know and to check.

pub mod beside;
pub mod filters;
pub mod folder;

use std::str::FromStr;

use jiff::Timestamp;
use serde::Deserialize;
use serde::Serialize;

use self::beside::Lack;
use self::beside::Sidecar;
use self::filters::Filters;
use crate::name::Form;

/// The newest manifest format that this version writes and reads.
pub const FORMAT: u32 = 2;
/// The format of a plain dump packed by gzip, which the first version reads as well.
const FORMAT_OF_FIRST: u32 = 1;
/// Appended to the name of a backup to name its manifest.
pub const MANIFEST_SUFFIX: &str = ".manifest.json";
/// Appended to the name of a backup to name its digest in `sha256sum -c` form.
pub const DIGEST_SUFFIX: &str = ".sha256";

/// What one backup is: where it came from, what it holds, and how to check it.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// Version of this form, up to [`FORMAT`].
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
    /// The form of the dump.
    #[serde(default)]
    pub kind: Kind,
    /// Which part of the database was dumped; absent when it was all of it.
    #[serde(default, skip_serializing_if = "Filters::is_empty")]
    pub filters: Filters,
    /// How it was compressed: a plain dump on its way, any other by `pg_dump` itself, inside.
    pub compression: Compression,
    /// To whom it was encrypted; absent when it was not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub encryption: Option<Encryption>,
    /// The dump as `pg_dump` wrote it, before compression and encryption.
    pub raw: Raw,
    /// The file as stored. Its digest is what the mount and `sha256sum` must report.
    pub stored: Content,
    /// Every table of the snapshot that has rows of its own, with the rows counted in the stream.
    pub tables: Vec<TableRows>,
    /// How many large objects the dump holds; absent from the first manifests.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub large_objects: Option<u64>,
    /// Installed extensions and their versions.
    pub extensions: Vec<Extension>,
    /// Until when the mount promised to keep the backup; absent on a plain directory.
    pub retain_until: Option<Timestamp>,
    /// `user.worm.store` of the mount; absent on a plain directory.
    pub store: Option<String>,
    /// What stands beside the dump, apart from digest and manifest: roles, settings.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sidecars: Vec<Sidecar>,
    /// What should stand there and could not be had.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub lacks: Vec<Lack>,
    /// Why it looks as if something had happened to the database. While this is not empty, the
    /// backup counts as none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub suspect: Vec<Suspicion>,
    /// Somebody said that this backup is good although, or before, it looked wrong.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub accepted: Option<Accepted>,
}

/// A thing that looks wrong.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct Suspicion {
    /// Its stable name, such as `rows.dropped`.
    pub code: String,
    /// The same for people.
    pub message: String,
}

/// That a backup was taken for good by somebody who knew why.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct Accepted {
    /// What that person said.
    pub reason: String,
    /// What looked wrong.
    pub suspicions: Vec<Suspicion>,
}

/// The form of a dump.
#[derive(Clone, Copy, Debug, Default, Eq, Ord, PartialEq, PartialOrd, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// SQL, as `psql` reads it.
    #[default]
    Plain,
    /// An archive in one file (`pg_dump --format=custom`).
    Custom,
    /// An archive in a directory (`pg_dump --format=directory`), as one tar file.
    Directory,
}

/// How a stream was compressed.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct Compression {
    /// By what.
    pub codec: Codec,
    /// The codec's own level; 0 for none.
    pub level: i32,
}

/// A way to compress.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Codec {
    /// As `gunzip` reads it.
    Gzip,
    /// As `unzstd` reads it.
    Zstd,
    /// Not compressed.
    None,
}

/// Not a compression that we know.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{0:?} is no compression: gzip:1 to gzip:9, zstd:1 to zstd:19 and none are known")]
pub struct UnknownCompression(String);

impl FromStr for Compression {
    type Err = UnknownCompression;

    /// Reads `gzip:2`, `zstd:1`, `none`.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (codec, level) = text.split_once(':').unwrap_or((text, "0"));
        let known = match (codec, level.parse()) {
            ("gzip", Ok(level @ 1..=9)) => Some((Codec::Gzip, level)),
            ("zstd", Ok(level @ 1..=19)) => Some((Codec::Zstd, level)),
            ("none", Ok(0)) if text == codec => Some((Codec::None, 0)),
            _ => None,
        };
        let (codec, level) = known.ok_or_else(|| UnknownCompression(text.to_owned()))?;
        Ok(Self { codec, level })
    }
}

/// A number of bytes and their SHA-256.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct Content {
    /// Length in bytes.
    pub bytes: u64,
    /// SHA-256 in lower-case hexadecimal.
    pub sha256: String,
}

/// The dump before anything was done to it.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct Raw {
    /// Length in bytes.
    pub bytes: u64,
    /// SHA-256 in lower-case hexadecimal. Absent from encrypted backups: it would tell anybody
    /// whether he has guessed their content, and the encryption vouches for it anyway.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
}

/// Who can read an encrypted backup.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct Encryption {
    /// Always `age`, in its format `age-encryption.org/v1`.
    pub method: String,
    /// The public keys: whoever has the secret key of one can read it.
    pub recipients: Vec<String>,
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

impl Form {
    /// The oldest format whose readers understand such a backup.
    #[must_use]
    pub fn manifest_format(self) -> u32 {
        let first = Self { kind: Kind::Plain, codec: Codec::Gzip, encrypted: false };
        if self == first { FORMAT_OF_FIRST } else { FORMAT }
    }
}

impl Manifest {
    /// How the file is packed, beneath its encryption. Archives are packed inside.
    #[must_use]
    pub fn codec(&self) -> Codec {
        match self.kind {
            Kind::Plain => self.compression.codec,
            Kind::Custom | Kind::Directory => Codec::None,
        }
    }

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
    fn compressions_are_read_and_nothing_else_is() {
        for (text, codec, level) in [
            ("gzip:1", Codec::Gzip, 1),
            ("gzip:9", Codec::Gzip, 9),
            ("zstd:1", Codec::Zstd, 1),
            ("zstd:19", Codec::Zstd, 19),
            ("none", Codec::None, 0),
        ] {
            assert_eq!(text.parse(), Ok(Compression { codec, level }), "{text}");
        }
        for text in
            ["gzip", "gzip:0", "gzip:10", "zstd:0", "zstd:20", "none:0", "none:1", "lz4:1", ""]
        {
            assert!(text.parse::<Compression>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn what_the_first_version_reads_is_called_so() {
        let formats: Vec<u32> = Form::all().map(Form::manifest_format).collect();
        assert_eq!(formats, [1, 2, 2, 2, 2, 2, 2, 2, 2, 2]);
    }

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
