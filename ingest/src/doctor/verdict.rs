//! PURE: what each fact means for the next backup, and what to do about it.

use jiff::SignedDuration;

use super::Level;
use super::canary::CLASS;
use super::gather::Facts;
use crate::summary::bytes;

/// Clocks that differ by more than this are told, and by more than the other are a failure: names,
/// schedules and ages follow from them.
const CLOCK_WARN: SignedDuration = SignedDuration::from_secs(60);
const CLOCK_FAIL: SignedDuration = SignedDuration::from_hours(1);
/// So many things are named.
const NAMED: usize = 5;

/// What one check says.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Verdict {
    pub(super) level: Level,
    pub(super) message: String,
}

fn ok(message: impl Into<String>) -> Verdict {
    Verdict { level: Level::Ok, message: message.into() }
}

fn warn(message: impl Into<String>) -> Verdict {
    Verdict { level: Level::Warn, message: message.into() }
}

fn fail(message: impl Into<String>) -> Verdict {
    Verdict { level: Level::Fail, message: message.into() }
}

/// Whether the directory is a write-once mount.
pub(super) fn mount(facts: &Facts) -> Verdict {
    let shown = facts.root.display();
    match (&facts.mount, facts.allow_plain) {
        (Err(error), _) => fail(error.clone()),
        (Ok(None), true) => {
            warn(format!("{shown} is a plain directory (--allow-plain): it protects nothing"))
        }
        (Ok(None), false) => fail(format!(
            "{shown} is not write-once: it has no user.worm.store. Mount the store (`worm mount`)"
        )),
        (Ok(Some(store)), _) => {
            let classes = facts.classes.join(", ");
            ok(format!("{shown} shows store {store}, with the classes {classes}"))
        }
    }
}

/// Whether the mount refused what must not happen to a sealed file.
pub(super) fn canary(facts: &Facts) -> Verdict {
    match &facts.canary {
        None => warn("not tried: there is no mount to try it on"),
        Some(Err(error)) if error.is_no_class => warn(format!(
            "not tried: there is no class for it. Add it to worm.toml and mount again:\n\
             \x20     [class.{CLASS}]\n\x20     retention = \"1h\""
        )),
        Some(Err(error)) => fail(format!("could not be sealed: {}", error.message)),
        Some(Ok(canary)) => {
            let wrong: Vec<String> = canary
                .tries
                .iter()
                .filter_map(|(what, answer)| match answer {
                    Some(errno) if errno == "EPERM" => None,
                    Some(errno) => Some(format!("to {what} it answered {errno}, not EPERM")),
                    None => Some(format!("it let us {what}")),
                })
                .collect();
            match wrong.is_empty() {
                true => ok(format!(
                    "a file sealed just now cannot be changed: {} ways were tried, all refused",
                    canary.tries.len()
                )),
                false => fail(format!("a sealed file is not safe: {}", wrong.join("; "))),
            }
        }
    }
}

/// Whether runs can be noted.
pub(super) fn audit_log(facts: &Facts) -> Verdict {
    let shown = facts.audit_log.display();
    match &facts.audit_error {
        None => ok(format!("{shown} can be written")),
        Some(error) => fail(format!(
            "{shown} cannot be written ({error}): make its directory writable, or name another by \
             --audit-log"
        )),
    }
}

/// Whether the server answers.
pub(super) fn server(facts: &Facts) -> Verdict {
    match &facts.server {
        Err(error) => fail(error.clone()),
        Ok(server) => ok(format!(
            "{} answers as {}, version {}, {}",
            facts.address,
            server.role,
            server.version,
            bytes(server.database_bytes)
        )),
    }
}

/// Whether there is a fitting `pg_dump`.
pub(super) fn client(facts: &Facts) -> Vec<Verdict> {
    let Ok(server) = &facts.server else { return Vec::new() };
    vec![match &server.client {
        Err(error) => fail(error.clone()),
        Ok((major, version)) if *major == server.major => ok(version.clone()),
        Ok((_, version)) => warn(format!(
            "{version} is newer than the server: its dumps may not restore into version {major}. \
             Install a PostgreSQL client of version {major}",
            major = server.major
        )),
    }]
}

/// Whether the role may read everything.
pub(super) fn rights(facts: &Facts) -> Vec<Verdict> {
    let Ok(server) = &facts.server else { return Vec::new() };
    let role = &server.role;
    let mut verdicts = Vec::new();
    if !server.unreadable.is_empty() {
        verdicts.push(fail(format!(
            "{role} may not read {}. As a superuser: GRANT pg_read_all_data TO \"{role}\" \
             (before version 14: GRANT SELECT on each)",
            listed(&server.unreadable)
        )));
    }
    if !server.row_security.is_empty() {
        verdicts.push(fail(format!(
            "row-level security hides rows of {} from {role}. As a superuser: ALTER ROLE \"{role}\" \
             BYPASSRLS",
            listed(&server.row_security)
        )));
    }
    if server.large_objects_denied > 0 {
        verdicts.push(fail(format!(
            "{role} may not read {} of {} large objects: make {role} a member of the roles that \
             own them, or GRANT SELECT ON LARGE OBJECT",
            server.large_objects_denied, server.large_objects
        )));
    }
    if verdicts.is_empty() {
        verdicts.push(ok(format!(
            "{role} may read all {} tables and sequences and {} large objects",
            server.relations, server.large_objects
        )));
    }
    if server.superuser {
        verdicts.push(warn(format!(
            "{role} is a superuser: whoever takes over the agent has the database, too. A role with \
             LOGIN BYPASSRLS and pg_read_all_data is enough"
        )));
    }
    verdicts
}

/// What goes beside a dump: roles, and settings of the server.
pub(super) fn globals(facts: &Facts) -> Vec<Verdict> {
    let Ok(server) = &facts.server else { return Vec::new() };
    if !facts.globals {
        return vec![ok("roles and settings of the server are not kept (globals = false)")];
    }
    let role = &server.role;
    let mut verdicts = Vec::new();
    if server.client.is_ok() && !server.dumps_globals {
        verdicts.push(warn(
            "there is no pg_dumpall beside pg_dump: no roles are kept. Install all of the client's \
             package",
        ));
    } else if !server.sees.passwords {
        verdicts.push(warn(format!(
            "{role} may not read pg_authid: roles are kept without their passwords. As a superuser: \
             GRANT SELECT ON pg_catalog.pg_authid TO \"{role}\", or globals = false"
        )));
    }
    if verdicts.is_empty() {
        verdicts.push(ok("roles are kept, with their passwords as the server has them"));
    }
    let unseen = [
        (server.sees.hba, "the rules of access (pg_hba)"),
        (server.sees.all_settings, "settings that are not for everybody (pg_read_all_settings)"),
    ];
    let unseen: Vec<&str> =
        unseen.into_iter().filter_map(|(sees, what)| (!sees).then_some(what)).collect();
    if !unseen.is_empty() {
        verdicts.push(ok(format!("{role} may not read {}: they are not kept", unseen.join(", "))));
    }
    verdicts
}

/// What the server of a restore must have.
pub(super) fn extensions(facts: &Facts) -> Vec<Verdict> {
    let Ok(server) = &facts.server else { return Vec::new() };
    let others: Vec<String> =
        server.extensions.iter().filter(|name| *name != "plpgsql").cloned().collect();
    vec![match others.is_empty() {
        true => ok("none but plpgsql"),
        false => ok(format!("a server to restore into needs {}", others.join(", "))),
    }]
}

/// Whether others can read the secrets.
pub(super) fn secrets(facts: &Facts) -> Vec<Verdict> {
    let judge = |file: &super::SecretFile| {
        let shown = file.path.display();
        match file.mode {
            None => warn(format!("{shown}, which holds the {}, cannot be looked at", file.what)),
            Some(mode) if mode & 0o007 != 0 => warn(format!(
                "{shown}, which holds the {}, can be read by everybody ({:03o}): chmod 600 it. \
                 docker-compose ignores `uid` and `mode` of a secret: there they are those of the \
                 file on the host",
                file.what,
                mode & 0o777
            )),
            Some(mode) => ok(format!("{shown} is closed to others ({:03o})", mode & 0o777)),
        }
    };
    facts.secrets.iter().map(judge).collect()
}

/// Whether the next run has room: twice the newest backups.
pub(super) fn space(facts: &Facts) -> Verdict {
    let Some(free) = facts.free_bytes else {
        return warn("how much is free cannot be told");
    };
    let need: u64 = facts.newest.iter().map(|newest| newest.bytes).sum();
    if facts.newest.is_empty() {
        let Ok(server) = &facts.server else {
            return ok(format!("{} are free, nothing was backed up so far", bytes(free)));
        };
        let need = server.database_bytes;
        return match free >= need {
            true => ok(format!("{} are free, the database has {}", bytes(free), bytes(need))),
            false => warn(format!(
                "{} are free, but the database has {}: compressed it may not fit",
                bytes(free),
                bytes(need)
            )),
        };
    }
    let says = format!(
        "{} are free, the newest backups of all classes have {} together",
        bytes(free),
        bytes(need)
    );
    if free < need {
        fail(format!("{says}: make room, the next run will not fit"))
    } else if free / 2 < need {
        warn(format!("{says}: make room soon"))
    } else {
        ok(says)
    }
}

/// Whether the clocks agree.
pub(super) fn clock(facts: &Facts) -> Vec<Verdict> {
    let server = facts.server.as_ref().ok().map(|server| ("the server", server.ahead));
    let canary = match &facts.canary {
        Some(Ok(canary)) => canary.ahead.map(|ahead| ("the mount", ahead)),
        Some(Err(_)) | None => None,
    };
    let judge = |(whose, ahead): (&str, SignedDuration)| {
        let off = ahead.abs();
        let says = format!(
            "the clock of {whose} is {} s {} ours",
            off.as_secs(),
            if ahead.is_negative() { "behind" } else { "ahead of" }
        );
        if off >= CLOCK_FAIL {
            fail(format!("{says}: set them right, names and schedules follow from them"))
        } else if off >= CLOCK_WARN {
            warn(format!("{says}: let NTP keep them"))
        } else {
            ok(says)
        }
    };
    [server, canary].into_iter().flatten().map(judge).collect()
}

/// Whether what is sealed is all right.
pub(super) fn backups(facts: &Facts) -> Vec<Verdict> {
    let judge = |newest: &super::gather::Newest| match &newest.suspect {
        Some(what) => warn(format!(
            "the newest backup of {} in {} is suspect: {what}. See what happened to the database; \
             if all is well, `worm-ingest backup {} --accept-suspect REASON`",
            newest.database, newest.class, newest.class
        )),
        None => ok(format!(
            "{} in {}: newest from {}, {}",
            newest.database,
            newest.class,
            newest.at.strftime("%Y-%m-%d %H:%M UTC"),
            bytes(newest.bytes)
        )),
    };
    let mut verdicts: Vec<Verdict> = facts.newest.iter().map(judge).collect();
    if verdicts.is_empty() {
        verdicts.push(ok("none so far"));
    }
    verdicts
}

fn listed(names: &[String]) -> String {
    let (named, others) = names.split_at(names.len().min(NAMED));
    let more = match others.len() {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    format!("{}{more}", named.join(", "))
}

#[cfg(test)]
mod tests;
