//! The SHA-256 of a file while it is written: computed beside the writing, on a thread of its
//! own, as long as the bytes come in order.

use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;
use std::sync::mpsc::Receiver;
use std::sync::mpsc::SyncSender;
use std::sync::mpsc::sync_channel;
use std::thread::JoinHandle;

use sha2::Digest as _;
use sha2::Sha256;

use crate::record::Digest;

/// Up to here a file is digested by the thread that writes it: small files need no other.
const INLINE_BYTES_MAX: u64 = 256 * 1024;
/// Bytes handed to the digesting thread at a time.
const BUFFER_BYTES: usize = 1 << 20;
/// Buffers in flight; the writer waits when all are full.
const BUFFERS: usize = 6;
/// Files that are digested on threads of their own at a time: beyond that it gains nothing and
/// costs memory.
const PIPES_MAX: usize = 32;

/// How many there are.
static PIPES: AtomicUsize = AtomicUsize::new(0);

/// One of them, counted while it is there.
#[derive(Debug)]
struct Place;

impl Place {
    fn take() -> Option<Self> {
        let room = |pipes| (pipes < PIPES_MAX).then_some(pipes + 1);
        PIPES.fetch_update(Ordering::AcqRel, Ordering::Acquire, room).ok().map(|_| Self)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        PIPES.fetch_sub(1, Ordering::AcqRel);
    }
}

/// A digest on its way.
#[derive(Debug)]
pub(crate) struct Digester {
    next: u64,
    state: State,
}

#[derive(Debug)]
enum State {
    Inline(Sha256),
    Piped(Pipe),
    /// Bytes came out of order: the file has to be read again at the end.
    Scattered,
}

#[derive(Debug)]
struct Pipe {
    filling: Vec<u8>,
    full: SyncSender<Vec<u8>>,
    empty: Receiver<Vec<u8>>,
    thread: JoinHandle<Sha256>,
    place: Place,
}

impl Digester {
    pub(crate) fn new() -> Self {
        Self { next: 0, state: State::Inline(Sha256::new()) }
    }

    /// Takes bytes that were written at `offset`.
    pub(crate) fn update(&mut self, offset: u64, bytes: &[u8]) {
        if offset != self.next {
            self.scatter();
        }
        self.next = offset.saturating_add(bytes.len() as u64);
        match &mut self.state {
            State::Inline(hasher) => {
                hasher.update(bytes);
                // Without a thread of its own the file is digested by the one that writes it.
                if self.next > INLINE_BYTES_MAX
                    && let Some(pipe) = Pipe::start(hasher.clone())
                {
                    self.state = State::Piped(pipe);
                }
            }
            State::Piped(pipe) => {
                if !pipe.update(bytes) {
                    self.scatter();
                }
            }
            State::Scattered => {}
        }
    }

    /// The bytes are not those that were seen, or not only those: read the file at the end.
    pub(crate) fn scatter(&mut self) {
        self.state = State::Scattered;
    }

    /// The digest of a file of `bytes` bytes; `None` when it has to be read for that.
    pub(crate) fn finish(self, bytes: u64) -> Option<Digest> {
        if self.next != bytes {
            return None;
        }
        let hasher = match self.state {
            State::Inline(hasher) => hasher,
            State::Piped(pipe) => pipe.finish()?,
            State::Scattered => return None,
        };
        Some(Digest(hasher.finalize().into()))
    }
}

impl Pipe {
    fn start(mut hasher: Sha256) -> Option<Self> {
        let place = Place::take()?;
        let (full, work) = sync_channel::<Vec<u8>>(BUFFERS);
        // One more than it starts with: the one that is being filled comes back here, too, and
        // giving a buffer back must never wait.
        let (done, empty) = sync_channel(BUFFERS + 1);
        for _ in 0..BUFFERS {
            done.send(Vec::new()).ok()?;
        }
        let digest = move || {
            while let Ok(mut buffer) = work.recv() {
                hasher.update(&buffer);
                buffer.clear();
                // With nobody to take it back there may still be work to do.
                drop(done.send(buffer));
            }
            hasher
        };
        let thread = std::thread::Builder::new().name("digest".to_owned()).spawn(digest).ok()?;
        Some(Self { filling: Vec::new(), full, empty, thread, place })
    }

    fn update(&mut self, mut bytes: &[u8]) -> bool {
        while !bytes.is_empty() {
            let (now, later) = bytes.split_at(bytes.len().min(BUFFER_BYTES - self.filling.len()));
            self.filling.reserve_exact(BUFFER_BYTES - self.filling.len());
            self.filling.extend_from_slice(now);
            bytes = later;
            if self.filling.len() == BUFFER_BYTES {
                let Ok(empty) = self.empty.recv() else { return false };
                let full = std::mem::replace(&mut self.filling, empty);
                if self.full.send(full).is_err() {
                    return false;
                }
            }
        }
        true
    }

    fn finish(self) -> Option<Sha256> {
        let Self { filling, full, empty, thread, place: _place } = self;
        full.send(filling).ok()?;
        drop(full);
        drop(empty);
        thread.join().ok()
    }
}

/// The digest of what `read` gives, in pieces, until it gives nothing.
pub(crate) fn of_reader(
    mut read: impl FnMut(&mut [u8], u64) -> std::io::Result<usize>,
) -> std::io::Result<(Digest, u64)> {
    let (mut hasher, mut offset) = (Sha256::new(), 0);
    let mut buffer = vec![0; BUFFER_BYTES];
    loop {
        match read(&mut buffer, offset) {
            Ok(0) => return Ok((Digest(hasher.finalize().into()), offset)),
            Ok(bytes) => {
                hasher.update(&buffer[..bytes]);
                offset += bytes as u64;
            }
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn in_order_it_is_the_digest_whatever_the_pieces() {
        let all: Vec<u8> = (0..5_000_003_u32).map(|n| (n % 251) as u8).collect();
        for piece in [7_919, 65_536, 1 << 20, 3_000_000] {
            let mut digester = Digester::new();
            let mut offset = 0;
            for bytes in all.chunks(piece) {
                digester.update(offset, bytes);
                offset += bytes.len() as u64;
            }
            assert_eq!(digester.finish(offset), Some(Digest::of(&all)), "{piece}");
        }
        assert_eq!(Digester::new().finish(0), Some(Digest::of(b"")));
    }

    #[test]
    fn out_of_order_it_asks_for_a_reading() {
        let mut digester = Digester::new();
        digester.update(0, b"ab");
        digester.update(1, b"x");
        assert_eq!(digester.finish(2), None);
        let mut digester = Digester::new();
        digester.update(0, b"ab");
        assert_eq!(digester.finish(9), None, "the file is longer than what was written");
        let mut digester = Digester::new();
        digester.update(0, &[0; 1 << 20]);
        digester.update(5, b"x");
        digester.update(1 << 20, b"x");
        assert_eq!(digester.finish((1 << 20) + 1), None);
    }
}
