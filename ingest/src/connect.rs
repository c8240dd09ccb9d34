//! Where the database is and how to log in, from a URL and the variables that libpq knows.
//!
//! The URL wins over the variables, field by field. What is found here is used twice: for our own
//! connection and, by [`Target::child_environment`], for `pg_dump`, so that both reach the same server.

mod passfile;

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::net::IpAddr;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;

use tokio_postgres::config::Host;
use tokio_postgres::config::SslMode as DriverSslMode;

pub(crate) use self::passfile::for_child as passfile_for_child;

/// Where container engines put the secret of this name.
const SECRET: &str = "/run/secrets/db_password";
/// Where servers listen when no host is named.
const SOCKET_DIRECTORIES: [&str; 2] = ["/var/run/postgresql", "/tmp"];
/// How long to wait for the server when `PGCONNECT_TIMEOUT` does not say.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(30);
/// Variables that `pg_dump` must not inherit: resolved here, or able to change what is dumped.
const NOT_FOR_CHILD: [&str; 9] = [
    "PGPASSWORD",
    "PGPASSWORD_FILE",
    "PGPASSFILE",
    "PGSERVICE",
    "PGSERVICEFILE",
    "PGCLIENTENCODING",
    "PGDATESTYLE",
    "PGTZ",
    "PGGEQO",
];

/// Why the settings lead to no server.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// A URL that cannot be read.
    #[error("the database URL cannot be read: {0}")]
    Url(String),
    /// A variable with a value that makes no sense.
    #[error("{name}={value:?} makes no sense: {wanted}")]
    Variable {
        /// The variable.
        name: &'static str,
        /// What it holds.
        value: String,
        /// What it could hold.
        wanted: &'static str,
    },
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
    /// Two sources for one password.
    #[error("PGPASSWORD and PGPASSWORD_FILE are both set: keep one")]
    TwoPasswords,
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
    pub(crate) fn of_this_process() -> Self {
        let variables = std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
            .collect();
        Self { variables, secret: PathBuf::from(SECRET) }
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
    /// `disable`, `allow` or `prefer`.
    pub(crate) ssl_mode: String,
    pub(crate) options: Option<String>,
    pub(crate) connect_timeout: Option<Duration>,
}

impl Target {
    /// Works out the target from what was given.
    pub(crate) fn resolve(url: Option<&str>, around: &Surroundings) -> Result<Self, ConnectError> {
        if around.get("PGSERVICE").is_some() {
            return Err(ConnectError::NotSupported(
                "PGSERVICE is not supported yet: set PGHOST, PGPORT, PGUSER and PGDATABASE, or a URL",
            ));
        }
        let url = url.map(Url::parse).transpose()?.unwrap_or_default();
        let ssl_mode = ssl_mode(url.ssl_mode.as_deref().or(around.get("PGSSLMODE")))?;
        let port = match url.port {
            Some(port) => port,
            None => number(around, "PGPORT", "a port")?.unwrap_or(5432),
        };
        let host = url.host.or_else(|| around.get("PGHOST").map(str::to_owned));
        let host = host.unwrap_or_else(|| default_host(port));
        if host.contains(',') {
            return Err(ConnectError::NotSupported("PGHOST names several hosts: name one"));
        }
        let host_address = around.get("PGHOSTADDR").map(|value| {
            value.parse().map_err(|_not_an_address| ConnectError::Variable {
                name: "PGHOSTADDR",
                value: value.to_owned(),
                wanted: "an IP address is wanted",
            })
        });
        let user = url.user.or_else(|| around.get("PGUSER").map(str::to_owned));
        let user = user.or_else(login_name).ok_or(ConnectError::NoUser)?;
        let database = url.database.or_else(|| around.get("PGDATABASE").map(str::to_owned));
        let seconds: Option<u64> = number(around, "PGCONNECT_TIMEOUT", "seconds")?;
        let mut target = Self {
            host,
            host_address: host_address.transpose()?,
            port,
            database: database.unwrap_or_else(|| user.clone()),
            user,
            password: None,
            ssl_mode,
            options: url.options.or_else(|| around.get("PGOPTIONS").map(str::to_owned)),
            // For libpq, zero means to wait for ever.
            connect_timeout: match seconds {
                Some(0) => None,
                Some(seconds) => Some(Duration::from_secs(seconds)),
                None => Some(CONNECT_TIMEOUT),
            },
        };
        target.password = match url.password {
            Some(password) => Some(Secret(password)),
            None => target.find_password(around)?,
        };
        Ok(target)
    }

    /// The password: named outright, in a file, as a container's secret, or in `~/.pgpass`.
    fn find_password(&self, around: &Surroundings) -> Result<Option<Secret>, ConnectError> {
        let file = around.get("PGPASSWORD_FILE").map(Path::new);
        match (around.get("PGPASSWORD"), file) {
            (Some(_), Some(_)) => return Err(ConnectError::TwoPasswords),
            (Some(password), None) => return Ok(Some(Secret(password.to_owned()))),
            (None, Some(path)) => return read_secret(path).map(Some),
            (None, None) => {}
        }
        if let Some(path) = around.get("PGPASSFILE").map(Path::new) {
            if is_loose(path).map_err(secret_error(path))? {
                return Err(ConnectError::Loose(path.to_owned()));
            }
            let text = std::fs::read_to_string(path).map_err(secret_error(path))?;
            return Ok(passfile::find(&text, self).map(Secret));
        }
        if around.secret.exists() {
            return read_secret(&around.secret).map(Some);
        }
        let Some(home) = around.get("HOME") else { return Ok(None) };
        let path = Path::new(home).join(".pgpass");
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
        Ok(passfile::find(&text, self).map(Secret))
    }

    /// Whether the host is the directory of a socket.
    pub(crate) fn is_socket(&self) -> bool {
        self.host.starts_with('/')
    }

    /// For our own connection.
    pub(crate) fn driver_config(&self) -> tokio_postgres::Config {
        let mut config = tokio_postgres::Config::new();
        config.host(&self.host).port(self.port).user(&self.user).dbname(&self.database);
        config.application_name("worm-ingest").ssl_mode(DriverSslMode::Disable);
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
            known || (name.starts_with("PG") && !NOT_FOR_CHILD.contains(&name))
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
        set("PGSSLMODE", self.ssl_mode.clone());
        set("PGAPPNAME", "worm-ingest".to_owned());
        let timeout = self.connect_timeout.map_or(0, |timeout| timeout.as_secs());
        set("PGCONNECT_TIMEOUT", timeout.to_string());
        if let Some(options) = &self.options {
            set("PGOPTIONS", options.clone());
        }
        // Messages and formats do not depend on where the agent runs.
        set("LC_ALL", "C".to_owned());
        environment
    }
}

/// What a URL says.
#[derive(Debug, Default)]
struct Url {
    host: Option<String>,
    port: Option<u16>,
    user: Option<String>,
    password: Option<String>,
    database: Option<String>,
    options: Option<String>,
    ssl_mode: Option<String>,
}

impl Url {
    fn parse(url: &str) -> Result<Self, ConnectError> {
        if !url.starts_with("postgres://") && !url.starts_with("postgresql://") {
            return Err(ConnectError::Url("it must begin with postgres://".to_owned()));
        }
        // Where the password ends would be a guess, and what follows it is shown.
        if url.matches('@').count() > 1 {
            return Err(ConnectError::Url(
                "it has more than one @: percent-encode the password (@ is %40)".to_owned(),
            ));
        }
        // The driver knows fewer modes than libpq, so it does not get to see this parameter.
        let (base, query) = url.split_once('?').unwrap_or((url, ""));
        let (modes, rest): (Vec<&str>, Vec<&str>) = query
            .split('&')
            .filter(|parameter| !parameter.is_empty())
            .partition(|parameter| parameter.starts_with("sslmode="));
        let rest = if rest.is_empty() { String::new() } else { format!("?{}", rest.join("&")) };
        let config: tokio_postgres::Config = format!("{base}{rest}")
            .parse()
            .map_err(|error| ConnectError::Url(crate::error::chain(&error)))?;
        if config.get_hosts().len() > 1 || !config.get_hostaddrs().is_empty() {
            return Err(ConnectError::Url("name one host, and no hostaddr".to_owned()));
        }
        Ok(Self {
            host: config.get_hosts().first().map(|host| match host {
                Host::Tcp(name) => name.clone(),
                Host::Unix(path) => path.to_string_lossy().into_owned(),
            }),
            port: config.get_ports().last().copied().filter(|_| names_port(base, query)),
            user: config.get_user().map(str::to_owned),
            password: config
                .get_password()
                .map(|password| String::from_utf8_lossy(password).into_owned()),
            database: config.get_dbname().map(str::to_owned),
            options: config.get_options().map(str::to_owned),
            ssl_mode: modes.last().map(|mode| mode["sslmode=".len()..].to_owned()),
        })
    }
}

/// Whether a URL says which port: the driver fills in its own default where libpq asks `PGPORT`.
fn names_port(base: &str, query: &str) -> bool {
    let authority = base.split('/').nth(2).unwrap_or_default();
    let address = authority.rsplit('@').next().unwrap_or_default();
    // The colons of an IPv6 address are inside brackets.
    address.rsplit(']').next().is_some_and(|rest| rest.contains(':'))
        || query.split('&').any(|parameter| parameter.starts_with("port="))
}

fn ssl_mode(given: Option<&str>) -> Result<String, ConnectError> {
    match given.unwrap_or("prefer") {
        mode @ ("disable" | "allow" | "prefer") => Ok(mode.to_owned()),
        "require" | "verify-ca" | "verify-full" => Err(ConnectError::NotSupported(
            "sslmode require, verify-ca and verify-full are not supported yet: use a unix socket or \
             a trusted network, with sslmode prefer",
        )),
        other => Err(ConnectError::Variable {
            name: "PGSSLMODE",
            value: other.to_owned(),
            wanted: "disable, allow or prefer is wanted",
        }),
    }
}

fn number<N: std::str::FromStr>(
    around: &Surroundings,
    name: &'static str,
    wanted: &'static str,
) -> Result<Option<N>, ConnectError> {
    let parse = |value: &str| {
        let error = |_| ConnectError::Variable { name, value: value.to_owned(), wanted };
        value.parse().map_err(error)
    };
    around.get(name).map(parse).transpose()
}

/// A socket if there is one, as libpq does.
fn default_host(port: u16) -> String {
    let socket = format!(".s.PGSQL.{port}");
    let directory = SOCKET_DIRECTORIES.iter().find(|at| Path::new(at).join(&socket).exists());
    directory.map_or("localhost", |directory| directory).to_owned()
}

/// The name of the user that we run as, which libpq takes when none is given.
fn login_name() -> Option<String> {
    let uid = rustix::process::geteuid().as_raw().to_string();
    let users = std::fs::read_to_string("/etc/passwd").ok()?;
    users.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)? == uid).then(|| name.to_owned())
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
