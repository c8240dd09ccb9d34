//! The adapter to FUSE. It decides nothing: it turns a request into a call of [`crate::fs`] and
//! the outcome into a reply.
//!
//! Every method of [`fuser::Filesystem`] is named here, also where the answer is always no: the
//! trait's default bodies answer `ENOSYS`, which the kernel reports to `fsync` or `close` as
//! success. This folder is the only place that names fuser.

mod answer;
mod attr;
mod backing;
mod mount;
mod request;
mod slow;

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use fuser::AccessFlags;
use fuser::BsdFileFlags;
use fuser::CopyFileRangeFlags;
use fuser::Errno;
use fuser::FileHandle;
use fuser::FopenFlags;
use fuser::Generation;
use fuser::INodeNo;
use fuser::InitFlags;
use fuser::IoctlFlags;
use fuser::KernelConfig;
use fuser::LockOwner;
use fuser::OpenFlags;
use fuser::PollEvents;
use fuser::PollFlags;
use fuser::PollNotifier;
use fuser::RenameFlags;
use fuser::ReplyAttr;
use fuser::ReplyBmap;
use fuser::ReplyCreate;
use fuser::ReplyData;
use fuser::ReplyDirectory;
use fuser::ReplyDirectoryPlus;
use fuser::ReplyEmpty;
use fuser::ReplyEntry;
use fuser::ReplyIoctl;
use fuser::ReplyLock;
use fuser::ReplyLseek;
use fuser::ReplyOpen;
use fuser::ReplyPoll;
use fuser::ReplyStatfs;
use fuser::ReplyWrite;
use fuser::ReplyXattr;
use fuser::Request as FuseRequest;
use fuser::TimeOrNow;
use fuser::WriteFlags;

pub use mount::Detached;
pub use mount::Mounted;
pub use mount::SUBTYPE;
pub use mount::Settings;
pub use mount::attach;
pub use mount::make;

use crate::error::Error;
use crate::error::Result;
use crate::fs::Asked;
use crate::fs::AttributeChange;
use crate::fs::Control;
use crate::fs::Kind;
use crate::fs::Opening;
use crate::fs::Place;
use crate::fs::WormFs;
use crate::policy::Refusal;
use crate::policy::Request;
use answer::created;
use answer::errno;
use answer::get_xattr;
use answer::never;
use answer::reply_xattr;
use attr::entry_life;
use attr::file_attr;
use attr::file_type;
use backing::Backing;
use request::caller;
use request::handle;
use request::opening;
use slow::Slow;

/// The largest write that the kernel sends, and the size of a good read or write.
pub(crate) const REQUEST_BYTES_MAX: u32 = 1 << 20;
/// Numbers of files are never used twice, so there is one generation.
const GENERATION: Generation = Generation(0);

/// One mount of a store.
pub(crate) struct Adapter {
    fs: Arc<WormFs>,
    place: Place,
    backing: Backing,
    slow: Slow,
}

impl Adapter {
    fn new(fs: Arc<WormFs>, place: Place, backing: Backing) -> Self {
        Self { fs, place, backing, slow: Slow::default() }
    }

    /// What is asked of which file or directory, and by whom.
    fn asked(&self, by: &FuseRequest, request: &'static str, of: INodeNo) -> Asked<'static> {
        let of = self.place.node(of.0);
        Asked { request, of, name: b"", uid: by.uid(), pid: by.pid() }
    }

    /// Logs a failure and gives its errno. The only way out of this file with a failure.
    fn errno(&self, asked: Asked, error: &Error) -> Errno {
        errno(&self.fs, asked, error)
    }

    fn empty(&self, asked: Asked, outcome: Result<()>, reply: ReplyEmpty) {
        match outcome {
            Ok(()) => reply.ok(),
            Err(error) => reply.error(self.errno(asked, &error)),
        }
    }

    /// Carries something out that waits for the disk, on a thread of its own.
    fn slowly(&self, act: impl FnOnce(&WormFs) + Send + 'static) {
        let fs = Arc::clone(&self.fs);
        self.slow.run(move || act(&fs));
    }
}

impl fuser::Filesystem for Adapter {
    fn init(&mut self, _: &FuseRequest, config: &mut KernelConfig) -> std::io::Result<()> {
        // Not wanted, ever: FUSE_WRITEBACK_CACHE (the kernel would own size and times) and
        // FUSE_DIRECT_IO_ALLOW_MMAP (a mapping outlives close and goes on writing).
        for wanted in [
            InitFlags::FUSE_ATOMIC_O_TRUNC,
            InitFlags::FUSE_PARALLEL_DIROPS,
            InitFlags::FUSE_DO_READDIRPLUS,
            InitFlags::FUSE_READDIRPLUS_AUTO,
            InitFlags::FUSE_MAX_PAGES,
        ] {
            if config.add_capabilities(wanted).is_err() {
                tracing::debug!(?wanted, "the kernel does not offer it");
            }
        }
        let depth = self.backing.stack_depth();
        let passthrough = depth > 0
            && config.set_max_stack_depth(depth).is_ok()
            && config.add_capabilities(InitFlags::FUSE_PASSTHROUGH).is_ok();
        if !passthrough {
            self.backing.give_up("the kernel does not offer it");
        }
        config
            .set_max_write(REQUEST_BYTES_MAX)
            .map(|_| ())
            .map_err(|_nearest| std::io::Error::other("the largest write was not accepted"))
    }

    fn destroy(&mut self) {}

    fn lookup(&self, by: &FuseRequest, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let asked = self.asked(by, "lookup", parent).named(name.as_bytes());
        match self.fs.lookup(self.place, asked.of, name.as_bytes()) {
            Ok(found) => reply.entry(&entry_life(&found), &file_attr(&found), GENERATION),
            Err(error) => reply.error(self.errno(asked, &error)),
        }
    }

    fn forget(&self, _: &FuseRequest, _: INodeNo, _: u64) {}

    fn getattr(&self, by: &FuseRequest, ino: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        let asked = self.asked(by, "getattr", ino);
        match self.fs.attributes(self.place, asked.of) {
            Ok(found) => reply.attr(&entry_life(&found), &file_attr(&found)),
            Err(error) => reply.error(self.errno(asked, &error)),
        }
    }

    fn setattr(
        &self,
        by: &FuseRequest,
        ino: INodeNo,
        mode: Option<u32>,
        uid: Option<u32>,
        gid: Option<u32>,
        size: Option<u64>,
        atime: Option<TimeOrNow>,
        mtime: Option<TimeOrNow>,
        _: Option<SystemTime>,
        fh: Option<FileHandle>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        let asked = self.asked(by, "setattr", ino);
        let mtime_ns = mtime.map(|time| attr::nanoseconds(time, || self.fs.system_ns()));
        let change = AttributeChange { mode, uid, gid, mtime_ns, atime: atime.is_some(), size };
        let place = self.place;
        self.slowly(move |fs| match fs.set_attributes(place, asked.of, fh.map(handle), change) {
            Ok(found) => reply.attr(&entry_life(&found), &file_attr(&found)),
            Err(error) => reply.error(errno(fs, asked, &error)),
        });
    }

    fn readlink(&self, by: &FuseRequest, ino: INodeNo, reply: ReplyData) {
        let asked = self.asked(by, "readlink", ino);
        reply.error(self.errno(asked, &Refusal::BadValue.into()));
    }

    fn mknod(
        &self,
        by: &FuseRequest,
        parent: INodeNo,
        name: &OsStr,
        _: u32,
        _: u32,
        _: u32,
        reply: ReplyEntry,
    ) {
        let asked = self.asked(by, "mknod", parent).named(name.as_bytes());
        let made = self.fs.make_other(self.place, asked.of, name.as_bytes(), Request::MakeNode);
        reply.error(self.errno(asked, &never(made)));
    }

    fn mkdir(
        &self,
        by: &FuseRequest,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        umask: u32,
        reply: ReplyEntry,
    ) {
        let asked = self.asked(by, "mkdir", parent);
        let (place, caller, name) = (self.place, caller(by), name.to_owned());
        self.slowly(move |fs| {
            match fs.make_directory(place, caller, asked.of, name.as_bytes(), mode & !umask) {
                Ok(made) => reply.entry(&entry_life(&made), &file_attr(&made), GENERATION),
                Err(error) => reply.error(errno(fs, asked.named(name.as_bytes()), &error)),
            }
        });
    }

    fn unlink(&self, by: &FuseRequest, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let asked = self.asked(by, "unlink", parent);
        let (place, caller, name) = (self.place, caller(by), name.to_owned());
        self.slowly(move |fs| match fs.unlink(place, caller, asked.of, name.as_bytes()) {
            Ok(()) => reply.ok(),
            Err(error) => reply.error(errno(fs, asked.named(name.as_bytes()), &error)),
        });
    }

    fn rmdir(&self, by: &FuseRequest, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let asked = self.asked(by, "rmdir", parent);
        let (place, caller, name) = (self.place, caller(by), name.to_owned());
        self.slowly(move |fs| {
            match fs.remove_directory(place, caller, asked.of, name.as_bytes()) {
                Ok(()) => reply.ok(),
                Err(error) => reply.error(errno(fs, asked.named(name.as_bytes()), &error)),
            }
        });
    }

    fn symlink(
        &self,
        by: &FuseRequest,
        parent: INodeNo,
        name: &OsStr,
        _: &Path,
        reply: ReplyEntry,
    ) {
        let asked = self.asked(by, "symlink", parent).named(name.as_bytes());
        let made = self.fs.make_other(self.place, asked.of, name.as_bytes(), Request::Symlink);
        reply.error(self.errno(asked, &never(made)));
    }

    fn rename(
        &self,
        by: &FuseRequest,
        parent: INodeNo,
        name: &OsStr,
        new_parent: INodeNo,
        new_name: &OsStr,
        _: RenameFlags,
        reply: ReplyEmpty,
    ) {
        let asked = self.asked(by, "rename", parent).named(name.as_bytes());
        let (from, to) =
            ((asked.of, name.as_bytes()), (self.place.node(new_parent.0), new_name.as_bytes()));
        reply.error(self.errno(asked, &never(self.fs.rename(self.place, from, to))));
    }

    fn link(
        &self,
        by: &FuseRequest,
        _: INodeNo,
        new_parent: INodeNo,
        new_name: &OsStr,
        reply: ReplyEntry,
    ) {
        let asked = self.asked(by, "link", new_parent).named(new_name.as_bytes());
        let name = new_name.as_bytes();
        let made = self.fs.make_other(self.place, asked.of, name, Request::Link);
        reply.error(self.errno(asked, &never(made)));
    }

    fn open(&self, by: &FuseRequest, ino: INodeNo, flags: OpenFlags, reply: ReplyOpen) {
        let asked = self.asked(by, "open", ino);
        let place = self.place;
        match opening(flags) {
            Opening::Read => match self.fs.open_to_read(place, asked.of) {
                Ok((handle, content)) => self.backing.opened(asked.of, handle, content, reply),
                Err(error) => reply.error(self.errno(asked, &error)),
            },
            Opening::Append => self.slowly(move |fs| match fs.open_to_append(place, asked.of) {
                Ok(handle) => reply.opened(FileHandle(handle.0), FopenFlags::FOPEN_DIRECT_IO),
                Err(error) => reply.error(errno(fs, asked, &error)),
            }),
            Opening::Write => {
                let refused = never(self.fs.open_to_write(place, asked.of));
                reply.error(self.errno(asked, &refused));
            }
        }
    }

    fn create(
        &self,
        by: &FuseRequest,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        umask: u32,
        flags: i32,
        reply: ReplyCreate,
    ) {
        let asked = self.asked(by, "create", parent);
        let (place, caller, mode) = (self.place, caller(by), mode & !umask);
        if let Place::Logs { .. } = place {
            let (name, opening) = (name.to_owned(), opening(OpenFlags(flags)));
            return self.slowly(move |fs| {
                let (name, asked) = (name.as_bytes(), asked.named(name.as_bytes()));
                let made = fs.create_log(place, caller, (asked.of, name), mode, opening);
                created(fs, asked, made, reply);
            });
        }
        let made = self.fs.create(place, caller, asked.of, name.as_bytes(), mode);
        created(&self.fs, asked.named(name.as_bytes()), made, reply);
    }

    fn read(
        &self,
        by: &FuseRequest,
        ino: INodeNo,
        fh: FileHandle,
        offset: u64,
        size: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let asked = self.asked(by, "read", ino);
        let mut buffer = vec![0; size as usize];
        match self.fs.read(handle(fh), offset, &mut buffer) {
            Ok(bytes) => reply.data(&buffer[..bytes]),
            Err(error) => reply.error(self.errno(asked, &error)),
        }
    }

    fn write(
        &self,
        by: &FuseRequest,
        ino: INodeNo,
        fh: FileHandle,
        offset: u64,
        data: &[u8],
        _: WriteFlags,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        let asked = self.asked(by, "write", ino);
        match self.fs.write(handle(fh), offset, data) {
            Ok(bytes) => reply.written(u32::try_from(bytes).unwrap_or(u32::MAX)),
            Err(error) => reply.error(self.errno(asked, &error)),
        }
    }

    fn flush(
        &self,
        by: &FuseRequest,
        ino: INodeNo,
        fh: FileHandle,
        _: LockOwner,
        reply: ReplyEmpty,
    ) {
        self.sync(fh, self.asked(by, "flush", ino), reply);
    }

    fn release(
        &self,
        by: &FuseRequest,
        ino: INodeNo,
        fh: FileHandle,
        _: OpenFlags,
        _: Option<LockOwner>,
        _: bool,
        reply: ReplyEmpty,
    ) {
        let asked = self.asked(by, "release", ino);
        let released = self.fs.release(handle(fh));
        self.backing.released(handle(fh));
        match released {
            Ok(finish) => {
                reply.ok();
                if let Some(finish) = finish {
                    self.slowly(move |fs| fs.finish_closed(finish));
                }
            }
            Err(error) => reply.error(self.errno(asked, &error)),
        }
    }

    fn fsync(&self, by: &FuseRequest, ino: INodeNo, fh: FileHandle, _: bool, reply: ReplyEmpty) {
        self.sync(fh, self.asked(by, "fsync", ino), reply);
    }

    fn opendir(&self, by: &FuseRequest, ino: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        let asked = self.asked(by, "opendir", ino);
        match self.fs.open_directory(self.place, asked.of) {
            Ok(handle) => reply.opened(FileHandle(handle.0), FopenFlags::empty()),
            Err(error) => reply.error(self.errno(asked, &error)),
        }
    }

    fn readdir(
        &self,
        by: &FuseRequest,
        ino: INodeNo,
        fh: FileHandle,
        offset: u64,
        mut reply: ReplyDirectory,
    ) {
        let asked = self.asked(by, "readdir", ino);
        let entries = match self.fs.entries(handle(fh)) {
            Ok(entries) => entries,
            Err(error) => return reply.error(self.errno(asked, &error)),
        };
        let skipped = usize::try_from(offset).unwrap_or(usize::MAX);
        for (entry, next) in entries.iter().zip(1..).skip(skipped) {
            let name = OsStr::from_bytes(&entry.name);
            if reply.add(INodeNo(entry.id), next, file_type(entry.kind), name) {
                break;
            }
        }
        reply.ok();
    }

    fn readdirplus(
        &self,
        by: &FuseRequest,
        ino: INodeNo,
        fh: FileHandle,
        offset: u64,
        mut reply: ReplyDirectoryPlus,
    ) {
        let asked = self.asked(by, "readdirplus", ino);
        let entries = match self.fs.entries(handle(fh)) {
            Ok(entries) => entries,
            Err(error) => return reply.error(self.errno(asked, &error)),
        };
        let skipped = usize::try_from(offset).unwrap_or(usize::MAX);
        for (entry, next) in entries.iter().zip(1..).skip(skipped) {
            // What has gone since the directory was opened is left out. Asked for by name: the
            // kernel remembers what the name means, and that may have changed.
            let Ok(found) = self.fs.lookup(self.place, asked.of, &entry.name) else { continue };
            let name = OsStr::from_bytes(&entry.name);
            let (life, attr) = (entry_life(&found), file_attr(&found));
            if reply.add(INodeNo(found.id), next, name, &life, &attr, GENERATION) {
                break;
            }
        }
        reply.ok();
    }

    fn releasedir(
        &self,
        by: &FuseRequest,
        ino: INodeNo,
        fh: FileHandle,
        _: OpenFlags,
        reply: ReplyEmpty,
    ) {
        let asked = self.asked(by, "releasedir", ino);
        self.empty(asked, self.fs.release(handle(fh)).map(|_| ()), reply);
    }

    fn fsyncdir(&self, _: &FuseRequest, _: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        // Names are on the disk before anyone is told of them.
        reply.ok();
    }

    fn statfs(&self, by: &FuseRequest, ino: INodeNo, reply: ReplyStatfs) {
        let asked = self.asked(by, "statfs", ino);
        match self.fs.disk() {
            Ok(disk) => reply.statfs(
                disk.f_blocks,
                disk.f_bfree,
                disk.f_bavail,
                disk.f_files,
                disk.f_ffree,
                u32::try_from(disk.f_bsize).unwrap_or(4096),
                u32::try_from(crate::policy::name::NAME_BYTES_MAX).unwrap_or(255),
                u32::try_from(disk.f_frsize).unwrap_or(4096),
            ),
            Err(error) => reply.error(self.errno(asked, &error)),
        }
    }

    fn setxattr(
        &self,
        by: &FuseRequest,
        ino: INodeNo,
        name: &OsStr,
        value: &[u8],
        _: i32,
        _: u32,
        reply: ReplyEmpty,
    ) {
        let asked = self.asked(by, "setxattr", ino);
        let (place, caller) = (self.place, caller(by));
        let (name, value) = (name.to_owned(), value.to_owned());
        self.slowly(move |fs| {
            match fs.set_xattr(place, caller, asked.of, name.as_bytes(), &value) {
                Ok(()) => reply.ok(),
                Err(error) => reply.error(errno(fs, asked, &error)),
            }
        });
    }

    fn getxattr(&self, by: &FuseRequest, ino: INodeNo, name: &OsStr, size: u32, reply: ReplyXattr) {
        let asked = self.asked(by, "getxattr", ino);
        let place = self.place;
        if self.fs.xattr_waits(asked.of, name.as_bytes()) {
            let name = name.to_owned();
            self.slowly(move |fs| get_xattr(fs, place, asked, name.as_bytes(), size, reply));
        } else {
            get_xattr(&self.fs, place, asked, name.as_bytes(), size, reply);
        }
    }

    fn listxattr(&self, by: &FuseRequest, ino: INodeNo, size: u32, reply: ReplyXattr) {
        let asked = self.asked(by, "listxattr", ino);
        match self.fs.xattrs(self.place, asked.of) {
            Ok(names) => {
                let list = names.iter().flat_map(|name| [name.as_bytes(), b"\0"].concat());
                reply_xattr(&list.collect::<Vec<u8>>(), size, reply);
            }
            Err(error) => reply.error(self.errno(asked, &error)),
        }
    }

    fn removexattr(&self, by: &FuseRequest, ino: INodeNo, _: &OsStr, reply: ReplyEmpty) {
        let asked = self.asked(by, "removexattr", ino);
        let refused = never(self.fs.remove_xattr(self.place, asked.of));
        reply.error(self.errno(asked, &refused));
    }

    fn access(&self, by: &FuseRequest, ino: INodeNo, mask: AccessFlags, reply: ReplyEmpty) {
        let asked = self.asked(by, "access", ino);
        let found = self.fs.attributes(self.place, asked.of);
        let outcome = found.and_then(|found| match found.kind {
            Kind::File if mask.contains(AccessFlags::W_OK) => {
                self.fs.open_to_write(self.place, asked.of)
            }
            Kind::File | Kind::Directory => Ok(()),
        });
        self.empty(asked, outcome, reply);
    }

    fn getlk(
        &self,
        by: &FuseRequest,
        ino: INodeNo,
        _: FileHandle,
        _: LockOwner,
        _: u64,
        _: u64,
        _: i32,
        _: u32,
        reply: ReplyLock,
    ) {
        let asked = self.asked(by, "getlk", ino);
        // Locks are local to the kernel: they were not asked for, so this never comes.
        reply.error(self.errno(asked, &Refusal::Unsupported.into()));
    }

    fn setlk(
        &self,
        by: &FuseRequest,
        ino: INodeNo,
        _: FileHandle,
        _: LockOwner,
        _: u64,
        _: u64,
        _: i32,
        _: u32,
        _: bool,
        reply: ReplyEmpty,
    ) {
        reply.error(self.errno(self.asked(by, "setlk", ino), &Refusal::Unsupported.into()));
    }

    fn bmap(&self, by: &FuseRequest, ino: INodeNo, _: u32, _: u64, reply: ReplyBmap) {
        reply.error(self.errno(self.asked(by, "bmap", ino), &Refusal::Unsupported.into()));
    }

    fn ioctl(
        &self,
        by: &FuseRequest,
        ino: INodeNo,
        fh: FileHandle,
        _: IoctlFlags,
        number: u32,
        _: &[u8],
        _: u32,
        reply: ReplyIoctl,
    ) {
        let asked = self.asked(by, "ioctl", ino);
        let Some(control) = Control::from_number(number) else {
            let refused = self.fs.allowed(self.place, asked.of, Request::OtherIoctl);
            return reply.error(self.errno(asked, &never(refused)));
        };
        let place = self.place;
        self.slowly(move |fs| match fs.control(place, asked.of, handle(fh), control) {
            Ok(()) => reply.ioctl(0, &[]),
            Err(error) => reply.error(errno(fs, asked, &error)),
        });
    }

    fn poll(
        &self,
        _: &FuseRequest,
        _: INodeNo,
        _: FileHandle,
        _: PollNotifier,
        events: PollEvents,
        _: PollFlags,
        reply: ReplyPoll,
    ) {
        // As for any plain file: always ready.
        reply.poll(events & (PollEvents::POLLIN | PollEvents::POLLOUT));
    }

    fn fallocate(
        &self,
        by: &FuseRequest,
        ino: INodeNo,
        fh: FileHandle,
        offset: u64,
        length: u64,
        mode: i32,
        reply: ReplyEmpty,
    ) {
        let asked = self.asked(by, "fallocate", ino);
        let place = self.place;
        self.slowly(move |fs| {
            let outcome = fs
                .allowed_by_handle(place, asked.of, handle(fh), Request::Allocate)
                .and_then(|()| fs.allocate(handle(fh), offset, length, mode.cast_unsigned()));
            match outcome {
                Ok(()) => reply.ok(),
                Err(error) => reply.error(errno(fs, asked, &error)),
            }
        });
    }

    fn lseek(
        &self,
        by: &FuseRequest,
        ino: INodeNo,
        fh: FileHandle,
        offset: i64,
        whence: i32,
        reply: ReplyLseek,
    ) {
        let asked = self.asked(by, "lseek", ino);
        let found = match (u64::try_from(offset), whence) {
            (Ok(offset), libc::SEEK_DATA) => self.fs.seek(handle(fh), offset, false),
            (Ok(offset), libc::SEEK_HOLE) => self.fs.seek(handle(fh), offset, true),
            (Ok(_) | Err(_), _) => Err(Refusal::BadValue.into()),
        };
        match found {
            Ok(offset) => reply.offset(i64::try_from(offset).unwrap_or(i64::MAX)),
            Err(error) => reply.error(self.errno(asked, &error)),
        }
    }

    fn copy_file_range(
        &self,
        by: &FuseRequest,
        _: INodeNo,
        _: FileHandle,
        _: u64,
        ino: INodeNo,
        fh: FileHandle,
        _: u64,
        _: u64,
        _: CopyFileRangeFlags,
        reply: ReplyWrite,
    ) {
        let asked = self.asked(by, "copy_file_range", ino);
        // The kernel copies by reading and writing instead, so that every byte passes here.
        let allowed = self.fs.allowed_by_handle(self.place, asked.of, handle(fh), Request::Write);
        let error = allowed.err().unwrap_or(Refusal::Unsupported.into());
        reply.error(self.errno(asked, &error));
    }
}

impl Adapter {
    fn sync(&self, fh: FileHandle, asked: Asked<'static>, reply: ReplyEmpty) {
        let handle = handle(fh);
        if self.fs.sync_takes_long(handle) {
            self.slowly(move |fs| match fs.sync(handle) {
                Ok(()) => reply.ok(),
                Err(error) => reply.error(errno(fs, asked, &error)),
            });
        } else {
            self.empty(asked, self.fs.sync(handle), reply);
        }
    }
}
