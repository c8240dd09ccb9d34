//! `once`: from a plain directory into a mirror.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::time::Duration;
use std::time::SystemTime;

use crate::support::Place;
use crate::support::beside;
use crate::support::expect;
use crate::support::flip_last_byte;
use crate::support::put_backup;
use crate::support::put_digest;

const DUMP: &[u8] = b"SELECT 1;\n";

/// The counts of a summary: copied, already there, failed, mismatched.
fn counts(summary: &str) -> [u64; 4] {
    let summary: serde_json::Value = serde_json::from_str(summary).unwrap();
    ["copied", "already", "failed", "mismatched"].map(|name| summary[name].as_u64().unwrap())
}

fn three_backups(place: &Place) {
    for (class, stamp) in [
        ("daily", "2026-01-18_00-00-00"),
        ("weekly", "2026-01-18_00-00-01"),
        ("hourly", "2026-01-19_01-00-00"),
    ] {
        let _dump = put_backup(&place.path("view").join(class), stamp, stamp.as_bytes(), &[]);
    }
}

#[test]
fn everything_is_copied_once_and_can_be_checked_by_hand() {
    let place = Place::new();
    three_backups(&place);
    let (summary, _) = expect(0, &mut place.once(&[]));
    assert_eq!(counts(&summary), [3, 0, 0, 0]);
    let daily = "daily/2026-01-18/2026-01-18_00-00-00.sql.gz";
    let expected: Vec<String> = [
        daily,
        "hourly/2026-01-19/2026-01-19_01-00-00.sql.gz",
        "weekly/2026-01-18/2026-01-18_00-00-01.sql.gz",
    ]
    .iter()
    .flat_map(|dump| ["", ".manifest.json", ".sha256"].map(|suffix| format!("{dump}{suffix}")))
    .collect();
    assert_eq!(place.mirrored(), expected);
    let copy = place.path("mirror").join(daily);
    assert_eq!(fs::metadata(&copy).unwrap().permissions().mode() & 0o7777, 0o440);
    let check = "sha256sum -c *.sha256";
    let folder = copy.parent().unwrap();
    let _said = expect(0, Command::new("sh").args(["-c", check]).current_dir(folder));
    assert_eq!(place.staged(), 0);
    let events: Vec<String> =
        place.audit_lines().iter().map(|line| line["event"].as_str().unwrap().to_owned()).collect();
    assert_eq!(events, [vec!["copied"; 9], vec!["run"]].concat());

    let (summary, _) = expect(0, &mut place.once(&[]));
    assert_eq!(counts(&summary), [0, 3, 0, 0]);
    assert_eq!(place.audit_lines().len(), 11);
    let (summary, _) = expect(0, &mut place.once(&["--rehash"]));
    assert_eq!(counts(&summary), [0, 3, 0, 0]);
}

#[test]
fn one_class_alone_and_only_one_that_exists() {
    let place = Place::new();
    three_backups(&place);
    let (_, error) = expect(6, &mut place.once(&["--class", "monthly"]));
    assert!(error.contains("no class monthly") && error.contains("daily, hourly, weekly"));
    assert_eq!(place.mirrored().len(), 0);
    let (summary, _) = expect(0, &mut place.once(&["--class", "daily"]));
    assert_eq!(counts(&summary), [1, 0, 0, 0]);
}

#[test]
fn a_damaged_source_is_loud_and_gets_no_name() {
    let place = Place::new();
    three_backups(&place);
    let dump = place.path("view/daily/2026-01-18_00-00-00.sql.gz");
    flip_last_byte(&dump);
    let (summary, error) = expect(9, &mut place.once(&[]));
    assert_eq!(counts(&summary), [2, 0, 0, 1]);
    assert!(error.contains("2026-01-18_00-00-00.sql.gz is damaged"), "{error}");
    assert!(!place.mirrored().iter().any(|name| name.starts_with("daily/")));
    assert_eq!(place.staged(), 0);
    let line = place.audit_lines().into_iter().find(|line| line["event"] == "mismatch").unwrap();
    assert_eq!(line["path"], "daily/2026-01-18_00-00-00.sql.gz");
    flip_last_byte(&dump);
    let (summary, _) = expect(0, &mut place.once(&[]));
    assert_eq!(counts(&summary), [1, 2, 0, 0]);
}

#[test]
fn sidecars_that_disagree_are_a_mismatch() {
    let place = Place::new();
    let dump = put_backup(&place.path("view/daily"), "2026-01-18_00-00-00", DUMP, &[]);
    put_digest(&dump, &"0".repeat(64));
    let (_, error) = expect(9, &mut place.once(&[]));
    assert!(error.contains("its .sha256 file says SHA-256 0000"), "{error}");
    assert_eq!(place.mirrored().len(), 0);
    fs::write(beside(&dump, ".sha256"), "nonsense\n").unwrap();
    let _said = expect(9, &mut place.once(&[]));
    fs::write(beside(&dump, ".manifest.json"), "{}").unwrap();
    let (_, error) = expect(9, &mut place.once(&[]));
    assert!(error.contains("manifest is unusable"), "{error}");
}

#[test]
fn a_name_with_other_bytes_is_never_replaced() {
    let place = Place::new();
    three_backups(&place);
    let taken = place.path("mirror/daily/2026-01-18/2026-01-18_00-00-00.sql.gz");
    fs::create_dir_all(taken.parent().unwrap()).unwrap();
    fs::write(&taken, "something else").unwrap();
    for copied in [2, 0] {
        let (summary, error) = expect(9, &mut place.once(&[]));
        assert_eq!(counts(&summary), [copied, 2 - copied, 0, 1]);
        assert!(error.contains("holds other bytes"), "{error}");
        assert_eq!(fs::read(&taken).unwrap(), b"something else");
    }
}

fn modified(path: &Path) -> SystemTime {
    fs::metadata(path).unwrap().modified().unwrap()
}

fn set_modified(path: &Path, time: SystemTime) {
    fs::File::options().append(true).open(path).unwrap().set_modified(time).unwrap();
}

#[test]
fn damage_is_found_by_length_or_time_at_once_and_else_by_rehash_and_stays_found() {
    let place = Place::new();
    three_backups(&place);
    let long_ago = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000);
    set_modified(&place.path("view/daily/2026-01-18_00-00-00.sql.gz"), long_ago);
    let _said = expect(0, &mut place.once(&[]));
    let copy = place.path("mirror/daily/2026-01-18/2026-01-18_00-00-00.sql.gz");
    assert_eq!(modified(&copy), long_ago);

    // What no directory shows, until somebody reads it. From then on it is known.
    flip_last_byte(&copy);
    set_modified(&copy, long_ago);
    let _believed = expect(0, &mut place.once(&[]));
    let _found = expect(9, &mut place.once(&["--rehash"]));
    let _still = expect(9, &mut place.once(&[]));

    // Right again, whatever its time.
    flip_last_byte(&copy);
    let _healed = expect(0, &mut place.once(&[]));
    assert_eq!(modified(&copy), long_ago);
    let lines = place.audit_lines().len();
    let _believed = expect(0, &mut place.once(&[]));
    assert_eq!(place.audit_lines().len(), lines + 1);

    flip_last_byte(&copy);
    let _by_its_time = expect(9, &mut place.once(&[]));
    fs::write(&copy, "short").unwrap();
    set_modified(&copy, long_ago);
    let _found = expect(9, &mut place.once(&[]));
    assert_eq!(fs::read(&copy).unwrap(), b"short");
}

#[test]
fn what_is_incomplete_or_foreign_is_passed_over() {
    let place = Place::new();
    let daily = place.path("view/daily");
    for (second, missing) in ["", ".sha256", ".manifest.json"].iter().enumerate() {
        let dump = put_backup(&daily, &format!("2026-01-18_00-00-0{second}"), DUMP, &[]);
        fs::remove_file(beside(&dump, missing)).unwrap();
    }
    fs::create_dir_all(daily.join(".incomplete")).unwrap();
    let _part = put_backup(&daily.join(".incomplete"), "2026-01-18_00-00-05", DUMP, &[]);
    fs::write(daily.join("notes.txt"), "hello").unwrap();
    let (summary, _) = expect(0, &mut place.once(&[]));
    assert_eq!(counts(&summary), [0, 0, 0, 0]);
    assert!(summary.contains("\"unfinished\":3"), "{summary}");
    assert_eq!(place.mirrored().len(), 0);
}

#[test]
fn what_was_mirrored_without_a_line_in_the_log_is_read_and_believed_from_then_on() {
    let place = Place::new();
    three_backups(&place);
    let _said = expect(0, &mut place.once(&[]));
    fs::remove_file(place.audit()).unwrap();
    for lines in [10, 11] {
        let (summary, _) = expect(0, &mut place.once(&[]));
        assert_eq!(counts(&summary), [0, 3, 0, 0]);
        assert_eq!(place.audit_lines().len(), lines);
    }
    assert_eq!(place.audit_lines()[0]["event"], "verified");
}

#[test]
fn a_log_that_was_tampered_with_is_told_at_every_run_and_stops_no_copy() {
    let place = Place::new();
    three_backups(&place);
    let _said = expect(0, &mut place.once(&[]));
    let text = fs::read_to_string(place.audit()).unwrap();
    fs::write(place.audit(), text.replacen("copied", "Copied", 1)).unwrap();
    let _dump = put_backup(&place.path("view/daily"), "2026-01-20_00-00-00", DUMP, &[]);
    let (summary, error) = expect(9, &mut place.once(&[]));
    assert_eq!(counts(&summary), [1, 3, 0, 0]);
    assert!(error.contains("line 2 does not follow"), "{error}");
    let _again = expect(9, &mut place.once(&[]));
    fs::rename(place.audit(), place.path("logs/evidence")).unwrap();
    let _healed = expect(0, &mut place.once(&[]));
}

#[test]
fn a_second_run_is_refused_while_the_first_holds_the_mirror() {
    let place = Place::new();
    three_backups(&place);
    let lock = place.path("mirror/.worm-extractor.lock");
    // flock(1) stands in for the first run, and holds the lock as long as the second lives.
    let mut second = Command::new("flock");
    let once = place.once(&[]);
    let _command = second.arg(&lock).arg(once.get_program()).args(once.get_args());
    let _command = second.env("WORM_EXTRACTION_AUDIT", place.audit());
    let (_, error) = expect(7, &mut second);
    assert!(error.contains("another worm-extractor"), "{error}");
    let _free = expect(0, &mut place.once(&[]));
}

#[test]
fn a_plain_directory_is_refused_unless_allowed() {
    let place = Place::new();
    three_backups(&place);
    let mut command = place.once(&[]);
    let arguments: Vec<_> =
        command.get_args().filter(|argument| *argument != "--allow-plain").collect();
    let mut strict = crate::support::program();
    let (_, error) = expect(10, strict.args(arguments).env("WORM_EXTRACTION_AUDIT", place.audit()));
    assert!(error.contains("not a write-once mount"), "{error}");
    let _allowed = expect(0, &mut command);
}

#[test]
fn places_that_make_no_sense_are_refused() {
    let place = Place::new();
    three_backups(&place);
    let (_, error) = expect(6, &mut place.once_to(Path::new("/nowhere")));
    assert!(error.contains("the mirror /nowhere does not exist"), "{error}");
    let (_, error) = expect(2, &mut place.once_to(&place.path("view/daily")));
    assert!(error.contains("inside one another"), "{error}");
    let (_, error) = expect(4, &mut place.once(&["--audit", "/nowhere/audit.jsonl"]));
    assert!(error.contains("cannot open the audit log"), "{error}");
    let (_, error) = expect(2, &mut place.once(&["--staging", "/dev/shm"]));
    assert!(error.contains("another file system"), "{error}");
    let _usage = expect(2, &mut place.once(&["--nonsense"]));
    assert_eq!(place.mirrored().len(), 0);
}

#[test]
fn a_class_that_is_a_link_in_the_mirror_is_not_written_through() {
    let place = Place::new();
    three_backups(&place);
    let elsewhere = place.path("elsewhere");
    fs::create_dir(&elsewhere).unwrap();
    std::os::unix::fs::symlink(&elsewhere, place.path("mirror/daily")).unwrap();
    let (summary, error) = expect(3, &mut place.once(&[]));
    assert_eq!(counts(&summary), [2, 0, 1, 0]);
    assert!(error.contains("mirror/daily is a link or a file"), "{error}");
    assert_eq!(fs::read_dir(elsewhere).unwrap().count(), 0);
}

#[test]
fn databases_with_directories_of_their_own_have_them_in_the_mirror() {
    let place = Place::new();
    let stamp = "2026-01-18_00-00-00";
    for directory in ["app", "a%2Fb", "%32026-01-18"] {
        let folder = place.path("view/daily").join(directory);
        fs::create_dir(&folder).unwrap();
        let _dump = put_backup(&folder, stamp, directory.as_bytes(), &[]);
    }
    let _dump = put_backup(&place.path("view/daily"), stamp, DUMP, &[]);
    let (summary, _) = expect(0, &mut place.once(&[]));
    assert_eq!(counts(&summary), [4, 0, 0, 0]);
    let dumps: Vec<String> =
        place.mirrored().into_iter().filter(|name| name.ends_with(".sql.gz")).collect();
    let expected = ["%32026-01-18/", "", "a%2Fb/", "app/"]
        .map(|directory| format!("daily/2026-01-18/{directory}{stamp}.sql.gz"));
    assert_eq!(dumps, expected);
    let (summary, _) = expect(0, &mut place.once(&[]));
    assert_eq!(counts(&summary), [0, 4, 0, 0]);
}
