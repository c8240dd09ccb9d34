//! The retention clock of the real daemon, where somebody moves the clocks that it could read.

use std::fs::File;
use std::io::Write as _;
use std::process::Command;

use system_tests::binary;
use system_tests::daemon::Daemon;

/// What the tests move clocks by: some twelve years, in seconds.
const YEARS: &str = "400000000";

/// A store with one sealed file, not served.
fn sealed_and_ended() -> Daemon {
    let daemon = Daemon::start();
    let file = daemon.active().join("hourly/x");
    File::create_new(&file).unwrap().write_all(b"bytes").unwrap();
    daemon.wait(&file);
    daemon.worm("umount", &daemon.active(), &[]).success();
    daemon
}

/// The library that fakes the time of programs which it is loaded into. Its wrapper would wait
/// for the daemon to end.
fn faking(command: &mut Command, by: &str) {
    let library =
        format!("/usr/lib/{}-linux-gnu/faketime/libfaketimeMT.so.1", std::env::consts::ARCH);
    assert!(std::path::Path::new(&library).exists(), "{library}: install libfaketime");
    command.env("LD_PRELOAD", library).env("FAKETIME", by);
}

/// That the file of the store is kept for its 48 hours, and what alarms there are.
#[track_caller]
fn check_kept(daemon: &Daemon) -> Vec<String> {
    let rows = daemon.worm("ls", &daemon.store(), &["--json"]).success();
    let rows: serde_json::Value = serde_json::from_str(&rows).unwrap();
    let row = rows.as_array().unwrap().iter().find(|row| row["path"] == "hourly/x");
    let left = row.unwrap()["left_seconds"].as_i64().unwrap();
    assert!((48 * 3600 - 900..=48 * 3600).contains(&left), "{rows}");
    let error = std::fs::remove_file(daemon.active().join("hourly/x")).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::EPERM));
    let status = daemon.worm("status", &daemon.store(), &["--json"]);
    let status: serde_json::Value = serde_json::from_str(&status.stdout).unwrap();
    assert!(status["lag_seconds"].as_i64().unwrap().abs() < 60, "{status}");
    serde_json::from_value(status["alarms"].clone()).unwrap()
}

#[test]
fn p12_a_time_namespace_moves_nothing_and_freezes_expiry() {
    let daemon = sealed_and_ended();
    let moved = ["--time", "--monotonic", YEARS, "--boottime", YEARS, "--fork"];
    let mount = daemon.mount_command();
    let mut command = Command::new("unshare");
    command.args(moved).arg(mount.get_program()).args(mount.get_args());
    binary::run(&mut command).success();
    let alarms = check_kept(&daemon);
    assert!(matches!(&alarms[..], [alarm] if alarm.contains("time namespace")), "{alarms:?}");
    let new = daemon.active().join("daily/new");
    File::create_new(&new).unwrap().write_all(b"bytes").unwrap();
    daemon.wait(&new);
    daemon.worm("umount", &daemon.active(), &[]).success();
    daemon.mount(&[]).success();
    assert!(check_kept(&daemon).is_empty());
}

#[test]
fn p12_a_library_that_fakes_the_time_moves_nothing() {
    let year = |by: &str| {
        let mut date = Command::new("date");
        faking(date.arg("+%Y"), by);
        binary::run(&mut date).success()
    };
    assert_ne!(year("+12y"), year("-12y"), "it fakes the time of other programs");
    let daemon = sealed_and_ended();
    for fake in ["+12y", "-12y"] {
        let mut mount = daemon.mount_command();
        faking(&mut mount, fake);
        binary::run(&mut mount).success();
        assert!(check_kept(&daemon).is_empty());
        daemon.worm("umount", &daemon.active(), &[]).success();
    }
}
