//! Each verdict over facts that are made up.

use std::path::PathBuf;

use super::super::SecretFile;
use super::super::canary::Canary;
use super::super::canary::NotTried;
use super::super::gather::Newest;
use super::super::server::Server;
use super::*;
use crate::source::postgres::cluster::Rights;

fn facts() -> Facts {
    let refused = |what| (what, Some("EPERM".to_owned()));
    Facts {
        root: PathBuf::from("/backups/active"),
        allow_plain: false,
        mount: Ok(Some("worm-1".to_owned())),
        classes: vec!["canary".to_owned(), "hourly".to_owned()],
        canary: Some(Ok(Canary {
            tries: vec![refused("truncate it"), refused("remove it")],
            ahead: Some(SignedDuration::ZERO),
        })),
        audit_log: PathBuf::from("/backups/logs/a"),
        audit_error: None,
        address: "db:5432".to_owned(),
        server: Ok(Server {
            role: "backup".to_owned(),
            superuser: false,
            version: "15.18".to_owned(),
            major: 15,
            database_bytes: 1_000,
            ahead: SignedDuration::from_secs(-3),
            relations: 4,
            unreadable: Vec::new(),
            row_security: Vec::new(),
            large_objects: 2,
            large_objects_denied: 0,
            extensions: vec!["plpgsql".to_owned()],
            sees: Rights { passwords: true, hba: true, all_settings: true },
            dumps_globals: true,
            client: Ok((15, "pg_dump (PostgreSQL) 15.18".to_owned())),
        }),
        globals: true,
        secrets: vec![file(0o100_600)],
        free_bytes: Some(10_000),
        newest: vec![newest(2_000)],
    }
}

fn file(mode: u32) -> SecretFile {
    SecretFile { what: "password".to_owned(), path: PathBuf::from("/p"), mode: Some(mode) }
}

fn newest(bytes: u64) -> Newest {
    Newest {
        database: "app".to_owned(),
        class: "hourly".to_owned(),
        at: jiff::Timestamp::UNIX_EPOCH,
        bytes,
        suspect: None,
    }
}

/// The facts with something wrong about the server.
fn with(change: impl FnOnce(&mut Server)) -> Facts {
    let mut facts = facts();
    change(facts.server.as_mut().unwrap());
    facts
}

#[track_caller]
fn check(verdicts: impl IntoIterator<Item = Verdict>, level: Level, word: &str) {
    let verdicts: Vec<Verdict> = verdicts.into_iter().collect();
    let found = verdicts.iter().any(|one| one.level == level && one.message.contains(word));
    assert!(found, "{level:?} {word}: {verdicts:#?}");
}

#[test]
fn all_is_well_when_all_is_well() {
    let facts = facts();
    let all = [
        vec![mount(&facts), canary(&facts), audit_log(&facts), server(&facts), space(&facts)],
        client(&facts),
        rights(&facts),
        extensions(&facts),
        secrets(&facts),
        clock(&facts),
        backups(&facts),
    ];
    let wrong: Vec<Verdict> =
        all.into_iter().flatten().filter(|verdict| verdict.level != Level::Ok).collect();
    assert_eq!(wrong, []);
}

#[test]
fn only_eperm_is_a_pass() {
    let answered = |answer: Option<&str>| {
        let tries = vec![("remove it", answer.map(str::to_owned))];
        canary(&Facts { canary: Some(Ok(Canary { tries, ahead: None })), ..facts() })
    };
    check([answered(Some("EPERM"))], Level::Ok, "all refused");
    check([answered(None)], Level::Fail, "let us remove it");
    check([answered(Some("Permission denied (os error 13)"))], Level::Fail, "not EPERM");
    let not_tried = |is_no_class| {
        let error = NotTried { is_no_class, message: "full".to_owned() };
        canary(&Facts { canary: Some(Err(error)), ..facts() })
    };
    check([not_tried(true)], Level::Warn, "[class.canary]");
    check([not_tried(false)], Level::Fail, "full");
}

#[test]
fn a_plain_directory_is_no_mount() {
    let plain = |allow_plain| mount(&Facts { mount: Ok(None), allow_plain, ..facts() });
    check([plain(false)], Level::Fail, "not write-once");
    check([plain(true)], Level::Warn, "protects nothing");
}

#[test]
fn what_the_role_may_not_read_is_named_with_what_to_do() {
    let names: Vec<String> = (0..7).map(|n| format!("t{n}")).collect();
    let wrong = with(|server| server.unreadable = names);
    check(rights(&wrong), Level::Fail, "t0, t1, t2, t3, t4 and 2 more");
    let wrong = with(|server| server.row_security = vec!["t".to_owned()]);
    check(rights(&wrong), Level::Fail, "BYPASSRLS");
    let wrong = with(|server| server.large_objects_denied = 1);
    check(rights(&wrong), Level::Fail, "1 of 2 large objects");
    check(rights(&with(|server| server.superuser = true)), Level::Warn, "superuser");
    check(client(&with(|server| server.client = Ok((17, "17".to_owned())))), Level::Warn, "15");
    check(client(&with(|server| server.client = Err("none".to_owned()))), Level::Fail, "none");
    let gone = Facts { server: Err("no answer".to_owned()), ..facts() };
    check([server(&gone)], Level::Fail, "no answer");
    assert_eq!((client(&gone), rights(&gone)), (Vec::new(), Vec::new()));
}

#[test]
fn room_is_measured_by_what_was_written_last() {
    let free = |free| space(&Facts { free_bytes: Some(free), ..facts() });
    check([free(4_000)], Level::Ok, "free");
    check([free(3_999)], Level::Warn, "soon");
    check([free(1_999)], Level::Fail, "will not fit");
    let first = |free| space(&Facts { free_bytes: Some(free), newest: Vec::new(), ..facts() });
    check([first(1_000)], Level::Ok, "the database has");
    check([first(999)], Level::Warn, "may not fit");
}

#[test]
fn secrets_and_clocks_and_suspicion_are_told() {
    check(secrets(&Facts { secrets: vec![file(0o100_444)], ..facts() }), Level::Warn, "444");
    check(secrets(&Facts { secrets: vec![file(0o100_440)], ..facts() }), Level::Ok, "440");
    let ahead = |seconds| clock(&with(|s| s.ahead = SignedDuration::from_secs(seconds)));
    check(ahead(-60), Level::Warn, "60 s behind");
    check(ahead(3600), Level::Fail, "3600 s ahead");
    let suspect = Newest { suspect: Some("rows.dropped: few".to_owned()), ..newest(1) };
    check(backups(&Facts { newest: vec![suspect], ..facts() }), Level::Warn, "rows.dropped: few");
}
