//! Ends mounts that no longer answer, so that a test fails instead of hanging for ever.
//!
//! A process that waits for a file system in user space cannot be killed while its daemon is
//! silent. The way out is to abort the connection: then every call on the mount fails at once.
//! Only mounts at the given paths are touched.

use std::path::Path;
use std::path::PathBuf;
use std::sync::mpsc;
use std::sync::mpsc::RecvTimeoutError;
use std::thread::JoinHandle;
use std::time::Duration;
use std::time::Instant;

use rustix::mount::UnmountFlags;

/// How long the tests let a mount live: a test that takes longer is stuck.
pub const BOUND: Duration = Duration::from_secs(300);

/// How long a connection may outlive its mount before it counts as kept by a copy.
const COPIED: Duration = Duration::from_secs(5);

/// Where the kernel lets root abort connections, by number.
const CONNECTIONS: &str = "/sys/fs/fuse/connections";

/// Watches over mount points until it is dropped. Make it before mounting.
#[derive(Debug)]
pub struct Watchdog {
    release: Option<mpsc::Sender<()>>,
    thread: Option<JoinHandle<Vec<PathBuf>>>,
}

impl Watchdog {
    /// Aborts whatever FUSE file system is mounted at `mount_points` when `bound` has passed.
    #[must_use]
    pub fn new<P: AsRef<Path>>(mount_points: &[P], bound: Duration) -> Self {
        let watched: Vec<PathBuf> = mount_points.iter().map(|path| path.as_ref().into()).collect();
        let (release, released) = mpsc::channel::<()>();
        let thread = std::thread::spawn(move || match released.recv_timeout(bound) {
            Ok(()) | Err(RecvTimeoutError::Disconnected) => Vec::new(),
            Err(RecvTimeoutError::Timeout) => {
                watched.into_iter().filter(|path| abort(path) > 0).collect()
            }
        });
        Self { release: Some(release), thread: Some(thread) }
    }
}

impl Drop for Watchdog {
    fn drop(&mut self) {
        drop(self.release.take());
        let aborted = self.thread.take().map(JoinHandle::join);
        if let Some(Ok(aborted)) = aborted
            && !aborted.is_empty()
            && !std::thread::panicking()
        {
            panic!("the test took too long, so these mounts were aborted: {aborted:?}");
        }
    }
}

/// Aborts every FUSE connection that is mounted at `mount_point`, and says how many there were.
///
/// The dead mount stays and answers `ENOTCONN`; [`clear`] also takes it away.
pub fn abort(mount_point: &Path) -> usize {
    let mountinfo = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let connections = connections_at(&mountinfo, mount_point);
    for connection in &connections {
        if abort_connection(*connection).is_err() {
            // A forced unmount aborts as well, where the control files are not mounted.
            let force = UnmountFlags::FORCE | UnmountFlags::DETACH | UnmountFlags::NOFOLLOW;
            let _gone = rustix::mount::unmount(mount_point, force);
        }
    }
    connections.len()
}

fn abort_connection(connection: u32) -> std::io::Result<()> {
    // Opened, never made: it may have ended by itself.
    let file =
        std::fs::OpenOptions::new().write(true).open(format!("{CONNECTIONS}/{connection}/abort"));
    file.and_then(|mut file| std::io::Write::write_all(&mut file, b"1"))
}

/// The FUSE connection whose mount is topmost at `mount_point`, to be handed to [`end`].
#[must_use]
pub fn connection(mount_point: &Path) -> Option<u32> {
    let mountinfo = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    connections_at(&mountinfo, mount_point).pop()
}

/// Waits until a connection is over whose mount was taken away. Where another mount namespace, such
/// as that of a container which began meanwhile, has a copy of the mount, it is ended.
pub fn end(connection: u32) {
    let deadline = Instant::now() + COPIED;
    let path = Path::new(CONNECTIONS).join(connection.to_string());
    while path.exists() {
        if Instant::now() > deadline {
            // It may have ended between the two lines.
            let _gone = abort_connection(connection);
            return;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Takes every mount away that lies at `mount_point`, by force: for the end of a test that failed.
pub fn clear(mount_point: &Path) {
    abort(mount_point);
    // One turn for each mount that lies on top of another.
    while rustix::mount::unmount(mount_point, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW).is_ok()
    {
    }
    unlock(mount_point);
}

/// Takes the immutable flag away, or the directory of a test could not be removed.
fn unlock(directory: &Path) {
    let Ok(directory) = std::fs::File::open(directory) else { return };
    if let Ok(flags) = rustix::fs::ioctl_getflags(&directory)
        && flags.contains(rustix::fs::IFlags::IMMUTABLE)
    {
        let _ordinary =
            rustix::fs::ioctl_setflags(&directory, flags - rustix::fs::IFlags::IMMUTABLE);
    }
}

/// The numbers of the FUSE connections mounted at `mount_point`, the topmost last.
fn connections_at(mountinfo: &str, mount_point: &Path) -> Vec<u32> {
    mountinfo.lines().filter_map(|line| connection_at(line, mount_point)).collect()
}

/// Reads one line of mountinfo: `36 35 0:52 / /mnt/path rw,noatime shared:1 - fuse.worm worm rw`.
fn connection_at(line: &str, mount_point: &Path) -> Option<u32> {
    let (mount, file_system) = line.split_once(" - ")?;
    let kind = file_system.split(' ').next()?;
    if kind != "fuse" && !kind.starts_with("fuse.") {
        return None;
    }
    let mut fields = mount.split(' ').skip(2);
    let (_major, minor) = fields.next()?.split_once(':')?;
    let path = fields.nth(1)?;
    (Path::new(&unescape(path)) == mount_point).then(|| minor.parse().ok())?
}

/// Undoes the octal escapes of mountinfo: `\040` is a space.
fn unescape(field: &str) -> std::ffi::OsString {
    let bytes = field.as_bytes();
    let mut plain = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        let octal = field.get(at + 1..at + 4).filter(|_| byte == b'\\');
        let escaped = octal.and_then(|digits| u8::from_str_radix(digits, 8).ok());
        plain.push(escaped.unwrap_or(byte));
        at += if escaped.is_some() { 4 } else { 1 };
    }
    std::os::unix::ffi::OsStringExt::from_vec(plain)
}

#[cfg(test)]
mod tests {
    use std::panic::AssertUnwindSafe;

    use super::*;

    const MOUNTINFO: &str = "\
22 27 0:21 / /proc rw,relatime - proc proc rw
40 27 0:52 / /tmp/with\\040space/active rw,nosuid - fuse.worm worm rw
41 27 0:53 / /tmp/active rw shared:1 - fuse worm rw
42 41 0:54 / /tmp/active rw shared:1 master:2 - fuse worm rw
43 27 0:55 / /sys/fs/fuse/connections rw - fusectl fusectl rw
44 27 8:1 / /tmp/block rw - fuseblk /dev/sda1 rw
";

    #[test]
    fn connections_are_found_by_their_mount_point() {
        let check = |path: &str, expected: &[u32]| {
            assert_eq!(connections_at(MOUNTINFO, Path::new(path)), expected, "{path}");
        };
        check("/tmp/active", &[53, 54]);
        check("/tmp/with space/active", &[52]);
        check("/tmp", &[]);
        check("/tmp/block", &[]);
        check("/sys/fs/fuse/connections", &[]);
    }

    /// A mounted file system whose daemon, the owner of the descriptor, never answers.
    struct Silent {
        directory: tempfile::TempDir,
        _device: std::fs::File,
    }

    impl Silent {
        fn mount() -> Self {
            let device = std::fs::OpenOptions::new().read(true).write(true).open("/dev/fuse");
            let device = device.expect("open /dev/fuse: the system tests need it");
            let fd = std::os::fd::AsRawFd::as_raw_fd(&device);
            let options = format!("fd={fd},rootmode=40000,user_id=0,group_id=0");
            let options = std::ffi::CString::new(options).unwrap();
            let flags = rustix::mount::MountFlags::empty();
            let directory = tempfile::tempdir().unwrap();
            rustix::mount::mount("silent", directory.path(), "fuse", flags, options.as_c_str())
                .expect("mount: the system tests run as root");
            Self { directory, _device: device }
        }
    }

    impl Drop for Silent {
        fn drop(&mut self) {
            clear(self.directory.path());
        }
    }

    #[test]
    fn whoever_waits_for_a_silent_daemon_is_let_go() {
        let silent = Silent::mount();
        let at = silent.directory.path();
        let watchdog = Watchdog::new(&[at], Duration::from_millis(100));
        let error = std::fs::read_dir(at).expect_err("nobody answers").raw_os_error();
        assert!(matches!(error, Some(libc::ENOTCONN | libc::ECONNABORTED)), "{error:?}");
        let complaint = std::panic::catch_unwind(AssertUnwindSafe(|| drop(watchdog))).unwrap_err();
        let complaint = *complaint.downcast::<String>().unwrap();
        assert!(complaint.contains("took too long"), "{complaint}");
        clear(at);
        let mountinfo = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        assert_eq!(connections_at(&mountinfo, at), [0; 0]);
    }

    #[test]
    fn nothing_is_done_where_nothing_is_mounted() {
        let directory = tempfile::tempdir().unwrap();
        drop(Watchdog::new(&[directory.path()], Duration::ZERO));
        clear(directory.path());
    }
}
