//! PURE: how a backup is called: `2026-01-18_00-00-00.sql.gz`, the second in which it was begun (UTC)
//! and what the file is. The one place that makes such names and reads them.

use std::fmt;

use jiff::SignedDuration;
use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;

use crate::manifest::Codec;
use crate::manifest::Kind;

/// So many seconds after the first are tried before giving up.
const TRIES: i64 = 120;
/// How a name begins.
const STAMP: &str = "%Y-%m-%d_%H-%M-%S";
/// Length of `2026-01-18_00-00-00`.
const STAMP_LEN: usize = 19;
/// Length of `2026-01-18`.
const DATE_LEN: usize = 10;

/// What a file of a backup is, as the end of its name says it.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Form {
    /// The form of the dump.
    pub kind: Kind,
    /// What it was packed with on its way. An archive of `pg_dump` packs itself, inside.
    pub codec: Codec,
    /// Whether it can be read only with a key.
    pub encrypted: bool,
}

impl Form {
    /// Every form there is.
    pub fn all() -> impl Iterator<Item = Self> {
        let plain = [Codec::Gzip, Codec::Zstd, Codec::None].map(|codec| (Kind::Plain, codec));
        let archives = [Kind::Custom, Kind::Directory].map(|kind| (kind, Codec::None));
        let open = plain.into_iter().chain(archives);
        open.flat_map(|(kind, codec)| {
            [false, true].map(|encrypted| Self { kind, codec, encrypted })
        })
    }

    /// How the name of such a file ends, from its first dot.
    #[must_use]
    pub fn suffix(self) -> String {
        let kind = match self.kind {
            Kind::Plain => ".sql",
            Kind::Custom => ".dump",
            Kind::Directory => ".tar",
        };
        let codec = match self.codec {
            Codec::None => "",
            Codec::Gzip => ".gz",
            Codec::Zstd => ".zst",
        };
        let encrypted = if self.encrypted { ".age" } else { "" };
        format!("{kind}{codec}{encrypted}")
    }
}

/// The file name of a backup. Names sort by time.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct BackupName {
    text: String,
    moment: DateTime,
    form: Form,
}

impl BackupName {
    /// Accepts exactly the names that the agent gives.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        let (stamp, suffix) = name.split_at_checked(STAMP_LEN)?;
        let moment = DateTime::strptime(STAMP, stamp).ok()?;
        // strptime is lenient about leading zeros; the names are not.
        let exact = moment.strftime(STAMP).to_string() == stamp;
        let form = Form::all().find(|form| form.suffix() == suffix)?;
        exact.then(|| Self { text: name.to_owned(), moment, form })
    }

    /// The backup that a file is or belongs to: `NAME`, `NAME.sha256`, `NAME.anything`.
    #[must_use]
    pub fn of_file(name: &str) -> Option<Self> {
        let ends = name.match_indices('.').map(|(at, _)| at).chain([name.len()]);
        ends.filter_map(|end| Self::parse(&name[..end])).next_back()
    }

    /// The second of its name, UTC.
    #[must_use]
    pub fn moment(&self) -> DateTime {
        self.moment
    }

    /// What the file is.
    #[must_use]
    pub fn form(&self) -> Form {
        self.form
    }

    /// The day of the backup, `2026-01-18`, which names its directory in a mirror.
    #[must_use]
    pub fn date(&self) -> &str {
        &self.text[..DATE_LEN]
    }

    /// The name as it is.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

impl fmt::Display for BackupName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// The name of a backup begun at that moment.
pub(crate) fn backup_name(at: Timestamp, form: Form) -> String {
    format!("{}{}", at.to_zoned(TimeZone::UTC).strftime(STAMP), form.suffix())
}

/// Names in the order in which to try them: that of the moment, then the seconds after it.
pub(crate) fn candidates(at: Timestamp, form: Form) -> impl Iterator<Item = String> {
    (0..=TRIES)
        .filter_map(move |later| at.checked_add(SignedDuration::from_secs(later)).ok())
        .map(move |at| backup_name(at, form))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: Form = Form { kind: Kind::Plain, codec: Codec::Gzip, encrypted: false };

    #[test]
    fn a_name_is_the_utc_second() {
        let at: Timestamp = "2026-01-18T00:59:59.999+01:00".parse().unwrap();
        assert_eq!(backup_name(at, PLAIN), "2026-01-17_23-59-59.sql.gz");
    }

    #[test]
    fn the_next_names_are_the_next_seconds_across_midnight() {
        let at: Timestamp = "2026-02-28T23:59:59Z".parse().unwrap();
        let names: Vec<String> = candidates(at, PLAIN).take(3).collect();
        assert_eq!(
            names,
            [
                "2026-02-28_23-59-59.sql.gz",
                "2026-03-01_00-00-00.sql.gz",
                "2026-03-01_00-00-01.sql.gz"
            ]
        );
        assert_eq!(candidates(at, PLAIN).count(), 121);
    }

    #[test]
    fn every_name_that_is_given_is_read_as_what_it_was_given_for() {
        let at: Timestamp = "2026-01-18T00:00:00Z".parse().unwrap();
        let mut suffixes = Vec::new();
        for form in Form::all() {
            let name = BackupName::parse(&backup_name(at, form)).unwrap();
            assert_eq!((name.form(), name.date()), (form, "2026-01-18"));
            assert_eq!(name.moment(), jiff::civil::date(2026, 1, 18).at(0, 0, 0, 0));
            suffixes.push(form.suffix());
        }
        assert_eq!(
            suffixes.join(" "),
            ".sql.gz .sql.gz.age .sql.zst .sql.zst.age .sql .sql.age .dump .dump.age .tar .tar.age"
        );
    }

    #[test]
    fn other_names_are_nobodys() {
        for name in [
            "2026-1-18_00-00-00.sql.gz",
            "2026-01-32_00-00-00.sql.gz",
            "2026-01-18 00-00-00.sql.gz",
            "2026-01-18_00-00-00",
            "x2026-01-18_00-00-00.sql.gz",
            "../2026-01-18_00-00-00.sql.gz",
            "2026-01-18_00-00-0é.sql",
            "",
        ] {
            assert_eq!(BackupName::parse(name), None, "{name}");
            assert_eq!(BackupName::of_file(name), None, "{name}");
        }
        for name in ["2026-01-18_00-00-00.sql.bz2", "2026-01-18_00-00-00.dump.gz"] {
            assert_eq!(BackupName::parse(name), None, "{name}");
        }
    }

    #[test]
    fn a_file_belongs_to_the_backup_whose_name_it_begins_with() {
        for (file, backup) in [
            ("2026-01-18_00-00-00.sql.gz", Some("2026-01-18_00-00-00.sql.gz")),
            ("2026-01-18_00-00-00.sql.gz.sha256", Some("2026-01-18_00-00-00.sql.gz")),
            ("2026-01-18_00-00-00.sql.age.manifest.json", Some("2026-01-18_00-00-00.sql.age")),
            ("2026-01-18_00-00-00.tar.globals.sql.age", Some("2026-01-18_00-00-00.tar")),
            ("notes.txt", None),
        ] {
            let found = BackupName::of_file(file).map(|name| name.to_string());
            assert_eq!(found.as_deref(), backup, "{file}");
        }
    }
}
