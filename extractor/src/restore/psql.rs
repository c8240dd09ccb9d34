//! I/O: which `psql` to use, and one run of it. Its connection comes from its environment, so that
//! no password is on a command line.

use std::ffi::OsString;
use std::io::PipeReader;
use std::io::PipeWriter;
use std::path::Path;
use std::path::PathBuf;
use std::process::ExitStatus;
use std::process::Stdio;

use tokio::io::AsyncBufReadExt;
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
        for path in candidates() {
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
        let mut child = Command::new(&self.path)
            .args(["--no-psqlrc", "--quiet", "--set=ON_ERROR_STOP=1", "--file=-"])
            // Results of the dump's own queries. What is left on its output is for us.
            .arg("--output=/dev/null")
            .env_clear()
            .envs(inherited())
            .envs(target.environment(application))
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
        let (lines, status) = tokio::join!(last_lines(complaints), self.child.wait());
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

async fn last_lines(complaints: Option<ChildStderr>) -> Vec<String> {
    let mut last = Vec::new();
    let Some(complaints) = complaints else { return last };
    let mut lines = BufReader::new(complaints).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        if last.len() == LINES_SHOWN {
            let _oldest = last.remove(0);
        }
        last.push(line);
    }
    last
}

fn candidates() -> Vec<PathBuf> {
    let debian = std::fs::read_dir(DEBIAN_CLIENTS).into_iter().flatten().flatten();
    let debian = debian.map(|entry| entry.path().join("bin/psql"));
    let path = std::env::var_os("PATH").unwrap_or_default();
    let searched: Vec<PathBuf> = std::env::split_paths(&path).map(|dir| dir.join("psql")).collect();
    debian.chain(searched).filter(|path| path.is_file()).collect()
}

async fn version(path: &Path) -> Option<Version> {
    let output = Command::new(path).arg("--version").stdin(Stdio::null()).output().await.ok()?;
    Version::find(&String::from_utf8_lossy(&output.stdout))
}

/// Nothing of `PG...` comes through: only what the target says counts.
fn inherited() -> Vec<(&'static str, OsString)> {
    let mut environment = vec![("LC_ALL", OsString::from("C.UTF-8"))];
    environment.extend(
        ["PATH", "HOME", "LD_LIBRARY_PATH"]
            .into_iter()
            .filter_map(|name| Some((name, std::env::var_os(name)?))),
    );
    environment
}
