//! What would be removed, and what is kept and why, over time.

use system_tests::session::End;
use system_tests::session::Session;
use system_tests::worm_test;
use worm_fs::clock::Clock as _;
use worm_fs::clock::DAY_MS;
use worm_fs::clock::HOUR_MS;
use worm_fs::policy::name::StorePath;
use worm_fs::record::Actor;
use worm_fs::report::ExpiryPlan;
use worm_fs::report::GroupRow;
use worm_fs::report::Keeper;
use worm_fs::report::Standing;

const ADMIN: Actor = Actor { uid: 0, login_uid: None };

fn path(text: &str) -> StorePath {
    StorePath::decode(text).unwrap()
}

fn plan(worm: &dyn Session) -> ExpiryPlan {
    worm.fs().expiry()
}

fn mains<'a>(groups: impl IntoIterator<Item = &'a GroupRow>) -> Vec<&'a str> {
    groups.into_iter().map(|group| group.files[0].as_str()).collect()
}

worm_test!(what_is_over_is_told_before_it_goes, |worm| {
    worm.put(b"guest/a", b"bytes");
    worm.put(b"guest/a.sha256", b"digest");
    assert_eq!(plan(worm).due_count, 0);
    worm.clock().advance(HOUR_MS);
    worm.put(b"guest/b", b"bytes");
    worm.clock().advance(47 * HOUR_MS);
    let told = plan(worm);
    assert_eq!(told.due.len(), 1);
    assert_eq!(told.due[0].files, ["guest/a", "guest/a.sha256"]);
    assert_eq!(told.due[0].bytes, 11);
    assert!(told.kept.is_empty());
    assert_eq!(told.next_end.as_deref(), Some("2026-01-20T01:00:00Z"));
    assert_eq!(worm.housekeep(), 2, "what was told");
    assert_eq!(plan(worm).due_count, 0);
});

worm_test!(a_hold_that_comes_while_many_are_removed_keeps_its_file, |worm| {
    let name = |number: u32| format!("guest/{number:03}");
    for number in 0..130 {
        worm.put(name(number).as_bytes(), b"bytes");
    }
    worm.clock().advance(48 * HOUR_MS);
    let round = worm.fs().housekeep().unwrap();
    assert!((1..130).contains(&round), "{round} at a time");
    worm.fs().hold(ADMIN, &path(&name(129)), "late", "asked for").unwrap();
    while worm.fs().housekeep().unwrap() > 0 {}
    assert_eq!(worm.list(b"guest").unwrap(), [&b".incomplete"[..], b"129"]);
    assert_eq!(plan(worm).due_count, 0);
});

worm_test!(what_is_kept_beyond_an_end_is_told_with_its_rules, |worm| {
    worm.put(b"hourly/old", b"bytes");
    worm.put(b"hourly/old.manifest.json", b"manifest");
    worm.clock().advance(HOUR_MS);
    worm.put(b"hourly/new", b"bytes");
    worm.put(b"hourly/new.manifest.json", b"manifest");
    worm.put(b"guest/held", b"bytes");
    worm.fs().hold(ADMIN, &path("guest/held"), "audit-7", "asked for").unwrap();
    worm.put(b"daily/longer", b"bytes");
    worm.put(b"daily/longer.sha256", b"digest");
    let end = worm.clock().read().system_ms + 10 * DAY_MS;
    worm.fs().extend(ADMIN, &path("daily/longer"), end, None).unwrap();
    worm.clock().advance(8 * DAY_MS);
    worm.restart(End::Clean);
    let told = plan(worm);
    assert_eq!(mains(&told.due), ["hourly/old"]);
    let mut kept: Vec<_> =
        told.kept.iter().map(|row| (row.group.files[0].as_str(), &row.by[..])).collect();
    kept.sort_by_key(|(main, _)| *main);
    let audit = Keeper::Hold { name: "audit-7".into() };
    assert_eq!(
        kept,
        [
            ("daily/longer", &[Keeper::Group][..]),
            ("guest/held", &[audit][..]),
            ("hourly/new", &[Keeper::KeepLast { keep_last: 1 }][..]),
        ]
    );
    assert_eq!(worm.housekeep(), 2);
    let about = |text: &str| worm.fs().describe(&path(text));
    assert_eq!(about("hourly/old").standing, Standing::Free);
    assert_eq!(about("hourly/new").standing, Standing::Sealed);
    assert!(about("hourly/new").kept.unwrap().keep_last);
    let sidecar = about("daily/longer.sha256").kept.unwrap();
    assert!(sidecar.own_end < sidecar.retain_until, "{sidecar:?}");
    assert_eq!(sidecar.group, ["daily/longer", "daily/longer.sha256"]);
});

worm_test!(who_expires_by_hand_is_in_the_ledger, |worm| {
    let removed = |worm: &dyn Session| {
        let ledger = worm.ground().store().join("ledger/000001.jsonl");
        let ledger = std::fs::read_to_string(ledger).unwrap();
        let last = ledger.lines().rfind(|line| line.contains(r#""event":"removed""#)).unwrap();
        serde_json::from_str::<serde_json::Value>(last).unwrap()
    };
    worm.put(b"guest/a", b"bytes");
    worm.clock().advance(48 * HOUR_MS);
    worm.put(b"guest/b", b"bytes");
    assert_eq!(worm.fs().expire_now(Actor { uid: 0, login_uid: Some(1000) }).unwrap(), 1);
    let line = removed(worm);
    assert_eq!((line["why"].as_str(), line["uid"].as_u64()), (Some("expired"), Some(0)));
    assert_eq!(line["login_uid"].as_u64(), Some(1000));
    worm.clock().advance(48 * HOUR_MS);
    assert_eq!(worm.housekeep(), 1);
    let line = removed(worm);
    assert_eq!((line["path"].as_str(), line.get("uid")), (Some("guest/b"), None), "the store");
});
