//! How the program ends. The numbers are an interface: cron jobs and alerts read them.

use std::process::ExitCode;

/// The exit codes. A caller must take a number it does not know for a failure.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[repr(u8)]
pub enum Exit {
    /// The backup is sealed, checked, and has its manifest.
    Done = 0,
    /// It failed; nothing that could be taken for a backup was left.
    Failed = 1,
    /// The command line or the configuration makes no sense.
    Usage = 2,
    /// Some backups are good, others or something beside them failed.
    Partial = 3,
    /// A check before the start said no; nothing was written.
    Preflight = 4,
    /// Stopped by a signal.
    Cancelled = 5,
    /// There is no such backup, or no database is called so.
    NotFound = 6,
    /// Another run is under way.
    Busy = 7,
    /// The database did not answer.
    Unreachable = 8,
    /// The sealed file is not what was written, or nobody says how long it is kept.
    Verification = 9,
    /// The target directory is not write-once, or its mount is down or went away.
    NotWriteOnce = 10,
}

impl Exit {
    /// The number itself.
    #[must_use]
    pub fn number(self) -> u8 {
        self as u8
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.number())
    }
}

/// The table that `--help` prints.
pub const EXIT_CODES: &str = "\
Exit codes:
   0  the backup is sealed and checked
   1  failed; nothing was left that could be taken for a backup
   2  wrong usage or configuration
   3  some failed: a class or a database is missing, or the backup is
      good and its audit line could not be written, or it is sealed but suspect: it
      does not look like those before it; the messages say what
   4  refused before the start, nothing was written (login refused,
      no fitting pg_dump, audit log not writable)
   5  cancelled by a signal; what was sealed before it stays
   6  there is no such class, database or backup
   7  another run is under way for the same database
   8  the database cannot be reached: try again later
   9  the sealed file differs from what was written, or the mount
      does not tell until when it keeps it: look at once
  10  the target is not write-once, or its mount is down or went away
Take any other number for a failure.";
