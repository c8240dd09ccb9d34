//! Reads what a request carries beside its arguments: who asks, through which handle, and how
//! something is to be opened.

use fuser::FileHandle;
use fuser::OpenFlags;
use fuser::Request;

use crate::fs::Caller;
use crate::fs::HandleId;
use crate::fs::Opening;

pub(super) fn caller(by: &Request) -> Caller {
    Caller { uid: by.uid(), gid: by.gid() }
}

pub(super) fn handle(handle: FileHandle) -> HandleId {
    HandleId(handle.0)
}

/// How a file is opened. Any way that could change it counts, whatever the access mode:
/// `O_RDONLY|O_TRUNC` cuts a file short on Linux.
pub(super) fn opening(flags: OpenFlags) -> Opening {
    let reads = flags.0 & libc::O_ACCMODE == libc::O_RDONLY;
    match (flags.0 & libc::O_TRUNC == 0, reads, flags.0 & libc::O_APPEND != 0) {
        (true, true, _) => Opening::Read,
        (true, false, true) => Opening::Append,
        (false, _, _) | (true, false, false) => Opening::Write,
    }
}
