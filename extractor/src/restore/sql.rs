//! PURE: takes the transaction commands out of a plain dump, so that all of it is one transaction.
//!
//! `pg_dump` puts `BEGIN;` and `COMMIT;` lines of its own around large objects. Inside the one
//! transaction of a restore that `COMMIT;` would end it, and a failure afterwards would leave half
//! a database. The same lines may stand in the text of a function or in the rows of a table, where
//! they must stay; so this reads SQL well enough to know strings, quoted names, dollar quotes,
//! comments and COPY data from commands.
//!
//! A backslash outside of all these begins a command to `psql` itself, and `psql` runs programs
//! for whoever asks. `pg_dump` writes only two of them, `\restrict` and `\unrestrict`, which are
//! taken out: the whole restore is restricted by a key of its own. At any other the dump is refused.
//! Everything else passes unchanged. Nothing is buffered but the few bytes of a line that may yet
//! be taken out.

use memchr::memchr;
use memchr::memchr2;

/// The lines that are taken out, when they stand where a command begins.
const TAKEN_OUT: [&[u8]; 2] = [b"BEGIN;\n", b"COMMIT;\n"];
/// What the command that COPY data follows ends with.
const COPY_END: &[u8] = b" FROM stdin";
/// What it begins with.
const COPY_BEGIN: &[u8] = b"COPY ";
/// The line that ends COPY data.
const COPY_DATA_END: &[u8] = b"\\.\n";
/// The commands to `psql` that a dump may hold, each with a key.
const RESTRICTIONS: [&[u8]; 2] = [b"restrict ", b"unrestrict "];
/// Much longer than such a line is.
const RESTRICTION_MAX: usize = 256;

/// Where in the text we are.
#[derive(Debug, Eq, PartialEq)]
enum State {
    /// Between tokens of commands.
    Command,
    /// In a string: `'...'`, or `E'...'` where a backslash takes the next byte along.
    Text { escapes: bool },
    /// Behind a backslash in `E'...'`.
    Escaped,
    /// Behind the quote that ends a string, unless another follows.
    TextEnd { escapes: bool },
    /// In `"..."`. A doubled quote ends it and begins it again, which comes to the same.
    Name,
    /// Behind a `$` that may begin a dollar quote, with the tag so far, `$` included.
    DollarTag(Vec<u8>),
    /// In a dollar quote, with so many bytes of its closing tag seen.
    Dollar { tag: Vec<u8>, seen: usize },
    /// In a comment to the end of the line.
    Line,
    /// In a command to `psql`, with what follows its backslash so far.
    ForPsql(Vec<u8>),
    /// Behind a command to `psql` that no dump holds. There is no way on.
    Foreign,
    /// In `/* */`, so deep.
    Comment { depth: u32 },
    /// In the rows of a COPY, with so many bytes of `\.` seen at the begin of a line.
    Rows { seen: Option<usize> },
}

/// Reads a dump piece by piece.
#[derive(Debug)]
pub struct OneTransaction {
    state: State,
    /// The bytes of a line that is still the beginning of one of [`TAKEN_OUT`].
    held: Vec<u8>,
    /// Whether the next byte is the first of its line.
    line_start: bool,
    /// The first bytes of the present command; empty between commands.
    head: Vec<u8>,
    /// The last bytes of the present command.
    tail: Vec<u8>,
    /// The present line ends a COPY command: rows follow.
    rows_follow: bool,
    /// The two bytes before this one, outside of strings.
    before: [u8; 2],
}

impl Default for OneTransaction {
    fn default() -> Self {
        Self {
            state: State::Command,
            held: Vec::new(),
            line_start: true,
            head: Vec::new(),
            tail: Vec::new(),
            rows_follow: false,
            before: [b'\n'; 2],
        }
    }
}

impl OneTransaction {
    /// Reads the next piece, and appends to `out` what is to be sent on.
    pub fn feed(&mut self, mut input: &[u8], out: &mut Vec<u8>) {
        while !input.is_empty() {
            let used = self.step(input, out);
            input = &input[used..];
        }
    }

    /// Whether the dump holds a command to `psql` that `pg_dump` does not write. Then nothing of
    /// the piece that was read last may be sent on.
    #[must_use]
    pub fn is_foreign(&self) -> bool {
        self.state == State::Foreign
    }

    /// Ends the reading. False if the dump ends within a command, a string or a COPY: then nothing
    /// that is sent behind it would be understood.
    #[must_use]
    pub fn finish(self, out: &mut Vec<u8>) -> bool {
        out.extend_from_slice(&self.held);
        let between = matches!(self.state, State::Command | State::Line);
        between && self.held.is_empty() && self.head.is_empty() && !self.rows_follow
    }

    /// Takes at least one byte, and says how many.
    fn step(&mut self, input: &[u8], out: &mut Vec<u8>) -> usize {
        match &mut self.state {
            State::Command => self.command(input[0], out),
            State::Text { escapes: false } => self.until(memchr(b'\'', input), input, out),
            State::Text { escapes: true } => self.until(memchr2(b'\'', b'\\', input), input, out),
            State::Name => self.until(memchr(b'"', input), input, out),
            State::Line => self.until(memchr(b'\n', input), input, out),
            State::ForPsql(_) => self.for_psql(input[0]),
            State::Foreign => input.len(),
            State::Escaped => {
                out.push(input[0]);
                self.state = State::Text { escapes: true };
                1
            }
            State::TextEnd { escapes } => {
                let escapes = *escapes;
                if input[0] != b'\'' {
                    self.state = State::Command;
                    return self.command(input[0], out);
                }
                out.push(b'\'');
                self.state = State::Text { escapes };
                1
            }
            State::DollarTag(_) => self.dollar_tag(input[0], out),
            State::Dollar { .. } => self.dollar(input, out),
            State::Comment { .. } => self.comment(input[0], out),
            State::Rows { .. } => self.rows(input, out),
        }
    }

    /// One byte between the tokens of commands.
    fn command(&mut self, byte: u8, out: &mut Vec<u8>) -> usize {
        if self.line_start && self.head.is_empty() || !self.held.is_empty() {
            self.held.push(byte);
            if TAKEN_OUT.contains(&self.held.as_slice()) {
                self.held.clear();
                return 1;
            }
            self.line_start = false;
            if TAKEN_OUT.iter().any(|line| line.starts_with(&self.held)) {
                return 1;
            }
            // It became something else: what was held is read as what it is.
            for byte in std::mem::take(&mut self.held) {
                self.token(byte, out);
            }
            return 1;
        }
        self.token(byte, out);
        1
    }

    fn token(&mut self, byte: u8, out: &mut Vec<u8>) {
        if byte == b'\\' {
            let line_start = self.before[1] == b'\n' && self.head.is_empty();
            self.state = if line_start { State::ForPsql(Vec::new()) } else { State::Foreign };
            return;
        }
        out.push(byte);
        self.line_start = byte == b'\n';
        let [before_last, last] = self.before;
        self.before = [last, byte];
        if byte == b'\n' && self.rows_follow {
            self.rows_follow = false;
            self.state = State::Rows { seen: Some(0) };
            return;
        }
        match byte {
            b'\'' => {
                let escapes = matches!(last, b'E' | b'e') && !is_name(before_last);
                self.state = State::Text { escapes };
            }
            b'"' => self.state = State::Name,
            b'$' if !is_name(last) => self.state = State::DollarTag(vec![b'$']),
            b'-' if last == b'-' => self.begin_comment(State::Line),
            b'*' if last == b'/' => self.begin_comment(State::Comment { depth: 1 }),
            b';' => {
                self.rows_follow =
                    self.head.starts_with(COPY_BEGIN) && self.tail.ends_with(COPY_END);
                self.head.clear();
                self.tail.clear();
                return;
            }
            _ => {}
        }
        self.remember(byte);
    }

    /// Keeps the beginning and the end of the present command.
    fn remember(&mut self, byte: u8) {
        let comment = matches!(self.state, State::Line | State::Comment { .. });
        if comment || self.head.is_empty() && byte.is_ascii_whitespace() {
            return;
        }
        if self.head.len() < COPY_BEGIN.len() {
            self.head.push(byte);
        }
        if self.tail.len() == COPY_END.len() {
            let _oldest = self.tail.remove(0);
        }
        self.tail.push(byte);
    }

    /// The first byte of the comment mark was remembered as one of a command; it was none.
    fn begin_comment(&mut self, state: State) {
        self.state = state;
        // Each byte belongs to one mark only: `/*/` does not end what it begins.
        self.before = [b' '; 2];
        if self.head.len() == 1 {
            self.head.clear();
            self.tail.clear();
        }
    }

    /// Passes on what a string, a name or a line holds, to its end if that is in sight.
    fn until(&mut self, end: Option<usize>, input: &[u8], out: &mut Vec<u8>) -> usize {
        let used = end.map_or(input.len(), |at| at + 1);
        out.extend_from_slice(&input[..used]);
        let Some(last) = end.map(|at| input[at]) else { return used };
        self.before = [last; 2];
        self.state = match (&self.state, last) {
            (State::Text { escapes: true }, b'\\') => State::Escaped,
            (State::Text { escapes }, _) => State::TextEnd { escapes: *escapes },
            _ => State::Command,
        };
        self.line_start = last == b'\n';
        used
    }

    fn for_psql(&mut self, byte: u8) -> usize {
        let State::ForPsql(line) = &mut self.state else { return 0 };
        if byte != b'\n' && line.len() < RESTRICTION_MAX {
            line.push(byte);
            return 1;
        }
        let key = RESTRICTIONS.iter().find_map(|begin| line.strip_prefix(*begin));
        let known = key.is_some_and(|key| key.iter().all(u8::is_ascii_alphanumeric));
        self.state = if known && byte == b'\n' { State::Command } else { State::Foreign };
        self.line_start = true;
        1
    }

    fn dollar_tag(&mut self, byte: u8, out: &mut Vec<u8>) -> usize {
        let State::DollarTag(tag) = &mut self.state else { return 0 };
        if byte == b'$' {
            tag.push(byte);
            out.push(byte);
            self.state = State::Dollar { tag: std::mem::take(tag), seen: 0 };
            return 1;
        }
        let digit_first = tag.len() == 1 && byte.is_ascii_digit();
        if is_name(byte) && !digit_first {
            tag.push(byte);
            out.push(byte);
            self.before = [b'$', byte];
            return 1;
        }
        self.state = State::Command;
        self.command(byte, out)
    }

    fn dollar(&mut self, input: &[u8], out: &mut Vec<u8>) -> usize {
        let State::Dollar { tag, seen } = &mut self.state else { return 0 };
        if *seen == 0 {
            let used = memchr(b'$', input).map_or(input.len(), |at| at + 1);
            *seen = usize::from(input[used - 1] == b'$');
            out.extend_from_slice(&input[..used]);
            return used;
        }
        let byte = input[0];
        out.push(byte);
        // A tag has `$` at its ends only, so a mismatch can begin a new match only with `$`.
        *seen = if tag[*seen] == byte { *seen + 1 } else { usize::from(byte == b'$') };
        if *seen == tag.len() {
            self.state = State::Command;
            self.before = [b'$', b' '];
        }
        1
    }

    fn comment(&mut self, byte: u8, out: &mut Vec<u8>) -> usize {
        let State::Comment { depth } = &mut self.state else { return 0 };
        out.push(byte);
        let last = self.before[1];
        self.before = [last, byte];
        match (last, byte) {
            (b'/', b'*') => *depth += 1,
            (b'*', b'/') => *depth -= 1,
            _ => return 1,
        }
        // Each byte belongs to one mark only: `/*/` does not end what it begins.
        self.before = [b' '; 2];
        if *depth == 0 {
            self.state = State::Command;
            self.line_start = false;
        }
        1
    }

    fn rows(&mut self, input: &[u8], out: &mut Vec<u8>) -> usize {
        let State::Rows { seen } = &mut self.state else { return 0 };
        let Some(matched) = *seen else {
            let end = memchr(b'\n', input);
            let used = end.map_or(input.len(), |at| at + 1);
            out.extend_from_slice(&input[..used]);
            *seen = end.map(|_| 0);
            return used;
        };
        let byte = input[0];
        out.push(byte);
        *seen = match (byte == COPY_DATA_END[matched], byte) {
            (true, _) => Some(matched + 1),
            (false, b'\n') => Some(0),
            (false, _) => None,
        };
        if *seen == Some(COPY_DATA_END.len()) {
            self.state = State::Command;
            self.line_start = true;
            self.before = [b'\n'; 2];
        }
        1
    }
}

/// Whether a byte can stand in a name, so that a `$` or a quote behind it begins nothing.
fn is_name(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'$') || byte >= 0x80
}

#[cfg(test)]
mod tests;
