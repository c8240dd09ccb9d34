//! A disk to try things on.

use std::path::Path;
use std::path::PathBuf;
use std::process::Command;

use crate::binary;

/// A block device over a file, with ext4 on it. It goes when its last user has.
#[derive(Debug)]
pub struct Device {
    path: PathBuf,
    _image: tempfile::NamedTempFile,
}

impl Device {
    /// An empty one of 64 MiB.
    ///
    /// # Panics
    /// When there is no loop device, or no mkfs.ext4.
    #[must_use]
    pub fn ext4() -> Self {
        let image = tempfile::NamedTempFile::with_prefix("worm-image-").expect("make an image");
        image.as_file().set_len(64 << 20).expect("make it big");
        binary::run(Command::new("mkfs.ext4").args(["-q", "-F"]).arg(image.path())).success();
        let mut attach = Command::new("losetup");
        let shown = binary::run(attach.args(["--find", "--show"]).arg(image.path())).success();
        Self { path: shown.trim().into(), _image: image }
    }

    /// Where it is, in `/dev`.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        drop(binary::run(Command::new("losetup").arg("--detach").arg(&self.path)));
    }
}
