//! The guard: an empty read-only tmpfs on the mount point while nobody serves it, so that a
//! program that comes too early writes nowhere instead of into a plain directory.

use std::path::Path;

use rustix::mount::MountFlags;

use crate::outcome::Failure;
use crate::outcome::Outcome;
use crate::target;
use crate::target::Standing;

/// What mountinfo shows as its source.
pub(crate) const SOURCE: &str = "worm-guard";

/// Places a guard where nothing is mounted. One is enough.
pub(crate) fn place(path: &Path) -> Outcome {
    match target::standing(path)? {
        Standing::Guard | Standing::Ours { .. } | Standing::Foreign(_) => return Ok(()),
        Standing::Nothing => {}
    }
    let flags = MountFlags::RDONLY | MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    rustix::mount::mount(SOURCE, path, "tmpfs", flags, Some(c"size=4k,mode=0555"))
        .map_err(Failure::doing(format_args!("place a guard at {}", path.display())))
}
