//! What a command is about: a store, or a path in one; and whom to ask about it, its daemon or,
//! where none serves, its ledger on the disk.

use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::path::PathBuf;

use rustix::io::Errno;
use serde::de::DeserializeOwned;
use worm_fs::clock::Clock as _;
use worm_fs::clock::MachineClock;
use worm_fs::clock::Reading;
use worm_fs::policy::name;
use worm_fs::policy::name::StorePath;
use worm_fs::report::Now;
use worm_fs::store;
use worm_fs::store::Access;
use worm_fs::store::Loaded;
use worm_fs::store::Store;
use worm_fs::store::layout::STORE_JSON;

use crate::cli::admin::Door;
use crate::cli::admin::Place;
use crate::control::Ask;
use crate::control::client;
use crate::control::socket_path;
use crate::mount::resolve;
use crate::outcome::Exit;
use crate::outcome::Failure;
use crate::outcome::Outcome;
use crate::run_file::RunFile;
use crate::target;
use crate::target::Standing;

/// A store, as a command means it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Subject {
    id: String,
    /// Its directory, where that is known.
    directory: Option<PathBuf>,
    socket: PathBuf,
}

impl Subject {
    /// The store that a path means: itself, or what is mounted there.
    pub(crate) fn of_store(path: &Path, door: &Door) -> Outcome<Self> {
        if path.join(STORE_JSON).exists() {
            let id = Store::id_of(path)?;
            return Ok(Self::new(id, Some(path.to_owned()), door));
        }
        let whole = resolve(path)?;
        match mounted_id(&whole)? {
            Some(id) => Ok(Self::of_id(id, door)),
            None => {
                let message = "neither a store nor a place where one is mounted";
                Err(Failure::new(Exit::NotFound, format_args!("{}: {message}", path.display())))
            }
        }
    }

    /// The store that is meant when none is named: the only one whose daemon noted itself.
    pub(crate) fn of_place(place: &Place) -> Outcome<Self> {
        if let Some(path) = &place.store {
            return Self::of_store(path, &place.door);
        }
        let mut ids: Vec<String> = std::fs::read_dir(&place.door.run_dir)
            .into_iter()
            .flatten()
            .flatten()
            .filter_map(|entry| {
                let name = entry.file_name().into_string().ok()?;
                name.strip_suffix(".json").map(str::to_owned)
            })
            .collect();
        match (ids.pop(), ids.is_empty()) {
            (Some(id), true) => Ok(Self::of_id(id, &place.door)),
            (Some(_), false) => Err(Failure::new(
                Exit::Usage,
                format_args!("{} stores are served: name one with --store", ids.len() + 1),
            )),
            (None, _) => {
                let message = "no daemon has noted itself there: name the store with --store";
                Err(Failure::new(
                    Exit::Preflight,
                    format_args!("{}: {message}", place.door.run_dir.display()),
                ))
            }
        }
    }

    /// The store and the path in it that a path means: `CLASS/NAME` with `--store`, else a path
    /// in a mount. Nothing needs to be there.
    pub(crate) fn of_path(path: &Path, place: &Place) -> Outcome<(Self, StorePath)> {
        if let Some(store) = &place.store {
            if path.is_absolute() {
                let message = "with --store, name it as in the mount: CLASS/NAME";
                return Err(Failure::new(
                    Exit::Usage,
                    format_args!("{}: {message}", path.display()),
                ));
            }
            return Ok((Self::of_store(store, &place.door)?, store_path(path)?));
        }
        let whole = resolve(path)?;
        for root in whole.ancestors() {
            let Some(id) = mounted_id(root)? else { continue };
            let inside = whole.strip_prefix(root).unwrap_or(Path::new(""));
            let mut class = [0; 256];
            if rustix::fs::getxattr(root, "user.worm.class", &mut class).is_ok() {
                let message =
                    "a part of a mount is bound here: name it as CLASS/NAME, with --store";
                return Err(Failure::new(
                    Exit::Usage,
                    format_args!("{}: {message}", root.display()),
                ));
            }
            return Ok((Self::of_id(id, &place.door), store_path(inside)?));
        }
        let message = "not in a mounted store: name it as CLASS/NAME, with --store";
        Err(Failure::new(Exit::NotWriteOnce, format_args!("{}: {message}", path.display())))
    }

    fn of_id(id: String, door: &Door) -> Self {
        let directory = RunFile::read(&door.run_dir, &id).ok().map(|note| note.store);
        Self::new(id, directory, door)
    }

    fn new(id: String, directory: Option<PathBuf>, door: &Door) -> Self {
        let socket = door.socket.clone().unwrap_or_else(|| socket_path(&door.run_dir, &id));
        Self { id, directory, socket }
    }

    /// Asks the daemon. `None`: nobody serves the store.
    pub(crate) fn ask<T: DeserializeOwned>(&self, ask: Ask) -> Outcome<Option<T>> {
        let answer = client::ask(&self.socket, ask)?;
        if answer.is_none() && self.is_served() {
            let message = format!(
                "a daemon serves store {}, but does not listen at {}: give its --run-dir or \
                 --socket",
                self.id,
                self.socket.display()
            );
            return Err(Failure::new(Exit::Preflight, message));
        }
        Ok(answer)
    }

    /// Asks the daemon for something that only a daemon can do.
    pub(crate) fn demand<T: DeserializeOwned>(&self, ask: Ask) -> Outcome<T> {
        self.ask(ask)?.ok_or_else(|| {
            let message = format!(
                "no daemon serves store {} (nobody listens at {}): worm mount it first",
                self.id,
                self.socket.display()
            );
            Failure::new(Exit::Preflight, message)
        })
    }

    fn is_served(&self) -> bool {
        self.directory.as_deref().is_some_and(store::is_served)
    }

    /// Its directory.
    pub(crate) fn directory(&self) -> Outcome<&Path> {
        self.directory.as_deref().ok_or_else(|| {
            let message = "nobody serves it, and where it lies is not noted: give --store";
            Failure::new(Exit::Preflight, format_args!("store {}: {message}", self.id))
        })
    }

    /// Reads it from the disk, with the machine's clocks.
    pub(crate) fn load(&self) -> Outcome<(Store, Loaded, Reading)> {
        let (store, loaded) = Store::open(self.directory()?, Access::Look)?;
        let clock = MachineClock::new().map_err(Failure::doing("read the clocks"))?;
        Ok((store, loaded, clock.read()))
    }

    /// Reads it from the disk, with both clocks as they stand.
    pub(crate) fn read(&self) -> Outcome<(Store, Loaded, Now)> {
        let (store, loaded, reading) = self.load()?;
        let now = Now::of(&loaded.catalog, &reading);
        Ok((store, loaded, now))
    }
}

/// The id of the store that is mounted at exactly this place, dead or alive.
fn mounted_id(place: &Path) -> Outcome<Option<String>> {
    let Standing::Ours { store, .. } = target::standing(place)? else { return Ok(None) };
    let mut id = [0; 64];
    match rustix::fs::getxattr(place, "user.worm.store", &mut id) {
        Ok(length) if id[..length] != *store.as_bytes() => {
            let message = "it does not answer as the store that it was mounted as";
            Err(Failure::new(Exit::NotWriteOnce, format_args!("{}: {message}", place.display())))
        }
        Ok(_) | Err(Errno::NOTCONN | Errno::CONNABORTED) => Ok(Some(store)),
        Err(error) => Err(Failure::doing(format_args!("ask {}", place.display()))(error)),
    }
}

/// A path below the mount, whatever bytes are in it.
pub(crate) fn store_path(path: &Path) -> Outcome<StorePath> {
    let bytes = path.as_os_str().as_bytes();
    let components = bytes.split(|byte| *byte == b'/').filter(|name| !matches!(*name, b"" | b"."));
    let joined = components.collect::<Vec<_>>().join(&b'/');
    if joined.is_empty() {
        return Ok(StorePath::root());
    }
    StorePath::decode(&name::encode(&joined))
        .map_err(|refusal| Failure::new(Exit::Usage, format_args!("{}: {refusal}", path.display())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_taken_byte_for_byte() {
        let bytes = |text: &[u8]| store_path(Path::new(std::ffi::OsStr::from_bytes(text)));
        assert_eq!(bytes(b"hourly/./x%/").unwrap().as_bytes(), b"hourly/x%");
        assert_eq!(bytes(b"hourly/\xff").unwrap().to_string(), "hourly/%FF");
        assert_eq!(bytes(b"").unwrap(), StorePath::root());
        assert_eq!(bytes(b"hourly/../x").unwrap_err().exit, Exit::Usage);
    }
}
