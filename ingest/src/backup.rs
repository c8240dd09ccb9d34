//! One run: observe, dump, prove, seal, check, describe. Ends in a record and an audit line.
//!
//! The order is the safety. Nothing is created before the database has answered. Nothing is sealed
//! before it is proven. The manifest comes last, and without it there is no backup: whatever stops
//! us in between, the worst that is left is a sealed dump that nobody counts.

use std::io;
use std::io::PipeReader;
use std::sync::Arc;
use std::time::Duration;
use std::time::Instant;

use jiff::Timestamp;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::audit;
use crate::audit::Record;
use crate::config::Config;
use crate::error::Error;
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
use crate::vault::VaultError;

/// After the child was ended, its stream must end in this time.
const GRACE: Duration = Duration::from_secs(5);

/// Makes one backup. The record tells what became of it, also when there is an error.
///
/// `cancelled` turns true when the run is to stop.
pub async fn run(config: &Config, cancelled: watch::Receiver<bool>) -> (Record, Option<Error>) {
    let (now, clock) = (Timestamp::now(), Instant::now());
    let mut run = Run { config, now, cancelled, record: first_record(config, now) };
    let result = run.attempt().await;

    let mut record = run.record;
    record.duration_ms = u64::try_from(clock.elapsed().as_millis()).unwrap_or(u64::MAX);
    record.ts = Timestamp::now();
    record.conclude(result.as_ref().err());
    let written = audit::append(&config.audit_log, &record);
    let error = match (result, written) {
        (result, Ok(())) => result.err(),
        // A sealed backup is not taken back for the sake of a log.
        (Ok(()), Err(source)) => Some(Error::AuditLost {
            name: record.name.clone().unwrap_or_default(),
            path: config.audit_log.clone(),
            source,
        }),
        (Err(error @ Error::AuditUnwritable { .. }), Err(_)) => Some(error),
        (Err(error), Err(source)) => {
            let path = config.audit_log.display();
            tracing::warn!(%path, %source, "the audit log could not be written either");
            Some(error)
        }
    };
    record.conclude(error.as_ref());
    (record, error)
}

fn first_record(config: &Config, now: Timestamp) -> Record {
    Record {
        ts: now,
        event: "backup",
        run_id: format!("{}-{}", now.strftime("%Y%m%dT%H%M%S%.3fZ"), std::process::id()),
        class: config.class.clone(),
        database: config.target.database.clone(),
        outcome: "",
        exit: 0,
        duration_ms: 0,
        name: None,
        wished_name: None,
        bytes: None,
        raw_bytes: None,
        sha256: None,
        tables: None,
        rows: None,
        retain_until: None,
        error: None,
    }
}

/// A run under way.
struct Run<'config> {
    config: &'config Config,
    now: Timestamp,
    cancelled: watch::Receiver<bool>,
    record: Record,
}

/// What a stream gives back: its result, and the file, which is still a draft.
type Streaming = JoinHandle<(Result<Streamed, StreamError>, Draft)>;

impl Run<'_> {
    async fn attempt(&mut self) -> Result<(), Error> {
        let config = self.config;
        let class = Class::open(&config.backups, &config.class, config.allow_plain)?;
        let class = Arc::new(class);
        audit::check(&config.audit_log)
            .map_err(|source| Error::AuditUnwritable { path: config.audit_log.clone(), source })?;
        let (target, around) = (config.target.clone(), config.around.clone());
        let directory = config.client_directory.clone();
        let mut source = Postgres::new(target, around, directory, config.lock_wait_timeout);
        let facts = tokio::select! {
            facts = source.observe() => facts?,
            () = stopped(&mut self.cancelled) => return Err(Error::Cancelled),
        };
        self.record.database.clone_from(&facts.database);

        let draft = self.create(&class)?;
        let dump = source.dump(&facts)?;
        let (draft, proven, streamed) = self.stream(dump, draft, &facts).await?;
        for table in &proven.unexpected {
            tracing::warn!(table, "is in the dump although the catalogue did not promise it");
        }

        // From here a signal comes too late: a few small files remain, and then it is done.
        let name = draft.name().to_owned();
        draft.seal()?;
        let finished = Timestamp::now();
        let attributes = class.attributes(&name)?;
        compare(&name, class.kind(), &streamed, &attributes)?;
        self.note(&proven, &streamed, &attributes);
        let manifest = self.manifest(&class, facts, proven, streamed, &attributes, finished);
        describe(&class, &manifest)
            .map_err(|source| Error::NoManifest { name, source: Box::new(source) })
    }

    /// Takes the first free name.
    fn create(&mut self, class: &Arc<Class>) -> Result<Draft, Error> {
        let draft = class.create_first_free(name::candidates(self.now))?;
        let (wished, got) = (name::backup_name(self.now), draft.name().to_owned());
        if wished != got {
            tracing::info!(wished, got, "the name was taken, the next free second is used");
            self.record.wished_name = Some(wished);
        }
        self.record.name = Some(got);
        Ok(draft)
    }

    /// Carries the dump into the draft, and gives it back only if the dump is proven whole.
    async fn stream(
        &mut self,
        mut dump: Dump,
        draft: Draft,
        facts: &Facts,
    ) -> Result<(Draft, Proven, Streamed), Error> {
        let failed = |doing: &str| {
            let doing = doing.to_owned();
            move |source| Error::Stream { doing, source }
        };
        let progress = Arc::new(Progress::default());
        let pipe = dump.take_stdout().map_err(failed("read from pg_dump"))?;
        let level = self.config.compression.level;
        let mut streaming = start(pipe, draft, level, Arc::clone(&progress));

        let patience = self.config.stall_timeout;
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
                // The draft ends here, or, should the stream hang, with this process.
                drop(tokio::time::timeout(GRACE, streaming).await);
                return Err(error);
            }
        };
        let (streamed, draft) = finished.map_err(|panic| Error::Internal(panic.to_string()))?;
        let streamed = match streamed {
            Ok(streamed) => streamed,
            Err(error) => {
                dump.stop().await;
                return Err(self.stream_failed(error, &draft));
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
                Ok((draft, proven, streamed))
            }
            Err(flaw) => Err(Error::NotWhole { flaw, words }),
        }
    }

    fn stream_failed(&self, error: StreamError, draft: &Draft) -> Error {
        let doing = error.to_string();
        match error {
            StreamError::Write(source) => {
                let path = self.config.backups.join(&self.config.class).join(draft.name());
                VaultError::io("write", path, source).into()
            }
            StreamError::Read(source) | StreamError::Compress(source) => {
                Error::Stream { doing, source }
            }
        }
    }

    /// Writes down for the record what the backup holds.
    fn note(&mut self, proven: &Proven, streamed: &Streamed, attributes: &Attributes) {
        self.record.bytes = Some(streamed.stored.bytes);
        self.record.raw_bytes = Some(streamed.raw.bytes);
        self.record.sha256 = Some(streamed.stored.sha256.clone());
        self.record.tables = Some(proven.tables.len());
        self.record.rows = Some(proven.tables.iter().map(|table| table.rows).sum());
        self.record.retain_until = attributes.retain_until;
    }

    fn manifest(
        &self,
        class: &Class,
        facts: Facts,
        proven: Proven,
        streamed: Streamed,
        attributes: &Attributes,
        finished_at: Timestamp,
    ) -> Manifest {
        Manifest {
            format: FORMAT,
            name: self.record.name.clone().unwrap_or_default(),
            class: self.config.class.clone(),
            database: facts.database,
            started_at: self.now,
            finished_at,
            agent: concat!("worm-ingest ", env!("CARGO_PKG_VERSION")).to_owned(),
            server_version: facts.server_version,
            server_version_num: facts.server_version_num,
            dump_version: facts.dump_version,
            snapshot: facts.snapshot,
            database_bytes: facts.database_bytes,
            compression: self.config.compression.clone(),
            raw: streamed.raw,
            stored: streamed.stored,
            tables: proven.tables,
            extensions: facts.extensions,
            retain_until: attributes.retain_until,
            store: match class.kind() {
                Kind::Worm(store) => Some(store.clone()),
                Kind::Plain => None,
            },
        }
    }
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

/// Starts the stream on threads of its own. It gives the draft back whatever happens.
fn start(pipe: PipeReader, mut draft: Draft, level: i32, progress: Arc<Progress>) -> Streaming {
    tokio::task::spawn_blocking(move || {
        let result = pipeline::run(pipe, &mut draft, level, &progress);
        (result, draft)
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
