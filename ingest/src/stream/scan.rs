//! PURE: reads a plain SQL dump as it flows by: which tables it holds, how many rows, and whether
//! it reached its end.
//!
//! Outside COPY blocks the dump is SQL, and function bodies, views, comments and large objects may
//! contain any text, also lines that look like `COPY x FROM stdin;` or like the end of a dump. So
//! the scanner knows what a string, a quoted name, a dollar quote and a comment is, and looks for
//! COPY only where a statement begins. Should it ever lose its place, it fails safe: it does not
//! see the end of the dump as such, and the backup is refused.

use std::mem;

use super::copy::Rows;
use super::copy::header;
use super::lexeme::AfterDollar;
use super::lexeme::BlockComment;
use super::lexeme::Dollar;
use super::lexeme::LONGEST_LINE;
use super::lexeme::Line;
use super::lexeme::Quote;
use super::lexeme::is_name;
use crate::table::TableName;

/// The last comment of every whole dump.
const TRAILER: &[u8] = b"-- PostgreSQL database dump complete";
/// No COPY header is longer: 1600 columns with names of 63 quoted bytes each.
const LONGEST_HEADER: usize = 1024 * 1024;
/// How a large object is made, and how its content begins: each a statement of its own.
const LARGE_OBJECT_MADE: &[u8] = b"SELECT pg_catalog.lo_create(";
const LARGE_OBJECT_FILLED: &[u8] = b"SELECT pg_catalog.lo_open(";
/// So much of a statement tells these.
const HEAD: usize = LARGE_OBJECT_MADE.len();

/// One COPY block of the dump.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Block {
    /// The table that the rows go into.
    pub(crate) name: TableName,
    /// How many rows.
    pub(crate) rows: u64,
}

/// What went by.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct Report {
    /// Length of the dump.
    pub(crate) bytes: u64,
    /// Its COPY blocks, in order.
    pub(crate) blocks: Vec<Block>,
    /// How many large objects are made.
    pub(crate) large_objects: u64,
    /// Of how many large objects the content begins.
    pub(crate) large_object_contents: u64,
    /// The end of the dump was seen, and nothing but its closing lines after it.
    pub(crate) complete: bool,
    /// The table in whose rows the dump broke off.
    pub(crate) broken_off_in: Option<TableName>,
    /// What no `pg_dump` writes: a strange COPY, or a command that `psql` would obey.
    pub(crate) unreadable: Option<String>,
}

/// Where the scanner is. Everything needed to go on with the next piece is in here.
#[derive(Debug)]
enum Place {
    Sql,
    /// After one `-` or `/`, which may begin a comment.
    Mark(u8),
    Quote(Quote),
    Dollar(Dollar),
    Comment(Line),
    BlockComment(BlockComment),
    /// A line for `psql` itself, such as `\restrict KEY`.
    Command(Line),
    /// After the semicolon of a COPY header.
    CopyHeader(TableName),
    Rows(TableName, Rows),
}

/// The statement being read, as far as it matters.
#[derive(Debug, Default)]
struct Statement {
    started: bool,
    /// Its text, while it may still be a COPY header.
    text: Vec<u8>,
    not_copy: bool,
    /// Its first bytes, whatever it is.
    head: Vec<u8>,
    /// The last two bytes.
    last: [u8; 2],
}

impl Statement {
    fn push(&mut self, bytes: &[u8]) {
        self.started = true;
        match *bytes {
            [] => {}
            [byte] => self.last = [self.last[1], byte],
            [.., before, byte] => self.last = [before, byte],
        }
        let room = HEAD.saturating_sub(self.head.len());
        self.head.extend_from_slice(&bytes[..bytes.len().min(room)]);
        if self.not_copy || bytes.is_empty() {
            return;
        }
        self.text.extend_from_slice(bytes);
        let head = self.text.len().min(5);
        if self.text[..head] != b"COPY "[..head] {
            self.not_copy = true;
            self.text = Vec::new();
        } else if self.text.len() > LONGEST_HEADER {
            self.text.truncate(LONGEST_HEADER);
        }
    }

    /// A comment parts two words.
    fn separate(&mut self) {
        if self.started {
            self.push(b" ");
        }
    }
}

/// Reads a dump piece by piece, however it is cut.
#[derive(Debug)]
pub(crate) struct Scanner {
    place: Place,
    statement: Statement,
    at_line_start: bool,
    /// `\restrict` was seen and `\unrestrict` not yet.
    restricted: bool,
    report: Report,
}

impl Scanner {
    /// At the beginning of a dump.
    pub(crate) fn new() -> Self {
        Self {
            place: Place::Sql,
            statement: Statement::default(),
            at_line_start: true,
            restricted: false,
            report: Report::default(),
        }
    }

    /// Takes the next piece.
    pub(crate) fn take(&mut self, mut bytes: &[u8]) {
        self.report.bytes += bytes.len() as u64;
        while !bytes.is_empty() {
            let taken = self.step(bytes);
            bytes = &bytes[taken..];
        }
    }

    /// The dump has ended here.
    pub(crate) fn finish(mut self) -> Report {
        let at_rest = matches!(self.place, Place::Sql) && !self.statement.started;
        self.report.complete &= at_rest && !self.restricted;
        if let Place::Rows(name, _) | Place::CopyHeader(name) = self.place {
            self.report.broken_off_in = Some(name);
        }
        self.report
    }

    /// Goes on from where it is, and says how many bytes that took. Zero only when the place changes.
    fn step(&mut self, bytes: &[u8]) -> usize {
        match mem::replace(&mut self.place, Place::Sql) {
            Place::Sql => self.sql(bytes[0]),
            Place::Mark(mark) => self.mark(mark, bytes[0]),
            Place::Quote(quote) => {
                let (taken, next) = quote.take(bytes);
                self.statement.push(&bytes[..taken]);
                self.place = next.map_or(Place::Sql, Place::Quote);
                taken
            }
            Place::Dollar(dollar) => {
                let (taken, next) = dollar.take(bytes);
                match next {
                    AfterDollar::Still(dollar) => self.place = Place::Dollar(dollar),
                    AfterDollar::Ended => self.statement.push(b"$"),
                    AfterDollar::Never(text) => self.statement.push(&text),
                }
                taken
            }
            Place::Comment(mut line) => {
                let (taken, ended) = line.take(bytes);
                if ended {
                    self.end_comment(&line);
                } else {
                    self.place = Place::Comment(line);
                }
                taken
            }
            Place::BlockComment(comment) => {
                match comment.take(bytes[0]) {
                    Some(comment) => self.place = Place::BlockComment(comment),
                    None => self.statement.separate(),
                }
                1
            }
            Place::Command(mut line) => {
                let (taken, ended) = line.take(bytes);
                if ended {
                    self.end_command(&line);
                } else {
                    self.place = Place::Command(line);
                }
                taken
            }
            Place::CopyHeader(name) if bytes[0] == b'\n' => {
                self.place = Place::Rows(name, Rows::new());
                1
            }
            Place::CopyHeader(name) => {
                self.unreadable(&name.to_string());
                0
            }
            Place::Rows(name, rows) => self.rows(name, rows, bytes),
        }
    }

    /// Rows of a table.
    fn rows(&mut self, name: TableName, mut rows: Rows, bytes: &[u8]) -> usize {
        let Some(taken) = rows.take(bytes) else {
            self.place = Place::Rows(name, rows);
            return bytes.len();
        };
        self.report.blocks.push(Block { name, rows: rows.count });
        self.at_line_start = true;
        taken
    }

    /// One byte of plain SQL.
    fn sql(&mut self, byte: u8) -> usize {
        let started = self.statement.started;
        if !started && byte.is_ascii_whitespace() {
            self.at_line_start = byte == b'\n';
            return 1;
        }
        let [before_last, last] = self.statement.last;
        match byte {
            b'-' | b'/' => {
                self.place = Place::Mark(byte);
                return 1;
            }
            b'\\' if !started && self.at_line_start => {
                self.place = Place::Command(Line { beside: false, text: vec![byte] });
                return 1;
            }
            // `psql` obeys commands in the middle of a statement and of a line as well.
            b'\\' => self.unreadable("a backslash outside of texts and rows"),
            b';' => {
                self.end_statement();
                return 1;
            }
            b'$' if !is_name(last) => {
                self.begin_statement();
                self.place = Place::Dollar(Dollar::new());
                return 1;
            }
            b'\'' => {
                let escapes = matches!(last, b'e' | b'E') && !is_name(before_last);
                self.place = Place::Quote(Quote::Text { escapes, after_backslash: false });
            }
            b'"' => self.place = Place::Quote(Quote::Name),
            _ => {}
        }
        self.begin_statement();
        self.statement.push(&[byte]);
        1
    }

    /// The byte after a `-` or a `/`.
    fn mark(&mut self, mark: u8, byte: u8) -> usize {
        match (mark, byte) {
            (b'-', b'-') => {
                // Only a comment that stands alone can be the last one of the dump.
                let beside = self.statement.started || !self.at_line_start;
                self.place = Place::Comment(Line { beside, text: b"--".to_vec() });
                1
            }
            (b'/', b'*') => {
                self.place = Place::BlockComment(BlockComment::new());
                self.at_line_start = false;
                1
            }
            _ => {
                self.begin_statement();
                self.statement.push(&[mark]);
                0
            }
        }
    }

    /// Whatever begins after the trailer means that the dump was not at its end.
    fn begin_statement(&mut self) {
        self.statement.started = true;
        self.report.complete = false;
    }

    fn end_statement(&mut self) {
        let statement = mem::take(&mut self.statement);
        self.report.complete = false;
        self.at_line_start = false;
        self.report.large_objects += u64::from(statement.head.starts_with(LARGE_OBJECT_MADE));
        self.report.large_object_contents +=
            u64::from(statement.head.starts_with(LARGE_OBJECT_FILLED));
        if statement.not_copy || statement.text.is_empty() {
            return;
        }
        match header(&statement.text) {
            Some(name) => self.place = Place::CopyHeader(name),
            None => self.unreadable(&String::from_utf8_lossy(&statement.text)),
        }
    }

    fn end_comment(&mut self, line: &Line) {
        if !line.beside && line.text == TRAILER {
            self.report.complete = true;
        }
        self.statement.separate();
        self.at_line_start = true;
    }

    fn end_command(&mut self, line: &Line) {
        match (key(line, b"\\restrict "), key(line, b"\\unrestrict ")) {
            (true, _) => self.restricted = true,
            (_, true) => self.restricted = false,
            _ => self.unreadable(&String::from_utf8_lossy(&line.text)),
        }
        self.at_line_start = true;
    }

    fn unreadable(&mut self, what: &str) {
        if self.report.unreadable.is_none() {
            self.report.unreadable = Some(what.chars().take(80).collect());
        }
    }
}

/// Whether a line is this command with a key and nothing else: another command could follow it.
fn key(line: &Line, command: &[u8]) -> bool {
    let key = line.text.strip_prefix(command).unwrap_or_default();
    let whole = line.text.len() < LONGEST_LINE;
    whole && !key.is_empty() && key.iter().all(u8::is_ascii_alphanumeric)
}

#[cfg(test)]
mod tests;
