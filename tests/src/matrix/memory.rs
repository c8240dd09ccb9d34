//! Mappings: made before and after the seal, made writable, written through by the back door.

use std::fs::OpenOptions;
use std::os::fd::AsFd as _;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use io_uring::opcode::ReadFixed;
use io_uring::types::Fd;
use rustix::fs::OFlags;
use rustix::io::Errno;

use super::Needs;
use super::Row;
use super::bytes::from_outside;
use super::field::Field;
use super::open::open;
use super::raw;
use super::raw::Arg;
use super::raw::Mapping;
use crate::session::Result;

const READ: i32 = libc::PROT_READ;
const WRITE: i32 = libc::PROT_READ | libc::PROT_WRITE;
const ACCES: &[Errno] = &[Errno::ACCESS];

/// A shared mapping of what is finished, for reading.
fn shared(field: &Field) -> Result<Mapping> {
    Mapping::new(&field.reader, READ, libc::MAP_SHARED)
}

fn write_and_sync(mapping: &Mapping) -> Result<()> {
    mapping.write(b"MMAP");
    mapping.sync()
}

/// Writes into memory as a debugger would, which heeds no protection of pages.
fn by_the_back_door(mapping: &Mapping) -> Result<()> {
    let errno = |error: std::io::Error| Errno::from_io_error(&error).unwrap_or(Errno::IO);
    let memory = OpenOptions::new().write(true).open("/proc/self/mem").map_err(errno)?;
    memory.write_all_at(b"BACK", mapping.address()).map_err(errno)
}

/// A row that needs the descriptor that created the file.
const fn held(
    what: &'static str,
    answers: &'static [Errno],
    call: fn(&Field) -> Result<()>,
) -> Row {
    Row::new(what, answers, call).needs(Needs::Writer)
}

/// See the module.
pub(super) const ROWS: &[Row] = &[
    held("store through a mapping made before the end", &[Errno::NODEV], |f| {
        let writer = f.writer.as_ref().expect("it is open");
        writer.mapping.as_ref().map_err(|errno| *errno).and_then(write_and_sync)
    }),
    held("map the writing descriptor, shared and writable", &[Errno::NODEV], |f| {
        let writer = f.writer.as_ref().expect("it is open");
        Mapping::new(&writer.fd, WRITE, libc::MAP_SHARED).and_then(|m| write_and_sync(&m))
    }),
    held("map the writing descriptor, MAP_SHARED_VALIDATE", &[Errno::NODEV], |f| {
        let writer = f.writer.as_ref().expect("it is open");
        Mapping::new(&writer.fd, WRITE, libc::MAP_SHARED_VALIDATE).and_then(|m| write_and_sync(&m))
    }),
    held("map the writing descriptor for reading, mprotect", &[Errno::NODEV], |f| {
        let writer = f.writer.as_ref().expect("it is open");
        let mapping = Mapping::new(&writer.fd, READ, libc::MAP_SHARED)?;
        mapping.protect(WRITE).and_then(|()| write_and_sync(&mapping))
    }),
    held("map the writing descriptor, MAP_SHARED_VALIDATE|MAP_SYNC", NO_SYNC, |f| {
        let writer = f.writer.as_ref().expect("it is open");
        let flags = libc::MAP_SHARED_VALIDATE | libc::MAP_SYNC;
        Mapping::new(&writer.fd, WRITE, flags).and_then(|m| write_and_sync(&m))
    }),
    Row::new("map a reading descriptor, shared and writable", ACCES, |f| {
        Mapping::new(&f.reader, WRITE, libc::MAP_SHARED).and_then(|m| write_and_sync(&m))
    }),
    Row::new(
        "map a reading descriptor, mprotect to writable",
        &[Errno::ACCESS, Errno::NODEV],
        |f| {
            let mapping = shared(f)?;
            mapping.protect(WRITE).and_then(|()| write_and_sync(&mapping))
        },
    ),
    Row::new("map one that read while it was written, shared", REMOVE, |f| {
        let mapping = Mapping::new(&f.early, READ, libc::MAP_SHARED)?;
        mapping.protect(WRITE).and_then(|()| write_and_sync(&mapping))
    }),
    Row::new("map a reading descriptor, write by /proc/self/mem", NO_DOOR, |f| {
        shared(f).and_then(|mapping| by_the_back_door(&mapping))
    }),
    Row::new("map a reading descriptor without rights, mprotect to writable", REMOVE, |f| {
        let mapping = Mapping::new(&f.reader, libc::PROT_NONE, libc::MAP_SHARED)?;
        mapping.protect(WRITE).and_then(|()| write_and_sync(&mapping))
    }),
    Row::new("map a reading descriptor, read(2) into the mapping", NO_TARGET, |f| {
        let (mapping, source) = (shared(f)?, from_outside(f));
        let (address, length) = (Arg::Int(mapping.address().cast_signed()), Arg::Int(4));
        raw::call(libc::SYS_read, &mut [Arg::Fd(source.as_fd()), address, length]).map(drop)
    }),
    Row::new("map a reading descriptor, as a buffer of io_uring", NO_TARGET, |f| {
        let (mapping, source) = (shared(f)?, from_outside(f));
        let mut ring = io_uring::IoUring::new(2).expect("make a ring");
        let buffers = raw::words(&[mapping.address(), Mapping::LENGTH as u64]);
        // IORING_REGISTER_BUFFERS
        let (fd, register) = (Arg::Int(i64::from(ring.as_raw_fd())), Arg::Int(0));
        let args = &mut [fd, register, Arg::In(&buffers), Arg::Int(1)];
        raw::call(libc::SYS_io_uring_register, args)?;
        let (from, to) = (Fd(source.as_raw_fd()), mapping.address() as *mut u8);
        raw::ring(&mut ring, &ReadFixed::new(from, to, 4, 0).build()).map(drop)
    }),
    // The kernel must lead to the file that was opened, never to the one it reads from.
    Row::refused("open a shared mapping anew by /proc/self/map_files", |f| {
        let mapping = shared(f)?;
        let (from, to) = (mapping.address(), mapping.address() + Mapping::LENGTH as u64);
        open(Path::new(&format!("/proc/self/map_files/{from:x}-{to:x}")), OFlags::RDWR)
    })
    .or(&[Errno::PERM, Errno::NODEV]),
    Row::harmless(
        "splice a page into a pipe, write to the pipe",
        "a pipe has pages of its own",
        |f| {
            let (reader, pipe) = rustix::pipe::pipe()?;
            let flags = rustix::pipe::SpliceFlags::empty();
            rustix::pipe::splice(&f.reader, Some(&mut 0), &pipe, None, 1, flags)?;
            rustix::io::write(&pipe, b"dirty")?;
            rustix::io::read(&reader, &mut [0; 6]).map(drop)
        },
    ),
    Row::harmless("store into a private mapping", "the page is copied first", |f| {
        let mapping = Mapping::new(&f.reader, WRITE, libc::MAP_PRIVATE)?;
        write_and_sync(&mapping)
    }),
    Row::harmless(
        "store into a private mapping of one that read while it was written",
        "the page is copied first",
        |f| {
            let mapping = Mapping::new(&f.early, WRITE, libc::MAP_PRIVATE)?;
            write_and_sync(&mapping)
        },
    )
    // It is not mapped at all while another descriptor reads straight from the disk.
    .or(&[Errno::NODEV]),
    Row::harmless("map private, write by /proc/self/mem", "the page is copied first", |f| {
        let mapping = Mapping::new(&f.reader, READ, libc::MAP_PRIVATE)?;
        by_the_back_door(&mapping)
    }),
    Row::new("madvise MADV_REMOVE", REMOVE, |f| shared(f)?.advise(libc::MADV_REMOVE)),
    Row::new("madvise MADV_POPULATE_WRITE", POPULATE, |f| {
        shared(f)?.advise(libc::MADV_POPULATE_WRITE)
    }),
    Row::harmless("madvise MADV_DONTNEED, MADV_PAGEOUT", "clean pages are forgotten", |f| {
        let mapping = shared(f)?;
        mapping.advise(libc::MADV_DONTNEED)?;
        mapping.advise(libc::MADV_PAGEOUT)
    })
    .or(&[Errno::NODEV]),
];

/// A file that is being written cannot be mapped at all.
const REMOVE: &[Errno] = &[Errno::ACCESS, Errno::NODEV];
/// Memory that is not writable is no place to read into.
const NO_TARGET: &[Errno] = &[Errno::FAULT, Errno::NODEV];
/// Neither can it be populated.
const POPULATE: &[Errno] = &[Errno::INVAL, Errno::FAULT, Errno::NODEV];
/// Shared pages that are not writable are written by nobody, not even a debugger.
const NO_DOOR: &[Errno] = &[Errno::IO, Errno::FAULT, Errno::NODEV];
/// Only for persistent memory.
const NO_SYNC: &[Errno] = &[Errno::OPNOTSUPP, Errno::NODEV];
