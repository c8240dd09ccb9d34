//! Answers that more than one request gives, or that are given on another thread.

use fuser::Errno;
use fuser::FileHandle;
use fuser::FopenFlags;
use fuser::ReplyCreate;
use fuser::ReplyXattr;

use super::GENERATION;
use super::attr::entry_life;
use super::attr::file_attr;
use crate::error::Error;
use crate::error::Result;
use crate::fs::Asked;
use crate::fs::Attributes;
use crate::fs::HandleId;
use crate::fs::Place;
use crate::fs::WormFs;
use crate::policy::Refusal;

/// Logs a failure and gives its errno. The only way out of this folder with a failure.
pub(super) fn errno(fs: &WormFs, asked: Asked, error: &Error) -> Errno {
    fs.failed(asked, error);
    Errno::from_i32(error.errno().raw_os_error())
}

pub(super) fn created(
    fs: &WormFs,
    asked: Asked,
    made: Result<(Attributes, HandleId)>,
    reply: ReplyCreate,
) {
    match made {
        Ok((made, handle)) => reply.created(
            &entry_life(&made),
            &file_attr(&made),
            GENERATION,
            FileHandle(handle.0),
            // Every byte passes through here, and no writable mapping is possible.
            FopenFlags::FOPEN_DIRECT_IO,
        ),
        Err(error) => reply.error(errno(fs, asked, &error)),
    }
}

/// The refusal of something that is never allowed.
pub(super) fn never(outcome: Result<()>) -> Error {
    outcome.err().unwrap_or(Error::Refused(Refusal::Unsupported))
}

pub(super) fn get_xattr(
    fs: &WormFs,
    place: Place,
    asked: Asked,
    name: &[u8],
    size: u32,
    reply: ReplyXattr,
) {
    match fs.xattr(place, asked.of, name) {
        Ok(value) => reply_xattr(&value, size, reply),
        Err(error) => reply.error(errno(fs, asked, &error)),
    }
}

/// A size of zero asks how long the value is.
pub(super) fn reply_xattr(value: &[u8], size: u32, reply: ReplyXattr) {
    match u32::try_from(value.len()) {
        Ok(length) if size == 0 => reply.size(length),
        Ok(length) if length <= size => reply.data(value),
        Ok(_) | Err(_) => reply.error(Errno::ERANGE),
    }
}
