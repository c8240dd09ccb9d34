//! The end of a file's writing: sealed, or given up.
//!
//! The order is the promise: the bytes are synced, then the record, then the signed head, then
//! the name. What is acknowledged has passed all of them.

use std::os::unix::fs::FileExt as _;
use std::sync::Arc;

use super::WormFs;
use super::open_file::Ended;
use super::open_file::Ending;
use super::open_file::OpenFile;
use super::open_file::Outcome;
use super::state::Undone;
use super::write::Finish;
use crate::catalog::Catalog;
use crate::config::INCOMPLETE_RETENTION_MS;
use crate::config::Mode;
use crate::digest;
use crate::error::Error;
use crate::error::Result;
use crate::policy::name::INCOMPLETE;
use crate::policy::name::StorePath;
use crate::record::Digest;
use crate::record::Event;

impl WormFs {
    /// Ends a file for a reason. `None` when it had ended before.
    pub(crate) fn end(&self, open: &Arc<OpenFile>, ending: Ending) -> Option<Outcome> {
        let ended = open.end(ending)?;
        Some(self.finish(Finish { open: Arc::clone(open), ended }))
    }

    /// Finishes a file that takes no more bytes. Takes as long as the disk takes.
    pub(crate) fn finish(&self, finish: Finish) -> Outcome {
        let Finish { open, ended } = finish;
        let outcome = match self.seal_or_give_up(&open, ended) {
            Ok(outcome) => outcome,
            Err(error) => {
                tracing::error!(id = open.id, name = ?open.name, %error, "the file could not be finished");
                Outcome::Failed(error.errno())
            }
        };
        self.ended(&open, outcome);
        outcome
    }

    /// A file whose end could not be recorded keeps its name and its number: where the ledger is
    /// not known any more, only the next start knows whether the record is on the disk.
    fn ended(&self, open: &OpenFile, outcome: Outcome) {
        if !matches!(outcome, Outcome::Failed(_)) {
            let mut state = self.state.write();
            state.pending.remove(&(open.parent, open.name.clone()));
            state.open.remove(&open.id);
            open.is_recorded();
        }
        open.finished(outcome);
    }

    /// Gives up the files whose end could not be recorded, for want of room most of all. While
    /// the store takes changes the ledger is known, and the record is not in it; and whoever
    /// waited for it was told that it failed.
    pub(crate) fn give_up_failed(&self) -> Result<()> {
        let state = self.state.read();
        let failed = state.open.values().filter(|open| open.has_failed());
        let failed: Vec<_> = failed.cloned().collect();
        drop(state);
        for open in failed {
            self.give_up(&open, "its end could not be recorded")?;
            self.ended(&open, Outcome::Incomplete);
        }
        Ok(())
    }

    /// Finishes a file that was closed.
    pub fn finish_closed(&self, finish: Finish) {
        let outcome = self.finish(finish);
        tracing::debug!(?outcome, "closed");
    }

    fn seal_or_give_up(&self, open: &OpenFile, ended: Ended) -> Result<Outcome> {
        if let Some(why) = ended.give_up {
            self.give_up(open, &why)?;
            return Ok(Outcome::Incomplete);
        }
        let committed = ended.committed;
        match self.content(open, ended) {
            Ok(sha256) => {
                self.seal(open, sha256, committed)?;
                Ok(Outcome::Sealed)
            }
            Err(error) => {
                tracing::error!(id = open.id, %error, "the file cannot be sealed");
                self.give_up(open, "the disk failed")?;
                Ok(Outcome::Incomplete)
            }
        }
    }

    /// The digest of all bytes, with all bytes on the disk.
    fn content(&self, open: &OpenFile, ended: Ended) -> Result<Digest> {
        let digest = match ended.digester.and_then(|digester| digester.finish(open.bytes())) {
            Some(digest) => digest,
            None => {
                let read = |buffer: &mut [u8], offset| open.file.read_at(buffer, offset);
                let (digest, bytes) = digest::of_reader(read)
                    .map_err(Error::store("read the file again for its digest"))?;
                if bytes != open.bytes() {
                    return Err(Error::Corrupt(format!(
                        "{bytes} bytes are in the file, {} were written",
                        open.bytes()
                    )));
                }
                digest
            }
        };
        open.trim().map_err(Error::store("give the room of the file back"))?;
        let length = open.file.metadata().map_err(Error::store("look at the file"))?.len();
        if length != open.bytes() {
            let bytes = open.bytes();
            return Err(Error::Corrupt(format!("the file has {length} bytes, not {bytes}")));
        }
        open.file.sync_all().map_err(Error::store("sync the file"))?;
        // Its name too: until it has its place this is how a start after a crash finds it.
        self.store.sync_open().map_err(Error::store("sync the directory of open files"))?;
        Ok(digest)
    }

    fn seal(&self, open: &OpenFile, sha256: Digest, committed: bool) -> Result<()> {
        let owner = open.owner();
        let (path, retention_ms, mode) = {
            let state = self.state.read();
            let (_, rule) = state.catalog.class_of(open.parent).ok_or(Error::NotFound)?;
            let path = state.catalog.path(open.parent).join(open.name.as_bytes());
            (path, rule.retention, rule.mode)
        };
        let sealed = Event::Sealed {
            id: open.id,
            path: path.clone(),
            size: open.bytes(),
            sha256,
            mode: owner.mode,
            uid: owner.uid,
            gid: owner.gid,
            mtime_ns: open.modified_ns(),
            retain_until_ms: 0,
            committed,
            governance: mode == Mode::Governance,
        };
        self.commit_kept(sealed, retention_ms)?;
        self.place(open.id, &open.open_name().encode(), &path);
        Ok(())
    }

    fn give_up(&self, open: &OpenFile, why: &str) -> Result<()> {
        if let Err(error) = open.trim() {
            tracing::warn!(id = open.id, %error, "room behind an incomplete file stays");
        }
        // Its name too, or a power cut after the record could leave nothing to put in its place.
        if let Err(error) = open.file.sync_all().and_then(|()| self.store.sync_open()) {
            tracing::warn!(id = open.id, %error, "an incomplete file could not be synced");
        }
        let owner = open.owner();
        let parts = Parts {
            id: open.id,
            parent: open.parent,
            name: &open.name,
            // What is there, not what was meant: a failed write may have left less.
            size: open.file.metadata().map_or(open.bytes(), |metadata| metadata.len()),
            mode: owner.mode,
            uid: owner.uid,
            gid: owner.gid,
            mtime_ns: open.modified_ns(),
        };
        let (event, path) = incomplete(&self.state.read().catalog, &parts, why)?;
        self.commit_kept(event, INCOMPLETE_RETENTION_MS)?;
        self.place(open.id, &open.open_name().encode(), &path);
        Ok(())
    }

    /// Tries again to move data to its place that could not be moved before.
    pub(crate) fn place_again(&self) {
        // What is only shown is not changed.
        if self.committer.is_none() {
            return;
        }
        let unplaced: Vec<_> = {
            let state = self.state.read();
            let path = |id: &u64| state.catalog.path(*id);
            state.unplaced.iter().map(|(id, from)| (*id, from.clone(), path(id))).collect()
        };
        for (id, from, path) in unplaced {
            match self.store.publish_again(&from, &path) {
                Ok(()) => {
                    let mut state = self.state.write();
                    state.unplaced.remove(&id);
                    state.done(&Undone::Data(path));
                }
                Err(error) => tracing::warn!(%path, %error, "still not moved into place"),
            }
        }
    }

    /// Tries again to remove data that was to go and could not be removed.
    pub(crate) fn remove_again(&self) {
        let left: Vec<_> = {
            let state = self.state.read();
            let removed = state.catalog.removed.iter();
            let left = removed.filter(|(path, _)| state.strays.contains(path));
            left.map(|(path, bytes)| (path.clone(), *bytes)).collect()
        };
        for (path, bytes) in left {
            // As the catalog notes a directory.
            let removed = if bytes == u64::MAX {
                self.store.remove_data_directory(&path)
            } else {
                self.store.remove_data(&path)
            };
            match removed {
                Ok(()) => {
                    let mut state = self.state.write();
                    state.catalog.removed.remove(&path);
                    state.strays.remove(&path);
                    state.done(&Undone::Data(path));
                }
                Err(error) => tracing::warn!(%path, %error, "still not removed"),
            }
        }
    }

    /// Moves the data of a recorded file to its place. When that fails the file is whole and
    /// recorded all the same: it is served from where it is, and the next start tries again.
    pub(crate) fn place(&self, id: u64, from: &[u8], path: &StorePath) {
        if let Err(error) = self.store.publish(from, path) {
            let mut state = self.state.write();
            let alarm = format!("{path}: its data could not be moved into place: {error}");
            state.failed(Undone::Data(path.clone()), alarm);
            state.unplaced.insert(id, from.to_vec());
        }
    }
}

/// What is known of a file that is given up.
#[derive(Debug)]
pub(crate) struct Parts<'a> {
    pub(crate) id: u64,
    pub(crate) parent: u64,
    pub(crate) name: &'a crate::policy::name::Name,
    pub(crate) size: u64,
    pub(crate) mode: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) mtime_ns: i64,
}

/// The record of a file that was given up, and where it is kept: PURE.
pub(crate) fn incomplete(
    catalog: &Catalog,
    parts: &Parts<'_>,
    why: &str,
) -> Result<(Event, StorePath)> {
    let (class, _) = catalog.class_of(parts.parent).ok_or(Error::NotFound)?;
    let name = parts.name.incomplete(parts.id);
    let path = catalog.path(class).join(INCOMPLETE.as_bytes()).join(name.as_bytes());
    let event = Event::Incomplete {
        id: parts.id,
        path: path.clone(),
        meant: catalog.path(parts.parent).join(parts.name.as_bytes()),
        size: parts.size,
        mode: parts.mode,
        uid: parts.uid,
        gid: parts.gid,
        mtime_ns: parts.mtime_ns,
        retain_until_ms: 0,
        why: why.to_owned(),
    };
    Ok((event, path))
}
