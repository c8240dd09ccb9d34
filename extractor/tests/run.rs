//! `run`: rounds without end, and what `health` says of them.

use std::fs;
use std::process::Child;
use std::process::Command;

use rustix::process::Pid;
use rustix::process::Signal;

use crate::support::Place;
use crate::support::end;
use crate::support::expect;
use crate::support::program;
use crate::support::put_backup;
use crate::support::start;
use crate::support::wait_until;

/// `worm-extractor run` with short pauses.
fn run(place: &Place) -> Command {
    let mut command = program();
    let _command = command.arg("run").args(["--allow-plain", "--every", "20ms"]);
    let _command = command.arg("--from").arg(place.path("view")).arg("--to");
    let _command = command.arg(place.path("mirror")).arg("--audit").arg(place.audit());
    let _command = command.arg("--health").arg(place.path("state/health.json"));
    command
}

fn health(place: &Place) -> Command {
    let mut command = program();
    let _command = command.arg("health").arg("--health").arg(place.path("state/health.json"));
    command
}

fn code(command: &mut Command) -> Option<i32> {
    end(start(command)).status.code()
}

/// As a service manager does it.
fn stop(child: Child) {
    rustix::process::kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
    let output = end(child);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
}

/// Whether a round has ended after the moment of the call.
fn wait_for_a_round(place: &Place) {
    let text = || fs::read_to_string(place.path("state/health.json")).unwrap_or_default();
    let last = || serde_json::from_str(&text()).map(|note: serde_json::Value| note["last"].clone());
    for _ in 0..2 {
        let before = last().ok();
        wait_until("a round has ended", || last().is_ok_and(|now| Some(now) != before));
    }
}

#[test]
fn what_comes_is_mirrored_and_rounds_without_work_leave_no_line() {
    let place = Place::new();
    let running = start(&mut run(&place));
    for (stamp, files) in [("2026-01-18_00-00-00", 3), ("2026-01-19_00-00-00", 6)] {
        let _dump = put_backup(&place.path("view/daily"), stamp, b"SELECT 1;\n", &[]);
        wait_until("it is mirrored", || place.mirrored().len() == files);
    }
    wait_for_a_round(&place);
    let lines = place.audit_lines().len();
    wait_for_a_round(&place);
    assert_eq!(place.audit_lines().len(), lines);
    let (said, _) = expect(0, &mut health(&place));
    assert!(said.contains("0 copied, 2 already there"), "{said}");
    stop(running);
    assert_eq!(place.staged(), 0);
}

#[test]
fn a_view_that_is_gone_is_waited_for() {
    let place = Place::new();
    let _dump = put_backup(&place.path("view/daily"), "2026-01-18_00-00-00", b"SELECT 1;\n", &[]);
    fs::rename(place.path("view"), place.path("elsewhere")).unwrap();
    let running = start(&mut run(&place));
    wait_until("it is not well", || code(&mut health(&place)) == Some(1));
    let (_, error) = expect(1, &mut health(&place));
    assert!(error.contains("rounds failed") && error.contains("view"), "{error}");
    fs::rename(place.path("elsewhere"), place.path("view")).unwrap();
    wait_until("it is well", || code(&mut health(&place)) == Some(0));
    assert_eq!(place.mirrored().len(), 3);
    stop(running);
}

#[test]
fn only_what_can_never_work_ends_it() {
    let place = Place::new();
    let inside = place.path("view/mirror");
    fs::create_dir(&inside).unwrap();
    let (_, error) = expect(2, run(&place).arg("--from").arg(place.path("view/daily")));
    assert!(error.contains("--from"), "given twice: {error}");
    let mut nested = program();
    let _command = nested.args(["run", "--allow-plain", "--from"]).arg(place.path("view"));
    let _command = nested.arg("--to").arg(inside).arg("--audit").arg(place.audit());
    let _command = nested.arg("--health").arg(place.path("state/health.json"));
    let (_, error) = expect(2, &mut nested);
    assert!(error.contains("lie inside one another"), "{error}");
    let (_, error) = expect(6, program().arg("health").arg("--health").arg(place.path("none")));
    assert!(error.contains("is worm-extractor run running?"), "{error}");
    let _bad = expect(2, program().args(["run", "--every", "0s"]));
}
