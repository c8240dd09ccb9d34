//! PURE: settings as they may be shown: without passwords, each with where it came from.

use std::path::Path;

use serde::Serialize;

use super::Origin;
use super::Settings;
use super::table;

/// What stands where a secret was.
pub(crate) const MASK: &str = "***";

/// One setting for people or programs to look at.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct Shown {
    /// Its name, that of the flag.
    pub name: &'static str,
    /// What it is, as far as it may be shown. Several for a list, none where nobody said anything.
    pub value: Vec<String>,
    /// Where it came from: `flag`, `variable`, `file`, `default`, or `unset`.
    pub layer: &'static str,
    /// The flag, the variable, or the file with its line.
    pub origin: String,
}

/// All settings, in the order of the table. `password` is the file in which the password was found
/// that nobody gave.
#[must_use]
pub fn show(settings: &Settings, password: Option<&Path>) -> Vec<Shown> {
    let shown = table::TABLE.iter().map(|setting| {
        if let Some(path) = password.filter(|_| setting.name == table::PASSWORD.name) {
            return Shown {
                name: setting.name,
                value: vec![MASK.to_owned()],
                layer: "default",
                origin: path.display().to_string(),
            };
        }
        let Some(value) = settings.value(setting) else {
            return Shown {
                name: setting.name,
                value: vec![],
                layer: "unset",
                origin: String::new(),
            };
        };
        let layer = match value.origin {
            Origin::Flag(_) => "flag",
            Origin::Variable(_) => "variable",
            Origin::File { .. } => "file",
            Origin::Default => "default",
        };
        let mut origin = value.origin.to_string();
        if let Some(path) = &value.read_from {
            origin = format!("{origin} ({})", path.display());
        }
        let value = value.texts.iter().map(|text| setting.shown(text)).collect();
        Shown { name: setting.name, value, layer, origin }
    });
    shown.collect()
}

/// A URL without what could be a password in it, also where it is not a proper URL.
pub(super) fn masked_url(url: &str) -> String {
    let (base, query) =
        url.split_once('?').map_or((url, None), |(base, query)| (base, Some(query)));
    let start = base.find("://").map_or(0, |at| at + 3);
    // Where an `@` was not encoded, what follows the first one is still part of the password.
    let mut shown = match (base.rfind('@'), query.and_then(|query| query.rfind('@'))) {
        (_, Some(_)) => return format!("{}{MASK}", &url[..start]),
        (Some(end), None) if end >= start => {
            let user = base[start..end].find(':').map_or(end, |colon| start + colon);
            let mask = if user < end { format!(":{MASK}") } else { String::new() };
            format!("{}{mask}{}", &base[..user], &base[end..])
        }
        (Some(_) | None, None) => base.to_owned(),
    };
    for (index, parameter) in query.into_iter().flat_map(|query| query.split('&')).enumerate() {
        shown.push(if index == 0 { '?' } else { '&' });
        match parameter.split_once('=') {
            Some((name, _)) if name.contains("password") => {
                shown.push_str(name);
                shown.push('=');
                shown.push_str(MASK);
            }
            Some(_) | None => shown.push_str(parameter),
        }
    }
    shown
}
