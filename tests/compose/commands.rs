//! The commands that people know, typed on the host of the deployment.

use std::time::Instant;

use system_tests::stack::SERVICES;
use system_tests::stack::Stack;

use crate::calm;
use crate::fill;

#[test]
fn a_backup_and_an_extraction_can_be_asked_for_at_once() {
    let stack = calm();
    for command in ["worm-ingest backup hourly", "backup.py hourly"] {
        let said = stack.shell(&format!("docker compose exec backup-agent {command}")).success();
        assert!(said.contains("1 tables, 1000 rows"), "{said}");
    }
    for command in ["worm-extractor once", "extractor.py once"] {
        // The one that runs by itself may hold the mirror at this moment.
        stack.wait_until("the mirror is free", || {
            let said = stack.shell(&format!("docker compose exec backup-extractor {command}"));
            assert!([0, 7].contains(&said.code()), "{said:?}");
            said.code() == 0
        });
    }
    stack.wait_until_mirrored(&[stack.backup("hourly")]);
}

#[test]
fn logs_sizes_and_audit_logs_are_where_people_look() {
    let stack = calm();
    let logs = stack.shell("docker compose logs worm-fs").success();
    assert!(logs.contains("serving"), "{logs}");
    let sizes = stack.shell("docker compose exec backup-agent du -sh /backups/active").success();
    assert!(sizes.contains("/backups/active"), "{sizes}");
    stack.wait_until_mirrored(&[stack.backup("daily")]);
    for (service, log) in
        [("backup-agent", "backup_audit"), ("backup-extractor", "extraction_audit")]
    {
        let tail = format!("docker compose exec {service} tail -n 1 /backups/logs/{log}.jsonl");
        let line = stack.shell(&tail).success();
        let line: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert!(line["event"].is_string(), "{line}");
    }
    let status = stack.shell("docker compose exec worm-fs worm status /store").success();
    assert!(status.contains("daily"), "{status}");
    stack.shell("docker compose exec worm-fs worm verify /store").success();
}

#[test]
fn backups_are_made_and_mirrored_without_being_asked_for() {
    let stack = calm();
    for class in ["hourly", "daily"] {
        let found = format!("ls $EXTERNAL_STORAGE/{class}/*/*.manifest.json");
        stack.wait_until(&format!("{class} is mirrored"), || stack.shell(&found).code() == 0);
    }
    stack.exec("backup-extractor", "worm-extractor health").success();
    stack.exec("backup-agent", "worm-ingest health").success();
}

#[test]
fn down_and_up_again_keeps_everything_and_it_can_be_restored() {
    let stack = Stack::up("restored");
    let timed =
        |what: &str, since: Instant| println!("{what}: {:.1} s", since.elapsed().as_secs_f64());
    // Some 100 MB on the server.
    fill(&stack, 1_500_000);
    let begun = Instant::now();
    let backup = stack.backup("weekly");
    timed("backup", begun);
    stack.wait_until_mirrored(&[backup]);
    timed("backup and mirror", begun);
    let before = stack.sealed();
    // Even the volume of the database: backups are in none.
    stack.shell("docker compose down --volumes").success();
    let mounts = stack.shell("findmnt -n -o TARGET,FSTYPE | grep fuse || true").success();
    assert!(!mounts.contains("/restored/"), "{mounts}");
    stack.shell("docker compose up -d").success();
    stack.wait_until_healthy(&SERVICES);
    stack.check_nothing_lost(&before);

    stack.exec("db", "createdb -U app -T template0 app2").success();
    let begun = Instant::now();
    stack
        .shell("docker compose run --rm restore latest --class weekly --to postgres://app@db/app2")
        .success();
    timed("restore", begun);
    let count = stack.exec("db", "psql -At -U app app2 -c 'SELECT count(*) FROM payment'");
    assert_eq!(count.success().trim(), "1500000");
    let size =
        stack.exec("db", "psql -At -U app app2 -c 'SELECT pg_database_size(current_database())'");
    let stored = stack.exec("backup-extractor", "du -sb /backups/active/weekly");
    println!("database {} bytes, backup {}", size.success().trim(), stored.success().trim());
}
