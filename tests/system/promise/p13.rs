//! Promise 13: A group is a sealed file with its sidecars, sealed within one hour after it. They
//! end together. Expired groups are deleted by the store, oldest first; the newest `keep_last` with
//! a manifest are kept however old.

use rustix::io::Errno;
use system_tests::session::End;
use system_tests::session::Files;
use system_tests::session::Session;
use system_tests::worm_test;
use worm_fs::clock::DAY_MS;
use worm_fs::clock::HOUR_MS;

/// Seals a backup: the file, its digest, its manifest.
fn back_up(worm: &dyn Files, main: &str) {
    for sidecar in ["", ".sha256", ".manifest.json"] {
        worm.put(format!("{main}{sidecar}").as_bytes(), sidecar.as_bytes());
    }
}

/// The names in a directory that are not of the store itself.
fn names(worm: &dyn Files, directory: &[u8]) -> Vec<String> {
    let names = worm.list(directory).unwrap().into_iter();
    let names = names.map(|name| String::from_utf8(name).unwrap());
    names.filter(|name| name != ".incomplete").collect()
}

/// What the ledger says was removed, in order.
fn removed(worm: &dyn Session) -> Vec<String> {
    let ledger = worm.ground().store().join("ledger/000001.jsonl");
    let ledger = std::fs::read_to_string(ledger).unwrap();
    let lines = ledger.lines().map(|line| serde_json::from_str(line).unwrap());
    let removals = lines.filter(|line: &serde_json::Value| line["event"] == "removed");
    removals.map(|line| line["path"].as_str().unwrap().to_owned()).collect()
}

worm_test!(a_group_ends_together_at_its_latest_end, |worm| {
    worm.put(b"guest/b", b"main");
    worm.clock().advance(HOUR_MS / 2);
    worm.put(b"guest/b.sha256", b"digest");
    worm.clock().advance(HOUR_MS / 2);
    worm.put(b"guest/b.manifest.json", b"manifest");
    worm.clock().advance(48 * HOUR_MS - 1);
    assert_eq!(worm.housekeep(), 0);
    for name in [&b"guest/b"[..], b"guest/b.sha256", b"guest/b.manifest.json"] {
        assert_eq!(worm.unlink(name), Err(Errno::PERM));
        let until = worm.worm(name, "retain_until").unwrap();
        assert_eq!(until, "2026-01-20T01:00:00Z");
    }
    worm.clock().advance(1);
    assert_eq!(worm.housekeep(), 3);
    // A backup without its manifest is no backup: that goes first.
    assert_eq!(removed(worm), ["guest/b.manifest.json", "guest/b.sha256", "guest/b"]);
});

worm_test!(what_is_sealed_more_than_an_hour_later_is_no_sidecar, |worm| {
    worm.put(b"guest/b", b"main");
    worm.clock().advance(HOUR_MS + 1);
    worm.put(b"guest/b.sha256", b"late");
    worm.clock().advance(47 * HOUR_MS - 1);
    assert_eq!(worm.unlink(b"guest/b"), Ok(()));
    assert_eq!(worm.unlink(b"guest/b.sha256"), Err(Errno::PERM));
});

worm_test!(expired_groups_go_oldest_first, |worm| {
    // Named against their age.
    for main in ["guest/c", "guest/b", "guest/a"] {
        back_up(worm.active(), main);
        worm.clock().advance(HOUR_MS);
    }
    worm.clock().advance(46 * HOUR_MS);
    assert_eq!(worm.housekeep(), 6);
    let gone = removed(worm);
    assert!(gone[..3].iter().all(|path| path.starts_with("guest/c")), "{gone:?}");
    assert!(gone[3..].iter().all(|path| path.starts_with("guest/b")), "{gone:?}");
    worm.wait_gone(b"guest/b");
    assert_eq!(names(worm.active(), b"guest"), ["a", "a.manifest.json", "a.sha256"]);
    assert!(!worm.ground().data(b"guest/b").exists());
    assert!(worm.ground().data(b"guest/a").exists());
    worm.restart(End::Crash);
    assert_eq!(names(worm.active(), b"guest"), ["a", "a.manifest.json", "a.sha256"]);
});

worm_test!(the_newest_whole_backup_is_kept_however_old, |worm| {
    back_up(worm.active(), "hourly/a");
    worm.clock().advance(HOUR_MS);
    back_up(worm.active(), "hourly/b");
    worm.clock().advance(HOUR_MS);
    worm.put(b"hourly/c", b"no manifest, so no backup");
    worm.clock().advance(400 * DAY_MS);
    assert_eq!(worm.housekeep(), 4);
    worm.wait_gone(b"hourly/c");
    assert_eq!(names(worm.active(), b"hourly"), ["b", "b.manifest.json", "b.sha256"]);
    for name in [&b"hourly/b"[..], b"hourly/b.sha256", b"hourly/b.manifest.json"] {
        assert_eq!(worm.unlink(name), Err(Errno::PERM));
    }
    back_up(worm.active(), "hourly/d");
    assert_eq!(worm.housekeep(), 3, "now there is a newer one");
});

worm_test!(keep_last_counts_for_each_directory, |worm| {
    worm.mkdir(b"hourly/one", 0o755).unwrap();
    worm.mkdir(b"hourly/two", 0o755).unwrap();
    back_up(worm.active(), "hourly/one/a");
    back_up(worm.active(), "hourly/two/a");
    worm.clock().advance(400 * DAY_MS);
    assert_eq!(worm.housekeep(), 0);
    assert_eq!(names(worm.active(), b"hourly/one").len(), 3);
});

worm_test!(a_name_that_expired_can_be_used_again, |worm| {
    let first = worm.put(b"guest/x", b"first");
    worm.clock().advance(48 * HOUR_MS);
    assert_eq!(worm.create(b"guest/x"), Err(Errno::EXIST));
    worm.unlink(b"guest/x").unwrap();
    let second = worm.put(b"guest/x", b"second");
    assert_ne!(first, second);
    worm.restart(End::Crash);
    assert_eq!(worm.get(b"guest/x").unwrap(), b"second");
    assert_eq!(worm.unlink(b"guest/x"), Err(Errno::PERM));
});

worm_test!(a_file_that_is_being_read_goes_and_its_reader_reads_on, |worm| {
    worm.put(b"guest/x", b"bytes");
    let reader = worm.open_to_read(b"guest/x").unwrap();
    worm.clock().advance(48 * HOUR_MS);
    assert_eq!(worm.housekeep(), 1);
    worm.wait_gone(b"guest/x");
    assert_eq!(worm.read_at(reader, 10, 0).unwrap(), b"bytes");
    worm.close(reader).unwrap();
});
