//! Several databases of one server in one run, each on its own.

use std::collections::BTreeMap;

use rustix::process::Signal;
use serde_json::Value;
use worm_ingest::manifest::Manifest;
use worm_ingest::manifest::folder::directory_of;

use crate::service::Service;
use crate::service::wait_until;
use crate::world::Run;
use crate::world::World;
use crate::world::names;

/// Names that a careless program would make something else of.
const ODD: [&str; 4] = ["many_a/b", "many_Größe", ".many_hidden", "many_%2F x"];

/// A server has one list of databases for all tests, so these have names of their own.
fn world(database: &str, others: &[&str]) -> World {
    let world = World::new(database, "", "");
    for other in others {
        world.server.sql("postgres", &format!("DROP DATABASE IF EXISTS \"{other}\""));
        world.server.sql("postgres", &format!("CREATE DATABASE \"{other}\" TEMPLATE template0"));
        world.server.sql(other, "CREATE TABLE t AS SELECT 1 AS n");
    }
    world
}

/// Outcome and error code of each database.
fn outcomes(world: &World) -> BTreeMap<String, String> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let lines = world.audit().into_iter().map(|line| {
        let outcome = format!("{} {}", text(&line["outcome"]), text(&line["error"]["code"]));
        (text(&line["database"]), outcome.trim_end().to_owned())
    });
    lines.collect()
}

fn several(world: &World, arguments: &[&str]) -> Run {
    world.backup(|command| {
        command.args(arguments);
    })
}

#[test]
fn each_database_has_a_directory_and_all_have_one_name() {
    let world = world("many_of", &ODD);
    let run = several(
        &world,
        &[
            "--database=many_*",
            "--database=.many_hidden",
            "--exclude-database=many_of",
            "--parallel=3",
        ],
    );
    assert_eq!(run.code, Some(0), "{run:?}");

    let class = world.path("active/hourly");
    let mut expected: Vec<String> = ODD.iter().map(|name| directory_of(name)).collect();
    expected.sort();
    assert_eq!(names(&class), expected);
    let mut seconds = Vec::new();
    for database in ODD {
        let directory = class.join(directory_of(database));
        let mut found = names(&directory);
        found.retain(|name| name != ".incomplete");
        let [dump, manifest, _digest] = found.as_slice() else { panic!("{found:?}") };
        let manifest = Manifest::decode(&std::fs::read(directory.join(manifest)).unwrap()).unwrap();
        assert_eq!((manifest.database.as_str(), &manifest.name), (database, dump));
        assert_eq!(manifest.tables.len(), 1);
        seconds.push(dump.clone());
    }
    seconds.dedup();
    assert_eq!(seconds.len(), 1, "{seconds:?}");
    let audit = world.audit();
    assert!(audit.iter().all(|line| line["run_id"] == audit[0]["run_id"]), "{audit:?}");
    let folders = audit.iter().map(|line| line["folder"].as_str().unwrap().to_owned());
    let mut folders: Vec<String> = folders.collect();
    folders.sort();
    assert_eq!(folders, expected);
}

#[test]
fn a_database_that_fails_does_not_keep_the_others_from_theirs() {
    let world = world("part_of", &["part_broken", "part_closed", "part_good"]);
    world.server.sql("postgres", "ALTER DATABASE part_closed ALLOW_CONNECTIONS false");
    let broken = world.fake("[ \"$PGDATABASE\" = part_broken ] && exit 1\nexec $REAL \"$@\"");
    let run = world.backup(|command| {
        command.args(["--database=part_*", "--database=part_closed", "--database=part_gone"]);
        command.arg("--client-dir").arg(&broken);
    });
    assert_eq!(run.code, Some(3), "{run:?}");
    let expected = [
        ("part_broken", "failed dump.failed"),
        ("part_closed", "refused database.none"),
        ("part_gone", "refused database.none"),
        ("part_good", "ok"),
        ("part_of", "ok"),
    ];
    let expected = expected.map(|(name, outcome)| (name.to_owned(), outcome.to_owned()));
    assert_eq!(outcomes(&world), BTreeMap::from(expected));
    world.server.sql("postgres", "ALTER DATABASE part_closed ALLOW_CONNECTIONS true");
}

#[test]
fn a_database_that_vanishes_before_its_turn_fails_alone() {
    let world = world("gone_of", &["gone_1", "gone_2"]);
    // The first dump takes the second database away.
    let script = format!(
        "psql -h {} -U postgres -d postgres -qc 'DROP DATABASE IF EXISTS gone_2' >&2\nexec $REAL \"$@\"",
        world.server.host().display()
    );
    let dropping = world.fake(&script);
    let run = world.backup(|command| {
        command.args(["--database=gone_*", "--client-dir"]).arg(&dropping);
    });
    assert_eq!(run.code, Some(3), "{run:?}");
    assert_eq!(outcomes(&world)["gone_1"], "ok");
    assert_eq!(outcomes(&world)["gone_2"], "refused database.none");
    assert!(!world.path("active/hourly/gone_2").exists(), "nothing is made before it answers");
}

/// Which database was backed up into which class and how that ended, in the order of the audit log.
fn told(world: &World) -> Vec<String> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let line =
        |line: &Value| [&line["database"], &line["class"], &line["outcome"]].map(text).join(" ");
    world.audit().iter().map(line).collect()
}

#[test]
fn a_service_backs_up_every_database_once_and_a_new_one_without_the_others() {
    let world = world("serve_of", &["serve_a", "serve_b"]);
    // Long windows, and times that nothing here comes near to: an hourly and a daily one of the year.
    let serve = |client: Option<&std::path::Path>| {
        Service::start(&world, |command| {
            command.args([
                "--database=serve_*",
                "--exclude-database=serve_of",
                "--schedule-weekly=off",
            ]);
            command.args(["--schedule-hourly=0 0 1 1 *", "--schedule-daily=0 0 1 1 *"]);
            command.args(["--catch-up=400d"]);
            if let Some(client) = client {
                command.arg("--client-dir").arg(client);
            }
        })
    };
    std::fs::create_dir(world.path("active/daily")).unwrap();
    let made = |database: &str| ["hourly", "daily"].map(|class| format!("{database} {class} ok"));

    // Ends it when the audit log has so many lines.
    let until = |service: Service, lines: usize| {
        wait_until("the backups", || world.audit().len() >= lines);
        service.signal(Signal::TERM);
        assert_eq!(service.end().0, Some(0));
    };

    // One fails at first: it alone is tried again. A restart does not wait for that.
    let broken = world.fake("[ \"$PGDATABASE\" = serve_b ] && exit 1\nexec $REAL \"$@\"");
    until(serve(Some(&broken)), 4);
    until(serve(None), 6);
    let mut expected = made("serve_a").to_vec();
    expected.extend(["serve_b hourly failed", "serve_b daily failed"].map(str::to_owned));
    // Of one run the order is that in which they end.
    let mut lines = told(&world);
    lines[..4].sort();
    expected[..4].sort();
    expected.extend(made("serve_b"));
    assert_eq!(lines, expected);

    // A new one is made up for, and only that.
    world.server.sql("postgres", "DROP DATABASE IF EXISTS serve_c");
    world.server.sql("postgres", "CREATE DATABASE serve_c TEMPLATE template0");
    world.server.sql("serve_c", "CREATE TABLE t AS SELECT 1 AS n");
    until(serve(None), 8);
    assert_eq!(told(&world)[6..], made("serve_c"));
    world.server.sql("postgres", "DROP DATABASE serve_c");
}

#[test]
fn all_databases_are_all_but_templates() {
    let world = world("all_of", &[]);
    let server = crate::server::Server::alone();
    server.database("one", "", "CREATE TABLE t (n int)");
    let run = world.backup(|command| {
        // The database of the connection need not exist.
        command.env("PGHOST", server.host()).env("PGDATABASE", "absent");
        command.arg("--all-databases");
    });
    assert_eq!(run.code, Some(0), "{run:?}");
    assert_eq!(names(&world.path("active/hourly")), ["one", "postgres"]);
}

#[test]
fn where_no_database_is_meant_it_is_told_by_its_number() {
    let world = world("none_of", &[]);
    let run = several(&world, &["--database=no_such_*"]);
    world.check_failed(&run, 6, "database.none");
    let run = several(&world, &["--database=none_of", "--exclude-database=*"]);
    world.check_failed(&run, 6, "database.none");
    let run = world.backup(|command| {
        command.env("PGHOST", "/nonexistent").arg("--all-databases");
    });
    world.check_failed(&run, 8, "database.unreachable");
}
