//! Counts refusals and writes some of them to the log, with who tried.
//!
//! Every refusal is counted. Only so many are logged, because whoever tries all day must not
//! fill the disk; the count in the next line tells how many there were. What has to be read from
//! `/proc` is read on a thread of its own, never by whoever answers a request: of a caller in
//! `execve`, some files there wait for that very answer. `cgroup` is none of those.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read as _;
use std::os::fd::OwnedFd;
use std::sync::atomic::AtomicI64;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::sync::mpsc::Receiver;
use std::sync::mpsc::SyncSender;
use std::sync::mpsc::TrySendError;
use std::sync::mpsc::sync_channel;

use parking_lot::Mutex;
use rustix::fs::Mode;
use rustix::fs::OFlags;

use crate::policy::Refusal;
use crate::policy::name::StorePath;

/// How many refusals are logged within [`LOGGED_WINDOW_MS`].
const LOGGED_MAX: u64 = 20;
/// See [`LOGGED_MAX`].
const LOGGED_WINDOW_MS: i64 = 10_000;
/// How many may wait for the log: two windows' worth.
const WAITING_MAX: usize = 40;
/// How much of a path is logged, in bytes: whoever tries all day chooses its length.
const PATH_BYTES_MAX: usize = 512;
/// The most that is read of `/proc/PID/cgroup`: cgroup v1 has a line for each of its dozen
/// controllers.
const CGROUP_BYTES_MAX: u64 = 4096;

/// How often a request was refused for a reason.
#[derive(Clone, Debug, Eq, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct RefusalCount {
    /// The request, by its name in FUSE.
    pub request: String,
    /// [`Refusal::reason`].
    pub reason: String,
    /// How often since the daemon's start.
    pub count: u64,
}

/// One refusal, for the log.
#[derive(Debug)]
pub(crate) struct Refused {
    pub(crate) request: &'static str,
    pub(crate) path: StorePath,
    pub(crate) uid: u32,
    /// 0 when the caller is in a PID namespace that the daemon cannot see into.
    pub(crate) pid: u32,
    pub(crate) refusal: Refusal,
    /// How many there were until now.
    pub(crate) count: u64,
}

/// The counts, and the way to the log.
#[derive(Debug)]
pub(crate) struct Refusals {
    counts: Mutex<BTreeMap<(&'static str, &'static str), u64>>,
    total: AtomicU64,
    window: AtomicI64,
    logged: AtomicU64,
    log: Option<SyncSender<Refused>>,
}

impl Refusals {
    /// Starts the thread that writes to the log. It ends when this is dropped.
    pub(crate) fn new() -> Self {
        let (log, refused) = sync_channel(WAITING_MAX);
        let started = proc().and_then(|proc| {
            let run = move || write(&proc, &refused);
            std::thread::Builder::new().name("refusals".to_owned()).spawn(run)
        });
        if let Err(error) = &started {
            tracing::warn!(%error, "refusals are logged without the caller's cgroup");
        }
        Self {
            counts: Mutex::default(),
            total: AtomicU64::new(0),
            window: AtomicI64::new(0),
            logged: AtomicU64::new(0),
            log: started.is_ok().then_some(log),
        }
    }

    /// Counts a refusal and gives how many there were.
    pub(crate) fn count(&self, request: &'static str, refusal: Refusal) -> u64 {
        *self.counts.lock().entry((request, refusal.reason())).or_default() += 1;
        self.total.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// Whether one more may be logged now, `raw_ms` being the uptime.
    pub(crate) fn may_log(&self, raw_ms: i64) -> bool {
        let window = raw_ms / LOGGED_WINDOW_MS;
        if self.window.swap(window, Ordering::Relaxed) != window {
            self.logged.store(0, Ordering::Relaxed);
        }
        self.logged.fetch_add(1, Ordering::Relaxed) < LOGGED_MAX
    }

    /// Hands a refusal to the log. Never waits: with too many in line it is logged as it is.
    pub(crate) fn log(&self, refused: Refused) {
        let Some(log) = &self.log else { return say(&refused, None) };
        if let Err(TrySendError::Full(refused) | TrySendError::Disconnected(refused)) =
            log.try_send(refused)
        {
            say(&refused, None);
        }
    }

    /// How many there were since the start.
    pub(crate) fn total(&self) -> u64 {
        self.total.load(Ordering::Relaxed)
    }

    /// How many there were of each kind.
    pub(crate) fn counts(&self) -> Vec<RefusalCount> {
        let counts = self.counts.lock();
        let row = |(&(request, reason), &count): (&(&str, &str), &u64)| RefusalCount {
            request: request.to_owned(),
            reason: reason.to_owned(),
            count,
        };
        counts.iter().map(row).collect()
    }
}

/// `/proc` as it is at the start: it stays in reach wherever the daemon withdraws to.
fn proc() -> std::io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    Ok(rustix::fs::open("/proc", flags, Mode::empty())?)
}

fn write(proc: &OwnedFd, refused: &Receiver<Refused>) {
    while let Ok(refused) = refused.recv() {
        let cgroup = (refused.pid != 0).then(|| cgroup(proc, refused.pid)).flatten();
        say(&refused, cgroup.as_deref());
    }
}

/// The cgroup of a process; none when it has ended, or cannot be seen.
fn cgroup(proc: &OwnedFd, pid: u32) -> Option<String> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    let file = rustix::fs::openat(proc, format!("{pid}/cgroup"), flags, Mode::empty()).ok()?;
    let mut text = Vec::new();
    File::from(file).take(CGROUP_BYTES_MAX).read_to_end(&mut text).ok()?;
    cgroup_in(&text)
}

/// The first cgroup named in `/proc/PID/cgroup` that is not the root, see cgroups(7).
fn cgroup_in(text: &[u8]) -> Option<String> {
    let lines = text.split(|byte| *byte == b'\n');
    let mut paths: Vec<_> =
        lines.filter_map(|line| line.splitn(3, |byte| *byte == b':').nth(2)).collect();
    paths.sort_by_key(|path| *path == b"/");
    paths.first().map(|path| crate::policy::name::encode(path))
}

fn say(refused: &Refused, cgroup: Option<&str>) {
    let Refused { request, path, uid, pid, refusal, count } = refused;
    let reason = refusal.reason();
    let path = cut(path.to_string());
    tracing::info!(request, %path, uid, pid, cgroup, reason, count, "refused: {refusal}");
}

/// The beginning of a path that is too long for the log. Encoded paths are ASCII.
fn cut(mut path: String) -> String {
    if path.len() > PATH_BYTES_MAX {
        path.truncate(PATH_BYTES_MAX);
        path.push_str("...");
    }
    path
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_fills_the_log_with_long_names() {
        assert_eq!(cut("hourly/x".to_owned()), "hourly/x");
        let long = StorePath::root().join(&[0xff; 4000]).to_string();
        assert_eq!(cut(long).len(), PATH_BYTES_MAX + 3);
    }

    #[test]
    fn the_cgroup_that_says_most_is_shown() {
        let check = |text: &[u8], expected: &str| {
            assert_eq!(cgroup_in(text).unwrap_or_default(), expected);
        };
        check(b"0::/system.slice/agent.service\n", "/system.slice/agent.service");
        check(b"3:cpu:/\n2:memory:/docker/ab:c\n1:name=systemd:/\n0::/\n", "/docker/ab:c");
        check(b"0::/\n", "/");
        check(b"", "");
        check(b"0::/a\x1b[31m\n", "/a%1B[31m");
    }

    #[test]
    fn some_are_logged_and_all_are_counted() {
        let refusals = Refusals::new();
        let logged = |raw_ms| (0..30).filter(|_| refusals.may_log(raw_ms)).count();
        assert_eq!((logged(1), logged(2), logged(LOGGED_WINDOW_MS)), (20, 0, 20));
        refusals.count("unlink", Refusal::Retained);
        refusals.count("unlink", Refusal::Sealed);
        assert_eq!(refusals.count("unlink", Refusal::Retained), 3);
        let counts = refusals.counts();
        let rows: Vec<_> = counts
            .iter()
            .map(|row| (row.request.as_str(), row.reason.as_str(), row.count))
            .collect();
        assert_eq!(rows, [("unlink", "retained", 2), ("unlink", "sealed", 1)]);
        assert_eq!(refusals.total(), 3);
    }
}
