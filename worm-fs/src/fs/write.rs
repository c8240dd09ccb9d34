//! Making files: create, write, change what is not sealed yet, begin, commit, abort, close.

use std::sync::Arc;

use super::Attributes;
use super::Caller;
use super::HandleId;
use super::Place;
use super::WormFs;
use super::attributes::attributes;
use super::attributes::of_open;
use super::handles::Handle;
use super::handles::LogHandle;
use super::meter::Allowance;
use super::open_file::Ending;
use super::open_file::OpenFile;
use super::open_file::Outcome;
use super::open_file::Owner;
use super::state::OPEN_FILES_MAX;
use crate::catalog::Node;
use crate::error::Error;
use crate::error::Result;
use crate::policy;
use crate::policy::FileState;
use crate::policy::Refusal;
use crate::policy::Request;
use crate::policy::Target;
use crate::policy::limits::Amounts;
use crate::policy::name::Name;
use crate::record::Event;
use crate::store::layout::OpenName;

/// What `chmod`, `chown` and `utimensat` ask for.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct AttributeChange {
    /// Permission bits.
    pub mode: Option<u32>,
    /// Owner.
    pub uid: Option<u32>,
    /// Group.
    pub gid: Option<u32>,
    /// Modification time, nanoseconds since 1970.
    pub mtime_ns: Option<i64>,
    /// Access time was named; it is not kept, but naming it is a change.
    pub atime: bool,
    /// Length in bytes.
    pub size: Option<u64>,
}

/// Our own ioctls on the writing descriptor, `_IO(0xF5, n)`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Control {
    /// From here on only `COMMIT` makes the file whole.
    Begin,
    /// Seal it now.
    Commit,
    /// Give it up.
    Abort,
}

impl Control {
    /// Reads an ioctl's number.
    #[must_use]
    pub fn from_number(number: u32) -> Option<Self> {
        match number {
            0xF501 => Some(Self::Begin),
            0xF502 => Some(Self::Commit),
            0xF503 => Some(Self::Abort),
            _ => None,
        }
    }

    fn request(self) -> Request {
        match self {
            Self::Begin => Request::Begin,
            Self::Commit => Request::Commit,
            Self::Abort => Request::Abort,
        }
    }
}

impl WormFs {
    /// Creates a file and opens it for writing, for the only time in its life.
    ///
    /// # Errors
    /// [`Refusal::NameTaken`] and other refusals, or what the disk says.
    pub fn create(
        &self,
        place: Place,
        caller: Caller,
        parent: u64,
        name: &[u8],
        mode: u32,
    ) -> Result<(Attributes, HandleId)> {
        self.writable(place)?;
        let name = Name::new(name)?;
        let (now_ms, look) = (self.now_ms(), self.room.look()?);
        let (id, share) = {
            let mut state = self.state.write();
            state.accepting()?;
            attributes(&state, place, parent)?;
            state.directory(parent)?;
            policy::verdict(Request::Create, state.target(parent, now_ms)?)?;
            state.check_new(parent, &name)?;
            look.admit()?;
            state.disk_bytes = look.disk_bytes;
            let share = state.share(parent, Amounts::OPEN_FILE, now_ms)?;
            // This one is counted already.
            if state.open_files() > OPEN_FILES_MAX {
                return Err(Refusal::TooManyOpen.into());
            }
            (state.reserve(parent, &name)?, share)
        };
        let open_name = OpenName { id, parent, name: name.clone() };
        let made = self.clear_way(parent, &name).and_then(|()| {
            self.store.create_open(&open_name).map_err(Error::store("create the file"))
        });
        let file = match made {
            Ok(file) => file,
            Err(error) => {
                self.state.write().pending.remove(&(parent, name));
                return Err(error);
            }
        };
        let owner = Owner { mode: mode & 0o7777, uid: caller.uid, gid: caller.gid };
        let allowance = Allowance::new(share, Arc::clone(&self.room));
        let open = OpenFile::new(open_name, file, owner, allowance, &self.clock.read());
        let open = Arc::new(open);
        self.state.write().open.insert(id, Arc::clone(&open));
        Ok((of_open(&open), self.handles.add(Handle::Writer(open))))
    }

    /// Says why a file cannot be opened in a way that could change it. There is no such way.
    ///
    /// # Errors
    /// Always.
    pub fn open_to_write(&self, place: Place, id: u64) -> Result<()> {
        self.allowed(place, id, Request::OpenToWrite)
    }

    /// Asks the policy about something that exists.
    ///
    /// # Errors
    /// [`Refusal::ReadOnlyView`], [`Error::NotFound`], or what the policy says.
    pub fn allowed(&self, place: Place, id: u64, request: Request) -> Result<()> {
        let now_ms = self.now_ms();
        let state = self.state.read();
        attributes(&state, place, id)?;
        self.in_place(place)?;
        Ok(policy::verdict(request, state.target(id, now_ms)?)?)
    }

    /// As [`Self::allowed`], for a request that came through a descriptor.
    ///
    /// # Errors
    /// [`Refusal::ReadOnlyView`], [`Error::NotFound`], or what the policy says.
    pub fn allowed_by_handle(
        &self,
        place: Place,
        id: u64,
        handle: HandleId,
        request: Request,
    ) -> Result<()> {
        self.in_place(place)?;
        match self.handles.get(handle)? {
            Handle::Writer(open) => {
                Ok(policy::verdict(request, Target::File(open.file_state(true)))?)
            }
            Handle::Watcher(_)
            | Handle::Reader(_)
            | Handle::Log(_)
            | Handle::Text(_)
            | Handle::Segment(..)
            | Handle::Directory(_) => self.allowed(place, id, request),
        }
    }

    /// The view refuses every change before anything else is asked.
    fn in_place(&self, place: Place) -> Result<()> {
        match place {
            Place::Active | Place::Logs { .. } if self.committer.is_some() => Ok(()),
            Place::Active | Place::Logs { .. } | Place::View { .. } => {
                Err(Refusal::ReadOnlyView.into())
            }
        }
    }

    /// Writes bytes, at any offset, until the file is closed or committed; to a log at its end,
    /// whatever the offset.
    ///
    /// # Errors
    /// [`Refusal::Sealed`] after that; [`Refusal::OverLimit`] or [`Refusal::NoRoom`], after
    /// which the file cannot become whole any more; or what the disk says.
    pub fn write(&self, handle: HandleId, offset: u64, bytes: &[u8]) -> Result<usize> {
        match self.handles.get(handle)? {
            Handle::Writer(open) => open.write(offset, bytes, &self.clock.read()),
            Handle::Log(log) => self.append(&log, bytes),
            Handle::Watcher(_)
            | Handle::Reader(_)
            | Handle::Text(_)
            | Handle::Segment(..)
            | Handle::Directory(_) => Err(Error::BadHandle),
        }
    }

    /// Reserves room.
    ///
    /// # Errors
    /// As for [`Self::write`], but it spoils nothing; [`Refusal::Unsupported`] for every mode but 0 and `KEEP_SIZE`.
    pub fn allocate(&self, handle: HandleId, offset: u64, bytes: u64, mode: u32) -> Result<()> {
        let (open, reading) = (self.handles.writer(handle)?, self.clock.read());
        match rustix::fs::FallocateFlags::from_bits_retain(mode) {
            flags if flags.is_empty() => open.allocate(offset, bytes, false, &reading),
            rustix::fs::FallocateFlags::KEEP_SIZE => open.allocate(offset, bytes, true, &reading),
            _ => {
                let target = Target::File(open.file_state(true));
                policy::verdict(Request::AllocateOtherwise, target)?;
                Err(Refusal::Unsupported.into())
            }
        }
    }

    /// Changes attributes of what is not sealed yet, or of an empty directory.
    ///
    /// # Errors
    /// What the policy or the disk says. With several changes at once, all or none.
    pub fn set_attributes(
        &self,
        place: Place,
        id: u64,
        handle: Option<HandleId>,
        change: AttributeChange,
    ) -> Result<Attributes> {
        let now_ms = self.now_ms();
        self.state.read().directory_or_file(place, id)?;
        self.in_place(place)?;
        let writer = handle.and_then(|handle| self.handles.writer(handle).ok());
        let writer = writer.filter(|open| open.id == id);
        let target = match &writer {
            // The handle that created the file: not the same as the path to it.
            Some(open) if self.state.read().catalog.get_file(id).is_none() => {
                Target::File(open.file_state(true))
            }
            Some(_) | None => self.state.read().target(id, now_ms)?,
        };
        if change.size.is_some() {
            let request =
                if writer.is_some() { Request::SetLength } else { Request::SetLengthByPath };
            policy::verdict(request, target)?;
        }
        policy::verdict(Request::SetAttributes, target)?;
        if let Target::Directory { .. } = target {
            return self.set_directory(place, id, change);
        }
        let open = self.state.read().open.get(&id).cloned().ok_or(Refusal::Sealed)?;
        if let Some(bytes) = change.size {
            open.set_length(bytes, &self.clock.read())?;
        }
        let owner = |owner: &mut Owner| {
            owner.mode = change.mode.unwrap_or(owner.mode) & 0o7777;
            owner.uid = change.uid.unwrap_or(owner.uid);
            owner.gid = change.gid.unwrap_or(owner.gid);
        };
        open.set_attributes(owner, change.mtime_ns)?;
        Ok(of_open(&open))
    }

    fn set_directory(&self, place: Place, id: u64, change: AttributeChange) -> Result<Attributes> {
        let event = {
            let state = self.state.read();
            let directory = state.directory(id)?;
            Event::DirectoryChanged {
                id,
                mode: change.mode.unwrap_or(directory.mode) & 0o7777,
                uid: change.uid.unwrap_or(directory.uid),
                gid: change.gid.unwrap_or(directory.gid),
            }
        };
        // The times of a directory tell of its last change and nothing else.
        if change.mode.is_some() || change.uid.is_some() || change.gid.is_some() {
            let _until_recorded = self.share(id, Amounts::CHANGE)?;
            self.commit(vec![event])?;
        }
        self.attributes(place, id)
    }

    /// Makes what was written last, and reports what went wrong before.
    ///
    /// # Errors
    /// What the disk says or said.
    pub fn sync(&self, handle: HandleId) -> Result<()> {
        match self.handles.get(handle)? {
            Handle::Writer(open) => open.sync(),
            Handle::Log(LogHandle { log, file, appends: Some(_) }) => log.sync(&file),
            Handle::Watcher(_)
            | Handle::Reader(_)
            | Handle::Log(_)
            | Handle::Text(_)
            | Handle::Segment(..)
            | Handle::Directory(_) => Ok(()),
        }
    }

    /// Whether [`Self::sync`] has something to do for the disk.
    #[must_use]
    pub fn sync_takes_long(&self, handle: HandleId) -> bool {
        match self.handles.get(handle) {
            Ok(Handle::Writer(open)) => open.has_unsynced(),
            Ok(Handle::Log(LogHandle { log, appends: Some(_), .. })) => log.has_unsynced(),
            Ok(Handle::Log(_) | Handle::Watcher(_) | Handle::Reader(_) | Handle::Directory(_))
            | Ok(Handle::Text(_) | Handle::Segment(..))
            | Err(_) => false,
        }
    }

    /// `BEGIN`, `COMMIT` or `ABORT`. Takes as long as the seal takes.
    ///
    /// # Errors
    /// What the policy or the disk says.
    pub fn control(&self, place: Place, id: u64, handle: HandleId, control: Control) -> Result<()> {
        self.in_place(place)?;
        let open = match self.handles.get(handle)? {
            Handle::Writer(open) => open,
            // A descriptor that only reads: the policy says why not.
            Handle::Watcher(_)
            | Handle::Reader(_)
            | Handle::Log(_)
            | Handle::Text(_)
            | Handle::Segment(..)
            | Handle::Directory(_) => {
                return self.allowed(place, id, control.request());
            }
        };
        policy::verdict(control.request(), Target::File(open.file_state(true)))?;
        match control {
            Control::Begin => open.begin(),
            Control::Commit => match self.end(&open, Ending::Commit) {
                Some(Outcome::Sealed) => Ok(()),
                Some(Outcome::Incomplete) => {
                    Err(Error::store("commit the file")(rustix::io::Errno::IO))
                }
                Some(Outcome::Failed(errno)) => Err(Error::store("commit the file")(errno)),
                // Another holder was quicker.
                None => Err(Refusal::Sealed.into()),
            },
            Control::Abort => match self.end(&open, Ending::Abort) {
                Some(Outcome::Incomplete) => Ok(()),
                Some(Outcome::Failed(errno)) => Err(Error::store("abort the file")(errno)),
                Some(Outcome::Sealed) | None => Err(Refusal::Sealed.into()),
            },
        }
    }

    /// The kernel let go of a handle. For the one that created a file this is the last close:
    /// from here on nothing changes it. [`Self::finish`] does the rest and takes its time.
    ///
    /// # Errors
    /// [`Error::BadHandle`]
    pub fn release(&self, handle: HandleId) -> Result<Option<Finish>> {
        match self.handles.remove(handle)? {
            Handle::Writer(open) => {
                open.is_closed();
                Ok(open.end(Ending::LastClose).map(|ended| Finish { open, ended }))
            }
            Handle::Watcher(_)
            | Handle::Reader(_)
            | Handle::Log(_)
            | Handle::Text(_)
            | Handle::Segment(..)
            | Handle::Directory(_) => Ok(None),
        }
    }

    /// Where a file stands, for the tests of this crate and for `user.worm.state`.
    pub(crate) fn file_state(&self, id: u64) -> Result<FileState> {
        let now_ms = self.now_ms();
        match self.state.read().target(id, now_ms)? {
            Target::File(state) => Ok(state),
            Target::Root
            | Target::Class
            | Target::Directory { .. }
            | Target::IncompleteDirectory => Err(Error::IsADirectory),
        }
    }
}

/// A file that was closed and is to be finished.
#[derive(Debug)]
pub struct Finish {
    pub(crate) open: Arc<OpenFile>,
    pub(crate) ended: super::open_file::Ended,
}

impl super::state::State {
    /// That something is there and shown.
    fn directory_or_file(&self, place: Place, id: u64) -> Result<()> {
        match self.catalog.get(id) {
            Some(Node::Directory(_)) => self.directory(id).map(|_| ()),
            Some(Node::File(_)) | None => attributes(self, place, id).map(|_| ()),
        }
    }
}
