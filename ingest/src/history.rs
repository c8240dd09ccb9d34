//! What is sealed in a class, from the manifests on the mount: the only memory that the agent has.
//!
//! Names begin with the moment of the backup, so the newest are found without opening a file, and
//! manifests are read one by one, newest first, until the caller has enough: a class may hold
//! thousands. What is foreign or damaged is passed over with a warning. A mount that does not
//! answer is an error: nobody may take it for an empty one.

use std::fs::File;
use std::io;
use std::io::Read;
use std::path::Path;
use std::path::PathBuf;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use rustix::fd::OwnedFd;
use rustix::fs::AtFlags;
use rustix::fs::Dir;
use rustix::fs::Mode;
use rustix::fs::OFlags;
use rustix::io::Errno;

use crate::manifest::MANIFEST_SUFFIX;
use crate::manifest::Manifest;
use crate::manifest::filters::Filters;
use crate::name::BackupName;
use crate::vault::Class;
use crate::vault::VaultError;

/// No database has so many tables that its manifest is larger.
const MANIFEST_BYTES_MAX: u64 = 256 * 1024 * 1024;

/// The backups of one database, or of the same part of it, in one class, newest first.
///
/// An item is the manifest of a backup whose file is there, with the length that the manifest names.
/// An error is the last item.
#[derive(Debug)]
pub(crate) struct History {
    directory: OwnedFd,
    path: PathBuf,
    database: String,
    filters: Filters,
    /// Names of manifests with their moments, the newest last.
    names: Vec<(Timestamp, String)>,
}

impl History {
    /// Looks for the backups of `database`, as far as `filters` go, in `class` below `root`; `within`
    /// is the directory of the class in which they are, where each database has its own.
    ///
    /// # Errors
    /// [`VaultError`] when the class cannot be listed, or is not write-once and need be.
    pub(crate) fn open(
        root: &Path,
        class: &str,
        within: Option<&str>,
        (database, filters): (&str, &Filters),
        allow_plain: bool,
    ) -> Result<Self, VaultError> {
        let (database, filters) = (database.to_owned(), filters.clone());
        let class = Class::open(root, class, allow_plain)?;
        let path = class.path().join(within.unwrap_or_default());
        let failed = |errno: Errno| VaultError::io("list", path.clone(), errno.into());
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let opened =
            rustix::fs::openat(class.directory(), within.unwrap_or("."), flags, Mode::empty());
        let directory = match opened {
            // Made by the first backup of that database.
            Err(Errno::NOENT) if within.is_some() => None,
            opened => Some(opened.map_err(failed)?),
        };
        let Some(directory) = directory else {
            let directory = rustix::fs::openat(class.directory(), ".", flags, Mode::empty());
            let directory = directory.map_err(failed)?;
            return Ok(Self { directory, path, database, filters, names: Vec::new() });
        };
        let mut names = Vec::new();
        for entry in Dir::read_from(&directory).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let Ok(name) = entry.file_name().to_str() else { continue };
            if let Some(moment) = moment(name) {
                names.push((moment, name.to_owned()));
            }
        }
        names.sort_unstable();
        Ok(Self { directory, path, database, filters, names })
    }

    /// Reads one; `None` if it counts for nothing.
    fn read(&self, name: &str) -> Result<Option<Manifest>, VaultError> {
        let pass = |why: &dyn std::fmt::Display| {
            let path = self.path.join(name);
            tracing::warn!(path = %path.display(), %why, "passed over: this is no backup");
        };
        let bytes = match self.contents(name) {
            Ok(bytes) => bytes,
            // It expired between two looks.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return self.unless_gone(name, error, pass),
        };
        let manifest = match Manifest::decode(&bytes) {
            Ok(manifest) => manifest,
            Err(error) => {
                pass(&error);
                return Ok(None);
            }
        };
        if name.strip_suffix(MANIFEST_SUFFIX) != Some(manifest.name.as_str()) {
            pass(&"its manifest is that of another");
            return Ok(None);
        }
        if manifest.database != self.database || manifest.filters != self.filters {
            return Ok(None);
        }
        let found = rustix::fs::statat(&self.directory, &*manifest.name, AtFlags::SYMLINK_NOFOLLOW);
        match found {
            Ok(found) if u64::try_from(found.st_size) == Ok(manifest.stored.bytes) => {
                Ok(Some(manifest))
            }
            Ok(_) => {
                pass(&"the file has another length than its manifest says");
                Ok(None)
            }
            Err(Errno::NOENT) => {
                pass(&"the file is missing");
                Ok(None)
            }
            Err(errno) => self.unless_gone(name, errno.into(), pass),
        }
    }

    fn contents(&self, name: &str) -> io::Result<Vec<u8>> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = File::from(rustix::fs::openat(&self.directory, name, flags, Mode::empty())?);
        let mut bytes = Vec::new();
        file.take(MANIFEST_BYTES_MAX).read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    /// One file that cannot be read is passed over; a mount that is gone is not.
    fn unless_gone(
        &self,
        name: &str,
        error: io::Error,
        pass: impl Fn(&dyn std::fmt::Display),
    ) -> Result<Option<Manifest>, VaultError> {
        let error = VaultError::io("read", self.path.join(name), error);
        if matches!(error, VaultError::MountGone { .. }) {
            return Err(error);
        }
        pass(&error);
        Ok(None)
    }
}

impl Iterator for History {
    type Item = Result<Manifest, VaultError>;

    fn next(&mut self) -> Option<Self::Item> {
        while let Some((_, name)) = self.names.pop() {
            match self.read(&name) {
                Ok(Some(manifest)) => return Some(Ok(manifest)),
                Ok(None) => {}
                Err(error) => {
                    self.names.clear();
                    return Some(Err(error));
                }
            }
        }
        None
    }
}

/// When the backup was begun that this manifest is of, by its name.
fn moment(name: &str) -> Option<Timestamp> {
    let backup = BackupName::parse(name.strip_suffix(MANIFEST_SUFFIX)?)?;
    Some(backup.moment().to_zoned(TimeZone::UTC).ok()?.timestamp())
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    const OLD: &str = "2026-01-18_00-00-00.sql.gz";
    const NEW: &str = "2026-01-18_01-00-00.sql.gz";

    /// Of a file of ten bytes.
    fn manifest(name: &str, database: &str) -> Vec<u8> {
        let content = serde_json::json!({ "bytes": 10, "sha256": "" });
        let manifest = serde_json::json!({
            "format": 1, "name": name, "class": "hourly", "database": database,
            "started_at": "2026-01-18T00:00:00Z", "finished_at": "2026-01-18T00:00:00Z",
            "agent": "", "server_version": "", "server_version_num": 0, "dump_version": "",
            "snapshot": "", "database_bytes": 0, "compression": { "codec": "gzip", "level": 2 },
            "raw": content, "stored": content, "tables": [], "extensions": [],
            "retain_until": null, "store": null,
        });
        manifest.to_string().into_bytes()
    }

    fn put(directory: &Path, name: &str, database: &str) {
        std::fs::create_dir_all(directory).unwrap();
        write(&directory.join(name), b"ten bytes.");
        write(&directory.join(format!("{name}{MANIFEST_SUFFIX}")), &manifest(name, database));
    }

    fn write(path: &Path, bytes: &[u8]) {
        let mut file = File::create_new(path).unwrap();
        io::Write::write_all(&mut file, bytes).unwrap();
    }

    fn names(root: &Path, within: Option<&str>) -> Vec<String> {
        let history =
            History::open(root, "hourly", within, ("app", &Filters::default()), true).unwrap();
        history.map(|manifest| manifest.unwrap().name).collect()
    }

    #[test]
    fn the_newest_comes_first_and_what_is_no_backup_not_at_all() {
        let root = tempfile::tempdir().unwrap();
        let class = root.path().join("hourly");
        put(&class, OLD, "app");
        put(&class, NEW, "app");
        assert_eq!(names(root.path(), None), [NEW, OLD]);
        let part = Filters { table: vec!["t".to_owned()], ..Filters::default() };
        let part = History::open(root.path(), "hourly", None, ("app", &part), true).unwrap();
        assert_eq!(part.count(), 0, "these are of all of it");

        put(&class, "2026-01-18_02-00-00.sql.gz", "other");
        let damaged = |name: &str| class.join(format!("{name}{MANIFEST_SUFFIX}"));
        write(&damaged("2026-01-18_03-00-00.sql.gz"), b"{ not json");
        write(&damaged("2026-01-18_04-00-00.sql.gz"), br#"{"format": 4000000000}"#);
        write(&class.join("2026-01-18_05-00-00.sql.gz"), b"without a manifest");
        write(&damaged("README"), b"foreign");
        std::fs::create_dir(damaged("2026-01-18_06-00-00.sql.gz")).unwrap();
        write(&damaged("2026-01-18_07-00-00.sql.gz"), &manifest(OLD, "app"));
        assert_eq!(names(root.path(), None), [NEW, OLD]);
        let part = Filters { table: vec!["t".to_owned()], ..Filters::default() };
        let part = History::open(root.path(), "hourly", None, ("app", &part), true).unwrap();
        assert_eq!(part.count(), 0, "these are of all of it");

        std::fs::remove_file(class.join(NEW)).unwrap();
        assert_eq!(names(root.path(), None), [OLD]);
        write(&class.join(NEW), b"shorter");
        assert_eq!(names(root.path(), None), [OLD]);
    }

    #[test]
    fn each_database_may_have_its_directory() {
        let root = tempfile::tempdir().unwrap();
        put(&root.path().join("hourly/app"), OLD, "app");
        assert_eq!(names(root.path(), Some("app")), [OLD]);
        assert_eq!(names(root.path(), Some("new")), [""; 0]);
        assert_eq!(names(root.path(), None), [""; 0]);
    }

    #[test]
    fn what_is_not_there_or_not_write_once_is_not_taken_for_empty() {
        let root = tempfile::tempdir().unwrap();
        let open = |root: &Path, plain| {
            History::open(root, "hourly", None, ("app", &Filters::default()), plain).map(drop)
        };
        assert!(matches!(open(root.path(), true), Err(VaultError::UnknownClass { .. })));
        std::fs::create_dir(root.path().join("hourly")).unwrap();
        assert!(matches!(open(root.path(), false), Err(VaultError::NotWriteOnce { .. })));
        let absent = open(Path::new("/nonexistent"), true);
        assert!(matches!(absent, Err(VaultError::NotWriteOnce { .. })));
    }
}
