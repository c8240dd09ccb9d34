//! Promise 16: The store is verifiable by hand, and any change behind its back is found.

use std::fs::File;
use std::io::Read as _;
use std::io::Seek as _;
use std::io::Write as _;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::path::PathBuf;

use rustix::io::Errno;
use system_tests::session::End;
use system_tests::session::InProcess;
use system_tests::session::Session;
use system_tests::worm_test;
use worm_fs::policy::name::StorePath;
use worm_fs::record::Actor;
use worm_fs::record::Digest;
use worm_fs::record::Event;
use worm_fs::record::Line;
use worm_fs::store::OpenError;
use worm_fs::verify::Progress;
use worm_fs::verify::Report;
use worm_fs::verify::verify;

fn check(worm: &dyn Session) -> Result<Report, OpenError> {
    verify(&worm.ground().store(), 2, &Progress::default())
}

/// What a check finds, one line each.
#[track_caller]
fn problems(worm: &dyn Session) -> Vec<String> {
    let report = check(worm).unwrap();
    report.problems.iter().map(|problem| format!("{}: {}", problem.path, problem.what)).collect()
}

/// A store with some files in it, that nobody serves.
fn store() -> InProcess {
    let session = InProcess::default();
    let worm: &dyn Session = &session;
    worm.mkdir(b"hourly/dir", 0o755).unwrap();
    for name in [&b"hourly/a"[..], b"hourly/b", b"hourly/dir/c", b"daily/odd \xff%\n"] {
        worm.put(name, name);
    }
    worm.stop(End::Clean);
    assert_eq!(problems(worm), [""; 0]);
    session
}

fn ledger(worm: &dyn Session) -> PathBuf {
    worm.ground().store().join("ledger/000001.jsonl")
}

/// Replaces the bytes of a file in place.
fn rewrite(path: &Path, bytes: &[u8]) {
    let file = File::options().write(true).open(path).unwrap();
    file.set_len(0).unwrap();
    file.write_all_at(bytes, 0).unwrap();
}

/// Changes the ledger line by line.
fn edit(worm: &dyn Session, change: impl FnOnce(&mut Vec<String>)) {
    let path = ledger(worm);
    let text = std::fs::read_to_string(&path).unwrap();
    let mut lines: Vec<String> = text.lines().map(|line| format!("{line}\n")).collect();
    change(&mut lines);
    rewrite(&path, lines.concat().as_bytes());
}

/// That a check finds exactly one thing, which says all of `words`, and that nobody serves the
/// store where the ledger cannot be believed.
#[track_caller]
fn check_found(worm: &dyn Session, words: &[&str]) {
    let found = problems(worm);
    assert_eq!(found.len(), 1, "{found:?}");
    for word in words {
        assert!(found[0].contains(word), "{found:?} does not say {word:?}");
    }
}

#[track_caller]
fn check_not_served(worm: &dyn Session) {
    let refused = worm.start().unwrap_err();
    assert!(matches!(refused, OpenError::Damaged { .. }), "{refused}");
    let said = refused.to_string();
    assert!(said.contains("worm verify") && !said.contains('\n'), "{said}");
}

worm_test!(a_store_that_was_used_in_every_way_is_right, |worm| {
    worm.put(b"guest/x", b"expires");
    worm.put(b"daily/x", b"stays");
    worm.put(b"daily/empty", b"");
    worm.mkdir(b"hourly/dir", 0o755).unwrap();
    worm.rmdir(b"hourly/dir").unwrap();
    worm.clock().advance(48 * 3_600_000);
    let half = worm.create(b"hourly/half").unwrap();
    worm.write(half, b"half").unwrap();
    assert_eq!(worm.housekeep(), 1);
    // Also while it is served, with a file open in it.
    let report = check(worm).unwrap();
    assert_eq!((report.files, report.open, report.problems.len()), (2, 1, 0), "{report:?}");
    assert_eq!(report.lines, report.signed);
    worm.stop(End::Crash);
    assert_eq!(problems(worm), [""; 0]);
    worm.start().unwrap();
    let report = check(worm).unwrap();
    assert_eq!((report.files, report.incomplete, report.open), (2, 1, 0), "{report:?}");
    assert_eq!((report.bytes, report.problems.len()), (5, 0), "{report:?}");
});

#[test]
fn the_ledger_can_be_checked_by_hand() {
    let session = store();
    let worm: &dyn Session = &session;
    let mut before = Digest::ZERO.to_string();
    let ledger = std::fs::read(ledger(worm)).unwrap();
    for (line, number) in ledger.split_inclusive(|byte| *byte == b'\n').zip(1..) {
        let read: serde_json::Value = serde_json::from_slice(line).unwrap();
        assert_eq!(read["prev"], before, "line {number}");
        assert_eq!(read["seq"], number);
        before = Digest::of(line).to_string();
        if read["event"] == "sealed" {
            let path = read["path"].as_str().unwrap();
            let plain = path.replace("%FF", "\u{fffd}").replace("%25", "%").replace("%0A", "\n");
            let odd = plain.contains('\u{fffd}');
            let name = if odd { &b"daily/odd \xff%\n"[..] } else { plain.as_bytes() };
            let data = std::fs::read(worm.ground().data(name)).unwrap();
            assert_eq!(read["sha256"], Digest::of(&data).to_string(), "{path}");
        }
    }
    // The signed head names the last line.
    let head = std::fs::read_to_string(worm.ground().store().join("head")).unwrap();
    assert!(head.contains(&before), "{head}");
}

#[test]
fn a_changed_byte_is_found() {
    let session = store();
    let worm: &dyn Session = &session;
    let file = File::options().write(true).open(worm.ground().data(b"hourly/a")).unwrap();
    file.write_all_at(b"H", 0).unwrap();
    check_found(worm, &["hourly/a", "changed"]);
}

#[test]
fn a_missing_file_is_found() {
    let session = store();
    let worm: &dyn Session = &session;
    std::fs::remove_file(worm.ground().data(b"hourly/dir/c")).unwrap();
    check_found(worm, &["hourly/dir/c", "gone"]);
}

#[test]
fn an_added_file_is_found() {
    let session = store();
    let worm: &dyn Session = &session;
    rewrite_new(&worm.ground().data(b"hourly/dir/added"), b"x");
    check_found(worm, &["hourly/dir/added", "added"]);
}

#[test]
fn what_is_in_an_added_directory_and_an_added_link_are_found() {
    let session = store();
    let worm: &dyn Session = &session;
    // An empty one is what a crash leaves.
    std::fs::create_dir(worm.ground().data(b"hourly/added")).unwrap();
    assert_eq!(problems(worm), [""; 0]);
    rewrite_new(&worm.ground().data(b"hourly/added/x"), b"x");
    check_found(worm, &["hourly/added/x", "added"]);
    std::fs::remove_dir_all(worm.ground().data(b"hourly/added")).unwrap();
    std::fs::remove_file(worm.ground().data(b"hourly/a")).unwrap();
    std::os::unix::fs::symlink("b", worm.ground().data(b"hourly/a")).unwrap();
    let found = problems(worm);
    assert!(found.iter().any(|line| line.contains("neither a file nor")), "{found:?}");
}

fn rewrite_new(path: &Path, bytes: &[u8]) {
    File::create_new(path).unwrap().write_all(bytes).unwrap();
}

#[test]
fn a_renamed_file_is_found() {
    let session = store();
    let worm: &dyn Session = &session;
    rustix::fs::rename(worm.ground().data(b"hourly/a"), worm.ground().data(b"hourly/z")).unwrap();
    let found = problems(worm);
    assert_eq!(found.len(), 2, "{found:?}");
    assert!(found[0].contains("hourly/a") && found[0].contains("gone"), "{found:?}");
    assert!(found[1].contains("hourly/z") && found[1].contains("added"), "{found:?}");
}

#[test]
fn two_exchanged_files_are_found() {
    let session = store();
    let worm: &dyn Session = &session;
    let (a, b) = (worm.ground().data(b"hourly/a"), worm.ground().data(b"hourly/b"));
    let exchange = rustix::fs::RenameFlags::EXCHANGE;
    rustix::fs::renameat_with(rustix::fs::CWD, &a, rustix::fs::CWD, &b, exchange).unwrap();
    assert_eq!(problems(worm).len(), 2);
}

#[test]
fn a_truncated_and_a_lengthened_file_are_found() {
    for size in [3, 99] {
        let session = store();
        let worm: &dyn Session = &session;
        let file = File::options().write(true).open(worm.ground().data(b"hourly/a")).unwrap();
        file.set_len(size).unwrap();
        check_found(worm, &["hourly/a", &format!("{size} bytes, not 8")]);
    }
}

/// As a crash may leave it.
#[test]
fn a_missing_directory_is_made_again() {
    let session = InProcess::default();
    let worm: &dyn Session = &session;
    worm.mkdir(b"hourly/dir", 0o755).unwrap();
    worm.stop(End::Clean);
    std::fs::remove_dir(worm.ground().data(b"hourly/dir")).unwrap();
    worm.start().unwrap();
    worm.put(b"hourly/dir/x", b"bytes");
    assert_eq!(problems(worm), [""; 0]);
}

/// Found when the comparison with what happened meanwhile dropped all recorded names.
#[test]
fn regression_a_file_in_the_place_of_an_empty_directory_is_found() {
    let session = InProcess::default();
    let worm: &dyn Session = &session;
    worm.mkdir(b"hourly/dir", 0o755).unwrap();
    worm.stop(End::Clean);
    std::fs::remove_dir(worm.ground().data(b"hourly/dir")).unwrap();
    rewrite_new(&worm.ground().data(b"hourly/dir"), b"x");
    check_found(worm, &["hourly/dir", "it is a file, not a directory"]);
}

#[test]
fn every_edited_ledger_line_is_found() {
    let lines = {
        let session = store();
        std::fs::read_to_string(ledger(&session)).unwrap().lines().count()
    };
    for line in 0..lines {
        let session = store();
        let worm: &dyn Session = &session;
        edit(worm, |lines| {
            let at = lines[line].find("\"time\":\"2").unwrap() + 8;
            lines[line].replace_range(at..=at, "3");
        });
        assert!(!problems(worm).is_empty(), "line {}", line + 1);
        check_not_served(worm);
    }
}

#[test]
fn a_dropped_ledger_line_is_found() {
    let session = store();
    let worm: &dyn Session = &session;
    edit(worm, |lines| drop(lines.remove(lines.len() - 3)));
    check_found(worm, &["does not name the line before"]);
    check_not_served(worm);
}

#[test]
fn reordered_ledger_lines_are_found() {
    let session = store();
    let worm: &dyn Session = &session;
    edit(worm, |lines| lines.swap(6, 7));
    check_found(worm, &["line 7"]);
    check_not_served(worm);
}

#[test]
fn a_ledger_without_its_last_lines_is_found() {
    for dropped in [1, 3] {
        let session = store();
        let worm: &dyn Session = &session;
        edit(worm, |lines| lines.truncate(lines.len() - dropped));
        check_found(worm, &["was signed"]);
        check_not_served(worm);
    }
}

#[test]
fn a_signed_line_without_its_end_is_found_and_not_taken_for_torn() {
    let session = store();
    let worm: &dyn Session = &session;
    let file = File::options().write(true).open(ledger(worm)).unwrap();
    file.set_len(file.metadata().unwrap().len() - 1).unwrap();
    check_found(worm, &["was signed"]);
    check_not_served(worm);
}

/// All lines from one on, with a right chain: only the signature tells.
#[test]
fn a_rewritten_chain_is_found_by_the_signed_head() {
    let session = store();
    let worm: &dyn Session = &session;
    edit(worm, |lines| {
        let sealed = lines.iter().position(|line| line.contains("\"sealed\"")).unwrap();
        lines[sealed] = lines[sealed].replacen("\"mode\":420", "\"mode\":511", 1);
        for at in sealed + 1..lines.len() {
            let before = Digest::of(lines[at - 1].as_bytes()).to_string();
            let prev = lines[at].find("\"prev\":\"").unwrap() + 8;
            lines[at].replace_range(prev..prev + 64, &before);
        }
    });
    check_found(worm, &["not the one that was signed"]);
    check_not_served(worm);
}

#[test]
fn a_head_with_a_wrong_signature_is_found() {
    let session = store();
    let worm: &dyn Session = &session;
    let path = worm.ground().store().join("head");
    let head = std::fs::read_to_string(&path).unwrap();
    let (text, signature) = head.split_at(head.find('\u{2014}').unwrap());
    // A character of the signature itself, not of the key's name before it.
    let (mut forged, at) = (signature.to_owned(), signature.trim_end().len() - 10);
    forged.replace_range(at..=at, if forged[at..].starts_with('A') { "B" } else { "A" });
    let other = {
        let session = store();
        std::fs::read_to_string(session.ground().store().join("head")).unwrap()
    };
    for wrong in [
        [&text.replacen("\n", "\n ", 1), signature].concat(),
        [text, &forged].concat(),
        text.to_owned(),
        other,
        String::new(),
    ] {
        rewrite(&path, wrong.as_bytes());
        check_found(worm, &["head"]);
        check_not_served(worm);
    }
    rewrite(&path, head.as_bytes());
    assert_eq!(problems(worm), [""; 0]);
}

#[test]
fn a_missing_head_ledger_or_store_json_is_found() {
    for name in ["head", "ledger/000001.jsonl", "data", "open"] {
        let session = store();
        let worm: &dyn Session = &session;
        let path = worm.ground().store().join(name);
        rustix::fs::rename(&path, path.with_extension("away")).unwrap();
        assert!(!problems(worm).is_empty(), "{name}");
        check_not_served(worm);
    }
    let session = store();
    let worm: &dyn Session = &session;
    std::fs::remove_file(worm.ground().store().join("store.json")).unwrap();
    assert!(matches!(check(worm), Err(OpenError::NotAStore(_))));
}

#[test]
fn a_store_from_a_newer_version_says_so() {
    let session = store();
    let worm: &dyn Session = &session;
    edit(worm, |lines| {
        let last = lines.last().unwrap();
        let seq = lines.len() + 1;
        let prev = Digest::of(last.as_bytes());
        lines.push(format!(
            "{{\"seq\":{seq},\"prev\":\"{prev}\",\"clock_ms\":0,\"time\":\"\",\"event\":\"teleported\"}}\n"
        ));
    });
    for refused in [check(worm).unwrap_err(), worm.start().unwrap_err()] {
        assert!(matches!(refused, OpenError::Newer { .. }), "{refused}");
        assert!(refused.to_string().contains("newer version"), "{refused}");
    }

    let session = store();
    let worm: &dyn Session = &session;
    let path = worm.ground().store().join("store.json");
    let json = std::fs::read_to_string(&path).unwrap().replace("\"format\":1", "\"format\":2");
    rewrite(&path, json.as_bytes());
    let refused = worm.start().unwrap_err();
    assert!(matches!(refused, OpenError::Newer { .. }), "{refused}");
}

#[test]
fn a_torn_last_line_is_cut_and_kept_aside_and_nothing_acknowledged_is_lost() {
    let torn = b"{\"seq\":99,\"prev\":\"00";
    let session = store();
    let worm: &dyn Session = &session;
    let mut file = File::options().append(true).read(true).open(ledger(worm)).unwrap();
    let whole = file.metadata().unwrap().len();
    file.write_all(torn).unwrap();
    assert_eq!(problems(worm), [""; 0], "a crash may leave this");
    worm.start().unwrap();
    for name in [&b"hourly/a"[..], b"hourly/b", b"hourly/dir/c", b"daily/odd \xff%\n"] {
        assert_eq!(worm.get(name).unwrap(), name);
    }
    let kept: Vec<_> = std::fs::read_dir(worm.ground().store().join("ledger"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.to_string_lossy().contains("torn"))
        .collect();
    assert_eq!(kept.len(), 1, "{kept:?}");
    assert_eq!(std::fs::read(&kept[0]).unwrap(), torn);
    let mut after = vec![0; 8];
    file.seek(std::io::SeekFrom::Start(whole)).unwrap();
    file.read_exact(&mut after).unwrap();
    assert_eq!(after, b"{\"seq\":1", "the next line follows the last whole one");
    worm.put(b"hourly/after", b"goes on");
    worm.stop(End::Crash);
    assert_eq!(problems(worm), [""; 0]);
    worm.start().unwrap();
    assert_eq!(worm.get(b"hourly/after").unwrap(), b"goes on");
}

/// Lines that were written and not signed: their makers were told nothing.
#[test]
fn whole_lines_beyond_the_signed_head_are_kept() {
    let session = InProcess::default();
    let worm: &dyn Session = &session;
    worm.put(b"hourly/a", b"a");
    let head = std::fs::read(worm.ground().store().join("head")).unwrap();
    worm.put(b"hourly/b", b"b");
    worm.stop(End::Crash);
    rewrite(&worm.ground().store().join("head"), &head);
    let report = check(worm).unwrap();
    let [problem] = &report.problems[..] else { panic!("{report:?}") };
    assert!(report.signed < report.lines && problem.what.contains("not signed"), "{report:?}");
    worm.start().unwrap();
    assert_eq!(worm.get(b"hourly/b").unwrap(), b"b");
    assert_eq!(worm.create(b"hourly/b"), Err(Errno::EXIST));
    let report = check(worm).unwrap();
    assert!(report.signed == report.lines && report.problems.is_empty(), "{report:?}");
}

/// Found by trying it: a chained line without a signature made everything expire.
#[test]
fn regression_an_unsigned_line_cannot_move_the_clock() {
    let session = InProcess::default();
    let worm: &dyn Session = &session;
    worm.put(b"hourly/a", b"a");
    worm.stop(End::Clean);
    let segment = worm.ground().store().join("ledger/000001.jsonl");
    let mut ledger = std::fs::read(&segment).unwrap();
    let last = ledger.split_inclusive(|byte| *byte == b'\n').next_back().unwrap();
    let mut forged = worm_fs::record::Line::decode(last).unwrap();
    forged.prev = worm_fs::record::Digest::of(last);
    forged.seq += 1;
    forged.clock_ms += 365 * worm_fs::clock::DAY_MS;
    ledger.extend(forged.encode().unwrap());
    rewrite(&segment, &ledger);

    let report = check(worm).unwrap();
    assert!(report.problems.iter().any(|problem| problem.what.contains("not signed")));
    let refused = worm.start().unwrap_err();
    assert!(matches!(&refused, OpenError::Damaged { what, .. } if what.contains("has not come")));
}

/// Found by thinking: lines beyond the head are taken up by a start, which then signs them.
#[test]
fn regression_an_unsigned_line_lifts_no_hold() {
    let session = InProcess::default();
    let worm: &dyn Session = &session;
    worm.put(b"guest/a", b"a");
    let (path, by) = (StorePath::decode("guest/a").unwrap(), Actor { uid: 0, login_uid: None });
    worm.fs().hold(by, &path, "court", "case 12").unwrap();
    worm.stop(End::Clean);
    let segment = ledger(worm);
    let mut bytes = std::fs::read(&segment).unwrap();
    let lines: Vec<_> = bytes.split_inclusive(|byte| *byte == b'\n').collect();
    let mut forged = Line::decode(lines[lines.len() - 1]).unwrap();
    (forged.seq, forged.prev) = (forged.seq + 1, Digest::of(lines[lines.len() - 1]));
    let id = lines.iter().find_map(|line| match Line::decode(line).unwrap().event {
        Event::Held { id, .. } => Some(id),
        _ => None,
    });
    let (hold, reason) = ("court".to_owned(), "over".to_owned());
    forged.event = Event::HoldLifted { id: id.unwrap(), path, hold, reason, by };
    bytes.extend(forged.encode().unwrap());
    rewrite(&segment, &bytes);
    check_found(worm, &["not signed"]);
    worm.start().unwrap();
    assert_eq!(worm.worm(b"guest/a", "holds").unwrap(), "court");
}

#[test]
fn a_store_is_not_served_with_another_key() {
    let session = store();
    let worm: &dyn Session = &session;
    let other = store();
    let key = std::fs::read(other.ground().key()).unwrap();
    rewrite(&worm.ground().key(), &key);
    let refused = worm.start().unwrap_err();
    assert!(matches!(refused, OpenError::Key { .. }), "{refused}");
}
