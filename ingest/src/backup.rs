//! One database, backed up: observe, dump, prove, seal, check, describe.
//!
//! The order is the safety. Nothing is created before the database has answered. Nothing is sealed
//! before it is proven. The manifest comes last, and without it there is no backup: whatever stops
//! us in between, the worst that is left is a sealed dump that nobody counts.
//!
//! One dump serves all classes of a run: the same bytes go into a file of each. What befalls one
//! class (a full one, for example) ends that file alone.

use std::io;
use std::sync::Arc;

use jiff::Timestamp;
use tokio::sync::watch;

use crate::audit;
use crate::audit::Record;
use crate::beside::Ready;
use crate::carry;
use crate::carry::Carrier;
use crate::config::Config;
use crate::connect::Target;
use crate::error::Error;
use crate::inventory;
use crate::job::Part;
use crate::manifest::DIGEST_SUFFIX;
use crate::manifest::MANIFEST_SUFFIX;
use crate::manifest::Manifest;
use crate::manifest::Raw;
use crate::manifest::Suspicion;
use crate::manifest::beside::Lack;
use crate::name;
use crate::proof::Proven;
use crate::source::Facts;
use crate::source::Source;
use crate::source::postgres::Postgres;
use crate::stream::pipeline::Streamed;
use crate::stream::recipients::Recipients;
use crate::tripwire;
use crate::tripwire::Baseline;
use crate::vault::Attributes;
use crate::vault::Class;
use crate::vault::Draft;
use crate::vault::Kind;
use crate::vault::Tee;
use crate::vault::VaultError;

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
    /// The database.
    pub(crate) target: Target,
    /// Its directory in the class, where each has its own.
    pub(crate) folder: Option<String>,
    /// Show no progress, since others would write over it.
    pub(crate) quiet: bool,
}

/// Makes one dump and seals it in every class. There is one part for each class, in their order.
///
/// `cancelled` turns true when it is to stop.
pub(crate) async fn run(order: Order, cancelled: watch::Receiver<bool>) -> Vec<Part> {
    let record = |class| Record {
        folder: order.folder.clone(),
        ..Record::begun(order.now, &order.run_id, class, &order.target.database)
    };
    let parts = order.classes.iter().map(|class| Part { record: record(class), error: None });
    let mut run = Run { parts: parts.collect(), cancelled, order: &order, suspicions: None };
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
    /// What looks wrong about the dump, once that was asked.
    suspicions: Option<Vec<Suspicion>>,
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
    beside: Ready,
}

impl Run<'_> {
    /// An error befalls all parts that have none of their own yet.
    async fn attempt(&mut self) -> Result<(), Error> {
        if *self.cancelled.borrow() {
            return Err(Error::Cancelled);
        }
        let config = &self.order.config;
        let seats = self.take_seats();
        if seats.is_empty() {
            return Ok(());
        }
        audit::check(&config.audit_log)
            .map_err(|source| Error::AuditUnwritable { path: config.audit_log.clone(), source })?;
        carry::check(&config.shape)?;
        let (target, around) = (self.order.target.clone(), config.around.clone());
        let directory = config.client_directory.clone();
        let source = Postgres::new(target, around, directory, config.lock_wait_timeout);
        let mut source = source.waiting(config.wait);
        let facts = tokio::select! {
            facts = source.observe(&config.shape) => facts?,
            () = carry::stopped(&mut self.cancelled) => return Err(Error::Cancelled),
        };
        for part in &mut self.parts {
            part.record.database.clone_from(&facts.database);
        }

        let beside = self.look_around(&source, &facts).await?;
        let seats = self.enter(seats);
        if seats.is_empty() {
            return Ok(());
        }
        let tee = self.create(&seats)?;
        if tee.name().is_none() {
            self.give_up(&seats, tee);
            return Ok(());
        }
        let carrier = Carrier {
            source: &mut source,
            facts: &facts,
            shape: &config.shape,
            patience: config.stall_timeout,
            quiet: self.order.quiet,
            cancelled: &mut self.cancelled,
        };
        let (proven, streamed, tee) = match carrier.carry(tee).await {
            (Ok((proven, streamed)), Some(tee)) => (proven, streamed, tee),
            (carried, tee) => {
                if let Some(tee) = tee {
                    self.give_up(&seats, tee);
                }
                let lost = || Error::Internal("the files were lost on the way".to_owned());
                return Err(carried.err().unwrap_or_else(lost));
            }
        };
        for table in &proven.unexpected {
            tracing::warn!(table, "is in the dump although the catalogue did not promise it");
        }

        // From here a signal comes too late: a few small files remain, and then it is done.
        let dumped = Dumped { facts, proven, streamed, beside };
        for (seat, draft) in seats.iter().zip(tee.into_drafts()) {
            let sealed = draft.map_err(Error::from).and_then(|d| self.seal(seat, d, &dumped));
            self.parts[seat.part].error = sealed.err().map(Arc::new);
        }
        Ok(())
    }

    /// Gathers what goes beside the dump. What cannot be had fails no backup.
    async fn look_around(&mut self, source: &Postgres, facts: &Facts) -> Result<Ready, Error> {
        let config = &self.order.config;
        if !config.globals {
            return Ok(Ready::default());
        }
        let beside = tokio::select! {
            beside = source.beside(facts) => beside,
            () = carry::stopped(&mut self.cancelled) => return Err(Error::Cancelled),
        };
        for Lack { code, message } in &beside.lacks {
            tracing::warn!(code, "the backup will lack {message}");
        }
        for part in &mut self.parts {
            part.record.lacks.clone_from(&beside.lacks);
        }
        let ready = Ready::new(beside, config.shape.recipients.as_ref());
        ready.map_err(|error| Error::Internal(format!("could not encrypt: {error}")))
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

    /// Goes into the directory of the database, where each has its own.
    fn enter(&mut self, seats: Vec<Seat>) -> Vec<Seat> {
        let Some(folder) = &self.order.folder else { return seats };
        let mut inside = Vec::with_capacity(seats.len());
        for Seat { part, class } in seats {
            match class.folder(folder) {
                Ok(class) => inside.push(Seat { part, class: Arc::new(class) }),
                Err(error) => self.parts[part].error = Some(Arc::new(error.into())),
            }
        }
        inside
    }

    /// Takes the first name that is free in all classes.
    fn create(&mut self, seats: &[Seat]) -> Result<Tee, Error> {
        let classes: Vec<Arc<Class>> = seats.iter().map(|seat| Arc::clone(&seat.class)).collect();
        let form = self.order.config.shape.form();
        let tee = Tee::create(&classes, name::candidates(self.order.now, form))?;
        let wished = name::backup_name(self.order.now, form);
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

    /// Seals a proven dump in one class, makes sure that it is there, and describes it.
    fn seal(&mut self, seat: &Seat, draft: Draft, dumped: &Dumped) -> Result<(), Error> {
        let (class, name) = (&seat.class, draft.name().to_owned());
        draft.seal()?;
        let finished = Timestamp::now();
        let attributes = class.attributes(&name)?;
        compare(&name, class.kind(), &dumped.streamed, &attributes)?;
        let record = &mut self.parts[seat.part].record;
        note(record, dumped, &attributes);
        let mut manifest = self.manifest(seat, &name, dumped, &attributes, finished);
        let found = self.suspicions(&manifest);
        tripwire::mark(&mut manifest, found, self.order.config.accept_suspect.as_deref());
        self.parts[seat.part].record.suspect.clone_from(&manifest.suspect);
        let described = dumped.beside.seal(class, &name).and_then(|()| describe(class, &manifest));
        described
            .map_err(|source| Error::NoManifest { name: name.clone(), source: Box::new(source) })?;
        if manifest.suspect.is_empty() {
            return Ok(());
        }
        Err(Error::Suspect { name, what: tripwire::told(&manifest.suspect) })
    }

    /// What looks wrong about the dump. It is the same for all classes, and asked before any of them
    /// has it.
    fn suspicions(&mut self, manifest: &Manifest) -> Vec<Suspicion> {
        let config = &self.order.config;
        self.suspicions.get_or_insert_with(|| look_back(config, manifest)).clone()
    }

    fn manifest(
        &self,
        seat: &Seat,
        name: &str,
        dumped: &Dumped,
        attributes: &Attributes,
        finished_at: Timestamp,
    ) -> Manifest {
        let Dumped { facts, proven, streamed, beside } = dumped;
        let shape = &self.order.config.shape;
        let encryption = shape.recipients.as_ref().map(Recipients::described);
        let sha256 = encryption.is_none().then(|| streamed.raw.sha256.clone());
        Manifest {
            format: shape.form().manifest_format(),
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
            kind: shape.kind,
            filters: shape.filters.clone(),
            compression: shape.compression,
            encryption,
            raw: Raw { bytes: streamed.raw.bytes, sha256 },
            stored: streamed.stored.clone(),
            tables: proven.tables.clone(),
            large_objects: Some(facts.large_objects),
            extensions: facts.extensions.clone(),
            retain_until: attributes.retain_until,
            store: match seat.class.kind() {
                Kind::Worm(store) => Some(store.clone()),
                Kind::Plain => None,
            },
            sidecars: beside.described(),
            lacks: beside.lacks.clone(),
            suspect: Vec::new(),
            accepted: None,
        }
    }
}

/// Compares with what is sealed of the same database. What cannot be read is passed over: no backup
/// is given up for the sake of a comparison.
fn look_back(config: &Config, manifest: &Manifest) -> Vec<Suspicion> {
    let earlier = match inventory::manifests(&config.backups, &manifest.database) {
        Ok(earlier) => earlier,
        Err(error) => {
            tracing::warn!(%error, "not compared with earlier backups");
            return Vec::new();
        }
    };
    let mut baseline = Baseline::default();
    for older in earlier {
        baseline.add(manifest, &older);
        if !baseline.wants_more() {
            break;
        }
    }
    baseline.judge(manifest, &config.tripwires)
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
