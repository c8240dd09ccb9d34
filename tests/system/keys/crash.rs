//! A change of key that ends between any two of its steps.

use std::process::Command;

use system_tests::binary;
use system_tests::rounds;
use system_tests::session::End;
use worm_fs::record::Digest;
use worm_fs::store::note::Head;

use super::*;

/// What a change of key has done when it ends.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Done {
    HalfTheNewKey,
    NewKey,
    HalfTheLine,
    Line,
    Head,
    OldKeyAside,
    All,
}

const STEPS: [Done; 7] = [
    Done::HalfTheNewKey,
    Done::NewKey,
    Done::HalfTheLine,
    Done::Line,
    Done::Head,
    Done::OldKeyAside,
    Done::All,
];

impl Done {
    /// Whether the new key signs.
    fn is_changed(self) -> bool {
        STEPS.iter().position(|step| *step == self) >= STEPS.iter().position(|s| *s == Done::Head)
    }
}

/// Undoes a change of key as far as it was not `done`. Gives the keys before and after.
fn interrupted(worm: &dyn Session, done: Done) -> [String; 2] {
    let (old_key, old) = (std::fs::read(worm.ground().key()).unwrap(), signer(worm).public());
    let before = std::fs::read(ledger(worm)).unwrap().len();
    let new = rotate(worm);
    let (signer, new_key) = (signer(worm), std::fs::read(worm.ground().key()).unwrap());
    let bytes = std::fs::read(ledger(worm)).unwrap();
    let lines = lines_of(&bytes);
    let at = lines.iter().position(|line| KeyChange::of(line).is_some_and(|c| c.key == new));
    let length = |count| lines[..count].iter().map(|line| line.encode().unwrap().len()).sum();
    let (at, until): (_, usize) = (length(at.unwrap()), length(at.unwrap() + 1));
    let line = &bytes[at..until];
    assert!(at > before, "the daemon's start comes first");
    // What the short life of the daemon had signed before.
    let previous = lines_of(&bytes[..at]).pop().unwrap();
    let head = |line: &Line| Head {
        store: Store::id_of(&worm.ground().store()).unwrap(),
        seq: line.seq,
        digest: Digest::of(&line.encode().unwrap()),
    };
    let old_signer = signer_in(worm, &beside(worm, ".old-1"));
    assert_eq!(std::fs::read(beside(worm, ".old-1")).unwrap(), old_key);
    match done {
        Done::HalfTheNewKey | Done::NewKey => write(ledger(worm), &bytes[..at]),
        Done::HalfTheLine => write(ledger(worm), &bytes[..at + line.len() / 2]),
        Done::Line | Done::Head | Done::OldKeyAside => write(ledger(worm), &bytes[..until]),
        Done::All => {}
    }
    let note = match done {
        Done::HalfTheNewKey | Done::NewKey | Done::HalfTheLine | Done::Line => {
            Some(old_signer.sign(&head(&previous)))
        }
        Done::Head | Done::OldKeyAside => Some(signer.sign(&head(&Line::decode(line).unwrap()))),
        Done::All => None,
    };
    if let Some(note) = note {
        write(in_store(worm, "head"), note.as_bytes());
    }
    if done != Done::All {
        let half = if done == Done::HalfTheNewKey { new_key.len() / 2 } else { new_key.len() };
        write(beside(worm, ".new"), &new_key[..half]);
        std::fs::remove_file(worm.ground().key()).unwrap();
        if done != Done::OldKeyAside {
            move_to(beside(worm, ".old-1"), worm.ground().key());
        }
    }
    [old, new]
}

/// By the next who serves the store, and by the next who changes the key.
#[test]
fn a_change_that_was_interrupted_is_finished_or_as_if_it_never_began() {
    for done in STEPS {
        for by_rotating in [false, true] {
            println!("{done:?}, rotating: {by_rotating}");
            let session = store();
            let worm: &dyn Session = &session;
            let earlier = head(worm, "earlier.head");
            let [old, new] = interrupted(worm, done);
            let mut expected = if done.is_changed() { &new } else { &old }.clone();
            if by_rotating {
                expected = rotate(worm);
            } else {
                worm.start().unwrap();
                worm.put(b"hourly/b", b"b");
                assert_eq!(worm.get(b"hourly/a").unwrap(), b"a");
                worm.stop(End::Clean);
            }
            assert_eq!(signer(worm).public(), expected);
            let later = head(worm, "later.head");
            let report = check(worm, given(&expected), &[&earlier, &later], &[]);
            assert!(!report.unchecked.iter().any(|said| said.contains("newest")), "{report:?}");
            let is_left = beside(worm, ".new").exists();
            let is_stale = !by_rotating && !done.is_changed();
            assert_eq!(is_left, is_stale);
            // And once more, as if nothing had been.
            rotate(worm);
            assert!(!beside(worm, ".new").exists());
            worm.start().unwrap();
            worm.stop(End::Clean);
            check(worm, given(&signer(worm).public()), &[&earlier, &later], &[]);
        }
    }
}

/// The daemon gives up the directory of its key before it opens the store.
#[test]
fn the_command_that_mounts_finishes_a_change() {
    let daemon = Daemon::start();
    daemon.worm("umount", &daemon.active(), &[]).success();
    run_rotate(&daemon, &mut Command::new(binary::path("worm"))).success();
    let [key, new, old] = ["key", "key.new", "key.old-1"].map(|name| daemon.directory().join(name));
    let newest = std::fs::read(&key).unwrap();
    for is_aside in [false, true] {
        move_to(&key, &new);
        if !is_aside {
            move_to(&old, &key);
        }
        daemon.mount(&[]).success();
        assert_eq!(std::fs::read(&key).unwrap(), newest);
        assert!(old.exists() && !new.exists());
        daemon.worm("umount", &daemon.active(), &[]).success();
    }
}

fn run_rotate(daemon: &Daemon, command: &mut Command) -> binary::Output {
    command.args(["key", "rotate", "--reason", "a crash", "--key"]).arg(daemon.key());
    binary::run(command.arg("--run-dir").arg(daemon.run_directory()).arg(daemon.store()))
}

/// What makes a change last, and what moves files.
const CALLS: [&str; 6] = ["fsync", "fdatasync", "renameat2", "unlinkat", "pwrite64", "write"];

/// `strace` ends the command, or lets a call fail, at each call in turn.
#[test]
fn a_change_that_is_killed_at_any_call_costs_nothing() {
    let daemon = Daemon::start();
    daemon.worm("umount", &daemon.active(), &[]).success();
    let (trace, heads) = (daemon.directory().join("trace"), daemon.directory().join("heads"));
    std::fs::create_dir(&heads).unwrap();
    let (mut struck, mut changed) = (0, 0);
    let mut tried = 0;
    for call in CALLS {
        for how in ["signal=KILL", "error=EIO"] {
            for when in 1..=rounds(6, 20) {
                let inject = format!("inject={call}:{how}:when={when}");
                let mut strace = Command::new("strace");
                strace.args(["-f", "-e", &inject, "-o"]).arg(&trace).arg(binary::path("worm"));
                let before = std::fs::read(daemon.key()).unwrap_or_default();
                let said = run_rotate(&daemon, &mut strace);
                let text = std::fs::read_to_string(&trace).unwrap();
                if !text.contains("(INJECTED)") && !text.contains("killed by SIGKILL") {
                    drop(said.success());
                    break;
                }
                struck += 1;
                // Whoever comes next goes on, and what was carried away stays true.
                run_rotate(&daemon, &mut Command::new(binary::path("worm"))).success();
                changed += usize::from(std::fs::read(daemon.key()).unwrap() != before);
                tried += 1;
                std::fs::copy(daemon.store().join("head"), heads.join(format!("{tried}.head")))
                    .unwrap();
            }
        }
        let (key, heads) = (daemon.key(), heads.to_string_lossy());
        let all = ["--key", &key.to_string_lossy(), "--witness", &heads];
        let said = daemon.worm("verify", &daemon.store(), &all).success();
        assert!(said.contains("all is as it was sealed"), "{call}: {said}");
    }
    assert!(struck > 20 && changed == struck, "{struck} struck, {changed} changed");
    daemon.mount(&[]).success();
    println!("change of key: ended at {struck} calls");
}
