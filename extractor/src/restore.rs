//! One restore: find, prove, look at the server, feed `psql`, count, report.
//!
//! All of the dump is one transaction. Until its `COMMIT` the database is as it was, whoever fails
//! or dies; and the `COMMIT` is sent only when the bytes that were fed are the bytes that were
//! sealed. The rows are counted after it.

mod archive;
mod beside;
mod chosen;
mod complaint;
mod globals;
pub(crate) mod identity;
mod logged;
mod psql;
mod server;
pub mod sql;
mod stream;
pub mod target;
mod unpack;
pub mod version;

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use jiff::Timestamp;
use tracing::info;
use tracing::warn;
use worm_ingest::manifest::Kind;
use worm_ingest::manifest::Manifest;
use worm_ingest::scratch;

use crate::audit::AuditLog;
use crate::audit::chain::Event;
use crate::audit::chain::Restore;
use crate::cancel::Cancel;
use crate::config::RestoreConfig;
use crate::error::Error;
use crate::error::Result;
use crate::exit::Exit;
use crate::progress::Progress;
use crate::progress::pace;
use crate::restore::archive::Tools;
use crate::restore::chosen::Chosen;
use crate::restore::complaint::complaint;
use crate::restore::globals::Wanted;
use crate::restore::logged::Logged;
use crate::restore::psql::Psql;
use crate::restore::psql::Running;
use crate::restore::server::Server;
use crate::restore::stream::Fault;
use crate::restore::stream::Gate;
use crate::restore::version::Version;
use crate::restore::version::objection;
use crate::restore::version::too_old;

/// Of tables whose rows differ, so many are named.
const TABLES_SHOWN: usize = 5;

/// Restores one backup, and gives the line that sums it up.
///
/// # Errors
/// Unless the error says otherwise, the database is as it was.
pub async fn restore(config: &RestoreConfig, cancel: &Cancel) -> Result<String> {
    let chosen = Chosen::find(&config.backup)?;
    let mut line = Restore {
        path: chosen.path.to_string_lossy().into_owned(),
        sha256: chosen.manifest.stored.sha256.clone(),
        target: config.target.shown.clone(),
        ..Restore::default()
    };
    let outcome = run(config, chosen, cancel).await;
    if !config.preview {
        line.outcome = outcome.as_ref().map_or_else(ToString::to_string, Clone::clone);
        line.exit = outcome.as_ref().map_or_else(Error::exit, |_| Exit::Done).code();
        record(config, line);
    }
    outcome
}

async fn run(config: &RestoreConfig, mut chosen: Chosen, cancel: &Cancel) -> Result<String> {
    let started = Instant::now();
    let (checking, audit) = (cancel.clone(), config.audit.clone());
    if let Some(encryption) = &chosen.manifest.encryption {
        config.identities.check(&mut chosen.file, encryption)?;
    }
    let checked = tokio::task::spawn_blocking(move || {
        let logged = Logged::about(&chosen.path, &audit);
        let verdict = logged.and_then(|logged| chosen.verify(logged, &checking));
        (chosen, verdict)
    });
    let (chosen, verdict) = checked.await.map_err(gone)?;
    verdict?;
    let (server, psql, tools) = tokio::select! {
        ready = prepare(config, &chosen.manifest) => ready?,
        () = cancel.requested() => return Err(Error::Cancelled("nothing was touched")),
    };
    let Chosen { path, file, manifest, .. } = chosen;
    let roles = match config.globals {
        true => roles(config, &server, &path, &manifest).await?,
        false => Wanted::default(),
    };
    if config.preview {
        return Ok(format!(
            "would restore {} ({}) into {} with psql {}{}; nothing was changed",
            path.display(),
            contents(&manifest),
            config.target.shown,
            psql.version,
            told(config, &roles, "to be made"),
        ));
    }
    info!("restoring {} into {}", path.display(), config.target.shown);
    let manifest = Arc::new(manifest);
    let before = roles.sql.clone();
    let dump = Ready { file, manifest: Arc::clone(&manifest), tools, before };
    feed(config, &server, &psql, dump, cancel).await?;
    tokio::select! {
        verdict = check_contents(config, &server, &manifest) => verdict.map_err(after_commit)?,
        () = cancel.requested() => return Err(Error::Cancelled(
            "the restore is committed, but its rows were not compared with the manifest",
        )),
    }
    let pace = pace(manifest.raw.bytes, started.elapsed());
    Ok(format!(
        "restored {} into {}: {}, all rows there{}; {pace}",
        path.display(),
        config.target.shown,
        contents(&manifest),
        told(config, &roles, "made"),
    ))
}

/// The roles beside the dump that the server does not have.
async fn roles(
    config: &RestoreConfig,
    server: &Server,
    path: &Path,
    manifest: &Manifest,
) -> Result<Wanted> {
    let sql = beside::globals(path, manifest, &config.identities)?;
    let wanted = globals::wanted(&sql, &server.roles().await?)
        .map_err(|why| Error::Mismatch(format!("the roles beside the dump: {why}")))?;
    if !wanted.made.is_empty() && manifest.lacks.iter().any(|it| it.code == "globals.passwords") {
        warn!("the backup has roles without their passwords: set them for those that log in");
    }
    let there = server.tablespaces().await?;
    let missing: Vec<&str> = wanted
        .tablespaces
        .iter()
        .map(String::as_str)
        .filter(|name| !there.contains(*name))
        .collect();
    if !missing.is_empty() {
        let missing = missing.join(", ");
        warn!("the server does not have tablespaces {missing}: make those that the database needs");
    }
    Ok(wanted)
}

/// What becomes of roles, in words.
fn told(config: &RestoreConfig, roles: &Wanted, made: &str) -> String {
    if !config.globals {
        return String::new();
    }
    let Wanted { made: names, there, .. } = roles;
    let listed = if names.is_empty() { String::new() } else { format!(" ({})", names.join(", ")) };
    format!(", {} roles {made}{listed}, {there} there already", names.len())
}

/// What a backup holds, in words.
fn contents(manifest: &Manifest) -> String {
    let rows: u64 = manifest.tables.iter().map(|table| table.rows).sum();
    let started = manifest.started_at.strftime("%F %T UTC");
    let tables = manifest.tables.len();
    let part = if manifest.filters.is_empty() { "" } else { "a part of " };
    format!("{part}database {} of {started}, {tables} tables, {rows} rows", manifest.database)
}

/// Everything that can be refused is refused here, before anything is written.
async fn prepare(config: &RestoreConfig, manifest: &Manifest) -> Result<(Server, Psql, Tools)> {
    let target = &config.target;
    if target.is_bare() {
        let (shown, mode) = (&target.shown, target.tls.mode.name());
        warn!("the connection to {shown} may not be encrypted (sslmode={mode}): use verify-full");
    }
    let psql = Psql::newest().await?;
    let tools = tools(config, manifest).await?;
    let server = Server::connect(target).await?;
    let there = Version::of_server(server.version_num);
    if let Some(objection) = objection(Version::find(&manifest.dump_version), psql.version, there) {
        return Err(Error::Refused(objection));
    }
    let from = Version::of_server(manifest.server_version_num);
    if let Some(older) = too_old(from, Version::find(&manifest.dump_version), there) {
        if !config.force {
            return Err(Error::Refused(format!("{older}, or --force")));
        }
        warn!("{older}: it may not understand all of it");
    }
    if let Some(objects) = server.contents(target).await? {
        if !config.force {
            return Err(Error::Refused(format!(
                "the database {} is not empty: it has {objects}. Restore into a new one, or use \
                 --force to add to it (nothing is dropped)",
                target.database
            )));
        }
        warn!("the database {} is not empty: it has {objects}", target.database);
    }
    Ok((server, psql, tools))
}

/// Who reads the dump. What was encrypted is not written to a disk in the clear.
async fn tools(config: &RestoreConfig, manifest: &Manifest) -> Result<Tools> {
    let scratch = &config.scratch;
    if manifest.kind == Kind::Directory && manifest.encryption.is_some() {
        let in_memory = scratch::is_in_memory(scratch)
            .map_err(Error::io(format!("look at {}", scratch.display())))?;
        if !in_memory {
            return Err(Error::Refused(format!(
                "{} is on a disk, and nothing that was encrypted is written to one: name a directory \
                 of a tmpfs, such as /dev/shm, by --scratch",
                scratch.display()
            )));
        }
    }
    Tools::find(manifest.kind, Version::find(&manifest.dump_version), scratch).await
}

/// A dump that was checked, and who reads it.
struct Ready {
    file: std::fs::File,
    manifest: Arc<Manifest>,
    tools: Tools,
    /// SQL that comes before it.
    before: Vec<u8>,
}

/// Runs `psql` with the dump. Returns when the transaction is committed, or undone.
async fn feed(
    config: &RestoreConfig,
    server: &Server,
    psql: &Psql,
    dump: Ready,
    cancel: &Cancel,
) -> Result<()> {
    // Our session's name on the server, so that it can be told from all others.
    let application =
        format!("worm-extractor {} {}", std::process::id(), Timestamp::now().as_millisecond());
    let mut running = psql.start(&config.target, &application)?;
    let Some((input, answers)) = running.pipes.take() else {
        return Err(Error::Failed("psql has no pipes".to_owned()));
    };
    let gate = Arc::new(Gate::default());
    let feeder = tokio::task::spawn_blocking({
        let (identities, gate) = (Arc::clone(&config.identities), Arc::clone(&gate));
        let restricted = psql.version.knows_restrict();
        move || {
            let Ready { file, manifest, tools, before } = &dump;
            let progress = Progress::of_bytes(manifest.stored.bytes);
            progress.on("restoring");
            let count = |n| progress.add(n);
            let dump = stream::Dump { file, manifest, identities: &identities, tools, before };
            let fed = stream::feed(&dump, restricted, &gate, input, answers, count);
            progress.end();
            fed
        }
    });
    let ended = {
        let work = async { tokio::join!(feeder, running.end()) };
        tokio::pin!(work);
        tokio::select! {
            ended = &mut work => Some(ended),
            // Once the COMMIT is on its way there is only one thing to do: wait for its answer.
            () = cancel.requested() => if gate.cancel() { None } else { Some(work.await) },
        }
    };
    let Some((fed, ended)) = ended else {
        return undo(server, running, &application, Error::Cancelled("the database is as it was"))
            .await;
    };
    match (fed.map_err(gone)?, ended) {
        (Ok(()), Ok((status, _))) if status.success() => Ok(()),
        (Err(Fault::Ours(error)), _) => undo(server, running, &application, error).await,
        (Ok(()), Ok((status, lines))) => {
            let why = complaint(true, &lines, &format!("nothing ({status})"));
            undo(server, running, &application, why).await
        }
        (Err(Fault::Psql(pipe)), Ok((_, lines))) => {
            let why = complaint(false, &lines, &pipe.to_string());
            undo(server, running, &application, why).await
        }
        (_, Err(error)) => undo(server, running, &application, error).await,
    }
}

/// Makes sure that nothing goes on behind our back before `why` is told.
async fn undo(server: &Server, mut running: Running, application: &str, why: Error) -> Result<()> {
    running.kill().await?;
    if let Err(error) = server.end_sessions(application).await {
        return Err(Error::Failed(format!("{why}; and {error}")));
    }
    Err(why)
}

/// Compares what is there with the manifest.
async fn check_contents(
    config: &RestoreConfig,
    server: &Server,
    manifest: &Manifest,
) -> Result<()> {
    check_rows(server, manifest).await?;
    // Others may have been there before.
    let Some(wanted) = manifest.large_objects.filter(|_| !config.force) else { return Ok(()) };
    let found = server.large_objects().await?;
    if found == wanted {
        return Ok(());
    }
    Err(Error::Mismatch(format!(
        "the dump was restored as it was sealed and is committed, but the database has {found} large \
         objects instead of {wanted}"
    )))
}

/// Compares every table with the manifest, then lets the planner know what is there.
async fn check_rows(server: &Server, manifest: &Manifest) -> Result<()> {
    server.see_all_rows().await?;
    let mut differing = Vec::new();
    for table in &manifest.tables {
        let found = server.rows(table, &manifest.tables).await?;
        // Creating an extension fills its tables; the dump adds what its users did.
        let right = match found {
            Some(rows) if table.extension => rows >= table.rows,
            found => found == Some(table.rows),
        };
        if !right {
            let found = found.map_or("is missing".to_owned(), |rows| format!("has {rows} rows"));
            let name = format!("{}.{}", table.schema, table.table);
            differing.push(format!("{name} {found} instead of {}", table.rows));
        }
    }
    if let Err(error) = server.analyze().await {
        warn!("{error}: run ANALYZE yourself");
    }
    if differing.is_empty() {
        return Ok(());
    }
    let shown = differing.len().min(TABLES_SHOWN);
    Err(Error::Mismatch(format!(
        "the dump was restored as it was sealed and is committed, but {} of {} tables do not have \
         the rows that the manifest says: {}",
        differing.len(),
        manifest.tables.len(),
        differing[..shown].join(", ")
    )))
}

/// Whatever goes wrong when the rows are counted, the user must know that they are there.
fn after_commit(error: Error) -> Error {
    if matches!(error, Error::Mismatch(_)) {
        return error;
    }
    Error::Failed(format!(
        "the restore is committed, but its rows were not compared with the manifest: {error}"
    ))
}

/// A restore at night must not fail because of its log, so here trouble with it is only told.
fn record(config: &RestoreConfig, line: Restore) {
    let recorded = AuditLog::open(&config.audit, |_| {})
        .and_then(|mut log| log.append(Timestamp::now(), Event::Restore(line)));
    if let Err(error) = recorded {
        warn!("this restore has no line in the audit log: {error}");
    }
}

fn gone(error: tokio::task::JoinError) -> Error {
    Error::Failed(format!("a thread ended early: {error}"))
}
