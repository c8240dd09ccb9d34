//! Damage of the ledger: every line that was dropped, edited, moved, inserted or cut off, and what
//! a crash may leave.

use std::io::Read as _;
use std::io::Seek as _;

use worm_fs::policy::name::StorePath;
use worm_fs::record::Actor;
use worm_fs::record::Event;
use worm_fs::record::Line;
use worm_fs::verify::Problem;

use super::*;

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
    let mut dropped = 0;
    edit(worm, |lines| {
        dropped = lines.len() - 2;
        lines.remove(dropped - 1);
    });
    // The file of which it told is one that nobody recorded now.
    check_kinds(worm, &[("ledger", Kind::LineMissing), ("hourly/dir/c", Kind::Added)]);
    assert!(problems(worm)[0].contains(&format!("line {dropped} is missing")));
    check_not_served(worm);
}

#[test]
fn reordered_ledger_lines_are_found() {
    let session = store();
    let worm: &dyn Session = &session;
    edit(worm, |lines| lines.swap(6, 7));
    check_found(worm, &["000001.jsonl line 7", "line 8 was moved", "after line 6"]);
    check_not_served(worm);
}

#[test]
fn a_ledger_without_its_last_lines_is_found() {
    for dropped in [1, 3] {
        let session = store();
        let worm: &dyn Session = &session;
        edit(worm, |lines| lines.truncate(lines.len() - dropped));
        let lost = [("daily/odd %FF%25%0A", Kind::Added), ("hourly/dir/c", Kind::Added)];
        let files = if dropped == 1 { &[][..] } else { &lost };
        check_kinds(worm, &[&[("ledger", Kind::Truncated)], files].concat());
        assert!(problems(worm)[0].contains("was signed"), "{:?}", problems(worm));
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
    for json in [None, Some("{"), Some("{\"format\":1,\"store\":\"00\",\"key\":\"x\"}")] {
        let session = store();
        let worm: &dyn Session = &session;
        let path = worm.ground().store().join("store.json");
        match json {
            None => std::fs::remove_file(&path).unwrap(),
            Some(json) => rewrite(&path, json.as_bytes()),
        }
        let report = check(worm).unwrap();
        assert_eq!(report.problems[0].path, "store.json", "{report:?}");
        // The files are still compared with the ledger.
        std::fs::remove_file(worm.ground().data(b"hourly/a")).unwrap();
        let report = check(worm).unwrap();
        let is_it = |problem: &Problem| problem.path == "hourly/a" && problem.kind == Kind::Missing;
        assert!(report.problems.iter().any(is_it), "{report:?}");
    }
    let nothing = tempfile::tempdir().unwrap();
    let refused = verify(nothing.path(), 1, &Progress::default());
    assert!(matches!(refused, Err(OpenError::NotAStore(_))));
}

#[test]
fn everything_that_is_wrong_is_named_in_one_run() {
    let session = store();
    let worm: &dyn Session = &session;
    let data = |path: &[u8]| worm.ground().data(path);
    File::options().write(true).open(data(b"hourly/a")).unwrap().write_all_at(b"H", 0).unwrap();
    rustix::fs::rename(data(b"hourly/b"), data(b"hourly/z")).unwrap();
    std::fs::remove_file(data(b"hourly/dir/c")).unwrap();
    rewrite_new(&data(b"daily/added"), b"x");
    rewrite_new(&worm.ground().store().join("open/added"), b"x");
    rewrite_new(&worm.ground().store().join("ledger/added"), b"x");
    edit(worm, |lines| {
        lines[2] = lines[2].replacen("\"time\":\"2", "\"time\":\"3", 1);
        lines[4] = "garbage\n".to_owned();
        lines.insert(6, lines[6].replacen("\"time\":\"2", "\"time\":\"3", 1));
        lines.remove(1);
    });
    check_kinds(
        worm,
        &[
            ("ledger/added", Kind::Added),
            ("ledger/000001.jsonl line 2", Kind::LineChanged),
            ("ledger/000001.jsonl line 4", Kind::LineChanged),
            ("ledger/000001.jsonl line 6", Kind::LineInserted),
            ("ledger", Kind::LineMissing),
            ("daily/added", Kind::Added),
            ("hourly/a", Kind::Changed),
            ("hourly/b", Kind::Renamed),
            ("hourly/dir/c", Kind::Missing),
            ("open/added", Kind::Added),
        ],
    );
    check_not_served(worm);
}

#[test]
fn an_inserted_line_is_found() {
    for copy in [true, false] {
        let session = store();
        let worm: &dyn Session = &session;
        edit(worm, |lines| {
            let forged = lines[6].replacen("\"time\":\"2", "\"time\":\"3", 1);
            let line = if copy { lines[6].clone() } else { forged };
            lines.insert(7, line);
        });
        let name = if copy { "copy of line 7" } else { "second line 7" };
        check_found(worm, &["000001.jsonl line 8", "inserted", name]);
        check_not_served(worm);
    }
}

/// An event that this version does not know, in a line that the next one does not name.
#[test]
fn an_event_that_was_made_unknown_is_a_changed_line() {
    let session = store();
    let worm: &dyn Session = &session;
    edit(worm, |lines| lines[6] = lines[6].replacen("\"event\":\"", "\"event\":\"un", 1));
    let report = check(worm).unwrap();
    assert_eq!(report.problems[0].kind, Kind::LineChanged, "{report:?}");
}

/// Signed and chained, and yet not possible.
#[test]
fn contradictions_are_all_named() {
    let session = store();
    let worm: &dyn Session = &session;
    witness::rewrite_with_key(worm, |lines| {
        let sealed: Vec<_> = lines.iter().filter(|line| is_sealed(line)).cloned().collect();
        lines.extend([sealed[0].clone(), sealed[1].clone()]);
    });
    let report = check(worm).unwrap();
    let kinds: Vec<_> = report.problems.iter().map(|problem| problem.kind).collect();
    assert_eq!(kinds, [Kind::Contradiction; 2], "{report:?}");
    check_not_served(worm);
}

fn is_sealed(line: &Line) -> bool {
    matches!(line.event, Event::Sealed { .. })
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
