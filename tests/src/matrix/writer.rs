//! Bytes and length, by the descriptor that created the file, after the file was finished.

use std::io::IoSlice;
use std::os::fd::AsFd as _;
use std::os::fd::AsRawFd as _;
use std::os::fd::OwnedFd;

use io_uring::opcode;
use io_uring::types::Fd;
use io_uring::types::Fixed;
use rustix::fs::FallocateFlags;
use rustix::fs::OFlags;
use rustix::io::Errno;
use rustix::io::ReadWriteFlags;
use rustix::pipe::SpliceFlags;

use super::Needs;
use super::Row;
use super::bytes::by_ring;
use super::bytes::dedupe;
use super::bytes::filled_pipe;
use super::bytes::from_beside;
use super::bytes::from_outside;
use super::field::Field;
use super::field::Writer;
use super::open::by_descriptor;
use super::open::open;
use super::raw;
use super::raw::Arg;
use crate::session::Result;

/// `IOCB_CMD_PWRITE` and `IOCB_CMD_PWRITEV`.
pub(super) const AIO_WRITE: u64 = 1;
const AIO_WRITE_VECTOR: u64 = 8;

/// One request through Linux' own asynchronous I/O.
pub(super) fn by_aio(fd: &OwnedFd, opcode: u64, flags: u64) -> Result<()> {
    let bytes = b"asynchronous";
    let vector = raw::words(&[bytes.as_ptr() as u64, bytes.len() as u64]);
    let (buffer, length) = match opcode {
        AIO_WRITE => (bytes.as_ptr(), bytes.len() as u64),
        _ => (vector.as_ptr(), 1),
    };
    let number = u64::try_from(fd.as_raw_fd()).expect("it is open");
    // struct iocb: data, flags above key, descriptor above opcode, buffer, length, offset.
    let request =
        raw::words(&[0, flags << 32, number << 32 | opcode, buffer as u64, length, 0, 0, 0]);
    let requests = raw::words(&[request.as_ptr() as u64]);
    let mut context = [0; 8];
    raw::call(libc::SYS_io_setup, &mut [Arg::Int(1), Arg::Out(&mut context)])?;
    let id = i64::from_ne_bytes(context);
    let submit = &mut [Arg::Int(id), Arg::Int(1), Arg::In(&requests)];
    let answer = raw::call(libc::SYS_io_submit, submit).and_then(|_one| {
        // struct io_event: data, request, result, second result.
        let mut event = [0; 32];
        let out = Arg::Out(&mut event);
        let args = &mut [Arg::Int(id), Arg::Int(1), Arg::Int(1), out, Arg::In(&[])];
        raw::call(libc::SYS_io_getevents, args)?;
        let result = i64::from_ne_bytes(event[16..24].try_into().expect("eight bytes"));
        match i32::try_from(-result) {
            Ok(errno) if errno > 0 => Err(Errno::from_raw_os_error(errno)),
            _ => Ok(()),
        }
    });
    raw::call(libc::SYS_io_destroy, &mut [Arg::Int(id)])?;
    answer
}

fn writer(field: &Field) -> &Writer {
    field.writer.as_ref().expect("the row says that it needs the writer")
}

fn fd(field: &Field) -> &OwnedFd {
    &writer(field).fd
}

fn number(field: &Field) -> Fd {
    Fd(fd(field).as_raw_fd())
}

fn vectored(field: &Field, flags: ReadWriteFlags) -> Result<()> {
    rustix::io::pwritev2(fd(field), &[IoSlice::new(b"vector")], 0, flags).map(drop)
}

fn allocate(field: &Field, mode: u32) -> Result<()> {
    let mode = FallocateFlags::from_bits_retain(mode);
    rustix::fs::fallocate(fd(field), mode, 4096, 8192)
}

fn with_flags(field: &Field, flags: OFlags) -> Result<()> {
    rustix::fs::fcntl_setfl(fd(field), flags)?;
    let written = rustix::io::write(fd(field), &[b'F'; 4096]).map(drop);
    rustix::fs::fcntl_setfl(fd(field), OFlags::empty())?;
    written
}

fn splice(field: &Field, pipe: &OwnedFd) -> Result<()> {
    rustix::pipe::splice(pipe, None, fd(field), Some(&mut 0), 4, SpliceFlags::empty()).map(drop)
}

fn clone_range(field: &Field, source: &OwnedFd) -> Result<()> {
    let number = u64::try_from(source.as_raw_fd()).expect("it is open");
    // struct file_clone_range: source, its offset, the length, the offset here.
    let mut range = raw::words(&[number, 0, 0, 0]);
    raw::ioctl(fd(field), 0x4020_940D, &mut range).map(drop)
}

/// A row that needs the descriptor that created the file.
const fn held(what: &'static str, call: fn(&Field) -> Result<()>) -> Row {
    Row::refused(what, call).needs(Needs::Writer)
}

/// The kernel knows no such flag, or the file system does not offer it: said before it is asked.
const PERM_OR_UNSUPPORTED: &[Errno] = &[Errno::PERM, Errno::OPNOTSUPP];
/// What a clone answers: the kernel, for us.
const NO_CLONE: &[Errno] = &[Errno::OPNOTSUPP, Errno::XDEV, Errno::INVAL];

/// See the module.
pub(super) const ROWS: &[Row] = &[
    held("write", |f| rustix::io::write(fd(f), b"write").map(drop)),
    held("pwrite at the beginning", |f| rustix::io::pwrite(fd(f), b"write", 0).map(drop)),
    held("pwrite far behind the end", |f| rustix::io::pwrite(fd(f), b"write", 1 << 30).map(drop)),
    held("writev", |f| rustix::io::writev(fd(f), &[IoSlice::new(b"vector")]).map(drop)),
    held("pwritev", |f| rustix::io::pwritev(fd(f), &[IoSlice::new(b"vector")], 0).map(drop)),
    held("pwritev2", |f| vectored(f, ReadWriteFlags::empty())),
    held("pwritev2 RWF_HIPRI", |f| vectored(f, ReadWriteFlags::HIPRI)).or(PERM_OR_UNSUPPORTED),
    held("pwritev2 RWF_DSYNC", |f| vectored(f, ReadWriteFlags::DSYNC)),
    held("pwritev2 RWF_SYNC", |f| vectored(f, ReadWriteFlags::SYNC)),
    held("pwritev2 RWF_NOWAIT", |f| vectored(f, ReadWriteFlags::NOWAIT)).or(PERM_OR_UNSUPPORTED),
    held("pwritev2 RWF_APPEND", |f| vectored(f, ReadWriteFlags::APPEND)),
    held("pwritev2 RWF_NOAPPEND", |f| vectored(f, ReadWriteFlags::from_bits_retain(0x20))),
    held("pwritev2 RWF_ATOMIC", |f| vectored(f, ReadWriteFlags::from_bits_retain(0x40))).or(&[
        Errno::PERM,
        Errno::OPNOTSUPP,
        Errno::INVAL,
    ]),
    held("pwritev2 RWF_DONTCACHE", |f| vectored(f, ReadWriteFlags::from_bits_retain(0x80)))
        .or(PERM_OR_UNSUPPORTED),
    held("write after F_SETFL O_APPEND", |f| with_flags(f, OFlags::APPEND)),
    held("write after F_SETFL O_DIRECT", |f| with_flags(f, OFlags::DIRECT))
        .or(&[Errno::PERM, Errno::INVAL]),
    held("write after F_SETFL O_NONBLOCK", |f| with_flags(f, OFlags::NONBLOCK)),
    held("write to a copy", |f| rustix::io::write(&writer(f).copy, b"copy").map(drop)),
    held("write to a copy that came through a socket", |f| {
        rustix::io::pwrite(writer(f).sent.fd(), b"sent", 0).map(drop)
    }),
    held("write by a child that has it from before", |f| writer(f).child.ask("write")),
    held("ftruncate by a child that has it from before", |f| writer(f).child.ask("truncate")),
    held("write to a copy from pidfd_getfd", |f| {
        let this = rustix::process::getpid();
        let pidfd = rustix::process::pidfd_open(this, rustix::process::PidfdFlags::empty())?;
        let target = fd(f).as_raw_fd();
        let flags = rustix::process::PidfdGetfdFlags::empty();
        let copy = rustix::process::pidfd_getfd(&pidfd, target, flags)?;
        rustix::io::pwrite(&copy, b"taken", 0).map(drop)
    }),
    held("the descriptor opened anew O_WRONLY", |f| {
        open(&by_descriptor(fd(f).as_fd()), OFlags::WRONLY)
    }),
    held("the descriptor opened anew O_TRUNC", |f| {
        open(&by_descriptor(fd(f).as_fd()), OFlags::TRUNC)
    }),
    held("truncate through /proc/self/fd of the descriptor", |f| {
        crate::session::raw::truncate(&by_descriptor(fd(f).as_fd()), 0)
    }),
    held("ftruncate to nothing", |f| rustix::fs::ftruncate(fd(f), 0)),
    held("ftruncate to what it is", |f| rustix::fs::ftruncate(fd(f), 16 * 4096)),
    held("ftruncate to more", |f| rustix::fs::ftruncate(fd(f), 1 << 20)),
    held("fallocate", |f| rustix::fs::fallocate(fd(f), FallocateFlags::empty(), 0, 1 << 20)),
    held("fallocate FALLOC_FL_KEEP_SIZE", |f| allocate(f, 0x01)),
    held("fallocate FALLOC_FL_PUNCH_HOLE|KEEP_SIZE", |f| allocate(f, 0x03)),
    held("fallocate FALLOC_FL_PUNCH_HOLE", |f| allocate(f, 0x02)).or(PERM_OR_UNSUPPORTED),
    held("fallocate FALLOC_FL_NO_HIDE_STALE", |f| allocate(f, 0x04)).or(PERM_OR_UNSUPPORTED),
    held("fallocate FALLOC_FL_COLLAPSE_RANGE", |f| allocate(f, 0x08)).or(PERM_OR_UNSUPPORTED),
    held("fallocate FALLOC_FL_ZERO_RANGE", |f| allocate(f, 0x10)),
    held("fallocate FALLOC_FL_ZERO_RANGE|KEEP_SIZE", |f| allocate(f, 0x11)),
    held("fallocate FALLOC_FL_INSERT_RANGE", |f| allocate(f, 0x20)).or(PERM_OR_UNSUPPORTED),
    held("fallocate FALLOC_FL_UNSHARE_RANGE", |f| allocate(f, 0x40)).or(PERM_OR_UNSUPPORTED),
    held("fallocate FALLOC_FL_WRITE_ZEROES", |f| allocate(f, 0x80)).or(PERM_OR_UNSUPPORTED),
    held("fallocate with an unknown mode", |f| allocate(f, 0x4000)).or(PERM_OR_UNSUPPORTED),
    held("FS_IOC_RESVSP", |f| preallocate(f, 0x4030_5828)),
    held("FS_IOC_UNRESVSP", |f| preallocate(f, 0x4030_582B)),
    held("FS_IOC_ZERO_RANGE", |f| preallocate(f, 0x4030_5839)),
    held("copy_file_range from the same mount", |f| {
        rustix::fs::copy_file_range(from_beside(f), None, fd(f), Some(&mut 0), 5).map(drop)
    }),
    held("copy_file_range from another file system", |f| {
        rustix::fs::copy_file_range(from_outside(f), None, fd(f), Some(&mut 0), 5).map(drop)
    })
    .or(&[Errno::PERM, Errno::XDEV]),
    held("copy_file_range from itself", |f| {
        rustix::fs::copy_file_range(&f.reader, Some(&mut 0), fd(f), Some(&mut 8192), 4096).map(drop)
    }),
    held("sendfile from the same mount", |f| {
        rustix::fs::sendfile(fd(f), from_beside(f), None, 5).map(drop)
    }),
    held("sendfile from another file system", |f| {
        rustix::fs::sendfile(fd(f), from_outside(f), None, 5).map(drop)
    }),
    held("splice from a pipe", |f| splice(f, &filled_pipe().0)),
    held("splice of what was given to a pipe by vmsplice", |f| {
        let (reader, pipe) = rustix::pipe::pipe()?;
        let bytes = b"vmsplice";
        let vector = raw::words(&[bytes.as_ptr() as u64, bytes.len() as u64]);
        let args = &mut [Arg::Fd(pipe.as_fd()), Arg::In(&vector), Arg::Int(1), Arg::Int(0)];
        raw::call(libc::SYS_vmsplice, args)?;
        splice(f, &reader)
    }),
    held("splice of what was copied by tee", |f| {
        let (from, _keep) = filled_pipe();
        let (reader, pipe) = rustix::pipe::pipe()?;
        rustix::pipe::tee(&from, &pipe, 4, SpliceFlags::empty())?;
        splice(f, &reader)
    }),
    held("FICLONE from the same mount", |f| rustix::fs::ioctl_ficlone(fd(f), from_beside(f)))
        .or(NO_CLONE),
    held("FICLONE from another file system", |f| rustix::fs::ioctl_ficlone(fd(f), from_outside(f)))
        .or(NO_CLONE),
    held("FICLONERANGE from the same mount", |f| clone_range(f, &from_beside(f))).or(NO_CLONE),
    held("FIDEDUPERANGE from the same mount", |f| dedupe(&from_beside(f), fd(f))).or(NO_CLONE),
    held("io_uring write", |f| {
        by_ring(&opcode::Write::new(number(f), b"ring".as_ptr(), 4).build())
    }),
    held("io_uring write at the end, RWF_APPEND", |f| {
        by_ring(&opcode::Write::new(number(f), b"ring".as_ptr(), 4).rw_flags(0x10).build())
    }),
    held("io_uring writev", |f| {
        let bytes = b"ring";
        let vector = libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: 4 };
        by_ring(&opcode::Writev::new(number(f), (&raw const vector).cast(), 1).build())
    }),
    held("io_uring write to a file that was registered before", |f| {
        let entry = opcode::Write::new(Fixed(0), b"ring".as_ptr(), 4).build();
        raw::ring(&mut writer(f).ring.0.borrow_mut(), &entry).map(drop)
    }),
    held("io_uring fallocate", |f| by_ring(&opcode::Fallocate::new(number(f), 1 << 20).build())),
    held("io_uring fallocate, punching a hole", |f| {
        by_ring(&opcode::Fallocate::new(number(f), 4096).mode(3).build())
    }),
    held("io_uring ftruncate", |f| by_ring(&opcode::Ftruncate::new(number(f), 0).build())),
    held("io_uring splice from a pipe", |f| {
        let (pipe, _keep) = filled_pipe();
        let (from, to) = (Fd(pipe.as_raw_fd()), number(f));
        by_ring(&opcode::Splice::new(from, -1, to, 0, 4).build())
    }),
    held("io_submit, a write", |f| by_aio(fd(f), AIO_WRITE, 0)),
    held("io_submit, a vectored write", |f| by_aio(fd(f), AIO_WRITE_VECTOR, 0)),
    held("io_submit, a write with RWF_APPEND", |f| by_aio(fd(f), AIO_WRITE, 0x10)),
    held("BEGIN again", |f| raw::ioctl(fd(f), 0xF501, &mut []).map(drop)),
    held("COMMIT again", |f| raw::ioctl(fd(f), 0xF502, &mut []).map(drop)),
    held("ABORT", |f| raw::ioctl(fd(f), 0xF503, &mut []).map(drop)),
    held("fsync and fdatasync", |f| {
        rustix::fs::fsync(fd(f)).and_then(|()| rustix::fs::fdatasync(fd(f)))
    })
    .harmless_because("all bytes are on the disk already"),
    held("sync_file_range", |f| {
        let args = &mut [Arg::Fd(fd(f).as_fd()), Arg::Int(0), Arg::Int(0), Arg::Int(7)];
        raw::call(libc::SYS_sync_file_range, args).map(drop)
    })
    .harmless_because("all bytes are on the disk already"),
];

/// `struct space_resv`: kind and origin, offset, length.
fn preallocate(field: &Field, number: u32) -> Result<()> {
    let mut space = raw::words(&[0, 4096, 8192, 0, 0, 0]);
    raw::ioctl(fd(field), number, &mut space).map(drop)
}
