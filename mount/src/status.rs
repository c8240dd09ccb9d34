//! `worm status`: asks the daemon; without one, the ledger on the disk.

use std::path::Path;

use worm_fs::fs::ClassUsage;
use worm_fs::fs::LimitUsage;
use worm_fs::report;
use worm_fs::report::ClassRow;
use worm_fs::report::Room;
use worm_fs::report::Serving;
use worm_fs::report::Status;
use worm_fs::report::Unread;
use worm_fs::store::layout::STORE_JSON;

use crate::cli::admin::StatusArgs;
use crate::control::Ask;
use crate::control::Glance;
use crate::outcome::Exit;
use crate::outcome::Failure;
use crate::outcome::Outcome;
use crate::outcome::say;
use crate::subject::Subject;
use crate::target;
use crate::watch::PlaceNote;
use crate::words::bytes;
use crate::words::count;
use crate::words::json;
use crate::words::moment;
use crate::words::span;

/// Runs `worm status`.
pub(crate) fn run(args: &StatusArgs) -> Outcome {
    let is_store = args.path.join(STORE_JSON).exists();
    if !is_store {
        target::check_served(&args.path)?;
    }
    let subject = Subject::of_store(&args.path, &args.door)?;
    let glance = match subject.ask(Ask::Status)? {
        Some(glance) => glance,
        None => on_disk(&subject)?,
    };
    if args.door.json {
        json(&glance)?;
    } else {
        print(&glance, subject.directory().ok());
    }
    let asked = |place: &&PlaceNote| {
        is_store || place.path.canonicalize().ok() == args.path.canonicalize().ok()
    };
    if let Some(alarm) = glance.places.iter().filter(asked).find_map(PlaceNote::alarm) {
        return Err(Failure::new(Exit::NotWriteOnce, alarm));
    }
    match glance.status.alarms.len() {
        0 => Ok(()),
        n => Err(Failure::new(
            Exit::Verification,
            format_args!("{}: look at them", count(n, "alarm")),
        )),
    }
}

fn on_disk(subject: &Subject) -> Outcome<Glance> {
    let (store, loaded, now) = subject.read()?;
    let room = store.disk().ok().map(|disk| Room::of(&disk));
    let status = report::status(&loaded.catalog, loaded.signed, now, room, None, Vec::new());
    Ok(Glance { status, places: Vec::new(), sandbox: String::new() })
}

fn print(glance: &Glance, directory: Option<&Path>) {
    let Glance { status, places, sandbox } = glance;
    let Status {
        store,
        served: _,
        lines,
        signed,
        clock,
        lag_seconds,
        room,
        unread,
        classes,
        daemon,
        alarms,
    } = status;
    match directory {
        Some(directory) => say(format_args!("store    {store} in {}", directory.display())),
        None => say(format_args!("store    {store}")),
    }
    match daemon {
        Some(daemon) => print_daemon(daemon),
        None => say("daemon   none: nothing is served"),
    }
    for PlaceNote { path, state } in places {
        say(format_args!("place    {}: {state}", path.display()));
    }
    if !sandbox.is_empty() {
        say(format_args!("sandbox  {sandbox}"));
    }
    say(format_args!("ledger   {lines} lines, {signed} of them under the signed head"));
    say(format_args!("clock    {}, {}", moment(clock), lag_words(*lag_seconds)));
    if let Some(Room { bytes: all, free_bytes: free }) = room {
        let percent = free.saturating_mul(100) / (*all).max(1);
        let (free, all) = (bytes(*free), bytes(*all));
        say(format_args!("disk     {free} of {all} free ({percent} %)"));
    }
    if let Some(Unread { path, seconds }) = unread {
        say(format_args!("scrub    {} since all was read: {path}", span(*seconds)));
    }
    say("");
    say(format_args!(
        "{:<12}  {:>8}  {:>7}  {:>10}  {:>10}  NEWEST",
        "CLASS", "KEPT", "FILES", "SIZE", "INCOMPLETE"
    ));
    for ClassRow { name, retention_seconds, files, bytes: length, incomplete, newest } in classes {
        let (kept, length) = (span(*retention_seconds), bytes(*length));
        let newest = newest.as_deref().map_or("-".to_owned(), moment);
        say(format_args!(
            "{name:<12}  {kept:>8}  {files:>7}  {length:>10}  {incomplete:>10}  {newest}"
        ));
    }
    print_usage(daemon.as_ref().map_or(&[][..], |daemon| &daemon.usage));
    for alarm in alarms {
        say(format_args!("ALARM    {alarm}"));
    }
}

/// Where the retention clock stands beside the system clock.
fn lag_words(lag_seconds: i64) -> String {
    match lag_seconds {
        0 => "as the system clock".to_owned(),
        1.. => format!("{} behind the system clock", span(lag_seconds)),
        ..0 => format!("{} ahead of the system clock", span(lag_seconds.saturating_neg())),
    }
}

/// How much of each limit is used, in percent.
fn print_usage(usage: &[ClassUsage]) {
    let Some(first) = usage.first() else { return };
    let titles: Vec<String> = first.limits.iter().map(|row| row.name.replace('_', " ")).collect();
    let line = |name: &str, cells: &[String]| {
        let cells = titles
            .iter()
            .zip(cells)
            .map(|(title, cell)| format!("  {cell:>width$}", width = title.len().max(6)));
        say(format_args!("{name:<12}{}", cells.collect::<String>()));
    };
    say("");
    let upper: Vec<String> = titles.iter().map(|title| title.to_uppercase()).collect();
    line("LIMITS USED", &upper);
    for class in usage {
        let percent = |row: &LimitUsage| match row.used.saturating_mul(100).checked_div(row.limit) {
            Some(0) if row.used > 0 => "< 1 %".to_owned(),
            Some(percent) => format!("{percent} %"),
            None => "-".to_owned(),
        };
        line(&class.class, &class.limits.iter().map(percent).collect::<Vec<_>>());
    }
}

fn print_daemon(daemon: &Serving) {
    let Serving { pid, version, started_at, open_files, unwitnessed, refusals, usage: _ } = daemon;
    let since = moment(started_at);
    say(format_args!("daemon   worm {version}, process {pid}, serving since {since}"));
    say(format_args!("writing  {}", count(*open_files, "file")));
    match unwitnessed {
        Some(lines) => say(format_args!(
            "witness  {lines} lines since the last head that was read through the view"
        )),
        None => say("witness  no head was read through the view yet"),
    }
    let total: u64 = refusals.iter().map(|row| row.count).sum();
    let mut most: Vec<_> = refusals.iter().collect();
    most.sort_by_key(|row| std::cmp::Reverse(row.count));
    let most = most
        .iter()
        .take(3)
        .map(|row| format!("{} {} ({})", row.count, row.request, row.reason.replace('_', " ")));
    let most = most.collect::<Vec<_>>().join(", ");
    let most = if most.is_empty() { most } else { format!(": {most}") };
    say(format_args!("refused  {total} since then{most}"));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_is_behind_or_ahead_by_something() {
        assert_eq!(lag_words(0), "as the system clock");
        assert_eq!(lag_words(3600), "1h behind the system clock");
        assert_eq!(lag_words(-90), "1m 30s ahead of the system clock");
    }
}
