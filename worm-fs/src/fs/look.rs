//! What a daemon tells of its store while it serves it.

use super::WormFs;
use super::attributes::of_open;
use super::open_file::OpenFile;
use crate::clock::rfc3339;
use crate::error::Error;
use crate::error::Result;
use crate::policy::FileState;
use crate::policy::name::Name;
use crate::policy::name::StorePath;
use crate::report;
use crate::report::Description;
use crate::report::ExpiryPlan;
use crate::report::FileAttributes;
use crate::report::Now;
use crate::report::Room;
use crate::report::Serving;
use crate::report::Standing;
use crate::report::Status;
use crate::store::pages;
use crate::store::pages::Page;
use crate::store::pages::Position;

impl WormFs {
    /// The clocks as they stand.
    fn moment(&self) -> Now {
        let reading = self.clock.read();
        Now::of(&self.state.read().catalog, &reading)
    }

    /// Everything known about a path.
    #[must_use]
    pub fn describe(&self, path: &StorePath) -> Description {
        let now = self.moment();
        let state = self.state.read();
        let mut description = report::describe(&state.catalog, now, path);
        if let (Standing::Expired, Some(kept)) = (description.standing, &mut description.kept) {
            kept.doubt = state.find(path).and_then(|id| state.frozen_by(id, now.clock_ms));
            return description;
        }
        if !matches!(description.standing, Standing::Free | Standing::NotAClass) {
            return description;
        }
        let (parent, name) = path.split();
        let (Some(parent), Ok(name)) = (state.catalog.find(&parent), Name::new(name)) else {
            return description;
        };
        if let Some(open) = state.find(path).and_then(|id| state.open.get(&id)) {
            description.standing = standing_of(open);
            description.file = Some(attributes_of(open));
        } else if state.strays.contains(path) {
            description.standing = Standing::Stray;
        } else if !state.is_free(parent, &name) {
            description.standing = Standing::Moving;
        }
        description
    }

    /// What expiry would do now.
    #[must_use]
    pub fn expiry(&self) -> ExpiryPlan {
        let now = self.moment();
        let state = self.state.read();
        report::expiry(&state.catalog, now, |id| state.frozen_by(id, now.clock_ms))
    }

    /// The store at a glance. What only the process knows of itself is handed in.
    #[must_use]
    pub fn status(&self, serving: Serving) -> Status {
        let now = self.moment();
        let (room, usage) = (self.room().ok(), self.usage());
        let state = self.state.read();
        let seq = state.catalog.seq;
        let serving = Serving {
            open_files: state.open.len(),
            unwitnessed: self.carried().map(|carried| seq.saturating_sub(carried)),
            refusals: self.refusals.counts(),
            usage,
            ..serving
        };
        report::status(&state.catalog, seq, now, room, Some(serving), state.alarms())
    }

    fn room(&self) -> Result<Room> {
        self.disk().map(|disk| Room::of(&disk))
    }

    /// A page of the ledger.
    ///
    /// # Errors
    /// What the disk says.
    pub fn ledger_page(&self, from: Position) -> Result<Page> {
        pages::page(&self.store.ledger, from).map_err(Error::store("read the ledger"))
    }
}

fn standing_of(open: &OpenFile) -> Standing {
    match open.file_state(false) {
        FileState::Writing { .. } => Standing::Writing,
        FileState::Closing
        | FileState::Sealed(_)
        | FileState::Incomplete(_)
        | FileState::Appending(_) => Standing::Closing,
    }
}

fn attributes_of(open: &OpenFile) -> FileAttributes {
    let shown = of_open(open);
    FileAttributes {
        size: shown.size,
        sha256: None,
        mode: format!("{:04o}", shown.mode),
        uid: shown.uid,
        gid: shown.gid,
        modified_at: rfc3339(shown.mtime_ns / 1_000_000),
    }
}
