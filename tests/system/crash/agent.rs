//! The agent is killed again and again, with a real mount and a real database: what has a manifest
//! is whole, the next run succeeds, and nothing of the killed one lives on.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::Write as _;
use std::path::Path;
use std::process::Command;
use std::process::Stdio;
use std::time::Duration;
use std::time::Instant;

use sha2::Digest as _;
use system_tests::binary;
use system_tests::compare;
use system_tests::daemon::Daemon;
use system_tests::daemon::names;
use system_tests::daemon::sha256;
use system_tests::postgres::Postgres;
use system_tests::random::Random;
use system_tests::rounds;
use worm_ingest::manifest::MANIFEST_SUFFIX;
use worm_ingest::manifest::Manifest;

/// Room for all rounds of a long run, and a class that only the service fills.
const CLASSES: &str = r#"
[class.hourly]
retention = "48h"
limits.bytes = "1TiB"
limits.bytes_per_day = "1TiB"
limits.files = 100000
limits.creates_per_day = 100000

[class.daily]
retention = "7d"
limits.bytes = "1TiB"
limits.bytes_per_day = "1TiB"
limits.files = 100000
limits.creates_per_day = 100000

[class.weekly]
retention = "4w"
"#;
/// Once a year: what is due is due because there is none.
const RARELY: &str = "0 0 1 1 *";

struct World {
    // Dropped in this order.
    daemon: Daemon,
    postgres: Postgres,
    /// Manifests that were found right.
    checked: BTreeSet<String>,
}

impl World {
    fn new() -> Self {
        let (postgres, daemon) = (Postgres::start(), Daemon::prepare());
        postgres.create_database("app");
        postgres.pgbench("app", 1);
        let noise = "CREATE TABLE noise AS SELECT i, md5(i::text) || md5((i + 1)::text) AS t \
                     FROM generate_series(1, 60000) AS i";
        let _nothing = postgres.psql("app", noise);
        let config = daemon.directory().join("worm.toml");
        File::create_new(&config).unwrap().write_all(CLASSES.as_bytes()).unwrap();
        daemon.mount(&["--config", config.to_str().unwrap()]).success();
        Self { daemon, postgres, checked: BTreeSet::new() }
    }

    fn agent(&self, arguments: &[&str]) -> Command {
        let mut command = binary::command("worm-ingest");
        command.args(arguments).env("DATABASE_URL", self.postgres.url("app"));
        command.arg("--backups").arg(self.daemon.active());
        command.arg("--audit-log").arg(self.daemon.directory().join("backup_audit.jsonl"));
        command.arg("--lock-file").arg(self.daemon.directory().join("agent.lock"));
        command
    }

    /// Starts the agent and kills it after so long, whatever it does by then.
    fn kill_after(&self, time: Duration, command: &mut Command) {
        let mut agent = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        std::thread::sleep(time);
        // It may have ended by itself.
        drop(agent.kill());
        let _status = agent.wait().unwrap();
        // Nobody of it talks to the database any more.
        let deadline = Instant::now() + binary::PATIENCE;
        let ask = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'worm-ingest'";
        while self.postgres.psql("app", ask) != "0" {
            assert!(Instant::now() < deadline, "something of a killed agent lives on");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Whatever has a manifest is whole: the file by its digest, its SQL by its own and its last line.
    fn check(&mut self, context: &str) {
        for class in ["hourly", "daily", "weekly"] {
            let directory = self.daemon.active().join(class);
            for name in names(&directory) {
                let Some(dump) = name.strip_suffix(MANIFEST_SUFFIX) else { continue };
                if self.checked.insert(format!("{class}/{name}")) {
                    check_backup(&directory, dump, context);
                }
            }
        }
    }
}

#[track_caller]
fn check_backup(directory: &Path, dump: &str, context: &str) {
    let manifest = std::fs::read(directory.join(format!("{dump}{MANIFEST_SUFFIX}"))).unwrap();
    let manifest = Manifest::decode(&manifest).unwrap();
    let file = directory.join(dump);
    assert_eq!(sha256(&file), manifest.stored.sha256, "{context}: {}", file.display());
    let line = std::fs::read_to_string(directory.join(format!("{dump}.sha256"))).unwrap();
    assert_eq!(line, format!("{}  {dump}\n", manifest.stored.sha256), "{context}");
    // By the tool that everybody has.
    let gunzip = Command::new("gzip").arg("-dc").arg(&file).output().unwrap();
    assert!(gunzip.status.success(), "{context}: {}", file.display());
    if let Some(digest) = manifest.raw.sha256 {
        assert_eq!(hex::encode(sha2::Sha256::digest(&gunzip.stdout)), digest, "{context}");
    }
    assert_eq!(gunzip.stdout.len() as u64, manifest.raw.bytes, "{context}");
    let end = String::from_utf8_lossy(&gunzip.stdout[gunzip.stdout.len().saturating_sub(300)..]);
    assert!(end.contains("-- PostgreSQL database dump complete"), "{context}: {end}");
    let rows: u64 = manifest.tables.iter().map(|table| table.rows).sum();
    assert_eq!(rows, 100_000 + 10 + 1 + 60_000, "{context}");
}

#[test]
fn an_agent_that_is_killed_at_any_moment_leaves_no_false_success() {
    let mut world = World::new();
    // How long one takes here decides when to kill.
    let begun = Instant::now();
    binary::run(&mut world.agent(&["backup", "hourly", "daily"])).success();
    let whole = begun.elapsed();
    let (kills, mut random) = (rounds(20, 100), Random::new(7));
    let mut finished = 0;
    for kill in 0..kills {
        let permille = u32::try_from(random.below(1200)).unwrap();
        let time = whole * permille / 1000;
        let rarely =
            ["hourly", "daily", "weekly"].map(|class| format!("--schedule-{class}={RARELY}"));
        let mut command = match kill % 4 {
            3 => {
                world.agent(&[["run"].as_slice(), &rarely.each_ref().map(String::as_str)].concat())
            }
            _ => world.agent(&["backup", "hourly", "daily"]),
        };
        let before = world.checked.len();
        world.kill_after(time, &mut command);
        let context = format!("killed after {time:?} of {whole:?}, round {kill}");
        world.check(&context);
        finished += usize::from(world.checked.len() > before);
        // The next one comes right after, and is not in its way.
        let class = if kill % 2 == 0 { "hourly" } else { "daily" };
        let next = binary::run(&mut world.agent(&["backup", class, "--json"]));
        let next: serde_json::Value = serde_json::from_str(&next.success()).unwrap();
        let name = next["name"].as_str().unwrap();
        world.check(&context);
        assert!(world.checked.contains(&format!("{class}/{name}{MANIFEST_SUFFIX}")), "{context}");
    }
    println!("kills of the agent: {kills}, {finished} of them after a whole backup");

    // What is restored is the database.
    let newest = names(&world.daemon.active().join("hourly"));
    let newest = newest.iter().rfind(|name| name.ends_with(".sql.gz")).unwrap();
    world.postgres.create_database("copy");
    let restore = format!(
        "gzip -dc '{}' | {} -XqAt -v ON_ERROR_STOP=1 -d '{}' >/dev/null",
        world.daemon.active().join("hourly").join(newest).display(),
        system_tests::postgres::program("psql").display(),
        world.postgres.url("copy"),
    );
    binary::run(Command::new("bash").args(["-o", "pipefail", "-c", &restore])).success();
    compare::assert_equal(&world.postgres.url("app"), &world.postgres.url("copy"));
    let report = world.daemon.verify();
    assert!(report["problems"].as_array().unwrap().is_empty(), "{report}");
}
