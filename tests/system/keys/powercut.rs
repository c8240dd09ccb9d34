//! The power is cut at every moment of a change of key, and once more while the next daemon puts
//! right what was left. Store and keys are on the disk that loses it.

use std::sync::Arc;

use system_tests::powercut::Disk;
use system_tests::powercut::Model;
use system_tests::powercut::Recording;
use system_tests::powercut::Survives;
use system_tests::random::Random;
use tempfile::TempDir;
use worm_fs::clock::ManualClock;
use worm_fs::config::Config;
use worm_fs::fs::Descriptors;
use worm_fs::fs::Options;
use worm_fs::fs::SEGMENT_BYTES;
use worm_fs::fs::WormFs;

use super::*;

/// Where the disk is mounted.
struct Bench {
    at: TempDir,
    clock: Arc<ManualClock>,
}

/// What was acknowledged.
struct Facts {
    /// The key before the change.
    old: String,
    /// The one after it.
    new: String,
    /// How many requests the disk had carried out when the change was acknowledged.
    changed: usize,
    /// A head from before it.
    head: Given,
}

impl Bench {
    fn new() -> Self {
        let at = TempDir::with_prefix("worm-test-").unwrap();
        Self { at, clock: Arc::new(ManualClock::new(1_768_694_400_000)) }
    }

    fn store(&self) -> PathBuf {
        self.at.path().join("store")
    }

    fn key(&self) -> PathBuf {
        self.at.path().join("keys/key")
    }

    fn options(&self) -> Options {
        let (store, key, clock) = (self.store(), self.key(), Arc::clone(&self.clock) as _);
        let config = Config::default();
        Options { store, key, config, clock, segment_bytes: SEGMENT_BYTES }
    }

    fn public(&self) -> Result<String, String> {
        let text = std::fs::read_to_string(self.key()).map_err(|error| format!("key: {error}"))?;
        StoreSigner::public_of(&text).map_err(|error| format!("key: {error}"))
    }

    /// As the command that mounts.
    fn serve_once(&self) -> Result<(), String> {
        Store::settle_key(&self.store(), &self.key()).map_err(|error| format!("key: {error}"))?;
        let fs = WormFs::serve(self.options()).map_err(|error| format!("not served: {error}"))?;
        let alarms = fs.alarms();
        fs.shut_down(Descriptors::AllClosed);
        if alarms.is_empty() { Ok(()) } else { Err(format!("alarms: {alarms:?}")) }
    }

    /// A new store, and one change of its key.
    fn record(&self) -> (Recording, usize, Facts) {
        let disk = Disk::mount(self.at.path(), Model::default());
        Store::create(&self.store(), |_| self.key(), self.clock.as_ref()).unwrap();
        self.serve_once().unwrap();
        let text = std::fs::read_to_string(self.store().join("head")).unwrap();
        let head = Given { name: "earlier.head".to_owned(), text };
        let (old, begins) = (self.public().unwrap(), disk.ops());
        let new = rotate_key(self.options(), Actor::user(0), "a test").unwrap().public;
        let changed = disk.ops();
        (disk.unmount(), begins, Facts { old, new, changed, head })
    }

    /// Serves a disk after a crash, or changes its key once more, and checks that one key is in
    /// force, with all that it signed.
    fn check(
        &self,
        model: Model,
        moment: usize,
        facts: &Facts,
        again: bool,
    ) -> Result<Recording, String> {
        let disk = Disk::mount(self.at.path(), model);
        let mut wanted = None;
        if again {
            let done = rotate_key(self.options(), Actor::user(0), "again");
            wanted = Some(done.map_err(|error| format!("not changed: {error}"))?.public);
        } else {
            self.serve_once()?;
        }
        let public = self.public()?;
        let is_right = match &wanted {
            Some(wanted) => public == *wanted,
            None => public == facts.new || (public == facts.old && moment < facts.changed),
        };
        if !is_right {
            return Err(format!("{public} signs, not {wanted:?}"));
        }
        let (key, witnesses) = (given(&public), vec![facts.head.clone()]);
        let report = Check { threads: 1, key, witnesses };
        let report = report.run(&self.store(), &Progress::default());
        let report = report.map_err(|error| format!("verify: {error}"))?;
        if !report.problems.is_empty() {
            return Err(format!("verify: {:?}", report.problems));
        }
        Ok(disk.unmount())
    }
}

#[test]
fn the_power_is_cut_at_any_moment_of_a_change() {
    let (bench, mut random) = (Bench::new(), Random::new(1));
    let (recording, begins, facts) = bench.record();
    let (mut states, mut wrong) = (0, Vec::new());
    for moment in begins..=recording.ops.len() {
        let model = recording.at(moment);
        let seed = random.number();
        // The last is a crash of the command alone: the kernel still has what was not synced.
        let crashed = [
            model.cut(Survives::Nothing),
            model.cut(Survives::Everything),
            model.cut(Survives::Some(seed)),
            model,
        ];
        for (how, model) in crashed.into_iter().enumerate() {
            states += 1;
            let what = format!("crash {how} after {moment}");
            let start = match bench.check(model, moment, &facts, how == 1) {
                Ok(start) => start,
                Err(error) => {
                    wrong.push(format!("{what}: {error}"));
                    continue;
                }
            };
            // What the command left in memory only may be what the next daemon builds on.
            let seconds = match how {
                1 => 0..0,
                3 => 0..start.ops.len() + 1,
                _ => {
                    let second = random.below(start.ops.len() + 1);
                    second..second + 1
                }
            };
            for second in seconds {
                states += 1;
                let model = start.at(second).cut(Survives::Nothing);
                if let Err(error) = bench.check(model, moment, &facts, false) {
                    wrong.push(format!("{what}, and after {second}: {error}"));
                }
            }
        }
    }
    assert!(
        wrong.is_empty(),
        "{} states are wrong: {:#?}",
        wrong.len(),
        &wrong[..wrong.len().min(8)]
    );
    let moments = recording.ops.len() - begins + 1;
    println!("change of key: {moments} moments, {states} states of the disk");
}
