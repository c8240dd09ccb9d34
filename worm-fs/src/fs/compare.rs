//! After a start, behind everybody's back: what is in `data/`, compared with the ledger.
//!
//! The store serves meanwhile, from the ledger alone. Until all is compared nothing is removed,
//! and whoever makes something new asks the disk whether its name is free.

use std::ops::Bound;
use std::sync::Arc;
use std::thread::JoinHandle;

use super::WormFs;
use super::state::Doubt;
use crate::error::Error;
use crate::error::Result;
use crate::policy::Refusal;
use crate::policy::name::Name;
use crate::policy::name::StorePath;
use crate::store::files::Found;
use crate::store::recover;
use crate::store::recover::Difference;
use crate::sys;

/// How many names are compared at a time, so that nobody waits long for the state.
const PART: usize = 64;

impl WormFs {
    /// Begins to compare what is in `data/` with the ledger.
    pub(super) fn compare_data(self: &Arc<Self>) -> std::io::Result<JoinHandle<()>> {
        let fs = Arc::clone(self);
        let compare = move || {
            sys::yield_to_others();
            let compared = fs.compare();
            if fs.is_ending() {
                return;
            }
            let mut state = fs.state.write();
            let failed = |error| format!("the data cannot be compared with the ledger: {error}");
            state.doubt(Doubt::Data, compared.err().map(failed));
            state.comparing = false;
        };
        std::thread::Builder::new().name("compare".to_owned()).spawn(compare)
    }

    /// Whether the data is still being compared with the ledger.
    #[must_use]
    pub fn is_comparing(&self) -> bool {
        self.state.read().comparing
    }

    fn compare(&self) -> std::io::Result<()> {
        let mut directories: Vec<u64> =
            self.state.read().catalog.directories().map(|(id, _)| id).collect();
        directories.sort_unstable();
        for directory in directories {
            let path = self.state.read().catalog.path(directory);
            let entries = self.store.list_data(&path)?;
            let mut before = Bound::Unbounded;
            let mut left = &entries[..];
            loop {
                if self.is_ending() {
                    return Ok(());
                }
                let (part, rest) = left.split_at(left.len().min(PART));
                let end = match part.last() {
                    Some((last, _)) if !rest.is_empty() => Bound::Included(last),
                    Some(_) | None => Bound::Unbounded,
                };
                let differences = {
                    let state = self.state.read();
                    recover::compare(&state.catalog, directory, (before, end), part)
                };
                for difference in differences {
                    self.look_into(directory, &path, difference)?;
                }
                let Bound::Included(last) = end else { break };
                (before, left) = (Bound::Excluded(last), rest);
            }
        }
        Ok(())
    }

    fn look_into(
        &self,
        directory: u64,
        path: &StorePath,
        difference: Difference,
    ) -> std::io::Result<()> {
        match difference {
            // A file has its record before it has its place.
            Difference::Stray(name) => self.found_stray(&path.join(name.as_bytes())),
            Difference::StrayDirectory(name) => self.clear_directory(directory, path, &name),
            Difference::Missing(id) => {
                let path = {
                    let state = self.state.read();
                    if state.open.contains_key(&id) || state.unplaced.contains_key(&id) {
                        return Ok(());
                    }
                    state.catalog.path(id)
                };
                // It may have come to its place since the directory was listed.
                if self.store.look(&path)?.is_none() {
                    self.state.write().damage(id, "its data is gone");
                }
            }
            Difference::WrongSize { id, bytes } => {
                let mut state = self.state.write();
                let size = state.catalog.get_file(id).map_or(0, |file| file.size);
                state.damage(id, &format!("its data has {bytes} bytes, not {size}"));
            }
            Difference::NotAFile(id) => {
                self.state.write().damage(id, "something else stands in the place of its data");
            }
        }
        Ok(())
    }

    /// Keeps a name in `data/` taken that nobody recorded.
    pub(super) fn found_stray(&self, path: &StorePath) {
        let mut state = self.state.write();
        if !state.strays.insert(path.clone()) {
            // It was told, or what was to go has not gone: that is told, too.
            return;
        }
        state.alarm(format!(
            "{path}: nobody recorded it; it is not served and its name stays taken"
        ));
    }

    /// Removes a directory that a crash left without its record; one with something in it stays.
    fn clear_directory(&self, parent: u64, path: &StorePath, name: &Name) {
        let path = path.join(name.as_bytes());
        {
            // It is made before it is recorded; and while it goes, nobody makes it.
            let mut state = self.state.write();
            if !state.is_free(parent, name) {
                return;
            }
            state.leaving_names.insert((parent, name.clone()));
        }
        let removed = self.store.remove_data_directory(&path);
        self.state.write().leaving_names.remove(&(parent, name.clone()));
        if removed.is_err() {
            self.found_stray(&path);
        }
    }

    /// Asks the disk whether a name that was just reserved is free, as long as not all strays are
    /// known. An empty directory is what a crash may have left, and goes.
    pub(super) fn clear_way(&self, parent: u64, name: &Name) -> Result<()> {
        let path = {
            let state = self.state.read();
            if !state.comparing {
                return Ok(());
            }
            state.catalog.path(parent).join(name.as_bytes())
        };
        let taken = match self.store.look(&path).map_err(Error::store("look for the name"))? {
            None => false,
            Some(Found::Directory) => self.store.remove_data_directory(&path).is_err(),
            Some(Found::File(_) | Found::Other) => true,
        };
        if taken { Err(Refusal::NameTaken.into()) } else { Ok(()) }
    }
}
