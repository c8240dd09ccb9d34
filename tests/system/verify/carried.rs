//! `.worm` in the view: what a witness carries away.

use rustix::fs::OFlags;
use rustix::fs::RenameFlags;
use system_tests::daemon::Daemon;
use system_tests::session::GUEST;
use worm_fs::catalog::ROOT;
use worm_fs::fs::HandleId;
use worm_fs::fs::Place;
use worm_fs::fs::WormFs;

use super::*;

const SEGMENT: &[u8] = b".worm/ledger/000001.jsonl";

fn of_store(worm: &dyn Session, name: &str) -> Vec<u8> {
    std::fs::read(worm.ground().store().join(name)).unwrap()
}

worm_test!(the_view_shows_head_ledger_and_key_to_carry_away, |worm| {
    worm.put(b"hourly/x", b"bytes");
    let view = worm.view();
    let all = [&b".worm"[..], b"daily", b"guest", b"hourly", b"logs"];
    assert_eq!(view.list(b"").unwrap(), all);
    assert_eq!(view.list(b".worm").unwrap(), [&b"head"[..], b"ledger", b"store.json"]);
    assert_eq!(view.list(b".worm/ledger").unwrap(), [b"000001.jsonl"]);
    for (name, of) in [
        (&b".worm/head"[..], "head"),
        (b".worm/store.json", "store.json"),
        (SEGMENT, "ledger/000001.jsonl"),
    ] {
        assert_eq!(view.get(name).unwrap(), of_store(worm, of), "{of}");
        let stat = view.stat(name).unwrap();
        assert_eq!((stat.mode, stat.uid, stat.gid), (0o440, 0, GUEST), "{of}");
        assert_eq!(stat.size, of_store(worm, of).len() as u64, "{of}");
        assert_eq!(view.worm(name, "store"), view.worm(b"hourly/x", "store"));
        assert_eq!(view.worm(name, "sha256"), Err(Errno::NODATA));
        assert_eq!(view.listxattr(name).unwrap(), ["user.worm.store"]);
    }
    for directory in [&b".worm"[..], b".worm/ledger", b".worm/.", b".worm/ledger/.."] {
        let stat = view.stat(directory).unwrap();
        assert!(stat.is_directory && stat.mode == 0o550 && stat.gid == GUEST);
    }
    for absent in [&b".worm/open"[..], b".worm/ledger/000002.jsonl", b".worm/ledger/1.jsonl"] {
        assert_eq!(view.stat(absent), Err(Errno::NOENT));
    }
    assert_eq!(view.list(b".worm/head"), Err(Errno::NOTDIR));
});

worm_test!(nothing_in_it_can_be_changed, |worm| {
    let view = worm.view();
    let head = view.get(b".worm/head").unwrap();
    for name in [&b".worm/head"[..], SEGMENT] {
        assert_eq!(view.open(name, OFlags::WRONLY, 0), Err(Errno::ROFS));
        assert_eq!(view.truncate(name, 0), Err(Errno::ROFS));
        assert_eq!(view.unlink(name), Err(Errno::ROFS));
        assert_eq!(view.chmod(name, 0o777), Err(Errno::ROFS));
        assert_eq!(view.rename(name, b".worm/x", RenameFlags::empty()), Err(Errno::ROFS));
        assert_eq!(view.setxattr(name, "user.x", b"1"), Err(Errno::ROFS));
    }
    assert_eq!(view.create(b".worm/x").map(|_| ()), Err(Errno::ROFS));
    assert_eq!(view.mkdir(b".worm/ledger/x", 0o755), Err(Errno::ROFS));
    assert_eq!(view.rmdir(b".worm/ledger"), Err(Errno::ROFS));
    assert_eq!(view.get(b".worm/head").unwrap(), head);
});

worm_test!(the_active_mount_does_not_have_it_and_nobody_can_make_it, |worm| {
    assert_eq!(worm.stat(b".worm"), Err(Errno::NOENT));
    assert_eq!(worm.list(b"").unwrap(), [&b"daily"[..], b"guest", b"hourly"]);
    assert_eq!(worm.mkdir(b".worm", 0o755), Err(Errno::PERM));
    assert_eq!(worm.create(b".worm").map(|_| ()), Err(Errno::PERM));
    // A file of that name inside a class is a file.
    worm.put(b"hourly/.worm", b"bytes");
    assert_eq!(worm.view().get(b"hourly/.worm").unwrap(), b"bytes");
});

worm_test!(the_ledger_grows_under_an_open_descriptor, |worm| {
    let view = worm.view();
    let fd = view.open_to_read(SEGMENT).unwrap();
    let mut read = view.read_at(fd, 1 << 20, 0).unwrap();
    for name in [&b"hourly/a"[..], b"hourly/b"] {
        worm.put(name, name);
        let more = view.read_at(fd, 1 << 20, read.len() as u64).unwrap();
        assert!(more.ends_with(b"\n"), "{}", String::from_utf8_lossy(&more));
        let last = more.split_inclusive(|byte| *byte == b'\n').next_back().unwrap();
        assert!(String::from_utf8_lossy(last).contains(std::str::from_utf8(name).unwrap()));
        read.extend(&more);
        assert_eq!(view.stat(SEGMENT).unwrap().size, read.len() as u64);
        // The head names the last line that is shown.
        let head = String::from_utf8(view.get(b".worm/head").unwrap()).unwrap();
        assert!(head.contains(&Digest::of(last).to_string()), "{head}");
    }
    view.close(fd).unwrap();
    assert_eq!(read, of_store(worm, "ledger/000001.jsonl"));
});

worm_test!(who_reads_the_head_to_its_end_has_carried_it, |worm| {
    let (fs, view) = (worm.fs(), worm.view());
    assert_eq!(fs.carried(), None);
    let fd = view.open_to_read(b".worm/head").unwrap();
    view.read_at(fd, 10, 0).unwrap();
    assert_eq!(fs.carried(), None, "half a head is none");
    // The head as it was when it was opened.
    let head = String::from_utf8(view.read_at(fd, 4096, 0).unwrap()).unwrap();
    let seq = || head.lines().nth(2).unwrap().parse().ok();
    assert_eq!(fs.carried(), seq());
    worm.put(b"hourly/x", b"bytes");
    view.read_at(fd, 4096, 0).unwrap();
    assert_eq!(fs.carried(), seq());
    view.close(fd).unwrap();
    view.get(b".worm/head").unwrap();
    assert!(fs.carried() > seq());
    drop(fs);
});

worm_test!(a_restart_remembers_what_was_carried_away, |worm| {
    worm.put(b"hourly/x", b"bytes");
    worm.view().get(b".worm/head").unwrap();
    let carried = worm.fs().carried().unwrap();
    let kept = || std::fs::read(worm.ground().store().join("carried"));
    assert!(kept().is_err(), "nobody waits for a disk to read");
    worm.housekeep();
    assert!(String::from_utf8(kept().unwrap()).unwrap().contains(&format!("\n{carried}\n")));
    worm.put(b"hourly/y", b"bytes");
    worm.restart(End::Crash);
    assert_eq!(worm.fs().carried(), Some(carried));
    // An end in order keeps what was read since.
    worm.view().get(b".worm/head").unwrap();
    let later = worm.fs().carried().unwrap();
    worm.restart(End::Clean);
    assert_eq!(worm.fs().carried(), Some(later));
    assert!(later > carried && worm.fs().alarms().is_empty());
    // What is no head of this store says nothing, and its bytes cannot be made up.
    worm.stop(End::Clean);
    let path = worm.ground().store().join("carried");
    let head = std::fs::read_to_string(&path).unwrap();
    rewrite(&path, head.replace(&format!("\n{later}\n"), "\n9999\n").as_bytes());
    worm.start().unwrap();
    assert_eq!(worm.fs().carried(), None);
});

/// An older copy of the store beside a newer `carried` cannot be: heads are on the disk when they
/// are shown.
#[test]
fn a_head_that_was_read_and_is_gone_is_an_alarm() {
    let session = InProcess::default();
    let worm: &dyn Session = &session;
    worm.put(b"hourly/a", b"a");
    worm.stop(End::Clean);
    let older = ["head", "ledger/000001.jsonl"].map(|name| (name, of_store(worm, name)));
    worm.start().unwrap();
    worm.put(b"hourly/b", b"b");
    worm.view().get(b".worm/head").unwrap();
    worm.stop(End::Clean);
    for (name, bytes) in older {
        rewrite(&worm.ground().store().join(name), &bytes);
    }
    worm.start().unwrap();
    let alarms = worm.fs().alarms();
    assert!(alarms.iter().any(|alarm| alarm.contains("rolled back")), "{alarms:?}");
}

/// What no head covers is nothing to carry away: a crash may leave it, or somebody without a key.
#[test]
fn a_copy_that_is_shown_shows_what_its_head_covers() {
    let session = InProcess::default();
    let worm: &dyn Session = &session;
    worm.put(b"hourly/a", b"a");
    let (head, covered) = (of_store(worm, "head"), of_store(worm, "ledger/000001.jsonl"));
    worm.put(b"hourly/b", b"b");
    worm.put(b"hourly/c", b"c");
    worm.stop(End::Crash);
    rewrite(&worm.ground().store().join("head"), &head);
    let clock = std::sync::Arc::clone(&worm.ground().clock);
    let fs = WormFs::show(&worm.ground().store(), clock as _).unwrap();
    let place = Place::View { group: 0 };
    let look = |parent, name: &[u8]| fs.lookup(place, parent, name).unwrap();
    let ledger = look(look(ROOT, b".worm").id, b"ledger").id;
    let segment = look(ledger, b"000001.jsonl");
    assert_eq!(segment.size, covered.len() as u64);
    let (handle, _): (HandleId, _) = fs.open_to_read(place, segment.id).unwrap();
    let mut bytes = vec![0; covered.len() + 100];
    let read = fs.read(handle, 0, &mut bytes).unwrap();
    assert_eq!(bytes[..read], covered);
}

/// Through the kernel, by the command.
#[test]
fn status_tells_how_many_lines_nobody_has_carried_away() {
    let daemon = Daemon::start();
    let status = || {
        let said = daemon.worm("status", &daemon.store(), &["--json"]).success();
        serde_json::from_str::<serde_json::Value>(&said).unwrap()["daemon"]["unwitnessed"].as_u64()
    };
    assert_eq!(status(), None);
    let said = daemon.worm("status", &daemon.store(), &[]).success();
    assert!(said.contains("no head was read through the view"), "{said}");
    let carried = daemon.directory().join("carried.head");
    std::fs::copy(daemon.view().join(".worm/head"), &carried).unwrap();
    let deadline = std::time::Instant::now() + system_tests::session::SOON;
    while status() != Some(0) {
        assert!(std::time::Instant::now() < deadline, "{:?}", status());
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    rewrite_new(&daemon.active().join("hourly/x"), b"x");
    daemon.wait(&daemon.active().join("hourly/x"));
    assert_eq!(status(), Some(1));
    let carried = carried.to_string_lossy();
    daemon.worm("verify", &daemon.store(), &["--witness", &carried]).success();
}
