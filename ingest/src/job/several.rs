//! Several databases in one job: some at a time, all under one name, each on its own.

use std::sync::Arc;

use jiff::SignedDuration;
use jiff::Timestamp;
use tokio::sync::Semaphore;
use tokio::sync::watch;
use tokio::task::JoinError;

use super::Part;
use super::one;
use super::refused;
use super::stopped;
use crate::backup::Order;
use crate::config::Config;
use crate::connect::Target;
use crate::error::Error;
use crate::history::History;
use crate::lock;
use crate::manifest::folder::directory_of;
use crate::name;
use crate::schedule::agenda::Wanted;
use crate::source::databases::Selection;
use crate::source::postgres::Postgres;
use crate::vault;

/// So many seconds are tried for a name that is free everywhere.
const TRIES: i64 = 120;

/// Backs up what `selection` leads to. What leads nowhere, and each database that fails, is a
/// failed part; the others go on.
pub(super) async fn run(
    order: Order,
    selection: &Selection,
    wanted: Vec<Wanted>,
    cancelled: watch::Receiver<bool>,
) -> Vec<Part> {
    let config = &order.config;
    let mut stop = cancelled.clone();
    let ready = async {
        let lock = lock::for_run(config).await?;
        Ok((lock, Postgres::databases(config).await?))
    };
    let ready = tokio::select! {
        ready = ready => ready,
        () = stopped(&mut stop) => Err(Error::Cancelled),
    };
    let (_lock, listed) = match ready {
        Ok(ready) => ready,
        Err(error) => return refused(&order, &selection.text(), error),
    };
    let chosen = selection.choose(&listed);
    if chosen.databases.is_empty() && chosen.missing.is_empty() {
        let error = Error::NoDatabase { wanted: selection.text() };
        return refused(&order, &selection.text(), error);
    }
    let mut parts = Vec::new();
    for wanted in chosen.missing {
        parts.extend(refused(&order, &wanted, Error::NoDatabase { wanted: wanted.clone() }));
    }

    let folders: Vec<String> = chosen.databases.iter().map(|name| directory_of(name)).collect();
    let now = common_second(config, &order.classes, &folders, order.now);
    let slots = Arc::new(Semaphore::new(config.parallel));
    let mut running = Vec::with_capacity(folders.len());
    let lacking = lacking(config, &order.classes, wanted, chosen.databases).await;
    for (database, classes) in lacking.into_iter().filter(|(_, classes)| !classes.is_empty()) {
        let folder = directory_of(&database);
        let target = Target { database, ..order.target.clone() };
        let order = Order {
            target,
            classes,
            folder: Some(folder),
            now,
            quiet: config.parallel > 1,
            ..order.clone()
        };
        let (slots, cancelled) = (Arc::clone(&slots), cancelled.clone());
        let this = order.clone();
        let task = tokio::spawn(async move {
            // Never closed, so there is always a turn.
            let _turn = slots.acquire().await;
            one(this, cancelled).await
        });
        running.push((order, task));
    }
    for (order, task) in running {
        let database = order.target.database.clone();
        match task.await {
            Ok(done) => parts.extend(done),
            Err(panic) => {
                parts.extend(refused(&order, &database, Error::Internal(panic.to_string())));
            }
        }
    }
    parts
}

/// The databases, each with the classes that it is to be sealed in. What cannot be read is not taken
/// for sealed.
async fn lacking(
    config: &Arc<Config>,
    classes: &[String],
    wanted: Vec<Wanted>,
    databases: Vec<String>,
) -> Vec<(String, Vec<String>)> {
    let all = classes.to_vec();
    if wanted.is_empty() {
        return databases.into_iter().map(|database| (database, all.clone())).collect();
    }
    let (this, names) = (Arc::clone(config), databases.clone());
    let looking = tokio::task::spawn_blocking(move || {
        let lacks = |database: &str| {
            let lacks = wanted.iter().filter(|wanted| !has(&this, database, wanted));
            lacks.map(|wanted| wanted.class.clone()).collect::<Vec<String>>()
        };
        let each = |database: String| {
            let classes = lacks(&database);
            (database, classes)
        };
        names.into_iter().map(each).collect()
    });
    looking.await.unwrap_or_else(|panic: JoinError| {
        tracing::warn!(%panic, "what is sealed could not be looked at");
        databases.into_iter().map(|database| (database, all.clone())).collect()
    })
}

/// Whether a database has what is wanted.
fn has(config: &Config, database: &str, wanted: &Wanted) -> bool {
    let (root, plain, folder) = (&config.backups, config.allow_plain, directory_of(database));
    let of = (database, &config.shape.filters);
    let history = History::open(root, &wanted.class, Some(&folder), of, plain);
    // The newest come first.
    let newest = history.into_iter().flatten().map_while(Result::ok);
    let mut counting = newest.filter(|manifest| wanted.judge.counts(manifest.started_at));
    counting.next().is_some_and(|manifest| wanted.is_met_by(manifest.started_at))
}

/// The first second whose name is free for every database in every class.
fn common_second(
    config: &Config,
    classes: &[String],
    folders: &[String],
    now: Timestamp,
) -> Timestamp {
    let mut seconds =
        (0..=TRIES).filter_map(|later| now.checked_add(SignedDuration::from_secs(later)).ok());
    let form = config.shape.form();
    let free = |at: &Timestamp| {
        classes.iter().all(|class| {
            folders.iter().all(|folder| {
                vault::is_free(
                    &config.backups.join(class).join(folder),
                    &name::backup_name(*at, form),
                )
            })
        })
    };
    // Where none is free, each database finds out for itself.
    seconds.find(free).unwrap_or(now)
}
