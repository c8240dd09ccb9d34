//! What can go wrong, by what the user does about it, and the exit code of each.

use std::io;
use std::path::PathBuf;

use rustix::io::Errno;

use crate::exit::Exit;

/// The result of most functions here.
pub type Result<T> = std::result::Result<T, Error>;

/// Why a run ended early. Printed once, in `main`.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Arguments or environment to be corrected.
    #[error("{0}")]
    Usage(String),
    /// A precondition does not hold; nothing was written.
    #[error("{0}")]
    Refused(String),
    /// SIGINT or SIGTERM.
    #[error("stopped by a signal: {0}")]
    Cancelled(&'static str),
    /// Something named does not exist.
    #[error("{0}")]
    NotFound(String),
    /// Somebody else is at it.
    #[error("{0}")]
    Busy(String),
    /// A server or a mount that does not answer or does not let us in.
    #[error("{0}")]
    Unreachable(String),
    /// Not the bytes, rows or lines that were promised.
    #[error("{0}")]
    Mismatch(String),
    /// The source has no `user.worm.store`.
    #[error(
        "{} is not a write-once mount: is worm-fs running? (--allow-plain accepts a plain directory)",
        .0.display()
    )]
    NotWriteOnce(PathBuf),
    /// The operating system said no.
    #[error("could not {doing}: {source}")]
    Io {
        /// A verb phrase: "sync the copy of FILE".
        doing: String,
        /// What the system said, with its number.
        source: io::Error,
    },
    /// Any other failure, in words for the user.
    #[error("{0}")]
    Failed(String),
}

impl Error {
    /// Adds what was being done to what the system said. That a mount has died may come to light at
    /// any call that concerns it.
    pub(crate) fn io<E: Into<io::Error>>(doing: impl Into<String>) -> impl FnOnce(E) -> Self {
        let doing = doing.into();
        move |source| {
            let source = source.into();
            if is_one_of(&source, &[Errno::NOTCONN, Errno::CONNABORTED]) {
                return Self::Unreachable(format!(
                    "could not {doing}: the mount is dead ({source}). Mount it again (worm mount), \
                     then run again"
                ));
            }
            Self::Io { doing, source }
        }
    }

    /// The exit code that this error stands for.
    #[must_use]
    pub fn exit(&self) -> Exit {
        match self {
            Self::Usage(_) => Exit::Usage,
            Self::Refused(_) => Exit::Refused,
            Self::Cancelled(_) => Exit::Cancelled,
            Self::NotFound(_) => Exit::NotFound,
            Self::Busy(_) => Exit::Busy,
            Self::Unreachable(_) => Exit::Unreachable,
            Self::Mismatch(_) => Exit::Mismatch,
            Self::NotWriteOnce(_) => Exit::NotWriteOnce,
            Self::Io { .. } | Self::Failed(_) => Exit::Failed,
        }
    }

    /// Whether every further copy would meet the same end: no room, no right to write, or a mount
    /// that is dead.
    pub(crate) fn stops_all_copies(&self) -> bool {
        match self {
            Self::Io { source, .. } => {
                is_one_of(source, &[Errno::NOSPC, Errno::DQUOT, Errno::ROFS])
            }
            Self::Unreachable(_) => true,
            Self::Usage(_)
            | Self::Refused(_)
            | Self::Cancelled(_)
            | Self::NotFound(_)
            | Self::Busy(_)
            | Self::Mismatch(_)
            | Self::NotWriteOnce(_)
            | Self::Failed(_) => false,
        }
    }
}

fn is_one_of(error: &io::Error, errnos: &[Errno]) -> bool {
    errnos.iter().any(|errno| error.raw_os_error() == Some(errno.raw_os_error()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mount_that_died_stops_all_copies_and_says_what_to_do() {
        for errno in [Errno::NOTCONN, Errno::CONNABORTED] {
            let error = Error::io("read from the view")(errno);
            assert_eq!((error.exit(), error.stops_all_copies()), (Exit::Unreachable, true));
            assert!(error.to_string().contains("Mount it again"), "{error}");
        }
        let error = Error::io("read from the view")(Errno::IO);
        assert_eq!((error.exit(), error.stops_all_copies()), (Exit::Failed, false));
    }
}
