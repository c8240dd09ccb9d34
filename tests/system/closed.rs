//! Promise 15, fail closed: while no daemon serves, nothing is written into the bare directory.

use std::fs::File;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;

use rustix::mount::MountPropagationFlags;
use rustix::mount::UnmountFlags;
use rustix::process::Signal;
use system_tests::binary;
use system_tests::daemon::Daemon;
use system_tests::daemon::names;
use system_tests::watchdog;

/// File system type and source of what is mounted at a place, in the order of mountinfo.
fn mounts_at(place: &Path) -> Vec<String> {
    let mountinfo = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    let target = place.to_string_lossy();
    let here = mountinfo.lines().filter(|line| line.split(' ').nth(4) == Some(&target));
    let kind = |line: &str| line.split(" - ").nth(1).unwrap().split(' ').next().unwrap().to_owned();
    here.map(kind).collect()
}

fn guard(places: &[&Path]) -> binary::Output {
    binary::run(binary::command("worm").arg("guard").args(places))
}

fn is_immutable(directory: &Path) -> bool {
    let flags = rustix::fs::ioctl_getflags(File::open(directory).unwrap());
    flags.is_ok_and(|flags| flags.contains(rustix::fs::IFlags::IMMUTABLE))
}

#[track_caller]
fn takes_nothing(directory: &Path) {
    let made = File::create(directory.join("early")).map(drop).unwrap_err();
    assert_eq!(made.kind(), std::io::ErrorKind::ReadOnlyFilesystem);
}

#[test]
fn p15_a_guarded_directory_takes_nothing_before_the_first_mount() {
    let daemon = Daemon::prepare();
    let active = daemon.active();
    let said = guard(&[&active]).success();
    assert!(said.contains("guarded; the directory beneath is immutable"), "{said}");
    takes_nothing(&active);
    let said = guard(&[&active, &daemon.view()]).success();
    assert!(said.contains("active: guarded already; the directory beneath is immutable"), "{said}");
    assert_eq!(mounts_at(&active), ["tmpfs"], "one only");

    // With the guard gone by whatever hand, the directory itself refuses.
    rustix::mount::unmount(&active, UnmountFlags::empty()).unwrap();
    assert!(is_immutable(&active));
    let made = File::create(active.join("early")).map(drop).unwrap_err();
    assert_eq!(made.raw_os_error(), Some(libc::EPERM));

    // That is no obstacle to a mount, and the mount none to a guard.
    daemon.mount(&[]).success();
    let said = guard(&[&active]).success();
    assert!(said.contains("a store is mounted here; the directory beneath is immutable"), "{said}");
    File::create_new(active.join("daily/x")).unwrap();
    daemon.wait(&active.join("daily/x"));
    daemon.worm("umount", &active, &[]).success();
    takes_nothing(&active);
    assert_eq!(mounts_at(&active), ["tmpfs"]);

    for place in [&active, &daemon.view()] {
        daemon.worm("umount", place, &["--guard"]).success();
        assert!(mounts_at(place).is_empty());
        assert!(!is_immutable(place));
        File::create_new(place.join("ordinary")).unwrap();
    }
}

#[test]
fn p15_a_guard_hides_nothing_and_covers_no_other_mount() {
    let daemon = Daemon::prepare();
    let place = |name: &str| daemon.directory().join(name);
    let (full, other, good) = (place("full"), place("other"), daemon.active());
    for directory in [&full, &other] {
        std::fs::create_dir(directory).unwrap();
    }
    File::create_new(full.join("mine")).unwrap();
    let flags = rustix::mount::MountFlags::empty();
    rustix::mount::mount("other", &other, "tmpfs", flags, Some(c"size=4k")).unwrap();
    let said = guard(&[&full, &good]).expect_code(4);
    assert!(said.stderr.contains("full: there is something in it"), "{}", said.stderr);
    assert!(mounts_at(&full).is_empty() && !is_immutable(&full));
    assert_eq!(mounts_at(&good), ["tmpfs"], "the others are guarded all the same");
    let said = guard(&[&other]).expect_code(7);
    watchdog::clear(&other);
    assert!(said.stderr.contains("something else is mounted here (tmpfs other)"));
    drop(guard(&[Path::new("/proc/none")]).expect_code(1));
}

#[test]
fn p15_a_file_system_without_the_flag_is_guarded_all_the_same() {
    let daemon = Daemon::prepare();
    // A FUSE mount of ours answers the ioctl with ENOTTY, as many file systems do.
    daemon.mount(&[]).success();
    let inside = daemon.active().join("daily/inside");
    let said = guard(&[&inside]).success();
    let mounted = mounts_at(&inside);
    watchdog::clear(&inside);
    assert!(said.contains("guarded; the directory beneath cannot be made immutable"), "{said}");
    assert_eq!(mounted, ["tmpfs"]);
}

/// Tries to make files at a place until it is told to stop, and counts.
fn hammer(place: &Path, stop: &AtomicBool) -> u64 {
    let mut tried = 0;
    while !stop.load(Ordering::Relaxed) {
        tried += 1;
        // Whether it worked is seen in the bare directory.
        drop(File::create_new(place.join(format!("file-{tried}"))));
    }
    tried
}

/// Tells a hammer to stop, also when the test fails.
struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn p15_no_file_ever_gets_into_the_bare_directory() {
    let daemon = Daemon::prepare();
    let active = daemon.active();
    guard(&[&active]).success();
    // Without the flag: the mounts alone must keep everything out.
    rustix::mount::unmount(&active, UnmountFlags::empty()).unwrap();
    let open = File::open(&active).unwrap();
    let flags = rustix::fs::ioctl_getflags(&open).unwrap();
    rustix::fs::ioctl_setflags(&open, flags - rustix::fs::IFlags::IMMUTABLE).unwrap();
    drop(open);
    daemon.mount(&[]).success();

    let stop = AtomicBool::new(false);
    let tried: u64 = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..2).map(|_| scope.spawn(|| hammer(&active, &stop))).collect();
        let told = Stop(&stop);
        for round in 0..50 {
            match round % 4 {
                0 => {
                    rustix::process::kill_process(daemon.pid(), Signal::TERM).unwrap();
                    daemon.wait_until_not_served();
                }
                1 => daemon.kill(),
                2 => {
                    daemon.kill();
                    daemon.worm("umount", &active, &[]).success();
                }
                // An admin's own hand, in a hurry.
                _ => {
                    rustix::mount::unmount(&active, UnmountFlags::DETACH).unwrap();
                    daemon.wait_until_not_served();
                }
            }
            daemon.mount(&[]).success();
        }
        drop(told);
        threads.into_iter().map(|thread| thread.join().unwrap()).sum()
    });
    assert!(tried > 1000, "only {tried} tries");
    assert_eq!(mounts_at(&active).len(), 2, "nothing piled up");
    daemon.worm("umount", &active, &["--guard"]).success();
    assert_eq!(names(&active).len(), 0, "files in the bare directory");
}

#[test]
fn p15_under_a_dead_mount_that_is_taken_away_there_is_a_guard() {
    let daemon = Daemon::start();
    daemon.kill();
    assert_eq!(
        std::fs::read_dir(daemon.active()).map(drop).unwrap_err().raw_os_error(),
        Some(libc::ENOTCONN)
    );
    rustix::mount::unmount(daemon.active(), UnmountFlags::DETACH).unwrap();
    takes_nothing(&daemon.active());
    daemon.mount(&[]).success();
    daemon.kill();
    daemon.worm("umount", &daemon.active(), &[]).success();
    assert_eq!(mounts_at(&daemon.active()), ["tmpfs"]);
    takes_nothing(&daemon.active());
}

/// A directory that other mount namespaces see, with all that is mounted below it.
struct Shared(PathBuf);

impl Shared {
    fn new(path: PathBuf) -> Self {
        std::fs::create_dir(&path).unwrap();
        rustix::mount::mount_bind(&path, &path).unwrap();
        Self(path)
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        let _gone = rustix::mount::unmount(&self.0, UnmountFlags::DETACH);
    }
}

#[test]
fn p15_a_guard_from_before_its_directory_was_shared_is_replaced() {
    check_guard_is_replaced(&binary::path("worm"), &[]);
}

#[test]
fn p15_a_guard_is_replaced_where_nothing_can_be_mounted_beneath_it() {
    let worm = binary::path("worm");
    check_guard_is_replaced(&binary::path("old-kernel"), &[&worm]);
}

/// `program` with `arguments` is how `worm` is run.
fn check_guard_is_replaced(program: &Path, arguments: &[&Path]) {
    let daemon = Daemon::prepare();
    let shared = Shared::new(daemon.directory().join("shared"));
    let active = shared.0.join("active");
    rustix::mount::mount_change(&shared.0, MountPropagationFlags::PRIVATE).unwrap();
    guard(&[&active]).success();
    rustix::mount::mount_change(&shared.0, MountPropagationFlags::SHARED).unwrap();
    let line = |kind: &str| {
        let mountinfo = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        let target = active.to_string_lossy().into_owned();
        let mut lines = mountinfo.lines().filter(|line| line.split(' ').nth(4) == Some(&target));
        lines.find(|line| line.contains(kind)).unwrap().to_owned()
    };
    assert!(!line("worm-guard").contains("shared:"));
    let mut mount = Command::new(program);
    mount
        .args(arguments)
        .arg("mount")
        .arg(daemon.store())
        .arg(&active)
        .arg("--key")
        .arg(daemon.key());
    mount.arg("--run-dir").arg(daemon.run_directory());
    binary::run(&mut mount).success();
    let (guard, ours) = (line("worm-guard"), line("fuse.worm"));
    let kinds = mounts_at(&active);
    let ended = daemon.worm("umount", &active, &["--guard"]);
    watchdog::clear(&active);
    ended.success();
    assert!(guard.contains("shared:") && ours.contains("shared:"), "{guard}\n{ours}");
    assert_eq!(kinds.len(), 2, "{kinds:?}");
}

#[test]
fn guard_says_what_it_needs() {
    let daemon = Daemon::prepare();
    let mut bare = Command::new("setpriv");
    bare.args(["--bounding-set=-sys_admin", "--inh-caps=-sys_admin"]);
    let said = binary::run(bare.arg(binary::path("worm")).arg("guard").arg(daemon.active()));
    let said = said.expect_code(4);
    assert!(said.stderr.contains("CAP_SYS_ADMIN"), "{}", said.stderr);
}

#[test]
fn guard_wants_a_directory() {
    let said = binary::run(Command::new(binary::path("worm")).arg("guard")).expect_code(2);
    assert!(said.stderr.contains("DIRECTORIES"), "{}", said.stderr);
}
