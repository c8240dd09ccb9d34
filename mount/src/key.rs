//! `worm key`: the keys that sign a store, and a new one in the place of the old.

use std::os::fd::OwnedFd;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;

use serde::Serialize;
use worm_fs::clock::MachineClock;
use worm_fs::clock::rfc3339;
use worm_fs::config::Config;
use worm_fs::error::Error;
use worm_fs::fs::Options;
use worm_fs::fs::RotateError;
use worm_fs::fs::Rotated;
use worm_fs::fs::SEGMENT_BYTES;
use worm_fs::fs::rotate_key;
use worm_fs::policy::Refusal;
use worm_fs::record::Actor;
use worm_fs::record::Event;
use worm_fs::record::Keys;
use worm_fs::store::Store;

use crate::cli::admin::KeyArgs;
use crate::cli::admin::KeyCommand;
use crate::cli::admin::RotateArgs;
use crate::cli::admin::ShowKeyArgs;
use crate::control::answer::REASON_VALUES;
use crate::control::server::login_uid;
use crate::log;
use crate::outcome::Exit;
use crate::outcome::Failure;
use crate::outcome::Outcome;
use crate::outcome::say;
use crate::run_file;
use crate::subject::Subject;
use crate::words::json;
use crate::words::moment;

/// Where signing keys are, unless told otherwise.
pub(crate) const DIRECTORY: &str = "/etc/worm/keys";

/// A public key, for people and programs.
#[derive(Debug, Serialize)]
struct Row<'a> {
    /// Number of the line from which on it signs.
    line: u64,
    /// When that was, on the system clock; absent for the key that the store was made with.
    since: Option<String>,
    /// A C2SP verifier key.
    key: &'a str,
}

/// The file of a store's signing key.
pub(crate) fn place(given: Option<&Path>, store: &str) -> PathBuf {
    given.map_or_else(|| Path::new(DIRECTORY).join(store), Path::to_owned)
}

/// Runs `worm key`.
pub(crate) fn run(args: &KeyArgs) -> Outcome {
    match &args.command {
        KeyCommand::Rotate(args) => rotate(args),
        KeyCommand::Show(args) => show(args),
    }
}

fn rotate(args: &RotateArgs) -> Outcome {
    let store = run_file::store_of(&args.store, &args.run_dir)?;
    let key = place(args.key.as_deref(), &Store::id_of(&store)?);
    let clock = Arc::new(MachineClock::new().map_err(Failure::doing("read the clocks"))?);
    // Classes stay as they are.
    let config = Config { classes: [].into(), ..Config::default() };
    let options = Options { store, key: key.clone(), config, clock, segment_bytes: SEGMENT_BYTES };
    let Rotated { public, old } = rotate_key(options, caller()?, &args.reason).map_err(failure)?;
    let key = key.display();
    say(format_args!("{public} signs from now on; it is in {key}: keep a copy of it elsewhere"));
    if let Some(old) = old {
        let old = old.display();
        say(format_args!(
            "{old} signs nothing any more: remove it when no copy of the store from before is \
             to be served"
        ));
    }
    Ok(())
}

/// Who runs this command.
fn caller() -> Outcome<Actor> {
    let proc = std::fs::File::open("/proc").map_err(Failure::doing("open /proc"))?;
    let pid = rustix::process::getpid().as_raw_nonzero().get();
    let login_uid = login_uid(&OwnedFd::from(proc), pid);
    Ok(Actor { uid: rustix::process::getuid().as_raw(), login_uid })
}

fn failure(error: RotateError) -> Failure {
    let error = match error {
        RotateError::Open(error) => return error.into(),
        RotateError::Record(error) => error,
    };
    match error {
        Error::Refused(Refusal::BadValue) => Failure::new(Exit::Preflight, REASON_VALUES),
        Error::Refused(_)
        | Error::NotFound
        | Error::NotADirectory
        | Error::IsADirectory
        | Error::BadHandle
        | Error::NoAttribute
        | Error::NotYet
        | Error::Stopped(_)
        | Error::Store { .. }
        | Error::Corrupt(_) => {
            let what = "it was not said to be done: worm key show tells which key signs";
            Failure::new(Exit::Failed, format_args!("cannot change the key: {error}; {what}"))
        }
    }
}

fn show(args: &ShowKeyArgs) -> Outcome {
    let subject = Subject::of_store(&args.store, &args.door)?;
    let (_, loaded, _) = subject.load()?;
    let rows = rows(&loaded.catalog.keys);
    if args.door.json {
        return json(&rows);
    }
    for Row { line, since, key } in &rows {
        let since = since.as_deref().map_or("the beginning".to_owned(), moment);
        say(format_args!("since line {line}, {since}: {key}"));
    }
    if rows.len() == 1 {
        return Ok(());
    }
    // Who changed it, and why, is in the ledger.
    log::each_line(&subject, |line| {
        if matches!(line.event, Event::KeyChanged { .. }) {
            say(log::line_words(line));
        }
    })
}

fn rows(keys: &Keys) -> Vec<Row<'_>> {
    let first = Row { line: 1, since: None, key: keys.first() };
    let changed = keys.changes().iter().map(|change| Row {
        line: change.seq,
        since: Some(rfc3339(change.since_ms)),
        key: &change.key,
    });
    std::iter::once(first).chain(changed).collect()
}
