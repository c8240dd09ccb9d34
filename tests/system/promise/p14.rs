//! Promise 14: a class limits bytes, files, directories, open files, file size, bytes and creates
//! a day, idle time and open time. Over a limit: `EDQUOT`, `EFBIG`, `EMFILE` or `ENOSPC`; the
//! store stays readable.

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::time::Instant;

use rustix::fs::FallocateFlags;
use rustix::io::Errno;
use system_tests::session::End;
use system_tests::session::Fd;
use system_tests::session::InProcess;
use system_tests::session::SOON;
use system_tests::session::Session;
use system_tests::worm_test;
use worm_fs::clock::DAY_MS;
use worm_fs::clock::HOUR_MS;
use worm_fs::config::Limits;
use worm_fs::config::Size;
use worm_fs::fs::Control;
use worm_fs::fs::OPEN_FILES_MAX;
use worm_fs::policy::limits::ENTRY_BYTES;
use worm_fs::policy::limits::LINE_BYTES;
use worm_fs::policy::limits::LINE_BYTES_PER_PATH_BYTE;

/// Gives class `guest` other limits.
fn limit(worm: &dyn Session, change: impl FnOnce(&mut Limits)) {
    worm.ground().rule("guest", |rule| change(&mut rule.limits));
    worm.restart(End::Clean);
}

/// What class `guest` has of something, and what it may have.
fn usage(worm: &dyn Session, limit: &str) -> (u64, u64) {
    let classes = worm.fs().usage();
    let guest = classes.iter().find(|class| class.class == "guest").unwrap();
    let row = guest.limits.iter().find(|row| row.name == limit).unwrap();
    (row.used, row.limit)
}

/// The kernel tells of a last close in its own time: tries until that has come.
#[track_caller]
fn soon<T>(attempt: impl Fn() -> Result<T, Errno>) -> T {
    let deadline = Instant::now() + SOON;
    loop {
        match attempt() {
            Ok(done) => return done,
            Err(errno) => assert!(Instant::now() < deadline, "{errno:?}"),
        }
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
}

fn close(worm: &dyn Session, fd: Fd) {
    assert_eq!(worm.close(fd), Ok(()));
}

worm_test!(files_up_to_the_limit_and_none_beyond, |worm| {
    limit(worm, |limits| limits.files = 2);
    worm.put(b"guest/a", b"whole");
    let open = worm.create(b"guest/b").unwrap();
    assert_eq!(worm.create(b"guest/c"), Err(Errno::DQUOT), "an open file counts");
    worm.control(open, Control::Abort).unwrap();
    close(worm, open);
    worm.wait_incomplete(b"guest/b");
    assert_eq!(worm.create(b"guest/c"), Err(Errno::DQUOT), "and so does an incomplete one");
    assert_eq!(worm.create(b"guest/a"), Err(Errno::EXIST));
    worm.put(b"hourly/other", b"another class");
    assert_eq!(worm.mkdir(b"guest/d", 0o755), Ok(()));
    assert_eq!(worm.get(b"guest/a").unwrap(), b"whole");
    worm.restart(End::Crash);
    assert_eq!(worm.create(b"guest/c"), Err(Errno::DQUOT));
    worm.clock().advance(DAY_MS);
    assert_eq!(worm.housekeep(), 1, "the incomplete one goes");
    worm.put(b"guest/c", b"whole");
    assert_eq!(worm.create(b"guest/d1"), Err(Errno::DQUOT));
});

worm_test!(directories_up_to_the_limit_and_none_beyond, |worm| {
    limit(worm, |limits| limits.directories = 2);
    worm.mkdir(b"guest/a", 0o755).unwrap();
    worm.mkdir(b"guest/a/b", 0o755).unwrap();
    assert_eq!(worm.mkdir(b"guest/c", 0o755), Err(Errno::DQUOT));
    worm.put(b"guest/a/x", b"files are another matter");
    worm.rmdir(b"guest/a/b").unwrap();
    worm.mkdir(b"guest/c", 0o755).unwrap();
    worm.restart(End::Crash);
    assert_eq!(worm.mkdir(b"guest/e", 0o755), Err(Errno::DQUOT));
});

worm_test!(open_files_up_to_the_limit_and_none_beyond, |worm| {
    limit(worm, |limits| limits.open_files = 2);
    let first = worm.create(b"guest/a").unwrap();
    let second = worm.create(b"guest/b").unwrap();
    assert_eq!(worm.create(b"guest/c"), Err(Errno::MFILE));
    worm.put(b"hourly/other", b"another class");
    worm.control(first, Control::Commit).unwrap();
    assert_eq!(worm.create(b"guest/c"), Err(Errno::MFILE), "its descriptor is open still");
    let reader = worm.open_to_read(b"guest/b").unwrap();
    close(worm, second);
    // Who only reads, be it what was read while it was written, takes nothing of the class.
    let second = soon(|| worm.create(b"guest/d"));
    close(worm, reader);
    close(worm, first);
    let third = soon(|| worm.create(b"guest/c"));
    close(worm, second);
    close(worm, third);
    worm.wait_sealed(b"guest/c");
});

worm_test!(a_file_up_to_the_limit_and_no_byte_beyond, |worm| {
    limit(worm, |limits| limits.file_bytes = Size::Bytes(1000));
    let exact = worm.create(b"guest/exact").unwrap();
    assert_eq!(worm.write(exact, &[7; 1000]), Ok(1000));
    assert_eq!(worm.write_at(exact, b"again", 0), Ok(5), "it does not grow");
    close(worm, exact);
    worm.wait_sealed(b"guest/exact");
    type Attempt = fn(&dyn Session, Fd) -> Result<(), Errno>;
    let attempts: [Attempt; 3] = [
        |worm, fd| worm.write_at(fd, b"x", 1000).map(|_| ()),
        |worm, fd| worm.ftruncate(fd, 1001),
        |worm, fd| worm.write_at(fd, &[7; 1001], 0).map(|_| ()),
    ];
    for (number, attempt) in attempts.iter().enumerate() {
        let name = format!("guest/{number}");
        let fd = worm.create(name.as_bytes()).unwrap();
        assert_eq!(worm.write(fd, b"before"), Ok(6));
        assert_eq!(attempt(worm, fd), Err(Errno::FBIG), "{number}");
        // Whoever does not look at that answer must not get a short file sealed.
        assert_eq!(worm.write(fd, b"after"), Err(Errno::FBIG));
        assert_eq!(worm.close(fd), Err(Errno::FBIG));
        let kept = worm.wait_incomplete(name.as_bytes());
        assert_eq!(worm.get(&kept).unwrap(), b"before");
    }
});

worm_test!(a_refused_write_is_not_committed_either, |worm| {
    limit(worm, |limits| limits.file_bytes = Size::Bytes(10));
    let fd = worm.create(b"guest/x").unwrap();
    worm.control(fd, Control::Begin).unwrap();
    assert_eq!(worm.write(fd, &[7; 11]), Err(Errno::FBIG));
    assert_eq!(worm.control(fd, Control::Commit), Err(Errno::IO));
    close(worm, fd);
    worm.wait_incomplete(b"guest/x");
    let ledger = std::fs::read_to_string(worm.ground().store().join("ledger/000001.jsonl"));
    assert!(ledger.unwrap().contains("limits.file_bytes"), "the ledger says why");
});

worm_test!(bytes_up_to_the_limit_and_none_beyond, |worm| {
    let room = 10_000;
    limit(worm, |limits| limits.bytes = Size::Bytes(2 * ENTRY_BYTES + room));
    let one = worm.create(b"guest/one").unwrap();
    let two = worm.create(b"guest/two").unwrap();
    assert_eq!(worm.write(one, &vec![7; 6_000]), Ok(6_000));
    assert_eq!(worm.ftruncate(two, 4_000), Ok(()), "a hole counts as what it may become");
    assert_eq!(usage(worm, "bytes"), (2 * ENTRY_BYTES + room, 2 * ENTRY_BYTES + room));
    assert_eq!(worm.create(b"guest/three"), Err(Errno::DQUOT), "empty, and it would count");
    assert_eq!(worm.write_at(two, &[7; 4_000], 0), Ok(4_000));
    assert_eq!(worm.write_at(two, b"x", 4_000), Err(Errno::DQUOT));
    close(worm, one);
    worm.wait_sealed(b"guest/one");
    assert_eq!(worm.close(two), Err(Errno::DQUOT));
    let kept = worm.wait_incomplete(b"guest/two");
    assert_eq!(worm.get(&kept).unwrap().len(), 4_000);
    assert_eq!(worm.get(b"guest/one").unwrap().len(), 6_000);
    worm.restart(End::Crash);
    assert_eq!(worm.create(b"guest/three"), Err(Errno::DQUOT));
});

worm_test!(what_was_sealed_makes_no_room_for_those_who_still_write, |worm| {
    let line = LINE_BYTES + LINE_BYTES_PER_PATH_BYTE * b"guest/one".len() as u64;
    limit(worm, |limits| limits.bytes = Size::Bytes(2 * ENTRY_BYTES + line + 10_000));
    let one = worm.create(b"guest/one").unwrap();
    let two = worm.create(b"guest/two").unwrap();
    assert_eq!(worm.write(one, &[7; 6_000]), Ok(6_000));
    close(worm, one);
    worm.wait_sealed(b"guest/one");
    assert_eq!(worm.write(two, &[7; 4_000]), Ok(4_000));
    assert_eq!(worm.write(two, b"x"), Err(Errno::DQUOT));
    assert_eq!(worm.close(two), Err(Errno::DQUOT));
    worm.wait_incomplete(b"guest/two");
});

worm_test!(reserved_room_counts_and_is_given_back, |worm| {
    limit(worm, |limits| limits.bytes = Size::Bytes(1 << 20));
    let keep = FallocateFlags::KEEP_SIZE;
    let fd = worm.create(b"guest/x").unwrap();
    worm.write(fd, b"small").unwrap();
    assert_eq!(worm.fallocate(fd, keep, 0, 2 << 20), Err(Errno::DQUOT));
    assert_eq!(worm.fallocate(fd, FallocateFlags::empty(), 0, 2 << 20), Err(Errno::DQUOT));
    assert_eq!(worm.fallocate(fd, keep, 0, 900 << 10), Ok(()), "what was refused spoils nothing");
    let other = worm.create(b"guest/other").unwrap();
    assert_eq!(worm.write(other, &vec![7; 200 << 10]), Err(Errno::DQUOT));
    assert_eq!(worm.write_at(fd, &vec![7; 800 << 10], 0), Ok(800 << 10), "there is room for it");
    close(worm, fd);
    worm.wait_sealed(b"guest/x");
    use std::os::unix::fs::MetadataExt as _;
    let data = std::fs::metadata(worm.ground().data(b"guest/x")).unwrap();
    assert!(data.blocks() * 512 < 850 << 10, "{} blocks", data.blocks());
    assert_eq!(worm.close(other), Err(Errno::DQUOT));
    worm.wait_incomplete(b"guest/other");
    worm.put(b"guest/after", &vec![7; 180 << 10]);
});

worm_test!(bytes_of_a_day_up_to_the_limit_and_none_beyond, |worm| {
    limit(worm, |limits| limits.bytes_per_day = Size::Bytes(10_000));
    worm.put(b"guest/a", &[7; 4_000]);
    let fd = worm.create(b"guest/b").unwrap();
    assert_eq!(worm.write(fd, &[7; 3_000]), Ok(3_000));
    // Giving it up does not give the day's bytes back.
    worm.control(fd, Control::Abort).unwrap();
    close(worm, fd);
    worm.wait_incomplete(b"guest/b");
    worm.clock().advance(12 * HOUR_MS);
    worm.restart(End::Crash);
    let fd = worm.create(b"guest/c").unwrap();
    assert_eq!(worm.write(fd, &[7; 3_000]), Ok(3_000));
    assert_eq!(worm.write(fd, b"x"), Err(Errno::DQUOT));
    assert_eq!(worm.close(fd), Err(Errno::DQUOT));
    worm.wait_incomplete(b"guest/c");
    assert_eq!(usage(worm, "bytes_per_day"), (10_000, 10_000));
    worm.clock().advance(13 * HOUR_MS);
    worm.put(b"guest/d", &[7; 7_000]);
    assert_eq!(usage(worm, "bytes_per_day"), (10_000, 10_000));
});

worm_test!(creates_of_a_day_up_to_the_limit_and_none_beyond, |worm| {
    limit(worm, |limits| limits.creates_per_day = 6);
    // Whole, given up, lost in a crash, removed again, changed: all of it counts.
    worm.put(b"guest/whole", b"");
    let fd = worm.create(b"guest/aborted").unwrap();
    worm.control(fd, Control::Abort).unwrap();
    close(worm, fd);
    worm.wait_incomplete(b"guest/aborted");
    worm.create(b"guest/lost").unwrap();
    worm.restart(End::Crash);
    worm.wait_incomplete(b"guest/lost");
    worm.mkdir(b"guest/d", 0o755).unwrap();
    worm.chmod(b"guest/d", 0o700).unwrap();
    worm.rmdir(b"guest/d").unwrap();
    worm.mkdir(b"guest/d", 0o755).unwrap();
    assert_eq!(usage(worm, "creates_per_day"), (6, 6));
    assert_eq!(worm.create(b"guest/x"), Err(Errno::DQUOT));
    assert_eq!(worm.mkdir(b"guest/x", 0o755), Err(Errno::DQUOT));
    assert_eq!(worm.chmod(b"guest/d", 0o700), Err(Errno::DQUOT));
    let later = worm.setxattr(b"guest/whole", "user.worm.retain_until", b"2026-01-20T00:00:00Z");
    assert_eq!(later, Err(Errno::DQUOT));
    worm.rmdir(b"guest/d").unwrap();
    worm.put(b"hourly/x", b"another class");
    worm.clock().advance(25 * HOUR_MS);
    worm.put(b"guest/x", b"");
});

worm_test!(a_limit_that_is_raised_lets_it_go_on_and_touches_nothing, |worm| {
    limit(worm, |limits| limits.files = 1);
    let digest = worm.put(b"guest/a", b"sealed before");
    let until = worm.worm(b"guest/a", "retain_until").unwrap();
    assert_eq!(worm.create(b"guest/b"), Err(Errno::DQUOT));
    limit(worm, |limits| limits.files = 2);
    worm.put(b"guest/b", b"after");
    assert_eq!(worm.worm(b"guest/a", "sha256").unwrap(), digest);
    assert_eq!(worm.worm(b"guest/a", "retain_until").unwrap(), until);
    // One that is lowered below what is there takes nothing away.
    limit(worm, |limits| limits.files = 0);
    assert_eq!(worm.get(b"guest/b").unwrap(), b"after");
    assert_eq!(worm.create(b"guest/c"), Err(Errno::DQUOT));
    assert_eq!(worm.mkdir(b"guest/d", 0o755), Ok(()));
});

worm_test!(an_idle_file_is_given_up, |worm| {
    let fd = worm.create(b"guest/x").unwrap();
    worm.clock().advance(HOUR_MS - 1);
    worm.write(fd, b"still there").unwrap();
    worm.clock().advance(HOUR_MS - 1);
    assert_eq!(worm.housekeep(), 0);
    assert_eq!(worm.worm(b"guest/x", "state").unwrap(), "writing");
    // The system clock is nobody's uptime.
    worm.clock().set(|reading| reading.system_ms += DAY_MS);
    worm.housekeep();
    assert_eq!(worm.worm(b"guest/x", "state").unwrap(), "writing");
    worm.clock().advance(1);
    worm.housekeep();
    let kept = worm.wait_incomplete(b"guest/x");
    assert_eq!(worm.get(&kept).unwrap(), b"still there");
    assert_eq!(worm.write(fd, b"late"), Err(Errno::PERM));
    assert_eq!(worm.control(fd, Control::Commit), Err(Errno::PERM));
    close(worm, fd);
    worm.put(b"guest/x", b"its name is free");
});

worm_test!(a_file_that_is_open_for_too_long_is_given_up, |worm| {
    limit(worm, |limits| limits.open_time = 3 * HOUR_MS);
    let fd = worm.create(b"guest/x").unwrap();
    for _ in 0..3 {
        worm.housekeep();
        assert_eq!(worm.write(fd, b"a byte now and then"), Ok(19));
        worm.clock().advance(HOUR_MS - 1);
    }
    worm.clock().advance(3);
    worm.housekeep();
    worm.wait_incomplete(b"guest/x");
    assert_eq!(worm.write(fd, b"late"), Err(Errno::PERM));
    close(worm, fd);
});

worm_test!(an_alarm_comes_at_half_and_ends_with_its_reason, |worm| {
    limit(worm, |limits| {
        limits.files = 4;
        limits.creates_per_day = 6;
    });
    worm.put(b"guest/a", b"1");
    worm.housekeep();
    assert_eq!(worm.fs().alarms(), Vec::<String>::new());
    worm.put(b"guest/b", b"2");
    worm.housekeep();
    let alarms = worm.fs().alarms();
    assert!(
        alarms.len() == 1 && alarms[0].contains("guest: half of its limits.files"),
        "{alarms:?}"
    );
    worm.put(b"guest/c", b"3");
    worm.housekeep();
    assert_eq!(worm.fs().alarms().len(), 2, "{:?}", worm.fs().alarms());
    worm.restart(End::Crash);
    assert_eq!(worm.fs().alarms().len(), 2, "from the start");
    worm.clock().advance(25 * HOUR_MS);
    worm.housekeep();
    assert_eq!(worm.fs().alarms(), alarms, "the day is over");
    worm.clock().advance(25 * HOUR_MS);
    worm.housekeep();
    worm.housekeep();
    assert_eq!(worm.fs().alarms(), Vec::<String>::new(), "the files are gone");
});

worm_test!(what_is_counted_is_what_the_next_start_counts, |worm| {
    worm.put(b"guest/a", &[7; 5000]);
    worm.put(b"guest/a.sha256", b"x");
    worm.mkdir(b"guest/d", 0o755).unwrap();
    let fd = worm.create(b"guest/d/x").unwrap();
    worm.write(fd, &[7; 3000]).unwrap();
    worm.ftruncate(fd, 10).unwrap();
    close(worm, fd);
    worm.wait_sealed(b"guest/d/x");
    assert_eq!(worm.create(b"guest/a"), Err(Errno::EXIST));
    assert_eq!(worm.mkdir(b"guest/d", 0o755), Err(Errno::EXIST));
    let nothing_open = || match usage(worm, "open_files").0 {
        0 => Ok(()),
        _ => Err(Errno::AGAIN),
    };
    soon(nothing_open);
    let before = worm.fs().usage();
    worm.restart(End::Crash);
    assert_eq!(worm.fs().usage(), before);
    let guest = before.iter().find(|class| class.class == "guest").unwrap();
    let used: Vec<u64> = guest.limits.iter().map(|row| row.used).collect();
    assert_eq!(used[1..], [3, 1, 0, 5011, 4], "{guest:?}");
});

worm_test!(the_reserve_takes_nothing_new_and_lets_go_what_is_over, |worm| {
    worm.put(b"guest/a", b"whole");
    let reserve = |size| {
        worm.ground().configure(|config| config.reserve = Some(size));
        worm.restart(End::Clean);
    };
    reserve(Size::Percent(100));
    assert_eq!(worm.create(b"guest/b"), Err(Errno::NOSPC));
    assert_eq!(worm.mkdir(b"guest/d", 0o755), Err(Errno::NOSPC));
    assert_eq!(worm.get(b"guest/a").unwrap(), b"whole");
    assert_eq!(worm.fs().disk().unwrap().f_bavail, 0, "df says so, too");
    let alarms = worm.fs().alarms();
    assert!(alarms.iter().any(|alarm| alarm.contains("the disk is full")), "{alarms:?}");
    worm.clock().advance(48 * HOUR_MS);
    assert_eq!(worm.housekeep(), 1);
    worm.wait_gone(b"guest/a");
    reserve(Size::Bytes(0));
    assert_eq!(worm.fs().alarms(), Vec::<String>::new());
    worm.put(b"guest/b", b"after");
});

/// So many writers at once that a limit asked for and counted in two steps would give way.
#[test]
fn no_number_of_writers_gets_beyond_a_limit_together() {
    const PIECE: u64 = 1000;
    let worm = InProcess::default();
    let worm: &dyn Session = &worm;
    let bytes = 300 * PIECE + PIECE / 2;
    limit(worm, |limits| {
        limits.bytes_per_day = Size::Bytes(bytes);
        limits.files = 8;
    });
    let (written, opened) = (AtomicU64::new(0), AtomicU64::new(0));
    std::thread::scope(|scope| {
        for number in 0..12 {
            let (written, opened) = (&written, &opened);
            scope.spawn(move || {
                let Ok(fd) = worm.create(format!("guest/{number}").as_bytes()) else { return };
                opened.fetch_add(1, Ordering::Relaxed);
                while worm.write(fd, &[7; PIECE as usize]).is_ok() {
                    written.fetch_add(PIECE, Ordering::Relaxed);
                }
            });
        }
    });
    assert_eq!(opened.into_inner(), 8);
    assert_eq!(written.into_inner(), 300 * PIECE, "all that fits, and no more");
}

worm_test!(names_and_paths_up_to_the_limit_and_none_beyond, |worm| {
    let name = |length: usize| [&b"guest/"[..], &vec![b'n'; length]].concat();
    worm.put(&name(255), b"255");
    assert_eq!(worm.create(&name(256)), Err(Errno::NAMETOOLONG));
    assert_eq!(worm.mkdir(&name(256), 0o755), Err(Errno::NAMETOOLONG));
    // The class is the first of the directories.
    let mut path = b"guest".to_vec();
    for _ in 1..16 {
        path.extend_from_slice(b"/d");
        worm.mkdir(&path, 0o755).unwrap();
    }
    worm.put(&[&path[..], b"/x"].concat(), b"as deep as it goes");
    assert_eq!(worm.mkdir(&[&path[..], b"/d"].concat(), 0o755), Err(Errno::NAMETOOLONG));
});

/// The kernel takes no path of 4096 bytes in one call, so this goes directory by directory.
#[test]
fn a_path_up_to_the_limit_and_none_beyond() {
    let worm = InProcess::default();
    let worm: &dyn Session = &worm;
    let mut path = b"guest".to_vec();
    for _ in 1..16 {
        path.push(b'/');
        path.extend_from_slice(&[b'd'; 255]);
        worm.mkdir(&path, 0o755).unwrap();
    }
    let name = |bytes: usize| [&path[..], b"/", &vec![b'n'; bytes - path.len() - 1]].concat();
    assert_eq!(worm.create(&name(4096)), Err(Errno::NAMETOOLONG));
    worm.put(&name(4095), b"4095");
    worm.restart(End::Crash);
    assert_eq!(worm.get(&name(4095)).unwrap(), b"4095");
    let fd = worm.create(&name(4094)).unwrap();
    worm.control(fd, Control::Abort).unwrap();
}

/// Of the whole store, however many each class allows.
#[test]
fn open_files_of_the_store_up_to_the_limit_and_none_beyond() {
    let worm = InProcess::default();
    let worm: &dyn Session = &worm;
    for class in ["guest", "hourly"] {
        worm.ground().rule(class, |rule| rule.limits.open_files = u64::MAX);
    }
    worm.restart(End::Clean);
    let limits = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    let raised = rustix::process::Rlimit { current: limits.maximum, ..limits };
    rustix::process::setrlimit(rustix::process::Resource::Nofile, raised).unwrap();
    let classes = ["guest", "hourly"].iter().cycle().zip(0..OPEN_FILES_MAX);
    let open: Vec<Fd> = classes
        .map(|(class, number)| worm.create(format!("{class}/{number}").as_bytes()).unwrap())
        .collect();
    for class in ["guest", "hourly", "daily"] {
        assert_eq!(worm.create(format!("{class}/x").as_bytes()), Err(Errno::MFILE), "{class}");
    }
    worm.close(open[0]).unwrap();
    worm.create(b"daily/x").unwrap();
}
