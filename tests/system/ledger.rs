//! The ledger in segments, and snapshots of what is alive: a start reads what follows the newest
//! snapshot, and nothing that is not bound by the signature is believed.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::time::Duration;
use std::time::Instant;

use system_tests::session::End;
use system_tests::session::InProcess;
use system_tests::session::Session;
use worm_fs::clock::DAY_MS;
use worm_fs::clock::HOUR_MS;
use worm_fs::record::Digest;
use worm_fs::record::Event;
use worm_fs::record::Line;
use worm_fs::record::Snapshot;
use worm_fs::store::Access;
use worm_fs::store::Store;
use worm_fs::verify::Progress;
use worm_fs::verify::verify;

/// Short enough that a few files fill a segment.
const SEGMENT_BYTES: u64 = 4096;
/// No wait is longer than this; what it waits for takes milliseconds.
const PATIENCE: Duration = Duration::from_secs(60);

fn problems(worm: &dyn Session) -> Vec<String> {
    let report = verify(&worm.ground().store(), 2, &Progress::default()).unwrap();
    report.problems.iter().map(|problem| format!("{}: {}", problem.path, problem.what)).collect()
}

fn ledger(worm: &dyn Session) -> PathBuf {
    worm.ground().store().join("ledger")
}

fn snapshot(worm: &dyn Session, number: u64) -> PathBuf {
    worm.ground().store().join(format!("snapshot/{number:06}"))
}

/// The segments of the ledger, oldest first.
fn segments(worm: &dyn Session) -> Vec<PathBuf> {
    let named = (1..).map(|number| ledger(worm).join(format!("{number:06}.jsonl")));
    named.take_while(|segment| segment.exists()).collect()
}

fn lines(worm: &dyn Session) -> Vec<Line> {
    let texts = segments(worm).into_iter().map(|segment| std::fs::read_to_string(segment).unwrap());
    let text: String = texts.collect();
    text.lines().map(|line| Line::decode(line.as_bytes()).unwrap()).collect()
}

/// The snapshots that the ledger records, oldest first.
fn records(worm: &dyn Session) -> Vec<Snapshot> {
    let recorded = lines(worm).into_iter().filter_map(|line| match line.event {
        Event::Snapshot(snapshot) => Some(snapshot),
        _ => None,
    });
    recorded.collect()
}

#[track_caller]
fn wait(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < deadline, "{what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Replaces the bytes of a file in place.
fn rewrite(path: &std::path::Path, bytes: &[u8]) {
    let file = File::options().write(true).create(true).truncate(true).open(path).unwrap();
    file.write_all_at(bytes, 0).unwrap();
}

/// What a file looks like to those who ask: attributes and bytes.
fn look(worm: &dyn Session, name: &[u8]) -> (String, String, Vec<u8>) {
    let ask = |attribute| worm.worm(name, attribute).unwrap();
    (ask("retain_until"), ask("sha256"), worm.get(name).unwrap())
}

/// A store that nobody serves: short segments, at least two of them with a snapshot, groups, a
/// hold, a directory, files that expired, and files that live.
fn store() -> InProcess {
    let session = InProcess::default();
    let worm: &dyn Session = &session;
    worm.ground().segment_bytes.store(SEGMENT_BYTES, Ordering::Relaxed);
    worm.restart(End::Clean);
    worm.mkdir(b"daily/dir", 0o750).unwrap();
    for name in [&b"daily/a"[..], b"daily/a.sha256", b"daily/a.manifest.json", b"daily/dir/b"] {
        worm.put(name, name);
    }
    let mut number = 0;
    let mut fill = |until: usize| {
        let deadline = Instant::now() + PATIENCE;
        while records(worm).len() < until {
            assert!(Instant::now() < deadline, "no snapshot {until} was made");
            worm.put(format!("guest/{number}").as_bytes(), b"short");
            number += 1;
        }
    };
    fill(1);
    worm.clock().advance(49 * HOUR_MS);
    while worm.housekeep() > 0 {}
    fill(2);
    worm.put(b"daily/last", b"last");
    worm.stop(End::Clean);
    assert_eq!(problems(worm), [""; 0]);
    session
}

/// The names that every store of [`store`] holds to its end.
const KEPT: [&[u8]; 5] =
    [b"daily/a", b"daily/a.sha256", b"daily/a.manifest.json", b"daily/dir/b", b"daily/last"];

#[test]
fn a_snapshot_is_recorded_after_the_segment_that_it_ends() {
    let session = store();
    let worm: &dyn Session = &session;
    let (mut last, mut ended) = ((0, Digest::ZERO), Vec::new());
    for segment in segments(worm) {
        let text = std::fs::read_to_string(segment).unwrap();
        for line in text.split_inclusive('\n') {
            let read = Line::decode(line.as_bytes()).unwrap();
            assert_eq!((read.seq - 1, read.prev), last, "the chain goes on");
            last = (read.seq, Digest::of(line.as_bytes()));
        }
        ended.push((last, text.len() as u64));
    }
    let records = records(worm);
    let newest = records.last().unwrap().number;
    for Snapshot { number, up_to, sha256, bytes } in records {
        let ((ends, digest), length) = ended[usize::try_from(number).unwrap() - 1];
        assert!(length > SEGMENT_BYTES, "segment {number} ended early: {length}");
        assert_eq!(up_to, ends);
        if number < newest {
            assert!(!snapshot(worm, number).exists(), "no start needs {number}");
            continue;
        }
        let written = std::fs::read(snapshot(worm, number)).unwrap();
        assert_eq!((Digest::of(&written), written.len() as u64), (sha256, bytes));
        let first: serde_json::Value =
            serde_json::from_str(std::str::from_utf8(&written).unwrap().lines().next().unwrap())
                .unwrap();
        assert_eq!(first["snapshot"]["head"], digest.to_string());
    }
    // The same lines, read from the first on, amount to the same.
    let load = |access| Store::open(&worm.ground().store(), access).unwrap().1;
    let (quick, whole) = (load(Access::Look), load(Access::Check));
    assert_eq!((quick.from, whole.from), (Some(newest), None));
    assert_eq!(quick.catalog, whole.catalog);
}

#[test]
fn a_start_reads_no_more_than_what_follows_the_newest_snapshot() {
    let session = store();
    let worm: &dyn Session = &session;
    let newest = records(worm).last().unwrap().number;
    worm.start().unwrap();
    let before = KEPT.map(|name| look(worm, name));
    worm.stop(End::Clean);
    let newest = records(worm).last().unwrap().number.max(newest);
    for old in &segments(worm)[..usize::try_from(newest).unwrap()] {
        rewrite(old, b"nobody reads this\n");
    }
    worm.start().unwrap();
    assert_eq!(worm.fs().alarms(), [""; 0]);
    assert_eq!(KEPT.map(|name| look(worm, name)), before);
    worm.put(b"daily/more", b"it goes on");
    // What is over goes, and what is not stays.
    worm.clock().advance(8 * DAY_MS);
    while worm.housekeep() > 0 {}
    assert!(worm.get(b"daily/last").is_err());
    worm.stop(End::Clean);
    let found = problems(worm);
    assert!(found.iter().any(|line| line.contains("000001.jsonl line 1")), "{found:?}");
}

#[test]
fn a_snapshot_that_is_not_what_it_was_is_found_passed_over_and_made_again() {
    type Damage = fn(&mut Vec<u8>);
    let damages: [(&str, Damage); 5] = [
        ("a changed byte", |bytes| {
            let at = bytes.len() / 2;
            bytes[at] ^= 1;
        }),
        ("another retention", |bytes| {
            let text = String::from_utf8(bytes.clone()).unwrap();
            let at = text.find("\"retain_until_ms\":").unwrap() + 18;
            bytes[at] = b'0';
        }),
        ("cut off", |bytes| bytes.truncate(bytes.len() / 2)),
        ("a line less", |bytes| {
            let end = bytes.len() - 1;
            let last = bytes[..end].iter().rposition(|byte| *byte == b'\n').unwrap();
            bytes.truncate(last + 1);
        }),
        ("emptied", Vec::clear),
    ];
    let session = store();
    let worm: &dyn Session = &session;
    worm.start().unwrap();
    let before = KEPT.map(|name| look(worm, name));
    worm.stop(End::Clean);
    for (what, damage) in damages {
        let (number, whole) = {
            let number = records(worm).last().unwrap().number;
            (number, std::fs::read(snapshot(worm, number)).unwrap())
        };
        let mut bytes = whole.clone();
        damage(&mut bytes);
        assert_ne!(bytes, whole, "{what}");
        rewrite(&snapshot(worm, number), &bytes);
        check_passed_over(worm, what, number, &before, &whole);
    }
    let number = records(worm).last().unwrap().number;
    let whole = std::fs::read(snapshot(worm, number)).unwrap();
    std::fs::remove_file(snapshot(worm, number)).unwrap();
    check_passed_over(worm, "gone", number, &before, &whole);
}

/// As a crash leaves it that came after the newest one was made, whatever else befell it.
#[test]
fn older_snapshots_go_when_a_start_has_read_a_newer_one() {
    let session = store();
    let worm: &dyn Session = &session;
    let newest = records(worm).last().unwrap().number;
    let begun = snapshot(worm, newest).with_extension("new");
    rewrite(&snapshot(worm, 1), b"half of a snapsh");
    rewrite(&begun, b"half of anoth");
    let found = problems(worm);
    assert!(found.len() == 1 && found[0].starts_with("snapshot/000001: "), "{found:?}");
    // Nobody who only looks changes anything.
    assert!(snapshot(worm, 1).exists());
    worm.start().unwrap();
    wait("they are gone", || !snapshot(worm, 1).exists() && !begun.exists());
    assert_eq!(worm.fs().alarms(), [""; 0]);
    worm.stop(End::Clean);
    assert_eq!(problems(worm), [""; 0]);
    // While no newer one can be read, nothing goes.
    let newest = records(worm).last().unwrap().number;
    let whole = std::fs::read(snapshot(worm, newest)).unwrap();
    std::fs::remove_file(snapshot(worm, newest)).unwrap();
    rewrite(&snapshot(worm, 1), b"half of a snapsh");
    worm.start().unwrap();
    wait("it is made again", || {
        std::fs::read(snapshot(worm, newest)).is_ok_and(|bytes| bytes == whole)
            && !snapshot(worm, 1).exists()
    });
}

#[track_caller]
fn check_passed_over(
    worm: &dyn Session,
    what: &str,
    number: u64,
    before: &[(String, String, Vec<u8>)],
    whole: &[u8],
) {
    let name = format!("snapshot/{number:06}: ");
    let found = problems(worm);
    assert!(found.len() == 1 && found[0].starts_with(&name), "{what}: {found:?}");
    worm.start().unwrap();
    let alarms = worm.fs().alarms();
    assert!(alarms.iter().any(|alarm| alarm.starts_with(&name)), "{what}: {alarms:?}");
    let now = KEPT.map(|name| look(worm, name));
    assert_eq!(now, before, "{what}");
    let path = snapshot(worm, number);
    // Or that of a segment that has ended since takes its place.
    wait("the snapshot is made again", || {
        std::fs::read(&path).is_ok_and(|read| read == whole)
            || records(worm).last().is_some_and(|record| record.number > number && !path.exists())
    });
    worm.stop(End::Clean);
    assert_eq!(problems(worm), [""; 0], "{what}");
    worm.start().unwrap();
    assert_eq!(worm.fs().alarms(), [""; 0], "{what}");
    worm.stop(End::Clean);
}

/// Makes a snapshot in which everything is over, and a chained record of it, as somebody can who
/// reaches the store and has no key.
fn forge(worm: &dyn Session) -> (PathBuf, Vec<u8>) {
    let record = records(worm).last().unwrap().clone();
    let path = snapshot(worm, record.number);
    let text = std::fs::read_to_string(&path).unwrap();
    let shorten = |line: &str| match line.find("\"retain_until_ms\":") {
        Some(at) => {
            let (start, rest) = line.split_at(at + 18);
            format!("{start}1{}\n", rest.trim_start_matches(|c: char| c.is_ascii_digit()))
        }
        None => format!("{line}\n"),
    };
    let forged: String = text.lines().map(shorten).collect();
    rewrite(&path, forged.as_bytes());
    let segment = segments(worm).pop().unwrap();
    let mut bytes = std::fs::read(&segment).unwrap();
    let last = bytes.split_inclusive(|byte| *byte == b'\n').next_back().unwrap().to_vec();
    let mut line = Line::decode(&last).unwrap();
    (line.seq, line.prev) = (line.seq + 1, Digest::of(&last));
    let (sha256, length) = (Digest::of(forged.as_bytes()), forged.len() as u64);
    line.event = Event::Snapshot(Snapshot { sha256, bytes: length, ..record });
    bytes.extend(line.encode().unwrap());
    rewrite(&segment, &bytes);
    (path, forged.into_bytes())
}

#[test]
fn a_forged_snapshot_is_not_believed_and_no_start_signs_for_it() {
    let session = store();
    let worm: &dyn Session = &session;
    worm.start().unwrap();
    let before = KEPT.map(|name| look(worm, name));
    worm.stop(End::Clean);
    let (path, forged) = forge(worm);
    worm.start().unwrap();
    assert!(!worm.fs().alarms().is_empty(), "the one that was recorded is not there");
    assert_eq!(KEPT.map(|name| look(worm, name)), before);
    worm.stop(End::Clean);
    // Put there once more, after a daemon has taken up and signed what it found.
    rewrite(&path, &forged);
    worm.start().unwrap();
    assert_eq!(KEPT.map(|name| look(worm, name)), before);
    assert_eq!(worm.housekeep(), 0, "nothing is over");
}

#[test]
fn a_segment_without_lines_is_what_a_crash_may_leave() {
    for torn in [&b""[..], b"{\"seq\":99,\"prev\":\"00"] {
        let session = InProcess::default();
        let worm: &dyn Session = &session;
        worm.put(b"hourly/a", b"a");
        worm.stop(End::Clean);
        let first = segments(worm).pop().unwrap();
        let whole = std::fs::read(&first).unwrap();
        rewrite(&first, &[&whole, torn].concat());
        rewrite(&ledger(worm).join("000002.jsonl"), b"");
        // Written and never recorded: worth nothing, and no harm.
        rewrite(&snapshot(worm, 1), b"half of a snapsh");
        rewrite(&snapshot(worm, 1).with_extension("new"), b"half of anoth");
        assert_eq!(problems(worm), [""; 0]);
        worm.ground().segment_bytes.store(1, Ordering::Relaxed);
        worm.start().unwrap();
        worm.put(b"hourly/b", b"b");
        wait("a snapshot is made", || {
            worm.put(format!("hourly/{}", lines(worm).len()).as_bytes(), b"more");
            !records(worm).is_empty()
        });
        worm.stop(End::Clean);
        assert!(std::fs::read(&first).unwrap().starts_with(&whole), "nothing was lost");
        assert_eq!(problems(worm), [""; 0]);
        worm.start().unwrap();
        for name in [b"hourly/a", b"hourly/b"] {
            assert_eq!(worm.get(name).unwrap(), name[7..]);
        }
    }
}

/// A line that is torn where another segment goes on was not torn by a crash.
#[test]
fn a_torn_line_in_the_middle_is_damage() {
    let session = store();
    let worm: &dyn Session = &session;
    let old = &segments(worm)[0];
    let whole = std::fs::read(old).unwrap();
    rewrite(old, &whole[..whole.len() - 5]);
    let found = problems(worm);
    // Which file the line was about nobody knows any more.
    let [line, file] = &found[..] else { panic!("{found:?}") };
    assert!(line.contains("ends without a newline") && file.contains("lost lines"), "{found:?}");
}

/// A crash came between the end of the segment and its snapshot, or the disk was full.
#[test]
fn a_snapshot_that_was_never_made_is_made_at_the_next_start() {
    let session = InProcess::default();
    let worm: &dyn Session = &session;
    worm.stop(End::Clean);
    // Nothing can be written where a snapshot is written first.
    let in_the_way: Vec<_> =
        (1..50).map(|number| snapshot(worm, number).with_extension("new")).collect();
    for path in &in_the_way {
        std::fs::create_dir(path).unwrap();
    }
    worm.ground().segment_bytes.store(1, Ordering::Relaxed);
    worm.start().unwrap();
    worm.put(b"hourly/a", b"a");
    worm.put(b"hourly/b", b"b");
    wait("an alarm", || worm.fs().alarms().iter().any(|alarm| alarm.contains("snapshot")));
    worm.stop(End::Clean);
    assert!(records(worm).is_empty());
    for path in &in_the_way {
        std::fs::remove_dir(path).unwrap();
    }
    worm.ground().segment_bytes.store(SEGMENT_BYTES, Ordering::Relaxed);
    let ended = segments(worm).len() as u64 - 1;
    worm.start().unwrap();
    wait("it is made", || records(worm).iter().any(|record| record.number == ended));
    assert_eq!(worm.fs().alarms(), [""; 0]);
    worm.stop(End::Clean);
    assert_eq!(problems(worm), [""; 0]);
}

#[test]
fn an_older_version_s_store_without_snapshots_gets_them() {
    let session = InProcess::default();
    let worm: &dyn Session = &session;
    worm.put(b"hourly/a", b"a");
    worm.stop(End::Clean);
    std::fs::remove_dir(worm.ground().store().join("snapshot")).unwrap();
    assert_eq!(problems(worm), [""; 0]);
    worm.ground().segment_bytes.store(1, Ordering::Relaxed);
    worm.start().unwrap();
    worm.put(b"hourly/b", b"b");
    wait("a snapshot is made", || !records(worm).is_empty());
    assert_eq!(worm.get(b"hourly/a").unwrap(), b"a");
}
