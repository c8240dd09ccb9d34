//! From the child's pipe to the file: three threads, so that reading, compressing and writing go
//! on at the same time and `pg_dump` sets the pace.
//!
//! ```text
//! pipe -> scan + digest of the dump -> codec, age -> digest of the file -> write in 1 MiB pieces
//! ```
//!
//! Every queue between them is bounded, so memory is: a slow disk slows the dump down. Buffers go
//! back to where they are filled, so that no fresh memory is asked of the system for every piece.

use std::io;
use std::io::PipeReader;
use std::io::PipeWriter;
use std::io::Read;
use std::io::Write;
use std::mem;
use std::num::NonZeroU64;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::sync::mpsc::Receiver;
use std::sync::mpsc::SyncSender;
use std::sync::mpsc::sync_channel;
use std::thread;
use std::thread::ScopedJoinHandle;
use std::time::Instant;

use sha2::Digest;
use sha2::Sha256;

use super::codec::Encoder;
use super::rate::Bucket;
use super::recipients::Sealer;
use super::scan::Report;
use super::scan::Scanner;
use crate::manifest::Content;
use crate::shape::Shape;

/// What the reader hands on at once.
const CHUNK: usize = 256 * 1024;
/// What is written at once: the mount takes 1 MiB in one request.
const PIECE: usize = 1024 * 1024;
/// Chunks and pieces that may wait in a queue.
const WAITING: usize = 3;

/// How far the stream is, for those who watch.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    /// Bytes of the dump read.
    pub(crate) raw: AtomicU64,
    /// Bytes written to the file.
    pub(crate) stored: AtomicU64,
    /// Set by whoever wants the stream to end before its end.
    pub(crate) stop: AtomicBool,
}

/// What went through.
#[derive(Debug)]
pub(crate) struct Streamed {
    /// What the scanner saw.
    pub(crate) report: Report,
    /// The dump as it came.
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

/// How the dump is read on its way.
#[derive(Debug)]
pub(crate) enum Reading {
    /// It is SQL.
    Sql,
    /// Somebody reads it along the way, and writes it out as SQL.
    Archive {
        /// Where he reads from.
        to: PipeWriter,
        /// Where he writes to.
        from: PipeReader,
    },
    /// It was read before.
    Nothing,
}

/// Carries `source` into `sink` until it ends, in that shape. Blocks; gives back what was seen and
/// counted.
///
/// When one part fails the others end by themselves, since their queues close.
pub(crate) fn run(
    source: impl Read + Send,
    reading: Reading,
    sink: &mut impl Write,
    shape: &Shape,
    progress: &Progress,
) -> Result<Streamed, StreamError> {
    let (chunks, from_reader) = queue();
    let (pieces, from_codec) = queue();
    thread::scope(|scope| {
        let (mut watcher, archive) = Watcher::new(reading);
        let archive = archive.map(|from| scope.spawn(move || scan(from, &AtomicU64::new(0))));
        let reader = scope.spawn(move || {
            read(source, &mut watcher, &chunks, shape.rate_limit, progress)
                .map(|raw| (raw, watcher.finish()))
        });
        let codec = scope.spawn(move || pack(&from_reader, pieces, shape));
        let stored = write(from_codec, sink, &progress.stored);
        let codec = codec.join().unwrap_or_else(|_panic| Err(io::Error::other("codec died")));
        let reader = reader.join().unwrap_or_else(|_panic| Err(io::Error::other("reader died")));
        // A full disk makes the others stop as well, so what the disk says comes first.
        let stored = stored.map_err(StreamError::Write)?;
        codec.map_err(StreamError::Compress)?;
        let (raw, report) = reader.map_err(StreamError::Read)?;
        let report = match archive.map(ScopedJoinHandle::join) {
            None => report,
            Some(Ok(scanned)) => scanned.map_err(StreamError::Read)?,
            Some(Err(_panic)) => {
                return Err(StreamError::Read(io::Error::other("scanner died")));
            }
        };
        Ok(Streamed { report, raw, stored })
    })
}

/// Reads SQL to its end.
pub(crate) fn scan(mut sql: impl Read, progress: &AtomicU64) -> io::Result<Report> {
    let mut scanner = Scanner::new();
    let mut chunk = vec![0; CHUNK];
    loop {
        match sql.read(&mut chunk) {
            Ok(0) => return Ok(scanner.finish()),
            Ok(length) => {
                scanner.take(&chunk[..length]);
                progress.fetch_add(length as u64, Ordering::Relaxed);
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// Who is shown every byte of the dump.
enum Watcher {
    Sql(Box<Scanner>),
    /// Until he reads no more. Why he does not is his to tell, by how he ends.
    Archive(Option<PipeWriter>),
    Nobody,
}

impl Watcher {
    /// And where to read what he makes of it.
    fn new(reading: Reading) -> (Self, Option<PipeReader>) {
        match reading {
            Reading::Sql => (Self::Sql(Box::new(Scanner::new())), None),
            Reading::Archive { to, from } => (Self::Archive(Some(to)), Some(from)),
            Reading::Nothing => (Self::Nobody, None),
        }
    }

    fn take(&mut self, bytes: &[u8]) {
        match self {
            Self::Sql(scanner) => scanner.take(bytes),
            Self::Archive(to) => {
                if to.as_mut().is_some_and(|pipe| pipe.write_all(bytes).is_err()) {
                    *to = None;
                }
            }
            Self::Nobody => {}
        }
    }

    fn finish(self) -> Report {
        match self {
            Self::Sql(scanner) => scanner.finish(),
            Self::Archive(_) | Self::Nobody => Report::default(),
        }
    }
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

/// The end of a queue that buffers are filled at.
struct Filling {
    full: SyncSender<Vec<u8>>,
    spare: Receiver<Vec<u8>>,
}

/// The end of a queue that buffers are used at.
struct Using {
    full: Receiver<Vec<u8>>,
    spare: SyncSender<Vec<u8>>,
}

/// A queue of buffers that go back when they are empty.
fn queue() -> (Filling, Using) {
    let (full, filled) = sync_channel(WAITING);
    // Room for all there are: those that wait, and one at each end.
    let (emptied, spare) = sync_channel(WAITING + 2);
    (Filling { full, spare }, Using { full: filled, spare: emptied })
}

impl Filling {
    /// An empty buffer that has room for `bytes`.
    fn buffer(&self, bytes: usize) -> Vec<u8> {
        self.spare.try_recv().unwrap_or_else(|_none| Vec::with_capacity(bytes))
    }

    fn send(&self, buffer: Vec<u8>) -> io::Result<()> {
        self.full.send(buffer).map_err(|_closed| io::ErrorKind::BrokenPipe.into())
    }
}

impl Using {
    /// The next full buffer.
    fn next(&self) -> Option<Vec<u8>> {
        self.full.recv().ok()
    }

    fn give_back(&self, mut buffer: Vec<u8>) {
        buffer.clear();
        // Nobody fills buffers any more: then this one is dropped.
        drop(self.spare.try_send(buffer));
    }
}

fn read(
    mut source: impl Read,
    watcher: &mut Watcher,
    chunks: &Filling,
    rate_limit: Option<NonZeroU64>,
    progress: &Progress,
) -> io::Result<Content> {
    let begun = Instant::now();
    let mut bucket = rate_limit.map(|limit| Bucket::new(limit, begun.elapsed()));
    let most = bucket.as_ref().map_or(CHUNK as u64, |bucket| bucket.most().min(CHUNK as u64));
    let mut meter = Meter::default();
    loop {
        if progress.stop.load(Ordering::Relaxed) {
            return Err(io::Error::other("it is to stop"));
        }
        // One byte more than is read, so that the end is met without growing the buffer.
        let mut chunk = chunks.buffer(CHUNK + 1);
        source.by_ref().take(most).read_to_end(&mut chunk)?;
        if chunk.is_empty() {
            return Ok(meter.finish());
        }
        watcher.take(&chunk);
        meter.take(&chunk);
        progress.raw.store(meter.bytes, Ordering::Relaxed);
        let wait = bucket.as_mut().map(|bucket| bucket.take(chunk.len() as u64, begun.elapsed()));
        chunks.send(chunk)?;
        thread::sleep(wait.unwrap_or_default());
    }
}

/// Compresses and encrypts.
fn pack(chunks: &Using, pieces: Filling, shape: &Shape) -> io::Result<()> {
    let sealer = Sealer::new(Pieces::new(pieces), shape.recipients.as_ref())?;
    let mut encoder = Encoder::new(sealer, shape.codec(), shape.compression.level)?;
    while let Some(chunk) = chunks.next() {
        encoder.write_all(&chunk)?;
        chunks.give_back(chunk);
    }
    encoder.finish()?.finish()?.finish()
}

/// Cuts what is written to it into pieces of equal length.
struct Pieces {
    queue: Filling,
    piece: Vec<u8>,
}

impl Pieces {
    fn new(queue: Filling) -> Self {
        let piece = queue.buffer(PIECE);
        Self { queue, piece }
    }

    fn finish(self) -> io::Result<()> {
        self.queue.send(self.piece)
    }
}

impl Write for Pieces {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let taken = bytes.len().min(PIECE - self.piece.len());
        self.piece.extend_from_slice(&bytes[..taken]);
        if self.piece.len() == PIECE {
            let next = self.queue.buffer(PIECE);
            self.queue.send(mem::replace(&mut self.piece, next))?;
        }
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn write(pieces: Using, sink: &mut impl Write, progress: &AtomicU64) -> io::Result<Content> {
    let mut meter = Meter::default();
    while let Some(piece) = pieces.next() {
        sink.write_all(&piece)?;
        meter.take(&piece);
        progress.store(meter.bytes, Ordering::Relaxed);
        pieces.give_back(piece);
    }
    Ok(meter.finish())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shape::Asked;

    /// A plain dump, packed like this.
    fn shape(compress: &str) -> Shape {
        let (format, compress) = ("plain".to_owned(), compress.to_owned());
        Shape::new(Asked { format, compress, jobs: 1, ..Asked::default() }).unwrap()
    }

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
            let streamed = run(
                raw.as_slice(),
                Reading::Sql,
                &mut disk,
                &shape("gzip:1"),
                &Progress::default(),
            )
            .unwrap();

            let mut unpacked = Vec::new();
            flate2::read::MultiGzDecoder::new(disk.bytes.as_slice())
                .read_to_end(&mut unpacked)
                .unwrap();
            assert!(unpacked == raw, "{bytes} bytes");
            for (content, bytes) in [(&streamed.raw, &raw), (&streamed.stored, &disk.bytes)] {
                assert_eq!(content.bytes, bytes.len() as u64);
                assert_eq!(content.sha256, hex::encode(Sha256::digest(bytes)));
            }
            assert_eq!(streamed.report.bytes, raw.len() as u64);
            let last = disk.writes.pop().unwrap_or_default();
            assert!(last <= PIECE && disk.writes.iter().all(|length| *length == PIECE));
        }
    }

    #[test]
    fn a_full_disk_is_what_is_reported() {
        let raw = noise(8 * PIECE);
        let mut disk = Disk::new(2 * PIECE);
        let error =
            run(raw.as_slice(), Reading::Sql, &mut disk, &shape("gzip:1"), &Progress::default())
                .unwrap_err();
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
        let error = run(
            source.as_slice().chain(Broken),
            Reading::Sql,
            &mut disk,
            &shape("none"),
            &Progress::default(),
        )
        .unwrap_err();
        assert!(matches!(error, StreamError::Read(_)), "{error:?}");
    }

    #[test]
    fn a_rate_limit_holds_and_the_wish_to_stop_is_heard() {
        let raw = noise(CHUNK);
        let slow = Shape { rate_limit: NonZeroU64::new(10_000_000), ..shape("none") };
        let mut disk = Disk::new(usize::MAX);
        let _whole =
            run(raw.as_slice(), Reading::Sql, &mut disk, &slow, &Progress::default()).unwrap();
        assert!(disk.bytes == raw);

        let progress = Progress::default();
        progress.stop.store(true, Ordering::Relaxed);
        let endless = io::repeat(b' ');
        let error = run(endless, Reading::Sql, &mut disk, &slow, &progress).unwrap_err();
        assert!(matches!(error, StreamError::Read(_)), "{error:?}");
    }

    #[test]
    fn what_is_encrypted_is_digested_as_it_is_stored() {
        let key = age::x25519::Identity::generate();
        let recipients = vec![key.to_public().to_string()];
        let (format, compress) = ("plain".to_owned(), "gzip:1".to_owned());
        let asked = Asked { format, compress, jobs: 1, recipients, ..Asked::default() };
        let (raw, shape) = (noise(PIECE + 7), Shape::new(asked).unwrap());
        let mut disk = Disk::new(usize::MAX);
        let streamed =
            run(raw.as_slice(), Reading::Sql, &mut disk, &shape, &Progress::default()).unwrap();
        assert_eq!(streamed.stored.sha256, hex::encode(Sha256::digest(&disk.bytes)));
        let mut unpacked = Vec::new();
        let decryptor = age::Decryptor::new(disk.bytes.as_slice()).unwrap();
        let packed = decryptor.decrypt(std::iter::once(&key as _)).unwrap();
        flate2::read::MultiGzDecoder::new(packed).read_to_end(&mut unpacked).unwrap();
        assert!(unpacked == raw);
    }
}
