//! PURE: what the directory of a database is called, below its class.

/// The directory of `database`: its name, with `%XX` for what cannot stand there.
///
/// That are slashes, control characters, `%` itself, a dot at the beginning (hidden names are not
/// ours), and the first digit of a name that looks like a date, as directories of a mirror do.
#[must_use]
pub fn directory_of(database: &str) -> String {
    let dated = is_date(database);
    let mut directory = String::with_capacity(database.len());
    for (at, character) in database.chars().enumerate() {
        let first = at == 0 && (character == '.' || dated);
        if first || matches!(character, '/' | '%') || character.is_control() {
            let mut bytes = [0; 4];
            for byte in character.encode_utf8(&mut bytes).bytes() {
                directory.push_str(&format!("%{byte:02X}"));
            }
        } else {
            directory.push(character);
        }
    }
    directory
}

/// The database whose directory this is. `None` for what [`directory_of`] makes of none.
#[must_use]
pub fn database_of(directory: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(directory.len());
    let mut rest = directory.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        let coded = if byte == b'%' { Some(after.split_at_checked(2)?) } else { None };
        let (byte, after) = match coded {
            Some((code, after)) => (*hex::decode(code).ok()?.first()?, after),
            None => (byte, after),
        };
        bytes.push(byte);
        rest = after;
    }
    let database = String::from_utf8(bytes).ok()?;
    (!database.is_empty() && directory_of(&database) == directory).then_some(database)
}

/// Whether this has the form of `2026-01-18`, the directory of a day in a mirror.
#[must_use]
pub fn is_date(name: &str) -> bool {
    name.len() == 10
        && name.bytes().enumerate().all(|(at, byte)| match at {
            4 | 7 => byte == b'-',
            _ => byte.is_ascii_digit(),
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_database_has_a_directory_of_its_own() {
        for (database, directory) in [
            ("app", "app"),
            ("Größe", "Größe"),
            ("two words", "two words"),
            ("a/b", "a%2Fb"),
            (".hidden", "%2Ehidden"),
            ("..", "%2E."),
            ("a.b", "a.b"),
            ("100%", "100%25"),
            ("a\nb\u{85}", "a%0Ab%C2%85"),
            ("2026-01-18", "%32026-01-18"),
            ("2026-01-18x", "2026-01-18x"),
        ] {
            assert_eq!(directory_of(database), directory);
            assert_eq!(database_of(directory).as_deref(), Some(database));
        }
    }

    #[test]
    fn what_is_the_directory_of_no_database_is_told() {
        for directory in
            ["", ".incomplete", "a%", "a%2", "a%zz", "a%2f", "%61", "%FF", "2026-01-18"]
        {
            assert_eq!(database_of(directory), None, "{directory}");
        }
    }
}
