//! Promise 12: The retention clock advances with the uptime clock, never backward, never faster.
//! After a reboot it jumps once, by the downtime that the system clock shows, at most 24 h. Nothing
//! else moves it.

use rustix::io::Errno;
use system_tests::session::End;
use system_tests::session::START_MS;
use system_tests::session::Session;
use system_tests::worm_test;
use worm_fs::clock::DAY_MS;
use worm_fs::clock::HOUR_MS;
use worm_fs::clock::rfc3339;

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
