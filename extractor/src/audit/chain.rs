//! PURE: the lines of the audit log, and the chain that holds them together.
//!
//! Every line is a JSON object whose `prev` is the SHA-256 of the line before it, newline
//! included; of the first line it is 64 zeros. A line that was changed, taken out or put in later
//! breaks the chain. Lines cut off at the end do not: for that, somebody must have kept the end.

use jiff::Timestamp;
use serde::Deserialize;
use serde::Serialize;
use sha2::Digest;
use sha2::Sha256;

/// What comes before the first line.
pub const GENESIS: &str = "0000000000000000000000000000000000000000000000000000000000000000";

/// One line.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct Line {
    /// SHA-256 of the line before, with its newline.
    pub prev: String,
    /// When it was written (UTC).
    pub time: Timestamp,
    /// What happened.
    #[serde(flatten)]
    pub event: Event,
}

/// What is worth a line.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// A file was copied into the mirror, and its name is on disk.
    Copied(FileLine),
    /// A file was found in the mirror, read, and is right.
    Verified(FileLine),
    /// Bytes are not what they must be: in the view, or in the mirror under a name that is taken.
    Mismatch(Trouble),
    /// A backup could not be copied for another reason.
    Failed(Trouble),
    /// A run of `once` ended.
    Run(Run),
    /// A restore ended.
    Restore(Restore),
    /// A crash had left half a line at the end; it was cut off.
    Recovered {
        /// What was cut off, as far as it is text.
        torn: String,
    },
}

/// A file of the mirror.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct FileLine {
    /// The mirror, as an absolute path.
    pub mirror: String,
    /// The file below it.
    pub path: String,
    /// Its length.
    pub bytes: u64,
    /// Its SHA-256.
    pub sha256: String,
}

/// Something that went wrong with one backup.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct Trouble {
    /// The mirror, as an absolute path.
    pub mirror: String,
    /// The file or backup below it.
    pub path: String,
    /// What was wrong, as the user was told.
    pub reason: String,
}

/// The outcome of a run of `once`.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
pub struct Run {
    /// Where it read.
    pub view: String,
    /// The store that the view shows; none for a plain directory.
    pub store: Option<String>,
    /// Where it wrote.
    pub mirror: String,
    /// Backups of which at least one file was copied.
    pub copied: usize,
    /// Backups that were all there.
    pub already: usize,
    /// Backups that failed, mismatches excluded.
    pub failed: usize,
    /// Backups with bytes other than promised, in the view or in the mirror.
    pub mismatched: usize,
    /// Backups in the view that lack a sidecar.
    pub unfinished: usize,
    /// Bytes copied.
    pub bytes: u64,
    /// How long it took, in milliseconds.
    pub duration_ms: u64,
    /// How the program ended.
    pub exit: u8,
}

/// The outcome of a restore.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
pub struct Restore {
    /// The dump.
    pub path: String,
    /// Its SHA-256 as the manifest has it.
    pub sha256: String,
    /// Where it went: host, port and database, never a password.
    pub target: String,
    /// What came of it, as the user was told.
    pub outcome: String,
    /// How the program ended.
    pub exit: u8,
}

/// A break of the chain: the first line that does not follow from the one before.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("line {line} {what}")]
pub struct Break {
    /// Counted from one.
    pub line: u64,
    /// What is wrong with it.
    pub what: &'static str,
}

/// How far a log was read, and whether it held.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Chain {
    /// SHA-256 of the last line.
    pub last: String,
    /// Lines so far.
    pub lines: u64,
    /// The first break, if there was one. It never heals.
    pub broken: Option<Break>,
}

impl Default for Chain {
    fn default() -> Self {
        Self { last: GENESIS.to_owned(), lines: 0, broken: None }
    }
}

impl Chain {
    /// Reads the next line, newline included, and gives its event if this version knows it.
    pub fn follow(&mut self, line: &[u8]) -> Option<Event> {
        #[derive(Deserialize)]
        struct Link {
            prev: String,
        }
        self.lines += 1;
        let what = match serde_json::from_slice::<Link>(line) {
            Ok(link) if link.prev == self.last => None,
            Ok(_) => Some("does not follow from the line before"),
            Err(_) => Some("is not a line of this log"),
        };
        if let Some(what) = what {
            let _first = self.broken.get_or_insert(Break { line: self.lines, what });
        }
        self.last = hex::encode(Sha256::digest(line));
        // A newer version may have events of its own; they are links like any other.
        serde_json::from_slice::<Line>(line).ok().map(|line| line.event)
    }

    /// The bytes of the line that comes next. They are linked in by [`Chain::follow`].
    ///
    /// # Errors
    /// When the event cannot be expressed as JSON.
    pub fn next(&self, time: Timestamp, event: Event) -> Result<Vec<u8>, serde_json::Error> {
        let mut line = serde_json::to_vec(&Line { prev: self.last.clone(), time, event })?;
        line.push(b'\n');
        Ok(line)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log(count: u64) -> Vec<Vec<u8>> {
        let mut chain = Chain::default();
        let mut lines = Vec::new();
        for bytes in 0..count {
            let run = Run { bytes, ..Run::default() };
            let line = chain.next(Timestamp::UNIX_EPOCH, Event::Run(run)).unwrap();
            assert!(chain.follow(&line).is_some());
            lines.push(line);
        }
        lines
    }

    fn broken_at(lines: &[Vec<u8>]) -> Option<u64> {
        let mut chain = Chain::default();
        for line in lines {
            let _event = chain.follow(line);
        }
        chain.broken.map(|found| found.line)
    }

    #[test]
    fn a_log_follows_from_its_beginning() {
        assert_eq!(broken_at(&log(4)), None);
        assert!(std::str::from_utf8(&log(1)[0]).unwrap().contains("\"event\":\"run\""));
    }

    #[test]
    fn a_changed_missing_added_or_moved_line_breaks_the_chain() {
        let mut changed = log(4);
        let at = changed[1].len() - 4;
        changed[1][at] ^= 1;
        assert!(matches!(broken_at(&changed), Some(2 | 3)));
        let mut missing = log(4);
        let _line = missing.remove(1);
        assert_eq!(broken_at(&missing), Some(2));
        let mut beheaded = log(4);
        let _line = beheaded.remove(0);
        assert_eq!(broken_at(&beheaded), Some(1));
        let mut added = log(4);
        added.insert(2, log(1)[0].clone());
        assert_eq!(broken_at(&added), Some(3));
        let mut swapped = log(4);
        swapped.swap(1, 2);
        assert_eq!(broken_at(&swapped), Some(2));
    }

    #[test]
    fn an_event_of_a_newer_version_is_a_link_all_the_same() {
        let mut chain = Chain::default();
        let line = format!("{{\"prev\":\"{GENESIS}\",\"event\":\"drill\"}}\n");
        assert_eq!(chain.follow(line.as_bytes()), None);
        assert_eq!(chain.broken, None);
    }
}
