//! The checker: compares a store's disk with its ledger, its ledger with its signed head, and
//! both with heads that were carried away earlier. It changes nothing, and may run while a
//! daemon serves the store.
//!
//! A ledger that the daemon would follow is read as the daemon reads it. Where that stops, the
//! lines are looked at one by one ([`survey`]), and the files are compared with all that can
//! still be known.

mod chain;
mod data;
mod known;
mod lines;
mod survey;

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;

use crate::record::Keys;
use crate::store::Access;
use crate::store::OpenError;
use crate::store::Store;
use crate::store::is_served;
use crate::store::layout;
use crate::store::layout::OpenName;
use crate::store::note::Head;
use crate::store::note::NoteError;
use crate::store::note::SignedHead;
use chain::Anchor;
use data::Disk;
use known::Known;
use known::KnownFile;

/// How often, and with what pause, a daemon at work is given time to sign.
const SIGNING_TRIES: u32 = 100;
/// See [`SIGNING_TRIES`].
const SIGNING_PAUSE: std::time::Duration = std::time::Duration::from_millis(50);

/// In which way something is not as it should be.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// The bytes or the kind of a file are not what was sealed.
    Changed,
    /// It is gone.
    Missing,
    /// Nobody recorded it.
    Added,
    /// Its bytes stand under another name.
    Renamed,
    /// It is there and cannot be read.
    Unreadable,
    /// A line of the ledger is not what it was.
    LineChanged,
    /// A line of the ledger is gone.
    LineMissing,
    /// A line of the ledger is there that nothing names.
    LineInserted,
    /// A line of the ledger stands in another place.
    LineMoved,
    /// The end of the ledger is gone.
    Truncated,
    /// Lines of the ledger that no signature reaches.
    Unsigned,
    /// A line of the ledger says what cannot be after those before it.
    Contradiction,
    /// The head is not there or is none.
    Head,
    /// The head is not signed by the key in force at its line.
    Signature,
    /// The key that was given is none of the store's.
    Key,
    /// `store.json` is not there or is not that of this store.
    StoreJson,
    /// The ledger is not the one that an earlier head names.
    Witness,
    /// A snapshot is not what the ledger amounts to, or not the one that was recorded.
    Snapshot,
}

/// Something that is not as it should be.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd, serde::Serialize)]
pub struct Problem {
    /// Where: a path below the mount, or a file of the store.
    pub path: String,
    /// In which way.
    pub kind: Kind,
    /// What is wrong with it, for people.
    pub what: String,
}

/// What a check found.
#[derive(Debug, Default, serde::Serialize)]
pub struct Report {
    /// The store's id; empty when that is not known.
    pub store: String,
    /// Lines of the ledger.
    pub lines: u64,
    /// How many of them the signed head covers.
    pub signed: u64,
    /// Sealed files whose bytes were read and compared.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Logs, of which the beginning that the ledger covers was read and compared.
    pub logs: u64,
    /// Bytes at the ends of logs that the ledger does not cover yet.
    pub uncovered: u64,
    /// Files that were never finished; nothing was promised about them.
    pub incomplete: u64,
    /// Files that are being written at this moment.
    pub open: u64,
    /// Earlier heads that the ledger was compared with.
    pub witnesses: u64,
    /// What is not as it should be.
    pub problems: Vec<Problem>,
    /// What was not checked, a sentence each.
    pub unchecked: Vec<String>,
}

/// How far a check is.
#[derive(Debug, Default)]
pub struct Progress {
    /// Bytes to read.
    pub total: AtomicU64,
    /// Bytes read.
    pub done: AtomicU64,
}

/// An earlier head, or a key, and the file that it was read from.
#[derive(Clone, Debug)]
pub struct Given {
    /// The name of the file, for messages.
    pub name: String,
    /// What it holds.
    pub text: String,
}

/// A check, as it was asked for.
#[derive(Clone, Debug, Default)]
pub struct Check {
    /// How many threads read.
    pub threads: usize,
    /// A key that must be one of the store's, best the newest: a C2SP verifier key.
    pub key: Option<Given>,
    /// Heads that were carried away earlier.
    pub witnesses: Vec<Given>,
}

/// What the ledger says, as far as it can be read.
#[derive(Debug, Default)]
struct Ledger {
    store: String,
    /// The keys that its heads are signed with, one after the other.
    keys: Option<Keys>,
    known: Known,
    lines: u64,
    signed: u64,
    problems: Vec<Problem>,
    unchecked: Vec<String>,
}

/// Checks a store with so many threads, against nothing but itself.
///
/// # Errors
/// When there is no store, or the disk fails. A damaged store is a [`Report`] with problems.
pub fn verify(path: &Path, threads: usize, progress: &Progress) -> Result<Report, OpenError> {
    Check { threads, ..Check::default() }.run(path, progress)
}

impl Check {
    /// Checks a store.
    ///
    /// # Errors
    /// When there is no store, when it is of a newer version, or when the root of it cannot be
    /// read; [`OpenError::Witness`] when an earlier head is none, or of another store. A damaged
    /// store is a [`Report`] with problems.
    pub fn run(&self, path: &Path, progress: &Progress) -> Result<Report, OpenError> {
        let root: OwnedFd = match File::open(path) {
            Ok(root) => root.into(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(OpenError::NotAStore(path.to_owned()));
            }
            Err(error) => return Err(reading(path)(error)),
        };
        let mut problems = Vec::new();
        let disk = Disk::open(root, &mut problems);
        let (ledger, whole) = self.ledger(path, &disk)?;
        let known = &ledger.known;
        let open = disk.open_names().map_err(reading(path))?;
        let (mut findings, uncovered) = data::check(&disk, known, self.threads, progress);
        // While a daemon serves the store it goes on: what differs may be what happened since.
        if !findings.is_empty() && is_served(path) {
            let now = match &whole {
                Some(store) => Known::of_catalog(&store.load()?.catalog),
                None => self.ledger(path, &disk)?.0.known,
            };
            findings.retain(|path, _| {
                known.agrees(&now, path) && (now.contains(path) || !now.leaving.contains(path))
            });
        }
        problems.extend(findings.into_iter().map(|(path, finding)| finding.problem(&path)));
        let count = |which: &dyn Fn(&KnownFile) -> bool| {
            known.files.values().filter(|file| which(file)).count() as u64
        };
        let mut report = Report {
            files: count(&|file| file.sha256.is_some() && !file.is_log),
            logs: count(&|file| file.is_log),
            uncovered,
            incomplete: count(&|file| file.sha256.is_none()),
            bytes: progress.done.load(Ordering::Relaxed),
            witnesses: self.witnesses.len() as u64,
            store: ledger.store,
            lines: ledger.lines,
            signed: ledger.signed,
            problems: ledger.problems,
            unchecked: ledger.unchecked,
            open: 0,
        };
        report
            .problems
            .extend(whole.and_then(|store| unsigned(&store, ledger.keys.as_ref(), &report)));
        report.problems.extend(problems);
        for name in open {
            match OpenName::decode(&name) {
                Some(_) => report.open += 1,
                None => report.problems.push(problem_of_open(&name)),
            }
        }
        self.say_what_was_not_checked(ledger.keys.as_ref(), &mut report);
        Ok(report)
    }

    /// What the ledger says: as the daemon would read it, or else line by line.
    fn ledger(&self, path: &Path, disk: &Disk) -> Result<(Ledger, Option<Store>), OpenError> {
        let (store, loaded) = match Store::open(path, Access::Check) {
            Ok(opened) => opened,
            Err(stopped @ (OpenError::Damaged { .. } | OpenError::Newer { .. })) => {
                return Ok((self.survey(path, disk, stopped)?, None));
            }
            Err(stopped @ OpenError::NotAStore(_)) if disk.ledger.is_some() => {
                return Ok((self.survey(path, disk, stopped)?, None));
            }
            Err(error) => return Err(error),
        };
        let mut ledger = Ledger {
            store: store.id.clone(),
            keys: Some(loaded.catalog.keys.clone()),
            known: Known::of_catalog(&loaded.catalog),
            lines: loaded.catalog.seq + u64::from(loaded.end.bare),
            signed: loaded.signed,
            ..Ledger::default()
        };
        let snapshots = loaded.findings.into_iter();
        let problem = |(path, what)| Problem { path, kind: Kind::Snapshot, what };
        ledger.problems.extend(snapshots.map(problem));
        let anchors = self.anchors(&mut ledger)?;
        if let (false, Some(dir)) = (anchors.is_empty(), &disk.ledger) {
            let mut digests = BTreeMap::new();
            let read = lines::read(dir, &mut ledger.problems, |raw| {
                if let Ok(line) = raw.line {
                    digests
                        .extend(anchors.contains_key(&line.seq).then_some((line.seq, raw.digest)));
                }
            });
            read.map_err(reading(path))?;
            ledger.compare(&anchors, &digests);
        }
        Ok((ledger, Some(store)))
    }

    /// The lines that earlier heads name, by number. A head that is not signed by the key in force
    /// at its line is a problem: of the head, or of the keys.
    fn anchors(&self, ledger: &mut Ledger) -> Result<BTreeMap<u64, Anchor>, OpenError> {
        if let (Some(given), Some(keys)) = (&self.key, &ledger.keys)
            && !keys.has(&given.text)
        {
            let path = layout::STORE_JSON.to_owned();
            let what = format!("the key in {} is none of the store's keys", given.name);
            ledger.problems.push(Problem { path, kind: Kind::Key, what });
        }
        let mut anchors = BTreeMap::new();
        for Given { name, text } in &self.witnesses {
            let wrong = |what: String| OpenError::Witness { name: name.clone(), what };
            let of = Head::store_of(text).ok_or_else(|| wrong("it is not a head".to_owned()))?;
            if of != ledger.store && !ledger.store.is_empty() {
                let id = &ledger.store;
                return Err(wrong(format!("it is a head of store {of}, not of this one, {id}")));
            }
            match self.signed_head(text, ledger) {
                Some(Ok(head)) => {
                    let anchor = Anchor { digest: head.digest, by: name.clone() };
                    anchors.insert(head.seq, anchor);
                }
                Some(Err(error)) => {
                    let what = format!(
                        "{error}: it was changed, or the store's key was, or the change of key \
                         that it comes after is gone from the ledger"
                    );
                    let problem = Problem { path: name.clone(), kind: Kind::Witness, what };
                    ledger.problems.push(problem);
                }
                None => {}
            }
        }
        Ok(anchors)
    }

    /// A head, signed as it must be; `None` when no key is known. A key that was given and that
    /// the ledger does not know is believed more than the ledger.
    fn signed_head(&self, note: &str, ledger: &Ledger) -> Option<Result<Head, NoteError>> {
        let given = self.key.as_ref().map(|given| given.text.as_str());
        let given = given.filter(|key| !ledger.keys.as_ref().is_some_and(|keys| keys.has(key)));
        match (given, &ledger.keys) {
            (Some(key), _) => Some(Head::verify(note, key)),
            (None, Some(keys)) => Some(SignedHead::read(note).and_then(|head| keys.verify(&head))),
            (None, None) => None,
        }
    }

    fn say_what_was_not_checked(&self, keys: Option<&Keys>, report: &mut Report) {
        let say = &mut report.unchecked;
        if self.witnesses.is_empty() {
            say.push(
                "whether the store was rolled back to an older copy, or written anew by somebody \
                 with the key: give heads that were carried away earlier with --witness"
                    .to_owned(),
            );
        }
        match (&self.key, keys.map(Keys::changes)) {
            (None, _) => {
                say.push("whether the store's key is the right one: give it with --key".to_owned());
            }
            (Some(Given { name, text }), Some([.., last])) if *text != last.key => {
                say.push(format!(
                    "whether the newest key is the right one, which signs since line {}: the one \
                     in {name} is older, and whoever has that can put any other after it",
                    last.seq
                ));
            }
            (Some(_), _) => {}
        }
        if report.incomplete > 0 {
            let what = "the bytes of incomplete files: nothing was promised of them";
            say.push(what.to_owned());
        }
        if report.uncovered > 0 {
            let bytes = report.uncovered;
            say.push(format!("{bytes} bytes at the ends of logs: they are not recorded yet"));
        }
        if report.open > 0 {
            say.push("files that are not finished".to_owned());
        }
        say.push("what the disk holds where the page cache answered for it".to_owned());
    }
}

impl Ledger {
    /// Compares lines that can be read with what earlier heads say of them.
    fn compare(
        &mut self,
        anchors: &BTreeMap<u64, Anchor>,
        digests: &BTreeMap<u64, crate::record::Digest>,
    ) {
        for (seq, Anchor { digest, by }) in anchors {
            let what = match digests.get(seq) {
                Some(found) if found == digest => continue,
                Some(_) => format!(
                    "line {seq} is not the one that this head names: the ledger was written anew"
                ),
                None => format!(
                    "this head names line {seq}, and the ledger has {}: the store was rolled \
                     back to an older copy",
                    self.lines
                ),
            };
            self.problems.push(Problem { path: by.clone(), kind: Kind::Witness, what });
        }
    }
}

fn reading(path: &Path) -> impl FnOnce(io::Error) -> OpenError {
    let doing = format!("read {}", path.display());
    move |source| OpenError::Disk { doing, source }
}

/// Lines that the signed head does not reach. A daemon at work signs them in a moment; without
/// one, a crash may have left them, or somebody who has no key may have written them.
fn unsigned(store: &Store, keys: Option<&Keys>, report: &Report) -> Option<Problem> {
    for _ in 0..SIGNING_TRIES {
        let claimed = store.claimed_head().ok().filter(|signed| signed.head.seq >= report.lines);
        let signed = claimed.is_some_and(|signed| {
            // The key may have been changed since the ledger was read.
            keys.is_some_and(|keys| keys.verify(&signed).is_ok())
                || store.load().is_ok_and(|loaded| loaded.signed >= report.lines)
        });
        if signed {
            return None;
        }
        if !is_served(&store.path) {
            break;
        }
        std::thread::sleep(SIGNING_PAUSE);
    }
    Some(problem_of_unsigned(report.signed + 1, report.lines))
}

fn problem_of_unsigned(first: u64, last: u64) -> Problem {
    let what = format!(
        "lines {first} to {last} are not signed: a crash can leave a few, which the next daemon \
         signs; look at them before you mount"
    );
    Problem { path: "ledger".to_owned(), kind: Kind::Unsigned, what }
}

fn problem_of_open(name: &[u8]) -> Problem {
    let path = format!("open/{}", crate::policy::name::encode(name));
    let what = "it was added: this file system makes nothing of that kind".to_owned();
    Problem { path, kind: Kind::Added, what }
}
