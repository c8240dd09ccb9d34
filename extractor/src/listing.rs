//! I/O: what lies in a view or a mirror, and what the mount says about its files. Writes nothing.

use std::fs::File;
use std::io;
use std::io::Read;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::path::PathBuf;

use rustix::fs::CWD;
use rustix::fs::Mode;
use rustix::fs::OFlags;
use rustix::io::Errno;
use worm_ingest::manifest::folder::is_date;

use crate::catalog::Folder;
use crate::catalog::Found;
use crate::error::Error;
use crate::error::Result;

/// Says on every directory of a write-once mount which store it shows.
const STORE: &str = "user.worm.store";
/// Says on a sealed file what its SHA-256 is.
const SHA256: &str = "user.worm.sha256";
/// No value of ours is longer.
const ATTRIBUTE_BYTES_MAX: usize = 4096;

/// The directory that backups are read from.
#[derive(Debug)]
pub(crate) struct View {
    /// Where it is.
    pub(crate) root: PathBuf,
    /// Which store it shows; none for a plain directory.
    pub(crate) store: Option<String>,
}

impl View {
    /// Looks at the directory, and refuses a plain one unless told otherwise.
    pub(crate) fn open(root: &Path, allow_plain: bool) -> Result<Self> {
        let dir = File::open(root).map_err(|error| unreadable("the view", root, error))?;
        let store = attribute(&dir, STORE).map_err(|error| unreadable("the view", root, error))?;
        if store.is_none() && !allow_plain {
            return Err(Error::NotWriteOnce(root.to_owned()));
        }
        Ok(Self { root: root.to_owned(), store })
    }

    /// The classes: top-level directories without the hidden ones. A directory of another file
    /// system below a write-once view is refused: it promises nothing.
    pub(crate) fn list(&self, class: Option<&str>) -> Result<Vec<Found>> {
        let classes = classes(&self.root)?;
        if let Some(class) = class
            && !classes.iter().any(|known| known == class)
        {
            let known = classes.join(", ");
            let root = self.root.display();
            return Err(Error::NotFound(format!("no class {class} in {root}: there is {known}")));
        }
        let mut listing = Vec::new();
        for class in classes.into_iter().filter(|known| class.is_none_or(|class| class == known)) {
            let path = self.root.join(&class);
            let mut folders = vec![Folder { class: class.clone(), date: None, database: None }];
            folders.extend(directories(&path)?.into_iter().map(|database| Folder {
                class: class.clone(),
                date: None,
                database: Some(database),
            }));
            for folder in folders {
                self.check_store(&self.root.join(folder.path()))?;
                list_folder(&self.root, folder, &mut listing)?;
            }
        }
        Ok(listing)
    }

    /// Makes sure that a directory belongs to what we look at.
    fn check_store(&self, path: &Path) -> Result<()> {
        let store = File::open(path)
            .and_then(|dir| attribute(&dir, STORE))
            .map_err(Error::io(format!("read {}", path.display())))?;
        if store == self.store { Ok(()) } else { Err(Error::NotWriteOnce(path.to_owned())) }
    }

    /// The digest that the mount promises for an open file; none on a plain directory.
    pub(crate) fn digest(&self, file: &File, path: &Path) -> Result<Option<String>> {
        let digest = sealed_digest(file, path)?;
        match (&self.store, digest) {
            (Some(_), None) => {
                Err(Error::Failed(format!("{} has no digest yet: is it sealed?", path.display())))
            }
            (_, digest) => Ok(digest),
        }
    }
}

/// What a mount promises about an open file; none where there is no mount.
pub(crate) fn sealed_digest(file: &File, path: &Path) -> Result<Option<String>> {
    attribute(file, SHA256).map_err(Error::io(format!("read {SHA256} of {}", path.display())))
}

/// Lists a mirror (`class/date/file`), or a mount (`class/file`): both may be restored from. In both,
/// databases may have directories of their own.
pub(crate) fn list_mirror(root: &Path) -> Result<Vec<Found>> {
    let mut listing = Vec::new();
    for class in classes(root)? {
        let top = Folder { class: class.clone(), date: None, database: None };
        list_folder(root, top.clone(), &mut listing)?;
        for name in directories(&root.join(&class))? {
            // No directory of a database looks like a date.
            if !is_date(&name) {
                list_folder(root, Folder { database: Some(name), ..top.clone() }, &mut listing)?;
                continue;
            }
            let day = Folder { date: Some(name), ..top.clone() };
            let databases = directories(&root.join(day.path()))?;
            list_folder(root, day.clone(), &mut listing)?;
            for database in databases {
                let folder = Folder { database: Some(database), ..day.clone() };
                list_folder(root, folder, &mut listing)?;
            }
        }
    }
    Ok(listing)
}

/// Opens a regular file for reading, and does not follow a link in its last component.
pub(crate) fn open_file(path: &Path) -> io::Result<File> {
    open_file_in(CWD, path)
}

/// The same for a name in an open directory.
pub(crate) fn open_file_in(dir: impl AsFd, name: impl rustix::path::Arg) -> io::Result<File> {
    // Non-blocking, because to open a pipe that somebody put there would wait for ever.
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = File::from(rustix::fs::openat(dir, name, flags, Mode::empty())?);
    if file.metadata()?.is_file() {
        return Ok(file);
    }
    Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"))
}

/// Reads a whole small file. One that is longer than `bytes_max` is refused.
pub(crate) fn read_small(file: &File, bytes_max: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let read = file.take(bytes_max + 1).read_to_end(&mut bytes)?;
    if read as u64 > bytes_max {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, "longer than it can be"));
    }
    Ok(bytes)
}

fn classes(root: &Path) -> Result<Vec<String>> {
    match directories(root) {
        Err(Error::Io { source, .. }) => Err(unreadable("the directory", root, source)),
        classes => classes,
    }
}

/// Names of the directories in `path`, without hidden ones, in order.
fn directories(path: &Path) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in entries(path)? {
        let kind = entry.file_type().map_err(Error::io(format!("list {}", path.display())))?;
        if let Ok(name) = entry.file_name().into_string()
            && !name.starts_with('.')
        {
            if kind.is_dir() {
                names.push(name);
            } else if kind.is_symlink() {
                tracing::warn!("{} is a link, and passed over", path.join(name).display());
            }
        }
    }
    names.sort();
    Ok(names)
}

fn list_folder(root: &Path, folder: Folder, listing: &mut Vec<Found>) -> Result<()> {
    let path = root.join(folder.path());
    for entry in entries(&path)? {
        let Ok(name) = entry.file_name().into_string() else { continue };
        let meta = match entry.metadata() {
            Ok(meta) => meta,
            // Expired since the directory was read.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(Error::io(format!("look at {}", path.display()))(error)),
        };
        if meta.is_file() {
            let (bytes, modified) = (meta.len(), meta.mtime());
            listing.push(Found { folder: folder.clone(), name, bytes, modified });
        }
    }
    Ok(())
}

fn entries(path: &Path) -> Result<Vec<std::fs::DirEntry>> {
    std::fs::read_dir(path)
        .and_then(Iterator::collect)
        .map_err(Error::io(format!("list {}", path.display())))
}

/// Says what a missing or a dead directory means.
fn unreadable(what: &str, path: &Path, error: io::Error) -> Error {
    let path = path.display();
    if error.kind() == io::ErrorKind::NotFound {
        return Error::NotFound(format!("{what} {path} does not exist"));
    }
    Error::io(format!("read {what} {path}"))(error)
}

/// An extended attribute as text; none where there is none, or where the file system has none.
fn attribute(file: impl AsFd, name: &str) -> io::Result<Option<String>> {
    let mut value = [0; ATTRIBUTE_BYTES_MAX];
    match rustix::fs::fgetxattr(file, name, &mut value) {
        Ok(len) => Ok(Some(String::from_utf8_lossy(&value[..len]).into_owned())),
        Err(Errno::NODATA | Errno::OPNOTSUPP) => Ok(None),
        Err(errno) => Err(errno.into()),
    }
}
