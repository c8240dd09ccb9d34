//! The power is cut at every moment of a workload. What was acknowledged is whole and sealed, and
//! nothing else looks like it.

mod facts;
mod failing;
mod logs;
mod workload;

use std::num::NonZero;
use std::sync::Mutex;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;
use std::time::Instant;

use system_tests::powercut::Disk;
use system_tests::powercut::Fault;
use system_tests::powercut::Model;
use system_tests::powercut::Op;
use system_tests::powercut::Recording;
use system_tests::powercut::Survives;
use system_tests::random::Random;
use system_tests::rounds;
use system_tests::session::End;
use system_tests::session::Ground;
use system_tests::session::InProcess;
use system_tests::session::Session;
use worm_fs::clock::Clock as _;
use worm_fs::clock::HOUR_MS;
use worm_fs::clock::Reading;
use worm_fs::fs::SEGMENT_BYTES;
use worm_fs::verify;

use facts::Facts;
use workload::Work;

/// The classes: `guest` is over within a day, so that the clocks need not jump.
const CONFIG: &str = r#"
[class.hourly]
retention = "48h"

[class.daily]
retention = "7d"
max_retention = "14d"

[class.guest]
retention = "1h"
keep_last = 0

[class.logs]
retention = "7d"
append_only = true
"#;
/// How long the machine was off after a power cut: these take turns.
const DOWN_MS: [i64; 3] = [0, 3 * HOUR_MS, 30 * HOUR_MS];

/// A place to mount disks one after the other, and what serves the store on them.
struct Bench {
    worm: InProcess,
    /// What the clocks showed at first.
    start: Reading,
}

impl Bench {
    fn new() -> Self {
        let ground = Ground::bare(CONFIG);
        std::fs::create_dir(ground.store()).expect("make a mount point");
        let start = ground.clock.read();
        Self { worm: InProcess::on(ground), start }
    }

    fn worm(&self) -> &dyn Session {
        &self.worm
    }

    fn mount(&self, model: Model) -> Disk {
        Disk::mount(&self.worm.ground().store(), model)
    }

    /// A new store with a new key.
    fn make_store(&self) {
        match std::fs::remove_file(self.worm.ground().key()) {
            Ok(()) => {}
            Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::NotFound, "{error}"),
        }
        self.worm.ground().make_store().expect("make a store");
    }

    /// A new disk with a new store, which is served. With every other seed a segment of its
    /// ledger ends after a few lines.
    fn begin(&self, seed: u64) -> Disk {
        let segment_bytes = if seed.is_multiple_of(2) { 2_000 } else { SEGMENT_BYTES };
        self.worm.ground().segment_bytes.store(segment_bytes, Ordering::Relaxed);
        self.worm().clock().set(|now| *now = self.start.clone());
        let disk = self.mount(Model::default());
        self.make_store();
        self.worm.start().expect("serve it");
        disk
    }

    /// All of the workload on a new store, whose disk may fail so.
    fn record(&self, seed: u64, fault: Option<Fault>) -> (Recording, Facts) {
        let disk = self.begin(seed);
        let mut work = Work::new(&self.worm, &disk, seed);
        disk.fail(fault);
        work.run();
        let facts = work.facts;
        self.worm.stop(End::Crash);
        (disk.unmount(), facts)
    }

    /// After a power cut the machine is started anew, and its uptime begins at 0.
    fn set_clock(&self, crash: Crash, at: Reading, boot: &str, down_ms: i64) {
        let reading = match crash {
            Crash::Power(_) => {
                let system_ms = at.system_ms + down_ms;
                Reading { boot: format!("after cut {boot}"), raw_ms: 0, suspend_ms: 0, system_ms }
            }
            Crash::Killed => at,
        };
        self.worm().clock().set(|now| *now = reading);
    }

    /// Serves a disk after a crash at this moment, and checks all that is promised. What the
    /// start did to the disk is recorded.
    fn check(&self, model: Model, facts: &Facts, moment: usize) -> Result<Recording, String> {
        let disk = self.mount(model);
        self.verify(true)?;
        self.worm.start().map_err(|error| format!("it cannot be served: {error}"))?;
        let checked = self.check_served(facts, moment);
        self.worm.stop(End::Crash);
        checked?;
        self.verify(false)?;
        Ok(disk.unmount())
    }

    fn check_served(&self, facts: &Facts, moment: usize) -> Result<(), String> {
        let mut alarms = self.worm.fs().alarms();
        alarms.retain(|what| !(facts.incomplete_may_lack_bytes && what.contains("/.incomplete/")));
        if !alarms.is_empty() {
            return Err(format!("alarms: {alarms:?}"));
        }
        facts.check(self.worm(), moment)?;
        let left = std::fs::read_dir(self.worm.ground().store().join("open"));
        let left: Vec<_> = left.expect("list open/").map(|e| e.unwrap().file_name()).collect();
        if !left.is_empty() {
            return Err(format!("left in open/: {left:?}"));
        }
        Ok(())
    }

    /// Before the next start the end of the ledger may lack its signature; after it nothing may.
    fn verify(&self, unsigned_allowed: bool) -> Result<(), String> {
        let store = self.worm.ground().store();
        let report = verify::verify(&store, 1, &verify::Progress::default())
            .map_err(|error| format!("verify: {error}"))?;
        let problem = report.problems.iter().find(|problem| {
            !(unsigned_allowed && problem.path == "ledger" && problem.what.contains("not signed"))
        });
        match problem {
            None => Ok(()),
            Some(problem) => Err(format!("verify: {}: {}", problem.path, problem.what)),
        }
    }
}

/// How the disk is found after a crash. `Killed` is a crash of the daemon alone: the kernel still
/// has what was not synced.
#[derive(Clone, Copy, Debug)]
enum Crash {
    Power(Survives),
    Killed,
}

impl Crash {
    fn all(seed: u64) -> [Self; 4] {
        let some = Self::Power(Survives::Some(seed));
        [Self::Power(Survives::Nothing), Self::Power(Survives::Everything), some, Self::Killed]
    }

    fn of(self, model: &Model) -> Model {
        match self {
            Self::Power(survives) => model.cut(survives),
            Self::Killed => model.clone(),
        }
    }
}

/// What went wrong, kept until all was tried, and shown by the first few.
#[derive(Default)]
struct Wrong(Vec<String>);

impl Wrong {
    fn note(&mut self, what: String, seed: u64, crash: Crash, ops: &[Op]) {
        let last = &ops[ops.len().saturating_sub(8)..];
        let moment = ops.len();
        self.0.push(format!("{what}\n  seed {seed}, {crash:?} after {moment}: {last:?}"));
    }
}

impl Drop for Wrong {
    fn drop(&mut self) {
        if !self.0.is_empty() && !std::thread::panicking() {
            let shown: Vec<_> = self.0.iter().take(8).map(String::as_str).collect();
            panic!("{} states are wrong, such as\n{}", self.0.len(), shown.join("\n"));
        }
    }
}

/// What a sweep did, for the line that it prints.
#[derive(Debug, Default)]
struct Count {
    requests: usize,
    moments: usize,
    states: usize,
}

/// Cuts the power at so many moments of one run of the workload, and each time once more while
/// the next daemon puts right what was left. The moments lie between any two requests of the disk,
/// also before the first and after the last.
fn sweep(bench: &Bench, seed: u64, most: usize, wrong: &Mutex<Wrong>) -> Count {
    let (recording, facts) = bench.record(seed, None);
    let (mut random, mut count) = (Random::new(seed), Count::default());
    let begins = facts.clocks[0].0;
    let all = recording.ops.len() - begins;
    let cuts = all.min(most);
    let (mut model, mut played) = (recording.at(begins), begins);
    for round in 0..=cuts {
        let moment = begins + all * round / cuts;
        model.play(&recording.ops[played..moment]);
        played = moment;
        for crash in Crash::all(random.number()) {
            bench.set_clock(crash, facts.clock(moment), "1", DOWN_MS[random.below(3)]);
            count.states += 1;
            let start = match bench.check(crash.of(&model), &facts, moment) {
                Ok(start) => start,
                Err(what) => {
                    wrong.lock().unwrap().note(what, seed, crash, &recording.ops[..moment]);
                    continue;
                }
            };
            let second = random.below(start.ops.len() + 1);
            let again = Crash::all(random.number())[random.below(4)];
            let reading = bench.worm().clock().read();
            bench.set_clock(again, reading, "2", DOWN_MS[random.below(3)]);
            count.states += 1;
            if let Err(what) = bench.check(again.of(&start.at(second)), &facts, moment) {
                let what = format!("{what}\n  first {crash:?} after {moment}");
                wrong.lock().unwrap().note(what, seed, again, &start.ops[..second]);
            }
        }
    }
    count.requests = all;
    count.moments = cuts + 1;
    count
}

/// In soak every moment of 12 runs is tried, with four outcomes each: nothing of what was not
/// synced survives, all of it, some of it by chance, or the daemon alone is killed. Each of these is
/// cut off again at one moment of the start that follows, by chance. Bounded: some 50,000 states.
#[test]
fn the_power_is_cut_at_any_moment() {
    let (begun, seeds) = (Instant::now(), rounds(2, 12));
    let lanes = rounds(1, std::thread::available_parallelism().map_or(1, NonZero::get));
    let (next, wrong) = (AtomicUsize::new(1), Mutex::new(Wrong::default()));
    let sum = Mutex::new(Count::default());
    let lane = || {
        let bench = Bench::new();
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed > seeds {
                return;
            }
            let count = sweep(&bench, seed as u64, rounds(100, usize::MAX), &wrong);
            let mut sum = sum.lock().unwrap();
            sum.requests += count.requests;
            sum.moments += count.moments;
            sum.states += count.states;
            let Count { requests, moments, states } = *sum;
            println!(
                "power cuts: {moments} moments of {requests} requests, {states} states of the \
                 disk; run {seed} of {seeds} done after {} s",
                begun.elapsed().as_secs()
            );
        }
    };
    std::thread::scope(|scope| (0..lanes).for_each(|_| drop(scope.spawn(lane))));
}

/// The first line of a daemon after a long downtime is ahead of all that is signed.
#[test]
fn a_start_that_was_cut_off_is_followed_by_another() {
    let (bench, mut wrong) = (Bench::new(), Wrong::default());
    let (recording, facts) = bench.record(1, None);
    let moment = recording.ops.len();
    let first = Crash::Power(Survives::Nothing);
    bench.set_clock(first, facts.clock(moment), "1", DOWN_MS[2]);
    let start = bench.check(first.of(&recording.at(moment)), &facts, moment);
    let start = start.expect("serve it after the first cut");
    let reading = bench.worm().clock().read();
    for second in 0..=start.ops.len() {
        let again = Crash::Power(Survives::Everything);
        bench.set_clock(again, reading.clone(), "2", DOWN_MS[1]);
        if let Err(what) = bench.check(again.of(&start.at(second)), &facts, moment) {
            wrong.note(what, 1, again, &start.ops[..second]);
        }
    }
}
