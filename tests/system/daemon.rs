//! The daemon as people start, end and lose it, and what it says when something is wrong.

use std::fs::File;
use std::io::Read as _;
use std::io::Write as _;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::process::Child;
use std::process::Command;
use std::process::Stdio;
use std::time::Instant;

use system_tests::binary;
use system_tests::daemon::Daemon;
use system_tests::daemon::names;
use system_tests::daemon::sha256;

/// What mountinfo shows at a place: file system types, sorted.
fn kinds_at(place: &Path) -> Vec<String> {
    let mountinfo = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    let target = place.to_string_lossy();
    let at = mountinfo.lines().filter(|line| line.split(' ').nth(4) == Some(&target));
    let kind = |line: &str| line.split(" - ").nth(1).unwrap().split(' ').next().unwrap().to_owned();
    let mut kinds: Vec<_> = at.map(kind).collect();
    kinds.sort();
    kinds
}

fn put(path: &Path, bytes: &[u8]) {
    File::create_new(path).unwrap().write_all(bytes).unwrap();
}

#[test]
fn p15_an_unmounted_store_leaves_one_guard_and_takes_it_away_again() {
    let daemon = Daemon::start();
    let (active, view) = (daemon.active(), daemon.view());
    for _ in 0..2 {
        assert_eq!(kinds_at(&active), ["fuse.worm", "tmpfs"], "one guard beneath");
        assert_eq!(kinds_at(&view), ["fuse.worm"]);
        daemon.worm("umount", &active, &[]).success();
        assert_eq!(kinds_at(&active), ["tmpfs"], "one guard");
        assert!(kinds_at(&view).is_empty());
        assert!(names(&active).is_empty());
        let early = File::create(active.join("early")).map(drop);
        assert_eq!(early.unwrap_err().kind(), std::io::ErrorKind::ReadOnlyFilesystem);
        daemon.worm("umount", &active, &[]).success();
        assert_eq!(kinds_at(&active), ["tmpfs"], "still one guard");
        daemon.mount(&[]).success();
    }
    daemon.worm("umount", &active, &["--guard"]).success();
    assert!(kinds_at(&active).is_empty());
    assert!(!worm_fs::store::is_served(&daemon.store()));
}

#[test]
fn p15_a_dead_mount_answers_enotconn_and_is_replaced_by_the_next_daemon() {
    let daemon = Daemon::start();
    let file = daemon.active().join("hourly/kept");
    put(&file, b"whole");
    let digest = daemon.wait(&file);
    let mut open = File::create_new(daemon.active().join("hourly/torn")).unwrap();
    open.write_all(b"half").unwrap();
    daemon.kill();
    let dead = |error: std::io::Error| assert_eq!(error.raw_os_error(), Some(libc::ENOTCONN));
    dead(open.write_all(b"more").unwrap_err());
    dead(std::fs::read_dir(daemon.active()).map(drop).unwrap_err());
    dead(File::create(daemon.active().join("hourly/new")).map(drop).unwrap_err());
    drop(open);

    daemon.mount(&[]).success();
    assert_eq!(kinds_at(&daemon.active()), ["fuse.worm", "tmpfs"]);
    assert_eq!(sha256(&file), digest);
    assert_eq!(names(&daemon.active().join("hourly")), ["kept"]);
    let incomplete = names(&daemon.active().join("hourly/.incomplete"));
    assert!(matches!(&incomplete[..], [name] if name.starts_with("torn.")), "{incomplete:?}");
    assert!(names(&daemon.view().join("hourly")) == ["kept"]);
    let report = daemon.verify();
    assert_eq!((&report["files"], &report["incomplete"]), (&1.into(), &1.into()));
}

#[test]
fn sigterm_seals_what_is_closed_and_gives_up_what_is_open() {
    let daemon = Daemon::start();
    put(&daemon.active().join("daily/closed"), &[7; 3_000_000]);
    let open = File::create_new(daemon.active().join("daily/open")).unwrap();
    open.write_all_at(b"x", 0).unwrap();
    rustix::process::kill_process(daemon.pid(), rustix::process::Signal::TERM).unwrap();
    daemon.wait_until_not_served();
    assert_eq!(kinds_at(&daemon.active()), ["tmpfs"]);
    drop(open);
    daemon.mount(&[]).success();
    assert_eq!(names(&daemon.active().join("daily")), ["closed"]);
    assert_eq!(names(&daemon.active().join("daily/.incomplete")).len(), 1);
    daemon.verify();
}

#[test]
fn umount_refuses_while_files_are_open() {
    let daemon = Daemon::start();
    let open = File::create_new(daemon.active().join("daily/open")).unwrap();
    let said = daemon.worm("umount", &daemon.active(), &[]).expect_code(7);
    assert!(said.stderr.contains("files are open"), "{}", said.stderr);
    drop(open);
    daemon.wait(&daemon.active().join("daily/open"));
    daemon.worm("umount", &daemon.active(), &[]).success();
}

/// A mount namespace with copies of all mounts, as of a container that begins, and a shell script
/// in it, which says a word when it has begun and goes on when it hears one.
struct Elsewhere(Child);

impl Elsewhere {
    fn new(script: &str) -> Self {
        let mut command = Command::new("unshare");
        command.args(["--mount", "--propagation", "private", "bash", "-ec", script]);
        let child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
        let mut this = Self(child.expect("start unshare"));
        let mut word = [0; 6];
        this.0.stdout.as_mut().unwrap().read_exact(&mut word).expect("it begins");
        assert_eq!(&word, b"begun\n");
        this
    }

    fn go_on(&mut self) {
        self.0.stdin.as_mut().unwrap().write_all(b"go on\n").unwrap();
    }
}

impl Drop for Elsewhere {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _gone = self.0.kill();
        self.0.wait().expect("wait for it");
    }
}

#[test]
fn p15_a_copy_of_the_mount_in_another_mount_namespace_does_not_hold_up_an_umount() {
    let daemon = Daemon::start();
    put(&daemon.active().join("daily/x"), b"x");
    daemon.wait(&daemon.active().join("daily/x"));
    let _elsewhere = Elsewhere::new("echo begun; cat");
    daemon.worm("umount", &daemon.active(), &[]).success();
    assert!(!worm_fs::store::is_served(&daemon.store()));
    assert_eq!(kinds_at(&daemon.active()), ["tmpfs"]);
    assert!(kinds_at(&daemon.view()).is_empty());
    assert_eq!(daemon.verify()["files"], 1);
}

#[test]
fn what_is_open_in_another_mount_namespace_goes_on_after_an_umount() {
    let daemon = Daemon::start();
    let file = daemon.active().join("daily/x");
    let script = "exec 3>\"$0\"; echo begun; read -r; echo whole >&3; exec 3>&-; cat";
    let mut elsewhere = Elsewhere::new(&script.replace("$0", &file.to_string_lossy()));
    // Not `worm umount`, which would wait for it.
    rustix::mount::unmount(daemon.active(), rustix::mount::UnmountFlags::empty()).unwrap();
    let alarm = format!("{}: not mounted", daemon.active().display());
    let deadline = Instant::now() + binary::PATIENCE;
    while !daemon.worm("status", &daemon.store(), &[]).stdout.contains(&alarm) {
        assert!(Instant::now() < deadline, "{}", daemon.log());
    }
    elsewhere.go_on();
    daemon.wait_until_not_served();
    let report = daemon.verify();
    assert_eq!((&report["files"], &report["incomplete"]), (&1.into(), &0.into()));
}

#[test]
fn a_second_daemon_on_the_same_store_is_refused() {
    let daemon = Daemon::start();
    let mut second = binary::command("worm");
    second.arg("mount").arg(daemon.store()).arg(daemon.directory().join("other"));
    second.arg("--key").arg(daemon.key()).arg("--run-dir").arg(daemon.run_directory());
    let said = binary::run(&mut second).expect_code(7);
    assert!(said.stderr.contains("another daemon"), "{}", said.stderr);
    assert_eq!(said.stderr.lines().count(), 1);
    assert!(kinds_at(&daemon.directory().join("other")).is_empty());
}

#[test]
fn a_foreign_mount_is_not_covered() {
    let daemon = Daemon::prepare();
    std::fs::create_dir(daemon.active()).unwrap();
    rustix::mount::mount(
        "other",
        daemon.active(),
        "tmpfs",
        rustix::mount::MountFlags::empty(),
        Some(c"size=4k"),
    )
    .unwrap();
    let said = daemon.mount(&[]).expect_code(7);
    assert!(
        said.stderr.contains("something else is mounted here (tmpfs other)"),
        "{}",
        said.stderr
    );
    assert_eq!(kinds_at(&daemon.active()), ["tmpfs"]);
}

#[test]
fn a_mount_that_fails_leaves_the_guard() {
    let daemon = Daemon::start();
    daemon.worm("umount", &daemon.active(), &[]).success();
    assert_eq!(kinds_at(&daemon.active()), ["tmpfs"]);
    let flags = rustix::mount::MountFlags::empty();
    rustix::mount::mount("other", daemon.view(), "tmpfs", flags, Some(c"size=4k")).unwrap();
    let said = daemon.mount(&[]).expect_code(7);
    assert!(said.stderr.contains("something else"), "{}", said.stderr);
    assert_eq!(kinds_at(&daemon.active()), ["tmpfs"], "nothing may be written there");
    let early = File::create(daemon.active().join("early")).map(drop);
    assert_eq!(early.unwrap_err().kind(), std::io::ErrorKind::ReadOnlyFilesystem);
}

#[test]
fn store_and_mount_point_must_lie_apart() {
    let daemon = Daemon::prepare();
    for (store, place) in [("a/store", "a"), ("b", "b"), ("c", "c/mount")] {
        let mut command = binary::command("worm");
        command.arg("mount").args([store, place]).args(["--key", "key", "--run-dir", "run"]);
        let said = binary::run(command.current_dir(daemon.directory())).expect_code(2);
        assert!(said.stderr.contains("within each other"), "{}", said.stderr);
    }
    assert!(!daemon.key().exists(), "nothing was made");
}

#[test]
fn a_directory_with_something_in_it_is_no_new_store() {
    let daemon = Daemon::prepare();
    std::fs::create_dir(daemon.store()).unwrap();
    put(&daemon.store().join("precious"), b"");
    let said = daemon.mount(&[]).expect_code(4);
    assert!(said.stderr.contains("precious"), "{}", said.stderr);
    assert_eq!(names(&daemon.store()), ["precious"]);
}

#[test]
fn what_is_missing_for_a_mount_is_said_in_one_line() {
    let daemon = Daemon::prepare();
    // Without the device, as in a container that was not given it.
    let worm = daemon.mount_command();
    let mut hidden = Command::new("unshare");
    hidden.args([
        "--mount",
        "sh",
        "-c",
        "mount -t tmpfs none /dev && mknod /dev/null c 1 3 && exec \"$@\"",
        "sh",
    ]);
    hidden.arg(worm.get_program()).args(worm.get_args());
    let said = binary::run(&mut hidden).expect_code(4);
    assert!(said.stderr.contains("modprobe fuse"), "{}", said.stderr);
    // Without the right to mount.
    let mut bare = Command::new("setpriv");
    bare.args(["--bounding-set=-sys_admin", "--inh-caps=-sys_admin"]);
    bare.arg(worm.get_program()).args(worm.get_args());
    let said = binary::run(&mut bare).expect_code(4);
    assert!(said.stderr.contains("CAP_SYS_ADMIN"), "{}", said.stderr);
    assert_eq!(said.stderr.lines().count(), 1, "{}", said.stderr);
}

#[test]
fn a_wrong_configuration_names_the_mistake() {
    let daemon = Daemon::prepare();
    let config = daemon.directory().join("worm.toml");
    put(&config, b"[class.hourly]\nretenton = \"48h\"\n");
    let said = daemon.mount(&["--config", &config.to_string_lossy()]).expect_code(2);
    assert!(said.stderr.contains("retenton"), "{}", said.stderr);
    let said = daemon.mount(&["--config", "/nowhere/worm.toml"]).expect_code(2);
    assert!(said.stderr.contains("/nowhere/worm.toml"), "{}", said.stderr);
}

#[test]
fn a_damaged_or_newer_ledger_is_not_served_and_nothing_is_changed() {
    let daemon = Daemon::start();
    put(&daemon.active().join("hourly/kept"), b"whole");
    daemon.wait(&daemon.active().join("hourly/kept"));
    daemon.worm("umount", &daemon.active(), &["--guard"]).success();
    let segment = daemon.store().join("ledger/000001.jsonl");
    let whole = std::fs::read_to_string(&segment).unwrap();
    let overwrite = |text: &str| {
        let file = File::options().write(true).truncate(true).open(&segment).unwrap();
        file.write_all_at(text.as_bytes(), 0).unwrap();
    };

    overwrite(&whole.replace("\"size\":5", "\"size\":6"));
    let said = daemon.mount(&[]).expect_code(9);
    assert!(said.stderr.contains("is damaged") && said.stderr.contains("worm verify"));
    assert_eq!(said.stderr.lines().count(), 1, "{}", said.stderr);
    let said = daemon.worm("verify", &daemon.store(), &[]).expect_code(9);
    assert!(said.stdout.contains("was changed: line"), "{}", said.stdout);

    // A line that a later version wrote, rightly chained.
    let last = whole.lines().last().unwrap();
    let line = worm_fs::record::Line::decode(last.as_bytes()).unwrap();
    let prev = worm_fs::record::Digest::of(format!("{last}\n").as_bytes());
    let newer = format!(
        "{{\"seq\":{},\"prev\":\"{prev}\",\"clock_ms\":0,\"time\":\"\",\"event\":\"teleported\"}}\n",
        line.seq + 1
    );
    overwrite(&format!("{whole}{newer}"));
    let said = daemon.mount(&[]).expect_code(4);
    assert!(said.stderr.contains("newer version"), "{}", said.stderr);

    overwrite(&whole);
    daemon.mount(&[]).success();
    assert_eq!(std::fs::read(daemon.active().join("hourly/kept")).unwrap(), b"whole");
}

#[test]
fn p18_a_copy_of_a_store_can_be_shown_and_changes_nothing() {
    let daemon = Daemon::start();
    put(&daemon.active().join("hourly/kept"), b"whole");
    daemon.wait(&daemon.active().join("hourly/kept"));
    daemon.worm("umount", &daemon.active(), &["--guard"]).success();
    let copy = daemon.directory().join("copy");
    let copied = binary::run(Command::new("cp").arg("-a").arg(daemon.store()).arg(&copy));
    copied.success();

    let mut show = binary::command("worm");
    show.arg("mount").arg("--read-only").arg(&copy).arg(daemon.view());
    show.arg("--run-dir").arg(daemon.run_directory());
    binary::run(&mut show).success();
    let shown = daemon.view().join("hourly/kept");
    assert_eq!(std::fs::read(&shown).unwrap(), b"whole");
    for outcome in [
        File::options().write(true).open(&shown).map(drop),
        File::create(daemon.view().join("hourly/new")).map(drop),
        std::fs::remove_file(&shown),
        rustix::fs::rename(&shown, daemon.view().join("hourly/x")).map_err(Into::into),
    ] {
        assert_eq!(outcome.unwrap_err().kind(), std::io::ErrorKind::ReadOnlyFilesystem);
    }
    assert!(std::fs::create_dir(daemon.view().join("x")).is_err());
    daemon.worm("umount", &daemon.view(), &[]).success();
    let mut differ = Command::new("diff");
    binary::run(differ.arg("-r").arg(daemon.store()).arg(&copy)).success();
}

#[test]
fn ls_and_status_show_what_is_there() {
    let daemon = Daemon::start();
    put(&daemon.active().join("daily/a b"), b"12345");
    daemon.wait(&daemon.active().join("daily/a b"));
    for path in [daemon.active(), daemon.view(), daemon.store()] {
        let listed = daemon.worm("ls", &path, &[]).success();
        assert!(listed.contains("daily/a b") && listed.contains("6d 23h"), "{listed}");
    }
    let listed = daemon.worm("ls", &daemon.active(), &["--json"]).success();
    let listed: serde_json::Value = serde_json::from_str(&listed).unwrap();
    assert_eq!(listed[0]["size"], 5);
    assert_eq!(listed[0]["sha256"].as_str().unwrap(), sha256(&daemon.active().join("daily/a b")));
    let status = daemon.worm("status", &daemon.store(), &["--json"]).success();
    let status: serde_json::Value = serde_json::from_str(&status).unwrap();
    assert_eq!(status["served"], true);
    let classes = status["classes"].as_array().unwrap();
    let seen: Vec<_> = classes.iter().map(|c| (c["name"].as_str().unwrap(), &c["files"])).collect();
    assert_eq!(seen, [("hourly", &0.into()), ("daily", &1.into()), ("weekly", &0.into())]);
}

#[test]
fn status_shows_what_the_daemon_found_wrong() {
    let daemon = Daemon::start();
    daemon.worm("status", &daemon.active(), &[]).success();
    daemon.worm("umount", &daemon.active(), &[]).success();
    put(&daemon.store().join("data/daily/smuggled"), b"x");
    daemon.mount(&[]).success();
    assert!(names(&daemon.active().join("daily")).is_empty());
    for path in [daemon.active(), daemon.store()] {
        let said = daemon.worm("status", &path, &[]).expect_code(9);
        assert!(said.stdout.contains("ALARM    daily/smuggled: nobody recorded it"), "{said:?}");
    }
}

#[test]
fn wait_tells_sealed_from_open_and_from_what_is_not_ours() {
    let daemon = Daemon::start();
    let path = daemon.active().join("hourly/x");
    let open = File::create_new(&path).unwrap();
    let said = daemon.worm("wait", &path, &["--timeout", "0s"]).expect_code(1);
    assert!(said.stderr.contains("not sealed yet"), "{}", said.stderr);
    open.write_all_at(b"abc", 0).unwrap();
    drop(open);
    assert_eq!(daemon.wait(&path), sha256(&path));
    let said = daemon.worm("wait", Path::new("/etc/hostname"), &[]).expect_code(10);
    assert!(said.stderr.contains("not a file of a worm mount"), "{}", said.stderr);
    let said = daemon.worm("wait", &daemon.active().join("hourly/none"), &[]).expect_code(6);
    assert!(said.stderr.contains("not there"), "{}", said.stderr);
}
