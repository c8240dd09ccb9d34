//! That a snapshot gives back what went into it, and is believed only when it is whole.

use proptest::collection::vec;
use proptest::prelude::any;
use proptest::prelude::prop_assert_eq;
use proptest::proptest;

use super::*;
use crate::clock::Reading;
use crate::config::Config;
use crate::record::Actor;
use crate::record::Event;
use crate::record::Line;
use crate::store::note::StoreSigner;
use crate::store::note::Succession;

/// Names that meet each other: mains, sidecars, sidecars of sidecars, odd bytes.
const NAMES: [&str; 8] =
    ["a", "a.sha256", "a.manifest.json", "b", "b.manifest.json", "dir", "dir/a", "dir/odd %FF"];

fn line(catalog: Option<&Catalog>, clock_ms: i64, event: Event) -> Line {
    let (seq, prev) = catalog.map_or((0, Digest::ZERO), |catalog| (catalog.seq, catalog.head));
    let time = crate::clock::rfc3339(1_768_694_400_000 + clock_ms);
    Line { seq: seq + 1, prev, clock_ms, time, event }
}

fn tell(catalog: &mut Catalog, clock_ms: i64, event: Event) {
    let line = line(Some(catalog), clock_ms, event);
    // What cannot be followed is not written, either.
    drop(catalog.apply(&line, Digest::of(&line.encode().unwrap())));
}

fn reading(raw_ms: i64) -> Reading {
    Reading { boot: format!("boot-{}", raw_ms / 40), raw_ms, suspend_ms: 1, system_ms: raw_ms }
}

/// A store with class `hourly`, after something happened for each of the numbers.
fn catalog(happened: &[(u8, u8)]) -> Catalog {
    let (store, key) = ("ab12".to_owned(), signer(0).public());
    let created = Event::Created { format: FORMAT, store, key, reading: reading(0) };
    let first = line(None, 0, created);
    let mut catalog = Catalog::new(&first).unwrap();
    catalog.apply(&first, Digest::of(b"1")).unwrap();
    for ((what, which), now) in [(0, 0)].iter().chain(happened).zip(1..) {
        let event = event(&catalog, *what, *which, now);
        tell(&mut catalog, now, event);
    }
    catalog
}

/// The key after so many changes.
fn signer(changes: usize) -> StoreSigner {
    StoreSigner::new("ab12", [u8::try_from(changes).unwrap(); 32])
}

fn key_changed(catalog: &Catalog, by: Actor, reason: String) -> Event {
    let changes = catalog.keys.changes().len();
    let key = signer(changes + 1).public();
    let (seq, prev) = (catalog.seq + 1, catalog.head);
    let words = Succession { store: "ab12", seq, prev, key: &key };
    let signature = signer(changes).hand_over(&words);
    Event::KeyChanged { key, signature, reason, by }
}

fn event(catalog: &Catalog, what: u8, which: u8, now: i64) -> Event {
    let name = NAMES[usize::from(which) % NAMES.len()];
    let path = StorePath::decode(&format!("hourly/{name}")).unwrap();
    let id = catalog.find(&path).unwrap_or(catalog.next_id);
    let (mode, uid, gid, size) = (0o640, 7, 8, u64::from(which));
    let (mtime_ns, retain_until_ms) = (now * 1000 + 1, now + i64::from(which % 16));
    let by = Actor { uid: 1, login_uid: Some(2) };
    let (hold, reason) = (format!("hold {}", which % 2), "why".to_owned());
    match what % 15 {
        0 => {
            let mut rule = Config::default().classes.remove("hourly").unwrap();
            rule.keep_last = usize::from(which % 3);
            let path = StorePath::decode("hourly").unwrap();
            Event::Class { id: catalog.find(&path).unwrap_or(catalog.next_id), path, rule }
        }
        1 => Event::DirectoryMade { id, path, mode, uid, gid },
        2 => Event::DirectoryChanged { id, mode, uid, gid: 99 },
        3 => Event::DirectoryRemoved { id, path, uid },
        4 => {
            let path = StorePath::decode(&format!("hourly/.incomplete/x.{id}")).unwrap();
            let (meant, why) = (path.clone(), "because".to_owned());
            let id = catalog.next_id;
            Event::Incomplete {
                id,
                path,
                meant,
                size,
                mode,
                uid,
                gid,
                mtime_ns,
                retain_until_ms,
                why,
            }
        }
        5 => Event::Extended { id, path, retain_until_ms, by, reason: None },
        6 => Event::Removed { id, path, why: reason, uid: None, login_uid: None },
        7 => {
            let credit_ms = i64::from(which);
            let (version, reading) = ("0".to_owned(), reading(now));
            Event::Started { version, reading, credit_ms, unsigned: 0, unremoved: 0 }
        }
        8 => {
            let sha256 = Digest::of(&[which]);
            Event::Snapshot(Snapshot { number: 1, up_to: 1, sha256, bytes: 9 })
        }
        9 => Event::Held { id, path, hold, reason, by },
        10 => Event::HoldLifted { id, path, hold, reason, by },
        11 => Event::Released { id, path, reason, by },
        14 => key_changed(catalog, by, reason),
        13 => Event::ClockCredited { reading: reading(now), credit_ms: 1, reason, by },
        _ => {
            let (sha256, governance) = (Digest::of(&[which]), which.is_multiple_of(3));
            Event::Sealed {
                id,
                path,
                size,
                sha256,
                mode,
                uid,
                gid,
                mtime_ns,
                retain_until_ms,
                committed: true,
                governance,
            }
        }
    }
}

fn decode(lines: &[Vec<u8>]) -> Result<Catalog, String> {
    let mut decoder = Decoder::default();
    for line in lines {
        decoder.line(line)?;
    }
    decoder.finish()
}

fn encode(catalog: &Catalog) -> Vec<Vec<u8>> {
    catalog.encode().map(Result::unwrap).collect()
}

fn over(catalog: &Catalog, now: i64) -> Vec<Vec<u64>> {
    let mut groups = catalog.over(now);
    groups.sort();
    groups
}

proptest! {
    /// What comes back is the same in every respect, and goes on in the same way.
    #[test]
    fn a_catalog_survives_its_snapshot(
        happened in vec((any::<u8>(), any::<u8>()), 0..60),
        after in vec((any::<u8>(), any::<u8>()), 0..10),
    ) {
        let mut catalog = catalog(&happened);
        let lines = encode(&catalog);
        let mut decoded = decode(&lines).unwrap();
        prop_assert_eq!(&decoded, &catalog);
        prop_assert_eq!(encode(&decoded), lines);
        for ((what, which), now) in after.iter().zip(100..) {
            let event = event(&catalog, *what, *which, now);
            tell(&mut catalog, now, event.clone());
            tell(&mut decoded, now, event);
            prop_assert_eq!(over(&decoded, now), over(&catalog, now));
        }
        prop_assert_eq!(&decoded, &catalog);
    }
}

/// A group with a sidecar in a directory, something protected, removed and credited.
fn full() -> Catalog {
    let catalog = catalog(&[
        (1, 5),
        (12, 16 + 8),
        (12, 16 + 9),
        (12, 16 + 10),
        (12, 14),
        (12, 0),
        (12, 3),
        (4, 0),
        (7, 3),
        (12, 15),
        (6, 3),
        (9, 14),
        (14, 0),
        (14, 0),
    ]);
    let id = |path: &str| catalog.find(&StorePath::decode(path).unwrap());
    assert_eq!(catalog.group_of(id("hourly/a.sha256").unwrap()).len(), 3);
    assert!(id("hourly/dir/a").is_some() && id("hourly/dir/odd %FF").is_some());
    assert_eq!(catalog.holds.len(), 1);
    assert!(!catalog.removed.is_empty() && !catalog.credits.is_empty());
    assert_eq!(catalog.keys.changes().len(), 2);
    catalog
}

#[test]
fn a_snapshot_that_lacks_a_line_is_none() {
    let lines = encode(&full());
    decode(&lines).unwrap();
    for missing in 0..lines.len() {
        let mut lines = lines.clone();
        lines.remove(missing);
        assert!(decode(&lines).is_err(), "line {}", missing + 1);
    }
    for twice in 0..lines.len() {
        let mut lines = lines.clone();
        lines.insert(twice, lines[twice].clone());
        assert!(decode(&lines).is_err(), "line {} twice", twice + 1);
    }
}

#[test]
fn what_this_version_does_not_know_is_not_passed_over() {
    for (was, is) in [
        ("{\"file\":", "{\"hologram\":"),
        ("\"size\":", "\"held_by\":[],\"size\":"),
        ("\"format\":1", "\"format\":2"),
        ("\"rows\":", "\"mood\":1,\"rows\":"),
    ] {
        let mut changed = 0;
        let lines: Vec<_> = encode(&full())
            .into_iter()
            .map(|line| String::from_utf8(line).unwrap())
            .inspect(|line| changed += usize::from(line.contains(was)))
            .map(|line| line.replace(was, is).into_bytes())
            .collect();
        assert!(decode(&lines).is_err() && changed > 0, "{was}");
    }
}
