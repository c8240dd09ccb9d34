//! `run`, `next` and the locks, with the real program, a real database and a plain directory.

use std::io::Read;
use std::path::Path;
use std::process::Child;
use std::process::Command;
use std::process::Stdio;
use std::time::Duration;
use std::time::Instant;

use rustix::process::Pid;
use rustix::process::Signal;
use rustix::process::kill_process;
use worm_ingest::http;
use worm_ingest::http::Address;

use crate::world::Run;
use crate::world::World;

const TABLE: &str = "CREATE TABLE a AS SELECT generate_series(1, 2000) AS n";
/// How long a test waits for something that does come, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// A service, until it is dropped.
pub(crate) struct Service(Child);

impl Service {
    pub(crate) fn start(world: &World, change: impl FnOnce(&mut Command)) -> Self {
        let mut command = world.command("run");
        command.arg("--allow-plain").stdout(Stdio::null()).stderr(Stdio::piped());
        change(&mut command);
        Self(command.spawn().unwrap())
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_raw(self.0.id().cast_signed()).unwrap(), signal).unwrap();
    }

    /// Waits for its end, and gives its exit code and what it said.
    pub(crate) fn end(mut self) -> (Option<i32>, String) {
        let mut said = String::new();
        self.0.stderr.take().unwrap().read_to_string(&mut said).unwrap();
        (self.0.wait().unwrap().code(), said)
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        // It may have ended, and then there is nothing to do.
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

#[track_caller]
pub(crate) fn wait_until(what: &str, mut done: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !done() {
        assert!(begun.elapsed() < PATIENCE, "{what} did not come");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// How many backups are whole in a class.
fn manifests(directory: &Path) -> usize {
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    entries.filter(|entry| entry.file_name().to_string_lossy().ends_with(".manifest.json")).count()
}

fn with_classes(world: &World) {
    for class in ["daily", "weekly"] {
        std::fs::create_dir(world.path("active").join(class)).unwrap();
    }
}

#[test]
fn an_empty_directory_is_filled_at_once_by_one_dump_and_not_again_after_a_restart() {
    let world = World::new("run", "", TABLE);
    with_classes(&world);
    // Far away, so that no hour of a test run is one.
    let far = |command: &mut Command| {
        for class in ["hourly", "daily", "weekly"] {
            command.arg(format!("--schedule-{class}=0 0 1 1 *"));
        }
    };
    let service = Service::start(&world, far);
    wait_until("the first backups", || world.audit().len() == 3);
    service.signal(Signal::TERM);
    let (code, said) = service.end();
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("ready"), "{said}");
    for class in ["hourly", "daily", "weekly"] {
        assert_eq!(manifests(&world.path("active").join(class)), 1, "{class}: {said}");
    }
    let runs: Vec<String> = world.audit().iter().map(|line| line["run_id"].to_string()).collect();
    assert!(runs.iter().all(|run| *run == runs[0]), "one run: {runs:?}");

    // What is sealed is all that a new one knows, and enough.
    let socket = world.path("notify");
    let manager = std::os::unix::net::UnixDatagram::bind(&socket).unwrap();
    manager.set_read_timeout(Some(PATIENCE)).unwrap();
    let service = Service::start(&world, |command| {
        far(command);
        command.env("NOTIFY_SOCKET", &socket).env("WATCHDOG_USEC", "200000");
    });
    let mut heard = String::new();
    let mut hear = |word: &str| {
        let mut bytes = [0; 4096];
        heard.clear();
        while !heard.contains(word) {
            let length = manager.recv(&mut bytes).unwrap();
            heard.push_str(std::str::from_utf8(&bytes[..length]).unwrap());
        }
        heard.clone()
    };
    let before_ready = hear("READY=1\n");
    assert!(before_ready.contains("STATUS=next: "), "{before_ready}");
    for _ in 0..3 {
        hear("WATCHDOG=1\n");
    }
    service.signal(Signal::HUP);
    hear("WATCHDOG=1\n");
    service.signal(Signal::TERM);
    hear("STOPPING=1\n");
    let (code, said) = service.end();
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("SIGHUP"), "{said}");
    assert_eq!(world.audit().len(), 3, "{said}");
}

/// A dump that waits until it is ended, or the agent is.
const WAITING: &str =
    "$REAL \"$@\" | head -c 5000\n: >$HERE/started\nexec tail --pid=$PPID -f /dev/null";

#[test]
fn a_service_that_is_told_to_end_ends_its_dump_as_aborted() {
    let world = World::new("run_stopped", "", TABLE);
    let directory = world.fake(WAITING);
    let service = Service::start(&world, |command| {
        command.args(["--schedule-daily=off", "--schedule-weekly=off", "--client-dir"]);
        command.arg(&directory);
    });
    wait_until("the dump", || directory.join("started").exists());
    service.signal(Signal::TERM);
    let (code, said) = service.end();
    assert_eq!(code, Some(5), "{said}");
    assert_eq!(world.audit().last().unwrap()["outcome"], "cancelled");
    assert_eq!(world.names(), [""; 0]);
}

#[test]
fn a_run_is_ended_at_its_deadline() {
    let world = World::new("deadline", "", TABLE);
    let directory = world.fake("exec tail --pid=$PPID -f /dev/null");
    let run = world.backup(|command| {
        command.args(["--deadline", "1s", "--client-dir"]).arg(&directory);
    });
    world.check_failed(&run, 1, "deadline");
    assert_eq!(world.audit().last().unwrap()["outcome"], "deadline");
    assert!(run.stderr.contains("--deadline"), "{run:?}");
}

/// Whatever is not there comes later: the service waits for it.
#[test]
fn a_directory_that_is_not_write_once_keeps_a_service_waiting_and_empty() {
    let world = World::new("run_plain", "", TABLE);
    let mut command = world.command("run");
    command.stdout(Stdio::null()).stderr(Stdio::piped());
    let mut service = Service(command.spawn().unwrap());
    let mut said = std::io::BufReader::new(service.0.stderr.take().unwrap());
    let mut line = String::new();
    while !line.contains("not write-once") {
        line.clear();
        assert!(std::io::BufRead::read_line(&mut said, &mut line).unwrap() > 0, "it ended");
    }
    assert_eq!(service.0.try_wait().unwrap(), None, "it stays");
    service.signal(Signal::TERM);
    let mut rest = String::new();
    said.read_to_string(&mut rest).unwrap();
    assert_eq!(service.0.wait().unwrap().code(), Some(0), "{rest}");
    assert!(!rest.contains("ready"), "{rest}");
    assert_eq!(world.names(), [""; 0]);
    assert_eq!(world.audit().len(), 0);
}

#[test]
fn two_runs_for_one_database_are_not_made_at_once() {
    let world = World::new("locks", "", TABLE);
    let directory = world.fake(WAITING);
    let mut command = world.command("backup");
    command.args(["hourly", "--allow-plain", "--client-dir"]).arg(&directory);
    let first = Service(command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap());
    wait_until("the dump", || directory.join("started").exists());

    // On the same host: by the lock file, which names the process.
    let check = |run: &Run, who: &str| {
        assert_eq!(run.code, Some(7), "{run:?}");
        assert!(run.stderr.contains(who), "{run:?}");
        assert_eq!(world.audit().last().unwrap()["error"]["code"], "lock.busy");
        assert_eq!(world.audit().last().unwrap()["outcome"], "refused");
    };
    check(&world.backup(|_| {}), &format!("process {} on ", first.0.id()));
    // On another: by the lock in the database, which names the session.
    let lock = world.path("other.lock");
    let elsewhere = |command: &mut Command| {
        command.arg("--lock-file").arg(&lock);
    };
    check(&world.backup(elsewhere), "worm-ingest at its unix socket, server process ");

    // Who waits gets its turn when the first is gone, however it went.
    let mut command = world.limited();
    command.args(["hourly", "--allow-plain", "--wait"]).stderr(Stdio::piped());
    let mut second = command.stdout(Stdio::null()).spawn().unwrap();
    let mut said = std::io::BufReader::new(second.stderr.take().unwrap());
    let mut line = String::new();
    std::io::BufRead::read_line(&mut said, &mut line).unwrap();
    assert!(line.contains("waiting for another run"), "{line}");
    first.signal(Signal::KILL);
    drop(first);
    let mut rest = String::new();
    said.read_to_string(&mut rest).unwrap();
    assert_eq!(second.wait().unwrap().code(), Some(0), "{rest}");
}

#[test]
fn probes_and_prometheus_hear_how_a_service_stands() {
    let world = World::new("health", "", TABLE);
    let (socket, textfile) = (world.path("socket"), world.path("worm.prom"));
    let listen = format!("unix:{}", socket.display());
    let health = || -> Run {
        let mut command = world.command("health");
        command.env("WORM_LISTEN", &listen).output().unwrap().into()
    };
    let refused = health();
    assert_eq!(refused.code, Some(1), "{refused:?}");
    assert_eq!(world.command("health").output().unwrap().status.code(), Some(2), "nowhere");

    let start = || {
        Service::start(&world, |command| {
            command.args(["--schedule-daily=off", "--schedule-weekly=off", "--listen", &listen]);
            command.args(["--schedule-hourly=0 0 1 1 *", "--metrics-textfile"]).arg(&textfile);
        })
    };
    let service = start();
    wait_until("readiness", || health().code == Some(0));
    wait_until("the backup", || manifests(&world.path("active/hourly")) == 1);
    let (code, said) = start().end();
    assert_eq!(code, Some(2), "the socket is taken: {said}");
    let address = Address::parse(&listen).unwrap();
    let numbers = http::ask(&address, "/metrics").unwrap();
    for name in [
        "last_success_age_seconds{database=\"health\",class=\"hourly\"}",
        "next_run_timestamp_seconds{class=\"hourly\"}",
        "schedule_interval_seconds{class=\"hourly\"}",
        "missed_runs_total{class=\"hourly\"} 0",
        "in_progress 0.0",
    ] {
        assert!(numbers.contains(&format!("worm_ingest_{name}")), "{name}: {numbers}");
    }
    wait_until("the file", || textfile.exists());
    let written = std::fs::read_to_string(&textfile).unwrap();
    assert!(written.ends_with("# EOF\n") && written.contains("next_run"), "{written}");

    // What goes away is found out by the next question.
    let (active, away) = (world.path("active"), world.path("away"));
    rustix::fs::rename(&active, &away).unwrap();
    let unready = health();
    assert_eq!(unready.code, Some(1), "{unready:?}");
    assert!(unready.stderr.contains("active"), "{unready:?}");
    assert_eq!(http::ask(&address, "/livez"), Ok("alive".to_owned()));
    rustix::fs::rename(&away, &active).unwrap();
    assert_eq!(health().code, Some(0));

    service.signal(Signal::TERM);
    assert_eq!(service.end().0, Some(0));
    assert!(!socket.exists());
    let mut open = world.command("run");
    let open: Run = open.args(["--listen", "0.0.0.0:9187"]).output().unwrap().into();
    assert_eq!((open.code, open.stderr.lines().count()), (Some(2), 1), "{open:?}");
}

#[test]
fn the_next_runs_are_printed_for_people_and_programs() {
    let world = World::new("next", "", "");
    let next = |arguments: &[&str]| -> Run {
        let mut command = world.command("next");
        command.args(arguments).output().unwrap().into()
    };
    let run = next(&["-n", "30", "--zone", "Europe/Rome"]);
    assert_eq!((run.code, run.stdout.lines().count()), (Some(0), 30), "{run:?}");
    assert!(
        run.stdout.lines().all(|line| line.contains(" UTC  ") && line.contains(" CE")),
        "{run:?}"
    );
    let run = next(&["-n", "3", "--json", "--schedule-hourly", "15 * * * *"]);
    let runs = run.json();
    assert_eq!(runs.as_array().unwrap().len(), 3);
    assert!(runs[0]["at"].as_str().unwrap().ends_with(":00Z"), "{runs}");
    let run = next(&["--schedule-hourly", "often"]);
    assert_eq!(run.code, Some(2), "{run:?}");
    assert_eq!(run.stderr.lines().count(), 1, "{run:?}");
}
