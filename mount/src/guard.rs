//! The guard: an empty read-only tmpfs, the lowest mount at a mount point. Ours goes on top of it,
//! so whatever ends a daemon or takes its mount away, nobody writes into the bare directory.

use std::path::Path;

use rustix::fs::CWD;
use rustix::io::Errno;
use rustix::mount::FsMountFlags;
use rustix::mount::FsOpenFlags;
use rustix::mount::MountAttrFlags;
use rustix::mount::MoveMountFlags;

use crate::bare;
use crate::cli::GuardArgs;
use crate::mountinfo;
use crate::outcome::Exit;
use crate::outcome::Failure;
use crate::outcome::Outcome;
use crate::outcome::say;
use crate::target;
use crate::target::Standing;

/// What mountinfo shows as its source.
pub(crate) const SOURCE: &str = "worm-guard";

/// What fails when it cannot be placed.
const PLACE: &str = "place a guard at";

/// Runs `worm guard`: every directory that can be guarded is, whatever becomes of the others.
pub(crate) fn run(args: &GuardArgs) -> Outcome {
    let mut failed: Option<Failure> = None;
    for directory in &args.directories {
        match one(directory) {
            Ok(done) => say(done),
            Err(failure) => match &mut failed {
                None => failed = Some(failure),
                Some(first) => first.message = format!("{}; {}", first.message, failure.message),
            },
        }
    }
    failed.map_or(Ok(()), Err)
}

/// Guards a directory and says how.
fn one(directory: &Path) -> Outcome<String> {
    if target::absolute(directory).is_err() || !target::is_there(directory) {
        std::fs::create_dir_all(directory)
            .map_err(Failure::doing(format_args!("make {}", directory.display())))?;
    }
    let path = target::absolute(directory)?;
    let standing = target::standing(&path)?;
    if let Standing::Foreign(mount) = &standing {
        let what = format!("something else is mounted here ({} {})", mount.kind, mount.source);
        let message = format!("{}: {what}: unmount it first", path.display());
        return Err(Failure::new(Exit::Busy, message));
    }
    let bare = bare::open(&path).map_err(cannot("look beneath what is mounted at", &path))?;
    let empty = bare::is_empty(&bare)
        .map_err(Failure::doing(format_args!("list the directory {}", path.display())))?;
    if !empty {
        let what = "there is something in it: move it away first, a guard would hide it";
        return Err(Failure::new(Exit::Preflight, format_args!("{}: {what}", path.display())));
    }
    let now = match standing {
        Standing::Nothing => {
            place(&path)?;
            "guarded"
        }
        Standing::Guard => "guarded already",
        Standing::Ours { dead: true, .. } => "a dead mount stands here, which takes nothing",
        Standing::Ours { dead: false, .. } => "a store is mounted here",
        // Refused above.
        Standing::Foreign(_) => "covered",
    };
    let lock = match bare::lock(&bare) {
        Ok(()) => "the directory beneath is immutable".to_owned(),
        Err(errno) => format!("the directory beneath cannot be made immutable ({errno})"),
    };
    Ok(format!("{}: {now}; {lock}", path.display()))
}

/// Places a guard where nothing is mounted.
pub(crate) fn place(path: &Path) -> Outcome {
    match target::standing(path)? {
        Standing::Nothing => attach(path, MoveMountFlags::empty()).map_err(cannot(PLACE, path)),
        Standing::Guard | Standing::Ours { .. } | Standing::Foreign(_) => Ok(()),
    }
}

/// Sees to it that a guard stands where a guard, our dead mount or nothing stands now.
///
/// A guard that other mount namespaces do not see, although the directory is shared with them, is
/// replaced: a mount on top of it would not be seen there either.
pub(crate) fn prepare(path: &Path) -> Outcome {
    let mounts = target::mounts()?;
    let here = mountinfo::at(&mounts, path);
    let (Some(lowest), Some(top)) = (here.first(), here.last()) else { return place(path) };
    let shared = mounts.iter().any(|mount| mount.id == lowest.parent && mount.shared);
    if is_guard(top) && (top.shared || !shared) {
        return Ok(());
    }
    match attach(path, MoveMountFlags::MOVE_MOUNT_BENEATH) {
        Ok(()) => target::detach(path),
        // Before Linux 6.5 nothing can be put beneath: the directory is bare for a moment.
        Err(Errno::INVAL) => {
            target::detach(path)?;
            place(path)
        }
        Err(errno) => Err(cannot(PLACE, path)(errno)),
    }
}

/// Whether a mount is a guard.
pub(crate) fn is_guard(mount: &mountinfo::Mount) -> bool {
    mount.kind == "tmpfs" && mount.source == SOURCE
}

fn cannot(doing: &str, path: &Path) -> impl FnOnce(Errno) -> Failure {
    let doing = format!("cannot {doing} {}", path.display());
    move |errno| match errno {
        Errno::PERM | Errno::ACCESS => {
            Failure::new(Exit::Preflight, format_args!("{doing}: {errno}{}", target::NO_RIGHT))
        }
        _ => Failure::new(Exit::Failed, format_args!("{doing}: {errno}")),
    }
}

fn attach(path: &Path, how: MoveMountFlags) -> Result<(), Errno> {
    let context = rustix::mount::fsopen("tmpfs", FsOpenFlags::FSOPEN_CLOEXEC)?;
    for (key, value) in [("source", SOURCE), ("size", "4k"), ("mode", "0555")] {
        rustix::mount::fsconfig_set_string(&context, key, value)?;
    }
    rustix::mount::fsconfig_set_flag(&context, "ro")?;
    rustix::mount::fsconfig_create(&context)?;
    let attributes = MountAttrFlags::MOUNT_ATTR_RDONLY
        | MountAttrFlags::MOUNT_ATTR_NOSUID
        | MountAttrFlags::MOUNT_ATTR_NODEV
        | MountAttrFlags::MOUNT_ATTR_NOEXEC;
    let guard = rustix::mount::fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, attributes)?;
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | how;
    rustix::mount::move_mount(&guard, "", CWD, path, flags)
}
