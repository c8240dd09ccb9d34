//! Promise 9: retention can be lengthened by the admin, and never shortened in compliance mode. In
//! governance mode the admin may end it early, with a reason that goes into the ledger. (What
//! `retain_until` takes is in `p10.rs`.)

use rustix::io::Errno;
use system_tests::session::End;
use system_tests::session::Session;
use system_tests::worm_test;
use worm_fs::clock::DAY_MS;
use worm_fs::clock::HOUR_MS;
use worm_fs::config::Mode;
use worm_fs::policy::name::StorePath;
use worm_fs::record::Actor;

/// The admin, behind sudo.
const ADMIN: Actor = Actor { uid: 0, login_uid: Some(1000) };

fn release(worm: &dyn Session, path: &str, reason: &str) -> Result<(), Errno> {
    let path = StorePath::decode(path).unwrap();
    worm.fs().release_group(ADMIN, &path, reason).map_err(|error| error.errno())
}

worm_test!(in_compliance_mode_nobody_ends_a_retention, |worm| {
    worm.put(b"guest/x", b"bytes");
    assert_eq!(release(worm, "guest/x", "please"), Err(Errno::PERM));
    worm.clock().advance(48 * HOUR_MS - 1);
    assert_eq!(release(worm, "guest/x", "please"), Err(Errno::PERM));
    assert_eq!(worm.unlink(b"guest/x"), Err(Errno::PERM));
});

worm_test!(in_governance_mode_the_admin_does_and_says_why, |worm| {
    worm.ground().rule("guest", |rule| rule.mode = Mode::Governance);
    worm.restart(End::Clean);
    worm.put(b"guest/x", b"bytes");
    worm.put(b"guest/x.sha256", b"digest");
    worm.put(b"guest/y", b"another");
    assert_eq!(worm.unlink(b"guest/x"), Err(Errno::PERM), "nobody said so yet");
    for none in ["", "  ", "two\nlines"] {
        assert_eq!(release(worm, "guest/x", none), Err(Errno::INVAL), "{none:?}");
    }
    assert_eq!(release(worm, "guest/z", "typo"), Err(Errno::NOENT));
    assert_eq!(release(worm, "guest/x.sha256", "wrong database"), Ok(()));
    assert_eq!(worm.worm(b"guest/x", "state").unwrap(), "expired");
    worm.restart(End::Crash);
    assert_eq!(worm.housekeep(), 2, "the group ends together");
    worm.wait_gone(b"guest/x");
    assert_eq!(worm.unlink(b"guest/y"), Err(Errno::PERM));
    let ledger = std::fs::read_to_string(worm.ground().store().join("ledger/000001.jsonl"));
    let line =
        ledger.unwrap().lines().find(|line| line.contains("\"released\"")).unwrap().to_owned();
    let line: serde_json::Value = serde_json::from_str(&line).unwrap();
    assert_eq!(line["reason"], "wrong database");
    assert_eq!(line["by"], serde_json::json!({ "uid": 0, "login_uid": 1000 }));
});

worm_test!(the_mode_is_that_of_the_seal, |worm| {
    worm.put(b"guest/before", b"bytes");
    worm.ground().rule("guest", |rule| rule.mode = Mode::Governance);
    worm.restart(End::Clean);
    worm.put(b"guest/x", b"bytes");
    assert_eq!(release(worm, "guest/before", "now it is"), Err(Errno::PERM));
    worm.ground().rule("guest", |rule| rule.mode = Mode::Compliance);
    worm.restart(End::Clean);
    assert_eq!(release(worm, "guest/before", "and now"), Err(Errno::PERM));
    assert_eq!(release(worm, "guest/x", "it was sealed so"), Ok(()));
});

worm_test!(a_weaker_rule_changes_nothing_for_what_is_sealed, |worm| {
    worm.put(b"daily/x", b"bytes");
    let until = worm.worm(b"daily/x", "retain_until").unwrap();
    worm.ground().rule("daily", |rule| {
        (rule.retention, rule.max_retention, rule.keep_last) = (1, None, 0);
        rule.sidecars.clear();
    });
    worm.restart(End::Clean);
    assert_eq!(worm.worm(b"daily/x", "retain_until").unwrap(), until);
    worm.clock().advance(7 * DAY_MS - 1);
    assert_eq!(worm.housekeep(), 0);
    assert_eq!(worm.unlink(b"daily/x"), Err(Errno::PERM));
    worm.clock().advance(1);
    assert_eq!(worm.unlink(b"daily/x"), Ok(()));
});
