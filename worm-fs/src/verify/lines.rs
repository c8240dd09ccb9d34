//! I/O: every line of a ledger as it stands on the disk, whatever is wrong with it.

use std::io;
use std::io::BufRead as _;
use std::io::BufReader;
use std::io::Read as _;
use std::os::fd::OwnedFd;

use super::Kind;
use super::Problem;
use crate::record::Digest;
use crate::record::LINE_BYTES_MAX;
use crate::record::Line;
use crate::record::LineError;
use crate::store::durable;
use crate::store::files;
use crate::store::layout;

/// Something that ends with a newline, or with its segment.
pub(super) struct RawLine {
    /// `ledger/000001.jsonl line 7`
    pub(super) place: String,
    /// SHA-256 of its bytes, the newline included.
    pub(super) digest: Digest,
    /// Its number and the digest of the line before it, as it says.
    pub(super) says: Option<(u64, Digest)>,
    /// What it says.
    pub(super) line: Result<Line, LineError>,
    /// It ends its segment without a newline: a crash may leave that behind the newest line.
    pub(super) torn: bool,
}

/// Reads all segments in order. What is wrong with the files themselves is added to `problems`.
///
/// # Errors
/// What the disk says.
pub(super) fn read(
    dir: &OwnedFd,
    problems: &mut Vec<Problem>,
    mut each: impl FnMut(RawLine),
) -> io::Result<()> {
    let mut next = 1;
    for number in segments(dir, problems)? {
        for missing in next..number {
            let path = format!("ledger/{}", layout::segment(missing));
            problems.push(Problem { path, kind: Kind::Missing, what: "it is missing".into() });
        }
        next = number + 1;
        read_segment(dir, number, &mut each)?;
    }
    Ok(())
}

/// The numbers of the segments that are there. Kept torn tails are no segments.
fn segments(dir: &OwnedFd, problems: &mut Vec<Problem>) -> io::Result<Vec<u64>> {
    let mut numbers = Vec::new();
    for (name, found) in files::scan(dir)? {
        let text = String::from_utf8_lossy(&name).into_owned();
        let number = text.strip_suffix(".jsonl").and_then(|number| number.parse().ok());
        match number.filter(|number| layout::segment(*number) == text) {
            Some(number) if matches!(found, files::Found::File(_)) => numbers.push(number),
            None if text.contains(".jsonl.torn-") => {}
            Some(_) | None => {
                let path = format!("ledger/{}", crate::policy::name::encode(&name));
                let what = "it was added: this file system makes nothing of that kind".into();
                problems.push(Problem { path, kind: Kind::Added, what });
            }
        }
    }
    numbers.sort_unstable();
    Ok(numbers)
}

fn read_segment(dir: &OwnedFd, number: u64, each: &mut impl FnMut(RawLine)) -> io::Result<()> {
    let name = layout::segment(number);
    let mut reader = BufReader::with_capacity(1 << 18, durable::open_file(dir, name.as_bytes())?);
    let mut bytes = Vec::new();
    for number in 1_u64.. {
        bytes.clear();
        (&mut reader).take(LINE_BYTES_MAX as u64 + 1).read_until(b'\n', &mut bytes)?;
        if bytes.is_empty() {
            break;
        }
        let whole = bytes.ends_with(b"\n");
        let too_long = bytes.len() > LINE_BYTES_MAX;
        if too_long && !whole {
            skip_line(&mut reader)?;
        }
        let line = match Line::decode(&bytes) {
            _ if too_long => Err(LineError::Malformed("it is too long".into())),
            _ if !whole => Err(LineError::Malformed("it ends without a newline".into())),
            decoded => decoded,
        };
        let (place, digest) = (format!("ledger/{name} line {number}"), Digest::of(&bytes));
        let says = match &line {
            Ok(line) => Some((line.seq, line.prev)),
            Err(LineError::Newer(_)) => position(&bytes),
            Err(LineError::Malformed(_)) => None,
        };
        each(RawLine { place, digest, says, line, torn: !whole && !too_long });
    }
    Ok(())
}

/// What every version says in the same way.
fn position(bytes: &[u8]) -> Option<(u64, Digest)> {
    #[derive(serde::Deserialize)]
    struct Position {
        seq: u64,
        prev: Digest,
    }
    let position: Position = serde_json::from_slice(bytes).ok()?;
    Some((position.seq, position.prev))
}

/// Passes over what is left of a line, without keeping it.
fn skip_line(reader: &mut impl io::BufRead) -> io::Result<()> {
    loop {
        let available = reader.fill_buf()?;
        if available.is_empty() {
            return Ok(());
        }
        let newline = available.iter().position(|byte| *byte == b'\n');
        let used = newline.map_or(available.len(), |at| at + 1);
        reader.consume(used);
        if newline.is_some() {
            return Ok(());
        }
    }
}
