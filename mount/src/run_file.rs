//! What a daemon notes about itself, so that other commands find its store: `STORE-ID.json` in
//! the run directory.

use std::fs::File;
use std::io::Write as _;
use std::path::Path;
use std::path::PathBuf;

use parking_lot::Mutex;
use serde::Deserialize;
use serde::Serialize;

use crate::outcome::Exit;
use crate::outcome::Failure;
use crate::outcome::Outcome;
use crate::watch::PlaceNote;

/// Where it is, unless told otherwise.
pub(crate) const RUN_DIRECTORY: &str = "/run/worm";

/// A daemon at work.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub(crate) struct RunFile {
    /// Its process id, in its own PID namespace.
    pub(crate) pid: u32,
    /// The store's directory, in its own mount namespace.
    pub(crate) store: PathBuf,
    /// Where it serves it.
    pub(crate) mounts: Vec<PathBuf>,
    /// What stands at each of them.
    #[serde(default)]
    pub(crate) places: Vec<PlaceNote>,
    /// What it has given up.
    #[serde(default)]
    pub(crate) sandbox: String,
    /// What somebody should look at.
    #[serde(default)]
    pub(crate) alarms: Vec<String>,
}

/// The run file of the daemon that this process is, kept up to date. A daemon that only shows a
/// copy of a store has none: its store has the id of the original, whose daemon is the one to find.
#[derive(Debug)]
pub(crate) struct Note {
    directory: PathBuf,
    store: String,
    now: Mutex<RunFile>,
}

impl Note {
    /// Notes the daemon.
    pub(crate) fn new(directory: &Path, store: &str, now: RunFile) -> Self {
        let (directory, store) = (directory.to_owned(), store.to_owned());
        let note = Self { directory, store, now: Mutex::new(now) };
        note.write(&note.now.lock());
        note
    }

    /// Changes what is noted.
    pub(crate) fn update(&self, change: impl FnOnce(&mut RunFile)) {
        let mut now = self.now.lock();
        let before = now.clone();
        change(&mut now);
        if *now != before {
            self.write(&now);
        }
    }

    /// Takes the run file away: the daemon ends.
    pub(crate) fn remove(&self) {
        drop(std::fs::remove_file(path(&self.directory, &self.store)));
    }

    fn write(&self, now: &RunFile) {
        if let Err(failure) = now.write(&self.directory, &self.store) {
            tracing::warn!(message = failure.message);
        }
    }
}

/// Where a store's run file is.
pub(crate) fn path(directory: &Path, store: &str) -> PathBuf {
    directory.join(format!("{store}.json"))
}

/// Where a daemon in the background logs.
pub(crate) fn log_path(directory: &Path, store: &str) -> PathBuf {
    directory.join(format!("{store}.log"))
}

impl RunFile {
    /// Notes a daemon.
    pub(crate) fn write(&self, directory: &Path, store: &str) -> Outcome {
        let write = || -> std::io::Result<()> {
            std::fs::create_dir_all(directory)?;
            let (whole, new) = (path(directory, store), directory.join(format!("{store}.new")));
            let mut file = File::create(&new)?;
            serde_json::to_writer(&mut file, self)?;
            file.write_all(b"\n")?;
            // Whoever reads it sees the old or the new.
            Ok(rustix::fs::rename(new, whole)?)
        };
        write().map_err(Failure::doing(format_args!("note the daemon in {}", directory.display())))
    }

    /// Reads what a daemon noted.
    pub(crate) fn read(directory: &Path, store: &str) -> Outcome<Self> {
        let path = path(directory, store);
        let read = || -> std::io::Result<Self> {
            Ok(serde_json::from_str(&std::fs::read_to_string(&path)?)?)
        };
        read().map_err(|error| {
            let hint = "name the store instead of the mount point";
            Failure::new(Exit::NotFound, format_args!("{}: {error}: {hint}", path.display()))
        })
    }
}

/// The store that a path means: itself, or what is mounted there.
pub(crate) fn store_of(path: &Path, run_directory: &Path) -> Outcome<PathBuf> {
    if path.join(worm_fs::store::layout::STORE_JSON).exists() {
        return Ok(path.to_owned());
    }
    let mut id = [0; 64];
    match rustix::fs::getxattr(path, "user.worm.store", &mut id) {
        Ok(length) => {
            let id = String::from_utf8_lossy(&id[..length]).into_owned();
            RunFile::read(run_directory, &id).map(|run| run.store)
        }
        Err(error) => {
            let what = "neither a store nor a place where one is mounted";
            Err(Failure::new(Exit::NotFound, format_args!("{}: {what} ({error})", path.display())))
        }
    }
}
