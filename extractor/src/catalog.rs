//! PURE: from a listing of a view or of a mirror to the backups that it amounts to.
//!
//! A backup exists only if its dump, its `.sha256` and its manifest are all there. Anything else,
//! `.incomplete` and names that nobody here gave included, is passed over.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::path::PathBuf;

use jiff::civil::DateTime;
use worm_ingest::manifest::DIGEST_SUFFIX;
use worm_ingest::manifest::MANIFEST_SUFFIX;
use worm_ingest::manifest::folder::is_date;
use worm_ingest::name::BackupName;

/// The three files that every backup has. The manifest names others, if there are any.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Role {
    /// The compressed dump.
    Dump,
    /// Its digest, in `sha256sum -c` form.
    Digest,
    /// Its manifest. Where it exists, the backup exists.
    Manifest,
}

impl Role {
    /// In the order of writing: the manifest last, here as in the mount.
    pub const ALL: [Self; 3] = [Self::Dump, Self::Digest, Self::Manifest];

    /// The name of this file of a backup.
    #[must_use]
    pub fn of(self, backup: &BackupName) -> String {
        format!("{backup}{}", self.suffix())
    }

    fn suffix(self) -> &'static str {
        match self {
            Self::Dump => "",
            Self::Digest => DIGEST_SUFFIX,
            Self::Manifest => MANIFEST_SUFFIX,
        }
    }
}

/// A directory that holds backups: `daily` in a mount, `daily/2026-01-18` in a mirror; below it, where
/// each database has its own, that of the database.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Folder {
    /// The retention class.
    pub class: String,
    /// The day, in a mirror.
    pub date: Option<String>,
    /// The directory of the database, where each has its own.
    pub database: Option<String>,
}

impl Folder {
    /// The path below the view or the mirror.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        let mut path = PathBuf::from(&self.class);
        path.extend(&self.date);
        path.extend(&self.database);
        path
    }

    /// Reads the path of a directory below a view or a mirror.
    fn parse(path: &str) -> Option<Self> {
        let mut names = path.split('/').map(str::to_owned).peekable();
        let class = names.next()?;
        let date = names.next_if(|name| is_date(name));
        let database = names.next();
        names.next().is_none().then_some(Self { class, date, database })
    }
}

/// One file of a listing.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Found {
    /// Where it is.
    pub folder: Folder,
    /// What it is called.
    pub name: String,
    /// How long it is.
    pub bytes: u64,
    /// When it was last changed, in whole seconds.
    pub modified: i64,
}

/// A backup of which all three files exist.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Backup {
    /// Where it is.
    pub folder: Folder,
    /// What its dump is called.
    pub name: BackupName,
}

impl Backup {
    /// Where this backup belongs in a mirror.
    #[must_use]
    pub fn mirrored(&self) -> Folder {
        Folder { date: Some(self.name.date().to_owned()), ..self.folder.clone() }
    }
}

/// What a listing amounts to.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Catalog {
    /// Oldest first; of the same second, by class.
    pub complete: Vec<Backup>,
    /// Dumps that lack a sidecar: still being written, or abandoned.
    pub unfinished: usize,
}

impl Catalog {
    /// Reads a listing.
    #[must_use]
    pub fn of(listing: &[Found]) -> Self {
        let mut roles: BTreeMap<(BackupName, &Folder), BTreeSet<Role>> = BTreeMap::new();
        for found in listing {
            let Some((name, role)) = role_of(&found.name) else { continue };
            if found.folder.date.as_deref().is_some_and(|date| date != name.date()) {
                continue;
            }
            let _new = roles.entry((name, &found.folder)).or_default().insert(role);
        }
        let mut catalog = Self::default();
        for ((name, folder), roles) in roles {
            if Role::ALL.iter().all(|role| roles.contains(role)) {
                catalog.complete.push(Backup { folder: folder.clone(), name });
            } else {
                catalog.unfinished += 1;
            }
        }
        catalog
    }

    /// Those of one class, or all.
    #[must_use]
    pub fn of_class(mut self, class: Option<&str>) -> Self {
        self.complete.retain(|backup| class.is_none_or(|class| class == backup.folder.class));
        self
    }

    /// The newest backup of each directory of a database, and the newest of those that have none.
    #[must_use]
    pub fn newest_of_each(&self) -> Vec<&Backup> {
        let newest: BTreeMap<&Option<String>, &Backup> =
            self.complete.iter().map(|backup| (&backup.folder.database, backup)).collect();
        newest.into_values().collect()
    }

    /// The newest complete backup by name that is `good`, and the newest of these that is not named
    /// for a time after `limit`: what was made while a clock was wrong would be the latest for
    /// years. No older ones are asked about than are needed.
    pub fn latest(&self, limit: DateTime, mut good: impl FnMut(&Backup) -> bool) -> Latest<'_> {
        let newest = self.complete.iter().rfind(|backup| good(backup));
        let plausible = newest.filter(|backup| backup.name.moment() <= limit).or_else(|| {
            let plausible = |backup: &&Backup| backup.name.moment() <= limit;
            self.complete.iter().filter(plausible).rfind(|backup| good(backup))
        });
        Latest { newest, plausible }
    }
}

/// The name in a mirror of the backup whose dump is at `path`, in the mirror or in a mount. Those of its
/// other files begin with it.
#[must_use]
pub fn key_of(path: &str) -> Option<String> {
    let (folder, name) = path.rsplit_once('/')?;
    let backup = Backup { folder: Folder::parse(folder)?, name: BackupName::parse(name)? };
    Some(backup.mirrored().path().join(backup.name.as_str()).to_string_lossy().into_owned())
}

/// The newest backup, and the newest that can be it. The same, unless a clock was wrong.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Latest<'catalog> {
    /// By name.
    pub newest: Option<&'catalog Backup>,
    /// Of those that are not from the future.
    pub plausible: Option<&'catalog Backup>,
}

/// Which backup a file name belongs to, and as what.
#[must_use]
pub fn role_of(name: &str) -> Option<(BackupName, Role)> {
    [Role::Digest, Role::Manifest, Role::Dump].into_iter().find_map(|role| {
        let dump = name.strip_suffix(role.suffix())?;
        Some((BackupName::parse(dump)?, role))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(class: &str, date: Option<&str>, name: &str) -> Found {
        let date = date.map(str::to_owned);
        let folder = Folder { class: class.to_owned(), date, database: None };
        Found { folder, name: name.to_owned(), bytes: 1, modified: 0 }
    }

    fn triple(class: &str, date: Option<&str>, stamp: &str) -> Vec<Found> {
        triple_of(class, date, &format!("{stamp}.sql.gz"))
    }

    fn triple_of(class: &str, date: Option<&str>, name: &str) -> Vec<Found> {
        ["", ".sha256", ".manifest.json"]
            .map(|suffix| found(class, date, &format!("{name}{suffix}")))
            .to_vec()
    }

    fn names(catalog: &Catalog) -> Vec<String> {
        catalog.complete.iter().map(|b| format!("{}/{}", b.folder.class, b.name)).collect()
    }

    #[test]
    fn backups_come_oldest_first_across_classes() {
        let listing = [
            triple("hourly", None, "2026-01-18_01-00-00"),
            triple("daily", None, "2026-01-18_00-00-00"),
            triple("weekly", None, "2026-01-11_00-00-00"),
            triple("hourly", None, "2026-01-18_00-00-00"),
        ]
        .concat();
        assert_eq!(
            names(&Catalog::of(&listing)),
            [
                "weekly/2026-01-11_00-00-00.sql.gz",
                "daily/2026-01-18_00-00-00.sql.gz",
                "hourly/2026-01-18_00-00-00.sql.gz",
                "hourly/2026-01-18_01-00-00.sql.gz",
            ]
        );
    }

    #[test]
    fn backups_of_every_form_count() {
        let names = [
            "2026-01-18_00-00-00.tar",
            "2026-01-18_01-00-00.sql.zst",
            "2026-01-18_02-00-00.dump.age",
        ];
        let listing = names.map(|name| triple_of("daily", None, name)).concat();
        let catalog = Catalog::of(&listing);
        assert_eq!(self::names(&catalog), names.map(|name| format!("daily/{name}")));
        let key = key_of("daily/2026-01-18_01-00-00.sql.zst").unwrap();
        assert_eq!(key, "daily/2026-01-18/2026-01-18_01-00-00.sql.zst");
    }

    #[test]
    fn a_backup_needs_all_three_files() {
        for missing in 0..3 {
            let mut listing = triple("daily", None, "2026-01-18_00-00-00");
            let _gone = listing.remove(missing);
            listing.push(found("daily", None, "notes.txt"));
            let catalog = Catalog::of(&listing);
            assert_eq!((names(&catalog).len(), catalog.unfinished), (0, 1), "{missing}");
        }
    }

    #[test]
    fn a_file_in_the_directory_of_another_day_does_not_count() {
        let mut listing = triple("daily", Some("2026-01-18"), "2026-01-18_00-00-00");
        assert_eq!(Catalog::of(&listing).complete.len(), 1);
        listing[2].folder.date = Some("2026-01-19".to_owned());
        assert_eq!(Catalog::of(&listing).complete.len(), 0);
    }

    #[test]
    fn latest_is_the_newest_name_of_all_classes_or_of_one() {
        let listing = [
            triple("hourly", Some("2026-01-18"), "2026-01-18_01-00-00"),
            triple("daily", Some("2026-01-18"), "2026-01-18_00-00-00"),
            vec![found("daily", Some("2026-01-19"), "2026-01-19_00-00-00.sql.gz")],
        ]
        .concat();
        let catalog = Catalog::of(&listing);
        let of = |class| catalog.clone().of_class(class);
        let limit = jiff::civil::date(2026, 1, 19).at(0, 0, 0, 0);
        let all = of(None);
        let any = |_: &Backup| true;
        assert_eq!(all.latest(limit, any).newest.unwrap().folder.class, "hourly");
        assert_eq!(all.latest(limit, any).newest, all.latest(limit, any).plausible);
        assert_eq!(of(Some("daily")).latest(limit, any).newest.unwrap().folder.class, "daily");
        assert_eq!(of(Some("weekly")).latest(limit, any).newest, None);
        let early = catalog.latest(jiff::civil::date(2026, 1, 18).at(0, 30, 0, 0), any);
        assert_eq!(early.newest.unwrap().folder.class, "hourly");
        assert_eq!(early.plausible.unwrap().folder.class, "daily");
    }

    #[test]
    fn what_is_not_good_is_passed_over_and_nothing_older_is_asked_about() {
        let stamps = ["2026-01-18_01-00-00", "2026-01-18_02-00-00", "2026-01-18_03-00-00"];
        let catalog = Catalog::of(&stamps.map(|stamp| triple("hourly", None, stamp)).concat());
        let limit = jiff::civil::date(2026, 1, 19).at(0, 0, 0, 0);
        let mut asked = Vec::new();
        let latest = catalog.latest(limit, |backup| {
            asked.push(backup.name.to_string());
            !backup.name.to_string().contains("_03-")
        });
        assert_eq!(latest.newest, Some(&catalog.complete[1]));
        assert_eq!(latest.plausible, latest.newest);
        assert_eq!(asked, [format!("{}.sql.gz", stamps[2]), format!("{}.sql.gz", stamps[1])]);
        assert_eq!(catalog.latest(limit, |_| false), Latest { newest: None, plausible: None });
    }

    #[test]
    fn each_database_has_a_directory_of_its_own() {
        let of = |database: Option<&str>, stamp| {
            let mut found = triple("daily", None, stamp);
            for file in &mut found {
                file.folder.database = database.map(str::to_owned);
            }
            found
        };
        let listing = [
            of(Some("app"), "2026-01-18_00-00-00"),
            of(Some("crm"), "2026-01-18_00-00-00"),
            of(Some("app"), "2026-01-19_00-00-00"),
            of(None, "2026-01-17_00-00-00"),
        ]
        .concat();
        let catalog = Catalog::of(&listing);
        let mirrored: Vec<String> = catalog
            .newest_of_each()
            .into_iter()
            .map(|backup| backup.mirrored().path().to_string_lossy().into_owned())
            .collect();
        assert_eq!(mirrored, ["daily/2026-01-17", "daily/2026-01-19/app", "daily/2026-01-18/crm"]);
    }

    #[test]
    fn the_names_in_a_mirror_follow_from_those_in_a_mount() {
        let name = "2026-01-18_00-00-00.sql.gz";
        for (folder, mirrored) in [
            ("daily", "daily/2026-01-18"),
            ("daily/2026-01-18", "daily/2026-01-18"),
            ("daily/app", "daily/2026-01-18/app"),
            ("daily/2026-01-18/app", "daily/2026-01-18/app"),
        ] {
            let key = key_of(&format!("{folder}/{name}")).unwrap();
            assert_eq!(key, format!("{mirrored}/{name}"));
        }
        assert_eq!(key_of(&format!("daily/2026-01-18/app/x/{name}")), None);
        assert_eq!(key_of(&format!("daily/app/x/{name}")), None);
    }
}
