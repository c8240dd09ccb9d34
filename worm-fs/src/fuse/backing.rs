//! How the data of a file reaches its reader. The kernel reads sealed files straight from the
//! backing file (passthrough) where it can; where it cannot, through here and the page cache.

use std::collections::HashMap;
use std::collections::HashSet;
use std::os::fd::AsFd as _;
use std::sync::Arc;
use std::sync::Weak;

use fuser::BackingId;
use fuser::FileHandle;
use fuser::FopenFlags;
use fuser::ReplyOpen;
use parking_lot::Mutex;

use crate::fs::Content;
use crate::fs::HandleId;

/// How many files are remembered as cached; beyond that all are looked at anew.
const CACHED_MAX: usize = 1 << 16;

/// What the kernel reads from directly, of one mount.
#[derive(Debug)]
pub(super) struct Backing {
    wanted: bool,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    off: bool,
    worked: bool,
    /// All handles of a file must name the same backing id while one of them is open.
    by_file: HashMap<u64, Weak<BackingId>>,
    by_handle: HashMap<HandleId, Arc<BackingId>>,
    /// Files that were opened through the page cache since they were finished.
    cached: HashSet<u64>,
}

impl Backing {
    /// `wanted` is whether it may be tried at all.
    pub(super) fn new(wanted: bool) -> Self {
        Self { wanted, state: Mutex::new(State::default()) }
    }

    /// How deep the kernel must let file systems be stacked; 0 when nothing is to be stacked.
    ///
    /// Never 2, which a store on overlayfs would take: behind two of them a mapping of a sealed
    /// file names the store's own file, and `/proc/PID/map_files` opens that for writing.
    pub(super) fn stack_depth(&self) -> u32 {
        u32::from(self.wanted)
    }

    /// From here on everything is read through the daemon.
    pub(super) fn give_up(&self, why: &str) {
        let mut state = self.state.lock();
        if !state.off {
            tracing::info!(why, "sealed files are read through the daemon");
        }
        state.off = true;
    }

    /// Answers an open with the way in which this file is read.
    pub(super) fn opened(&self, id: u64, handle: HandleId, content: Content, reply: ReplyOpen) {
        let fh = FileHandle(handle.0);
        let file = match content {
            Content::Changing => return reply.opened(fh, FopenFlags::FOPEN_DIRECT_IO),
            Content::Finished(file) => file,
        };
        let mut state = self.state.lock();
        if state.off {
            return reply.opened(fh, state.cache_flags(id));
        }
        let shared = state.by_file.get(&id).and_then(Weak::upgrade);
        let backing = match shared {
            Some(backing) => Ok(backing),
            None => reply.open_backing(file.as_fd()).map(Arc::new),
        };
        match backing {
            Ok(backing) => {
                state.worked = true;
                state.by_file.insert(id, Arc::downgrade(&backing));
                state.by_handle.insert(handle, Arc::clone(&backing));
                // The reply goes out under the lock, so that no other open of this file comes
                // between with another id.
                reply.opened_passthrough(fh, FopenFlags::empty(), &backing);
            }
            // Cached and passthrough handles of one file do not go together; direct ones do.
            Err(_) if state.worked => reply.opened(fh, FopenFlags::FOPEN_DIRECT_IO),
            Err(error) => {
                let flags = state.cache_flags(id);
                drop(state);
                self.give_up(&error.to_string());
                reply.opened(fh, flags);
            }
        }
    }

    /// Forgets a handle.
    pub(super) fn released(&self, handle: HandleId) {
        let mut state = self.state.lock();
        state.by_handle.remove(&handle);
        if state.by_file.len() > 2 * state.by_handle.len() + 64 {
            state.by_file.retain(|_, backing| backing.strong_count() > 0);
        }
    }
}

impl State {
    /// The first open of a finished file drops what the kernel may have kept from the time when
    /// it was being written (a private mapping reads through the cache); later ones keep it.
    fn cache_flags(&mut self, id: u64) -> FopenFlags {
        if self.cached.len() >= CACHED_MAX {
            self.cached.clear();
        }
        if self.cached.insert(id) { FopenFlags::empty() } else { FopenFlags::FOPEN_KEEP_CACHE }
    }
}
