//! A dump that breaks never becomes a backup, however it breaks.

use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::process::Child;
use std::process::Command;
use std::process::Stdio;

use rustix::process::Pid;
use rustix::process::Signal;
use rustix::process::kill_process;

use crate::world::Run;
use crate::world::World;

const TABLES: &str = "CREATE TABLE a AS SELECT generate_series(1, 2000) AS n; \
                      CREATE TABLE b AS SELECT generate_series(1, 2000) AS n";

#[test]
fn a_dump_that_is_not_whole_is_never_sealed() {
    let world = World::new("broken", "", TABLES);
    for (script, code) in [
        ("$REAL \"$@\" | head -c 5000; echo 'disk on fire' >&2; exit 1", "dump.failed"),
        ("$REAL \"$@\"; exit 3", "dump.failed"),
        ("$REAL \"$@\" | head -c 5000; kill -9 $$", "dump.failed"),
        ("$REAL \"$@\" | head -c 5000", "dump.cut_short"),
        ("$REAL \"$@\" | sed '/dump complete/,$d'", "dump.cut_short"),
        ("$REAL \"$@\" | sed '/^.unrestrict/d; s/dump complete/dump over/'", "dump.cut_short"),
        ("$REAL \"$@\"; echo 'SELECT 1;'", "dump.cut_short"),
        ("$REAL --exclude-table=b \"$@\"", "dump.missing_tables"),
        ("$REAL --schema-only \"$@\"", "dump.missing_tables"),
        ("$REAL --inserts \"$@\"", "dump.missing_tables"),
        ("$REAL \"$@\" | sed 's/COPY public.b /COPY public.a /'", "dump.table_twice"),
        ("head -c 300000 /dev/zero | tr '\\0' x", "dump.cut_short"),
        ("$REAL \"$@\" | gzip | base64", "dump.cut_short"),
        ("exit 0", "dump.empty"),
        ("exit 1", "dump.failed"),
    ] {
        let run = world.backup_by(script);
        world.check_failed(&run, 1, code);
        assert!(run.stderr.contains("no backup was made"), "{script}: {run:?}");
    }
    assert!(world.backup_by("echo 'disk on fire' >&2; exit 1").stderr.contains("disk on fire"));
    let run = world.backup_by("exec $REAL \"$@\"");
    assert_eq!(run.code, Some(0), "the same way round, but whole: {run:?}");
}

#[test]
fn a_dump_without_a_large_object_or_its_content_is_never_sealed() {
    let objects = "SELECT lo_from_bytea(0, 'here') FROM generate_series(1, 3)";
    let world = World::new("broken_objects", "", &format!("{TABLES}; {objects}"));
    for script in [
        "$REAL --no-blobs \"$@\"",
        "$REAL \"$@\" | sed '/lo_open/,/lo_close/d'",
        "$REAL \"$@\" | sed '0,/lo_create/{/lo_create/d}'",
    ] {
        let run = world.backup_by(script);
        world.check_failed(&run, 1, "dump.large_objects");
    }
}

#[test]
fn rows_that_the_user_may_not_see_are_not_left_out() {
    let setup = "DROP ROLE IF EXISTS narrow; CREATE ROLE narrow LOGIN; \
                 CREATE TABLE secret AS SELECT 1 AS n; GRANT SELECT ON secret TO narrow; \
                 ALTER TABLE secret ENABLE ROW LEVEL SECURITY";
    let world = World::new("rls", "", setup);
    // Nor does it help to tell the server to hide them silently.
    for options in ["", "-c row_security=on"] {
        let run = world.backup(|command| {
            command.env("PGUSER", "narrow").env("PGOPTIONS", options);
        });
        world.check_failed(&run, 4, "database.row_security");
        assert!(run.stderr.contains("public.secret"), "{run:?}");
    }
    for able in ["ALTER ROLE narrow BYPASSRLS", "ALTER TABLE secret DISABLE ROW LEVEL SECURITY"] {
        world.server.sql("rls", able);
        let run = world.backup(|command| {
            command.env("PGUSER", "narrow");
        });
        assert_eq!(run.code, Some(0), "{run:?}");
        std::fs::remove_dir_all(world.path("active/hourly")).unwrap();
        std::fs::create_dir(world.path("active/hourly")).unwrap();
        world.server.sql("rls", "ALTER ROLE narrow NOBYPASSRLS");
    }
}

#[test]
fn a_full_disk_is_told_and_leaves_nothing() {
    let noise = "CREATE TABLE noise AS \
                 SELECT md5(random()::text) AS a, md5(random()::text) AS b FROM generate_series(1, 60000)";
    let world = World::new("full_disk", "", noise);
    // A mount of its own, in a namespace of its own: it is gone with the last process in it.
    let script = "mount -t tmpfs -o size=1m tmpfs \"$1\" && mkdir \"$1/hourly\" || exit 99\n\
                  shift; \"$@\"; code=$?; find \"$WORM_BACKUPS\" -type f >&2; exit $code";
    let mut agent = world.limited();
    agent.args(["hourly", "--allow-plain"]);
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-c", script, "sh"]).arg(world.path("active"));
    command.arg(agent.get_program()).args(agent.get_args()).env_clear();
    command.envs(agent.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let run: Run = command.output().unwrap().into();
    assert_ne!(
        run.code,
        Some(99),
        "this test mounts a small file system, so it needs root: {run:?}"
    );
    world.check_failed(&run, 1, "vault.full");
    assert_eq!(run.stderr.lines().count(), 1, "a file was left: {run:?}");
}

#[test]
fn a_dump_that_stops_moving_is_ended() {
    let world = World::new("stalled", "", TABLES);
    for script in [
        "echo 'deep in thought' >&2; exec sleep 1000",
        "$REAL \"$@\" | head -c 5000; echo 'deep in thought' >&2; exec sleep 1000",
        "$REAL \"$@\"; echo 'deep in thought' >&2; exec >&-; exec sleep 1000",
    ] {
        let directory = world.fake(script);
        let run = world.backup(|command| {
            command.args(["--stall-timeout", "2", "--client-dir"]).arg(&directory);
        });
        world.check_failed(&run, 1, "dump.stalled");
        assert!(run.stderr.contains("deep in thought"), "{script}: {run:?}");
    }
}

#[test]
fn a_table_that_somebody_keeps_locked_is_named() {
    let world = World::new("locked", "", TABLES);
    let locked = world.server.locked("locked", "a");
    let run = world.backup(|command| {
        command.args(["--lock-wait-timeout", "1"]);
    });
    drop(locked);
    world.check_failed(&run, 1, "dump.failed");
    assert!(run.stderr.contains("LOCK TABLE public.a"), "{run:?}");
}

/// An agent in the middle of a dump that waits for us.
struct Waiting<'world> {
    world: &'world World,
    agent: Child,
}

impl<'world> Waiting<'world> {
    fn start(world: &'world World) -> Self {
        let directory = world
            .fake("$REAL \"$@\" | head -c 5000\necho >$HERE/started\nread -r _ <$HERE/release");
        for pipe in ["started", "release"] {
            let made = Command::new("mkfifo").arg(directory.join(pipe)).status().unwrap();
            assert!(made.success());
        }
        let mut command = world.agent();
        command.args(["hourly", "--allow-plain", "--client-dir"]).arg(&directory);
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let agent = command.spawn().unwrap();
        let waiting = Self { world, agent };
        assert_eq!(std::fs::read(directory.join("started")).unwrap(), b"\n");
        waiting
    }

    fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(self.agent.id().cast_signed()).unwrap();
        kill_process(pid, signal).unwrap();
    }

    fn end(mut self) -> Run {
        let (mut stdout, mut stderr) = (String::new(), String::new());
        self.agent.stdout.take().unwrap().read_to_string(&mut stdout).unwrap();
        self.agent.stderr.take().unwrap().read_to_string(&mut stderr).unwrap();
        Run { code: self.agent.wait().unwrap().code(), stdout, stderr }
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        // Both may be over already; then there is nothing to end.
        drop(self.agent.kill());
        drop(self.agent.wait());
        release(&self.world.path("bin/release"));
    }
}

/// Lets the fake go on, if it still waits: without a reader opening does not succeed.
fn release(pipe: &Path) {
    use std::os::unix::fs::OpenOptionsExt;
    let flags = rustix::fs::OFlags::NONBLOCK.bits().cast_signed();
    drop(File::options().write(true).custom_flags(flags).open(pipe));
}

#[test]
fn an_agent_that_is_told_to_stop_says_so_and_leaves_nothing() {
    let world = World::new("stopped", "", TABLES);
    for signal in [Signal::TERM, Signal::INT] {
        let waiting = Waiting::start(&world);
        waiting.signal(signal);
        let run = waiting.end();
        world.check_failed(&run, 5, "cancelled");
        assert_eq!(world.audit().last().unwrap()["outcome"], "cancelled");
        std::fs::remove_dir_all(world.path("bin")).unwrap();
        std::fs::create_dir(world.path("bin")).unwrap();
    }
}

#[test]
fn an_agent_that_is_killed_leaves_no_backup_and_the_next_run_succeeds() {
    let world = World::new("killed", "", TABLES);
    let waiting = Waiting::start(&world);
    waiting.signal(Signal::KILL);
    drop(waiting);
    let left = world.names();
    assert_eq!(left.len(), 1, "{left:?}");
    assert!(left[0].starts_with(".incomplete/"), "{left:?}");

    let run = world.backup(|_| {});
    assert_eq!(run.code, Some(0), "{run:?}");
    let name = run.json()["name"].as_str().unwrap().to_owned();
    let names = [name.clone(), format!("{name}.manifest.json"), format!("{name}.sha256")];
    assert_eq!(world.names(), names, "and what the killed one left is gone");
}
