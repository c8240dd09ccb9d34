//! Decompression: one reader for every codec of the agent.

use std::io;
use std::io::BufRead;
use std::io::Read;

use flate2::bufread::MultiGzDecoder;
use worm_ingest::manifest::Codec;

/// Unpacks what is read through it.
pub(super) enum Unpacked<R: BufRead> {
    None(R),
    Gzip(Box<MultiGzDecoder<R>>),
    Zstd(zstd::Decoder<'static, R>),
}

impl<R: BufRead> Unpacked<R> {
    pub(super) fn new(packed: R, codec: Codec) -> io::Result<Self> {
        Ok(match codec {
            Codec::None => Self::None(packed),
            Codec::Gzip => Self::Gzip(Box::new(MultiGzDecoder::new(packed))),
            Codec::Zstd => Self::Zstd(zstd::Decoder::with_buffer(packed)?),
        })
    }
}

impl<R: BufRead> Read for Unpacked<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::None(packed) => packed.read(buffer),
            Self::Gzip(decoder) => decoder.read(buffer),
            Self::Zstd(decoder) => decoder.read(buffer),
        }
    }
}
