//! Backups made by hand, and bounded runs of the built program.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::path::PathBuf;
use std::process::Child;
use std::process::Command;
use std::process::Output;
use std::process::Stdio;
use std::time::Duration;
use std::time::Instant;

use flate2::Compression;
use flate2::write::GzEncoder;
use jiff::Timestamp;
use sha2::Digest;
use sha2::Sha256;
use tempfile::TempDir;
use worm_ingest::manifest;
use worm_ingest::manifest::Content;
use worm_ingest::manifest::Manifest;
use worm_ingest::manifest::TableRows;

/// No step of these tests takes longer, even on a slow machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// What a run leaves in a mirror or a staging directory besides backups.
const LOCKS: [&str; 2] = [".worm-extractor.lock", ".worm-staging.lock"];

/// A view, a mirror and a place for the audit log, all in one temporary directory.
pub(crate) struct Place {
    dir: TempDir,
}

impl Place {
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        for name in ["view/hourly", "view/daily", "view/weekly", "mirror", "logs"] {
            fs::create_dir_all(dir.path().join(name)).unwrap();
        }
        Self { dir }
    }

    pub(crate) fn path(&self, below: &str) -> PathBuf {
        self.dir.path().join(below)
    }

    /// `worm-extractor once` from the plain view to the mirror.
    pub(crate) fn once(&self, extra: &[&str]) -> Command {
        let mut command = self.once_to(&self.path("mirror"));
        let _command = command.args(extra);
        command
    }

    /// The same to another mirror.
    pub(crate) fn once_to(&self, mirror: &Path) -> Command {
        let mut command = program();
        let _command = command
            .arg("once")
            .args(["--allow-plain", "--json"])
            .arg("--from")
            .arg(self.path("view"))
            .arg("--to")
            .arg(mirror);
        let _command = command.env("WORM_EXTRACTION_AUDIT", self.audit());
        command
    }

    pub(crate) fn audit(&self) -> PathBuf {
        self.path("logs/extraction_audit.jsonl")
    }

    /// The audit log, a JSON value for each line.
    pub(crate) fn audit_lines(&self) -> Vec<serde_json::Value> {
        let text = fs::read_to_string(self.audit()).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// The names of all files in the mirror, locks left out, in order.
    pub(crate) fn mirrored(&self) -> Vec<String> {
        let root = self.path("mirror");
        let mut names = Vec::new();
        let mut left = vec![root.clone()];
        while let Some(dir) = left.pop() {
            for entry in fs::read_dir(dir).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    left.push(path);
                } else if !LOCKS.iter().any(|lock| path.ends_with(lock)) {
                    names.push(path.strip_prefix(&root).unwrap().to_str().unwrap().to_owned());
                }
            }
        }
        names.sort();
        names
    }

    /// What lies in the staging directory beside the mirror.
    pub(crate) fn staged(&self) -> usize {
        let names = fs::read_dir(self.path(".mirror.worm-staging")).into_iter().flatten();
        names.filter(|name| name.as_ref().unwrap().file_name() != LOCKS[1]).count()
    }
}

/// The program, with nothing of our environment that could change what it does.
pub(crate) fn program() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_worm-extractor"));
    let ours = ["WORM_", "PG", "RUST_LOG"];
    for (name, _) in std::env::vars_os() {
        if ours.iter().any(|start| name.to_string_lossy().starts_with(start)) {
            let _command = command.env_remove(name);
        }
    }
    command
}

/// Starts a command with its output caught.
pub(crate) fn start(command: &mut Command) -> Child {
    let command = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.spawn().unwrap_or_else(|error| panic!("start {command:?}: {error}"))
}

/// Waits for a child that was started here, and kills it when it takes too long.
#[track_caller]
pub(crate) fn end(mut child: Child) -> Output {
    let begun = Instant::now();
    // What it prints fits into its pipes, so that it can end before anybody reads.
    while child.try_wait().unwrap().is_none() {
        if begun.elapsed() > PATIENCE {
            child.kill().unwrap();
            panic!("the program took too long and was killed");
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    child.wait_with_output().unwrap()
}

/// Runs a command, and expects an exit code. Gives standard output and standard error.
#[track_caller]
pub(crate) fn expect(code: i32, command: &mut Command) -> (String, String) {
    let output = end(start(command));
    let out = String::from_utf8_lossy(&output.stdout).into_owned();
    let err = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(code), "{command:?}\n{out}\n{err}");
    (out, err)
}

/// Asks again and again until the answer is yes.
#[track_caller]
pub(crate) fn wait_until(what: &str, mut yes: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !yes() {
        assert!(begun.elapsed() < PATIENCE, "waited too long until {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Writes a complete backup of `sql` into `folder`, and gives the path of the dump.
pub(crate) fn put_backup(folder: &Path, stamp: &str, sql: &[u8], tables: &[TableRows]) -> PathBuf {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(sql).unwrap();
    let stored = encoder.finish().unwrap();
    let name = format!("{stamp}.sql.gz");
    let path = folder.join(&name);
    let manifest = Manifest {
        format: manifest::FORMAT,
        class: folder.file_name().unwrap().to_str().unwrap().to_owned(),
        classes: Vec::new(),
        run_id: None,
        database: "app".to_owned(),
        started_at: Timestamp::UNIX_EPOCH,
        finished_at: Timestamp::UNIX_EPOCH,
        agent: "by hand".to_owned(),
        server_version: "15.1".to_owned(),
        server_version_num: 150_001,
        dump_version: "pg_dump (PostgreSQL) 15.1".to_owned(),
        snapshot: "0-0-0".to_owned(),
        database_bytes: 0,
        kind: manifest::Kind::Plain,
        compression: manifest::Compression { codec: manifest::Codec::Gzip, level: 1 },
        filters: manifest::filters::Filters::default(),
        encryption: None,
        raw: manifest::Raw { bytes: sql.len() as u64, sha256: Some(content(sql).sha256) },
        stored: content(&stored),
        tables: tables.to_vec(),
        large_objects: None,
        extensions: Vec::new(),
        retain_until: None,
        store: None,
        sidecars: Vec::new(),
        lacks: Vec::new(),
        suspect: Vec::new(),
        accepted: None,
        name,
    };
    fs::write(&path, &stored).unwrap();
    put_digest(&path, &manifest.stored.sha256);
    put_manifest(&path, &manifest);
    path
}

pub(crate) fn put_digest(dump: &Path, sha256: &str) {
    let name = dump.file_name().unwrap().to_str().unwrap();
    fs::write(beside(dump, manifest::DIGEST_SUFFIX), format!("{sha256}  {name}\n")).unwrap();
}

pub(crate) fn put_manifest(dump: &Path, manifest: &Manifest) {
    fs::write(beside(dump, manifest::MANIFEST_SUFFIX), manifest.encode().unwrap()).unwrap();
}

/// Writes the manifest of a backup anew, changed.
pub(crate) fn change_manifest(dump: &Path, change: impl FnOnce(&mut Manifest)) {
    let bytes = fs::read(beside(dump, manifest::MANIFEST_SUFFIX)).unwrap();
    let mut manifest = Manifest::decode(&bytes).unwrap();
    change(&mut manifest);
    put_manifest(dump, &manifest);
}

pub(crate) fn beside(dump: &Path, suffix: &str) -> PathBuf {
    PathBuf::from(format!("{}{suffix}", dump.display()))
}

pub(crate) fn rows(schema: &str, table: &str, rows: u64) -> TableRows {
    TableRows { schema: schema.to_owned(), table: table.to_owned(), rows, extension: false }
}

pub(crate) fn flip_last_byte(path: &Path) {
    let mut bytes = fs::read(path).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(path, bytes).unwrap();
}

fn content(bytes: &[u8]) -> Content {
    Content { bytes: bytes.len() as u64, sha256: hex::encode(Sha256::digest(bytes)) }
}
