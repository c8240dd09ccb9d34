//! The system calls that no safe crate offers, or whose answer it swallows.

use std::ffi::CString;
use std::os::fd::AsFd;
use std::os::fd::AsRawFd as _;
use std::os::fd::IntoRawFd as _;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use rustix::io::Errno;

use super::Result;

/// An ioctl without argument.
///
/// # Errors
/// The raw errno.
pub fn ioctl(fd: impl AsFd, number: u32) -> Result<()> {
    #[expect(unsafe_code, reason = "a number is not enough for the safe crate to know the call")]
    // SAFETY: these ioctls are defined to take no argument, so that no memory is touched, and
    // the descriptor is open for as long as `fd` is borrowed.
    let answer = unsafe { libc::ioctl(fd.as_fd().as_raw_fd(), libc::Ioctl::from(number), 0) };
    answered(answer)
}

/// `close(2)`, with its answer.
///
/// # Errors
/// The raw errno; the descriptor is gone all the same.
pub fn close(fd: OwnedFd) -> Result<()> {
    #[expect(unsafe_code, reason = "dropping a descriptor does not say what close answered")]
    // SAFETY: the descriptor was owned and is given up in this very expression.
    let answer = unsafe { libc::close(fd.into_raw_fd()) };
    answered(answer)
}

/// Maps the beginning of a file for writing, shared, and takes the mapping away again.
///
/// # Errors
/// The raw errno.
pub fn map_shared(fd: impl AsFd) -> Result<()> {
    const LENGTH: usize = 4096;
    let protection = libc::PROT_READ | libc::PROT_WRITE;
    #[expect(unsafe_code, reason = "the safe crate has no shared mapping, with good reason")]
    // SAFETY: the kernel chooses an address where nothing is, the mapping is never used, and
    // exactly it is taken away.
    let mapped = unsafe {
        let raw = fd.as_fd().as_raw_fd();
        let at = libc::mmap(std::ptr::null_mut(), LENGTH, protection, libc::MAP_SHARED, raw, 0);
        if at == libc::MAP_FAILED { -1 } else { libc::munmap(at, LENGTH) }
    };
    answered(mapped)
}

/// `truncate(2)`, by path.
///
/// # Errors
/// The raw errno.
pub fn truncate(path: &Path, length: u64) -> Result<()> {
    let path = CString::new(path.as_os_str().as_bytes()).map_err(|_nul| Errno::INVAL)?;
    let length = libc::off_t::try_from(length).map_err(|_too_long| Errno::FBIG)?;
    #[expect(unsafe_code, reason = "the safe crate truncates by descriptor only")]
    // SAFETY: the path is a string that ends with NUL and lives until the call returns.
    let answer = unsafe { libc::truncate(path.as_ptr(), length) };
    answered(answer)
}

fn answered(answer: i32) -> Result<()> {
    if answer == 0 {
        return Ok(());
    }
    let error = std::io::Error::last_os_error();
    Err(Errno::from_io_error(&error).unwrap_or(Errno::IO))
}
