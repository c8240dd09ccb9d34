//! PURE: the parts of SQL whose insides are not SQL: texts, quoted names, dollar quotes, comments.
//!
//! Each takes the next bytes, says how many belong to it, and what it is then; `None` when it ended.

use memchr::memchr;
use memchr::memchr2;

/// Of comments and commands no more is looked at. `\unrestrict` and its key of 63 letters fit.
pub(super) const LONGEST_LINE: usize = 128;

/// Inside quotes.
#[derive(Debug)]
pub(super) enum Quote {
    /// A text. In one written `E'…'` a backslash hides what follows it.
    Text { escapes: bool, after_backslash: bool },
    /// After a quote in a text: its end, or half of a doubled quote.
    TextEnd { escapes: bool },
    /// A name in double quotes. Doubled ones read as two names, which is all the same here.
    Name,
}

impl Quote {
    pub(super) fn take(self, bytes: &[u8]) -> (usize, Option<Self>) {
        match self {
            Self::Text { escapes, after_backslash: true } => {
                (1, Some(Self::Text { escapes, after_backslash: false }))
            }
            Self::Text { escapes: true, .. } => match memchr2(b'\'', b'\\', bytes) {
                Some(at) if bytes[at] == b'\'' => (at + 1, Some(Self::TextEnd { escapes: true })),
                Some(at) => (at + 1, Some(Self::Text { escapes: true, after_backslash: true })),
                None => (bytes.len(), Some(self)),
            },
            Self::Text { escapes: false, .. } => match up_to(b'\'', bytes) {
                (taken, true) => (taken, Some(Self::TextEnd { escapes: false })),
                (taken, false) => (taken, Some(self)),
            },
            Self::TextEnd { escapes } if bytes[0] == b'\'' => {
                (1, Some(Self::Text { escapes, after_backslash: false }))
            }
            Self::TextEnd { .. } => (0, None),
            Self::Name => match up_to(b'"', bytes) {
                (taken, true) => (taken, None),
                (taken, false) => (taken, Some(self)),
            },
        }
    }
}

/// What ends with its line.
#[derive(Debug)]
pub(super) struct Line {
    /// A comment beside a statement; nothing in it matters.
    pub(super) beside: bool,
    /// Its beginning.
    pub(super) text: Vec<u8>,
}

impl Line {
    /// Says how many bytes it takes, and whether it has ended.
    pub(super) fn take(&mut self, bytes: &[u8]) -> (usize, bool) {
        let (taken, ended) = up_to(b'\n', bytes);
        let content = &bytes[..taken - usize::from(ended)];
        let room = LONGEST_LINE.saturating_sub(self.text.len());
        self.text.extend_from_slice(&content[..content.len().min(room)]);
        (taken, ended)
    }
}

/// A block comment, which may hold others.
#[derive(Debug)]
pub(super) struct BlockComment {
    depth: u32,
    last: u8,
}

impl BlockComment {
    /// After its opening mark.
    pub(super) fn new() -> Self {
        Self { depth: 1, last: 0 }
    }

    /// Takes one byte.
    pub(super) fn take(mut self, byte: u8) -> Option<Self> {
        match (self.last, byte) {
            (b'*', b'/') => self.depth -= 1,
            (b'/', b'*') => self.depth += 1,
            _ => return Some(Self { last: byte, ..self }),
        }
        // A byte belongs to one mark only: `/*/` opens and does not close.
        (self.depth > 0).then_some(Self { last: 0, ..self })
    }
}

/// A dollar quote, `$tag$ … $tag$`.
#[derive(Debug)]
pub(super) enum Dollar {
    /// Its opening mark, as far as it was seen.
    Opening(Vec<u8>),
    /// Inside, with so much of its closing mark seen.
    Inside { mark: Vec<u8>, matched: usize },
}

/// What a dollar quote is after some bytes.
#[derive(Debug)]
pub(super) enum AfterDollar {
    /// Not over.
    Still(Dollar),
    /// Over.
    Ended,
    /// It was none: a parameter such as `$1`. This is what looked like a mark.
    Never(Vec<u8>),
}

impl Dollar {
    /// After the first `$`.
    pub(super) fn new() -> Self {
        Self::Opening(vec![b'$'])
    }

    pub(super) fn take(self, bytes: &[u8]) -> (usize, AfterDollar) {
        match self {
            Self::Opening(mut mark) => {
                let byte = bytes[0];
                let digit = byte.is_ascii_digit() && mark.len() > 1;
                if byte != b'$' && !digit && (byte.is_ascii_digit() || !is_name(byte)) {
                    return (0, AfterDollar::Never(mark));
                }
                mark.push(byte);
                let next = if byte == b'$' {
                    Self::Inside { mark, matched: 0 }
                } else {
                    Self::Opening(mark)
                };
                (1, AfterDollar::Still(next))
            }
            Self::Inside { mark, matched } => match close(&mark, matched, bytes) {
                (taken, matched) if matched == mark.len() => (taken, AfterDollar::Ended),
                (taken, matched) => (taken, AfterDollar::Still(Self::Inside { mark, matched })),
            },
        }
    }
}

/// Looks for a closing mark, of which `matched` bytes were seen. A `$` stands only at both ends of
/// it, so after a mismatch the search goes on from the byte that did not fit.
fn close(mark: &[u8], mut matched: usize, bytes: &[u8]) -> (usize, usize) {
    let mut at = 0;
    while at < bytes.len() && matched < mark.len() {
        if matched == 0 {
            let Some(skip) = memchr(b'$', &bytes[at..]) else { return (bytes.len(), 0) };
            at += skip + 1;
            matched = 1;
        } else if bytes[at] == mark[matched] {
            at += 1;
            matched += 1;
        } else {
            matched = 0;
        }
    }
    (at, matched)
}

/// How many bytes up to and with `byte`, and whether it was there.
fn up_to(byte: u8, bytes: &[u8]) -> (usize, bool) {
    memchr(byte, bytes).map_or((bytes.len(), false), |at| (at + 1, true))
}

/// Whether a byte can be part of an unquoted name.
pub(super) fn is_name(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'$') || byte >= 0x80
}
