//! Compression on the way: one writer for every codec.

use std::io;
use std::io::Write;

use super::gzip::Members;
use crate::manifest::Codec;

/// Compresses what is written to it, and writes that on.
pub(super) enum Encoder<W: Write> {
    None(W),
    Gzip(Members<W>),
    Zstd(zstd::Encoder<'static, W>),
}

impl<W: Write> Encoder<W> {
    pub(super) fn new(sink: W, codec: Codec, level: i32) -> io::Result<Self> {
        Ok(match codec {
            Codec::None => Self::None(sink),
            Codec::Gzip => Self::Gzip(Members::new(sink, level)?),
            Codec::Zstd => Self::Zstd(zstd::Encoder::new(sink, level)?),
        })
    }

    /// Writes what is left, and gives the sink back.
    pub(super) fn finish(self) -> io::Result<W> {
        match self {
            Self::None(sink) => Ok(sink),
            Self::Gzip(encoder) => encoder.finish(),
            Self::Zstd(encoder) => encoder.finish(),
        }
    }
}

impl<W: Write> Write for Encoder<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::None(sink) => sink.write(bytes),
            Self::Gzip(encoder) => encoder.write(bytes),
            Self::Zstd(encoder) => encoder.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::None(sink) => sink.flush(),
            Self::Gzip(encoder) => encoder.flush(),
            Self::Zstd(encoder) => encoder.flush(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;
    use crate::manifest::Compression;

    #[test]
    fn every_codec_unpacks_to_what_went_in() {
        let text: Vec<u8> = (0..200_000_u32).flat_map(|n| (n / 3).to_le_bytes()).collect();
        for (name, smaller) in
            [("gzip:1", true), ("gzip:9", true), ("zstd:1", true), ("none", false)]
        {
            let compression: Compression = name.parse().unwrap();
            let mut encoder =
                Encoder::new(Vec::new(), compression.codec, compression.level).unwrap();
            encoder.write_all(&text[..1000]).unwrap();
            encoder.write_all(&text[1000..]).unwrap();
            let packed = encoder.finish().unwrap();
            assert_eq!(packed.len() < text.len() / 2, smaller, "{name}");
            let mut unpacked = Vec::new();
            match compression.codec {
                Codec::None => unpacked.clone_from(&packed),
                Codec::Gzip => {
                    flate2::read::MultiGzDecoder::new(&packed[..])
                        .read_to_end(&mut unpacked)
                        .map(drop)
                }
                .unwrap(),
                Codec::Zstd => unpacked = zstd::decode_all(&packed[..]).unwrap(),
            }
            assert!(unpacked == text, "{name}");
        }
    }
}
