//! A session through the kernel: the same file system, mounted three times by this process.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::os::fd::AsFd as _;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::time::Duration;
use std::time::Instant;

use rustix::fs::AtFlags;
use rustix::fs::CWD;
use rustix::fs::FallocateFlags;
use rustix::fs::FileType;
use rustix::fs::Gid;
use rustix::fs::Mode;
use rustix::fs::OFlags;
use rustix::fs::RenameFlags;
use rustix::fs::Timespec;
use rustix::fs::Timestamps;
use rustix::fs::Uid;
use rustix::fs::XattrFlags;
use rustix::io::Errno;
use rustix::mount::UnmountFlags;
use worm_fs::fs::Control;
use worm_fs::fs::Descriptors;
use worm_fs::fs::Place;
use worm_fs::fs::WormFs;
use worm_fs::fuse;
use worm_fs::store::OpenError;

use super::End;
use super::Fd;
use super::Files;
use super::Ground;
use super::Result;
use super::SOON;
use super::Session;
use super::Stat;
use super::ground::VIEW;
use super::ground::wait_compared;
use super::raw;
use super::wait_until_dropped;
use crate::watchdog;
use crate::watchdog::Watchdog;

/// As the daemon serves it.
const SETTINGS: fuse::Settings = fuse::Settings { threads: 2, passthrough: true };
/// Longer than any value or list that we have.
const XATTR_BYTES_MAX: usize = 4096;

/// A store mounted at three places. Dropped, it unmounts all, and panics if it cannot.
#[derive(Debug)]
pub struct Mounted {
    served: Mutex<Option<Served>>,
    active: Door,
    view: Door,
    logs: Door,
    ground: Ground,
    _watchdog: Watchdog,
}

#[derive(Debug)]
struct Served {
    fs: Arc<WormFs>,
    mounts: Vec<(PathBuf, fuse::Mounted)>,
}

impl Default for Mounted {
    fn default() -> Self {
        Self::on(Ground::default())
    }
}

impl Mounted {
    /// Serves the store of this ground.
    ///
    /// # Panics
    /// When it is not served.
    #[must_use]
    pub fn on(ground: Ground) -> Self {
        let (active, view, logs) = (ground.active(), ground.view(), ground.logs());
        let watchdog = Watchdog::new(&[&active, &view, &logs], watchdog::BOUND);
        let session = Self {
            served: Mutex::default(),
            active: Door::new(active),
            view: Door::new(view),
            logs: Door::new(logs),
            ground,
            _watchdog: watchdog,
        };
        session.start().expect("serve a new store");
        session
    }

    /// Where the place for writing is, for programs.
    #[must_use]
    pub fn path(&self, below: &str) -> PathBuf {
        self.active.root.join(below)
    }

    /// What stands behind a descriptor of the place for writing: to pass it on.
    ///
    /// # Panics
    /// When it is not open.
    #[must_use]
    pub fn owned(&self, fd: Fd) -> OwnedFd {
        let fd = self.active.get(fd).expect("it is open");
        rustix::io::fcntl_dupfd_cloexec(&fd, 0).expect("duplicate the descriptor")
    }

    fn doors(&self) -> [&Door; 3] {
        [&self.active, &self.view, &self.logs]
    }

    fn close_all(&self) -> bool {
        let any = |door: &Door| {
            let mut open = door.open.lock().expect("no panic");
            let any = !open.is_empty();
            open.clear();
            any
        };
        // All, not one or the other.
        self.doors().map(any).contains(&true)
    }

    fn has_open(&self) -> bool {
        self.doors().iter().any(|door| !door.open.lock().expect("no panic").is_empty())
    }
}

impl Session for Mounted {
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
        let served = self.served.lock().expect("no panic");
        Arc::clone(&served.as_ref().expect("it is served").fs)
    }

    fn stop(&self, end: End) {
        let served = self.served.lock().expect("no panic").take().expect("it is served");
        let Served { fs, mounts } = served;
        match end {
            End::Clean if self.has_open() => {
                // As the daemon does when somebody keeps a file open.
                fs.shut_down(Descriptors::Unknown);
                self.abort(mounts);
            }
            End::Clean => {
                for (path, mounted) in mounts {
                    unmount(&path);
                    mounted.join().expect("the session ends well");
                }
                fs.shut_down(Descriptors::AllClosed);
            }
            End::Crash => self.abort(mounts),
        }
        let last = Arc::downgrade(&fs);
        drop(fs);
        wait_until_dropped(&last);
    }

    fn start(&self) -> std::result::Result<(), OpenError> {
        let fs = WormFs::serve(self.ground.options())?;
        wait_compared(&fs);
        let mount = |place, path: PathBuf| {
            let read_only = matches!(place, Place::View { .. });
            let detached = fuse::make(fs.store_id(), read_only)
                .expect("mount: the system tests need root and /dev/fuse");
            let (mounted, mount) = detached.serve(&fs, place, SETTINGS).expect("serve the mount");
            fuse::attach(mount.as_fd(), &path).expect("attach the mount");
            (path, mounted)
        };
        let mut mounts =
            vec![mount(Place::Active, self.ground.active()), mount(VIEW, self.ground.view())];
        let logs = Ground::logs_place(&fs).map(|place| mount(place, self.ground.logs()));
        mounts.extend(logs);
        *self.served.lock().expect("no panic") = Some(Served { fs, mounts });
        Ok(())
    }
}

impl Mounted {
    /// What the kernel does when the daemon dies: every call fails from here on, and what is
    /// closed afterwards is told to nobody.
    fn abort(&self, mounts: Vec<(PathBuf, fuse::Mounted)>) {
        for (path, _) in &mounts {
            assert_eq!(watchdog::abort(path), 1, "one connection at {}", path.display());
        }
        self.close_all();
        for (path, mounted) in mounts {
            watchdog::clear(&path);
            // It ends with the error that the abort was.
            drop(mounted.join());
        }
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let served = self.served.get_mut().map_or(None, Option::take);
        if let Some(Served { fs, mounts }) = served {
            self.close_all();
            for (path, mounted) in mounts {
                if std::thread::panicking() {
                    watchdog::clear(&path);
                    drop(mounted);
                } else {
                    unmount(&path);
                    mounted.join().expect("the session ends well");
                }
            }
            fs.shut_down(Descriptors::Unknown);
        }
    }
}

/// Unmounts, and panics where that does not work. A child that another test is just starting
/// holds copies of all descriptors for a moment: then the mount is busy for that long.
pub(crate) fn unmount(path: &Path) {
    let deadline = Instant::now() + SOON;
    // A round trip first: the kernel drops what it has not handed over when it unmounts, the
    // closing of files among it.
    rustix::fs::statfs(path).expect("the mount answers");
    let connection = watchdog::connection(path);
    loop {
        match rustix::mount::unmount(path, UnmountFlags::NOFOLLOW) {
            Ok(()) => return connection.into_iter().for_each(watchdog::end),
            Err(Errno::BUSY) if Instant::now() < deadline => {
                std::thread::sleep(Duration::from_millis(1));
            }
            Err(errno) => {
                watchdog::clear(path);
                panic!("unmount {}: {errno:?}", path.display());
            }
        }
    }
}

/// One mount, with what is open there.
#[derive(Debug)]
struct Door {
    root: PathBuf,
    open: Mutex<HashMap<Fd, Arc<OwnedFd>>>,
    next: AtomicU64,
}

impl Door {
    fn new(root: PathBuf) -> Self {
        Self { root, open: Mutex::default(), next: AtomicU64::new(3) }
    }

    fn at(&self, path: &[u8]) -> PathBuf {
        self.root.join(OsStr::from_bytes(path))
    }

    fn get(&self, fd: Fd) -> Result<Arc<OwnedFd>> {
        self.open.lock().expect("no panic").get(&fd).cloned().ok_or(Errno::BADF)
    }
}

impl Files for Door {
    fn open(&self, path: &[u8], flags: OFlags, mode: u32) -> Result<Fd> {
        let flags = flags | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let opened = rustix::fs::open(self.at(path), flags, Mode::from_raw_mode(mode))?;
        let fd = Fd(self.next.fetch_add(1, Ordering::Relaxed));
        self.open.lock().expect("no panic").insert(fd, Arc::new(opened));
        Ok(fd)
    }

    fn close(&self, fd: Fd) -> Result<()> {
        let fd = self.open.lock().expect("no panic").remove(&fd).ok_or(Errno::BADF)?;
        match Arc::try_unwrap(fd) {
            Ok(fd) => raw::close(fd),
            Err(_) => panic!("another thread uses the descriptor that is closed"),
        }
    }

    fn write(&self, fd: Fd, bytes: &[u8]) -> Result<usize> {
        rustix::io::write(&self.get(fd)?, bytes)
    }

    fn write_at(&self, fd: Fd, bytes: &[u8], offset: u64) -> Result<usize> {
        rustix::io::pwrite(&self.get(fd)?, bytes, offset)
    }

    fn read_at(&self, fd: Fd, length: usize, offset: u64) -> Result<Vec<u8>> {
        let mut buffer = vec![0; length];
        let read = rustix::io::pread(&self.get(fd)?, &mut buffer, offset)?;
        buffer.truncate(read);
        Ok(buffer)
    }

    fn fsync(&self, fd: Fd) -> Result<()> {
        rustix::fs::fsync(&self.get(fd)?)
    }

    fn ftruncate(&self, fd: Fd, length: u64) -> Result<()> {
        rustix::fs::ftruncate(&self.get(fd)?, length)
    }

    fn fallocate(&self, fd: Fd, mode: FallocateFlags, offset: u64, length: u64) -> Result<()> {
        rustix::fs::fallocate(&self.get(fd)?, mode, offset, length)
    }

    fn fchmod(&self, fd: Fd, mode: u32) -> Result<()> {
        rustix::fs::fchmod(&self.get(fd)?, Mode::from_raw_mode(mode))
    }

    fn control(&self, fd: Fd, control: Control) -> Result<()> {
        let number = match control {
            Control::Begin => 0xF501,
            Control::Commit => 0xF502,
            Control::Abort => 0xF503,
        };
        raw::ioctl(&self.get(fd)?, number)
    }

    fn truncate(&self, path: &[u8], length: u64) -> Result<()> {
        raw::truncate(&self.at(path), length)
    }

    fn chmod(&self, path: &[u8], mode: u32) -> Result<()> {
        rustix::fs::chmod(self.at(path), Mode::from_raw_mode(mode))
    }

    fn chown(&self, path: &[u8], uid: u32, gid: u32) -> Result<()> {
        let (uid, gid) = (Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)));
        rustix::fs::chownat(CWD, self.at(path), uid, gid, AtFlags::SYMLINK_NOFOLLOW)
    }

    fn utimes(&self, path: &[u8], mtime_ns: i64) -> Result<()> {
        let time = Timespec {
            tv_sec: mtime_ns.div_euclid(1_000_000_000),
            tv_nsec: mtime_ns.rem_euclid(1_000_000_000),
        };
        let times = Timestamps { last_access: time, last_modification: time };
        rustix::fs::utimensat(CWD, self.at(path), &times, AtFlags::SYMLINK_NOFOLLOW)
    }

    fn rename(&self, from: &[u8], to: &[u8], flags: RenameFlags) -> Result<()> {
        rustix::fs::renameat_with(CWD, self.at(from), CWD, self.at(to), flags)
    }

    fn link(&self, from: &[u8], to: &[u8]) -> Result<()> {
        rustix::fs::link(self.at(from), self.at(to))
    }

    fn symlink(&self, target: &[u8], path: &[u8]) -> Result<()> {
        rustix::fs::symlink(target, self.at(path))
    }

    fn mknod(&self, path: &[u8], kind: FileType) -> Result<()> {
        let device = if kind.is_char_device() { rustix::fs::makedev(1, 3) } else { 0 };
        rustix::fs::mknodat(CWD, self.at(path), kind, Mode::RUSR, device)
    }

    fn mkdir(&self, path: &[u8], mode: u32) -> Result<()> {
        rustix::fs::mkdir(self.at(path), Mode::from_raw_mode(mode))
    }

    fn rmdir(&self, path: &[u8]) -> Result<()> {
        rustix::fs::rmdir(self.at(path))
    }

    fn unlink(&self, path: &[u8]) -> Result<()> {
        rustix::fs::unlink(self.at(path))
    }

    fn getxattr(&self, path: &[u8], name: &str) -> Result<Vec<u8>> {
        let mut value = vec![0; XATTR_BYTES_MAX];
        let length = rustix::fs::lgetxattr(self.at(path), name, &mut value[..])?;
        value.truncate(length);
        Ok(value)
    }

    fn setxattr(&self, path: &[u8], name: &str, value: &[u8]) -> Result<()> {
        rustix::fs::lsetxattr(self.at(path), name, value, XattrFlags::empty())
    }

    fn removexattr(&self, path: &[u8], name: &str) -> Result<()> {
        rustix::fs::lremovexattr(self.at(path), name)
    }

    fn listxattr(&self, path: &[u8]) -> Result<Vec<String>> {
        let mut list = vec![0; XATTR_BYTES_MAX];
        let length = rustix::fs::llistxattr(self.at(path), &mut list[..])?;
        let names = list[..length].split(|byte| *byte == 0).filter(|name| !name.is_empty());
        let mut names: Vec<_> =
            names.map(|name| String::from_utf8_lossy(name).into_owned()).collect();
        names.sort();
        Ok(names)
    }

    fn list(&self, path: &[u8]) -> Result<Vec<Vec<u8>>> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let directory = rustix::fs::open(self.at(path), flags, Mode::empty())?;
        let mut names = Vec::new();
        for entry in rustix::fs::Dir::read_from(directory)? {
            let name = entry?.file_name().to_bytes().to_vec();
            if name != b"." && name != b".." {
                names.push(name);
            }
        }
        names.sort();
        Ok(names)
    }

    fn stat(&self, path: &[u8]) -> Result<Stat> {
        let stat = rustix::fs::lstat(self.at(path))?;
        Ok(Stat {
            id: stat.st_ino,
            is_directory: FileType::from_raw_mode(stat.st_mode).is_dir(),
            size: u64::try_from(stat.st_size).expect("a length"),
            mode: stat.st_mode & 0o7777,
            uid: stat.st_uid,
            gid: stat.st_gid,
            links: u32::try_from(stat.st_nlink).expect("few links"),
            mtime_ns: stat.st_mtime * 1_000_000_000
                + i64::try_from(stat.st_mtime_nsec).expect("below a second"),
        })
    }
}
