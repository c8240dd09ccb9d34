//! PURE: from the URL and the environment to the parameters of the connection, for our own client
//! and for `psql`. The password never gets into anything that is printed or listed.

use std::time::Duration;

use tokio_postgres::Config;
use tokio_postgres::config::Host;
use tokio_postgres::config::SslMode;

use crate::error::Error;
use crate::error::Result;

/// A server that does not answer within this time is not there.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Where Debian's servers have their socket.
const SOCKET_DIRECTORY: &str = "/var/run/postgresql";

/// The database to restore into.
#[derive(Clone, Debug)]
pub struct Target {
    /// For our own connections.
    pub(crate) config: Config,
    /// The name of the database.
    pub(crate) database: String,
    /// Host, port and database, for people.
    pub(crate) shown: String,
}

/// Where a password may come from besides the URL.
pub(crate) const PASSWORD: &str = "PGPASSWORD";

impl Target {
    /// Reads a URL or a list of `key=value`; what it leaves open comes from the usual `PG...`
    /// variables. The database must be named in the URL itself: nobody restores by default.
    ///
    /// # Errors
    /// [`Error::Usage`]
    pub fn parse(url: &str, variable: impl Fn(&str) -> Option<String>) -> Result<Self> {
        refuse_tls(url, &variable)?;
        let mut config: Config = url
            .parse()
            .map_err(|error| Error::Usage(format!("--to is not a usable URL: {error}")))?;
        if config.get_ssl_mode() == SslMode::Require {
            return Err(tls("require"));
        }
        let Some(database) = config.get_dbname().map(str::to_owned) else {
            let example = "postgres://USER@HOST/DATABASE";
            return Err(Error::Usage(format!("--to must name the database: {example}")));
        };
        if config.get_hosts().is_empty() && config.get_hostaddrs().is_empty() {
            let _set =
                config.host(variable("PGHOST").unwrap_or_else(|| SOCKET_DIRECTORY.to_owned()));
        }
        if config.get_hosts().len() != 1 || !config.get_hostaddrs().is_empty() {
            return Err(Error::Usage("--to must name one host, by host=".to_owned()));
        }
        // What follows the first `@` of a password is taken for the host, and would be shown.
        if host(&config).contains('@') && !host(&config).starts_with('/') {
            return Err(Error::Usage(
                "--to has more than one @: percent-encode the password (@ is %40), or give it in \
                 PGPASSWORD_FILE"
                    .to_owned(),
            ));
        }
        if config.get_password().is_some_and(|password| !is_sayable(password)) {
            return Err(Error::Usage("a password with a line break is not possible".to_owned()));
        }
        if config.get_ports().is_empty()
            && let Some(port) = variable("PGPORT")
        {
            let port = port
                .parse()
                .map_err(|error| Error::Usage(format!("PGPORT {port} is no port: {error}")))?;
            let _set = config.port(port);
        }
        if config.get_user().is_none()
            && let Some(user) = variable("PGUSER")
        {
            let _set = config.user(user);
        }
        if config.get_password().is_none()
            && let Some(password) = variable(PASSWORD)
        {
            let _set = config.password(password);
        }
        if config.get_connect_timeout().is_none() {
            let _set = config.connect_timeout(CONNECT_TIMEOUT);
        }
        let shown = format!("{}:{}/{database}", host(&config), port(&config));
        Ok(Self { config, database, shown })
    }

    /// The environment of `psql`, so that it goes where our own connection went.
    pub(crate) fn environment(&self, application: &str) -> Vec<(&'static str, String)> {
        let mut environment = vec![
            ("PGHOST", host(&self.config)),
            ("PGPORT", port(&self.config).to_string()),
            ("PGDATABASE", self.database.clone()),
            ("PGAPPNAME", application.to_owned()),
            ("PGSSLMODE", "disable".to_owned()),
            ("PGCONNECT_TIMEOUT", CONNECT_TIMEOUT.as_secs().to_string()),
        ];
        let given = [
            ("PGUSER", self.config.get_user().map(str::to_owned)),
            ("PGOPTIONS", self.config.get_options().map(str::to_owned)),
        ];
        environment.extend(given.into_iter().filter_map(|(name, value)| Some((name, value?))));
        environment
    }

    /// A password file for `psql`, with the one password, wherever it connects to.
    pub(crate) fn passfile(&self) -> Option<String> {
        let password = String::from_utf8_lossy(self.config.get_password()?);
        Some(format!("*:*:*:*:{}\n", password.replace('\\', "\\\\").replace(':', "\\:")))
    }

    /// Whether a password may travel in the clear.
    pub(crate) fn is_remote(&self) -> bool {
        match self.config.get_hosts().first() {
            Some(Host::Tcp(name)) => !matches!(name.as_str(), "localhost" | "127.0.0.1" | "::1"),
            Some(Host::Unix(_)) | None => false,
        }
    }
}

/// Whether a password file can hold it.
fn is_sayable(password: &[u8]) -> bool {
    !password.iter().any(|byte| matches!(byte, b'\n' | b'\r' | 0))
}

fn host(config: &Config) -> String {
    match config.get_hosts().first() {
        Some(Host::Tcp(name)) => name.clone(),
        Some(Host::Unix(path)) => path.to_string_lossy().into_owned(),
        None => String::new(),
    }
}

fn port(config: &Config) -> u16 {
    config.get_ports().first().copied().unwrap_or(5432)
}

/// TLS is not built in yet. Going on without what was asked for would be worse than to say so.
fn refuse_tls(url: &str, variable: &impl Fn(&str) -> Option<String>) -> Result<()> {
    let mut wishes = url.split(['?', '&', ' ']).filter_map(|part| part.strip_prefix("sslmode="));
    let wish = wishes.next_back().map(str::to_owned).or_else(|| variable("PGSSLMODE"));
    match wish.as_deref() {
        None | Some("disable" | "allow" | "prefer") => Ok(()),
        Some(mode) => Err(tls(mode)),
    }
}

fn tls(mode: &str) -> Error {
    Error::Usage(format!(
        "sslmode={mode} is not possible yet: this version does not speak TLS. Use a socket or \
         loopback, for example through an SSH tunnel, with sslmode=disable"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(url: &str, environment: &[(&str, &str)]) -> Result<Target> {
        Target::parse(url, |name| {
            let found = environment.iter().find(|(key, _)| *key == name);
            found.map(|(_, value)| (*value).to_owned())
        })
    }

    #[track_caller]
    fn refused(url: &str, why: &str) {
        let error = parse(url, &[]).unwrap_err();
        assert_eq!(error.exit(), crate::exit::Exit::Usage);
        assert!(error.to_string().contains(why), "{error}");
    }

    #[test]
    fn the_url_comes_before_the_environment() {
        let environment = [("PGHOST", "h"), ("PGPORT", "7"), ("PGUSER", "u"), ("PGPASSWORD", "p")];
        let target = parse("postgres:///app", &environment).unwrap();
        assert_eq!(target.shown, "h:7/app");
        assert_eq!(target.config.get_user(), Some("u"));
        let target = parse("postgres://me:secret@db:8/app", &environment).unwrap();
        assert_eq!(target.shown, "db:8/app");
        let environment = target.environment("x");
        for expected in [("PGUSER", "me"), ("PGDATABASE", "app")] {
            assert!(environment.contains(&(expected.0, expected.1.to_owned())), "{expected:?}");
        }
        assert!(!environment.iter().any(|(_, value)| value.contains("secret")));
        assert_eq!(target.passfile().unwrap(), "*:*:*:*:secret\n");
        let target = parse("postgres://me:a%3Ab%5Cc@db/app", &[]).unwrap();
        assert_eq!(target.passfile().unwrap(), "*:*:*:*:a\\:b\\\\c\n");
    }

    #[test]
    fn a_socket_directory_is_a_host() {
        let target = parse("postgres:///app?host=/run/pg&port=5433", &[]).unwrap();
        assert_eq!(target.shown, "/run/pg:5433/app");
        assert!(!target.is_remote());
        assert_eq!(parse("postgres:///app", &[]).unwrap().shown, "/var/run/postgresql:5432/app");
    }

    #[test]
    fn a_password_that_is_taken_for_the_host_is_not_shown() {
        let error = parse("postgres://me:se@cret@db/app", &[]).unwrap_err();
        assert!(error.to_string().contains("percent-encode"), "{error}");
        assert!(!error.to_string().contains("cret"), "{error}");
        assert_eq!(parse("postgres://me:se%40cret@db/app", &[]).unwrap().shown, "db:5432/app");
    }

    #[test]
    fn what_cannot_be_kept_is_refused() {
        refused("postgres://me:a%0Ab@h/app", "line break");
        refused("postgres://h/app?sslmode=require", "TLS");
        refused("postgres://h/app?sslmode=verify-full", "TLS");
        refused("host=h dbname=app sslmode=verify-ca", "TLS");
        refused("postgres://h/", "must name the database");
        refused("postgres://a,b/app", "one host");
        refused("nonsense", "not a usable URL");
        assert!(parse("postgres://h/app?sslmode=prefer", &[]).is_ok());
    }
}
