//! PURE: the configuration file, from text to entries that name known settings.

use std::ops::Range;
use std::path::Path;

use toml::de::DeTable;
use toml::de::DeValue;

use super::Form;
use super::Setting;
use super::SettingsError;

/// Below this likeness a known key is no help.
pub(super) const LIKE: f64 = 0.7;

/// One line that says something.
#[derive(Debug)]
pub(crate) struct Entry {
    /// The setting.
    pub(crate) setting: &'static Setting,
    /// From 1.
    pub(crate) line: usize,
    /// Its values, or the file that holds them.
    pub(crate) texts: Vec<String>,
    /// Whether the text names a file.
    pub(crate) is_file: bool,
}

/// Reads the text of the file at `path`.
///
/// # Errors
/// [`SettingsError::Toml`], [`SettingsError::UnknownKey`], [`SettingsError::Value`]
pub(crate) fn entries(
    table: &[&'static Setting],
    path: &Path,
    text: &str,
) -> Result<Vec<Entry>, SettingsError> {
    let line_of = |span: Range<usize>| {
        text.as_bytes().iter().take(span.start).filter(|byte| **byte == b'\n').count() + 1
    };
    let document = DeTable::parse(text).map_err(|error| SettingsError::Toml {
        path: path.to_owned(),
        line: error.span().map_or(1, line_of),
        message: error.message().replace('\n', ", "),
    })?;
    let mut entries = Vec::new();
    for (key, value) in document.get_ref() {
        let line = line_of(key.span());
        let key = key.get_ref().as_ref();
        let Some((setting, is_file)) = find(table, key) else {
            let nearest = nearest(table, key);
            let (path, key) = (path.to_owned(), key.to_owned());
            return Err(SettingsError::UnknownKey { path, line, key, nearest });
        };
        let form = if is_file { Form::Text("FILE") } else { setting.form };
        let texts = texts_of(form, value.get_ref()).ok_or_else(|| SettingsError::Value {
            place: format!("{}:{line}: {key}", path.display()),
            value: value.get_ref().type_str().to_owned(),
            wanted: format!("{} is wanted", wanted(form)),
        })?;
        entries.push(Entry { setting, line, texts, is_file });
    }
    Ok(entries)
}

fn find(table: &[&'static Setting], key: &str) -> Option<(&'static Setting, bool)> {
    table.iter().copied().filter(|setting| setting.in_file).find_map(|setting| {
        let own = setting.key();
        let file = setting.from_file.map(|name| name.replace('-', "_"));
        if key == own {
            Some((setting, false))
        } else {
            (file.as_deref() == Some(key)).then_some((setting, true))
        }
    })
}

fn nearest(table: &[&'static Setting], key: &str) -> Option<String> {
    let key = key.replace('-', "_");
    let known = table.iter().filter(|setting| setting.in_file).map(|setting| setting.key());
    known
        .map(|known| (strsim::jaro_winkler(&known, &key), known))
        .filter(|(likeness, _)| *likeness >= LIKE)
        .max_by(|one, other| one.0.total_cmp(&other.0))
        .map(|(_, known)| known)
}

/// The texts of a value, if it is of the form that the setting wants.
fn texts_of(form: Form, value: &DeValue<'_>) -> Option<Vec<String>> {
    match value {
        DeValue::Array(list) => {
            let form = match form {
                Form::List(word) => Form::Text(word),
                Form::Text(_) | Form::Switch => return None,
            };
            let mut texts = Vec::new();
            for item in list.iter() {
                texts.extend(texts_of(form, item.get_ref())?);
            }
            Some(texts)
        }
        DeValue::Boolean(on) => matches!(form, Form::Switch).then(|| vec![on.to_string()]),
        DeValue::String(_) | DeValue::Integer(_) | DeValue::Float(_)
            if matches!(form, Form::Switch) =>
        {
            None
        }
        DeValue::String(text) => Some(vec![text.to_string()]),
        DeValue::Integer(number) => {
            (number.radix() == 10).then(|| vec![number.as_str().to_owned()])
        }
        DeValue::Float(number) => Some(vec![number.as_str().to_owned()]),
        DeValue::Datetime(_) | DeValue::Table(_) => None,
    }
}

fn wanted(form: Form) -> &'static str {
    match form {
        Form::Text(_) => "a string or a number",
        Form::List(_) => "a string or an array of strings",
        Form::Switch => "true or false",
    }
}
