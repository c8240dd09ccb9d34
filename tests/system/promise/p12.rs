//! Promise 12: The retention clock advances with the uptime clock, never backward, never faster.
//! After a reboot it jumps once, by the downtime that the system clock shows, at most 24 h. Nothing
//! else moves it but the admin's credit, and any doubt freezes expiry.

use rustix::io::Errno;
use system_tests::session::End;
use system_tests::session::START_MS;
use system_tests::session::Session;
use system_tests::worm_test;
use worm_fs::clock::DAY_MS;
use worm_fs::clock::HOUR_MS;
use worm_fs::clock::rfc3339;
use worm_fs::fs::Control;
use worm_fs::record::Actor;

const YEAR_MS: i64 = 366 * DAY_MS;

/// Ends the daemon, switches the machine off for so long by its system clock, and on again.
fn reboot(worm: &dyn Session, end: End, down_ms: i64) {
    worm.stop(end);
    worm.clock().set(|reading| {
        reading.boot.push('+');
        (reading.raw_ms, reading.suspend_ms) = (0, 0);
        reading.system_ms += down_ms;
    });
    worm.start().unwrap();
}

/// That a file of `hourly` can be removed in exactly so long, and that the store says so.
#[track_caller]
fn check_left(worm: &dyn Session, path: &[u8], left_ms: i64) {
    worm.clock().advance(left_ms - 1);
    assert_eq!(worm.unlink(path), Err(Errno::PERM), "one millisecond before its end");
    assert_eq!(worm.housekeep(), 0);
    assert_eq!(worm.worm(path, "state").unwrap(), "sealed");
    worm.clock().advance(1);
    assert_eq!(worm.worm(path, "state").unwrap(), "expired");
    assert_eq!(worm.unlink(path), Ok(()));
}

worm_test!(a_file_goes_at_its_end_and_not_a_millisecond_before, |worm| {
    worm.put(b"hourly/x", b"bytes");
    check_left(worm, b"hourly/x", 48 * HOUR_MS);
});

worm_test!(setting_the_system_clock_ahead_ends_nothing, |worm| {
    worm.put(b"hourly/x", b"bytes");
    worm.clock().set(|reading| reading.system_ms += 10 * YEAR_MS);
    assert_eq!(worm.unlink(b"hourly/x"), Err(Errno::PERM));
    assert_eq!(worm.housekeep(), 0);
    // The end is shown as the moment of the system clock at which it will come to pass.
    let until = rfc3339(START_MS + 10 * YEAR_MS + 48 * HOUR_MS);
    assert_eq!(worm.worm(b"hourly/x", "retain_until").unwrap(), until);
    worm.restart(End::Clean);
    check_left(worm, b"hourly/x", 48 * HOUR_MS);
});

worm_test!(setting_the_system_clock_back_keeps_nothing_longer, |worm| {
    worm.put(b"hourly/x", b"bytes");
    worm.clock().set(|reading| reading.system_ms -= 10 * YEAR_MS);
    check_left(worm, b"hourly/x", 48 * HOUR_MS);
});

worm_test!(a_restart_in_the_same_boot_credits_the_time_between, |worm| {
    worm.put(b"hourly/x", b"bytes");
    for end in [End::Clean, End::Crash] {
        worm.stop(end);
        worm.clock().advance(10 * HOUR_MS);
        worm.start().unwrap();
    }
    check_left(worm, b"hourly/x", 28 * HOUR_MS);
});

worm_test!(time_suspended_counts, |worm| {
    worm.put(b"hourly/x", b"bytes");
    worm.clock().set(|reading| {
        reading.suspend_ms += 40 * HOUR_MS;
        reading.system_ms += 40 * HOUR_MS;
    });
    check_left(worm, b"hourly/x", 8 * HOUR_MS);
});

worm_test!(a_reboot_credits_the_downtime, |worm| {
    worm.put(b"hourly/x", b"bytes");
    reboot(worm, End::Clean, 5 * HOUR_MS);
    check_left(worm, b"hourly/x", 43 * HOUR_MS);
});

worm_test!(a_reboot_credits_at_most_a_day, |worm| {
    worm.put(b"hourly/x", b"bytes");
    reboot(worm, End::Clean, 10 * YEAR_MS);
    check_left(worm, b"hourly/x", 24 * HOUR_MS);
});

worm_test!(a_reboot_with_the_system_clock_set_back_credits_nothing, |worm| {
    worm.put(b"hourly/x", b"bytes");
    reboot(worm, End::Clean, -YEAR_MS);
    check_left(worm, b"hourly/x", 48 * HOUR_MS);
});

worm_test!(many_reboots_credit_at_most_a_week_together, |worm| {
    worm.put(b"daily/x", b"bytes");
    let end = rfc3339(START_MS + 14 * DAY_MS);
    worm.setxattr(b"daily/x", "user.worm.retain_until", end.as_bytes()).unwrap();
    for _ in 0..12 {
        reboot(worm, End::Clean, 30 * DAY_MS);
    }
    check_left(worm, b"daily/x", 7 * DAY_MS);
});

worm_test!(what_ran_since_the_last_note_is_not_lost_in_a_power_cut, |worm| {
    worm.put(b"hourly/x", b"bytes");
    worm.clock().advance(3 * HOUR_MS);
    assert_eq!(worm.housekeep(), 0);
    worm.clock().advance(HOUR_MS / 2);
    reboot(worm, End::Crash, HOUR_MS);
    // Half an hour of running without a note and an hour of downtime, by the system clock.
    check_left(worm, b"hourly/x", 48 * HOUR_MS - 3 * HOUR_MS - HOUR_MS / 2 - HOUR_MS);
});

worm_test!(a_clock_chip_that_forgot_the_year_credits_nothing_and_ends_nothing, |worm| {
    worm.put(b"hourly/before", b"bytes");
    reboot(worm, End::Crash, -START_MS);
    worm.put(b"hourly/after", b"bytes");
    // The network tells the time a minute later.
    worm.clock().advance(60_000);
    worm.clock().set(|reading| reading.system_ms += START_MS);
    worm.restart(End::Clean);
    let report = worm.fs().clock_report();
    assert_eq!((report.lag_ms, report.uncredited_ms), (0, 0));
    worm.clock().advance(48 * HOUR_MS - 60_001);
    assert_eq!(worm.housekeep(), 0);
    worm.clock().advance(60_001);
    assert_eq!(worm.housekeep(), 2);
});

worm_test!(a_month_off_keeps_everything_longer_and_is_explained, |worm| {
    worm.put(b"hourly/before", b"bytes");
    reboot(worm, End::Clean, 30 * DAY_MS);
    worm.put(b"hourly/after", b"bytes");
    let report = worm.fs().clock_report();
    assert_eq!((report.lag_ms, report.uncredited_ms), (29 * DAY_MS, 29 * DAY_MS));
    assert!(report.reasons()[0].starts_with("29 d 0 h of downtime were not credited"));
    let until = rfc3339(START_MS + 30 * DAY_MS + 24 * HOUR_MS);
    assert_eq!(worm.worm(b"hourly/before", "retain_until").unwrap(), until);
    let until = rfc3339(START_MS + 30 * DAY_MS + 48 * HOUR_MS);
    assert_eq!(worm.worm(b"hourly/after", "retain_until").unwrap(), until);
    worm.clock().advance(24 * HOUR_MS - 1);
    assert_eq!(worm.housekeep(), 0);
    worm.clock().advance(1);
    assert_eq!(worm.housekeep(), 1);
    check_left(worm, b"hourly/after", 24 * HOUR_MS);
});

worm_test!(the_admin_credits_what_was_lost_and_no_more, |worm| {
    let credit = |ms: i64, reason: &str| {
        let by = Actor::user(0);
        worm.fs().credit(by, ms, reason).map_err(|error| error.errno())
    };
    worm.put(b"hourly/x", b"bytes");
    assert_eq!(credit(1, "no downtime at all"), Err(Errno::INVAL));
    reboot(worm, End::Clean, 3 * DAY_MS);
    for wrong in [0, -1, i64::MIN, i64::MAX, 2 * DAY_MS + 1] {
        assert_eq!(credit(wrong, "wrong"), Err(Errno::INVAL), "{wrong}");
    }
    assert_eq!(credit(HOUR_MS, " "), Err(Errno::INVAL), "without a reason");
    assert_eq!(credit(23 * HOUR_MS, "moved to another room"), Ok(()));
    worm.put(b"hourly/y", b"bytes");
    worm.restart(End::Crash);
    let report = worm.fs().clock_report();
    assert_eq!((report.lag_ms, report.uncredited_ms), (25 * HOUR_MS, 25 * HOUR_MS));
    check_left(worm, b"hourly/x", HOUR_MS);
    check_left(worm, b"hourly/y", 47 * HOUR_MS);
});

worm_test!(a_system_clock_that_runs_a_tenth_too_fast_moves_nothing, |worm| {
    worm.put(b"hourly/x", b"bytes");
    for _ in 0..47 {
        worm.clock().advance(HOUR_MS);
        worm.clock().set(|reading| reading.system_ms += HOUR_MS / 10);
        assert_eq!(worm.housekeep(), 0);
    }
    worm.restart(End::Crash);
    check_left(worm, b"hourly/x", HOUR_MS);
});

worm_test!(a_step_of_the_system_clock_during_a_commit_moves_nothing, |worm| {
    let fd = worm.create(b"hourly/x").unwrap();
    worm.write(fd, b"bytes").unwrap();
    worm.clock().set(|reading| reading.system_ms += 10 * YEAR_MS);
    worm.control(fd, Control::Commit).unwrap();
    worm.clock().set(|reading| reading.system_ms -= 10 * YEAR_MS);
    worm.close(fd).unwrap();
    check_left(worm, b"hourly/x", 48 * HOUR_MS);
});

worm_test!(a_clock_in_doubt_freezes_expiry_and_protects_what_is_new, |worm| {
    worm.put(b"hourly/old", b"bytes");
    worm.clock().advance(48 * HOUR_MS);
    worm.clock().doubt(Some("a time namespace"));
    assert_eq!(worm.housekeep(), 0);
    assert_eq!(worm.worm(b"hourly/old", "state").unwrap(), "expired");
    assert_eq!(worm.unlink(b"hourly/old"), Err(Errno::PERM));
    assert_eq!(worm.fs().alarms(), ["nothing expires: a time namespace"]);
    worm.put(b"hourly/new", b"bytes");
    worm.restart(End::Clean);
    assert_eq!(worm.housekeep(), 0);
    worm.clock().doubt(None);
    assert_eq!(worm.housekeep(), 1);
    assert!(worm.fs().alarms().is_empty());
    check_left(worm, b"hourly/new", 48 * HOUR_MS);
});

worm_test!(an_uptime_clock_that_went_back_freezes_expiry, |worm| {
    worm.put(b"hourly/x", b"bytes");
    worm.clock().advance(40 * HOUR_MS);
    worm.stop(End::Clean);
    worm.clock().set(|reading| reading.raw_ms -= 10 * HOUR_MS);
    worm.start().unwrap();
    assert!(worm.fs().alarms()[0].contains("36000 s behind"), "{:?}", worm.fs().alarms());
    worm.clock().advance(8 * HOUR_MS);
    assert_eq!(worm.housekeep(), 0);
    worm.restart(End::Clean);
    assert_eq!(worm.housekeep(), 1, "the clocks of this boot are noted anew");
});

worm_test!(what_is_damaged_and_not_over_freezes_its_class, |worm| {
    worm.put(b"hourly/old", b"bytes");
    worm.put(b"guest/old", b"bytes");
    worm.clock().advance(24 * HOUR_MS);
    worm.put(b"hourly/new", b"bytes");
    worm.stop(End::Clean);
    std::fs::remove_file(worm.ground().data(b"hourly/new")).unwrap();
    worm.start().unwrap();
    assert_eq!(worm.open_to_read(b"hourly/new").unwrap_err(), Errno::IO);
    worm.clock().advance(24 * HOUR_MS);
    assert_eq!(worm.housekeep(), 1, "the other class goes on");
    assert_eq!(worm.fs().alarms(), ["hourly/new: its data is gone"]);
    assert_eq!(worm.unlink(b"hourly/old"), Err(Errno::PERM));
    // Until the damaged one is over itself.
    worm.clock().advance(24 * HOUR_MS);
    assert_eq!(worm.housekeep(), 2);
    assert!(worm.fs().alarms().is_empty());
});
