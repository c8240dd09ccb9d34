//! PURE: what a database URL says, setting by setting.

use percent_encoding::percent_decode_str;

use super::Section;
use super::Setting;
use super::Settings;
use super::SettingsError;
use super::Value;
use super::Via;
use super::table;

/// Parameters that mean nothing for a backup, and may stay in a URL that is used elsewhere, too.
pub(super) const PASSED_OVER: [&str; 7] = [
    "application_name",
    "fallback_application_name",
    "keepalives",
    "keepalives_idle",
    "keepalives_interval",
    "keepalives_count",
    "tcp_user_timeout",
];

/// Gives the settings what the URL says about them. It wins over what the same layer, or one that
/// yields to that layer, says of a single setting: as a connection string does for libpq.
pub(crate) fn spread(settings: &mut Settings) -> Result<(), SettingsError> {
    let Some(url) = settings.value(&table::URL).cloned() else { return Ok(()) };
    let place = url.origin.to_string();
    let said = parse(url.text()).map_err(|message| SettingsError::Url { place, message })?;
    for (setting, text) in said {
        let there = settings.value(setting);
        if there.is_none_or(|there| url.strength(Via::Url) < there.strength(there.via)) {
            let value = Value { texts: vec![text], via: Via::Url, ..url.clone() };
            settings.values.insert(setting.name, value);
        }
    }
    Ok(())
}

/// Splits a URL. What is empty says nothing.
fn parse(url: &str) -> Result<Vec<(&'static Setting, String)>, String> {
    let rest = url.strip_prefix("postgres://").or_else(|| url.strip_prefix("postgresql://"));
    let rest = rest.ok_or("it must begin with postgres://")?;
    // Where the password ends would be a guess, and what follows it is shown.
    if rest.matches('@').count() > 1 {
        return Err("it has more than one @: percent-encode the password (@ is %40)".to_owned());
    }
    let (base, query) = rest.split_once('?').unwrap_or((rest, ""));
    if query.contains('@') {
        return Err("it has an @ behind the ?: percent-encode it (%40), and a ? in the password, \
                    too (%3F)"
            .to_owned());
    }
    let (login, address) = base.split_once('@').unwrap_or(("", base));
    let (user, password) = login.split_once(':').unwrap_or((login, ""));
    let (address, database) = address.split_once('/').unwrap_or((address, ""));
    let (host, port) = match address.rfind(']') {
        // The colons of an IPv6 address are inside brackets.
        Some(end) => (address[..end].trim_start_matches('['), &address[end + 1..]),
        None => address.find(':').map_or((address, ""), |colon| address.split_at(colon)),
    };
    let port = port.strip_prefix(':').unwrap_or(port);

    let mut said = Vec::new();
    for (setting, text) in [
        (&table::USER, user),
        (&table::PASSWORD, password),
        (&table::HOST, host),
        (&table::PORT, port),
        (&table::DBNAME, database),
    ] {
        put(&mut said, setting, text)?;
    }
    for parameter in query.split('&').filter(|parameter| !parameter.is_empty()) {
        let (name, text) =
            parameter.split_once('=').ok_or_else(|| format!("{parameter:?} has no value"))?;
        if PASSED_OVER.contains(&name) {
            continue;
        }
        let setting = of_keyword(name)
            .ok_or_else(|| format!("the parameter {name:?} is not known, or not supported"))?;
        put(&mut said, setting, text)?;
    }
    Ok(said)
}

/// The setting with this name in a connection string of libpq.
pub(super) fn of_keyword(name: &str) -> Option<&'static Setting> {
    let connection = |setting: &&&'static Setting| setting.section == Section::Connection;
    let mut settings = table::TABLE.iter().filter(connection);
    settings.find(|setting| setting.key() == name && setting.name != table::URL.name).copied()
}

fn put(
    said: &mut Vec<(&'static Setting, String)>,
    setting: &'static Setting,
    text: &str,
) -> Result<(), String> {
    if text.is_empty() {
        return Ok(());
    }
    let text = percent_decode_str(text).decode_utf8();
    let text = text.map_err(|_not_utf8| format!("the {} is not UTF-8", setting.name))?;
    said.retain(|(other, _)| other.name != setting.name);
    said.push((setting, text.into_owned()));
    Ok(())
}
