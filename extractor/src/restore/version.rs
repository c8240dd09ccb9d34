//! PURE: versions of PostgreSQL's programs, and what follows from them.

/// Major and minor, as in 15.18.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Version {
    /// 15
    pub major: u32,
    /// 18; zero for a beta.
    pub minor: u32,
}

impl Version {
    /// The first version in what `--version` prints: `psql (PostgreSQL) 15.18 (Debian ...)`.
    #[must_use]
    pub fn find(text: &str) -> Option<Self> {
        text.split_whitespace().find_map(|word| {
            let (major, rest) = digits(word)?;
            let minor = rest.strip_prefix('.').and_then(digits).map_or(0, |(minor, _)| minor);
            Some(Self { major, minor })
        })
    }

    /// From `server_version_num`, such as 150018.
    #[must_use]
    pub fn of_server(number: u32) -> Self {
        Self { major: number / 10_000, minor: number % 10_000 }
    }

    /// Whether `pg_dump` of this version writes `\restrict`, and `psql` of this version reads it.
    /// It came to all branches at once, in August 2025.
    #[must_use]
    pub fn knows_restrict(self) -> bool {
        let first_minor = match self.major {
            ..=12 => return false,
            13 => 22,
            14 => 19,
            15 => 14,
            16 => 10,
            17 => 6,
            18.. => 0,
        };
        self.minor >= first_minor
    }
}

impl std::fmt::Display for Version {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

fn digits(text: &str) -> Option<(u32, &str)> {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    Some((text[..end].parse().ok()?, &text[end..]))
}

/// Why a dump cannot be restored with these programs.
#[must_use]
pub fn objection(dump: Option<Version>, psql: Version, server: Version) -> Option<String> {
    if psql.major < server.major {
        return Some(format!(
            "psql {psql} is older than the server ({server}): install postgresql-client-{}",
            server.major
        ));
    }
    if dump.is_some_and(Version::knows_restrict) && !psql.knows_restrict() {
        return Some(format!(
            "psql {psql} does not understand this dump (\\restrict): install its latest update"
        ));
    }
    None
}

/// Why a server may not understand a dump: it comes from a newer server, or a newer `pg_dump` wrote
/// it, which writes for servers of its own version.
#[must_use]
pub fn too_old(from: Version, dump: Option<Version>, server: Version) -> Option<String> {
    let needed = dump.map_or(from.major, |dump| dump.major.max(from.major));
    (server.major < needed).then(|| {
        let wrote = dump.map(|dump| format!(", written by pg_dump {dump}")).unwrap_or_default();
        format!(
            "the dump is from PostgreSQL {from}{wrote}, the server has only {server}: use a server \
             of version {needed} or newer"
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn v(major: u32, minor: u32) -> Version {
        Version { major, minor }
    }

    #[test]
    fn versions_are_found_in_what_programs_print() {
        let find = Version::find;
        assert_eq!(find("psql (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)"), Some(v(15, 18)));
        assert_eq!(find("pg_dump (PostgreSQL) 18beta1"), Some(v(18, 0)));
        assert_eq!(find("no"), None);
        assert_eq!(Version::of_server(150_018), v(15, 18));
    }

    #[test]
    fn psql_must_keep_up_with_server_and_dump() {
        assert_eq!(objection(Some(v(15, 18)), v(15, 18), v(15, 2)), None);
        assert_eq!(objection(Some(v(15, 2)), v(15, 2), v(15, 18)), None);
        assert_eq!(objection(None, v(17, 6), v(15, 18)), None);
        assert!(objection(Some(v(15, 18)), v(15, 2), v(15, 18)).unwrap().contains("restrict"));
        assert!(objection(Some(v(15, 2)), v(15, 18), v(16, 1)).unwrap().contains("client-16"));
    }

    #[test]
    fn a_server_must_keep_up_with_the_old_server_and_with_the_program() {
        assert_eq!(too_old(v(15, 1), Some(v(15, 18)), v(15, 2)), None);
        assert_eq!(too_old(v(15, 1), None, v(16, 0)), None);
        assert!(too_old(v(16, 1), None, v(15, 9)).unwrap().contains("version 16"));
        let newer_program = too_old(v(15, 1), Some(v(17, 6)), v(15, 9)).unwrap();
        assert!(newer_program.contains("pg_dump 17.6") && newer_program.contains("version 17"));
    }
}
