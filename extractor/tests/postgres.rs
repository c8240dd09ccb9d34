//! A throw-away PostgreSQL on a unix socket, shared by the tests that run at the same time.

use std::fs;
use std::fs::Permissions;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::path::PathBuf;
use std::process::Child;
use std::process::Command;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::Weak;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering;

use tempfile::TempDir;

use crate::support::expect;
use crate::support::wait_until;

/// The server ends when its standard input does, so it cannot outlive the tests, however they end.
const KEEPER: &str = r#""$@" </dev/null >/dev/null 2>&1 & server=$!
read -r _
kill -QUIT $server
wait $server"#;

/// The one role that the server asks for a password.
pub(crate) const WITH_PASSWORD: &str = "with_password";

static SHARED: Mutex<Weak<Server>> = Mutex::new(Weak::new());
static DATABASES: AtomicU32 = AtomicU32::new(0);

/// A running server. The last test that holds it ends it.
pub(crate) struct Server {
    dir: TempDir,
    port: String,
    keeper: Child,
}

impl Server {
    /// The one that runs, or a new one.
    pub(crate) fn shared() -> Arc<Self> {
        let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
        shared.upgrade().unwrap_or_else(|| {
            let server = Arc::new(Self::start(&[], &[]));
            *shared = Arc::downgrade(&server);
            server
        })
    }

    /// One that also listens at a port of loopback, for TLS only, as whoever these files prove.
    pub(crate) fn with_tls(certificate: &Path, key: &Path) -> (Arc<Self>, u16) {
        let files = [("server.crt", certificate), ("server.key", key)];
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let listen = ["-c", "listen_addresses=127.0.0.1", "-c", "ssl=on", "-p", &port.to_string()];
        (Arc::new(Self::start(&files, &listen)), port)
    }

    fn start(files: &[(&str, &Path)], arguments: &[&str]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let data = dir.path().join("data");
        fs::create_dir(&data).unwrap();
        let user = unprivileged();
        if let Some((uid, gid)) = user {
            for path in [dir.path(), &data] {
                chown(path, Some(uid), Some(gid)).unwrap();
            }
        }
        let as_user = |command: &mut Command| {
            if let Some((uid, gid)) = user {
                let _command = command.uid(uid).gid(gid).current_dir("/");
            }
        };
        let mut initdb = Command::new(binary("initdb"));
        let _command = initdb.args(["-U", "postgres", "-A", "trust", "-E", "UTF8", "--no-sync"]);
        let _command = initdb.args(["--locale=C.UTF-8", "-D"]).arg(&data);
        as_user(&mut initdb);
        let _said = expect(0, &mut initdb);
        let hba = format!(
            "local all {WITH_PASSWORD} scram-sha-256\nlocal all all trust\n\
             hostssl all {WITH_PASSWORD} 127.0.0.1/32 scram-sha-256\n"
        );
        fs::write(data.join("pg_hba.conf"), hba).unwrap();
        for (name, path) in files {
            fs::write(data.join(name), fs::read(path).unwrap()).unwrap();
            fs::set_permissions(data.join(name), Permissions::from_mode(0o600)).unwrap();
            if let Some((uid, gid)) = user {
                chown(data.join(name), Some(uid), Some(gid)).unwrap();
            }
        }
        let port = arguments.iter().skip_while(|argument| **argument != "-p").nth(1);
        let port = port.map_or_else(|| "5432".to_owned(), |port| (*port).to_owned());
        let mut keeper = Command::new("sh");
        let _command = keeper.args(["-c", KEEPER, "keeper"]).arg(binary("postgres"));
        let _command = keeper.arg("-D").arg(&data).arg("-k").arg(dir.path());
        let _command = keeper.args(["-c", "listen_addresses=", "-c", "fsync=off"]).args(arguments);
        as_user(&mut keeper);
        let _command = keeper.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        // Not stopped by the terminal's Ctrl-C before its tests are.
        let keeper = keeper.process_group(0).spawn().unwrap();
        let server = Self { dir, port, keeper };
        wait_until("the server answers", || {
            server.client("pg_isready").arg("-q").status().unwrap().success()
        });
        server
    }

    /// A PostgreSQL program that connects here as the superuser.
    pub(crate) fn client(&self, name: &str) -> Command {
        let mut command = Command::new(binary(name));
        let _command = command.env("PGHOST", self.dir.path()).env("PGUSER", "postgres");
        let _command = command.env("PGPORT", &self.port);
        let _command = command.env("PGDATABASE", "postgres").env_remove("PGPASSWORD");
        command
    }

    /// An empty database with a name of its own.
    pub(crate) fn database(self: &Arc<Self>) -> Database {
        let name = format!("db{}", DATABASES.fetch_add(1, Ordering::SeqCst));
        let _said = expect(0, self.client("createdb").args(["-T", "template0", &name]));
        Database { server: Arc::clone(self), name }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.keeper.stdin.take());
        let _ended = self.keeper.wait();
    }
}

/// A database of a [`Server`].
pub(crate) struct Database {
    pub(crate) server: Arc<Server>,
    pub(crate) name: String,
}

impl Database {
    /// What `--to` takes.
    pub(crate) fn url(&self) -> String {
        self.url_of("postgres")
    }

    /// The same for another role.
    pub(crate) fn url_of(&self, role: &str) -> String {
        let host = self.server.dir.path().display();
        format!("postgres:///{}?host={host}&user={role}", self.name)
    }

    /// Runs SQL as `psql` does, and gives what it prints, without headings.
    #[track_caller]
    pub(crate) fn sql(&self, sql: &str) -> String {
        let mut psql = self.server.client("psql");
        let _command = psql.args(["-X", "-A", "-t", "-q", "-v", "ON_ERROR_STOP=1"]);
        let (out, _) = expect(0, psql.args(["-d", &self.name, "-c", sql]));
        out.trim_end().to_owned()
    }

    /// The database as SQL, without the random keys of `\restrict`.
    #[track_caller]
    pub(crate) fn dump(&self) -> String {
        let file = self.server.dir.path().join(format!("{}.sql", self.name));
        let mut dump = self.server.client("pg_dump");
        let _said = expect(0, dump.arg("-d").arg(&self.name).arg("-f").arg(&file));
        fs::read_to_string(file).unwrap()
    }

    /// That nobody has put anything into it.
    #[track_caller]
    pub(crate) fn assert_untouched(&self) {
        let dump = self.dump();
        assert!(!dump.contains("CREATE "), "{dump}");
        assert_eq!(self.sql("SELECT count(*) FROM pg_largeobject_metadata"), "0");
    }
}

/// The newest of Debian's PostgreSQL programs, or that of the search path.
fn binary(name: &str) -> PathBuf {
    let majors = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let newest = majors
        .filter(|entry| entry.path().join("bin").join(name).exists())
        .max_by_key(|entry| entry.file_name().to_string_lossy().parse::<u32>().unwrap_or(0));
    newest.map_or_else(|| name.into(), |entry| entry.path().join("bin").join(name))
}

/// PostgreSQL refuses to run as root: who else, if we are root.
fn unprivileged() -> Option<(u32, u32)> {
    if !rustix::process::geteuid().is_root() {
        return None;
    }
    let users = fs::read_to_string("/etc/passwd").unwrap();
    let find = |name: &str| {
        let line = users.lines().find(|line| line.split(':').next() == Some(name))?;
        let mut fields = line.split(':').skip(2).map(|field| field.parse().unwrap());
        Some((fields.next()?, fields.next()?))
    };
    Some(find("postgres").or_else(|| find("nobody")).expect("an unprivileged user"))
}
