//! PURE: our attributes in fuser's words, and how long the kernel may remember them.

use std::time::Duration;
use std::time::SystemTime;
use std::time::UNIX_EPOCH;

use fuser::FileAttr;
use fuser::FileType;
use fuser::INodeNo;
use fuser::TimeOrNow;

use super::REQUEST_BYTES_MAX;
use crate::fs::Attributes;
use crate::fs::Kind;
use crate::fs::Life;

/// A finished file does not change; its removal is told to the kernel.
const FINISHED_LIFE: Duration = Duration::from_secs(3600);
/// Directories change with what is in them.
const DIRECTORY_LIFE: Duration = Duration::from_secs(1);

/// How long the kernel may remember a name and its attributes.
pub(super) fn entry_life(found: &Attributes) -> Duration {
    match (found.kind, found.life) {
        (Kind::Directory, _) => DIRECTORY_LIFE,
        (Kind::File, Life::Finished) => FINISHED_LIFE,
        (Kind::File, Life::Changing) => Duration::ZERO,
    }
}

pub(super) fn file_type(kind: Kind) -> FileType {
    match kind {
        Kind::File => FileType::RegularFile,
        Kind::Directory => FileType::Directory,
    }
}

pub(super) fn file_attr(found: &Attributes) -> FileAttr {
    let (mtime, ctime) = (system_time(found.mtime_ns), system_time(found.ctime_ns));
    FileAttr {
        ino: INodeNo(found.id),
        size: found.size,
        blocks: found.size.div_ceil(512),
        atime: mtime,
        mtime,
        ctime,
        crtime: ctime,
        kind: file_type(found.kind),
        perm: u16::try_from(found.mode & 0o7777).unwrap_or(0),
        nlink: found.links,
        uid: found.uid,
        gid: found.gid,
        rdev: 0,
        blksize: REQUEST_BYTES_MAX,
        flags: 0,
    }
}

fn system_time(ns: i64) -> SystemTime {
    let distance = Duration::from_nanos(ns.unsigned_abs());
    if ns < 0 { UNIX_EPOCH - distance } else { UNIX_EPOCH + distance }
}

/// A time to set, in nanoseconds since 1970; as far as they reach, 1677 to 2262.
pub(super) fn nanoseconds(time: TimeOrNow, now_ns: impl FnOnce() -> i64) -> i64 {
    match time {
        TimeOrNow::Now => now_ns(),
        TimeOrNow::SpecificTime(time) => match time.duration_since(UNIX_EPOCH) {
            Ok(after) => i64::try_from(after.as_nanos()).unwrap_or(i64::MAX),
            // fuser takes the nanoseconds off, too; utimensat(2) counts them forward from the
            // second, also before 1970.
            Err(before) => {
                let (seconds, nanos) =
                    (before.duration().as_secs(), before.duration().subsec_nanos());
                let seconds = i64::try_from(seconds).map_or(i64::MIN, |seconds| -seconds);
                seconds.saturating_mul(1_000_000_000).saturating_add(i64::from(nanos))
            }
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_survive_in_both_directions() {
        for ns in [0, 1, -1_000_000_000, 1_768_694_400_123_456_789] {
            let time = TimeOrNow::SpecificTime(system_time(ns));
            assert_eq!(nanoseconds(time, || 0), ns);
        }
    }
}
