//! The disk fails, once or from then on, at every request of the workload. Nothing panics,
//! nothing is acknowledged that is not there, and when the disk is well again all is in order.

use rustix::io::Errno;
use system_tests::powercut::Fault;
use system_tests::powercut::KINDS;
use system_tests::powercut::Kind;
use system_tests::powercut::Survives;
use system_tests::rounds;
use system_tests::session::End;
use system_tests::session::Session as _;
use worm_fs::clock::HOUR_MS;
use worm_fs::fs::Control;

use super::Bench;
use super::Crash;
use super::Wrong;

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
    let (recording, mut facts) = bench.record(seed, Some(fault));
    // What a sync could not write is on the disk or not; nothing was promised about these.
    facts.incomplete_may_lack_bytes = matches!(fault.kind, Kind::Sync | Kind::SyncDirectory);
    let moment = recording.ops.len();
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
    let (recording, _) = bench.record(1, None);
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
                    // Every other seed has short segments of the ledger.
                    try_one(&bench, fault, 1 + after as u64 % 2, &mut wrong);
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
    let disk = bench.begin(1);
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

#[test]
fn a_sealed_file_whose_place_could_not_be_reached_is_served_and_expires_all_the_same() {
    for kind in [Kind::Move, Kind::SyncDirectory] {
        let bench = Bench::new();
        let disk = bench.begin(1);
        let worm = bench.worm();
        let fd = worm.create(b"guest/x").unwrap();
        worm.write(fd, b"bytes").unwrap();
        // After the exchange of the head, or after the syncs of `open/` and of the head.
        let after = if kind == Kind::Move { 1 } else { 2 };
        disk.fail(Some(Fault { kind, after, times: 1, errno: Errno::IO, half: false }));
        worm.control(fd, Control::Commit).unwrap();
        worm.close(fd).unwrap();
        assert_eq!(disk.refused(), 1, "{kind:?}");
        assert_eq!(worm.get(b"guest/x").unwrap(), b"bytes", "{kind:?}");
        worm.clock().advance(2 * HOUR_MS);
        assert_eq!(worm.housekeep(), 1, "{kind:?}");
        let data = bench.worm.ground().data(b"guest/x");
        assert!(!data.exists(), "{kind:?}");
        worm.restart(End::Crash);
        assert_eq!(worm.list(b"guest/.incomplete").unwrap(), [b""; 0], "{kind:?}");
        assert_eq!(bench.worm.fs().alarms(), [""; 0], "{kind:?}");
        bench.worm.stop(End::Clean);
        disk.unmount();
    }
}
