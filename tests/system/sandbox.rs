//! What the daemon has given up, and what it notices about its places.

use std::fs::File;
use std::io::Write as _;
use std::path::Path;
use std::time::Duration;
use std::time::Instant;

use rustix::mount::MountFlags;
use rustix::mount::MountPropagationFlags;
use rustix::mount::UnmountFlags;
use system_tests::binary;
use system_tests::daemon::Daemon;
use system_tests::daemon::sha256;
use system_tests::watchdog;

/// The value of a field in every `/proc/PID/task/TID/status` of a process. A thread that has just
/// ended has none.
fn of_all_threads(pid: &str, field: &str) -> Vec<String> {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    let values = tasks.filter_map(|task| {
        let status = std::fs::read_to_string(task.unwrap().path().join("status")).ok()?;
        let line = status.lines().find_map(|line| line.strip_prefix(field)).unwrap().to_owned();
        Some(line.trim_start_matches(':').trim().to_owned())
    });
    values.collect()
}

fn check_all(daemon: &Daemon, field: &str, expected: &str) {
    let pid = daemon.pid().as_raw_nonzero().to_string();
    let values = of_all_threads(&pid, field);
    assert!(values.len() > 4, "every thread is looked at: {values:?}");
    assert!(values.iter().all(|value| value == expected), "{field}: {values:?}");
}

/// `CAP_SYS_ADMIN` as `/proc` shows it.
const SYS_ADMIN_ONLY: &str = "0000000000200000";
const NO_CAPABILITY: &str = "0000000000000000";

fn put(path: &Path, bytes: &[u8]) {
    File::create_new(path).unwrap().write_all(bytes).unwrap();
}

#[test]
fn no_thread_of_the_daemon_has_more_than_it_needs() {
    let daemon = Daemon::start();
    put(&daemon.active().join("daily/x"), &[7; 3_000_000]);
    daemon.wait(&daemon.active().join("daily/x"));
    for field in ["CapEff", "CapPrm", "CapBnd"] {
        check_all(&daemon, field, SYS_ADMIN_ONLY);
    }
    for field in ["CapInh", "CapAmb"] {
        check_all(&daemon, field, NO_CAPABILITY);
    }
    check_all(&daemon, "NoNewPrivs", "1");
    check_all(&daemon, "Seccomp", "2");
    let said = "capabilities sys_admin only, no new privileges, landlock abi ";
    assert!(daemon.log().contains(said), "{}", daemon.log());
    let status = daemon.worm("status", &daemon.active(), &[]).success();
    assert!(status.contains(&format!("sandbox  {said}")), "{status}");
    // It reads straight from the disk all the same.
    assert!(!daemon.log().contains("read through the daemon"), "{}", daemon.log());
}

#[test]
fn without_passthrough_the_daemon_has_no_capability_and_works() {
    let daemon = Daemon::prepare();
    daemon.mount(&["--no-passthrough"]).success();
    check_all(&daemon, "CapEff", NO_CAPABILITY);
    check_all(&daemon, "CapBnd", NO_CAPABILITY);
    let file = daemon.active().join("daily/x");
    put(&file, &[7; 3_000_000]);
    assert_eq!(daemon.wait(&file), sha256(&daemon.view().join("daily/x")));
    rustix::process::kill_process(daemon.pid(), rustix::process::Signal::TERM).unwrap();
    daemon.wait_until_not_served();
    let made = File::create(daemon.active().join("early")).map(drop).unwrap_err();
    assert_eq!(made.kind(), std::io::ErrorKind::ReadOnlyFilesystem, "the keeper unmounted it");
    daemon.mount(&[]).success();
    daemon.verify();
}

/// The process that attaches the mounts of a daemon: the only one that it starts.
fn keeper_of(daemon: &Daemon) -> rustix::process::Pid {
    let pid = daemon.pid().as_raw_nonzero();
    let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap();
    let mut children = children.split_whitespace();
    let keeper = children.next().and_then(|child| child.parse().ok());
    assert_eq!(children.next(), None, "one keeper");
    rustix::process::Pid::from_raw(keeper.unwrap()).unwrap()
}

#[test]
fn p15_the_keeper_ends_with_its_daemon_and_without_it_the_place_stays_closed() {
    let daemon = Daemon::start();
    let keeper = keeper_of(&daemon);
    let pid = keeper.as_raw_nonzero().to_string();
    assert_eq!(of_all_threads(&pid, "NoNewPrivs"), ["1"]);
    // CAP_SYS_ADMIN and CAP_DAC_READ_SEARCH.
    assert_eq!(of_all_threads(&pid, "CapEff"), ["0000000000200004"]);
    // It leaves signals to the daemon.
    rustix::process::kill_process(keeper, rustix::process::Signal::TERM).unwrap();
    daemon.kill();
    let deadline = Instant::now() + Duration::from_secs(30);
    // Of a process that has ended, and that nobody has asked about yet, no words are left.
    let words = || std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    while !words().is_empty() {
        assert!(Instant::now() < deadline, "the keeper does not end");
        std::thread::sleep(Duration::from_millis(5));
    }

    daemon.mount(&[]).success();
    rustix::process::kill_process(keeper_of(&daemon), rustix::process::Signal::KILL).unwrap();
    put(&daemon.active().join("daily/x"), b"x");
    daemon.wait(&daemon.active().join("daily/x"));
    rustix::process::kill_process(daemon.pid(), rustix::process::Signal::TERM).unwrap();
    daemon.wait_until_not_served();
    let made = File::create(daemon.active().join("early")).map(drop).unwrap_err();
    assert_eq!(made.raw_os_error(), Some(libc::ENOTCONN));
    daemon.mount(&[]).success();
    assert_eq!(daemon.verify()["files"], 1);
}

#[test]
fn the_daemon_reaches_its_run_directory_and_no_other_beside_it() {
    let daemon = Daemon::start();
    let (run, moved) = (daemon.run_directory(), daemon.directory().join("moved"));
    // The same path, another directory.
    rustix::fs::rename(&run, &moved).unwrap();
    std::fs::create_dir(&run).unwrap();
    cover(&daemon.view());
    let deadline = Instant::now() + Duration::from_secs(30);
    let logged = || {
        let logs = std::fs::read_dir(&moved).unwrap().flatten().map(|log| log.path());
        let log = logs.filter(|log| log.extension().is_some_and(|e| e == "log"));
        log.map(|log| std::fs::read_to_string(log).unwrap()).collect::<String>()
    };
    while !logged().contains("cannot note the daemon") && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(10));
    }
    uncover(&daemon.view());
    let (log, written) = (logged(), std::fs::read_dir(&run).unwrap().count());
    std::fs::remove_dir(&run).unwrap();
    rustix::fs::rename(&moved, &run).unwrap();
    assert!(log.contains("Permission denied"), "{log}");
    assert_eq!(written, 0);
}

#[test]
fn where_the_kernel_permits_none_of_it_the_daemon_works_and_says_so() {
    let daemon = Daemon::prepare();
    // As a container whose runtime answers ENOSYS to what it does not know.
    let mount = daemon.mount_command();
    let mut old = binary::command("old-kernel");
    old.arg(mount.get_program()).args(mount.get_args());
    binary::run(&mut old).success();
    let status = daemon.worm("status", &daemon.active(), &[]).success();
    for what in ["all capabilities kept", "no landlock", "no seccomp"] {
        assert!(status.contains(what), "{status}");
    }
    put(&daemon.active().join("daily/x"), b"x");
    daemon.wait(&daemon.active().join("daily/x"));
    daemon.verify();
}

fn cover(place: &Path) {
    let flags = MountFlags::empty();
    rustix::mount::mount("other", place, "tmpfs", flags, Some(c"size=4k")).unwrap();
}

fn uncover(place: &Path) {
    rustix::mount::unmount(place, UnmountFlags::DETACH).unwrap();
}

/// Waits until `worm status` of the store ends like this and says this.
#[track_caller]
fn wait_for_status(daemon: &Daemon, code: i32, said: &str) {
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        let status = daemon.worm("status", &daemon.store(), &[]);
        if status.code() == code && (status.stdout.contains(said) || said.is_empty()) {
            return;
        }
        assert!(Instant::now() < deadline, "{status:?}\n{}", daemon.log());
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn p15_a_covered_place_is_noticed_told_and_forgotten_when_it_is_right_again() {
    let daemon = Daemon::start();
    for place in [daemon.active(), daemon.view()] {
        wait_for_status(&daemon, 0, &format!("place    {}: served", place.display()));
        cover(&place);
        wait_for_status(&daemon, 10, &format!("{}: covered by tmpfs other", place.display()));
        let said = daemon.worm("status", &place, &[]).expect_code(10);
        assert!(said.stderr.contains("not write-once here: covered by tmpfs other"), "{said:?}");
        uncover(&place);
        wait_for_status(&daemon, 0, "");
        daemon.worm("status", &place, &[]).success();
        assert!(daemon.log().contains("covered by tmpfs other"), "{}", daemon.log());
    }
}

/// A directory that is a mount of its own, shared with nobody: mounts can be moved below it.
struct Ground<'a> {
    daemon: &'a Daemon,
    path: std::path::PathBuf,
}

impl<'a> Ground<'a> {
    /// Serves the store at `active` in it.
    fn new(daemon: &'a Daemon) -> Self {
        let path = daemon.directory().join("ground");
        std::fs::create_dir_all(path.join("elsewhere")).unwrap();
        rustix::mount::mount_bind(&path, &path).unwrap();
        rustix::mount::mount_change(&path, MountPropagationFlags::PRIVATE).unwrap();
        let ground = Self { daemon, path };
        let mut mount = binary::command("worm");
        mount.arg("mount").arg(daemon.store()).arg(ground.active()).arg("--key").arg(daemon.key());
        mount.arg("--run-dir").arg(daemon.run_directory());
        binary::run(&mut mount).success();
        ground
    }

    fn active(&self) -> std::path::PathBuf {
        self.path.join("active")
    }
}

impl Drop for Ground<'_> {
    fn drop(&mut self) {
        if worm_fs::store::is_served(&self.daemon.store()) {
            self.daemon.kill();
        }
        for place in [self.path.join("elsewhere"), self.active(), self.path.clone()] {
            watchdog::clear(&place);
        }
    }
}

#[test]
fn p15_a_place_whose_directory_above_is_covered_is_noticed() {
    let daemon = Daemon::prepare();
    let ground = Ground::new(&daemon);
    wait_for_status(&daemon, 0, "served");
    cover(&ground.path);
    wait_for_status(&daemon, 10, "covered by tmpfs other at ");
    drop(daemon.worm("status", &ground.active(), &[]).expect_code(6));
    uncover(&ground.path);
    wait_for_status(&daemon, 0, "served");
}

#[test]
fn p15_a_mount_that_is_moved_or_detached_while_it_is_used_is_noticed() {
    let daemon = Daemon::prepare();
    let ground = Ground::new(&daemon);
    let (active, elsewhere) = (ground.active(), ground.path.join("elsewhere"));
    let open = File::create_new(active.join("daily/open")).unwrap();
    rustix::mount::mount_move(&active, &elsewhere).unwrap();
    wait_for_status(&daemon, 10, &format!("moved to {}", elsewhere.display()));
    rustix::mount::mount_move(&elsewhere, &active).unwrap();
    wait_for_status(&daemon, 0, "served");
    uncover(&active);
    wait_for_status(&daemon, 10, &format!("{}: not mounted", active.display()));
    let said = daemon.worm("status", &active, &[]).expect_code(10);
    assert!(said.stderr.contains("only the guard is here"), "{said:?}");
    // What is open goes on, and is sealed.
    (&open).write_all(b"x").unwrap();
    drop(open);
    daemon.wait_until_not_served();
    assert_eq!(daemon.verify()["files"], 1);
}

#[test]
fn p15_status_tells_what_is_there_instead_of_a_store() {
    let daemon = Daemon::start();
    let said = daemon.worm("status", Path::new("/etc"), &[]).expect_code(10);
    assert!(
        said.stderr.contains("/etc: not write-once here: no store is mounted here"),
        "{said:?}"
    );
    daemon.kill();
    let said = daemon.worm("status", &daemon.active(), &[]).expect_code(10);
    assert!(said.stderr.contains("its daemon has ended"), "{said:?}");
    drop(daemon.worm("status", Path::new("/nowhere"), &[]).expect_code(6));
}
