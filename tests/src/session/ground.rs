//! What lies under a session: a new store in a temporary directory, with a clock set by hand.

use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::time::Duration;
use std::time::Instant;

use tempfile::TempDir;
use worm_fs::clock::ManualClock;
use worm_fs::config::ClassRule;
use worm_fs::config::Config;
use worm_fs::fs::Options;
use worm_fs::fs::Place;
use worm_fs::fs::SEGMENT_BYTES;
use worm_fs::fs::WormFs;
use worm_fs::store::OpenError;
use worm_fs::store::Store;

/// When the clock of each test starts: 2026-01-18T00:00:00Z.
pub const START_MS: i64 = 1_768_694_400_000;

/// The user whose class is `guest`: nobody.
pub const GUEST: u32 = 65_534;

/// The classes of the tests: `hourly` as most people have it, `daily` with room to lengthen,
/// `guest` for somebody who is not root, without a newest backup that is kept, and `logs`.
const CONFIG: &str = r#"
[class.hourly]
retention = "48h"

[class.daily]
retention = "7d"
max_retention = "14d"

[class.guest]
retention = "48h"
keep_last = 0
owner = 65534
group = 65534

[class.logs]
retention = "30d"
append_only = true
"#;

/// A store in a temporary directory, and what is needed to serve it.
#[derive(Debug)]
pub struct Ground {
    directory: TempDir,
    /// The mount points: apart, for a store may lie on a file system that is frozen.
    places: TempDir,
    /// What everything goes by.
    pub clock: Arc<ManualClock>,
    config: Mutex<Config>,
    /// How long a segment of the ledger is, from the next start on.
    pub segment_bytes: AtomicU64,
}

impl Default for Ground {
    fn default() -> Self {
        Self::within(&std::env::temp_dir())
    }
}

impl Ground {
    /// A new store in a directory of its own below this one, on whatever file system that is.
    ///
    /// # Panics
    /// When it cannot be made.
    #[must_use]
    pub fn within(directory: &Path) -> Self {
        let ground = Self::directories(directory, CONFIG);
        ground.make_store().expect("make a store");
        ground
    }

    /// The directories, and no store yet: where it will be is nothing. Its classes will be those
    /// of this configuration.
    ///
    /// # Panics
    /// When they cannot be made.
    #[must_use]
    pub fn bare(config: &str) -> Self {
        Self::directories(&std::env::temp_dir(), config)
    }

    fn directories(below: &Path, config: &str) -> Self {
        let directory = tempfile::tempdir_in(below).expect("make a temporary directory");
        let places = tempfile::tempdir().expect("make a temporary directory");
        let clock = Arc::new(ManualClock::new(START_MS));
        let config = Mutex::new(Config::parse(config).expect("the configuration of the tests"));
        let segment_bytes = AtomicU64::new(SEGMENT_BYTES);
        let ground = Self { directory, places, clock, config, segment_bytes };
        for place in [ground.active(), ground.view(), ground.logs()] {
            std::fs::create_dir(place).expect("make a mount point");
        }
        // Another user must be able to walk to the mounts; the store stays closed.
        let mode = rustix::fs::Mode::from_raw_mode(0o755);
        rustix::fs::chmod(ground.places.path(), mode).expect("open the directory");
        ground
    }

    /// Makes a new store.
    ///
    /// # Errors
    /// [`OpenError`]
    pub fn make_store(&self) -> Result<(), OpenError> {
        Store::create(&self.store(), |_| self.key(), self.clock.as_ref())
    }

    /// Where the store is.
    #[must_use]
    pub fn store(&self) -> PathBuf {
        self.directory.path().join("store")
    }

    /// Where a sealed file's data is.
    #[must_use]
    pub fn data(&self, path: &[u8]) -> PathBuf {
        let path: &std::ffi::OsStr = std::os::unix::ffi::OsStrExt::from_bytes(path);
        self.store().join("data").join(path)
    }

    /// Where its signing key is.
    #[must_use]
    pub fn key(&self) -> PathBuf {
        self.directory.path().join("key")
    }

    /// Where it is mounted, when it is.
    #[must_use]
    pub fn active(&self) -> PathBuf {
        self.places.path().join("active")
    }

    /// Where its view is mounted, when it is.
    #[must_use]
    pub fn view(&self) -> PathBuf {
        self.places.path().join("view")
    }

    /// Where its logs are mounted, when they are.
    #[must_use]
    pub fn logs(&self) -> PathBuf {
        self.places.path().join("logs")
    }

    /// The place of its logs, where it has such a class.
    pub(super) fn logs_place(fs: &WormFs) -> Option<Place> {
        fs.logs("logs")
    }

    /// Changes the rule of a class, from the next start on.
    ///
    /// # Panics
    /// When there is no such class.
    pub fn rule(&self, class: &str, change: impl FnOnce(&mut ClassRule)) {
        self.configure(|config| {
            change(config.classes.get_mut(class).expect("a class of the tests"));
        });
    }

    /// Changes the configuration, from the next start on.
    ///
    /// # Panics
    /// When another thread panicked.
    pub fn configure(&self, change: impl FnOnce(&mut Config)) {
        change(&mut self.config.lock().expect("no panic"));
    }

    /// What a daemon needs.
    ///
    /// # Panics
    /// When another thread panicked.
    #[must_use]
    pub fn options(&self) -> Options {
        Options {
            store: self.store(),
            key: self.key(),
            config: self.config.lock().expect("no panic").clone(),
            clock: Arc::clone(&self.clock) as _,
            segment_bytes: self.segment_bytes.load(Ordering::Relaxed),
        }
    }
}

/// The view of the tests: its files belong to root and to the group of [`GUEST`].
pub(super) const VIEW: Place = Place::View { group: GUEST };

/// Waits until a daemon that has begun knows what is in its store: until then nothing expires.
///
/// # Panics
/// When that takes too long.
pub fn wait_compared(fs: &Arc<WormFs>) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while fs.is_comparing() || Arc::strong_count(fs) > 1 {
        assert!(Instant::now() < deadline, "the data is still being compared");
        std::thread::sleep(Duration::from_millis(1));
    }
}
