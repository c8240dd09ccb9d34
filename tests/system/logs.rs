//! Logs as programs write them: side by side, until the daemon is killed, and by the agent. (What
//! a log refuses is in `promise/p17.rs`.)

use std::fs::File;
use std::io::Read as _;
use std::io::Write as _;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::process::Command;
use std::process::Stdio;
use std::time::Duration;
use std::time::Instant;

use system_tests::binary;
use system_tests::daemon::Daemon;
use system_tests::daemon::names;

/// How long to wait for what must happen soon, on a busy machine.
const SOON: Duration = Duration::from_secs(60);

/// Lines that each writer appends.
const LINES: usize = 10_000;

/// A store that is served with its logs.
fn serve() -> Daemon {
    let daemon = Daemon::prepare();
    let logs = daemon.logs();
    daemon.mount(&["--logs", logs.to_str().unwrap()]).success();
    daemon
}

fn append(path: &Path) -> File {
    File::options().append(true).create(true).open(path).unwrap()
}

/// A program that appends lines with the numbers 0 to N, each in a write of its own.
fn writer(path: &Path, name: &str) -> Command {
    let script = r#"
import os, sys
path, name, lines = sys.argv[1], sys.argv[2], int(sys.argv[3])
log = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
for number in range(lines):
    line = f"{name} {number} {'x' * (number % 97)}\n".encode()
    if os.write(log, line) != len(line):
        sys.exit("a line was not written whole")
os.close(log)
"#;
    let mut command = Command::new("python3");
    command.arg("-c").arg(script).arg(path).arg(name).arg(LINES.to_string());
    command
}

/// How many whole lines of each writer are there, which must be in their order.
#[track_caller]
fn count(text: &str, writers: &[&str]) -> Vec<usize> {
    let mut counts = vec![0; writers.len()];
    for line in text.lines() {
        let mut words = line.splitn(3, ' ');
        let (name, number) = (words.next().unwrap(), words.next().unwrap());
        let writer = writers.iter().position(|writer| *writer == name).expect("a writer's line");
        let expected = counts[writer];
        assert_eq!(number, expected.to_string(), "{line}");
        assert_eq!(words.next().map(str::len), Some(expected % 97), "{line}");
        counts[writer] += 1;
    }
    counts
}

/// Waits until the ledger covers a log, and gives what `worm verify` then says.
#[track_caller]
fn covered(daemon: &Daemon) -> serde_json::Value {
    let deadline = Instant::now() + SOON;
    loop {
        let report = daemon.verify();
        if report["uncovered"] == 0 {
            return report;
        }
        assert!(Instant::now() < deadline, "not recorded: {report}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn p17_programs_that_append_side_by_side_lose_no_line_and_tear_none() {
    let daemon = serve();
    let log = daemon.logs().join("both.log");
    let children = ["one", "two"]
        .map(|name| writer(&log, name).stdin(Stdio::null()).spawn().expect("python3 is there"));
    for mut child in children {
        assert!(child.wait().unwrap().success());
    }
    let text = std::fs::read_to_string(&log).unwrap();
    assert_eq!(count(&text, &["one", "two"]), [LINES, LINES]);
    assert_eq!(std::fs::read_to_string(daemon.view().join("logs/both.log")).unwrap(), text);
    let report = covered(&daemon);
    assert_eq!((&report["logs"], &report["files"]), (&1.into(), &0.into()));
    assert_eq!(report["bytes"], text.len());
    assert!(names(&daemon.active()).iter().all(|class| class != "logs"));
}

#[test]
fn p17_what_was_synced_survives_a_kill_of_the_daemon() {
    let daemon = serve();
    let (log, mut synced) = (daemon.logs().join("app.log"), Vec::new());
    for kill in 0..3 {
        let writers = ["a", "b"].map(|name| {
            let log = log.clone();
            std::thread::spawn(move || {
                let (mut file, mut done) = (append(&log), Vec::new());
                for number in 0.. {
                    let line = format!("{name} {kill} {number}\n");
                    // The daemon is killed some time: then every call fails.
                    let Ok(()) = file.write_all(line.as_bytes()) else { break };
                    let Ok(()) = file.sync_data() else { break };
                    done.push(line);
                }
                done
            })
        });
        let deadline = Instant::now() + SOON;
        let enough = (kill + 1) * 500;
        while std::fs::metadata(&log).map_or(0, |log| log.len()) < enough {
            assert!(Instant::now() < deadline, "nobody writes");
            std::thread::sleep(Duration::from_millis(2));
        }
        daemon.kill();
        for writer in writers {
            synced.extend(writer.join().unwrap());
        }
        daemon.mount(&["--logs", daemon.logs().to_str().unwrap()]).success();
    }
    // Something after the last kill, which must not be glued to half a line.
    append(&log).write_all(b"c 0 0\n").unwrap();
    synced.push("c 0 0\n".to_owned());
    let text = std::fs::read_to_string(&log).unwrap();
    let lines: std::collections::BTreeSet<&str> = text.lines().collect();
    assert!(synced.len() > 20, "only {} lines were synced", synced.len());
    for line in &synced {
        assert!(lines.contains(line.trim_end()), "{line:?} is gone");
    }
    covered(&daemon);
}

#[test]
fn p17_verify_finds_what_was_changed_in_a_log() {
    let daemon = serve();
    let log = daemon.logs().join("app.log");
    append(&log).write_all(b"one\ntwo\nthree\n").unwrap();
    covered(&daemon);
    daemon.worm("umount", &daemon.active(), &[]).success();
    let data = daemon.store().join("data/logs/app.log");
    let data = File::options().write(true).open(data).unwrap();
    data.write_at(b"TWO", 4).unwrap();
    let said = daemon.worm("verify", &daemon.store(), &[]).expect_code(9);
    assert!(said.stdout.contains("logs/app.log: its bytes were changed"), "{}", said.stdout);
    data.write_at(b"two", 4).unwrap();
    data.write_at(b"four\n", 14).unwrap();
    let report = daemon.verify();
    assert_eq!(report["uncovered"], 5, "added at the end, and not recorded: {report}");
    data.set_len(13).unwrap();
    let said = daemon.worm("verify", &daemon.store(), &[]).expect_code(9);
    assert!(said.stdout.contains("it has 13 bytes, not 14"), "{}", said.stdout);
}

#[test]
fn p18_one_daemon_serves_three_places_and_guards_two() {
    let daemon = serve();
    let log = daemon.logs().join("app.log");
    append(&log).write_all(b"one\n").unwrap();
    let said = daemon.worm("ls", &daemon.active(), &[]).success();
    assert!(said.contains("logs/app.log") && said.contains("appending"), "{said}");
    let store = daemon.store().to_string_lossy().into_owned();
    let about = |command, more: &[&str]| {
        let args = [&["--store", store.as_str()][..], more].concat();
        daemon.worm(command, std::path::Path::new("logs/app.log"), &args).success()
    };
    let said = about("why", &[]);
    assert!(said.contains("a log, which takes bytes at its end only, last recorded"), "{said}");
    assert!(said.contains("kept until") && !said.contains("sealed"), "{said}");
    let said = about("show", &["--json"]);
    assert!(said.contains(r#""standing": "appending""#), "{said}");
    // The place of the logs alone.
    daemon.worm("umount", &daemon.logs(), &[]).success();
    assert!(names(&daemon.logs()).is_empty());
    let early = File::create(daemon.logs().join("early")).map(drop);
    assert_eq!(early.unwrap_err().kind(), std::io::ErrorKind::ReadOnlyFilesystem);
    File::create_new(daemon.active().join("hourly/x")).unwrap();
    daemon.wait(&daemon.active().join("hourly/x"));
    daemon.worm("umount", &daemon.active(), &[]).success();
    assert!(!worm_fs::store::is_served(&daemon.store()));
    daemon.mount(&["--logs", daemon.logs().to_str().unwrap()]).success();
    let mut text = String::new();
    File::open(&log).unwrap().read_to_string(&mut text).unwrap();
    assert_eq!(text, "one\n");
    // All of it.
    daemon.worm("umount", &daemon.active(), &[]).success();
    for place in [daemon.active(), daemon.logs()] {
        let early = File::create(place.join("early")).map(drop);
        assert_eq!(early.unwrap_err().kind(), std::io::ErrorKind::ReadOnlyFilesystem);
    }
}

#[test]
fn a_place_of_its_own_is_asked_for() {
    let daemon = Daemon::prepare();
    let active = daemon.active();
    let said = daemon.mount(&["--logs", active.to_str().unwrap()]).expect_code(2);
    assert!(said.stderr.contains("a directory of its own"), "{}", said.stderr);
    assert!(!daemon.store().exists());
}

#[test]
fn worm_wait_does_not_wait_for_a_log() {
    let daemon = serve();
    let log = daemon.logs().join("app.log");
    append(&log).write_all(b"one\n").unwrap();
    let said = daemon.worm("wait", &log, &[]).expect_code(1);
    assert!(said.stderr.contains("never sealed"), "{}", said.stderr);
}

/// The agent keeps its audit log there; with no database it notes a refusal.
#[test]
fn the_agent_keeps_its_audit_log_as_a_log() {
    let daemon = serve();
    let log = daemon.logs().join("backup_audit.jsonl");
    for run in 1..=2 {
        let mut agent = binary::command("worm-ingest");
        agent.args(["backup", "hourly", "--url", "postgres://nobody@127.0.0.1:1/none"]);
        agent.arg("--backups").arg(daemon.active()).arg("--audit-log").arg(&log);
        binary::run(&mut agent);
        let text = std::fs::read_to_string(&log).unwrap();
        let lines: Vec<serde_json::Value> =
            text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(lines.len(), run, "{text}");
        assert!(lines.iter().all(|line| line["event"] == "backup"), "{text}");
    }
    covered(&daemon);
}
