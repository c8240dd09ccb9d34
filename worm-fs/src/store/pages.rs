//! The ledger as it stands on the disk, page by page, for those who read along. Nothing is
//! checked here: that is for `worm verify`, and a damaged ledger must be readable, too.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use serde::Deserialize;
use serde::Serialize;

use super::durable;
use super::layout;
use crate::record::LINE_BYTES_MAX;

/// How much of the ledger one page holds at most, in bytes; more than one line, always.
pub const PAGE_BYTES_MAX: usize = 1 << 20;
const _: () = assert!(PAGE_BYTES_MAX > LINE_BYTES_MAX);

/// Where to go on reading.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct Position {
    /// Number of the segment, from 1.
    pub segment: u64,
    /// Bytes from its beginning.
    pub offset: u64,
}

impl Default for Position {
    fn default() -> Self {
        Self { segment: 1, offset: 0 }
    }
}

/// Some lines.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct Page {
    /// Whole lines without their newlines; what is not UTF-8 is replaced.
    pub lines: Vec<String>,
    /// Where the next page begins.
    pub next: Position,
}

/// A ledger to read along.
#[derive(Debug)]
pub struct Pages(OwnedFd);

impl Pages {
    /// The ledger of the store in a directory, whatever state the rest of it is in.
    ///
    /// # Errors
    /// When there is none.
    pub fn open(store: &Path) -> io::Result<Self> {
        let root: OwnedFd = File::open(store)?.into();
        durable::open_directory(&root, layout::LEDGER.as_bytes()).map(Self)
    }

    /// The whole lines that begin at a position. No lines: there are none yet.
    ///
    /// # Errors
    /// What the disk says, or that a line is longer than any of ours.
    pub fn page(&self, from: Position) -> io::Result<Page> {
        page(&self.0, from)
    }
}

/// See [`Pages::page`].
pub(crate) fn page(ledger: &OwnedFd, from: Position) -> io::Result<Page> {
    let mut from = from;
    loop {
        let name = layout::segment(from.segment);
        let file = match durable::open_file(ledger, name.as_bytes()) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Ok(Page { lines: Vec::new(), next: from });
            }
            Err(error) => return Err(error),
        };
        let mut bytes = vec![0; PAGE_BYTES_MAX];
        let length = fill(&file, &mut bytes, from.offset)?;
        let whole = bytes[..length].iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        if whole > 0 {
            let lines = bytes[..whole - 1].split(|byte| *byte == b'\n');
            let lines = lines.map(|line| String::from_utf8_lossy(line).into_owned()).collect();
            let next = Position { offset: from.offset.saturating_add(whole as u64), ..from };
            return Ok(Page { lines, next });
        }
        if length == bytes.len() {
            return Err(io::Error::other(format!("{name}: a line is too long")));
        }
        // At the end of this segment. The next one begins where that is final.
        let next = from.segment.saturating_add(1);
        if durable::open_file(ledger, layout::segment(next).as_bytes()).is_err() {
            return Ok(Page { lines: Vec::new(), next: from });
        }
        from = Position { segment: next, offset: 0 };
    }
}

/// Reads until the buffer is full or the file ends.
fn fill(file: &File, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match file.read_at(&mut buffer[filled..], offset.saturating_add(filled as u64))? {
            0 => break,
            bytes => filled += bytes,
        }
    }
    Ok(filled)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_go_through_all_segments_and_wait_at_an_unfinished_line() {
        let store = tempfile::tempdir().unwrap();
        let ledger = store.path().join(layout::LEDGER);
        std::fs::create_dir(&ledger).unwrap();
        let put = |segment: u64, text: &str| {
            use std::io::Write as _;
            let path = ledger.join(layout::segment(segment));
            let mut file = File::options().create(true).append(true).open(path).unwrap();
            file.write_all(text.as_bytes()).unwrap();
        };
        let pages = Pages::open(store.path()).unwrap();
        let at = |segment, offset| Position { segment, offset };
        let check = |from, lines: &[&str], next| {
            assert_eq!(
                pages.page(from).unwrap(),
                Page { lines: lines.iter().map(|l| (*l).to_owned()).collect(), next }
            );
        };
        check(at(1, 0), &[], at(1, 0));
        put(1, "one\ntwo\nthr");
        check(at(1, 0), &["one", "two"], at(1, 8));
        check(at(1, 8), &[], at(1, 8));
        put(1, "ee\n");
        check(at(1, 8), &["three"], at(1, 14));
        check(at(1, 14), &[], at(1, 14));
        put(2, "four\n");
        check(at(1, 14), &["four"], at(2, 5));
        check(at(9, 0), &[], at(9, 0));
        // A line that no ledger has ends the reading, and not the memory.
        put(3, &"x".repeat(PAGE_BYTES_MAX));
        assert!(pages.page(at(3, 0)).is_err());
    }

    #[test]
    fn a_page_is_bounded() {
        let store = tempfile::tempdir().unwrap();
        let ledger = store.path().join(layout::LEDGER);
        std::fs::create_dir(&ledger).unwrap();
        let lines: String = (0..PAGE_BYTES_MAX / 100).map(|n| format!("{n:0150}\n")).collect();
        let mut file = File::create(ledger.join(layout::segment(1))).unwrap();
        std::io::Write::write_all(&mut file, lines.as_bytes()).unwrap();
        let pages = Pages::open(store.path()).unwrap();
        let first = pages.page(Position::default()).unwrap();
        let second = pages.page(first.next).unwrap();
        assert_eq!(first.lines.len() + second.lines.len(), PAGE_BYTES_MAX / 100);
        assert_eq!(second.lines[0], format!("{:0150}", first.lines.len()));
    }
}
