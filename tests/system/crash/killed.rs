//! The daemon is killed again and again under load.

use std::collections::BTreeMap;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::time::Duration;

use system_tests::daemon::Daemon;
use system_tests::daemon::sha256;
use system_tests::random::Random;
use system_tests::rounds;

use super::digest;
use super::put;

/// How often a store is killed before the next one is begun.
const KILLS: u64 = 20;
const WRITERS: u64 = 4;
/// How many files are written at most before a kill, and then how long the processor is kept
/// busy at most, in turns of a loop.
const BEFORE_A_KILL: (usize, usize) = (120, 1_000_000);
#[test]
fn what_was_acknowledged_survives_every_kill() {
    let mut acknowledged = 0;
    let stores = rounds(1, 10) as u64;
    for seed in 0..stores {
        acknowledged += kill_again_and_again(seed);
    }
    println!("kills: {}, {acknowledged} files acknowledged before them", stores * KILLS);
}

/// Gives how many files were acknowledged.
fn kill_again_and_again(seed: u64) -> usize {
    let daemon = Daemon::prepare();
    let config = super::config(&daemon);
    let (counter, mut random) = (AtomicU64::new(0), Random::new(seed));
    let (mut kept, mut last) = (BTreeMap::new(), Vec::new());
    for kill in 0..KILLS {
        // Half of the time segments end so often that a kill meets that, too.
        let segment_bytes = if kill % 2 == 0 { "3000" } else { "60000" };
        daemon.mount(&["--config", &config, "--segment-bytes", segment_bytes]).success();
        // What was acknowledged just before, each time; all of it at the end.
        check(&daemon, std::mem::take(&mut last), seed, kill);
        let (files, turns) = (random.below(BEFORE_A_KILL.0), random.below(BEFORE_A_KILL.1));
        last = write_until_killed(&daemon, &counter, files as u64, turns);
        kept.extend(last.iter().map(|number| (*number, kill)));
    }
    daemon.mount(&["--config", &config]).success();
    assert!(kept.len() > 50, "only {} files were acknowledged", kept.len());
    check(&daemon, kept.keys().copied().collect(), seed, KILLS);
    let report = daemon.verify();
    assert!(report["problems"].as_array().unwrap().is_empty(), "{report}");
    assert!(daemon.store().join("ledger/000002.jsonl").exists(), "no segment has ended");
    kept.len()
}

/// Writes with several threads until so many files were tried, and kills the daemon. Gives the
/// files that were acknowledged.
fn write_until_killed(daemon: &Daemon, counter: &AtomicU64, files: u64, turns: usize) -> Vec<u64> {
    let (stop, written) = (AtomicBool::new(false), AtomicU64::new(0));
    std::thread::scope(|scope| {
        let work = || {
            let mut acknowledged = Vec::new();
            while !stop.load(Ordering::Relaxed) {
                let seed = counter.fetch_add(1, Ordering::Relaxed);
                let class = if seed.is_multiple_of(3) { "short" } else { "kept" };
                match put(daemon, class, &seed.to_string(), seed) {
                    Ok(true) if class == "kept" => acknowledged.push(seed),
                    // Not every failure means that the daemon is gone; another one does.
                    Ok(_) | Err(_) => {}
                }
                written.fetch_add(1, Ordering::Relaxed);
            }
            acknowledged
        };
        let writers: Vec<_> = (0..WRITERS).map(|_| scope.spawn(work)).collect();
        while written.load(Ordering::Relaxed) < files {
            std::thread::sleep(Duration::from_millis(1));
        }
        // Not in step with the answers.
        for _ in 0..turns {
            std::hint::spin_loop();
        }
        daemon.kill();
        stop.store(true, Ordering::Relaxed);
        writers.into_iter().flat_map(|writer| writer.join().unwrap()).collect()
    })
}

/// These files are there, whole, and nothing is out of order.
fn check(daemon: &Daemon, files: Vec<u64>, seed: u64, kill: u64) {
    for file in files {
        let path = daemon.active().join("kept").join(file.to_string());
        assert_eq!(sha256(&path), digest(file), "file {file}, after kill {kill} with seed {seed}");
    }
    let said = daemon.worm("status", &daemon.store(), &[]);
    assert_eq!(said.code(), 0, "after kill {kill} with seed {seed}: {}", said.stdout);
}
