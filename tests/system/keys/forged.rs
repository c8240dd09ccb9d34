//! Whoever has an old key, or none, and reaches the store: what he writes is found.

use system_tests::session::End;
use system_tests::session::InProcess;
use worm_fs::record::Digest;
use worm_fs::record::Event;
use worm_fs::store::note::Head;
use worm_fs::store::note::Succession;

use super::*;
use crate::verify::rewrite_as;

/// A store whose key was changed once, and who did what with it.
struct Changed {
    session: InProcess,
    /// The key before.
    old: StoreSigner,
    /// The key in force.
    new: String,
    /// A head from before the change, and one from after it.
    heads: [Given; 2],
    /// Number of the line that records the change.
    line: usize,
}

fn changed() -> Changed {
    let session = store();
    let worm: &dyn Session = &session;
    let before = head(worm, "before.head");
    let old = signer(worm);
    let new = rotate(worm);
    worm.start().unwrap();
    worm.put(b"hourly/b", b"b");
    worm.stop(End::Clean);
    let heads = [before, head(worm, "after.head")];
    let lines = lines_of(&std::fs::read(ledger(worm)).unwrap());
    let at = lines.iter().position(|line| KeyChange::of(line).is_some()).unwrap();
    Changed { session, old, new, heads, line: at + 1 }
}

/// Somebody's own key.
fn own(worm: &dyn Session) -> StoreSigner {
    StoreSigner::new(&Store::id_of(&worm.ground().store()).unwrap(), [66; 32])
}

fn sign(worm: &dyn Session, signer: &StoreSigner, seq: u64, digest: Digest) {
    let store = Store::id_of(&worm.ground().store()).unwrap();
    let note = signer.sign(&Head { store, seq, digest });
    write(in_store(worm, "head"), note);
}

/// The change of a key to another, in a line after `lines`.
fn handed_over(worm: &dyn Session, by: &StoreSigner, to: &str, lines: &[Line]) -> Line {
    let store = Store::id_of(&worm.ground().store()).unwrap();
    let mut line = lines.last().unwrap().clone();
    let prev = Digest::of(&line.encode().unwrap());
    (line.seq, line.prev) = (line.seq + 1, prev);
    let words = Succession { store: &store, seq: line.seq, prev, key: to };
    let signature = by.hand_over(&words);
    let (key, reason, by) = (to.to_owned(), "mine".to_owned(), Actor::user(0));
    line.event = Event::KeyChanged { key, signature, reason, by };
    line
}

#[track_caller]
fn check_damaged(worm: &dyn Session) {
    let refused = worm.start().unwrap_err();
    assert!(matches!(refused, OpenError::Damaged { .. }), "{refused}");
    let refused = try_rotate(worm).unwrap_err();
    assert!(matches!(refused, RotateError::Open(OpenError::Damaged { .. })), "{refused}");
}

/// The daemon has its key file, which the store does not know.
#[track_caller]
fn check_other_key(worm: &dyn Session) {
    let before = std::fs::read(ledger(worm)).unwrap();
    let refused = worm.start().unwrap_err();
    assert!(matches!(refused, OpenError::Key { .. }), "{refused}");
    assert!(refused.to_string().contains("rolled back"), "{refused}");
    assert_eq!(std::fs::read(ledger(worm)).unwrap(), before, "nothing was cut or added");
}

#[test]
fn a_head_by_the_old_key_is_found_and_not_served() {
    let Changed { session, old, new, heads, .. } = changed();
    let worm: &dyn Session = &session;
    let lines = lines_of(&std::fs::read(ledger(worm)).unwrap());
    let last = lines.last().unwrap();
    sign(worm, &old, last.seq, Digest::of(&last.encode().unwrap()));
    for key in [None, given(&new), given(&old.public())] {
        let report = check(worm, key, &[], &[("head", Kind::Signature)]);
        assert!(report.problems[0].what.contains("the key in force at line"), "{report:?}");
    }
    check_damaged(worm);
    // Nor does one by the old key vouch, that names a line from after the change.
    write(in_store(worm, "head"), &heads[1].text);
    let text = old.sign(&SignedHead::read(&heads[1].text).unwrap().head);
    let late = Given { name: "late.head".to_owned(), text };
    check(worm, None, &[&heads[0], &late], &[("late.head", Kind::Witness)]);
    worm.start().unwrap();
}

#[test]
fn a_changed_line_of_the_change_is_found_and_not_served() {
    for what in ["\"key\":\"", "\"signature\":\""] {
        let Changed { session, heads, line, .. } = changed();
        let worm: &dyn Session = &session;
        let text = std::fs::read_to_string(ledger(worm)).unwrap();
        let mut lines: Vec<String> = text.lines().map(|line| format!("{line}\n")).collect();
        let (of_own, at) = (own(worm).public(), line - 1);
        let (before, rest) = lines[at].split_once(what).unwrap();
        let (_, after) = rest.split_once('"').unwrap();
        lines[at] = format!("{before}{what}{of_own}\"{after}");
        write(ledger(worm), lines.concat());
        // Whose key signed the head is not known any more, either.
        let place = format!("ledger/000001.jsonl line {line}");
        let report = check(
            worm,
            None,
            &[&heads[0]],
            &[
                ("head", Kind::Signature),
                (&place, Kind::LineChanged),
                (&place, Kind::Contradiction),
            ],
        );
        assert!(report.problems[2].what.contains("key"), "{report:?}");
        check_damaged(worm);
    }
}

/// All that follows is chained and signed with a key that nobody handed over.
#[test]
fn a_change_that_the_old_key_did_not_sign_is_found_and_not_served() {
    let Changed { session, new, line, .. } = changed();
    let worm: &dyn Session = &session;
    let own = own(worm);
    rewrite_as(worm, &own, |lines| {
        let forged = handed_over(worm, &own, &own.public(), &lines[..line - 1]);
        lines[line - 1] = forged;
    });
    let place = format!("ledger/000001.jsonl line {line}");
    let expected = [("head", Kind::Signature), (place.as_str(), Kind::Contradiction)];
    let report = check(worm, None, &[], &expected);
    assert!(report.problems[1].what.contains("not signed by the one before"), "{report:?}");
    check(
        worm,
        given(&own.public()),
        &[],
        &[("store.json", Kind::Key), (&place, Kind::Contradiction)],
    );
    check(
        worm,
        given(&new),
        &[],
        &[("store.json", Kind::Key), ("head", Kind::Signature), (&place, Kind::Contradiction)],
    );
    check_damaged(worm);
}

/// What a thief makes of a store.
type Forge = fn(&Changed);

/// A stolen key, after it was changed: the store can be brought back to before the change, and
/// verifies by itself. The daemon, the newest key and a later head know better.
#[test]
fn a_thief_of_the_old_key_is_found_by_the_new_one() {
    let forgeries: [(&str, Forge); 2] = [
        ("goes on with the old key", |changed| {
            let worm: &dyn Session = &changed.session;
            rewrite_as(worm, &changed.old, |lines| lines.truncate(changed.line - 1));
        }),
        ("changes it to his own", |changed| {
            let worm: &dyn Session = &changed.session;
            let own = own(worm);
            rewrite_as(worm, &own, |lines| {
                lines.truncate(changed.line - 1);
                lines.push(handed_over(worm, &changed.old, &own.public(), lines));
            });
        }),
    ];
    for (what, forge) in forgeries {
        let changed = changed();
        forge(&changed);
        let Changed { session, new, heads, .. } = &changed;
        let worm: &dyn Session = session;
        println!("{what}");
        let added = [("hourly/b", Kind::Added)];
        check(worm, None, &[&heads[0]], &added);
        check(worm, given(new), &[], &[("store.json", Kind::Key), added[0]]);
        check(worm, None, &[&heads[1]], &[("after.head", Kind::Witness), added[0]]);
        check_other_key(worm);
    }
}

/// Without a signature a start would have to believe it.
#[test]
fn an_unsigned_change_is_cut_off() {
    let session = store();
    let worm: &dyn Session = &session;
    let (old, own) = (signer(worm), own(worm));
    let mut bytes = std::fs::read(ledger(worm)).unwrap();
    let stolen = handed_over(worm, &old, &own.public(), &lines_of(&bytes));
    bytes.extend(stolen.encode().unwrap());
    write(ledger(worm), bytes);
    check(worm, None, &[], &[("ledger", Kind::Unsigned)]);
    worm.start().unwrap();
    worm.put(b"hourly/b", b"b");
    worm.stop(End::Clean);
    let report = check(worm, given(&old.public()), &[], &[]);
    assert!(!report.unchecked.iter().any(|said| said.contains("newest key")), "{report:?}");
}

/// Makes the newest snapshot, what follows it and the head anew, under a key of one's own.
fn forge_snapshot(worm: &dyn Session, change: impl Fn(&mut Vec<String>)) {
    let own = own(worm);
    let newest = |directory: &str| {
        let entries = std::fs::read_dir(in_store(worm, directory)).unwrap();
        entries.map(|entry| entry.unwrap().path()).max().unwrap()
    };
    let (snapshot, segment) = (newest("snapshot"), newest("ledger"));
    let text = std::fs::read_to_string(&snapshot).unwrap();
    let mut rows: Vec<String> = text.lines().map(|line| format!("{line}\n")).collect();
    change(&mut rows);
    let forged = rows.concat();
    write(&snapshot, &forged);
    let mut lines = lines_of(&std::fs::read(&segment).unwrap());
    let (mut prev, mut all, mut seq) = (lines[0].prev, Vec::new(), 0);
    let mut records = 0;
    for line in &mut lines {
        if let Event::Snapshot(record) = &mut line.event
            && snapshot.ends_with(format!("{:06}", record.number))
        {
            record.sha256 = Digest::of(forged.as_bytes());
            record.bytes = forged.len() as u64;
            records += 1;
        }
        line.prev = prev;
        let encoded = line.encode().unwrap();
        (prev, seq) = (Digest::of(&encoded), line.seq);
        all.extend(encoded);
    }
    assert_eq!(records, 1, "its record is in the newest segment");
    write(&segment, all);
    sign(worm, &own, seq, prev);
}

/// Brings the second key into the rows of a snapshot, which has the first.
type ForgeRows = fn(&str, &str, &mut Vec<String>);

#[test]
fn a_forged_snapshot_cannot_bring_its_own_key() {
    let forgeries: [(&str, ForgeRows); 2] = [
        ("as the first", |first, own, rows| rows[0] = rows[0].replace(first, own)),
        ("as the next", |_, own, rows| {
            let at = rows.iter().position(|row| row.starts_with("{\"key\":")).unwrap();
            let mut row: serde_json::Value = serde_json::from_str(&rows[at]).unwrap();
            row["key"]["key"] = own.into();
            rows[at] = format!("{row}\n");
        }),
    ];
    for (what, forge) in forgeries {
        println!("{what}");
        let session = super::with_snapshot();
        let worm: &dyn Session = &session;
        let json: serde_json::Value =
            serde_json::from_slice(&std::fs::read(in_store(worm, "store.json")).unwrap()).unwrap();
        let (first, mine) = (json["key"].as_str().unwrap(), own(worm).public());
        forge_snapshot(worm, |rows| forge(first, &mine, rows));
        let report = check_some(worm);
        assert!(report.contains(&Kind::Signature), "{report:?}");
        check_damaged(worm);
        let refused = Store::open(&worm.ground().store(), Access::Look).unwrap_err();
        assert!(matches!(refused, OpenError::Damaged { .. }), "{refused}");
    }
}

fn check_some(worm: &dyn Session) -> Vec<Kind> {
    let report = Check { threads: 1, ..Check::default() };
    let report = report.run(&worm.ground().store(), &Progress::default()).unwrap();
    report.problems.iter().map(|problem| problem.kind).collect()
}
