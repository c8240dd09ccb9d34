//! I/O: one file from the view into a staging file, hashed on the way. Gives no names.
//!
//! Reading, hashing and writing each have a thread; a fixed number of buffers goes round. The
//! digest is of the bytes that were written, not of another reading of the source.

use std::fs::File;
use std::io;
use std::io::Read;
use std::io::Write;
use std::sync::mpsc::Receiver;
use std::sync::mpsc::SyncSender;
use std::sync::mpsc::sync_channel;
use std::thread;

use sha2::Digest;
use sha2::Sha256;

use crate::cancel::Cancel;
use crate::error::Error;
use crate::error::Result;
use crate::plan::Expected;

/// One read, one write. Larger ones were no faster.
const BUFFER_BYTES: usize = 1 << 20;
/// Enough that a slow write does not stop the reader at once.
const BUFFERS: usize = 8;

/// Copies `source` to the end into `target` and says what was written. The caller syncs.
pub(crate) fn copy(
    source: &File,
    target: &File,
    cancel: &Cancel,
    progress: impl Fn(u64),
) -> Result<Expected> {
    let (read, to_hash) = sync_channel(BUFFERS);
    let (hashed, to_write) = sync_channel(BUFFERS);
    let (written, to_fill) = sync_channel(BUFFERS);
    let (reading, sha256, writing) = thread::scope(|scope| {
        let reader = scope.spawn(move || fill(source, to_fill, read, cancel));
        let hasher = scope.spawn(move || hash(to_hash, hashed));
        let writing = drain(target, to_write, written, progress);
        (reader.join(), hasher.join(), writing)
    });
    let bytes = writing.map_err(Error::io("write the copy"))?;
    match reading {
        Ok(outcome) => outcome?,
        Err(_panic) => return Err(Error::Failed("the reading thread panicked".to_owned())),
    }
    let Ok(sha256) = sha256 else {
        return Err(Error::Failed("the hashing thread panicked".to_owned()));
    };
    Ok(Expected { bytes, sha256 })
}

/// Reads a whole file for its length and digest.
pub(crate) fn digest(file: &File, cancel: &Cancel, progress: impl Fn(u64)) -> Result<Expected> {
    let mut file = file;
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; BUFFER_BYTES];
    let mut bytes = 0;
    loop {
        if cancel.is_requested() {
            return Err(Error::Cancelled("while a file was being checked"));
        }
        let len = read_some(&mut file, &mut buffer).map_err(Error::io("read the file"))?;
        if len == 0 {
            return Ok(Expected { bytes, sha256: hex::encode(hasher.finalize()) });
        }
        hasher.update(&buffer[..len]);
        bytes += len as u64;
        progress(len as u64);
    }
}

/// Reader: takes an empty buffer, or makes one of the first few, and passes it on full.
fn fill(
    mut source: &File,
    empty: Receiver<Vec<u8>>,
    full: SyncSender<Vec<u8>>,
    cancel: &Cancel,
) -> Result<()> {
    for made in 0.. {
        if cancel.is_requested() {
            return Err(Error::Cancelled("the copy that was under way is dropped"));
        }
        let buffer = if made < BUFFERS { Ok(Vec::new()) } else { empty.recv() };
        // Nobody gives buffers back: the writer has failed, and says why itself.
        let Ok(mut buffer) = buffer else { return Ok(()) };
        buffer.resize(BUFFER_BYTES, 0);
        let len = read_some(&mut source, &mut buffer).map_err(Error::io("read from the view"))?;
        buffer.truncate(len);
        if len == 0 || full.send(buffer).is_err() {
            return Ok(());
        }
    }
    Ok(())
}

fn hash(full: Receiver<Vec<u8>>, hashed: SyncSender<Vec<u8>>) -> String {
    let mut hasher = Sha256::new();
    for buffer in full {
        hasher.update(&buffer);
        if hashed.send(buffer).is_err() {
            break;
        }
    }
    hex::encode(hasher.finalize())
}

fn drain(
    mut target: &File,
    hashed: Receiver<Vec<u8>>,
    empty: SyncSender<Vec<u8>>,
    progress: impl Fn(u64),
) -> io::Result<u64> {
    let mut bytes = 0;
    for buffer in hashed {
        target.write_all(&buffer)?;
        bytes += buffer.len() as u64;
        progress(buffer.len() as u64);
        // An error means that the reader has come to the end and needs no more.
        drop(empty.send(buffer));
    }
    Ok(bytes)
}

fn read_some(source: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    loop {
        match source.read(buffer) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            outcome => return outcome,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round_trip(len: usize) {
        let dir = tempfile::tempdir().unwrap();
        let bytes: Vec<u8> = (0..len).map(|i| (i % 251) as u8).collect();
        let (from, to) = (dir.path().join("from"), dir.path().join("to"));
        File::create_new(&from).unwrap().write_all(&bytes).unwrap();
        let target = File::create_new(&to).unwrap();
        let seen = std::cell::Cell::new(0);
        let copied = copy(&File::open(&from).unwrap(), &target, &Cancel::default(), |n| {
            seen.set(seen.get() + n);
        })
        .unwrap();
        assert_eq!(std::fs::read(&to).unwrap(), bytes);
        assert_eq!((copied.bytes, seen.get()), (len as u64, len as u64));
        assert_eq!(copied.sha256, hex::encode(Sha256::digest(&bytes)));
        let again = digest(&File::open(&to).unwrap(), &Cancel::default(), |_| {}).unwrap();
        assert_eq!(again, copied);
    }

    #[test]
    fn copies_are_equal_whatever_their_length() {
        for len in [0, 1, BUFFER_BYTES - 1, BUFFER_BYTES, (BUFFERS + 3) * BUFFER_BYTES + 7] {
            round_trip(len);
        }
    }

    #[test]
    fn a_copy_that_cannot_be_written_fails_and_does_not_hang() {
        let dir = tempfile::tempdir().unwrap();
        let from = dir.path().join("from");
        File::create_new(&from).unwrap().set_len(64 * BUFFER_BYTES as u64).unwrap();
        let full = File::options().write(true).open("/dev/full").unwrap();
        let error = copy(&File::open(&from).unwrap(), &full, &Cancel::default(), |_| {});
        assert!(error.unwrap_err().stops_all_copies());
    }

    #[test]
    fn a_wish_to_stop_is_heard() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("from");
        let file = File::options().read(true).write(true).create_new(true).open(path).unwrap();
        let cancel = Cancel::default();
        cancel.request();
        let error = copy(&file, &file, &cancel, |_| {}).unwrap_err();
        assert_eq!(error.exit(), crate::exit::Exit::Cancelled);
    }
}
