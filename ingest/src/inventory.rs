//! I/O: what is on the mount, read and judged without changing anything.
//!
//! All that the agent knows about its past it reads here: what is sealed cannot be taken back, and
//! is the same after a restart and for every process.

use std::fs::File;
use std::io;
use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::path::PathBuf;

use jiff::Timestamp;
use rustix::fs::OFlags;

use crate::manifest::MANIFEST_SUFFIX;
use crate::manifest::Manifest;
use crate::name::BackupName;
use crate::vault::VaultError;

/// No manifest is longer: one of a hundred thousand tables has a tenth.
const MANIFEST_BYTES_MAX: u64 = 128 << 20;
/// Where files stand that were given up, or that a plain directory does not show yet.
const INCOMPLETE: &str = ".incomplete";

/// A name on the mount that stands for a backup, or for what is left of one.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) struct Found {
    /// The name of the dump.
    pub(crate) name: String,
    /// Below the mount, without the name: `hourly`, or `hourly/app`.
    pub(crate) directory: PathBuf,
    /// The length of the dump; none where only its manifest is there.
    pub(crate) bytes: Option<u64>,
}

/// What such a name amounts to.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) found: Found,
    pub(crate) state: State,
    /// Until when the mount keeps it: what it says now, which may be later than at first.
    pub(crate) retain_until: Option<Timestamp>,
}

/// Whether it counts.
#[derive(Debug)]
pub(crate) enum State {
    /// A backup.
    Good(Box<Manifest>),
    /// Whole, but it looks as if something had happened to the database.
    Suspect(Box<Manifest>),
    /// None, and why.
    NotGood(String),
}

impl Entry {
    /// What describes it, be it good or suspect.
    pub(crate) fn manifest(&self) -> Option<&Manifest> {
        match &self.state {
            State::Good(manifest) | State::Suspect(manifest) => Some(manifest),
            State::NotGood(_) => None,
        }
    }

    pub(crate) fn is_good(&self) -> bool {
        matches!(self.state, State::Good(_))
    }

    /// Whether it is of a whole database, and not of a part.
    pub(crate) fn is_whole(&self) -> bool {
        self.manifest().is_none_or(|manifest| manifest.filters.is_empty())
    }

    /// The class, by where it is.
    pub(crate) fn class(&self) -> String {
        self.found.class()
    }
}

impl Found {
    /// The class: the first directory.
    pub(crate) fn class(&self) -> String {
        let first = self.directory.iter().next().unwrap_or_default();
        first.to_string_lossy().into_owned()
    }

    /// Below the mount.
    pub(crate) fn path(&self) -> PathBuf {
        self.directory.join(&self.name)
    }

    /// Whether it can be one of `database`, as far as its place tells.
    fn may_be_of(&self, database: &str) -> bool {
        let directory = self.directory.iter().nth(1).map(std::ffi::OsStr::to_string_lossy);
        // What holds a `%` may be encoded, and what is under `.incomplete` can be anything's.
        directory.is_none_or(|name| name == database || name.contains('%') || name == INCOMPLETE)
    }

    /// Reads its manifest and judges it.
    pub(crate) fn examine(self, root: &Path) -> Entry {
        let state = self.judge(root);
        let told = crate::vault::retain_until(&root.join(self.path()));
        let retain_until = told.or(match &state {
            State::Good(manifest) | State::Suspect(manifest) => manifest.retain_until,
            State::NotGood(_) => None,
        });
        Entry { found: self, state, retain_until }
    }

    fn judge(&self, root: &Path) -> State {
        let not = |why: &str| State::NotGood(why.to_owned());
        if self.directory.ends_with(INCOMPLETE) {
            return not("it was given up before it was sealed, or is being written");
        }
        let Some(bytes) = self.bytes else { return not("its dump is gone") };
        let mut path = root.join(self.path()).into_os_string();
        path.push(MANIFEST_SUFFIX);
        let read = match read_small(Path::new(&path)) {
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return not("it has no manifest: its run did not come to its end, or has not yet");
            }
            Err(error) => return State::NotGood(format!("its manifest cannot be read: {error}")),
        };
        match Manifest::decode(&read) {
            Err(error) => State::NotGood(format!("its {error}")),
            Ok(manifest) if manifest.name != self.name || manifest.stored.bytes != bytes => {
                State::NotGood(format!(
                    "its manifest describes {} of {} bytes, it has {bytes}",
                    manifest.name, manifest.stored.bytes
                ))
            }
            Ok(manifest) if manifest.suspect.is_empty() => State::Good(Box::new(manifest)),
            Ok(manifest) => State::Suspect(Box::new(manifest)),
        }
    }
}

/// All that is there of `class`, or of every class: the newest first, by name.
///
/// # Errors
/// [`VaultError`], when the mount or a class cannot be read.
pub(crate) fn find(root: &Path, class: Option<&str>) -> Result<Vec<Found>, VaultError> {
    let classes = match class {
        None => crate::vault::classes(root)?,
        Some(class) => vec![class.to_owned()],
    };
    let mut found = Vec::new();
    for class in classes {
        let directory = PathBuf::from(&class);
        let Some(inner) = list(root, &directory, &mut found)? else {
            let known = crate::vault::classes(root)?.join(", ");
            return Err(VaultError::UnknownClass { class, root: root.to_owned(), known });
        };
        for inner in inner {
            // May have gone meanwhile: an expired database's directory.
            let _deeper = list(root, &directory.join(inner), &mut found)?;
        }
    }
    found.sort_by(|one, other| other.cmp(one));
    Ok(found)
}

/// All that is there of one database, or of all, examined.
///
/// # Errors
/// As [`find`].
pub(crate) fn read(
    root: &Path,
    class: Option<&str>,
    database: Option<&str>,
) -> Result<Vec<Entry>, VaultError> {
    let found = find(root, class)?.into_iter();
    let found = found.filter(|found| database.is_none_or(|database| found.may_be_of(database)));
    let entries = found.map(|found| found.examine(root));
    let fits = |entry: &Entry| match (database, entry.manifest()) {
        (Some(database), Some(manifest)) => manifest.database == database,
        (None, _) | (_, None) => true,
    };
    Ok(entries.filter(fits).collect())
}

/// The backups of one database, suspect ones among them, each read when it is asked for.
///
/// # Errors
/// As [`find`].
pub(crate) fn manifests<'all>(
    root: &'all Path,
    database: &'all str,
) -> Result<impl Iterator<Item = Manifest> + 'all, VaultError> {
    let found = find(root, None)?.into_iter().filter(|found| found.may_be_of(database));
    let manifests = found.filter_map(|found| match found.examine(root).state {
        State::Good(manifest) | State::Suspect(manifest) => Some(*manifest),
        State::NotGood(_) => None,
    });
    Ok(manifests.filter(move |manifest| manifest.database == database))
}

/// Adds the dumps in one directory, and names the directories in it. `None`: there is no such.
fn list(
    root: &Path,
    directory: &Path,
    found: &mut Vec<Found>,
) -> Result<Option<Vec<String>>, VaultError> {
    let path = root.join(directory);
    let failed = |source| VaultError::io("list", path.clone(), source);
    let entries = match std::fs::read_dir(&path) {
        Ok(entries) => entries,
        Err(error)
            if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) =>
        {
            return Ok(None);
        }
        Err(source) => return Err(failed(source)),
    };
    let (mut dumps, mut described, mut inner) = (Vec::new(), Vec::new(), Vec::new());
    for entry in entries {
        let entry = entry.map_err(failed)?;
        let Ok(name) = entry.file_name().into_string() else { continue };
        let meta = match entry.metadata() {
            Ok(meta) => meta,
            // Expired since the directory was read.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(source) => return Err(failed(source)),
        };
        if meta.is_dir() && (!name.starts_with('.') || name == INCOMPLETE) {
            inner.push(name);
        } else if let Some(dump) = name.strip_suffix(MANIFEST_SUFFIX) {
            described.push(dump.to_owned());
        } else if meta.is_file() && is_dump(&name) {
            dumps.push((name, meta.len()));
        }
    }
    described.retain(|name| is_dump(name) && !dumps.iter().any(|(dump, _)| dump == name));
    let place = |name, bytes| Found { name, directory: directory.to_owned(), bytes };
    found.extend(dumps.into_iter().map(|(name, bytes)| place(name, Some(bytes))));
    found.extend(described.into_iter().map(|name| place(name, None)));
    Ok(Some(inner))
}

/// Whether a name is that of a dump, or of one that was given up: the mount numbers those.
fn is_dump(name: &str) -> bool {
    let numbered = name.rsplit_once('.').filter(|(_, end)| end.parse::<u64>().is_ok());
    BackupName::parse(numbered.map_or(name, |(name, _)| name)).is_some()
}

fn read_small(path: &Path) -> io::Result<Vec<u8>> {
    // Non-blocking, because to open a pipe that somebody put there would wait for ever.
    let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits().cast_signed();
    let file = File::options().read(true).custom_flags(flags).open(path)?;
    let mut bytes = Vec::new();
    let read = file.take(MANIFEST_BYTES_MAX + 1).read_to_end(&mut bytes)?;
    if read as u64 > MANIFEST_BYTES_MAX {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, "longer than it can be"));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn dumps_are_told_from_what_stands_beside_them() {
        let stamp = "2026-01-18_00-00-00";
        for ending in [".sql.gz", ".sql", ".sql.zst.age", ".dump", ".dump.age", ".tar"] {
            assert!(is_dump(&format!("{stamp}{ending}")), "{ending}");
        }
        assert!(is_dump("2026-01-18_00-00-00.sql.gz.17"), "given up");
        for name in [
            "2026-01-18_00-00-00.sql.gz.sha256",
            "2026-01-18_00-00-00.sql.gz.manifest.json",
            "2026-01-18_00-00-00.sql.gz.globals.sql",
            "2026-01-18_00-00-00.sql.gz.cluster.json",
            "2026-13-18_00-00-00.sql.gz",
            "2026-01-18_00-00-00",
            "canary-1",
            "app",
        ] {
            assert!(!is_dump(name), "{name}");
        }
    }

    #[test]
    fn what_is_not_whole_is_named_and_the_newest_comes_first() {
        let root = tempfile::tempdir().unwrap();
        let put = |path: &str, text: &str| {
            let path = root.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            File::create_new(path).unwrap().write_all(text.as_bytes()).unwrap();
        };
        put("hourly/2026-01-18_00-00-00.sql.gz", "x");
        put("hourly/2026-01-18_01-00-00.sql.gz.manifest.json", "{}");
        put("daily/app/2026-01-18_02-00-00.sql.gz", "x");
        put("daily/app/2026-01-18_02-00-00.sql.gz.manifest.json", "{}");
        put("daily/other/2026-01-18_03-00-00.sql.gz", "x");
        put("daily/.incomplete/2026-01-18_04-00-00.sql.gz.3", "x");
        let entries = read(root.path(), None, Some("app")).unwrap();
        let told: Vec<(String, &str)> = entries
            .iter()
            .map(|entry| {
                let State::NotGood(why) = &entry.state else { panic!("{entry:?}") };
                (entry.found.path().to_str().unwrap().to_owned(), why.as_str())
            })
            .collect();
        let said = |at: usize| (told[at].0.as_str(), told[at].1.split(':').next().unwrap());
        assert_eq!(said(0).0, "daily/.incomplete/2026-01-18_04-00-00.sql.gz.3");
        assert_eq!(
            said(1),
            ("daily/app/2026-01-18_02-00-00.sql.gz", "its manifest cannot be read")
        );
        assert_eq!(said(2), ("hourly/2026-01-18_01-00-00.sql.gz", "its dump is gone"));
        assert_eq!(said(3), ("hourly/2026-01-18_00-00-00.sql.gz", "it has no manifest"));
        assert_eq!(told.len(), 4);
        assert!(matches!(
            find(root.path(), Some("weekly")),
            Err(VaultError::UnknownClass { known, .. }) if known == "daily, hourly"
        ));
    }
}
