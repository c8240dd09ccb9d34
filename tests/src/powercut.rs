//! A disk whose power can be cut, and which can fail: a file system in memory, served by FUSE,
//! below the store of an unmodified file system or daemon.
//!
//! It records every request that changes something or makes it last. So one run of a workload
//! gives the disk at every moment of it: [`Recording::at`] plays the first so many requests, and
//! [`Model::cut`] chooses what of them had reached the disk.
//!
//! The threads that serve it touch nothing but memory, so that nothing can wait in a circle.

mod adapter;
mod model;

use std::ffi::CString;
use std::os::fd::AsRawFd as _;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;

use rustix::io::Errno;
use rustix::mount::MountFlags;

use crate::watchdog;
use crate::watchdog::Watchdog;
use adapter::Adapter;

pub use model::Model;
pub use model::Op;
pub use model::Survives;

/// The kinds of request that can be made to fail.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Kind {
    /// `open` with `O_CREAT`, `mkdir`, `link`: what needs an inode or a name.
    Create,
    /// `unlink`, `rmdir`
    Remove,
    /// `rename` in any form
    Move,
    /// `write`
    Write,
    /// `ftruncate`
    SetSize,
    /// `fallocate`
    Allocate,
    /// `fsync`, `fdatasync` of a file
    Sync,
    /// `fsync` of a directory
    SyncDirectory,
}

/// All of them.
pub const KINDS: [Kind; 8] = [
    Kind::Create,
    Kind::Remove,
    Kind::Move,
    Kind::Write,
    Kind::SetSize,
    Kind::Allocate,
    Kind::Sync,
    Kind::SyncDirectory,
];

/// A failure to come.
#[derive(Clone, Copy, Debug)]
pub struct Fault {
    /// Of these requests.
    pub kind: Kind,
    /// How many of them succeed first.
    pub after: usize,
    /// How many fail then.
    pub times: usize,
    /// What they answer.
    pub errno: Errno,
    /// A write that fails has written the first half of its bytes.
    pub half: bool,
}

/// What a disk was asked to do since it was mounted.
#[derive(Clone, Debug)]
pub struct Recording {
    /// As it was.
    pub start: Model,
    /// What was carried out, in this order.
    pub ops: Vec<Op>,
}

impl Recording {
    /// The disk after so many requests, with what was not synced still only in memory.
    ///
    /// # Panics
    /// When there were fewer.
    #[must_use]
    pub fn at(&self, ops: usize) -> Model {
        let mut model = self.start.clone();
        model.play(&self.ops[..ops]);
        model
    }
}

#[derive(Debug)]
struct Shared {
    recording: Recording,
    now: Model,
    fault: Option<Fault>,
    /// How many requests the fault has let pass, and how many it has refused.
    passed: usize,
    refused: usize,
}

/// A mounted disk. Dropped, it is gone.
#[derive(Debug)]
pub struct Disk {
    shared: Arc<Mutex<Shared>>,
    session: Option<fuser::BackgroundSession>,
    at: PathBuf,
    _watchdog: Watchdog,
}

impl Disk {
    /// Mounts a disk at an empty directory.
    ///
    /// # Panics
    /// When it cannot be mounted.
    #[must_use]
    pub fn mount(at: &Path, model: Model) -> Self {
        let watchdog = Watchdog::new(&[at], watchdog::BOUND);
        let recording = Recording { start: model.clone(), ops: Vec::new() };
        let shared = Shared { recording, now: model, fault: None, passed: 0, refused: 0 };
        let shared = Arc::new(Mutex::new(shared));
        let device = std::fs::OpenOptions::new().read(true).write(true).open("/dev/fuse");
        let device = device.expect("open /dev/fuse: the system tests need it");
        let fd = device.as_raw_fd();
        let options = format!("fd={fd},rootmode=40000,user_id=0,group_id=0,allow_other");
        let options = CString::new(options).expect("no zero byte");
        let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOATIME;
        rustix::mount::mount("powercut", at, "fuse.powercut", flags, Some(options.as_c_str()))
            .expect("mount: the system tests run as root");
        let mut config = fuser::Config::default();
        config.acl = fuser::SessionACL::All;
        config.n_threads = Some(1);
        let adapter = Adapter::new(Arc::clone(&shared));
        let acl = fuser::SessionACL::All;
        let session = fuser::Session::from_fd(adapter, device.into(), acl, config)
            .and_then(fuser::Session::spawn);
        let session = Some(session.expect("serve the disk"));
        Self { shared, session, at: at.to_owned(), _watchdog: watchdog }
    }

    fn shared(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().expect("no panic")
    }

    /// How many requests were carried out so far.
    #[must_use]
    pub fn ops(&self) -> usize {
        self.shared().recording.ops.len()
    }

    /// From here on it fails so, or not any more. Counting begins anew.
    pub fn fail(&self, fault: Option<Fault>) {
        let mut shared = self.shared();
        (shared.fault, shared.passed, shared.refused) = (fault, 0, 0);
    }

    /// How many requests were refused by the fault that is set.
    #[must_use]
    pub fn refused(&self) -> usize {
        self.shared().refused
    }

    /// Takes it away, and says what it was asked to do.
    ///
    /// # Panics
    /// When somebody keeps using it.
    pub fn unmount(mut self) -> Recording {
        crate::session::unmount(&self.at);
        let session = self.session.take().expect("it is mounted");
        session.join().expect("the disk ends well");
        self.shared().recording.clone()
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        if self.session.take().is_some() {
            watchdog::clear(&self.at);
        }
    }
}

impl Op {
    /// Of which kind it is.
    #[must_use]
    pub fn kind(&self) -> Kind {
        match self {
            Self::Create { .. } | Self::Link { .. } => Kind::Create,
            Self::Remove { .. } => Kind::Remove,
            Self::Move { .. } | Self::Exchange { .. } => Kind::Move,
            Self::Write { .. } => Kind::Write,
            Self::SetSize { .. } => Kind::SetSize,
            Self::Allocate { .. } => Kind::Allocate,
            Self::Sync { .. } | Self::SyncFailed { .. } => Kind::Sync,
            Self::SyncDirectory { .. } => Kind::SyncDirectory,
        }
    }
}

impl Shared {
    /// Carries a request out, or fails as the fault says.
    fn carry_out(&mut self, op: Op) -> Result<u64, Errno> {
        match self.failing(&op) {
            None => self.record(op),
            Some(Fault { errno, half, .. }) => {
                match op {
                    Op::Sync { inode } => {
                        self.record(Op::SyncFailed { inode })?;
                    }
                    Op::Write { inode, offset, bytes } if half => {
                        let bytes = bytes[..bytes.len() / 2].into();
                        self.record(Op::Write { inode, offset, bytes })?;
                    }
                    _ => {}
                }
                Err(errno)
            }
        }
    }

    fn record(&mut self, op: Op) -> Result<u64, Errno> {
        let made = self.now.apply(&op)?;
        self.recording.ops.push(op);
        Ok(made)
    }

    fn failing(&mut self, op: &Op) -> Option<Fault> {
        let fault = self.fault.filter(|fault| fault.kind == op.kind())?;
        if self.passed < fault.after {
            self.passed += 1;
            return None;
        }
        if self.refused >= fault.times {
            return None;
        }
        self.refused += 1;
        Some(fault)
    }
}
