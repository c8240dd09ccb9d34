//! gzip in members: each mebibyte is compressed by itself, and `gunzip` reads them as one.
//!
//! libdeflate takes whole buffers only, and is faster than what streams: with it a dump is compressed
//! faster than one `pg_dump` writes it. Members cost a few bytes in ten thousand. A file that was cut
//! between two of them looks whole to `gunzip`: what tells is its digest, and the last line of the
//! dump (RFC 1952, section 2.2).

use std::io;
use std::io::Write;

use libdeflater::CompressionLvl;
use libdeflater::Compressor;

/// What is compressed at once.
const MEMBER: usize = 1024 * 1024;

/// Compresses what is written to it.
pub(super) struct Members<W> {
    sink: W,
    compressor: Compressor,
    /// What waits for more.
    waiting: Vec<u8>,
    /// Where members are made.
    packed: Vec<u8>,
    any: bool,
}

impl<W: Write> Members<W> {
    /// Level 1 is fast, 9 small.
    pub(super) fn new(sink: W, level: i32) -> io::Result<Self> {
        let unknown = |_| io::Error::other(format!("gzip has no level {level}"));
        let mut compressor = Compressor::new(CompressionLvl::new(level).map_err(unknown)?);
        let packed = vec![0; compressor.gzip_compress_bound(MEMBER)];
        Ok(Self { sink, compressor, waiting: Vec::with_capacity(MEMBER), packed, any: false })
    }

    /// Writes what is left, and gives the sink back.
    pub(super) fn finish(mut self) -> io::Result<W> {
        // Of nothing there is a member, too.
        if !self.waiting.is_empty() || !self.any {
            self.pack()?;
        }
        Ok(self.sink)
    }

    fn pack(&mut self) -> io::Result<()> {
        let packed = self.compressor.gzip_compress(&self.waiting, &mut self.packed);
        let length = packed.map_err(io::Error::other)?;
        self.waiting.clear();
        self.any = true;
        self.sink.write_all(&self.packed[..length])
    }
}

impl<W: Write> Write for Members<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let taken = bytes.len().min(MEMBER - self.waiting.len());
        self.waiting.extend_from_slice(&bytes[..taken]);
        if self.waiting.len() == MEMBER {
            self.pack()?;
        }
        Ok(taken)
    }

    /// Members are not ended early: what waits goes on waiting.
    fn flush(&mut self) -> io::Result<()> {
        self.sink.flush()
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use flate2::read::MultiGzDecoder;

    use super::*;

    #[test]
    fn members_of_every_length_are_read_as_one() {
        for length in [0, 1, MEMBER - 1, MEMBER, MEMBER + 1, 3 * MEMBER] {
            let text: Vec<u8> = (0_u32..).flat_map(u32::to_le_bytes).take(length).collect();
            let mut members = Members::new(Vec::new(), 1).unwrap();
            for piece in text.chunks(300_000) {
                members.write_all(piece).unwrap();
            }
            let packed = members.finish().unwrap();
            let count = packed.windows(4).filter(|bytes| *bytes == [0x1f, 0x8b, 8, 0]).count();
            assert!(count >= length.div_ceil(MEMBER).max(1), "{count} members of {length} bytes");
            let mut unpacked = Vec::new();
            let read = MultiGzDecoder::new(packed.as_slice()).read_to_end(&mut unpacked).unwrap();
            assert!(read == length && unpacked == text, "{length} bytes");
        }
    }

    #[test]
    fn a_level_that_is_none_is_refused() {
        assert!(Members::new(Vec::new(), 99).is_err());
    }
}
