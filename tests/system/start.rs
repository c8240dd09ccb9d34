//! A start serves from the ledger; what is in `data/` is compared behind it. Nothing is removed
//! before that is done, and a name that nobody recorded is taken all the same.

use std::fs::File;
use std::io::Write as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use std::time::Instant;

use rustix::io::Errno;
use rustix::mount::UnmountFlags;
use system_tests::session::End;
use system_tests::session::InProcess;
use system_tests::session::Session;
use system_tests::session::ground::wait_compared;
use worm_fs::catalog::ROOT;
use worm_fs::clock::HOUR_MS;
use worm_fs::fs::Caller;
use worm_fs::fs::Control;
use worm_fs::fs::Descriptors;
use worm_fs::fs::Place;
use worm_fs::fs::WormFs;
use worm_fs::verify::Progress;
use worm_fs::verify::verify;

const CALLER: Caller = Caller { uid: 0, gid: 0 };

/// How often a start is tried: some of them are asked before the comparison is done.
const ROUNDS: u32 = 8;

fn class(fs: &WormFs, name: &[u8]) -> u64 {
    fs.lookup(Place::Active, ROOT, name).unwrap().id
}

/// Some names, so that the comparison takes a while, and a file that will be over.
fn store() -> InProcess {
    let session = InProcess::default();
    let worm: &dyn Session = &session;
    for number in 0..10 {
        worm.put(format!("daily/{number}").as_bytes(), b"x");
    }
    worm.put(b"guest/over", b"over");
    worm.stop(End::Clean);
    session
}

/// Whether the comparison has come to it or not, the answer is the same, and nothing is lost.
#[test]
fn a_name_that_nobody_recorded_is_taken_from_the_first_moment() {
    let session = store();
    let worm: &dyn Session = &session;
    let mut early = 0;
    for round in 0..ROUNDS {
        let name = format!("stray-{round}");
        let path = worm.ground().data(format!("hourly/{name}").as_bytes());
        std::os::unix::fs::symlink("nowhere", &path).unwrap();
        let directory = worm.ground().data(format!("hourly/full-{round}").as_bytes());
        std::fs::create_dir(&directory).unwrap();
        File::create_new(directory.join("x")).unwrap();
        let left = format!("left-{round}");
        std::fs::create_dir(worm.ground().data(format!("hourly/{left}").as_bytes())).unwrap();

        let fs = WormFs::serve(worm.ground().options()).unwrap();
        let hourly = class(&fs, b"hourly");
        early += u32::from(fs.is_comparing());
        let create = |name: &str| {
            let made = fs.create(Place::Active, CALLER, hourly, name.as_bytes(), 0o644);
            made.map_err(|error| error.errno())
        };
        assert_eq!(create(&name).unwrap_err(), Errno::EXIST, "round {round}");
        assert_eq!(create(&format!("full-{round}")).unwrap_err(), Errno::EXIST);
        let made = fs.make_directory(Place::Active, CALLER, hourly, name.as_bytes(), 0o755);
        assert_eq!(made.unwrap_err().errno(), Errno::EXIST);
        // What a crash left of a directory is in nobody's way for long.
        let deadline = Instant::now() + Duration::from_secs(60);
        let (file, handle) = loop {
            match create(&left) {
                Ok(made) => break made,
                Err(errno) => assert_eq!(errno, Errno::EXIST),
            }
            assert!(Instant::now() < deadline, "the empty directory stays");
        };
        fs.control(Place::Active, file.id, handle, Control::Commit).unwrap();
        fs.release(handle).unwrap();
        wait_compared(&fs);
        assert_eq!(create(&name).unwrap_err(), Errno::EXIST, "round {round}");
        let alarms = fs.alarms();
        for stray in [&name, &format!("full-{round}")] {
            let named = format!("hourly/{stray}: nobody recorded it");
            assert!(alarms.iter().any(|alarm| alarm.contains(&named)), "{alarms:?}");
        }
        assert!(!alarms.iter().any(|alarm| alarm.contains("moved into place")), "{alarms:?}");
        assert!(worm.ground().data(format!("hourly/{left}").as_bytes()).is_file());
        fs.shut_down(Descriptors::AllClosed);
    }
    assert!(early > 0, "the comparison was always done before the first request");
}

#[test]
fn nothing_is_removed_before_the_data_is_compared() {
    let session = store();
    let worm: &dyn Session = &session;
    worm.clock().advance(49 * HOUR_MS);
    let mut early = 0;
    for _ in 0..ROUNDS {
        let fs = WormFs::serve(worm.ground().options()).unwrap();
        let guest = class(&fs, b"guest");
        // Asked in this order: what was in between, the second answer tells.
        let removed = fs.unlink(Place::Active, CALLER, guest, b"over");
        let expired = fs.is_comparing().then(|| fs.housekeep().unwrap());
        if fs.is_comparing() {
            assert_eq!(removed.unwrap_err().errno(), Errno::PERM);
            assert_eq!(expired, Some(0));
            early += 1;
        }
        wait_compared(&fs);
        fs.housekeep().unwrap();
        // It has gone one way or the other; the next round needs another.
        let (file, handle) = fs.create(Place::Active, CALLER, guest, b"over", 0o644).unwrap();
        fs.control(Place::Active, file.id, handle, Control::Commit).unwrap();
        fs.release(handle).unwrap();
        worm.clock().advance(49 * HOUR_MS);
        fs.shut_down(Descriptors::AllClosed);
    }
    assert!(early > 0, "the comparison was always done before the first request");
}

/// A mount on a file: nobody can remove the file beneath it.
struct Pinned(PathBuf);

impl Pinned {
    fn new(path: PathBuf) -> Self {
        rustix::mount::mount_bind(&path, &path).unwrap();
        Self(path)
    }
}

impl Drop for Pinned {
    fn drop(&mut self) {
        rustix::mount::unmount(&self.0, UnmountFlags::DETACH).unwrap();
    }
}

#[test]
fn what_the_disk_does_not_let_go_is_tried_again_by_every_start() {
    let session = store();
    let worm: &dyn Session = &session;
    let path = worm.ground().data(b"guest/over");
    worm.clock().advance(49 * HOUR_MS);
    let serve = || {
        let fs = WormFs::serve(worm.ground().options()).unwrap();
        wait_compared(&fs);
        fs
    };
    let verify = || verify(&worm.ground().store(), 2, &Progress::default()).unwrap().problems;
    let pinned = Pinned::new(path.clone());
    let fs = serve();
    let guest = class(&fs, b"guest");
    let refused = fs.unlink(Place::Active, CALLER, guest, b"over").unwrap_err();
    assert_eq!(refused.errno(), Errno::BUSY, "{refused}");
    fs.shut_down(Descriptors::AllClosed);
    drop(fs);
    for _ in 0..3 {
        let fs = serve();
        let alarms = fs.alarms();
        assert_eq!(alarms.len(), 1, "{alarms:?}");
        assert!(alarms[0].starts_with("guest/over: what a crash left"), "{alarms:?}");
        assert!(path.is_file());
        let taken = fs.create(Place::Active, CALLER, guest, b"over", 0o644).unwrap_err();
        assert_eq!(taken.errno(), Errno::EXIST);
        fs.shut_down(Descriptors::AllClosed);
        drop(fs);
        assert_eq!(verify(), []);
    }
    drop(pinned);
    let fs = serve();
    assert_eq!(fs.alarms(), Vec::<String>::new());
    assert!(!path.exists());
    fs.shut_down(Descriptors::AllClosed);
    drop(fs);
    assert_eq!(verify(), []);
}

#[test]
fn a_start_with_many_names_finds_what_is_missing_cut_or_added() {
    let session = InProcess::default();
    let worm: &dyn Session = &session;
    worm.mkdir(b"daily/dir", 0o755).unwrap();
    for number in 0..140 {
        let name = format!("daily/dir/{number}");
        let fd = worm.create(name.as_bytes()).unwrap();
        worm.close(fd).unwrap();
    }
    worm.wait_sealed(b"daily/dir/139");
    worm.stop(End::Clean);
    for name in ["0", "63", "64", "99", "139"] {
        std::fs::remove_file(worm.ground().data(format!("daily/dir/{name}").as_bytes())).unwrap();
    }
    for name in ["1", "70"] {
        let path = worm.ground().data(format!("daily/dir/{name}").as_bytes());
        File::options().write(true).open(path).unwrap().set_len(7).unwrap();
    }
    for name in ["", "zzz", "5000"].map(|name| format!("daily/dir/!{name}")) {
        // Not the bytes of a file that is missing: that would be a file renamed.
        let mut added = File::create_new(worm.ground().data(name.as_bytes())).unwrap();
        added.write_all(name.as_bytes()).unwrap();
    }
    worm.start().unwrap();
    let mut alarms = worm.fs().alarms();
    alarms.sort();
    let gone = ["0", "139", "63", "64", "99"];
    let mut expected: Vec<String> =
        gone.iter().map(|name| format!("daily/dir/{name}: its data is gone")).collect();
    expected
        .extend(["1", "70"].map(|name| format!("daily/dir/{name}: its data has 7 bytes, not 0")));
    expected.extend(["!", "!5000", "!zzz"].map(|name| {
        format!("daily/dir/{name}: nobody recorded it; it is not served and its name stays taken")
    }));
    expected.sort();
    assert_eq!(alarms, expected);
    worm.stop(End::Clean);
    let report = verify(&worm.ground().store(), 2, &Progress::default()).unwrap();
    assert_eq!(report.problems.len(), 10);
}

/// The end of the daemon does not wait for the comparison, and leaves nothing behind.
#[test]
fn a_daemon_can_end_while_the_data_is_compared() {
    let session = store();
    let worm: &dyn Session = &session;
    for _ in 0..ROUNDS {
        let fs = WormFs::serve(worm.ground().options()).unwrap();
        fs.shut_down(Descriptors::AllClosed);
        assert_eq!(Arc::strong_count(&fs), 1);
    }
}
