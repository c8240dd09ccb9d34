//! Who has an earlier head, or the key, finds what the store alone cannot tell.

use system_tests::daemon::Daemon;
use worm_fs::record::Event;
use worm_fs::record::Line;
use worm_fs::store::note::Head;
use worm_fs::store::note::StoreSigner;
use worm_fs::verify::Check;
use worm_fs::verify::Given;

use super::*;

fn head(worm: &dyn Session) -> Given {
    let text = std::fs::read_to_string(worm.ground().store().join("head")).unwrap();
    Given { name: "carried.head".to_owned(), text }
}

/// The key of the store, as somebody would give it.
fn key(worm: &dyn Session) -> Given {
    let text = std::fs::read_to_string(worm.ground().key()).unwrap();
    Given { name: "key".to_owned(), text: StoreSigner::public_of(&text).unwrap() }
}

#[track_caller]
fn check_with(worm: &dyn Session, witnesses: &[&Given], expected: &[(&str, Kind)]) -> Report {
    let witnesses = witnesses.iter().map(|given| (*given).clone()).collect();
    check_asked(worm, Check { threads: 1, key: None, witnesses }, expected)
}

#[track_caller]
fn check_asked(worm: &dyn Session, check: Check, expected: &[(&str, Kind)]) -> Report {
    let report = check.run(&worm.ground().store(), &Progress::default()).unwrap();
    let found: Vec<_> = report.problems.iter().map(|p| (p.path.as_str(), p.kind)).collect();
    assert_eq!(found, expected, "{report:?}");
    report
}

/// Writes the ledger anew, numbered, chained and signed, as somebody with the key can.
pub(super) fn rewrite_with_key(worm: &dyn Session, change: impl FnOnce(&mut Vec<Line>)) {
    let store: serde_json::Value =
        serde_json::from_slice(&std::fs::read(worm.ground().store().join("store.json")).unwrap())
            .unwrap();
    let id = store["store"].as_str().unwrap();
    let text = std::fs::read_to_string(worm.ground().key()).unwrap();
    rewrite_as(worm, &StoreSigner::decode(&text, id).unwrap(), change);
}

/// The same, signed with any key.
pub(crate) fn rewrite_as(
    worm: &dyn Session,
    signer: &StoreSigner,
    change: impl FnOnce(&mut Vec<Line>),
) {
    let bytes = std::fs::read(ledger(worm)).unwrap();
    let lines = bytes.split_inclusive(|byte| *byte == b'\n');
    let mut lines: Vec<Line> = lines.map(|line| Line::decode(line).unwrap()).collect();
    change(&mut lines);
    let (mut prev, mut all, mut seq) = (Digest::ZERO, Vec::new(), 0);
    for line in &mut lines {
        seq += 1;
        (line.seq, line.prev) = (seq, prev);
        let encoded = line.encode().unwrap();
        prev = Digest::of(&encoded);
        all.extend(encoded);
    }
    rewrite(&ledger(worm), &all);
    let Event::Created { store, .. } = &lines[0].event else { panic!("line 1") };
    let head = Head { store: store.clone(), seq, digest: prev };
    rewrite(&worm.ground().store().join("head"), signer.sign(&head).as_bytes());
}

#[test]
fn an_earlier_head_agrees_with_a_store_that_only_went_on() {
    let session = store();
    let worm: &dyn Session = &session;
    let earlier = head(worm);
    worm.start().unwrap();
    worm.put(b"hourly/later", b"later");
    // Also while it is served.
    let report = check_with(worm, &[&earlier, &head(worm)], &[]);
    assert_eq!(report.witnesses, 2);
    assert!(!report.unchecked.iter().any(|said| said.contains("--witness")), "{report:?}");
}

#[test]
fn a_store_that_was_rolled_back_is_found_by_a_later_head_only() {
    let session = store();
    let worm: &dyn Session = &session;
    let files = [ledger(worm), worm.ground().store().join("head")];
    let older = files.clone().map(|path| std::fs::read(path).unwrap());
    let before = head(worm);
    worm.start().unwrap();
    worm.put(b"hourly/later", b"later");
    let after = head(worm);
    worm.stop(End::Clean);
    for (path, bytes) in files.iter().zip(older) {
        rewrite(path, &bytes);
    }
    std::fs::remove_file(worm.ground().data(b"hourly/later")).unwrap();
    let report = check_with(worm, &[], &[]);
    assert!(report.unchecked.iter().any(|said| said.contains("--witness")), "{report:?}");
    check_with(worm, &[&before], &[]);
    let report = check_with(worm, &[&before, &after], &[("carried.head", Kind::Witness)]);
    assert!(report.problems[0].what.contains("rolled back"), "{report:?}");
}

#[test]
fn a_store_that_was_written_anew_with_the_key_is_found_by_an_earlier_head() {
    let session = store();
    let worm: &dyn Session = &session;
    let earlier = head(worm);
    // A file that was never there, in the ledger of the past; the file's own line went.
    rewrite_with_key(worm, |lines| {
        lines.retain(|line| {
            !matches!(&line.event, Event::Sealed { path, .. } if path.to_string() == "hourly/a")
        });
        let last = lines.last().unwrap().clone();
        lines.push(last);
    });
    std::fs::remove_file(worm.ground().data(b"hourly/a")).unwrap();
    check_with(worm, &[], &[]);
    let report = check_with(worm, &[&earlier], &[("carried.head", Kind::Witness)]);
    assert!(report.problems[0].what.contains("written anew"), "{report:?}");
}

/// Key and all: the store alone looks right.
#[test]
fn a_store_that_was_replaced_under_another_key_is_found_by_the_key_and_by_a_head() {
    let session = store();
    let worm: &dyn Session = &session;
    let (earlier, real) = (head(worm), key(worm));
    let id = earlier.text.lines().nth(1).unwrap().to_owned();
    let signer = StoreSigner::new(&id, [7; 32]);
    rewrite_as(worm, &signer, |lines| {
        let Event::Created { key, .. } = &mut lines[0].event else { panic!("line 1") };
        *key = signer.public();
    });
    let json = worm.ground().store().join("store.json");
    let text = std::fs::read_to_string(&json).unwrap();
    rewrite(&json, text.replace(&real.text, &signer.public()).as_bytes());
    check_with(worm, &[], &[]);
    check_with(worm, &[&earlier], &[("carried.head", Kind::Witness)]);
    let check = Check { threads: 1, key: Some(real), witnesses: vec![] };
    check_asked(worm, check, &[("store.json", Kind::Key)]);
    let forged = Given { name: "key".to_owned(), text: signer.public() };
    let check = Check { threads: 1, key: Some(forged), witnesses: vec![] };
    let report = check_asked(worm, check, &[]);
    assert!(!report.unchecked.iter().any(|said| said.contains("--key")), "{report:?}");
}

#[test]
fn an_earlier_head_vouches_for_lines_before_damage() {
    let session = store();
    let worm: &dyn Session = &session;
    let earlier = head(worm);
    worm.start().unwrap();
    worm.put(b"hourly/later", b"later");
    worm.stop(End::Clean);
    let before = earlier.text.lines().nth(2).unwrap().parse::<usize>().unwrap();
    edit(worm, |lines| {
        lines[before] = lines[before].replacen("\"time\":\"2", "\"time\":\"3", 1);
    });
    let place = format!("ledger/000001.jsonl line {}", before + 1);
    let report = check_with(worm, &[], &[(&place, Kind::LineChanged)]);
    let doubt = |first: usize| format!("lines {first} to {}", before + 1);
    assert!(report.unchecked[0].starts_with(&doubt(1)), "{report:?}");
    let report = check_with(worm, &[&earlier], &[(&place, Kind::LineChanged)]);
    assert!(report.unchecked[0].starts_with(&doubt(before + 1)), "{report:?}");
}

#[test]
fn a_head_that_was_changed_is_found_and_one_of_another_store_refused() {
    let session = store();
    let worm: &dyn Session = &session;
    let mut changed = head(worm);
    let seq = changed.text.lines().nth(2).unwrap().to_owned();
    changed.text = changed.text.replace(&format!("\n{seq}\n"), "\n1\n");
    check_with(worm, &[&changed], &[("carried.head", Kind::Witness)]);
    let foreign = head(&store());
    let none = Given { name: "x".to_owned(), text: "hello".to_owned() };
    for (witness, says) in [(foreign, "not of this one"), (none, "not a head")] {
        let check = Check { threads: 1, key: None, witnesses: vec![witness] };
        let refused = check.run(&worm.ground().store(), &Progress::default()).unwrap_err();
        assert!(matches!(refused, OpenError::Witness { .. }), "{refused}");
        assert!(refused.to_string().contains(says), "{refused}");
    }
}

/// By the command: heads one by one or in a directory, the key as a file, the exit codes.
#[test]
fn the_command_takes_heads_and_a_key() {
    let daemon = Daemon::start();
    let store = daemon.store();
    let heads = daemon.directory().join("heads");
    std::fs::create_dir(&heads).unwrap();
    let carry = |name: &str| {
        let to = heads.join(name);
        std::fs::copy(store.join("head"), &to).unwrap();
        to.to_string_lossy().into_owned()
    };
    let first = carry("1.head");
    rewrite_new(&daemon.active().join("hourly/x"), b"x");
    daemon.wait(&daemon.active().join("hourly/x"));
    carry("2.head");
    rewrite_new(&heads.join("notes.txt"), b"not a head");
    let (all, key) = (heads.to_string_lossy(), daemon.key());
    let key = key.to_string_lossy();
    let said = daemon.worm("verify", &store, &["--witness", &all, "--key", &key]).success();
    assert!(said.contains("2 earlier heads") && !said.contains("--witness"), "{said}");
    assert!(said.contains("not checked: "), "{said}");
    let (json, other) = (store.join("store.json"), Daemon::start());
    let other_key = other.key();
    let wrong = ["--key", &other_key.to_string_lossy(), "--json"];
    let said = daemon.worm("verify", &store, &wrong).expect_code(9);
    let report: serde_json::Value = serde_json::from_str(&said.stdout).unwrap();
    assert_eq!(report["problems"][0]["kind"], "key", "{report}");
    for (wrong, code) in [
        (["--witness", "/nowhere/head"], 6),
        (["--witness", &json.to_string_lossy()], 2),
        (["--key", &json.to_string_lossy()], 2),
        (["--witness", &other.directory().to_string_lossy()], 2),
        (["--witness", &other.store().join("head").to_string_lossy()], 2),
    ] {
        let said = daemon.worm("verify", &store, &wrong).expect_code(code);
        assert_eq!(said.stderr.lines().count(), 1, "{wrong:?}: {}", said.stderr);
    }
    daemon.worm("verify", &store, &["--witness", &first, "--witness", &all]).success();
}
