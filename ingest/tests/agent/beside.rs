//! What stands beside a dump: roles, tablespaces, settings of the server.

use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use serde_json::Value;
use worm_ingest::manifest::Manifest;

use crate::world::Run;
use crate::world::World;

const TABLE: &str = "CREATE TABLE t AS SELECT generate_series(1, 10) AS n";

/// A backup with what stands beside it, as this role.
fn backup(world: &World, role: &str, arguments: &[&str]) -> Run {
    world.backup(|command| {
        command.env("WORM_GLOBALS", "true").env("PGUSER", role).args(arguments);
    })
}

fn place(world: &World, run: &Run, suffix: &str) -> PathBuf {
    let name = run.json()["name"].as_str().unwrap().to_owned();
    world.path("active/hourly").join(format!("{name}{suffix}"))
}

fn manifest(world: &World, run: &Run) -> Manifest {
    assert_eq!(run.code, Some(0), "{run:?}");
    Manifest::decode(&std::fs::read(place(world, run, ".manifest.json")).unwrap()).unwrap()
}

fn codes(manifest: &Manifest) -> Vec<&str> {
    manifest.lacks.iter().map(|lack| lack.code.as_str()).collect()
}

/// The manifest says of each what is there, and nobody else reads it.
#[track_caller]
fn check_described(world: &World, run: &Run, manifest: &Manifest) {
    for sidecar in &manifest.sidecars {
        let path = place(world, run, &sidecar.suffix);
        assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o777, 0o600, "{path:?}");
        let bytes = std::fs::read(&path).unwrap();
        assert_eq!(sidecar.content.bytes, bytes.len() as u64);
        let said = std::process::Command::new("sha256sum").arg(&path).output().unwrap();
        assert!(String::from_utf8(said.stdout).unwrap().starts_with(&sidecar.content.sha256));
    }
}

#[test]
fn roles_and_settings_of_the_server_are_kept() {
    let odd = "it's \"odd\" host=x \\";
    let world = World::new("beside_app", "", TABLE);
    world.server.sql("postgres", "CREATE ROLE beside_owner LOGIN PASSWORD 'not shown'");
    let quoted = format!("\"{}\"", odd.replace('"', "\"\""));
    world.server.sql("postgres", &format!("CREATE DATABASE {quoted}"));
    world.server.sql("postgres", &format!("ALTER DATABASE {quoted} SET work_mem = '7MB'"));
    let run = backup(&world, "postgres", &["--dbname", odd]);
    let manifest = manifest(&world, &run);
    assert_eq!(codes(&manifest), [""; 0]);
    assert_eq!(world.names().len(), 5, "{:?}", world.names());
    check_described(&world, &run, &manifest);
    let globals = std::fs::read_to_string(place(&world, &run, ".globals.sql")).unwrap();
    assert!(globals.contains("CREATE ROLE beside_owner;"), "{globals}");
    assert!(globals.contains("PASSWORD 'SCRAM-SHA-256$"), "{globals}");
    let cluster = std::fs::read(place(&world, &run, ".cluster.json")).unwrap();
    let cluster: Value = serde_json::from_slice(&cluster).unwrap();
    assert_eq!(cluster["database"]["name"], odd);
    assert_eq!(cluster["database"]["settings"][0]["settings"][0], "work_mem=7MB");
    assert!(cluster["hba"].as_array().unwrap().iter().any(|rule| rule["type"] == "local"));
    assert_eq!(cluster["extensions"][0]["name"], "plpgsql");
    assert_eq!(cluster["tablespaces"][0]["name"], "pg_default");
    let settings = cluster["settings"].as_array().unwrap();
    assert!(settings.iter().any(|setting| setting["name"] == "unix_socket_directories"));
    assert!(!settings.iter().any(|setting| setting["name"] == "statement_timeout"), "{settings:?}");

    // It is one backup all the same.
    let listed: Run = world.command("list").arg("--json").output().unwrap().into();
    assert_eq!(listed.json().as_array().unwrap().len(), 1, "{listed:?}");
    let off = world.backup(|command| {
        command.arg("--globals=false");
    });
    let off = self::manifest(&world, &off);
    assert_eq!((off.sidecars, off.lacks), (Vec::new(), Vec::new()));
}

#[test]
fn what_the_role_may_not_read_is_named_and_the_backup_is_good() {
    let world = World::new("beside_rights", "", TABLE);
    world.server.sql(
        "beside_rights",
        "CREATE ROLE beside_reader LOGIN; GRANT SELECT ON t TO beside_reader",
    );
    let run = backup(&world, "beside_reader", &[]);
    let manifest = manifest(&world, &run);
    let lacks = ["cluster.hba", "cluster.settings", "globals.passwords"];
    assert_eq!(codes(&manifest), lacks);
    assert!(run.stderr.contains("GRANT SELECT ON pg_catalog.pg_authid"), "{run:?}");
    let audited = &world.audit()[0];
    assert_eq!((&audited["outcome"], &audited["exit"]), (&"ok".into(), &0.into()));
    assert_eq!(audited["lacks"].as_array().unwrap().len(), 3);
    check_described(&world, &run, &manifest);
    let globals = std::fs::read_to_string(place(&world, &run, ".globals.sql")).unwrap();
    assert!(globals.contains("CREATE ROLE beside_reader;"), "{globals}");
    assert!(!globals.contains("PASSWORD"), "{globals}");

    let examined = world.command("doctor").env("PGUSER", "beside_reader").arg("--globals").output();
    let examined: Run = examined.unwrap().into();
    assert!(examined.stdout.contains("without their passwords"), "{examined:?}");
}

#[test]
fn without_a_whole_list_of_roles_there_is_none() {
    let world = World::new("beside_broken", "", TABLE);
    let directory = world.fake("exec \"$REAL\" \"$@\"");
    let client = directory.to_str().unwrap().to_owned();
    let run = backup(&world, "postgres", &["--client-dir", &client]);
    let without = manifest(&world, &run);
    assert_eq!(codes(&without), ["globals.missing"], "{run:?}");
    assert!(run.stderr.contains("pg_dumpall, which comes with pg_dump"), "{run:?}");
    let cut = "#!/bin/sh\necho 'CREATE ROLE half;'\n";
    crate::world::put(&directory.join("pg_dumpall"), cut.as_bytes(), 0o755);
    let run = backup(&world, "postgres", &["--client-dir", &client]);
    let without = manifest(&world, &run);
    assert_eq!(codes(&without), ["globals.missing"]);
    assert!(run.stderr.contains("stops before its end"), "{run:?}");
    let suffixes: Vec<&str> = without.sidecars.iter().map(|it| it.suffix.as_str()).collect();
    assert_eq!(suffixes, [".cluster.json"]);
}

#[test]
fn beside_an_encrypted_dump_nothing_is_in_the_clear() {
    let world = World::new("beside_sealed", "", TABLE);
    let key = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/fixtures/recipient");
    let run = backup(&world, "postgres", &["--recipients-file", key]);
    let manifest = manifest(&world, &run);
    check_described(&world, &run, &manifest);
    let suffixes: Vec<&str> = manifest.sidecars.iter().map(|it| it.suffix.as_str()).collect();
    assert_eq!(suffixes, [".globals.sql.age", ".cluster.json.age"]);
    for suffix in suffixes {
        let bytes = std::fs::read(place(&world, &run, suffix)).unwrap();
        assert!(bytes.starts_with(b"age-encryption.org/v1"), "{suffix}");
    }
}
