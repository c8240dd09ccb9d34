//! Every form of a backup comes back equal: from the real database through agent, mount and mirror.

use std::path::Path;
use std::path::PathBuf;

use system_tests::binary;
use system_tests::compare;
use system_tests::daemon::Daemon;
use system_tests::postgres::Postgres;
use system_tests::rounds;
use worm_ingest::name::BackupName;

use crate::chain;

/// A database with everything that is awkward, large objects among it. Whoever backs it up or restores
/// comes over TCP, by TLS, with a password.
fn source() -> Postgres {
    let postgres = Postgres::start_tcp();
    postgres.create_database("app");
    postgres.psql("app", chain::ODD);
    postgres.psql("app", "SELECT lo_create(0) FROM generate_series(1, 20)");
    // In `make soak` it has a gigabyte and more, some 15 MB for each.
    match rounds(0, 75) {
        0 => {}
        scale => postgres.pgbench("app", scale.try_into().unwrap()),
    }
    postgres
}

/// Every file below a directory.
fn files(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { found.extend(files(&path)) } else { found.push(path) }
    }
    found
}

/// The files of a test key.
fn fixture(name: &str) -> String {
    format!("{}/fixtures/{name}", env!("CARGO_MANIFEST_DIR"))
}

#[test]
fn a_backup_of_every_form_comes_back_equal() {
    let (postgres, daemon) = (source(), Daemon::start());
    let mirror = daemon.directory().join("external");
    // In memory, so that the encrypted ones may use it too.
    let scratch = tempfile::tempdir_in("/dev/shm").unwrap();
    let (recipient, identity) = (fixture("recipient"), fixture("identity"));
    let sealed = ["--recipients-file", recipient.as_str()];
    let forms: [(&[&str], &str); 8] = [
        (&["--compress", "gzip:1"], ".sql.gz"),
        (&["--compress", "zstd:1"], ".sql.zst"),
        (&["--compress", "none"], ".sql"),
        (&["--format", "custom", "--compress", "gzip:1"], ".dump"),
        (&["--format", "directory", "--jobs", "3"], ".tar"),
        (&["--compress", "zstd:1"], ".sql.zst.age"),
        (&["--format", "custom", "--compress", "none"], ".dump.age"),
        (&["--format", "directory"], ".tar.age"),
    ];
    for (number, (arguments, suffix)) in forms.into_iter().enumerate() {
        let mut command = chain::backup(&daemon, &postgres.tls_url("app"), "daily");
        command.args(arguments).arg("--scratch").arg(scratch.path());
        let encrypted = suffix.ends_with(".age");
        binary::run(command.args(sealed.iter().filter(|_| encrypted))).success();
        binary::run(&mut chain::mirror(&daemon)).success();
        let form = |path: &PathBuf| {
            let name = BackupName::parse(path.file_name().unwrap().to_str().unwrap());
            name.is_some_and(|name| name.form().suffix() == suffix)
        };
        let found: Vec<PathBuf> = files(&mirror).into_iter().filter(form).collect();
        let [dump] = &found[..] else { panic!("one {suffix}: {found:?}") };
        let copy = format!("copy{number}");
        postgres.create_database(&copy);
        let restore = || {
            let dump = dump.to_str().unwrap();
            let mut command = chain::restore(&daemon, dump, &postgres.tls_url(&copy));
            command.arg("--scratch").arg(scratch.path());
            command
        };
        if encrypted {
            let refused = binary::run(&mut restore()).expect_code(4);
            assert!(refused.stderr.contains("--identity"), "{}", refused.stderr);
        }
        let said = binary::run(restore().arg("--identity").arg(&identity)).success();
        assert!(said.contains("all rows there"), "{said}");
        compare::assert_equal(&postgres.url("app"), &postgres.url(&copy));
        postgres.psql("postgres", &format!("DROP DATABASE {copy}"));
        assert_eq!(files(scratch.path()).len(), 0, "{suffix} leaves its scratch clean");
    }
    daemon.verify();
}
