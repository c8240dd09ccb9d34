//! Where the database is and how to log in, from a URL and the variables that libpq knows.
//!
//! What is found here is used twice: for our own
//! connection and, by [`Target::child_environment`], for `pg_dump`, so that both reach the same server.

mod passfile;
pub mod session;
pub mod tls;

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::net::IpAddr;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;

use tokio_postgres::config::ChannelBinding;

pub(crate) use self::passfile::for_child as passfile_for_child;
use self::tls::SslMode;
use self::tls::Tls;
use self::tls::Wishes;
use crate::error::Error;
use crate::settings::Environment;
use crate::settings::Settings;
use crate::settings::table;

/// Where container engines put the secret of this name.
const SECRET: &str = "/run/secrets/db_password";
/// Where servers listen when no host is named.
const SOCKET_DIRECTORIES: [&str; 2] = ["/var/run/postgresql", "/tmp"];
/// Variables that `pg_dump` must not inherit: resolved here, or able to change what is dumped.
const NOT_FOR_CHILD: [&str; 9] = [
    "PGPASSWORD",
    "PGPASSFILE",
    "PGSERVICE",
    "PGSERVICEFILE",
    "PGSSLNEGOTIATION",
    "PGCLIENTENCODING",
    "PGDATESTYLE",
    "PGTZ",
    "PGGEQO",
];

/// Rules that `pg_dump` would keep to and our own connection could not, with values that change
/// nothing.
const LIBPQ_ONLY: [(&str, &[&str]); 6] = [
    ("PGREQUIREPEER", &[]),
    ("PGREQUIREAUTH", &[]),
    ("PGSSLCRL", &[]),
    ("PGSSLCRLDIR", &[]),
    ("PGSSLMINPROTOCOLVERSION", &["TLSv1", "TLSv1.1", "TLSv1.2"]),
    ("PGSSLMAXPROTOCOLVERSION", &["TLSv1.3"]),
];

/// Why the settings lead to no server.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// Something that libpq can do and we cannot yet.
    #[error("{0}")]
    NotSupported(&'static str),
    /// A secret that was named and cannot be had.
    #[error("could not read {}: {source}", path.display())]
    Secret {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A password file that others can read.
    #[error("{} can be read by others: chmod 600 it", .0.display())]
    Loose(PathBuf),
    /// A file of certificates or a key that cannot be used.
    #[error("{} cannot be used for TLS: {message}", path.display())]
    Certificate {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        message: String,
    },
    /// TLS cannot be set up.
    #[error("TLS cannot be set up: {0}")]
    Tls(String),
    /// A variable that `pg_dump` would keep to and we could not.
    #[error("{0} is set, which the agent cannot keep to: unset it")]
    Variable(&'static str),
    /// Nobody said who we are.
    #[error("no user: set PGUSER or name one in the database URL")]
    NoUser,
}

/// The process's environment and the files that matter, handed in so that tests can make their own.
#[derive(Clone, Debug)]
pub(crate) struct Surroundings {
    /// Environment variables. Empty ones count as unset.
    pub(crate) variables: BTreeMap<String, String>,
    /// The secret to take when nothing else is said.
    pub(crate) secret: PathBuf,
}

impl Surroundings {
    /// Those of this process.
    pub(crate) fn of(environment: &Environment) -> Self {
        Self { variables: environment.variables.clone(), secret: PathBuf::from(SECRET) }
    }

    /// Where the files of this user are.
    fn home(&self) -> Option<PathBuf> {
        let said = self.get("HOME").map(PathBuf::from);
        said.or_else(|| login().and_then(|(_, home)| home))
    }

    fn get(&self, name: &str) -> Option<&str> {
        self.variables.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }
}

/// A password, which no message and no log ever shows.
#[derive(Clone, Eq, PartialEq)]
pub(crate) struct Secret(pub(crate) String);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(secret)")
    }
}

/// One server, one database, one user.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Target {
    /// A name, an address, or the directory of a socket.
    pub(crate) host: String,
    pub(crate) host_address: Option<IpAddr>,
    pub(crate) port: u16,
    pub(crate) user: String,
    pub(crate) password: Option<Secret>,
    pub(crate) database: String,
    pub(crate) tls: Tls,
    pub(crate) channel_binding: ChannelBinding,
    pub(crate) options: Option<String>,
    pub(crate) connect_timeout: Option<Duration>,
}

/// The file that a password comes from which no setting gives. None also where the settings make no
/// sense: others say so.
#[must_use]
pub fn password_file(settings: &Settings, environment: &Environment) -> Option<PathBuf> {
    if settings.text(&table::PASSWORD).is_some() {
        return None;
    }
    let around = Surroundings::of(environment);
    let target = Target::resolve(settings, &around).ok()?;
    let found = target.find_password(settings.path(&table::PASSFILE), &around).ok()?;
    found.map(|(_, path)| path)
}

impl Target {
    /// Works out the target from the settings.
    pub(crate) fn resolve(settings: &Settings, around: &Surroundings) -> Result<Self, Error> {
        let port = settings.parse(&table::PORT, "a port is wanted", |text| text.parse().ok())?;
        let port = port.unwrap_or(5432);
        let host = settings.text(&table::HOST).map(str::to_owned);
        let host = host.unwrap_or_else(|| default_host(port));
        if host.contains(',') {
            return Err(ConnectError::NotSupported("several hosts are named: name one").into());
        }
        let user = settings.text(&table::USER).map(str::to_owned);
        let user = user.or_else(|| login().map(|(name, _)| name)).ok_or(ConnectError::NoUser)?;
        let seconds = |text: &str| text.parse().ok();
        let seconds: Option<u64> = settings.parse(&table::CONNECT_TIMEOUT, "seconds", seconds)?;
        let tls = Tls::resolve(&tls_wishes(settings, around)?)?;
        // What cannot be used is found out now, not when it is time for a backup.
        drop(tls.connector()?);
        let mut target = Self {
            host,
            host_address: settings
                .parse(&table::HOSTADDR, "an IP address is wanted", |text| text.parse().ok())?,
            port,
            database: settings.text(&table::DBNAME).unwrap_or(&user).to_owned(),
            user,
            password: None,
            tls,
            channel_binding: settings
                .parse(&table::CHANNEL_BINDING, "disable, prefer or require is wanted", binding)?
                .unwrap_or(ChannelBinding::Prefer),
            options: settings.text(&table::OPTIONS).map(str::to_owned),
            // For libpq, zero means to wait for ever.
            connect_timeout: seconds.filter(|seconds| *seconds > 0).map(Duration::from_secs),
        };
        target.password = match settings.text(&table::PASSWORD) {
            Some(password) => Some(Secret(password.to_owned())),
            None => {
                let found = target.find_password(settings.path(&table::PASSFILE), around)?;
                found.map(|(password, _)| password)
            }
        };
        Ok(target)
    }

    /// The password that nobody named: in a password file, as a container's secret, or in `~/.pgpass`.
    fn find_password(
        &self,
        passfile: Option<PathBuf>,
        around: &Surroundings,
    ) -> Result<Option<(Secret, PathBuf)>, ConnectError> {
        let found_in = |path: PathBuf, text: &str| {
            passfile::find(text, self).map(|password| (Secret(password), path))
        };
        if let Some(path) = passfile {
            if is_loose(&path).map_err(secret_error(&path))? {
                return Err(ConnectError::Loose(path));
            }
            let text = std::fs::read_to_string(&path).map_err(secret_error(&path))?;
            return Ok(found_in(path, &text));
        }
        if around.secret.exists() {
            let password = read_secret(&around.secret)?;
            return Ok(Some((password, around.secret.clone())));
        }
        let Some(home) = around.home() else { return Ok(None) };
        let path = home.join(".pgpass");
        match is_loose(&path) {
            Ok(false) => {}
            // Like libpq: a file that nobody named is passed over when it is not safe.
            Ok(true) => {
                tracing::warn!(path = %path.display(), "not used, others can read it: chmod 600 it");
                return Ok(None);
            }
            Err(_) => return Ok(None),
        }
        let text = std::fs::read_to_string(&path).map_err(secret_error(&path))?;
        Ok(found_in(path, &text))
    }

    /// Whether the host is the directory of a socket.
    pub(crate) fn is_socket(&self) -> bool {
        self.host.starts_with('/')
    }

    /// For our own connection.
    pub(crate) fn driver_config(&self) -> tokio_postgres::Config {
        let mut config = tokio_postgres::Config::new();
        config.host(&self.host).port(self.port).user(&self.user).dbname(&self.database);
        config.application_name("worm-ingest").channel_binding(self.channel_binding);
        if let Some(Secret(password)) = &self.password {
            config.password(password);
        }
        if let Some(address) = self.host_address {
            config.hostaddr(address);
        }
        if let Some(options) = &self.options {
            config.options(options);
        }
        if let Some(timeout) = self.connect_timeout {
            config.connect_timeout(timeout);
        }
        config
    }

    /// The whole environment of `pg_dump`: what it needs to reach the same server, and nothing that
    /// holds a secret or could change what it writes. The password travels by a file descriptor.
    pub(crate) fn child_environment(&self, around: &Surroundings) -> BTreeMap<String, String> {
        let passes = |name: &str| {
            let known =
                matches!(name, "PATH" | "HOME" | "KRB5CCNAME" | "KRB5_CONFIG" | "KRB5_KTNAME");
            known
                || (name.starts_with("PG")
                    && !name.ends_with("_FILE")
                    && !NOT_FOR_CHILD.contains(&name))
        };
        let mut environment: BTreeMap<String, String> = around
            .variables
            .iter()
            .filter(|(name, value)| passes(name) && !value.is_empty())
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect();
        let mut set = |name: &str, value: String| {
            environment.insert(name.to_owned(), value);
        };
        set("PGHOST", self.host.clone());
        set("PGPORT", self.port.to_string());
        set("PGUSER", self.user.clone());
        set("PGDATABASE", self.database.clone());
        set("PGCHANNELBINDING", binding_name(self.channel_binding).to_owned());
        set("PGAPPNAME", "worm-ingest".to_owned());
        let timeout = self.connect_timeout.map_or(0, |timeout| timeout.as_secs());
        set("PGCONNECT_TIMEOUT", timeout.to_string());
        for (name, value) in self.tls.environment() {
            set(name, value);
        }
        let given = [
            ("PGOPTIONS", self.options.clone()),
            ("PGHOSTADDR", self.host_address.map(|address| address.to_string())),
        ];
        for (name, value) in given {
            if let Some(value) = value {
                set(name, value);
            }
        }
        // Messages and formats do not depend on where the agent runs.
        set("LC_ALL", "C".to_owned());
        environment
    }
}

/// What the settings say about TLS.
fn tls_wishes(settings: &Settings, around: &Surroundings) -> Result<Wishes, Error> {
    for (name, harmless) in LIBPQ_ONLY {
        if around.get(name).is_some_and(|value| !harmless.contains(&value)) {
            return Err(ConnectError::Variable(name).into());
        }
    }
    let modes = "disable, allow, prefer, require, verify-ca or verify-full is wanted";
    Ok(Wishes {
        mode: settings.parse(&table::SSLMODE, modes, SslMode::from_name)?,
        root: settings.path(&table::SSLROOTCERT),
        certificate: settings.path(&table::SSLCERT),
        key: settings.path(&table::SSLKEY),
        home: around.home(),
    })
}

/// How the login may be tied to the TLS connection, by its names.
const BINDINGS: [(&str, ChannelBinding); 3] = [
    ("disable", ChannelBinding::Disable),
    ("prefer", ChannelBinding::Prefer),
    ("require", ChannelBinding::Require),
];

fn binding(text: &str) -> Option<ChannelBinding> {
    BINDINGS.iter().find(|(name, _)| *name == text).map(|(_, binding)| *binding)
}

fn binding_name(binding: ChannelBinding) -> &'static str {
    BINDINGS.iter().find(|(_, other)| *other == binding).map_or("prefer", |(name, _)| name)
}

/// A socket if there is one, as libpq does.
fn default_host(port: u16) -> String {
    let socket = format!(".s.PGSQL.{port}");
    let directory = SOCKET_DIRECTORIES.iter().find(|at| Path::new(at).join(&socket).exists());
    directory.map_or("localhost", |directory| directory).to_owned()
}

/// The name and the home of the user that we run as, which libpq takes when none is given.
fn login() -> Option<(String, Option<PathBuf>)> {
    let uid = rustix::process::geteuid().as_raw().to_string();
    let users = std::fs::read_to_string("/etc/passwd").ok()?;
    users.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)? == uid).then(|| (name.to_owned(), fields.nth(2).map(PathBuf::from)))
    })
}

fn is_loose(path: &Path) -> io::Result<bool> {
    Ok(std::fs::metadata(path)?.mode() & 0o077 != 0)
}

fn secret_error(path: &Path) -> impl FnOnce(io::Error) -> ConnectError {
    move |source| ConnectError::Secret { path: path.to_owned(), source }
}

/// A file that holds a secret and nothing else; one final newline is not part of it.
pub(crate) fn read_secret(path: &Path) -> Result<Secret, ConnectError> {
    let text = std::fs::read_to_string(path).map_err(secret_error(path))?;
    let text = text.strip_suffix('\n').unwrap_or(&text);
    Ok(Secret(text.strip_suffix('\r').unwrap_or(text).to_owned()))
}

#[cfg(test)]
mod tests;
