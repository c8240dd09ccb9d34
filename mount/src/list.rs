//! `worm ls` and `worm status`: read from the ledger, with or without a daemon.

use std::path::Path;

use serde::Serialize;
use worm_fs::clock::Clock as _;
use worm_fs::clock::MachineClock;
use worm_fs::clock::Reading;
use worm_fs::report;
use worm_fs::report::FileRow;
use worm_fs::report::Status;
use worm_fs::store::Access;
use worm_fs::store::Loaded;
use worm_fs::store::Store;
use worm_fs::store::is_served;

use crate::cli::LookArgs;
use crate::outcome::Exit;
use crate::outcome::Failure;
use crate::outcome::Outcome;
use crate::outcome::say;
use crate::run_file;
use crate::run_file::RunFile;
use crate::target;
use crate::watch::PlaceNote;

/// Runs `worm ls`.
pub(crate) fn files(args: &LookArgs) -> Outcome {
    let (_, loaded, reading) = look(&args.path, &args.run_dir)?;
    let rows = report::files(&loaded.catalog, &reading);
    if args.json {
        return json(&rows);
    }
    say(format_args!("{:>10}  {:<10}  {:<20}  {:>9}  PATH", "SIZE", "STATE", "SEALED", "LEFT"));
    for FileRow { path, size, state, sealed_at, left_seconds, .. } in &rows {
        let sealed = sealed_at.split('.').next().unwrap_or(sealed_at).trim_end_matches('Z');
        let (size, left) = (bytes(*size), time_left(*left_seconds));
        say(format_args!("{size:>10}  {state:<10}  {sealed:<19}Z  {left:>9}  {path}"));
    }
    Ok(())
}

/// Runs `worm status`.
pub(crate) fn status(args: &LookArgs) -> Outcome {
    let is_store = args.path.join(worm_fs::store::layout::STORE_JSON).exists();
    if !is_store {
        target::check_served(&args.path)?;
    }
    let (store, loaded, reading) = look(&args.path, &args.run_dir)?;
    let served = is_served(&store.path);
    let note = RunFile::read(&args.run_dir, &store.id).ok().filter(|_| served);
    let (places, sandbox, alarms) =
        note.map(|note| (note.places, note.sandbox, note.alarms)).unwrap_or_default();
    let status = report::status(&loaded, &reading, served, alarms);
    if args.json {
        json(&Shown { status: &status, places: &places, sandbox: &sandbox })?;
    } else {
        print_status(&store, &status, &places, &sandbox);
    }
    let asked = |place: &&PlaceNote| {
        is_store || place.path.canonicalize().ok() == args.path.canonicalize().ok()
    };
    if let Some(alarm) = places.iter().filter(asked).find_map(PlaceNote::alarm) {
        return Err(Failure::new(Exit::NotWriteOnce, alarm));
    }
    match status.alarms.len() {
        0 => Ok(()),
        n => Err(Failure::new(Exit::Verification, format_args!("{n} alarms: look at them"))),
    }
}

/// The status as JSON.
#[derive(Serialize)]
struct Shown<'a> {
    #[serde(flatten)]
    status: &'a Status,
    places: &'a [PlaceNote],
    sandbox: &'a str,
}

fn print_status(store: &Store, status: &Status, places: &[PlaceNote], sandbox: &str) {
    let Status { store: id, served, lines, signed, clock, lag_seconds, classes, alarms } = status;
    say(format_args!("store    {id} in {}", store.path.display()));
    say(format_args!("daemon   {}", if *served { "serving" } else { "none: nothing is served" }));
    for PlaceNote { path, state } in places {
        say(format_args!("place    {}: {state}", path.display()));
    }
    if !sandbox.is_empty() {
        say(format_args!("sandbox  {sandbox}"));
    }
    say(format_args!("ledger   {lines} lines, {signed} of them under the signed head"));
    say(format_args!("clock    {clock}, {lag_seconds} s behind the system clock"));
    say("");
    say(format_args!(
        "{:<12}  {:>8}  {:>7}  {:>10}  {:>10}  NEWEST",
        "CLASS", "KEPT", "FILES", "SIZE", "INCOMPLETE"
    ));
    for class in classes {
        say(format_args!(
            "{:<12}  {:>8}  {:>7}  {:>10}  {:>10}  {}",
            class.name,
            time_left(class.retention_seconds),
            class.files,
            bytes(class.bytes),
            class.incomplete,
            class.newest.as_deref().unwrap_or("-")
        ));
    }
    for alarm in alarms {
        say(format_args!("ALARM    {alarm}"));
    }
}

fn look(path: &Path, run_directory: &Path) -> Outcome<(Store, Loaded, Reading)> {
    let path = run_file::store_of(path, run_directory)?;
    let (store, loaded) = Store::open(&path, Access::Look)?;
    let clock = MachineClock::new().map_err(Failure::doing("read the clocks"))?;
    Ok((store, loaded, clock.read()))
}

fn json(value: &impl serde::Serialize) -> Outcome {
    let text = serde_json::to_string_pretty(value).map_err(Failure::doing("print JSON"))?;
    say(text);
    Ok(())
}

/// A length for people.
pub(crate) fn bytes(bytes: u64) -> String {
    indicatif::BinaryBytes(bytes).to_string()
}

/// A duration in its two largest units, `6d 23h`; past ends are `over`.
pub(crate) fn time_left(seconds: i64) -> String {
    if seconds <= 0 {
        return "over".to_owned();
    }
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds}s"),
        (0, 0, minutes) => format!("{minutes}m {}s", seconds % 60),
        (0, hours, minutes) => format!("{hours}h {minutes}m"),
        (days, hours, _) => format!("{days}d {hours}h"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_left_are_short() {
        for (seconds, text) in [
            (-1, "over"),
            (0, "over"),
            (59, "59s"),
            (61, "1m 1s"),
            (7_200, "2h 0m"),
            (604_799, "6d 23h"),
        ] {
            assert_eq!(time_left(seconds), text);
        }
    }
}
