//! A new store: made in a directory that is absent or empty, and a store only when all is there.

use std::fs::File;
use std::io;
use std::io::Write as _;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::path::PathBuf;

use rustix::fs::FlockOperation;

use super::OpenError;
use super::Store;
use super::StoreJson;
use super::disk;
use super::durable;
use super::key;
use super::layout;
use super::note::Head;
use super::note::StoreSigner;
use crate::clock::Clock;
use crate::clock::rfc3339;
use crate::record::Digest;
use crate::record::Event;
use crate::record::FORMAT;
use crate::record::Line;

impl Store {
    /// Makes a new store in `path`, which must be absent or empty. `place` is where its signing
    /// key goes, given the store's id.
    ///
    /// # Errors
    /// [`OpenError`]
    pub fn create(
        path: &Path,
        place: impl FnOnce(&str) -> PathBuf,
        clock: &dyn Clock,
    ) -> Result<(), OpenError> {
        let made = || format!("make the store {}", path.display());
        make_private(path).map_err(disk(made()))?;
        let root: OwnedFd = File::open(path).map_err(disk(made()))?.into();
        // Of two who make one at once, the second finds it made, or comes again.
        if rustix::fs::flock(&root, FlockOperation::NonBlockingLockExclusive).is_err() {
            return Err(OpenError::Busy(path.to_owned()));
        }
        refuse_foreign(path)?;
        let mut id = [0; 8];
        getrandom::fill(&mut id)
            .map_err(|error| disk("get random numbers")(io::Error::other(error.to_string())))?;
        let id = hex::encode(id);
        let signer = StoreSigner::generate(&id).map_err(disk("get random numbers"))?;
        key::write(&place(&id), &signer)?;

        let doing = || format!("make the store {}", path.display());
        for directory in [layout::OPEN, layout::DATA, layout::LEDGER, layout::SNAPSHOT] {
            durable::make_directory(&root, directory.as_bytes()).map_err(disk(doing()))?;
        }
        let reading = clock.read();
        let key = signer.public();
        let line = Line {
            seq: 1,
            prev: Digest::ZERO,
            clock_ms: reading.system_ms,
            time: rfc3339(reading.system_ms),
            event: Event::Created { format: FORMAT, store: id.clone(), key: key.clone(), reading },
        };
        let bytes = line.encode().map_err(io::Error::other).map_err(disk(doing()))?;
        let head = Head { store: id.clone(), seq: 1, digest: Digest::of(&bytes) };
        let write = || -> io::Result<()> {
            let dir = durable::open_directory(&root, layout::LEDGER.as_bytes())?;
            let mut segment = durable::create_new(&dir, layout::segment(1).as_bytes())?;
            segment.write_all(&bytes)?;
            segment.sync_all()?;
            durable::sync_directory(&dir)?;
            durable::replace(
                &root,
                layout::HEAD,
                layout::HEAD_SPARE,
                signer.sign(&head).as_bytes(),
            )?;
            // Last, because from here on it is a store.
            let json = serde_json::to_vec(&StoreJson { format: FORMAT, store: id.clone(), key })?;
            let spare = format!("{}.new", layout::STORE_JSON);
            durable::replace(&root, layout::STORE_JSON, &spare, &json)
        };
        write().map_err(disk(doing()))
    }
}

/// A directory that holds anything but the beginnings of a store is not ours to fill. What an
/// earlier attempt left behind before it was a store holds nothing, and is cleared.
fn refuse_foreign(path: &Path) -> Result<(), OpenError> {
    let doing = || format!("look into {}", path.display());
    let entries = match std::fs::read_dir(path) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(disk(doing())(error)),
    };
    let mut ours = Vec::new();
    for entry in entries {
        let name = entry.map_err(disk(doing()))?.file_name();
        let name = name.to_string_lossy().into_owned();
        let beginning = layout::ENTRIES.contains(&name.as_str()) || name == "store.json.new";
        if !beginning || name == layout::STORE_JSON {
            // `lost+found` is what a file system of its own begins with.
            if name != "lost+found" {
                return Err(OpenError::NotEmpty { path: path.to_owned(), found: name });
            }
            continue;
        }
        ours.push(name);
    }
    let segment = path.join(layout::LEDGER).join(layout::segment(1));
    match std::fs::metadata(&segment) {
        Ok(_) => std::fs::remove_file(&segment).map_err(disk(doing()))?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(disk(doing())(error)),
    }
    for name in [layout::OPEN, layout::DATA, layout::LEDGER, layout::SNAPSHOT] {
        if ours.iter().any(|found| found == name) {
            std::fs::remove_dir(path.join(name)).map_err(|_error| OpenError::NotEmpty {
                path: path.to_owned(),
                found: name.to_owned(),
            })?;
        }
    }
    Ok(())
}

pub(super) fn make_private(path: &Path) -> io::Result<()> {
    use std::os::unix::fs::DirBuilderExt as _;
    let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path);
    made.and_then(|()| match path.canonicalize()?.parent() {
        Some(parent) => durable::sync_directory(File::open(parent)?),
        None => Ok(()),
    })
}
