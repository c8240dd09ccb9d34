//! Reading a ledger that the daemon would not follow: line by line, and on after what is wrong.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use super::Check;
use super::Kind;
use super::Ledger;
use super::Problem;
use super::chain;
use super::chain::Anchor;
use super::chain::Entry;
use super::data::Disk;
use super::known::Fact;
use super::lines;
use super::lines::RawLine;
use super::problem_of_unsigned;
use super::reading;
use crate::catalog::Catalog;
use crate::record::Event;
use crate::record::KeyChange;
use crate::record::Keys;
use crate::record::Line;
use crate::record::LineError;
use crate::store::OpenError;
use crate::store::StoreJson;
use crate::store::layout;
use crate::store::note::Head;
use crate::store::parse_store_json;
use crate::store::read_small;

/// All lines, and what the first of them says of the store.
#[derive(Default)]
struct Surveyed {
    entries: Vec<Entry>,
    /// The newest line has no end.
    torn: bool,
    /// Id and key of the store, by line 1.
    created: Option<(String, String)>,
    /// What lines say of the store's key.
    changes: Vec<KeyChange>,
    /// Places of lines that a newer version wrote, or that were made to look so.
    newer: Vec<String>,
    chain: Followed,
}

/// Follows the lines for as long as they are a right chain.
#[derive(Default)]
struct Followed {
    catalog: Option<Catalog>,
    broken: bool,
    contradictions: Vec<Problem>,
}

impl Check {
    /// What can be known of a store that cannot be opened because of `stopped`.
    pub(super) fn survey(
        &self,
        path: &Path,
        disk: &Disk,
        stopped: OpenError,
    ) -> Result<Ledger, OpenError> {
        let mut ledger = Ledger::default();
        let json = store_json(path, disk, &mut ledger.problems)?;
        // The head first: a daemon at work signs lines after it has written them.
        let note = read_small(&disk.root, layout::HEAD);
        let mut all = Surveyed::default();
        if let Some(dir) = &disk.ledger {
            lines::read(dir, &mut ledger.problems, |raw| all.add(raw)).map_err(reading(path))?;
        }
        let changes = std::mem::take(&mut all.changes);
        identify(&mut ledger, json, all.created.take(), changes);
        let witnessed = self.anchors(&mut ledger)?;
        let head = self.head(note, &mut ledger);
        ledger.signed = head.as_ref().map_or(0, |head| head.seq);
        all.follow(&mut ledger, &witnessed, head.as_ref());
        let is_good =
            |place: &String| !ledger.problems.iter().any(|problem| problem.path == *place);
        if matches!(stopped, OpenError::Newer { .. }) && all.newer.iter().any(is_good) {
            return Err(stopped);
        }
        if ledger.problems.is_empty() {
            let (path, what) = (path.display().to_string(), stopped.to_string());
            ledger.problems.push(Problem { path, kind: Kind::Contradiction, what });
        }
        Ok(ledger)
    }

    /// The newest signed head, where it is a good one.
    fn head(&self, note: io::Result<Vec<u8>>, ledger: &mut Ledger) -> Option<Head> {
        let (kind, what) = match note.map(String::from_utf8) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                (Kind::Head, "it is missing".to_owned())
            }
            Err(error) => (Kind::Head, format!("it cannot be read: {error}")),
            Ok(Err(_not_text)) => (Kind::Head, "it is not a head".to_owned()),
            Ok(Ok(note)) => match self.signed_head(&note, ledger)? {
                Ok(head) if head.store == ledger.store => return Some(head),
                Ok(head) => (Kind::Head, format!("it is that of store {}", head.store)),
                Err(error) => (Kind::Signature, error.to_string()),
            },
        };
        ledger.problems.push(Problem { path: layout::HEAD.to_owned(), kind, what });
        None
    }
}

/// `store.json`: the store's id and key. Only a newer version's is an error.
fn store_json(
    path: &Path,
    disk: &Disk,
    problems: &mut Vec<Problem>,
) -> Result<Option<StoreJson>, OpenError> {
    let what = match read_small(&disk.root, layout::STORE_JSON) {
        Ok(json) => match parse_store_json(path, &json) {
            Ok(json) => return Ok(Some(json)),
            Err(newer @ OpenError::Newer { .. }) => return Err(newer),
            Err(_damaged) => "it cannot be read: it was changed".to_owned(),
        },
        Err(error) if error.kind() == io::ErrorKind::NotFound => "it is missing".to_owned(),
        Err(error) => format!("it cannot be read: {error}"),
    };
    problems.push(Problem { path: layout::STORE_JSON.to_owned(), kind: Kind::StoreJson, what });
    Ok(None)
}

/// Which store it is, by `store.json` or else by line 1, and which keys sign it.
fn identify(
    ledger: &mut Ledger,
    json: Option<StoreJson>,
    created: Option<(String, String)>,
    mut changes: Vec<KeyChange>,
) {
    let json = json.map(|json| (json.store, json.key));
    if let (Some(json), Some(created)) = (&json, &created)
        && json != created
    {
        let (path, kind) = (layout::STORE_JSON.to_owned(), Kind::StoreJson);
        let what = "it and line 1 of the ledger are not of the same store".to_owned();
        ledger.problems.push(Problem { path, kind, what });
    }
    if let Some((store, key)) = json.or(created) {
        let mut keys = Keys::new(&store, &key);
        changes.sort_by_key(|change| change.seq);
        for change in changes {
            // What is wrong with it is said where its line is judged.
            drop(keys.follow(change));
        }
        (ledger.store, ledger.keys) = (store, Some(keys));
    }
}

impl Surveyed {
    fn add(&mut self, raw: RawLine) {
        let RawLine { place, digest, says, line, torn } = raw;
        self.torn = torn;
        let mut entry = Entry { place, digest, says, unreadable: None, fact: Fact::Other };
        match &line {
            Ok(line) => {
                entry.fact = Fact::of(&line.event);
                if let Event::Created { store, key, .. } = &line.event {
                    self.created.get_or_insert((store.clone(), key.clone()));
                }
                self.changes.extend(KeyChange::of(line));
            }
            Err(LineError::Newer(_)) if says.is_some() => self.newer.push(entry.place.clone()),
            Err(error) => entry.unreadable = Some(error.to_string()),
        }
        self.chain.follow(&entry, line.ok().as_ref());
        self.entries.push(entry);
    }

    /// Judges the lines, and follows those that can be.
    fn follow(
        &mut self,
        ledger: &mut Ledger,
        witnessed: &BTreeMap<u64, Anchor>,
        head: Option<&Head>,
    ) {
        let newest = self.entries.iter().filter_map(|entry| Some(entry.says?.0)).max();
        // A crash leaves that behind the newest line, and nobody was told of it.
        if self.torn && head.is_none_or(|head| newest.is_some_and(|newest| newest >= head.seq)) {
            self.entries.pop();
        }
        let mut anchors = witnessed.clone();
        anchors.extend(
            head.map(|head| {
                (head.seq, Anchor { digest: head.digest, by: layout::HEAD.to_owned() })
            }),
        );
        let judged = chain::judge(&self.entries, &anchors, head.map(|head| head.seq));
        ledger.problems.extend(judged.problems);
        ledger.problems.append(&mut self.chain.contradictions);
        let lost = |problem: &Problem| {
            matches!(
                problem.kind,
                Kind::LineMissing | Kind::LineChanged | Kind::Truncated | Kind::Missing
            )
        };
        ledger.known.lines_lost = ledger.problems.iter().any(lost);
        for index in judged.chosen.values() {
            ledger.known.apply(&self.entries[*index].fact);
        }
        let last = judged.chosen.keys().next_back().copied().unwrap_or(0);
        ledger.lines = judged.chosen.len() as u64;
        if let Some(head) = head.filter(|head| head.seq < last) {
            ledger.problems.push(problem_of_unsigned(head.seq + 1, last));
        }
        // Lines that are there were judged by what the heads say of them.
        let beyond = witnessed.iter().filter(|(seq, _)| **seq > last);
        let beyond = beyond.map(|(seq, anchor)| (*seq, anchor.clone())).collect();
        ledger.compare(&beyond, &BTreeMap::new());
        if let Some((first, last)) = judged.not_vouched {
            ledger.unchecked.push(format!(
                "lines {first} to {last} of the ledger: no signature vouches for all of them any \
                 more; heads that were carried away earlier could (--witness)"
            ));
        }
    }
}

impl Followed {
    /// Follows one more line; what contradicts those before it is passed over.
    fn follow(&mut self, entry: &Entry, line: Option<&Line>) {
        let Some(line) = line.filter(|_| !self.broken) else {
            self.broken = true;
            return;
        };
        let done = match &mut self.catalog {
            None => match Catalog::new(line) {
                Ok(catalog) => self.catalog.insert(catalog).apply(line, entry.digest),
                Err(error) => Err(error),
            },
            Some(catalog) if (line.seq, line.prev) == (catalog.seq + 1, catalog.head) => {
                let done = catalog.apply(line, entry.digest);
                (catalog.seq, catalog.head) = (line.seq, entry.digest);
                done
            }
            Some(_) => {
                self.broken = true;
                Ok(())
            }
        };
        if let Err(error) = done {
            let (path, kind) = (entry.place.clone(), Kind::Contradiction);
            self.contradictions.push(Problem { path, kind, what: error.to_string() });
        }
        self.broken |= self.catalog.is_none();
    }
}
