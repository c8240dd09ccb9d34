//! Daemon, agent and view as three containers: mount and PID name spaces of their own, joined by
//! nothing but propagation. One host directory per consumer is a shared mount, and always the
//! parent of a mount point is handed on, never the mount point itself.

use std::fs::File;
use std::path::Path;
use std::path::PathBuf;
use std::process::Child;
use std::process::Command;
use std::process::Stdio;
use std::time::Duration;
use std::time::Instant;

use rustix::mount::MountFlags;
use rustix::mount::MountPropagationFlags;
use rustix::mount::UnmountFlags;
use rustix::process::Signal;
use system_tests::binary;
use system_tests::watchdog;
use system_tests::watchdog::Watchdog;
use tempfile::TempDir;

/// The host's side: two shared directories, and a place for the store that only the daemon sees.
struct Host {
    _watchdog: Watchdog,
    directory: TempDir,
}

impl Host {
    fn new() -> Self {
        let directory = TempDir::with_prefix("worm-containers-").unwrap();
        let places = ["agent/active", "view/active"].map(|place| directory.path().join(place));
        let host = Self { _watchdog: Watchdog::new(&places, watchdog::BOUND), directory };
        for name in ["agent", "view", "store", "run"] {
            std::fs::create_dir(host.path(name)).unwrap();
        }
        for name in ["agent", "view"] {
            let path = host.path(name);
            rustix::mount::mount_bind(&path, &path).unwrap();
            rustix::mount::mount_change(&path, MountPropagationFlags::SHARED).unwrap();
            std::fs::create_dir_all(path.join("active")).unwrap();
        }
        host
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Runs a shell script as a container: in mount and PID name spaces of its own, which see
    /// `place` as /mnt by propagation from the host and nothing else of this test.
    fn container(&self, place: &str, script: &str) -> Container {
        let inside = format!(
            "set -e; mount --rbind {place} /mnt; umount -l {root}/agent; umount -l {root}/view; \
             mount -t tmpfs hidden {root}/store; exec sh -c \"$1\"",
            place = self.path(place).display(),
            root = self.directory.path().display(),
        );
        let mut command = Command::new("unshare");
        command.args(["--mount", "--propagation", "slave", "--pid", "--fork", "--mount-proc"]);
        command.args(["--kill-child=KILL", "sh", "-c", &inside, "sh", script]);
        Container::start(&mut command)
    }

    /// The daemon's container: its mounts reach the host, because the parents are shared.
    fn daemon(&self) -> Container {
        let worm = binary::path("worm");
        let root = self.directory.path().display();
        let inside = format!(
            "exec {worm} mount {root}/store {root}/agent/active --view {root}/view/active \
             --key {root}/key --run-dir {root}/run --foreground",
            worm = worm.display()
        );
        let mut command = Command::new("unshare");
        command.args(["--mount", "--propagation", "unchanged", "--pid", "--fork", "--mount-proc"]);
        command.args(["--kill-child=KILL", "sh", "-c", &inside]);
        Container::start(&mut command)
    }

    /// Waits until a mount is seen at a place of the host.
    fn wait_for_mount(&self, place: &str) {
        let path = self.path(place);
        let deadline = Instant::now() + Duration::from_secs(60);
        let mut id = [0; 64];
        while rustix::fs::getxattr(&path, "user.worm.store", &mut id).is_err() {
            assert!(Instant::now() < deadline, "no mount at {}", path.display());
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        for name in ["agent", "view"] {
            watchdog::clear(&self.path(name).join("active"));
            let _gone = rustix::mount::unmount(self.path(name), UnmountFlags::DETACH);
        }
    }
}

/// A process with name spaces of its own, and all that it started.
struct Container(Child);

impl Container {
    fn start(command: &mut Command) -> Self {
        use std::os::unix::process::CommandExt as _;
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::inherit());
        Self(command.process_group(0).spawn().unwrap())
    }

    /// As a crash: the first process of the name space goes, and with it all others.
    fn kill(mut self) {
        self.end();
    }

    fn end(&mut self) {
        let group = binary::pid_of(&self.0);
        let _gone = rustix::process::kill_process_group(group, Signal::KILL);
        drop(self.0.wait());
    }

    fn is_running(&mut self) -> bool {
        self.0.try_wait().unwrap().is_none()
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        self.end();
    }
}

fn lines(path: &Path) -> Vec<String> {
    std::fs::read_to_string(path).unwrap_or_default().lines().map(str::to_owned).collect()
}

/// Waits until a file of the host holds a line that satisfies `wanted`, after `seen` lines.
fn wait_for_line(path: &Path, seen: usize, wanted: impl Fn(&str) -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !lines(path).iter().skip(seen).any(|line| wanted(line)) {
        assert!(Instant::now() < deadline, "{}: {:?}", path.display(), lines(path));
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Writes a file each turn and notes whether it could.
const AGENT: &str = "
n=0
while :; do
  n=$((n + 1))
  if echo \"backup $n\" 2>/dev/null > /mnt/active/hourly/$n; then echo \"wrote $n\"; else echo \"failed $n\"; fi >> \"$REPORT\"
  sleep 0.05
done";

/// Reads the newest file each turn, and tries to write.
const VIEWER: &str = "
while :; do
  newest=$(ls /mnt/active/hourly 2>/dev/null | sort -n | tail -n 1)
  if [ -n \"$newest\" ] && grep -q backup \"/mnt/active/hourly/$newest\" 2>/dev/null; then echo \"read $newest\"; else echo \"nothing\"; fi >> \"$REPORT\"
  for attempt in 'echo x > /mnt/active/hourly/intruder' 'rm -f /mnt/active/hourly/1' 'mount -o remount,rw /mnt/active && echo x > /mnt/active/hourly/intruder' 'chmod 777 /mnt/active/hourly'; do
    if [ -n \"$newest\" ] && sh -c \"$attempt\" 2>/dev/null; then echo \"CHANGED: $attempt\" >> \"$REPORT\"; fi
  done
  sleep 0.05
done";

#[test]
fn agent_and_view_go_on_without_a_restart_when_the_daemon_is_killed() {
    let host = Host::new();
    let (agent_report, view_report) = (host.path("agent.txt"), host.path("view.txt"));
    for report in [&agent_report, &view_report] {
        File::create_new(report).unwrap();
    }
    let report = |script: &str, path: &Path| format!("REPORT={}\n{script}", path.display());
    let daemon = host.daemon();
    host.wait_for_mount("agent/active");
    host.wait_for_mount("view/active");
    let mut agent = host.container("agent", &report(AGENT, &agent_report));
    let mut viewer = host.container("view", &report(VIEWER, &view_report));
    wait_for_line(&agent_report, 0, |line| line.starts_with("wrote"));
    wait_for_line(&view_report, 0, |line| line.starts_with("read"));

    daemon.kill();
    let (agent_before, view_before) = (lines(&agent_report).len(), lines(&view_report).len());
    wait_for_line(&agent_report, agent_before, |line| line.starts_with("failed"));
    let _daemon = host.daemon();
    wait_for_line(&agent_report, agent_before, |line| line.starts_with("wrote"));
    wait_for_line(&view_report, view_before + 1, |line| line.starts_with("read"));
    let last = lines(&agent_report).iter().rfind(|line| line.starts_with("wrote")).cloned();
    let last: u32 = last.unwrap().trim_start_matches("wrote ").parse().unwrap();
    wait_for_line(&view_report, view_before, |line| {
        line.strip_prefix("read ").is_some_and(|n| n.parse::<u32>().unwrap() >= last)
    });

    assert!(agent.is_running() && viewer.is_running(), "nobody was restarted");
    drop((agent, viewer));
    let changed: Vec<_> =
        lines(&view_report).into_iter().filter(|line| line.starts_with("CHANGED")).collect();
    assert!(changed.is_empty(), "{changed:?}");
    // What was written before the crash is there, byte for byte, and so is what came after.
    for line in lines(&agent_report) {
        let Some(n) = line.strip_prefix("wrote ") else { continue };
        let path = host.path("view/active/hourly").join(n);
        let given_up = || {
            let kept = std::fs::read_dir(host.path("agent/active/hourly/.incomplete")).unwrap();
            let name = format!("{n}.");
            kept.flatten().any(|entry| entry.file_name().to_string_lossy().starts_with(&name))
        };
        let deadline = Instant::now() + Duration::from_secs(60);
        while std::fs::read_to_string(&path).is_err() && !given_up() && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(10));
        }
        let read = std::fs::read_to_string(&path);
        assert!(
            read.as_deref().ok() == Some(&*format!("backup {n}\n")) || given_up(),
            "{n}: {read:?}"
        );
    }
}

#[test]
fn a_file_system_below_a_read_only_bind_is_read_only_by_itself() {
    let host = Host::new();
    let _daemon = host.daemon();
    host.wait_for_mount("view/active");
    let view = host.path("view/active");
    // Not even root on the host, not even after asking for it, writes into the view.
    let again = rustix::mount::mount_remount(&view, MountFlags::empty(), c"");
    for attempt in ["hourly/new", "new"] {
        let made = File::create(view.join(attempt)).map(drop);
        let errno = made.unwrap_err().raw_os_error();
        assert!(matches!(errno, Some(libc::EROFS)), "{errno:?} after {again:?}");
    }
}
