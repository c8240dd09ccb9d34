//! A throw-away PostgreSQL: a server of its own for each test, gone with it.
//!
//! It runs as an unprivileged user, listens on a unix socket in its own directory, and on the
//! loopback interface with a password only when asked to. Nothing in it survives a power cut.

use std::io::Write;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::path::PathBuf;
use std::process::Child;
use std::process::Command;
use std::process::Stdio;
use std::time::Duration;
use std::time::Instant;

use tempfile::TempDir;

use crate::binary;

/// How long a server may take to start or stop.
const PATIENCE: Duration = Duration::from_secs(60);

/// Who may run the server, in this order: PostgreSQL refuses root.
const UNPRIVILEGED: [&str; 2] = ["postgres", "nobody"];

/// Stands between the test and the server: makes it, and when its standard input ends, which the
/// kernel sees to however the test process ends, takes it away. The rest of the arguments is what
/// makes a program unprivileged. Nothing is synced, nothing runs in the background.
const SUPERVISOR: &str = r#"
directory=$1 programs=$2 port=$3 listen=$4 server=; shift 4
cd "$directory" && exec >log 2>&1
if "$@" "$programs/initdb" -D data -U postgres --no-sync --no-instructions --pwfile=password \
    --encoding=UTF8 --locale=C.UTF-8 --auth-local=trust --auth-host=scram-sha-256 </dev/null
then
    "$@" "$programs/postgres" -D data -k "$directory" -p "$port" -h "$listen" \
        -c fsync=off -c synchronous_commit=off -c full_page_writes=off -c wal_level=minimal \
        -c max_wal_senders=0 -c shared_buffers=64MB -c max_connections=40 -c autovacuum=off \
        -c jit=off </dev/null & server=$!
fi
cat >/dev/null
# A server that has just begun still ignores QUIT, as every child of a shell that runs in the
# background does. TERM it hears; later QUIT overrules it, and ends the clients too.
[ -z "$server" ] || { kill -TERM "$server"; kill -QUIT "$server"; }
wait
rm -rf "$directory"
"#;

/// A running server. Dropped, it is gone.
#[derive(Debug)]
pub struct Postgres {
    directory: PathBuf,
    port: u16,
    tcp: bool,
    supervisor: Child,
}

impl Postgres {
    /// The superuser.
    pub const USER: &str = "postgres";
    /// The superuser's password, which only connections over TCP are asked for.
    pub const PASSWORD: &str = "correct-horse-battery";

    /// Starts a server that listens on a unix socket only.
    ///
    /// # Panics
    /// When there is no PostgreSQL, or it does not start within a minute.
    #[must_use]
    pub fn start() -> Self {
        Self::launch(false)
    }

    /// Starts a server that also listens on 127.0.0.1, where it wants a password (SCRAM).
    ///
    /// # Panics
    /// As [`Postgres::start`].
    #[must_use]
    pub fn start_tcp() -> Self {
        Self::launch(true)
    }

    fn launch(tcp: bool) -> Self {
        let directory = server_directory();
        let port = if tcp { free_port() } else { 5432 };
        let listen = if tcp { "127.0.0.1" } else { "" };

        let mut supervisor = Command::new("sh");
        supervisor.args(["-c", SUPERVISOR, "postgres-supervisor"]).arg(directory.path());
        supervisor.arg(programs()).arg(port.to_string()).arg(listen);
        supervisor.args(unprivileged_prefix());
        // A group of its own, so that an interrupt from the terminal cannot end it half-way.
        supervisor.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        let supervisor = supervisor.process_group(0).spawn().expect("start the server");

        // From here on the supervisor removes it, even when this process is killed.
        let started = Self { directory: directory.keep(), port, tcp, supervisor };
        started.wait_until_ready();
        started
    }

    /// PostgreSQL tells nobody when it is ready, so this asks until it is.
    fn wait_until_ready(&self) {
        let deadline = Instant::now() + PATIENCE;
        let mut ask = Command::new(program("pg_isready"));
        ask.arg("-q").arg("-h").arg(&self.directory).arg("-p").arg(self.port.to_string());
        while binary::run(&mut ask).code() != 0 {
            if Instant::now() > deadline {
                panic!("PostgreSQL did not start:\n{}", self.log());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// A URL of database `db` by the unix socket.
    #[must_use]
    pub fn url(&self, db: &str) -> String {
        let host = encode(&self.directory.to_string_lossy());
        format!("postgresql://{}@{host}:{}/{}", Self::USER, self.port, encode(db))
    }

    /// A URL of database `db` over TCP, with the password in it.
    ///
    /// # Panics
    /// When the server was started without TCP.
    #[must_use]
    pub fn tcp_url(&self, db: &str) -> String {
        let (user, password) = (Self::USER, Self::PASSWORD);
        format!("postgresql://{user}:{password}@127.0.0.1:{}/{}", self.tcp_port(), encode(db))
    }

    /// A URL of database `db` over TCP, with the password in it, by TLS only, and only if the server
    /// shows that it is the one that is meant. From now on it takes no other connection over TCP.
    ///
    /// # Panics
    /// When the server was started without TCP.
    #[must_use]
    pub fn tls_url(&self, db: &str) -> String {
        let (user, password) = (Self::USER, Self::PASSWORD);
        let authority = self.certified();
        format!(
            "postgresql://{user}:{password}@localhost:{}/{}?sslmode=verify-full&sslrootcert={}",
            self.tcp_port(),
            encode(db),
            encode(&authority.to_string_lossy())
        )
    }

    /// The certificate of the authority that knows this server. The first call makes it.
    fn certified(&self) -> PathBuf {
        let (authority, data) = (self.directory.join("ca.crt"), self.directory.join("data"));
        if authority.exists() {
            return authority;
        }
        let made = |name: &str, more: &[&str]| {
            let mut openssl = Command::new("openssl");
            openssl.current_dir(&self.directory).args(["req", "-x509", "-newkey", "ec"]);
            openssl.args(["-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"]);
            openssl.args(["-subj", &format!("/CN={name}")]).args(more);
            openssl.args(["-keyout", &format!("{name}.key"), "-out", &format!("{name}.crt")]);
            let _silent = binary::run(&mut openssl).success();
        };
        made("ca", &[]);
        let signed = ["-CA", "ca.crt", "-CAkey", "ca.key"];
        let named = ["-addext", "subjectAltName=DNS:localhost"];
        let leaf = ["-addext", "basicConstraints=critical,CA:FALSE"];
        made("server", &[&signed[..], &named, &leaf].concat());
        let rules = "local all all trust\nhostssl all all 127.0.0.1/32 scram-sha-256\n";
        std::fs::File::create(data.join("pg_hba.conf"))
            .and_then(|mut file| file.write_all(rules.as_bytes()))
            .expect("write the rules");
        for file in ["server.crt", "server.key"] {
            let mut install = Command::new("install");
            install.args(["-m", "600"]);
            install.args(unprivileged().into_iter().flat_map(|user| ["-o", user]));
            install.arg(self.directory.join(file)).arg(data.join(file));
            let _silent = binary::run(&mut install).success();
        }
        self.psql("postgres", "ALTER SYSTEM SET ssl = on");
        self.psql("postgres", "SELECT pg_reload_conf()");
        let deadline = Instant::now() + PATIENCE;
        let mut ask = Command::new(program("psql"));
        let url = self.tcp_url("postgres");
        ask.args([
            "-XAtqw",
            "-c",
            "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()",
            &url,
        ]);
        while binary::run(&mut ask).stdout.trim() != "t" {
            assert!(Instant::now() < deadline, "no TLS:\n{}", self.log());
            std::thread::sleep(Duration::from_millis(20));
        }
        authority
    }

    /// The port on 127.0.0.1.
    ///
    /// # Panics
    /// When the server was started without TCP.
    #[must_use]
    pub fn tcp_port(&self) -> u16 {
        assert!(self.tcp, "this server was started without TCP: use start_tcp()");
        self.port
    }

    /// Where its unix socket, its data and its log are.
    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// The process id of the server.
    ///
    /// # Panics
    /// When the server is not running.
    #[must_use]
    pub fn pid(&self) -> i32 {
        let file = self.directory.join("data/postmaster.pid");
        let text = std::fs::read_to_string(file).expect("read postmaster.pid");
        text.lines().next().and_then(|line| line.parse().ok()).expect("find the process id")
    }

    /// What the server has logged so far.
    #[must_use]
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.directory.join("log")).unwrap_or_default()
    }

    /// Runs `sql` in database `db` and gives what it answers: unaligned, tuples only.
    ///
    /// # Panics
    /// At the first error.
    #[track_caller]
    pub fn psql(&self, db: &str, sql: &str) -> String {
        let mut psql = Command::new(program("psql"));
        psql.args(["-XAtq", "-v", "ON_ERROR_STOP=1", "-d", &self.url(db)]);
        let output = binary::run_with_input(binary::PATIENCE, &mut psql, sql.as_bytes());
        output.success().trim_end_matches('\n').to_owned()
    }

    /// Makes the empty database `db`, whatever its name looks like.
    ///
    /// # Panics
    /// When it exists already.
    #[track_caller]
    pub fn create_database(&self, db: &str) {
        let name = db.replace('"', "\"\"");
        let _nothing = self.psql("postgres", &format!("CREATE DATABASE \"{name}\";"));
    }

    /// Fills database `db` with pgbench's tables: 100,000 rows and some 15 MB for each `scale`.
    ///
    /// # Panics
    /// When pgbench fails.
    #[track_caller]
    pub fn pgbench(&self, db: &str, scale: u32) {
        let mut pgbench = Command::new(program("pgbench"));
        pgbench.args(["-i", "-q", "-s", &scale.to_string()]).arg(self.url(db));
        let _noise = binary::run(&mut pgbench).success();
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        drop(self.supervisor.stdin.take());
        let stopped = binary::wait_within(&mut self.supervisor, PATIENCE);
        if stopped.is_none() && !std::thread::panicking() {
            panic!("PostgreSQL did not stop, its directory is {}", self.directory.display());
        }
    }
}

/// The path of a program of the newest PostgreSQL that is installed.
///
/// # Panics
/// When there is none.
#[must_use]
pub fn program(name: &str) -> PathBuf {
    programs().join(name)
}

fn programs() -> PathBuf {
    let releases = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let newest = releases
        .filter(|release| release.path().join("bin/initdb").is_file())
        .filter_map(|release| release.file_name().to_str()?.parse::<u32>().ok())
        .max()
        .expect("no PostgreSQL server below /usr/lib/postgresql: run scripts/setup.sh");
    PathBuf::from(format!("/usr/lib/postgresql/{newest}/bin"))
}

/// A new directory in which the server may make files, and everyone may reach its socket.
fn server_directory() -> TempDir {
    let directory =
        tempfile::Builder::new().prefix("worm-pg-").tempdir().expect("make a directory");
    let everyone = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(directory.path(), everyone).expect("open the directory");
    let password = directory.path().join("password");
    std::fs::File::create_new(&password)
        .and_then(|mut file| file.write_all(Postgres::PASSWORD.as_bytes()))
        .expect("note it");
    if let Some(user) = unprivileged() {
        let mut chown = Command::new("chown");
        let _nothing = binary::run(chown.arg(user).arg(directory.path()).arg(&password)).success();
    }
    directory
}

/// Who to become, when this is root.
fn unprivileged() -> Option<&'static str> {
    if !rustix::process::geteuid().is_root() {
        return None;
    }
    let users = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    let known = |name: &&&str| users.lines().any(|line| line.split(':').next() == Some(**name));
    let user = UNPRIVILEGED.iter().find(known).copied();
    Some(user.expect("neither a user postgres nor a user nobody on this machine"))
}

/// The words in front of a command that make it unprivileged.
fn unprivileged_prefix() -> Vec<String> {
    let Some(user) = unprivileged() else { return Vec::new() };
    let words = ["setpriv", "--reuid", user, "--init-groups", "--regid", &group_of(user), "--"];
    words.map(str::to_owned).to_vec()
}

fn group_of(user: &str) -> String {
    let mut id = Command::new("id");
    binary::run(id.args(["-g", user])).success().trim().to_owned()
}

/// A port that was free a moment ago.
fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("find a free port");
    listener.local_addr().expect("ask for its number").port()
}

/// `text` as it must stand in a URL.
fn encode(text: &str) -> String {
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._~".contains(byte);
    text.bytes()
        .map(|byte| if plain(&byte) { char::from(byte).into() } else { format!("%{byte:02X}") })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_answers_and_is_gone_when_dropped() {
        let server = Postgres::start();
        server.create_database("odd \"name\"/é");
        assert_eq!(server.psql("odd \"name\"/é", "SELECT current_database()"), "odd \"name\"/é");
        assert_eq!(server.psql("postgres", "SELECT 1; SELECT 'two'"), "1\ntwo");
        let (directory, pid) = (server.directory().to_owned(), server.pid());
        drop(server);
        assert!(!directory.exists(), "{} is still there", directory.display());
        assert!(!Path::new(&format!("/proc/{pid}")).exists(), "server {pid} still runs");
    }

    #[test]
    fn a_server_that_was_killed_is_cleaned_up_too() {
        let server = Postgres::start();
        let pid = rustix::process::Pid::from_raw(server.pid()).unwrap();
        rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
        let directory = server.directory().to_owned();
        drop(server);
        assert!(!directory.exists());
    }

    #[test]
    fn tcp_wants_the_password() {
        let server = Postgres::start_tcp();
        let mut psql = Command::new(program("psql"));
        psql.args(["-XAtw", "-c", "SHOW server_version_num", &server.tcp_url("postgres")]);
        assert!(binary::run(&mut psql).success().trim().parse::<u32>().unwrap() >= 100_000);

        let wrong = server.tcp_url("postgres").replace(Postgres::PASSWORD, "wrong");
        let mut psql = Command::new(program("psql"));
        let refused = binary::run(psql.args(["-XAtw", "-c", "SELECT 1", &wrong]));
        assert!(refused.stderr.contains("password authentication failed"), "{refused:?}");
    }

    #[test]
    #[should_panic(expected = "ON_ERROR_STOP")]
    fn an_error_in_sql_fails_the_test() {
        let _answer = Postgres::start().psql("postgres", "SELECT nonsense");
    }
}
