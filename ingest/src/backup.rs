//! One database, backed up: observe, dump, prove, seal, check, describe.
//!
//! The order is the safety. Nothing is created before the database has answered. Nothing is sealed
//! before it is proven. The manifest comes last, and without it there is no backup: whatever stops
//! us in between, the worst that is left is a sealed dump that nobody counts.
//!
//! One dump serves all classes of a run: the same bytes go into a file of each. What befalls one
//! class (a full one, for example) ends that file alone.

use std::io;
use std::io::PipeReader;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::audit;
use crate::audit::Record;
use crate::config::Config;
use crate::error::Error;
use crate::job::Part;
use crate::manifest::DIGEST_SUFFIX;
use crate::manifest::FORMAT;
use crate::manifest::MANIFEST_SUFFIX;
use crate::manifest::Manifest;
use crate::name;
use crate::progress;
use crate::proof;
use crate::proof::Proven;
use crate::source::Facts;
use crate::source::Source;
use crate::source::child::Dump;
use crate::source::postgres::Postgres;
use crate::stream::pipeline;
use crate::stream::pipeline::Progress;
use crate::stream::pipeline::StreamError;
use crate::stream::pipeline::Streamed;
use crate::vault::Attributes;
use crate::vault::Class;
use crate::vault::Draft;
use crate::vault::Kind;
use crate::vault::Tee;
use crate::vault::VaultError;

/// After the child was ended, its stream must end in this time.
const GRACE: Duration = Duration::from_secs(5);

/// One database and its classes.
#[derive(Clone, Debug)]
pub(crate) struct Order {
    pub(crate) config: Arc<Config>,
    /// Where it is to be sealed.
    pub(crate) classes: Vec<String>,
    /// The run that this is a part of.
    pub(crate) run_id: String,
    /// When that began: the name of the backup.
    pub(crate) now: Timestamp,
}

/// Makes one dump and seals it in every class. There is one part for each class, in their order.
///
/// `cancelled` turns true when it is to stop.
pub(crate) async fn run(order: Order, cancelled: watch::Receiver<bool>) -> Vec<Part> {
    let database = &order.config.target.database;
    let record = |class| Record::begun(order.now, &order.run_id, class, database);
    let parts = order.classes.iter().map(|class| Part { record: record(class), error: None });
    let mut run = Run { parts: parts.collect(), cancelled, order: &order };
    if let Err(error) = run.attempt().await {
        let error = Arc::new(error);
        for part in run.parts.iter_mut().filter(|part| part.error.is_none()) {
            part.error = Some(Arc::clone(&error));
        }
    }
    run.parts
}

/// A run under way.
struct Run<'order> {
    order: &'order Order,
    cancelled: watch::Receiver<bool>,
    parts: Vec<Part>,
}

/// A class that still takes part.
struct Seat {
    /// Its place among the parts.
    part: usize,
    class: Arc<Class>,
}

/// What is common to the backups of all classes.
struct Dumped {
    facts: Facts,
    proven: Proven,
    streamed: Streamed,
}

/// What a stream gives back: its result, and the files, which are still drafts.
type Streaming = JoinHandle<(Result<Streamed, StreamError>, Tee)>;

impl Run<'_> {
    /// An error befalls all parts that have none of their own yet.
    async fn attempt(&mut self) -> Result<(), Error> {
        let config = &self.order.config;
        let seats = self.take_seats();
        if seats.is_empty() {
            return Ok(());
        }
        audit::check(&config.audit_log)
            .map_err(|source| Error::AuditUnwritable { path: config.audit_log.clone(), source })?;
        let (target, around) = (config.target.clone(), config.around.clone());
        let directory = config.client_directory.clone();
        let mut source = Postgres::new(target, around, directory, config.lock_wait_timeout);
        let facts = tokio::select! {
            facts = source.observe() => facts?,
            () = stopped(&mut self.cancelled) => return Err(Error::Cancelled),
        };
        for part in &mut self.parts {
            part.record.database.clone_from(&facts.database);
        }

        let tee = self.create(&seats)?;
        if tee.name().is_none() {
            self.give_up(&seats, tee);
            return Ok(());
        }
        let dump = source.dump(&facts)?;
        let (tee, proven, streamed) = self.stream(dump, tee, &seats, &facts).await?;
        for table in &proven.unexpected {
            tracing::warn!(table, "is in the dump although the catalogue did not promise it");
        }

        // From here a signal comes too late: a few small files remain, and then it is done.
        let dumped = Dumped { facts, proven, streamed };
        for (seat, draft) in seats.iter().zip(tee.into_drafts()) {
            let sealed = draft.map_err(Error::from).and_then(|d| self.seal(seat, d, &dumped));
            self.parts[seat.part].error = sealed.err().map(Arc::new);
        }
        Ok(())
    }

    /// Opens the classes. One that cannot be opened has failed.
    fn take_seats(&mut self) -> Vec<Seat> {
        let config = &self.order.config;
        let mut seats = Vec::with_capacity(self.parts.len());
        for (at, (class, part)) in self.order.classes.iter().zip(&mut self.parts).enumerate() {
            match Class::open(&config.backups, class, config.allow_plain) {
                Ok(class) => seats.push(Seat { part: at, class: Arc::new(class) }),
                Err(error) => part.error = Some(Arc::new(error.into())),
            }
        }
        seats
    }

    /// Takes the first name that is free in all classes.
    fn create(&mut self, seats: &[Seat]) -> Result<Tee, Error> {
        let classes: Vec<Arc<Class>> = seats.iter().map(|seat| Arc::clone(&seat.class)).collect();
        let tee = Tee::create(&classes, name::candidates(self.order.now))?;
        let wished = name::backup_name(self.order.now);
        let Some(got) = tee.name() else { return Ok(tee) };
        let taken = wished != got;
        if taken {
            tracing::info!(wished, got, "the name was taken, the next free second is used");
        }
        for (_, seat) in seats.iter().enumerate().filter(|(at, _)| tee.holds(*at)) {
            let record = &mut self.parts[seat.part].record;
            record.name = Some(got.to_owned());
            record.wished_name = taken.then(|| wished.clone());
        }
        Ok(tee)
    }

    /// Notes which classes have failed. The others, if there are any, end with the drafts.
    fn give_up(&mut self, seats: &[Seat], tee: Tee) {
        for (seat, draft) in seats.iter().zip(tee.into_drafts()) {
            if let Err(error) = draft {
                self.parts[seat.part].error = Some(Arc::new(error.into()));
            }
        }
    }

    /// Carries the dump into the drafts, and gives them back only if the dump is proven whole.
    async fn stream(
        &mut self,
        mut dump: Dump,
        tee: Tee,
        seats: &[Seat],
        facts: &Facts,
    ) -> Result<(Tee, Proven, Streamed), Error> {
        let failed = |doing: &str| {
            let doing = doing.to_owned();
            move |source| Error::Stream { doing, source }
        };
        let progress = Arc::new(Progress::default());
        let pipe = dump.take_stdout().map_err(failed("read from pg_dump"))?;
        let level = self.order.config.compression.level;
        let mut streaming = start(pipe, tee, level, Arc::clone(&progress));

        let patience = self.order.config.stall_timeout;
        let finished = tokio::select! {
            finished = &mut streaming => Ok(finished),
            () = stopped(&mut self.cancelled) => Err(Stop::Cancelled),
            () = progress::stalled(&progress, patience) => Err(Stop::Stalled(patience)),
            never = progress::show(&progress) => match never {},
        };
        let finished = match finished {
            Ok(finished) => finished,
            Err(stop) => {
                let error = stop.end(dump).await;
                // The drafts end here, or, should the stream hang, with this process.
                drop(tokio::time::timeout(GRACE, streaming).await);
                return Err(error);
            }
        };
        let (streamed, tee) = finished.map_err(|panic| Error::Internal(panic.to_string()))?;
        let streamed = match streamed {
            Ok(streamed) => streamed,
            Err(error) => {
                dump.stop().await;
                self.give_up(seats, tee);
                let doing = error.to_string();
                let (StreamError::Read(source)
                | StreamError::Compress(source)
                | StreamError::Write(source)) = error;
                return Err(Error::Stream { doing, source });
            }
        };
        let ending = tokio::select! {
            ending = dump.wait() => ending.map_err(failed("wait for pg_dump"))?,
            () = stopped(&mut self.cancelled) => return Err(Stop::Cancelled.end(dump).await),
            () = tokio::time::sleep(patience) => {
                return Err(Stop::Stalled(patience).end(dump).await);
            }
        };
        let words = dump.last_words().await;
        match proof::prove(ending, &streamed.report, &facts.tables) {
            Ok(proven) => {
                if !words.is_empty() {
                    tracing::warn!(words, "pg_dump had something to say");
                }
                Ok((tee, proven, streamed))
            }
            Err(flaw) => {
                self.give_up(seats, tee);
                Err(Error::NotWhole { flaw, words })
            }
        }
    }

    /// Seals a proven dump in one class, makes sure that it is there, and describes it.
    fn seal(&mut self, seat: &Seat, draft: Draft, dumped: &Dumped) -> Result<(), Error> {
        let (class, name) = (&seat.class, draft.name().to_owned());
        draft.seal()?;
        let finished = Timestamp::now();
        let attributes = class.attributes(&name)?;
        compare(&name, class.kind(), &dumped.streamed, &attributes)?;
        let record = &mut self.parts[seat.part].record;
        note(record, dumped, &attributes);
        let manifest = self.manifest(seat, &name, dumped, &attributes, finished);
        describe(class, &manifest)
            .map_err(|source| Error::NoManifest { name, source: Box::new(source) })
    }

    fn manifest(
        &self,
        seat: &Seat,
        name: &str,
        dumped: &Dumped,
        attributes: &Attributes,
        finished_at: Timestamp,
    ) -> Manifest {
        let Dumped { facts, proven, streamed } = dumped;
        Manifest {
            format: FORMAT,
            name: name.to_owned(),
            class: self.order.classes[seat.part].clone(),
            classes: self.order.classes.clone(),
            run_id: Some(self.order.run_id.clone()),
            database: facts.database.clone(),
            started_at: self.order.now,
            finished_at,
            agent: concat!("worm-ingest ", env!("CARGO_PKG_VERSION")).to_owned(),
            server_version: facts.server_version.clone(),
            server_version_num: facts.server_version_num,
            dump_version: facts.dump_version.clone(),
            snapshot: facts.snapshot.clone(),
            database_bytes: facts.database_bytes,
            compression: self.order.config.compression.clone(),
            raw: streamed.raw.clone(),
            stored: streamed.stored.clone(),
            tables: proven.tables.clone(),
            extensions: facts.extensions.clone(),
            retain_until: attributes.retain_until,
            store: match seat.class.kind() {
                Kind::Worm(store) => Some(store.clone()),
                Kind::Plain => None,
            },
        }
    }
}

/// Writes down for the record what the backup holds.
fn note(record: &mut Record, dumped: &Dumped, attributes: &Attributes) {
    let Dumped { proven, streamed, .. } = dumped;
    record.bytes = Some(streamed.stored.bytes);
    record.raw_bytes = Some(streamed.raw.bytes);
    record.sha256 = Some(streamed.stored.sha256.clone());
    record.tables = Some(proven.tables.len());
    record.rows = Some(proven.tables.iter().map(|table| table.rows).sum());
    record.retain_until = attributes.retain_until;
}

/// Why a dump is ended before its own end.
enum Stop {
    Cancelled,
    /// Nothing had moved for so long.
    Stalled(Duration),
}

impl Stop {
    /// Ends the dump, and says what to tell.
    async fn end(self, mut dump: Dump) -> Error {
        dump.stop().await;
        match self {
            Self::Cancelled => Error::Cancelled,
            Self::Stalled(patience) => Error::Stalled { patience, words: dump.last_words().await },
        }
    }
}

/// Starts the stream on threads of its own. It gives the drafts back whatever happens.
fn start(pipe: PipeReader, mut tee: Tee, level: i32, progress: Arc<Progress>) -> Streaming {
    tokio::task::spawn_blocking(move || {
        let result = pipeline::run(pipe, &mut tee, level, &progress);
        (result, tee)
    })
}

/// Waits for the word to stop. If nobody can give it any more, for ever.
async fn stopped(cancelled: &mut watch::Receiver<bool>) {
    if cancelled.wait_for(|stop| *stop).await.is_err() {
        std::future::pending::<()>().await;
    }
}

/// The sealed file must be what was written: by its length, and by the digest that the mount took
/// on its own side of the kernel.
fn compare(
    name: &str,
    kind: &Kind,
    streamed: &Streamed,
    attributes: &Attributes,
) -> Result<(), Error> {
    let written = &streamed.stored;
    let what = match (kind, &attributes.sha256) {
        _ if attributes.bytes != written.bytes => {
            format!("it has {} bytes, {} were written", attributes.bytes, written.bytes)
        }
        (Kind::Worm(_), None) => "the mount does not tell its digest".to_owned(),
        (_, Some(digest)) if *digest != written.sha256 => {
            format!("the mount has digest {digest}, {} was written", written.sha256)
        }
        _ => return Ok(()),
    };
    Err(Error::Mismatch { name: name.to_owned(), what })
}

/// Writes what belongs to a sealed dump. The manifest comes last: with it the backup exists.
fn describe(class: &Arc<Class>, manifest: &Manifest) -> Result<(), Error> {
    let name = &manifest.name;
    let digest = format!("{}  {name}\n", manifest.stored.sha256);
    class.put(&format!("{name}{DIGEST_SUFFIX}"), digest.as_bytes())?;
    let encoded = manifest.encode().map_err(io::Error::other);
    let encoded =
        encoded.map_err(|source| VaultError::io("describe", class.path().join(name), source))?;
    class.put(&format!("{name}{MANIFEST_SUFFIX}"), &encoded)?;
    Ok(())
}
