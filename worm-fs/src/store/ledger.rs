//! The ledger on disk: read it line by line, append to it, know where it ends.

use std::fs::File;
use std::io;
use std::io::BufRead as _;
use std::io::BufReader;
use std::io::Read as _;
use std::io::Write as _;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt as _;

use rustix::fs::FallocateFlags;
use rustix::fs::Mode;
use rustix::fs::OFlags;

use super::durable;
use super::layout;
use crate::record::Digest;
use crate::record::LINE_BYTES_MAX;
use crate::record::Line;
use crate::record::LineError;

/// Room that is reserved on the disk ahead of the ledger's end, so that a store full of data
/// can still seal, expire and note what happens.
const RESERVE_BYTES: u64 = 4 << 20;
/// When less than this of the reserve is left, it is filled up.
const RESERVE_BYTES_LOW: u64 = 1 << 20;

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

/// Where reading a ledger ended.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct End {
    /// The newest segment.
    pub segment: u64,
    /// Length of its whole lines in bytes.
    pub bytes: u64,
    /// The last so many of them are of lines that the signed head does not cover.
    pub unsigned: u64,
    /// Bytes after them: the beginning of a line that was never finished.
    pub torn: u64,
}

/// Reads all lines in order and hands each, with its digest, to `each`. Checks the numbers and
/// the chain. `signed` is the number of the newest line that the signed head covers: what cannot
/// be read after it was never acknowledged, because a power cut may keep the length of a file
/// and lose some of its pages; it counts as torn.
///
/// # Errors
/// [`LedgerError`], or what `each` returns.
pub fn read<E: From<LedgerError>>(
    dir: &OwnedFd,
    signed: u64,
    mut each: impl FnMut(Line, Digest) -> Result<(), E>,
) -> Result<End, E> {
    let (mut end, mut seq, mut prev) = (End::default(), 0, Digest::ZERO);
    loop {
        let segment = layout::segment(end.segment + 1);
        let file = match durable::open_file(dir, segment.as_bytes()) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(end),
            Err(source) => return Err(LedgerError::Disk { segment, source }.into()),
        };
        if end.torn > 0 {
            let what = "it ends within a line, and another segment follows".to_owned();
            return Err(LedgerError::Damaged { segment, line: 0, what }.into());
        }
        end = End { segment: end.segment + 1, bytes: 0, unsigned: 0, torn: 0 };
        let mut reader = BufReader::with_capacity(1 << 18, file);
        let mut number = 0;
        let mut bytes = Vec::new();
        loop {
            bytes.clear();
            let read = (&mut reader).take(LINE_BYTES_MAX as u64 + 1).read_until(b'\n', &mut bytes);
            let length = read
                .map_err(|source| LedgerError::Disk { segment: segment.clone(), source })?
                as u64;
            if length == 0 {
                break;
            }
            number += 1;
            let damaged = |what: String| LedgerError::Damaged {
                segment: segment.clone(),
                line: number,
                what,
            };
            let unreadable = |bytes: &[u8]| {
                let line = Line::decode(bytes);
                bytes.last() != Some(&b'\n')
                    || matches!(line, Err(LineError::Malformed(_)))
                    || line.is_ok_and(|line| line.prev != prev || line.seq != seq + 1)
            };
            if seq >= signed && unreadable(&bytes) {
                let whole = reader.get_ref().metadata();
                let whole = whole
                    .map_err(|source| LedgerError::Disk { segment: segment.clone(), source })?;
                end.torn = whole.len().saturating_sub(end.bytes);
                break;
            }
            if bytes.last() != Some(&b'\n') {
                if length > LINE_BYTES_MAX as u64 {
                    return Err(damaged("it is too long".to_owned()).into());
                }
                end.torn = length;
                break;
            }
            let line = Line::decode(&bytes).map_err(|error| match error {
                LineError::Newer(what) => {
                    LedgerError::Newer { segment: segment.clone(), line: number, what }
                }
                LineError::Malformed(what) => damaged(what),
            })?;
            if line.prev != prev {
                return Err(damaged("it does not name the line before it".to_owned()).into());
            }
            if line.seq != seq + 1 {
                return Err(damaged(format!("it is number {}, not {}", line.seq, seq + 1)).into());
            }
            (seq, prev) = (line.seq, Digest::of(&bytes));
            end.bytes += length;
            end.unsigned += if seq > signed { length } else { 0 };
            each(line, prev)?;
        }
    }
}

/// The ledger's newest segment, open for appending.
#[derive(Debug)]
pub(crate) struct Appender {
    file: File,
    bytes: u64,
    reserved: u64,
}

impl Appender {
    /// Opens the newest segment where reading ended. What follows the last whole line is copied
    /// aside and cut off.
    pub(crate) fn open(dir: &OwnedFd, end: &End) -> io::Result<Self> {
        let name = layout::segment(end.segment.max(1));
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file: File =
            rustix::fs::openat(dir, &name, flags, Mode::RUSR | Mode::WUSR | Mode::RGRP)?.into();
        if end.torn > 0 {
            let mut torn = vec![0; usize::try_from(end.torn).map_err(io::Error::other)?];
            file.read_exact_at(&mut torn, end.bytes)?;
            keep_aside(dir, &name, end.bytes, &torn)?;
            file.set_len(end.bytes)?;
        }
        // Nobody knows whether these were synced. Where a sync failed, the kernel takes them for
        // written and no later sync would write them: so they are written again.
        let mut unsigned = vec![0; usize::try_from(end.unsigned).map_err(io::Error::other)?];
        let offset = end.bytes - end.unsigned;
        file.read_exact_at(&mut unsigned, offset)?;
        file.write_all_at(&unsigned, offset)?;
        file.sync_data()?;
        durable::sync_directory(dir)?;
        Ok(Self { file, bytes: end.bytes, reserved: end.bytes })
    }

    /// Fills the reserve up. It may fail on a full disk; then no new file is accepted, but what
    /// is left of the reserve still takes seals.
    pub(crate) fn reserve(&mut self) -> io::Result<()> {
        if self.reserved.saturating_sub(self.bytes) >= RESERVE_BYTES_LOW {
            return Ok(());
        }
        let keep = FallocateFlags::KEEP_SIZE;
        match rustix::fs::fallocate(&self.file, keep, self.bytes, RESERVE_BYTES) {
            Ok(()) | Err(rustix::io::Errno::OPNOTSUPP) => {
                self.reserved = self.bytes + RESERVE_BYTES;
                Ok(())
            }
            Err(errno) => Err(errno.into()),
        }
    }

    /// Appends whole lines and syncs them. After an error nothing of them is in the ledger, or
    /// the second value says that this could not be made sure and the store must stop.
    pub(crate) fn append(&mut self, lines: &[u8]) -> Result<(), (io::Error, Trust)> {
        let written = self.file.write_all_at(lines, self.bytes);
        match written {
            // A sync that failed may have lost what it should have synced: never try again.
            Ok(()) => self.file.sync_data().map_err(|error| (error, Trust::Lost))?,
            Err(error) => {
                // Cutting the file gives the room ahead of its end back, too.
                self.reserved = self.bytes;
                let undone = self.file.set_len(self.bytes).and_then(|()| self.file.sync_data());
                return Err((error, if undone.is_ok() { Trust::Kept } else { Trust::Lost }));
            }
        }
        self.bytes += lines.len() as u64;
        Ok(())
    }
}

/// Whether the ledger on disk is still known after an error.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Trust {
    /// It is as it was before.
    Kept,
    /// Nobody knows.
    Lost,
}

/// Keeps cut-off bytes beside the segment, for a person to look at.
fn keep_aside(dir: &OwnedFd, segment: &str, offset: u64, bytes: &[u8]) -> io::Result<()> {
    for attempt in 0..1000 {
        let name = format!("{segment}.torn-{offset}-{attempt}");
        match durable::create_new(dir, name.as_bytes()) {
            Ok(mut file) => {
                file.write_all(bytes)?;
                return file.sync_data();
            }
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
    }
    Err(io::Error::other("too many torn tails are kept beside the ledger"))
}
