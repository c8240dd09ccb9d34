//! The ledger on disk, read line by line: segment after segment, the chain checked.

pub(crate) mod append;

use std::io;
use std::io::BufRead as _;
use std::io::BufReader;
use std::io::Read as _;
use std::os::fd::OwnedFd;

use super::durable;
use super::layout;
use crate::record::Digest;
use crate::record::LINE_BYTES_MAX;
use crate::record::Line;
use crate::record::LineError;

/// Why a ledger cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    /// The disk failed.
    #[error("read {segment}: {source}")]
    Disk {
        /// File name of the segment.
        segment: String,
        /// What the disk said.
        source: io::Error,
    },
    /// A line is not what it should be.
    #[error("{segment} line {line} is damaged: {what}")]
    Damaged {
        /// File name of the segment.
        segment: String,
        /// Number of the line in the segment, from 1.
        line: u64,
        /// What is wrong.
        what: String,
    },
    /// A line is of a newer version.
    #[error("{segment} line {line}: {what}")]
    Newer {
        /// File name of the segment.
        segment: String,
        /// Number of the line in the segment, from 1.
        line: u64,
        /// What it says.
        what: String,
    },
}

/// Where reading begins: after a line that is known already.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Start {
    /// The first segment to read.
    pub segment: u64,
    /// Number of the line before it; 0 before the first of all.
    pub seq: u64,
    /// SHA-256 of that line.
    pub digest: Digest,
}

impl Start {
    /// Before line 1.
    pub const FIRST: Self = Self { segment: 1, seq: 0, digest: Digest::ZERO };
}

/// Where a line stands.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Position {
    /// Its segment.
    pub segment: u64,
    /// Its number in the segment, from 1.
    pub line: u64,
}

/// Where reading a ledger ended.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct End {
    /// The newest segment that is not empty.
    pub segment: u64,
    /// Length of its whole lines in bytes.
    pub bytes: u64,
    /// The last so many of them are of lines that the signed head does not cover.
    pub unsigned: u64,
    /// Bytes after them: the beginning of a line that was never finished.
    pub torn: u64,
    /// They begin with a whole line that counts only under the head.
    pub bare: bool,
}

/// Reads all lines after `start` in order and hands each, with its digest and its place, to
/// `each`. Checks the numbers and the chain. `signed` is the number of the newest line that the
/// signed head covers: what cannot be read after it was never acknowledged, because a power cut
/// may keep the length of a file and lose some of its pages; it counts as torn. So does what
/// [`Event::needs_signature`] after it.
///
/// # Errors
/// [`LedgerError`], or what `each` returns.
pub fn read<E: From<LedgerError>>(
    dir: &OwnedFd,
    start: Start,
    signed: u64,
    mut each: impl FnMut(Line, Digest, Position) -> Result<(), E>,
) -> Result<End, E> {
    let mut end = End { segment: start.segment.saturating_sub(1), ..End::default() };
    let (mut seq, mut prev, mut bytes) = (start.seq, start.digest, Vec::new());
    while let Some(mut segment) = Segment::open(dir, end.segment + 1)? {
        // A segment is made before its first line is written: a crash may have come in between.
        if segment.bytes()? == 0 {
            return Ok(end);
        }
        if end.torn > 0 {
            let what = "it ends within a line, and another segment follows".to_owned();
            return Err(LedgerError::Damaged { segment: segment.name, line: 0, what }.into());
        }
        end = End { segment: end.segment + 1, ..End::default() };
        while segment.next_line(&mut bytes)? {
            if !bytes.ends_with(b"\n") && bytes.len() > LINE_BYTES_MAX && seq < signed {
                return Err(segment.damaged("it is too long".to_owned()).into());
            }
            let line = match Line::decode(&bytes) {
                Ok(line) if bytes.ends_with(b"\n") => line,
                Err(LineError::Newer(what)) if bytes.ends_with(b"\n") => {
                    return Err(segment.newer(what).into());
                }
                Err(LineError::Malformed(what)) if bytes.ends_with(b"\n") && seq < signed => {
                    return Err(segment.damaged(what).into());
                }
                Ok(_) | Err(_) => {
                    end.torn = segment.bytes()?.saturating_sub(end.bytes);
                    break;
                }
            };
            let follows = line.prev == prev && line.seq == seq + 1;
            end.bare = follows && seq >= signed && line.event.needs_signature();
            if (!follows && seq >= signed) || end.bare {
                end.torn = segment.bytes()?.saturating_sub(end.bytes);
                break;
            }
            if !follows {
                let what = if line.prev == prev {
                    format!("it is number {}, not {}", line.seq, seq + 1)
                } else {
                    "it does not name the line before it".to_owned()
                };
                return Err(segment.damaged(what).into());
            }
            (seq, prev) = (line.seq, Digest::of(&bytes));
            end.bytes += bytes.len() as u64;
            end.unsigned += if seq > signed { bytes.len() as u64 } else { 0 };
            each(line, prev, Position { segment: end.segment, line: segment.line })?;
        }
    }
    Ok(end)
}

/// One segment that is being read.
struct Segment {
    name: String,
    reader: BufReader<std::fs::File>,
    /// Number of the line that was read last, from 1.
    line: u64,
}

impl Segment {
    /// Opens a segment; `None` when there is none of that number.
    fn open(dir: &OwnedFd, number: u64) -> Result<Option<Self>, LedgerError> {
        let name = layout::segment(number);
        match durable::open_file(dir, name.as_bytes()) {
            Ok(file) => {
                let reader = BufReader::with_capacity(1 << 18, file);
                Ok(Some(Self { name, reader, line: 0 }))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(LedgerError::Disk { segment: name, source }),
        }
    }

    /// Reads the next line with its newline into `bytes`; without one where the file ends
    /// within it, or it is longer than a line can be. `false` at the end.
    fn next_line(&mut self, bytes: &mut Vec<u8>) -> Result<bool, LedgerError> {
        bytes.clear();
        match (&mut self.reader).take(LINE_BYTES_MAX as u64 + 1).read_until(b'\n', bytes) {
            Ok(0) => Ok(false),
            Ok(_) => {
                self.line += 1;
                Ok(true)
            }
            Err(source) => Err(LedgerError::Disk { segment: self.name.clone(), source }),
        }
    }

    /// How long the file is.
    fn bytes(&self) -> Result<u64, LedgerError> {
        let metadata = self.reader.get_ref().metadata();
        match metadata {
            Ok(metadata) => Ok(metadata.len()),
            Err(source) => Err(LedgerError::Disk { segment: self.name.clone(), source }),
        }
    }

    fn damaged(&self, what: String) -> LedgerError {
        LedgerError::Damaged { segment: self.name.clone(), line: self.line, what }
    }

    fn newer(&self, what: String) -> LedgerError {
        LedgerError::Newer { segment: self.name.clone(), line: self.line, what }
    }
}
