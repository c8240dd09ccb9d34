//! What is done beside a file, and must stay beside it: locks, leases, watches, caches, and the
//! ways of the kernel to use a file as a device.

use std::fs::OpenOptions;
use std::os::fd::AsFd as _;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::FileExt as _;
use std::os::unix::fs::OpenOptionsExt as _;

use rustix::fs::FlockOperation;
use rustix::io::Errno;

use super::Needs;
use super::Row;
use super::field::Field;
use super::raw;
use super::raw::Arg;
use crate::session::Result;

/// `fcntl(2)` with a number.
fn fcntl(field: &Field, command: i32, argument: i32) -> Result<()> {
    let (command, argument) = (Arg::Int(i64::from(command)), Arg::Int(i64::from(argument)));
    let args = &mut [Arg::Fd(field.reader.as_fd()), command, argument];
    raw::call(libc::SYS_fcntl, args).map(drop)
}

/// `fcntl(2)` with a `struct flock` over the whole file: kind, origin, start, length, process.
fn lock(field: &Field, command: i32, kind: i32) -> Result<()> {
    let kind = u64::try_from(kind).expect("a kind of lock");
    let lock = raw::words(&[kind, 0, 0, 0]);
    let args = &mut [Arg::Fd(field.reader.as_fd()), Arg::Int(i64::from(command)), Arg::In(&lock)];
    raw::call(libc::SYS_fcntl, args).map(drop)
}

/// Makes a loop device of the file, which goes when its descriptor does, and writes to it.
fn write_through_loop(field: &Field) -> Result<()> {
    const GET_FREE: u32 = 0x4C82;
    const CONFIGURE: u32 = 0x4C0A;
    const SET_READ_ONLY: u32 = 0x125D;
    const TRIES: usize = 20;
    let errno = |error: std::io::Error| Errno::from_io_error(&error).unwrap_or(Errno::IO);
    let open = |path: &str| OpenOptions::new().read(true).write(true).open(path).map_err(errno);
    let control = open("/dev/loop-control")?;
    for _try in 0..TRIES {
        let number = raw::ioctl(&control, GET_FREE, &mut [])?;
        let device = open(&format!("/dev/loop{number}"))?;
        // struct loop_config: descriptor, block size, struct loop_info64 with its flags at 60.
        let mut config = [0; 304];
        config[..4].copy_from_slice(&field.reader.as_raw_fd().to_ne_bytes());
        config[60] = 4; // LO_FLAGS_AUTOCLEAR
        match raw::ioctl(&device, CONFIGURE, &mut config) {
            // Somebody else took it.
            Err(Errno::BUSY) => continue,
            Err(errno) => return Err(errno),
            Ok(_) => {}
        }
        let _refused = raw::ioctl(&device, SET_READ_ONLY, &mut 0_u64.to_ne_bytes());
        device.write_all_at(&[b'L'; 4096], 0).map_err(errno)?;
        return rustix::fs::fsync(&device);
    }
    Err(Errno::BUSY)
}

fn watch(field: &Field) -> Result<()> {
    use rustix::fs::inotify;
    let watcher = inotify::init(inotify::CreateFlags::CLOEXEC)?;
    inotify::add_watch(&watcher, &field.file, inotify::WatchFlags::ALL_EVENTS).map(drop)
}

fn mark(field: &Field) -> Result<()> {
    let init = &mut [Arg::Int(1), Arg::Int(i64::from(libc::O_RDONLY))];
    let group = raw::own(raw::call(libc::SYS_fanotify_init, init)?);
    let (path, cwd) = (raw::path(&field.file), Arg::Int(i64::from(libc::AT_FDCWD)));
    // FAN_MARK_ADD; FAN_ACCESS, FAN_MODIFY, FAN_OPEN.
    let (add, mask) = (Arg::Int(1), Arg::Int(0x23));
    let args = &mut [Arg::Fd(group.as_fd()), add, mask, cwd, Arg::In(&path)];
    raw::call(libc::SYS_fanotify_mark, args).map(drop)
}

/// What the kernel says to who has not the right.
const NO_RIGHT: &[Errno] = &[Errno::PERM];
/// FUSE has no such thing.
const NONE: &[Errno] = &[Errno::INVAL, Errno::AGAIN, Errno::OPNOTSUPP];
/// No quota is kept here.
const NO_QUOTA: &[Errno] = &[Errno::NOSYS, Errno::SRCH, Errno::OPNOTSUPP];

const LOCAL: &str = "a lock is kept by this kernel and tells nobody but who asks for locks";
const CACHE: &str = "it is about what the kernel remembers";
const LOOKS: &str = "it looks on";

/// See the module.
pub(super) const ROWS: &[Row] = &[
    Row::harmless("flock LOCK_EX", LOCAL, |f| {
        rustix::fs::flock(&f.reader, FlockOperation::NonBlockingLockExclusive)?;
        rustix::fs::flock(&f.reader, FlockOperation::Unlock)
    }),
    Row::harmless("fcntl F_OFD_SETLK, for reading", LOCAL, |f| {
        lock(f, libc::F_OFD_SETLK, libc::F_RDLCK)?;
        lock(f, libc::F_OFD_SETLK, libc::F_UNLCK)
    }),
    Row::new("fcntl F_OFD_SETLK, for writing", &[Errno::BADF], |f| {
        lock(f, libc::F_OFD_SETLK, libc::F_WRLCK)
    }),
    Row::harmless("fcntl F_SETLK, for reading", LOCAL, |f| {
        lock(f, libc::F_SETLK, libc::F_RDLCK)?;
        lock(f, libc::F_SETLK, libc::F_UNLCK)
    }),
    Row::harmless("fcntl F_SETLEASE, for reading", LOCAL, |f| {
        fcntl(f, libc::F_SETLEASE, libc::F_RDLCK)?;
        fcntl(f, libc::F_SETLEASE, libc::F_UNLCK)
    })
    .or(NONE),
    Row::harmless("fcntl F_SETLEASE, for writing", LOCAL, |f| {
        fcntl(f, libc::F_SETLEASE, libc::F_WRLCK)?;
        fcntl(f, libc::F_SETLEASE, libc::F_UNLCK)
    })
    .or(&[Errno::AGAIN, Errno::BUSY, Errno::INVAL]),
    Row::new("fcntl F_ADD_SEALS", &[Errno::INVAL, Errno::PERM], |f| {
        fcntl(f, libc::F_ADD_SEALS, libc::F_SEAL_WRITE)
    }),
    Row::harmless("fcntl F_SET_RW_HINT", CACHE, |f| {
        let hint = raw::words(&[5]);
        // F_SET_RW_HINT of linux/fcntl.h.
        let command = Arg::Int(1036);
        raw::call(libc::SYS_fcntl, &mut [Arg::Fd(f.reader.as_fd()), command, Arg::In(&hint)])
            .map(drop)
    })
    // Asked of who owns the file.
    .or(&[Errno::PERM]),
    Row::harmless("posix_fadvise POSIX_FADV_DONTNEED", CACHE, |f| {
        rustix::fs::fadvise(&f.reader, 0, None, rustix::fs::Advice::DontNeed)
    }),
    Row::harmless("readahead", CACHE, |f| {
        let args = &mut [Arg::Fd(f.reader.as_fd()), Arg::Int(0), Arg::Int(1 << 20)];
        raw::call(libc::SYS_readahead, args).map(drop)
    }),
    Row::harmless("fsync of a reading descriptor", CACHE, |f| rustix::fs::fsync(&f.reader)),
    Row::harmless("syncfs", CACHE, |f| rustix::fs::syncfs(&f.reader)),
    Row::harmless("inotify_add_watch", LOOKS, watch),
    Row::harmless("fanotify_mark", LOOKS, mark).needs(Needs::Root),
    Row::new("quotactl_fd, setting a quota", NO_QUOTA, |f| {
        // QCMD(Q_SETQUOTA, USRQUOTA) for user 1.
        let mut limits = [0; 72];
        let (command, limits) = (Arg::Int(0x8000_0800), Arg::Out(&mut limits));
        raw::call(443, &mut [Arg::Fd(f.reader.as_fd()), command, Arg::Int(1), limits]).map(drop)
    })
    .and_owner(NO_RIGHT),
    // The kernel opens it for reading and writing.
    Row::refused("swapon", |f| {
        let path = raw::path(&f.file);
        raw::call(libc::SYS_swapon, &mut [Arg::In(&path), Arg::Int(0)])?;
        raw::call(libc::SYS_swapoff, &mut [Arg::In(&path)]).map(drop)
    })
    .needs(Needs::RootOnWorm),
    Row::refused("acct, process accounting into the file", |f| {
        let path = raw::path(&f.file);
        raw::call(libc::SYS_acct, &mut [Arg::In(&path)])?;
        raw::call(libc::SYS_acct, &mut [Arg::In(&[])]).map(drop)
    })
    // A kernel without it.
    .or(&[Errno::PERM, Errno::NOSYS])
    .needs(Needs::RootOnWorm),
    Row::new("a loop device on the file, write to it", NO_LOOP, write_through_loop)
        .needs(Needs::RootOnWorm),
    Row::new("mount --bind over the file, without the right", NO_RIGHT, |f| {
        let source = f.outside.join("source");
        rustix::mount::mount_bind(&source, &f.file)
    })
    .needs(Needs::NotRoot),
    Row::new("mount of a tmpfs over its directory, without the right", NO_RIGHT, |f| {
        let flags = rustix::mount::MountFlags::empty();
        rustix::mount::mount("none", &f.dir, "tmpfs", flags, None)
    })
    .needs(Needs::NotRoot),
    Row::new("umount, without the right", NO_RIGHT, |f| {
        rustix::mount::unmount(&f.root, rustix::mount::UnmountFlags::DETACH)
    })
    .needs(Needs::NotRoot),
    Row::new("umount by force, without the right", NO_RIGHT, |f| {
        rustix::mount::unmount(&f.root, rustix::mount::UnmountFlags::FORCE)
    })
    .needs(Needs::NotRoot),
    Row::new("chroot into its directory, without the right", NO_RIGHT, |f| {
        rustix::process::chroot(&f.dir)
    })
    .needs(Needs::NotRoot),
    Row::harmless("a read with O_DIRECT", LOOKS, |f| {
        let flags = libc::O_DIRECT | libc::O_CLOEXEC;
        let file = OpenOptions::new().read(true).custom_flags(flags).open(&f.file);
        file.map(drop).map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))
    }),
];

/// The device is read-only because the descriptor is.
const NO_LOOP: &[Errno] = &[Errno::PERM, Errno::ACCESS, Errno::IO];
