//! The settings of the agent: one table, from which flags, variables, keys of the file and help
//! follow, and the values, each with where it came from.
//!
//! A flag wins over a variable, a variable over the file, the file over the default. A new setting
//! is one entry in [`table`] and, where it is used, one call that reads it: [`Settings::parse`],
//! [`Settings::text`], [`Settings::path`], [`Settings::switch`] or [`Settings::list`].

mod error;
mod file;
mod flags;
mod layers;
mod load;
mod service;
mod show;
mod strange;
pub mod table;
mod url;

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

pub use self::error::SettingsError;
pub use self::flags::Every;
pub use self::flags::Flags;
pub use self::flags::ForBackup;
pub use self::flags::ForHealth;
pub use self::flags::ForLook;
pub use self::flags::ForNext;
pub use self::flags::Global;
pub use self::load::Environment;
pub use self::show::Shown;
pub use self::show::show;
pub use self::strange::strange_variables;

/// Where `--help` lists a setting, and which commands take its flag.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Section {
    /// Taken by every command, also before its name.
    General,
    /// The write-once directory and the logs.
    Target,
    /// Which server, and how to log in.
    Connection,
    /// What is dumped, and how.
    Dump,
    /// When it is dumped.
    Schedule,
    /// What is suspicious, and who is told.
    Alarms,
    /// How a service is seen from outside.
    Health,
}

impl Section {
    /// The heading in `--help` and in the manual.
    pub fn heading(self) -> &'static str {
        match self {
            Self::General => "General",
            Self::Target => "Target",
            Self::Connection => "Connection",
            Self::Dump => "Dump",
            Self::Schedule => "Schedule",
            Self::Alarms => "Alarms",
            Self::Health => "Health",
        }
    }
}

/// What a setting holds. The word stands for the value in `--help`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Form {
    /// One value.
    Text(&'static str),
    /// Several: the flag may be repeated, the file holds an array; a variable holds them between
    /// commas or on lines, a file named by `VARIABLE_FILE` on lines, with `#` before comments.
    List(&'static str),
    /// Yes or no: `--NAME` alone means yes.
    Switch,
}

/// What of a value may be shown.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Secrecy {
    /// All of it.
    Open,
    /// A URL: all but its password.
    Url,
    /// A public key; nothing of a secret one.
    Key,
    /// Nothing.
    Hidden,
}

/// One setting. See [`table`] for all of them.
#[derive(Debug)]
pub struct Setting {
    /// `--NAME`; with `_` for `-`, the key in the file.
    pub name: &'static str,
    /// What it is for, one line or two.
    pub help: &'static str,
    /// Its place in `--help`.
    pub section: Section,
    /// The variables that all mean this one; the first is its proper name.
    pub variables: &'static [&'static str],
    /// What it holds.
    pub form: Form,
    /// What may be shown of it.
    pub secrecy: Secrecy,
    /// What holds when nobody says anything.
    pub default: Option<&'static str>,
    /// Whether the value may stand on the command line, where every user of the machine sees it.
    pub flag: bool,
    /// The name by which, on the command line and in the configuration file, a file may be named
    /// that holds the value. For variables there always is one: `VARIABLE_FILE`.
    pub from_file: Option<&'static str>,
    /// Whether the configuration file may hold it.
    pub in_file: bool,
}

impl Setting {
    /// What an entry of the table leaves out.
    pub const PLAIN: Self = Self {
        name: "",
        help: "",
        section: Section::General,
        variables: &[],
        form: Form::Text("VALUE"),
        secrecy: Secrecy::Open,
        default: None,
        flag: true,
        from_file: None,
        in_file: true,
    };

    /// Its key in the configuration file.
    pub fn key(&self) -> String {
        self.name.replace('-', "_")
    }

    /// A value as it may be shown.
    pub(crate) fn shown(&self, value: &str) -> String {
        match self.secrecy {
            Secrecy::Open => value.to_owned(),
            Secrecy::Url => show::masked_url(value),
            Secrecy::Key if is_secret_key(value) => show::MASK.to_owned(),
            Secrecy::Key => value.to_owned(),
            Secrecy::Hidden => show::MASK.to_owned(),
        }
    }
}

/// Whether this is a key that reads backups, where one is wanted that cannot.
pub(crate) fn is_secret_key(text: &str) -> bool {
    let text = text.to_ascii_uppercase();
    // How secret keys of age begin, and those of SSH.
    text.contains("AGE-SECRET-KEY-") || text.contains("PRIVATE KEY")
}

/// Who said a value.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Origin {
    /// `--NAME`.
    Flag(String),
    /// An environment variable, by its name.
    Variable(String),
    /// A line of the configuration file.
    File {
        /// The file.
        path: PathBuf,
        /// From 1.
        line: usize,
    },
    /// Nobody.
    Default,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flag(name) | Self::Variable(name) => f.write_str(name),
            Self::File { path, line } => write!(f, "{}:{line}", path.display()),
            Self::Default => f.write_str("default"),
        }
    }
}

/// What one setting is, and who said so.
#[derive(Clone, Eq, PartialEq)]
pub(crate) struct Value {
    /// Its text, or the texts of a list. Never empty.
    pub(crate) texts: Vec<String>,
    /// Who said it.
    pub(crate) origin: Origin,
    /// How the origin said it.
    pub(crate) via: Via,
    /// The file that held the value, if the origin only named a file.
    pub(crate) read_from: Option<PathBuf>,
}

/// Says where it came from and keeps what it is to itself: it may be a password.
impl fmt::Debug for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "({})", self.origin)
    }
}

/// How a value was said.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Via {
    /// By itself.
    Itself,
    /// As a part of a database URL.
    Url,
    /// As a line of a connection service.
    Service,
}

impl Value {
    /// How strong its word would be if it had been said in this way: the lower wins. A layer wins
    /// over all that yield to it. In a layer a URL comes first; then single flags come before a
    /// service, but a service, as for libpq, before single variables.
    pub(crate) fn strength(&self, via: Via) -> u8 {
        let (layer, service, itself) = match self.origin {
            Origin::Flag(_) => (0, 2, 1),
            Origin::Variable(_) => (3, 1, 2),
            Origin::File { .. } => (6, 1, 2),
            Origin::Default => (9, 0, 0),
        };
        layer
            + match via {
                Via::Url => 0,
                Via::Service => service,
                Via::Itself => itself,
            }
    }

    /// Its text: of a list the first.
    pub(crate) fn text(&self) -> &str {
        self.texts.first().map_or("", String::as_str)
    }
}

/// The value of every setting that has one.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    values: BTreeMap<&'static str, Value>,
}

impl Settings {
    pub(crate) fn value(&self, setting: &Setting) -> Option<&Value> {
        self.values.get(setting.name)
    }

    /// Its text, if it has any.
    pub fn text(&self, setting: &Setting) -> Option<&str> {
        self.value(setting).map(Value::text)
    }

    /// The texts of a list, which may be none.
    pub fn list(&self, setting: &Setting) -> &[String] {
        self.value(setting).map_or(&[], |value| &value.texts)
    }

    /// The same as a path.
    pub fn path(&self, setting: &Setting) -> Option<PathBuf> {
        self.text(setting).map(PathBuf::from)
    }

    /// A path that must be there, by default or by somebody's word.
    ///
    /// # Errors
    /// [`SettingsError::Missing`]
    pub fn needed_path(&self, setting: &Setting) -> Result<PathBuf, SettingsError> {
        self.path(setting).ok_or_else(|| SettingsError::missing(setting))
    }

    /// Whether it is switched on.
    ///
    /// # Errors
    /// [`SettingsError::Value`] if it is neither yes nor no.
    pub fn switch(&self, setting: &Setting) -> Result<bool, SettingsError> {
        let read = |text: &str| match text {
            "true" | "yes" | "on" | "1" => Some(true),
            "false" | "no" | "off" | "0" => Some(false),
            _neither => None,
        };
        Ok(self.parse(setting, "true or false is wanted", read)?.unwrap_or(false))
    }

    /// What `read` makes of the texts of a list, if there are any.
    ///
    /// # Errors
    /// [`SettingsError::Value`] if `read` makes nothing of them. It says what is `wanted`.
    pub fn each<T>(
        &self,
        setting: &Setting,
        wanted: &str,
        read: impl FnOnce(&[String]) -> Option<T>,
    ) -> Result<Option<T>, SettingsError> {
        let Some(value) = self.value(setting) else { return Ok(None) };
        let read = read(&value.texts);
        read.map(Some).ok_or_else(|| SettingsError::value(setting, value, wanted))
    }

    /// The files that secrets were read from, or stand in, with the names of their settings.
    pub fn secret_files(&self) -> Vec<(&'static str, PathBuf)> {
        let read = table::TABLE.iter().filter(|setting| setting.secrecy != Secrecy::Open);
        let read = read
            .filter_map(|setting| Some((setting.name, self.value(setting)?.read_from.clone()?)));
        let passfile = self.path(&table::PASSFILE).map(|path| (table::PASSFILE.name, path));
        read.chain(passfile).collect()
    }

    /// What `read` makes of its text.
    ///
    /// # Errors
    /// [`SettingsError::Value`] if `read` makes nothing of it. It says what is `wanted`.
    pub fn parse<T>(
        &self,
        setting: &Setting,
        wanted: &str,
        read: impl FnOnce(&str) -> Option<T>,
    ) -> Result<Option<T>, SettingsError> {
        let Some(value) = self.value(setting) else { return Ok(None) };
        let read = read(value.text());
        read.map(Some).ok_or_else(|| SettingsError::value(setting, value, wanted))
    }
}

#[cfg(test)]
mod tests;
