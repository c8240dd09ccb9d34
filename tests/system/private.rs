//! A store on a device that is mounted where only its daemon sees it.

use std::fs::File;
use std::io::Write as _;
use std::path::Path;
use std::process::Command;
use std::time::Duration;
use std::time::Instant;

use rustix::mount::MountFlags;
use rustix::mount::UnmountFlags;
use rustix::process::Signal;
use system_tests::binary;
use system_tests::daemon::Daemon;
use system_tests::daemon::names;
use system_tests::daemon::sha256;
use system_tests::device::Device;
use system_tests::watchdog;

/// A daemon whose store is on a device of its own. The daemon is dropped before the device.
struct Private {
    daemon: Daemon,
    device: Device,
}

impl Private {
    fn new() -> Self {
        Self { daemon: Daemon::prepare(), device: Device::ext4() }
    }

    fn mount(&self) -> binary::Output {
        self.daemon.mount(&["--private-store", self.device.path().to_str().unwrap()])
    }

    /// Waits until a process has ended, and with it its mount namespace.
    fn wait_for_end(pid: rustix::process::Pid) {
        let deadline = Instant::now() + Duration::from_secs(60);
        while Path::new(&format!("/proc/{}/root/etc", pid.as_raw_nonzero())).exists() {
            assert!(Instant::now() < deadline, "the daemon does not end");
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Private {
    fn drop(&mut self) {
        // The directory of the test could not be removed with it.
        watchdog::clear(&self.daemon.store());
    }
}

fn put(path: &Path, bytes: &[u8]) {
    File::create_new(path).unwrap().write_all(bytes).unwrap();
}

#[test]
fn a_private_store_is_nowhere_on_the_host_and_survives_the_daemon() {
    let private = Private::new();
    let Private { daemon, device } = &private;
    // A mount of the host that the daemon has no use for is not kept alive by it.
    let other = daemon.directory().join("other");
    std::fs::create_dir(&other).unwrap();
    rustix::mount::mount("other", &other, "tmpfs", MountFlags::empty(), Some(c"size=4k")).unwrap();
    let mounted = private.mount();
    rustix::mount::unmount(&other, UnmountFlags::empty()).unwrap();
    mounted.success();
    let seen = format!("/proc/{}/mountinfo", daemon.pid().as_raw_nonzero());
    let seen = std::fs::read_to_string(seen).unwrap();
    assert!(!seen.contains(&*other.to_string_lossy()), "{seen}");

    let file = daemon.active().join("daily/x");
    put(&file, &[7; 3_000_000]);
    let digest = daemon.wait(&file);
    assert!(names(&daemon.store()).is_empty(), "nothing of it is seen here");
    let here = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert!(!here.contains(&*device.path().to_string_lossy()), "{here}");
    assert_eq!(sha256(&daemon.view().join("daily/x")), digest);
    assert!(!daemon.log().contains("read through the daemon"), "{}", daemon.log());
    // An admin's commands find it through the mount.
    for verb in ["status", "ls", "verify"] {
        daemon.worm(verb, &daemon.active(), &[]).success();
    }
    let pid = daemon.pid();
    rustix::process::kill_process(pid, Signal::KILL).unwrap();
    Private::wait_for_end(pid);
    private.mount().success();
    assert_eq!(sha256(&file), digest);
    daemon.worm("umount", &daemon.active(), &[]).success();
    private.mount().success();
    assert_eq!(sha256(&file), digest);
    daemon.worm("umount", &daemon.active(), &["--guard"]).success();

    // Without the device no other store begins in its place.
    let said = daemon.mount(&[]).expect_code(4);
    assert!(said.stderr.contains("give --private-store"), "{}", said.stderr);
    assert!(names(&daemon.store()).is_empty());
}

#[test]
fn what_would_not_be_private_is_refused() {
    let private = Private::new();
    let Private { daemon, device } = &private;
    let try_with = |what: &Path| daemon.mount(&["--private-store", what.to_str().unwrap()]);
    let said = try_with(daemon.directory()).expect_code(2);
    assert!(said.stderr.contains("a directory of the host stays in reach"), "{}", said.stderr);
    let said = try_with(Path::new("/etc/passwd")).expect_code(2);
    assert!(said.stderr.contains("not a block device"), "{}", said.stderr);
    drop(try_with(Path::new("/dev/none")).expect_code(6));

    let place = daemon.directory().join("place");
    std::fs::create_dir(&place).unwrap();
    rustix::mount::mount(device.path(), &place, "ext4", MountFlags::empty(), None).unwrap();
    let said = try_with(device.path());
    rustix::mount::unmount(&place, UnmountFlags::empty()).unwrap();
    let said = said.expect_code(7);
    assert!(said.stderr.contains("it is mounted at"), "{}", said.stderr);

    std::fs::create_dir(daemon.store()).unwrap();
    put(&daemon.store().join("mine"), b"x");
    let said = try_with(device.path()).expect_code(4);
    assert!(said.stderr.contains("must be empty"), "{}", said.stderr);

    let zeros = File::options().write(true).open(device.path()).unwrap();
    (&zeros).write_all(&[0; 1 << 16]).unwrap();
    std::fs::remove_file(daemon.store().join("mine")).unwrap();
    let said = try_with(device.path()).expect_code(4);
    assert!(said.stderr.contains("--private-type"), "{}", said.stderr);
    let said = daemon.mount(&["--private-type", "ext4"]).expect_code(2);
    assert!(said.stderr.contains("--private-store"), "{}", said.stderr);
}

/// On most hosts everything is shared: then what the daemon mounts for itself must not come back,
/// and what is unmounted on the host must go there.
const ON_A_SHARED_HOST: &str = r#"
worm=$1 root=$2 device=$3
trap '[ ! -e "$root"/run/*.json ] || kill $(sed "s/.*\"pid\":\([0-9]*\).*/\1/" "$root"/run/*.json) || true' EXIT
"$worm" mount "$root/store" "$root/active" --view "$root/view" --key "$root/key" \
    --run-dir "$root/run" --private-store "$device" > /dev/null
echo backup > "$root/active/daily/x"
"$worm" wait "$root/active/daily/x" > /dev/null
! grep "$device" /proc/self/mountinfo
"$worm" status "$root/active" --run-dir "$root/run" > /dev/null
"$worm" umount "$root/active" --run-dir "$root/run"
! grep "$root/.* fuse.worm" /proc/self/mountinfo
"$worm" umount "$root/active" --guard --run-dir "$root/run"
! grep "$root/" /proc/self/mountinfo
"#;

#[test]
fn a_private_store_works_where_all_mounts_are_shared() {
    let private = Private::new();
    let mut host = Command::new("unshare");
    host.args(["--mount", "--propagation", "shared", "sh", "-ec", ON_A_SHARED_HOST, "sh"]);
    host.arg(binary::path("worm")).arg(private.daemon.directory()).arg(private.device.path());
    binary::run(&mut host).success();
}
