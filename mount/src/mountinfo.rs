//! PURE: reads `/proc/self/mountinfo`, see proc_pid_mountinfo(5).

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt as _;
use std::path::Path;
use std::path::PathBuf;

/// A line of mountinfo, as far as we need it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Mount {
    /// Where it is mounted.
    pub(crate) target: PathBuf,
    /// File system type, with subtype: `fuse.worm`.
    pub(crate) kind: String,
    /// Source, whatever the file system calls so.
    pub(crate) source: String,
    /// Its superblock takes no changes, wherever and however it is mounted.
    pub(crate) read_only: bool,
}

/// The mounts at exactly this place, the topmost last.
pub(crate) fn at(mountinfo: &str, target: &Path) -> Vec<Mount> {
    mountinfo.lines().filter_map(parse).filter(|mount| mount.target == target).collect()
}

fn parse(line: &str) -> Option<Mount> {
    let (before, after) = line.split_once(" - ")?;
    let target = unescape(before.split(' ').nth(4)?);
    let mut after = after.split(' ');
    let kind = after.next()?.to_owned();
    let source = unescape(after.next()?).to_string_lossy().into_owned();
    let read_only = after.next()?.split(',').any(|option| option == "ro");
    Some(Mount { target: target.into(), kind, source, read_only })
}

/// Space, tab, newline and backslash are written as `\` and three octal digits.
fn unescape(text: &str) -> OsString {
    let (mut bytes, mut rest) = (Vec::with_capacity(text.len()), text.as_bytes());
    while let Some((first, after)) = rest.split_first() {
        let octal = after.get(..3).filter(|_| *first == b'\\');
        let octal = octal.and_then(|digits| std::str::from_utf8(digits).ok());
        match octal.and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = &after[3..];
            }
            None => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    OsString::from_vec(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAMPLE: &str = "\
22 27 0:21 / /proc rw,relatime - proc proc rw
30 27 0:40 / /mnt/a\\040b rw shared:5 master:1 - tmpfs worm-guard ro
31 30 0:41 / /mnt/a\\040b rw,nosuid - fuse.worm worm-ab12 rw,allow_other
32 27 0:42 / /mnt/c rw - ext4 /dev/vdb rw";

    #[test]
    fn the_topmost_mount_comes_last() {
        let found = at(SAMPLE, Path::new("/mnt/a b"));
        let kinds: Vec<_> =
            found.iter().map(|m| (m.kind.as_str(), m.source.as_str(), m.read_only)).collect();
        assert_eq!(kinds, [("tmpfs", "worm-guard", true), ("fuse.worm", "worm-ab12", false)]);
        assert!(at(SAMPLE, Path::new("/mnt")).is_empty());
    }
}
