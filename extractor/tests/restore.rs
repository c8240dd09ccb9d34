//! `restore` into a real PostgreSQL: what works.

use std::path::Path;
use std::process::Command;

use worm_ingest::manifest::Suspicion;
use worm_ingest::manifest::TableRows;

use crate::postgres::Database;
use crate::postgres::Server;
use crate::postgres::WITH_PASSWORD;
use crate::support::Place;
use crate::support::change_manifest;
use crate::support::expect;
use crate::support::program;
use crate::support::put_backup;
use crate::support::rows;

/// Everything that is awkward to dump and restore, in one database.
const SOURCE: &str = r#"
CREATE SCHEMA "odd ""schema""";
CREATE TABLE "odd ""schema"""."ta;ble
two" (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, "co'l" text, d int,
      twice int GENERATED ALWAYS AS (d * 2) STORED);
INSERT INTO "odd ""schema"""."ta;ble
two" ("co'l", d) SELECT E'line\nCOMMIT;\n\\.\t' || n, n FROM generate_series(1, 500) n;
CREATE TABLE line (text text);
INSERT INTO line VALUES ('BEGIN;'), ('COMMIT;'), (E'\\.'), ('SELECT pg_catalog.lo_open(''1'', 2);');
CREATE TABLE part (k int, v bytea) PARTITION BY RANGE (k);
CREATE TABLE part_low PARTITION OF part FOR VALUES FROM (0) TO (100);
CREATE TABLE part_high PARTITION OF part FOR VALUES FROM (100) TO (1000);
INSERT INTO part SELECT n, decode(md5(n::text), 'hex') FROM generate_series(0, 299) n;
CREATE TABLE parent (a int PRIMARY KEY); CREATE TABLE heir (b int) INHERITS (parent);
INSERT INTO parent VALUES (1), (2); INSERT INTO heir VALUES (3, 4);
CREATE TABLE child (a int REFERENCES parent); INSERT INTO child VALUES (1), (NULL);
CREATE VIEW seen AS SELECT count(*) FROM part;
CREATE PROCEDURE transacts() LANGUAGE plpgsql AS $_$
BEGIN
BEGIN;
COMMIT;
END $_$;
SELECT lo_from_bytea(0, '\xdeadbeef'), lo_from_bytea(0, decode(repeat('00ff', 40000), 'hex'));
"#;

/// A database with [`SOURCE`] in it. The body of the procedure is nonsense, and kept as it is.
fn source(server: &std::sync::Arc<Server>) -> Database {
    let source = server.database();
    let _said = source.sql(&format!("SET check_function_bodies = off; {SOURCE}"));
    source
}

fn backup(place: &Place, source: &Database) -> std::path::PathBuf {
    let tables = [
        rows("odd \"schema\"", "ta;ble\ntwo", 500),
        rows("public", "line", 4),
        rows("public", "part_low", 100),
        rows("public", "part_high", 200),
        rows("public", "parent", 2),
        rows("public", "heir", 1),
        rows("public", "child", 2),
    ];
    let folder = place.path("mirror/daily/2026-01-18");
    std::fs::create_dir_all(&folder).unwrap();
    put_backup(&folder, "2026-01-18_00-00-00", source.dump().as_bytes(), &tables)
}

/// `worm-extractor restore` with a log of its own.
pub(crate) fn restore(place: &Place, backup: &Path, target: &Database) -> Command {
    let mut command = program();
    let _command = command.arg("restore").arg(backup).arg("--to").arg(target.url());
    let _command = command.env("WORM_EXTRACTION_AUDIT", place.audit());
    let _command = command.arg("--from").arg(place.path("mirror"));
    command
}

/// A dump without the keys that differ from dump to dump.
fn comparable(dump: &str) -> Vec<&str> {
    dump.lines().filter(|line| !line.contains("restrict ")).collect()
}

#[test]
fn a_restored_database_is_the_one_that_was_dumped() {
    let server = Server::shared();
    let place = Place::new();
    let source = source(&server);
    let dump = backup(&place, &source);
    let target = server.database();
    let (said, _) = expect(0, &mut restore(&place, &dump, &target));
    assert!(said.contains("7 tables, 809 rows, all rows there"), "{said}");
    assert_eq!(comparable(&target.dump()), comparable(&source.dump()));
    let line = place.audit_lines().pop().unwrap();
    assert_eq!((&line["event"], &line["exit"]), (&"restore".into(), &0.into()));
    assert!(line["target"].as_str().unwrap().ends_with(&format!("/{}", target.name)));
    // The planner knows it.
    assert_eq!(target.sql("SELECT reltuples FROM pg_class WHERE relname = 'part_high'"), "200");
}

#[test]
fn latest_and_a_manifest_and_a_preview_find_the_same_backup() {
    let server = Server::shared();
    let place = Place::new();
    let dump = backup(&place, &source(&server));
    let older = place.path("mirror/hourly/2026-01-17");
    std::fs::create_dir_all(&older).unwrap();
    let _older = put_backup(&older, "2026-01-17_23-00-00", b"SELECT 1;\n", &[]);
    let target = server.database();
    let latest = Path::new("latest");
    let (said, _) = expect(0, restore(&place, latest, &target).arg("--preview"));
    assert!(said.contains(&format!("would restore {}", dump.display())), "{said}");
    target.assert_untouched();
    let (said, _) = expect(0, restore(&place, latest, &target).args(["--class", "hourly"]));
    assert!(said.contains("2026-01-17_23-00-00"), "{said}");
    let manifest = format!("{}.manifest.json", dump.display());
    let (said, _) = expect(0, &mut restore(&place, Path::new(&manifest), &target));
    assert!(said.contains("809 rows"), "{said}");
}

#[test]
fn the_latest_is_not_one_from_the_future() {
    let server = Server::shared();
    let place = Place::new();
    let folder = place.path("mirror/daily");
    std::fs::create_dir_all(&folder).unwrap();
    let dump = put_backup(&folder, "2026-01-18_00-00-00", b"SELECT 1;\n", &[]);
    let future = put_backup(&folder, "2126-01-18_00-00-00", b"SELECT 2;\n", &[]);
    let target = server.database();
    let (_, error) = expect(4, &mut restore(&place, Path::new("latest"), &target));
    assert!(error.contains(&format!("{}, is from the future", future.display())), "{error}");
    assert!(error.contains(&format!("that is not is {}", dump.display())), "{error}");
    let _named = expect(0, &mut restore(&place, &future, &target));
}

/// Marks the backup as the agent does.
fn suspect(dump: &Path) {
    change_manifest(dump, |manifest| {
        let (code, message) = ("rows.dropped".to_owned(), "3 rows instead of 5000".to_owned());
        manifest.suspect = vec![Suspicion { code, message }];
    });
}

#[test]
fn the_latest_is_the_newest_that_is_not_suspect() {
    let server = Server::shared();
    let place = Place::new();
    let folder = place.path("mirror/daily");
    std::fs::create_dir_all(&folder).unwrap();
    let good = put_backup(&folder, "2026-01-17_00-00-00", b"SELECT 1;\n", &[]);
    let bad = put_backup(&folder, "2026-01-18_00-00-00", b"SELECT 2;\n", &[]);
    suspect(&bad);
    let latest = Path::new("latest");
    let target = server.database();
    let (said, warned) = expect(0, restore(&place, latest, &target).arg("--preview"));
    assert!(said.contains(&format!("would restore {}", good.display())), "{said}");
    let passed = format!("passing over {}, which is suspect: 3 rows instead of", bad.display());
    assert!(warned.contains(&passed), "{warned}");
    // Whoever says so gets it, and is told again what it is.
    for command in [
        restore(&place, latest, &target).args(["--include-suspect", "--preview"]),
        restore(&place, &bad, &target).arg("--preview"),
    ] {
        let (said, warned) = expect(0, command);
        assert!(said.contains(&format!("would restore {}", bad.display())), "{said}");
        assert!(warned.contains("is suspect: 3 rows instead of 5000"), "{warned}");
    }
    suspect(&good);
    let (_, error) = expect(6, &mut restore(&place, latest, &target));
    assert!(error.contains("all 2 complete backups"), "{error}");
    assert!(error.contains("--include-suspect"), "{error}");
}

#[test]
fn a_part_of_a_database_is_the_latest_only_where_there_is_no_whole_one() {
    let server = Server::shared();
    let place = Place::new();
    let folder = |class: &str, day: &str| {
        let folder = place.path("mirror").join(class).join(day);
        std::fs::create_dir_all(&folder).unwrap();
        folder
    };
    let whole =
        put_backup(&folder("daily", "2026-01-18"), "2026-01-18_00-00-00", b"SELECT 1;\n", &[]);
    let part =
        put_backup(&folder("hourly", "2026-01-19"), "2026-01-19_00-00-00", b"SELECT 2;\n", &[]);
    change_manifest(&part, |manifest| manifest.filters.exclude_table = vec!["log".to_owned()]);
    let target = server.database();
    let latest = Path::new("latest");
    let (said, error) = expect(0, restore(&place, latest, &target).arg("--preview"));
    assert!(said.contains(&format!("would restore {}", whole.display())), "{said}");
    assert!(error.contains(&format!("the newest is {}", part.display())), "{error}");
    let (said, error) = expect(0, restore(&place, latest, &target).args(["--class", "hourly"]));
    assert!(said.contains(&format!("restored {}", part.display())), "{said}");
    assert!(said.contains("a part of database app"), "{said}");
    assert!(error.contains("only a part of database app: --exclude-table=log"), "{error}");
}

#[test]
fn psql_gets_the_password_too() {
    let server = Server::shared();
    let place = Place::new();
    let dump = backup(&place, &source(&server));
    let target = server.database();
    let role = format!("CREATE ROLE {WITH_PASSWORD} LOGIN SUPERUSER PASSWORD 'a:b\\c @'");
    let _said = target.sql(&role);
    let mut command = program();
    let _command = command.arg("restore").arg(&dump).arg("--to").arg(target.url_of(WITH_PASSWORD));
    let _command = command.env("WORM_EXTRACTION_AUDIT", place.audit());
    let _refused = expect(8, &mut command);
    let _wrong = expect(8, command.env("PGPASSWORD", "wrong"));
    let (said, _) = expect(0, command.env("PGPASSWORD", "a:b\\c @"));
    assert!(said.contains("809 rows"), "{said}");
}

#[test]
fn force_adds_to_a_database_that_is_not_empty() {
    let server = Server::shared();
    let place = Place::new();
    let dump = backup(&place, &source(&server));
    let target = server.database();
    let _said = target.sql("CREATE TABLE mine (a int)");
    let (_, error) = expect(0, restore(&place, &dump, &target).arg("--force"));
    assert!(error.contains("is not empty: it has table public.mine"), "{error}");
    assert_eq!(target.sql("SELECT count(*) FROM mine, line"), "0");
}

#[test]
fn a_server_that_is_gone_and_a_database_that_is_not_there_are_told_apart() {
    let server = Server::shared();
    let place = Place::new();
    let dump = backup(&place, &source(&server));
    let missing = Database { server, name: "missing".to_owned() };
    let (_, error) = expect(6, &mut restore(&place, &dump, &missing));
    assert!(error.contains("createdb -T template0 missing"), "{error}");
    let mut command = program();
    let _command = command.arg("restore").arg(&dump).args(["--to", "postgres:///x?host=/nowhere"]);
    let (_, error) = expect(8, command.env("WORM_EXTRACTION_AUDIT", place.audit()));
    assert!(error.contains("cannot connect to /nowhere:5432/x"), "{error}");
}

#[test]
fn a_server_that_accepts_and_never_answers_is_not_waited_for() {
    let place = Place::new();
    let folder = place.path("mirror/daily");
    std::fs::create_dir_all(&folder).unwrap();
    let dump = put_backup(&folder, "2026-01-18_00-00-00", b"SELECT 1;\n", &[]);
    // The system accepts for it.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = silent.local_addr().unwrap().port();
    let url = format!("postgres://me@127.0.0.1:{port}/app?connect_timeout=1");
    let mut command = program();
    let _command = command.arg("restore").arg(&dump).args(["--to", &url]);
    let (_, error) = expect(8, command.env("WORM_EXTRACTION_AUDIT", place.audit()));
    assert!(error.contains("does not answer"), "{error}");
}

/// Writes a dump by hand, and restores it with this table list.
#[track_caller]
fn restored(sql: &str, tables: &[TableRows], code: i32) -> String {
    let place = Place::new();
    let folder = place.path("mirror/daily");
    std::fs::create_dir_all(&folder).unwrap();
    let dump = put_backup(&folder, "2026-01-18_00-00-00", sql.as_bytes(), tables);
    let target = Server::shared().database();
    expect(code, &mut restore(&place, &dump, &target)).1
}

#[test]
fn partitions_that_the_manifest_lists_are_not_counted_for_their_root_again() {
    let sql = "CREATE TABLE public.root (k int) PARTITION BY LIST (k);\n\
               CREATE TABLE public.one PARTITION OF public.root FOR VALUES IN (1);\n\
               CREATE TABLE public.two PARTITION OF public.root FOR VALUES IN (2);\n\
               INSERT INTO public.root VALUES (1), (2), (2);\n";
    let tables = |root| [rows("public", "root", root), rows("public", "two", 2)];
    let _said = restored(sql, &tables(1), 0);
    let error = restored(sql, &tables(3), 9);
    assert!(error.contains("public.root has 1 rows instead of 3"), "{error}");
}

#[test]
fn a_table_of_an_extension_may_have_rows_of_the_extension_besides() {
    let sql = "CREATE TABLE public.a (k int);\nINSERT INTO public.a VALUES (1), (2);\n";
    let table = |rows| TableRows { extension: true, ..self::rows("public", "a", rows) };
    let _said = restored(sql, &[table(1)], 0);
    let error = restored(sql, &[table(3)], 9);
    assert!(error.contains("public.a has 2 rows instead of 3"), "{error}");
}
