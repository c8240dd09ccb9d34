//! The way of the bytes: from the child's pipe through scan, codec and digests to the file.

mod codec;
mod copy;
mod gzip;
mod lexeme;
pub(crate) mod pipeline;
pub(crate) mod rate;
pub(crate) mod recipients;
pub(crate) mod scan;
