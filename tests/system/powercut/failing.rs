//! The disk fails, once or from then on, at every request of the workload. Nothing panics,
//! nothing is acknowledged that is not there, and when the disk is well again all is in order.

use rustix::io::Errno;
use system_tests::powercut::Fault;
use system_tests::powercut::KINDS;
use system_tests::powercut::Kind;
use system_tests::powercut::Model;
use system_tests::powercut::Survives;
use system_tests::rounds;
use system_tests::session::End;
use system_tests::session::Session as _;
use worm_fs::fs::Control;

use super::Bench;
use super::Crash;
use super::Wrong;
use super::workload::Work;

/// What a request of this kind may answer on a bad or a full disk.
fn errnos(kind: Kind) -> &'static [Errno] {
    match kind {
        Kind::Create | Kind::Move | Kind::Write | Kind::Allocate | Kind::SetSize => {
            &[Errno::IO, Errno::NOSPC]
        }
        Kind::Remove | Kind::Sync | Kind::SyncDirectory => &[Errno::IO],
    }
}

/// The same run as without a fault, and then a daemon on the healed disk: as it is, and as it
/// would be after a power cut.
fn try_one(bench: &Bench, fault: Fault, seed: u64, wrong: &mut Wrong) {
    bench.worm().clock().set(|now| *now = bench.start.clone());
    let disk = bench.mount(Model::default());
    bench.make_store();
    bench.worm.start().expect("serve it");
    let mut work = Work::new(&bench.worm, &disk, seed);
    disk.fail(Some(fault));
    work.run();
    let mut facts = work.facts;
    // What a sync could not write is on the disk or not; nothing was promised about these.
    facts.incomplete_may_lack_bytes = fault.kind == Kind::Sync;
    bench.worm.stop(End::Crash);
    let moment = disk.ops();
    let recording = disk.unmount();
    let model = recording.at(moment);
    for crash in
        [Crash::Killed, Crash::Power(Survives::Nothing), Crash::Power(Survives::Some(seed))]
    {
        bench.set_clock(crash, facts.clock(moment), "1", 0);
        if let Err(what) = bench.check(crash.of(&model), &facts, moment) {
            wrong.note(format!("{what}\n  {fault:?}"), seed, crash, &recording.ops);
        }
    }
}

#[test]
fn the_disk_fails_at_any_request() {
    let (bench, mut wrong, mut tried) = (Bench::new(), Wrong::default(), 0);
    let (recording, _) = bench.record(1);
    for kind in KINDS {
        let all = recording.ops.iter().filter(|op| op.kind() == kind).count();
        let most = all.min(rounds(8, usize::MAX));
        for round in 0..most {
            let after = all * round / most;
            for errno in errnos(kind) {
                for (times, half) in [(1, false), (usize::MAX, false), (1, true)] {
                    if half && kind != Kind::Write {
                        continue;
                    }
                    let fault = Fault { kind, after, times, errno: *errno, half };
                    try_one(&bench, fault, 1, &mut wrong);
                    tried += 1;
                }
            }
        }
    }
    println!("failing disk: {tried} failures");
}

#[test]
fn a_file_whose_end_had_no_room_in_the_ledger_is_given_up_when_there_is_room_again() {
    let bench = Bench::new();
    let disk = bench.mount(Model::default());
    bench.make_store();
    bench.worm.start().expect("serve it");
    let worm = bench.worm();
    let fd = worm.create(b"hourly/x").unwrap();
    worm.write(fd, b"bytes").unwrap();
    let full =
        |times| Fault { kind: Kind::Write, after: 0, times, errno: Errno::NOSPC, half: true };
    disk.fail(Some(full(2)));
    assert_eq!(worm.control(fd, Control::Commit), Err(Errno::NOSPC));
    assert_eq!(worm.worm(b"hourly/x", "state").unwrap(), "closing");
    assert_eq!(worm.create(b"hourly/x"), Err(Errno::EXIST));
    // Still no room; then there is.
    assert_eq!(worm.housekeep(), 0);
    assert_eq!(worm.worm(b"hourly/x", "state").unwrap(), "closing");
    assert_eq!(worm.housekeep(), 0);
    let kept = worm.wait_incomplete(b"hourly/x");
    assert_eq!(worm.get(&kept).unwrap(), b"bytes");
    worm.close(fd).unwrap();
    worm.put(b"hourly/x", b"the next try");
    worm.restart(End::Crash);
    assert_eq!(worm.get(b"hourly/x").unwrap(), b"the next try");
    assert_eq!(bench.worm.fs().alarms(), [""; 0]);
    bench.worm.stop(End::Clean);
    disk.unmount();
}
