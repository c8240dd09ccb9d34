//! Looking: lookup, open for reading, read, list.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;

use super::Attributes;
use super::HandleId;
use super::Kind;
use super::Life;
use super::Place;
use super::WormFs;
use super::attributes::attributes;
use super::carry;
use super::carry::Item;
use super::handles::Handle;
use super::state::State;
use crate::catalog::ROOT;
use crate::error::Error;
use crate::error::Result;
use crate::policy;
use crate::policy::Refusal;
use crate::policy::Request;
use crate::policy::name::Name;
use crate::policy::name::StorePath;

/// An entry of a directory.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Entry {
    /// Its number.
    pub id: u64,
    /// What it is.
    pub kind: Kind,
    /// Its name.
    pub name: Vec<u8>,
}

/// What was opened for reading.
#[derive(Clone, Debug)]
pub enum Content {
    /// A file that is not finished: what it holds can change.
    Changing,
    /// A finished file, and its data.
    Finished(Arc<File>),
}

/// Where the data of a finished file is.
pub(crate) enum Waiting {
    /// In its place.
    Placed,
    /// In its place, or still in `open/` under this name.
    OnItsWay(Vec<u8>),
    /// In `open/` under this name, for good.
    Unplaced(Vec<u8>),
}

/// Where the data of a finished file is.
pub(crate) fn waiting(state: &State, id: u64) -> Waiting {
    let open = state.open.get(&id).map(|open| open.open_name().encode());
    match state.unplaced.get(&id) {
        // Something else stands in its place.
        Some(name) => Waiting::Unplaced(name.clone()),
        None => open.map_or(Waiting::Placed, Waiting::OnItsWay),
    }
}

impl WormFs {
    /// Finds a name in a directory.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::NotADirectory`], or a refusal of the name.
    pub fn lookup(&self, place: Place, parent: u64, name: &[u8]) -> Result<Attributes> {
        let state = self.state.read();
        attributes(&state, place, parent)?;
        let item = match Item::of(parent) {
            Some(item) => Some(item.find(&state, name)?),
            None if parent == ROOT && name == carry::NAME => Some(Item::Root.entry().id),
            None => None,
        };
        if let Some(id) = item {
            return attributes(&state, place, id);
        }
        state.directory(parent)?;
        match name {
            b"." => return attributes(&state, place, parent),
            b".." => {
                return attributes(&state, place, state.directory(parent)?.parent);
            }
            _ => {}
        }
        let name = Name::new(name)?;
        let id = state.child(parent, &name).ok_or(Error::NotFound)?;
        let mut found = attributes(&state, place, id)?;
        // What was just given up is finished under another name: nobody may remember this one.
        if state.directory(parent)?.children.get(&name) != Some(&id) {
            found.life = Life::Changing;
        }
        Ok(found)
    }

    /// Opens a file for reading.
    ///
    /// # Errors
    /// [`Error::Corrupt`] when its data is not what the ledger says.
    pub fn open_to_read(&self, place: Place, id: u64) -> Result<(HandleId, Content)> {
        if let Some(item) = Item::of(id) {
            return self.open_carried(place, item);
        }
        let now_ms = self.now_ms();
        let (path, size, waiting) = {
            let state = self.state.read();
            attributes(&state, place, id)?;
            policy::verdict(Request::OpenToRead, state.target(id, now_ms)?)?;
            if let Some(open) = state.open.get(&id)
                && state.catalog.get_file(id).is_none()
            {
                let handle = Handle::Watcher(Arc::clone(open));
                return Ok((self.handles.add_reader(handle)?, Content::Changing));
            }
            if let Some(log) = state.logs.get(&id).cloned() {
                drop(state);
                return Ok((self.open_log(log, false)?, Content::Changing));
            }
            let file = state.catalog.get_file(id).ok_or(Error::IsADirectory)?;
            (state.catalog.path(id), file.size, waiting(&state, id))
        };
        let damaged = |what: String| {
            self.state.write().damage(id, &what);
            Error::Corrupt(format!("{path}: {what}"))
        };
        let file = match self.open_finished(&path, &waiting) {
            Ok(file) => file,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                // It may have been removed between the two looks.
                self.attributes(place, id)?;
                return Err(damaged("its data is gone".to_owned()));
            }
            Err(error) => return Err(Error::store("open the data of the file")(error)),
        };
        let stat = rustix::fs::fstat(&file).map_err(Error::store("look at the data"))?;
        let plain =
            rustix::fs::FileType::from_raw_mode(stat.st_mode) == rustix::fs::FileType::RegularFile;
        if !plain || u64::try_from(stat.st_size) != Ok(size) {
            return Err(damaged(format!("its data has {} bytes, not {size}", stat.st_size)));
        }
        let file = Arc::new(file);
        let handle = self.handles.add_reader(Handle::Reader(Arc::clone(&file)))?;
        Ok((handle, Content::Finished(file)))
    }

    /// Opens the data of a finished file, which may at this moment be on its way from `open/` to
    /// its place: it is looked for there, then here, then there again.
    pub(crate) fn open_finished(
        &self,
        path: &StorePath,
        waiting: &Waiting,
    ) -> std::io::Result<File> {
        let gone = |error: &std::io::Error| error.kind() == std::io::ErrorKind::NotFound;
        match waiting {
            Waiting::Placed => self.store.open_data(path),
            // The move may have been done, and only its sync have failed.
            Waiting::Unplaced(name) => match self.store.open_unplaced(name) {
                Err(error) if gone(&error) => self.store.open_data(path),
                opened => opened,
            },
            Waiting::OnItsWay(name) => match self.store.open_data(path) {
                Err(error) if gone(&error) => match self.store.open_unplaced(name) {
                    Err(error) if gone(&error) => self.store.open_data(path),
                    opened => opened,
                },
                opened => opened,
            },
        }
    }

    /// Reads from an open file.
    ///
    /// # Errors
    /// What the disk says.
    pub fn read(&self, handle: HandleId, offset: u64, buffer: &mut [u8]) -> Result<usize> {
        let handle = self.handles.get(handle)?;
        let (file, end): (&File, u64) = match &handle {
            Handle::Writer(open) | Handle::Watcher(open) => (&open.file, u64::MAX),
            Handle::Reader(file) => (file, u64::MAX),
            // A write that is not whole does not count.
            Handle::Log(handle) => (&handle.file, handle.log.bytes()),
            Handle::Text(text) => return Ok(self.read_text(text, offset, buffer)),
            Handle::Segment(file, number) => {
                let read = self.read_segment(file, *number, offset, buffer);
                return read.map_err(Error::store("read the ledger"));
            }
            Handle::Directory(_) => return Err(Error::IsADirectory),
        };
        let most = usize::try_from(end.saturating_sub(offset)).unwrap_or(usize::MAX);
        let length = buffer.len().min(most);
        let buffer = &mut buffer[..length];
        let mut filled = 0;
        while filled < buffer.len() {
            match file.read_at(&mut buffer[filled..], offset + filled as u64) {
                Ok(0) => break,
                Ok(bytes) => filled += bytes,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) => return Err(Error::store("read the file")(error)),
            }
        }
        Ok(filled)
    }

    /// Finds the next data or hole.
    ///
    /// # Errors
    /// What the disk says; `ENXIO` beyond the end.
    pub fn seek(&self, handle: HandleId, offset: u64, hole: bool) -> Result<u64> {
        let handle = self.handles.get(handle)?;
        let file: &File = match &handle {
            Handle::Writer(open) | Handle::Watcher(open) => &open.file,
            Handle::Reader(file) => file,
            Handle::Log(handle) => &handle.file,
            Handle::Text(_) | Handle::Segment(..) => return Err(Refusal::BadValue.into()),
            Handle::Directory(_) => return Err(Error::IsADirectory),
        };
        let from = if hole {
            rustix::fs::SeekFrom::Hole(offset)
        } else {
            rustix::fs::SeekFrom::Data(offset)
        };
        rustix::fs::seek(file, from).map_err(Error::store("seek in the file"))
    }

    /// Opens a directory for listing: what is in it now.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::NotADirectory`]
    pub fn open_directory(&self, place: Place, id: u64) -> Result<HandleId> {
        let state = self.state.read();
        attributes(&state, place, id)?;
        if let Some(item) = Item::of(id) {
            let entries = item.entries(&state)?;
            return self.handles.add_reader(Handle::Directory(Arc::new(entries)));
        }
        let directory = state.directory(id)?;
        let mut entries = Vec::with_capacity(directory.children.len() + 2);
        let of = |id, name: &[u8]| {
            attributes(&state, place, id).ok().map(|shown| Entry {
                id,
                kind: shown.kind,
                name: name.to_vec(),
            })
        };
        entries.extend(of(id, b"."));
        // The root of a place is in itself.
        let above = if place.number(id) == ROOT { id } else { directory.parent };
        entries.extend(of(above, b".."));
        entries.extend(directory.children.iter().filter_map(|(n, id)| of(*id, n.as_bytes())));
        if id == ROOT && matches!(place, Place::View { .. }) {
            entries.push(Item::Root.entry());
        }
        let pending = state.pending.range((id, Name::first())..);
        let pending = pending.take_while(|((parent, _), _)| *parent == id);
        entries.extend(
            pending
                .filter(|((_, name), _)| !directory.children.contains_key(name))
                .filter_map(|((_, name), id)| of(*id, name.as_bytes())),
        );
        self.handles.add_reader(Handle::Directory(Arc::new(entries)))
    }

    /// The entries of an opened directory.
    ///
    /// # Errors
    /// [`Error::BadHandle`]
    pub fn entries(&self, handle: HandleId) -> Result<Arc<Vec<Entry>>> {
        match self.handles.get(handle)? {
            Handle::Directory(entries) => Ok(entries),
            Handle::Writer(_)
            | Handle::Watcher(_)
            | Handle::Reader(_)
            | Handle::Log(_)
            | Handle::Text(_)
            | Handle::Segment(..) => Err(Error::BadHandle),
        }
    }

    /// Room and use of the disk under the store; what is reserved is not available.
    ///
    /// # Errors
    /// What the disk says.
    pub fn disk(&self) -> Result<rustix::fs::StatVfs> {
        let mut disk = rustix::fs::fstatvfs(&self.store.data)
            .map_err(Error::store("ask the disk for its room"))?;
        disk.f_bavail = self.room.look()?.free_bytes / disk.f_frsize.max(1);
        Ok(disk)
    }
}
