//! Another signing key in the place of the one in force, for a store that nobody serves.

use std::path::Path;
use std::path::PathBuf;

use super::Descriptors;
use super::Options;
use super::WormFs;
use super::admin::reason_of;
use crate::committer::Draft;
use crate::error::Error;
use crate::error::Result;
use crate::record::Actor;
use crate::record::Event;
use crate::store::OpenError;
use crate::store::key::KeyFiles;
use crate::store::note::StoreSigner;

/// A key that was changed.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Rotated {
    /// The new public key, a C2SP verifier key.
    pub public: String,
    /// The file of the one before it.
    pub old: Option<PathBuf>,
}

/// Why a key was not changed.
#[derive(Debug, thiserror::Error)]
pub enum RotateError {
    /// The store cannot be opened, or the key's files cannot be written.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The change cannot be recorded, or the reason is none.
    #[error(transparent)]
    Record(#[from] Error),
}

/// Makes a new key and lets it sign from now on. The store is opened as to be served, with all
/// that this puts right, but no class is made or changed.
///
/// # Errors
/// [`RotateError`]. After one in writing the ledger or moving the files the next attempt, or the
/// next who serves the store, finds by the head which key signs, and goes on from there.
pub fn rotate_key(
    options: Options,
    by: Actor,
    reason: &str,
) -> std::result::Result<Rotated, RotateError> {
    let reason = reason_of(reason)?;
    let key = options.key.clone();
    let fs = WormFs::serve(options)?;
    let changed = fs.change_key(&key, by, reason);
    fs.shut_down(Descriptors::AllClosed);
    changed
}

impl WormFs {
    fn change_key(
        &self,
        key: &Path,
        by: Actor,
        reason: String,
    ) -> std::result::Result<Rotated, RotateError> {
        let files = KeyFiles::of(key);
        let next = StoreSigner::generate(&self.store.id)
            .map_err(Error::store("get random numbers for the new key"))?;
        let public = next.public();
        // It must last before anything is signed with it.
        files.write_new(&next)?;
        self.sign_with(next, by, reason)?;
        let old = files.settle(&self.store.id, &self.store.root)?;
        Ok(Rotated { public, old })
    }

    /// Records the change. From this line on the new key signs.
    fn sign_with(&self, next: StoreSigner, by: Actor, reason: String) -> Result<()> {
        // The signature names the line, so the ledger's thread makes it.
        let (key, signature) = (next.public(), String::new());
        let event = Event::KeyChanged { key, signature, reason, by };
        self.commit_drafts(vec![Draft { event, kept_ms: None, signer: Some(next) }])
    }
}
