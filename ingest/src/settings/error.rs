//! What can be wrong with settings. One line each, that names the place and what to do.

use std::io;
use std::path::Path;
use std::path::PathBuf;

use super::Setting;
use super::Value;

/// Why the settings make no sense.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// One setting, said twice in the same place.
    #[error("{first} and {second} are both set and mean the same: keep one")]
    Twice {
        /// A name.
        first: String,
        /// Another name.
        second: String,
    },
    /// A key that means nothing.
    #[error("{}:{line}: unknown key {key:?}{}", path.display(), did_you_mean(nearest.as_deref()))]
    UnknownKey {
        /// The configuration file.
        path: PathBuf,
        /// From 1.
        line: usize,
        /// The key.
        key: String,
        /// The known key that looks most like it.
        nearest: Option<String>,
    },
    /// A line of the configuration file or of a service file that cannot be understood.
    #[error("{}:{line}: {message}", path.display())]
    Toml {
        /// The file.
        path: PathBuf,
        /// From 1.
        line: usize,
        /// What the parser said.
        message: String,
    },
    /// A value that makes no sense.
    #[error("{place} {value:?} makes no sense: {wanted}")]
    Value {
        /// Who said it.
        place: String,
        /// What it was, as far as it may be shown.
        value: String,
        /// What it could be.
        wanted: String,
    },
    /// Nothing where something is needed.
    #[error("{place} is empty: give a value, or leave it out")]
    Empty {
        /// Who said it.
        place: String,
    },
    /// A setting that must be given and is not.
    #[error("{name} is needed: give --{name}, or set {variable}")]
    Missing {
        /// The setting.
        name: &'static str,
        /// Its variable.
        variable: &'static str,
    },
    /// A variable that is not text.
    #[error("{0} is not valid UTF-8")]
    NotText(String),
    /// A database URL that cannot be read.
    #[error("the database URL ({place}) cannot be read: {message}")]
    Url {
        /// Who gave it.
        place: String,
        /// What is wrong.
        message: String,
    },
    /// A file that was named and cannot be read.
    #[error("could not read {}, named by {place}: {source}", path.display())]
    Read {
        /// Who named it.
        place: String,
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A service that no service file has.
    #[error("the service {service:?} ({place}) is in no service file")]
    NoService {
        /// Who named it.
        place: String,
        /// Its name.
        service: String,
    },
    /// A configuration file with a secret, for all to read.
    #[error("{} holds a password and can be read by all users: chmod o= it", .0.display())]
    Loose(PathBuf),
    /// `WORM_CONFIG_FILE`.
    #[error("WORM_CONFIG_FILE means nothing: did you mean WORM_CONFIG?")]
    ConfigFile,
}

impl SettingsError {
    pub(super) fn value(setting: &Setting, value: &Value, wanted: &str) -> Self {
        let shown = setting.shown(value.text());
        let mut place = value.origin.to_string();
        if matches!(value.origin, super::Origin::File { .. }) || value.via != super::Via::Itself {
            place = format!("{place}: {}", setting.key());
        }
        Self::Value { place, value: shown, wanted: wanted.to_owned() }
    }

    pub(crate) fn missing(setting: &Setting) -> Self {
        let variable = setting.variables.first().copied().unwrap_or_default();
        Self::Missing { name: setting.name, variable }
    }

    pub(super) fn read(place: &str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let (place, path) = (place.to_owned(), path.to_owned());
        move |source| Self::Read { place, path, source }
    }
}

fn did_you_mean(nearest: Option<&str>) -> String {
    nearest.map_or_else(String::new, |nearest| format!(": did you mean {nearest:?}?"))
}
