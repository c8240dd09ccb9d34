//! System calls of the real daemon fail, or are its last: `strace` answers in the kernel's place.

use std::collections::BTreeMap;
use std::io::BufRead as _;
use std::io::BufReader;
use std::path::Path;
use std::process::Child;
use std::process::Command;
use std::process::Stdio;

use rustix::process::Pid;
use system_tests::daemon::Daemon;
use system_tests::daemon::names;
use system_tests::daemon::sha256;
use system_tests::rounds;

use super::content;
use super::digest;
use super::put;

/// What the store asks of its disk, apart from what the mounts themselves are made of.
const CALLS: [&str; 10] = [
    "openat",
    "openat2",
    "pwrite64",
    "write",
    "ftruncate",
    "fdatasync",
    "fsync",
    "renameat2",
    "mkdirat",
    "unlinkat",
];

/// Does something to a process until it is dropped.
struct Strace(Child);

impl Strace {
    /// When it returns, every thread of the process is watched. What they call goes to a file.
    fn attach(pid: Pid, inject: &str, trace: &Path) -> Self {
        let mut strace = Command::new("strace")
            .args(["-f", "-p", &pid.as_raw_nonzero().to_string(), "-e", inject, "-o"])
            .arg(trace)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("start strace: scripts/setup.sh installs it");
        let mut said = BufReader::new(strace.stderr.take().expect("it is piped"));
        let mut line = String::new();
        said.read_line(&mut line).expect("read what strace says");
        assert!(line.contains("attached"), "strace: {line}");
        // It goes on telling of threads: somebody has to read it.
        std::thread::spawn(move || std::io::copy(&mut said, &mut std::io::sink()));
        Self(strace)
    }
}

impl Drop for Strace {
    fn drop(&mut self) {
        // The kernel lets the process go on. Told to end in order, strace 6.1 waits for ever where
        // the process is just dying.
        let _gone = self.0.kill();
        let _gone = self.0.wait();
    }
}

/// What was acknowledged, by its path below the class `kept`.
#[derive(Default)]
struct Told {
    /// Files that are sealed, and the number of their content.
    sealed: BTreeMap<String, u64>,
    /// Directories that are there.
    directories: Vec<String>,
}

/// Creates, writes, seals, gives up, makes and removes directories, and expires what is over.
/// Whatever fails was not acknowledged.
fn work(daemon: &Daemon, round: u64, told: &mut Told) {
    let kept = daemon.active().join("kept");
    let directory = format!("dir-{round}");
    if std::fs::create_dir(kept.join(&directory)).is_ok() {
        told.directories.push(directory.clone());
    }
    for turn in 0..3 {
        // 10, 5000 and 300000 bytes; never one that is aborted.
        let number = (round * 90 + turn * 9) * 5 + turn + 1;
        let name = format!("{directory}/{number}");
        if put(daemon, "kept", &name, number).is_ok_and(|sealed| sealed) {
            told.sealed.insert(name, number);
        }
    }
    let aborted = round * 90 * 5 + 8;
    let _told_nothing = put(daemon, "kept", &format!("aborted-{aborted}"), aborted);
    let empty = kept.join(format!("empty-{round}"));
    if std::fs::create_dir(&empty).is_ok() && std::fs::remove_dir(&empty).is_err() {
        // It is there or not.
    }
    let short = daemon.active().join("short");
    let _told_nothing = put(daemon, "short", &round.to_string(), round * 5 + 1);
    for old in 0..round {
        // Over since a while, unless the store was quicker.
        let _told_nothing = std::fs::remove_file(short.join(old.to_string()));
    }
}

/// Everything that is there, is there as it was acknowledged or whole, and nothing is amiss.
fn check(daemon: &Daemon, told: &Told, what: &str) {
    let kept = daemon.active().join("kept");
    for (name, number) in &told.sealed {
        assert_eq!(sha256(&kept.join(name)), digest(*number), "{what}: {name}");
    }
    for name in &told.directories {
        assert!(kept.join(name).is_dir(), "{what}: directory {name} is gone");
    }
    for (directory, is_kept) in [(kept.clone(), true), (daemon.active().join("short"), false)] {
        for name in names(&directory) {
            check_whole(&directory.join(&name), is_kept, what);
        }
    }
    let said = daemon.worm("status", &daemon.store(), &[]);
    assert_eq!(said.code(), 0, "{what}: {}", said.stdout);
    let report = daemon.verify();
    assert!(report["problems"].as_array().unwrap().is_empty(), "{what}: {report}");
}

/// Whatever has its own name was committed, acknowledged or not.
fn check_whole(path: &Path, is_kept: bool, what: &str) {
    if path.is_dir() {
        for name in names(path) {
            check_whole(&path.join(name), is_kept, what);
        }
        return;
    }
    let name = path.file_name().unwrap().to_str().unwrap();
    let number: u64 = name.parse().unwrap_or_else(|_| panic!("{what}: {}", path.display()));
    let number = if is_kept { number } else { number * 5 + 1 };
    match std::fs::read(path) {
        Ok(bytes) => assert_eq!(bytes, content(number), "{what}: {}", path.display()),
        // It was over, and has just been removed.
        Err(error) if !is_kept && error.kind() == std::io::ErrorKind::NotFound => {}
        Err(error) => panic!("{what}: {}: {error}", path.display()),
    }
}

/// Whether it came to the call that was to fail or to kill.
fn has_struck(trace: &Path) -> bool {
    let trace = std::fs::read_to_string(trace).expect("read the trace");
    trace.contains("(INJECTED)") || trace.contains("killed by SIGKILL")
}

#[test]
fn any_system_call_fails_or_is_the_last() {
    let (mut tried, mut struck) = (0, 0);
    for call in CALLS {
        let daemon = Daemon::prepare();
        let config = super::config(&daemon);
        let trace = daemon.directory().join("trace");
        let mut told = Told::default();
        let before = struck;
        // strace counts the calls of each thread by itself.
        for when in 1..=rounds(2, 6) {
            for how in ["error=EIO", "error=ENOSPC", "signal=KILL"] {
                daemon.mount(&["--config", &config]).success();
                let inject = format!("inject={call}:{how}:when={when}");
                let strace = Strace::attach(daemon.pid(), &inject, &trace);
                work(&daemon, tried, &mut told);
                drop(strace);
                daemon.kill_if_alive();
                struck += usize::from(has_struck(&trace));
                daemon.mount(&["--config", &config]).success();
                check(&daemon, &told, &inject);
                daemon.kill();
                tried += 1;
            }
        }
        assert!(struck > before, "nothing calls {call}");
    }
    println!("system calls: {tried} tries, in {struck} of them a call failed or was the last");
}
