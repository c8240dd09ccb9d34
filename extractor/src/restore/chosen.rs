//! I/O: finds the backup to restore, opens it, and proves that it is what was sealed.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::fs::File;
use std::io::Seek;
use std::path::Path;
use std::path::PathBuf;

use jiff::SignedDuration;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use sha2::Digest;
use sha2::Sha256;
use worm_ingest::manifest::DIGEST_SUFFIX;
use worm_ingest::manifest::MANIFEST_SUFFIX;
use worm_ingest::manifest::Manifest;
use worm_ingest::manifest::beside::ENDINGS;
use worm_ingest::manifest::folder;

use crate::cancel::Cancel;
use crate::catalog::Backup;
use crate::catalog::Catalog;
use crate::config::Latest;
use crate::config::Selector;
use crate::copy;
use crate::error::Error;
use crate::error::Result;
use crate::listing;
use crate::mirror;
use crate::plan::Expected;
use crate::progress::Progress;
use crate::proof;
use crate::proof::Claim;
use crate::restore::logged::Logged;
use crate::source::DIGEST_BYTES_MAX;
use crate::source::MANIFEST_BYTES_MAX;

/// Clocks of two machines differ, but not by more.
const CLOCK_SLACK: SignedDuration = SignedDuration::from_hours(24);

/// A backup that is to be restored.
pub(crate) struct Chosen {
    /// The dump.
    pub(crate) path: PathBuf,
    /// The dump, open: the same descriptor for the proof and for the restore.
    pub(crate) file: File,
    /// What it is.
    pub(crate) manifest: Manifest,
    /// The digest of the manifest itself.
    manifest_sha256: String,
}

impl Chosen {
    /// Finds and opens it. It is not read yet.
    pub(crate) fn find(selector: &Selector) -> Result<Self> {
        let path = match selector {
            Selector::Latest(wanted) => latest(wanted)?,
            Selector::Path(path) => dump_of(path),
        };
        let shown = path.display();
        let file = listing::open_file(&path).map_err(|error| {
            if error.kind() == std::io::ErrorKind::NotFound {
                return Error::NotFound(format!("there is no backup {shown}"));
            }
            Error::io(format!("open {shown}"))(error)
        })?;
        let Some(bytes) = sidecar(&path, MANIFEST_SUFFIX, MANIFEST_BYTES_MAX)? else {
            return Err(Error::NotFound(format!(
                "{shown} has no manifest beside it, so it is not a complete backup"
            )));
        };
        let manifest = Manifest::decode(&bytes)
            .map_err(|error| Error::Mismatch(format!("{shown}: its {error}")))?;
        if let Some(why) = suspicion(&manifest) {
            tracing::warn!("{shown} is suspect: {why}. See that it is what you want");
        }
        if !manifest.filters.is_empty() {
            let Manifest { database, filters, .. } = &manifest;
            tracing::warn!("{shown} is only a part of database {database}: {filters}");
        }
        let manifest_sha256 = hex::encode(Sha256::digest(&bytes));
        Ok(Self { path, file, manifest, manifest_sha256 })
    }

    /// Reads the dump and compares it with its manifest, with its `.sha256`, with the mount and
    /// with the audit log, as far as they are there. Leaves the file at its beginning.
    pub(crate) fn verify(&mut self, logged: Logged, cancel: &Cancel) -> Result<()> {
        let name = self.path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let bytes = self.file.metadata().map_err(Error::io("look at the dump"))?.len();
        let context = |error: proof::Doubt| Error::Mismatch(format!("{name}: {error}"));
        let mut claims =
            vec![proof::claim_of_manifest(&self.manifest, &name, bytes).map_err(context)?];
        if let Some(digest) = sidecar(&self.path, DIGEST_SUFFIX, DIGEST_BYTES_MAX)? {
            claims.push(proof::parse_digest_file(&digest, &name).map_err(context)?);
        } else {
            tracing::warn!("{name} has no .sha256 file: only its manifest vouches for it");
        }
        let mount = listing::sealed_digest(&self.file, &self.path)?;
        if mount.is_none() && logged.dump.is_none() {
            tracing::warn!("no line of the audit log and no mount vouches for {name}");
        }
        claims.extend(mount.map(|sha256| Claim { by: "the mount", sha256 }));
        claims.extend(logged.dump.map(|sha256| Claim { by: "the audit log", sha256 }));
        let sha256 = proof::agreed(&claims).map_err(context)?.to_owned();
        if let Some(said) = logged.manifest.filter(|said| *said != self.manifest_sha256) {
            let found = &self.manifest_sha256;
            return Err(Error::Mismatch(format!(
                "{name}: its manifest has SHA-256 {found}, but the audit log says {said}"
            )));
        }
        let progress = Progress::of_bytes(bytes);
        progress.on("checking");
        let found = copy::digest(&self.file, cancel, |n| progress.add(n));
        progress.end();
        mirror::check(&self.path, &found?, &Expected { bytes, sha256 })?;
        self.file.rewind().map_err(Error::io("rewind the dump"))
    }
}

/// The newest good backup of one database. Without its name there must be only one.
fn latest(wanted: &Latest) -> Result<PathBuf> {
    let from = &wanted.from;
    let mut catalog = Catalog::of(&listing::list_mirror(from)?).of_class(wanted.class.as_deref());
    match &wanted.database {
        Some(database) => {
            catalog.complete.retain(|backup| database_of_backup(from, backup) == *database);
        }
        None => only_database(from, &catalog)?,
    }
    let path = |backup: &Backup| from.join(backup.folder.path()).join(backup.name.as_str());
    let mut suspects = BTreeMap::new();
    let mut good = |backup: &Backup| {
        let why = suspicion_of(from, backup).filter(|_| !wanted.include_suspect);
        why.map(|why| suspects.insert(path(backup), why)).is_none()
    };
    let now = Timestamp::now().to_zoned(TimeZone::UTC).datetime();
    let limit = now.saturating_add(CLOCK_SLACK);
    // All of a database comes before any part of it, however new that is.
    let mut parts = BTreeSet::new();
    let mut found = catalog.latest(limit, |backup| {
        let part = manifest_of(from, backup).is_some_and(|it| !it.filters.is_empty());
        if part {
            let _new = parts.insert(path(backup));
        }
        !part && good(backup)
    });
    match (found.newest, parts.last()) {
        (None, Some(_)) => found = catalog.latest(limit, good),
        (Some(_), Some(newest)) => tracing::warn!(
            "passing over {} newer backups of a part of the database: the newest is {}",
            parts.len(),
            newest.display()
        ),
        (_, None) => {}
    }
    let Some(backup) = found.newest else { return Err(none(wanted, &suspects)) };
    for (path, why) in suspects.iter().rev() {
        let path = path.display();
        tracing::warn!("passing over {path}, which is suspect: {why}");
    }
    if found.newest == found.plausible {
        return Ok(path(backup));
    }
    let other = found.plausible.map_or("there is no other".to_owned(), |backup| {
        format!("the newest that is not is {}", path(backup).display())
    });
    Err(Error::Refused(format!(
        "the latest backup by name, {}, is from the future: some clock was wrong. Name the backup by \
         its path; {other}",
        path(backup).display()
    )))
}

/// Says that there is nothing to restore, and what else there is.
fn none(wanted: &Latest, suspects: &BTreeMap<PathBuf, String>) -> Error {
    let Latest { from, class, database, .. } = wanted;
    let class = class.as_ref().map(|class| format!(" of class {class}")).unwrap_or_default();
    let of = database.as_ref().map(|name| format!(" of database {name}")).unwrap_or_default();
    let from = from.display();
    Error::NotFound(match suspects.len() {
        0 => format!("there is no complete backup{of}{class} in {from}"),
        1 => format!(
            "the only complete backup{of}{class} in {from} is suspect: {}. To restore it all the \
             same: --include-suspect",
            suspects.values().cloned().collect::<String>()
        ),
        many => format!(
            "all {many} complete backups{of}{class} in {from} are suspect. To restore the latest \
             all the same: --include-suspect; any other: name it by its path"
        ),
    })
}

/// Why a backup counts for nothing, if it does.
fn suspicion(manifest: &Manifest) -> Option<String> {
    let why: Vec<&str> = manifest.suspect.iter().map(|why| why.message.as_str()).collect();
    (!why.is_empty()).then(|| why.join("; "))
}

/// The same of one that was only listed. What cannot be read here is not passed over in silence:
/// it is chosen, and then refused with the reason.
fn suspicion_of(from: &Path, backup: &Backup) -> Option<String> {
    manifest_of(from, backup).as_ref().and_then(suspicion)
}

fn manifest_of(from: &Path, backup: &Backup) -> Option<Manifest> {
    let dump = from.join(backup.folder.path()).join(backup.name.as_str());
    let manifest = sidecar(&dump, MANIFEST_SUFFIX, MANIFEST_BYTES_MAX).ok().flatten();
    manifest.and_then(|bytes| Manifest::decode(&bytes).ok())
}

/// Refuses to guess which of several databases is meant.
fn only_database(from: &Path, catalog: &Catalog) -> Result<()> {
    let newest = catalog.newest_of_each();
    if newest.iter().all(|backup| backup.folder.database.is_none()) {
        return Ok(());
    }
    let databases: BTreeSet<String> =
        newest.into_iter().map(|backup| database_of_backup(from, backup)).collect();
    if databases.len() < 2 {
        return Ok(());
    }
    let databases: Vec<String> = databases.into_iter().collect();
    Err(Error::Usage(format!(
        "there are backups of {} databases: name one by --database ({})",
        databases.len(),
        databases.join(", ")
    )))
}

/// The database of a backup: the name of its directory, or, where it has none, what its manifest
/// says. Empty if neither tells.
fn database_of_backup(from: &Path, backup: &Backup) -> String {
    if let Some(directory) = &backup.folder.database {
        return folder::database_of(directory).unwrap_or_else(|| directory.clone());
    }
    manifest_of(from, backup).map(|manifest| manifest.database).unwrap_or_default()
}

/// The dump that a path means: itself, or the one that it is a sidecar of.
fn dump_of(path: &Path) -> PathBuf {
    let Some(name) = path.file_name().and_then(|name| name.to_str()) else {
        return path.to_owned();
    };
    let dump = ENDINGS[1..].iter().find_map(|end| name.strip_suffix(end));
    path.with_file_name(dump.unwrap_or(name))
}

fn sidecar(dump: &Path, suffix: &str, bytes_max: u64) -> Result<Option<Vec<u8>>> {
    let mut path = dump.as_os_str().to_owned();
    path.push(suffix);
    let path = PathBuf::from(path);
    match listing::open_file(&path).and_then(|file| listing::read_small(&file, bytes_max)) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Error::io(format!("read {}", path.display()))(error)),
    }
}
