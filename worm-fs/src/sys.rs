//! The system calls that no safe crate offers.

use std::fs::File;
use std::os::fd::AsRawFd as _;

/// Asks the kernel to begin writing a range of a file to the disk, without waiting, so that the
/// sync at the seal finds little left to do. See sync_file_range(2). It is advice: failures are
/// of no consequence, because the seal syncs all.
pub(crate) fn start_writing_back(file: &File, offset: u64, bytes: u64) {
    let (Ok(offset), Ok(bytes)) = (i64::try_from(offset), i64::try_from(bytes)) else { return };
    #[expect(unsafe_code, reason = "no safe crate offers sync_file_range")]
    // SAFETY: the descriptor is open for as long as `file` is borrowed; the call takes numbers
    // only and touches no memory of ours.
    let _advice = unsafe {
        libc::sync_file_range(file.as_raw_fd(), offset, bytes, libc::SYNC_FILE_RANGE_WRITE)
    };
}

/// Lets every other thread go first, with the processor and, where the disk's scheduler knows
/// such priorities, with the disk: see ioprio_set(2). Failures are of no consequence: it is only
/// politeness.
pub(crate) fn yield_to_others() {
    // Of the calling thread alone, on Linux.
    if let Err(error) = rustix::process::setpriority_process(None, 10) {
        tracing::debug!(%error, "the priority stays");
    }
    // Of linux/ioprio.h: IOPRIO_WHO_PROCESS, and IOPRIO_CLASS_IDLE above IOPRIO_CLASS_SHIFT.
    let (who_process, this_thread, idle): (libc::c_long, libc::c_long, libc::c_long) =
        (1, 0, 3 << 13);
    #[expect(unsafe_code, reason = "no safe crate offers ioprio_set")]
    // SAFETY: the call takes numbers only and touches no memory of ours.
    let polite = unsafe { libc::syscall(libc::SYS_ioprio_set, who_process, this_thread, idle) };
    tracing::trace!(polite);
}
