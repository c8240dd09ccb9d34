//! `backup_audit.jsonl`: one line for each run, database and class, whatever became of it, and one
//! for each time that a service found out that runs were missed.
//!
//! A line is written by one `write` at the end of the file and synced. Readers pass over an
//! unfinished last line; we never write behind one.

use std::fs::File;
use std::fs::OpenOptions;
use std::io;
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Mutex;
use std::sync::PoisonError;

use jiff::Timestamp;
use serde::Deserialize;
use serde::Serialize;

use crate::error::Error;
use crate::exit::Exit;
use crate::manifest::Suspicion;
use crate::manifest::beside::Lack;

/// One database in one class, as the log tells it. With `--json` it is also what the program prints.
#[derive(Clone, Debug, Serialize)]
pub struct Record {
    /// When the line was written (UTC).
    pub ts: Timestamp,
    /// Always `backup`.
    pub event: &'static str,
    /// The same in all lines of one run.
    pub run_id: String,
    /// The class asked for.
    pub class: String,
    /// The database; the one asked for until the server told its name.
    pub database: String,
    /// The directory of the database in the class, where each has its own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub folder: Option<String>,
    /// `ok`, `suspect` (sealed, but it does not look like those before it), `failed`, `refused`
    /// (nothing was written), `deadline` or `cancelled`.
    pub outcome: &'static str,
    /// What the program ends with.
    pub exit: u8,
    /// How long the run took.
    pub duration_ms: u64,
    /// The file, once it had a name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The name that was wished for, if it was taken.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wished_name: Option<String>,
    /// Bytes in the file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes: Option<u64>,
    /// Bytes of SQL.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub raw_bytes: Option<u64>,
    /// Digest of the file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
    /// Tables in the dump.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tables: Option<usize>,
    /// Rows in the dump.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rows: Option<u64>,
    /// Until when the mount keeps it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retain_until: Option<Timestamp>,
    /// What looks wrong about the backup.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub suspect: Vec<Suspicion>,
    /// What stands not beside the dump and should.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub lacks: Vec<Lack>,
    /// What went wrong.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<Problem>,
}

/// What went wrong, for programs and for people.
#[derive(Clone, Debug, Serialize)]
pub struct Problem {
    /// [`Error::code`].
    pub code: &'static str,
    /// The line that the user saw.
    pub message: String,
}

impl Record {
    /// Of a run that has only begun.
    pub(crate) fn begun(now: Timestamp, run_id: &str, class: &str, database: &str) -> Self {
        Self {
            ts: now,
            event: "backup",
            run_id: run_id.to_owned(),
            class: class.to_owned(),
            database: database.to_owned(),
            folder: None,
            outcome: "",
            exit: 0,
            duration_ms: 0,
            name: None,
            wished_name: None,
            bytes: None,
            raw_bytes: None,
            sha256: None,
            tables: None,
            rows: None,
            retain_until: None,
            suspect: Vec::new(),
            lacks: Vec::new(),
            error: None,
        }
    }

    /// Fills in how the run ended.
    pub(crate) fn conclude(&mut self, error: Option<&Error>) {
        let exit = error.map_or(Exit::Done, Error::exit);
        self.exit = exit.number();
        self.outcome = match exit {
            Exit::Partial if !self.suspect.is_empty() => "suspect",
            Exit::Done | Exit::Partial => "ok",
            // With a name something was written: the mount went away later.
            Exit::NotWriteOnce if self.name.is_some() => "failed",
            Exit::Usage
            | Exit::NotFound
            | Exit::Preflight
            | Exit::Busy
            | Exit::Unreachable
            | Exit::NotWriteOnce => "refused",
            Exit::Cancelled => "cancelled",
            Exit::Failed if matches!(error, Some(Error::Deadline { .. })) => "deadline",
            Exit::Failed | Exit::Verification => "failed",
        };
        self.error = error.map(|error| Problem { code: error.code(), message: error.to_string() });
    }
}

/// Runs that a service did not make and will not make up for.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub(crate) struct Missed {
    /// When the line was written (UTC).
    pub(crate) ts: Timestamp,
    /// Always `missed`.
    pub(crate) event: MissedEvent,
    /// The class.
    pub(crate) class: String,
    /// How many of its times passed.
    pub(crate) count: u64,
    /// The last time of the schedule that this is known of.
    pub(crate) until: Timestamp,
}

/// The one word that stands there.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum MissedEvent {
    /// `missed`
    Missed,
}

/// Held while a line is written.
static APPENDING: Mutex<()> = Mutex::new(());

/// Makes sure, before anything is done, that the line can be written at the end.
pub(crate) fn check(path: &Path) -> io::Result<()> {
    open(path).map(drop)
}

/// Adds the line of a run.
pub(crate) fn append(path: &Path, record: &Record) -> io::Result<()> {
    append_line(path, serde_json::to_vec(record)?)
}

/// Adds the line of runs that were missed.
pub(crate) fn append_missed(path: &Path, missed: &Missed) -> io::Result<()> {
    append_line(path, serde_json::to_vec(missed)?)
}

fn append_line(path: &Path, mut line: Vec<u8>) -> io::Result<()> {
    // Several databases may end at the same moment.
    let _turn = APPENDING.lock().unwrap_or_else(PoisonError::into_inner);
    let mut file = open(path)?;
    line.push(b'\n');
    // Where we may write and not read, nobody can tell; then the line goes where it goes.
    if ends_in_mid_line(path).unwrap_or(false) {
        // Somebody died writing it. That line stays as it is, ours begins on a new one.
        line.insert(0, b'\n');
    }
    file.write_all(&line)?;
    file.sync_data()
}

fn open(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.append(true);
    match options.open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        result => return result,
    }
    let file = options.create(true).open(path)?;
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    File::open(directory.unwrap_or(Path::new(".")))?.sync_all()?;
    Ok(file)
}

fn ends_in_mid_line(path: &Path) -> io::Result<bool> {
    let file = File::open(path)?;
    let Some(last) = file.metadata()?.len().checked_sub(1) else { return Ok(false) };
    let mut byte = [0];
    file.read_exact_at(&mut byte, last)?;
    Ok(byte != *b"\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record() -> Record {
        Record::begun("2026-01-18T00:00:00Z".parse().unwrap(), "r", "hourly", "app")
    }

    #[test]
    fn lines_are_added_and_an_unfinished_one_stays_alone() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("audit.jsonl");
        check(&path).unwrap();
        append(&path, &record()).unwrap();
        OpenOptions::new().append(true).open(&path).unwrap().write_all(b"{\"torn").unwrap();
        append(&path, &record()).unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!((lines[1], lines.len()), ("{\"torn", 3));
        for line in [lines[0], lines[2]] {
            assert_eq!(serde_json::from_str::<serde_json::Value>(line).unwrap()["class"], "hourly");
        }
    }

    #[test]
    fn the_outcome_follows_from_the_error() {
        let mut record = record();
        record.conclude(None);
        assert_eq!((record.outcome, record.exit), ("ok", 0));
        record.conclude(Some(&Error::Cancelled));
        assert_eq!((record.outcome, record.exit), ("cancelled", 5));
        record.conclude(Some(&Error::Query { message: "no".to_owned() }));
        assert_eq!((record.outcome, record.exit), ("refused", 4));
        assert_eq!(record.error.unwrap().code, "database.query");
    }

    #[test]
    fn a_mount_that_goes_away_is_told_by_its_number() {
        use crate::vault::VaultError;
        for errno in [rustix::io::Errno::NOTCONN, rustix::io::Errno::CONNABORTED] {
            let gone = || Error::from(VaultError::io("write", "/b/x".into(), errno.into()));
            let mut record = record();
            record.conclude(Some(&gone()));
            assert_eq!((record.outcome, record.exit), ("refused", 10), "before there was a file");
            record.name = Some("x".to_owned());
            record.conclude(Some(&gone()));
            assert_eq!((record.outcome, record.exit), ("failed", 10));
            let problem = record.error.clone().unwrap();
            assert_eq!(problem.code, "vault.mount_gone");
            assert!(problem.message.contains("worm mount"), "{}", problem.message);
            let source = Box::new(gone());
            record.conclude(Some(&Error::NoManifest { name: "x".to_owned(), source }));
            assert_eq!((record.outcome, record.exit), ("failed", 10));
        }
    }

    #[test]
    fn a_log_that_cannot_be_written_is_found_out_first() {
        assert!(check(Path::new("/nonexistent/audit.jsonl")).is_err());
    }
}
