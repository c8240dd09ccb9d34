//! Promise 2: At the last close the file is sealed: its bytes, size, name, owner, mode and times
//! never change again. Sealing is at RELEASE, not at FLUSH.

use rustix::fs::OFlags;
use rustix::io::Errno;
use system_tests::session::End;
use system_tests::session::Mounted;
use system_tests::session::START_MS;
use system_tests::session::Session;
use system_tests::session::Stat;
use system_tests::worm_test;
use worm_fs::record::Digest;

worm_test!(the_last_close_seals, |worm| {
    let fd = worm.open(b"hourly/x", OFlags::CREATE | OFlags::WRONLY, 0o640).unwrap();
    worm.write(fd, b"whole").unwrap();
    assert_eq!(worm.worm(b"hourly/x", "state").unwrap(), "writing");
    worm.clock().advance(1_000);
    worm.write(fd, b" file").unwrap();
    worm.close(fd).unwrap();
    worm.wait_sealed(b"hourly/x");
    assert_eq!(worm.worm(b"hourly/x", "state").unwrap(), "sealed");
    worm.clock().advance(60_000);
    let Stat { id, .. } = worm.stat(b"hourly/x").unwrap();
    let expected = Stat {
        id,
        is_directory: false,
        size: 10,
        mode: 0o640,
        uid: 0,
        gid: 0,
        links: 1,
        mtime_ns: (START_MS + 1_000) * 1_000_000,
    };
    assert_eq!(worm.stat(b"hourly/x").unwrap(), expected);
    worm.restart(End::Clean);
    assert_eq!(worm.stat(b"hourly/x").unwrap(), expected);
    assert_eq!(worm.get(b"hourly/x").unwrap(), b"whole file");
});

worm_test!(a_file_without_bytes_is_a_file, |worm| {
    let digest = worm.put(b"hourly/x", b"");
    assert_eq!(digest, Digest::of(b"").to_string());
    assert_eq!(worm.create(b"hourly/x"), Err(Errno::EXIST));
    let opened = worm.open(b"hourly/x", OFlags::WRONLY, 0);
    assert_eq!(opened, Err(Errno::PERM));
    assert_eq!(worm.get(b"hourly/x").unwrap(), b"");
    worm.restart(End::Crash);
    assert_eq!(worm.stat(b"hourly/x").unwrap().size, 0);
});

worm_test!(syncing_does_not_seal, |worm| {
    let fd = worm.create(b"hourly/x").unwrap();
    worm.write(fd, b"a").unwrap();
    worm.fsync(fd).unwrap();
    assert_eq!(worm.worm(b"hourly/x", "sha256"), Err(Errno::NODATA));
    worm.write(fd, b"b").unwrap();
    worm.close(fd).unwrap();
    assert_eq!(worm.wait_sealed(b"hourly/x"), Digest::of(b"ab").to_string());
});

worm_test!(many_files_at_once_are_all_sealed, |worm| {
    std::thread::scope(|scope| {
        for thread in 0..4 {
            scope.spawn(move || {
                for number in 0..25 {
                    let name = format!("hourly/{thread}-{number}");
                    let digest = worm.put(name.as_bytes(), name.as_bytes());
                    assert_eq!(digest, Digest::of(name.as_bytes()).to_string());
                }
            });
        }
    });
    // The class directory holds `.incomplete`, too.
    assert_eq!(worm.list(b"hourly").unwrap().len(), 101);
    worm.restart(End::Crash);
    assert_eq!(worm.list(b"hourly").unwrap().len(), 101);
});

/// `{ a; b; } > f` closes inherited copies before the first byte and between the others.
#[test]
fn closing_copies_before_and_between_bytes_seals_nothing() {
    let session = Mounted::default();
    let worm: &dyn Session = &session;
    let fd = worm.create(b"hourly/x").unwrap();
    for _ in 0..3 {
        drop(session.owned(fd));
        assert_eq!(worm.write(fd, b"more "), Ok(5));
    }
    drop(session.owned(fd));
    worm.close(fd).unwrap();
    assert_eq!(worm.wait_sealed(b"hourly/x"), Digest::of(b"more more more ").to_string());
}

/// The kernel may drop what it has not handed over when it unmounts, RELEASE among it.
#[test]
fn a_file_closed_just_before_the_end_is_sealed() {
    let session = Mounted::default();
    let worm: &dyn Session = &session;
    for round in 0..10 {
        let name = format!("hourly/{round}");
        let fd = worm.create(name.as_bytes()).unwrap();
        worm.write(fd, b"all of it").unwrap();
        worm.close(fd).unwrap();
        worm.restart(End::Clean);
        assert_eq!(worm.worm(name.as_bytes(), "state").as_deref(), Ok("sealed"), "{round}");
    }
}
