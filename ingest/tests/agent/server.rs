//! A throw-away PostgreSQL: unprivileged, in a temporary directory, on a unix socket only.

use std::io::BufRead;
use std::io::BufReader;
use std::io::Write;
use std::net::TcpListener;
use std::os::unix::fs::chown;
use std::path::Path;
use std::path::PathBuf;
use std::process::Child;
use std::process::Command;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::Weak;

use tempfile::TempDir;

use crate::world::put;

/// `nobody` on every Linux.
const NOBODY: u32 = 65_534;
/// Of a server that has only a socket, in a directory of its own.
const PORT: u16 = 5432;
/// Ends the server when this process ends in any way: the pipe that it reads is closed then.
const GUARD: &str = "\"$@\" & server=$!; read -r _; kill -QUIT $server; wait $server";

/// A running server. Ends when dropped.
pub(crate) struct Server {
    directory: TempDir,
    port: u16,
    guard: Child,
}

impl Server {
    /// One server for all tests that run at the same time.
    pub(crate) fn shared() -> Arc<Self> {
        static SHARED: Mutex<Weak<Server>> = Mutex::new(Weak::new());
        let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
        shared.upgrade().unwrap_or_else(|| {
            let server = Arc::new(Self::start());
            *shared = Arc::downgrade(&server);
            server
        })
    }

    /// A server that no other test uses.
    pub(crate) fn alone() -> Self {
        Self::start()
    }

    fn start() -> Self {
        Self::serve(Self::made("local all secretive scram-sha-256\n"), PORT, &[])
    }

    /// One that also listens on loopback, with TLS if `certificates` has `server.crt`, `server.key`
    /// and the authority of clients, `ca.crt`. `rules` come first in its `pg_hba.conf`.
    pub(crate) fn tcp(rules: &str, certificates: &Path) -> Self {
        let directory = Self::made(rules);
        let data = directory.path().join("data");
        for (name, mode) in [("server.crt", 0o644), ("server.key", 0o600), ("ca.crt", 0o644)] {
            let bytes = std::fs::read(certificates.join(name)).unwrap();
            put(&data.join(name), &bytes, mode);
            if rustix::process::geteuid().is_root() {
                chown(data.join(name), Some(NOBODY), Some(NOBODY)).unwrap();
            }
        }
        let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let settings = ["listen_addresses=127.0.0.1", "ssl_ca_file=ca.crt"];
        let server = Self::serve(directory, free, &settings);
        server.set_tls(true);
        server
    }

    /// Whether it speaks TLS from now on.
    pub(crate) fn set_tls(&self, on: bool) {
        let word = if on { "on" } else { "off" };
        self.sql("postgres", &format!("ALTER SYSTEM SET ssl = {word}"));
        self.sql("postgres", "SELECT pg_reload_conf()");
        while self.sql("postgres", "SHOW ssl") != word {
            std::thread::yield_now();
        }
    }

    /// The files of a new server.
    fn made(rules: &str) -> TempDir {
        let directory = tempfile::tempdir().unwrap();
        if rustix::process::geteuid().is_root() {
            chown(directory.path(), Some(NOBODY), Some(NOBODY)).unwrap();
        }
        let data = directory.path().join("data");
        let made = unprivileged(&bin("initdb"))
            .args(["--no-sync", "--auth=trust", "--username=postgres", "--encoding=UTF8"])
            .args(["--locale=C", "--pgdata"])
            .arg(&data)
            .output()
            .unwrap();
        assert!(made.status.success(), "initdb: {}", String::from_utf8_lossy(&made.stderr));
        let mut hba = std::fs::read_to_string(data.join("pg_hba.conf")).unwrap();
        hba.insert_str(0, rules);
        std::fs::File::options()
            .write(true)
            .open(data.join("pg_hba.conf"))
            .and_then(|mut file| file.write_all(hba.as_bytes()))
            .unwrap();
        directory
    }

    /// A standby that shows what this server has now.
    pub(crate) fn standby(&self) -> Self {
        let directory = tempfile::tempdir().unwrap();
        if rustix::process::geteuid().is_root() {
            chown(directory.path(), Some(NOBODY), Some(NOBODY)).unwrap();
        }
        let copied = unprivileged(&bin("pg_basebackup"))
            .args(["--no-sync", "--checkpoint=fast", "--write-recovery-conf"])
            .args(["--username=postgres", "--host"])
            .arg(self.host())
            .arg("--pgdata")
            .arg(directory.path().join("data"))
            .output()
            .unwrap();
        assert!(copied.status.success(), "{}", String::from_utf8_lossy(&copied.stderr));
        Self::serve(directory, PORT, &[])
    }

    fn serve(directory: TempDir, port: u16, settings: &[&str]) -> Self {
        let data = directory.path().join("data");
        let postgres = unprivileged(&bin("postgres"));
        let mut guard = Command::new("sh")
            .args(["-c", GUARD, "guard"])
            .arg(postgres.get_program())
            .args(postgres.get_args())
            .args(["-c", "listen_addresses=", "-c", "fsync=off", "-c"])
            .arg(format!("unix_socket_directories={}", directory.path().display()))
            .args(settings.iter().flat_map(|setting| ["-c", setting]))
            .args(["-c", "allow_system_table_mods=on", "-p"])
            .arg(port.to_string())
            .arg("-D")
            .arg(&data)
            .stdin(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut log = BufReader::new(guard.stderr.take().unwrap());
        let mut line = String::new();
        while !line.contains("ready to accept ") {
            line.clear();
            assert!(log.read_line(&mut line).unwrap() > 0, "the server did not start");
        }
        std::thread::spawn(move || std::io::copy(&mut log, &mut std::io::sink()));
        Self { directory, port, guard }
    }

    /// The directory of its socket.
    pub(crate) fn host(&self) -> &Path {
        self.directory.path()
    }

    /// The port of its socket, and of loopback if it listens there.
    pub(crate) fn port(&self) -> String {
        self.port.to_string()
    }

    /// Its major version.
    pub(crate) fn major(&self) -> String {
        self.sql("postgres", "SELECT current_setting('server_version_num')::int / 10000")
    }

    /// Runs SQL and gives what it printed.
    pub(crate) fn sql(&self, database: &str, sql: &str) -> String {
        let output = Command::new(bin("psql"))
            .env_clear()
            .env("PGHOST", self.host())
            .env("PGPORT", self.port())
            .env("PGCLIENTENCODING", "UTF8")
            .args(["-XAtq", "-v", "ON_ERROR_STOP=1", "-U", "postgres", "-d", database, "-c", sql])
            .output()
            .unwrap();
        assert!(output.status.success(), "{sql}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().trim_end().to_owned()
    }

    /// Locks a table against everybody until dropped.
    pub(crate) fn locked(&self, database: &str, table: &str) -> Locked {
        let mut psql = Command::new(bin("psql"))
            .env_clear()
            .env("PGHOST", self.host())
            .args(["-XAtq", "-U", "postgres", "-d", database])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let sql = format!("BEGIN; LOCK TABLE {table}; SELECT 'locked';\n");
        psql.stdin.as_mut().unwrap().write_all(sql.as_bytes()).unwrap();
        let mut line = String::new();
        BufReader::new(psql.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line, "locked\n");
        Locked(psql)
    }

    /// A new database with what `sql` puts into it.
    pub(crate) fn database(&self, name: &str, options: &str, sql: &str) {
        self.sql("postgres", &format!("DROP DATABASE IF EXISTS {name}"));
        self.sql("postgres", &format!("CREATE DATABASE {name} TEMPLATE template0 {options}"));
        self.sql(name, sql);
    }
}

/// A session that holds a lock. It ends with its input, so also when this process is killed.
pub(crate) struct Locked(Child);

impl Drop for Locked {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        drop(self.0.wait());
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.guard.stdin.take());
        let ended = self.guard.wait();
        if !std::thread::panicking() {
            ended.unwrap();
        }
    }
}

/// A program of the newest PostgreSQL that is installed.
pub(crate) fn bin(program: &str) -> PathBuf {
    let mut found: Vec<PathBuf> = std::fs::read_dir("/usr/lib/postgresql")
        .unwrap_or_else(|error| panic!("PostgreSQL is not installed: {error}"))
        .map(|entry| entry.unwrap().path().join("bin").join(program))
        .filter(|path| path.exists())
        .collect();
    found.sort();
    found.pop().unwrap_or_else(|| panic!("{program} is not installed"))
}

/// PostgreSQL does not run as root.
fn unprivileged(program: &Path) -> Command {
    if !rustix::process::geteuid().is_root() {
        return Command::new(program);
    }
    let mut command = Command::new("setpriv");
    command.args([format!("--reuid={NOBODY}"), format!("--regid={NOBODY}")]);
    command.arg("--clear-groups").arg(program);
    command
}
