//! What can go wrong, and the only place where it becomes an errno.

use std::io;

use rustix::io::Errno;

use crate::policy::Refusal;
use crate::policy::limits::Limit;

/// Why a request failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The rules say no.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// There is nothing of that name or number.
    #[error("there is no such file or directory")]
    NotFound,
    /// A file was used as a directory.
    #[error("not a directory")]
    NotADirectory,
    /// A directory was used as a file.
    #[error("a directory")]
    IsADirectory,
    /// The handle is not one that was given out for this.
    #[error("the handle is not valid for this")]
    BadHandle,
    /// There is no attribute of that name, or not yet.
    #[error("there is no such attribute")]
    NoAttribute,
    /// The seal takes longer than anyone should wait.
    #[error("the seal is not done yet")]
    NotYet,
    /// The store is not serving changes.
    #[error("the store accepts no changes: {0}")]
    Stopped(String),
    /// The disk failed; its own number is kept.
    #[error("{doing}: {source}")]
    Store {
        /// What was being done, a verb phrase.
        doing: &'static str,
        /// What the disk said.
        source: io::Error,
    },
    /// A file is not what the ledger says.
    #[error("the store is damaged: {0}")]
    Corrupt(String),
}

/// What most functions here return.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// Says what was being done when the disk failed, and keeps what the disk said.
    pub fn store<E: Into<io::Error>>(doing: &'static str) -> impl FnOnce(E) -> Self {
        move |source| Self::Store { doing, source: source.into() }
    }

    /// The errno that the caller sees. Two rules hold: a write-once refusal is `EPERM`, as for a
    /// file made immutable with `chattr +i`; and `ENOSYS` is never returned, because the kernel
    /// remembers it and then reports success for calls such as `fsync`.
    #[must_use]
    pub fn errno(&self) -> Errno {
        match self {
            Self::Refused(refusal) => refusal_errno(*refusal),
            Self::NotFound => Errno::NOENT,
            Self::NotADirectory => Errno::NOTDIR,
            Self::IsADirectory => Errno::ISDIR,
            Self::BadHandle => Errno::BADF,
            Self::NoAttribute => Errno::NODATA,
            Self::NotYet => Errno::AGAIN,
            Self::Stopped(_) | Self::Corrupt(_) => Errno::IO,
            // A full disk must look full.
            Self::Store { source, .. } => match Errno::from_io_error(source) {
                Some(Errno::NOSYS) | None => Errno::IO,
                Some(errno) => errno,
            },
        }
    }
}

fn refusal_errno(refusal: Refusal) -> Errno {
    match refusal {
        Refusal::Sealed
        | Refusal::AppendOnly
        | Refusal::Retained
        | Refusal::Held
        | Refusal::Frozen
        | Refusal::NotTheWriter
        | Refusal::FixedDirectory
        | Refusal::NotAClass
        | Refusal::NoSuchKind
        | Refusal::RetentionShortened
        | Refusal::NotTheAdmin => Errno::PERM,
        Refusal::Busy => Errno::BUSY,
        Refusal::TooManyOpen | Refusal::OverLimit(Limit::OpenFiles) => Errno::MFILE,
        Refusal::OverLimit(Limit::FileBytes) => Errno::FBIG,
        Refusal::OverLimit(
            Limit::Bytes
            | Limit::Files
            | Limit::Directories
            | Limit::BytesPerDay
            | Limit::CreatesPerDay,
        ) => Errno::DQUOT,
        Refusal::NoRoom => Errno::NOSPC,
        Refusal::NameTaken => Errno::EXIST,
        Refusal::IsADirectory => Errno::ISDIR,
        Refusal::NotADirectory => Errno::NOTDIR,
        Refusal::NotEmpty => Errno::NOTEMPTY,
        Refusal::Unsupported => Errno::OPNOTSUPP,
        Refusal::NoSuchIoctl => Errno::NOTTY,
        Refusal::ReadOnlyView => Errno::ROFS,
        Refusal::NameTooLong | Refusal::TooDeep => Errno::NAMETOOLONG,
        Refusal::BadName | Refusal::BadValue => Errno::INVAL,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_answers_enosys() {
        let disk = Error::Store { doing: "do it", source: Errno::NOSYS.into() };
        assert_eq!(disk.errno(), Errno::IO);
        let full = Error::Store { doing: "write", source: Errno::NOSPC.into() };
        assert_eq!(full.errno(), Errno::NOSPC);
        assert_eq!(Error::from(Refusal::Sealed).errno(), Errno::PERM);
    }
}
