//! Promise 16, another signing key: what was signed before stays verifiable, what is signed after
//! must be by the new key, and no crash in between costs the store.

mod crash;
mod forged;
mod powercut;

use std::fs::File;
use std::io::Write as _;
use std::path::Path;
use std::path::PathBuf;

use system_tests::daemon::Daemon;
use system_tests::session::End;
use system_tests::session::InProcess;
use system_tests::session::Session;
use worm_fs::fs::RotateError;
use worm_fs::fs::Rotated;
use worm_fs::fs::rotate_key;
use worm_fs::record::Actor;
use worm_fs::record::KeyChange;
use worm_fs::record::Keys;
use worm_fs::record::Line;
use worm_fs::store::Access;
use worm_fs::store::OpenError;
use worm_fs::store::Store;
use worm_fs::store::note::SignedHead;
use worm_fs::store::note::StoreSigner;
use worm_fs::verify::Check;
use worm_fs::verify::Given;
use worm_fs::verify::Kind;
use worm_fs::verify::Progress;
use worm_fs::verify::Report;

fn try_rotate(worm: &dyn Session) -> Result<Rotated, RotateError> {
    rotate_key(worm.ground().options(), Actor::user(0), "a test")
}

/// Changes the key of a store that nobody serves. Gives the new public key.
#[track_caller]
fn rotate(worm: &dyn Session) -> String {
    try_rotate(worm).unwrap_or_else(|error| panic!("rotate: {error}")).public
}

fn in_store(worm: &dyn Session, name: &str) -> PathBuf {
    worm.ground().store().join(name)
}

fn write(path: impl AsRef<Path>, bytes: impl AsRef<[u8]>) {
    let file = File::options().write(true).create(true).truncate(true).open(path);
    file.unwrap().write_all(bytes.as_ref()).unwrap();
}

fn move_to(from: impl AsRef<Path>, to: impl AsRef<Path>) {
    std::fs::hard_link(&from, to).unwrap();
    std::fs::remove_file(from).unwrap();
}

/// The head as it could be carried away.
fn head(worm: &dyn Session, name: &str) -> Given {
    let text = std::fs::read_to_string(in_store(worm, "head")).unwrap();
    Given { name: name.to_owned(), text }
}

fn signer_in(worm: &dyn Session, path: &Path) -> StoreSigner {
    let text = std::fs::read_to_string(path).unwrap();
    StoreSigner::decode(&text, &Store::id_of(&worm.ground().store()).unwrap()).unwrap()
}

fn signer(worm: &dyn Session) -> StoreSigner {
    signer_in(worm, &worm.ground().key())
}

fn given(key: &str) -> Option<Given> {
    Some(Given { name: "carried.key".to_owned(), text: key.to_owned() })
}

/// A file beside the key.
fn beside(worm: &dyn Session, more: &str) -> PathBuf {
    let mut path = worm.ground().key().into_os_string();
    path.push(more);
    path.into()
}

#[track_caller]
fn check(
    worm: &dyn Session,
    key: Option<Given>,
    witnesses: &[&Given],
    expected: &[(&str, Kind)],
) -> Report {
    let witnesses = witnesses.iter().map(|given| (*given).clone()).collect();
    let check = Check { threads: 1, key, witnesses };
    let report = check.run(&worm.ground().store(), &Progress::default()).unwrap();
    let found: Vec<_> = report.problems.iter().map(|p| (p.path.as_str(), p.kind)).collect();
    assert_eq!(found, expected, "{report:?}");
    report
}

fn lines_of(bytes: &[u8]) -> Vec<Line> {
    let lines = bytes.split_inclusive(|byte| *byte == b'\n');
    lines.map(|line| Line::decode(line).unwrap()).collect()
}

fn ledger(worm: &dyn Session) -> PathBuf {
    in_store(worm, "ledger/000001.jsonl")
}

/// A store with a file in it, that nobody serves.
fn store() -> InProcess {
    let session = InProcess::default();
    let worm: &dyn Session = &session;
    worm.put(b"hourly/a", b"a");
    worm.stop(End::Clean);
    session
}

#[test]
fn heads_of_every_key_vouch_for_the_ledger() {
    let session = store();
    let worm: &dyn Session = &session;
    let first = signer(worm).public();
    let mut heads = vec![head(worm, "0.head")];
    let mut keys = vec![first.clone()];
    for number in 1..4 {
        keys.push(rotate(worm));
        assert_eq!(signer(worm).public(), keys[number]);
        let old = beside(worm, &format!(".old-{number}"));
        assert_eq!(signer_in(worm, &old).public(), keys[number - 1]);
        assert!(!beside(worm, ".new").exists());
        heads.push(head(worm, &format!("{number}.rotated.head")));
        worm.start().unwrap();
        worm.put(format!("hourly/{number}").as_bytes(), b"later");
        assert_eq!(worm.fs().alarms(), [""; 0]);
        worm.stop(End::Clean);
        heads.push(head(worm, &format!("{number}.head")));
    }
    let all: Vec<&Given> = heads.iter().collect();
    let report = check(worm, given(&keys[3]), &all, &[]);
    assert_eq!(report.witnesses, 7);
    assert!(!report.unchecked.iter().any(|said| said.contains("key")), "{report:?}");
    // Whoever has an older key only is told what that does not show.
    for older in &keys[..3] {
        let report = check(worm, given(older), &all, &[]);
        assert!(report.unchecked.iter().any(|said| said.contains("newest key")), "{report:?}");
    }
    let other = StoreSigner::new(&report.store, [9; 32]).public();
    check(worm, given(&other), &[], &[("store.json", Kind::Key)]);
    let json = std::fs::read_to_string(in_store(worm, "store.json")).unwrap();
    assert!(json.contains(&first), "it names the first key for ever: {json}");
    worm.start().unwrap();
    for name in [&b"hourly/1"[..], b"hourly/2", b"hourly/3"] {
        assert_eq!(worm.get(name).unwrap(), b"later");
    }
}

/// With what `.worm` shows, and nothing else.
#[test]
fn who_reads_the_view_can_follow_the_keys() {
    let session = store();
    let worm: &dyn Session = &session;
    let keys = [rotate(worm), rotate(worm)];
    worm.start().unwrap();
    worm.put(b"hourly/b", b"b");
    let view = worm.view();
    let json: serde_json::Value =
        serde_json::from_slice(&view.get(b".worm/store.json").unwrap()).unwrap();
    let mut known = Keys::new(json["store"].as_str().unwrap(), json["key"].as_str().unwrap());
    let carried = String::from_utf8(view.get(b".worm/head").unwrap()).unwrap();
    let lines = lines_of(&view.get(b".worm/ledger/000001.jsonl").unwrap());
    lines.iter().filter_map(KeyChange::of).for_each(|change| known.follow(change).unwrap());
    assert_eq!(known.changes().len(), 2);
    assert_eq!(known.newest(), keys[1]);
    let signed = SignedHead::read(&carried).unwrap();
    assert_eq!(known.verify(&signed).unwrap().seq, lines.last().unwrap().seq);
}

/// A store that nobody serves, in short segments, whose key was changed before the newest
/// snapshot; that and its record are in order.
fn with_snapshot() -> InProcess {
    let session = InProcess::default();
    let worm: &dyn Session = &session;
    worm.ground().segment_bytes.store(2048, std::sync::atomic::Ordering::Relaxed);
    worm.stop(End::Clean);
    rotate(worm);
    rotate(worm);
    worm.start().unwrap();
    let deadline = std::time::Instant::now() + system_tests::session::SOON;
    let newest = || {
        let (_, loaded) = Store::open(&worm.ground().store(), Access::Look).unwrap();
        let recorded = loaded.catalog.snapshot.as_ref().map(|snapshot| snapshot.number);
        (recorded.is_some() && recorded == Some(loaded.end.segment - 1), loaded)
    };
    // The last lines of a service may begin another segment: what counts is what it leaves behind.
    for number in 0.. {
        worm.put(format!("daily/{number}").as_bytes(), b"x");
        worm.stop(End::Clean);
        let (is_newest, loaded) = newest();
        if is_newest && loaded.from.is_some() {
            break;
        }
        assert!(std::time::Instant::now() < deadline, "no snapshot is made: {loaded:?}");
        worm.start().unwrap();
    }
    session
}

#[test]
fn a_snapshot_carries_the_keys() {
    let session = with_snapshot();
    let worm: &dyn Session = &session;
    let (_, loaded) = Store::open(&worm.ground().store(), Access::Look).unwrap();
    assert!(loaded.from.is_some());
    assert_eq!(loaded.catalog.keys.changes().len(), 2);
    assert_eq!(loaded.catalog.keys.newest(), signer(worm).public());
    let newest = rotate(worm);
    check(worm, given(&newest), &[], &[]);
    worm.start().unwrap();
    assert_eq!(worm.fs().alarms(), [""; 0]);
}

#[test]
fn what_cannot_be_rotated_stays_as_it_is() {
    let session = store();
    let worm: &dyn Session = &session;
    let (before, key) = (head(worm, "head").text, signer(worm).public());
    worm.start().unwrap();
    let refused = try_rotate(worm).unwrap_err();
    assert!(matches!(refused, RotateError::Open(OpenError::Busy(_))), "{refused}");
    worm.stop(End::Crash);
    for reason in ["", " ", "two\nlines", &"x".repeat(2000)] {
        let refused = rotate_key(worm.ground().options(), Actor::user(0), reason).unwrap_err();
        assert!(matches!(refused, RotateError::Record(_)), "{refused}");
    }
    // The key of another store, or none.
    let other = store();
    let foreign = std::fs::read(InProcess::ground(&other).key()).unwrap();
    let own = std::fs::read(worm.ground().key()).unwrap();
    for wrong in [&foreign[..], b"hello"] {
        write(worm.ground().key(), wrong);
        let refused = try_rotate(worm).unwrap_err();
        assert!(matches!(refused, RotateError::Open(OpenError::Key { .. })), "{refused}");
    }
    write(worm.ground().key(), own);
    assert!(!beside(worm, ".new").exists() && !beside(worm, ".old-1").exists());
    assert_eq!(signer(worm).public(), key);
    let earlier = Given { name: "earlier.head".to_owned(), text: before };
    check(worm, given(&key), &[&earlier], &[]);
}

/// By the command: what it says, and its exit codes.
#[test]
fn the_command_changes_the_key_of_a_store_that_nobody_serves() {
    let daemon = Daemon::start();
    let (store, key) = (daemon.store(), daemon.key());
    let key_text = key.to_string_lossy();
    let reason = ["--reason", "its copy was lost", "--key", &key_text];
    let run = |args: &[&str]| {
        let mut command = system_tests::binary::command("worm");
        command.args(["key", args[0]]).arg(&store).args(&args[1..]);
        system_tests::binary::run(command.arg("--run-dir").arg(daemon.run_directory()))
    };
    let rotate = |more: &[&str]| run(&[&["rotate"], more].concat());
    let said = rotate(&reason).expect_code(7);
    assert!(said.stderr.contains("worm umount"), "{}", said.stderr);
    write(daemon.active().join("hourly/before"), b"before");
    daemon.wait(&daemon.active().join("hourly/before"));
    let earlier = daemon.directory().join("earlier.head");
    std::fs::copy(daemon.view().join(".worm/head"), &earlier).unwrap();
    let shown = run(&["show"]).success();
    assert_eq!(shown.lines().count(), 1, "{shown}");
    daemon.worm("umount", &daemon.active(), &[]).success();

    drop(rotate(&[]).expect_code(2));
    let empty = ["--reason", " ", "--key", &key_text];
    assert!(rotate(&empty).expect_code(4).stderr.contains("a reason is"));
    let nowhere = ["--reason", "x", "--key", "/nowhere/key"];
    assert!(rotate(&nowhere).expect_code(4).stderr.contains("/nowhere/key"));
    let said = rotate(&reason).success();
    assert!(said.contains("keep a copy") && said.contains("key.old-1"), "{said}");

    daemon.mount(&[]).success();
    let shown: serde_json::Value =
        serde_json::from_str(&run(&["show", "--json"]).success()).unwrap();
    let (first, second) = (&shown[0], &shown[1]);
    assert_eq!((first["line"].as_u64(), first["since"].as_str()), (Some(1), None), "{shown}");
    let public = StoreSigner::public_of(&std::fs::read_to_string(&key).unwrap()).unwrap();
    assert_eq!(second["key"].as_str(), Some(&*public), "{shown}");
    let shown = run(&["show"]).success();
    assert!(shown.contains("its copy was lost") && shown.contains("uid 0"), "{shown}");
    let logged = daemon.worm("log", &store, &[]).success();
    assert!(logged.contains("the signing key was changed"), "{logged}");
    let earlier = earlier.to_string_lossy();
    let all = ["--key", &key_text, "--witness", &earlier];
    let said = daemon.worm("verify", &store, &all).success();
    assert!(!said.contains("--key"), "{said}");

    // The old key opens nothing any more.
    daemon.worm("umount", &daemon.active(), &[]).success();
    std::fs::copy(daemon.directory().join("key.old-1"), &key).unwrap();
    let refused = daemon.mount(&[]).expect_code(4);
    assert!(refused.stderr.contains("what signs this store since line"), "{}", refused.stderr);
}
