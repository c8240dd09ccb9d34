//! `restore` into a real PostgreSQL: what must fail, and leave the database as it was.

use std::path::PathBuf;
use std::process::Command;

use crate::postgres::Database;
use crate::postgres::Server;
use crate::restore::restore;
use crate::support::Place;
use crate::support::beside;
use crate::support::change_manifest;
use crate::support::end;
use crate::support::expect;
use crate::support::flip_last_byte;
use crate::support::put_backup;
use crate::support::put_digest;
use crate::support::rows;
use crate::support::start;
use crate::support::wait_until;

/// A table, large objects as `pg_dump` writes them, and another table.
const SQL: &str = "\
CREATE TABLE public.a (x int);
COPY public.a (x) FROM stdin;
1
2
\\.

BEGIN;

SELECT pg_catalog.lo_create('777');

COMMIT;

CREATE TABLE public.b (x int);
";

/// A backup in a mirror, and an empty database.
struct Scene {
    place: Place,
    dump: PathBuf,
    target: Database,
}

impl Scene {
    fn new(sql: &str) -> Self {
        let place = Place::new();
        let folder = place.path("mirror/daily");
        std::fs::create_dir_all(&folder).unwrap();
        let tables = [rows("public", "a", 2), rows("public", "b", 0)];
        let dump = put_backup(&folder, "2026-01-18_00-00-00", sql.as_bytes(), &tables);
        Self { place, dump, target: Server::shared().database() }
    }

    fn restore(&self) -> Command {
        restore(&self.place, &self.dump, &self.target)
    }

    #[track_caller]
    fn fails(&self, code: i32, why: &str) {
        let (_, error) = expect(code, &mut self.restore());
        assert!(error.contains(why), "{error}");
        self.target.assert_untouched();
    }

    /// A dump that waits in its middle for a lock that the test holds.
    fn waiting() -> Self {
        Self::new(&format!("{SQL}SELECT pg_advisory_lock(42);\nCREATE TABLE public.c (x int);\n"))
    }

    /// How many sessions of a restore the server has, besides our own.
    fn sessions(&self, condition: &str) -> String {
        let name = &self.target.name;
        self.target.sql(&format!(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = '{name}' \
             AND application_name LIKE 'worm-extractor%' AND {condition}"
        ))
    }
}

/// The lock of this database, if somebody holds it.
const HELD: &str = "pg_locks JOIN pg_database d ON d.oid = database \
                    WHERE datname = current_database() AND objid = 42 AND granted";

/// Holds the lock that [`Scene::waiting`] wants, until it is killed.
struct Holder(std::process::Child);

impl Holder {
    fn of(scene: &Scene) -> Self {
        let mut psql = scene.target.server.client("psql");
        let _command = psql.args(["-X", "-q", "-d", &scene.target.name]);
        let sql = "SELECT pg_advisory_lock(42); SELECT pg_sleep(600)";
        let holder = Self(start(psql.args(["-c", sql])));
        wait_until("the lock is held", || {
            scene.target.sql(&format!("SELECT count(*) FROM {HELD}")) == "1"
        });
        holder
    }

    fn release(&mut self, scene: &Scene) {
        let _ended = scene.target.sql(&format!("SELECT pg_terminate_backend(pid) FROM {HELD}"));
        let _status = self.0.wait().unwrap();
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

#[test]
fn the_dump_of_these_tests_can_be_restored() {
    let scene = Scene::new(SQL);
    let _said = expect(0, &mut scene.restore());
    assert_eq!(scene.target.sql("SELECT oid FROM pg_largeobject_metadata"), "777");
}

#[test]
fn a_database_with_anything_in_it_is_refused() {
    for (sql, what) in [
        ("CREATE TABLE t (a int)", "table public.t"),
        ("CREATE VIEW v AS SELECT 1", "view public.v"),
        ("CREATE SEQUENCE s", "sequence public.s"),
        ("CREATE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT 1'", "function public.f"),
        ("CREATE TYPE e AS ENUM ('a')", "type public.e"),
        ("CREATE SCHEMA \"S\"", "schema \"S\""),
        ("SELECT lo_create(9)", "large object"),
    ] {
        let scene = Scene::new(SQL);
        let _said = scene.target.sql(sql);
        let before = scene.target.dump();
        let (_, error) = expect(4, &mut scene.restore());
        assert!(error.contains(&format!("is not empty: it has {what}")), "{error}");
        assert_eq!(scene.target.dump().lines().count(), before.lines().count());
    }
}

#[test]
fn a_damaged_dump_is_refused_before_anything_is_touched() {
    let scene = Scene::new(SQL);
    flip_last_byte(&scene.dump);
    scene.fails(9, "is damaged");
    flip_last_byte(&scene.dump);
    put_digest(&scene.dump, &"0".repeat(64));
    scene.fails(9, "its .sha256 file says");
    std::fs::remove_file(beside(&scene.dump, ".sha256")).unwrap();
    change_manifest(&scene.dump, |manifest| manifest.stored.bytes += 1);
    scene.fails(9, "its manifest says bytes");
    std::fs::remove_file(beside(&scene.dump, ".manifest.json")).unwrap();
    scene.fails(6, "not a complete backup");
    std::fs::remove_file(&scene.dump).unwrap();
    scene.fails(6, "there is no backup");
}

#[test]
fn sql_that_unpacks_to_something_else_is_never_committed() {
    let scene = Scene::new(SQL);
    change_manifest(&scene.dump, |manifest| manifest.raw.sha256 = Some("0".repeat(64)));
    scene.fails(9, "is, unpacked,");
    let cut = Scene::new(&SQL[..SQL.len() - 4]);
    cut.fails(9, "ends in the middle of a command");
}

#[test]
fn an_error_in_the_last_command_undoes_everything() {
    let scene = Scene::new(&format!("{SQL}SELECT 1/0;\n"));
    scene.fails(1, "division by zero");
    let scene = Scene::new(&format!("{SQL}ALTER TABLE public.a OWNER TO nobody_here;\n"));
    scene.fails(1, "Create the role first");
    let scene = Scene::new(&format!(
        "{SQL}ALTER TABLE public.a ADD UNIQUE (x) DEFERRABLE INITIALLY DEFERRED;\n\
         INSERT INTO public.a VALUES (1);\n"
    ));
    // This one fails in the COMMIT itself.
    scene.fails(1, "duplicate key");
}

#[test]
fn other_rows_than_the_manifest_says_are_told() {
    let scene = Scene::new(SQL);
    change_manifest(&scene.dump, |manifest| {
        manifest.tables[0].rows = 3;
        manifest.tables.push(rows("public", "nowhere", 1));
    });
    let (_, error) = expect(9, &mut scene.restore());
    assert!(error.contains("public.a has 2 rows instead of 3"), "{error}");
    assert!(error.contains("public.nowhere is missing instead of 1"), "{error}");
    assert_eq!(scene.target.sql("SELECT count(*) FROM a"), "2");
    assert_eq!(scene.place.audit_lines().pop().unwrap()["exit"], 9);
}

#[test]
fn an_older_server_needs_force() {
    let scene = Scene::new(SQL);
    change_manifest(&scene.dump, |manifest| manifest.server_version_num = 990_000);
    scene.fails(4, "use a server of version 99 or newer, or --force");
    change_manifest(&scene.dump, |manifest| {
        manifest.server_version_num = 150_001;
        manifest.dump_version = "pg_dump (PostgreSQL) 98.1".to_owned();
    });
    scene.fails(4, "use a server of version 98 or newer, or --force");
    let _said = expect(0, scene.restore().arg("--force"));
}

#[test]
fn a_signal_leaves_the_database_as_it_was() {
    let scene = Scene::waiting();
    let _holder = Holder::of(&scene);
    let running = start(&mut scene.restore());
    wait_until("it waits", || scene.sessions("wait_event_type = 'Lock'") == "1");
    let pid = rustix::process::Pid::from_child(&running);
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    let output = end(running);
    assert_eq!(output.status.code(), Some(5), "{output:?}");
    assert_eq!(scene.sessions("true"), "0");
    scene.target.assert_untouched();
    assert_eq!(scene.place.audit_lines().pop().unwrap()["exit"], 5);
}

#[test]
fn to_be_killed_in_the_middle_commits_nothing() {
    let scene = Scene::waiting();
    let mut holder = Holder::of(&scene);
    let mut running = start(&mut scene.restore());
    wait_until("it waits", || scene.sessions("wait_event_type = 'Lock'") == "1");
    running.kill().unwrap();
    let _status = running.wait().unwrap();
    // psql goes on by itself, comes to the end of what it was given, and finds no COMMIT there.
    holder.release(&scene);
    wait_until("psql has ended", || scene.sessions("true") == "0");
    scene.target.assert_untouched();
}

/// The children of a process: here, of a restore, its `psql`.
fn children(id: u32) -> Vec<rustix::process::Pid> {
    let tasks = std::fs::read_dir(format!("/proc/{id}/task")).unwrap();
    let lists = tasks.map(|task| std::fs::read_to_string(task.unwrap().path().join("children")));
    let lists: Vec<String> = lists.map(Result::unwrap).collect();
    let ids = lists.iter().flat_map(|list| list.split_whitespace());
    ids.map(|id| rustix::process::Pid::from_raw(id.parse().unwrap()).unwrap()).collect()
}

#[test]
fn an_answer_to_the_commit_that_is_lost_is_not_called_undone() {
    let scene = Scene::new(&format!(
        "{SQL}CREATE FUNCTION public.wait() RETURNS trigger LANGUAGE plpgsql AS $$\
         BEGIN PERFORM pg_advisory_lock(42); RETURN NULL; END $$;\n\
         CREATE CONSTRAINT TRIGGER t AFTER INSERT ON public.a DEFERRABLE INITIALLY DEFERRED \
         FOR EACH ROW EXECUTE FUNCTION public.wait();\n\
         INSERT INTO public.a VALUES (3);\n"
    ));
    let _holder = Holder::of(&scene);
    let running = start(&mut scene.restore());
    wait_until("the COMMIT waits", || {
        scene.sessions("wait_event_type = 'Lock' AND query = 'COMMIT;'") == "1"
    });
    let psql = children(running.id());
    assert_eq!(psql.len(), 1);
    rustix::process::kill_process(psql[0], rustix::process::Signal::KILL).unwrap();
    let output = end(running);
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{error}");
    assert!(error.contains("either all of the backup or nothing of it"), "{error}");
    assert_eq!(scene.sessions("true"), "0");
}

#[test]
fn rows_that_cannot_be_counted_are_committed_all_the_same() {
    let scene = Scene::new(&format!(
        "{SQL}ALTER TABLE public.a RENAME TO c;\n\
         CREATE FUNCTION public.fail() RETURNS int LANGUAGE plpgsql AS $$\
         BEGIN RAISE EXCEPTION 'not today'; END $$;\n\
         CREATE VIEW public.a AS SELECT public.fail();\n"
    ));
    let (_, error) = expect(1, &mut scene.restore());
    assert!(error.contains("the restore is committed, but its rows were not"), "{error}");
    assert!(error.contains("not today"), "{error}");
    assert_eq!(scene.target.sql("SELECT count(*) FROM c"), "2");
}

#[test]
fn the_latest_of_several_databases_is_no_guess() {
    let place = Place::new();
    let target = Server::shared().database();
    let create = |table: &str| format!("CREATE TABLE public.{table} (x int);\n");
    for (directory, stamp, table) in [
        ("daily", "2026-01-17_00-00-00", "of_app_before"),
        ("daily/2026-01-18/app", "2026-01-18_00-00-00", "of_app"),
        ("daily/2026-01-18/%2Ecrm", "2026-01-18_01-00-00", "of_crm"),
    ] {
        let folder = place.path("mirror").join(directory);
        std::fs::create_dir_all(&folder).unwrap();
        let _dump = put_backup(&folder, stamp, create(table).as_bytes(), &[]);
    }
    let latest = |more: &[&str]| {
        let mut command = restore(&place, std::path::Path::new("latest"), &target);
        command.args(more);
        command
    };
    let (_, error) = expect(2, &mut latest(&[]));
    assert!(error.contains("--database (.crm, app)"), "{error}");
    target.assert_untouched();
    let (_, error) = expect(6, &mut latest(&["--database", "crm"]));
    assert!(error.contains("of database crm"), "{error}");
    let path = place.path("mirror/daily/2026-01-17_00-00-00.sql.gz");
    let (_, error) = expect(2, restore(&place, &path, &target).args(["--database", "app"]));
    assert!(error.contains("latest"), "{error}");
    target.assert_untouched();
    let _said = expect(0, &mut latest(&["--database", "app"]));
    assert_eq!(target.sql("SELECT relname FROM pg_class WHERE relname LIKE 'of_%'"), "of_app");
}
