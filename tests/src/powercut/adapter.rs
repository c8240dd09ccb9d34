//! The disk in FUSE's words. It answers from memory and waits for nobody.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::time::Duration;
use std::time::SystemTime;
use std::time::UNIX_EPOCH;

use fuser::BsdFileFlags;
use fuser::Errno;
use fuser::FileAttr;
use fuser::FileHandle;
use fuser::FileType;
use fuser::FopenFlags;
use fuser::Generation;
use fuser::INodeNo;
use fuser::LockOwner;
use fuser::OpenFlags;
use fuser::RenameFlags;
use fuser::ReplyAttr;
use fuser::ReplyCreate;
use fuser::ReplyData;
use fuser::ReplyDirectory;
use fuser::ReplyEmpty;
use fuser::ReplyEntry;
use fuser::ReplyOpen;
use fuser::ReplyStatfs;
use fuser::ReplyWrite;
use fuser::Request;
use fuser::TimeOrNow;
use fuser::WriteFlags;

use super::Op;
use super::Shared;

/// Nobody else changes it: the kernel may remember all.
const LIFE: Duration = Duration::from_secs(3600);
/// Inodes are never used twice.
const GENERATION: Generation = Generation(0);
/// So that a write can stop in the middle, and nothing but the model remembers bytes.
const DIRECT: FopenFlags = FopenFlags::FOPEN_DIRECT_IO;

pub(super) struct Adapter(Arc<Mutex<Shared>>);

impl Adapter {
    pub(super) fn new(shared: Arc<Mutex<Shared>>) -> Self {
        Self(shared)
    }

    fn shared(&self) -> MutexGuard<'_, Shared> {
        self.0.lock().expect("no panic")
    }

    fn carry_out(&self, op: Op) -> Result<u64, Errno> {
        self.shared().carry_out(op).map_err(errno)
    }

    fn empty(&self, op: Op, reply: ReplyEmpty) {
        match self.carry_out(op) {
            Ok(_) => reply.ok(),
            Err(errno) => reply.error(errno),
        }
    }

    fn attr(&self, inode: u64) -> Result<FileAttr, Errno> {
        let shared = self.shared();
        let size = shared.now.bytes(inode).map(|bytes| bytes.len() as u64);
        if size.is_none() && shared.now.entries(inode).is_none() {
            return Err(Errno::ENOENT);
        }
        Ok(FileAttr {
            ino: INodeNo(inode),
            size: size.unwrap_or(0),
            blocks: size.unwrap_or(0).div_ceil(512),
            atime: UNIX_EPOCH,
            mtime: UNIX_EPOCH,
            ctime: UNIX_EPOCH,
            crtime: UNIX_EPOCH,
            kind: if size.is_some() { FileType::RegularFile } else { FileType::Directory },
            perm: 0o700,
            nlink: 1,
            uid: 0,
            gid: 0,
            rdev: 0,
            blksize: 4096,
            flags: 0,
        })
    }

    fn entry(&self, inode: Result<u64, Errno>, reply: ReplyEntry) {
        match inode.and_then(|inode| self.attr(inode)) {
            Ok(attr) => reply.entry(&LIFE, &attr, GENERATION),
            Err(errno) => reply.error(errno),
        }
    }

    fn make(&self, parent: INodeNo, name: &OsStr, is_directory: bool) -> Result<u64, Errno> {
        let (directory, name) = (parent.0, name.as_bytes().to_vec());
        self.carry_out(Op::Create { directory, name, is_directory })
    }

    fn remove(&self, parent: INodeNo, name: &OsStr, is_directory: bool) -> Result<(), Errno> {
        let (directory, name) = (parent.0, name.as_bytes().to_vec());
        let mut shared = self.shared();
        let inode = shared.now.find(directory, &name).map_err(errno)?;
        match (shared.now.entries(inode), is_directory) {
            (Some(_), false) => return Err(Errno::EISDIR),
            (None, true) => return Err(Errno::ENOTDIR),
            (Some(inside), true) if !inside.is_empty() => return Err(Errno::ENOTEMPTY),
            (Some(_), true) | (None, false) => {}
        }
        shared.carry_out(Op::Remove { directory, name }).map(|_| ()).map_err(errno)
    }

    fn rename(
        &self,
        from: (INodeNo, &OsStr),
        to: (INodeNo, &OsStr),
        flags: RenameFlags,
    ) -> Result<(), Errno> {
        let from = (from.0.0, from.1.as_bytes().to_vec());
        let to = (to.0.0, to.1.as_bytes().to_vec());
        let mut shared = self.shared();
        shared.now.find(from.0, &from.1).map_err(errno)?;
        let taken = shared.now.find(to.0, &to.1).is_ok();
        let op = if flags == RenameFlags::RENAME_EXCHANGE {
            match (taken, from.0 == to.0) {
                (false, _) => return Err(Errno::ENOENT),
                (true, false) => return Err(Errno::EINVAL),
                (true, true) => Op::Exchange { directory: from.0, one: from.1, other: to.1 },
            }
        } else if flags == RenameFlags::RENAME_NOREPLACE && taken {
            return Err(Errno::EEXIST);
        } else {
            Op::Move { from, to }
        };
        shared.carry_out(op).map(|_| ()).map_err(errno)
    }
}

fn errno(errno: rustix::io::Errno) -> Errno {
    Errno::from_i32(errno.raw_os_error())
}

fn index(number: u64) -> usize {
    usize::try_from(number).expect("it fits into memory")
}

impl fuser::Filesystem for Adapter {
    fn lookup(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let found = self.shared().now.find(parent.0, name.as_bytes()).map_err(errno);
        self.entry(found, reply);
    }

    fn getattr(&self, _: &Request, ino: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        match self.attr(ino.0) {
            Ok(attr) => reply.attr(&LIFE, &attr),
            Err(errno) => reply.error(errno),
        }
    }

    fn setattr(
        &self,
        _: &Request,
        ino: INodeNo,
        _: Option<u32>,
        _: Option<u32>,
        _: Option<u32>,
        size: Option<u64>,
        _: Option<TimeOrNow>,
        _: Option<TimeOrNow>,
        _: Option<SystemTime>,
        _: Option<FileHandle>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        let set = match size {
            Some(size) => self.carry_out(Op::SetSize { inode: ino.0, size: index(size) }),
            None => Ok(0),
        };
        match set.and_then(|_| self.attr(ino.0)) {
            Ok(attr) => reply.attr(&LIFE, &attr),
            Err(errno) => reply.error(errno),
        }
    }

    fn mkdir(&self, _: &Request, parent: INodeNo, name: &OsStr, _: u32, _: u32, reply: ReplyEntry) {
        self.entry(self.make(parent, name, true), reply);
    }

    fn create(
        &self,
        _: &Request,
        parent: INodeNo,
        name: &OsStr,
        _: u32,
        _: u32,
        _: i32,
        reply: ReplyCreate,
    ) {
        let made = self.make(parent, name, false);
        match made.and_then(|inode| self.attr(inode)) {
            Ok(attr) => reply.created(&LIFE, &attr, GENERATION, FileHandle(0), DIRECT),
            Err(errno) => reply.error(errno),
        }
    }

    fn link(&self, _: &Request, ino: INodeNo, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let (directory, name) = (parent.0, name.as_bytes().to_vec());
        let made = self.carry_out(Op::Link { inode: ino.0, directory, name });
        self.entry(made.map(|_| ino.0), reply);
    }

    fn unlink(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        match self.remove(parent, name, false) {
            Ok(()) => reply.ok(),
            Err(errno) => reply.error(errno),
        }
    }

    fn rmdir(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        match self.remove(parent, name, true) {
            Ok(()) => reply.ok(),
            Err(errno) => reply.error(errno),
        }
    }

    fn rename(
        &self,
        _: &Request,
        parent: INodeNo,
        name: &OsStr,
        new_parent: INodeNo,
        new_name: &OsStr,
        flags: RenameFlags,
        reply: ReplyEmpty,
    ) {
        match self.rename((parent, name), (new_parent, new_name), flags) {
            Ok(()) => reply.ok(),
            Err(errno) => reply.error(errno),
        }
    }

    fn open(&self, _: &Request, _: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        reply.opened(FileHandle(0), DIRECT);
    }

    fn read(
        &self,
        _: &Request,
        ino: INodeNo,
        _: FileHandle,
        offset: u64,
        size: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let shared = self.shared();
        let Some(bytes) = shared.now.bytes(ino.0) else { return reply.error(Errno::EISDIR) };
        let start = index(offset).min(bytes.len());
        let end = bytes.len().min(start + index(u64::from(size)));
        reply.data(&bytes[start..end]);
    }

    fn write(
        &self,
        _: &Request,
        ino: INodeNo,
        _: FileHandle,
        offset: u64,
        data: &[u8],
        _: WriteFlags,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        let op = Op::Write { inode: ino.0, offset: index(offset), bytes: data.into() };
        match self.carry_out(op) {
            Ok(_) => reply.written(u32::try_from(data.len()).expect("at most a request")),
            Err(errno) => reply.error(errno),
        }
    }

    fn flush(&self, _: &Request, _: INodeNo, _: FileHandle, _: LockOwner, reply: ReplyEmpty) {
        reply.ok();
    }

    fn fsync(&self, _: &Request, ino: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        self.empty(Op::Sync { inode: ino.0 }, reply);
    }

    fn fsyncdir(&self, _: &Request, ino: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        self.empty(Op::SyncDirectory { inode: ino.0 }, reply);
    }

    fn fallocate(
        &self,
        _: &Request,
        ino: INodeNo,
        _: FileHandle,
        offset: u64,
        length: u64,
        mode: i32,
        reply: ReplyEmpty,
    ) {
        let end = match mode {
            0 => Some(index(offset + length)),
            libc::FALLOC_FL_KEEP_SIZE => None,
            _ => return reply.error(Errno::EOPNOTSUPP),
        };
        self.empty(Op::Allocate { inode: ino.0, end }, reply);
    }

    fn readdir(
        &self,
        _: &Request,
        ino: INodeNo,
        _: FileHandle,
        offset: u64,
        mut reply: ReplyDirectory,
    ) {
        let shared = self.shared();
        let Some(names) = shared.now.entries(ino.0) else { return reply.error(Errno::ENOTDIR) };
        let dots = [(&b"."[..], ino.0), (&b".."[..], ino.0)].into_iter();
        let all = dots.chain(names.iter().map(|(name, inode)| (&name[..], *inode)));
        for (next, (name, inode)) in (1..).zip(all).skip(index(offset)) {
            let kind = match shared.now.entries(inode) {
                Some(_) => FileType::Directory,
                None => FileType::RegularFile,
            };
            if reply.add(INodeNo(inode), next, kind, OsStr::from_bytes(name)) {
                break;
            }
        }
        reply.ok();
    }

    fn statfs(&self, _: &Request, _: INodeNo, reply: ReplyStatfs) {
        let (blocks, files) = (1 << 20, 1 << 20);
        reply.statfs(blocks, blocks, blocks, files, files, 4096, 255, 4096);
    }
}
