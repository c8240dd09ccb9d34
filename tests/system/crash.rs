//! Crashes of the real daemon, and of the agent: killed at any moment, with system calls that fail,
//! on a disk without room. What was acknowledged is there, whole; what was not is nowhere, or
//! incomplete and named so.

mod agent;
mod full;
mod injected;
mod killed;

use std::fs::File;
use std::io::Write as _;

use sha2::Digest as _;
use system_tests::daemon::Daemon;
use system_tests::random::Random;
use system_tests::session::raw;

const BEGIN: u32 = 0xF501;
const COMMIT: u32 = 0xF502;
const ABORT: u32 = 0xF503;

/// Two classes: `kept` keeps what was acknowledged, `short` lets it expire at once. No limit but
/// the disk.
const RULES: &str = r#"
[class.kept]
retention = "7d"
limits.bytes = "1TiB"
limits.bytes_per_day = "1TiB"

[class.short]
retention = "1s"
keep_last = 0
"#;

/// Where a daemon finds these classes.
fn config(daemon: &Daemon) -> String {
    let config = daemon.directory().join("worm.toml");
    File::create_new(&config).unwrap().write_all(RULES.as_bytes()).unwrap();
    config.to_string_lossy().into_owned()
}

/// Bytes that differ from file to file, of lengths around all that matters: none, one write, the
/// length from which another thread digests, several buffers.
fn content(seed: u64) -> Vec<u8> {
    let length = [0, 10, 5_000, 300_000, 2_000_000][usize::try_from(seed % 5).unwrap()];
    Random::new(seed).bytes(length)
}

/// The SHA-256 of [`content`].
fn digest(seed: u64) -> String {
    hex::encode(sha2::Sha256::digest(content(seed)))
}

/// Writes and commits one file; every ninth is aborted instead. `Ok(true)` is an acknowledgement.
fn put(daemon: &Daemon, class: &str, name: &str, seed: u64) -> std::io::Result<bool> {
    let mut file = File::create_new(daemon.active().join(class).join(name))?;
    raw::ioctl(&file, BEGIN)?;
    file.write_all(&content(seed))?;
    if seed % 9 == 8 {
        raw::ioctl(&file, ABORT)?;
        return Ok(false);
    }
    raw::ioctl(&file, COMMIT)?;
    Ok(true)
}
