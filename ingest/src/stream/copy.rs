//! PURE: one COPY block of a plain dump: its header line and the counting of its rows.

use memchr::memchr_iter;
use memchr::memmem;
use memchr::memrchr;

use crate::table::TableName;

/// Reads `COPY schema.table (columns) FROM stdin`, without the semicolon.
///
/// `None` for anything else: `pg_dump` writes no other form.
pub(super) fn header(statement: &[u8]) -> Option<TableName> {
    let rest = statement.strip_prefix(b"COPY ")?;
    let (schema, rest) = identifier(rest)?;
    let (table, rest) = identifier(rest.strip_prefix(b".")?)?;
    // A table without columns has two blanks here and no list.
    let columns = rest.strip_prefix(b" ")?.strip_suffix(b" FROM stdin")?;
    let listed = columns.starts_with(b"(") && columns.ends_with(b")");
    (listed || columns.is_empty()).then_some(TableName { schema, table })
}

/// Takes one identifier, quoted or not, off the front.
fn identifier(bytes: &[u8]) -> Option<(Vec<u8>, &[u8])> {
    let Some(quoted) = bytes.strip_prefix(b"\"") else {
        let end = bytes.iter().position(|byte| matches!(byte, b'.' | b' '))?;
        let (name, rest) = bytes.split_at(end);
        return (!name.is_empty() && !name.contains(&b'"')).then(|| (name.to_vec(), rest));
    };
    let mut name = Vec::new();
    let mut at = 0;
    loop {
        match (quoted.get(at)?, quoted.get(at + 1)) {
            (b'"', Some(b'"')) => {
                name.push(b'"');
                at += 2;
            }
            (b'"', _) => return Some((name, &quoted[at + 1..])),
            (byte, _) => {
                name.push(*byte);
                at += 1;
            }
        }
    }
}

/// Counts rows up to the line `\.`, over any number of pieces.
///
/// COPY writes a newline in a value as `\n` and a backslash as `\\`, so a line is a row and no row
/// is `\.`, whatever the data.
#[derive(Debug)]
pub(super) struct Rows {
    /// Rows so far.
    pub(super) count: u64,
    /// How much of `\.` the current line is so far; `None` when it is an ordinary row.
    matched: Option<u8>,
}

impl Rows {
    pub(super) fn new() -> Self {
        Self { count: 0, matched: Some(0) }
    }

    /// Takes the next bytes. `Some(n)`: the block ended after `n` of them; `None`: it goes on.
    pub(super) fn take(&mut self, bytes: &[u8]) -> Option<usize> {
        let mut at = 0;
        while let Some(matched) = self.matched {
            let byte = *bytes.get(at)?;
            at += 1;
            self.matched = match (matched, byte) {
                (0, b'\\') => Some(1),
                (1, b'.') => Some(2),
                (2, b'\n') => return Some(at),
                (_, b'\n') => {
                    self.count += 1;
                    Some(0)
                }
                _ => None,
            };
        }
        // Inside an ordinary row: the rest goes at the speed of memory.
        let rest = &bytes[at..];
        if let Some(end) = memmem::find(rest, b"\n\\.\n") {
            self.count += newlines(&rest[..=end]);
            return Some(at + end + 4);
        }
        self.count += newlines(rest);
        if let Some(newline) = memrchr(b'\n', rest) {
            self.matched = match &rest[newline + 1..] {
                b"" => Some(0),
                b"\\" => Some(1),
                b"\\." => Some(2),
                _ => None,
            };
        }
        None
    }
}

fn newlines(bytes: &[u8]) -> u64 {
    memchr_iter(b'\n', bytes).count() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(statement: &str, expected: Option<(&str, &str)>) {
        let got = header(statement.as_bytes());
        let expected = expected.map(|(schema, table)| TableName {
            schema: schema.as_bytes().to_vec(),
            table: table.as_bytes().to_vec(),
        });
        assert_eq!(got, expected, "{statement:?}");
    }

    #[test]
    fn headers_as_pg_dump_writes_them_are_read() {
        check("COPY public.t (a, b) FROM stdin", Some(("public", "t")));
        check("COPY public.nocolumns  FROM stdin", Some(("public", "nocolumns")));
        check(
            "COPY \"a.b \"\"c\"\"\".\"t;\nu\" (\"x y\") FROM stdin",
            Some(("a.b \"c\"", "t;\nu")),
        );
        check("COPY public.\"Größe 表\" (id) FROM stdin", Some(("public", "Größe 表")));
    }

    #[test]
    fn other_statements_are_not_headers() {
        check("COPY t (a) FROM stdin", None);
        check("COPY public.t (a) FROM '/etc/passwd'", None);
        check("COPY public.t (a) TO stdout", None);
        check("COPY public.\"t (a) FROM stdin", None);
        check("COPY public. (a) FROM stdin", None);
        check("COPY public.t x FROM stdin", None);
    }

    #[test]
    fn rows_end_only_at_the_terminator_line() {
        for (data, rows) in [
            ("\\.\n", 0),
            ("\n\\.\n", 1),
            ("1\n2\n\\.\n", 2),
            ("\\..\n.\n\\\n\\\\.\nx\\.\n\\.x\n\\.\n", 6),
        ] {
            for cut in 0..data.len() {
                let mut counter = Rows::new();
                assert_eq!(counter.take(&data.as_bytes()[..cut]), None, "{data:?} to {cut}");
                let rest = data.len() - cut;
                assert_eq!(
                    counter.take(&data.as_bytes()[cut..]),
                    Some(rest),
                    "{data:?} from {cut}"
                );
                assert_eq!(counter.count, rows, "{data:?} at {cut}");
            }
        }
    }
}
