//! PURE: why a request is turned down.

use super::limits::Limit;

/// Why a request is turned down by the rules of the file system, as opposed to by the disk.
///
/// Each has one errno, in `error.rs`, and one line in `docs/semantics.md`.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq, thiserror::Error)]
pub enum Refusal {
    /// The file is sealed, being sealed, or kept as incomplete: nothing about it changes.
    #[error("the file is sealed")]
    Sealed,
    /// The file is a log: bytes come at its end, and nothing else changes.
    #[error("the file takes bytes at its end and nothing else")]
    AppendOnly,
    /// The file or its group has not reached its retention end.
    #[error("the file is under retention")]
    Retained,
    /// A hold is on the file or its group.
    #[error("a hold is on the file")]
    Held,
    /// The file is over, but something is in doubt and nothing goes until that is settled.
    #[error("something is in doubt, so nothing expires: see worm status")]
    Frozen,
    /// A path was used where only the descriptor that writes may act.
    #[error("only the descriptor that writes the file may do this")]
    NotTheWriter,
    /// Somebody else is writing this file.
    #[error("the file is being written")]
    Busy,
    /// The name holds something already.
    #[error("the name is taken")]
    NameTaken,
    /// It is a directory, and only a file can be meant.
    #[error("it is a directory")]
    IsADirectory,
    /// It is a file, and only a directory can be meant.
    #[error("it is not a directory")]
    NotADirectory,
    /// Classes and directories with something in them keep their name and attributes.
    #[error("the directory is fixed")]
    FixedDirectory,
    /// Files live in classes: nothing can be made at the root of the mount or in `.incomplete`.
    #[error("nothing can be made here")]
    NotAClass,
    /// There is something in the directory.
    #[error("the directory is not empty")]
    NotEmpty,
    /// Symbolic links, hard links, devices, FIFOs and sockets do not exist here.
    #[error("only plain files and directories exist here")]
    NoSuchKind,
    /// The operation does not exist here.
    #[error("the operation is not supported")]
    Unsupported,
    /// The ioctl is none of ours.
    #[error("the ioctl is not one of this file system")]
    NoSuchIoctl,
    /// The read-only view never changes.
    #[error("this is the read-only view")]
    ReadOnlyView,
    /// Longer than a name can be.
    #[error("the name is too long")]
    NameTooLong,
    /// Not a name.
    #[error("the name is not valid")]
    BadName,
    /// Deeper than directories may be nested.
    #[error("the directory is nested too deeply")]
    TooDeep,
    /// Retention can be lengthened only, up to the class's limit, and by whom it allows.
    #[error("retention can only be lengthened, within the limit of its class")]
    RetentionShortened,
    /// The value is none that could be meant.
    #[error("the value is not valid")]
    BadValue,
    /// As many files are open for writing as the store allows.
    #[error("too many files are being written")]
    TooManyOpen,
    /// The class has as much of something as its rule allows.
    #[error("the class is at its limit: limits.{0} in worm.toml")]
    OverLimit(Limit),
    /// What is left of the disk is reserved for the ledger.
    #[error("the disk is full, up to the reserve of the ledger")]
    NoRoom,
    /// Only the admin may do this.
    #[error("only the admin may do this")]
    NotTheAdmin,
}

impl Refusal {
    /// Its name in counts, logs and metrics. It is an interface: alerts are built on it.
    #[must_use]
    pub fn reason(self) -> &'static str {
        match self {
            Self::Sealed => "sealed",
            Self::AppendOnly => "append_only",
            Self::Retained => "retained",
            Self::Held => "held",
            Self::Frozen => "frozen",
            Self::NotTheWriter => "not_the_writer",
            Self::Busy => "busy",
            Self::NameTaken => "name_taken",
            Self::IsADirectory => "is_a_directory",
            Self::NotADirectory => "not_a_directory",
            Self::FixedDirectory => "fixed_directory",
            Self::NotAClass => "not_a_class",
            Self::NotEmpty => "not_empty",
            Self::NoSuchKind => "no_such_kind",
            Self::Unsupported => "unsupported",
            Self::NoSuchIoctl => "no_such_ioctl",
            Self::ReadOnlyView => "read_only_view",
            Self::NameTooLong => "name_too_long",
            Self::BadName => "bad_name",
            Self::TooDeep => "too_deep",
            Self::RetentionShortened => "retention_shortened",
            Self::BadValue => "bad_value",
            Self::TooManyOpen => "too_many_open",
            Self::OverLimit(Limit::Bytes) => "over_bytes",
            Self::OverLimit(Limit::FileBytes) => "over_file_bytes",
            Self::OverLimit(Limit::Files) => "over_files",
            Self::OverLimit(Limit::Directories) => "over_directories",
            Self::OverLimit(Limit::OpenFiles) => "over_open_files",
            Self::OverLimit(Limit::BytesPerDay) => "over_bytes_per_day",
            Self::OverLimit(Limit::CreatesPerDay) => "over_creates_per_day",
            Self::NoRoom => "no_room",
            Self::NotTheAdmin => "not_the_admin",
        }
    }
}
