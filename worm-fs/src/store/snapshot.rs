//! Snapshots on disk: `snapshot/000001` is what was alive after the last line of segment 1.

use std::io;
use std::io::BufRead as _;
use std::io::BufReader;
use std::io::BufWriter;
use std::io::Read as _;
use std::io::Write as _;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt as _;

use rustix::fs::Advice;
use rustix::fs::AtFlags;
use rustix::fs::Dir;
use rustix::fs::Mode;
use rustix::fs::OFlags;
use rustix::io::Errno;
use sha2::Digest as _;
use sha2::Sha256;

use super::durable;
use super::layout;
use crate::catalog::Catalog;
use crate::catalog::Decoder;
use crate::record::Digest;
use crate::record::LINE_BYTES_MAX;

/// The numbers of the snapshots that are there, newest first.
pub(crate) fn numbers(dir: &OwnedFd) -> io::Result<Vec<u64>> {
    let mut numbers = Vec::new();
    for entry in Dir::read_from(dir)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy();
        let number = name.parse().ok().filter(|number| layout::snapshot(*number) == name);
        numbers.extend(number);
    }
    numbers.sort_by(|a: &u64, b| b.cmp(a));
    Ok(numbers)
}

/// A snapshot, with what its record must say of it.
#[derive(Debug)]
pub(crate) struct Read {
    pub(crate) catalog: Catalog,
    pub(crate) sha256: Digest,
    pub(crate) bytes: u64,
}

/// Reads a snapshot. Whether it can be believed is for its record to say.
///
/// # Errors
/// One sentence that says what is wrong with it.
pub(crate) fn read(dir: &OwnedFd, number: u64) -> Result<Read, String> {
    let said = |error: io::Error| error.to_string();
    let file = durable::open_file(dir, layout::snapshot(number).as_bytes()).map_err(said)?;
    let mut reader = BufReader::with_capacity(1 << 18, file);
    let (mut decoder, mut hasher) = (Decoder::default(), Sha256::new());
    let (mut line, mut bytes) = (Vec::new(), 0);
    loop {
        line.clear();
        let part = (&mut reader).take(LINE_BYTES_MAX as u64).read_until(b'\n', &mut line);
        if part.map_err(said)? == 0 {
            break;
        }
        hasher.update(&line);
        bytes += line.len() as u64;
        decoder.line(&line)?;
    }
    let (catalog, sha256) = (decoder.finish()?, Digest(hasher.finalize().into()));
    Ok(Read { catalog, sha256, bytes })
}

/// Digest and length of a snapshot as the disk has it, not the memory.
///
/// # Errors
/// What the disk says.
pub(crate) fn digest_on_disk(dir: &OwnedFd, number: u64) -> io::Result<(Digest, u64)> {
    let file = durable::open_file(dir, layout::snapshot(number).as_bytes())?;
    rustix::fs::fadvise(&file, 0, None, Advice::DontNeed)?;
    crate::digest::of_reader(|buffer, offset| file.read_at(buffer, offset))
}

/// Removes the snapshots with a smaller number, and the beginnings of those that were never
/// finished: to be called when none is being written.
///
/// # Errors
/// What the disk says.
pub(crate) fn remove_before(dir: &OwnedFd, number: u64) -> io::Result<()> {
    let older = numbers(dir)?.into_iter().filter(|older| *older < number);
    let begun = (1..=number).map(|begun| new_name(&layout::snapshot(begun)));
    for name in older.map(layout::snapshot).chain(begun) {
        match rustix::fs::unlinkat(dir, &name, AtFlags::empty()) {
            Ok(()) => tracing::info!(name, "a snapshot that no start needs was removed"),
            Err(Errno::NOENT) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
    Ok(())
}

/// Under which name a snapshot is written.
fn new_name(name: &str) -> String {
    format!("{name}.new")
}

/// Digest and length of the snapshot that a catalog gives.
///
/// # Errors
/// When it cannot be expressed.
pub(crate) fn digest(catalog: &Catalog) -> Result<(Digest, u64), String> {
    let (mut hasher, mut bytes) = (Sha256::new(), 0);
    for line in catalog.encode() {
        let line = line?;
        hasher.update(&line);
        bytes += line.len() as u64;
    }
    Ok((Digest(hasher.finalize().into()), bytes))
}

/// Writes a snapshot and puts it in its place, for good. One that stands there without a record
/// that it agrees with is worth nothing, and is replaced. Gives its digest and length, or `None`
/// when `ending` said so in between.
///
/// # Errors
/// What the disk says.
pub(crate) fn write(
    dir: &OwnedFd,
    number: u64,
    catalog: &Catalog,
    ending: impl Fn() -> bool,
) -> io::Result<Option<(Digest, u64)>> {
    let name = layout::snapshot(number);
    let new = new_name(&name);
    let flags =
        OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file: std::fs::File =
        rustix::fs::openat(dir, &new, flags, Mode::RUSR | Mode::WUSR | Mode::RGRP)?.into();
    let mut writer = BufWriter::with_capacity(1 << 18, file);
    let (mut hasher, mut bytes) = (Sha256::new(), 0);
    for line in catalog.encode() {
        if ending() {
            return Ok(None);
        }
        let line = line.map_err(io::Error::other)?;
        hasher.update(&line);
        bytes += line.len() as u64;
        writer.write_all(&line)?;
    }
    writer.into_inner().map_err(io::IntoInnerError::into_error)?.sync_all()?;
    rustix::fs::renameat(dir, &new, dir, &name)?;
    durable::sync_directory(dir)?;
    Ok(Some((Digest(hasher.finalize().into()), bytes)))
}
