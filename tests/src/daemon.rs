//! A store served by the real daemon, in a directory of its own, gone when it is dropped.

use std::fs::File;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;
use std::time::Instant;

use rustix::process::Pid;
use rustix::process::Signal;
use tempfile::TempDir;

use crate::binary;
use crate::binary::Output;
use crate::watchdog;
use crate::watchdog::Watchdog;

/// A store with its mount points, and the daemon that serves it.
#[derive(Debug)]
pub struct Daemon {
    // Dropped first: it must not abort what is unmounted already.
    watchdog: Option<Watchdog>,
    directory: TempDir,
    store: PathBuf,
}

impl Daemon {
    /// Makes a directory for a store, and serves nothing yet.
    ///
    /// # Panics
    /// When there is no room for it.
    #[must_use]
    pub fn prepare() -> Self {
        let directory = TempDir::with_prefix("worm-test-").expect("make a directory");
        let store = directory.path().join("store");
        Self::with(directory, store)
    }

    /// The same for a store elsewhere, such as on a disk of its own, which must outlive this.
    ///
    /// # Panics
    /// When there is no room for what belongs to it.
    #[must_use]
    pub fn prepare_on(store: &Path) -> Self {
        let directory = TempDir::with_prefix("worm-test-").expect("make a directory");
        Self::with(directory, store.to_owned())
    }

    fn with(directory: TempDir, store: PathBuf) -> Self {
        let mut daemon = Self { watchdog: None, directory, store };
        let mounts = [daemon.active(), daemon.view(), daemon.logs()];
        daemon.watchdog = Some(Watchdog::new(&mounts, watchdog::BOUND));
        daemon
    }

    /// Makes a new store and serves it, with its view.
    ///
    /// # Panics
    /// When it is not served.
    #[must_use]
    pub fn start() -> Self {
        let daemon = Self::prepare();
        daemon.mount(&[]).success();
        daemon
    }

    /// Runs `worm mount` with its view and these further arguments.
    pub fn mount(&self, more: &[&str]) -> Output {
        let mut command = self.mount_command();
        command.args(more);
        binary::run(&mut command)
    }

    /// `worm mount` with its view.
    #[must_use]
    pub fn mount_command(&self) -> Command {
        let mut command = binary::command("worm");
        command.arg("mount").arg(self.store()).arg(self.active());
        command.arg("--view").arg(self.view()).arg("--key").arg(self.key());
        command.arg("--run-dir").arg(self.run_directory());
        command
    }

    /// Runs `worm` with these arguments and the daemon's run directory.
    pub fn worm(&self, verb: &str, path: &Path, more: &[&str]) -> Output {
        let mut command = binary::command("worm");
        command.arg(verb).arg(path).args(more);
        if verb != "wait" {
            command.arg("--run-dir").arg(self.run_directory());
        }
        binary::run(&mut command)
    }

    /// Where everything of this store lies.
    #[must_use]
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// The backing directory.
    #[must_use]
    pub fn store(&self) -> PathBuf {
        self.store.clone()
    }

    /// The mount that takes files.
    #[must_use]
    pub fn active(&self) -> PathBuf {
        self.directory().join("active")
    }

    /// The read-only view.
    #[must_use]
    pub fn view(&self) -> PathBuf {
        self.directory().join("view")
    }

    /// Where logs are taken, when that was asked for.
    #[must_use]
    pub fn logs(&self) -> PathBuf {
        self.directory().join("logs")
    }

    /// The signing key.
    #[must_use]
    pub fn key(&self) -> PathBuf {
        self.directory().join("key")
    }

    /// Where the daemon notes itself.
    #[must_use]
    pub fn run_directory(&self) -> PathBuf {
        self.directory().join("run")
    }

    /// The daemon's process, as its run file names it.
    ///
    /// # Panics
    /// When none is noted.
    #[must_use]
    pub fn pid(&self) -> Pid {
        self.noted_pid().expect("a daemon is noted in the run directory")
    }

    fn noted_pid(&self) -> Option<Pid> {
        let notes = std::fs::read_dir(self.run_directory()).ok()?;
        let note = notes
            .flatten()
            .find(|note| note.path().extension().is_some_and(|extension| extension == "json"))?;
        let note = std::fs::read(note.path()).ok()?;
        let note: serde_json::Value = serde_json::from_slice(&note).ok()?;
        Pid::from_raw(i32::try_from(note["pid"].as_i64()?).ok()?)
    }

    /// Whether `pid` still is one of our daemons: numbers are used again.
    fn is_ours(&self, pid: Pid) -> bool {
        let command = std::fs::read(format!("/proc/{}/cmdline", pid.as_raw_nonzero()));
        let store = self.store();
        command.is_ok_and(|command| {
            String::from_utf8_lossy(&command).contains(&*store.to_string_lossy())
        })
    }

    /// Kills the daemon as a crash would, and waits until it is gone.
    ///
    /// # Panics
    /// When there is none, or it does not go.
    pub fn kill(&self) {
        rustix::process::kill_process(self.pid(), Signal::KILL).expect("kill the daemon");
        self.wait_until_not_served();
    }

    /// The same for one that may have died already.
    ///
    /// # Panics
    /// When it does not go.
    pub fn kill_if_alive(&self) {
        if let Some(pid) = self.noted_pid().filter(|pid| self.is_ours(*pid)) {
            // It may have ended between the two lines.
            let _gone = rustix::process::kill_process(pid, Signal::KILL);
        }
        self.wait_until_not_served();
    }

    /// Waits until no daemon serves the store any more.
    ///
    /// # Panics
    /// When one goes on.
    pub fn wait_until_not_served(&self) {
        let deadline = Instant::now() + Duration::from_secs(30);
        while worm_fs::store::is_served(&self.store()) {
            assert!(Instant::now() < deadline, "the daemon does not go");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Waits until a file is sealed and gives its SHA-256.
    pub fn wait(&self, file: &Path) -> String {
        self.worm("wait", file, &[]).success().trim().to_owned()
    }

    /// What `worm verify` says of the store, as JSON.
    ///
    /// # Panics
    /// When it is not content.
    pub fn verify(&self) -> serde_json::Value {
        let report = self.worm("verify", &self.store(), &["--json"]).success();
        serde_json::from_str(&report).expect("a JSON report")
    }

    /// The daemon's log so far.
    #[must_use]
    pub fn log(&self) -> String {
        let logs = std::fs::read_dir(self.run_directory()).into_iter().flatten().flatten();
        let logs = logs.filter(|log| log.path().extension().is_some_and(|e| e == "log"));
        logs.map(|log| std::fs::read_to_string(log.path()).unwrap_or_default()).collect()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the daemon's log:\n{}", self.log());
        }
        if let Some(pid) = self.noted_pid().filter(|pid| self.is_ours(*pid)) {
            // It may have ended between the two lines.
            let _gone = rustix::process::kill_process(pid, Signal::KILL);
        }
        for place in [self.active(), self.view(), self.logs()] {
            watchdog::clear(&place);
        }
        drop(self.watchdog.take());
    }
}

/// The names in a directory, sorted, without `.incomplete`.
///
/// # Panics
/// When it cannot be listed.
#[must_use]
pub fn names(directory: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(directory).expect("list the directory");
    let mut names: Vec<String> = entries
        .map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned())
        .filter(|name| name != ".incomplete")
        .collect();
    names.sort();
    names
}

/// The SHA-256 of a file in hexadecimal.
///
/// # Panics
/// When it cannot be read.
#[must_use]
pub fn sha256(path: &Path) -> String {
    use sha2::Digest as _;
    let mut hasher = sha2::Sha256::new();
    let mut file = File::open(path).expect("open the file");
    let mut buffer = vec![0; 1 << 20];
    loop {
        match std::io::Read::read(&mut file, &mut buffer).expect("read the file") {
            0 => return hex::encode(hasher.finalize()),
            bytes => hasher.update(&buffer[..bytes]),
        }
    }
}
