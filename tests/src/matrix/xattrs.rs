//! Extended attributes and access control lists.

use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::XattrFlags;
use rustix::io::Errno;

use super::PERM;
use super::Row;
use super::field::Field;
use super::raw;
use super::raw::Arg;
use crate::session::Result;

/// A list in the form of `acl(5)`: user rwx, user 1 rw, group r, mask rwx, others r.
const ACL: &[u8] = b"\x02\0\0\0\x01\0\x07\0\xff\xff\xff\xff\x02\0\x06\0\x01\0\0\0\
    \x04\0\x04\0\xff\xff\xff\xff\x10\0\x07\0\xff\xff\xff\xff\x20\0\x04\0\xff\xff\xff\xff";
const ACL_ACCESS: &str = "system.posix_acl_access";
const ACL_DEFAULT: &str = "system.posix_acl_default";
/// `CAP_NET_RAW`, permitted, in the form of `capabilities(7)`.
pub(super) const CAPABILITY: &[u8] = b"\x00\0\0\x02\0\x20\0\0\0\0\0\0\0\0\0\0\0\0\0\0";
/// `CAP_NET_BIND_SERVICE`, likewise.
const OTHER_CAPABILITY: &[u8] = b"\x00\0\0\x02\0\x04\0\0\0\0\0\0\0\0\0\0\0\0\0\0";

fn set(field: &Field, name: &str, value: &[u8]) -> Result<()> {
    set_at(&field.file, name, value)
}

fn set_at(path: &Path, name: &str, value: &[u8]) -> Result<()> {
    rustix::fs::lsetxattr(path, name, value, XattrFlags::empty())
}

fn remove(field: &Field, name: &str) -> Result<()> {
    rustix::fs::lremovexattr(&field.file, name)
}

fn set_by(fd: &OwnedFd) -> Result<()> {
    rustix::fs::fsetxattr(fd, "user.x", b"4", XattrFlags::empty())
}

/// `setxattrat(2)`: the value's address, its length, flags.
fn set_by_new_call(fd: Arg, path: &[u8], flags: i32) -> Result<()> {
    let value = b"5";
    let arguments = raw::words(&[value.as_ptr() as u64, value.len() as u64]);
    let (flags, name) = (Arg::Int(i64::from(flags)), Arg::In(b"user.x\0"));
    let args = &mut [fd, Arg::In(path), flags, name, Arg::In(&arguments), Arg::Int(16)];
    raw::call(463, args).map(drop)
}

/// What is no namespace of this file system, or no business of who is not root.
const NO_SUCH: &[Errno] = &[Errno::OPNOTSUPP];
/// The kernel answers for a file system that has no lists, or the file system for itself.
const NO_ACL: &[Errno] = &[Errno::OPNOTSUPP, Errno::PERM];

/// See the module.
pub(super) const ROWS: &[Row] = &[
    Row::refused("setxattr user.x", |f| set(f, "user.x", b"2")),
    Row::refused("setxattr user.new, XATTR_CREATE", |f| {
        rustix::fs::setxattr(&f.file, "user.new", b"1", XattrFlags::CREATE)
    }),
    Row::refused("setxattr user.x, XATTR_REPLACE", |f| {
        rustix::fs::setxattr(&f.file, "user.x", b"3", XattrFlags::REPLACE)
    }),
    Row::refused("setxattr user.x to nothing", |f| set(f, "user.x", b"")),
    Row::refused("setxattr trusted.x", |f| set(f, "trusted.x", b"1")),
    Row::refused("setxattr trusted.overlay.opaque", |f| set(f, "trusted.overlay.opaque", b"y")),
    Row::refused("setxattr security.x", |f| set(f, "security.x", b"1")),
    Row::refused("setxattr security.capability", |f| {
        set(f, "security.capability", OTHER_CAPABILITY)
    }),
    Row::refused("setxattr security.selinux", |f| set(f, "security.selinux", b"x:y:z:s0")),
    Row::new("setxattr system.x", &[Errno::PERM, Errno::OPNOTSUPP], |f| set(f, "system.x", b"1")),
    Row::new("setxattr in no namespace", &[Errno::PERM, Errno::OPNOTSUPP], |f| set(f, "x", b"1")),
    Row::new("setxattr system.posix_acl_access", NO_ACL, |f| set(f, ACL_ACCESS, ACL)),
    Row::new("removexattr system.posix_acl_access", NO_ACL, |f| remove(f, ACL_ACCESS)),
    Row::new("setxattr system.posix_acl_default of its directory", NO_ACL, |f| {
        set_at(&f.dir, ACL_DEFAULT, ACL)
    }),
    Row::new("setxattr system.posix_acl_access of its directory", NO_ACL, |f| {
        set_at(&f.dir, ACL_ACCESS, ACL)
    }),
    Row::refused("setxattr user.worm.state", |f| set(f, "user.worm.state", b"writing")),
    Row::refused("setxattr user.worm.sha256", |f| set(f, "user.worm.sha256", b"0")),
    Row::refused("setxattr user.worm.sealed_at", |f| {
        set(f, "user.worm.sealed_at", b"2000-01-01T00:00:00Z")
    }),
    Row::refused("setxattr user.worm.class", |f| set(f, "user.worm.class", b"none")),
    Row::refused("setxattr user.worm.holds", |f| set(f, "user.worm.holds", b"")),
    Row::refused("setxattr user.worm.store", |f| set(f, "user.worm.store", b"mine")),
    Row::refused("setxattr user.worm.other", |f| set(f, "user.worm.other", b"1")),
    Row::refused("setxattr user.worm.retain_until, earlier", |f| {
        set(f, "user.worm.retain_until", b"2000-01-01T00:00:00Z")
    }),
    Row::refused("setxattr user.worm.retain_until, too late", |f| {
        set(f, "user.worm.retain_until", b"2999-01-01T00:00:00Z")
    }),
    Row::new("setxattr user.worm.retain_until, no time", &[Errno::INVAL], |f| {
        set(f, "user.worm.retain_until", b"never")
    }),
    Row::new("setxattr user.worm.retain_until, nothing", &[Errno::INVAL], |f| {
        set(f, "user.worm.retain_until", b"")
    }),
    Row::refused("removexattr user.x", |f| remove(f, "user.x")),
    Row::refused("removexattr trusted.x", |f| remove(f, "trusted.x")),
    Row::refused("removexattr security.capability", |f| remove(f, "security.capability")),
    Row::refused("removexattr user.worm.retain_until", |f| remove(f, "user.worm.retain_until")),
    Row::refused("removexattr user.worm.sha256", |f| remove(f, "user.worm.sha256")),
    Row::refused("removexattr user.worm.state", |f| remove(f, "user.worm.state")),
    Row::refused("fsetxattr of a reading descriptor", |f| set_by(&f.reader)),
    Row::refused("fsetxattr of one that read while it was written", |f| set_by(&f.early)),
    Row::new("fsetxattr of an O_PATH descriptor", &[Errno::BADF], |f| set_by(&f.place)),
    Row::refused("fremovexattr of a reading descriptor", |f| {
        rustix::fs::fremovexattr(&f.reader, "user.worm.sha256")
    }),
    Row::refused("setxattrat", |f| {
        set_by_new_call(Arg::Int(i64::from(libc::AT_FDCWD)), &raw::path(&f.file), 0)
    }),
    Row::refused("setxattrat AT_EMPTY_PATH of a reading descriptor", |f| {
        let fd = Arg::Fd(std::os::fd::AsFd::as_fd(&f.reader));
        set_by_new_call(fd, b"\0", libc::AT_EMPTY_PATH)
    }),
    Row::refused("removexattrat", |f| {
        let (cwd, path) = (Arg::Int(i64::from(libc::AT_FDCWD)), raw::path(&f.file));
        let args = &mut [cwd, Arg::In(&path), Arg::Int(0), Arg::In(b"user.worm.state\0")];
        raw::call(466, args).map(drop)
    }),
    Row::refused("io_uring setxattr", |f| {
        let (path, value) = (raw::path(&f.file), b"6");
        let (name, value) = (c"user.x".as_ptr(), value.as_ptr().cast());
        let entry = io_uring::opcode::SetXattr::new(name, value, path.as_ptr().cast(), 1);
        super::bytes::by_ring(&entry.build())
    }),
    Row::new("setxattr user.x of its directory", NO_SUCH, |f| set_at(&f.dir, "user.x", b"1"))
        .and_owner(&[Errno::ACCESS]),
    Row::new("setxattr user.x of the class", NO_SUCH, |f| set_at(&f.class, "user.x", b"1")),
    Row::new("setxattr user.x of the mount", NO_SUCH, |f| set_at(&f.root, "user.x", b"1"))
        .and_owner(&[Errno::ACCESS]),
    Row::new("setxattr trusted.overlay.opaque of its directory", NO_SUCH, |f| {
        set_at(&f.dir, "trusted.overlay.opaque", b"y")
    })
    .and_owner(PERM),
];
