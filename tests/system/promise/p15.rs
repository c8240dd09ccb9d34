//! Promise 15: A crash at any moment leaves each file sealed whole, or incomplete and named so; a
//! dead mount answers `ENOTCONN`.

use std::os::unix::fs::PermissionsExt as _;

use rustix::io::Errno;
use system_tests::session::End;
use system_tests::session::Mounted;
use system_tests::session::START_MS;
use system_tests::session::Session;
use system_tests::watchdog;
use system_tests::worm_test;
use worm_fs::clock::HOUR_MS;
use worm_fs::fs::WormFs;
use worm_fs::store::OpenError;

worm_test!(what_was_sealed_is_there_after_a_crash_and_what_was_open_is_incomplete, |worm| {
    worm.mkdir(b"hourly/dir", 0o750).unwrap();
    for round in 0..4_u8 {
        let sealed = format!("hourly/dir/sealed-{round}");
        let open = format!("hourly/dir/open-{round}");
        worm.put(sealed.as_bytes(), &[round; 1000]);
        let fd = worm.create(open.as_bytes()).unwrap();
        worm.write(fd, &[round; 500]).unwrap();
        worm.restart(End::Crash);
        assert_eq!(worm.get(sealed.as_bytes()).unwrap(), [round; 1000]);
        assert_eq!(worm.stat(open.as_bytes()), Err(Errno::NOENT));
        let kept = worm.wait_incomplete(open.as_bytes());
        assert_eq!(worm.get(&kept).unwrap(), [round; 500]);
        assert_eq!(worm.fs().alarms(), [""; 0]);
    }
    assert_eq!(worm.list(b"hourly/dir").unwrap().len(), 4);
    // Nothing is left behind.
    let open = std::fs::read_dir(worm.ground().store().join("open")).unwrap();
    assert_eq!(open.count(), 0);
});

worm_test!(a_sealed_file_that_had_no_place_yet_gets_it, |worm| {
    let digest = worm.put(b"hourly/x", b"bytes");
    let id = worm.stat(b"hourly/x").unwrap().id;
    let parent = worm.stat(b"hourly").unwrap().id;
    worm.stop(End::Crash);
    // As if the machine had died between the record and the name.
    let waiting = worm.ground().store().join(format!("open/{id}.{parent}.x"));
    rustix::fs::rename(worm.ground().data(b"hourly/x"), &waiting).unwrap();
    worm.start().unwrap();
    assert_eq!(worm.worm(b"hourly/x", "sha256").unwrap(), digest);
    assert_eq!(worm.get(b"hourly/x").unwrap(), b"bytes");
    assert!(worm.ground().data(b"hourly/x").exists() && !waiting.exists());
});

worm_test!(a_removal_that_was_recorded_is_finished, |worm| {
    worm.put(b"guest/x", b"bytes");
    worm.clock().advance(48 * HOUR_MS);
    worm.unlink(b"guest/x").unwrap();
    worm.stop(End::Crash);
    // As if the machine had died between the record and the removal.
    let data = worm.ground().data(b"guest/x");
    std::os::unix::fs::symlink("nowhere", data.with_file_name("y")).unwrap();
    make_file(&data, b"bytes");
    worm.start().unwrap();
    assert!(!data.exists());
    worm.put(b"guest/x", b"again");
    assert_eq!(worm.fs().alarms().len(), 1, "{:?}", worm.fs().alarms());
});

/// Makes a file behind the store's back.
fn make_file(path: &std::path::Path, bytes: &[u8]) {
    let file = std::fs::File::create_new(path).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&file, bytes, 0).unwrap();
}

worm_test!(a_stray_file_keeps_its_name_taken_and_is_neither_served_nor_deleted, |worm| {
    worm.stop(End::Clean);
    let stray = worm.ground().data(b"hourly/stray");
    make_file(&stray, b"nobody recorded me");
    worm.start().unwrap();
    assert_eq!(worm.stat(b"hourly/stray"), Err(Errno::NOENT));
    assert_eq!(worm.create(b"hourly/stray"), Err(Errno::EXIST));
    assert_eq!(worm.mkdir(b"hourly/stray", 0o755), Err(Errno::EXIST));
    assert_eq!(worm.list(b"hourly").unwrap(), [b".incomplete"]);
    let alarms = worm.fs().alarms();
    assert!(alarms.len() == 1 && alarms[0].contains("hourly/stray"), "{alarms:?}");
    worm.clock().advance(1000 * HOUR_MS);
    assert_eq!(worm.housekeep(), 0);
    worm.restart(End::Crash);
    assert_eq!(std::fs::read(&stray).unwrap(), b"nobody recorded me");
    assert_eq!(worm.fs().alarms().len(), 1);
});

worm_test!(what_could_not_be_moved_or_removed_is_an_alarm_until_it_is, |worm| {
    // Something stands in the way, and goes.
    let (moved, removed) = (worm.ground().data(b"guest/moved"), worm.ground().data(b"guest/gone"));
    let fd = worm.create(b"guest/moved").unwrap();
    worm.write(fd, b"bytes").unwrap();
    make_file(&moved, b"in the way");
    worm.close(fd).unwrap();
    worm.wait_sealed(b"guest/moved");
    worm.put(b"guest/gone", b"bytes");
    let alarms = worm.fs().alarms();
    assert!(alarms.len() == 1 && alarms[0].contains("guest/moved"), "{alarms:?}");
    worm.housekeep();
    assert_eq!(worm.fs().alarms(), alarms, "it still stands there");
    std::fs::remove_file(&moved).unwrap();
    worm.housekeep();
    assert_eq!(worm.fs().alarms(), [""; 0]);
    assert_eq!(std::fs::read(&moved).unwrap(), b"bytes");
    // A directory cannot be removed as a file.
    worm.clock().advance(49 * HOUR_MS);
    std::fs::remove_file(&removed).unwrap();
    std::fs::create_dir(&removed).unwrap();
    assert_eq!(worm.unlink(b"guest/gone"), Err(Errno::ISDIR));
    let alarms = worm.fs().alarms();
    assert!(alarms.len() == 1 && alarms[0].contains("guest/gone"), "{alarms:?}");
    std::fs::remove_dir(&removed).unwrap();
    worm.housekeep();
    assert_eq!(worm.fs().alarms(), [""; 0]);
    worm.put(b"guest/gone", b"its name is free again");
});

worm_test!(a_file_whose_data_is_gone_or_cut_is_still_listed_and_reading_it_fails, |worm| {
    worm.put(b"hourly/gone", b"bytes");
    worm.put(b"hourly/cut", b"bytes");
    worm.stop(End::Clean);
    std::fs::remove_file(worm.ground().data(b"hourly/gone")).unwrap();
    let cut = std::fs::OpenOptions::new().write(true).open(worm.ground().data(b"hourly/cut"));
    cut.unwrap().set_len(2).unwrap();
    worm.start().unwrap();
    for name in [&b"hourly/gone"[..], b"hourly/cut"] {
        assert_eq!(worm.stat(name).unwrap().size, 5, "the ledger says so");
        assert_eq!(worm.get(name), Err(Errno::IO));
        assert_eq!(worm.create(name), Err(Errno::EXIST));
        assert_eq!(worm.unlink(name), Err(Errno::PERM));
    }
    assert_eq!(worm.fs().alarms().len(), 2, "{:?}", worm.fs().alarms());
});

worm_test!(attributes_come_from_the_ledger_and_not_from_the_backing_file, |worm| {
    worm.put(b"hourly/x", b"bytes");
    let before = worm.stat(b"hourly/x").unwrap();
    worm.stop(End::Clean);
    let data = worm.ground().data(b"hourly/x");
    std::fs::set_permissions(&data, std::fs::Permissions::from_mode(0o777)).unwrap();
    std::os::unix::fs::chown(&data, Some(1), Some(1)).unwrap();
    let file = std::fs::File::options().write(true).open(&data).unwrap();
    file.set_modified(std::time::UNIX_EPOCH).unwrap();
    worm.start().unwrap();
    assert_eq!(worm.stat(b"hourly/x").unwrap(), before);
    assert_eq!(before.mtime_ns, START_MS * 1_000_000);
});

worm_test!(one_daemon_at_a_time_serves_a_store, |worm| {
    let second = WormFs::serve(worm.ground().options()).unwrap_err();
    assert!(matches!(second, OpenError::Busy(_)), "{second}");
    worm.put(b"hourly/x", b"the first goes on");
});

#[test]
fn a_dead_mount_answers_enotconn_and_takes_nothing() {
    let session = Mounted::default();
    let worm: &dyn Session = &session;
    let fd = worm.create(b"hourly/x").unwrap();
    for place in [worm.ground().active(), worm.ground().view()] {
        assert_eq!(watchdog::abort(&place), 1);
    }
    assert_eq!(worm.write(fd, b"lost"), Err(Errno::NOTCONN));
    assert_eq!(worm.close(fd), Err(Errno::NOTCONN));
    assert_eq!(worm.create(b"hourly/y"), Err(Errno::NOTCONN));
    assert_eq!(worm.stat(b"hourly"), Err(Errno::NOTCONN));
    assert_eq!(worm.view().stat(b"hourly"), Err(Errno::NOTCONN));
    worm.restart(End::Crash);
    let kept = worm.wait_incomplete(b"hourly/x");
    assert_eq!(worm.get(&kept).unwrap(), b"");
}
