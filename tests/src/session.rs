//! One test body, two ways in: [`InProcess`] calls the file system directly, [`Mounted`] goes
//! through the kernel. Both answer with raw errnos, so a difference between the library and the
//! mount is a failed test.
//!
//! Paths are bytes below the mount, without a leading slash: `b"hourly/x"`. Write a test with
//! [`crate::worm_test!`].

pub mod ground;
mod in_process;
mod kernel;
mod mounted;
pub mod raw;

use std::sync::Arc;
use std::sync::Weak;
use std::time::Duration;
use std::time::Instant;

use rustix::fs::FallocateFlags;
use rustix::fs::FileType;
use rustix::fs::OFlags;
use rustix::fs::RenameFlags;
use rustix::io::Errno;
use worm_fs::clock::ManualClock;
use worm_fs::fs::Control;
use worm_fs::fs::WormFs;
use worm_fs::store::OpenError;

pub use ground::GUEST;
pub use ground::Ground;
pub use ground::START_MS;
pub use in_process::InProcess;
pub use mounted::Mounted;
pub(crate) use mounted::unmount;

/// How long a test waits for what must happen soon, on a busy machine.
pub const SOON: Duration = Duration::from_secs(30);

/// What a call answers: a value, or the raw errno.
pub type Result<T> = std::result::Result<T, Errno>;

/// An open descriptor of a session.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct Fd(u64);

/// What `stat` shows.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Stat {
    /// Inode number.
    pub id: u64,
    /// It is a directory.
    pub is_directory: bool,
    /// Length in bytes.
    pub size: u64,
    /// Permission bits.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Names.
    pub links: u32,
    /// Modification time, nanoseconds since 1970.
    pub mtime_ns: i64,
}

/// How a daemon ends.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum End {
    /// As it should: told to, it finishes what is closed.
    Clean,
    /// At once and without a word, as by SIGKILL.
    Crash,
}

/// The calls of a program, at one place where a store is served.
pub trait Files: Sync {
    /// `open(2)`
    fn open(&self, path: &[u8], flags: OFlags, mode: u32) -> Result<Fd>;
    /// `close(2)`
    fn close(&self, fd: Fd) -> Result<()>;
    /// `write(2)`
    fn write(&self, fd: Fd, bytes: &[u8]) -> Result<usize>;
    /// `pwrite(2)`
    fn write_at(&self, fd: Fd, bytes: &[u8], offset: u64) -> Result<usize>;
    /// `pread(2)`
    fn read_at(&self, fd: Fd, length: usize, offset: u64) -> Result<Vec<u8>>;
    /// `fsync(2)`
    fn fsync(&self, fd: Fd) -> Result<()>;
    /// `ftruncate(2)`
    fn ftruncate(&self, fd: Fd, length: u64) -> Result<()>;
    /// `fallocate(2)`
    fn fallocate(&self, fd: Fd, mode: FallocateFlags, offset: u64, length: u64) -> Result<()>;
    /// `fchmod(2)`
    fn fchmod(&self, fd: Fd, mode: u32) -> Result<()>;
    /// `ioctl(2)` with `BEGIN`, `COMMIT` or `ABORT`.
    fn control(&self, fd: Fd, control: Control) -> Result<()>;
    /// `truncate(2)`
    fn truncate(&self, path: &[u8], length: u64) -> Result<()>;
    /// `chmod(2)`
    fn chmod(&self, path: &[u8], mode: u32) -> Result<()>;
    /// `chown(2)`
    fn chown(&self, path: &[u8], uid: u32, gid: u32) -> Result<()>;
    /// `utimensat(2)`, both times
    fn utimes(&self, path: &[u8], mtime_ns: i64) -> Result<()>;
    /// `renameat2(2)`
    fn rename(&self, from: &[u8], to: &[u8], flags: RenameFlags) -> Result<()>;
    /// `link(2)`
    fn link(&self, from: &[u8], to: &[u8]) -> Result<()>;
    /// `symlink(2)`
    fn symlink(&self, target: &[u8], path: &[u8]) -> Result<()>;
    /// `mknod(2)`
    fn mknod(&self, path: &[u8], kind: FileType) -> Result<()>;
    /// `mkdir(2)`
    fn mkdir(&self, path: &[u8], mode: u32) -> Result<()>;
    /// `rmdir(2)`
    fn rmdir(&self, path: &[u8]) -> Result<()>;
    /// `unlink(2)`
    fn unlink(&self, path: &[u8]) -> Result<()>;
    /// `getxattr(2)`
    fn getxattr(&self, path: &[u8], name: &str) -> Result<Vec<u8>>;
    /// `setxattr(2)`
    fn setxattr(&self, path: &[u8], name: &str, value: &[u8]) -> Result<()>;
    /// `removexattr(2)`
    fn removexattr(&self, path: &[u8], name: &str) -> Result<()>;
    /// `listxattr(2)`, sorted
    fn listxattr(&self, path: &[u8]) -> Result<Vec<String>>;
    /// Names in a directory, sorted, without `.` and `..`
    fn list(&self, path: &[u8]) -> Result<Vec<Vec<u8>>>;
    /// `lstat(2)`
    fn stat(&self, path: &[u8]) -> Result<Stat>;
}

/// A store that is served at three places: for writing, as a read-only view, and its logs. As
/// itself it stands for the first: `worm.unlink(..)`.
pub trait Session: Sync {
    /// The place that takes new files.
    fn active(&self) -> &(dyn Files + 'static);
    /// The read-only view.
    fn view(&self) -> &(dyn Files + 'static);
    /// The logs.
    fn logs(&self) -> &(dyn Files + 'static);
    /// What lies under it: the store's directory, its key, its clock, its configuration.
    fn ground(&self) -> &Ground;
    /// The file system that is served now.
    fn fs(&self) -> Arc<WormFs>;
    /// Ends the daemon. All descriptors are gone.
    fn stop(&self, end: End);
    /// Starts a daemon on the same store.
    ///
    /// # Errors
    /// When the store cannot be opened.
    fn start(&self) -> std::result::Result<(), OpenError>;
}

impl std::ops::Deref for dyn Session + '_ {
    type Target = dyn Files;

    fn deref(&self) -> &Self::Target {
        self.active()
    }
}

impl dyn Session + '_ {
    /// The clock that everything goes by.
    #[must_use]
    pub fn clock(&self) -> &ManualClock {
        &self.ground().clock
    }

    /// Ends the daemon and starts another.
    ///
    /// # Panics
    /// When the store cannot be opened.
    #[track_caller]
    pub fn restart(&self, end: End) {
        self.stop(end);
        self.start().unwrap_or_else(|error| panic!("start again after {end:?}: {error}"));
    }

    /// Lets the store do all its own work, and says how many files it removed.
    ///
    /// # Panics
    /// When it fails.
    #[track_caller]
    pub fn housekeep(&self) -> usize {
        let mut removed = 0;
        loop {
            match self.fs().housekeep().expect("keep house") {
                0 => return removed,
                some => removed += some,
            }
        }
    }
}

impl dyn Files + '_ {
    /// Creates a file and opens it for writing; the name must be free.
    ///
    /// # Errors
    /// The raw errno.
    pub fn create(&self, path: &[u8]) -> Result<Fd> {
        self.open(path, OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY, 0o644)
    }

    /// Opens what is there for reading.
    ///
    /// # Errors
    /// The raw errno.
    pub fn open_to_read(&self, path: &[u8]) -> Result<Fd> {
        self.open(path, OFlags::RDONLY, 0)
    }

    /// Makes a sealed file, and gives its digest.
    ///
    /// # Panics
    /// When it cannot be made.
    #[track_caller]
    pub fn put(&self, path: &[u8], bytes: &[u8]) -> String {
        let shown = String::from_utf8_lossy(path);
        let fd = self.create(path).unwrap_or_else(|errno| panic!("create {shown}: {errno:?}"));
        if !bytes.is_empty() {
            assert_eq!(self.write(fd, bytes), Ok(bytes.len()), "write {shown}");
        }
        assert_eq!(self.close(fd), Ok(()), "close {shown}");
        self.wait_sealed(path)
    }

    /// All bytes of a file.
    ///
    /// # Errors
    /// The raw errno.
    pub fn get(&self, path: &[u8]) -> Result<Vec<u8>> {
        let fd = self.open_to_read(path)?;
        let mut bytes = Vec::new();
        let read = loop {
            match self.read_at(fd, 1 << 20, bytes.len() as u64) {
                Ok(more) if more.is_empty() => break Ok(()),
                Ok(more) => bytes.extend_from_slice(&more),
                Err(errno) => break Err(errno),
            }
        };
        self.close(fd)?;
        read.map(|()| bytes)
    }

    /// An extended attribute as text.
    ///
    /// # Errors
    /// The raw errno.
    pub fn worm(&self, path: &[u8], name: &str) -> Result<String> {
        let value = self.getxattr(path, &format!("user.worm.{name}"))?;
        Ok(String::from_utf8(value).expect("our attributes are text"))
    }

    /// Waits until a closed file is sealed, and gives its digest. `close` returns before.
    ///
    /// # Panics
    /// When it takes too long, or anything else is answered meanwhile.
    #[track_caller]
    pub fn wait_sealed(&self, path: &[u8]) -> String {
        let answer = self.wait(|| match self.worm(path, "sha256") {
            Err(Errno::NODATA | Errno::AGAIN) => None,
            other => Some(other),
        });
        let shown = String::from_utf8_lossy(path);
        answer
            .unwrap_or_else(|| panic!("{shown} was not sealed"))
            .unwrap_or_else(|errno| panic!("{shown} was not sealed: {errno:?}"))
    }

    /// Waits until a given-up file has left its name free, and gives the path where it is kept.
    ///
    /// # Panics
    /// When that takes too long.
    #[track_caller]
    pub fn wait_incomplete(&self, path: &[u8]) -> Vec<u8> {
        let class = path.split(|byte| *byte == b'/').next().unwrap_or_default();
        let name = path.rsplit(|byte| *byte == b'/').next().unwrap_or_default();
        let inside = [class, b"/.incomplete"].concat();
        let kept = self.wait(|| {
            let names = self.list(&inside).ok()?;
            let kept = names.into_iter().find(|kept| is_numbered(kept, name))?;
            (self.stat(path) == Err(Errno::NOENT)).then_some(kept)
        });
        let shown = String::from_utf8_lossy(path);
        let kept = kept.unwrap_or_else(|| panic!("{shown} did not become incomplete"));
        [&inside, &b"/"[..], &kept].concat()
    }

    /// Waits until a name is gone that the store removed by itself: the kernel hears of it after.
    ///
    /// # Panics
    /// When that takes too long.
    #[track_caller]
    pub fn wait_gone(&self, path: &[u8]) {
        let gone = self.wait(|| (self.stat(path) == Err(Errno::NOENT)).then_some(()));
        gone.unwrap_or_else(|| panic!("{} is still there", String::from_utf8_lossy(path)));
    }

    /// Asks again and again until there is an answer, or it takes too long.
    fn wait<T>(&self, ask: impl Fn() -> Option<T>) -> Option<T> {
        let deadline = Instant::now() + SOON;
        loop {
            match ask() {
                None if Instant::now() < deadline => {
                    std::thread::sleep(Duration::from_millis(1));
                }
                answer => return answer,
            }
        }
    }
}

/// A seal or a snapshot that is on its way holds the file system for a moment longer.
fn wait_until_dropped(fs: &Weak<WormFs>) {
    let deadline = Instant::now() + SOON;
    while fs.strong_count() > 0 {
        assert!(Instant::now() < deadline, "somebody keeps the file system");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Whether `kept` is `NAME.N`.
fn is_numbered(kept: &[u8], name: &[u8]) -> bool {
    let number = kept.strip_prefix(name).and_then(|rest| rest.strip_prefix(b"."));
    number.is_some_and(|number| number.iter().all(u8::is_ascii_digit))
}

/// Makes two tests of one body: `NAME::in_process` and `NAME::mounted`.
#[macro_export]
macro_rules! worm_test {
    ($(#[$doc:meta])* $name:ident, $body:expr) => {
        $(#[$doc])*
        mod $name {
            use super::*;

            fn body(session: &dyn $crate::session::Session) {
                let body: fn(&dyn $crate::session::Session) = $body;
                body(session);
            }

            #[test]
            fn in_process() {
                body(&$crate::session::InProcess::default());
            }

            #[test]
            fn mounted() {
                body(&$crate::session::Mounted::default());
            }
        }
    };
}
