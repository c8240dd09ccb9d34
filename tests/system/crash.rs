//! The daemon is killed again and again under load. What was acknowledged is there, whole; what
//! was not is nowhere, or incomplete and named so.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write as _;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::time::Duration;

use sha2::Digest as _;
use system_tests::daemon::Daemon;
use system_tests::daemon::sha256;
use system_tests::session::raw;

const KILLS: u64 = 12;
const WRITERS: u64 = 4;
/// How much of the writing comes before a kill: these take turns.
const BEFORE_A_KILL: [u64; 4] = [1, 9, 40, 120];
const BEGIN: u32 = 0xF501;
const COMMIT: u32 = 0xF502;
const ABORT: u32 = 0xF503;

/// Bytes that differ from file to file, of lengths around all that matters: none, one write, the
/// length from which another thread digests, several buffers.
fn content(seed: u64) -> Vec<u8> {
    let length = [0, 10, 5_000, 300_000, 2_000_000][usize::try_from(seed % 5).unwrap()];
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[0]
    };
    (0..length).map(|_| next()).collect()
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

#[test]
fn what_was_acknowledged_survives_every_kill() {
    let daemon = Daemon::prepare();
    let config = daemon.directory().join("worm.toml");
    File::create_new(&config)
        .unwrap()
        .write_all(
            b"[class.kept]\nretention = \"7d\"\n[class.short]\nretention = \"1s\"\nkeep_last = 0\n",
        )
        .unwrap();
    let config = config.to_string_lossy().into_owned();
    let (counter, mut kept) = (AtomicU64::new(0), BTreeMap::new());
    for kill in 0..KILLS {
        daemon.mount(&["--config", &config]).success();
        let (stop, written) = (AtomicBool::new(false), AtomicU64::new(0));
        let enough = BEFORE_A_KILL[usize::try_from(kill).unwrap() % BEFORE_A_KILL.len()];
        std::thread::scope(|scope| {
            let work = || {
                let mut acknowledged = Vec::new();
                while !stop.load(Ordering::Relaxed) {
                    let seed = counter.fetch_add(1, Ordering::Relaxed);
                    let (class, name) =
                        (if seed % 3 == 0 { "short" } else { "kept" }, format!("{seed}"));
                    match put(&daemon, class, &name, seed) {
                        Ok(true) if class == "kept" => acknowledged.push(seed),
                        // Not every failure means that the daemon is gone; another one does.
                        Ok(_) | Err(_) => {}
                    }
                    written.fetch_add(1, Ordering::Relaxed);
                }
                acknowledged
            };
            let writers: Vec<_> = (0..WRITERS).map(|_| scope.spawn(work)).collect();
            while written.load(Ordering::Relaxed) < enough {
                std::thread::sleep(Duration::from_millis(1));
            }
            daemon.kill();
            stop.store(true, Ordering::Relaxed);
            for writer in writers {
                kept.extend(writer.join().unwrap().into_iter().map(|seed| (seed, kill)));
            }
        });
    }
    daemon.mount(&["--config", &config]).success();
    assert!(kept.len() > 50, "only {} files were acknowledged", kept.len());
    for (seed, kill) in &kept {
        let path = daemon.active().join("kept").join(seed.to_string());
        let meant = hex::encode(sha2::Sha256::digest(content(*seed)));
        assert_eq!(sha256(&path), meant, "file {seed}, before kill {kill}");
    }
    let report = daemon.verify();
    assert!(report["problems"].as_array().unwrap().is_empty(), "{report}");
    let said = daemon.worm("status", &daemon.store(), &[]);
    assert_eq!(said.code(), 0, "{}", said.stdout);
}
