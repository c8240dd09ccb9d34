//! gzip in members: each piece is compressed by itself, and `gunzip` reads them as one.
//!
//! What is fastest takes whole buffers: ISA-L at level 1, with less work than `pg_dump` has itself,
//! and libdeflate for smaller files. Members cost a few bytes in ten thousand. A file that was cut
//! between two of them looks whole to `gunzip`: what tells is its digest, and the last line of the
//! dump (RFC 1952, section 2.2).

use std::io;
use std::io::Write;

use libdeflater::CompressionLvl;
use libdeflater::Compressor;

/// What is compressed at once, while it is still in the processor's cache.
const MEMBER: usize = 256 * 1024;

/// The most that a member needs: data that does not compress is stored in blocks of 64 KiB, with a
/// few bytes each.
const LONGEST: usize = MEMBER + MEMBER / 1024 + 1024;

/// What makes one member of one buffer.
enum Packer {
    Fast,
    Small(Compressor),
}

impl Packer {
    fn new(level: i32) -> io::Result<Self> {
        if level == 1 {
            return Ok(Self::Fast);
        }
        let unknown = |_| io::Error::other(format!("gzip has no level {level}"));
        let level = CompressionLvl::new(level).map_err(unknown)?;
        Ok(Self::Small(Compressor::new(level)))
    }

    /// How long the member is that it wrote at the beginning of `packed`.
    fn pack(&mut self, bytes: &[u8], packed: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Fast => {
                isal::compress_into(bytes, packed, isal::CompressionLevel::One, isal::Codec::Gzip)
                    .map_err(io::Error::from)
            }
            Self::Small(compressor) => {
                compressor.gzip_compress(bytes, packed).map_err(io::Error::other)
            }
        }
    }
}

/// Compresses what is written to it.
pub(super) struct Members<W> {
    sink: W,
    packer: Packer,
    /// What waits for more.
    waiting: Vec<u8>,
    /// Where members are made.
    packed: Vec<u8>,
    any: bool,
}

impl<W: Write> Members<W> {
    /// Level 1 is fast, 9 small.
    pub(super) fn new(sink: W, level: i32) -> io::Result<Self> {
        let (packer, packed) = (Packer::new(level)?, vec![0; LONGEST]);
        Ok(Self { sink, packer, waiting: Vec::with_capacity(MEMBER), packed, any: false })
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
        let length = self.packer.pack(&self.waiting, &mut self.packed)?;
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
    use sha2::Digest as _;
    use sha2::Sha256;

    use super::*;

    /// Another library unpacks what was packed.
    #[track_caller]
    fn check(text: &[u8], level: i32, pieces: usize) {
        let mut members = Members::new(Vec::new(), level).unwrap();
        for piece in text.chunks(pieces) {
            members.write_all(piece).unwrap();
        }
        let packed = members.finish().unwrap();
        let longest = text.len() + text.len() / 1000 + 100;
        assert!(packed.len() <= longest, "{} bytes of {}", packed.len(), text.len());
        let mut unpacked = Vec::new();
        MultiGzDecoder::new(packed.as_slice()).read_to_end(&mut unpacked).unwrap();
        assert!(unpacked == text, "level {level}: {} bytes", text.len());
    }

    #[test]
    fn members_of_every_length_are_read_as_one() {
        let text: Vec<u8> = (0_u32..).flat_map(u32::to_le_bytes).take(3 * MEMBER).collect();
        for length in [0, 1, MEMBER - 1, MEMBER, MEMBER + 1, 3 * MEMBER] {
            for pieces in [1000, 100_000, MEMBER, 2 * MEMBER] {
                check(&text[..length], 1, pieces);
            }
        }
    }

    #[test]
    fn every_level_keeps_text_noise_and_nothing() {
        let noise = (0_u32..).flat_map(|n| Sha256::digest(n.to_le_bytes()));
        let noise: Vec<u8> = noise.take(2 * MEMBER + 7).collect();
        let rows =
            (0_u32..).flat_map(|n| format!("{n}\t{}\tGET /{}\n", n % 7, n % 91 * 17).into_bytes());
        let rows: Vec<u8> = rows.take(2 * MEMBER + 7).collect();
        let nothing = vec![0; 2 * MEMBER + 7];
        for level in 1..=9 {
            for text in [&noise, &rows, &nothing] {
                check(text, level, MEMBER);
            }
        }
    }

    #[test]
    fn a_level_that_is_none_is_refused() {
        assert!(Members::new(Vec::new(), 99).is_err());
    }
}
