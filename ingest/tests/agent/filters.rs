//! A part of the database: chosen by the patterns of `pg_dump`, and proven to be all of that part.

use std::collections::BTreeSet;

use worm_ingest::manifest::Manifest;

use crate::server::bin;
use crate::world::Run;
use crate::world::World;

/// Names that a pattern of our own would get wrong, partitions, and a large object.
const SETUP: &str = "CREATE SCHEMA sales; CREATE SCHEMA \"Odd.Schema\"; \
     CREATE TABLE sales.orders AS SELECT generate_series(1, 10) AS n; \
     CREATE TABLE sales.\"Or.ders two\" AS SELECT generate_series(1, 20) AS n; \
     CREATE TABLE \"Odd.Schema\".t AS SELECT generate_series(1, 30) AS n; \
     CREATE TABLE plain AS SELECT generate_series(1, 40) AS n; \
     CREATE TABLE part (n int) PARTITION BY RANGE (n); \
     CREATE TABLE part_1 PARTITION OF part FOR VALUES FROM (0) TO (100); \
     INSERT INTO part SELECT generate_series(1, 50); \
     SELECT lo_create(0)";

/// What a dump with these arguments holds: tables by their rows, and large objects.
#[track_caller]
fn check(world: &World, arguments: &[&str], rows: &[u64], large_objects: u64) -> Manifest {
    let run = world.backup(|command| {
        command.args(arguments);
    });
    assert_eq!(run.code, Some(0), "{arguments:?}: {run:?}");
    let name = run.json()["name"].as_str().unwrap().to_owned();
    let path = world.path("active/hourly").join(format!("{name}.manifest.json"));
    let manifest = Manifest::decode(&std::fs::read(path).unwrap()).unwrap();
    let found: BTreeSet<u64> = manifest.tables.iter().map(|table| table.rows).collect();
    assert_eq!(found, rows.iter().copied().collect(), "{arguments:?}");
    assert_eq!(manifest.large_objects, Some(large_objects), "{arguments:?}");
    assert!(!run.stderr.contains("did not promise"), "{run:?}");
    manifest
}

#[test]
fn pg_dump_says_what_a_pattern_means() {
    let world = World::new("filters", "", SETUP);
    let all = check(&world, &[], &[10, 20, 30, 40, 50], 1);
    assert!(all.filters.is_empty());
    let sales = check(&world, &["--schema=SALES"], &[10, 20], 0);
    assert_eq!(sales.filters.to_string(), "--schema=SALES");
    check(&world, &["--schema", "\"Odd.Schema\""], &[30], 0);
    check(&world, &["--exclude-schema=s*", "--format=custom"], &[30, 40, 50], 1);
    check(&world, &["--table=pla*", "--table=sales.\"Or.ders two\""], &[20, 40], 0);
    check(&world, &["--exclude-table=part_?", "--exclude-table=*.orders"], &[20, 30, 40], 1);
    check(&world, &["--exclude-table-data=sales.*"], &[30, 40, 50], 1);
    check(&world, &["--exclude-table-data=nothing.there"], &[10, 20, 30, 40, 50], 1);
    let both = ["--schema=public", "--exclude-table-data=plain"];
    let both = check(&world, &both, &[50], 0);
    assert_eq!(both.filters.to_string(), "--schema=public --exclude-table-data=plain");

    // Also beside one that fits. Nothing is made.
    let sealed = || std::fs::read_dir(world.path("active/hourly")).unwrap().count();
    let before = sealed();
    for fitting in [&[][..], &["--table=plain"], &["--schema=sales", "--exclude-table=plain"]] {
        let run = world.backup(|command| {
            command.arg("--table=nothing.there").args(fitting);
        });
        assert_eq!(run.code, Some(1), "{run:?}");
        assert!(run.stderr.contains("no matching tables were found"), "{run:?}");
    }
    assert_eq!(sealed(), before);
}

#[test]
fn a_part_is_proven_like_the_whole() {
    let world = World::new("filters_broken", "", SETUP);
    let script = "case \"$*\" in *--schema-only*) exec $REAL \"$@\";; esac; BREAK";
    for (broken, code) in [
        ("$REAL --exclude-table=sales.orders \"$@\"", "dump.missing_tables"),
        ("$REAL --exclude-table-data=sales.orders \"$@\"", "dump.missing_tables"),
        ("$REAL \"$@\" | head -c 1000", "dump.cut_short"),
    ] {
        let client = world.fake(&script.replace("BREAK", broken));
        drop(std::fs::remove_file(client.join("pg_restore")));
        std::os::unix::fs::symlink(bin("pg_restore"), client.join("pg_restore")).unwrap();
        let run = world.backup(|command| {
            command.args(["--schema=sales", "--compress=none", "--client-dir"]).arg(&client);
        });
        world.check_failed(&run, 1, code);
    }
}

#[test]
fn rows_that_are_hidden_matter_only_where_they_are_wanted() {
    let hidden = "CREATE ROLE filters_narrow LOGIN; GRANT USAGE ON SCHEMA sales TO filters_narrow; \
         GRANT SELECT ON ALL TABLES IN SCHEMA sales, public TO filters_narrow; \
         ALTER TABLE plain ENABLE ROW LEVEL SECURITY";
    let world = World::new("filters_hidden", "", &format!("{SETUP}; {hidden}"));
    let run = |schema: &str| {
        world.backup(|command| {
            command.env("PGUSER", "filters_narrow").arg(format!("--schema={schema}"));
        })
    };
    world.check_failed(&run("public"), 4, "database.row_security");
    assert_eq!(run("sales").code, Some(0));
}

/// What is due of the whole database is not made by a part of it, and the other way round.
#[test]
fn a_part_takes_no_turn_of_the_whole() {
    let world = World::new("filters_turn", "", SETUP);
    let has_one = |table: Option<&str>| {
        let mut command = world.command("metrics");
        command.envs(table.map(|table| ("WORM_TABLE", table)));
        let run = Run::from(command.output().unwrap());
        assert_eq!(run.code, Some(0), "{run:?}");
        run.stdout.contains("worm_ingest_last_success_timestamp_seconds{")
    };
    check(&world, &["--table=plain"], &[40], 0);
    assert!(!has_one(None) && has_one(Some("plain")));
    check(&world, &[], &[10, 20, 30, 40, 50], 1);
    assert!(has_one(None) && !has_one(Some("other")));
}
