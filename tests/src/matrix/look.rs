//! All that can be seen of a file and of the directories above it, to compare.

use std::path::Path;

use rustix::fs::AtFlags;
use rustix::fs::CWD;
use rustix::fs::Mode;
use rustix::fs::OFlags;
use rustix::fs::StatxFlags;

use super::field::Field;
use crate::session::Result;

/// Longer than any value or list of attributes here.
const XATTR_BYTES_MAX: usize = 4096;

/// What is seen, by name: two looks differ in what they name.
pub type Seen = Vec<(&'static str, String)>;

/// Looks at a file, the file beside it and every directory above.
#[must_use]
pub fn look(field: &Field) -> Seen {
    let mut seen = look_at(&field.file);
    seen.push(("other", format!("{:?}", look_at(&field.other))));
    let directories = [&field.dir, &field.above, &field.class, &field.root];
    seen.push(("directories", format!("{:?}", directories.map(|path| look_above(path)))));
    let names = [&field.dir, &field.above, &field.class, &field.far_class, &field.root];
    seen.push(("names", names.map(|path| list(path)).concat()));
    seen
}

/// The names of what is not the same in two looks. Names that came and took none away are
/// [`NEW_NAMES`].
#[must_use]
pub fn differences(before: &Seen, after: &Seen) -> Vec<&'static str> {
    let pairs = before.iter().zip(after).filter(|((_, a), (_, b))| a != b);
    pairs
        .map(|((what, a), (_, b))| match *what {
            "names" if a.lines().all(|name| b.lines().any(|after| after == name)) => NEW_NAMES,
            what => what,
        })
        .collect()
}

/// Two looks, where they differ: for whoever reads why a test failed.
#[must_use]
pub fn details(before: &Seen, after: &Seen) -> String {
    let pairs = before.iter().zip(after).filter(|((_, a), (_, b))| a != b);
    pairs.map(|((what, a), (_, b))| format!("{what}: {a}\n  now {b}\n")).collect()
}

/// Says [`differences`] where names were added and none was lost.
pub const NEW_NAMES: &str = "new names";

fn look_at(path: &Path) -> Seen {
    // The bytes last: reading them may move the access time.
    let stat = stat(path);
    let part = |part: fn(&rustix::fs::Statx) -> String| format!("{:?}", stat.as_ref().map(part));
    vec![
        ("size", part(|stat| stat.stx_size.to_string())),
        ("mode", part(|stat| format!("{:o}", stat.stx_mode))),
        ("owner", part(|stat| format!("{}:{}", stat.stx_uid, stat.stx_gid))),
        ("mtime", part(|stat| format!("{:?}", stat.stx_mtime))),
        ("ctime", part(|stat| format!("{:?}", stat.stx_ctime))),
        ("atime", part(|stat| format!("{:?}", stat.stx_atime))),
        ("links", part(|stat| stat.stx_nlink.to_string())),
        ("inode", part(|stat| stat.stx_ino.to_string())),
        ("flags", part(|stat| stat.stx_attributes.bits().to_string())),
        ("xattrs", format!("{:?}", xattrs(path))),
        ("bytes", format!("{:?}", bytes(path))),
    ]
}

/// A directory, without the access time: listing moves it.
fn look_above(path: &Path) -> String {
    let stat = stat(path).map(|stat| {
        let owner = (stat.stx_mode, stat.stx_uid, stat.stx_gid, stat.stx_attributes);
        (owner, stat.stx_ino, stat.stx_nlink, stat.stx_mtime, stat.stx_ctime)
    });
    format!("{:?}", (stat, xattrs(path)))
}

/// Asks the file system itself, never what the kernel remembers.
fn stat(path: &Path) -> Result<rustix::fs::Statx> {
    let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::STATX_FORCE_SYNC;
    rustix::fs::statx(CWD, path, flags, StatxFlags::BASIC_STATS)
}

fn xattrs(path: &Path) -> Result<Vec<(String, Result<Vec<u8>>)>> {
    let mut list = vec![0; XATTR_BYTES_MAX];
    let length = rustix::fs::llistxattr(path, &mut list[..])?;
    let names = list[..length].split(|byte| *byte == 0).filter(|name| !name.is_empty());
    let value = |name: &[u8]| {
        let name = String::from_utf8_lossy(name).into_owned();
        let mut value = vec![0; XATTR_BYTES_MAX];
        let length = rustix::fs::lgetxattr(path, &name, &mut value[..]);
        let value = length.map(|length| value[..length].to_vec());
        (name, value)
    };
    Ok(names.map(value).collect())
}

/// The digest of the bytes, read through a new descriptor.
fn bytes(path: &Path) -> Result<String> {
    use sha2::Digest as _;
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = rustix::fs::open(path, flags, Mode::empty())?;
    let mut hasher = sha2::Sha256::new();
    let mut buffer = vec![0; 1 << 17];
    loop {
        match rustix::io::read(&file, &mut buffer[..])? {
            0 => return Ok(hex::encode(hasher.finalize())),
            length => hasher.update(&buffer[..length]),
        }
    }
}

/// The names in a directory, a line each.
fn list(path: &Path) -> String {
    match std::fs::read_dir(path) {
        Ok(entries) => {
            let names = entries.flatten().map(|entry| format!("{:?}\n", entry.path()));
            let mut names: Vec<String> = names.collect();
            names.sort();
            names.concat()
        }
        Err(error) => format!("{}: {error}\n", path.display()),
    }
}
