//! What can go wrong, by what the caller should do about it. Printed once, in `main`.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use crate::connect::ConnectError;
use crate::exit::Exit;
use crate::proof::Flaw;
use crate::settings::SettingsError;
use crate::vault::VaultError;

/// Why there is no backup, or why there is one with a blemish.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The command line or a setting makes no sense.
    #[error("{0}")]
    Usage(String),
    /// A setting makes no sense.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// The database's settings make no sense.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// The target directory.
    #[error(transparent)]
    Vault(#[from] VaultError),
    /// Checked before the start.
    #[error(
        "the audit log {} cannot be written ({source}): nothing was done. \
         Make its directory writable, or name another by --audit-log",
        path.display()
    )]
    AuditUnwritable {
        /// The log.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The backup is there and good, its audit line is not.
    #[error(
        "{name} is sealed and good, but its line could not be written to the audit log {} ({source})",
        path.display()
    )]
    AuditLost {
        /// The backup.
        name: String,
        /// The log.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Nobody there, or not now.
    #[error("the database at {server} cannot be reached: {message}")]
    Unreachable {
        /// Where.
        server: String,
        /// What was heard.
        message: String,
    },
    /// It cannot show that it is the server that is meant.
    #[error("the server at {server} is not trusted, and nothing was asked of it: {message}")]
    Untrusted {
        /// Where.
        server: String,
        /// What was heard.
        message: String,
    },
    /// It answered, and said no.
    #[error("the database at {server} refused the login: {message}")]
    LoginRefused {
        /// Where.
        server: String,
        /// What was heard.
        message: String,
    },
    /// It would not answer a question.
    #[error("the database would not say what is in it: {message}")]
    Query {
        /// What was heard.
        message: String,
    },
    /// Nothing is called so.
    #[error(
        "no database is called {wanted} that allows connections and is no template: see \
         `psql --list`, and --dbname, --database, --exclude-database and --all-databases"
    )]
    NoDatabase {
        /// The name or pattern.
        wanted: String,
    },
    /// No client can dump this server.
    #[error(
        "no pg_dump for server version {server} (found: {found}): install a PostgreSQL client at \
         least as new as the server, or name its directory by --client-dir"
    )]
    NoClient {
        /// The server's version.
        server: String,
        /// What there is.
        found: String,
    },
    /// The clients fit the server, but cannot write what is asked for.
    #[error(
        "this format needs pg_dump {needed} or newer (found: {found}): install \
         postgresql-client-{needed}, or choose another --format or --compress"
    )]
    OldClient {
        /// The oldest version that can.
        needed: u32,
        /// What there is.
        found: String,
    },
    /// An archive that nobody can read is not proven.
    #[error("there is no {}: it is needed to prove that a dump of this format is whole", path.display())]
    NoRestorer {
        /// Where it was looked for.
        path: PathBuf,
    },
    /// A part of the rows is no backup.
    #[error(
        "row security would hide rows of {tables} from this user: back up as the owner of the tables, \
         or give it the right to see all (ALTER ROLE ... BYPASSRLS)"
    )]
    RowSecurity {
        /// Which.
        tables: String,
    },
    /// No place for files on the way.
    #[error("the scratch directory {} cannot be used: {source}", path.display())]
    Scratch {
        /// The directory asked for.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// What is to be encrypted must not lie around in the clear.
    #[error(
        "the scratch directory {} is on a disk, and nothing that is to be encrypted may be written \
         to one: name a directory of a tmpfs, such as /dev/shm, or choose --format custom",
        path.display()
    )]
    ScratchOnDisk {
        /// The directory asked for.
        path: PathBuf,
    },
    /// The dump program did not start.
    #[error("could not start {}: {source}", program.display())]
    Start {
        /// The program.
        program: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The dump is not whole, so it was not sealed.
    #[error("no backup was made: {flaw}{}", said(words))]
    NotWhole {
        /// What is missing.
        flaw: Flaw,
        /// The last that `pg_dump` said.
        words: String,
    },
    /// Neither the dump nor its end came.
    #[error(
        "no backup was made: for {} s nothing was dumped and nothing written{}. See in \
         pg_stat_activity what pg_dump waits for, and whether the disk answers; --stall-timeout \
         allows more",
        patience.as_secs(), said(words)
    )]
    Stalled {
        /// How long was waited.
        patience: Duration,
        /// The last that `pg_dump` said.
        words: String,
    },
    /// The stream broke on our side.
    #[error("no backup was made: could not {doing}: {source}")]
    Stream {
        /// What was being done.
        doing: String,
        /// What the system said.
        source: io::Error,
    },
    /// The sealed file is another than the one written.
    #[error(
        "{name} is NOT a good backup: {what}. It was left without a manifest. \
         Check the disk below the mount and run `worm verify`"
    )]
    Mismatch {
        /// The file.
        name: String,
        /// The difference.
        what: String,
    },
    /// The dump is sealed, what belongs to it is not, so it does not count.
    #[error("{name} was sealed but is not a backup without its manifest: {source}")]
    NoManifest {
        /// The dump.
        name: String,
        /// Why.
        source: Box<Error>,
    },
    /// Somebody else is backing up the same database.
    #[error("another run is under way: {who}. Wait for its end, or let --wait do that")]
    Busy {
        /// Who.
        who: String,
    },
    /// Nobody can tell whether another run is under way.
    #[error(
        "the lock file {} cannot be used ({source}): nothing was done. Name another by --lock-file",
        path.display()
    )]
    Lock {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// It took too long.
    #[error(
        "no backup was made: the run did not end in {} s. See whether the database or the disk is \
         slow; --deadline allows more",
        limit.as_secs()
    )]
    Deadline {
        /// How long it may take.
        limit: Duration,
    },
    /// The backup is there, and does not look like those before it.
    #[error(
        "{name} is sealed but SUSPECT, so it does not count as a good backup: {what}. See what \
         happened to the database; if all is well, back up once more with --accept-suspect REASON"
    )]
    Suspect {
        /// The backup.
        name: String,
        /// What looks wrong.
        what: String,
    },
    /// There is no such backup.
    #[error("{0}")]
    NotFound(String),
    /// A service could not make a backup now.
    #[error("not ready: {0}")]
    NotReady(String),
    /// Stopped by a signal.
    #[error("cancelled: no backup was made")]
    Cancelled,
    /// A thing that cannot happen did.
    #[error("internal error: {0}")]
    Internal(String),
}

impl Error {
    /// The number that the program ends with.
    #[must_use]
    pub fn exit(&self) -> Exit {
        match self {
            Self::Usage(_) | Self::Settings(_) | Self::Connect(_) => Exit::Usage,
            Self::Vault(error) => match error {
                VaultError::UnknownClass { .. } => Exit::NotFound,
                VaultError::NotWriteOnce { .. } | VaultError::MountGone { .. } => {
                    Exit::NotWriteOnce
                }
                VaultError::NoPromise { .. } => Exit::Verification,
                VaultError::NoFreeName { .. } | VaultError::Full { .. } | VaultError::Io { .. } => {
                    Exit::Failed
                }
            },
            Self::AuditUnwritable { .. }
            | Self::Untrusted { .. }
            | Self::Lock { .. }
            | Self::LoginRefused { .. }
            | Self::Query { .. }
            | Self::NoClient { .. }
            | Self::OldClient { .. }
            | Self::NoRestorer { .. }
            | Self::RowSecurity { .. }
            | Self::Scratch { .. }
            | Self::ScratchOnDisk { .. } => Exit::Preflight,
            Self::AuditLost { .. } | Self::Suspect { .. } => Exit::Partial,
            Self::NoDatabase { .. } => Exit::NotFound,
            Self::Busy { .. } => Exit::Busy,
            Self::NotFound(_) => Exit::NotFound,
            Self::Unreachable { .. } => Exit::Unreachable,
            Self::Mismatch { .. } => Exit::Verification,
            Self::NoManifest { source, .. } => source.exit(),
            Self::Cancelled => Exit::Cancelled,
            Self::Start { .. }
            | Self::NotWhole { .. }
            | Self::Stalled { .. }
            | Self::Deadline { .. }
            | Self::Stream { .. }
            | Self::NotReady(_)
            | Self::Internal(_) => Exit::Failed,
        }
    }

    /// Whether there is a good backup all the same.
    pub(crate) fn leaves_a_backup(&self) -> bool {
        matches!(self, Self::AuditLost { .. })
    }

    /// Whether a dump may have begun, and have taken room in its class.
    pub(crate) fn may_have_written(&self) -> bool {
        match self.exit() {
            Exit::Usage
            | Exit::NotFound
            | Exit::Preflight
            | Exit::Busy
            | Exit::Unreachable
            | Exit::NotWriteOnce => false,
            Exit::Done | Exit::Failed | Exit::Partial | Exit::Cancelled | Exit::Verification => {
                true
            }
        }
    }

    /// A stable name for logs and alerts.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Usage(_) => "usage",
            Self::Settings(_) => "usage.settings",
            Self::Connect(_) => "usage.database",
            Self::Vault(error) => match error {
                VaultError::UnknownClass { .. } => "usage.class",
                VaultError::NotWriteOnce { .. } => "vault.not_write_once",
                VaultError::NoFreeName { .. } => "vault.no_free_name",
                VaultError::Full { .. } => "vault.full",
                VaultError::NoPromise { .. } => "seal.no_promise",
                VaultError::MountGone { .. } => "vault.mount_gone",
                VaultError::Io { .. } => "vault.failed",
            },
            Self::AuditUnwritable { .. } => "audit.unwritable",
            Self::AuditLost { .. } => "audit.lost",
            Self::Unreachable { .. } => "database.unreachable",
            Self::Untrusted { .. } => "database.untrusted",
            Self::LoginRefused { .. } => "database.refused",
            Self::Query { .. } => "database.query",
            Self::NoDatabase { .. } => "database.none",
            Self::NoClient { .. } => "client.missing",
            Self::OldClient { .. } => "client.old",
            Self::NoRestorer { .. } => "client.no_pg_restore",
            Self::RowSecurity { .. } => "database.row_security",
            Self::Scratch { .. } => "scratch",
            Self::ScratchOnDisk { .. } => "scratch.on_disk",
            Self::Start { .. } => "dump.start",
            Self::NotWhole { flaw, .. } => match flaw {
                Flaw::Ended(_) => "dump.failed",
                Flaw::Empty => "dump.empty",
                Flaw::TooSmall { .. } => "dump.too_small",
                Flaw::NotRestorable(_) => "dump.not_restorable",
                Flaw::CutShort(_) => "dump.cut_short",
                Flaw::Unreadable(_) => "dump.unreadable",
                Flaw::Missing { .. } => "dump.missing_tables",
                Flaw::LargeObjects { .. } => "dump.large_objects",
                Flaw::Twice(_) => "dump.table_twice",
            },
            Self::Stalled { .. } => "dump.stalled",
            Self::Stream { .. } => "stream",
            Self::Mismatch { .. } => "seal.mismatch",
            Self::NoManifest { .. } => "seal.no_manifest",
            Self::Busy { .. } => "lock.busy",
            Self::Lock { .. } => "lock.unusable",
            Self::Deadline { .. } => "deadline",
            Self::Suspect { .. } => "backup.suspect",
            Self::NotFound(_) => "not_found",
            Self::NotReady(_) => "not_ready",
            Self::Cancelled => "cancelled",
            Self::Internal(_) => "internal",
        }
    }
}

fn said(words: &str) -> String {
    if words.is_empty() { String::new() } else { format!(" ({words})") }
}

/// An error with all its causes on one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(next) = cause {
        let words = next.to_string();
        if !text.contains(&words) {
            text.push_str(": ");
            text.push_str(&words);
        }
        cause = next.source();
    }
    text.replace('\n', " ")
}
