//! PURE: libpq's connection service file: settings of a connection under one name.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::path::PathBuf;

use super::Origin;
use super::Settings;
use super::SettingsError;
use super::Value;
use super::Via;
use super::table;
use super::url;

/// Where libpq looks for services of all users: Debian's place.
const SYSTEM_DIRECTORY: &str = "/etc/postgresql-common";

/// Gives the settings what the named service says about them. Like libpq it wins over variables,
/// but not over a URL or over single flags.
pub(crate) fn spread(
    settings: &mut Settings,
    variables: &BTreeMap<String, String>,
    read: &dyn Fn(&Path) -> io::Result<String>,
) -> Result<(), SettingsError> {
    let Some(service) = settings.value(&table::SERVICE).cloned() else { return Ok(()) };
    let (path, section) = find(settings, &service, variables, read)?;
    for (line, key, text) in section {
        let bad = |message| SettingsError::Toml { path: path.clone(), line, message };
        if url::PASSED_OVER.contains(&key.as_str()) {
            continue;
        }
        let setting = url::of_keyword(&key).filter(|setting| setting.name != table::SERVICE.name);
        let setting = setting
            .ok_or_else(|| bad(format!("the parameter {key:?} is not known, or not supported")))?;
        let there = settings.value(setting);
        if !text.is_empty()
            && there.is_none_or(|there| service.strength(Via::Service) < there.strength(there.via))
        {
            let origin = Origin::File { path: path.clone(), line };
            let value = Value { texts: vec![text], origin, via: Via::Service, read_from: None };
            settings.values.insert(setting.name, value);
        }
    }
    Ok(())
}

/// A line number, a key and its text.
type Line = (usize, String, String);

/// The first file that has the service, and what it says.
fn find(
    settings: &Settings,
    service: &Value,
    variables: &BTreeMap<String, String>,
    read: &dyn Fn(&Path) -> io::Result<String>,
) -> Result<(PathBuf, Vec<Line>), SettingsError> {
    let set = |name: &str| variables.get(name).filter(|text| !text.is_empty()).map(PathBuf::from);
    let named = settings.path(&table::SERVICEFILE);
    let own = named.clone().or_else(|| set("HOME").map(|home| home.join(".pg_service.conf")));
    let system = set("PGSYSCONFDIR").unwrap_or_else(|| PathBuf::from(SYSTEM_DIRECTORY));
    let place = service.origin.to_string();
    for path in own.into_iter().chain([system.join("pg_service.conf")]) {
        let text = match read(&path) {
            Ok(text) => text,
            Err(error)
                if error.kind() == io::ErrorKind::NotFound && named.as_ref() != Some(&path) =>
            {
                continue;
            }
            Err(error) => return Err(SettingsError::read(&place, &path)(error)),
        };
        if let Some(lines) = section(&path, &text, service.text())? {
            return Ok((path, lines));
        }
    }
    Err(SettingsError::NoService { place, service: service.text().to_owned() })
}

/// The lines below `[service]`.
fn section(path: &Path, text: &str, service: &str) -> Result<Option<Vec<Line>>, SettingsError> {
    let mut found: Option<Vec<Line>> = None;
    let mut inside = false;
    for (number, line) in (1..).zip(text.lines()) {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            // The first one of this name counts.
            inside = name == service && found.is_none();
            if inside {
                found = Some(Vec::new());
            }
            continue;
        }
        if let Some(lines) = found.as_mut().filter(|_| inside) {
            let (key, text) = line.split_once('=').ok_or_else(|| SettingsError::Toml {
                path: path.to_owned(),
                line: number,
                message: "a line must be KEY=VALUE".to_owned(),
            })?;
            lines.push((number, key.trim().to_owned(), text.trim().to_owned()));
        }
    }
    Ok(found)
}
