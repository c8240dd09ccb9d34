//! What is refused before anything is written.

use std::net::TcpListener;
use std::process::Command;

use crate::world::Run;
use crate::world::World;

#[track_caller]
fn check(change: impl FnOnce(&World, &mut Command), exit: u8, code: &str, hint: &str) {
    let world = World::new("refused", "", "");
    let run = world.backup(|command| change(&world, command));
    world.check_failed(&run, exit, code);
    assert!(run.stderr.contains(hint), "{run:?}");
}

#[test]
fn a_server_that_accepts_and_never_answers_is_given_up() {
    let world = World::new("silent", "", "");
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let run = world.backup(|command| {
        command.env("PGHOST", "127.0.0.1").env("PGCONNECT_TIMEOUT", "1");
        command.env("PGPORT", listener.local_addr().unwrap().port().to_string());
    });
    world.check_failed(&run, 8, "database.unreachable");
    assert!(run.stderr.contains("does not answer"), "{run:?}");
}

/// All in one test: they share a database.
#[test]
fn what_cannot_work_is_refused_with_its_number() {
    check(
        |_, command| {
            command.env("PGHOST", "/nonexistent");
        },
        8,
        "database.unreachable",
        "/nonexistent",
    );
    check(
        |_, command| {
            command.env("PGDATABASE", "absent");
        },
        6,
        "database.none",
        "no database is called absent",
    );
    check(
        |world, command| {
            let version = "pg_dump (PostgreSQL) 9.6.24";
            command.arg("--client-dir").arg(world.fake_of_version(version, "exit 1"));
        },
        4,
        "client.missing",
        "9.6.24",
    );
}

#[test]
fn a_directory_that_is_not_write_once_is_refused() {
    let world = World::new("plain", "", "");
    let run: Run = world.limited().arg("hourly").output().unwrap().into();
    world.check_failed(&run, 10, "vault.not_write_once");
}

#[test]
fn an_unknown_class_is_refused_with_those_there_are() {
    let world = World::new("unknown_class", "", "");
    let run: Run = world.limited().args(["hurly", "--allow-plain"]).output().unwrap().into();
    world.check_failed(&run, 6, "usage.class");
    assert!(run.stderr.contains("there is: hourly"), "{run:?}");
}

#[test]
fn an_audit_log_that_cannot_be_written_is_found_out_first() {
    let world = World::new("no_audit", "", "");
    let run = world.backup(|command| {
        command.env("WORM_AUDIT_LOG", "/nonexistent/audit.jsonl");
    });
    assert_eq!(run.code, Some(4), "{run:?}");
    assert_eq!(run.json()["error"]["code"], "audit.unwritable");
    assert_eq!(world.names(), [""; 0]);
}

#[test]
fn settings_that_make_no_sense_are_refused() {
    let world = World::new("settings", "", "");
    for (name, value) in [
        ("PGSSLMODE", "verify-full"),
        ("PGSERVICE", "main"),
        ("DATABASE_URL", "mysql://x/y"),
        ("WORM_COMPRESS", "rar:3"),
        ("WORM_FORMAT", "tar"),
        ("WORM_JOBS", "4"),
        ("WORM_RECIPIENT", "age1nonsense"),
    ] {
        let run = world.backup(|command| {
            command.env(name, value);
        });
        assert_eq!(run.code, Some(2), "{run:?}");
        assert_eq!(run.stderr.lines().count(), 1, "{run:?}");
    }
    assert_eq!(world.names(), [""; 0]);
}

#[test]
fn help_lists_the_exit_codes() {
    let output = Command::new(env!("CARGO_BIN_EXE_worm-ingest")).arg("--help").output().unwrap();
    let help = String::from_utf8(output.stdout).unwrap();
    for number in [0, 1, 2, 3, 4, 5, 6, 8, 9, 10] {
        let line = format!("{number:>4}  ");
        assert!(help.lines().any(|text| text.starts_with(&line)), "{number}: {help}");
    }
}
