//! Tripwires over histories of backups that are made up.

use jiff::SignedDuration;
use jiff::Timestamp;

use super::*;
use crate::manifest::Compression;
use crate::manifest::Content;
use crate::manifest::FORMAT;
use crate::manifest::Raw;
use crate::manifest::TableRows;

const MB: u64 = 1_000_000;

/// A run of so many rows, each of a hundred bytes, that compress five to one in a minute.
pub(crate) fn run(hour: i64, tables: &[(&str, u64)]) -> Manifest {
    let started_at = Timestamp::from_second(1_800_000_000 + hour * 3600).unwrap();
    let rows: u64 = tables.iter().map(|(_, rows)| rows).sum();
    let content = |bytes| Content { bytes, sha256: String::new() };
    Manifest {
        format: FORMAT,
        name: format!("{hour}"),
        class: "hourly".to_owned(),
        classes: Vec::new(),
        run_id: None,
        database: "app".to_owned(),
        started_at,
        finished_at: started_at + SignedDuration::from_secs(60),
        agent: String::new(),
        server_version: String::new(),
        server_version_num: 150_000,
        dump_version: String::new(),
        snapshot: String::new(),
        database_bytes: 0,
        compression: Compression { codec: Codec::Gzip, level: 2 },
        kind: Kind::Plain,
        filters: crate::manifest::filters::Filters::default(),
        encryption: None,
        raw: Raw { bytes: rows * 100, sha256: None },
        stored: content(rows * 20),
        tables: tables
            .iter()
            .map(|(table, rows)| TableRows {
                schema: "public".to_owned(),
                table: (*table).to_owned(),
                rows: *rows,
                extension: false,
            })
            .collect(),
        large_objects: None,
        extensions: Vec::new(),
        retain_until: None,
        store: None,
        sidecars: Vec::new(),
        lacks: Vec::new(),
        suspect: Vec::new(),
        accepted: None,
    }
}

/// What is said about the last of `runs` after all those before it.
fn judge(runs: &[Manifest]) -> Vec<Suspicion> {
    let (now, earlier) = runs.split_last().unwrap();
    let mut baseline = Baseline::default();
    for older in earlier.iter().rev() {
        baseline.add(now, older);
    }
    baseline.judge(now, &Limits::DEFAULT)
}

#[track_caller]
fn check(runs: &[Manifest], codes: &[&str]) {
    let found = judge(runs);
    let found_codes: Vec<&str> = found.iter().map(|found| found.code.as_str()).collect();
    assert_eq!(found_codes, codes, "{found:#?}");
    assert!(found.iter().all(|found| !found.message.contains('\n')), "{found:#?}");
}

/// So many runs alike, then the others.
fn after(usual: &[(&str, u64)], count: i64, others: &[&[(&str, u64)]]) -> Vec<Manifest> {
    let mut runs: Vec<Manifest> = (0..count).map(|hour| run(hour, usual)).collect();
    runs.extend((count..).zip(others).map(|(hour, tables)| run(hour, tables)));
    runs
}

#[test]
fn the_first_run_has_nothing_to_be_compared_with() {
    check(&[run(0, &[])], &[]);
    check(&[run(0, &[("users", 50_000)])], &[]);
}

#[test]
fn growth_is_never_suspicious() {
    check(&after(&[("users", 10)], 5, &[&[("users", 10_000_000), ("more", 5_000)]]), &[]);
}

#[test]
fn ordinary_losses_are_no_alarm() {
    check(&after(&[("users", 50_000)], 5, &[&[("users", 26_000)]]), &[]);
    // A small database may lose most of what it has.
    check(&after(&[("users", 900), ("few", 99)], 5, &[&[("users", 1)]]), &[]);
    // Neither does a table that was there once only have to stay.
    let import = [("users", 50_000), ("import", 5_000)];
    let runs = [run(0, &import), run(1, &import), run(2, &import[..1])];
    check(&runs, &[]);
}

#[test]
fn rows_that_are_gone_are_told() {
    check(&after(&[("users", 10)], 1, &[&[("users", 0)]]), &["rows.all_gone"]);
    check(&after(&[("users", 9_000)], 1, &[&[("users", 4_000)]]), &["rows.dropped"]);
    let found = judge(&after(&[("big", 50_000), ("users", 5_000)], 3, &[&[("big", 50_000)]]));
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!(found[0].code, "rows.table_vanished");
    assert_eq!(found[0].message, "no longer there: public.users (had 5000 rows)");
    check(
        &after(&[("big", 50_000), ("users", 5_000)], 3, &[&[("big", 50_000), ("users", 9)]]),
        &["rows.table_shrunk"],
    );
    check(
        &after(&[("big", 50_000), ("users", 5_000)], 3, &[&[("users", 5_000)]]),
        &["rows.dropped", "rows.table_vanished", "size.shrunk"],
    );
}

#[test]
fn a_loss_in_steps_is_measured_by_the_median() {
    let runs = after(&[("users", 100_000)], 6, &[&[("users", 60_000)], &[("users", 40_000)]]);
    check(&runs, &["rows.dropped", "size.shrunk"]);
}

#[test]
fn a_queue_may_run_empty_as_it_did_before() {
    let (full, empty) = ([("big", 50_000), ("queue", 9_000)], [("big", 50_000), ("queue", 3)]);
    let runs: Vec<Manifest> = (0..30).map(|hour| run(hour, &full)).collect();
    check(&[vec![run(-1, &empty)], runs.clone(), vec![run(30, &empty)]].concat(), &[]);
    check(&[runs, vec![run(30, &empty)]].concat(), &["rows.table_shrunk"]);
}

#[test]
fn partitions_come_and_go() {
    let before = [("events_2026_01", 9_000), ("events_2026_02", 9_000)];
    let later = [("events_2026_02", 9_000), ("events_2026_03", 500)];
    check(&after(&before, 5, &[&later]), &[]);
    check(
        &after(&[("big", 50_000), ("events_1", 900)], 5, &[&[("big", 50_000)]]),
        &["rows.table_vanished"],
    );
}

#[test]
fn many_tables_are_counted_not_listed() {
    let names: Vec<String> = ('a'..='z').map(String::from).collect();
    let many: Vec<(&str, u64)> = names.iter().map(|name| (name.as_str(), 200)).collect();
    let with_big = [vec![("big", 50_000)], many].concat();
    let found = judge(&after(&with_big, 3, &[&with_big[..1]]));
    assert!(found[0].message.ends_with("and 21 more"), "{found:?}");
}

/// What was compressed five to one takes as much more room as if it were encrypted.
fn encrypted(hour: i64, rows: u64) -> Manifest {
    let mut run = run(hour, &[("users", rows)]);
    run.stored.bytes = run.raw.bytes * 3 / 4;
    run
}

#[test]
fn data_that_stops_compressing_is_told() {
    let usual = after(&[("users", 50_000)], 3, &[]);
    check(&[usual.clone(), vec![encrypted(3, 50_000)]].concat(), &["ratio.collapsed"]);
    check(&[usual.clone(), vec![encrypted(3, 90_000)]].concat(), &["ratio.collapsed"]);
    // Nobody knows yet how another data set compresses, and what another codec does.
    check(&[usual.clone(), vec![encrypted(3, 900_000)]].concat(), &[]);
    let mut other = encrypted(3, 50_000);
    other.compression.level = 1;
    check(&[usual.clone(), vec![other]].concat(), &[]);
    check(&[after(&[("users", 5)], 3, &[]), vec![encrypted(3, 5)]].concat(), &[]);
    let mut archives = [usual.clone(), vec![encrypted(3, 50_000)]].concat();
    archives.iter_mut().for_each(|archive| archive.kind = Kind::Custom);
    check(&archives, &[]);
    // Sizes of other forms are no measure, rows are.
    let mut archive = run(3, &[("users", 20_000)]);
    archive.kind = Kind::Custom;
    check(&[usual.clone(), vec![archive]].concat(), &["rows.dropped"]);
    check(&[usual[..2].to_vec(), vec![encrypted(3, 50_000)]].concat(), &[]);
}

#[test]
fn what_is_suspect_does_not_become_usual() {
    let mut runs = after(&[("users", 50_000)], 3, &[]);
    for hour in 3..20 {
        runs.push(encrypted(hour, 50_000));
        let found = judge(&runs);
        assert_eq!(found.len(), 1, "hour {hour}: {found:?}");
        runs.last_mut().unwrap().suspect = found;
    }
}

#[test]
fn what_is_accepted_is_usual_from_then_on() {
    let mut runs = after(&[("big", 50_000), ("users", 5_000)], 5, &[&[("big", 20_000)]]);
    let found = judge(&runs);
    assert_eq!(found.len(), 3, "{found:?}");
    mark(runs.last_mut().unwrap(), found.clone(), Some("moved to another database"));
    let accepted = runs.last().unwrap().accepted.clone().unwrap();
    assert_eq!(accepted.suspicions, found);
    assert!(runs.last().unwrap().suspect.is_empty());
    runs.push(run(9, &[("big", 20_000)]));
    check(&runs, &[]);
}

fn slow(hour: i64, minutes: i64) -> Manifest {
    let mut run = run(hour, &[("users", 50_000)]);
    run.finished_at = run.started_at + SignedDuration::from_mins(minutes);
    run
}

#[test]
fn a_run_that_takes_far_too_long_is_told_until_it_is_usual() {
    let mut runs = after(&[("users", 50_000)], 5, &[]);
    check(&[runs.clone(), vec![slow(5, 14)]].concat(), &[]);
    for (hour, codes) in (5..).zip([1, 1, 1, 1, 0]) {
        runs.push(slow(hour, 60));
        let found = judge(&runs);
        assert_eq!(found.len(), codes, "hour {hour}: {found:?}");
        assert!(found.iter().all(|found| found.code == "duration.exploded"), "{found:?}");
        runs.last_mut().unwrap().suspect = found;
    }
    // Ten times the data may take ten times as long.
    let mut big = run(0, &[("users", 5_000_000)]);
    big.finished_at = big.started_at + SignedDuration::from_mins(100);
    check(&[after(&[("users", 50_000)], 5, &[]), vec![big]].concat(), &[]);
}

#[test]
fn each_can_be_set_or_switched_off() {
    let with = |settings: &[&str]| {
        Limits::with(&settings.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>())
    };
    assert_eq!(with(&[]), Some(Limits::DEFAULT));
    let codes = ["rows.dropped", "rows.table_vanished", "rows.table_shrunk", "size.shrunk"];
    let codes = [&codes[..], &["ratio.collapsed", "duration.exploded"]].concat();
    for code in &codes {
        let set = with(&[&format!("{code}=7")]).unwrap();
        assert_ne!(set, Limits::DEFAULT, "{code}");
    }
    let mut off: Vec<String> = codes.iter().map(|code| format!("{code}=off")).collect();
    off.push("rows.all_gone=off".to_owned());
    let off = Limits::with(&off).unwrap();
    let mut baseline = Baseline::default();
    let now = encrypted(9, 1);
    for older in after(&[("users", 50_000), ("more", 50_000)], 5, &[]).iter().rev() {
        baseline.add(&now, older);
    }
    assert!(!baseline.judge(&now, &Limits::DEFAULT).is_empty());
    assert_eq!(baseline.judge(&now, &off), []);
    assert_eq!(baseline.judge(&slow(9, 6000), &off), []);
    for wrong in ["rows.dropped", "rows.dropped=0", "rows.dropped=101", "rows.all_gone=5", "x=off"]
    {
        assert_eq!(with(&[wrong]), None, "{wrong}");
    }
}

#[test]
fn one_dump_in_several_classes_counts_once() {
    let mut copies = vec![run(0, &[("users", 10 * MB)]); 5];
    copies.push(run(1, &[("other", 10 * MB)]));
    check(&copies, &[]);
}

#[test]
fn a_part_of_the_database_is_compared_with_the_same_part_only() {
    let part = |hour, rows| {
        let mut part = run(hour, &[("t", rows)]);
        part.filters.table = vec!["t".to_owned()];
        part
    };
    let found = |runs: &[Manifest], newest: &Manifest| {
        let mut baseline = Baseline::default();
        for older in runs {
            baseline.add(newest, older);
        }
        !baseline.judge(newest, &Limits::DEFAULT).is_empty()
    };
    let whole = |hour| run(hour, &[("t", 50_000), ("u", 50_000)]);
    assert!(!found(&[whole(3), whole(2), whole(1)], &part(4, 10)));
    assert!(!found(&[part(3, 10), part(2, 10), part(1, 10)], &whole(4)));
    assert!(found(&[whole(3), part(2, 50_000)], &part(4, 10)));
}
