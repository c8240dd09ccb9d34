//! PURE: of the roles that stand beside a dump, those that a server does not have yet.
//!
//! A role that is there stays as it is, with its password and rights: a restore must not let anybody in
//! who was kept out since, nor lock out who runs it. What is about roles that are missing goes on as
//! it was written. Tablespaces are only named: they need directories, and cannot be undone. Any other
//! statement than those of `pg_dumpall` is refused.

use std::collections::BTreeSet;

/// What `pg_dumpall` sets.
const SET: [&str; 4] = [
    "default_transaction_read_only",
    "client_encoding",
    "standard_conforming_strings",
    "escape_string_warning",
];

/// What is to be done about the roles and tablespaces of a backup.
#[derive(Debug, Default, Eq, PartialEq)]
pub(crate) struct Wanted {
    /// The statements, for the same transaction as the dump.
    pub(crate) sql: Vec<u8>,
    /// The roles that they make.
    pub(crate) made: Vec<String>,
    /// How many are there already.
    pub(crate) there: usize,
    /// Tablespaces besides those of every server.
    pub(crate) tablespaces: Vec<String>,
}

/// A piece of a statement.
#[derive(Clone, Debug, Eq, PartialEq)]
enum Token {
    /// Without quotes: a keyword or a name.
    Word(String),
    /// A name in quotes.
    Name(String),
    /// Anything else.
    Other,
}

impl Token {
    fn is(&self, word: &str) -> bool {
        matches!(self, Self::Word(found) if found == word)
    }

    fn name(&self) -> &str {
        match self {
            Self::Word(name) | Self::Name(name) => name,
            Self::Other => "",
        }
    }
}

/// One statement, with its semicolon.
struct Statement<'a> {
    text: &'a [u8],
    tokens: Vec<Token>,
}

impl Statement<'_> {
    fn begins(&self, words: &[&str]) -> bool {
        words.len() < self.tokens.len()
            && words.iter().zip(&self.tokens).all(|(word, token)| token.is(word))
    }

    /// The token behind the first of these words in a row.
    fn behind(&self, words: &[&str]) -> Option<&Token> {
        let fits = |found: &[Token]| found.iter().zip(words).all(|(token, word)| token.is(word));
        let at = self.tokens.windows(words.len()).position(fits)?;
        self.tokens.get(at + words.len())
    }

    fn has(&self, words: &[&str]) -> bool {
        self.behind(words).is_some()
    }
}

/// Takes from `sql`, as `pg_dumpall` wrote it, what is about roles that are not in `there`.
///
/// # Errors
/// What is wrong with it, in words.
pub(crate) fn wanted(sql: &[u8], there: &BTreeSet<String>) -> Result<Wanted, String> {
    let mut wanted = Wanted::default();
    for statement in statements(sql)? {
        let is_new = |token: &Token| !there.contains(token.name());
        let of_role = |at: usize| statement.tokens.get(at).is_some_and(is_new);
        let keep = if statement.begins(&["CREATE", "ROLE"]) {
            let new = of_role(2);
            match new {
                true => wanted.made.push(statement.tokens[2].name().to_owned()),
                false => wanted.there += 1,
            }
            new
        } else if statement.begins(&["ALTER", "ROLE"]) {
            of_role(2) && !statement.has(&["IN", "DATABASE"])
        } else if statement.begins(&["CREATE", "TABLESPACE"]) {
            wanted.tablespaces.push(statement.tokens[2].name().to_owned());
            false
        } else if statement.begins(&["COMMENT", "ON", "ROLE"]) {
            of_role(3)
        } else if statement.begins(&["SECURITY", "LABEL", "FOR"]) && statement.has(&["ON", "ROLE"])
        {
            statement.behind(&["ON", "ROLE"]).is_some_and(is_new)
        } else if statement.has(&["ON", "TABLESPACE"])
            || statement.begins(&["ALTER", "TABLESPACE"])
            || statement.begins(&["SET", "SESSION"])
            || statement.begins(&["RESET", "SESSION"])
        {
            false
        } else if statement.begins(&["GRANT"]) || statement.begins(&["REVOKE"]) {
            let grantee = statement.behind(&["TO"]).or_else(|| statement.behind(&["FROM"]));
            let grantee = grantee.is_some_and(|token| !token.is("PUBLIC") && is_new(token));
            grantee || (!statement.has(&["ON", "PARAMETER"]) && of_role(1))
        } else if statement.begins(&["SET"]) && SET.contains(&statement.tokens[1].name()) {
            true
        } else {
            let begin: String = String::from_utf8_lossy(statement.text).chars().take(60).collect();
            return Err(format!("it holds a statement that pg_dumpall does not write: {begin}"));
        };
        if keep {
            wanted.sql.extend_from_slice(statement.text);
            wanted.sql.push(b'\n');
        }
    }
    Ok(wanted)
}

/// Parts SQL into statements. Comments and the lines for `psql` that keep it from obeying anything
/// else are left out.
fn statements(sql: &[u8]) -> Result<Vec<Statement<'_>>, String> {
    let mut found = Vec::new();
    let (mut at, mut begin, mut tokens) = (0, None, Vec::new());
    while let Some(byte) = sql.get(at).copied() {
        let rest = &sql[at..];
        let line = || memchr::memchr(b'\n', rest).map_or(rest.len(), |end| end + 1);
        let length = match byte {
            b' ' | b'\t' | b'\n' | b'\r' => 1,
            b'-' if rest.starts_with(b"--") => line(),
            b'\\' if begin.is_none() && is_restriction(&rest[..line()]) => line(),
            b'\\' | b'$' => return Err("it holds what pg_dumpall does not write".to_owned()),
            b';' => {
                if let Some(begin) = begin.take() {
                    let text = &sql[begin..=at];
                    found.push(Statement { text, tokens: std::mem::take(&mut tokens) });
                }
                1
            }
            _ => {
                let _first = begin.get_or_insert(at);
                let (token, length) = token(rest).ok_or("a text in it has no end")?;
                tokens.push(token);
                length
            }
        };
        at += length;
    }
    match begin {
        None => Ok(found),
        Some(_) => Err("it stops in the middle of a statement".to_owned()),
    }
}

/// The token at the beginning, and its length.
fn token(rest: &[u8]) -> Option<(Token, usize)> {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    match rest {
        [b'"', ..] => {
            let end = quoted(rest, b'"', false)?;
            let name = text(&rest[1..end - 1]).replace("\"\"", "\"");
            Some((Token::Name(name), end))
        }
        [b'\'', ..] => Some((Token::Other, quoted(rest, b'\'', false)?)),
        [b'E' | b'e', b'\'', ..] => Some((Token::Other, 1 + quoted(&rest[1..], b'\'', true)?)),
        _ => {
            let is_word =
                |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'_' || *byte >= 0x80;
            match rest.iter().position(|byte| !is_word(byte)).unwrap_or(rest.len()) {
                0 => Some((Token::Other, 1)),
                length => Some((Token::Word(text(&rest[..length])), length)),
            }
        }
    }
}

/// Where the quotes end that begin here. A doubled one is none.
fn quoted(rest: &[u8], quote: u8, escapes: bool) -> Option<usize> {
    let mut at = 1;
    loop {
        match *rest.get(at)? {
            b'\\' if escapes => at += 2,
            byte if byte == quote && rest.get(at + 1) == Some(&quote) => at += 2,
            byte if byte == quote => return Some(at + 1),
            _ => at += 1,
        }
    }
}

/// `\restrict KEY` or `\unrestrict KEY`, which only keep `psql` from obeying others.
fn is_restriction(line: &[u8]) -> bool {
    let key = [&b"\\restrict "[..], b"\\unrestrict "].into_iter();
    let key = key.filter_map(|command| line.strip_prefix(command)).next();
    key.is_some_and(|key| key.trim_ascii_end().iter().all(u8::is_ascii_alphanumeric))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SQL: &str = r#"--
-- PostgreSQL database cluster dump
\restrict abc123
SET default_transaction_read_only = off;
SET client_encoding = 'UTF8';
SET standard_conforming_strings = on;
CREATE ROLE app;
ALTER ROLE app WITH NOSUPERUSER LOGIN PASSWORD 'SCRAM-SHA-256$4096:a;b''c';
COMMENT ON ROLE app IS 'of the app;
CREATE ROLE fake;';
CREATE ROLE "It's TO";
ALTER ROLE "It's TO" WITH LOGIN;
CREATE ROLE postgres;
ALTER ROLE postgres WITH SUPERUSER LOGIN PASSWORD 'SCRAM-SHA-256$4096:old';
ALTER ROLE app SET search_path TO 'a', 'b';
ALTER ROLE app IN DATABASE shop SET work_mem TO '7MB';
GRANT app TO "It's TO" WITH INHERIT TRUE GRANTED BY postgres;
GRANT postgres TO app;
GRANT SET ON PARAMETER work_mem TO app;
GRANT SET ON PARAMETER work_mem TO PUBLIC;
CREATE TABLESPACE fast OWNER app LOCATION E'/x\\''y;';
GRANT ALL ON TABLESPACE fast TO app;
\unrestrict abc123
"#;

    fn of(there: &[&str]) -> Wanted {
        wanted(SQL.as_bytes(), &there.iter().map(|name| (*name).to_owned()).collect()).unwrap()
    }

    #[test]
    fn what_is_missing_is_made_as_it_was() {
        let wanted = of(&["postgres"]);
        let sql = String::from_utf8(wanted.sql).unwrap();
        assert_eq!(wanted.made, ["app", "It's TO"]);
        assert_eq!((wanted.there, &wanted.tablespaces[..]), (1, &["fast".to_owned()][..]));
        let lines: Vec<&str> = sql.lines().collect();
        assert_eq!(lines.len(), 13, "{sql}");
        assert!(sql.contains("PASSWORD 'SCRAM-SHA-256$4096:a;b''c';\n"), "{sql}");
        assert!(sql.contains("GRANT postgres TO app;") && !sql.contains("SUPERUSER LOGIN;"));
        for not in ["ROLE postgres", "TABLESPACE", "IN DATABASE", "PUBLIC", "restrict"] {
            assert!(!sql.contains(not), "{not}: {sql}");
        }
    }

    #[test]
    fn what_is_there_stays_as_it_is() {
        let all = of(&["postgres", "app", "It's TO"]);
        assert_eq!((all.made.len(), all.there), (0, 3));
        let sql = String::from_utf8(all.sql).unwrap();
        assert!(sql.lines().all(|line| line.starts_with("SET ")), "{sql}");
        let sql = String::from_utf8(of(&["postgres", "app"]).sql).unwrap();
        assert!(!sql.contains("ROLE app"), "{sql}");
        assert!(sql.contains("GRANT app TO \"It's TO\""), "{sql}");
    }

    #[test]
    fn anything_else_is_refused() {
        for sql in [
            "DROP ROLE app;",
            "CREATE ROLE",
            "CREATE ROLE a; SELECT 1;",
            "\\! id\n",
            "CREATE ROLE a\\;",
            "DO $$ BEGIN END $$;",
            "COMMENT ON ROLE a IS 'no end;",
            "SET ROLE postgres;",
            "COMMIT;",
        ] {
            assert!(wanted(sql.as_bytes(), &BTreeSet::new()).is_err(), "{sql}");
        }
    }
}
