//! File systems made for a test: on a loop device, in memory, or one over the other. Dropped,
//! they are gone, also when the test failed.

use std::io::BufRead as _;
use std::io::BufReader;
use std::io::Write as _;
use std::path::Path;
use std::path::PathBuf;
use std::process::Child;
use std::process::Command;
use std::process::Stdio;

use rustix::fs::Mode;
use rustix::mount::MountFlags;
use rustix::mount::UnmountFlags;
use system_tests::binary;

/// Room for the store and what the tests put in it. XFS wants 300 MiB; the image is sparse.
const IMAGE_BYTES: u64 = 512 << 20;

/// What a store can lie on.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Kind {
    /// On a loop device.
    Ext4,
    /// On a loop device.
    Xfs,
    /// On a loop device.
    Btrfs,
    /// In memory.
    Tmpfs,
    /// With both layers in memory.
    Overlay,
}

/// A new file system, mounted.
#[derive(Debug)]
pub(crate) struct Backing {
    /// What was mounted, in that order. Undone backwards.
    mounted: Vec<PathBuf>,
    directory: tempfile::TempDir,
}

impl Backing {
    /// Makes and mounts one.
    pub(crate) fn new(kind: Kind) -> Self {
        let directory = tempfile::Builder::new().prefix("worm-test-").tempdir().unwrap();
        let mut backing = Self { mounted: Vec::new(), directory };
        // Another user must be able to walk to it.
        let mode = Mode::from_raw_mode(0o755);
        rustix::fs::chmod(backing.directory.path(), mode).unwrap();
        std::fs::create_dir(backing.path()).unwrap();
        match kind {
            Kind::Ext4 => backing.on_loop("mkfs.ext4", &["-q", "-F"]),
            Kind::Xfs => backing.on_loop("mkfs.xfs", &["-q"]),
            Kind::Btrfs => backing.on_loop("mkfs.btrfs", &["-q"]),
            Kind::Tmpfs => backing.mount(&backing.path(), "tmpfs", "mode=0755"),
            Kind::Overlay => backing.in_layers(),
        }
        backing
    }

    /// Where it is mounted.
    pub(crate) fn path(&self) -> PathBuf {
        self.directory.path().join("mounted")
    }

    /// A file in a directory that is not on it.
    fn beside(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn on_loop(&mut self, make: &str, options: &[&str]) {
        let image = self.beside("image");
        std::fs::File::create(&image).unwrap().set_len(IMAGE_BYTES).unwrap();
        let _words = binary::run(Command::new(make).args(options).arg(&image)).success();
        // mount(8) has the loop device go with the mount, however that ends.
        let mut command = Command::new("mount");
        command.args(["-o", "loop,noatime"]).arg(&image).arg(self.path());
        let _words = binary::run(&mut command).success();
        self.mounted.push(self.path());
    }

    fn in_layers(&mut self) {
        let layers = self.beside("layers");
        std::fs::create_dir(&layers).unwrap();
        self.mount(&layers, "tmpfs", "mode=0755");
        let [lower, upper, work] = ["lower", "upper", "work"].map(|name| layers.join(name));
        for layer in [&lower, &upper, &work] {
            std::fs::create_dir(layer).unwrap();
        }
        let show = |path: &Path| path.display().to_string();
        let options =
            format!("lowerdir={},upperdir={},workdir={}", show(&lower), show(&upper), show(&work));
        self.mount(&self.path(), "overlay", &options);
    }

    fn mount(&mut self, at: &Path, kind: &str, options: &str) {
        let options = std::ffi::CString::new(options).unwrap();
        let flags = MountFlags::NOATIME;
        rustix::mount::mount("worm-test", at, kind, flags, Some(options.as_c_str()))
            .unwrap_or_else(|errno| panic!("mount {kind}: {errno}: the tests run as root"));
        self.mounted.push(at.to_owned());
    }
}

impl Drop for Backing {
    fn drop(&mut self) {
        for path in self.mounted.iter().rev() {
            let gone = rustix::mount::unmount(path, UnmountFlags::DETACH);
            assert!(gone.is_ok() || std::thread::panicking(), "{}: {gone:?}", path.display());
        }
    }
}

/// Nothing reaches the disk of a file system until this is dropped, or this process ends in
/// whatever way: a child thaws it when the pipe to it closes.
#[derive(Debug)]
pub(crate) struct Frozen {
    keeper: Child,
}

impl Frozen {
    /// Stops all writing to the file system at `path`. When this returns it has stopped.
    pub(crate) fn new(path: &Path) -> Self {
        let script =
            "fsfreeze --freeze \"$1\" && echo frozen && read -r _; fsfreeze --unfreeze \"$1\"";
        let mut command = Command::new("sh");
        command.args(["-c", script, "sh"]).arg(path).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut keeper = command.spawn().unwrap();
        let mut said = String::new();
        let _bytes = BufReader::new(keeper.stdout.take().unwrap()).read_line(&mut said).unwrap();
        let frozen = Self { keeper };
        assert_eq!(said, "frozen\n", "fsfreeze says why not");
        frozen
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        let mut pipe = self.keeper.stdin.take().unwrap();
        // It may have failed and gone.
        drop(pipe.write_all(b"thaw\n"));
        drop(pipe);
        let ended = self.keeper.wait().unwrap();
        assert!(ended.success() || std::thread::panicking(), "thaw: {ended}");
    }
}
