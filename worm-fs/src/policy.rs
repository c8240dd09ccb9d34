//! PURE: says whether a request is allowed. The whole promise is in [`verdict`].
//!
//! It knows no clock, no disk and no FUSE: it is handed what is asked, by whom, and the state of
//! what it is asked of. So a test without a mount can try every case.

pub mod limits;
pub mod name;
pub mod opcode;
pub mod refusal;
pub mod retention;

pub use refusal::Refusal;

/// Everything that a program can ask of a file, a directory or a free name.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Request {
    /// Make and open a new file.
    Create,
    /// Make a directory.
    MakeDirectory,
    /// Make a device, FIFO, socket, or a file by `mknod`.
    MakeNode,
    /// Make a symbolic link.
    Symlink,
    /// Make a hard link to it.
    Link,
    /// Open it for reading only, without truncating.
    OpenToRead,
    /// Open it for writing at its end only: with `O_APPEND`, without `O_TRUNC`.
    OpenToAppend,
    /// Open it in any other way that could change it: for writing, or with `O_TRUNC`.
    OpenToWrite,
    /// Write through a descriptor, by `write`, splice or copy.
    Write,
    /// Change its length through a descriptor, `ftruncate`.
    SetLength,
    /// Change its length by path, `truncate`.
    SetLengthByPath,
    /// Reserve room through a descriptor: `fallocate` with mode 0 or `KEEP_SIZE`.
    Allocate,
    /// Any other mode of `fallocate`: punch, zero, collapse, insert, unshare.
    AllocateOtherwise,
    /// Change mode, owner or times.
    SetAttributes,
    /// Set `user.worm.retain_until`.
    SetRetention,
    /// Set or remove any other extended attribute or ACL.
    SetXattr,
    /// Remove the name of a file.
    Unlink,
    /// Remove a directory.
    RemoveDirectory,
    /// Rename it, or exchange it, or rename something over it.
    Rename,
    /// `BEGIN` on the writing descriptor.
    Begin,
    /// `COMMIT` on the writing descriptor.
    Commit,
    /// `ABORT` on the writing descriptor.
    Abort,
    /// Any other ioctl, `FS_IOC_SETFLAGS` among them.
    OtherIoctl,
}

/// Every [`Request`], for tests and for the table in `docs/semantics.md`.
pub const REQUESTS: [Request; 23] = [
    Request::Create,
    Request::MakeDirectory,
    Request::MakeNode,
    Request::Symlink,
    Request::Link,
    Request::OpenToRead,
    Request::OpenToAppend,
    Request::OpenToWrite,
    Request::Write,
    Request::SetLength,
    Request::SetLengthByPath,
    Request::Allocate,
    Request::AllocateOtherwise,
    Request::SetAttributes,
    Request::SetRetention,
    Request::SetXattr,
    Request::Unlink,
    Request::RemoveDirectory,
    Request::Rename,
    Request::Begin,
    Request::Commit,
    Request::Abort,
    Request::OtherIoctl,
];

/// What a request is asked of.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Target {
    /// The root of the mount.
    Root,
    /// A class directory.
    Class,
    /// A directory inside a class.
    Directory {
        /// Nothing is in it, and nobody is making anything in it.
        empty: bool,
    },
    /// `.incomplete` of a class.
    IncompleteDirectory,
    /// A file.
    File(FileState),
}

/// The life of a file, as far as requests are concerned.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum FileState {
    /// Somebody holds the descriptor that created it.
    Writing {
        /// The request comes through that descriptor.
        by_writer: bool,
    },
    /// Its last close or its `COMMIT` was seen; the seal is on its way to the disk.
    Closing,
    /// A log, a file of an append-only class: it grows at its end, and nothing else changes.
    Appending(Retention),
    /// Sealed: nothing about it changes any more.
    Sealed(Retention),
    /// Never finished, kept under another name for a day.
    Incomplete(Retention),
}

/// Whether a finished file may be removed.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Retention {
    /// Its retention end lies ahead, or its group or `keep_last` keeps it.
    Running,
    /// A hold is on it: it stays until that is lifted.
    Held,
    /// Nothing keeps it any more, but something is in doubt, so nothing goes.
    Frozen,
    /// Nothing keeps it any more.
    Over,
}

/// Every kind of [`Target`], for tests and for the table in `docs/semantics.md`.
pub const TARGETS: [Target; 20] = [
    Target::Root,
    Target::IncompleteDirectory,
    Target::Class,
    Target::Directory { empty: false },
    Target::Directory { empty: true },
    Target::File(FileState::Writing { by_writer: true }),
    Target::File(FileState::Writing { by_writer: false }),
    Target::File(FileState::Closing),
    Target::File(FileState::Appending(Retention::Running)),
    Target::File(FileState::Appending(Retention::Held)),
    Target::File(FileState::Appending(Retention::Frozen)),
    Target::File(FileState::Appending(Retention::Over)),
    Target::File(FileState::Sealed(Retention::Running)),
    Target::File(FileState::Sealed(Retention::Held)),
    Target::File(FileState::Sealed(Retention::Frozen)),
    Target::File(FileState::Sealed(Retention::Over)),
    Target::File(FileState::Incomplete(Retention::Running)),
    Target::File(FileState::Incomplete(Retention::Held)),
    Target::File(FileState::Incomplete(Retention::Frozen)),
    Target::File(FileState::Incomplete(Retention::Over)),
];

/// Who asks. [`verdict`] does not know it: what it refuses, it refuses root as anyone. What the
/// permissions refuse beyond that, the kernel refuses before it asks (`default_permissions`).
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Identity {
    /// User 0.
    Root,
    /// The owner of the file.
    Owner,
    /// Anyone else.
    Other,
}

impl Identity {
    /// Who `uid` is to a file of `owner`.
    #[must_use]
    pub fn of(uid: u32, owner: u32) -> Self {
        match uid {
            0 => Self::Root,
            _ if uid == owner => Self::Owner,
            _ => Self::Other,
        }
    }
}

/// Whether `who` may do what [`verdict`] allows. There is one thing that the permissions of a
/// file do not decide: whether its retention may be lengthened.
///
/// # Errors
/// The [`Refusal`] that the caller is to see.
pub fn verdict_for(who: Identity, request: Request, target: Target) -> Result<(), Refusal> {
    verdict(request, target)?;
    match (request, who) {
        (Request::SetRetention, Identity::Other) => Err(Refusal::NotTheAdmin),
        (_, Identity::Root | Identity::Owner | Identity::Other) => Ok(()),
    }
}

/// Whether `request` is allowed on `target`. For requests that make something, the target is
/// the directory in which it would be made.
///
/// # Errors
/// The [`Refusal`] that the caller is to see.
pub fn verdict(request: Request, target: Target) -> Result<(), Refusal> {
    match target {
        Target::Root | Target::IncompleteDirectory => in_fixed_directory(request),
        Target::Class => in_directory(request, false),
        Target::Directory { empty: false } if request == Request::RemoveDirectory => {
            Err(Refusal::NotEmpty)
        }
        Target::Directory { empty } => in_directory(request, empty),
        Target::File(FileState::Writing { by_writer }) => while_writing(request, by_writer),
        Target::File(FileState::Closing) => when_sealed(request, Retention::Running),
        Target::File(FileState::Appending(retention)) => while_appending(request, retention),
        Target::File(FileState::Sealed(retention) | FileState::Incomplete(retention)) => {
            when_sealed(request, retention)
        }
    }
}

/// The root holds classes, which only the configuration makes; `.incomplete` holds what the
/// store puts there.
fn in_fixed_directory(request: Request) -> Result<(), Refusal> {
    match request {
        Request::Create | Request::MakeDirectory => Err(Refusal::NotAClass),
        Request::MakeNode
        | Request::Symlink
        | Request::Link
        | Request::OpenToRead
        | Request::OpenToAppend
        | Request::OpenToWrite
        | Request::Write
        | Request::SetLength
        | Request::SetLengthByPath
        | Request::Allocate
        | Request::AllocateOtherwise
        | Request::SetAttributes
        | Request::SetRetention
        | Request::SetXattr
        | Request::Unlink
        | Request::RemoveDirectory
        | Request::Rename
        | Request::Begin
        | Request::Commit
        | Request::Abort
        | Request::OtherIoctl => in_directory(request, false),
    }
}

/// A directory may be made and, while it is empty, adjusted and removed; never renamed.
fn in_directory(request: Request, empty: bool) -> Result<(), Refusal> {
    match request {
        Request::Create | Request::MakeDirectory | Request::OpenToRead => Ok(()),
        Request::MakeNode | Request::Symlink | Request::Link => Err(Refusal::NoSuchKind),
        Request::RemoveDirectory if empty => Ok(()),
        Request::RemoveDirectory | Request::Rename => Err(Refusal::FixedDirectory),
        Request::SetAttributes if empty => Ok(()),
        Request::SetAttributes | Request::SetRetention => Err(Refusal::FixedDirectory),
        Request::SetXattr => Err(Refusal::Unsupported),
        Request::OtherIoctl | Request::Begin | Request::Commit | Request::Abort => {
            Err(Refusal::NoSuchIoctl)
        }
        Request::OpenToAppend
        | Request::OpenToWrite
        | Request::Write
        | Request::SetLength
        | Request::SetLengthByPath
        | Request::Allocate
        | Request::AllocateOtherwise => Err(Refusal::FixedDirectory),
        Request::Unlink => Err(Refusal::IsADirectory),
    }
}

/// Bytes come through the descriptor that created the file and no other way; paths never take
/// anything away.
fn while_writing(request: Request, by_writer: bool) -> Result<(), Refusal> {
    match request {
        Request::OpenToRead | Request::SetAttributes => Ok(()),
        Request::Write
        | Request::SetLength
        | Request::Allocate
        | Request::Begin
        | Request::Commit
        | Request::Abort
            if by_writer =>
        {
            Ok(())
        }
        Request::Write
        | Request::SetLength
        | Request::Allocate
        | Request::Begin
        | Request::Commit
        | Request::Abort => Err(Refusal::NotTheWriter),
        Request::OpenToAppend | Request::OpenToWrite => Err(Refusal::Busy),
        Request::SetLengthByPath | Request::Unlink | Request::Rename => Err(Refusal::NotTheWriter),
        Request::AllocateOtherwise | Request::SetXattr | Request::SetRetention => {
            Err(Refusal::Unsupported)
        }
        Request::OtherIoctl => Err(Refusal::NoSuchIoctl),
        Request::Link | Request::Symlink | Request::MakeNode => Err(Refusal::NoSuchKind),
        Request::Create | Request::MakeDirectory => Err(Refusal::NameTaken),
        Request::RemoveDirectory => Err(Refusal::NotADirectory),
    }
}

/// As `chattr +a`: bytes come at the end, until the retention is over. All else is as if the file
/// were sealed.
fn while_appending(request: Request, retention: Retention) -> Result<(), Refusal> {
    match request {
        Request::OpenToAppend | Request::Write => match retention {
            Retention::Running | Retention::Held => Ok(()),
            Retention::Frozen | Retention::Over => Err(Refusal::Sealed),
        },
        Request::OpenToWrite
        | Request::SetLength
        | Request::SetLengthByPath
        | Request::Allocate
        | Request::AllocateOtherwise
        | Request::SetAttributes
        | Request::SetXattr
        | Request::Rename
        | Request::Begin
        | Request::Commit
        | Request::Abort => Err(Refusal::AppendOnly),
        Request::OpenToRead
        | Request::SetRetention
        | Request::Unlink
        | Request::OtherIoctl
        | Request::Link
        | Request::Symlink
        | Request::MakeNode
        | Request::Create
        | Request::MakeDirectory
        | Request::RemoveDirectory => when_sealed(request, retention),
    }
}

/// Nothing changes. After the retention end the name may be removed, and still nothing changes.
fn when_sealed(request: Request, retention: Retention) -> Result<(), Refusal> {
    match request {
        Request::OpenToRead => Ok(()),
        // Whether it really lengthens is for `retention::extend` to say.
        Request::SetRetention => Ok(()),
        Request::Unlink => match retention {
            Retention::Over => Ok(()),
            Retention::Running => Err(Refusal::Retained),
            Retention::Held => Err(Refusal::Held),
            Retention::Frozen => Err(Refusal::Frozen),
        },
        Request::OpenToAppend
        | Request::OpenToWrite
        | Request::Write
        | Request::SetLength
        | Request::SetLengthByPath
        | Request::Allocate
        | Request::AllocateOtherwise
        | Request::SetAttributes
        | Request::SetXattr
        | Request::Rename
        | Request::Begin
        | Request::Commit
        | Request::Abort => Err(Refusal::Sealed),
        Request::OtherIoctl => Err(Refusal::NoSuchIoctl),
        Request::Link | Request::Symlink | Request::MakeNode => Err(Refusal::NoSuchKind),
        Request::Create | Request::MakeDirectory => Err(Refusal::NameTaken),
        Request::RemoveDirectory => Err(Refusal::NotADirectory),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What may ever be asked of a finished file: reading, lengthening, and removal at its time.
    #[test]
    fn a_sealed_file_allows_reading_and_nothing_that_changes_it() {
        for target in TARGETS {
            let kept = match target {
                Target::File(FileState::Sealed(retention) | FileState::Incomplete(retention)) => {
                    retention != Retention::Over
                }
                Target::File(FileState::Closing) => true,
                Target::File(FileState::Writing { .. } | FileState::Appending(_))
                | Target::Root
                | Target::Class
                | Target::Directory { .. }
                | Target::IncompleteDirectory => continue,
            };
            for request in REQUESTS {
                let harmless = matches!(request, Request::OpenToRead | Request::SetRetention);
                let at_its_time = request == Request::Unlink && !kept;
                let allowed = verdict(request, target).is_ok();
                assert_eq!(allowed, harmless || at_its_time, "{request:?} on {target:?}");
            }
        }
    }

    #[test]
    fn root_is_refused_as_anyone() {
        for (request, target) in REQUESTS.into_iter().flat_map(|r| TARGETS.map(|t| (r, t))) {
            let [root, owner, other] = [Identity::Root, Identity::Owner, Identity::Other]
                .map(|who| verdict_for(who, request, target));
            assert_eq!((root, owner), (verdict(request, target), root), "{request:?} {target:?}");
            if request == Request::SetRetention && root.is_ok() {
                assert_eq!(other, Err(Refusal::NotTheAdmin));
            } else {
                assert_eq!(other, root, "{request:?} {target:?}");
            }
        }
        assert_eq!(Identity::of(0, 7), Identity::Root);
        assert_eq!(Identity::of(7, 7), Identity::Owner);
        assert_eq!(Identity::of(8, 7), Identity::Other);
    }

    #[test]
    fn retention_over_adds_removal_and_nothing_else() {
        for request in REQUESTS {
            let running = verdict(request, Target::File(FileState::Sealed(Retention::Running)));
            let over = verdict(request, Target::File(FileState::Sealed(Retention::Over)));
            if request == Request::Unlink {
                assert_eq!((running, over), (Err(Refusal::Retained), Ok(())));
            } else {
                assert_eq!(running, over, "{request:?}");
            }
        }
    }

    #[test]
    fn a_log_takes_bytes_at_its_end_until_it_is_over_and_nothing_else() {
        for retention in [Retention::Running, Retention::Held, Retention::Frozen, Retention::Over] {
            let (log, sealed) = (FileState::Appending(retention), FileState::Sealed(retention));
            for request in REQUESTS {
                let answer = verdict(request, Target::File(log));
                if matches!(request, Request::OpenToAppend | Request::Write) {
                    let open = matches!(retention, Retention::Running | Retention::Held);
                    assert_eq!(answer.is_ok(), open, "{request:?}");
                } else {
                    let as_sealed = verdict(request, Target::File(sealed));
                    assert_eq!(answer.is_ok(), as_sealed.is_ok(), "{request:?}, {retention:?}");
                }
            }
        }
    }

    #[test]
    fn no_path_takes_anything_from_an_open_file() {
        let open = Target::File(FileState::Writing { by_writer: false });
        for request in REQUESTS {
            let harmless = matches!(request, Request::OpenToRead | Request::SetAttributes);
            assert_eq!(verdict(request, open).is_ok(), harmless, "{request:?}");
        }
        assert_eq!(verdict(Request::OpenToWrite, open), Err(Refusal::Busy));
    }

    #[test]
    fn no_directory_is_ever_renamed_and_none_with_something_in_it_is_changed() {
        let all = [
            Target::Root,
            Target::Class,
            Target::IncompleteDirectory,
            Target::Directory { empty: false },
            Target::Directory { empty: true },
        ];
        for target in all {
            assert!(verdict(Request::Rename, target).is_err());
            let empty = target == Target::Directory { empty: true };
            assert_eq!(verdict(Request::RemoveDirectory, target).is_ok(), empty, "{target:?}");
            assert_eq!(verdict(Request::SetAttributes, target).is_ok(), empty, "{target:?}");
        }
    }

    #[test]
    fn files_are_made_in_classes_only() {
        assert!(verdict(Request::Create, Target::Class).is_ok());
        assert!(verdict(Request::Create, Target::Directory { empty: true }).is_ok());
        for target in [Target::Root, Target::IncompleteDirectory] {
            assert_eq!(verdict(Request::Create, target), Err(Refusal::NotAClass));
            assert_eq!(verdict(Request::MakeDirectory, target), Err(Refusal::NotAClass));
        }
    }
}
