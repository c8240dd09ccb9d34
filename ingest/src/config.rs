//! What the arguments mean: checked for sense, and the only way to get a [`Config`].

use std::path::PathBuf;
use std::time::Duration;

use crate::cli::Backup;
use crate::connect;
use crate::connect::Secret;
use crate::connect::Surroundings;
use crate::connect::Target;
use crate::error::Error;
use crate::manifest::Compression;

/// Arguments that make sense together.
#[derive(Debug)]
pub struct Config {
    pub(crate) classes: Vec<String>,
    pub(crate) backups: PathBuf,
    pub(crate) audit_log: PathBuf,
    pub(crate) compression: Compression,
    pub(crate) client_directory: Option<PathBuf>,
    pub(crate) lock_wait_timeout: Duration,
    pub(crate) stall_timeout: Duration,
    pub(crate) allow_plain: bool,
    pub(crate) target: Target,
    pub(crate) around: Surroundings,
}

impl Config {
    /// What `arguments` mean in the environment of this process.
    ///
    /// # Errors
    /// [`Error::Usage`] and [`Error::Connect`] say what makes no sense.
    pub fn new(arguments: Backup) -> Result<Self, Error> {
        Self::within(arguments, Surroundings::of_this_process())
    }

    /// The classes that were named.
    #[must_use]
    pub fn classes(&self) -> &[String] {
        &self.classes
    }

    pub(crate) fn within(arguments: Backup, around: Surroundings) -> Result<Self, Error> {
        for (at, class) in arguments.classes.iter().enumerate() {
            if !is_class_name(class) {
                return Err(Error::Usage(format!(
                    "{class:?} is not a class: name a directory of {}, such as hourly",
                    arguments.backups.display()
                )));
            }
            if arguments.classes[..at].contains(class) {
                return Err(Error::Usage(format!("class {class} is named twice")));
            }
        }
        // An empty variable is an unset one, as everywhere.
        let url = arguments.url.filter(|url| !url.is_empty());
        let file = arguments.url_file.filter(|path| !path.as_os_str().is_empty());
        let url = match (url, file) {
            (Some(_), Some(_)) => {
                return Err(Error::Usage(
                    "a database URL and a file with one: give one".to_owned(),
                ));
            }
            (None, Some(path)) => {
                let Secret(url) = connect::read_secret(&path)?;
                Some(url)
            }
            (url, None) => url,
        };
        Ok(Self {
            classes: arguments.classes,
            backups: arguments.backups,
            audit_log: arguments.audit_log,
            compression: compression(&arguments.compress)?,
            client_directory: arguments.client_dir.filter(|path| !path.as_os_str().is_empty()),
            lock_wait_timeout: Duration::from_secs(arguments.lock_wait_timeout.into()),
            stall_timeout: Duration::from_secs(arguments.stall_timeout.into()),
            allow_plain: arguments.allow_plain,
            target: Target::resolve(url.as_deref(), &around)?,
            around,
        })
    }
}

/// A class is one directory right below the mount, and none of the hidden ones.
fn is_class_name(name: &str) -> bool {
    !name.is_empty() && !name.starts_with('.') && !name.contains(['/', '\0'])
}

fn compression(text: &str) -> Result<Compression, Error> {
    let level = text.strip_prefix("gzip:").and_then(|level| level.parse().ok());
    match level {
        Some(level @ 1..=9) => Ok(Compression { codec: "gzip".to_owned(), level }),
        Some(_) | None => {
            Err(Error::Usage(format!("cannot compress by {text:?}: gzip:1 to gzip:9 are known")))
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use clap::Parser;

    use super::*;
    use crate::cli::Cli;
    use crate::cli::Command;

    fn config(arguments: &[&str]) -> Result<Config, Error> {
        let line = ["worm-ingest", "backup"].iter().chain(arguments);
        let Command::Backup(arguments) = Cli::try_parse_from(line).unwrap().command;
        let variables = [("PGUSER", "me"), ("PGHOST", "db")];
        let variables = variables.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let secret = PathBuf::from("/nonexistent");
        Config::within(arguments, Surroundings { variables: variables.into(), secret })
    }

    #[test]
    fn the_defaults_are_those_of_the_manual() {
        let config = config(&["hourly", "--url", ""]).unwrap();
        assert_eq!(config.backups, PathBuf::from("/backups/active"));
        assert_eq!(config.audit_log, PathBuf::from("/backups/logs/backup_audit.jsonl"));
        assert_eq!(config.compression.level, 2);
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
    fn codecs_that_we_cannot_do_are_refused() {
        for codec in ["gzip", "gzip:0", "gzip:10", "zstd:3", "none", ""] {
            assert!(config(&["hourly", "--compress", codec]).is_err(), "{codec:?}");
        }
        assert_eq!(config(&["hourly", "--compress", "gzip:9"]).unwrap().compression.level, 9);
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
