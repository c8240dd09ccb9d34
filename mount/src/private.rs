//! `--private-store`: the store is on a device that is mounted in the daemon's own mount namespace
//! and nowhere else (mount_namespaces(7)). Whoever goes by paths on the host does not come across
//! it; root can look for it.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::os::unix::fs::FileTypeExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use rustix::mount::MountFlags;
use rustix::mount::MountPropagationFlags;
use rustix::mount::UnmountFlags;
use rustix::thread::UnshareFlags;

use crate::bare;
use crate::mountinfo;
use crate::outcome::Exit;
use crate::outcome::Failure;
use crate::outcome::Outcome;
use crate::target;

/// Where a file system says what it is: its type, an offset in bytes, and what stands there.
const MAGIC: [(&str, u64, &[u8]); 3] =
    [("ext4", 0x438, b"\x53\xef"), ("xfs", 0, b"XFSB"), ("btrfs", 0x1_0040, b"_BHRfS_M")];

/// Moves this process, which must have one thread, into a mount namespace of its own, where the
/// device is mounted at the store's path and little else of the host's file systems is left.
/// `needed` are the paths that the daemon still uses.
pub(crate) fn enter(device: &Path, kind: Option<&str>, store: &Path, needed: &[&Path]) -> Outcome {
    let kind = check(device, kind)?;
    prepare(store)?;
    let doing = "make a mount namespace for the store";
    #[expect(deprecated, reason = "its successor is unsafe for descriptor tables only; they stay")]
    rustix::thread::unshare(UnshareFlags::NEWNS).map_err(Failure::doing(doing))?;
    // What the host unmounts goes here, too; nothing from here reaches the host.
    let slave = MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC;
    rustix::mount::mount_change("/", slave).map_err(Failure::doing(doing))?;
    leave_rest(store, needed)?;
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC | MountFlags::NOATIME;
    rustix::mount::mount(device, store, kind.as_str(), flags, None).map_err(|errno| {
        let message = format!("cannot mount {} ({kind}) for the store: {errno}", device.display());
        Failure::new(Exit::Preflight, message)
    })
}

/// Whether it is a device that nobody else has mounted, and what file system is on it.
fn check(device: &Path, kind: Option<&str>) -> Outcome<String> {
    let refused =
        |exit, what: &str| Err(Failure::new(exit, format!("{}: {what}", device.display())));
    let found = match std::fs::metadata(device) {
        Ok(found) => found,
        Err(error) => return refused(Exit::NotFound, &error.to_string()),
    };
    if found.is_dir() {
        let what = "a directory of the host stays in reach by its path, so it would not be private: \
                    name a block device";
        return refused(Exit::Usage, what);
    }
    if !found.file_type().is_block_device() {
        return refused(Exit::Usage, "not a block device: losetup makes one of an image file");
    }
    let number = found.rdev();
    let number = format!("{}:{}", rustix::fs::major(number), rustix::fs::minor(number));
    let real = device.canonicalize().ok();
    let same = |source: &str| real.is_some() && Path::new(source).canonicalize().ok() == real;
    let mounts = target::mounts()?;
    if let Some(mount) = mounts.iter().find(|mount| mount.device == number || same(&mount.source)) {
        let at = mount.target.display();
        return refused(Exit::Busy, &format!("it is mounted at {at}: unmount it there first"));
    }
    match kind.map_or_else(|| kind_of(device), |kind| Ok(Some(kind.to_owned()))) {
        Ok(Some(kind)) => Ok(kind),
        Ok(None) => refused(
            Exit::Preflight,
            "there is no ext4, XFS or btrfs on it: make a file system, or name its type with \
             --private-type",
        ),
        Err(error) => refused(Exit::Preflight, &error.to_string()),
    }
}

fn kind_of(device: &Path) -> std::io::Result<Option<String>> {
    let device = File::open(device)?;
    for (kind, offset, magic) in MAGIC {
        let mut found = vec![0; magic.len()];
        match device.read_exact_at(&mut found, offset) {
            Ok(()) if found == magic => return Ok(Some(kind.to_owned())),
            Ok(()) => {}
            Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => {}
            Err(error) => return Err(error),
        }
    }
    Ok(None)
}

/// Makes the directory that shows the store, to the daemon only. It is empty, and stays so: without
/// the device nobody shall begin another store there by mistake.
fn prepare(store: &Path) -> Outcome {
    let doing = || format!("make the directory {}", store.display());
    std::fs::create_dir_all(store).map_err(Failure::doing(doing()))?;
    let bare = bare::open(store).map_err(Failure::doing(doing()))?;
    if !bare::is_empty(&bare).map_err(Failure::doing(doing()))? {
        let what =
            "with --private-store this is only where the device is mounted, and must be empty";
        return Err(Failure::new(Exit::Preflight, format_args!("{}: {what}", store.display())));
    }
    if let Err(error) = bare::lock(&bare) {
        tracing::debug!(%error, "the store's directory is not immutable");
    }
    Ok(())
}

/// Leaves every mount that no needed path leads through: it would be kept alive here when the host
/// unmounts it.
fn leave_rest(store: &Path, needed: &[&Path]) -> Outcome {
    for mount in unneeded(&target::mounts()?, store, needed) {
        // Gone with the one that it was on, or hidden: then nothing leads to it.
        let gone = rustix::mount::unmount(&mount.target, UnmountFlags::DETACH);
        tracing::trace!(?gone, at = %mount.target.display(), "left behind");
    }
    Ok(())
}

fn unneeded<'a>(
    mounts: &'a [mountinfo::Mount],
    store: &'a Path,
    needed: &'a [&'a Path],
) -> impl Iterator<Item = &'a mountinfo::Mount> {
    mounts.iter().filter(move |mount| {
        let leads_to = |path: &&Path| path.starts_with(&mount.target);
        !leads_to(&store) && !needed.iter().any(leads_to)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_leads_to_something_needed_is_kept() {
        let mounts = mountinfo::all(
            "27 1 8:1 / / rw - ext4 /dev/vda rw\n\
             22 27 0:21 / /proc rw - proc proc rw\n\
             23 22 0:22 / /proc/sys/fs/binfmt_misc rw - binfmt_misc none rw\n\
             30 27 0:40 / /backups/active rw - fuse.worm worm-ab rw\n\
             31 27 0:41 / /srv rw - ext4 /dev/vdb rw\n\
             32 27 0:42 / /srvother rw - ext4 /dev/vdc rw",
        );
        let needed = [Path::new("/proc"), Path::new("/run/worm")];
        let left: Vec<_> = unneeded(&mounts, Path::new("/srv/worm"), &needed)
            .map(|mount| mount.target.to_str().unwrap())
            .collect();
        assert_eq!(left, ["/proc/sys/fs/binfmt_misc", "/backups/active", "/srvother"]);
    }

    #[test]
    fn a_file_system_is_known_by_its_magic() {
        for (kind, offset, magic) in MAGIC {
            let image = tempfile::NamedTempFile::new().unwrap();
            image.as_file().write_all_at(magic, offset).unwrap();
            assert_eq!(kind_of(image.path()).unwrap().as_deref(), Some(kind));
        }
        let image = tempfile::NamedTempFile::new().unwrap();
        assert_eq!(kind_of(image.path()).unwrap(), None);
    }
}
