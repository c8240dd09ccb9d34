//! Promise 17: an append-only class takes bytes only at the end of its files, whatever offset is
//! sent, and refuses everything else, as `chattr +a`. Length and digest of what is there go into
//! the ledger. (Programs that append side by side, and a daemon that is killed: `logs.rs`.)

use std::os::unix::fs::FileExt as _;

use rustix::fs::FallocateFlags;
use rustix::fs::OFlags;
use rustix::io::Errno;
use system_tests::session::End;
use system_tests::session::Fd;
use system_tests::session::Files;
use system_tests::session::Mounted;
use system_tests::session::Result;
use system_tests::session::Session;
use system_tests::session::raw;
use system_tests::worm_test;
use worm_fs::clock::DAY_MS;
use worm_fs::config::Size;
use worm_fs::fs::Control;
use worm_fs::policy::name::StorePath;
use worm_fs::record::Actor;
use worm_fs::record::Digest;
use worm_fs::store::OpenError;

use super::attempts;
use super::attempts::OTHER;
use super::attempts::look;

fn append(logs: &dyn Files, path: &[u8]) -> Result<Fd> {
    logs.open(path, OFlags::CREATE | OFlags::WRONLY | OFlags::APPEND, 0o644)
}

/// Opens, appends, closes.
#[track_caller]
fn add(logs: &dyn Files, path: &[u8], bytes: &[u8]) {
    let fd = append(logs, path).unwrap();
    assert_eq!(logs.write(fd, bytes), Ok(bytes.len()));
    assert_eq!(logs.close(fd), Ok(()));
}

/// What `user.worm.recorded` says of these bytes.
fn recorded(bytes: &[u8]) -> String {
    format!("{} {}", bytes.len(), Digest::of(bytes))
}

worm_test!(bytes_go_to_the_end_whatever_the_offset, |worm| {
    let logs = worm.logs();
    let (one, two) = (append(logs, b"x").unwrap(), append(logs, b"x").unwrap());
    assert_eq!(logs.write(one, b"one\n"), Ok(4));
    assert_eq!(logs.write(two, b"two\n"), Ok(4));
    assert_eq!(logs.write_at(one, b"three\n", 0), Ok(6));
    assert_eq!(logs.write_at(two, b"four\n", 99), Ok(5));
    assert_eq!(logs.write(one, b"five\n"), Ok(5));
    assert_eq!(logs.fsync(two), Ok(()));
    let both = logs.open(b"x", OFlags::RDWR | OFlags::APPEND, 0).unwrap();
    assert_eq!(logs.read_at(both, 99, 4).unwrap(), b"two\nthree\nfour\nfive\n");
    assert_eq!(logs.write(both, b""), Ok(0));
    for fd in [one, two, both] {
        logs.close(fd).unwrap();
    }
    add(logs, b"x", b"six\n");
    assert_eq!(logs.get(b"x").unwrap(), b"one\ntwo\nthree\nfour\nfive\nsix\n");
    assert_eq!(logs.stat(b"x").unwrap().size, 28);
    assert_eq!(logs.worm(b"x", "state").unwrap(), "appending");
    assert_eq!(logs.worm(b"x", "sha256"), Err(Errno::NODATA));
});

worm_test!(a_mebibyte_is_added_whole, |worm| {
    let fd = append(worm.logs(), b"x").unwrap();
    let bytes = vec![b'x'; 1 << 20];
    assert_eq!(worm.logs().write(fd, b"begin"), Ok(5));
    assert_eq!(worm.logs().write(fd, &bytes), Ok(1 << 20));
    assert_eq!(worm.logs().write(fd, b"end"), Ok(3));
    worm.logs().close(fd).unwrap();
    assert_eq!(worm.logs().get(b"x").unwrap(), [b"begin", &bytes[..], b"end"].concat());
});

worm_test!(a_log_refuses_everything_else, |worm| {
    let logs = worm.logs();
    for directory in [&b"hourly"[..], b"daily"] {
        logs.mkdir(directory, 0o755).unwrap();
    }
    add(logs, OTHER, b"other\n");
    add(logs, b"hourly/x", b"bytes\n");
    attempts::try_all(logs, b"hourly/x", &["open O_APPEND"]);
    for flags in [OFlags::WRONLY, OFlags::RDWR] {
        let cut = logs.open(b"hourly/x", flags | OFlags::APPEND | OFlags::TRUNC, 0);
        assert_eq!(cut, Err(Errno::PERM));
    }
    assert_eq!(logs.get(b"hourly/x").unwrap(), b"bytes\n");
});

worm_test!(a_log_is_made_by_who_appends, |worm| {
    let logs = worm.logs();
    for more in [OFlags::empty(), OFlags::EXCL, OFlags::TRUNC, OFlags::TRUNC | OFlags::APPEND] {
        let made = logs.open(b"x", OFlags::CREATE | OFlags::WRONLY | more, 0o644);
        assert_eq!(made, Err(Errno::PERM), "{more:?}");
        assert_eq!(logs.stat(b"x"), Err(Errno::NOENT), "{more:?}");
    }
    let fd = append(logs, b"x").unwrap();
    let again = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::APPEND;
    assert_eq!(logs.open(b"x", again, 0o644), Err(Errno::EXIST));
    logs.close(fd).unwrap();
    let stat = logs.stat(b"x").unwrap();
    assert_eq!((stat.size, stat.mode, stat.uid, stat.gid), (0, 0o644, 0, 0));
    assert_eq!(logs.symlink(b"x", b"y"), Err(Errno::PERM));
});

worm_test!(the_descriptor_that_appends_changes_nothing_else, |worm| {
    let logs = worm.logs();
    let fd = append(logs, b"x").unwrap();
    logs.write(fd, b"bytes\n").unwrap();
    let before = look(logs, b"x");
    let punch = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
    for length in [0, 3, 6, 99] {
        assert_eq!(logs.ftruncate(fd, length), Err(Errno::PERM));
    }
    for mode in
        [FallocateFlags::empty(), FallocateFlags::KEEP_SIZE, punch, FallocateFlags::ZERO_RANGE]
    {
        assert_eq!(logs.fallocate(fd, mode, 0, 99), Err(Errno::PERM), "{mode:?}");
    }
    assert_eq!(logs.fchmod(fd, 0o600), Err(Errno::PERM));
    for control in [Control::Begin, Control::Commit, Control::Abort] {
        assert_eq!(logs.control(fd, control), Err(Errno::PERM), "{control:?}");
    }
    assert_eq!(look(logs, b"x"), before);
    logs.close(fd).unwrap();
    let fd = logs.open_to_read(b"x").unwrap();
    assert_eq!(logs.write(fd, b"x"), Err(Errno::BADF));
    logs.close(fd).unwrap();
    assert_eq!(look(logs, b"x"), before);
});

/// Ways that only the kernel knows.
#[test]
fn no_mapping_and_no_flag_of_a_descriptor_leads_elsewhere_than_to_the_end() {
    let session = Mounted::default();
    let worm: &dyn Session = &session;
    let path = session.ground().logs().join("x");
    let log = std::fs::File::options().append(true).read(true).create(true).open(&path).unwrap();
    log.write_at(b"bytes\n", 0).unwrap();
    assert_eq!(raw::map_shared(&log), Err(Errno::NODEV));
    // Without O_APPEND the kernel sends the offset that it was given.
    rustix::fs::fcntl_setfl(&log, OFlags::empty()).unwrap();
    log.write_at(b"more\n", 0).unwrap();
    let (reader, pipe) = rustix::pipe::pipe().unwrap();
    rustix::io::write(&pipe, b"pipe\n").unwrap();
    let (mut at, flags) = (2, rustix::pipe::SpliceFlags::empty());
    assert_eq!(rustix::pipe::splice(&reader, None, &log, Some(&mut at), 5, flags), Ok(5));
    drop(log);
    assert_eq!(worm.logs().get(b"x").unwrap(), b"bytes\nmore\npipe\n");
}

worm_test!(the_view_shows_logs_and_the_mount_does_not, |worm| {
    add(worm.logs(), b"x", b"bytes\n");
    assert_eq!(worm.stat(b"logs"), Err(Errno::NOENT));
    assert!(!worm.list(b"").unwrap().contains(&b"logs".to_vec()));
    assert_eq!(worm.logs().list(b"").unwrap(), [b"x"]);
    assert_eq!(worm.logs().stat(b".incomplete"), Err(Errno::NOENT));
    assert_eq!(worm.logs().stat(b"hourly"), Err(Errno::NOENT));
    let view = worm.view();
    assert_eq!(view.get(b"logs/x").unwrap(), b"bytes\n");
    assert_eq!(view.stat(b"logs/x").unwrap().mode, 0o440);
    add(worm.logs(), b"x", b"more\n");
    assert_eq!(view.stat(b"logs/x").unwrap().size, 11, "at once");
    assert_eq!(view.get(b"logs/x").unwrap(), b"bytes\nmore\n");
    let append = view.open(b"logs/x", OFlags::WRONLY | OFlags::APPEND, 0);
    assert_eq!(append, Err(Errno::ROFS));
});

worm_test!(length_and_digest_go_into_the_ledger, |worm| {
    let (logs, fs) = (worm.logs(), worm.fs());
    let fd = append(logs, b"x").unwrap();
    assert_eq!(logs.worm(b"x", "recorded").unwrap(), recorded(b""));
    logs.write(fd, b"one\n").unwrap();
    assert_eq!(fs.record_logs(), 1, "the first at once");
    assert_eq!(logs.worm(b"x", "recorded").unwrap(), recorded(b"one\n"));
    logs.write(fd, b"two\n").unwrap();
    assert_eq!(fs.record_logs(), 0, "the next after 10 s");
    worm.clock().advance(10_000);
    assert_eq!(fs.record_logs(), 1);
    assert_eq!(logs.worm(b"x", "recorded").unwrap(), recorded(b"one\ntwo\n"));
    worm.clock().advance(10_000);
    assert_eq!(fs.record_logs(), 0, "nothing new");
    logs.write(fd, b"three\n").unwrap();
    assert_eq!(fs.record_logs(), 1);
    logs.write(fd, &vec![b'x'; 1 << 20]).unwrap();
    assert_eq!(fs.record_logs(), 1, "or after 1 MiB");
    logs.close(fd).unwrap();
});

worm_test!(the_end_of_a_daemon_covers_all, |worm| {
    add(worm.logs(), b"x", b"one\n");
    worm.restart(End::Clean);
    assert_eq!(worm.logs().worm(b"x", "recorded").unwrap(), recorded(b"one\n"));
    add(worm.logs(), b"x", b"two\n");
    assert_eq!(worm.logs().get(b"x").unwrap(), b"one\ntwo\n");
});

worm_test!(a_crash_loses_nothing_and_no_line_begins_within_another, |worm| {
    let logs = worm.logs();
    add(logs, b"x", b"one\n");
    worm.fs().record_logs();
    add(logs, b"x", b"two\n{\"tor");
    worm.restart(End::Crash);
    assert_eq!(logs.get(b"x").unwrap(), b"one\ntwo\n{\"tor");
    assert_eq!(logs.worm(b"x", "recorded").unwrap(), recorded(b"one\n"));
    assert_eq!(worm.fs().record_logs(), 1);
    assert_eq!(logs.worm(b"x", "recorded").unwrap(), recorded(b"one\ntwo\n{\"tor"));
    add(logs, b"x", b"three\n");
    add(logs, b"x", b"four");
    add(logs, b"x", b" and more\n");
    let whole = b"one\ntwo\n{\"tor\nthree\nfour and more\n";
    assert_eq!(logs.get(b"x").unwrap(), whole);
    worm.restart(End::Clean);
    assert_eq!(logs.worm(b"x", "recorded").unwrap(), recorded(whole));
    assert!(worm.fs().alarms().is_empty());
});

worm_test!(a_log_that_was_made_and_never_written_survives, |worm| {
    logs_made(worm);
    worm.restart(End::Crash);
    // The crash may have come between the record and the file.
    std::fs::remove_file(worm.ground().data(b"logs/x")).unwrap();
    worm.restart(End::Crash);
    assert!(worm.fs().alarms().is_empty(), "{:?}", worm.fs().alarms());
    assert_eq!(worm.logs().get(b"x").unwrap(), b"");
    add(worm.logs(), b"x", b"one\n");
    assert_eq!(worm.logs().get(b"x").unwrap(), b"one\n");
});

fn logs_made(worm: &dyn Session) {
    let fd = append(worm.logs(), b"x").unwrap();
    worm.logs().close(fd).unwrap();
}

worm_test!(what_was_changed_behind_its_back_takes_no_more, |worm| {
    let logs = worm.logs();
    for log in [&b"x"[..], b"y", b"z"] {
        add(logs, log, b"one\ntwo\n");
    }
    worm.stop(End::Clean);
    let open = |log: &[u8]| {
        let path = worm.ground().data(&[b"logs/", log].concat());
        std::fs::File::options().write(true).open(path).unwrap()
    };
    open(b"x").write_at(b"ONE", 0).unwrap();
    open(b"y").set_len(5).unwrap();
    worm.start().unwrap();
    assert_eq!(append(logs, b"x"), Err(Errno::IO));
    assert_eq!(append(logs, b"x"), Err(Errno::IO), "and stays so");
    assert_eq!(append(logs, b"y"), Err(Errno::IO));
    assert_eq!(logs.get(b"x").unwrap(), b"ONE\ntwo\n", "it can still be looked at");
    assert_eq!(logs.get(b"y"), Err(Errno::IO), "as any file that is cut");
    add(logs, b"z", b"three\n");
    let alarms = worm.fs().alarms();
    assert_eq!(alarms.len(), 2, "{alarms:?}");
    assert!(alarms.iter().any(|alarm| alarm.contains("logs/x")), "{alarms:?}");
});

worm_test!(a_log_is_kept_from_its_last_bytes_on, |worm| {
    let logs = worm.logs();
    add(logs, b"x", b"one\n");
    worm.fs().record_logs();
    worm.clock().advance(29 * DAY_MS);
    add(logs, b"x", b"two\n");
    assert_eq!(worm.fs().record_logs(), 1);
    worm.clock().advance(30 * DAY_MS - 1);
    let reader = logs.open_to_read(b"x").unwrap();
    let fd = append(logs, b"x").unwrap();
    assert_eq!(worm.housekeep(), 0);
    assert_eq!(logs.unlink(b"x"), Err(Errno::PERM));
    worm.clock().advance(1);
    assert_eq!(logs.worm(b"x", "state").unwrap(), "expired");
    assert_eq!(logs.write(fd, b"late\n"), Err(Errno::PERM));
    assert_eq!(append(logs, b"x"), Err(Errno::PERM));
    assert_eq!(worm.housekeep(), 1);
    logs.wait_gone(b"x");
    assert_eq!(logs.read_at(reader, 99, 0).unwrap(), b"one\ntwo\n", "who has it open reads on");
    for fd in [fd, reader] {
        logs.close(fd).unwrap();
    }
    add(logs, b"x", b"a new one\n");
    assert_eq!(logs.get(b"x").unwrap(), b"a new one\n");
});

worm_test!(what_came_in_the_last_moment_is_recorded_and_moves_the_end, |worm| {
    let logs = worm.logs();
    add(logs, b"x", b"one\n");
    worm.fs().record_logs();
    worm.clock().advance(30 * DAY_MS - 1);
    add(logs, b"x", b"two\n");
    worm.clock().advance(1);
    assert_eq!(worm.housekeep(), 0);
    assert_eq!(logs.unlink(b"x"), Err(Errno::PERM));
    assert_eq!(worm.fs().record_logs(), 1);
    assert_eq!(logs.worm(b"x", "state").unwrap(), "appending");
    add(logs, b"x", b"three\n");
    worm.fs().record_logs();
    worm.clock().advance(30 * DAY_MS + 10_000);
    worm.fs().record_logs();
    worm.clock().advance(30 * DAY_MS);
    assert_eq!(logs.unlink(b"x"), Ok(()));
    assert_eq!(logs.stat(b"x"), Err(Errno::NOENT));
    assert!(!worm.ground().data(b"logs/x").exists());
});

worm_test!(a_hold_keeps_a_log_and_lets_it_grow, |worm| {
    let (logs, admin) = (worm.logs(), Actor::user(0));
    add(logs, b"x", b"one\n");
    worm.fs().record_logs();
    let path = StorePath::decode("logs/x").unwrap();
    worm.fs().hold(admin, &path, "case-7", "subpoena").unwrap();
    worm.clock().advance(31 * DAY_MS);
    assert_eq!(worm.housekeep(), 0);
    assert_eq!(logs.worm(b"x", "holds").unwrap(), "case-7");
    add(logs, b"x", b"two\n");
    worm.fs().lift_hold(admin, &path, "case-7", "closed").unwrap();
    assert_eq!(worm.housekeep(), 0, "what came last is not recorded");
    assert_eq!(worm.fs().record_logs(), 1);
    worm.clock().advance(30 * DAY_MS);
    assert_eq!(worm.housekeep(), 1);
});

worm_test!(the_limits_of_its_class_hold_for_a_log, |worm| {
    let logs = worm.logs();
    add(logs, b"x", b"12345\n");
    worm.ground().rule("logs", |rule| {
        (rule.limits.file_bytes, rule.limits.open_files) = (Size::Bytes(10), 2);
    });
    worm.restart(End::Crash);
    let (one, two) = (append(logs, b"x").unwrap(), append(logs, b"x").unwrap());
    assert_eq!(append(logs, b"x"), Err(Errno::MFILE));
    assert_eq!(logs.write(one, b"12345"), Err(Errno::FBIG));
    assert_eq!(logs.write(two, b"789\n"), Ok(4));
    assert_eq!(logs.write(one, b"1"), Err(Errno::FBIG));
    logs.close(one).unwrap();
    worm.fs().record_logs();
    assert_eq!(logs.write(two, b"1"), Err(Errno::FBIG), "recorded or not");
    let again = append(logs, b"x").unwrap();
    assert_eq!(logs.get(b"x").unwrap(), b"12345\n789\n");
    let usage = worm.fs().usage();
    let usage = usage.iter().find(|usage| usage.class == "logs").unwrap();
    let day = usage.limits.iter().find(|limit| limit.name == "bytes_per_day").unwrap();
    assert_eq!(day.used, 10, "each byte once");
    for fd in [two, again] {
        logs.close(fd).unwrap();
    }
});

worm_test!(a_class_does_not_become_append_only, |worm| {
    worm.stop(End::Clean);
    worm.ground().rule("hourly", |rule| rule.append_only = true);
    assert!(matches!(worm.start(), Err(OpenError::Class(class)) if class == "hourly"));
    worm.ground().rule("hourly", |rule| rule.append_only = false);
    worm.ground().rule("logs", |rule| rule.append_only = false);
    assert!(matches!(worm.start(), Err(OpenError::Class(class)) if class == "logs"));
    worm.ground().rule("logs", |rule| rule.append_only = true);
    worm.start().unwrap();
});
