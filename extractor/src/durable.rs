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
use rustix::fs::Mode;
use rustix::fs::OFlags;
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
/// In the staging directory, which two mirrors may have been told to share.
const STAGING_LOCK_NAME: &str = ".worm-staging.lock";

/// Makes the names in a directory survive a power cut.
pub(crate) fn sync_dir(path: &Path) -> Result<()> {
    File::open(path)
        .map_err(Error::io(format!("open directory {}", path.display())))
        .and_then(|dir| sync(&dir, path))
}

fn sync(dir: &File, path: &Path) -> Result<()> {
    dir.sync_all().map_err(Error::io(format!("sync directory {}", path.display())))
}

/// Makes `root/below`, syncs every directory from there up to `root`, and gives the innermost.
///
/// Existing ones are synced too: a run that died may have made them and not got that far. A link
/// in place of one is refused: nobody knows where it leads.
pub(crate) fn make_dirs(root: &Path, below: &Path) -> Result<File> {
    let dir = File::open(root).map_err(Error::io(format!("open {}", root.display())))?;
    make_dirs_in(dir, root, below.iter())
}

fn make_dirs_in(dir: File, path: &Path, mut names: std::path::Iter<'_>) -> Result<File> {
    let Some(name) = names.next() else {
        sync(&dir, path)?;
        return Ok(dir);
    };
    let below = path.join(name);
    match rustix::fs::mkdirat(&dir, name, Mode::from_raw_mode(DIRECTORY_MODE)) {
        Ok(()) | Err(Errno::EXIST) => {}
        Err(errno) => return Err(Error::io(format!("make directory {}", below.display()))(errno)),
    }
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let next = rustix::fs::openat(&dir, name, flags, Mode::empty()).map_err(|errno| {
        let below = below.display();
        if matches!(errno, Errno::NOTDIR | Errno::LOOP) {
            return Error::Refused(format!("{below} is a link or a file: put a directory there"));
        }
        Error::io(format!("open {below}"))(errno)
    })?;
    let innermost = make_dirs_in(File::from(next), &below, names)?;
    sync(&dir, path)?;
    Ok(innermost)
}

/// Whether [`publish`] gave the name.
#[derive(Debug, Eq, PartialEq)]
pub(crate) enum Published {
    /// It is ours.
    Yes,
    /// Something else has it; the staging file is still there.
    Taken,
}

/// Moves a synced staging file to its final name in `dir`, never replacing, and syncs the directory.
/// `file` is what was written and synced; `target` is the same name as a path, for messages.
pub(crate) fn publish(staging: &Path, file: &File, dir: &File, target: &Path) -> Result<Published> {
    let doing = || format!("publish {}", target.display());
    let name = target.file_name().unwrap_or_default();
    // Somebody else's half file under this name would get the name of a whole one.
    let found =
        rustix::fs::statat(CWD, staging, AtFlags::SYMLINK_NOFOLLOW).map_err(Error::io(doing()))?;
    let ours = rustix::fs::fstat(file).map_err(Error::io(doing()))?;
    if (found.st_dev, found.st_ino) != (ours.st_dev, ours.st_ino) {
        return Err(Error::Failed(format!(
            "{} is not the file that was written: leave the staging directory to one run alone",
            staging.display()
        )));
    }
    let moved = match rustix::fs::renameat_with(CWD, staging, dir, name, RenameFlags::NOREPLACE) {
        // A file system without the flag. A link does not replace either.
        Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => {
            rustix::fs::linkat(CWD, staging, dir, name, AtFlags::empty())
                .and_then(|()| rustix::fs::unlink(staging))
        }
        moved => moved,
    };
    match moved {
        Ok(()) => {}
        Err(Errno::EXIST) => return Ok(Published::Taken),
        Err(errno) => return Err(Error::io(doing())(errno)),
    }
    sync(dir, target.parent().unwrap_or(target))?;
    Ok(Published::Yes)
}

/// Held while a run works on a mirror; dropped, or with the process, it is free again.
#[derive(Debug)]
pub(crate) struct MirrorLock(#[expect(dead_code, reason = "closing it is what unlocks")] File);

impl MirrorLock {
    /// Takes the lock of `mirror`, or says that another run has it.
    pub(crate) fn take(mirror: &Path) -> Result<Self> {
        lock(mirror, LOCK_NAME, "copying to").map(Self)
    }
}

/// Takes the lock `name` in the directory `dir`.
fn lock(dir: &Path, name: &str, what: &str) -> Result<File> {
    let path = dir.join(name);
    // Neither through a link to a file elsewhere, nor waiting for ever for a pipe.
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let file = OpenOptions::new()
        .create(true)
        .append(true)
        .mode(0o640)
        .custom_flags(flags.bits().cast_signed())
        .open(&path)
        .map_err(Error::io(format!("open the lock {}", path.display())))?;
    match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(file),
        Err(Errno::WOULDBLOCK) => Err(Error::Busy(format!(
            "another worm-extractor is {what} {}: wait until it has ended",
            dir.display()
        ))),
        Err(errno) => Err(Error::io(format!("lock {}", path.display()))(errno)),
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
pub(crate) struct Staging {
    path: PathBuf,
    #[expect(dead_code, reason = "closing it is what unlocks")]
    lock: File,
}

impl Staging {
    /// Finds or makes the directory, locks it, and removes what a run that died left in it. Another
    /// mirror may have been given the same one, so its lock is needed besides the [`MirrorLock`].
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
                Ok(()) => {
                    check_device(mirror, &path)?;
                    let lock = lock_staging(&path)?;
                    return Ok(Self { path, lock });
                }
                Err(source) => {
                    refusal = Some(Error::io(format!("make {}", path.display()))(source));
                }
            }
        }
        Err(refusal.unwrap_or_else(|| Error::Failed("no staging directory".to_owned())))
    }

    /// Makes a new file to copy into.
    pub(crate) fn create(&self, class: &str, name: &str) -> Result<(PathBuf, File)> {
        let path = self.path.join(format!("{class}.{name}{STAGING_SUFFIX}"));
        let file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&path)
            .map_err(Error::io(format!("create the staging file {}", path.display())))?;
        Ok((path, file))
    }
}

fn lock_staging(path: &Path) -> Result<File> {
    lock(path, STAGING_LOCK_NAME, "using the staging directory")
}

/// A rename does not lead from one file system to another.
fn check_device(mirror: &Path, path: &Path) -> Result<()> {
    let device = |path: &Path| path.metadata().map(|meta| meta.dev());
    let same = device(mirror).and_then(|dev| Ok(dev == device(path)?));
    if same.map_err(Error::io(format!("look at {}", path.display())))? {
        return Ok(());
    }
    Err(Error::Usage(format!(
        "the staging directory {} is on another file system than {}: choose one on the same",
        path.display(),
        mirror.display()
    )))
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
    let mut lock = None;
    for entry in entries {
        let entry = entry.map_err(Error::io(doing()))?;
        if entry.file_name().to_string_lossy().ends_with(STAGING_SUFFIX) {
            if lock.is_none() {
                lock = Some(lock_staging(staging)?);
            }
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
        let (file, parent) = (File::open(&staging).unwrap(), File::open(dir.path()).unwrap());
        let publish = || publish(&staging, &file, &parent, &target);
        assert_eq!(publish().unwrap(), Published::Taken);
        assert_eq!(std::fs::read_to_string(&target).unwrap(), "old");
        std::fs::remove_file(&target).unwrap();
        assert_eq!(publish().unwrap(), Published::Yes);
        assert_eq!(std::fs::read_to_string(&target).unwrap(), "new");
        assert!(!staging.exists());
    }

    #[test]
    fn staging_is_beside_the_mirror_and_swept_of_our_files_only() {
        let dir = tempfile::tempdir().unwrap();
        let mirror = dir.path().join("mirror");
        std::fs::create_dir(&mirror).unwrap();
        let staging = Staging::open(&mirror, None).unwrap();
        assert_eq!(staging.path.parent(), dir.path().canonicalize().ok().as_deref());
        let (left, _) = staging.create("daily", "a").unwrap();
        let foreign = staging.path.join("notes.txt");
        put(&foreign, "keep me");
        drop(staging);
        let staging = Staging::open(&mirror, None).unwrap();
        assert!(!left.exists() && foreign.exists());
        let _again = staging.create("daily", "a").unwrap();
    }

    #[test]
    fn another_file_under_the_name_in_staging_is_not_published() {
        let dir = tempfile::tempdir().unwrap();
        let (staging, target) = (dir.path().join("s"), dir.path().join("t"));
        put(&staging, "whole");
        let file = File::open(&staging).unwrap();
        std::fs::remove_file(&staging).unwrap();
        put(&staging, "half");
        let parent = File::open(dir.path()).unwrap();
        let error = publish(&staging, &file, &parent, &target).unwrap_err();
        assert!(error.to_string().contains("is not the file that was written"), "{error}");
        assert!(!target.exists());
    }

    #[test]
    fn two_mirrors_may_not_share_a_staging_directory_at_one_time() {
        let dir = tempfile::tempdir().unwrap();
        let shared = dir.path().join("staging");
        let held = Staging::open(dir.path(), Some(&shared)).unwrap();
        let (part, _) = held.create("daily", "a").unwrap();
        let refused = Staging::open(dir.path(), Some(&shared)).unwrap_err();
        assert_eq!(refused.exit(), crate::exit::Exit::Busy);
        assert!(part.exists());
        drop(held);
        let _free = Staging::open(dir.path(), Some(&shared)).unwrap();
        assert!(!part.exists());
    }

    #[test]
    fn nothing_is_made_or_locked_through_a_link() {
        let dir = tempfile::tempdir().unwrap();
        let (root, elsewhere) = (dir.path().join("root"), dir.path().join("elsewhere"));
        std::fs::create_dir(&root).unwrap();
        std::fs::create_dir(&elsewhere).unwrap();
        std::os::unix::fs::symlink(&elsewhere, root.join("daily")).unwrap();
        let error = make_dirs(&root, Path::new("daily/2026-01-18")).unwrap_err();
        assert!(error.to_string().contains("daily is a link"), "{error}");
        std::os::unix::fs::symlink(elsewhere.join("lock"), root.join(LOCK_NAME)).unwrap();
        assert!(MirrorLock::take(&root).is_err());
        assert_eq!(std::fs::read_dir(&elsewhere).unwrap().count(), 0);
        std::fs::remove_file(root.join(LOCK_NAME)).unwrap();
        rustix::fs::mknodat(CWD, root.join(LOCK_NAME), rustix::fs::FileType::Fifo, Mode::RUSR, 0)
            .unwrap();
        assert!(MirrorLock::take(&root).is_err());
        let _made = make_dirs(&root, Path::new("hourly/2026-01-18")).unwrap();
        assert!(root.join("hourly/2026-01-18").is_dir());
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
