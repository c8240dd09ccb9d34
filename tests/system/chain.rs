//! The whole chain with real programs: PostgreSQL, agent, mount, mirror, restore. And what is
//! left when a part of it dies.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Child;
use std::process::Command;
use std::process::Stdio;
use std::time::Duration;
use std::time::Instant;

use system_tests::binary;
use system_tests::compare;
use system_tests::daemon::Daemon;
use system_tests::daemon::names;
use system_tests::daemon::sha256;
use system_tests::postgres::Postgres;
use worm_ingest::manifest::Manifest;

/// The ending of a backup's own file.
const DUMP: &str = ".sql.gz";

pub(crate) fn backup(daemon: &Daemon, url: &str, class: &str) -> Command {
    let mut command = binary::command("worm-ingest");
    command.args(["backup", class]).env("DATABASE_URL", url);
    command.arg("--backups").arg(daemon.active());
    command.arg("--audit-log").arg(daemon.directory().join("backup_audit.jsonl"));
    command
}

pub(crate) fn mirror(daemon: &Daemon) -> Command {
    // The mirror's directory is never made by the extractor: it may be a disk that is not there.
    std::fs::create_dir_all(daemon.directory().join("external")).unwrap();
    let mut command = binary::command("worm-extractor");
    command.arg("once").arg("--from").arg(daemon.view());
    command.arg("--to").arg(daemon.directory().join("external"));
    command.arg("--audit").arg(daemon.directory().join("extraction_audit.jsonl"));
    command
}

pub(crate) fn restore(daemon: &Daemon, what: &str, url: &str) -> Command {
    let mut command = binary::command("worm-extractor");
    command.args(["restore", what, "--to", url]);
    command.arg("--from").arg(daemon.directory().join("external"));
    command.arg("--audit").arg(daemon.directory().join("extraction_audit.jsonl"));
    command
}

/// The dumps in a class directory.
fn dumps(daemon: &Daemon, class: &str) -> Vec<String> {
    let all = names(&daemon.active().join(class));
    all.into_iter().filter(|name| name.ends_with(DUMP)).collect()
}

/// The lines of the agent's audit log.
fn audit(daemon: &Daemon) -> Vec<serde_json::Value> {
    let log = std::fs::read_to_string(daemon.directory().join("backup_audit.jsonl"));
    let lines = log.unwrap_or_default();
    lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// A `pg_dump` that is as the real one until it has written so many bytes, and then comes to no
/// end until nobody reads it any more.
fn hanging_dump(daemon: &Daemon, bytes: u64) -> std::path::PathBuf {
    let real = system_tests::postgres::program("pg_dump");
    let directory = daemon.directory().join("client");
    std::fs::create_dir_all(&directory).unwrap();
    let script = format!(
        "#!/bin/sh\ncase \"$*\" in *--version*) exec {real} \"$@\";; esac\n\
         {real} \"$@\" | head -c {bytes}\nwhile echo; do sleep 0.1; done\n",
        real = real.display()
    );
    let path = directory.join("pg_dump");
    std::fs::File::create(&path).unwrap();
    std::os::unix::fs::FileExt::write_all_at(
        &std::fs::File::options().write(true).open(&path).unwrap(),
        script.as_bytes(),
        0,
    )
    .unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    directory
}

/// Waits until a backup is being written: some bytes of it are in the mount.
fn wait_until_writing(daemon: &Daemon, class: &str) -> String {
    let deadline = Instant::now() + binary::PATIENCE;
    loop {
        assert!(Instant::now() < deadline, "no dump begins");
        let writing = dumps(daemon, class).into_iter().find(|name| {
            let found = std::fs::metadata(daemon.active().join(class).join(name));
            found.is_ok_and(|found| found.len() > 0)
        });
        if let Some(name) = writing {
            return name;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn filled() -> Postgres {
    let postgres = Postgres::start();
    postgres.create_database("app");
    postgres.pgbench("app", 1);
    // Does not compress to nothing, and comes first in the dump.
    postgres.psql(
        "app",
        "CREATE TABLE a_big AS SELECT md5(i::text) || md5((i + 1)::text) AS t \
         FROM generate_series(1, 200000) AS i",
    );
    postgres
}

struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // Its own group: what it started goes, too.
        let group = binary::pid_of(&self.0);
        let _gone = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
        drop(self.0.wait());
    }
}

fn start(command: &mut Command) -> Running {
    use std::os::unix::process::CommandExt as _;
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).process_group(0);
    Running(command.spawn().unwrap())
}

/// Odd names, large objects and kinds of tables: the same as the demo shows.
pub(crate) const ODD: &str = include_str!("../../scripts/demo.sql");

/// The rows of these partitions stand in a dump under the name of their root.
pub(crate) const HASHED: &str = "
CREATE TABLE shop.hashed (mood shop.mood, n integer) PARTITION BY HASH (mood);
CREATE TABLE shop.hashed_0 PARTITION OF shop.hashed FOR VALUES WITH (MODULUS 2, REMAINDER 0);
CREATE TABLE shop.hashed_1 PARTITION OF shop.hashed FOR VALUES WITH (MODULUS 2, REMAINDER 1);
INSERT INTO shop.hashed SELECT (enum_range(NULL::shop.mood))[1 + n % 3], n
    FROM generate_series(1, 100) AS n;";

#[test]
fn a_database_comes_back_equal_from_the_mirror() {
    let (postgres, daemon) = (filled(), Daemon::start());
    postgres.psql("app", ODD);
    postgres.psql("app", HASHED);
    binary::run(&mut backup(&daemon, &postgres.url("app"), "daily")).success();

    let [dump] = &dumps(&daemon, "daily")[..] else { panic!("one dump") };
    let sealed = daemon.active().join("daily").join(dump);
    let manifest = std::fs::read(sealed.with_file_name(format!("{dump}.manifest.json"))).unwrap();
    let manifest = Manifest::decode(&manifest).unwrap();
    assert_eq!(manifest.stored.sha256, sha256(&sealed));
    assert_eq!(manifest.stored.bytes, std::fs::metadata(&sealed).unwrap().len());
    assert_eq!(manifest.class, "daily");
    let kept = manifest.retain_until.unwrap().duration_since(manifest.finished_at).as_hours();
    assert!((167..=168).contains(&kept), "kept for {kept} hours");
    assert!(std::fs::File::options().write(true).open(&sealed).is_err());

    binary::run(&mut mirror(&daemon)).success();
    let date = &dump[..10];
    let mirrored = daemon.directory().join("external/daily").join(date);
    let sums = format!("{dump}.sha256");
    let checked = binary::run(Command::new("sha256sum").args(["-c", &sums]).current_dir(&mirrored));
    assert!(checked.success().contains("OK"));
    let before = std::fs::read(daemon.directory().join("extraction_audit.jsonl")).unwrap();
    binary::run(&mut mirror(&daemon)).success();
    assert_eq!(names(&mirrored).len(), 5, "nothing is copied twice");
    let after = std::fs::read(daemon.directory().join("extraction_audit.jsonl")).unwrap();
    assert!(after.starts_with(&before), "the audit log only grows");

    postgres.create_database("copy");
    binary::run(&mut restore(&daemon, "latest", &postgres.url("copy"))).success();
    compare::assert_equal(&postgres.url("app"), &postgres.url("copy"));
    let again = binary::run(&mut restore(&daemon, "latest", &postgres.url("copy"))).expect_code(4);
    assert!(again.stderr.contains("not empty"), "{}", again.stderr);
    daemon.verify();
}

#[test]
fn a_changed_byte_in_the_store_never_reaches_the_mirror() {
    let (postgres, daemon) = (filled(), Daemon::start());
    binary::run(&mut backup(&daemon, &postgres.url("app"), "hourly")).success();
    let [dump] = &dumps(&daemon, "hourly")[..] else { panic!("one dump") };
    // What root on the host can do behind the mount.
    let data = daemon.store().join("data/hourly").join(dump);
    let file = std::fs::File::options().write(true).read(true).open(&data).unwrap();
    let mut byte = [0];
    std::os::unix::fs::FileExt::read_exact_at(&file, &mut byte, 5_000).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&file, &[byte[0] ^ 1], 5_000).unwrap();
    drop(file);

    let said = binary::run(&mut mirror(&daemon)).expect_code(9);
    assert!(said.stderr.contains(dump.as_str()), "{}", said.stderr);
    let found = binary::run(Command::new("find").arg(daemon.directory().join("external")));
    assert!(!found.success().lines().any(|line| line.ends_with(dump.as_str())));
    let report = daemon.worm("verify", &daemon.store(), &[]).expect_code(9);
    assert!(report.stdout.contains("its bytes were changed"), "{}", report.stdout);
}

#[test]
fn an_agent_that_is_killed_leaves_no_file_that_looks_like_a_backup() {
    let (postgres, daemon) = (filled(), Daemon::start());
    let client = hanging_dump(&daemon, 8 << 20);
    let mut command = backup(&daemon, &postgres.url("app"), "daily");
    let agent = start(command.arg("--client-dir").arg(&client));
    let name = wait_until_writing(&daemon, "daily");
    drop(agent);

    let deadline = Instant::now() + binary::PATIENCE;
    while dumps(&daemon, "daily").contains(&name) {
        assert!(Instant::now() < deadline, "the name is still there");
        std::thread::sleep(Duration::from_millis(5));
    }
    assert!(names(&daemon.active().join("daily")).is_empty());
    let left = names(&daemon.active().join("daily/.incomplete"));
    assert!(matches!(&left[..], [one] if one.starts_with(&name)), "{left:?}");
    assert!(names(&daemon.view().join("daily")).is_empty());

    binary::run(&mut backup(&daemon, &postgres.url("app"), "daily")).success();
    assert_eq!(dumps(&daemon, "daily").len(), 1);
    daemon.verify();
}

#[test]
fn a_cancelled_agent_says_so_and_leaves_no_backup() {
    let (postgres, daemon) = (filled(), Daemon::start());
    let client = hanging_dump(&daemon, 8 << 20);
    let mut command = backup(&daemon, &postgres.url("app"), "daily");
    let mut agent = start(command.arg("--client-dir").arg(&client));
    wait_until_writing(&daemon, "daily");
    rustix::process::kill_process(binary::pid_of(&agent.0), rustix::process::Signal::TERM).unwrap();
    let ended = binary::wait_within(&mut agent.0, binary::PATIENCE).expect("it ends");
    assert_eq!(ended.code(), Some(5));
    assert!(dumps(&daemon, "daily").is_empty());
    assert_eq!(audit(&daemon).len(), 1);
}

#[test]
fn a_daemon_that_is_killed_in_mid_dump_keeps_all_that_was_acknowledged() {
    let (postgres, daemon) = (filled(), Daemon::start());
    binary::run(&mut backup(&daemon, &postgres.url("app"), "daily")).success();
    let [first] = &dumps(&daemon, "daily")[..] else { panic!("one dump") };
    let digest = sha256(&daemon.active().join("daily").join(first));

    let client = hanging_dump(&daemon, 8 << 20);
    let mut command = backup(&daemon, &postgres.url("app"), "hourly");
    let agent = start(command.arg("--client-dir").arg(&client));
    let torn = wait_until_writing(&daemon, "hourly");
    daemon.kill();
    drop(agent);
    daemon.mount(&[]).success();

    let report = daemon.verify();
    assert_eq!((&report["files"], &report["incomplete"]), (&5.into(), &1.into()), "{report}");
    assert_eq!(sha256(&daemon.active().join("daily").join(first)), digest);
    assert!(names(&daemon.active().join("hourly")).is_empty());
    let left = names(&daemon.active().join("hourly/.incomplete"));
    assert!(matches!(&left[..], [one] if one.starts_with(&torn)), "{left:?}");
    binary::run(&mut backup(&daemon, &postgres.url("app"), "hourly")).success();
}

#[test]
fn a_full_disk_makes_no_backup_and_keeps_the_store_readable() {
    let (postgres, daemon) = (filled(), Daemon::prepare());
    std::fs::create_dir(daemon.store()).unwrap();
    // Room for the ledger and less than one dump. Nothing of it is left when the test ends.
    rustix::mount::mount(
        "small",
        daemon.store(),
        "tmpfs",
        rustix::mount::MountFlags::empty(),
        Some(c"size=6m"),
    )
    .unwrap();
    let _small = Unmounted(daemon.store());
    daemon.mount(&[]).success();
    let said = binary::run(&mut backup(&daemon, &postgres.url("app"), "daily")).expect_code(1);
    assert!(said.stderr.contains("No space left"), "{}", said.stderr);
    assert_eq!(said.stderr.trim().lines().count(), 1, "{}", said.stderr);
    assert!(dumps(&daemon, "daily").is_empty());
    let log = audit(&daemon);
    assert_eq!(log.len(), 1, "{log:?}");
    assert!(names(&daemon.view().join("daily")).is_empty());
    daemon.verify();
    daemon.worm("umount", &daemon.active(), &["--guard"]).success();
}

/// Unmounts a disk of a test when it ends.
struct Unmounted(std::path::PathBuf);

impl Drop for Unmounted {
    fn drop(&mut self) {
        let _gone = rustix::mount::unmount(&self.0, rustix::mount::UnmountFlags::DETACH);
    }
}

#[test]
fn the_agent_refuses_what_it_cannot_do_with_its_own_number() {
    let (postgres, daemon) = (filled(), Daemon::start());
    let url = postgres.url("app");
    #[track_caller]
    fn check(mut command: Command, code: i32, says: &str) {
        let said = binary::run(&mut command).expect_code(code);
        assert!(said.stderr.contains(says), "{}", said.stderr);
        assert_eq!(said.stderr.trim().lines().count(), 1, "{}", said.stderr);
    }
    check(backup(&daemon, &url, "monthly"), 6, "monthly");
    check(backup(&daemon, "postgresql://nobody@127.0.0.1:1/app", "daily"), 8, "127.0.0.1");
    let plain = daemon.directory().join("plain/daily");
    std::fs::create_dir_all(&plain).unwrap();
    let mut command = backup(&daemon, &url, "daily");
    command.arg("--backups").arg(plain.parent().unwrap());
    let mut bare = binary::command("worm-ingest");
    bare.args(["backup", "daily"]).env("DATABASE_URL", &url);
    bare.arg("--backups").arg(plain.parent().unwrap());
    bare.arg("--audit-log").arg(daemon.directory().join("backup_audit.jsonl"));
    check(bare, 10, "write-once");

    // A server that is newer than every client.
    let old = daemon.directory().join("old");
    std::fs::create_dir(&old).unwrap();
    let script = old.join("pg_dump");
    let made = Command::new("sh")
        .arg("-c")
        .arg("printf '#!/bin/sh\\necho \"pg_dump (PostgreSQL) 9.6.24\"\\n' > \"$1\" && chmod 755 \"$1\"")
        .arg("sh")
        .arg(&script)
        .status();
    assert!(made.unwrap().success());
    let mut command = backup(&daemon, &url, "daily");
    command.arg("--client-dir").arg(&old);
    check(command, 4, "9.6");
    for class in ["hourly", "daily", "weekly"] {
        assert!(names(&daemon.active().join(class)).is_empty());
        assert!(is_empty(&daemon.active().join(class).join(".incomplete")));
    }
}

fn is_empty(directory: &Path) -> bool {
    std::fs::read_dir(directory).unwrap().next().is_none()
}
