//! Formats besides SQL: proven as well, broken as visibly, and nothing left beside the backup.

use std::collections::BTreeMap;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;
use std::process::Stdio;
use std::time::Duration;
use std::time::Instant;

use rustix::process::Pid;
use rustix::process::Signal;
use rustix::process::kill_process;
use worm_ingest::manifest::Kind;
use worm_ingest::manifest::Manifest;

use crate::server::bin;
use crate::world::World;

const TABLES: &str = "CREATE TABLE a AS SELECT generate_series(1, 2000) AS n, repeat('x', 100) AS t; \
                      CREATE TABLE b AS SELECT generate_series(1, 2000) AS n";

/// Both formats of archives, with all that they need.
fn archives(world: &World) -> [Vec<String>; 2] {
    let scratch = world.path("scratch");
    std::fs::create_dir_all(&scratch).unwrap();
    let words = |words: &str| words.split(' ').map(str::to_owned).collect::<Vec<_>>();
    let mut directory = words("--format directory --jobs 2 --scratch");
    directory.push(scratch.to_str().unwrap().to_owned());
    [words("--format custom"), directory]
}

fn manifest(world: &World, arguments: &[String]) -> Manifest {
    let run = world.backup(|command| {
        command.args(arguments);
    });
    assert_eq!(run.code, Some(0), "{run:?}");
    let name = run.json()["name"].as_str().unwrap().to_owned();
    let path = world.path("active/hourly").join(format!("{name}.manifest.json"));
    Manifest::decode(&std::fs::read(path).unwrap()).unwrap()
}

fn rows(manifest: &Manifest) -> BTreeMap<String, u64> {
    let tables = manifest.tables.iter();
    tables.map(|table| (format!("{}/{}", table.schema, table.table), table.rows)).collect()
}

#[track_caller]
fn check_no_scratch(world: &World) {
    let left = std::fs::read_dir(world.path("scratch")).unwrap();
    assert_eq!(left.count(), 0, "something is left in the scratch directory");
}

#[test]
fn an_odd_database_is_whole_in_every_format() {
    let world = World::new("odd_formats", "", include_str!("odd.sql"));
    let plain = manifest(&world, &[]);
    assert_eq!((plain.format, plain.kind), (1, Kind::Plain));
    for (arguments, kind) in archives(&world).iter().zip([Kind::Custom, Kind::Directory]) {
        let archive = manifest(&world, arguments);
        assert_eq!((archive.format, archive.kind), (2, kind));
        assert_eq!(rows(&archive), rows(&plain));
        assert_eq!(archive.large_objects, Some(1));
        assert_eq!(archive.raw.sha256.as_ref(), Some(&archive.stored.sha256), "packed once");
        check_no_scratch(&world);
    }
    let [_, directory] = archives(&world);
    let packed = manifest(&world, &directory).name;
    let list =
        Command::new("tar").arg("-tf").arg(world.path("active/hourly").join(packed)).output();
    let list = String::from_utf8(list.unwrap().stdout).unwrap();
    assert!(list.lines().any(|name| name == "dump/toc.dat"), "{list}");
}

#[test]
fn an_archive_that_is_not_whole_is_never_sealed() {
    let world = World::new("broken_archives", "", &format!("{TABLES}; SELECT lo_create(0)"));
    let [custom, directory] = archives(&world);
    // $DIR is where a directory is to be made.
    let dir = "for word; do case $word in --file=*) DIR=${word#--file=};; esac; done; ";
    let broken = |script: &str, arguments: &[String], code: &str| {
        let client = world.fake(&format!("{dir}{script}"));
        drop(std::fs::remove_file(client.join("pg_restore")));
        symlink(bin("pg_restore"), client.join("pg_restore")).unwrap();
        let run = world.backup(|command| {
            command.args(arguments).args(["--stall-timeout", "2", "--client-dir"]).arg(&client);
        });
        world.check_failed(&run, 1, code);
        assert!(run.stderr.contains("no backup was made"), "{script}: {run:?}");
        check_no_scratch(&world);
    };
    for (script, code) in [
        ("$REAL \"$@\" | head -c 3000; exit 1", "dump.failed"),
        ("$REAL \"$@\" | head -c 3000; kill -9 $$", "dump.failed"),
        ("$REAL \"$@\" | head -c 3000", "dump.not_restorable"),
        ("$REAL \"$@\" | head -c 6000", "dump.not_restorable"),
        ("head -c 300000 /dev/urandom", "dump.not_restorable"),
        (
            "$REAL --format=plain --snapshot=$(echo \"$@\" | grep -o '[0-9A-F]*-[0-9A-F]*-[0-9]')",
            "dump.not_restorable",
        ),
        ("$REAL --exclude-table=b \"$@\"", "dump.missing_tables"),
        ("$REAL --no-blobs \"$@\"", "dump.large_objects"),
        ("$REAL --schema-only \"$@\"", "dump.missing_tables"),
        ("exit 0", "dump.empty"),
        ("exit 1", "dump.failed"),
        ("$REAL \"$@\" | head -c 3000; exec sleep 1000", "dump.stalled"),
    ] {
        broken(script, &custom, code);
    }
    for (script, code) in [
        ("$REAL \"$@\"; exit 1", "dump.failed"),
        ("$REAL \"$@\"; kill -9 $$", "dump.failed"),
        (
            "$REAL \"$@\"; for f in $DIR/*.dat.gz; do head -c 20 $f >x; cat x >$f; done",
            "dump.not_restorable",
        ),
        ("$REAL \"$@\"; rm $DIR/*.dat.gz", "dump.not_restorable"),
        ("$REAL \"$@\"; rm $DIR/toc.dat", "dump.not_restorable"),
        ("mkdir $DIR; head -c 3000 /dev/urandom >$DIR/toc.dat", "dump.not_restorable"),
        ("$REAL --no-blobs \"$@\"", "dump.large_objects"),
        ("$REAL --exclude-table=b \"$@\"", "dump.missing_tables"),
        ("exit 0", "dump.empty"),
        ("mkdir $DIR; exec sleep 1000", "dump.stalled"),
    ] {
        broken(script, &directory, code);
    }
    assert_eq!(rows(&manifest(&world, &custom))["public/a"], 2000, "and whole it is a backup");
}

#[test]
fn what_a_format_lacks_is_refused_before_a_file_is_made() {
    let world = World::new("lacking", "", TABLES);
    let [custom, directory] = archives(&world);
    let refused = |arguments: &[&str], format: &[String], exit: u8, code: &str| {
        let run = world.backup(|command| {
            command.args(format).args(arguments);
        });
        world.check_failed(&run, exit, code);
    };
    let major: u32 = world.server.major().parse().unwrap();
    if major < 16 {
        refused(&["--compress", "zstd:1"], &custom, 4, "client.old");
    }
    let alone = world.fake("exec $REAL \"$@\"");
    refused(&["--client-dir", alone.to_str().unwrap()], &custom, 4, "client.no_pg_restore");
    let (scratch, directory) = directory.split_last().unwrap();
    assert!(scratch.ends_with("scratch"));
    refused(&["/nonexistent"], directory, 4, "scratch");
    let key = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/fixtures/recipient");
    refused(&["/proc", "--recipients-file", key], directory, 4, "scratch.on_disk");
    refused(&["--min-bytes", "1000000000"], &custom, 1, "dump.too_small");
}

#[test]
fn an_encrypted_backup_says_to_whom_and_nothing_of_its_content() {
    let world = World::new("sealed", "", TABLES);
    let recipient = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/fixtures/recipient");
    let manifest = manifest(&world, &["--recipients-file".to_owned(), recipient.to_owned()]);
    assert_eq!(manifest.format, 2);
    assert!(manifest.name.ends_with(".sql.gz.age"), "{}", manifest.name);
    assert_eq!(manifest.raw.sha256, None);
    let encryption = manifest.encryption.unwrap();
    assert!(encryption.recipients[0].starts_with("ssh-ed25519 "), "{encryption:?}");
    let stored = std::fs::read(world.path("active/hourly").join(&manifest.name)).unwrap();
    assert!(stored.starts_with(b"age-encryption.org/v1\n-> ssh-ed25519 "));
}

/// Whether a process is there, and is not only a name that nobody has read yet.
fn lives(id: &str) -> bool {
    let stat = std::fs::read_to_string(Path::new("/proc").join(id).join("stat"));
    stat.is_ok_and(|stat| !stat.contains(") Z "))
}

#[test]
fn a_dump_ends_when_its_agent_is_killed() {
    let world = World::new("orphan", "", TABLES);
    let client = world.fake("echo $$ >$HERE/new; mv $HERE/new $HERE/pid; exec sleep 1000");
    let mut command = world.agent();
    command.args(["hourly", "--allow-plain", "--client-dir"]).arg(&client);
    command.stdout(Stdio::null()).stderr(Stdio::null());
    let mut agent = command.spawn().unwrap();
    let deadline = Instant::now() + Duration::from_secs(60);
    let wait = |what: &str, done: &dyn Fn() -> bool| {
        while !done() {
            assert!(Instant::now() < deadline, "{what}");
            std::thread::sleep(Duration::from_millis(5));
        }
    };
    wait("the dump begins", &|| client.join("pid").exists());
    let id = std::fs::read_to_string(client.join("pid")).unwrap().trim().to_owned();
    assert!(lives(&id));
    kill_process(Pid::from_raw(agent.id().cast_signed()).unwrap(), Signal::KILL).unwrap();
    agent.wait().unwrap();
    wait("the dump ends", &|| !lives(&id));
}
