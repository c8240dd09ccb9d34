//! I/O: the settings of this process, from its environment and its configuration file.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::path::PathBuf;

use super::Flags;
use super::Global;
use super::Secrecy;
use super::Settings;
use super::SettingsError;
use super::file;
use super::file::Entry;
use super::flags::Typed;
use super::layers::Layers;
use super::table;

/// Where the configuration file is when nobody says.
const DEFAULT_FILE: &str = "/etc/worm/ingest.toml";

/// What surrounds the process, handed in so that tests can make their own.
#[derive(Clone, Debug)]
pub struct Environment {
    /// The variables that are text.
    pub(crate) variables: BTreeMap<String, String>,
    /// The names of those that are not.
    pub(crate) not_text: BTreeSet<String>,
    /// The configuration file to read when nobody names one, and there is one.
    pub(crate) default_file: PathBuf,
}

impl Environment {
    /// That of this process.
    #[must_use]
    pub fn of_this_process() -> Self {
        let mut variables = BTreeMap::new();
        let mut not_text = BTreeSet::new();
        for (name, value) in std::env::vars_os() {
            match (name.into_string(), value.into_string()) {
                (Ok(name), Ok(value)) => {
                    variables.insert(name, value);
                }
                (Ok(name), Err(_)) => {
                    not_text.insert(name);
                }
                (Err(_), _) => {}
            }
        }
        Self { variables, not_text, default_file: PathBuf::from(DEFAULT_FILE) }
    }
}

impl Settings {
    /// The settings that these flags, this environment and its configuration file amount to.
    ///
    /// # Errors
    /// [`SettingsError`] says what makes no sense, and where it stands.
    pub fn load<T>(
        global: &Flags<Global>,
        flags: &Flags<T>,
        environment: &Environment,
    ) -> Result<Self, SettingsError> {
        check_text(environment)?;
        let flags: Vec<Typed> = global.typed.iter().chain(&flags.typed).cloned().collect();
        let read = |path: &Path| std::fs::read_to_string(path);
        let variables = &environment.variables;
        let nothing = (PathBuf::new(), Vec::new());
        let named = Layers { flags: &flags, variables, file: nothing, read: &read };
        let named = named.value(&table::CONFIG)?;
        let file = match &named {
            Some(value) => (PathBuf::from(value.text()), value.origin.to_string()),
            None => (environment.default_file.clone(), "default".to_owned()),
        };
        let file = read_file(file.0, &file.1, named.is_some())?;
        Layers { flags: &flags, variables, file, read: &read }.resolve()
    }
}

/// A variable of ours that is no text must not pass for one that is not set.
fn check_text(environment: &Environment) -> Result<(), SettingsError> {
    if environment.variables.contains_key("WORM_CONFIG_FILE") {
        return Err(SettingsError::ConfigFile);
    }
    let names = table::TABLE.iter().flat_map(|setting| setting.variables);
    for name in names.flat_map(|name| [(*name).to_owned(), format!("{name}_FILE")]) {
        if environment.not_text.contains(&name) {
            return Err(SettingsError::NotText(name));
        }
    }
    Ok(())
}

fn read_file(
    path: PathBuf,
    place: &str,
    must_exist: bool,
) -> Result<(PathBuf, Vec<Entry>), SettingsError> {
    let text = match std::fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound && !must_exist => {
            return Ok((path, Vec::new()));
        }
        Err(error) => return Err(SettingsError::read(place, &path)(error)),
    };
    let entries = file::entries(table::TABLE, &path, &text)?;
    let tells_secrets = |entry: &Entry| {
        let shown = |text: &String| entry.setting.shown(text) != *text;
        matches!(entry.setting.secrecy, Secrecy::Url | Secrecy::Hidden)
            && !entry.is_file
            && entry.texts.iter().any(shown)
    };
    if entries.iter().any(tells_secrets) {
        let mode = std::fs::metadata(&path).map_err(SettingsError::read(place, &path))?.mode();
        if mode & 0o004 != 0 {
            return Err(SettingsError::Loose(path));
        }
    }
    Ok((path, entries))
}
