//! Makes a mount of a store's file system, serves it, and puts it at a place.

use std::ffi::OsStr;
use std::fs::File;
use std::fs::OpenOptions;
use std::io;
use std::os::fd::AsRawFd as _;
use std::os::fd::BorrowedFd;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::sync::Arc;

use fuser::Config;
use fuser::INodeNo;
use fuser::Session;
use fuser::SessionACL;
use rustix::fs::AtFlags;
use rustix::fs::CWD;
use rustix::fs::StatxFlags;
use rustix::mount::FsMountFlags;
use rustix::mount::FsOpenFlags;
use rustix::mount::MountAttrFlags;
use rustix::mount::MoveMountFlags;
use rustix::mount::fsconfig_set_flag;
use rustix::mount::fsconfig_set_string;

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

/// A mount that nobody sees and nobody serves yet. Dropped, it is gone.
#[derive(Debug)]
pub struct Detached {
    device: File,
    mount: OwnedFd,
}

/// A place that is being served.
#[derive(Debug)]
pub struct Mounted {
    session: fuser::BackgroundSession,
}

/// Makes a mount for a store. This and [`attach`] need the right to mount; serving does not.
///
/// The mount is made here and not by fuser, which would unmount by path when it ends: by then
/// something else may stand there.
///
/// # Errors
/// What the kernel says: `EPERM` without the right, `ENOENT` without `/dev/fuse`.
pub fn make(store: &str, read_only: bool) -> io::Result<Detached> {
    let device = OpenOptions::new().read(true).write(true).open("/dev/fuse")?;
    let context = rustix::mount::fsopen("fuse", FsOpenFlags::FSOPEN_CLOEXEC)?;
    let (source, fd) = (format!("worm-{store}"), device.as_raw_fd().to_string());
    for (key, value) in [
        ("source", source.as_str()),
        ("subtype", SUBTYPE),
        ("fd", fd.as_str()),
        ("rootmode", "40000"),
        ("user_id", "0"),
        ("group_id", "0"),
    ] {
        fsconfig_set_string(&context, key, value)?;
    }
    for key in ["default_permissions", "allow_other"] {
        fsconfig_set_flag(&context, key)?;
    }
    let attributes = MountAttrFlags::MOUNT_ATTR_NOSUID
        | MountAttrFlags::MOUNT_ATTR_NODEV
        | MountAttrFlags::MOUNT_ATTR_NOATIME;
    let attributes = if read_only {
        fsconfig_set_flag(&context, "ro")?;
        attributes | MountAttrFlags::MOUNT_ATTR_RDONLY
    } else {
        attributes
    };
    rustix::mount::fsconfig_create(&context)?;
    let mount = rustix::mount::fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, attributes)?;
    Ok(Detached { device, mount })
}

/// Puts a mount at a place, on top of what stands there.
///
/// # Errors
/// What the kernel says: `EPERM` without the right.
pub fn attach(mount: BorrowedFd<'_>, target: &Path) -> io::Result<()> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
    Ok(rustix::mount::move_mount(mount, "", CWD, target, flags)?)
}

impl Detached {
    /// The device of its file system as `/proc/self/mountinfo` names it, `0:41`.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn device(&self) -> io::Result<String> {
        // Without asking the file system: nobody answers yet.
        let flags = AtFlags::EMPTY_PATH | AtFlags::STATX_DONT_SYNC;
        let stat = rustix::fs::statx(&self.mount, "", flags, StatxFlags::empty())?;
        Ok(format!("{}:{}", stat.stx_dev_major, stat.stx_dev_minor))
    }

    /// Serves `fs` there. When it returns, the mount answers, and waits to be attached.
    ///
    /// # Errors
    /// When the kernel and we do not understand each other.
    pub fn serve(
        self,
        fs: &Arc<WormFs>,
        place: Place,
        settings: Settings,
    ) -> io::Result<(Mounted, OwnedFd)> {
        let Self { device, mount } = self;
        let backing = Backing::new(settings.passthrough);
        let adapter = Adapter::new(Arc::clone(fs), place, backing);
        let mut config = Config::default();
        config.acl = SessionACL::All;
        config.n_threads = Some(settings.threads.max(1));
        config.clone_fd = settings.threads > 1;
        let session = Session::from_fd(adapter, device.into(), SessionACL::All, config)?.spawn()?;
        let (notices, notifier) = (fs.notices(), session.notifier());
        // From a thread of its own, never from a request: the kernel may hold the very directory.
        std::thread::Builder::new().name("notices".to_owned()).spawn(move || {
            while let Ok(Notice::Gone { parent, name, id }) = notices.recv() {
                let (parent, name) = (place.number(parent), OsStr::from_bytes(name.as_bytes()));
                let told = notifier.delete(INodeNo(parent), INodeNo(id), name);
                if told.is_err() {
                    // Not remembered, or already gone: then there is nothing to forget.
                    let told = notifier.inval_entry(INodeNo(parent), name);
                    tracing::trace!(?told, "notice");
                }
            }
        })?;
        Ok((Mounted { session }, mount))
    }
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
