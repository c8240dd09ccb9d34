//! The system calls of the matrix that no safe crate offers, each with all that its caller lends
//! to the kernel. The only unsafe code of the matrix.

use std::ffi::CString;
use std::os::fd::AsFd;
use std::os::fd::AsRawFd as _;
use std::os::fd::BorrowedFd;
use std::os::fd::FromRawFd as _;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use io_uring::IoUring;
use io_uring::squeue::Entry;
use rustix::io::Errno;

use crate::session::Result;

/// What a system call is handed.
#[derive(Debug)]
pub enum Arg<'a> {
    /// A number.
    Int(i64),
    /// An open descriptor.
    Fd(BorrowedFd<'a>),
    /// Memory that the kernel reads, or nothing.
    In(&'a [u8]),
    /// Memory that the kernel fills.
    Out(&'a mut [u8]),
}

/// A path as the kernel wants it.
///
/// # Panics
/// When it contains a NUL.
#[must_use]
pub fn path(path: &Path) -> Vec<u8> {
    let path = CString::new(path.as_os_str().as_bytes()).expect("no NUL in a path");
    path.into_bytes_with_nul()
}

/// Words of 64 bits as the kernel lays them out in a structure.
#[must_use]
pub fn words(words: &[u64]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_ne_bytes()).collect()
}

/// A system call by its number.
///
/// # Errors
/// The raw errno.
///
/// # Panics
/// When it is handed more than six things.
pub fn call(number: libc::c_long, args: &mut [Arg]) -> Result<i64> {
    assert!(args.len() <= 6, "a system call has six arguments at most");
    let mut raw = [0; 6];
    for (raw, arg) in raw.iter_mut().zip(args) {
        *raw = match arg {
            Arg::Int(number) => *number,
            Arg::Fd(fd) => i64::from(fd.as_raw_fd()),
            Arg::In([]) => 0,
            Arg::In(memory) => memory.as_ptr() as i64,
            Arg::Out(memory) => memory.as_mut_ptr() as i64,
        };
    }
    let [a, b, c, d, e, f] = raw;
    #[expect(unsafe_code, reason = "no safe crate has these calls")]
    // SAFETY: every pointer comes from a borrow that outlives the call. Each caller lends as
    // much memory as the manual page of its call names.
    let answer = unsafe { libc::syscall(number, a, b, c, d, e, f) };
    if answer == -1 { Err(last()) } else { Ok(answer) }
}

/// `ioctl(2)` with a structure or, when that is empty, without argument.
///
/// # Errors
/// The raw errno.
pub fn ioctl(fd: impl AsFd, number: u32, memory: &mut [u8]) -> Result<i64> {
    let memory = if memory.is_empty() { Arg::Int(0) } else { Arg::Out(memory) };
    call(libc::SYS_ioctl, &mut [Arg::Fd(fd.as_fd()), Arg::Int(i64::from(number)), memory])
}

/// Owns the descriptor that a system call answered.
///
/// # Panics
/// When it is no descriptor.
#[must_use]
pub fn own(answer: i64) -> OwnedFd {
    let raw = i32::try_from(answer).ok().filter(|fd| *fd > 2).expect("a new descriptor");
    #[expect(unsafe_code, reason = "the kernel names new descriptors by number")]
    // SAFETY: the kernel has just made it for us, and nobody else knows its number.
    unsafe {
        OwnedFd::from_raw_fd(raw)
    }
}

/// A mapping of the first page of a file. It is taken away when it is dropped.
#[derive(Debug)]
pub struct Mapping {
    at: *mut libc::c_void,
}

impl Mapping {
    /// As long as a page.
    pub const LENGTH: usize = 4096;

    /// Maps the first page: `PROT_...` and `MAP_...`.
    ///
    /// # Errors
    /// The raw errno.
    pub fn new(fd: impl AsFd, protection: i32, flags: i32) -> Result<Self> {
        let raw = fd.as_fd().as_raw_fd();
        #[expect(unsafe_code, reason = "no safe crate has shared mappings, with good reason")]
        // SAFETY: the kernel chooses an address where nothing is.
        let at =
            unsafe { libc::mmap(std::ptr::null_mut(), Self::LENGTH, protection, flags, raw, 0) };
        if at == libc::MAP_FAILED { Err(last()) } else { Ok(Self { at }) }
    }

    /// `mprotect(2)`
    ///
    /// # Errors
    /// The raw errno.
    pub fn protect(&self, protection: i32) -> Result<()> {
        #[expect(unsafe_code, reason = "no safe crate has it")]
        // SAFETY: it is our mapping, and no reference into it exists.
        done(unsafe { libc::mprotect(self.at, Self::LENGTH, protection) })
    }

    /// `madvise(2)`
    ///
    /// # Errors
    /// The raw errno.
    pub fn advise(&self, advice: i32) -> Result<()> {
        #[expect(unsafe_code, reason = "no safe crate has it for foreign memory")]
        // SAFETY: it is our mapping, and no reference into it exists.
        done(unsafe { libc::madvise(self.at, Self::LENGTH, advice) })
    }

    /// `msync(2)`, and waits.
    ///
    /// # Errors
    /// The raw errno.
    pub fn sync(&self) -> Result<()> {
        #[expect(unsafe_code, reason = "no safe crate has it for foreign memory")]
        // SAFETY: it is our mapping.
        done(unsafe { libc::msync(self.at, Self::LENGTH, libc::MS_SYNC) })
    }

    /// Writes into it. Only for mappings that were made writable.
    pub fn write(&self, bytes: &[u8; 4]) {
        #[expect(unsafe_code, reason = "a shared mapping is no memory of ours")]
        // SAFETY: the mapping is writable, four bytes long and more, and a file of that length
        // stands behind it.
        unsafe {
            std::ptr::copy_nonoverlapping(bytes.as_ptr(), self.at.cast(), bytes.len());
        }
    }

    /// Where it is, for whoever writes there by other ways than a store.
    #[must_use]
    pub fn address(&self) -> u64 {
        self.at as u64
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        #[expect(unsafe_code, reason = "no safe crate has it")]
        // SAFETY: it is our mapping, whole, and nothing refers into it any more.
        unsafe {
            libc::munmap(self.at, Self::LENGTH);
        }
    }
}

/// Hands one request to an `io_uring` and waits for its answer. What the entry points to must
/// be static.
///
/// # Errors
/// The raw errno.
pub fn ring(ring: &mut IoUring, entry: &Entry) -> Result<i32> {
    #[expect(unsafe_code, reason = "the entry points to memory")]
    // SAFETY: the entry is answered before this function returns, and until then its caller
    // lends what it points to.
    let pushed = unsafe { ring.submission().push(entry) };
    pushed.map_err(|_full| Errno::AGAIN)?;
    ring.submit_and_wait(1).map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))?;
    let answer = ring.completion().next().ok_or(Errno::IO)?.result();
    if answer < 0 { Err(Errno::from_raw_os_error(-answer)) } else { Ok(answer) }
}

fn done(answer: i32) -> Result<()> {
    if answer == 0 { Ok(()) } else { Err(last()) }
}

fn last() -> Errno {
    Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::IO)
}
