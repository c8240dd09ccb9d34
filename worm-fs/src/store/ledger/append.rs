//! Appending to the ledger: the newest segment, the room ahead of it, the next segment.

use std::fs::File;
use std::io;
use std::io::Write as _;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt as _;

use rustix::fs::FallocateFlags;
use rustix::fs::Mode;
use rustix::fs::OFlags;

use super::End;
use crate::store::durable;
use crate::store::layout;

/// Room that is reserved on the disk ahead of the ledger's end, so that a store full of data
/// can still seal, expire and note what happens.
const RESERVE_BYTES: u64 = 4 << 20;
/// When less than this of the reserve is left, it is filled up.
const RESERVE_BYTES_LOW: u64 = 1 << 20;

/// The ledger's newest segment, open for appending.
#[derive(Debug)]
pub(crate) struct Appender {
    dir: OwnedFd,
    segment: u64,
    file: File,
    bytes: u64,
    reserved: u64,
}

impl Appender {
    /// Opens the newest segment where reading ended. What follows the last whole line is copied
    /// aside and cut off.
    pub(crate) fn open(dir: &OwnedFd, end: &End) -> io::Result<Self> {
        let segment = end.segment.max(1);
        let name = layout::segment(segment);
        let file = open_segment(dir, &name)?;
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
        let dir = dir.try_clone()?;
        Ok(Self { dir, segment, file, bytes: end.bytes, reserved: end.bytes })
    }

    /// Number of the newest segment.
    pub(crate) fn segment(&self) -> u64 {
        self.segment
    }

    /// Its length in bytes.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Goes on in a new segment. When it returns `Ok` that is there for good, with its own room
    /// reserved; after an error the old one goes on. What an earlier attempt left is empty: no
    /// line is written before the name of its segment lasts.
    pub(crate) fn begin_next(&mut self) -> io::Result<()> {
        let name = layout::segment(self.segment + 1);
        let file = open_segment(&self.dir, &name)?;
        if file.metadata()?.len() > 0 {
            return Err(io::Error::other(format!("ledger/{name} is there and not empty")));
        }
        reserve_room(&file, 0)?;
        file.sync_all()?;
        durable::sync_directory(&self.dir)?;
        // The old one needs no more room. That it keeps it would be a waste, no more.
        if let Err(error) = self.file.set_len(self.bytes) {
            tracing::debug!(%error, "the room behind an ended segment stays reserved");
        }
        (self.file, self.segment) = (file, self.segment + 1);
        (self.bytes, self.reserved) = (0, RESERVE_BYTES);
        Ok(())
    }

    /// Fills the reserve up. It may fail on a full disk; then no new file is accepted, but what
    /// is left of the reserve still takes seals.
    pub(crate) fn reserve(&mut self) -> io::Result<()> {
        if self.reserved.saturating_sub(self.bytes) >= RESERVE_BYTES_LOW {
            return Ok(());
        }
        reserve_room(&self.file, self.bytes)?;
        self.reserved = self.bytes + RESERVE_BYTES;
        Ok(())
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

/// Opens a segment to append to it; one that is not there is made.
fn open_segment(dir: &OwnedFd, name: &str) -> io::Result<File> {
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(rustix::fs::openat(dir, name, flags, Mode::RUSR | Mode::WUSR | Mode::RGRP)?.into())
}

/// Takes room behind `bytes` of a segment, where the file system can do that.
fn reserve_room(file: &File, bytes: u64) -> io::Result<()> {
    match rustix::fs::fallocate(file, FallocateFlags::KEEP_SIZE, bytes, RESERVE_BYTES) {
        Ok(()) | Err(rustix::io::Errno::OPNOTSUPP) => Ok(()),
        Err(errno) => Err(errno.into()),
    }
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
