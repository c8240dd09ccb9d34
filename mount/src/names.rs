//! Users and groups by their names, from /etc/passwd and /etc/group (passwd(5), group(5)). Other
//! sources are not asked: a store must be mounted before the network is there.

use toml::Table;
use toml::Value;

/// Where names are looked up.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Kind {
    /// A user.
    User,
    /// A group.
    Group,
}

impl Kind {
    fn file(self) -> &'static str {
        match self {
            Self::User => "/etc/passwd",
            Self::Group => "/etc/group",
        }
    }

    fn word(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Group => "group",
        }
    }
}

/// The number of a user or group that is given by name or number.
///
/// # Errors
/// One sentence, when there is none of that name.
pub(crate) fn number(kind: Kind, text: &str) -> Result<u32, String> {
    let known = std::fs::read_to_string(kind.file()).unwrap_or_default();
    look_up(&known, text).ok_or_else(|| format!("there is no {} {text:?}", kind.word()))
}

fn look_up(known: &str, text: &str) -> Option<u32> {
    text.parse().ok().or_else(|| {
        known.lines().find_map(|line| {
            let mut fields = line.split(':');
            (fields.next() == Some(text)).then(|| fields.nth(1)?.parse().ok()).flatten()
        })
    })
}

/// The text of a `worm.toml` with numbers in place of the names of owners and groups. A text without
/// names, or one that cannot be read, comes back as it is.
///
/// # Errors
/// One sentence, when a name is not known.
pub(crate) fn with_numbers(
    text: String,
    number: impl Fn(Kind, &str) -> Result<u32, String>,
) -> Result<String, String> {
    let Ok(mut table) = text.parse::<Table>() else { return Ok(text) };
    let classes = table.get_mut("class").and_then(Value::as_table_mut);
    let mut named = false;
    for (class, rule) in classes.into_iter().flatten() {
        for (key, kind) in [("owner", Kind::User), ("group", Kind::Group)] {
            let Some(value) = rule.get_mut(key) else { continue };
            let Some(name) = value.as_str() else { continue };
            let found = number(kind, name).map_err(|what| format!("class {class}: {what}"))?;
            (*value, named) = (Value::Integer(found.into()), true);
        }
    }
    if !named {
        return Ok(text);
    }
    toml::to_string(&table).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use worm_fs::config::Config;

    use super::*;

    const KNOWN: &str = "root:x:0:0:root:/root:/bin/sh\nagent:x:34:35::/:/bin/false\nbad:x\n";

    #[test]
    fn names_and_numbers_are_found() {
        assert_eq!(look_up(KNOWN, "agent"), Some(34));
        assert_eq!(look_up(KNOWN, "7"), Some(7));
        for unknown in ["agen", "bad", "", "x"] {
            assert_eq!(look_up(KNOWN, unknown), None, "{unknown}");
        }
    }

    #[test]
    fn owners_by_name_are_those_by_number() {
        let find = |_: Kind, name: &str| look_up(KNOWN, name).ok_or_else(|| name.to_owned());
        let rule = |owner: &str| format!("[class.a]\nretention = \"1d\"\nowner = {owner}\n");
        let named = with_numbers(rule("\"agent\""), find).unwrap();
        assert_eq!(Config::parse(&named), Config::parse(&rule("34")));
        assert_eq!(with_numbers(rule("34"), find).unwrap(), rule("34"));
        assert_eq!(with_numbers("not toml".to_owned(), find).unwrap(), "not toml");
        assert_eq!(with_numbers(rule("\"nobody\""), find).unwrap_err(), "class a: nobody");
    }
}
