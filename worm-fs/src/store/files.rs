//! The files of a store: in `open/` while they are written, in `data/` for good.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;

use rustix::fs::AtFlags;
use rustix::fs::Dir;
use rustix::fs::FileType;
use rustix::io::Errno;

use super::Store;
use super::durable;
use super::layout::OpenName;
use crate::policy::name::Name;
use crate::policy::name::StorePath;

/// Something that stands in `data/`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Found {
    /// A directory.
    Directory,
    /// A file of so many bytes.
    File(u64),
    /// Anything else: nothing that we would make.
    Other,
}

impl Found {
    fn of(stat: &rustix::fs::Stat) -> Self {
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => Self::File(u64::try_from(stat.st_size).unwrap_or(0)),
            FileType::Directory => Self::Directory,
            FileType::Symlink
            | FileType::Fifo
            | FileType::Socket
            | FileType::CharacterDevice
            | FileType::BlockDevice
            | FileType::Unknown => Self::Other,
        }
    }
}

impl Store {
    /// Creates the backing file of a new file.
    pub(crate) fn create_open(&self, name: &OpenName) -> io::Result<File> {
        durable::create_new(&self.open, &name.encode())
    }

    /// Makes the names in `open/` last.
    pub(crate) fn sync_open(&self) -> io::Result<()> {
        durable::sync_directory(&self.open)
    }

    /// Takes the old name of a file away that has its place already: a power cut can leave both.
    /// When they are not the same file, neither is touched.
    pub(crate) fn forget_open(&self, name: &[u8], path: &StorePath) -> io::Result<()> {
        let old = rustix::fs::fstat(durable::open_file(&self.open, name)?)?;
        let new = rustix::fs::fstat(self.open_data(path)?)?;
        if (old.st_dev, old.st_ino) != (new.st_dev, new.st_ino) {
            return Err(io::Error::other("two different files have its name"));
        }
        self.remove_unplaced(name)
    }

    /// Gives a finished file its place in `data/`. What is in the way is not replaced.
    pub(crate) fn publish(&self, name: &[u8], path: &StorePath) -> io::Result<()> {
        let (parent, last) = path.split();
        let parent = durable::open_directory(&self.data, parent.as_bytes())?;
        durable::publish((&self.open, name), (parent, last))
    }

    /// The same once more, after an error: what was moved already is only synced.
    pub(crate) fn publish_again(&self, name: &[u8], path: &StorePath) -> io::Result<()> {
        match self.publish(name, path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                self.open_data(path)?;
                let (parent, _) = path.split();
                durable::sync_directory(durable::open_directory(&self.data, parent.as_bytes())?)
            }
            published => published,
        }
    }

    /// Opens the data of a finished file.
    pub(crate) fn open_data(&self, path: &StorePath) -> io::Result<File> {
        durable::open_file(&self.data, path.as_bytes())
    }

    /// Opens the data of a log, which grows. An empty one may have to be made: the record of a log
    /// comes before its data. When this returns `Ok`, its name lasts.
    pub(crate) fn open_log(&self, path: &StorePath, is_empty: bool) -> io::Result<File> {
        if !is_empty {
            return durable::open_to_write(&self.data, path.as_bytes());
        }
        let (parent, last) = path.split();
        let parent = durable::open_directory(&self.data, parent.as_bytes())?;
        let file = match durable::open_to_write(&parent, last) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                durable::create_new(&parent, last)?
            }
            opened => opened?,
        };
        durable::sync_directory(parent)?;
        Ok(file)
    }

    /// Opens a finished file that could not be given its place yet.
    pub(crate) fn open_unplaced(&self, name: &[u8]) -> io::Result<File> {
        durable::open_file(&self.open, name)
    }

    /// Makes a file in `open/` last that somebody else wrote, with its name.
    pub(crate) fn sync_unplaced(&self, name: &[u8]) -> io::Result<()> {
        self.open_unplaced(name)?.sync_all()?;
        self.sync_open()
    }

    /// Makes a directory in `data/`; one that is there is good.
    pub(crate) fn make_data_directory(&self, path: &StorePath) -> io::Result<()> {
        let (parent, last) = path.split();
        durable::make_directory(durable::open_directory(&self.data, parent.as_bytes())?, last)
    }

    /// Makes the names in a directory in `data/` last.
    pub(crate) fn sync_data_directory(&self, path: &StorePath) -> io::Result<()> {
        durable::sync_directory(durable::open_directory(&self.data, path.as_bytes())?)
    }

    /// Removes an empty directory from `data/`; one that is gone is good.
    pub(crate) fn remove_data_directory(&self, path: &StorePath) -> io::Result<()> {
        self.remove(path, AtFlags::REMOVEDIR)
    }

    /// Removes the data of an expired file; one that is gone is good.
    pub(crate) fn remove_data(&self, path: &StorePath) -> io::Result<()> {
        self.remove(path, AtFlags::empty())
    }

    /// Removes a name from `open/`.
    fn remove_unplaced(&self, name: &[u8]) -> io::Result<()> {
        match rustix::fs::unlinkat(&self.open, name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => durable::sync_directory(&self.open),
            Err(errno) => Err(errno.into()),
        }
    }

    fn remove(&self, path: &StorePath, flags: AtFlags) -> io::Result<()> {
        let (parent, last) = path.split();
        let parent = durable::open_directory(&self.data, parent.as_bytes())?;
        match rustix::fs::unlinkat(&parent, last, flags) {
            Ok(()) | Err(Errno::NOENT) => durable::sync_directory(parent),
            Err(errno) => Err(errno.into()),
        }
    }

    /// Everything in `open/`, with its length.
    pub(crate) fn scan_open(&self) -> io::Result<Vec<(Vec<u8>, u64)>> {
        let mut files = Vec::new();
        for (name, found) in scan(&self.open)? {
            if let Found::File(bytes) = found {
                files.push((name, bytes));
            }
        }
        Ok(files)
    }

    /// What stands at a path in `data/`, if anything.
    pub(crate) fn look(&self, path: &StorePath) -> io::Result<Option<Found>> {
        let (parent, last) = path.split();
        let stat = durable::open_directory(&self.data, parent.as_bytes())
            .and_then(|dir| Ok(rustix::fs::statat(dir, last, AtFlags::SYMLINK_NOFOLLOW)?));
        match stat {
            Ok(stat) => Ok(Some(Found::of(&stat))),
            Err(error) => match Errno::from_io_error(&error) {
                // Where a parent is no directory there is nothing in it.
                Some(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Ok(None),
                Some(_) | None => Err(error),
            },
        }
    }

    /// What stands at each of these paths in `data/`.
    pub(crate) fn look_at(&self, paths: Vec<StorePath>) -> io::Result<BTreeMap<StorePath, Found>> {
        let mut all = BTreeMap::new();
        for path in paths {
            if let Some(found) = self.look(&path)? {
                all.insert(path, found);
            }
        }
        Ok(all)
    }

    /// Everything in a directory in `data/`, sorted; nothing when it is not there.
    pub(crate) fn list_data(&self, path: &StorePath) -> io::Result<Vec<(Name, Found)>> {
        let dir = match durable::open_directory(&self.data, path.as_bytes()) {
            Ok(dir) => dir,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error),
        };
        let mut entries = Vec::new();
        for (name, found) in scan(&dir)? {
            let name = Name::new(&name).map_err(io::Error::other)?;
            entries.push((name, found));
        }
        entries.sort_by(|a, b| a.0.cmp(&b.0));
        Ok(entries)
    }
}

/// Everything in a directory. What goes meanwhile is left out.
pub(crate) fn scan(dir: &OwnedFd) -> io::Result<Vec<(Vec<u8>, Found)>> {
    let mut entries = Vec::new();
    for entry in Dir::read_from(dir)? {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if matches!(name, b"." | b"..") {
            continue;
        }
        match rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => entries.push((name.to_vec(), Found::of(&stat))),
            // It went while we looked.
            Err(Errno::NOENT) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
    Ok(entries)
}
