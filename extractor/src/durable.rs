//! Names that survive a power cut: directories, the staging area, publishing without replacing,
//! and the lock that keeps a second run out.

use std::fs::DirBuilder;
use std::fs::File;
use std::fs::OpenOptions;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::fs::MetadataExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::path::PathBuf;

use rustix::fs::AtFlags;
use rustix::fs::CWD;
use rustix::fs::FlockOperation;
use rustix::fs::RenameFlags;
use rustix::fs::StatxFlags;
use rustix::io::Errno;

use crate::error::Error;
use crate::error::Result;

/// Directories of the mirror: for owner and group, as the view shows them.
const DIRECTORY_MODE: u32 = 0o750;
/// The staging area is nobody else's business.
const STAGING_MODE: u32 = 0o700;
/// How a staging file is called; only such files are ever swept away.
const STAGING_SUFFIX: &str = ".worm-part";
/// At the top of the mirror, beside the classes, and always there: so that all see the same lock.
const LOCK_NAME: &str = ".worm-extractor.lock";

/// Makes the names in a directory survive a power cut.
pub(crate) fn sync_dir(path: &Path) -> Result<()> {
    File::open(path)
        .and_then(|dir| dir.sync_all())
        .map_err(Error::io(format!("sync directory {}", path.display())))
}

/// Makes `root/below`, and syncs every directory from there up to `root`.
///
/// Existing ones are synced too: a run that died may have made them and not got that far.
pub(crate) fn make_dirs(root: &Path, below: &Path) -> Result<()> {
    let path = root.join(below);
    DirBuilder::new()
        .recursive(true)
        .mode(DIRECTORY_MODE)
        .create(&path)
        .map_err(Error::io(format!("make directory {}", path.display())))?;
    path.ancestors().take_while(|dir| dir.starts_with(root)).try_for_each(sync_dir)
}

/// Whether [`publish`] gave the name.
#[derive(Debug, Eq, PartialEq)]
pub(crate) enum Published {
    /// It is ours.
    Yes,
    /// Something else has it; the staging file is still there.
    Taken,
}

/// Moves a synced staging file to its final name, never replacing, and syncs the directory.
pub(crate) fn publish(staging: &Path, target: &Path) -> Result<Published> {
    let moved = match rustix::fs::renameat_with(CWD, staging, CWD, target, RenameFlags::NOREPLACE) {
        // A file system without the flag. A link does not replace either.
        Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => {
            rustix::fs::linkat(CWD, staging, CWD, target, AtFlags::empty())
                .and_then(|()| rustix::fs::unlink(staging))
        }
        moved => moved,
    };
    match moved {
        Ok(()) => {}
        Err(Errno::EXIST) => return Ok(Published::Taken),
        Err(errno) => {
            return Err(Error::io(format!("publish {}", target.display()))(errno));
        }
    }
    target.parent().map_or(Ok(()), sync_dir)?;
    Ok(Published::Yes)
}

/// Held while a run works on a mirror; dropped, or with the process, it is free again.
#[derive(Debug)]
pub(crate) struct MirrorLock(#[expect(dead_code, reason = "closing it is what unlocks")] File);

impl MirrorLock {
    /// Takes the lock of `mirror`, or says that another run has it.
    pub(crate) fn take(mirror: &Path) -> Result<Self> {
        let path = mirror.join(LOCK_NAME);
        let file = OpenOptions::new()
            .create(true)
            .append(true)
            .mode(0o640)
            .open(&path)
            .map_err(Error::io(format!("open the lock {}", path.display())))?;
        match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Self(file)),
            Err(Errno::WOULDBLOCK) => Err(Error::Busy(format!(
                "another worm-extractor is copying to {}: wait until it has ended",
                mirror.display()
            ))),
            Err(errno) => Err(Error::io(format!("lock {}", path.display()))(errno)),
        }
    }
}

/// The directory in which copies grow until they are whole. On the file system of the mirror.
///
/// By default it is a sibling of the mirror, `.NAME.worm-staging`, so that whoever watches or
/// copies the mirror never meets half a file. Where the mirror is itself a mount (a NAS, a volume
/// of a container), no sibling is on the same file system, and where the directory above belongs
/// to somebody else, none can be made: then it is the hidden directory `.worm-staging` at the top
/// of the mirror, which no class can be called.
#[derive(Debug)]
pub(crate) struct Staging(PathBuf);

impl Staging {
    /// Finds or makes the directory and removes what a run that died left in it. The caller holds
    /// the [`MirrorLock`], so nobody else's files can be among them.
    pub(crate) fn open(mirror: &Path, explicit: Option<&Path>) -> Result<Self> {
        let hidden = mirror.join(".worm-staging");
        let candidates: Vec<PathBuf> = match explicit {
            Some(path) => vec![path.to_owned()],
            None => sibling(mirror).into_iter().chain([hidden]).collect(),
        };
        // All of them: the choice may have been another one at the time of the crash.
        candidates.iter().try_for_each(|path| sweep(path))?;
        let mut refusal = None;
        for path in candidates {
            match DirBuilder::new().recursive(true).mode(STAGING_MODE).create(&path) {
                Ok(()) => return Self::checked(mirror, path),
                Err(source) => {
                    refusal = Some(Error::io(format!("make {}", path.display()))(source));
                }
            }
        }
        Err(refusal.unwrap_or_else(|| Error::Failed("no staging directory".to_owned())))
    }

    fn checked(mirror: &Path, path: PathBuf) -> Result<Self> {
        let device = |path: &Path| path.metadata().map(|meta| meta.dev());
        let same = device(mirror).and_then(|dev| Ok(dev == device(&path)?));
        if same.map_err(Error::io(format!("look at {}", path.display())))? {
            return Ok(Self(path));
        }
        Err(Error::Usage(format!(
            "the staging directory {} is on another file system than {}: choose one on the same",
            path.display(),
            mirror.display()
        )))
    }

    /// Makes a new file to copy into.
    pub(crate) fn create(&self, class: &str, name: &str) -> Result<(PathBuf, File)> {
        let path = self.0.join(format!("{class}.{name}{STAGING_SUFFIX}"));
        let file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&path)
            .map_err(Error::io(format!("create the staging file {}", path.display())))?;
        Ok((path, file))
    }
}

/// The sibling of the mirror for staging, if a rename from there can work: same mount.
fn sibling(mirror: &Path) -> Option<PathBuf> {
    let mirror = mirror.canonicalize().ok()?;
    let parent = mirror.parent()?;
    let mount = |path: &Path| {
        let seen = rustix::fs::statx(CWD, path, AtFlags::empty(), StatxFlags::MNT_ID).ok()?;
        Some((seen.stx_dev_major, seen.stx_dev_minor, seen.stx_mnt_id))
    };
    let name = mirror.file_name()?.to_str()?;
    (mount(&mirror)? == mount(parent)?).then(|| parent.join(format!(".{name}.worm-staging")))
}

/// Removes leftover staging files, and nothing else.
fn sweep(staging: &Path) -> Result<()> {
    let doing = || format!("clear the staging directory {}", staging.display());
    let entries = match std::fs::read_dir(staging) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        // Somebody else's directory, then: it is not the one that will be used.
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => return Ok(()),
        Err(error) => return Err(Error::io(doing())(error)),
    };
    for entry in entries {
        let entry = entry.map_err(Error::io(doing()))?;
        if entry.file_name().to_string_lossy().ends_with(STAGING_SUFFIX) {
            std::fs::remove_file(entry.path()).map_err(Error::io(doing()))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(path: &Path, bytes: &str) {
        std::io::Write::write_all(&mut File::create_new(path).unwrap(), bytes.as_bytes()).unwrap();
    }

    #[test]
    fn publishing_never_replaces() {
        let dir = tempfile::tempdir().unwrap();
        let (staging, target) = (dir.path().join("s"), dir.path().join("t"));
        put(&staging, "new");
        put(&target, "old");
        assert_eq!(publish(&staging, &target).unwrap(), Published::Taken);
        assert_eq!(std::fs::read_to_string(&target).unwrap(), "old");
        std::fs::remove_file(&target).unwrap();
        assert_eq!(publish(&staging, &target).unwrap(), Published::Yes);
        assert_eq!(std::fs::read_to_string(&target).unwrap(), "new");
        assert!(!staging.exists());
    }

    #[test]
    fn staging_is_beside_the_mirror_and_swept_of_our_files_only() {
        let dir = tempfile::tempdir().unwrap();
        let mirror = dir.path().join("mirror");
        std::fs::create_dir(&mirror).unwrap();
        let staging = Staging::open(&mirror, None).unwrap();
        assert_eq!(staging.0.parent(), dir.path().canonicalize().ok().as_deref());
        let (left, _) = staging.create("daily", "a").unwrap();
        let foreign = staging.0.join("notes.txt");
        put(&foreign, "keep me");
        let staging = Staging::open(&mirror, None).unwrap();
        assert!(!left.exists() && foreign.exists());
        let _again = staging.create("daily", "a").unwrap();
    }

    #[test]
    fn a_mirror_has_one_lock() {
        let dir = tempfile::tempdir().unwrap();
        let held = MirrorLock::take(dir.path()).unwrap();
        let refused = MirrorLock::take(dir.path()).unwrap_err();
        assert_eq!(refused.exit(), crate::exit::Exit::Busy);
        drop(held);
        let _free = MirrorLock::take(dir.path()).unwrap();
    }
}
