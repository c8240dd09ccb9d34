//! PURE: what can happen to a store.

use serde::Deserialize;
use serde::Serialize;

use super::Digest;
use crate::clock::Reading;
use crate::config::ClassRule;
use crate::policy::name::StorePath;

/// Who did something.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct Actor {
    /// The user as whom it was done.
    pub uid: u32,
    /// The user who logged in, where the kernel kept that: the person behind `sudo`. See
    /// `loginuid` in proc(5).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub login_uid: Option<u32>,
}

impl Actor {
    /// A user of whom no more is known.
    #[must_use]
    pub fn user(uid: u32) -> Self {
        Self { uid, login_uid: None }
    }
}

impl std::fmt::Display for Actor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.login_uid {
            Some(login) if login != self.uid => write!(f, "uid {} (login {login})", self.uid),
            Some(_) | None => write!(f, "uid {}", self.uid),
        }
    }
}

/// What can happen to a store. State is a fold over these and nothing else.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// The store was made. Always and only the first line.
    Created {
        /// [`FORMAT`].
        format: u32,
        /// The store's id.
        store: String,
        /// Public key of its signer, as a C2SP verifier key.
        key: String,
        /// The machine's clocks.
        reading: Reading,
    },
    /// A daemon began to serve it.
    Started {
        /// Its version.
        version: String,
        /// The machine's clocks.
        reading: Reading,
        /// Downtime credited to the retention clock, in milliseconds.
        credit_ms: i64,
        /// Lines before this one that the signed head did not reach when the daemon started.
        unsigned: u64,
        /// How much of what was removed before this line could not be taken off the disk. While it
        /// is not 0, the next start tries again.
        #[serde(default, skip_serializing_if = "is_zero")]
        unremoved: u64,
    },
    /// The clocks, noted now and then and at the end, so that a restart knows where they stood.
    Clock {
        /// The machine's clocks.
        reading: Reading,
    },
    /// Sealed files were read again and compared with their digests.
    Scrubbed {
        /// When this pass over all files began, on the retention clock.
        pass_ms: i64,
        /// Every file up to this number was read that was sealed then.
        through: u64,
        /// Numbers of files that are not what was sealed.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        damaged: Vec<u64>,
    },
    /// A class was made, or its rule changed.
    Class {
        /// Number of its directory; the next number is that of its `.incomplete`.
        id: u64,
        /// Its directory.
        path: StorePath,
        /// What holds for files sealed from now on.
        rule: ClassRule,
    },
    /// A directory was made.
    DirectoryMade {
        /// Its number.
        id: u64,
        /// Where.
        path: StorePath,
        /// Its permission bits.
        mode: u32,
        /// Its owner.
        uid: u32,
        /// Its group.
        gid: u32,
    },
    /// The attributes of an empty directory changed.
    DirectoryChanged {
        /// Its number.
        id: u64,
        /// Its permission bits.
        mode: u32,
        /// Its owner.
        uid: u32,
        /// Its group.
        gid: u32,
    },
    /// An empty directory was removed.
    DirectoryRemoved {
        /// Its number.
        id: u64,
        /// Where it was.
        path: StorePath,
        /// By whom.
        uid: u32,
    },
    /// A file was sealed: from here on it does not change.
    Sealed {
        /// Its number.
        id: u64,
        /// Its name, and that of its data below `data/`.
        path: StorePath,
        /// Length in bytes.
        size: u64,
        /// SHA-256 of its bytes.
        sha256: Digest,
        /// Permission bits.
        mode: u32,
        /// Owner.
        uid: u32,
        /// Group.
        gid: u32,
        /// Modification time, nanoseconds since 1970.
        mtime_ns: i64,
        /// Retention end on the retention clock.
        retain_until_ms: i64,
        /// It was committed explicitly, not just closed.
        committed: bool,
        /// The admin may release it before its end.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        governance: bool,
    },
    /// A file was given up before it was whole.
    Incomplete {
        /// Its number.
        id: u64,
        /// Where it is kept.
        path: StorePath,
        /// The name that it was meant to have.
        meant: StorePath,
        /// Length in bytes of what is there.
        size: u64,
        /// Permission bits.
        mode: u32,
        /// Owner.
        uid: u32,
        /// Group.
        gid: u32,
        /// Modification time, nanoseconds since 1970.
        mtime_ns: i64,
        /// Retention end on the retention clock.
        retain_until_ms: i64,
        /// What ended it.
        why: String,
    },
    /// A log was made, empty: a file of an append-only class.
    LogMade {
        /// Its number.
        id: u64,
        /// Its name, and that of its data below `data/`.
        path: StorePath,
        /// Permission bits.
        mode: u32,
        /// Owner.
        uid: u32,
        /// Group.
        gid: u32,
        /// Retention end on the retention clock.
        retain_until_ms: i64,
    },
    /// A log has grown.
    Appended {
        /// Its number.
        id: u64,
        /// Its name.
        path: StorePath,
        /// Length in bytes of what this line covers, from the beginning of the file.
        size: u64,
        /// SHA-256 of these bytes.
        sha256: Digest,
        /// Retention end on the retention clock.
        retain_until_ms: i64,
    },
    /// Retention was lengthened.
    Extended {
        /// Number of the file.
        id: u64,
        /// Its name.
        path: StorePath,
        /// The new retention end on the retention clock.
        retain_until_ms: i64,
        /// By whom.
        by: Actor,
        /// Why, where that was said.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reason: Option<String>,
    },
    /// A hold was put on a file and its group: it stays until that is lifted.
    Held {
        /// Number of the file.
        id: u64,
        /// Its name.
        path: StorePath,
        /// What the hold is called.
        hold: String,
        /// Why.
        reason: String,
        /// By whom.
        by: Actor,
    },
    /// A hold was lifted.
    HoldLifted {
        /// Number of the file.
        id: u64,
        /// Its name.
        path: StorePath,
        /// What the hold is called.
        hold: String,
        /// Why.
        reason: String,
        /// By whom.
        by: Actor,
    },
    /// The retention of a group sealed in governance mode was ended early.
    Released {
        /// Number of a file of the group.
        id: u64,
        /// Its name.
        path: StorePath,
        /// Why.
        reason: String,
        /// By whom.
        by: Actor,
    },
    /// The admin moved the retention clock on, by downtime that was not credited.
    ClockCredited {
        /// The machine's clocks.
        reading: Reading,
        /// By how much, in milliseconds.
        credit_ms: i64,
        /// Why.
        reason: String,
        /// By whom.
        by: Actor,
    },
    /// The store's signing key was replaced: heads from this line on are signed by the new one.
    KeyChanged {
        /// Its public key, as a C2SP verifier key.
        key: String,
        /// The signature of the key before it over this change, see [`Succession`].
        ///
        /// [`Succession`]: crate::store::note::Succession
        signature: String,
        /// Why.
        reason: String,
        /// By whom.
        by: Actor,
    },
    /// An expired file was removed.
    Removed {
        /// Number of the file.
        id: u64,
        /// Its name.
        path: StorePath,
        /// `expired` by the store, or `unlink` by somebody.
        why: String,
        /// By whom; absent for the store itself.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        uid: Option<u32>,
        /// See [`Actor::login_uid`].
        #[serde(default, skip_serializing_if = "Option::is_none")]
        login_uid: Option<u32>,
    },
    /// What was alive after the last line of an ended segment was written out.
    Snapshot(Snapshot),
}

/// A snapshot, as the ledger records it.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct Snapshot {
    /// Its number, which is that of the segment after whose last line it holds.
    pub number: u64,
    /// Number of that line.
    pub up_to: u64,
    /// SHA-256 of its bytes.
    pub sha256: Digest,
    /// Its length in bytes.
    pub bytes: u64,
}

impl Event {
    /// The number of the file or directory that this is about, and its path where it is named.
    #[must_use]
    pub fn subject(&self) -> Option<(u64, Option<&StorePath>)> {
        match self {
            Self::Created { .. }
            | Self::Started { .. }
            | Self::Clock { .. }
            | Self::Scrubbed { .. }
            | Self::ClockCredited { .. }
            | Self::KeyChanged { .. }
            | Self::Snapshot(_) => None,
            Self::DirectoryChanged { id, .. } => Some((*id, None)),
            Self::Class { id, path, .. }
            | Self::DirectoryMade { id, path, .. }
            | Self::DirectoryRemoved { id, path, .. }
            | Self::Sealed { id, path, .. }
            | Self::Incomplete { id, path, .. }
            | Self::LogMade { id, path, .. }
            | Self::Appended { id, path, .. }
            | Self::Extended { id, path, .. }
            | Self::Held { id, path, .. }
            | Self::HoldLifted { id, path, .. }
            | Self::Released { id, path, .. }
            | Self::Removed { id, path, .. } => Some((*id, Some(path))),
        }
    }

    /// Whether it counts only when the signed head covers it. A start takes up lines that a crash
    /// left unsigned, and signs them: those that somebody without the key could have added to
    /// his gain must not be among them. They were never acknowledged.
    #[must_use]
    pub fn needs_signature(&self) -> bool {
        match self {
            // The digest of a log could be made to fit what was changed in it.
            Self::Appended { .. }
            | Self::Class { .. }
            | Self::HoldLifted { .. }
            | Self::Released { .. }
            | Self::ClockCredited { .. }
            // The head after it must be by the new key: who has only the old one has no such head.
            | Self::KeyChanged { .. }
            // It could hide damage.
            | Self::Scrubbed { .. }
            | Self::Snapshot(_) => true,
            Self::Created { .. }
            | Self::Started { .. }
            | Self::Clock { .. }
            | Self::DirectoryMade { .. }
            | Self::DirectoryChanged { .. }
            | Self::DirectoryRemoved { .. }
            | Self::Sealed { .. }
            | Self::Incomplete { .. }
            | Self::LogMade { .. }
            | Self::Extended { .. }
            | Self::Held { .. }
            | Self::Removed { .. } => false,
        }
    }

    /// What has no name any more after this.
    #[must_use]
    pub fn removal(&self) -> Option<Removal<'_>> {
        match self {
            Self::Removed { id, path, .. } => Some(Removal::File(*id, path)),
            Self::DirectoryRemoved { id, path, .. } => Some(Removal::Directory(*id, path)),
            Self::Created { .. }
            | Self::Started { .. }
            | Self::Clock { .. }
            | Self::Scrubbed { .. }
            | Self::ClockCredited { .. }
            | Self::KeyChanged { .. }
            | Self::Class { .. }
            | Self::DirectoryMade { .. }
            | Self::DirectoryChanged { .. }
            | Self::Sealed { .. }
            | Self::Incomplete { .. }
            | Self::LogMade { .. }
            | Self::Appended { .. }
            | Self::Extended { .. }
            | Self::Held { .. }
            | Self::HoldLifted { .. }
            | Self::Released { .. }
            | Self::Snapshot(_) => None,
        }
    }

    /// The same event with the clocks of the moment that its line carries, where it notes them.
    #[must_use]
    pub fn noting(mut self, now: &Reading) -> Self {
        if let Self::Clock { reading } | Self::ClockCredited { reading, .. } = &mut self {
            *reading = now.clone();
        }
        self
    }

    /// The same event with the retention end that it gives its file. Other events give none.
    #[must_use]
    pub fn kept_until(mut self, end_ms: i64) -> Self {
        if let Self::Sealed { retain_until_ms, .. }
        | Self::Incomplete { retain_until_ms, .. }
        | Self::LogMade { retain_until_ms, .. }
        | Self::Appended { retain_until_ms, .. } = &mut self
        {
            *retain_until_ms = end_ms;
        }
        self
    }
}

/// What an event takes away: its number and its path.
#[derive(Clone, Copy, Debug)]
pub enum Removal<'a> {
    /// A file.
    File(u64, &'a StorePath),
    /// A directory.
    Directory(u64, &'a StorePath),
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}
