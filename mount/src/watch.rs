//! Whether the daemon's places lead to it: notices when one is covered, unmounted or moved in its
//! mount namespace. The kernel says when something changed (poll on mountinfo, proc_pid_mountinfo(5)).

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;

use rustix::event::PollFd;
use rustix::event::PollFlags;
use rustix::event::Timespec;
use serde::Deserialize;
use serde::Serialize;

use crate::mountinfo;
use crate::mountinfo::Mount;
use crate::outcome::Failure;
use crate::outcome::Outcome;

/// A place of a daemon, and what stands there.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub(crate) struct PlaceNote {
    /// Where.
    pub(crate) path: PathBuf,
    /// [`SERVED`], or what is wrong.
    pub(crate) state: String,
}

/// What is noted of a place that leads to its daemon.
pub(crate) const SERVED: &str = "served";

impl PlaceNote {
    /// What to tell somebody.
    pub(crate) fn alarm(&self) -> Option<String> {
        let Self { path, state } = self;
        let what = "whoever uses this path does not reach the store";
        (state != SERVED).then(|| format!("{}: {state}: {what}", path.display()))
    }
}

/// The mounts of the mount namespace in which it was opened.
#[derive(Debug)]
pub(crate) struct MountTable(File);

impl MountTable {
    /// Opens mountinfo.
    pub(crate) fn open() -> Outcome<Self> {
        let opened = File::open("/proc/self/mountinfo");
        opened.map(Self).map_err(Failure::doing("open /proc/self/mountinfo"))
    }
}

/// Looks after the places of a daemon.
#[derive(Debug)]
pub(crate) struct Watch {
    mountinfo: File,
    /// Places with their devices.
    places: Vec<(PathBuf, String)>,
}

impl Watch {
    /// Looks after these.
    pub(crate) fn new(mounts: MountTable, places: Vec<(PathBuf, String)>) -> Self {
        Self { mountinfo: mounts.0, places }
    }

    /// Waits until something is mounted or unmounted anywhere, or until the time has passed, and
    /// says whether there is something new to look at.
    pub(crate) fn wait(&self, at_most: Duration) -> bool {
        let mut changed = [PollFd::new(&self.mountinfo, PollFlags::PRI)];
        let at_most = Timespec { tv_sec: 0, tv_nsec: i64::from(at_most.subsec_nanos()) };
        // Interrupted by a signal: the caller looks for those first.
        rustix::event::poll(&mut changed, Some(&at_most)).is_ok_and(|ready| ready > 0)
    }

    /// What stands at each place now.
    pub(crate) fn look(&self) -> std::io::Result<Vec<PlaceNote>> {
        let mounts = mountinfo::all(&self.read()?);
        let note = |(path, device): &(PathBuf, String)| PlaceNote {
            path: path.clone(),
            state: state(&mounts, device, path),
        };
        Ok(self.places.iter().map(note).collect())
    }

    /// Whether the first place is mounted nowhere in this mount namespace: unmounted, and at most
    /// kept by a copy in another.
    pub(crate) fn is_gone(&self) -> bool {
        let Some((_, device)) = self.places.first() else { return false };
        let mounts = self.read().map(|text| mountinfo::all(&text));
        mounts.is_ok_and(|mounts| !mounts.iter().any(|mount| mount.device == *device))
    }

    fn read(&self) -> std::io::Result<String> {
        let mut bytes = Vec::new();
        let mut buffer = [0; 1 << 14];
        loop {
            match self.mountinfo.read_at(&mut buffer, bytes.len() as u64)? {
                0 => return Ok(String::from_utf8_lossy(&bytes).into_owned()),
                n => bytes.extend_from_slice(&buffer[..n]),
            }
        }
    }
}

/// What stands at a place where the file system with this device was mounted.
fn state(mounts: &[Mount], device: &str, path: &Path) -> String {
    let ours = || mounts.iter().filter(|mount| mount.device == device);
    let top = mountinfo::at(mounts, path).pop();
    match &top {
        Some(top) if top.device == device => SERVED.to_owned(),
        _ if ours().any(|mount| mount.target == path) => {
            // What covers it may be mounted further up.
            let over = path.ancestors().find_map(|above| mountinfo::at(mounts, above).pop());
            over.map_or_else(
                || "covered".to_owned(),
                |over| {
                    let at = over.target.display();
                    format!("covered by {} {} at {at}", over.kind, over.source)
                },
            )
        }
        _ => match ours().next() {
            Some(mount) => format!("moved to {}", mount.target.display()),
            None => "not mounted".to_owned(),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROOT: &str =
        "27 1 8:1 / / rw - ext4 /dev/vda rw\n30 27 0:40 / /b/active rw - tmpfs worm-guard ro\n";
    const OURS: &str = "31 30 0:41 / /b/active rw - fuse.worm worm-ab rw\n";

    #[track_caller]
    fn check(rest: &[&str], expected: &str) {
        let mountinfo = mountinfo::all(&format!("{ROOT}{}", rest.concat()));
        assert_eq!(state(&mountinfo, "0:41", Path::new("/b/active")), expected);
    }

    #[test]
    fn every_way_to_lose_a_place_is_told_apart() {
        check(&[OURS], "served");
        check(&[], "not mounted");
        let over = "40 31 0:50 / /b/active rw - tmpfs other rw\n";
        check(&[OURS, over], "covered by tmpfs other at /b/active");
        let above = "40 27 0:50 / /b rw - tmpfs other rw\n";
        check(&[OURS, above], "covered by tmpfs other at /b");
        let again = "41 40 0:51 / /b/active rw - fuse.worm worm-ab rw\n";
        check(&[OURS, above, again], "covered by fuse.worm worm-ab at /b/active");
        check(&["31 27 0:41 / /c rw - fuse.worm worm-ab rw\n"], "moved to /c");
        // A second way to it does no harm.
        check(
            &[
                "31 27 0:41 / /c rw - fuse.worm worm-ab rw\n",
                "32 30 0:41 / /b/active rw - fuse.worm worm-ab rw\n",
            ],
            "served",
        );
    }
}
