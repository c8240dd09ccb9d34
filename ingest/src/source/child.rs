//! A program of the database while it runs: its input and output, its complaints, its end.

use std::collections::BTreeMap;
use std::collections::VecDeque;
use std::ffi::OsString;
use std::io;
use std::io::PipeReader;
use std::io::PipeWriter;
use std::io::Write;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::ExitStatus;
use std::process::Stdio;
use std::time::Duration;

use rustix::fd::AsRawFd;
use rustix::fs::MemfdFlags;
use rustix::fs::Mode;
use rustix::io::Errno;
use rustix::process::Pid;
use rustix::process::Signal;
use tokio::io::AsyncRead;
use tokio::io::AsyncReadExt;
use tokio::process::Child;
use tokio::process::Command;
use tokio::task::JoinHandle;

use super::leash;
use crate::proof::Ending;

/// The most that an unprivileged process may ask for by default; it spares both ends many waits.
const PIPE_BYTES: usize = 1024 * 1024;
/// Of its complaints so much is kept.
const COMPLAINTS: usize = 8 * 1024;
/// And so many lines are shown.
const COMPLAINT_LINES: usize = 5;
/// Between asking it to end and ending it.
const GRACE: Duration = Duration::from_secs(5);

/// What to run.
pub(crate) struct Launch<'a> {
    pub(crate) program: &'a Path,
    pub(crate) arguments: Vec<OsString>,
    pub(crate) environment: BTreeMap<String, String>,
    /// The content of its password file.
    pub(crate) passfile: Option<String>,
    /// Whether it reads from us.
    pub(crate) input: bool,
}

/// A running program.
#[derive(Debug)]
pub(crate) struct Running {
    child: Child,
    stdin: Option<PipeWriter>,
    stdout: Option<PipeReader>,
    complaints: JoinHandle<String>,
}

impl Running {
    /// Starts the program in a process group of its own, so that signals meant for us do not reach
    /// it first, and ours reach all of it. It ends when we do, however we end.
    pub(crate) fn start(launch: Launch<'_>) -> io::Result<Self> {
        let (stdout, output) = pipe()?;
        let mut command = Command::from(leash::command(launch.program));
        command.args(launch.arguments).env_clear().envs(launch.environment).process_group(0);
        command.stdout(output).stderr(Stdio::piped()).kill_on_drop(true);
        let mut stdin = None;
        if launch.input {
            let (input, ours) = pipe()?;
            command.stdin(input);
            stdin = Some(ours);
        } else {
            command.stdin(Stdio::null());
        }
        // Open until the child has its own copy of the descriptor.
        let held = launch.passfile.as_deref().map(in_memory).transpose()?;
        if let Some(file) = &held {
            command.env("PGPASSFILE", format!("/proc/self/fd/{}", file.as_raw_fd()));
        }
        let mut child = leash::spawn(command)?;
        let stderr = child.stderr.take().ok_or_else(|| io::Error::other("no stderr"))?;
        let complaints = tokio::spawn(last_lines(stderr));
        Ok(Self { child, stdin, stdout: Some(stdout), complaints })
    }

    /// What it reads. There is one, if it was started with one.
    pub(crate) fn take_stdin(&mut self) -> io::Result<PipeWriter> {
        self.stdin.take().ok_or_else(|| io::Error::other("there is no input to take"))
    }

    /// Its output. There is one.
    pub(crate) fn take_stdout(&mut self) -> io::Result<PipeReader> {
        self.stdout.take().ok_or_else(|| io::Error::other("the output was taken before"))
    }

    /// Waits for its end.
    pub(crate) async fn wait(&mut self) -> io::Result<Ending> {
        Ok(ending(self.child.wait().await?))
    }

    /// Ends it: politely first, so that the server hears of it.
    pub(crate) async fn stop(&mut self) {
        for signal in [Signal::TERM, Signal::KILL] {
            // Without an id it has been waited for, and the group may be anybody's.
            let Some(group) = self.child.id().and_then(|id| Pid::from_raw(id.cast_signed())) else {
                return;
            };
            if let Err(errno) = rustix::process::kill_process_group(group, signal) {
                tracing::debug!(%errno, ?signal, "a child could not be signalled");
            }
            if tokio::time::timeout(GRACE, self.child.wait()).await.is_ok() {
                return;
            }
        }
    }

    /// Its last words. To be asked after its end.
    pub(crate) async fn last_words(self) -> String {
        // A grandchild may hold the pipe open for ever.
        match tokio::time::timeout(GRACE, self.complaints).await {
            Ok(Ok(words)) => words,
            Ok(Err(_)) | Err(_) => String::new(),
        }
    }
}

/// A pipe with much room.
fn pipe() -> io::Result<(PipeReader, PipeWriter)> {
    let (reader, writer) = io::pipe()?;
    // Only a matter of speed.
    if let Err(errno) = rustix::pipe::fcntl_setpipe_size(&reader, PIPE_BYTES) {
        tracing::debug!(%errno, "the pipe keeps its usual size");
    }
    Ok((reader, writer))
}

fn ending(status: ExitStatus) -> Ending {
    status
        .code()
        .map_or_else(|| Ending::Signal(status.signal().unwrap_or_default()), Ending::Status)
}

/// A file that only this process and its child can reach. A password in the environment would be
/// there for every program that the child starts; one on disk would outlive a `kill -9`.
fn in_memory(content: &str) -> io::Result<std::fs::File> {
    // No CLOEXEC: the child is to inherit it.
    let fd = match rustix::fs::memfd_create("pgpass", MemfdFlags::NOEXEC_SEAL) {
        // Kernels before 6.3.
        Err(Errno::INVAL) => rustix::fs::memfd_create("pgpass", MemfdFlags::empty())?,
        result => result?,
    };
    rustix::fs::fchmod(&fd, Mode::RUSR | Mode::WUSR)?;
    let mut file = std::fs::File::from(fd);
    file.write_all(content.as_bytes())?;
    Ok(file)
}

/// Reads to the end and keeps the last lines.
async fn last_lines(mut stderr: impl AsyncRead + Unpin) -> String {
    let mut kept = VecDeque::new();
    let mut piece = vec![0; 4096];
    while let Ok(length @ 1..) = stderr.read(&mut piece).await {
        kept.extend(&piece[..length]);
        kept.drain(..kept.len().saturating_sub(COMPLAINTS));
    }
    let bytes: Vec<u8> = kept.into();
    let text = String::from_utf8_lossy(&bytes).into_owned();
    let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
    lines[lines.len().saturating_sub(COMPLAINT_LINES)..].join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn only_the_last_complaints_are_kept() {
        let many: String = (0..5000).map(|line| format!("line {line}\n\n")).collect();
        let last = last_lines(many.as_bytes()).await;
        assert_eq!(last, "line 4995; line 4996; line 4997; line 4998; line 4999");
        assert_eq!(last_lines(&b""[..]).await, "");
    }
}
