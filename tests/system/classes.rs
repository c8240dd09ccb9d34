//! One dump into several classes of a real mount.

use std::io::Write as _;

use system_tests::binary;
use system_tests::daemon::Daemon;
use system_tests::daemon::names;
use system_tests::daemon::sha256;
use system_tests::postgres::Postgres;
use worm_ingest::manifest::Manifest;

/// The third class has room for no dump.
const RULES: &str = "
[class.hourly]
retention = \"48h\"
[class.daily]
retention = \"7d\"
[class.weekly]
retention = \"4w\"
limits.bytes = \"256KiB\"
";

#[test]
fn each_class_keeps_its_own_copy_for_its_own_time_and_a_full_one_fails_alone() {
    let (postgres, daemon) = (Postgres::start(), Daemon::prepare());
    postgres.create_database("app");
    postgres.psql(
        "app",
        "CREATE TABLE noise AS SELECT md5(i::text) || md5((i + 1)::text) AS t \
         FROM generate_series(1, 60000) AS i",
    );
    let config = daemon.directory().join("worm.toml");
    std::fs::File::create_new(&config).unwrap().write_all(RULES.as_bytes()).unwrap();
    daemon.mount(&["--config", config.to_str().unwrap()]).success();

    let log = daemon.directory().join("backup_audit.jsonl");
    let mut command = binary::command("worm-ingest");
    command.args(["backup", "weekly", "hourly", "daily", "--json"]);
    command.env("DATABASE_URL", postgres.url("app"));
    command.arg("--backups").arg(daemon.active()).arg("--audit-log").arg(&log);
    let run = binary::run(&mut command).expect_code(3);
    assert!(
        run.stderr.contains("no space left") && run.stderr.contains("weekly"),
        "{}",
        run.stderr
    );
    assert_eq!(run.stderr.trim().lines().count(), 1, "{}", run.stderr);
    assert_eq!(std::fs::read_to_string(&log).unwrap(), run.stdout);
    assert!(names(&daemon.active().join("weekly")).is_empty());

    let mut digests = Vec::new();
    for (class, hours) in [("hourly", 48), ("daily", 7 * 24)] {
        let directory = daemon.view().join(class);
        let files = names(&directory);
        let manifest = format!("{}.manifest.json", files[0]);
        assert_eq!(files.len(), 5, "{files:?}");
        let manifest = Manifest::decode(&std::fs::read(directory.join(manifest)).unwrap()).unwrap();
        assert_eq!((&manifest.name, manifest.class.as_str()), (&files[0], class));
        let kept = manifest.retain_until.unwrap().duration_since(manifest.finished_at).as_hours();
        assert!((hours - 1..=hours).contains(&kept), "{class} is kept for {kept} hours");
        assert_eq!(manifest.stored.sha256, sha256(&directory.join(&files[0])));
        digests.push(manifest.stored.sha256);
    }
    assert_eq!(digests[0], digests[1]);
    daemon.verify();
}
