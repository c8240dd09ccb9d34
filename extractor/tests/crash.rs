//! `once`, killed at each of its system calls that change something, or refused one; then again.

use std::fs;
use std::process::Command;

use crate::support::Place;
use crate::support::end;
use crate::support::expect;
use crate::support::put_backup;
use crate::support::start;

/// The calls that change something.
const CALLS: [&str; 8] =
    ["openat", "write", "fsync", "fdatasync", "renameat2", "mkdir", "mkdirat", "fchmod"];
/// What is done to them.
const FAULTS: [&str; 2] = ["signal=KILL", "error=EIO"];
/// A run makes fewer calls of any one kind.
const CALLS_MAX: u32 = 100;
/// The only backup of these tests.
const STAMP: &str = "2026-01-18_00-00-00";

/// Every file that has its final name has all its bytes.
fn assert_nothing_is_torn(place: &Place, when: &str) {
    for name in place.mirrored() {
        let source = name.split('/').next_back().unwrap();
        let copied = fs::read(place.path("mirror").join(&name)).unwrap();
        let meant = fs::read(place.path("view/daily").join(source)).unwrap();
        assert!(copied == meant, "{name} is torn after {when}");
    }
}

/// Runs `once` under strace with a fault at the n-th call that concerns our files: what the
/// runtime writes to its own pipes is not the subject. Says whether the fault was met.
fn run_with(place: &Place, call: &str, fault: &str, nth: u32) -> bool {
    let once = place.once(&[]);
    let log = place.path("strace.log");
    let folder = place.path("mirror/daily/2026-01-18");
    let mut command = Command::new("strace");
    let _command = command.args(["-f", "-qq", "-o"]).arg(&log);
    let mut ours = vec![place.path("logs"), place.audit(), place.path("mirror")];
    ours.extend([place.path("mirror/daily"), folder.clone()]);
    ours.push(place.path(".mirror.worm-staging"));
    ours.push(place.path(".mirror.worm-staging/.worm-staging.lock"));
    for suffix in ["", ".sha256", ".manifest.json"] {
        let name = format!("{STAMP}.sql.gz{suffix}");
        ours.push(place.path(&format!(".mirror.worm-staging/daily.{name}.worm-part")));
        ours.push(folder.join(name));
    }
    for path in ours {
        let _command = command.arg("-P").arg(path);
    }
    let _command = command
        .arg(format!("--trace={call}"))
        .arg(format!("--inject={call}:{fault}:when={nth}"))
        // Should the program hang, it must not outlive strace.
        .args(["timeout", "--signal=KILL", "50"])
        .arg(once.get_program())
        .args(once.get_args())
        .env("WORM_EXTRACTION_AUDIT", place.audit());
    let _output = end(start(&mut command));
    let met = fs::read_to_string(log).unwrap();
    met.contains("INJECTED") || met.contains("killed by SIGKILL")
}

/// A place with one backup, longer than one buffer of the copy.
fn fresh() -> Place {
    let place = Place::new();
    let mut state = 1_u64;
    let bytes: Vec<u8> = std::iter::repeat_with(|| {
        // Random enough not to be compressible.
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (state >> 56) as u8
    })
    .take(1_500_000)
    .collect();
    let _dump = put_backup(&place.path("view/daily"), STAMP, &bytes, &[]);
    place
}

#[test]
fn a_crash_at_any_call_leaves_whole_files_and_the_next_run_completes() {
    let mut met = 0;
    for call in CALLS {
        for fault in FAULTS {
            for nth in 1..CALLS_MAX {
                let place = fresh();
                let when = format!("{fault} at {call} {nth}");
                if !run_with(&place, call, fault, nth) {
                    break;
                }
                met += 1;
                assert_nothing_is_torn(&place, &when);
                let (_, error) = expect(0, &mut place.once(&[]));
                assert_nothing_is_torn(&place, &when);
                assert_eq!(place.mirrored().len(), 3, "{when}\n{error}");
                assert_eq!(place.staged(), 0, "{when}");
            }
        }
    }
    assert!(met > 50, "only {met} faults met a call");
}
