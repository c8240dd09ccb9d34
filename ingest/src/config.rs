//! What the settings mean: checked for sense, and the only way to get a [`Config`].

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::connect::Surroundings;
use crate::connect::Target;
use crate::error::Error;
use crate::http::Address;
use crate::manifest::filters::Filters;
use crate::notify;
use crate::notify::Receivers;
use crate::notify::message::Ping;
use crate::settings::Environment;
use crate::settings::Setting;
use crate::settings::Settings;
use crate::settings::SettingsError;
use crate::settings::table;
use crate::shape::Asked;
use crate::shape::Shape;
use crate::source::databases::Databases;
use crate::tripwire::Limits;

/// Settings that make sense together.
#[derive(Debug)]
pub struct Config {
    pub(crate) classes: Vec<String>,
    pub(crate) backups: PathBuf,
    pub(crate) audit_log: PathBuf,
    pub(crate) shape: Arc<Shape>,
    /// Whether to keep roles and settings of the server beside the dump.
    pub(crate) globals: bool,
    pub(crate) client_directory: Option<PathBuf>,
    pub(crate) lock_wait_timeout: Duration,
    pub(crate) stall_timeout: Duration,
    /// How long a run may take.
    pub(crate) deadline: Duration,
    pub(crate) lock_file: Option<PathBuf>,
    /// Whether to wait for another run to end.
    pub(crate) wait: bool,
    pub(crate) allow_plain: bool,
    /// Why this backup is good whatever it looks like.
    pub(crate) accept_suspect: Option<String>,
    /// From where on a backup looks wrong.
    pub(crate) tripwires: Limits,
    /// Who is told how runs begin and end.
    pub(crate) receivers: Receivers,
    /// Where a service answers probes.
    pub(crate) listen: Option<Address>,
    /// Where a service writes its numbers.
    pub(crate) metrics_textfile: Option<PathBuf>,
    pub(crate) databases: Databases,
    /// So many databases at the same time, at least one.
    pub(crate) parallel: usize,
    pub(crate) target: Target,
    pub(crate) around: Surroundings,
}

/// Where from and where to, in one line.
impl fmt::Display for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Target { user, host, port, database, tls, .. } = &self.target;
        write!(
            f,
            "the settings make sense: database {database} at {host}:{port} as {user} (sslmode \
             {}), into {}",
            tls.mode.name(),
            self.backups.display()
        )
    }
}

/// In seconds. The server takes its timeouts as milliseconds of 31 bits.
const LONGEST_WAIT: u64 = 2_000_000;

/// More would only wait for each other.
const MOST_PARALLEL: usize = 64;

impl Config {
    /// What these settings mean for a backup into `classes`.
    ///
    /// # Errors
    /// [`Error::Usage`], [`Error::Settings`] and [`Error::Connect`] say what makes no sense.
    pub fn new(
        classes: Vec<String>,
        settings: &Settings,
        environment: &Environment,
    ) -> Result<Self, Error> {
        Self::within(classes, settings, Surroundings::of(environment))
    }

    /// The same, with the word of somebody that the next backup is good whatever it looks like.
    #[must_use]
    pub fn accepting(self, reason: Option<String>) -> Self {
        Self { accept_suspect: reason, ..self }
    }

    /// The classes that were named.
    #[must_use]
    pub fn classes(&self) -> &[String] {
        &self.classes
    }

    /// The database of the connection.
    #[must_use]
    pub fn database(&self) -> &str {
        &self.target.database
    }

    pub(crate) fn within(
        classes: Vec<String>,
        settings: &Settings,
        around: Surroundings,
    ) -> Result<Self, Error> {
        let backups = settings.needed_path(&table::BACKUPS)?;
        for (at, class) in classes.iter().enumerate() {
            if !is_class_name(class) {
                return Err(Error::Usage(format!(
                    "{class:?} is not a class: name a directory of {}, such as hourly",
                    backups.display()
                )));
            }
            if classes[..at].contains(class) {
                return Err(Error::Usage(format!("class {class} is named twice")));
            }
        }
        let (databases, single) = Databases::of(
            settings.list(&table::DATABASE),
            settings.list(&table::EXCLUDE_DATABASE),
            settings.switch(&table::ALL_DATABASES)?,
        )
        .map_err(Error::Usage)?;
        let mut target = Target::resolve(settings, &around)?;
        if let Some(database) = single {
            target.database = database;
        }
        let parallel = settings.parse(&table::PARALLEL, "1 to 64 are wanted", |text| {
            text.parse().ok().filter(|number| (1..=MOST_PARALLEL).contains(number))
        })?;
        Ok(Self {
            classes,
            backups,
            audit_log: settings.needed_path(&table::AUDIT_LOG)?,
            shape: Arc::new(shape(settings)?),
            globals: settings.switch(&table::GLOBALS)?,
            client_directory: settings.path(&table::CLIENT_DIR),
            lock_wait_timeout: wait(settings, &table::LOCK_WAIT_TIMEOUT)?,
            stall_timeout: wait(settings, &table::STALL_TIMEOUT)?,
            deadline: crate::service::settings::limit(settings, &table::DEADLINE)?,
            lock_file: settings.path(&table::LOCK_FILE),
            wait: settings.switch(&table::WAIT)?,
            allow_plain: settings.switch(&table::ALLOW_PLAIN)?,
            accept_suspect: None,
            tripwires: settings
                .each(&table::TRIPWIRE, "CODE=NUMBER or CODE=off is wanted", Limits::with)?
                .unwrap_or(Limits::DEFAULT),
            receivers: receivers(settings)?,
            listen: listen(settings)?,
            metrics_textfile: settings.path(&table::METRICS_TEXTFILE),
            databases,
            parallel: parallel.unwrap_or(1),
            target,
            around,
        })
    }
}

/// Where a service answers probes.
///
/// # Errors
/// [`SettingsError`] when other machines could reach it.
pub fn listen(settings: &Settings) -> Result<Option<Address>, SettingsError> {
    let wanted = "127.0.0.1:PORT, [::1]:PORT or unix:/PATH is wanted: there is no password, so \
                  only this machine may ask";
    settings.parse(&table::LISTEN, wanted, Address::parse)
}

fn receivers(settings: &Settings) -> Result<Receivers, Error> {
    let wanted = "an address that begins with http:// or https:// is wanted";
    let pings = |texts: &[String]| texts.iter().map(|text| Ping::parse(text)).collect();
    let addresses = |texts: &[String]| texts.iter().map(|text| notify::address(text)).collect();
    let receivers = Receivers {
        pings: settings.each(&table::PING_URL, wanted, pings)?.unwrap_or_default(),
        webhooks: settings.each(&table::WEBHOOK_URL, wanted, addresses)?.unwrap_or_default(),
        authority: settings.path(&table::PING_CA),
        patience: wait(settings, &table::PING_TIMEOUT)?,
        on_success: settings.text(&table::HOOK_SUCCESS).map(str::to_owned),
        on_failure: settings.text(&table::HOOK_FAILURE).map(str::to_owned),
    };
    notify::check(&receivers)?;
    Ok(receivers)
}

fn wait(settings: &Settings, setting: &Setting) -> Result<Duration, SettingsError> {
    let read = |text: &str| text.parse().ok().filter(|wait| (1..=LONGEST_WAIT).contains(wait));
    let seconds = settings.parse(setting, "1 to 2000000 seconds are wanted", read)?;
    seconds.map(Duration::from_secs).ok_or_else(|| SettingsError::missing(setting))
}

/// A class is one directory right below the mount, and none of the hidden ones.
pub(crate) fn is_class_name(name: &str) -> bool {
    !name.is_empty() && !name.starts_with('.') && !name.contains(['/', '\0'])
}

/// What the backup is to be.
fn shape(settings: &Settings) -> Result<Shape, Error> {
    let text = |setting| settings.text(setting).unwrap_or_default().to_owned();
    let number = |setting| -> Result<u64, SettingsError> {
        Ok(settings
            .parse(setting, "a whole number is wanted", |text| text.parse().ok())?
            .unwrap_or(0))
    };
    Shape::new(Asked {
        format: text(&table::FORMAT),
        compress: text(&table::COMPRESS),
        jobs: u32::try_from(number(&table::JOBS)?).unwrap_or(u32::MAX),
        scratch: settings.path(&table::SCRATCH),
        recipients: settings.list(&table::RECIPIENT).to_vec(),
        rate_limit: number(&table::RATE_LIMIT)?,
        min_bytes: number(&table::MIN_BYTES)?,
        filters: filters(settings),
    })
    .map_err(Error::Usage)
}

/// Which part of a database is wanted.
#[must_use]
pub fn filters(settings: &Settings) -> Filters {
    Filters {
        schema: settings.list(&table::SCHEMA).to_vec(),
        exclude_schema: settings.list(&table::EXCLUDE_SCHEMA).to_vec(),
        table: settings.list(&table::TABLE_PATTERN).to_vec(),
        exclude_table: settings.list(&table::EXCLUDE_TABLE).to_vec(),
        exclude_table_data: settings.list(&table::EXCLUDE_TABLE_DATA).to_vec(),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::io::Write;

    use clap::Parser;

    use super::*;
    use crate::cli::Backup;
    use crate::cli::Cli;
    use crate::cli::Command;

    fn config(arguments: &[&str]) -> Result<Config, Error> {
        let line = ["worm-ingest", "backup"].iter().chain(arguments);
        let cli = Cli::try_parse_from(line).unwrap();
        let variables = [("PGUSER", "me"), ("PGHOST", "db")];
        let variables = variables.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let environment = Environment {
            variables: variables.into(),
            not_text: BTreeSet::new(),
            default_file: PathBuf::from("/nonexistent"),
        };
        let settings = cli.settings(&environment)?;
        let Command::Backup(Backup { classes, .. }) = cli.command else { panic!("not a backup") };
        let around = Surroundings {
            variables: environment.variables,
            secret: PathBuf::from("/nonexistent"),
        };
        Config::within(classes, &settings, around)
    }

    #[test]
    fn the_defaults_are_those_of_the_manual() {
        let config = config(&["hourly"]).unwrap();
        assert_eq!(config.backups, PathBuf::from("/backups/active"));
        assert_eq!(config.audit_log, PathBuf::from("/backups/logs/backup_audit.jsonl"));
        assert_eq!(config.shape.form().suffix(), ".sql.gz");
        assert!(!config.allow_plain);
        assert_eq!(config.lock_wait_timeout, Duration::from_secs(600));
        assert_eq!(config.stall_timeout, Duration::from_secs(1800));
        assert_eq!(config.target.host, "db");
    }

    #[test]
    fn a_class_is_one_visible_directory() {
        for class in ["../daily", "a/b", ".", "..", ".incomplete", ""] {
            let error = config(&[class]).unwrap_err();
            assert_eq!(error.exit().number(), 2, "{class:?}");
        }
    }

    #[test]
    fn several_classes_are_named_once_each() {
        assert_eq!(config(&["hourly", "daily"]).unwrap().classes, ["hourly", "daily"]);
        let error = config(&["hourly", "daily", "hourly"]).unwrap_err();
        assert_eq!(error.exit().number(), 2);
    }

    #[test]
    fn a_single_name_is_the_database_of_the_connection() {
        let config = config(&["hourly", "--database", "app"]).unwrap();
        assert_eq!(config.target.database, "app");
        assert!(matches!(config.databases, Databases::One));
        let two =
            self::config(&["hourly", "--database=a", "--database=b", "--parallel=2"]).unwrap();
        assert!(matches!(two.databases, Databases::Several(_)));
        assert_eq!((two.parallel, two.target.database.as_str()), (2, "me"));
        for wrong in [&["--parallel=0"][..], &["--all-databases", "--database=a"]] {
            let error = self::config(&[&["hourly"], wrong].concat()).unwrap_err();
            assert_eq!(error.exit().number(), 2, "{wrong:?}");
        }
    }

    #[test]
    fn codecs_that_we_cannot_do_are_refused() {
        for codec in ["gzip", "gzip:0", "lz4:1", ""] {
            assert!(config(&["hourly", "--compress", codec]).is_err(), "{codec:?}");
        }
        assert_eq!(config(&["hourly", "--compress", "gzip:9"]).unwrap().shape.compression.level, 9);
    }

    #[test]
    fn a_url_may_stand_in_a_file_but_not_in_two_places() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(b"postgres://you@there/app\n").unwrap();
        let path = file.path().to_str().unwrap();
        let target = config(&["hourly", "--url-file", path]).unwrap().target;
        assert_eq!((target.host.as_str(), target.database.as_str()), ("there", "app"));
        assert!(config(&["hourly", "--url-file", path, "--url", "postgres://x/y"]).is_err());
        assert!(config(&["hourly", "--url-file", "/nonexistent"]).is_err());
    }
}
