//! I/O: one file into the mirror, exactly once: copied, or found there with the same bytes.
//!
//! In the mirror files are 0440 (0400 if passwords stand in them) and directories 0750, as in the view: a dump is not for everybody
//! on the machine. Files keep the modification time of the source.

use std::fs::File;
use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use crate::cancel::Cancel;
use crate::copy;
use crate::durable;
use crate::durable::Published;
use crate::durable::Staging;
use crate::error::Error;
use crate::error::Result;
use crate::listing;
use crate::plan::Action;
use crate::plan::Expected;
use crate::progress::Progress;
use crate::source::Source;

/// Owner and group read; nobody writes.
const FILE_MODE: u32 = 0o440;
/// Only the owner reads.
const SECRET_MODE: u32 = 0o400;

/// A mirror that a run writes to. The caller holds its lock.
pub(crate) struct Mirror<'run> {
    pub(crate) root: &'run Path,
    pub(crate) staging: &'run Staging,
    pub(crate) cancel: &'run Cancel,
    pub(crate) progress: &'run Progress,
}

impl Mirror<'_> {
    /// Puts `source` at `path` below the mirror, in its directory `dir`, or finds it there. Returns when its bytes and its
    /// name are on disk, and says whether it was copied.
    ///
    /// [`Error::Mismatch`] when the source is not what it must be (then it gets no name here), or
    /// when the name holds other bytes (then they stay).
    pub(crate) fn put(
        &self,
        action: Action,
        source: &Source,
        class: &str,
        dir: &File,
        path: &Path,
    ) -> Result<bool> {
        self.progress.on(&source.name);
        let target = self.root.join(path);
        match action {
            Action::Believe => return Ok(false),
            Action::Compare => {}
            Action::Copy => {
                if self.copy(source, class, dir, &target)? == Published::Yes {
                    return Ok(true);
                }
            }
        }
        self.compare(source, dir, &target)?;
        Ok(false)
    }

    /// Copies to staging, and publishes only what is right. Leaves nothing behind but the file.
    fn copy(&self, source: &Source, class: &str, dir: &File, target: &Path) -> Result<Published> {
        let (staging, file) = self.staging.create(class, &source.name)?;
        let published =
            self.fill(source, &file).and_then(|()| durable::publish(&staging, &file, dir, target));
        if !matches!(published, Ok(Published::Yes)) {
            // If this fails, the next run sweeps it.
            drop(std::fs::remove_file(&staging));
        }
        published
    }

    fn fill(&self, source: &Source, file: &File) -> Result<()> {
        let doing = |verb: &str| format!("{verb} the copy of {}", source.path.display());
        let mode = if source.secret { SECRET_MODE } else { FILE_MODE };
        file.set_permissions(Permissions::from_mode(mode))
            .map_err(Error::io(doing("set the mode of")))?;
        let written = copy::copy(&source.file, file, self.cancel, |n| self.progress.add(n))?;
        check(&source.path, &written, &source.expected)?;
        same_time(source, file).map_err(Error::io(doing("set the time of")))?;
        file.sync_all().map_err(Error::io(doing("sync")))
    }

    /// The name is taken. The same bytes are success: an earlier run died before it could say so,
    /// which is also why file and directory are synced again.
    fn compare(&self, source: &Source, dir: &File, target: &Path) -> Result<()> {
        let doing = || format!("read {}", target.display());
        let name = target.file_name().unwrap_or_default();
        let file = listing::open_file_in(dir, name).map_err(Error::io(doing()))?;
        let held = copy::digest(&file, self.cancel, |_| {})?;
        if held != source.expected {
            return Err(Error::Mismatch(format!(
                "{} holds other bytes ({} of SHA-256 {}) than the backup ({} of {}). It was left \
                 as it is: look at it, move it away, and run again",
                target.display(),
                held.bytes,
                held.sha256,
                source.expected.bytes,
                source.expected.sha256
            )));
        }
        // Of another time it would be read again at every run. That is all that is lost by failing.
        drop(same_time(source, &file));
        file.sync_all().map_err(Error::io(format!("sync {}", target.display())))?;
        dir.sync_all().map_err(Error::io(format!("sync the directory of {}", target.display())))
    }
}

/// Gives `copy` the modification time of `source`.
fn same_time(source: &Source, copy: &File) -> std::io::Result<()> {
    copy.set_modified(source.file.metadata()?.modified()?)
}

/// Says what is wrong when `found` is not what was promised.
pub(crate) fn check(path: &Path, found: &Expected, promised: &Expected) -> Result<()> {
    if found == promised {
        return Ok(());
    }
    Err(Error::Mismatch(format!(
        "{} is damaged: {} bytes of SHA-256 {}, but promised were {} of {}",
        path.display(),
        found.bytes,
        found.sha256,
        promised.bytes,
        promised.sha256
    )))
}
