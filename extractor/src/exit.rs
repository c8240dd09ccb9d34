//! PURE: how the program ends. The numbers are an interface: cron jobs and alerts read them.

/// What became of a run, as a process exit code. A code that is not listed is a failure.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[repr(u8)]
pub enum Exit {
    /// All that was asked for was done.
    Done = 0,
    /// It failed; trying again may help.
    Failed = 1,
    /// The command line or the configuration makes no sense.
    Usage = 2,
    /// Some backups were mirrored, others failed.
    Partly = 3,
    /// Refused before anything was written.
    Refused = 4,
    /// Stopped by a signal. What was half done was undone.
    Cancelled = 5,
    /// A backup, a directory, a class or a database is not there.
    NotFound = 6,
    /// Another run holds the mirror.
    Busy = 7,
    /// The database server or the mount does not answer, or does not let us in.
    Unreachable = 8,
    /// Bytes, rows or the audit log are not what they must be. A person has to look.
    Mismatch = 9,
    /// The source is not a write-once mount.
    NotWriteOnce = 10,
}

impl Exit {
    /// The number for the operating system.
    #[must_use]
    pub fn code(self) -> u8 {
        self as u8
    }
}
