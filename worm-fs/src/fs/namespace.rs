//! Names: make and remove directories, remove expired files, and all that is never done.

use super::Attributes;
use super::Caller;
use super::Notice;
use super::Place;
use super::WormFs;
use super::attributes::attributes;
use super::state::Undone;
use crate::catalog::Node;
use crate::error::Error;
use crate::error::Result;
use crate::policy;
use crate::policy::FileState;
use crate::policy::Refusal;
use crate::policy::Request;
use crate::policy::Retention;
use crate::policy::Target;
use crate::policy::limits::Amounts;
use crate::policy::name::DEPTH_MAX;
use crate::policy::name::Name;
use crate::policy::name::StorePath;
use crate::record::Event;
use crate::record::Removal;

impl WormFs {
    /// Makes a directory inside a class. When it returns `Ok`, the directory is there for good.
    ///
    /// # Errors
    /// What the policy or the disk says.
    pub fn make_directory(
        &self,
        place: Place,
        caller: Caller,
        parent: u64,
        name: &[u8],
        mode: u32,
    ) -> Result<Attributes> {
        self.writable(place)?;
        let name = Name::new(name)?;
        let (now_ms, look) = (self.now_ms(), self.room.look()?);
        let (id, path, _until_recorded) = {
            let mut state = self.state.write();
            state.directory(parent)?;
            policy::verdict(Request::MakeDirectory, state.target(parent, now_ms)?)?;
            state.check_new(parent, &name)?;
            if state.catalog.depth(parent) >= DEPTH_MAX {
                return Err(Refusal::TooDeep.into());
            }
            look.admit()?;
            state.disk_bytes = look.disk_bytes;
            let share = state.share(parent, Amounts::DIRECTORY, now_ms)?;
            let id = state.reserve(parent, &name)?;
            (id, state.catalog.path(parent).join(name.as_bytes()), share)
        };
        // An empty directory without a record is removed by the next start.
        let made = self
            .clear_way(parent, &name)
            .and_then(|()| {
                let made = self.store.make_data_directory(&path);
                made.map_err(Error::store("make the directory"))
            })
            .and_then(|()| {
                self.commit(vec![Event::DirectoryMade {
                    id,
                    path: path.clone(),
                    mode: mode & 0o7777,
                    uid: caller.uid,
                    gid: caller.gid,
                }])
            });
        self.state.write().pending.remove(&(parent, name));
        made?;
        self.attributes(place, id)
    }

    /// Removes an empty directory.
    ///
    /// # Errors
    /// What the policy or the disk says.
    pub fn remove_directory(
        &self,
        place: Place,
        caller: Caller,
        parent: u64,
        name: &[u8],
    ) -> Result<()> {
        self.remove(place, parent, name, Request::RemoveDirectory, |id, path| {
            Event::DirectoryRemoved { id, path, uid: caller.uid }
        })
    }

    /// Removes an expired file.
    ///
    /// # Errors
    /// [`Refusal::Retained`] before its retention end, or what the disk says.
    pub fn unlink(&self, place: Place, caller: Caller, parent: u64, name: &[u8]) -> Result<()> {
        self.place_again();
        self.remove(place, parent, name, Request::Unlink, |id, path| Event::Removed {
            id,
            path,
            why: "unlink".to_owned(),
            uid: Some(caller.uid),
            login_uid: None,
        })
    }

    fn remove(
        &self,
        place: Place,
        parent: u64,
        name: &[u8],
        request: Request,
        event: impl FnOnce(u64, StorePath) -> Event,
    ) -> Result<()> {
        let name = Name::new(name)?;
        let id = self.child(place, parent, &name)?;
        self.writable(place)?;
        let now_ms = self.now_ms();
        let target = self.state.read().target(id, now_ms)?;
        let over = target == Target::File(FileState::Appending(Retention::Over));
        if over && !self.close_logs(&[id]) {
            // What came last is yet to be recorded, and moves its end.
            return Err(Refusal::Retained.into());
        }
        let event = {
            let mut state = self.state.write();
            let target = state.target(id, now_ms)?;
            policy::verdict(request, target)?;
            if !state.leave(id, parent, &name) {
                return Err(Error::NotFound);
            }
            event(id, state.catalog.path(id))
        };
        self.carry_out(vec![(parent, name, event)])
    }

    /// Records removals, and only then removes what they name. The names stay taken until all
    /// is done.
    pub(crate) fn carry_out(&self, removals: Vec<(u64, Name, Event)>) -> Result<()> {
        let events = removals.iter().map(|(_, _, event)| event.clone()).collect();
        let mut outcome = self.leave_open(&removals).and_then(|()| self.commit(events));
        for (parent, name, event) in removals {
            let (id, done) = match event.removal() {
                Some(Removal::File(id, path)) => {
                    (id, outcome.is_ok().then(|| (path, self.store.remove_data(path))))
                }
                Some(Removal::Directory(id, path)) => {
                    (id, outcome.is_ok().then(|| (path, self.store.remove_data_directory(path))))
                }
                None => continue,
            };
            let mut state = self.state.write();
            state.leaving.remove(&id);
            state.leaving_names.remove(&(parent, name.clone()));
            let log = state.logs.get(&id).cloned();
            if let Some((path, removed)) = done {
                state.logs.remove(&id);
                match removed {
                    // Known for the case of a crash, which can only come before this.
                    Ok(()) => drop(state.catalog.removed.remove(path)),
                    Err(error) => {
                        state.strays.insert(path.clone());
                        let alarm = format!("{path}: its data could not be removed: {error}");
                        state.failed(Undone::Data(path.clone()), alarm);
                        outcome = Err(Error::store("remove the data")(error));
                    }
                }
                drop(state);
                self.notify(&Notice::Gone { parent, name, id });
            } else if let Some(log) = log {
                drop(state);
                log.stay();
            }
        }
        outcome
    }

    /// Makes sure that no file which is about to go still has a name in `open/`: a start after a
    /// crash would take it for one that was never finished.
    fn leave_open(&self, removals: &[(u64, Name, Event)]) -> Result<()> {
        let state = self.state.read();
        let files = removals.iter().filter_map(|(_, _, event)| match event.removal() {
            Some(Removal::File(id, _)) => Some(id),
            Some(Removal::Directory(..)) | None => None,
        });
        let (mut any, mut unplaced) = (false, false);
        for id in files {
            any = true;
            unplaced |= state.unplaced.contains_key(&id);
        }
        drop(state);
        if unplaced {
            return Err(Error::store("move the data into place")(rustix::io::Errno::IO));
        }
        if any {
            self.store.sync_open().map_err(Error::store("sync the directory of open files"))?;
        }
        Ok(())
    }

    /// What has a name, as this place shows it.
    fn child(&self, place: Place, parent: u64, name: &Name) -> Result<u64> {
        let state = self.state.read();
        attributes(&state, place, parent)?;
        state.directory(parent)?;
        let id = state.child(parent, name).ok_or(Error::NotFound)?;
        attributes(&state, place, id)?;
        Ok(id)
    }

    /// Renames nothing, ever: says why.
    ///
    /// # Errors
    /// Always.
    pub fn rename(&self, place: Place, from: (u64, &[u8]), to: (u64, &[u8])) -> Result<()> {
        let id = self.child(place, from.0, &Name::new(from.1)?)?;
        self.writable(place)?;
        // An open file may not be renamed, but a program that tries should see the same answer
        // whether or not something is in the way.
        Name::new(to.1)?;
        self.allowed(place, to.0, Request::OpenToRead)?;
        self.allowed(place, id, Request::Rename)?;
        Err(Refusal::Sealed.into())
    }

    /// Makes nothing that is neither a plain file nor a directory: says why.
    ///
    /// # Errors
    /// Always.
    pub fn make_other(
        &self,
        place: Place,
        parent: u64,
        name: &[u8],
        request: Request,
    ) -> Result<()> {
        self.allowed(place, parent, request)?;
        Name::new(name)?;
        Err(Refusal::NoSuchKind.into())
    }

    /// Whether something is a directory, for the adapter.
    #[must_use]
    pub fn is_directory(&self, id: u64) -> bool {
        matches!(self.state.read().catalog.get(id), Some(Node::Directory(_)))
    }
}
