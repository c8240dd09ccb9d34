//! PURE: reads `/proc/self/mountinfo`, see proc_pid_mountinfo(5).

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt as _;
use std::path::Path;
use std::path::PathBuf;

/// A line of mountinfo, as far as we need it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Mount {
    /// Its number.
    pub(crate) id: u64,
    /// The number of the mount that it is mounted on.
    pub(crate) parent: u64,
    /// Its file system's device, `0:41`.
    pub(crate) device: String,
    /// Mounts on it appear in other mount namespaces, too.
    pub(crate) shared: bool,
    /// Where it is mounted.
    pub(crate) target: PathBuf,
    /// File system type, with subtype: `fuse.worm`.
    pub(crate) kind: String,
    /// Source, whatever the file system calls so.
    pub(crate) source: String,
    /// Its superblock takes no changes, wherever and however it is mounted.
    pub(crate) read_only: bool,
}

/// All mounts.
pub(crate) fn all(mountinfo: &str) -> Vec<Mount> {
    mountinfo.lines().filter_map(parse).collect()
}

/// The mounts at exactly this place that a path leads to, the topmost last.
///
/// The order of the lines says nothing: a mount may be put beneath an older one. So this goes the
/// way of a path lookup: at each step down, up through all that is mounted there.
pub(crate) fn at(mounts: &[Mount], target: &Path) -> Vec<Mount> {
    let listed = |id| mounts.iter().any(|mount| mount.id == id);
    let mut on: Option<u64> = None;
    let mut steps: Vec<&Path> = target.ancestors().collect();
    steps.reverse();
    let mut here = Vec::new();
    for step in steps {
        here.clear();
        // What is mounted on the root that we see, or on what cannot be seen from it.
        let next = |on: Option<u64>| {
            mounts.iter().find(|mount| {
                let fits = on.map_or_else(|| !listed(mount.parent), |on| mount.parent == on);
                fits && mount.target == step && Some(mount.id) != on
            })
        };
        while let Some(mount) = next(on) {
            on = Some(mount.id);
            here.push(mount.clone());
            if here.len() > mounts.len() {
                break;
            }
        }
    }
    here
}

fn parse(line: &str) -> Option<Mount> {
    let (before, after) = line.split_once(" - ")?;
    let mut before = before.split(' ');
    let id = before.next()?.parse().ok()?;
    let parent = before.next()?.parse().ok()?;
    let device = before.next()?.to_owned();
    let target = unescape(before.nth(1)?).into();
    let shared = before.skip(1).any(|field| field.starts_with("shared:"));
    let mut after = after.split(' ');
    let kind = after.next()?.to_owned();
    let source = unescape(after.next()?).to_string_lossy().into_owned();
    let read_only = after.next()?.split(',').any(|option| option == "ro");
    Some(Mount { id, parent, device, shared, target, kind, source, read_only })
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
27 1 8:1 / / rw - ext4 /dev/vda rw
22 27 0:21 / /proc rw,relatime - proc proc rw
31 30 0:41 / /mnt/a\\040b rw,nosuid - fuse.worm worm-ab12 rw,allow_other
30 27 0:40 / /mnt/a\\040b rw shared:5 master:1 - tmpfs worm-guard ro
32 27 0:42 / /mnt/c rw - ext4 /dev/vdb rw";

    #[track_caller]
    fn check(mountinfo: &str, target: &str, expected: &[&str]) {
        let found = at(&all(mountinfo), Path::new(target));
        let sources: Vec<_> = found.iter().map(|mount| mount.source.as_str()).collect();
        assert_eq!(sources, expected, "{target}");
    }

    #[test]
    fn the_topmost_mount_comes_last_whatever_the_order_of_the_lines() {
        check(SAMPLE, "/mnt/a b", &["worm-guard", "worm-ab12"]);
        check(SAMPLE, "/mnt", &[]);
        check(SAMPLE, "/", &["/dev/vda"]);
        let guard = &at(&all(SAMPLE), Path::new("/mnt/a b"))[0];
        assert_eq!((guard.shared, guard.read_only, &*guard.device), (true, true, "0:40"));
        assert_eq!((guard.id, guard.parent, &*guard.kind), (30, 27, "tmpfs"));
    }

    #[test]
    fn what_is_covered_is_not_at_its_place() {
        let over = |line: &str| format!("{SAMPLE}\n{line}");
        check(&over("40 27 0:50 / /mnt rw - tmpfs over rw"), "/mnt/c", &[]);
        let again = "40 27 0:50 / /mnt rw - tmpfs over rw\n41 40 0:51 / /mnt/c rw - tmpfs new rw";
        check(&over(again), "/mnt/c", &["new"]);
        check(&over("40 32 0:50 / /mnt/c rw - tmpfs over rw"), "/mnt/c", &["/dev/vdb", "over"]);
        check(&over("40 27 0:50 / / rw - tmpfs over rw"), "/mnt/c", &[]);
    }

    #[test]
    fn a_root_that_is_no_mount_is_walked_through() {
        let chrooted = SAMPLE.split_once('\n').unwrap().1;
        check(chrooted, "/mnt/c", &["/dev/vdb"]);
        check(chrooted, "/mnt/a b", &["worm-guard", "worm-ab12"]);
    }
}
