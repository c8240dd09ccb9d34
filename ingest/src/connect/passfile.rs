//! PURE: the password files of libpq, `host:port:database:user:password`.

use super::Target;

/// The password of the first line that fits.
pub(super) fn find(text: &str, target: &Target) -> Option<String> {
    let port = target.port.to_string();
    text.lines().filter(|line| !line.starts_with('#')).find_map(|line| {
        let fields = fields(line);
        let [host, line_port, database, user, password, ..] = fields.as_slice() else {
            return None;
        };
        let fits = |field: &str, value: &str| field == "*" || field == value;
        // A socket is called localhost there.
        let host_fits = fits(host, &target.host) || (target.is_socket() && host == "localhost");
        let all = host_fits
            && fits(line_port, &port)
            && fits(database, &target.database)
            && fits(user, &target.user);
        all.then(|| password.clone())
    })
}

/// A password file with this one password, for whatever `pg_dump` connects to. `None` when it
/// cannot be said in such a file.
pub(crate) fn for_child(password: &str) -> Option<String> {
    if password.contains(['\n', '\r', '\0']) {
        return None;
    }
    let escaped = password.replace('\\', "\\\\").replace(':', "\\:");
    Some(format!("*:*:*:*:{escaped}\n"))
}

/// Splits at colons; a backslash takes the meaning from the character after it.
fn fields(line: &str) -> Vec<String> {
    let mut fields = Vec::new();
    let mut field = String::new();
    let mut characters = line.chars();
    while let Some(character) = characters.next() {
        match character {
            ':' => fields.push(std::mem::take(&mut field)),
            '\\' => field.extend(characters.next()),
            character => field.push(character),
        }
    }
    fields.push(field);
    fields
}
