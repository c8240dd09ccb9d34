//! PURE: which of several who say something about a setting wins.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::path::PathBuf;

use super::Form;
use super::Origin;
use super::Setting;
use super::Settings;
use super::SettingsError;
use super::Value;
use super::Via;
use super::file::Entry;
use super::flags::Typed;
use super::service;
use super::table;
use super::url;

/// What everybody says.
pub(crate) struct Layers<'a> {
    /// The command line.
    pub(crate) flags: &'a [Typed],
    /// The environment. Empty variables count as unset.
    pub(crate) variables: &'a BTreeMap<String, String>,
    /// The configuration file and where it is.
    pub(crate) file: (PathBuf, Vec<Entry>),
    /// Reads a file that is named instead of a value.
    pub(crate) read: &'a dyn Fn(&Path) -> io::Result<String>,
}

impl Layers<'_> {
    /// The value of every setting, those that a database URL carries included.
    ///
    /// # Errors
    /// [`SettingsError`] for what is said twice, is empty, or cannot be read.
    pub(crate) fn resolve(&self) -> Result<Settings, SettingsError> {
        let mut settings = Settings::default();
        for setting in table::TABLE {
            if let Some(value) = self.value(setting)? {
                settings.values.insert(setting.name, value);
            }
        }
        url::spread(&mut settings)?;
        service::spread(&mut settings, self.variables, self.read)?;
        Ok(settings)
    }

    /// All layers are looked at, so that a contradiction is found also where another layer wins.
    pub(super) fn value(&self, setting: &Setting) -> Result<Option<Value>, SettingsError> {
        let flag = only(self.typed(setting))?;
        let variable = only(self.set(setting))?;
        let line = only(self.written(setting))?;
        match flag.or(variable).or(line) {
            Some(said) => self.heard(setting, said).map(Some),
            None => Ok(setting.default.map(|text| Value {
                texts: vec![text.to_owned()],
                origin: Origin::Default,
                via: Via::Itself,
                read_from: None,
            })),
        }
    }

    fn typed(&self, setting: &Setting) -> Vec<Said> {
        let own = self.flags.iter().filter(|typed| typed.setting == setting.name);
        own.map(|typed| Said {
            origin: Origin::Flag(typed.flag.clone()),
            texts: typed.texts.clone(),
            is_file: typed.is_file,
        })
        .collect()
    }

    fn set(&self, setting: &Setting) -> Vec<Said> {
        let mut said = Vec::new();
        for name in setting.variables {
            for (name, is_file) in [((*name).to_owned(), false), (format!("{name}_FILE"), true)] {
                let Some(text) = self.variables.get(&name).filter(|text| !text.is_empty()) else {
                    continue;
                };
                let texts = match setting.form {
                    Form::List(_) if !is_file => items(text),
                    Form::List(_) | Form::Text(_) | Form::Switch => vec![text.clone()],
                };
                said.push(Said { origin: Origin::Variable(name), texts, is_file });
            }
        }
        said
    }

    fn written(&self, setting: &Setting) -> Vec<Said> {
        let (path, entries) = &self.file;
        let own = entries.iter().filter(|entry| entry.setting.name == setting.name);
        own.map(|entry| Said {
            origin: Origin::File { path: path.clone(), line: entry.line },
            texts: entry.texts.clone(),
            is_file: entry.is_file,
        })
        .collect()
    }

    /// What was said, fetched from its file if it was said there.
    fn heard(&self, setting: &Setting, said: Said) -> Result<Value, SettingsError> {
        let Said { origin, mut texts, is_file } = said;
        let place = origin.to_string();
        let empty = || SettingsError::Empty { place: place.clone() };
        let mut read_from = None;
        if let Some(path) = texts.first().filter(|path| is_file && !path.is_empty()) {
            let path = PathBuf::from(path);
            let text = (self.read)(&path).map_err(SettingsError::read(&place, &path))?;
            texts = match setting.form {
                Form::List(_) => lines(&text),
                Form::Text(_) | Form::Switch => vec![without_newline(&text).to_owned()],
            };
            read_from = Some(path);
        }
        if texts.is_empty() || texts.iter().any(String::is_empty) {
            return Err(empty());
        }
        Ok(Value { texts, origin, via: Via::Itself, read_from })
    }
}

/// One layer's word on one setting.
struct Said {
    origin: Origin,
    texts: Vec<String>,
    is_file: bool,
}

fn only(said: Vec<Said>) -> Result<Option<Said>, SettingsError> {
    let mut said = said.into_iter();
    let first = said.next();
    match (&first, said.next()) {
        (Some(first), Some(second)) => Err(SettingsError::Twice {
            first: first.origin.to_string(),
            second: second.origin.to_string(),
        }),
        (Some(_) | None, _) => Ok(first),
    }
}

/// The parts of a variable that holds a list.
pub(super) fn items(text: &str) -> Vec<String> {
    let items = text.split([',', '\n']).map(str::trim);
    items.filter(|item| !item.is_empty()).map(str::to_owned).collect()
}

/// The lines of a file that holds a list.
pub(super) fn lines(text: &str) -> Vec<String> {
    let lines = text.lines().map(str::trim);
    lines.filter(|line| !line.is_empty() && !line.starts_with('#')).map(str::to_owned).collect()
}

/// One final newline is not part of a value; a second one is.
fn without_newline(text: &str) -> &str {
    let text = text.strip_suffix('\n').unwrap_or(text);
    text.strip_suffix('\r').unwrap_or(text)
}
