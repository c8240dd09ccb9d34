//! `restore` from a mirror in which somebody replaced a backup with one of his own.

use std::fs;
use std::path::Path;
use std::path::PathBuf;

use crate::postgres::Database;
use crate::postgres::Server;
use crate::restore::restore;
use crate::support::Place;
use crate::support::beside;
use crate::support::change_manifest;
use crate::support::expect;
use crate::support::put_backup;

const STAMP: &str = "2026-01-18_00-00-00";
const SUFFIXES: [&str; 3] = ["", ".sha256", ".manifest.json"];

/// A mirror with one backup that was copied there and logged; the dump in it, and a database.
fn mirrored() -> (Place, PathBuf, Database) {
    let place = Place::new();
    let _dump = put_backup(&place.path("view/daily"), STAMP, b"CREATE TABLE a (x int);\n", &[]);
    let _said = expect(0, &mut place.once(&[]));
    let copy = place.path("mirror/daily/2026-01-18").join(format!("{STAMP}.sql.gz"));
    (place, copy, Server::shared().database())
}

/// Puts another complete backup under the same name.
fn replace(copy: &Path, sql: &str) {
    for suffix in SUFFIXES {
        fs::remove_file(beside(copy, suffix)).unwrap();
    }
    let _dump = put_backup(copy.parent().unwrap(), STAMP, sql.as_bytes(), &[]);
}

#[test]
fn a_replaced_copy_is_not_what_the_log_says() {
    let (place, copy, target) = mirrored();
    let _said = expect(0, restore(&place, &copy, &target).arg("--preview"));
    replace(&copy, "CREATE TABLE b (x int);\n");
    for backup in [copy.as_path(), Path::new("latest")] {
        let (_, error) = expect(9, &mut restore(&place, backup, &target));
        assert!(error.contains("the audit log says"), "{error}");
    }
    target.assert_untouched();
}

#[test]
fn a_replaced_manifest_is_not_what_the_log_says() {
    let (place, copy, target) = mirrored();
    let manifest = beside(&copy, ".manifest.json");
    let bytes = fs::read(&manifest).unwrap();
    fs::remove_file(&manifest).unwrap();
    fs::write(&manifest, bytes).unwrap();
    change_manifest(&copy, |manifest| manifest.database = "other".to_owned());
    let (_, error) = expect(9, &mut restore(&place, &copy, &target));
    assert!(error.contains("its manifest has SHA-256"), "{error}");
    target.assert_untouched();
}

#[test]
fn a_broken_log_vouches_for_nothing_and_a_missing_one_stops_nothing() {
    let (place, copy, target) = mirrored();
    let text = fs::read_to_string(place.audit()).unwrap();
    fs::write(place.audit(), text.replacen("copied", "Copied", 1)).unwrap();
    let (_, error) = expect(9, &mut restore(&place, &copy, &target));
    assert!(error.contains("name another log with --audit"), "{error}");
    assert_eq!(error.matches("audit.jsonl").count(), 1, "told once: {error}");
    target.assert_untouched();
    let other = place.path("logs/new.jsonl");
    let (_, error) = expect(0, restore(&place, &copy, &target).arg("--audit").arg(other));
    assert!(error.contains("vouches for"), "{error}");
}

#[test]
fn a_dump_cannot_run_programs_through_psql() {
    for command in ["\\! touch", "SELECT 1 \\! touch", "SELECT 1 \\g |touch"] {
        let (place, copy, target) = mirrored();
        let trace = place.path("trace");
        replace(&copy, &format!("CREATE TABLE b (x int);\n{command} {}\n;\n", trace.display()));
        let log = place.path("logs/new.jsonl");
        let (_, error) = expect(9, restore(&place, &copy, &target).arg("--audit").arg(log));
        assert!(error.contains("a command to psql"), "{error}");
        assert!(!trace.exists());
        target.assert_untouched();
    }
}

/// With this setting off, `psql` sees the end of a string where the filter does not.
#[test]
fn what_the_filter_takes_for_a_string_cannot_run_programs_either() {
    let (place, copy, target) = mirrored();
    let trace = place.path("trace");
    let hidden = format!(
        "SET standard_conforming_strings = off;\nSELECT 'a\\'';\n\\! touch {}\n';\n",
        trace.display()
    );
    replace(&copy, &hidden);
    let log = place.path("logs/new.jsonl");
    let _said = expect(1, restore(&place, &copy, &target).arg("--audit").arg(log));
    assert!(!trace.exists());
    target.assert_untouched();
}
