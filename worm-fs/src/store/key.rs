//! The file of a store's signing key, and how another one takes its place.
//!
//! KEY holds the key that signs. KEY.new is written before the ledger names it and is moved to KEY
//! after; what KEY held is kept as KEY.old-N. A crash may come between any two of these steps: the
//! newest head tells by which of the two it is signed, and [`Store::settle_key`] does the rest.

use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::io::Write as _;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::path::PathBuf;

use rustix::fs::AtFlags;

use super::OpenError;
use super::Store;
use super::create::make_private;
use super::durable;
use super::layout;
use super::note::SignedHead;
use super::note::StoreSigner;
use super::note::short;
use super::read_small;
use super::read_store_json;
use super::take_lock;
use crate::record::Keys;

/// How many keys that were replaced are kept beside the one that signs.
const OLD_MAX: u32 = 10_000;

/// KEY and what stands beside it.
#[derive(Debug)]
pub(crate) struct KeyFiles<'a> {
    key: &'a Path,
    new: PathBuf,
}

impl Store {
    /// Finishes a change of key that was interrupted after it was signed. It needs the key's
    /// directory, so it comes before anything is given up; nothing happens when nothing is left
    /// to do.
    ///
    /// # Errors
    /// [`OpenError`]; [`OpenError::Busy`] when there is something left to do and somebody is at it.
    pub fn settle_key(path: &Path, key: &Path) -> Result<(), OpenError> {
        let (root, json) = read_store_json(path)?;
        let files = KeyFiles::of(key);
        if files.is_settled(&json.store, &root) {
            return Ok(());
        }
        let _lock = take_lock(path, &root)?;
        files.settle(&json.store, &root).map(drop)
    }

    /// Reads the store's signing key, which must be the one in force. The store is locked.
    ///
    /// # Errors
    /// [`OpenError::Key`]
    pub(crate) fn signer(&self, key: &Path, keys: &Keys) -> Result<StoreSigner, OpenError> {
        let files = KeyFiles::of(key);
        files.settle(&self.id, &self.root)?;
        let signer = read(key, &self.id)?;
        if signer.public() == keys.newest() {
            return Ok(signer);
        }
        let public = signer.public();
        let (held, wanted) = (short(&public), short(keys.newest()));
        let since = keys.changes().last().map_or(1, |change| change.seq);
        Err(files.wrong(format!(
            "it holds {held}, and what signs this store since line {since} is {wanted}: give that \
             one with --key; if {held} is the newer one, the store was rolled back to before it"
        )))
    }
}

impl<'a> KeyFiles<'a> {
    pub(crate) fn of(key: &'a Path) -> Self {
        Self { key, new: beside(key, ".new") }
    }

    /// Writes the key that is to come. What an earlier attempt left there never signed anything.
    pub(crate) fn write_new(&self, signer: &StoreSigner) -> Result<(), OpenError> {
        let (dir, _) = self.directory()?;
        match rustix::fs::unlinkat(&dir, name_of(&self.new), AtFlags::empty()) {
            Ok(()) | Err(rustix::io::Errno::NOENT) => write(&self.new, signer),
            Err(errno) => Err(self.wrong(format!("the new one cannot be written: {errno}"))),
        }
    }

    /// Whether KEY signed the head, or nothing here can change that it did not.
    fn is_settled(&self, store: &str, root: &OwnedFd) -> bool {
        let head = read_small(root, layout::HEAD).ok();
        let head = head.and_then(|head| SignedHead::read(std::str::from_utf8(&head).ok()?).ok());
        // Without a head nobody can tell; whoever opens the store says what is wrong with it.
        let Some(head) = head else { return true };
        let signed = |path: &Path| {
            read(path, store).is_ok_and(|signer| head.verify(&signer.public()).is_ok())
        };
        signed(self.key) || !signed(&self.new)
    }

    /// Moves the new key into its place when it signs already. Gives where the one before it is
    /// now, if it was there.
    pub(crate) fn settle(&self, store: &str, root: &OwnedFd) -> Result<Option<PathBuf>, OpenError> {
        if self.is_settled(store, root) {
            return Ok(None);
        }
        let (dir, key) = self.directory()?;
        let publish = || durable::publish((&dir, name_of(&self.new)), (&dir, key));
        let moved = || -> io::Result<Option<PathBuf>> {
            // Whoever wrote the head may have ended before it was synced: it must not be lost when
            // the old key has gone.
            let head = read_small(root, layout::HEAD)?;
            durable::replace(root, layout::HEAD, layout::HEAD_SPARE, &head)?;
            let old = self.keep_old(&dir, key)?;
            publish().map(|()| old)
        };
        moved().map_err(|error| {
            let new = self.new.display();
            self.wrong(format!("{new} signs now and could not be moved to it: {error}"))
        })
    }

    /// Moves KEY aside, if it is there.
    fn keep_old(&self, dir: &OwnedFd, key: &[u8]) -> io::Result<Option<PathBuf>> {
        for number in 1..=OLD_MAX {
            let old = beside(self.key, &format!(".old-{number}"));
            match durable::publish((dir, key), (dir, name_of(&old))) {
                Ok(()) => return Ok(Some(old)),
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error),
            }
        }
        Err(io::Error::other("too many old keys are kept beside it"))
    }

    /// The directory that they are in, and the name of KEY.
    fn directory(&self) -> Result<(OwnedFd, &'a [u8]), OpenError> {
        let opened = File::open(parent_of(self.key));
        let dir = opened.map_err(|error| self.wrong(format!("its directory: {error}")))?;
        Ok((dir.into(), name_of(self.key)))
    }

    fn wrong(&self, what: String) -> OpenError {
        OpenError::Key { path: self.key.to_owned(), what }
    }
}

/// Writes a key file, which must not be there yet.
///
/// # Errors
/// [`OpenError::Key`]
pub(super) fn write(path: &Path, signer: &StoreSigner) -> Result<(), OpenError> {
    let fail = |error: io::Error| {
        let what = if error.kind() == io::ErrorKind::AlreadyExists {
            "it exists already: give another place with --key".to_owned()
        } else {
            format!("cannot be written: {error}")
        };
        OpenError::Key { path: path.to_owned(), what }
    };
    if path.file_name().is_none() {
        return Err(fail(io::ErrorKind::InvalidInput.into()));
    }
    let write = || -> io::Result<()> {
        make_private(parent_of(path))?;
        let dir: OwnedFd = File::open(parent_of(path))?.into();
        let mut file = durable::create_new(&dir, name_of(path))?;
        file.write_all(signer.encode().as_bytes())?;
        file.sync_all()?;
        durable::sync_directory(&dir)
    };
    write().map_err(fail)
}

fn read(path: &Path, store: &str) -> Result<StoreSigner, OpenError> {
    let fail = |what: String| OpenError::Key { path: path.to_owned(), what };
    let text = std::fs::read_to_string(path)
        .map_err(|error| fail(format!("{error}: give the one of this store with --key")))?;
    StoreSigner::decode(&text, store).map_err(|error| fail(error.to_string()))
}

/// A path with more at the end of its name.
fn beside(path: &Path, more: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(more);
    name.into()
}

fn parent_of(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

fn name_of(path: &Path) -> &[u8] {
    path.file_name().map_or(b"", std::os::unix::ffi::OsStrExt::as_bytes)
}
