//! The admin's door to a running daemon, and what it tells of those who tried to change things.

use std::fs::File;
use std::io::Write as _;
use std::path::Path;
use std::time::Duration;
use std::time::Instant;

use system_tests::daemon::Daemon;

fn put(path: &Path, bytes: &[u8]) {
    File::create_new(path).unwrap().write_all(bytes).unwrap();
}

/// Waits until `look` finds something. What a daemon does beside its answers comes in its own time.
#[track_caller]
fn eventually<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "{what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// A line of the daemon's log, once it is there.
#[track_caller]
fn logged(daemon: &Daemon, words: &[&str]) -> String {
    eventually(&format!("a line of the log with {words:?}"), || {
        let log = daemon.log();
        let mut lines = log.lines();
        lines.find(|line| words.iter().all(|word| line.contains(word))).map(str::to_owned)
    })
}

#[test]
fn a_refusal_is_logged_with_who_tried_what_where() {
    let daemon = Daemon::start();
    let file = daemon.active().join("daily/kept");
    put(&file, b"whole");
    daemon.wait(&file);
    // The kernel names the thread.
    let pid = rustix::thread::gettid().as_raw_nonzero();
    std::fs::remove_file(&file).unwrap_err();
    let line = logged(&daemon, &["refused", "request=\"unlink\"", "path=daily/kept"]);
    let cgroup = std::fs::read_to_string("/proc/thread-self/cgroup").unwrap();
    let cgroup = cgroup.lines().filter_map(|line| line.splitn(3, ':').nth(2));
    let cgroup = cgroup.min_by_key(|path| *path == "/").unwrap();
    for word in [
        "uid=0".to_owned(),
        format!("pid={pid}"),
        format!("cgroup=\"{cgroup}\""),
        "reason=\"retained\"".to_owned(),
        "count=1".to_owned(),
        "the file is under retention".to_owned(),
    ] {
        assert!(line.contains(&word), "{word}: {line}");
    }
    // Where nothing is, the name that was asked for is told; and an open file has its name too.
    File::create(daemon.active().join("at-the-root")).unwrap_err();
    logged(&daemon, &["request=\"create\"", "path=at-the-root", "reason=\"not_a_class\""]);
    let open = File::create_new(daemon.active().join("daily/open")).unwrap();
    File::options().write(true).open(daemon.active().join("daily/open")).unwrap_err();
    logged(&daemon, &["request=\"open\"", "path=daily/open", "reason=\"busy\"", "count=3"]);
    drop(open);
}
