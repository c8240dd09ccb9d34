//! I/O: which `psql` to use, and one run of it. Its connection comes from its environment, its
//! password through a descriptor: neither is on a command line.

use std::ffi::OsString;
use std::fs::File;
use std::io::PipeReader;
use std::io::PipeWriter;
use std::io::Write;
use std::path::Path;
use std::path::PathBuf;
use std::process::ExitStatus;
use std::process::Stdio;

use rustix::fd::AsRawFd;
use rustix::fs::MemfdFlags;
use rustix::fs::Mode;
use rustix::io::Errno;
use tokio::io::AsyncBufReadExt;
use tokio::io::AsyncRead;
use tokio::io::BufReader;
use tokio::process::Child;
use tokio::process::ChildStderr;
use tokio::process::Command;

use crate::error::Error;
use crate::error::Result;
use crate::restore::target::Target;
use crate::restore::version::Version;

/// Where Debian and Ubuntu keep the clients of each major version.
const DEBIAN_CLIENTS: &str = "/usr/lib/postgresql";
/// Of what `psql` complains about, so many last lines are shown.
const LINES_SHOWN: usize = 8;
/// As much as an unprivileged pipe may hold: fewer switches between us and `psql`.
const PIPE_BYTES: usize = 1 << 20;

/// A `psql` that was found.
#[derive(Clone, Debug)]
pub(crate) struct Psql {
    path: PathBuf,
    /// What `psql --version` says.
    pub(crate) version: Version,
}

impl Psql {
    /// The newest one: it talks to older servers too.
    pub(crate) async fn newest() -> Result<Self> {
        let mut found: Option<Self> = None;
        for path in candidates("psql") {
            let Some(version) = version(&path).await else { continue };
            if found.as_ref().is_none_or(|found| version > found.version) {
                found = Some(Self { path, version });
            }
        }
        found.ok_or_else(|| {
            Error::Refused("psql was not found: install the package postgresql-client".to_owned())
        })
    }

    /// Starts it on a pipe. It stops at the first error, and ends what it has not committed.
    pub(crate) fn start(&self, target: &Target, application: &str) -> Result<Running> {
        let doing = || format!("start {}", self.path.display());
        let (reader, writer) = std::io::pipe().map_err(Error::io(doing()))?;
        let (answers, printed) = std::io::pipe().map_err(Error::io(doing()))?;
        // Refused where the user has too many pipes; it works as well with a small one.
        let _as_before = rustix::pipe::fcntl_setpipe_size(&writer, PIPE_BYTES);
        // Ours until the child has its own copy of the descriptor.
        let passfile = target.passfile().map(|text| in_memory(&text)).transpose();
        let passfile = passfile.map_err(Error::io(doing()))?;
        let passfile_path = |file: &File| format!("/proc/self/fd/{}", file.as_raw_fd());
        let mut child = Command::new(&self.path)
            .args(["--no-psqlrc", "--quiet", "--set=ON_ERROR_STOP=1", "--file=-"])
            // Results of the dump's own queries. What is left on its output is for us.
            .arg("--output=/dev/null")
            .env_clear()
            .envs(inherited())
            .envs(target.environment(application))
            .envs(passfile.as_ref().map(|file| ("PGPASSFILE", passfile_path(file))))
            .arg("--no-password")
            .stdin(reader)
            .stdout(printed)
            .stderr(Stdio::piped())
            // A signal from the terminal is for us; we decide what becomes of psql.
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .map_err(Error::io(doing()))?;
        let complaints = child.stderr.take();
        Ok(Running { child, complaints, pipes: Some((writer, answers)) })
    }
}

/// A `psql` that is running.
pub(crate) struct Running {
    child: Child,
    complaints: Option<ChildStderr>,
    /// What it reads (closing it without a COMMIT undoes everything), and what it prints.
    pub(crate) pipes: Option<(PipeWriter, PipeReader)>,
}

impl Running {
    /// Waits for its end, and gives the last lines of what it had to say.
    pub(crate) async fn end(&mut self) -> Result<(ExitStatus, Vec<String>)> {
        let complaints = self.complaints.take();
        let lines = async {
            match complaints {
                Some(complaints) => last_lines(complaints).await,
                None => Vec::new(),
            }
        };
        let (lines, status) = tokio::join!(lines, self.child.wait());
        Ok((status.map_err(Error::io("wait for psql"))?, lines))
    }

    /// Kills it if it still runs, and waits until it is gone.
    pub(crate) async fn kill(&mut self) -> Result<()> {
        if self.child.try_wait().map_err(Error::io("look at psql"))?.is_some() {
            return Ok(());
        }
        self.child.kill().await.map_err(Error::io("kill psql"))
    }
}

/// Reads to the end, whatever it is: names and values in it may be of any encoding.
async fn last_lines(complaints: impl AsyncRead + Unpin) -> Vec<String> {
    let mut last = Vec::new();
    let mut reader = BufReader::new(complaints);
    let mut line = Vec::new();
    while let Ok(1..) = reader.read_until(b'\n', &mut line).await {
        if last.len() == LINES_SHOWN {
            let _oldest = last.remove(0);
        }
        last.push(String::from_utf8_lossy(&line).trim_end().to_owned());
        line.clear();
    }
    last
}

/// A file that only this process and its child can reach. A password in the environment would be
/// there for every program that the child starts, and for all who may look at it.
fn in_memory(content: &str) -> std::io::Result<File> {
    // No CLOEXEC: the child is to inherit it.
    let fd = match rustix::fs::memfd_create("pgpass", MemfdFlags::NOEXEC_SEAL) {
        // Kernels before 6.3.
        Err(Errno::INVAL) => rustix::fs::memfd_create("pgpass", MemfdFlags::empty())?,
        made => made?,
    };
    rustix::fs::fchmod(&fd, Mode::RUSR | Mode::WUSR)?;
    let mut file = File::from(fd);
    file.write_all(content.as_bytes())?;
    Ok(file)
}

/// Where a program of PostgreSQL may be.
pub(super) fn candidates(program: &str) -> Vec<PathBuf> {
    let debian = std::fs::read_dir(DEBIAN_CLIENTS).into_iter().flatten().flatten();
    let debian = debian.map(|entry| entry.path().join("bin").join(program));
    let path = std::env::var_os("PATH").unwrap_or_default();
    let searched: Vec<PathBuf> =
        std::env::split_paths(&path).map(|dir| dir.join(program)).collect();
    debian.chain(searched).filter(|path| path.is_file()).collect()
}

/// What it says about itself.
pub(super) async fn version(path: &Path) -> Option<Version> {
    let output = Command::new(path).arg("--version").stdin(Stdio::null()).output().await.ok()?;
    Version::find(&String::from_utf8_lossy(&output.stdout))
}

/// Nothing of `PG...` comes through: only what the target says counts.
pub(super) fn inherited() -> Vec<(&'static str, OsString)> {
    let mut environment = vec![("LC_ALL", OsString::from("C.UTF-8"))];
    environment.extend(
        ["PATH", "HOME", "LD_LIBRARY_PATH"]
            .into_iter()
            .filter_map(|name| Some((name, std::env::var_os(name)?))),
    );
    environment
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_last_words_are_kept_whatever_their_encoding() {
        let said: Vec<u8> = (0..20).flat_map(|n| [b'a' + n, 0xe4, b'\n']).collect();
        let kept = last_lines(&said[..]).await;
        assert_eq!(kept.len(), LINES_SHOWN);
        assert_eq!(kept.last().unwrap(), "t\u{fffd}");
        assert_eq!(last_lines(&b"no line end"[..]).await, ["no line end"]);
    }
}
