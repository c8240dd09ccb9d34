//! A disk without room, or without inodes: what fails says so, what was acknowledged stays, and
//! with room everything goes on.

use std::fs::File;
use std::io::Write as _;
use std::path::Path;

use rustix::io::Errno;
use rustix::mount::MountFlags;
use rustix::mount::UnmountFlags;
use system_tests::daemon::Daemon;
use system_tests::daemon::sha256;
use system_tests::session::raw;

use super::BEGIN;
use super::COMMIT;
use super::digest;
use super::put;

/// A file system of its own for the store, gone when it is dropped.
struct Tmpfs(tempfile::TempDir);

impl Tmpfs {
    fn mount(options: &str) -> Self {
        let tmpfs = Self(tempfile::tempdir().unwrap());
        tmpfs.set(options, MountFlags::empty());
        tmpfs
    }

    fn set(&self, options: &str, flags: MountFlags) {
        let options = std::ffi::CString::new(options).unwrap();
        rustix::mount::mount("tmpfs", self.0.path(), "tmpfs", flags, Some(options.as_c_str()))
            .expect("mount a tmpfs: the system tests run as root");
    }

    fn grow(&self, options: &str) {
        let options = std::ffi::CString::new(options).unwrap();
        rustix::mount::mount_remount(self.0.path(), MountFlags::empty(), options.as_c_str())
            .expect("give the tmpfs more");
    }

    fn store(&self) -> std::path::PathBuf {
        self.0.path().join("store")
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        let _gone = rustix::mount::unmount(self.0.path(), UnmountFlags::DETACH);
    }
}

/// Puts files in until one fails: their numbers, and why the next one failed.
fn fill(daemon: &Daemon, numbers: impl Iterator<Item = u64>) -> (Vec<u64>, Errno) {
    let mut sealed = Vec::new();
    for number in numbers {
        match put(daemon, "kept", &number.to_string(), number) {
            Ok(_) => sealed.push(number),
            Err(error) => return (sealed, Errno::from_io_error(&error).unwrap()),
        }
    }
    panic!("the disk does not fill up");
}

#[track_caller]
fn check(daemon: &Daemon, sealed: &[u64]) {
    for number in sealed {
        let path = daemon.active().join("kept").join(number.to_string());
        assert_eq!(sha256(&path), digest(*number), "file {number}");
    }
    let report = daemon.verify();
    assert!(report["problems"].as_array().unwrap().is_empty(), "{report}");
}

/// Writes a file and leaves it open.
fn begin(path: &Path) -> File {
    let mut file = File::create_new(path).unwrap();
    raw::ioctl(&file, BEGIN).unwrap();
    file.write_all(b"written while there was room").unwrap();
    file
}

#[test]
fn a_full_disk_seals_what_is_written_and_takes_nothing_new() {
    let tmpfs = Tmpfs::mount("size=24m,mode=0700");
    let daemon = Daemon::prepare_on(&tmpfs.store());
    let config = super::config(&daemon);
    daemon.mount(&["--config", &config]).success();
    let open = begin(&daemon.active().join("kept/open"));
    // 2000000 bytes each, then 5000.
    let (mut sealed, why) = fill(&daemon, (0..1000).map(|n| n * 45 + 4));
    assert_eq!(why, Errno::NOSPC);
    let (small, why) = fill(&daemon, (0..100_000).map(|n| n * 45 + 2));
    assert_eq!(why, Errno::NOSPC);
    sealed.extend(small);
    // The reserve of the ledger is for this.
    raw::ioctl(&open, COMMIT).expect("seal on a full disk");
    drop(open);
    check(&daemon, &sealed);
    daemon.kill();
    daemon.mount(&["--config", &config]).success();
    check(&daemon, &sealed);
    assert_eq!(
        std::fs::read(daemon.active().join("kept/open")).unwrap(),
        b"written while there was room"
    );
    tmpfs.grow("size=48m");
    assert!(put(&daemon, "kept", "51", 51).unwrap());
    sealed.push(51);
    check(&daemon, &sealed);
}

#[test]
fn a_disk_without_inodes_seals_what_is_written_and_takes_nothing_new() {
    let tmpfs = Tmpfs::mount("size=64m,nr_inodes=120,mode=0700");
    let daemon = Daemon::prepare_on(&tmpfs.store());
    let config = super::config(&daemon);
    daemon.mount(&["--config", &config]).success();
    let open = begin(&daemon.active().join("kept/open"));
    let (mut sealed, why) = fill(&daemon, (0..1000).map(|n| n * 45 + 1));
    assert_eq!(why, Errno::NOSPC);
    let directory = std::fs::create_dir(daemon.active().join("kept/directory")).unwrap_err();
    assert_eq!(directory.raw_os_error(), Some(libc::ENOSPC));
    raw::ioctl(&open, COMMIT).expect("seal without inodes");
    drop(open);
    daemon.kill();
    daemon.mount(&["--config", &config]).success();
    check(&daemon, &sealed);
    tmpfs.grow("nr_inodes=240");
    assert!(put(&daemon, "kept", "51", 51).unwrap());
    std::fs::create_dir(daemon.active().join("kept/directory")).unwrap();
    sealed.push(51);
    check(&daemon, &sealed);
}
