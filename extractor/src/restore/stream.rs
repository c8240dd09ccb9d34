//! I/O: the dump from its file to `psql`: hashed as stored, decrypted and unpacked, hashed again,
//! made one transaction. None of it is written to a disk on the way.
//!
//! `BEGIN` is sent first, and `COMMIT` only when every byte that was sent has proved to be the
//! byte that was sealed, and `psql` has worked through all of them. Whoever dies before that,
//! `psql`, we or the server, leaves the database as it was.

use std::fs::File;
use std::io;
use std::io::BufRead;
use std::io::BufReader;
use std::io::Read;
use std::io::Write;
use std::sync::atomic::AtomicU8;
use std::sync::atomic::Ordering;

use sha2::Digest;
use sha2::Sha256;
use worm_ingest::manifest::Content;
use worm_ingest::manifest::Manifest;

use crate::error::Error;
use crate::error::Result;
use crate::plan::Expected;
use crate::restore::archive::Tools;
use crate::restore::identity::Identities;
use crate::restore::sql::OneTransaction;
use crate::restore::unpack::Unpacked;

/// One read of the file, and one piece of SQL.
const BUFFER_BYTES: usize = 256 << 10;
/// What `psql` says when it comes to the end of the dump.
const ARRIVED: &str = "worm-extractor: all of the dump is read";
const COMMIT: &[u8] = b"COMMIT;\n";

/// Decides between a signal and the `COMMIT`: exactly one of them comes first.
#[derive(Debug, Default)]
pub(crate) struct Gate(AtomicU8);

const OPEN: u8 = 0;
const COMMITTING: u8 = 1;
const CANCELLED: u8 = 2;

impl Gate {
    /// Forbids the `COMMIT`. False if it is too late.
    pub(crate) fn cancel(&self) -> bool {
        self.pass(CANCELLED)
    }

    fn commit(&self) -> bool {
        self.pass(COMMITTING)
    }

    fn is_cancelled(&self) -> bool {
        self.0.load(Ordering::SeqCst) == CANCELLED
    }

    fn pass(&self, to: u8) -> bool {
        let before = self.0.compare_exchange(OPEN, to, Ordering::SeqCst, Ordering::SeqCst);
        before.is_ok() || before == Err(to)
    }
}

/// Why the feeding ended without a `COMMIT`.
#[derive(Debug)]
pub(crate) enum Fault {
    /// Something is wrong with the dump, or a signal came.
    Ours(Error),
    /// `psql` reads no further. It knows why.
    Psql(io::Error),
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        Self::Ours(error)
    }
}

/// A dump that was chosen, and what it takes to read it.
pub(crate) struct Dump<'a> {
    /// Open at its beginning.
    pub(crate) file: &'a File,
    pub(crate) manifest: &'a Manifest,
    pub(crate) identities: &'a Identities,
    pub(crate) tools: &'a Tools,
    /// What comes before it, in the same transaction.
    pub(crate) before: &'a [u8],
}

/// Feeds the dump to `psql`, as one transaction, and commits it if it is what the manifest says.
/// `answers` is what `psql` prints; `progress` is told of every stored byte.
pub(crate) fn feed(
    dump: &Dump<'_>,
    restricted: bool,
    gate: &Gate,
    mut psql: impl Write,
    answers: impl Read,
    progress: impl Fn(u64) + Send,
) -> std::result::Result<(), Fault> {
    let Dump { file, manifest, identities, tools, before } = dump;
    let restriction = restriction(restricted)?;
    psql.write_all(format!("{}BEGIN;\n", restriction.begin).as_bytes()).map_err(Fault::Psql)?;
    psql.write_all(before).map_err(Fault::Psql)?;
    let mut stored = Hashing { inner: *file, hasher: Sha256::new(), bytes: 0, progress };
    let mut filter = OneTransaction::default();
    let raw = {
        let sealed = BufReader::with_capacity(BUFFER_BYTES, &mut stored);
        let packed: Box<dyn BufRead + Send + '_> = match &manifest.encryption {
            None => Box::new(sealed),
            Some(encryption) => {
                let open = identities.open(sealed, encryption)?;
                Box::new(BufReader::with_capacity(BUFFER_BYTES, open))
            }
        };
        let unpacked = Unpacked::new(packed, manifest.codec())
            .map_err(Error::io("prepare to unpack the dump"))?;
        let progress = |_bytes| {};
        let mut raw = Hashing { inner: unpacked, hasher: Sha256::new(), bytes: 0, progress };
        tools.as_sql(&mut raw, |sql| pass(sql, &mut filter, gate, &mut psql))?;
        drain(&mut raw).map_err(|error| damaged(&format!("cannot be unpacked: {error}")))?;
        raw.found()
    };
    drain(&mut stored).map_err(Error::io("read the dump to its end"))?;
    let Content { bytes, sha256 } = &manifest.stored;
    compare("as stored", &stored.found(), *bytes, Some(sha256))?;
    compare("unpacked", &raw, manifest.raw.bytes, manifest.raw.sha256.as_ref())?;
    let mut out = Vec::new();
    if !filter.finish(&mut out) {
        return Err(damaged("ends in the middle of a command").into());
    }
    // The line end first: a dump may end in a comment without one.
    out.extend_from_slice(format!("\n{}\\echo {ARRIVED}\n", restriction.end).as_bytes());
    psql.write_all(&out).map_err(Fault::Psql)?;
    // What is in the pipe is not yet done: the last indexes may take an hour, in which a signal
    // must still be able to stop everything.
    wait_for_arrival(answers).map_err(Fault::Psql)?;
    if !gate.commit() {
        return Err(Error::Cancelled("the database is as it was").into());
    }
    psql.write_all(COMMIT).and_then(|()| psql.flush()).map_err(Fault::Psql)
}

/// Sends SQL to `psql` until it ends, without the commands that would break up the transaction.
fn pass(
    sql: &mut dyn Read,
    filter: &mut OneTransaction,
    gate: &Gate,
    psql: &mut impl Write,
) -> std::result::Result<(), Fault> {
    let (mut piece, mut out) = (vec![0; BUFFER_BYTES], Vec::with_capacity(2 * BUFFER_BYTES));
    loop {
        if gate.is_cancelled() {
            return Err(Error::Cancelled("the database is as it was").into());
        }
        let len = match sql.read(&mut piece) {
            Ok(0) => return Ok(()),
            Ok(len) => len,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(damaged(&format!("cannot be unpacked: {error}")).into()),
        };
        out.clear();
        filter.feed(&piece[..len], &mut out);
        if filter.is_foreign() {
            return Err(damaged("holds a command to psql that pg_dump never writes").into());
        }
        psql.write_all(&out).map_err(Fault::Psql)?;
    }
}

/// What keeps `psql` from obeying anything in the dump but SQL.
#[derive(Default)]
struct Restriction {
    begin: String,
    end: String,
}

/// A restriction whose key nobody could foresee when the dump was written. None for a `psql` from
/// before August 2025; then there is only what [`OneTransaction`] lets pass.
fn restriction(known: bool) -> Result<Restriction> {
    if !known {
        return Ok(Restriction::default());
    }
    let mut key = [0; 16];
    File::open("/dev/urandom")
        .and_then(|mut random| random.read_exact(&mut key))
        .map_err(Error::io("read random numbers"))?;
    let key = hex::encode(key);
    Ok(Restriction { begin: format!("\\restrict {key}\n"), end: format!("\\unrestrict {key}\n") })
}

/// Reads what `psql` prints until it says that it has come to the end of the dump.
fn wait_for_arrival(answers: impl Read) -> io::Result<()> {
    for line in BufReader::new(answers).lines() {
        if line? == ARRIVED {
            return Ok(());
        }
    }
    Err(io::Error::new(io::ErrorKind::UnexpectedEof, "psql ended early"))
}

fn compare(what: &str, found: &Expected, bytes: u64, sha256: Option<&String>) -> Result<()> {
    if found.bytes == bytes && sha256.is_none_or(|sha256| *sha256 == found.sha256) {
        return Ok(());
    }
    let digest = sha256.map(|sha256| format!(" of {sha256}")).unwrap_or_default();
    Err(damaged(&format!(
        "is, {what}, {} bytes of SHA-256 {}, but the manifest says {bytes}{digest}",
        found.bytes, found.sha256
    )))
}

pub(super) fn damaged(what: &str) -> Error {
    Error::Mismatch(format!("the dump {what}. The database is as it was"))
}

fn drain(reader: &mut impl Read) -> io::Result<()> {
    io::copy(reader, &mut io::sink()).map(|_| ())
}

/// Hashes and counts what is read through it.
struct Hashing<R, P> {
    inner: R,
    hasher: Sha256,
    bytes: u64,
    progress: P,
}

impl<R, P> Hashing<R, P> {
    fn found(self) -> Expected {
        Expected { bytes: self.bytes, sha256: hex::encode(self.hasher.finalize()) }
    }
}

impl<R: Read, P: Fn(u64)> Read for Hashing<R, P> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let len = self.inner.read(buffer)?;
        self.hasher.update(&buffer[..len]);
        self.bytes += len as u64;
        (self.progress)(len as u64);
        Ok(len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn either_the_signal_or_the_commit_comes_first() {
        let gate = Gate::default();
        assert!(gate.cancel() && gate.cancel() && !gate.commit());
        let gate = Gate::default();
        assert!(gate.commit() && !gate.cancel() && !gate.is_cancelled());
    }
}
