//! Files that are bigger, stranger or written in another order than most.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::process::Command;

use sha2::Digest as _;
use system_tests::binary;
use system_tests::daemon::Daemon;
use system_tests::daemon::sha256;
use system_tests::postgres;
use system_tests::postgres::Postgres;

/// More than fits into 32 bits.
const FAR: u64 = (4 << 30) + 12_345;

#[test]
fn a_file_of_more_than_4_gib_is_sealed_whole() {
    let daemon = Daemon::start();
    let path = daemon.active().join("daily/big");
    let file = File::create_new(&path).unwrap();
    file.write_all_at(b"first", 0).unwrap();
    file.write_all_at(b"last", FAR).unwrap();
    drop(file);
    let mut hasher = sha2::Sha256::new();
    let mut zeros = FAR - 5;
    hasher.update(b"first");
    let buffer = vec![0; 1 << 20];
    while zeros > 0 {
        let bytes = zeros.min(buffer.len() as u64);
        hasher.update(&buffer[..usize::try_from(bytes).unwrap()]);
        zeros -= bytes;
    }
    hasher.update(b"last");
    assert_eq!(daemon.wait(&path), hex::encode(hasher.finalize()));
    let file = File::open(&path).unwrap();
    assert_eq!(file.metadata().unwrap().len(), FAR + 4);
    let mut end = [0; 6];
    file.read_exact_at(&mut end, FAR - 2).unwrap();
    assert_eq!(&end, b"\0\0last");
}

/// In the custom format `pg_dump` goes back to its table of contents at the end.
#[test]
fn a_dump_that_seeks_back_is_sealed_and_can_be_restored() {
    let postgres = Postgres::start();
    postgres.create_database("app");
    postgres.pgbench("app", 1);
    let daemon = Daemon::start();
    let path = daemon.active().join("daily/app.dump");
    let client = |program: &str, db: &str| {
        let mut command = Command::new(postgres::program(program));
        command.arg("-d").arg(postgres.url(db));
        command
    };
    binary::run(client("pg_dump", "app").args(["-Fc", "-f"]).arg(&path)).success();
    let digest = daemon.wait(&path);
    assert_eq!(sha256(&path), digest);
    postgres.create_database("again");
    binary::run(client("pg_restore", "again").arg(&path)).success();
    let count = "SELECT count(*) FROM pgbench_accounts";
    assert_eq!(postgres.psql("again", count), postgres.psql("app", count));
}
