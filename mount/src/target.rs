//! Mount points: what stands there now, and making room for ours.

use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;
use std::time::Instant;

use rustix::io::Errno;
use rustix::mount::UnmountFlags;

use crate::guard;
use crate::mountinfo;
use crate::mountinfo::Mount;
use crate::outcome::Exit;
use crate::outcome::Failure;
use crate::outcome::Outcome;

/// What to do about a mount that the kernel does not permit.
pub(crate) const NO_RIGHT: &str = ": run as root; in a container, give it CAP_SYS_ADMIN and an AppArmor profile that allows mount";

/// Why a mount could not be made or attached.
pub(crate) fn cannot_mount(path: &Path, error: &std::io::Error) -> Failure {
    let hint = match Errno::from_io_error(error) {
        Some(Errno::PERM | Errno::ACCESS) => NO_RIGHT,
        _ => "",
    };
    let message = format!("cannot mount at {}: {error}{hint}", path.display());
    Failure::new(Exit::Preflight, message)
}

/// What stands at a mount point, topmost.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Standing {
    /// Nothing is mounted there.
    Nothing,
    /// Our guard.
    Guard,
    /// One of our file systems, with its store's id.
    Ours {
        /// The store's id.
        store: String,
        /// No daemon serves it any more.
        dead: bool,
        /// It is a view.
        read_only: bool,
    },
    /// Something else.
    Foreign(Mount),
}

/// The absolute path of a mount point. A dead mount cannot be looked at, so only the directory
/// that it is in is resolved.
pub(crate) fn absolute(path: &Path) -> Outcome<PathBuf> {
    let fail = |error: std::io::Error| {
        Failure::new(Exit::NotFound, format_args!("{}: {error}", path.display()))
    };
    let Some(name) = path.file_name() else { return path.canonicalize().map_err(fail) };
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    let parent = parent.unwrap_or(Path::new(".")).canonicalize().map_err(fail)?;
    let whole = parent.join(name);
    // A symbolic link as mount point means what it points to.
    match whole.read_link() {
        Ok(_) => whole.canonicalize().map_err(fail),
        Err(_) => Ok(whole),
    }
}

/// Whether something is there, be it a dead mount.
pub(crate) fn is_there(path: &Path) -> bool {
    rustix::fs::lstat(path).map_or_else(|errno| errno == Errno::NOTCONN, |_| true)
}

/// The mounts that this process sees.
pub(crate) fn mounts() -> Outcome<Vec<Mount>> {
    let text = std::fs::read_to_string("/proc/self/mountinfo")
        .map_err(Failure::doing("read /proc/self/mountinfo"))?;
    Ok(mountinfo::all(&text))
}

/// What stands at a mount point.
pub(crate) fn standing(target: &Path) -> Outcome<Standing> {
    let Some(top) = mountinfo::at(&mounts()?, target).pop() else { return Ok(Standing::Nothing) };
    if guard::is_guard(&top) {
        return Ok(Standing::Guard);
    }
    if top.kind == format!("fuse.{}", worm_fs::fuse::SUBTYPE)
        && let Some(store) = top.source.strip_prefix("worm-")
    {
        let dead = matches!(rustix::fs::statfs(target), Err(Errno::NOTCONN | Errno::CONNABORTED));
        let (store, read_only) = (store.to_owned(), top.read_only);
        return Ok(Standing::Ours { store, dead, read_only });
    }
    Ok(Standing::Foreign(top))
}

/// Whether there is only one mount at a mount point.
pub(crate) fn is_alone(target: &Path) -> Outcome<bool> {
    Ok(mountinfo::at(&mounts()?, target).len() == 1)
}

/// Makes sure that whoever uses this path reaches a store.
///
/// # Errors
/// [`Exit::NotWriteOnce`], with what is there instead; [`Exit::NotFound`] when nothing is.
pub(crate) fn check_served(path: &Path) -> Outcome {
    let mut id = [0; 64];
    let Err(errno) = rustix::fs::getxattr(path, "user.worm.store", &mut id) else { return Ok(()) };
    if !is_there(path) {
        return Err(Failure::new(Exit::NotFound, format_args!("{}: {errno}", path.display())));
    }
    let whole = absolute(path)?;
    let what = match standing(&whole)? {
        Standing::Nothing => "no store is mounted here".to_owned(),
        Standing::Guard => "only the guard is here: worm mount it".to_owned(),
        Standing::Ours { dead: true, .. } => "its daemon has ended: worm mount it again".to_owned(),
        Standing::Ours { dead: false, .. } => format!("it does not answer ({errno})"),
        Standing::Foreign(mount) => format!("covered by {} {}", mount.kind, mount.source),
    };
    let message = format!("{}: not write-once here: {what}", path.display());
    Err(Failure::new(Exit::NotWriteOnce, message))
}

/// Makes room at a mount point for a store: takes its dead mounts away but for the lowest, which
/// is to go when something else stands there that takes nothing. Refuses what is not ours.
pub(crate) fn clear(target: &Path, store: &str) -> Outcome {
    // Each round takes one mount away; there are never many of ours.
    for _ in 0..16 {
        let busy =
            |what: String| Failure::new(Exit::Busy, format_args!("{}: {what}", target.display()));
        match standing(target)? {
            Standing::Nothing | Standing::Guard => return Ok(()),
            Standing::Ours { store: other, dead: true, .. } if other == store => {
                if is_alone(target)? {
                    return Ok(());
                }
                detach(target)?;
            }
            Standing::Ours { store: other, dead: true, .. } => {
                return Err(busy(format!(
                    "the dead mount of another store ({other}) stands here: worm umount it first"
                )));
            }
            Standing::Ours { dead: false, .. } => {
                return Err(busy("a store is mounted here already".to_owned()));
            }
            Standing::Foreign(mount) => {
                return Err(busy(format!(
                    "something else is mounted here ({} {}): unmount it, or choose another place",
                    mount.kind, mount.source
                )));
            }
        }
    }
    Err(Failure::new(Exit::Busy, format_args!("{}: too many mounts here", target.display())))
}

/// How long a mount may be in use by somebody who only passes, such as `df`, or a program that is
/// just being started and holds copies of its parent's descriptors.
const PASSING: Duration = Duration::from_secs(1);

/// Takes the topmost mount away, unless somebody uses it.
///
/// The kernel drops requests that it has not handed over when it unmounts, closings of files
/// among them. Asking something first lets those that came before be handed over.
pub(crate) fn unmount(target: &Path) -> Result<(), Errno> {
    let begun = Instant::now();
    loop {
        if let Err(error) = rustix::fs::statfs(target) {
            tracing::debug!(%error, "not answering");
        }
        match rustix::mount::unmount(target, UnmountFlags::empty()) {
            Err(Errno::BUSY) if begun.elapsed() < PASSING => {
                std::thread::sleep(Duration::from_millis(20));
            }
            done => return done,
        }
    }
}

/// Takes the topmost mount away from the name space, even when it is dead or in use.
pub(crate) fn detach(target: &Path) -> Outcome {
    rustix::mount::unmount(target, UnmountFlags::DETACH)
        .map_err(Failure::doing(format_args!("detach what stands at {}", target.display())))
}

/// Takes a dead mount away.
pub(crate) fn detach_dead(target: &Path) -> Outcome {
    match standing(target)? {
        Standing::Ours { dead: true, .. } => detach(target),
        Standing::Ours { dead: false, .. }
        | Standing::Nothing
        | Standing::Guard
        | Standing::Foreign(_) => Ok(()),
    }
}
