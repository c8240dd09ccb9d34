//! What a store's ledger amounts to: read from the newest snapshot that can be believed, or from
//! its first line.
//!
//! A snapshot can be believed when the ledger says its digest in a line that the signed head
//! covers, and the lines after it follow on the line that it names. All of that hangs from the
//! signature: whoever has no key can put no other snapshot there. The signature is by the key in
//! force: the one of `store.json`, or one that goes back to it by signatures.

use std::collections::BTreeMap;

use super::Access;
use super::OpenError;
use super::Store;
use super::ledger;
use super::ledger::LedgerError;
use super::ledger::Position;
use super::ledger::Start;
use super::note::NoteError;
use super::note::SignedHead;
use super::snapshot;
use crate::catalog::Catalog;
use crate::catalog::Inconsistent;
use crate::clock::Anchor;
use crate::clock::HOUR_MS;
use crate::clock::Reading;
use crate::clock::rfc3339;
use crate::record::Digest;
use crate::record::Event;
use crate::record::Line;
use crate::record::Snapshot;
use crate::store::layout;

/// What a store's ledger amounts to.
#[derive(Debug)]
pub struct Loaded {
    /// What is alive.
    pub catalog: Catalog,
    /// Where the ledger ends on disk.
    pub end: ledger::End,
    /// How far the signed head reaches.
    pub signed: u64,
    /// The newest clock that the signed part of the ledger knows.
    pub signed_anchor: Anchor,
    /// How many of the downtimes credited are in the signed part.
    pub signed_credits: usize,
    /// The latest moment that a line beyond the signed head claims, on the retention clock.
    pub unsigned_ms: Option<i64>,
    /// The snapshot that it was read from; `None` when it was read from line 1.
    pub from: Option<u64>,
    /// The newest segment that has ended, when its snapshot should be made.
    pub unmade: Option<Ended>,
    /// Snapshots that are not what the ledger says, each with what is wrong with it.
    pub findings: Vec<(String, String)>,
}

/// A segment that takes no more lines.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Ended {
    /// Its number.
    pub segment: u64,
    /// Number of its last line.
    pub seq: u64,
    /// SHA-256 of that line.
    pub digest: Digest,
}

/// How far the unsigned end of a ledger may be ahead of the last signed note of the clocks when
/// the machine was started anew since: the clocks are noted every hour.
const UNSIGNED_MS_MAX: i64 = 2 * HOUR_MS;

impl Loaded {
    /// Whether the lines beyond the signed head can be what a crash left behind. Nobody signed
    /// them, so they are not to be believed about the time: else whoever can write the file
    /// could make everything expire.
    ///
    /// # Errors
    /// One sentence that says what is wrong.
    pub fn check_unsigned(&self, reading: &Reading) -> Result<(), String> {
        let Some(claimed_ms) = self.unsigned_ms else { return Ok(()) };
        let anchor = &self.signed_anchor;
        let latest_ms = if reading.boot == anchor.reading.boot {
            anchor.now(reading)
        } else {
            // A daemon that had just begun may have credited a downtime: no more of it than this
            // start would credit itself.
            let (signed, unsigned) = self.catalog.credits.split_at(self.signed_credits);
            let claimed_ms: i64 = unsigned.iter().map(|credit| credit.credit_ms).sum();
            let (_, credit_ms) = anchor.restart(reading.clone(), signed);
            let most_ms = UNSIGNED_MS_MAX.saturating_add(claimed_ms.min(credit_ms));
            anchor.clock_ms.saturating_add(most_ms)
        };
        if claimed_ms <= latest_ms {
            return Ok(());
        }
        Err(format!(
            "the lines after {} are not signed and claim a time that has not come ({})",
            self.signed,
            rfc3339(claimed_ms)
        ))
    }
}

/// What can stop the reading of a ledger.
enum Stop {
    Ledger(LedgerError),
    Inconsistent(Inconsistent),
    Head(u64),
    Signature(NoteError),
    /// All that was asked for was read.
    Enough,
}

impl From<LedgerError> for Stop {
    fn from(error: LedgerError) -> Self {
        Self::Ledger(error)
    }
}

impl From<Inconsistent> for Stop {
    fn from(error: Inconsistent) -> Self {
        Self::Inconsistent(error)
    }
}

/// What is known while the lines are followed.
struct Fold<'a> {
    /// By whom it is signed is checked where it is reached: that says whose turn it was.
    signed_head: &'a SignedHead,
    catalog: Option<Catalog>,
    /// The snapshot that it began with, as its record must describe it.
    base: Option<Snapshot>,
    /// The segment of the newest line.
    segment: u64,
    /// The newest segment that has ended.
    ended: Option<Ended>,
    /// The clocks, and how many downtimes were credited, at the line that was signed.
    signed: Option<(Anchor, usize)>,
    unsigned_ms: Option<i64>,
    /// The newest signed record of each snapshot.
    records: BTreeMap<u64, Snapshot>,
    /// What a snapshot after each segment would be; kept in a check only.
    expected: Option<BTreeMap<u64, Digest>>,
}

impl<'a> Fold<'a> {
    /// From line 1.
    fn first(signed_head: &'a SignedHead, check: bool) -> Self {
        Self {
            signed_head,
            catalog: None,
            base: None,
            segment: 0,
            ended: None,
            signed: None,
            unsigned_ms: None,
            records: BTreeMap::new(),
            expected: check.then(BTreeMap::new),
        }
    }

    /// From a snapshot, which is not believed before its record was read.
    fn after(signed_head: &'a SignedHead, number: u64, read: snapshot::Read) -> Self {
        let snapshot::Read { catalog, sha256, bytes } = read;
        let base = Some(Snapshot { number, up_to: catalog.seq, sha256, bytes });
        Self { catalog: Some(catalog), base, segment: number, ..Self::first(signed_head, false) }
    }

    fn start(&self) -> Start {
        self.catalog.as_ref().map_or(Start::FIRST, |catalog| Start {
            segment: self.segment + 1,
            seq: catalog.seq,
            digest: catalog.head,
        })
    }

    fn line(&mut self, line: &Line, digest: Digest, position: Position) -> Result<(), Stop> {
        let state = match &mut self.catalog {
            Some(state) => state,
            None => self.catalog.insert(Catalog::new(line)?),
        };
        if position.segment > self.segment.max(1) {
            state.segment_begins();
            let segment = position.segment - 1;
            self.ended = Some(Ended { segment, seq: state.seq, digest: state.head });
            if let Some(expected) = &mut self.expected {
                expected.extend(snapshot::digest(state).ok().map(|(sha256, _)| (segment, sha256)));
            }
        }
        self.segment = position.segment;
        state.apply(line, digest)?;
        let signed_seq = self.signed_head.head.seq;
        if line.seq <= signed_seq
            && let Event::Snapshot(snapshot) = &line.event
        {
            self.records.insert(snapshot.number, snapshot.clone());
        }
        if line.seq == signed_seq {
            let head = state.keys.verify(self.signed_head).map_err(Stop::Signature)?;
            self.signed = Some((state.anchor.clone(), state.credits.len()));
            if digest != head.digest {
                return Err(Stop::Head(line.seq));
            }
        } else if line.seq > signed_seq {
            self.unsigned_ms = self.unsigned_ms.max(Some(line.clock_ms));
        }
        Ok(())
    }

    /// Whether the ledger has the record of the snapshot that it began with.
    fn is_believed(&self) -> bool {
        let recorded = |base: &Snapshot| self.records.get(&base.number) == Some(base);
        self.base.as_ref().is_none_or(recorded)
    }
}

impl Store {
    /// Reads the ledger once more, for those who look while a daemon writes.
    ///
    /// # Errors
    /// [`OpenError`]
    pub fn load(&self) -> Result<Loaded, OpenError> {
        let head = self.claimed_head().map_err(|error| self.damaged_head(&error))?;
        let mut unusable = BTreeMap::new();
        let check = self.access == Access::Check;
        let bases = if check { Vec::new() } else { self.snapshots_there() };
        for number in bases {
            match self.load_after(&head, number) {
                Ok(loaded) => return Ok(with_findings(loaded, &unusable)),
                Err(what) => drop(unusable.insert(number, what)),
            }
        }
        let mut fold = Fold::first(&head, check);
        let end = self.follow(&mut fold, |_| false).map_err(|stop| self.explain(stop))?;
        let expected = fold.expected.take();
        let (mut loaded, records) = self.loaded(fold, end)?;
        match expected {
            Some(expected) => loaded.findings = self.check_snapshots(&records, &expected),
            None => loaded = with_findings((loaded, records), &unusable),
        }
        Ok(loaded)
    }

    /// The snapshots that are there, newest first.
    fn snapshots_there(&self) -> Vec<u64> {
        self.snapshot.as_ref().and_then(|dir| snapshot::numbers(dir).ok()).unwrap_or_default()
    }

    /// Reads a snapshot and what follows it.
    fn load_after(&self, head: &SignedHead, number: u64) -> Result<(Loaded, Records), String> {
        let mut fold = self.fold_after(head, number)?;
        let end = self.follow(&mut fold, |_| false);
        let end = end.map_err(|stop| self.explain(stop).to_string())?;
        if !fold.is_believed() {
            return Err("it is not what its record says".to_owned());
        }
        self.loaded(fold, end).map_err(|error| error.to_string())
    }

    fn fold_after<'a>(&self, head: &'a SignedHead, number: u64) -> Result<Fold<'a>, String> {
        let Some(dir) = &self.snapshot else { return Err("it is gone".to_owned()) };
        Ok(Fold::after(head, number, snapshot::read(dir, number)?))
    }

    fn follow(
        &self,
        fold: &mut Fold<'_>,
        is_enough: impl Fn(Position) -> bool,
    ) -> Result<ledger::End, Stop> {
        let (start, signed) = (fold.start(), fold.signed_head.head.seq);
        ledger::read(&self.ledger, start, signed, |line, digest, position| {
            if is_enough(position) {
                return Err(Stop::Enough);
            }
            fold.line(&line, digest, position)
        })
    }

    fn loaded(&self, fold: Fold<'_>, end: ledger::End) -> Result<(Loaded, Records), OpenError> {
        let Fold { signed_head, catalog, base, ended, signed, unsigned_ms, records, .. } = fold;
        let head = &signed_head.head;
        let catalog = catalog.ok_or_else(|| self.damaged("the ledger is empty".to_owned()))?;
        if catalog.store != self.id || catalog.keys.first() != self.first_key {
            let what = "store.json and the ledger are not of the same store";
            return Err(self.damaged(what.to_owned()));
        }
        let Some((signed_anchor, signed_credits)) = signed else {
            return Err(self.damaged(format!(
                "the ledger ends at line {}, but line {} was signed",
                catalog.seq, head.seq
            )));
        };
        let from = base.map(|base| base.number);
        let loaded = Loaded {
            catalog,
            end,
            signed: head.seq,
            signed_anchor,
            signed_credits,
            unsigned_ms,
            from,
            unmade: ended.filter(|ended| Some(ended.segment) != from),
            findings: Vec::new(),
        };
        Ok((loaded, records))
    }

    fn damaged(&self, what: String) -> OpenError {
        OpenError::Damaged { path: self.path.clone(), what }
    }

    fn damaged_head(&self, error: &NoteError) -> OpenError {
        self.damaged(format!("head: {error}"))
    }

    fn explain(&self, stop: Stop) -> OpenError {
        match stop {
            Stop::Ledger(LedgerError::Newer { segment, line, what }) => OpenError::Newer {
                path: self.path.clone(),
                what: format!("{segment} line {line}: {what}"),
            },
            Stop::Ledger(error) => self.damaged(error.to_string()),
            Stop::Inconsistent(error) => self.damaged(error.to_string()),
            Stop::Head(seq) => self.damaged(format!("line {seq} is not the one that was signed")),
            Stop::Signature(error) => self.damaged_head(&error),
            Stop::Enough => self.damaged("it was not read to its end".to_owned()),
        }
    }

    /// What a segment's snapshot must hold: the state after its last line, from the disk alone,
    /// so that nobody who writes has to wait. `None` when `ending` said so in between.
    ///
    /// # Errors
    /// When the ledger on disk is not what it was.
    pub(crate) fn state_after(
        &self,
        ended: Ended,
        ending: impl Fn() -> bool,
    ) -> Result<Option<Catalog>, OpenError> {
        // What is read must end as it is known to: the head says here only where it may be torn.
        let head = self.claimed_head().map_err(|error| self.damaged_head(&error))?;
        let bases = self.snapshots_there().into_iter().filter(|number| *number < ended.segment);
        for base in bases.map(Some).chain([None]) {
            let fold = match base {
                Some(number) => self.fold_after(&head, number),
                None => Ok(Fold::first(&head, false)),
            };
            let Ok(mut fold) = fold else { continue };
            let is_enough = |position: Position| position.segment > ended.segment || ending();
            match self.follow(&mut fold, is_enough) {
                Ok(_) | Err(Stop::Enough) => {}
                Err(_) if base.is_some() => continue,
                Err(stop) => return Err(self.explain(stop)),
            }
            if ending() {
                return Ok(None);
            }
            let believed = fold.is_believed();
            let Some(mut catalog) = fold.catalog.filter(|_| believed) else { continue };
            if (catalog.seq, catalog.head) == (ended.seq, ended.digest) {
                catalog.segment_begins();
                return Ok(Some(catalog));
            }
        }
        Err(self.damaged(format!("segment {} does not end as it did", ended.segment)))
    }

    /// Writes a segment's snapshot and puts it in its place. Gives its digest and length, or
    /// `None` when `ending` said so in between.
    ///
    /// # Errors
    /// What the disk says.
    pub(crate) fn write_snapshot(
        &self,
        number: u64,
        catalog: &Catalog,
        ending: impl Fn() -> bool,
    ) -> std::io::Result<Option<(Digest, u64)>> {
        match &self.snapshot {
            Some(dir) => snapshot::write(dir, number, catalog, ending),
            None => Err(std::io::ErrorKind::NotFound.into()),
        }
    }

    /// Whether a snapshot is on the disk as it is recorded. It is read from there, not from memory.
    ///
    /// # Errors
    /// One sentence that says what is wrong with it.
    pub(crate) fn read_back(&self, record: &Snapshot) -> Result<(), String> {
        let Some(dir) = &self.snapshot else { return Err("it is gone".to_owned()) };
        let found = snapshot::digest_on_disk(dir, record.number).map_err(|error| error.to_string());
        match found? == (record.sha256, record.bytes) {
            true => Ok(()),
            false => Err("the disk gives back something else".to_owned()),
        }
    }

    /// Removes the snapshots before one that a start can read, and what was left of unfinished
    /// ones. The ledger has it all: no start needs them.
    ///
    /// # Errors
    /// What the disk says; what is left goes the next time.
    pub(crate) fn remove_snapshots_before(&self, number: u64) -> std::io::Result<()> {
        self.snapshot.as_ref().map_or(Ok(()), |dir| snapshot::remove_before(dir, number))
    }

    /// Compares every snapshot with its record and with what the ledger amounts to. Only the
    /// newest must be there; a daemon at work removes it when it has made a newer one.
    fn check_snapshots(
        &self,
        records: &Records,
        expected: &BTreeMap<u64, Digest>,
    ) -> Vec<(String, String)> {
        let check = |record: &Snapshot| -> Result<(), String> {
            let Some(dir) = &self.snapshot else { return Err("it is gone".to_owned()) };
            let snapshot::Read { catalog, sha256, bytes } = snapshot::read(dir, record.number)?;
            if (sha256, bytes) != (record.sha256, record.bytes) {
                return Err(format!("it was changed: SHA-256 {sha256}, not {}", record.sha256));
            }
            let expected = expected.get(&record.number);
            // An older version may have written the same in other words.
            let same = Some(&sha256) == expected
                || snapshot::digest(&catalog).ok().as_ref().map(|(sha256, _)| sha256) == expected;
            if same { Ok(()) } else { Err("it does not hold what the ledger says".to_owned()) }
        };
        let newest = records.keys().next_back().copied();
        let there = self.snapshots_there();
        let due = |number: u64| Some(number) == newest || there.contains(&number);
        let is_served = super::is_served(&self.path);
        let replaced = |number: u64| {
            let now = self.snapshots_there();
            is_served && !now.contains(&number) && now.first().is_some_and(|first| *first > number)
        };
        let wrong = |record: &Snapshot| {
            let what = check(record).err().filter(|_| !replaced(record.number))?;
            Some((path(record.number), what))
        };
        records.values().filter(|record| due(record.number)).filter_map(wrong).collect()
    }
}

/// The newest signed record of each snapshot.
type Records = BTreeMap<u64, Snapshot>;

fn path(number: u64) -> String {
    format!("{}/{}", layout::SNAPSHOT, layout::snapshot(number))
}

/// Names the snapshot that should have been read instead.
fn with_findings(
    (mut loaded, records): (Loaded, Records),
    unusable: &BTreeMap<u64, String>,
) -> Loaded {
    let newest = records.into_keys().next_back();
    let unread = newest.filter(|number| loaded.from.is_none_or(|from| *number > from));
    loaded.findings.extend(unread.map(|number| {
        let what = unusable.get(&number).map_or("it is gone", String::as_str);
        (path(number), format!("{what}: the ledger was read from further back instead"))
    }));
    loaded
}
