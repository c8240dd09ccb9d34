//! Promise 16: The store is verifiable by hand, and any change behind its back is found.

mod carried;
mod ledger;
mod witness;

pub(crate) use witness::rewrite_as;

use std::fs::File;
use std::io::Write as _;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::path::PathBuf;

use rustix::io::Errno;
use system_tests::session::End;
use system_tests::session::InProcess;
use system_tests::session::Session;
use system_tests::worm_test;
use worm_fs::record::Digest;
use worm_fs::store::OpenError;
use worm_fs::verify::Kind;
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

/// What a check finds, and in which way it is wrong.
#[track_caller]
fn check_kinds(worm: &dyn Session, expected: &[(&str, Kind)]) {
    let report = check(worm).unwrap();
    let found: Vec<_> = report.problems.iter().map(|p| (p.path.as_str(), p.kind)).collect();
    assert_eq!(found, expected, "{report:?}");
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
    check_found(worm, &["hourly/dir/c", "missing"]);
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
fn a_renamed_file_is_named_with_both_names() {
    let session = store();
    let worm: &dyn Session = &session;
    let data = |path: &[u8]| worm.ground().data(path);
    rustix::fs::rename(data(b"hourly/a"), data(b"hourly/z")).unwrap();
    check_kinds(worm, &[("hourly/a", Kind::Renamed)]);
    check_found(worm, &["hourly/a", "renamed", "found as hourly/z"]);
    // Over another one, whose bytes are gone then.
    rustix::fs::rename(data(b"hourly/z"), data(b"hourly/b")).unwrap();
    check_kinds(worm, &[("hourly/a", Kind::Renamed), ("hourly/b", Kind::Changed)]);
    assert!(problems(worm)[1].ends_with("they are those of hourly/a"), "{:?}", problems(worm));
}

#[test]
fn a_renamed_directory_is_found_file_by_file() {
    let session = store();
    let worm: &dyn Session = &session;
    let data = |path: &[u8]| worm.ground().data(path);
    rustix::fs::rename(data(b"hourly/dir"), data(b"hourly/moved")).unwrap();
    check_kinds(worm, &[("hourly/dir/c", Kind::Renamed)]);
}

#[test]
fn an_added_file_of_the_same_length_is_no_renamed_one() {
    let session = store();
    let worm: &dyn Session = &session;
    std::fs::remove_file(worm.ground().data(b"hourly/a")).unwrap();
    rewrite_new(&worm.ground().data(b"hourly/z"), b"hourly/A");
    check_kinds(worm, &[("hourly/a", Kind::Missing), ("hourly/z", Kind::Added)]);
}

#[test]
fn two_exchanged_files_are_found() {
    let session = store();
    let worm: &dyn Session = &session;
    let (a, b) = (worm.ground().data(b"hourly/a"), worm.ground().data(b"hourly/b"));
    let exchange = rustix::fs::RenameFlags::EXCHANGE;
    rustix::fs::renameat_with(rustix::fs::CWD, &a, rustix::fs::CWD, &b, exchange).unwrap();
    check_kinds(worm, &[("hourly/a", Kind::Changed), ("hourly/b", Kind::Changed)]);
    for (found, of) in problems(worm).iter().zip(["hourly/b", "hourly/a"]) {
        assert!(found.ends_with(&format!("they are those of {of}")), "{found}");
    }
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
