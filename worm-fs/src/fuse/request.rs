//! Reads what a request carries beside its arguments: who asks, of what, through which handle.

use fuser::FileHandle;
use fuser::INodeNo;
use fuser::OpenFlags;
use fuser::Request;

use crate::fs::Asked;
use crate::fs::Caller;
use crate::fs::HandleId;

/// What is asked of which file or directory, and by whom, for the log.
pub(super) fn asked(by: &Request, request: &'static str, of: INodeNo) -> Asked<'static> {
    Asked { request, of: of.0, name: b"", uid: by.uid(), pid: by.pid() }
}

pub(super) fn caller(by: &Request) -> Caller {
    Caller { uid: by.uid(), gid: by.gid() }
}

pub(super) fn handle(handle: FileHandle) -> HandleId {
    HandleId(handle.0)
}

/// Any way of opening that could change the file, whatever the access mode: `O_RDONLY|O_TRUNC`
/// cuts a file short on Linux.
pub(super) fn opens_to_write(flags: OpenFlags) -> bool {
    flags.0 & libc::O_ACCMODE != libc::O_RDONLY || flags.0 & libc::O_TRUNC != 0
}
