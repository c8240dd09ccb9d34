//! A good dump becomes a backup, whatever the database is called and holds.

use std::collections::BTreeMap;
use std::process::Command;

use jiff::SignedDuration;
use jiff::Timestamp;
use worm_ingest::manifest::Manifest;

use crate::world::Run;
use crate::world::World;
use crate::world::put;

/// Names, kinds of tables and texts that a careless reader of dumps would trip over.
const ODD: &str = include_str!("odd.sql");

/// Rows of every table, as the server counts them.
const COUNTS: &str = "SELECT json_object_agg(nspname || '/' || relname, (xpath('/row/c/text()', \
     query_to_xml(format('SELECT count(*) AS c FROM %s %I.%I', \
     CASE relkind WHEN 'r' THEN 'ONLY' ELSE '' END, nspname, relname), false, true, '')))[1]::text) \
     FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace \
     WHERE relkind IN ('r', 'p') AND nspname !~ '^pg_' AND nspname <> 'information_schema'";

fn manifest(world: &World, run: &Run) -> Manifest {
    assert_eq!(run.code, Some(0), "{run:?}");
    let name = run.json()["name"].as_str().unwrap().to_owned();
    let path = world.path("active/hourly").join(format!("{name}.manifest.json"));
    Manifest::decode(&std::fs::read(path).unwrap()).unwrap()
}

fn rows(manifest: &Manifest) -> BTreeMap<String, u64> {
    let tables = manifest.tables.iter();
    tables.map(|table| (format!("{}/{}", table.schema, table.table), table.rows)).collect()
}

#[test]
fn an_odd_database_is_backed_up_whole() {
    let world = World::new("odd", "", ODD);
    let run = world.backup(|_| {});
    let manifest = manifest(&world, &run);

    let counted: BTreeMap<String, String> =
        serde_json::from_str(&world.server.sql("odd", COUNTS)).unwrap();
    let rows = rows(&manifest);
    for (table, rows) in &rows {
        // Of a configuration table only the rows that the extension marked are dumped.
        let expected = if table == "public/config" { "1" } else { counted[table].as_str() };
        assert_eq!(rows.to_string(), expected, "{table}");
    }
    let marked: Vec<&str> = manifest
        .tables
        .iter()
        .filter(|table| table.extension)
        .map(|table| table.table.as_str())
        .collect();
    assert_eq!(marked, ["config"]);
    // In the catalogue and rightly not in the dump: a member of an extension, tables without rows
    // of their own, and partitions that are dumped under the name of their root.
    let absent: Vec<&String> = counted.keys().filter(|table| !rows.contains_key(*table)).collect();
    let hashed = rows.contains_key("public/hashed");
    let partitions =
        if hashed { vec!["public/hashed_0", "public/hashed_1"] } else { vec!["public/hashed"] };
    let mut expected = partitions;
    expected.extend(["public/internal", "public/part", "public/part_2"]);
    assert_eq!(absent, expected);

    let name = &manifest.name;
    assert_eq!(
        world.names(),
        [name.clone(), format!("{name}.manifest.json"), format!("{name}.sha256")]
    );
    let directory = world.path("active/hourly");
    let shell = format!("sha256sum -c {name}.sha256 && gzip -dc {name} | sha256sum");
    let checked = Command::new("sh").args(["-c", &shell]).current_dir(directory).output().unwrap();
    assert!(checked.status.success());
    assert!(
        String::from_utf8_lossy(&checked.stdout).contains(manifest.raw.sha256.as_ref().unwrap())
    );
    let audit = world.audit();
    assert_eq!(audit.len(), 1);
    assert_eq!((&audit[0]["outcome"], &audit[0]["name"]), (&"ok".into(), &name.as_str().into()));
}

#[test]
fn names_are_compared_in_the_databases_own_encoding() {
    let world = World::new("latin", "ENCODING 'LATIN1'", "CREATE TABLE \"Größe\" (a int)");
    let run = world.backup(|command| {
        command.env("PGCLIENTENCODING", "UTF8");
    });
    assert_eq!(rows(&manifest(&world, &run)), BTreeMap::from([("public/Größe".to_owned(), 0)]));

    let create = "DO $$ BEGIN EXECUTE 'CREATE TABLE \"Gr' || E'\\xf6' || '\" (a int)'; END $$";
    let world = World::new("unknown", "ENCODING 'SQL_ASCII'", create);
    let run = world.backup(|_| {});
    assert_eq!(rows(&manifest(&world, &run)).len(), 1);
}

#[test]
fn a_taken_name_leads_to_the_next_second() {
    let world = World::new("taken", "", "CREATE TABLE t (a int)");
    let now = Timestamp::now();
    for second in 0..60 {
        let at = now + SignedDuration::from_secs(second);
        let name = at.strftime("%Y-%m-%d_%H-%M-%S.sql.gz").to_string();
        put(&world.path("active/hourly").join(name), b"", 0o600);
    }
    let run = world.backup(|_| {});
    let manifest = manifest(&world, &run);
    assert_ne!(run.json()["wished_name"], manifest.name.as_str());
    assert!(run.json()["wished_name"].is_string(), "{run:?}");
}

#[test]
fn a_standby_is_backed_up_without_the_tables_that_are_not_logged() {
    let tables = "CREATE TABLE logged AS SELECT 1 AS a; CREATE UNLOGGED TABLE unlogged (a int)";
    let world = World::new("standby", "", tables);
    let standby = world.server.standby();
    let run = world.backup(|command| {
        command.env("PGHOST", standby.host());
    });
    assert_eq!(rows(&manifest(&world, &run)), BTreeMap::from([("public/logged".to_owned(), 1)]));
}

#[test]
fn a_client_newer_than_the_server_is_warned_of() {
    let world = World::new("newer", "", "CREATE TABLE t (a int)");
    let major = world.server.major();
    for (version, warned) in [("99.1", true), (format!("{major}.1").as_str(), false)] {
        let version = format!("pg_dump (PostgreSQL) {version}");
        let spy = world.fake_of_version(&version, "exec $REAL \"$@\"");
        let run = world.backup(|command| {
            command.arg("--client-dir").arg(&spy);
        });
        assert_eq!(run.code, Some(0), "{run:?}");
        let warning = format!("may not restore into version {major}");
        assert_eq!(run.stderr.contains(&warning), warned, "{run:?}");
    }
}

#[test]
fn a_password_reaches_the_server_and_nobody_else() {
    let setup = "DROP ROLE IF EXISTS secretive; \
                 CREATE ROLE secretive LOGIN PASSWORD 'pa:ss\\word'; \
                 CREATE TABLE t (a int); ALTER TABLE t OWNER TO secretive";
    let world = World::new("secrets", "", setup);
    let file = world.path("password");
    put(&file, b"pa:ss\\word\n", 0o444);
    let spy = world.fake(
        "{ tr '\\0' '\\n' </proc/$$/environ; tr '\\0' '\\n' </proc/$$/cmdline; } >$HERE/seen\n\
         exec $REAL \"$@\"",
    );
    let login = |command: &mut Command| {
        command.env("PGUSER", "secretive").arg("--client-dir").arg(&spy);
    };
    let run = world.backup(|command| {
        login(command);
        command.env("PGPASSWORD_FILE", &file);
    });
    assert_eq!(run.code, Some(0), "{run:?}");
    let seen = std::fs::read_to_string(spy.join("seen")).unwrap();
    assert!(seen.contains("PGUSER=secretive") && !seen.contains("pa:ss"), "{seen}");
    assert!(!run.stdout.contains("pa:ss") && !run.stderr.contains("pa:ss"));

    for password in [Some("wrong"), None] {
        let before = world.names();
        let run = world.backup(|command| {
            login(command);
            if let Some(password) = password {
                command.env("PGPASSWORD", password);
            }
        });
        assert_eq!(run.code, Some(4), "{run:?}");
        assert_eq!(run.json()["error"]["code"], "database.refused");
        assert_eq!(world.names(), before);
    }
}
