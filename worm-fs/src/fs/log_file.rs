//! One log: a file of an append-only class. Each write goes to its end, whole or not at all.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;
use std::sync::Weak;
use std::sync::atomic::AtomicI64;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;

use parking_lot::Mutex;
use rustix::io::Errno;
use sha2::Digest as _;
use sha2::Sha256;

use super::meter::Allowance;
use crate::error::Error;
use crate::error::Result;
use crate::policy::Refusal;
use crate::record::Digest;

/// From so many bytes on that the ledger does not cover, a record is due.
pub(crate) const UNCOVERED_BYTES_MAX: u64 = 1 << 20;
/// So long after the last record the next one is due, if there is anything to cover.
pub(crate) const UNCOVERED_MS_MAX: i64 = 10_000;
/// How much is read at a time.
const BUFFER_BYTES: usize = 1 << 20;

/// A log, open or not.
#[derive(Debug)]
pub(crate) struct LogFile {
    pub(crate) id: u64,
    /// Its length. A write counts when it is whole: readers do not see one that is not.
    bytes: AtomicU64,
    modified_ns: AtomicI64,
    /// The backing file, while anybody has it open.
    file: Mutex<Weak<File>>,
    growth: Mutex<Growth>,
    /// Held by whoever makes a record: one after the other.
    pub(crate) recording: Mutex<()>,
}

#[derive(Debug)]
struct Growth {
    /// The digest of all bytes; absent until this daemon has read those that it found.
    hasher: Option<Sha256>,
    /// Bytes that the daemon found at its start.
    found: u64,
    /// Bytes that the ledger covers.
    covered: u64,
    /// Bytes that are on the disk for certain.
    synced: u64,
    /// When the last record was made, on the uptime clock.
    recorded_raw_ms: Option<i64>,
    /// The daemon found it ending within a line.
    torn: bool,
    closed: Option<Closed>,
    /// What the class may still have; absent until somebody opens it to append.
    allowance: Option<Allowance>,
}

/// Why a log takes no more bytes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Closed {
    /// The disk failed, or its bytes are not those that were recorded.
    Broken(Errno),
    /// It is being removed.
    Leaving,
}

impl LogFile {
    /// A log of `bytes`, of which the ledger covers `covered`.
    pub(crate) fn new(id: u64, bytes: u64, covered: u64, modified_ns: i64) -> Self {
        let growth = Growth {
            hasher: (bytes == 0).then(Sha256::new),
            found: bytes,
            covered,
            synced: covered,
            recorded_raw_ms: None,
            torn: false,
            closed: None,
            allowance: None,
        };
        Self {
            id,
            bytes: AtomicU64::new(bytes),
            modified_ns: AtomicI64::new(modified_ns),
            file: Mutex::default(),
            growth: Mutex::new(growth),
            recording: Mutex::default(),
        }
    }

    /// Its length in bytes.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Acquire)
    }

    /// When bytes came last, nanoseconds since 1970.
    pub(crate) fn modified_ns(&self) -> i64 {
        self.modified_ns.load(Ordering::Acquire)
    }

    /// The backing file, by `open` if nobody has it open.
    pub(crate) fn file(
        &self,
        open: impl FnOnce() -> std::io::Result<File>,
    ) -> std::io::Result<Arc<File>> {
        let mut file = self.file.lock();
        if let Some(file) = file.upgrade() {
            return Ok(file);
        }
        let opened = Arc::new(open()?);
        *file = Arc::downgrade(&opened);
        Ok(opened)
    }

    /// Reads what the daemon found at its start, once, and compares it with the ledger, which
    /// knows the digest of the first `covered` bytes. Takes as long as that takes.
    ///
    /// # Errors
    /// [`Error::Corrupt`] when they differ; from then on the log takes no more bytes.
    pub(crate) fn prove(&self, file: &File, covered: u64, sha256: Digest) -> Result<()> {
        let mut growth = self.growth.lock();
        if growth.hasher.is_some() {
            return Ok(());
        }
        growth.usable()?;
        match read(file, covered, sha256, self.bytes()) {
            Ok((hasher, torn)) => {
                (growth.hasher, growth.torn) = (Some(hasher), torn);
                Ok(())
            }
            Err(error) => {
                growth.closed = Some(Closed::Broken(error.errno()));
                Err(error)
            }
        }
    }

    /// Lets it grow: what comes from here on is taken from the allowance until the ledger covers it.
    pub(crate) fn allow(&self, allowance: impl FnOnce(u64) -> Allowance) {
        let mut growth = self.growth.lock();
        let bytes = self.bytes();
        growth.allowance.get_or_insert_with(|| allowance(bytes));
    }

    /// Adds bytes at the end of a log that was proven: all of them, or none. Behind half a line that a crash left, they
    /// begin on a new one.
    pub(crate) fn append(&self, file: &File, bytes: &[u8], now_ns: i64) -> Result<usize> {
        let mut growth = self.growth.lock();
        growth.usable()?;
        if bytes.is_empty() {
            return Ok(0);
        }
        let end = self.bytes();
        let newline = growth.torn && !bytes.starts_with(b"\n");
        let whole = if newline { [b"\n", bytes].concat() } else { Vec::new() };
        let written = if newline { &whole } else { bytes };
        let new_end = end
            .checked_add(written.len() as u64)
            .filter(|end| i64::try_from(*end).is_ok())
            .ok_or_else(|| Error::store("append to the log")(Errno::FBIG))?;
        let taken = match &mut growth.allowance {
            Some(allowance) => allowance.take(written.len() as u64, new_end)?,
            None => 0,
        };
        if let Err(error) = file.write_all_at(written, end) {
            if let Some(allowance) = &mut growth.allowance {
                allowance.give_back(taken);
            }
            // What came of it is taken back. If not even that works, nobody may write behind it.
            if let Err(error) = file.set_len(end) {
                growth.closed = Some(Closed::Broken(errno(&error)));
            }
            return Err(Error::store("append to the log")(error));
        }
        if let Some(hasher) = &mut growth.hasher {
            hasher.update(written);
        }
        growth.torn = false;
        self.modified_ns.store(now_ns, Ordering::Release);
        self.bytes.store(new_end, Ordering::Release);
        Ok(bytes.len())
    }

    /// Makes all bytes so far last.
    ///
    /// # Errors
    /// What the disk says; from then on the log takes no more bytes.
    pub(crate) fn sync(&self, file: &File) -> Result<()> {
        let bytes = {
            let growth = self.growth.lock();
            let bytes = self.bytes();
            if growth.synced == bytes {
                return Ok(());
            }
            growth.usable()?;
            bytes
        };
        let synced = file.sync_data();
        let mut growth = self.growth.lock();
        match synced {
            Ok(()) => growth.synced = growth.synced.max(bytes),
            Err(error) => {
                growth.closed = Some(Closed::Broken(errno(&error)));
                return Err(Error::store("sync the log")(error));
            }
        }
        Ok(())
    }

    /// Whether bytes wait for a sync.
    pub(crate) fn has_unsynced(&self) -> bool {
        self.growth.lock().synced < self.bytes()
    }

    /// Whether a record is due. Somebody at work on the log is not waited for.
    pub(crate) fn is_due(&self, raw_ms: i64) -> bool {
        let Some(growth) = self.growth.try_lock() else { return false };
        let uncovered = self.bytes().saturating_sub(growth.covered);
        let long_ago = growth
            .recorded_raw_ms
            .is_none_or(|recorded_ms| raw_ms.saturating_sub(recorded_ms) >= UNCOVERED_MS_MAX);
        !growth.is_broken() && (uncovered >= UNCOVERED_BYTES_MAX || (uncovered > 0 && long_ago))
    }

    /// Whether the disk failed, or its bytes are not those that were recorded.
    pub(crate) fn is_broken(&self) -> bool {
        self.growth.lock().is_broken()
    }

    /// Length and digest of all bytes so far, if the ledger does not cover them.
    pub(crate) fn uncovered(&self) -> Option<(u64, Digest)> {
        let growth = self.growth.lock();
        let bytes = self.bytes();
        let hasher = growth.hasher.clone().filter(|_| bytes > growth.covered)?;
        Some((bytes, Digest(hasher.finalize().into())))
    }

    /// Notes that the ledger covers the first `bytes`.
    pub(crate) fn recorded(&self, bytes: u64, raw_ms: i64) {
        let mut growth = self.growth.lock();
        let more = bytes.saturating_sub(growth.covered.max(growth.found));
        if let Some(allowance) = &mut growth.allowance {
            allowance.is_covered(more);
        }
        growth.covered = growth.covered.max(bytes);
        growth.recorded_raw_ms = Some(raw_ms);
    }

    /// Closes it so that it can be removed, unless the ledger does not cover all of it yet.
    pub(crate) fn leave(&self) -> bool {
        let mut growth = self.growth.lock();
        let covered = growth.covered == self.bytes();
        if covered && growth.closed.is_none() {
            growth.closed = Some(Closed::Leaving);
        }
        covered
    }

    /// It was not removed after all.
    pub(crate) fn stay(&self) {
        let mut growth = self.growth.lock();
        growth.closed = growth.closed.filter(|closed| *closed != Closed::Leaving);
    }
}

impl Growth {
    fn is_broken(&self) -> bool {
        matches!(self.closed, Some(Closed::Broken(_)))
    }

    fn usable(&self) -> Result<()> {
        match self.closed {
            None => Ok(()),
            Some(Closed::Broken(errno)) => Err(Error::store("append to the log")(errno)),
            Some(Closed::Leaving) => Err(Refusal::Sealed.into()),
        }
    }
}

fn errno(error: &std::io::Error) -> Errno {
    Errno::from_io_error(error).unwrap_or(Errno::IO)
}

/// Reads a whole log: its digest, and whether it ends within a line. The first `covered` bytes
/// must have the digest `sha256`.
fn read(file: &File, covered: u64, sha256: Digest, bytes: u64) -> Result<(Sha256, bool)> {
    let (mut hasher, mut last) = (Sha256::new(), b'\n');
    let mut buffer = vec![0; BUFFER_BYTES];
    let mut offset = 0;
    loop {
        if offset == covered && Digest(hasher.clone().finalize().into()) != sha256 {
            return Err(Error::Corrupt(format!(
                "the first {covered} bytes of the log are not those that were recorded"
            )));
        }
        if offset == bytes {
            return Ok((hasher, last != b'\n'));
        }
        let end = if offset < covered { covered } else { bytes };
        let most = usize::try_from(end - offset).unwrap_or(BUFFER_BYTES).min(BUFFER_BYTES);
        let piece = &mut buffer[..most];
        file.read_exact_at(piece, offset).map_err(Error::store("read the log"))?;
        if offset >= covered {
            // Nobody knows whether these were synced. Where a sync failed, the kernel takes them
            // for written and no later sync would write them: so they are written again.
            file.write_all_at(piece, offset).map_err(Error::store("write the end of the log"))?;
        }
        hasher.update(&*piece);
        last = piece.last().copied().unwrap_or(last);
        offset += most as u64;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log(bytes: &[u8], covered: &[u8]) -> (LogFile, File) {
        let file = tempfile::tempfile().unwrap();
        file.write_all_at(bytes, 0).unwrap();
        (LogFile::new(7, bytes.len() as u64, covered.len() as u64, 0), file)
    }

    fn content(log: &LogFile, file: &File) -> Vec<u8> {
        let mut bytes = vec![0; usize::try_from(log.bytes()).unwrap()];
        file.read_exact_at(&mut bytes, 0).unwrap();
        bytes
    }

    #[test]
    fn half_a_line_that_was_found_stays_alone() {
        for (found, added, whole) in [
            (&b"a\n{\"to"[..], &b"b\n"[..], &b"a\n{\"to\nb\nb\n"[..]),
            (b"a\n{\"to", b"\nb\n", b"a\n{\"to\nb\n\nb\n"),
            (b"a\n", b"b\n", b"a\nb\nb\n"),
            (b"", b"b\n", b"b\nb\n"),
        ] {
            let (log, file) = log(found, b"");
            log.prove(&file, 0, Digest::of(b"")).unwrap();
            for _ in 0..2 {
                assert_eq!(log.append(&file, added, 0).unwrap(), added.len());
            }
            assert_eq!(content(&log, &file), whole);
            assert_eq!(log.uncovered(), Some((whole.len() as u64, Digest::of(whole))));
        }
    }

    #[test]
    fn what_is_not_what_was_recorded_takes_no_more_bytes() {
        let (log, file) = log(b"line\nline\n", b"line\n");
        let changed = log.prove(&file, 5, Digest::of(b"Line\n")).unwrap_err();
        assert!(matches!(changed, Error::Corrupt(_)), "{changed}");
        assert_eq!(log.append(&file, b"x", 0).unwrap_err().errno(), Errno::IO);
        assert!(!log.is_due(i64::MAX));
        let (log, file) = self::log(b"line\nline\n", b"line\n");
        log.prove(&file, 5, Digest::of(b"line\n")).unwrap();
        assert_eq!(log.uncovered(), Some((10, Digest::of(b"line\nline\n"))));
    }

    #[test]
    fn a_record_is_due_after_a_mebibyte_or_ten_seconds() {
        let (log, file) = log(b"", b"");
        assert!(!log.is_due(0), "nothing to cover");
        log.append(&file, b"line\n", 0).unwrap();
        assert!(log.is_due(0), "the first");
        log.recorded(5, 1_000);
        assert!(!log.is_due(99_000), "nothing to cover");
        log.append(&file, b"line\n", 0).unwrap();
        assert!(!log.is_due(10_999));
        assert!(log.is_due(11_000));
        log.append(&file, &[b'x'; 1 << 20], 0).unwrap();
        assert!(log.is_due(1_001));
    }

    #[test]
    fn it_is_not_removed_before_all_of_it_is_recorded() {
        let (log, file) = log(b"", b"");
        log.append(&file, b"line\n", 0).unwrap();
        assert!(!log.leave());
        log.append(&file, b"line\n", 0).unwrap();
        log.recorded(10, 0);
        assert!(log.leave());
        assert_eq!(log.append(&file, b"x", 0).unwrap_err().errno(), Errno::PERM);
        log.stay();
        log.append(&file, b"x", 0).unwrap();
    }

    #[test]
    fn a_write_that_fails_is_taken_back() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log");
        File::create_new(&path).unwrap().write_all_at(b"line\n", 0).unwrap();
        let (log, _) = self::log(b"line\n", b"");
        // Opened for reading, so that neither writing nor cutting works.
        let unwritable = File::open(&path).unwrap();
        let file = File::options().read(true).write(true).open(&path).unwrap();
        log.prove(&file, 0, Digest::of(b"")).unwrap();
        assert!(log.append(&unwritable, b"more\n", 0).is_err());
        assert_eq!((log.bytes(), std::fs::read(&path).unwrap()), (5, b"line\n".to_vec()));
        assert!(log.append(&file, b"more\n", 0).is_err(), "it could not be taken back: broken");
    }
}
