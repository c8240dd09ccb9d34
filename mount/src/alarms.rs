//! What somebody should look at: in the log when it begins, in the run file as long as it lasts.

use std::sync::Arc;

use parking_lot::Mutex;
use worm_fs::fs::WormFs;

use crate::run_file::Note;
use crate::watch::PlaceNote;
use crate::watch::Watch;

/// What is wrong, as somebody should see it: of the store, and of its places.
#[derive(Debug)]
pub(crate) struct Alarms {
    /// Has those of the store.
    pub(crate) fs: Arc<WormFs>,
    /// Where others find them, unless nobody looks for this daemon.
    pub(crate) note: Option<Note>,
    places: Mutex<Vec<PlaceNote>>,
}

impl Alarms {
    /// None yet.
    pub(crate) fn new(fs: Arc<WormFs>, note: Option<Note>) -> Self {
        Self { fs, note, places: Mutex::default() }
    }

    /// Looks at the places, and notes what has changed.
    pub(crate) fn look(&self, watch: &Watch) {
        let now = match watch.look() {
            Ok(now) => now,
            Err(error) => return tracing::error!(%error, "the mounts cannot be looked at"),
        };
        let before = std::mem::replace(&mut *self.places.lock(), now.clone());
        if now == before {
            return;
        }
        for place in now.iter().filter(|place| !before.contains(place)) {
            let at = place.path.display();
            match place.alarm() {
                Some(alarm) => tracing::error!(alarm),
                None => tracing::info!(%at, state = place.state, "place"),
            }
        }
        self.note();
    }

    /// The places as they were last seen, and all that somebody should look at.
    pub(crate) fn now(&self) -> (Vec<PlaceNote>, Vec<String>) {
        let places = self.places.lock().clone();
        let mut alarms: Vec<String> = places.iter().filter_map(PlaceNote::alarm).collect();
        alarms.extend(self.fs.alarms());
        (places, alarms)
    }

    /// Notes them where others find them without asking.
    pub(crate) fn note(&self) {
        let Some(note) = &self.note else { return };
        let (places, alarms) = self.now();
        note.update(|now| (now.places, now.alarms) = (places, alarms));
    }
}
