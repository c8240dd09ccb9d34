//! PURE: a line of the ledger in plain words: what happened, who did it, and why.

use worm_fs::clock::rfc3339;
use worm_fs::config::ClassRule;
use worm_fs::config::Mode;
use worm_fs::policy::name::StorePath;
use worm_fs::record::Actor;
use worm_fs::record::Event;
use worm_fs::record::Line;

use crate::words::bytes;
use crate::words::moment;
use crate::words::span;

/// What a line says.
pub(super) fn words(line: &Line) -> String {
    match &line.event {
        Event::Created { store, format, .. } => format!("store {store} was made, format {format}"),
        Event::Started { version, credit_ms, unsigned, unremoved, .. } => {
            started(version, *credit_ms, *unsigned, *unremoved)
        }
        Event::Clock { .. } => format!("clocks noted: the retention clock is {}", lag(line)),
        Event::Class { path, rule, .. } => format!("class {path}: {}", rule_words(rule)),
        Event::DirectoryMade { path, uid, gid, mode, .. } => {
            format!("{path}/ was made by uid {uid} (gid {gid}, mode {mode:04o})")
        }
        Event::DirectoryChanged { id, uid, gid, mode } => {
            format!("directory {id} became uid {uid}, gid {gid}, mode {mode:04o}")
        }
        Event::DirectoryRemoved { path, uid, .. } => format!("{path}/ was removed by uid {uid}"),
        Event::Sealed { path, size, committed, retain_until_ms, uid, governance, .. } => {
            let how = if *committed { "committed" } else { "closed" };
            let mode = if *governance { " (governance)" } else { "" };
            let until = until(line, *retain_until_ms);
            format!(
                "{path} was {how} and sealed: {}, uid {uid}, kept until {until}{mode}",
                bytes(*size)
            )
        }
        Event::Incomplete { path, meant, size, why, retain_until_ms, .. } => {
            let until = until(line, *retain_until_ms);
            let size = bytes(*size);
            format!("{meant} was given up ({why}): {size} kept as {path} until {until}")
        }
        Event::LogMade { path, uid, gid, mode, .. } => {
            format!("log {path} was made by uid {uid} (gid {gid}, mode {mode:04o})")
        }
        Event::Appended { path, size, retain_until_ms, .. } => {
            let (size, until) = (bytes(*size), until(line, *retain_until_ms));
            format!("log {path} has grown to {size}, kept until {until}")
        }
        Event::Extended { path, retain_until_ms, by, reason, .. } => {
            let until = until(line, *retain_until_ms);
            format!("{path} is kept longer, until {until}, by {by}{}", because(reason.as_deref()))
        }
        Event::Held { path, hold, reason, by, .. } => {
            format!("{path}: hold \"{hold}\" was put by {by}{}", because(Some(reason)))
        }
        Event::HoldLifted { path, hold, reason, by, .. } => {
            format!("{path}: hold \"{hold}\" was lifted by {by}{}", because(Some(reason)))
        }
        Event::Released { path, reason, by, .. } => {
            format!("{path} and its group were released early by {by}{}", because(Some(reason)))
        }
        Event::ClockCredited { credit_ms, reason, by, .. } => {
            let credit = span(credit_ms / 1000);
            format!(
                "{credit} were credited to the retention clock by {by}{}",
                because(Some(reason))
            )
        }
        Event::KeyChanged { key, reason, by, .. } => {
            format!("the signing key was changed to {key} by {by}{}", because(Some(reason)))
        }
        Event::Scrubbed { through, damaged, .. } => scrubbed(*through, damaged.len()),
        Event::Snapshot(snapshot) => format!(
            "a snapshot was written of what was alive after line {} ({})",
            snapshot.up_to,
            bytes(snapshot.bytes)
        ),
        Event::Removed { path, why, uid, login_uid, .. } => {
            let actor = uid.map(|uid| Actor { uid, login_uid: *login_uid });
            let by = actor.map_or("the store".to_owned(), |actor| actor.to_string());
            format!("{path} was removed by {by} ({why})")
        }
    }
}

/// The paths that a line is about.
pub(super) fn paths(event: &Event) -> impl Iterator<Item = &StorePath> {
    let meant = match event {
        Event::Incomplete { meant, .. } => Some(meant),
        Event::Created { .. }
        | Event::Started { .. }
        | Event::Clock { .. }
        | Event::ClockCredited { .. }
        | Event::KeyChanged { .. }
        | Event::Class { .. }
        | Event::DirectoryMade { .. }
        | Event::DirectoryChanged { .. }
        | Event::DirectoryRemoved { .. }
        | Event::Sealed { .. }
        | Event::LogMade { .. }
        | Event::Appended { .. }
        | Event::Extended { .. }
        | Event::Held { .. }
        | Event::HoldLifted { .. }
        | Event::Released { .. }
        | Event::Scrubbed { .. }
        | Event::Snapshot(_)
        | Event::Removed { .. } => None,
    };
    event.subject().and_then(|(_, path)| path).into_iter().chain(meant)
}

/// Whether the retention clock moved by more than the time that passed.
pub(crate) fn moves_the_clock(event: &Event) -> bool {
    match event {
        Event::Started { credit_ms, .. } => *credit_ms != 0,
        Event::ClockCredited { .. } => true,
        Event::Created { .. }
        | Event::Clock { .. }
        | Event::Class { .. }
        | Event::KeyChanged { .. }
        | Event::DirectoryMade { .. }
        | Event::DirectoryChanged { .. }
        | Event::DirectoryRemoved { .. }
        | Event::Sealed { .. }
        | Event::Incomplete { .. }
        | Event::LogMade { .. }
        | Event::Appended { .. }
        | Event::Extended { .. }
        | Event::Held { .. }
        | Event::HoldLifted { .. }
        | Event::Released { .. }
        | Event::Scrubbed { .. }
        | Event::Snapshot(_)
        | Event::Removed { .. } => false,
    }
}

fn scrubbed(through: u64, damaged: usize) -> String {
    let damaged = match damaged {
        0 => String::new(),
        n => format!("; {} not what was sealed", crate::words::count(n, "file")),
    };
    format!("files up to number {through} were read again{damaged}")
}

fn started(version: &str, credit_ms: i64, unsigned: u64, unremoved: u64) -> String {
    let credit = match credit_ms {
        0 => String::new(),
        ms => format!("; {} of downtime were credited", span(ms / 1000)),
    };
    let unsigned = match unsigned {
        0 => String::new(),
        n => format!("; the {n} lines before were not under the signed head"),
    };
    let unremoved = match unremoved {
        0 => String::new(),
        n => format!("; {n} removed files or directories are still on the disk"),
    };
    format!("daemon {version} began to serve{credit}{unsigned}{unremoved}")
}

fn rule_words(rule: &ClassRule) -> String {
    let longest = match rule.max_retention {
        Some(max) if max > rule.retention => format!(", at most {}", span(max / 1000)),
        Some(_) | None => String::new(),
    };
    let mode = match rule.mode {
        Mode::Compliance => "compliance",
        Mode::Governance => "governance",
    };
    format!(
        "files are kept {}{longest}, {mode}; the newest {} whole groups of a directory stay; \
         owner {}, group {}, mode {:04o}",
        span(rule.retention / 1000),
        rule.keep_last,
        rule.owner,
        rule.group,
        rule.permissions
    )
}

/// A moment of the retention clock in system time, as the clocks stood then.
fn until(line: &Line, ms: i64) -> String {
    moment(&rfc3339(ms.saturating_add(lag_ms(line))))
}

fn lag_ms(line: &Line) -> i64 {
    let system = line.time.parse::<jiff::Timestamp>();
    system.map_or(0, |system| system.as_millisecond().saturating_sub(line.clock_ms))
}

fn lag(line: &Line) -> String {
    match lag_ms(line) / 1000 {
        0 => "with the system clock".to_owned(),
        lag if lag > 0 => format!("{} behind the system clock", span(lag)),
        lag => format!("{} ahead of the system clock", span(-lag)),
    }
}

fn because(reason: Option<&str>) -> String {
    reason.map(|reason| format!(": \"{reason}\"")).unwrap_or_default()
}
