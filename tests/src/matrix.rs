//! Every way known to us to change a file, its name, or what lies above it, as a table. The
//! program `try-changes` goes through it as some user on some file; the system tests judge what
//! it reports.
//!
//! A row says what a finished file answers. Where that is success, it says why it is harmless.

pub mod field;
pub mod look;
pub mod raw;

mod attributes;
mod beside;
mod bytes;
mod flags;
mod memory;
mod names;
mod open;
mod tools;
mod writer;
mod xattrs;

use rustix::io::Errno;
use serde_json::Value;
use serde_json::json;

use crate::session::Result;
use field::Field;
use field::Ground;

/// What is tried, and what is to be answered.
#[derive(Debug)]
pub struct Row {
    /// What is tried, in a few words. No two rows have the same.
    pub what: &'static str,
    /// Tries it.
    pub call: fn(&Field) -> Result<()>,
    /// What a finished file answers: one of these.
    pub answers: &'static [Errno],
    /// What its owner is answered besides, who is not root.
    pub to_owner: &'static [Errno],
    /// Why success changes nothing, where success is an answer.
    pub harmless: Option<&'static str>,
    /// What it needs to be tried at all.
    pub needs: Needs,
}

/// What a row needs.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Needs {
    /// The file and its name.
    Nothing,
    /// The descriptor that created the file, still open.
    Writer,
    /// To be root.
    Root,
    /// Not to be root: root may do this, and there is no point in asking.
    NotRoot,
    /// To be root, on a mount of ours: on a plain file it would change the machine.
    RootOnWorm,
}

/// What the rows of a table have in common.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Theme {
    /// Opening.
    Open,
    /// Bytes, by path and by descriptors that cannot write.
    Bytes,
    /// Bytes, by the descriptor that created the file.
    Writer,
    /// Mappings.
    Memory,
    /// Names.
    Names,
    /// Mode, owner, times.
    Attributes,
    /// Extended attributes and ACLs.
    Xattrs,
    /// Flags and other ioctls.
    Flags,
    /// What is done beside a file.
    Beside,
    /// Programs that everybody has.
    Tools,
}

/// The life of the file under attack.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum State {
    /// A plain file on a plain file system: there the rows must work.
    Plain,
    /// Being written by somebody else.
    Writing,
    /// Closed, its seal not on the disk yet.
    Closing,
    /// Sealed by its last close.
    Sealed,
    /// Sealed by `COMMIT`; the descriptor is still open.
    Committed,
    /// Past its retention end.
    Expired,
    /// Closed without `COMMIT` after `BEGIN`.
    Incomplete,
    /// Given up by `ABORT`; the descriptor is still open.
    Aborted,
    /// Sealed, and approached through the read-only view.
    Viewed,
}

/// Every [`State`], for the command line.
pub const STATES: [State; 9] = [
    State::Plain,
    State::Writing,
    State::Closing,
    State::Sealed,
    State::Committed,
    State::Expired,
    State::Incomplete,
    State::Aborted,
    State::Viewed,
];

/// Every row, by theme.
pub const TABLE: &[(Theme, &[Row])] = &[
    (Theme::Open, open::ROWS),
    (Theme::Bytes, bytes::ROWS),
    (Theme::Writer, writer::ROWS),
    (Theme::Memory, memory::ROWS),
    (Theme::Names, names::ROWS),
    (Theme::Attributes, attributes::ROWS),
    (Theme::Xattrs, xattrs::ROWS),
    (Theme::Flags, flags::ROWS),
    (Theme::Beside, beside::ROWS),
    (Theme::Tools, tools::ROWS),
];

/// The answer of the file system.
const PERM: &[Errno] = &[Errno::PERM];
/// The kernel's answer to a descriptor that cannot write.
const BADF: &[Errno] = &[Errno::BADF];

impl Row {
    const fn new(
        what: &'static str,
        answers: &'static [Errno],
        call: fn(&Field) -> Result<()>,
    ) -> Self {
        Self { what, call, answers, to_owner: &[], harmless: None, needs: Needs::Nothing }
    }

    /// A row that the file system itself refuses.
    const fn refused(what: &'static str, call: fn(&Field) -> Result<()>) -> Self {
        Self::new(what, PERM, call)
    }

    /// A row that may succeed, and why that changes nothing.
    const fn harmless(
        what: &'static str,
        why: &'static str,
        call: fn(&Field) -> Result<()>,
    ) -> Self {
        Self { harmless: Some(why), ..Self::new(what, &[], call) }
    }

    const fn harmless_because(self, why: &'static str) -> Self {
        Self { harmless: Some(why), answers: &[], ..self }
    }

    const fn and_owner(self, to_owner: &'static [Errno]) -> Self {
        Self { to_owner, ..self }
    }

    const fn or(self, answers: &'static [Errno]) -> Self {
        Self { answers, ..self }
    }

    const fn needs(self, needs: Needs) -> Self {
        Self { needs, ..self }
    }

    /// Whether it can be tried on a file in this state by this user.
    #[must_use]
    pub fn applies(&self, theme: Theme, state: State, is_root: bool) -> bool {
        let programs = theme == Theme::Tools;
        let here = match state {
            State::Plain => self.needs != Needs::RootOnWorm,
            // A program that falls back to removing an expired file may do so. While a seal
            // waits for its disk, so would a program that makes files.
            State::Expired => !programs && !self.removes(),
            // By path a committed file is as a sealed one, and an aborted one as incomplete.
            State::Closing | State::Committed | State::Aborted => !programs,
            State::Writing | State::Sealed | State::Incomplete | State::Viewed => true,
        };
        let kept = matches!(state, State::Plain | State::Committed | State::Aborted);
        let able = match self.needs {
            Needs::Nothing => true,
            Needs::Writer => kept,
            Needs::Root | Needs::RootOnWorm => is_root,
            Needs::NotRoot => !is_root,
        };
        here && able
    }

    /// Whether it asks for no more than the removal of the file.
    #[must_use]
    pub fn removes(&self) -> bool {
        self.what.contains("unlink")
    }
}

/// What one row did.
#[derive(Debug)]
pub struct Report {
    /// The row.
    pub what: String,
    /// The errno; 0 for success.
    pub errno: i32,
    /// What is not as it was.
    pub changed: Vec<String>,
    /// How it was and how it is.
    pub details: String,
}

impl Report {
    /// Reads a line of the program.
    ///
    /// # Panics
    /// When it is none.
    #[must_use]
    pub fn parse(line: &str) -> Self {
        let value: Value = serde_json::from_str(line).expect("a line of the program");
        let changed = value["changed"].as_array().expect("a list");
        Self {
            what: value["what"].as_str().expect("text").to_owned(),
            errno: value["errno"].as_i64().and_then(|e| i32::try_from(e).ok()).expect("a number"),
            details: value["details"].as_str().expect("text").to_owned(),
            changed: changed.iter().map(|c| c.as_str().expect("text").to_owned()).collect(),
        }
    }
}

/// Goes through the table on a file in `state` and hands out a line for each row.
///
/// `ready` is called where the state needs help from outside; it returns when that was given.
///
/// # Panics
/// When the file cannot be brought into this state.
pub fn try_all(ground: &Ground, state: State, ready: &mut dyn FnMut(), say: &dyn Fn(&Value)) {
    let is_root = rustix::process::geteuid().is_root();
    let rows = TABLE.iter().flat_map(|(theme, rows)| rows.iter().map(move |row| (*theme, row)));
    let rows = rows.filter(|(theme, row)| row.applies(*theme, state, is_root));
    let lasting = (state != State::Plain).then(|| Field::new(ground, state, ready, true));
    let mut last = lasting.as_ref().map(look::look);
    for (number, (_, row)) in rows.enumerate() {
        let fresh;
        let field = match &lasting {
            Some(field) => field,
            // What a row changes is no ground for the next.
            None => {
                let root = ground.root.join(number.to_string());
                std::fs::create_dir(&root).expect("make a directory for the row");
                let ground = Ground { root, ..ground.clone() };
                let keep = row.needs == Needs::Writer;
                fresh = Field::new(&ground, state, ready, keep);
                &fresh
            }
        };
        let before = last.take().unwrap_or_else(|| look::look(field));
        let answer = (row.call)(field);
        let after = look::look(field);
        let changed = look::differences(&before, &after);
        let errno = answer.map_or_else(Errno::raw_os_error, |()| 0);
        let details = look::details(&before, &after);
        say(&json!({
            "what": row.what, "errno": errno, "changed": changed, "details": details,
        }));
        last = lasting.is_some().then_some(after);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_row_says_what_is_to_come_and_no_two_are_alike() {
        let mut seen = BTreeSet::new();
        for row in TABLE.iter().flat_map(|(_, rows)| *rows) {
            assert!(seen.insert(row.what), "{} twice", row.what);
            let says = !row.answers.is_empty() || row.harmless.is_some_and(|why| !why.is_empty());
            assert!(says, "{} has neither an answer nor a reason", row.what);
        }
    }
}
