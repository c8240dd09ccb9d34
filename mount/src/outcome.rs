//! How a command ends: a stable number, and one line when it failed.

use std::fmt::Display;
use std::io::Write as _;
use std::process::ExitCode;

use worm_fs::store::OpenError;

/// The numbers are an interface: scripts, units and alerts read them.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[repr(u8)]
pub(crate) enum Exit {
    /// It failed in a way that no other number names.
    Failed = 1,
    /// The arguments or the configuration make no sense.
    Usage = 2,
    /// Something that must be there first is not; nothing was changed.
    Preflight = 4,
    /// What was named is not there.
    NotFound = 6,
    /// Another daemon serves the store, or files are open.
    Busy = 7,
    /// The store is not what its ledger says.
    Verification = 9,
    /// The place is not write-once.
    NotWriteOnce = 10,
}

impl Exit {
    /// What a process ended with, or a line of ours names.
    pub(crate) fn from_number(number: &str) -> Self {
        number.parse().map_or(Self::Failed, Self::of)
    }

    /// The exit that a number stands for.
    pub(crate) fn of(number: u8) -> Self {
        let all = [
            Self::Usage,
            Self::Preflight,
            Self::NotFound,
            Self::Busy,
            Self::Verification,
            Self::NotWriteOnce,
        ];
        all.into_iter().find(|exit| *exit as u8 == number).unwrap_or(Self::Failed)
    }
}

/// Why a command failed.
#[derive(Debug)]
pub(crate) struct Failure {
    /// The process's exit code.
    pub(crate) exit: Exit,
    /// One line for the user.
    pub(crate) message: String,
}

/// What every command returns.
pub(crate) type Outcome<T = ()> = Result<T, Failure>;

impl Failure {
    pub(crate) fn new(exit: Exit, message: impl Display) -> Self {
        Self { exit, message: message.to_string() }
    }

    /// A line for another process of ours: the number and the message.
    pub(crate) fn line(&self) -> String {
        format!("{} {}", self.exit as u8, self.message.replace('\n', " "))
    }

    /// Says what was being done when something failed.
    pub(crate) fn doing<E: Display>(doing: impl Display) -> impl FnOnce(E) -> Self {
        move |error| Self::new(Exit::Failed, format_args!("cannot {doing}: {error}"))
    }
}

impl From<OpenError> for Failure {
    fn from(error: OpenError) -> Self {
        let exit = match &error {
            OpenError::Disk { .. } => Exit::Failed,
            OpenError::NotAStore(_) => Exit::NotFound,
            OpenError::NotEmpty { .. } => Exit::Preflight,
            OpenError::Class(_) => Exit::Usage,
            OpenError::Witness { .. } => Exit::Usage,
            OpenError::Busy(_) => Exit::Busy,
            OpenError::Newer { .. } | OpenError::Key { .. } => Exit::Preflight,
            OpenError::Damaged { .. } => Exit::Verification,
        };
        Self::new(exit, error)
    }
}

/// Prints what failed and gives the exit code.
pub(crate) fn report(done: Outcome) -> ExitCode {
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            complain(&failure.message);
            ExitCode::from(failure.exit as u8)
        }
    }
}

/// Prints what failed. With standard error closed there is nobody to tell.
pub(crate) fn complain(message: &str) {
    drop(writeln!(std::io::stderr(), "worm: {message}"));
}

/// Prints a line on standard output. A reader that went away is not a failure.
pub(crate) fn say(line: impl Display) {
    drop(writeln!(std::io::stdout(), "{line}"));
}
