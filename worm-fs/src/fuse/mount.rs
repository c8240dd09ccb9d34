//! Puts a store's file system at a place and serves it there.

use std::ffi::CString;
use std::ffi::OsStr;
use std::fs::OpenOptions;
use std::io;
use std::os::fd::AsRawFd as _;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::sync::Arc;

use fuser::Config;
use fuser::INodeNo;
use fuser::Session;
use fuser::SessionACL;
use rustix::mount::MountFlags;
use rustix::mount::UnmountFlags;

use super::Adapter;
use super::Backing;
use crate::fs::Notice;
use crate::fs::Place;
use crate::fs::WormFs;

/// What `/proc/self/mountinfo` shows after `fuse.`.
pub const SUBTYPE: &str = "worm";

/// How a place is served.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// Threads that read requests.
    pub threads: usize,
    /// Whether the kernel may read sealed files straight from the disk.
    pub passthrough: bool,
}

/// A place that is being served.
#[derive(Debug)]
pub struct Mounted {
    session: fuser::BackgroundSession,
}

/// Mounts `fs` at `target`. When it returns, the mount answers.
///
/// The mount is made here and not by fuser, which would unmount by path when it ends: by then
/// something else may stand there.
///
/// # Errors
/// What the kernel says: `EPERM` without the right, `ENOENT` without `/dev/fuse`.
pub fn mount(
    fs: &Arc<WormFs>,
    place: Place,
    target: &Path,
    settings: Settings,
) -> io::Result<Mounted> {
    let backing = Backing::new(fs.data_directory(), settings.passthrough);
    let adapter = Adapter::new(Arc::clone(fs), place, backing);
    let mut config = Config::default();
    config.acl = SessionACL::All;
    config.n_threads = Some(settings.threads.max(1));
    config.clone_fd = settings.threads > 1;
    let device = OpenOptions::new().read(true).write(true).open("/dev/fuse")?;
    let data = format!(
        "fd={},rootmode=40000,user_id=0,group_id=0,default_permissions,allow_other",
        device.as_raw_fd()
    );
    let data = CString::new(data)?;
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOATIME;
    let flags = match place {
        Place::Active => flags,
        Place::View { .. } => flags | MountFlags::RDONLY,
    };
    let (source, kind) = (format!("worm-{}", fs.store_id()), format!("fuse.{SUBTYPE}"));
    rustix::mount::mount(source, target, kind, flags, Some(data.as_c_str()))?;
    let session = Session::from_fd(adapter, device.into(), SessionACL::All, config)
        .and_then(Session::spawn)
        .inspect_err(|_failed| {
            let gone = rustix::mount::unmount(target, UnmountFlags::DETACH);
            tracing::debug!(?gone, "a mount that did not answer was taken away");
        })?;
    let (notices, notifier) = (fs.notices(), session.notifier());
    // From a thread of its own, never from a request: the kernel may hold the very directory.
    std::thread::Builder::new().name("notices".to_owned()).spawn(move || {
        while let Ok(Notice::Gone { parent, name, id }) = notices.recv() {
            let name = OsStr::from_bytes(name.as_bytes());
            let told = notifier.delete(INodeNo(parent), INodeNo(id), name);
            if told.is_err() {
                // Not remembered, or already gone: then there is nothing to forget.
                let told = notifier.inval_entry(INodeNo(parent), name);
                tracing::trace!(?told, "notice");
            }
        }
    })?;
    Ok(Mounted { session })
}

impl Mounted {
    /// Whether the kernel has let go: unmounted, or aborted.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.session.guard.is_finished()
    }

    /// Waits until it is unmounted.
    ///
    /// # Errors
    /// What the session ended with.
    pub fn join(self) -> io::Result<()> {
        self.session.join()
    }
}
