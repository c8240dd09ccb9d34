//! Promise 16, in the background: everything is read again, and what is not what was sealed is an
//! alarm.

use std::cell::Cell;
use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::time::Duration;
use std::time::Instant;

use system_tests::daemon::Daemon;
use system_tests::session::End;
use system_tests::session::InProcess;
use system_tests::session::SOON;
use system_tests::session::Session;
use worm_fs::clock::HOUR_MS;
use worm_fs::clock::SECOND_MS;
use worm_fs::config::Scrub;

/// Every hour, as fast as the disk can.
const RULE: Scrub = Scrub { interval: HOUR_MS, rate: u64::MAX };

const FILES: [&[u8]; 3] = [b"hourly/a", b"hourly/b", b"hourly/c"];

/// A store with three files, sealed in this order, a scrub's interval ago.
fn store() -> InProcess {
    let session = InProcess::default();
    let worm: &dyn Session = &session;
    for name in FILES {
        worm.put(name, name);
    }
    worm.clock().advance(HOUR_MS);
    session
}

/// Reads all that is due.
#[track_caller]
fn scrub(worm: &dyn Session) {
    assert_eq!(worm.fs().scrub(&RULE, &|_| true).unwrap(), 0, "something was due");
}

/// Changes a byte behind the store's back.
fn flip(worm: &dyn Session, name: &[u8]) {
    let file = File::options().read(true).write(true).open(worm.ground().data(name)).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, 3).unwrap();
    file.write_all_at(&[byte[0] ^ 1], 3).unwrap();
}

fn scrubbed(worm: &dyn Session) -> Vec<String> {
    let ledger = worm.ground().store().join("ledger/000001.jsonl");
    let lines = std::fs::read_to_string(ledger).unwrap();
    let lines = lines.lines().filter(|line| line.contains("\"event\":\"scrubbed\""));
    lines.map(str::to_owned).collect()
}

#[track_caller]
fn check_alarms(worm: &dyn Session, expected: &[&str]) {
    let alarms = worm.fs().alarms();
    assert_eq!(alarms.len(), expected.len(), "{alarms:?}");
    for (alarm, word) in alarms.iter().zip(expected) {
        assert!(alarm.contains(word), "{alarms:?} does not say {word:?}");
    }
}

#[test]
fn a_flipped_byte_is_found_within_one_pass() {
    let session = store();
    let worm: &dyn Session = &session;
    flip(worm, b"hourly/b");
    check_alarms(worm, &[]);
    scrub(worm);
    check_alarms(worm, &["hourly/b: its bytes are not those that were sealed"]);
    assert_eq!(scrubbed(worm).len(), 1, "{:?}", scrubbed(worm));
    assert_eq!(worm.get(b"hourly/b").unwrap().len(), 8, "it is not removed for that");
}

#[test]
fn a_missing_or_shortened_file_is_found_and_one_that_went_in_time_is_not() {
    let session = store();
    let worm: &dyn Session = &session;
    std::fs::remove_file(worm.ground().data(b"hourly/a")).unwrap();
    let file = File::options().write(true).open(worm.ground().data(b"hourly/c")).unwrap();
    file.set_len(1).unwrap();
    worm.put(b"guest/x", b"x");
    worm.clock().advance(48 * HOUR_MS);
    worm.unlink(b"guest/x").unwrap();
    scrub(worm);
    check_alarms(worm, &["hourly/a: its data is gone", "hourly/c: its data has 1 bytes, not 8"]);
}

#[test]
fn an_alarm_outlives_a_restart_and_ends_when_the_file_is_read_right() {
    let session = store();
    let worm: &dyn Session = &session;
    flip(worm, b"hourly/b");
    scrub(worm);
    worm.restart(End::Crash);
    check_alarms(worm, &["hourly/b: it was not what was sealed"]);
    // Somebody has put the right bytes back.
    flip(worm, b"hourly/b");
    worm.clock().advance(HOUR_MS);
    scrub(worm);
    check_alarms(worm, &[]);
    worm.restart(End::Crash);
    check_alarms(worm, &[]);
}

#[test]
fn a_pass_begins_when_its_time_has_come_and_not_before() {
    let session = InProcess::default();
    let worm: &dyn Session = &session;
    worm.put(b"hourly/a", b"a");
    let next = |rule: &Scrub| worm.fs().scrub(rule, &|_| true).unwrap();
    assert_eq!(next(&RULE), HOUR_MS);
    worm.clock().advance(HOUR_MS - SECOND_MS);
    assert_eq!(next(&RULE), SECOND_MS);
    assert_eq!(scrubbed(worm).len(), 0);
    worm.clock().advance(SECOND_MS);
    assert_eq!(next(&RULE), 0);
    assert_eq!((next(&RULE), scrubbed(worm).len()), (HOUR_MS, 1));
    // The system clock alone moves nothing.
    worm.clock().set(|reading| reading.system_ms += 1000 * HOUR_MS);
    assert_eq!(next(&RULE), HOUR_MS);
    worm.clock().advance(100 * HOUR_MS);
    let off = Scrub { interval: 0, ..RULE };
    assert_eq!((next(&off), scrubbed(worm).len()), (i64::MAX, 1));
}

#[test]
fn a_restart_in_mid_pass_goes_on_where_the_ledger_says() {
    let session = store();
    let worm: &dyn Session = &session;
    // One rest for each of these files. The first is noted, because time passes; the second is
    // read, and the third not any more.
    let rests = Cell::new(0);
    let rest = |_: Duration| {
        rests.set(rests.get() + 1);
        worm.clock().advance(if rests.get() == 1 { 600 * SECOND_MS } else { 0 });
        rests.get() < 3
    };
    assert_eq!(worm.fs().scrub(&RULE, &rest).unwrap(), 0);
    assert_eq!((rests.get(), scrubbed(worm).len()), (3, 1));
    worm.restart(End::Crash);
    // What was read is not read again in this pass, what was not is.
    for name in FILES {
        flip(worm, name);
    }
    scrub(worm);
    check_alarms(worm, &["hourly/b", "hourly/c"]);
    let lines = scrubbed(worm);
    let pass =
        |line: &String| serde_json::from_str::<serde_json::Value>(line).unwrap()["pass_ms"].clone();
    assert_eq!((lines.len(), pass(&lines[0])), (2, pass(&lines[1])));
    worm.clock().advance(HOUR_MS);
    scrub(worm);
    check_alarms(worm, &["hourly/a", "hourly/b", "hourly/c"]);
}

#[test]
fn it_ends_at_once_and_does_not_forget_what_it_found() {
    let session = InProcess::default();
    let worm: &dyn Session = &session;
    worm.put(b"hourly/a", b"first");
    worm.put(b"hourly/big", &vec![7; 8 << 20]);
    worm.clock().advance(HOUR_MS);
    flip(worm, b"hourly/a");
    let rests = Cell::new(0);
    let rest = |pause: Duration| {
        rests.set(rests.get() + 1);
        assert!(pause <= Duration::from_secs(1), "{pause:?}");
        rests.get() < 3
    };
    let rule = Scrub { rate: 1 << 20, ..RULE };
    worm.fs().scrub(&rule, &rest).unwrap();
    assert_eq!(rests.get(), 3, "no piece was read after that");
    worm.restart(End::Crash);
    check_alarms(worm, &["hourly/a"]);
}

#[test]
fn status_tells_what_was_not_read_for_the_longest_time() {
    let session = store();
    let worm: &dyn Session = &session;
    let oldest = || {
        let look = worm_fs::store::Access::Look;
        let (_, loaded) = worm_fs::store::Store::open(&worm.ground().store(), look).unwrap();
        let reading = worm_fs::clock::Clock::read(worm.clock());
        let now = worm_fs::report::Now::of(&loaded.catalog, &reading);
        let status = worm_fs::report::status(&loaded.catalog, 0, now, None, None, vec![]);
        let unread = status.unread.unwrap();
        (unread.path, unread.seconds)
    };
    assert_eq!(oldest(), ("hourly/a".to_owned(), 3600));
    scrub(worm);
    worm.put(b"hourly/d", b"d");
    worm.clock().advance(5 * SECOND_MS);
    assert_eq!(oldest(), ("hourly/a".to_owned(), 5));
    // In mid pass the files that were not reached are the oldest.
    worm.clock().advance(HOUR_MS);
    let rests = Cell::new(0);
    let rest = |_: Duration| {
        rests.set(rests.get() + 1);
        worm.clock().advance(600 * SECOND_MS);
        rests.get() < 2
    };
    worm.fs().scrub(&RULE, &rest).unwrap();
    assert_eq!(oldest(), ("hourly/b".to_owned(), 3605 + 1200));
}

/// The thread of the real daemon, with an interval of a second.
#[test]
fn the_daemon_scrubs_by_itself_and_ends_while_it_does() {
    let daemon = Daemon::prepare();
    let config = daemon.directory().join("worm.toml");
    let text = "[scrub]\ninterval = \"1s\"\nrate = \"1MiB\"\n[class.hourly]\nretention = \"48h\"\n";
    put(&config, text.as_bytes());
    daemon.mount(&["--config", &config.to_string_lossy()]).success();
    let name = daemon.active().join("hourly/x");
    put(&name, b"bytes");
    daemon.wait(&name);
    let data = File::options().write(true).open(daemon.store().join("data/hourly/x")).unwrap();
    data.write_all_at(b"B", 0).unwrap();
    let deadline = Instant::now() + SOON;
    while !daemon.log().contains("its bytes are not those that were sealed") {
        assert!(Instant::now() < deadline, "not found: {}", daemon.log());
        std::thread::sleep(Duration::from_millis(50));
    }
    // At one MiB a second it would take minutes to read this.
    let big = daemon.active().join("hourly/big");
    put(&big, &vec![1; 256 << 20]);
    daemon.wait(&big);
    daemon.worm("umount", &daemon.active(), &["--guard"]).success();
    let report = daemon.worm("verify", &daemon.store(), &["--json"]).expect_code(9);
    let report: serde_json::Value = serde_json::from_str(&report.stdout).unwrap();
    assert_eq!(report["problems"][0]["path"], "hourly/x");
}

fn put(path: &std::path::Path, bytes: &[u8]) {
    std::io::Write::write_all(&mut File::create_new(path).unwrap(), bytes).unwrap();
}
