//! What those outside see of the agent: suspicion, lists, numbers, pings, hooks, the doctor.

use std::fs::File;
use std::io::BufRead;
use std::io::BufReader;
use std::io::Write;
use std::process::Command;
use std::process::Stdio;

use serde_json::Value;

use crate::listener::Listener;
use crate::listener::Manner;
use crate::world::Run;
use crate::world::World;

const TABLE: &str = "CREATE TABLE users AS SELECT generate_series(1, 2000) AS n";

/// Runs another command than `backup` with the same settings.
fn agent(world: &World, arguments: &[&str]) -> Run {
    let mut command = Command::new("timeout");
    command.args(["--kill-after=5", "120", env!("CARGO_BIN_EXE_worm-ingest")]).args(arguments);
    world.surround(&mut command);
    command.output().unwrap().into()
}

fn listed(world: &World) -> Vec<Value> {
    let run = agent(world, &["list", "--json"]);
    assert_eq!(run.code, Some(0), "{run:?}");
    run.json().as_array().unwrap().clone()
}

#[test]
fn a_backup_that_looks_wrong_is_sealed_and_counts_for_nothing_until_accepted() {
    let world = World::new("suspect", "", TABLE);
    let backup = |more: &[&str]| {
        world.backup(|command| {
            command.args(more);
        })
    };
    let good = backup(&[]);
    assert_eq!(good.code, Some(0), "{good:?}");
    world.server.sql("suspect", "DELETE FROM users");
    for _ in 0..2 {
        let run = backup(&[]);
        assert_eq!(run.code, Some(3), "{run:?}");
        assert!(run.stderr.contains("SUSPECT") && run.stderr.contains("2000"), "{run:?}");
        let line = run.json();
        assert_eq!(line["outcome"], "suspect");
        assert_eq!(line["suspect"][0]["code"], "rows.all_gone");
        assert_eq!(line["error"]["code"], "backup.suspect");
        assert_eq!(world.audit().last(), Some(&line));
    }
    let rows = listed(&world);
    let states: Vec<&Value> = rows.iter().map(|row| &row["state"]).collect();
    assert_eq!(states, ["suspect", "suspect", "good"]);
    let latest = agent(&world, &["show", "latest", "--json"]);
    assert_eq!(latest.json()["name"], good.json()["name"]);
    assert!(latest.stderr.contains("passed_over=2"), "{latest:?}");
    let name = rows[0]["name"].as_str().unwrap();
    let suspect = agent(&world, &["show", name]);
    assert!(suspect.stdout.contains("SUSPECT rows.all_gone"), "{suspect:?}");
    let metrics = agent(&world, &["metrics"]);
    let labels = "{database=\"suspect\",class=\"hourly\"}";
    for line in [format!("suspect{labels} 1.0"), format!("last_result{labels} 3.0")] {
        assert!(metrics.stdout.contains(&format!("worm_ingest_{line}")), "{metrics:?}");
    }

    let accepted = backup(&["--accept-suspect", "users moved away"]);
    assert_eq!(accepted.code, Some(0), "{accepted:?}");
    assert_eq!(backup(&[]).code, Some(0));
    let rows = listed(&world);
    assert_eq!(rows[0]["state"], "good");
    assert_eq!(rows[1]["accepted"]["reason"], "users moved away");
    assert_eq!(rows[1]["accepted"]["suspicions"][0]["code"], "rows.all_gone");
    let metrics = agent(&world, &["metrics"]);
    for line in [format!("suspect{labels} 0.0"), format!("last_result{labels} 0.0")] {
        assert!(metrics.stdout.contains(&format!("worm_ingest_{line}")), "{metrics:?}");
    }
}

#[test]
fn settings_are_shown_without_secrets_and_misspelt_ones_are_told() {
    let world = World::new("shown", "", "");
    let passwords = world.path("passwords");
    crate::world::put(&passwords, b"*:*:*:*:hush\n", 0o600);
    let agent = |arguments: &[&str]| -> Run {
        let mut command = Command::new(env!("CARGO_BIN_EXE_worm-ingest"));
        world.surround(&mut command);
        command.args(arguments).env("PGPASSFILE", &passwords).env("WORM_STAL_TIMEOUT", "9");
        command.env("WORM_RECIPIENT", "AGE-SECRET-KEY-1HUSH").output().unwrap().into()
    };
    let shown = agent(&["config", "show", "--json"]);
    assert_eq!(shown.code, Some(0), "{shown:?}");
    assert!(!format!("{shown:?}").to_lowercase().contains("hush"), "{shown:?}");
    let rows = shown.json();
    let password = rows.as_array().unwrap().iter().find(|row| row["name"] == "password").unwrap();
    assert_eq!(password["origin"], passwords.to_str().unwrap());
    let warnings: Vec<&str> = shown.stderr.lines().collect();
    assert!(warnings.len() == 1 && warnings[0].contains("WORM_STALL_TIMEOUT?"), "{shown:?}");
    let refused = agent(&["config", "check"]);
    assert_eq!(refused.code, Some(2), "{refused:?}");
    assert!(refused.stderr.contains("SECRET key: it must never be on this machine"), "{refused:?}");
    assert!(!refused.stderr.contains("HUSH"), "{refused:?}");
}

#[test]
fn what_is_not_there_has_its_own_number() {
    let world = World::new("nothing", "", "");
    assert_eq!(agent(&world, &["list", "--json"]).json(), Value::Array(Vec::new()));
    assert_eq!(agent(&world, &["list"]).code, Some(6));
    assert_eq!(agent(&world, &["show", "latest"]).code, Some(6));
    assert_eq!(agent(&world, &["show", "2026-01-18_00-00-00.sql.gz"]).code, Some(6));
    assert_eq!(agent(&world, &["list", "weekly"]).code, Some(6));
    let run = world.backup_by("exit 1");
    assert_eq!(run.code, Some(1));
    let metrics = agent(&world, &["metrics"]).stdout;
    let failed = "worm_ingest_last_result{database=\"nothing\",class=\"hourly\"} 1.0";
    assert!(metrics.contains(failed), "{metrics}");
}

#[test]
fn receivers_hear_how_a_run_begins_and_ends() {
    let world = World::new("told", "", TABLE);
    let listener = Listener::start(Manner::Polite);
    let told = world.path("told");
    let (ping, daily, hook) = (
        listener.url("ping/uuid?create=1"),
        format!("daily={}", listener.url("daily")),
        format!("echo $WORM_OUTCOME $WORM_NAME $WORM_ERROR_CODE >>{}", told.display()),
    );
    let webhook = listener.url("hook");
    let tell = |command: &mut Command| {
        command.args(["--ping-url", &ping, "--ping-url", &daily, "--webhook-url", &webhook]);
        command.args(["--hook-success", &hook, "--hook-failure", &hook]);
    };
    let run = world.backup(tell);
    assert_eq!(run.code, Some(0), "{run:?}");
    // Each receiver is told on its own: only the order of one is known.
    let of = |start: &str| {
        let requests = listener.requests().into_iter();
        requests.filter(|(path, _)| path.starts_with(start)).collect::<Vec<(String, String)>>()
    };
    let requests = of("/ping");
    let paths: Vec<&str> = requests.iter().map(|(path, _)| path.as_str()).collect();
    assert_eq!(paths, ["/ping/uuid/start?create=1", "/ping/uuid?create=1"]);
    let name = run.json()["name"].as_str().unwrap().to_owned();
    assert!(requests[1].1.contains(&name), "{requests:?}");
    assert_eq!(serde_json::from_str::<Value>(&of("/hook")[0].1).unwrap(), run.json());
    assert_eq!(listener.requests().len(), 3);

    let broken = world.fake("exit 1");
    let run = world.backup(|command| {
        tell(command);
        command.arg("--client-dir").arg(&broken);
    });
    assert_eq!(run.code, Some(1), "{run:?}");
    let requests = of("/ping");
    assert_eq!(requests[3].0, "/ping/uuid/fail?create=1");
    assert!(requests[3].1.contains("no backup was made"), "{requests:?}");
    let told = std::fs::read_to_string(told).unwrap();
    let lines: Vec<&str> = told.lines().collect();
    assert_eq!(lines[0].trim(), format!("ok {name}"));
    assert!(lines[1].starts_with("failed") && lines[1].ends_with("dump.failed"), "{told}");
}

#[test]
fn whoever_is_slow_to_hear_holds_up_neither_the_result_nor_the_next_run() {
    let world = World::new("slow", "", TABLE);
    // Until the test writes to the pipe, or goes.
    let pipe = world.path("pipe");
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let mut slow = world.limited();
    slow.args(["hourly", "--allow-plain", "--hook-success"]);
    slow.arg(format!("read line <{}; echo $WORM_OUTCOME $line >{0}.heard", pipe.display()));
    let mut slow = slow.stdout(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(slow.stdout.take().unwrap()).read_line(&mut line).unwrap();
    assert_eq!(serde_json::from_str::<Value>(&line).unwrap()["outcome"], "ok", "told at once");
    let next = world.backup(|_| {});
    assert_eq!(next.code, Some(0), "the locks are free: {next:?}");
    writeln!(File::options().write(true).open(&pipe).unwrap(), "at last").unwrap();
    assert_eq!(slow.wait().unwrap().code(), Some(0));
    let heard = std::fs::read_to_string(world.path("pipe.heard")).unwrap();
    assert_eq!(heard, "ok at last\n");
}

#[test]
fn receivers_that_do_not_listen_fail_nothing() {
    let world = World::new("deaf", "", TABLE);
    for manner in [Manner::Broken, Manner::Silent] {
        let listener = Listener::start(manner);
        let run = world.backup(|command| {
            command.args(["--ping-url", &listener.url("secret"), "--ping-timeout", "1"]);
            command.args(["--hook-success", "exit 7"]);
        });
        assert_eq!(run.code, Some(0), "{manner:?}: {run:?}");
        let paths: Vec<String> = listener.requests().into_iter().map(|(path, _)| path).collect();
        assert_eq!(paths, ["/secret/start", "/secret", "/secret", "/secret"], "{manner:?}");
        let warnings = run.stderr.lines().filter(|line| line.contains("could not tell"));
        assert_eq!(warnings.count(), 3, "{manner:?}: {run:?}");
        assert!(run.stderr.contains("exit status: 7"), "{run:?}");
        assert!(!run.stderr.contains("secret"), "an address is a secret: {run:?}");
    }
    let run = world.backup(|command| {
        command.args(["--ping-url", "not an address"]);
    });
    assert_eq!(run.code, Some(2), "{run:?}");
}

/// What the doctor said, by the name of the check.
fn said<'run>(run: &'run Run, check: &str, verdict: &str) -> &'run str {
    let line = run.stdout.lines().find(|line| {
        line.starts_with(verdict) && line[verdict.len()..].trim_start().starts_with(check)
    });
    line.unwrap_or_else(|| panic!("{verdict} {check}: {run:?}"))
}

#[test]
fn the_doctor_names_what_keeps_a_backup_from_being_good() {
    let setup = "DROP ROLE IF EXISTS patient; CREATE ROLE patient LOGIN; \
                 CREATE TABLE open (n int); GRANT SELECT ON open TO patient; \
                 CREATE TABLE closed (n int); \
                 CREATE TABLE hidden (n int); GRANT SELECT ON hidden TO patient; \
                 ALTER TABLE hidden ENABLE ROW LEVEL SECURITY; SELECT lo_create(0)";
    let world = World::new("doctor", "", setup);
    let run = agent(&world, &["doctor"]);
    assert_eq!(run.code, Some(10), "{run:?}");
    assert!(said(&run, "mount", "FAIL").contains("not write-once"));
    said(&run, "server", "ok");

    let run = agent(&world, &["doctor", "--allow-plain"]);
    assert_eq!(run.code, Some(0), "{run:?}");
    assert!(said(&run, "mount", "WARN").contains("protects nothing"));
    assert!(said(&run, "rights", "WARN").contains("superuser"));
    assert!(said(&run, "rights", "ok").contains("3 tables"));
    assert!(said(&run, "rights", "ok").contains("1 large objects"));

    let run = agent(&world, &["doctor", "--allow-plain", "--user", "patient"]);
    assert_eq!(run.code, Some(4), "{run:?}");
    assert!(said(&run, "rights", "FAIL").contains("may not read public.closed."));
    assert!(run.stdout.contains("hides rows of public.hidden"), "{run:?}");
    assert!(run.stdout.contains("1 of 1 large objects"), "{run:?}");

    let run = agent(&world, &["doctor", "--allow-plain", "--host", "/nonexistent", "--json"]);
    assert_eq!(run.code, Some(4), "{run:?}");
    let checks = run.json();
    let server = checks.as_array().unwrap().iter().find(|check| check["check"] == "server");
    assert_eq!(server.unwrap()["verdict"], "fail");
}
