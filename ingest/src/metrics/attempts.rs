//! I/O: what the audit log knows of earlier runs.

use std::fs::File;
use std::io;
use std::io::Read;
use std::io::Seek;
use std::io::SeekFrom;
use std::path::Path;

use jiff::Timestamp;
use serde::Deserialize;

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

/// The runs that the log at `path` tells of, the oldest first. No log: none. Lines that nobody here
/// wrote, and an unfinished last one, are passed over.
pub(crate) fn read(path: &Path) -> io::Result<Vec<Attempt>> {
    let mut file = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        opened => opened?,
    };
    let length = file.metadata()?.len();
    // If it begins within a line, that line is none of ours.
    file.seek(SeekFrom::Start(length.saturating_sub(TAIL)))?;
    let mut bytes = Vec::new();
    file.take(TAIL).read_to_end(&mut bytes)?;
    let lines = bytes.split(|byte| *byte == b'\n');
    Ok(lines.filter_map(|line| serde_json::from_slice(line).ok()).collect())
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn torn_and_foreign_lines_are_passed_over() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        let line = r#"{"ts":"2026-01-18T00:00:00Z","event":"backup","class":"hourly","database":"app","outcome":"ok","exit":0,"duration_ms":1}"#;
        let text = format!("{line}\n{{\"torn\n{line}\n{{}}\n{}", &line[..20]);
        file.write_all(text.as_bytes()).unwrap();
        let attempts = read(file.path()).unwrap();
        assert_eq!(attempts.len(), 2);
        assert_eq!((attempts[0].class.as_str(), attempts[0].exit), ("hourly", 0));
        assert!(read(Path::new("/nonexistent/log")).unwrap().is_empty());
    }
}
