//! From the URL and the environment to the parameters of the connection, for our own client and for
//! `psql`. Looks for files of certificates, and at nothing else. The password never gets into anything that is printed or listed.

use std::path::PathBuf;
use std::time::Duration;

use percent_encoding::percent_decode_str;
use tokio_postgres::Config;
use tokio_postgres::config::Host;
use worm_ingest::connect::tls::SslMode;
use worm_ingest::connect::tls::Tls;
use worm_ingest::connect::tls::Wishes;

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
    /// How to speak TLS to it.
    pub(crate) tls: Tls,
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
        let (url, tls) = tls(url, &variable)?;
        let mut config: Config = url
            .parse()
            .map_err(|error| Error::Usage(format!("--to is not a usable URL: {error}")))?;
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
        Ok(Self { config, database, shown, tls })
    }

    /// The environment of `psql`, so that it goes where our own connection went.
    pub(crate) fn environment(&self, application: &str) -> Vec<(&'static str, String)> {
        let mut environment = vec![
            ("PGHOST", host(&self.config)),
            ("PGPORT", port(&self.config).to_string()),
            ("PGDATABASE", self.database.clone()),
            ("PGAPPNAME", application.to_owned()),
            ("PGCONNECT_TIMEOUT", CONNECT_TIMEOUT.as_secs().to_string()),
        ];
        environment.extend(self.tls.environment());
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

    /// Whether what is restored may travel in the clear.
    pub(crate) fn is_bare(&self) -> bool {
        self.tls.mode < SslMode::Require
            && match self.config.get_hosts().first() {
                Some(Host::Tcp(name)) => {
                    !matches!(name.as_str(), "localhost" | "127.0.0.1" | "::1")
                }
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

/// The parameters of a URL or a list that are about TLS, which the driver does not know all of.
const TLS_PARAMETERS: [&str; 4] = ["sslmode", "sslrootcert", "sslcert", "sslkey"];

/// Takes what a URL or a list says about TLS out of it, and completes it from the variables.
fn tls(url: &str, variable: &impl Fn(&str) -> Option<String>) -> Result<(String, Tls)> {
    let (start, separator, parameters) = match (url.contains("://"), url.split_once('?')) {
        (true, Some((base, query))) => (format!("{base}?"), '&', query),
        (true, None) => (url.to_owned(), '&', ""),
        (false, _) => (String::new(), ' ', url),
    };
    let mut others = Vec::new();
    let mut said: [Option<String>; 4] = Default::default();
    for parameter in parameters.split(separator) {
        let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
        match TLS_PARAMETERS.iter().position(|known| *known == name) {
            Some(at) if separator == '&' => {
                let decoded = percent_decode_str(value).decode_utf8();
                let decoded = decoded.map_err(|error| Error::Usage(format!("{name}: {error}")))?;
                said[at] = Some(decoded.into_owned());
            }
            Some(at) => said[at] = Some(value.trim_matches('\'').to_owned()),
            None => others.push(parameter),
        }
    }
    let names = ["PGSSLMODE", "PGSSLROOTCERT", "PGSSLCERT", "PGSSLKEY"];
    for (said, name) in said.iter_mut().zip(names) {
        *said = said.take().or_else(|| variable(name));
    }
    let [mode, root, certificate, key] = said;
    let read = |name: String| {
        let unknown = || {
            let known = SslMode::ALL.map(SslMode::name).join(", ");
            Error::Usage(format!("sslmode={name} is not known: {known} are"))
        };
        SslMode::from_name(&name).ok_or_else(unknown)
    };
    let wishes = Wishes {
        mode: mode.map(read).transpose()?,
        root: root.map(PathBuf::from),
        certificate: certificate.map(PathBuf::from),
        key: key.map(PathBuf::from),
        home: variable("HOME").map(PathBuf::from),
    };
    let tls = Tls::resolve(&wishes).map_err(|error| Error::Usage(error.to_string()))?;
    Ok((format!("{start}{}", others.join(&separator.to_string())), tls))
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
        assert!(!target.is_bare());
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
        refused("postgres://h/app?sslmode=verify-full", "sslrootcert");
        refused("host=h dbname=app sslmode=verify-ca", "sslrootcert");
        refused("postgres://h/app?sslmode=sometimes", "prefer");
        refused("postgres://h/", "must name the database");
        refused("postgres://a,b/app", "one host");
        refused("nonsense", "not a usable URL");
    }

    #[test]
    fn what_is_said_about_tls_is_taken_out_and_told_to_psql() {
        let tls = |url: &str, environment: &[(&str, &str)]| {
            let target = parse(url, environment).unwrap();
            assert_eq!(
                (target.shown.as_str(), target.config.get_user()),
                ("h:5432/app", Some("me"))
            );
            let environment = target.environment("x");
            let told = |name| environment.iter().find(|(other, _)| *other == name);
            let told = |name| told(name).map(|(_, value)| value.clone()).unwrap_or_default();
            (told("PGSSLMODE"), told("PGSSLROOTCERT"), target.is_bare())
        };
        let expected = |mode: &str, root: &str, bare| (mode.to_owned(), root.to_owned(), bare);
        let variables = [("PGSSLMODE", "verify-ca"), ("PGSSLROOTCERT", "/b.crt")];
        let url = "postgres://me@h/app?sslmode=verify-full&sslrootcert=/a%20b.crt";
        assert_eq!(tls(url, &variables), expected("verify-full", "/a b.crt", false));
        let list = "host=h sslmode='require' user=me dbname=app";
        assert_eq!(tls(list, &[]), expected("require", "", false));
        assert_eq!(tls("postgres://me@h/app", &variables), expected("verify-ca", "/b.crt", false));
        assert_eq!(tls("postgres://me@h/app?user=me", &[]), expected("prefer", "", true));
    }
}
