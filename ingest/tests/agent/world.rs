//! A server, a directory to back up into, and the agent between them.

use std::fs::File;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;
use std::process::Output;
use std::sync::Arc;

use serde_json::Value;
use tempfile::TempDir;

use crate::server::Server;
use crate::server::bin;

/// No run takes longer, whatever hangs.
const LIMIT: &str = "120";

/// How a run ended.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl From<Output> for Run {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code(),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }
}

impl Run {
    /// What `--json` printed.
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

/// Everything one test needs. Gone when dropped.
pub(crate) struct World {
    pub(crate) server: Arc<Server>,
    directory: TempDir,
    database: String,
}

impl World {
    /// With a class `hourly` and a database of that name, filled by `sql`.
    pub(crate) fn new(database: &str, options: &str, sql: &str) -> Self {
        let server = Server::shared();
        server.database(database, options, sql);
        Self::beside(server, database)
    }

    /// With a class `hourly` beside a server that has the database already.
    pub(crate) fn beside(server: Arc<Server>, database: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(directory.path().join("active/hourly")).unwrap();
        std::fs::create_dir(directory.path().join("bin")).unwrap();
        Self { server, directory, database: database.to_owned() }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// The agent, told where everything is. Arguments after these win.
    pub(crate) fn agent(&self) -> Command {
        self.backing_up(Command::new(env!("CARGO_BIN_EXE_worm-ingest")))
    }

    /// The agent with another command.
    pub(crate) fn command(&self, verb: &str) -> Command {
        let mut command = self.prepared(Command::new(env!("CARGO_BIN_EXE_worm-ingest")));
        command.arg(verb);
        command
    }

    /// The same with a limit on its time.
    pub(crate) fn limited(&self) -> Command {
        let mut command = Command::new("timeout");
        command.args(["--kill-after=5", LIMIT, env!("CARGO_BIN_EXE_worm-ingest")]);
        self.backing_up(command)
    }

    fn backing_up(&self, command: Command) -> Command {
        let mut command = self.prepared(command);
        command.args(["backup", "--json"]);
        command
    }

    fn prepared(&self, mut command: Command) -> Command {
        self.surround(&mut command);
        command
    }

    /// Tells a command where everything is.
    pub(crate) fn surround(&self, command: &mut Command) {
        command.env_clear().env("PATH", "/usr/bin:/bin").env("PGHOST", self.server.host());
        command.env("PGUSER", "postgres").env("PGDATABASE", &self.database);
        command.env("WORM_BACKUPS", self.path("active"));
        command.env("WORM_AUDIT_LOG", self.path("audit.jsonl"));
        // Most tests are about the dump alone.
        command.env("WORM_GLOBALS", "false");
    }

    /// Runs a backup of the class `hourly` into the plain directory.
    pub(crate) fn backup(&self, change: impl FnOnce(&mut Command)) -> Run {
        let mut command = self.limited();
        command.args(["hourly", "--allow-plain"]);
        change(&mut command);
        command.output().unwrap().into()
    }

    /// Replaces `pg_dump` by a script. `$REAL` is the real one, `$HERE` a directory to write to.
    pub(crate) fn fake(&self, script: &str) -> PathBuf {
        let version = format!("pg_dump (PostgreSQL) {}.99", self.server.major());
        self.fake_of_version(&version, script)
    }

    pub(crate) fn fake_of_version(&self, version: &str, script: &str) -> PathBuf {
        let directory = self.path("bin");
        let path = directory.join("pg_dump");
        let text = format!(
            "#!/bin/sh\nREAL={} HERE={}\n[ \"$1\" = --version ] && echo '{version}' && exit 0\n{script}\n",
            bin("pg_dump").display(),
            directory.display(),
        );
        put(&path, text.as_bytes(), 0o755);
        directory
    }

    /// A backup by a fake `pg_dump`.
    pub(crate) fn backup_by(&self, script: &str) -> Run {
        let directory = self.fake(script);
        self.backup(|command| {
            command.arg("--client-dir").arg(directory);
        })
    }

    /// The names in the class, unfinished ones with their directory.
    pub(crate) fn names(&self) -> Vec<String> {
        let mut names = names(&self.path("active/hourly"));
        names.retain(|name| name != ".incomplete");
        let incomplete = self.path("active/hourly/.incomplete");
        if incomplete.exists() {
            names.extend(self::names(&incomplete).iter().map(|name| format!(".incomplete/{name}")));
        }
        names
    }

    /// The lines of the audit log.
    pub(crate) fn audit(&self) -> Vec<Value> {
        let text = std::fs::read_to_string(self.path("audit.jsonl")).unwrap_or_default();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// The run failed as it should: this number, this error, said in one line, noted in the audit
    /// log, and nothing left in the class.
    #[track_caller]
    pub(crate) fn check_failed(&self, run: &Run, exit: u8, code: &str) {
        assert_eq!(run.code, Some(exit.into()), "{run:?}");
        let said = run.stderr.lines().filter(|line| line.starts_with("worm-ingest: ")).count();
        assert_eq!(said, 1, "{run:?}");
        let audit = self.audit();
        let last = audit.last().unwrap();
        assert_eq!((&last["exit"], &last["error"]["code"]), (&exit.into(), &code.into()), "{last}");
        assert_eq!(self.names(), [""; 0]);
    }
}

/// Writes a file whole, also one that is to be run.
pub(crate) fn put(path: &Path, bytes: &[u8], mode: u32) {
    let mut file = File::create(path).unwrap();
    file.write_all(bytes).unwrap();
    file.set_permissions(std::fs::Permissions::from_mode(mode)).unwrap();
}

/// What is in a directory, sorted.
pub(crate) fn names(directory: &Path) -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}
