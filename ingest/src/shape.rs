//! PURE: what a backup is to be: its format, how it is packed, for whom, and how fast.

use std::num::NonZeroU64;
use std::path::PathBuf;

use crate::manifest::Codec;
use crate::manifest::Compression;
use crate::manifest::Kind;
use crate::manifest::filters::Filters;
use crate::name::Form;
use crate::stream::recipients::Recipients;

/// More workers than any server would thank us for.
const JOBS_MAX: u32 = 256;

/// What a backup is to be. All of it makes sense together.
#[derive(Clone, Debug)]
pub(crate) struct Shape {
    pub(crate) kind: Kind,
    pub(crate) compression: Compression,
    /// How many tables are dumped at once, into a directory.
    pub(crate) jobs: u32,
    /// Where a directory is dumped to on its way.
    pub(crate) scratch: Option<PathBuf>,
    pub(crate) recipients: Option<Recipients>,
    /// Bytes per second that are read from `pg_dump` at most.
    pub(crate) rate_limit: Option<NonZeroU64>,
    /// A dump with fewer bytes is none.
    pub(crate) min_bytes: u64,
    /// Which part of the database.
    pub(crate) filters: Filters,
}

/// What was asked for, word by word.
#[derive(Clone, Debug, Default)]
pub(crate) struct Asked {
    pub(crate) format: String,
    pub(crate) compress: String,
    pub(crate) jobs: u32,
    pub(crate) scratch: Option<PathBuf>,
    /// One public key in each.
    pub(crate) recipients: Vec<String>,
    /// 0 for no limit.
    pub(crate) rate_limit: u64,
    pub(crate) min_bytes: u64,
    pub(crate) filters: Filters,
}

impl Shape {
    /// Refuses, in words for the user, what makes no sense.
    pub(crate) fn new(asked: Asked) -> Result<Self, String> {
        let kind = match asked.format.as_str() {
            "plain" => Kind::Plain,
            "custom" => Kind::Custom,
            "directory" => Kind::Directory,
            other => {
                return Err(format!("--format {other:?}: plain, custom and directory are known"));
            }
        };
        let compression = asked.compress.parse();
        let compression: Compression =
            compression.map_err(|error: crate::manifest::UnknownCompression| error.to_string())?;
        let directory = kind == Kind::Directory;
        if !(1..=JOBS_MAX).contains(&asked.jobs) {
            return Err(format!("--jobs {}: 1 to {JOBS_MAX} are possible", asked.jobs));
        }
        if asked.jobs > 1 && !directory {
            return Err(
                "--jobs is for --format directory: pg_dump writes one file alone".to_owned()
            );
        }
        let scratch = asked.scratch.filter(|path| !path.as_os_str().is_empty());
        if directory && scratch.is_none() {
            return Err(
                "--format directory needs room for the whole dump on its way: name it by --scratch"
                    .to_owned(),
            );
        }
        let rate_limit = NonZeroU64::new(asked.rate_limit);
        if directory && rate_limit.is_some() {
            return Err("--rate-limit slows the pipe of pg_dump, and --format directory has none"
                .to_owned());
        }
        Ok(Self {
            kind,
            compression,
            jobs: asked.jobs,
            scratch,
            recipients: recipients(&asked.recipients)?,
            rate_limit,
            min_bytes: asked.min_bytes,
            filters: asked.filters,
        })
    }

    /// What the file will be.
    pub(crate) fn form(&self) -> Form {
        Form { kind: self.kind, codec: self.codec(), encrypted: self.recipients.is_some() }
    }

    /// How the stream is packed on its way. Archives are packed by `pg_dump`.
    pub(crate) fn codec(&self) -> Codec {
        match self.kind {
            Kind::Plain => self.compression.codec,
            Kind::Custom | Kind::Directory => Codec::None,
        }
    }

    /// What `pg_dump` is told.
    pub(crate) fn dump_arguments(&self) -> Vec<String> {
        let Compression { codec, level } = self.compression;
        let compress = match codec {
            Codec::None => "--compress=0".to_owned(),
            // The form that all versions understand.
            Codec::Gzip => format!("--compress={level}"),
            Codec::Zstd => format!("--compress=zstd:{level}"),
        };
        let mut arguments = match self.kind {
            Kind::Plain => vec!["--format=plain".to_owned()],
            Kind::Custom => vec!["--format=custom".to_owned(), compress],
            Kind::Directory => {
                vec!["--format=directory".to_owned(), compress, format!("--jobs={}", self.jobs)]
            }
        };
        arguments.extend(self.filters.arguments());
        arguments
    }
}

fn recipients(texts: &[String]) -> Result<Option<Recipients>, String> {
    if texts.is_empty() {
        return Ok(None);
    }
    let parsed = Recipients::parse(texts.iter().map(String::as_str));
    parsed.map(Some).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(format: &str, compress: &str) -> Asked {
        let (format, compress) = (format.to_owned(), compress.to_owned());
        Asked { format, compress, jobs: 1, scratch: Some("/scratch".into()), ..Asked::default() }
    }

    #[track_caller]
    fn check(asked: Asked, suffix: &str, arguments: &[&str]) {
        let shape = Shape::new(asked).unwrap();
        assert_eq!(shape.form().suffix(), suffix);
        assert_eq!(shape.dump_arguments(), arguments);
    }

    #[test]
    fn archives_are_packed_by_pg_dump_and_plain_dumps_by_us() {
        check(asked("plain", "zstd:3"), ".sql.zst", &["--format=plain"]);
        check(asked("custom", "gzip:2"), ".dump", &["--format=custom", "--compress=2"]);
        check(asked("custom", "zstd:1"), ".dump", &["--format=custom", "--compress=zstd:1"]);
        check(
            Asked { jobs: 4, ..asked("directory", "none") },
            ".tar",
            &["--format=directory", "--compress=0", "--jobs=4"],
        );
        let key = age::x25519::Identity::generate().to_public().to_string();
        let sealed = Asked { recipients: vec![key], ..asked("plain", "none") };
        check(sealed, ".sql.age", &["--format=plain"]);
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        let refused = |asked: Asked| Shape::new(asked).unwrap_err();
        assert!(refused(asked("tar", "none")).contains("plain, custom"));
        assert!(refused(asked("plain", "rar:1")).contains("rar:1"));
        assert!(refused(Asked { jobs: 2, ..asked("custom", "none") }).contains("--jobs"));
        assert!(refused(Asked { jobs: 0, ..asked("plain", "none") }).contains("--jobs"));
        let homeless = Asked { scratch: None, ..asked("directory", "none") };
        assert!(refused(homeless).contains("--scratch"));
        let slow = Asked { rate_limit: 1, ..asked("directory", "none") };
        assert!(refused(slow).contains("--rate-limit"));
        let nobody = Asked { recipients: vec!["nobody".to_owned()], ..asked("plain", "none") };
        assert!(refused(nobody).contains("recipient 1"));
    }
}
