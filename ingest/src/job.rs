//! One invocation: what is to be backed up now and into which classes, and what became of each.
//!
//! `worm-ingest backup` and the service both begin here. A database is dumped once, whatever the
//! number of its classes; each class has a file, a manifest and a line in the audit log of its own.

mod several;

use std::sync::Arc;
use std::time::Instant;

use jiff::Timestamp;
use tokio::sync::watch;

use crate::audit;
use crate::audit::Record;
use crate::backup;
use crate::backup::Order;
use crate::config::Config;
use crate::error::Error;
use crate::exit::Exit;
use crate::lock;
use crate::notify::Notices;
use crate::notify::Notifier;
use crate::schedule::agenda::Wanted;
use crate::source::databases::Databases;

/// What one invocation is to do.
#[derive(Clone, Debug)]
pub struct Job {
    /// How, and from where to where.
    pub config: Arc<Config>,
    /// The retention classes, each once. One dump serves all.
    pub classes: Vec<String>,
    /// For what. Of several databases, those that have what is wanted are left out of a class.
    pub wanted: Vec<Wanted>,
}

/// What became of one database in one class.
#[derive(Debug)]
pub struct Part {
    /// What the audit log has of it.
    pub record: Record,
    /// What went wrong. Parts that failed for one reason share it.
    pub error: Option<Arc<Error>>,
}

impl Part {
    /// Whether there is a good backup.
    #[must_use]
    pub fn is_good(&self) -> bool {
        self.error.as_ref().is_none_or(|error| error.leaves_a_backup())
    }
}

/// What became of a job.
#[derive(Debug)]
pub struct Outcome {
    /// One for each database and class.
    pub parts: Vec<Part>,
}

impl Outcome {
    /// What the program ends with.
    #[must_use]
    pub fn exit(&self) -> Exit {
        let exits: Vec<Exit> = self.errors().map(Error::exit).collect();
        let has = |wanted: Exit| exits.contains(&wanted);
        match exits.first() {
            None => Exit::Done,
            // Damage does not go away by another try, whatever else went well.
            Some(_) if has(Exit::Verification) => Exit::Verification,
            Some(_) if has(Exit::Cancelled) => Exit::Cancelled,
            Some(first) if !self.parts.iter().any(Part::is_good) => *first,
            Some(_) => Exit::Partial,
        }
    }

    /// What went wrong, each once, however many parts it befell.
    pub fn errors(&self) -> impl Iterator<Item = &Error> {
        let errors: Vec<&Arc<Error>> =
            self.parts.iter().filter_map(|part| part.error.as_ref()).collect();
        let mut told: Vec<&Arc<Error>> = Vec::new();
        for error in errors {
            if !told.iter().any(|earlier| Arc::ptr_eq(earlier, error)) {
                told.push(error);
            }
        }
        told.into_iter().map(|error| &**error)
    }
}

/// Does the job. Also where everything fails, each part has a line in the audit log. Those outside
/// are being told meanwhile, and nothing waits for them.
///
/// `cancelled` turns true when it is to stop.
pub async fn run(job: &Job, cancelled: watch::Receiver<bool>) -> (Outcome, Notices) {
    let now = Timestamp::now();
    let order = Order {
        config: Arc::clone(&job.config),
        classes: job.classes.clone(),
        run_id: format!("{}-{}", now.strftime("%Y%m%dT%H%M%S%.3fZ"), std::process::id()),
        now,
        target: job.config.target.clone(),
        folder: None,
        quiet: false,
    };
    let notifier = Notifier::begin(&job.config.receivers, &job.classes);
    let parts = match &job.config.databases {
        Databases::One => one(order, cancelled).await,
        Databases::Several(selection) => {
            several::run(order, selection, job.wanted.clone(), cancelled).await
        }
    };
    let outcome = Outcome { parts };
    let notices = notifier.end(&outcome);
    (outcome, notices)
}

/// The parts of a database that nothing could be done about, each with its line.
fn refused(order: &Order, database: &str, error: Error) -> Vec<Part> {
    let error = Arc::new(error);
    let part = |class: &String| {
        let record = Record::begun(order.now, &order.run_id, class, database);
        let mut part = Part { record, error: Some(Arc::clone(&error)) };
        note(&order.config, &mut part);
        part
    };
    order.classes.iter().map(part).collect()
}

/// One database into its classes, and into the audit log.
async fn one(order: Order, cancelled: watch::Receiver<bool>) -> Vec<Part> {
    let clock = Instant::now();
    let config = Arc::clone(&order.config);
    let mut parts = limited(order, cancelled).await;
    let duration_ms = u64::try_from(clock.elapsed().as_millis()).unwrap_or(u64::MAX);
    for part in &mut parts {
        part.record.duration_ms = duration_ms;
        note(&config, part);
    }
    parts
}

/// Ends it at its deadline, as if it had been cancelled.
async fn limited(order: Order, mut cancelled: watch::Receiver<bool>) -> Vec<Part> {
    let limit = order.config.deadline;
    let (end, ended) = watch::channel(false);
    let mut running = std::pin::pin!(alone(order, ended));
    let mut late = false;
    let mut parts = tokio::select! {
        parts = &mut running => return parts,
        () = stopped(&mut cancelled) => { end.send_replace(true); running.await }
        () = tokio::time::sleep(limit) => { late = true; end.send_replace(true); running.await }
    };
    let deadline = Arc::new(Error::Deadline { limit });
    for part in parts.iter_mut().filter(|_| late) {
        if matches!(part.error.as_deref(), Some(Error::Cancelled)) {
            part.error = Some(Arc::clone(&deadline));
        }
    }
    parts
}

/// Waits for the word to stop. If nobody can give it any more, for ever.
async fn stopped(cancelled: &mut watch::Receiver<bool>) {
    if cancelled.wait_for(|stop| *stop).await.is_err() {
        std::future::pending::<()>().await;
    }
}

/// Backs it up when nobody else does.
async fn alone(order: Order, mut cancelled: watch::Receiver<bool>) -> Vec<Part> {
    // Of several databases the job has the lock, for all of them.
    if order.folder.is_some() {
        return backup::run(order, cancelled).await;
    }
    let config = &order.config;
    let locked = tokio::select! {
        locked = lock::for_run(config) => locked,
        () = stopped(&mut cancelled) => Err(Error::Cancelled),
    };
    match locked {
        Ok(_lock) => backup::run(order, cancelled).await,
        Err(error) => {
            let (error, database) = (Arc::new(error), &config.target.database);
            let part = |class: &String| Part {
                record: Record::begun(order.now, &order.run_id, class, database),
                error: Some(Arc::clone(&error)),
            };
            order.classes.iter().map(part).collect()
        }
    }
}

/// Writes the line of a part.
fn note(config: &Config, part: &mut Part) {
    part.record.ts = Timestamp::now();
    part.record.conclude(part.error.as_deref());
    let Err(source) = audit::append(&config.audit_log, &part.record) else { return };
    match part.error.as_deref() {
        // A sealed backup is not taken back for the sake of a log.
        None => {
            part.error = Some(Arc::new(Error::AuditLost {
                name: part.record.name.clone().unwrap_or_default(),
                path: config.audit_log.clone(),
                source,
            }));
        }
        Some(Error::AuditUnwritable { .. }) => {}
        Some(_) => {
            let path = config.audit_log.display();
            tracing::warn!(%path, %source, "the audit log could not be written either");
        }
    }
    part.record.conclude(part.error.as_deref());
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(error: Option<&Arc<Error>>) -> Part {
        let record = Record::begun(Timestamp::UNIX_EPOCH, "r", "hourly", "app");
        Part { record, error: error.cloned() }
    }

    #[track_caller]
    fn check(parts: &[Option<&Arc<Error>>], exit: Exit, told: usize) {
        let outcome = Outcome { parts: parts.iter().map(|error| part(*error)).collect() };
        assert_eq!((outcome.exit(), outcome.errors().count()), (exit, told));
    }

    #[test]
    fn some_failed_is_another_number_than_all_failed() {
        let query = &Arc::new(Error::Query { message: "no".to_owned() });
        let internal = &Arc::new(Error::Internal("no".to_owned()));
        check(&[None], Exit::Done, 0);
        check(&[None, None], Exit::Done, 0);
        check(&[None, Some(query)], Exit::Partial, 1);
        check(&[Some(query), None, Some(internal)], Exit::Partial, 2);
        check(&[Some(query), Some(query)], Exit::Preflight, 1);
        check(&[Some(internal), Some(query)], Exit::Failed, 2);
    }

    #[test]
    fn a_backup_without_its_audit_line_is_a_backup() {
        let lost = &Arc::new(Error::AuditLost {
            name: "x".to_owned(),
            path: "/a".into(),
            source: std::io::ErrorKind::StorageFull.into(),
        });
        check(&[Some(lost)], Exit::Partial, 1);
        let query = &Arc::new(Error::Query { message: "no".to_owned() });
        check(&[Some(query), Some(lost)], Exit::Partial, 2);
    }

    #[test]
    fn damage_and_a_signal_are_told_whatever_went_well() {
        let damage =
            &Arc::new(Error::Mismatch { name: "x".to_owned(), what: "changed".to_owned() });
        let signal = &Arc::new(Error::Cancelled);
        check(&[None, Some(signal)], Exit::Cancelled, 1);
        check(&[None, Some(damage), Some(signal)], Exit::Verification, 2);
    }
}
