//! Promise 11: a hold stops expiry until it is lifted, with who, when and why in the ledger.

use rustix::io::Errno;
use system_tests::session::End;
use system_tests::session::Session;
use system_tests::worm_test;
use worm_fs::clock::DAY_MS;
use worm_fs::clock::HOUR_MS;
use worm_fs::config::Mode;
use worm_fs::fs::Control;
use worm_fs::policy::name::StorePath;
use worm_fs::record::Actor;

const ADMIN: Actor = Actor { uid: 0, login_uid: None };

fn hold(worm: &dyn Session, path: &str, hold: &str, reason: &str) -> Result<(), Errno> {
    let path = StorePath::decode(path).unwrap();
    worm.fs().hold(ADMIN, &path, hold, reason).map_err(|error| error.errno())
}

fn lift(worm: &dyn Session, path: &str, hold: &str) -> Result<(), Errno> {
    let path = StorePath::decode(path).unwrap();
    worm.fs().lift_hold(ADMIN, &path, hold, "done").map_err(|error| error.errno())
}

worm_test!(what_is_held_stays_until_all_holds_are_lifted, |worm| {
    worm.put(b"guest/x", b"bytes");
    worm.put(b"guest/x.sha256", b"digest");
    hold(worm, "guest/x", "audit-7", "the auditors asked").unwrap();
    hold(worm, "guest/x.sha256", "court", "case 12").unwrap();
    for path in [&b"guest/x"[..], b"guest/x.sha256"] {
        assert_eq!(worm.worm(path, "holds").unwrap(), "audit-7\ncourt");
    }
    worm.clock().advance(400 * DAY_MS);
    worm.restart(End::Crash);
    assert_eq!(worm.housekeep(), 0);
    assert_eq!(worm.unlink(b"guest/x"), Err(Errno::PERM));
    // On one of a group is on all of it.
    assert_eq!(lift(worm, "guest/x", "court"), Ok(()));
    assert_eq!(worm.housekeep(), 0);
    assert_eq!(worm.unlink(b"guest/x.sha256"), Err(Errno::PERM));
    assert_eq!(lift(worm, "guest/x", "audit-7"), Ok(()));
    assert_eq!(worm.worm(b"guest/x", "holds").unwrap(), "");
    assert_eq!(worm.housekeep(), 2);
});

worm_test!(a_hold_has_a_name_of_its_own_and_a_reason, |worm| {
    worm.put(b"guest/x", b"bytes");
    hold(worm, "guest/x", "a", "first").unwrap();
    assert_eq!(hold(worm, "guest/x", "a", "again"), Err(Errno::EXIST));
    for (name, reason) in [("", "why"), ("two words", "why"), ("b", ""), ("b", "a\nb")] {
        assert_eq!(hold(worm, "guest/x", name, reason), Err(Errno::INVAL), "{name:?} {reason:?}");
    }
    assert_eq!(hold(worm, "guest/none", "a", "why"), Err(Errno::NOENT));
    assert_eq!(hold(worm, "guest", "a", "why"), Err(Errno::ISDIR));
    assert_eq!(lift(worm, "guest/x", "b"), Err(Errno::NOENT));
    let open = worm.create(b"guest/open").unwrap();
    assert_eq!(hold(worm, "guest/open", "a", "why"), Err(Errno::BUSY), "it is not sealed yet");
    worm.close(open).unwrap();
});

worm_test!(what_is_over_can_be_held_until_it_is_gone, |worm| {
    worm.put(b"guest/x", b"bytes");
    worm.clock().advance(48 * HOUR_MS);
    assert_eq!(worm.worm(b"guest/x", "state").unwrap(), "expired");
    hold(worm, "guest/x", "late", "found out just in time").unwrap();
    assert_eq!(worm.worm(b"guest/x", "state").unwrap(), "sealed");
    assert_eq!(worm.housekeep(), 0);
    assert_eq!(worm.unlink(b"guest/x"), Err(Errno::PERM));
});

worm_test!(a_release_does_not_lift_a_hold, |worm| {
    worm.ground().rule("guest", |rule| rule.mode = Mode::Governance);
    worm.restart(End::Clean);
    worm.put(b"guest/x", b"bytes");
    hold(worm, "guest/x", "court", "case 12").unwrap();
    let path = StorePath::decode("guest/x").unwrap();
    worm.fs().release_group(ADMIN, &path, "not needed").unwrap();
    assert_eq!(worm.unlink(b"guest/x"), Err(Errno::PERM));
    lift(worm, "guest/x", "court").unwrap();
    assert_eq!(worm.unlink(b"guest/x"), Ok(()));
});

worm_test!(an_incomplete_file_can_be_held, |worm| {
    let fd = worm.create(b"guest/x").unwrap();
    worm.control(fd, Control::Begin).unwrap();
    worm.close(fd).unwrap();
    let path = String::from_utf8(worm.wait_incomplete(b"guest/x")).unwrap();
    hold(worm, &path, "why", "to look at it").unwrap();
    worm.clock().advance(400 * DAY_MS);
    assert_eq!(worm.housekeep(), 0);
    lift(worm, &path, "why").unwrap();
    assert_eq!(worm.housekeep(), 1);
});
