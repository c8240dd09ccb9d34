//! From the child's pipe to the file: three threads, so that reading, compressing and writing go
//! on at the same time and `pg_dump` sets the pace.
//!
//! ```text
//! pipe -> scan + digest of the SQL -> gzip -> digest of the file -> write in 1 MiB pieces
//! ```
//!
//! Every queue between them is bounded, so memory is: a slow disk slows the dump down.

use std::future::Future;
use std::io;
use std::io::Read;
use std::io::Write;
use std::mem;
use std::pin::pin;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::sync::mpsc::Receiver;
use std::sync::mpsc::SyncSender;
use std::sync::mpsc::sync_channel;
use std::task::Context;
use std::task::Poll;
use std::task::Waker;
use std::thread;

use async_compression::Level;
use async_compression::tokio::write::GzipEncoder;
use sha2::Digest;
use sha2::Sha256;
use tokio::io::AsyncWriteExt;

use super::scan::Report;
use super::scan::Scanner;
use crate::manifest::Content;

/// What the reader hands on at once.
const CHUNK: usize = 256 * 1024;
/// What is written at once: the mount takes 1 MiB in one request.
const PIECE: usize = 1024 * 1024;
/// Chunks and pieces that may wait in a queue.
const WAITING: usize = 3;

/// How far the stream is, for those who watch.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    /// Bytes of SQL read.
    pub(crate) raw: AtomicU64,
    /// Bytes written to the file.
    pub(crate) stored: AtomicU64,
}

/// What went through.
#[derive(Debug)]
pub(crate) struct Streamed {
    /// What the scanner saw.
    pub(crate) report: Report,
    /// The SQL.
    pub(crate) raw: Content,
    /// The file.
    pub(crate) stored: Content,
}

/// Why the stream broke.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StreamError {
    /// The pipe from the child.
    #[error("read from pg_dump")]
    Read(#[source] io::Error),
    /// The codec.
    #[error("compress")]
    Compress(#[source] io::Error),
    /// The file.
    #[error("write")]
    Write(#[source] io::Error),
}

/// Carries `source` into `sink` until it ends. Blocks; gives back what was seen and counted.
///
/// When one part fails the others end by themselves, since their queues close.
pub(crate) fn run(
    source: impl Read + Send,
    sink: &mut impl Write,
    level: i32,
    progress: &Progress,
) -> Result<Streamed, StreamError> {
    let (chunks, from_reader) = sync_channel(WAITING);
    let (pieces, from_codec) = sync_channel(WAITING);
    thread::scope(|scope| {
        let reader = scope.spawn(move || read(source, &chunks, &progress.raw));
        let codec = scope.spawn(move || compress(&from_reader, &pieces, level));
        let stored = write(from_codec, sink, &progress.stored);
        let codec = codec.join().unwrap_or_else(|_panic| Err(io::Error::other("codec died")));
        let reader = reader.join().unwrap_or_else(|_panic| Err(io::Error::other("reader died")));
        // A full disk makes the others stop as well, so what the disk says comes first.
        let stored = stored.map_err(StreamError::Write)?;
        codec.map_err(StreamError::Compress)?;
        let (report, raw) = reader.map_err(StreamError::Read)?;
        Ok(Streamed { report, raw, stored })
    })
}

/// A digest and a length.
#[derive(Default)]
struct Meter {
    hash: Sha256,
    bytes: u64,
}

impl Meter {
    fn take(&mut self, bytes: &[u8]) {
        self.hash.update(bytes);
        self.bytes += bytes.len() as u64;
    }

    fn finish(self) -> Content {
        Content { bytes: self.bytes, sha256: hex::encode(self.hash.finalize()) }
    }
}

fn read(
    mut source: impl Read,
    chunks: &SyncSender<Vec<u8>>,
    progress: &AtomicU64,
) -> io::Result<(Report, Content)> {
    let (mut scanner, mut meter) = (Scanner::new(), Meter::default());
    loop {
        // One byte more than is read, so that the end is met without growing the buffer.
        let mut chunk = Vec::with_capacity(CHUNK + 1);
        source.by_ref().take(CHUNK as u64).read_to_end(&mut chunk)?;
        if chunk.is_empty() {
            return Ok((scanner.finish(), meter.finish()));
        }
        scanner.take(&chunk);
        meter.take(&chunk);
        progress.store(meter.bytes, Ordering::Relaxed);
        if chunks.send(chunk).is_err() {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
    }
}

fn compress(
    chunks: &Receiver<Vec<u8>>,
    pieces: &SyncSender<Vec<u8>>,
    level: i32,
) -> io::Result<()> {
    let closed = |_| io::Error::from(io::ErrorKind::BrokenPipe);
    let mut encoder =
        GzipEncoder::with_quality(Vec::with_capacity(2 * PIECE), Level::Precise(level));
    while let Ok(chunk) = chunks.recv() {
        at_once(encoder.write_all(&chunk))?;
        if encoder.get_ref().len() >= PIECE {
            let piece = mem::replace(encoder.get_mut(), Vec::with_capacity(2 * PIECE));
            pieces.send(piece).map_err(closed)?;
        }
    }
    at_once(encoder.shutdown())?;
    pieces.send(encoder.into_inner()).map_err(closed)
}

/// Runs the encoder, which is written for asynchronous sinks, into memory, which never waits.
fn at_once(work: impl Future<Output = io::Result<()>>) -> io::Result<()> {
    match pin!(work).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(result) => result,
        Poll::Pending => Err(io::Error::other("the encoder waited for memory")),
    }
}

fn write(
    pieces: Receiver<Vec<u8>>,
    sink: &mut impl Write,
    progress: &AtomicU64,
) -> io::Result<Content> {
    let mut meter = Meter::default();
    let mut waiting: Vec<u8> = Vec::with_capacity(PIECE);
    for mut piece in pieces {
        if !waiting.is_empty() {
            waiting.append(&mut piece);
            piece = mem::take(&mut waiting);
        }
        let whole = piece.len() - piece.len() % PIECE;
        waiting.extend_from_slice(&piece[whole..]);
        for full in piece[..whole].chunks(PIECE) {
            put(full, sink, &mut meter, progress)?;
        }
    }
    put(&waiting, sink, &mut meter, progress)?;
    Ok(meter.finish())
}

fn put(
    bytes: &[u8],
    sink: &mut impl Write,
    meter: &mut Meter,
    progress: &AtomicU64,
) -> io::Result<()> {
    sink.write_all(bytes)?;
    meter.take(bytes);
    progress.store(meter.bytes, Ordering::Relaxed);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Some megabytes that compress badly, so that several pieces are written.
    fn noise(bytes: usize) -> Vec<u8> {
        let mut state = 1_u64;
        let mut noise = Vec::with_capacity(bytes + 8);
        while noise.len() < bytes {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            noise.extend_from_slice(&state.to_le_bytes());
        }
        noise.truncate(bytes);
        noise
    }

    /// Remembers the lengths of its writes, and fails when it is full.
    struct Disk {
        room: usize,
        bytes: Vec<u8>,
        writes: Vec<usize>,
    }

    impl Disk {
        fn new(room: usize) -> Self {
            Self { room, bytes: Vec::new(), writes: Vec::new() }
        }
    }

    impl Write for Disk {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            if self.bytes.len() + bytes.len() > self.room {
                return Err(io::ErrorKind::StorageFull.into());
            }
            self.bytes.extend_from_slice(bytes);
            self.writes.push(bytes.len());
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn what_comes_out_unpacks_to_what_went_in() {
        for bytes in [0, 1, CHUNK, CHUNK + 1, 5 * PIECE + 12_345] {
            let raw = noise(bytes);
            let mut disk = Disk::new(usize::MAX);
            let streamed = run(raw.as_slice(), &mut disk, 1, &Progress::default()).unwrap();

            let mut unpacked = Vec::new();
            flate2::read::GzDecoder::new(disk.bytes.as_slice()).read_to_end(&mut unpacked).unwrap();
            assert!(unpacked == raw, "{bytes} bytes");
            for (content, bytes) in [(&streamed.raw, &raw), (&streamed.stored, &disk.bytes)] {
                assert_eq!(content.bytes, bytes.len() as u64);
                assert_eq!(content.sha256, hex::encode(Sha256::digest(bytes)));
            }
            assert_eq!(streamed.report.bytes, raw.len() as u64);
            let last = disk.writes.pop().unwrap();
            assert!(last <= PIECE && disk.writes.iter().all(|length| *length == PIECE));
        }
    }

    #[test]
    fn a_full_disk_is_what_is_reported() {
        let raw = noise(8 * PIECE);
        let mut disk = Disk::new(2 * PIECE);
        let error = run(raw.as_slice(), &mut disk, 1, &Progress::default()).unwrap_err();
        assert!(
            matches!(&error, StreamError::Write(error) if error.kind() == io::ErrorKind::StorageFull),
            "{error:?}"
        );
    }

    #[test]
    fn a_source_that_breaks_is_what_is_reported() {
        struct Broken;
        impl Read for Broken {
            fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
                Err(io::ErrorKind::ConnectionReset.into())
            }
        }
        let source = noise(CHUNK);
        let mut disk = Disk::new(usize::MAX);
        let error =
            run(source.as_slice().chain(Broken), &mut disk, 1, &Progress::default()).unwrap_err();
        assert!(matches!(error, StreamError::Read(_)), "{error:?}");
    }
}
