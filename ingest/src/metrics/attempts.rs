//! I/O: what the audit log knows of earlier runs.

use std::fs::File;
use std::io;
use std::io::Read;
use std::io::Seek;
use std::io::SeekFrom;
use std::path::Path;

use jiff::Timestamp;
use serde::Deserialize;

use crate::audit::Missed;

/// Only the end of the log is read: years of hourly runs fit.
const TAIL: u64 = 16 << 20;

/// One run, as the log has it.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Attempt {
    /// When it ended.
    pub(crate) ts: Timestamp,
    pub(crate) class: String,
    pub(crate) database: String,
    /// What the program ended with.
    pub(crate) exit: u8,
    pub(crate) duration_ms: u64,
}

/// What the log tells of, the oldest first.
#[derive(Clone, Debug, Default)]
pub(crate) struct Told {
    pub(crate) attempts: Vec<Attempt>,
    pub(crate) missed: Vec<Missed>,
}

/// What the log at `path` tells of. No log: nothing. Lines that nobody here wrote, and an unfinished
/// last one, are passed over.
pub(crate) fn read(path: &Path) -> io::Result<Told> {
    let mut file = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Told::default()),
        opened => opened?,
    };
    let length = file.metadata()?.len();
    // If it begins within a line, that line is none of ours.
    file.seek(SeekFrom::Start(length.saturating_sub(TAIL)))?;
    let mut bytes = Vec::new();
    file.take(TAIL).read_to_end(&mut bytes)?;
    let mut told = Told::default();
    for line in bytes.split(|byte| *byte == b'\n') {
        if let Ok(attempt) = serde_json::from_slice(line) {
            told.attempts.push(attempt);
        } else if let Ok(missed) = serde_json::from_slice(line) {
            told.missed.push(missed);
        }
    }
    Ok(told)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn torn_and_foreign_lines_are_passed_over() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        let line = r#"{"ts":"2026-01-18T00:00:00Z","event":"backup","class":"hourly","database":"app","outcome":"ok","exit":0,"duration_ms":1}"#;
        let missed = r#"{"ts":"2026-01-18T00:00:00Z","event":"missed","class":"daily","count":3,"until":"2026-01-17T00:00:00Z"}"#;
        let text = format!("{line}\n{{\"torn\n{line}\n{missed}\n{{}}\n{}", &line[..20]);
        file.write_all(text.as_bytes()).unwrap();
        let Told { attempts, missed } = read(file.path()).unwrap();
        assert_eq!((missed.len(), missed[0].class.as_str(), missed[0].count), (1, "daily", 3));
        assert_eq!(attempts.len(), 2);
        assert_eq!((attempts[0].class.as_str(), attempts[0].exit), ("hourly", 0));
        assert!(read(Path::new("/nonexistent/log")).unwrap().attempts.is_empty());
    }
}
