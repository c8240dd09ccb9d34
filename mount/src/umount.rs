//! `worm umount`: unmounts, waits for the daemon's end, leaves a guard.

use std::path::Path;
use std::time::Duration;
use std::time::Instant;

use rustix::io::Errno;
use worm_fs::store;

use crate::bare;
use crate::cli::UmountArgs;
use crate::guard;
use crate::outcome::Exit;
use crate::outcome::Failure;
use crate::outcome::Outcome;
use crate::run_file::RunFile;
use crate::target;
use crate::target::Standing;

/// How long the last seals of a daemon may take.
const LONGEST: Duration = Duration::from_secs(60);

/// Runs `worm umount`.
pub(crate) fn run(args: &UmountArgs) -> Outcome {
    let path = target::absolute(&args.mountpoint)?;
    match target::standing(&path)? {
        Standing::Ours { dead: false, read_only: true, .. } => unmount(&path)?,
        Standing::Ours { dead: false, store, .. } => end_daemon(&path, &store, &args.run_dir)?,
        Standing::Ours { dead: true, read_only: true, .. } => target::detach(&path)?,
        Standing::Ours { dead: true, .. } if target::is_alone(&path)? => guard::prepare(&path)?,
        Standing::Ours { dead: true, .. } => target::detach(&path)?,
        Standing::Guard => {}
        Standing::Nothing => {
            let message = format!("{}: nothing is mounted here", path.display());
            return if args.guard {
                unlock(&path)
            } else {
                Err(Failure::new(Exit::NotFound, message))
            };
        }
        Standing::Foreign(mount) => {
            let message =
                format!("{}: this is {} {}, not ours", path.display(), mount.kind, mount.source);
            return Err(Failure::new(Exit::NotFound, message));
        }
    }
    if args.guard {
        while target::standing(&path)? == Standing::Guard {
            target::detach(&path)?;
        }
        unlock(&path)?;
    }
    Ok(())
}

/// An immutable directory is as closed as a guarded one.
fn unlock(path: &Path) -> Outcome {
    bare::open(path)
        .and_then(|directory| bare::unlock(&directory))
        .map_err(Failure::doing(format_args!("take the immutable flag from {}", path.display())))
}

/// Takes a live mount away, unless somebody uses it.
fn unmount(path: &Path) -> Outcome {
    match target::unmount(path) {
        Ok(()) => Ok(()),
        Err(Errno::BUSY) => {
            let message = format!("{}: files are open there: end what uses them", path.display());
            Err(Failure::new(Exit::Busy, message))
        }
        Err(errno) => Err(Failure::doing(format_args!("unmount {}", path.display()))(errno)),
    }
}

/// The daemon ends when the mount that takes files is gone, and leaves a guard. A view has none, and
/// that of the logs can go alone.
fn end_daemon(path: &Path, store: &str, run_directory: &Path) -> Outcome {
    let note = RunFile::read(run_directory, store).ok();
    unmount(path)?;
    let mounts = note.as_ref().map(|note| &note.mounts[..]).unwrap_or_default();
    if mounts.iter().skip(1).any(|further| further == path) {
        return guard::place(path);
    }
    let deadline = Instant::now() + LONGEST;
    while Instant::now() < deadline {
        let served = note.as_ref().is_none_or(|note| store::is_served(&note.store));
        if target::standing(path)? != Standing::Nothing && (note.is_none() || !served) {
            return Ok(());
        }
        if !served {
            // It ended without one.
            return guard::place(path);
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    let message = format!("{}: unmounted, but the daemon has not ended yet", path.display());
    Err(Failure::new(Exit::Failed, message))
}
