//! The doctor before a real mount: it tries to change what is sealed, and believes only `EPERM`.

use std::io::Write as _;
use std::process::Command;

use system_tests::binary;
use system_tests::daemon::Daemon;
use system_tests::daemon::names;
use system_tests::postgres::Postgres;

const CANARY: &str = "[class.canary]\nretention = \"1h\"\n";
const HOURLY: &str = "[class.hourly]\nretention = \"48h\"\n";

fn doctor(daemon: &Daemon, postgres: &Postgres) -> Command {
    let mut command = binary::command("worm-ingest");
    command.arg("doctor").env("DATABASE_URL", postgres.url("app"));
    command.arg("--backups").arg(daemon.active());
    command.arg("--audit-log").arg(daemon.directory().join("backup_audit.jsonl"));
    command
}

fn line<'text>(text: &'text str, check: &str) -> &'text str {
    let found = text.lines().find(|line| line.split_whitespace().nth(1) == Some(check));
    found.unwrap_or_else(|| panic!("no {check}: {text}"))
}

#[test]
fn a_canary_is_sealed_and_cannot_be_changed() {
    let (postgres, daemon) = (Postgres::start(), Daemon::prepare());
    postgres.create_database("app");
    let config = daemon.directory().join("worm.toml");
    let mut file = std::fs::File::create_new(&config).unwrap();
    file.write_all(format!("{HOURLY}{CANARY}").as_bytes()).unwrap();
    daemon.mount(&["--config", config.to_str().unwrap()]).success();

    let text = binary::run(&mut doctor(&daemon, &postgres)).success();
    let canary = line(&text, "canary");
    assert!(canary.starts_with("ok") && canary.contains("6 ways were tried"), "{text}");
    assert!(line(&text, "mount").contains("canary, hourly"), "{text}");
    assert!(line(&text, "space").starts_with("ok"), "{text}");
    assert!(text.contains("the clock of the mount is 0 s"), "{text}");
    assert_eq!(names(&daemon.active().join("canary")).len(), 1);

    daemon.kill();
    daemon.wait_until_not_served();
    let dead = binary::run(&mut doctor(&daemon, &postgres)).expect_code(10);
    assert!(line(&dead.stdout, "mount").starts_with("FAIL"), "{}", dead.stdout);
}

#[test]
fn without_a_class_for_the_canary_it_says_how_to_make_one() {
    let (postgres, daemon) = (Postgres::start(), Daemon::start());
    postgres.create_database("app");
    let text = binary::run(&mut doctor(&daemon, &postgres)).success();
    assert!(line(&text, "canary").starts_with("WARN"), "{text}");
    assert!(text.contains(CANARY.lines().next().unwrap()), "{text}");
}
