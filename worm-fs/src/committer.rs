//! The one writer of the ledger. Whoever has something to record waits here; all who wait are
//! served by one sync (group commit).

use std::collections::HashSet;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::mpsc::Receiver;
use std::sync::mpsc::Sender;
use std::sync::mpsc::SyncSender;
use std::sync::mpsc::channel;
use std::sync::mpsc::sync_channel;
use std::thread::JoinHandle;

use parking_lot::Mutex;
use parking_lot::RwLock;
use rustix::io::Errno;

use crate::catalog::Catalog;
use crate::clock::Clock;
use crate::clock::Reading;
use crate::clock::rfc3339;
use crate::error::Error;
use crate::error::Result;
use crate::fs::state::State;
use crate::record::Digest;
use crate::record::Event;
use crate::record::Line;
use crate::store::Ended;
use crate::store::durable;
use crate::store::layout;
use crate::store::ledger::append::Appender;
use crate::store::ledger::append::Trust;
use crate::store::note::Head;
use crate::store::note::StoreSigner;
use crate::store::note::Succession;

/// How many requests one sync serves at most.
const BATCH_MAX: usize = 256;

/// Something to record.
#[derive(Debug)]
pub(crate) struct Draft {
    pub(crate) event: Event,
    /// For how long the file is kept from the moment of the record, in milliseconds.
    pub(crate) kept_ms: Option<i64>,
    /// The key that signs from this record on, which the key before it signs in turn.
    pub(crate) signer: Option<StoreSigner>,
}

impl From<Event> for Draft {
    fn from(event: Event) -> Self {
        Self { event, kept_ms: None, signer: None }
    }
}

/// Something to record, and who waits for it.
struct Job {
    drafts: Vec<Draft>,
    done: SyncSender<Result<()>>,
}

/// Takes events from any thread and returns when they are in the ledger for good.
#[derive(Debug)]
pub(crate) struct Committer {
    jobs: Mutex<Option<Sender<Job>>>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Committer {
    pub(crate) fn start(writer: Writer) -> std::io::Result<Self> {
        let (jobs, work) = channel();
        let thread = std::thread::Builder::new()
            .name("ledger".to_owned())
            .spawn(move || writer.run(&work))?;
        Ok(Self { jobs: Mutex::new(Some(jobs)), thread: Mutex::new(Some(thread)) })
    }

    /// Records events, together and in this order. When it returns `Ok` they are on the disk,
    /// covered by the signed head, and part of the state.
    pub(crate) fn commit(&self, drafts: Vec<Draft>) -> Result<()> {
        let ended = || Error::Stopped("the daemon is ending".to_owned());
        let (done, answer) = sync_channel(1);
        let jobs = self.jobs.lock().clone().ok_or_else(ended)?;
        jobs.send(Job { drafts, done }).map_err(|_closed| ended())?;
        drop(jobs);
        answer.recv().map_err(|_closed| ended())?
    }

    /// Ends after all that was handed in.
    pub(crate) fn stop(&self) {
        drop(self.jobs.lock().take());
        if let Some(thread) = self.thread.lock().take()
            && thread.join().is_err()
        {
            tracing::error!("the ledger's thread panicked");
        }
    }
}

/// What the ledger's thread works with.
pub(crate) struct Writer {
    pub(crate) ledger: Appender,
    pub(crate) root: OwnedFd,
    pub(crate) signer: StoreSigner,
    pub(crate) state: Arc<RwLock<State>>,
    pub(crate) clock: Arc<dyn Clock>,
    /// From how many bytes on a segment ends.
    pub(crate) segment_bytes: u64,
    /// Who is told that one has ended.
    pub(crate) ended: Sender<Ended>,
}

/// What the jobs of a batch touch.
#[derive(Debug, Default)]
struct Touched {
    /// Files and directories that change, with the files that end together with them.
    changed: HashSet<u64>,
    /// Directories in which something is made or removed.
    parents: HashSet<u64>,
    /// Files and directories that go.
    gone: HashSet<u64>,
}

impl Touched {
    /// Adds what a job touches, unless an earlier job touches it as well.
    fn admit(&mut self, catalog: &Catalog, drafts: &[Draft]) -> bool {
        let (mut changed, mut parents, mut gone) = (Vec::new(), Vec::new(), Vec::new());
        for Draft { event, .. } in drafts {
            let Some((id, path)) = event.subject() else { continue };
            changed.extend(catalog.group_of(id));
            parents.extend(path.and_then(|path| catalog.find(&path.split().0)));
            gone.extend(event.removal().map(|_| id));
        }
        let apart = !changed.iter().any(|id| self.changed.contains(id))
            && !parents.iter().any(|id| self.gone.contains(id))
            && !gone.iter().any(|id| self.parents.contains(id));
        if apart {
            self.changed.extend(changed);
            self.parents.extend(parents);
            self.gone.extend(gone);
        }
        apart
    }
}

/// Lines that are ready.
#[derive(Default)]
struct Ready {
    /// Each with its digest.
    lines: Vec<(Line, Digest)>,
    /// All of them, encoded.
    bytes: Vec<u8>,
    /// The key that signs after them, where that is another than before.
    signer: Option<StoreSigner>,
}

impl Writer {
    fn run(mut self, work: &Receiver<Job>) {
        while let Ok(first) = work.recv() {
            let mut batch = vec![first];
            while batch.len() < BATCH_MAX
                && let Ok(next) = work.try_recv()
            {
                batch.push(next);
            }
            while !batch.is_empty() {
                let later = self.admit(&mut batch);
                self.serve(batch);
                batch = later;
            }
        }
    }

    /// Answers jobs that contradict the state, so that no line which could not be followed
    /// reaches the disk, and takes out those that touch what an earlier one of the batch touches:
    /// they are looked at again when that is done.
    fn admit(&self, batch: &mut Vec<Job>) -> Vec<Job> {
        let (mut touched, mut later) = (Touched::default(), Vec::new());
        let reading = self.clock.read();
        let state = self.state.read();
        let now_ms = state.catalog.anchor.now(&reading);
        for job in std::mem::take(batch) {
            if !later.is_empty() || !touched.admit(&state.catalog, &job.drafts) {
                later.push(job);
                continue;
            }
            let check = |draft: &Draft| state.catalog.check(&draft.event, now_ms);
            match job.drafts.iter().try_for_each(check) {
                Ok(()) => batch.push(job),
                Err(what) => {
                    tracing::warn!(what, "not recorded: something else came first");
                    let came_first = Error::store("record it")(Errno::BUSY);
                    drop(job.done.send(Err(came_first)));
                }
            }
        }
        later
    }

    fn serve(&mut self, batch: Vec<Job>) {
        let (drafts, waiting): (Vec<_>, Vec<_>) =
            batch.into_iter().map(|job| (job.drafts, job.done)).unzip();
        let outcome = self.record(drafts);
        for done in waiting {
            let answer = match &outcome {
                Ok(()) => Ok(()),
                Err((why, errno)) => Err(Error::Store {
                    doing: "write the ledger",
                    source: errno.map_or_else(|| std::io::Error::other(why.clone()), Into::into),
                }),
            };
            // Nobody waits any more: the outcome stands all the same.
            drop(done.send(answer));
        }
    }

    /// Appends, syncs, signs, and only then lets the state follow.
    fn record(
        &mut self,
        batch: Vec<Vec<Draft>>,
    ) -> std::result::Result<(), (String, Option<Errno>)> {
        if let Some(why) = self.state.read().stopped.clone() {
            return Err((why, Some(Errno::IO)));
        }
        self.end_segment();
        let reading = self.clock.read();
        let Ready { lines, bytes, signer } =
            self.lines(batch, &reading).map_err(|why| (why, Some(Errno::INVAL)))?;
        let Some((last, digest)) = lines.last() else { return Ok(()) };
        if let Err(error) = self.ledger.reserve() {
            tracing::warn!(%error, "no room to reserve for the ledger");
        }
        // What the head needs is taken first: without it nothing is written at all.
        let spare = durable::open_spare(&self.root, layout::HEAD_SPARE).map_err(|error| {
            (format!("the head cannot be written: {error}"), Errno::from_io_error(&error))
        })?;
        if let Err((error, trust)) = self.ledger.append(&bytes) {
            let why = format!("the ledger cannot be written: {error}");
            if trust == Trust::Lost {
                self.stop(&why);
            }
            return Err((why, Errno::from_io_error(&error)));
        }
        let store = self.state.read().catalog.store.clone();
        let head = Head { store, seq: last.seq, digest: *digest };
        if let Some(signer) = signer {
            self.signer = signer;
        }
        let note = self.signer.sign(&head);
        let names = (layout::HEAD, layout::HEAD_SPARE);
        let replaced = durable::replace_by(&self.root, names, spare, note.as_bytes());
        if let Err(error) = replaced {
            // The lines are there but not covered: nothing may be acknowledged any more.
            let why = format!("the head cannot be written: {error}");
            self.stop(&why);
            return Err((why, Errno::from_io_error(&error)));
        }
        let mut state = self.state.write();
        let end = (self.ledger.segment(), self.ledger.bytes());
        state.carry.signed(&note, last.seq, end, reading.system_ms);
        for (line, digest) in &lines {
            if let Err(error) = state.catalog.apply(line, *digest) {
                let why = format!("the ledger contradicts itself: {error}");
                state.alarm(why.clone());
                state.stopped = Some(why.clone());
                return Err((why, Some(Errno::IO)));
            }
        }
        let now_ms = state.catalog.anchor.now(&reading);
        state.settle(now_ms);
        Ok(())
    }

    /// Goes on in a new segment when it is time.
    fn end_segment(&mut self) {
        let ended = {
            let catalog = &self.state.read().catalog;
            if !ends_segment(catalog, self.ledger.bytes(), self.segment_bytes) {
                return;
            }
            Ended { segment: self.ledger.segment(), seq: catalog.seq, digest: catalog.head }
        };
        match self.ledger.begin_next() {
            Ok(()) => {
                if let Err(error) = self.ended.send(ended) {
                    tracing::warn!(%error, "no snapshot: the ledger is read from further back");
                }
            }
            Err(error) => tracing::warn!(%error, "no new segment: the old one goes on"),
        }
    }

    fn lines(
        &self,
        batch: Vec<Vec<Draft>>,
        reading: &Reading,
    ) -> std::result::Result<Ready, String> {
        let (mut seq, mut prev, mut now) = {
            let state = self.state.read();
            (state.catalog.seq, state.catalog.head, state.catalog.anchor.now(reading))
        };
        let time = rfc3339(reading.system_ms);
        let mut ready = Ready::default();
        for Draft { event, kept_ms, signer } in batch.into_iter().flatten() {
            // A restart and a credit bring their own clock: the jump is part of the line.
            if let Event::Started { credit_ms, reading, .. } = &event {
                now = self.state.read().catalog.anchor.started(reading, *credit_ms);
            } else if let Event::ClockCredited { credit_ms, .. } = &event {
                now = now.saturating_add(*credit_ms);
            }
            let clock_ms = now;
            let event = match kept_ms {
                Some(kept_ms) => event.kept_until(clock_ms.saturating_add(kept_ms)),
                None => event,
            };
            let mut event = event.noting(reading);
            seq += 1;
            if let Event::KeyChanged { key, signature, .. } = &mut event {
                let next = signer.ok_or("a change of key brings the key")?;
                let store = &self.state.read().catalog.store;
                let words = Succession { store, seq, prev, key };
                *signature = ready.signer.as_ref().unwrap_or(&self.signer).hand_over(&words);
                ready.signer = Some(next);
            }
            let line = Line { seq, prev, clock_ms, time: time.clone(), event };
            let encoded = line.encode().map_err(|error| error.to_string())?;
            prev = Digest::of(&encoded);
            ready.bytes.extend_from_slice(&encoded);
            ready.lines.push((line, prev));
        }
        Ok(ready)
    }

    fn stop(&self, why: &str) {
        let mut state = self.state.write();
        state.alarm(why.to_owned());
        state.stopped = Some(why.to_owned());
    }
}

/// Whether a segment of so many bytes takes no more lines: it is long enough, and longer than
/// the snapshot that a start reads instead of what came before. Not while something is being
/// removed: so whoever reads from its end on has no removal from before that to finish.
fn ends_segment(catalog: &Catalog, bytes: u64, segment_bytes: u64) -> bool {
    let snapshot_bytes = catalog.snapshot.as_ref().map_or(0, |snapshot| snapshot.bytes);
    bytes > segment_bytes.max(snapshot_bytes) && catalog.removed.is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::name::StorePath;
    use crate::record::Snapshot;

    #[test]
    fn a_segment_ends_when_it_is_long_and_nothing_is_being_removed() {
        let reading = Reading { boot: "b".into(), raw_ms: 0, suspend_ms: 0, system_ms: 0 };
        let event = Event::Created { format: 1, store: "s".into(), key: "k".into(), reading };
        let first = Line { seq: 1, prev: Digest::ZERO, clock_ms: 0, time: String::new(), event };
        let mut catalog = Catalog::new(&first).unwrap();
        assert!(!ends_segment(&catalog, 100, 100));
        assert!(ends_segment(&catalog, 101, 100));
        let (number, up_to, sha256, bytes) = (1, 1, Digest::ZERO, 500);
        catalog.snapshot = Some(Snapshot { number, up_to, sha256, bytes });
        assert!(!ends_segment(&catalog, 500, 100));
        assert!(ends_segment(&catalog, 501, 100));
        catalog.removed.insert(StorePath::decode("hourly/a").unwrap(), 1);
        assert!(!ends_segment(&catalog, 501, 100));
    }
}
