//! Promises 9 and 10: `user.worm.*` tell what stands. Only `retain_until` can be set, and only
//! later, up to the `max_retention` of the class.

use rustix::io::Errno;
use system_tests::session::End;
use system_tests::session::Files;
use system_tests::session::START_MS;
use system_tests::worm_test;
use worm_fs::clock::DAY_MS;
use worm_fs::clock::HOUR_MS;
use worm_fs::clock::rfc3339;
use worm_fs::config::RETENTION_MS_MAX;

fn extend(worm: &dyn Files, path: &[u8], until: &str) -> Result<(), Errno> {
    worm.setxattr(path, "user.worm.retain_until", until.as_bytes())
}

worm_test!(the_attributes_of_a_sealed_file_tell_what_stands, |worm| {
    worm.clock().advance(1_500);
    worm.put(b"hourly/x", b"bytes");
    let check = |worm: &dyn Files| {
        let names = ["class", "holds", "retain_until", "sealed_at", "sha256", "state", "store"];
        let names = names.map(|name| format!("user.worm.{name}"));
        assert_eq!(worm.listxattr(b"hourly/x").unwrap(), names);
        assert_eq!(worm.worm(b"hourly/x", "class").unwrap(), "hourly");
        assert_eq!(worm.worm(b"hourly/x", "state").unwrap(), "sealed");
        assert_eq!(worm.worm(b"hourly/x", "holds").unwrap(), "");
        assert_eq!(worm.worm(b"hourly/x", "sealed_at").unwrap(), "2026-01-18T00:00:01.5Z");
        let until = worm.worm(b"hourly/x", "retain_until").unwrap();
        assert_eq!(until, "2026-01-20T00:00:01.5Z");
        until.parse::<jiff::Timestamp>().unwrap();
    };
    check(worm.active());
    check(worm.view());
    worm.clock().advance(HOUR_MS);
    check(worm.active());
    worm.restart(End::Crash);
    check(worm.active());
});

worm_test!(every_directory_tells_the_store, |worm| {
    worm.mkdir(b"hourly/dir", 0o755).unwrap();
    let store = worm.fs().store_id().to_owned();
    for path in [&b""[..], b"hourly", b"hourly/dir", b"hourly/.incomplete"] {
        assert_eq!(worm.worm(path, "store").unwrap(), store);
        assert_eq!(worm.worm(path, "state"), Err(Errno::NODATA));
    }
    assert_eq!(worm.view().worm(b"", "store").unwrap(), store);
    assert_eq!(worm.worm(b"", "class"), Err(Errno::NODATA));
    assert_eq!(worm.worm(b"hourly/dir", "class").unwrap(), "hourly");
    let none = worm.getxattr(b"hourly", "user.other");
    assert_eq!(none, Err(Errno::NODATA));
});

worm_test!(an_open_file_has_a_class_and_a_state_and_no_end, |worm| {
    let fd = worm.create(b"hourly/x").unwrap();
    assert_eq!(worm.worm(b"hourly/x", "class").unwrap(), "hourly");
    assert_eq!(worm.worm(b"hourly/x", "state").unwrap(), "writing");
    for name in ["retain_until", "sealed_at", "holds", "sha256"] {
        assert_eq!(worm.worm(b"hourly/x", name), Err(Errno::NODATA), "{name}");
    }
    worm.close(fd).unwrap();
});

worm_test!(an_end_can_be_moved_later_and_never_earlier, |worm| {
    worm.put(b"daily/x", b"bytes");
    let end = |days: i64, ms: i64| rfc3339(START_MS + days * DAY_MS + ms);
    assert_eq!(worm.worm(b"daily/x", "retain_until").unwrap(), end(7, 0));
    assert_eq!(extend(worm.active(), b"daily/x", &end(7, -1)), Err(Errno::PERM));
    assert_eq!(extend(worm.active(), b"daily/x", &end(7, 0)), Ok(()), "equal is no change");
    assert_eq!(extend(worm.active(), b"daily/x", &end(10, 0)), Ok(()));
    assert_eq!(worm.worm(b"daily/x", "retain_until").unwrap(), end(10, 0));
    assert_eq!(extend(worm.active(), b"daily/x", &end(7, 0)), Err(Errno::PERM));
    assert_eq!(extend(worm.active(), b"daily/x", &end(14, 1)), Err(Errno::PERM));
    assert_eq!(extend(worm.active(), b"daily/x", &end(14, 0)), Ok(()));
    worm.restart(End::Crash);
    assert_eq!(worm.worm(b"daily/x", "retain_until").unwrap(), end(14, 0));
    worm.clock().advance(14 * DAY_MS - 1);
    assert_eq!(worm.unlink(b"daily/x"), Err(Errno::PERM));
    worm.clock().advance(1);
    assert_eq!(worm.unlink(b"daily/x"), Ok(()));
});

worm_test!(without_a_max_retention_no_end_is_moved, |worm| {
    worm.put(b"hourly/x", b"bytes");
    let end = rfc3339(START_MS + 48 * HOUR_MS);
    assert_eq!(extend(worm.active(), b"hourly/x", &end), Ok(()));
    let later = rfc3339(START_MS + 48 * HOUR_MS + 1);
    assert_eq!(extend(worm.active(), b"hourly/x", &later), Err(Errno::PERM));
});

worm_test!(an_end_that_is_no_moment_is_refused, |worm| {
    worm.put(b"daily/x", b"bytes");
    for wrong in ["", "tomorrow", "2026-02-30T00:00:00Z", "1768694400", "\u{fffd}"] {
        let set = extend(worm.active(), b"daily/x", wrong);
        assert_eq!(set, Err(Errno::INVAL), "{wrong}");
    }
    for far in ["9999-12-30T00:00:00Z", "0001-01-01T00:00:00Z"] {
        let set = extend(worm.active(), b"daily/x", far);
        assert_eq!(set, Err(Errno::PERM), "{far}");
    }
});

/// Where calendars, counters of seconds and of milliseconds end.
const FAR: [&str; 5] = [
    "2038-01-19T03:14:07Z",
    "2038-01-19T03:14:08Z",
    "2106-02-07T06:28:15Z",
    "2106-02-07T06:28:16Z",
    "2225-12-31T23:59:59.999Z",
];

worm_test!(an_end_can_be_far_away, |worm| {
    worm.ground().rule("daily", |rule| rule.max_retention = Some(RETENTION_MS_MAX));
    worm.restart(End::Clean);
    worm.put(b"daily/x", b"bytes");
    for until in FAR {
        assert_eq!(extend(worm.active(), b"daily/x", until), Ok(()), "{until}");
        worm.restart(End::Crash);
        assert_eq!(worm.worm(b"daily/x", "retain_until").unwrap(), until);
    }
    let before_1970 = "1969-12-31T23:59:59Z";
    assert_eq!(extend(worm.active(), b"daily/x", before_1970), Err(Errno::PERM));
    worm.clock().advance(150 * 366 * DAY_MS);
    assert_eq!(worm.housekeep(), 0);
    assert_eq!(worm.unlink(b"daily/x"), Err(Errno::PERM));
});

worm_test!(no_number_ends_a_retention, |worm| {
    worm.put(b"daily/x", b"bytes");
    for number in [0, -1, 1, i64::MAX, i64::MIN, i64::from(i32::MAX), 1 << 32, 4_102_444_800] {
        let set = extend(worm.active(), b"daily/x", &number.to_string());
        assert_eq!(set, Err(Errno::INVAL), "{number} is no moment as people write it");
    }
    for odd in ["-000001-01-01T00:00:00Z", "+009999-12-30T00:00:00Z"] {
        assert_eq!(extend(worm.active(), b"daily/x", odd), Err(Errno::PERM), "{odd}");
    }
    let end = rfc3339(START_MS + 7 * DAY_MS);
    assert_eq!(worm.worm(b"daily/x", "retain_until").unwrap(), end);
});

worm_test!(the_times_of_a_file_may_be_any, |worm| {
    for (number, seconds) in
        [-1, 0, i64::from(i32::MAX) + 1, 1 << 32, -(1 << 31)].iter().enumerate()
    {
        let path = format!("daily/{number}").into_bytes();
        let fd = worm.create(&path).unwrap();
        let mtime_ns = seconds * 1_000_000_000 + 7;
        worm.utimes(&path, mtime_ns).unwrap();
        worm.close(fd).unwrap();
        worm.wait_sealed(&path);
        worm.restart(End::Crash);
        assert_eq!(worm.stat(&path).unwrap().mtime_ns, mtime_ns, "{seconds}");
    }
});

worm_test!(an_expired_file_can_be_kept_longer_and_is_then_kept, |worm| {
    worm.put(b"daily/x", b"bytes");
    worm.clock().advance(8 * DAY_MS);
    assert_eq!(worm.worm(b"daily/x", "state").unwrap(), "expired");
    let end = rfc3339(START_MS + 9 * DAY_MS);
    assert_eq!(extend(worm.active(), b"daily/x", &end), Ok(()));
    assert_eq!(worm.unlink(b"daily/x"), Err(Errno::PERM));
    assert_eq!(worm.housekeep(), 0);
});

worm_test!(nothing_but_the_end_can_be_set, |worm| {
    worm.put(b"daily/x", b"bytes");
    for name in ["sha256", "state", "sealed_at", "class", "holds", "store", "new"] {
        let name = format!("user.worm.{name}");
        assert_eq!(worm.setxattr(b"daily/x", &name, b"1"), Err(Errno::PERM), "{name}");
        assert_eq!(worm.removexattr(b"daily/x", &name), Err(Errno::PERM), "{name}");
    }
    assert!(worm.setxattr(b"daily", "user.worm.retain_until", b"2027-01-01T00:00:00Z").is_err());
});
