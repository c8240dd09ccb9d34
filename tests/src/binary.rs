//! The programs under test, and how to run a program without ever waiting for it for ever.

use std::fs::File;
use std::io::Read;
use std::io::Seek;
use std::io::Write;
use std::os::unix::process::CommandExt;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::Child;
use std::process::Command;
use std::process::ExitStatus;
use std::process::Stdio;
use std::time::Duration;
use std::time::Instant;

use rustix::event::PollFd;
use rustix::event::PollFlags;
use rustix::event::Timespec;
use rustix::process::Pid;
use rustix::process::PidfdFlags;
use rustix::process::Signal;

/// How long [`run`] waits: far more than any command of the tests needs on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// How long a killed command gets to go. One that hangs in the kernel stays.
const LAST_WORDS: Duration = Duration::from_secs(5);

/// Where the built program `name` is: beside the directory of the running test.
///
/// # Panics
/// When it has not been built. Cargo gives the path of a program only to its own package.
#[must_use]
pub fn path(name: &str) -> PathBuf {
    let this = std::env::current_exe().expect("ask for the path of this program");
    let directories = this.ancestors().skip(1).take(2);
    let found = directories.map(|directory| directory.join(name)).find(|path| path.is_file());
    found.unwrap_or_else(|| {
        panic!("{name} is not built (looked beside {}): cargo build --workspace", this.display())
    })
}

/// A command that runs the built program `name`.
#[must_use]
pub fn command(name: &str) -> Command {
    Command::new(path(name))
}

/// How a command ended, and what it said.
#[derive(Debug)]
pub struct Output {
    /// What was run, for messages.
    pub command: String,
    /// How it ended.
    pub status: ExitStatus,
    /// What it wrote to its standard output, without what is not UTF-8.
    pub stdout: String,
    /// What it wrote to its standard error.
    pub stderr: String,
}

impl Output {
    /// Its exit code; 128 and the number of the signal when one ended it, as shells say.
    #[must_use]
    pub fn code(&self) -> i32 {
        let signal = || self.status.signal().map_or(-1, |signal| 128 + signal);
        self.status.code().unwrap_or_else(signal)
    }

    /// Itself, when the exit code was `code`.
    ///
    /// # Panics
    /// With everything it said, when the exit code was another.
    #[must_use = "or say `drop` to mean it"]
    #[track_caller]
    pub fn expect_code(self, code: i32) -> Self {
        let Self { command, stdout, stderr, .. } = &self;
        let ended = self.code();
        assert!(
            ended == code,
            "{command}\nended with {ended} instead of {code}\nout: {stdout}\nerr: {stderr}"
        );
        self
    }

    /// What it wrote to standard output, when it succeeded.
    ///
    /// # Panics
    /// With everything it said, when it failed.
    #[track_caller]
    pub fn success(self) -> String {
        self.expect_code(0).stdout
    }
}

/// Runs `command` to its end, for at most [`PATIENCE`], without standard input.
///
/// # Panics
/// When it cannot be started, or takes longer; then it and its children have been killed.
#[track_caller]
pub fn run(command: &mut Command) -> Output {
    run_within(PATIENCE, command)
}

/// Runs `command` to its end, for at most `bound`, without standard input.
///
/// # Panics
/// When it cannot be started, or takes longer; then it and its children have been killed.
#[track_caller]
pub fn run_within(bound: Duration, command: &mut Command) -> Output {
    run_with_input(bound, command, b"")
}

/// Runs `command` with `input` on its standard input, for at most `bound`.
///
/// # Panics
/// When it cannot be started, or takes longer; then it and its children have been killed.
#[track_caller]
pub fn run_with_input(bound: Duration, command: &mut Command, input: &[u8]) -> Output {
    // Files, not pipes: a daemon that the command leaves behind may hold them open for ever.
    let mut stdout = tempfile::tempfile().expect("make a file for standard output");
    let mut stderr = tempfile::tempfile().expect("make a file for standard error");
    let mut stdin = tempfile::tempfile().expect("make a file for standard input");
    stdin.write_all(input).expect("fill standard input");
    stdin.rewind().expect("rewind standard input");
    let clone = |file: &File| Stdio::from(file.try_clone().expect("share the file"));

    command.stdin(clone(&stdin)).stdout(clone(&stdout)).stderr(clone(&stderr)).process_group(0);
    let shown = format!("{command:?}");
    let mut child = command.spawn().unwrap_or_else(|error| panic!("start {shown}: {error}"));
    let ended = wait_within(&mut child, bound);
    if ended.is_none() {
        kill_group(&child);
        let _killed = wait_within(&mut child, LAST_WORDS);
    }
    let (stdout, stderr) = (contents(&mut stdout), contents(&mut stderr));
    let Some(status) = ended else {
        panic!("{shown}\nstill ran after {bound:?}, killed\nout: {stdout}\nerr: {stderr}")
    };
    Output { command: shown, status, stdout, stderr }
}

/// Waits until `child` has ended, but not longer than `bound`.
///
/// # Panics
/// When the kernel will not tell.
pub fn wait_within(child: &mut Child, bound: Duration) -> Option<ExitStatus> {
    let deadline = Instant::now() + bound;
    // A child that was waited for already has no process any more, but its status is kept.
    if let Some(status) = child.try_wait().expect("ask whether the child has ended") {
        return Some(status);
    }
    let pidfd = rustix::process::pidfd_open(pid_of(child), PidfdFlags::empty())
        .expect("open a descriptor for the child");
    loop {
        if let Some(status) = child.try_wait().expect("ask whether the child has ended") {
            return Some(status);
        }
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return None;
        }
        let timeout = Timespec::try_from(left).expect("bounds are short");
        let mut polled = [PollFd::new(&pidfd, PollFlags::IN)];
        match rustix::event::poll(&mut polled, Some(&timeout)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => panic!("wait for the child: {error}"),
        }
    }
}

/// The process id of `child`, as rustix wants it.
///
/// # Panics
/// Never: children have positive ids.
#[must_use]
pub fn pid_of(child: &Child) -> Pid {
    Pid::from_child(child)
}

fn kill_group(child: &Child) {
    // It may have ended by itself in the meantime.
    let _gone = rustix::process::kill_process_group(pid_of(child), Signal::KILL);
}

fn contents(file: &mut File) -> String {
    let mut bytes = Vec::new();
    file.rewind().expect("rewind the output");
    file.read_to_end(&mut bytes).expect("read the output");
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    #[test]
    fn a_command_gives_its_code_and_its_words() {
        let output = run(&mut shell("echo out; echo err >&2; exit 3"));
        assert_eq!(output.code(), 3);
        assert_eq!((output.stdout.as_str(), output.stderr.as_str()), ("out\n", "err\n"));
        assert_eq!(run(&mut shell("kill -9 $$")).code(), 137);
    }

    #[test]
    fn a_command_gets_its_input() {
        let output = run_with_input(PATIENCE, &mut Command::new("cat"), b"three\nlines\n\xff");
        assert_eq!(output.success(), "three\nlines\n\u{fffd}");
    }

    #[test]
    fn a_daemon_that_is_left_behind_does_not_hold_up_the_test() {
        // Ends when the test process closes the pipe, so that nothing stays.
        let (reader, writer) = std::io::pipe().unwrap();
        let fd = std::os::fd::AsRawFd::as_raw_fd(&reader);
        rustix::io::fcntl_setfd(&reader, rustix::io::FdFlags::empty()).unwrap();
        let mut command = Command::new("bash");
        command.args(["-c", &format!("cat <&{fd} & echo started")]);
        assert_eq!(run(&mut command).success(), "started\n");
        drop(writer);
    }

    #[test]
    fn a_command_that_hangs_is_killed_with_its_children() {
        let hung = std::panic::catch_unwind(|| {
            run_within(Duration::from_millis(200), &mut shell("echo begun; sleep 600 & wait"))
        });
        let said = *hung.unwrap_err().downcast::<String>().unwrap();
        assert!(said.contains("still ran after 200ms"), "{said}");
        assert!(said.contains("begun"), "{said}");
    }
}
