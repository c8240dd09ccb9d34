//! A session without a kernel: the requests of the file system, called directly.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::RwLock;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;

use rustix::fs::FallocateFlags;
use rustix::fs::FileType;
use rustix::fs::OFlags;
use rustix::fs::RenameFlags;
use rustix::io::Errno;
use worm_fs::catalog::ROOT;
use worm_fs::error::Error;
use worm_fs::fs::AttributeChange;
use worm_fs::fs::Attributes;
use worm_fs::fs::Caller;
use worm_fs::fs::Control;
use worm_fs::fs::Descriptors;
use worm_fs::fs::HandleId;
use worm_fs::fs::Kind;
use worm_fs::fs::Opening;
use worm_fs::fs::Place;
use worm_fs::fs::WormFs;
use worm_fs::policy::Request;
use worm_fs::store::OpenError;

use super::End;
use super::Fd;
use super::Files;
use super::Ground;
use super::Result;
use super::Session;
use super::Stat;
use super::ground::VIEW;
use super::ground::wait_compared;
use super::kernel;
use super::wait_until_dropped;

/// Who calls: root, as in the mounted session.
const CALLER: Caller = Caller { uid: 0, gid: 0 };

/// A store served without a kernel.
#[derive(Debug)]
pub struct InProcess {
    served: Served,
    active: Door,
    view: Door,
    logs: Door,
    ground: Ground,
}

/// The file system that is served now, if any.
type Served = Arc<RwLock<Option<Arc<WormFs>>>>;

impl Default for InProcess {
    fn default() -> Self {
        let session = Self::on(Ground::default());
        session.start().expect("serve a new store");
        session
    }
}

impl InProcess {
    /// What will serve the store of a ground when it is started.
    #[must_use]
    pub fn on(ground: Ground) -> Self {
        let served = Served::default();
        let door = |place| Door::new(&served, place);
        let (active, view, logs) = (door(Some(Place::Active)), door(Some(VIEW)), door(None));
        Self { served, active, view, logs, ground }
    }
}

impl Session for InProcess {
    fn active(&self) -> &(dyn Files + 'static) {
        &self.active
    }

    fn view(&self) -> &(dyn Files + 'static) {
        &self.view
    }

    fn logs(&self) -> &(dyn Files + 'static) {
        &self.logs
    }

    fn ground(&self) -> &Ground {
        &self.ground
    }

    fn fs(&self) -> Arc<WormFs> {
        self.active.fs()
    }

    fn stop(&self, end: End) {
        let fs = self.served.write().expect("no panic").take().expect("it is served");
        if end == End::Clean {
            fs.shut_down(Descriptors::Unknown);
        }
        for door in [&self.active, &self.view, &self.logs] {
            door.open.lock().expect("no panic").clear();
        }
        let last = Arc::downgrade(&fs);
        drop(fs);
        wait_until_dropped(&last);
    }

    fn start(&self) -> std::result::Result<(), OpenError> {
        let fs = WormFs::serve(self.ground.options())?;
        wait_compared(&fs);
        *self.served.write().expect("no panic") = Some(fs);
        Ok(())
    }
}

/// One place, with what is open there.
#[derive(Debug)]
struct Door {
    served: Served,
    /// That of the logs is known when the store is.
    place: Option<Place>,
    open: Mutex<HashMap<Fd, Descriptor>>,
    next: AtomicU64,
}

#[derive(Clone, Copy, Debug)]
struct Descriptor {
    id: u64,
    handle: HandleId,
    flags: OFlags,
    position: u64,
}

/// The errno of a failure, as the adapter gives it.
fn errno(error: Error) -> Errno {
    error.errno()
}

impl Door {
    fn new(served: &Served, place: Option<Place>) -> Self {
        let (open, next) = (Mutex::default(), AtomicU64::new(3));
        Self { served: Arc::clone(served), place, open, next }
    }

    fn place(&self) -> Place {
        let logs = || Ground::logs_place(&self.fs());
        self.place.or_else(logs).expect("the store has a class of logs")
    }

    fn fs(&self) -> Arc<WormFs> {
        self.served.read().expect("no panic").clone().expect("it is served")
    }

    fn descriptor(&self, fd: Fd) -> Result<Descriptor> {
        self.open.lock().expect("no panic").get(&fd).copied().ok_or(Errno::BADF)
    }

    fn find(&self, path: &[u8]) -> Result<Attributes> {
        let fs = self.fs();
        let root = fs.attributes(self.place(), self.place().node(ROOT)).map_err(errno)?;
        let mut components = path.split(|byte| *byte == b'/').filter(|name| !name.is_empty());
        components
            .try_fold(root, |parent, name| fs.lookup(self.place(), parent.id, name).map_err(errno))
    }

    /// The directory of a path, and the last component.
    fn split<'a>(&self, path: &'a [u8]) -> Result<(u64, &'a [u8])> {
        let slash = path.iter().rposition(|byte| *byte == b'/');
        let (parent, name) = match slash {
            Some(slash) => (&path[..slash], &path[slash + 1..]),
            None => (&b""[..], path),
        };
        let parent = self.find(parent)?;
        if parent.kind == Kind::File { Err(Errno::NOTDIR) } else { Ok((parent.id, name)) }
    }

    fn change(&self, path: &[u8], change: AttributeChange) -> Result<()> {
        let id = self.find(path)?.id;
        self.fs().set_attributes(self.place(), id, None, change).map(|_| ()).map_err(errno)
    }

    fn change_by_fd(&self, fd: Fd, change: AttributeChange) -> Result<()> {
        let Descriptor { id, handle, .. } = self.descriptor(fd)?;
        let changed = self.fs().set_attributes(self.place(), id, Some(handle), change);
        changed.map(|_| ()).map_err(errno)
    }

    fn make_other(&self, path: &[u8], request: Request) -> Result<()> {
        let (parent, name) = self.split(path)?;
        kernel::make(&self.find(path))?;
        self.fs().make_other(self.place(), parent, name, request).map_err(errno)
    }
}

impl Files for Door {
    fn open(&self, path: &[u8], flags: OFlags, mode: u32) -> Result<Fd> {
        let (fs, position) = (self.fs(), 0);
        let (id, handle) = match self.find(path) {
            Ok(found) => {
                kernel::open(&found, flags)?;
                let handle = match kernel::opening(flags) {
                    Opening::Read => fs.open_to_read(self.place(), found.id).map_err(errno)?.0,
                    Opening::Append => fs.open_to_append(self.place(), found.id).map_err(errno)?,
                    Opening::Write => {
                        fs.open_to_write(self.place(), found.id).map_err(errno)?;
                        panic!("{}: opened to write", String::from_utf8_lossy(path));
                    }
                };
                (found.id, handle)
            }
            Err(Errno::NOENT) if flags.contains(OFlags::CREATE) => {
                let (parent, name) = self.split(path)?;
                let made = if let Place::Logs { .. } = self.place() {
                    let opening = kernel::opening(flags);
                    fs.create_log(self.place(), CALLER, (parent, name), mode, opening)
                } else {
                    fs.create(self.place(), CALLER, parent, name, mode)
                };
                let made = made.map_err(errno)?;
                (made.0.id, made.1)
            }
            Err(errno) => return Err(errno),
        };
        let fd = Fd(self.next.fetch_add(1, Ordering::Relaxed));
        let descriptor = Descriptor { id, handle, flags, position };
        self.open.lock().expect("no panic").insert(fd, descriptor);
        Ok(fd)
    }

    fn close(&self, fd: Fd) -> Result<()> {
        let descriptor = self.open.lock().expect("no panic").remove(&fd).ok_or(Errno::BADF)?;
        let fs = self.fs();
        // FLUSH answers `close`; RELEASE comes after it.
        let flushed = fs.sync(descriptor.handle).map_err(errno);
        if let Some(finish) = fs.release(descriptor.handle).map_err(errno)? {
            fs.finish_closed(finish);
        }
        flushed
    }

    fn write(&self, fd: Fd, bytes: &[u8]) -> Result<usize> {
        let Descriptor { id, flags, position, .. } = self.descriptor(fd)?;
        let at = if flags.contains(OFlags::APPEND) {
            self.fs().attributes(self.place(), id).map_err(errno)?.size
        } else {
            position
        };
        let written = self.write_at(fd, bytes, at)?;
        if let Some(descriptor) = self.open.lock().expect("no panic").get_mut(&fd) {
            descriptor.position = at + written as u64;
        }
        Ok(written)
    }

    fn write_at(&self, fd: Fd, bytes: &[u8], offset: u64) -> Result<usize> {
        let Descriptor { handle, flags, .. } = self.descriptor(fd)?;
        if !kernel::is_writable(flags) {
            return Err(Errno::BADF);
        }
        self.fs().write(handle, offset, bytes).map_err(errno)
    }

    fn read_at(&self, fd: Fd, length: usize, offset: u64) -> Result<Vec<u8>> {
        let mut buffer = vec![0; length];
        let read = self.fs().read(self.descriptor(fd)?.handle, offset, &mut buffer);
        buffer.truncate(read.map_err(errno)?);
        Ok(buffer)
    }

    fn fsync(&self, fd: Fd) -> Result<()> {
        self.fs().sync(self.descriptor(fd)?.handle).map_err(errno)
    }

    fn ftruncate(&self, fd: Fd, length: u64) -> Result<()> {
        if !kernel::is_writable(self.descriptor(fd)?.flags) {
            return Err(Errno::INVAL);
        }
        self.change_by_fd(fd, AttributeChange { size: Some(length), ..Default::default() })
    }

    fn fallocate(&self, fd: Fd, mode: FallocateFlags, offset: u64, length: u64) -> Result<()> {
        let Descriptor { id, handle, flags, .. } = self.descriptor(fd)?;
        kernel::fallocate(flags, mode, length)?;
        self.fs()
            .allowed_by_handle(self.place(), id, handle, Request::Allocate)
            .and_then(|()| self.fs().allocate(handle, offset, length, mode.bits()))
            .map_err(errno)
    }

    fn fchmod(&self, fd: Fd, mode: u32) -> Result<()> {
        self.change_by_fd(fd, AttributeChange { mode: Some(mode), ..Default::default() })
    }

    fn control(&self, fd: Fd, control: Control) -> Result<()> {
        let Descriptor { id, handle, .. } = self.descriptor(fd)?;
        self.fs().control(self.place(), id, handle, control).map_err(errno)
    }

    fn truncate(&self, path: &[u8], length: u64) -> Result<()> {
        if self.find(path)?.kind == Kind::Directory {
            return Err(Errno::ISDIR);
        }
        self.change(path, AttributeChange { size: Some(length), ..Default::default() })
    }

    fn chmod(&self, path: &[u8], mode: u32) -> Result<()> {
        self.change(path, AttributeChange { mode: Some(mode), ..Default::default() })
    }

    fn chown(&self, path: &[u8], uid: u32, gid: u32) -> Result<()> {
        let change = AttributeChange { uid: Some(uid), gid: Some(gid), ..Default::default() };
        self.change(path, change)
    }

    fn utimes(&self, path: &[u8], mtime_ns: i64) -> Result<()> {
        let mtime_ns = Some(mtime_ns);
        self.change(path, AttributeChange { mtime_ns, atime: true, ..Default::default() })
    }

    fn rename(&self, from: &[u8], to: &[u8], flags: RenameFlags) -> Result<()> {
        let found = self.find(from)?;
        if !kernel::rename(&found, &self.find(to), flags)? {
            return Ok(());
        }
        let (from, to) = (self.split(from)?, self.split(to)?);
        self.fs().rename(self.place(), from, to).map_err(errno)
    }

    fn link(&self, from: &[u8], to: &[u8]) -> Result<()> {
        let found = self.find(from)?;
        kernel::make(&self.find(to))?;
        if found.kind == Kind::Directory {
            return Err(Errno::PERM);
        }
        self.make_other(to, Request::Link)
    }

    fn symlink(&self, _: &[u8], path: &[u8]) -> Result<()> {
        self.make_other(path, Request::Symlink)
    }

    fn mknod(&self, path: &[u8], _: FileType) -> Result<()> {
        self.make_other(path, Request::MakeNode)
    }

    fn mkdir(&self, path: &[u8], mode: u32) -> Result<()> {
        let (parent, name) = self.split(path)?;
        kernel::make(&self.find(path))?;
        let made = self.fs().make_directory(self.place(), CALLER, parent, name, mode);
        made.map(|_| ()).map_err(errno)
    }

    fn rmdir(&self, path: &[u8]) -> Result<()> {
        let (parent, name) = self.split(path)?;
        self.fs().remove_directory(self.place(), CALLER, parent, name).map_err(errno)
    }

    fn unlink(&self, path: &[u8]) -> Result<()> {
        let (parent, name) = self.split(path)?;
        self.fs().unlink(self.place(), CALLER, parent, name).map_err(errno)
    }

    fn getxattr(&self, path: &[u8], name: &str) -> Result<Vec<u8>> {
        let id = self.find(path)?.id;
        self.fs().xattr(self.place(), id, name.as_bytes()).map_err(errno)
    }

    fn setxattr(&self, path: &[u8], name: &str, value: &[u8]) -> Result<()> {
        let id = self.find(path)?.id;
        self.fs().set_xattr(self.place(), CALLER, id, name.as_bytes(), value).map_err(errno)
    }

    fn removexattr(&self, path: &[u8], _: &str) -> Result<()> {
        let id = self.find(path)?.id;
        self.fs().remove_xattr(self.place(), id).map_err(errno)
    }

    fn listxattr(&self, path: &[u8]) -> Result<Vec<String>> {
        let id = self.find(path)?.id;
        let names = self.fs().xattrs(self.place(), id).map_err(errno)?;
        let mut names: Vec<String> = names.into_iter().map(str::to_owned).collect();
        names.sort();
        Ok(names)
    }

    fn list(&self, path: &[u8]) -> Result<Vec<Vec<u8>>> {
        let (fs, id) = (self.fs(), self.find(path)?.id);
        let handle = fs.open_directory(self.place(), id).map_err(errno)?;
        let entries = fs.entries(handle).map_err(errno)?;
        fs.release(handle).map_err(errno)?;
        let names = entries.iter().map(|entry| entry.name.clone());
        let mut names: Vec<_> = names.filter(|name| *name != b"." && *name != b"..").collect();
        names.sort();
        Ok(names)
    }

    fn stat(&self, path: &[u8]) -> Result<Stat> {
        let found = self.find(path)?;
        Ok(Stat {
            id: found.id,
            is_directory: found.kind == Kind::Directory,
            size: found.size,
            mode: found.mode,
            uid: found.uid,
            gid: found.gid,
            links: found.links,
            mtime_ns: found.mtime_ns,
        })
    }
}
