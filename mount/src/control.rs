//! The admin's door to a daemon: what goes through it. One question and one answer, each a JSON
//! object on a line, over a unix socket that only root and the daemon's own user may use.

pub(crate) mod answer;
pub(crate) mod client;
pub(crate) mod server;

use std::path::Path;
use std::path::PathBuf;

use serde::Deserialize;
use serde::Serialize;
use worm_fs::policy::name::StorePath;
use worm_fs::report::Status;
use worm_fs::store::pages::Position;

use crate::watch::PlaceNote;

/// The form of the two lines. Another number means: use the `worm` of the daemon's version.
pub(crate) const VERSION: u32 = 1;
/// The longest question in bytes: paths and reasons are much shorter.
pub(crate) const QUESTION_BYTES_MAX: u64 = 64 * 1024;
/// The longest answer in bytes: a page of the ledger, quoted, is the longest there is.
pub(crate) const ANSWER_BYTES_MAX: u64 = 16 << 20;

/// Where a store's daemon listens, unless told otherwise.
pub(crate) fn socket_path(run_directory: &Path, store: &str) -> PathBuf {
    run_directory.join(format!("{store}.sock"))
}

/// What is asked.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub(crate) struct Question {
    /// [`VERSION`].
    pub(crate) version: u32,
    #[serde(flatten)]
    pub(crate) ask: Ask,
}

/// The questions.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[serde(tag = "ask", rename_all = "snake_case")]
pub(crate) enum Ask {
    /// The store at a glance: [`Glance`].
    Status,
    /// Everything about a path: a `Description`, as after every change of a file.
    Describe {
        /// Absent: the root.
        #[serde(default = "StorePath::root", skip_serializing_if = "is_root")]
        path: StorePath,
    },
    /// Both clocks: a `ClockReport`.
    Clock,
    /// What expiry would do now: an `ExpiryPlan`.
    Expiry,
    /// Remove what is over: [`Expired`].
    Expire,
    /// Lines of the ledger: a `Page`.
    Ledger { from: Position },
    /// Put a hold on a file and its group.
    Hold { path: StorePath, hold: String, reason: String },
    /// Lift it.
    LiftHold { path: StorePath, hold: String, reason: String },
    /// End a retention early, in governance mode.
    Release { path: StorePath, reason: String },
    /// Lengthen a retention.
    Extend { path: StorePath, to: Longer, reason: Option<String> },
    /// Move the retention clock on: nothing.
    Credit { credit_ms: i64, reason: String },
}

fn is_root(path: &StorePath) -> bool {
    *path == StorePath::root()
}

/// Up to when a retention is lengthened.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Longer {
    /// To this moment of the system clock, milliseconds since 1970.
    UntilMs(i64),
    /// By so many milliseconds from its end on.
    ByMs(i64),
}

/// What is answered; `T` belongs to what was asked.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub(crate) struct Reply<T> {
    /// [`VERSION`].
    pub(crate) version: u32,
    #[serde(flatten)]
    pub(crate) answer: Answer<T>,
}

/// How it ended.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Answer<T> {
    /// It was done.
    Done(T),
    /// It was refused, or failed.
    Failed {
        /// The exit code that says how.
        exit: u8,
        /// One line for the user.
        message: String,
    },
}

/// To [`Ask::Status`]: a store at a glance, and its daemon.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub(crate) struct Glance {
    #[serde(flatten)]
    pub(crate) status: Status,
    /// What stands where it is mounted.
    #[serde(default)]
    pub(crate) places: Vec<PlaceNote>,
    /// What the daemon has given up.
    #[serde(default)]
    pub(crate) sandbox: String,
}

/// To [`Ask::Expire`].
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub(crate) struct Expired {
    /// How many files were removed.
    pub(crate) removed: usize,
    /// There may be more: ask again.
    pub(crate) more: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_question_is_one_readable_line() {
        let path = StorePath::decode("hourly/a b%0A").unwrap();
        let ask = Ask::Hold { path, hold: "audit-7".into(), reason: "because\n".into() };
        let question = Question { version: VERSION, ask };
        let text = serde_json::to_string(&question).unwrap();
        assert_eq!(
            text,
            r#"{"version":1,"ask":"hold","path":"hourly/a b%0A","hold":"audit-7","reason":"because\n"}"#
        );
        assert_eq!(serde_json::from_str::<Question>(&text).unwrap(), question);
    }
}
