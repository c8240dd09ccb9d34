//! Bytes and length, by path and by descriptors that cannot write.

use std::fs::File;
use std::io::IoSlice;
use std::os::fd::AsFd as _;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt as _;

use io_uring::IoUring;
use io_uring::opcode;
use io_uring::squeue::Entry;
use io_uring::types::Fd;
use rustix::fs::FallocateFlags;
use rustix::fs::Mode;
use rustix::fs::OFlags;
use rustix::io::Errno;
use rustix::io::ReadWriteFlags;

use super::BADF;
use super::PERM;
use super::Row;
use super::field::Field;
use super::open::by_descriptor;
use super::open::use_it;
use super::raw;
use super::raw::Arg;
use crate::session::Result;

/// Bytes from another file system.
pub(super) fn from_outside(field: &Field) -> OwnedFd {
    let path = field.outside.join("source");
    if !path.exists() {
        let file = File::create(&path).expect("make a file outside");
        file.write_all_at(&[b'S'; 8192], 0).expect("fill the file outside");
    }
    rustix::fs::open(&path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).expect("open it")
}

/// Bytes from the same mount.
pub(super) fn from_beside(field: &Field) -> OwnedFd {
    rustix::fs::open(&field.other, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
        .expect("open what is beside")
}

/// A pipe with a few bytes in it.
pub(super) fn filled_pipe() -> (OwnedFd, OwnedFd) {
    let (reader, writer) = rustix::pipe::pipe().expect("make a pipe");
    rustix::io::write(&writer, b"pipe").expect("fill the pipe");
    (reader, writer)
}

/// One request through a ring of its own.
pub(super) fn by_ring(entry: &Entry) -> Result<()> {
    let mut ring = IoUring::new(2).expect("make a ring");
    raw::ring(&mut ring, entry).map(drop)
}

/// A range of a file as `FIDEDUPERANGE` wants it: from `source`, the first block into `to`.
pub(super) fn dedupe(source: &OwnedFd, to: &OwnedFd) -> Result<()> {
    let number = |fd: &OwnedFd| u64::try_from(std::os::fd::AsRawFd::as_raw_fd(fd)).expect("open");
    let mut range = raw::words(&[0, 4096, 1, number(to), 0, 0, 0]);
    raw::ioctl(source, 0xC018_9436, &mut range)?;
    let status = i32::from_ne_bytes(range[48..52].try_into().expect("four bytes"));
    if status < 0 { Err(Errno::from_raw_os_error(-status)) } else { Ok(()) }
}

fn truncate(field: &Field, length: u64) -> Result<()> {
    crate::session::raw::truncate(&field.file, length)
}

fn size(field: &Field) -> u64 {
    let stat = rustix::fs::stat(&field.file).expect("look at the file");
    u64::try_from(stat.st_size).expect("a length")
}

/// A descriptor for reading, by its number.
fn reading(field: &Field) -> Fd {
    Fd(std::os::fd::AsRawFd::as_raw_fd(&field.reader))
}

/// See the module.
pub(super) const ROWS: &[Row] = &[
    Row::refused("truncate to nothing", |f| truncate(f, 0)),
    Row::refused("truncate to less", |f| truncate(f, 1)),
    Row::refused("truncate to what it is", |f| truncate(f, size(f))),
    Row::refused("truncate to more", |f| truncate(f, 1 << 20)),
    Row::refused("truncate through /proc/self/fd", |f| {
        crate::session::raw::truncate(&by_descriptor(f.reader.as_fd()), 0)
    }),
    Row::refused("truncate through /proc/self/fd of O_PATH", |f| {
        crate::session::raw::truncate(&by_descriptor(f.place.as_fd()), 3)
    }),
    Row::new("write to a reading descriptor", BADF, |f| {
        rustix::io::write(&f.reader, b"w").map(drop)
    }),
    Row::new("pwrite to a reading descriptor", BADF, |f| {
        rustix::io::pwrite(&f.reader, b"w", 0).map(drop)
    }),
    Row::new("write to one that read while it was written", BADF, |f| {
        rustix::io::write(&f.early, b"w").map(drop)
    }),
    Row::new("pwritev2 RWF_APPEND to a reading descriptor", BADF, |f| {
        let flags = ReadWriteFlags::APPEND;
        rustix::io::pwritev2(&f.reader, &[IoSlice::new(b"w")], 0, flags).map(drop)
    }),
    Row::new("write to an O_PATH descriptor", BADF, |f| {
        rustix::io::write(&f.place, b"w").map(drop)
    }),
    Row::new("write after fcntl F_SETFL O_RDWR|O_APPEND", BADF, |f| {
        rustix::fs::fcntl_setfl(&f.reader, OFlags::RDWR | OFlags::APPEND)?;
        rustix::io::write(&f.reader, b"w").map(drop)
    }),
    Row::new("ftruncate of a reading descriptor", &[Errno::INVAL], |f| {
        rustix::fs::ftruncate(&f.reader, 0)
    }),
    Row::new("ftruncate of one that read while it was written", &[Errno::INVAL], |f| {
        rustix::fs::ftruncate(&f.early, 0)
    }),
    Row::new("ftruncate of an O_PATH descriptor", BADF, |f| rustix::fs::ftruncate(&f.place, 0)),
    Row::new("fallocate of a reading descriptor", BADF, |f| {
        rustix::fs::fallocate(&f.reader, FallocateFlags::empty(), 0, 1 << 20)
    }),
    Row::new("fallocate, punching a hole, of a reading descriptor", BADF, |f| {
        let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        rustix::fs::fallocate(&f.reader, flags, 0, 4096)
    }),
    Row::new("fallocate of one that read while it was written", BADF, |f| {
        rustix::fs::fallocate(&f.early, FallocateFlags::ZERO_RANGE, 0, 4096)
    }),
    Row::new("FS_IOC_ZERO_RANGE of a reading descriptor", BADF, |f| {
        let mut space = raw::words(&[0, 0, 4096, 0, 0, 0]);
        raw::ioctl(&f.reader, 0x4030_5839, &mut space).map(drop)
    }),
    Row::new("copy_file_range into a reading descriptor", BADF, |f| {
        let source = from_beside(f);
        rustix::fs::copy_file_range(&source, None, &f.reader, Some(&mut 0), 5).map(drop)
    }),
    Row::new("sendfile into a reading descriptor", BADF, |f| {
        rustix::fs::sendfile(&f.reader, from_beside(f), None, 5).map(drop)
    }),
    Row::new("splice into a reading descriptor", BADF, |f| {
        let (pipe, _keep) = filled_pipe();
        let flags = rustix::pipe::SpliceFlags::empty();
        rustix::pipe::splice(&pipe, None, &f.reader, Some(&mut 0), 4, flags).map(drop)
    }),
    Row::new("tee from a pipe into the file", BADF, |f| {
        let (pipe, _keep) = filled_pipe();
        let flags = rustix::pipe::SpliceFlags::empty();
        rustix::pipe::tee(&pipe, &f.reader, 4, flags).map(drop)
    }),
    Row::new("vmsplice into the file", BADF, |f| {
        let bytes = b"vmsplice";
        let vector = raw::words(&[bytes.as_ptr() as u64, bytes.len() as u64]);
        let fd = Arg::Fd(f.reader.as_fd());
        let args = &mut [fd, Arg::In(&vector), Arg::Int(1), Arg::Int(0)];
        raw::call(libc::SYS_vmsplice, args).map(drop)
    }),
    Row::new("FICLONE into a reading descriptor", &[Errno::BADF, Errno::OPNOTSUPP], |f| {
        rustix::fs::ioctl_ficlone(&f.reader, from_beside(f))
    }),
    // Deduplication never changes bytes; FUSE has none.
    Row::new("FIDEDUPERANGE into the file", &[Errno::OPNOTSUPP, Errno::INVAL], |f| {
        dedupe(&from_beside(f), &f.reader)
    })
    .and_owner(PERM),
    Row::new("FIDEDUPERANGE from another file system", &[Errno::XDEV, Errno::OPNOTSUPP], |f| {
        dedupe(&from_outside(f), &f.reader)
    })
    .and_owner(PERM),
    Row::new("io_uring write to a reading descriptor", BADF, |f| {
        by_ring(&opcode::Write::new(reading(f), b"ring".as_ptr(), 4).build())
    }),
    Row::new("io_uring fallocate of a reading descriptor", BADF, |f| {
        by_ring(&opcode::Fallocate::new(reading(f), 1 << 20).build())
    }),
    Row::new("io_uring ftruncate of a reading descriptor", &[Errno::INVAL], |f| {
        by_ring(&opcode::Ftruncate::new(reading(f), 0).build())
    }),
    Row::new("io_submit, a write to a reading descriptor", BADF, |f| {
        super::writer::by_aio(&f.reader, super::writer::AIO_WRITE, 0)
    }),
    Row::refused("io_uring openat O_WRONLY", |f| by_ring_open(f, libc::O_WRONLY)),
    Row::refused("io_uring openat O_RDONLY|O_TRUNC", |f| by_ring_open(f, libc::O_TRUNC)),
    Row::refused("io_uring openat O_RDWR|O_CREAT|O_APPEND", |f| {
        by_ring_open(f, libc::O_RDWR | libc::O_CREAT | libc::O_APPEND)
    }),
];

fn by_ring_open(field: &Field, flags: i32) -> Result<()> {
    let path = raw::path(&field.file);
    let entry = opcode::OpenAt::new(Fd(libc::AT_FDCWD), path.as_ptr().cast())
        .flags(flags | libc::O_CLOEXEC)
        .mode(0o644);
    let mut ring = IoUring::new(2).expect("make a ring");
    raw::ring(&mut ring, &entry.build()).map(|fd| use_it(&raw::own(i64::from(fd))))
}
