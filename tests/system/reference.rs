//! Random requests against a model that fits on a page, in process and through a mount. Every
//! failure found is kept below as a test with a name.
//!
//! A failure prints the requests, made as small as possible, and the seed to repeat it with:
//! `PROPTEST_RNG_SEED`. `PROPTEST_CASES` asks for more cases than a test run has time for.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::hash::BuildHasher as _;
use std::hash::RandomState;

use proptest::prelude::*;
use proptest::test_runner::Config;
use proptest::test_runner::FileFailurePersistence;
use proptest::test_runner::RngSeed;
use rustix::fs::RenameFlags;
use rustix::io::Errno;
use system_tests::rounds;
use system_tests::session::End;
use system_tests::session::Fd;
use system_tests::session::InProcess;
use system_tests::session::Mounted;
use system_tests::session::START_MS;
use system_tests::session::Session;
use worm_fs::clock::Clock as _;
use worm_fs::clock::HOUR_MS;
use worm_fs::clock::rfc3339;
use worm_fs::fs::Control;
use worm_fs::policy::name::StorePath;
use worm_fs::record::Actor;

/// The retention of class `guest`, where all of this happens.
const RETENTION_H: i64 = 48;
/// Up to how long an end can be lengthened, from the seal.
const MAX_RETENTION_H: i64 = 96;
/// How long incomplete files are kept.
const INCOMPLETE_H: i64 = 24;
/// How long a file may be open without a byte, and at all.
const IDLE_H: i64 = 1;
const OPEN_H: i64 = 48;
/// Few names, so that requests meet each other.
const NAMES: u8 = 5;

/// What a program, the time, or a crash can do. The numbers are names.
#[derive(Clone, Copy, Debug)]
enum Request {
    Create(u8),
    Write(u8, u8),
    Begin(u8),
    Commit(u8),
    Abort(u8),
    Close(u8),
    Unlink(u8),
    Rename(u8, u8),
    Chmod(u8, u32),
    Mkdir(u8),
    Rmdir(u8),
    Hold(u8, u8),
    Lift(u8, u8),
    Extend(u8, i64),
    Hours(i64),
    Housekeep,
    Restart(End),
}

/// What has a name.
#[derive(Clone, Debug)]
enum Node {
    Writing { bytes: Vec<u8>, mode: u32, begun: bool, opened_h: i64, written_h: i64 },
    Sealed { bytes: Vec<u8>, mode: u32, until_h: i64, last_h: i64, holds: BTreeSet<u8> },
    Directory { mode: u32 },
}

/// All the semantics there are: a name is given once, only its writer changes what it holds,
/// what is whole stays until its time, what is not leaves its name, and nobody holds it for long.
#[derive(Clone, Debug, Default)]
struct Model {
    now_h: i64,
    names: BTreeMap<u8, Node>,
    /// When each incomplete file ends, and what it holds.
    incomplete: Vec<(i64, Vec<u8>)>,
}

impl Model {
    fn apply(&mut self, request: Request) -> Result<(), Errno> {
        let (now_h, until_h) = (self.now_h, self.now_h + RETENTION_H);
        match request {
            Request::Create(name) => {
                if self.names.contains_key(&name) {
                    return Err(Errno::EXIST);
                }
                let (bytes, mode, begun) = (Vec::new(), 0o644, false);
                let node = Node::Writing { bytes, mode, begun, opened_h: now_h, written_h: now_h };
                self.names.insert(name, node);
                Ok(())
            }
            Request::Mkdir(name) => {
                if self.names.contains_key(&name) {
                    return Err(Errno::EXIST);
                }
                self.names.insert(name, Node::Directory { mode: 0o755 });
                Ok(())
            }
            Request::Hours(hours) => {
                self.now_h += hours;
                Ok(())
            }
            Request::Housekeep => {
                let overdue = self.names.iter().filter(|(_, node)| node.is_overdue(now_h));
                let overdue: Vec<u8> = overdue.map(|(name, _)| *name).collect();
                overdue.into_iter().for_each(|name| self.give_up(name));
                self.names.retain(|_, node| !node.is_over(now_h));
                self.incomplete.retain(|(until_h, _)| *until_h > now_h);
                Ok(())
            }
            Request::Restart(_) => {
                let open: Vec<u8> =
                    self.names.iter().filter(|(_, n)| n.is_open()).map(|(n, _)| *n).collect();
                open.into_iter().for_each(|name| self.give_up(name));
                Ok(())
            }
            Request::Write(name, byte) => match self.names.get_mut(&name) {
                Some(Node::Writing { bytes, written_h, .. }) => {
                    bytes.push(byte);
                    *written_h = now_h;
                    Ok(())
                }
                _ => Err(Errno::BADF),
            },
            Request::Begin(name) => match self.names.get_mut(&name) {
                Some(Node::Writing { begun, .. }) => {
                    *begun = true;
                    Ok(())
                }
                _ => Err(Errno::BADF),
            },
            Request::Commit(name) | Request::Abort(name) | Request::Close(name) => {
                let Some(Node::Writing { bytes, mode, begun, .. }) = self.names.get(&name).cloned()
                else {
                    return Err(Errno::BADF);
                };
                let whole = match request {
                    Request::Commit(_) => true,
                    Request::Close(_) => !begun,
                    _ => false,
                };
                if whole {
                    let (last_h, holds) = (self.now_h + MAX_RETENTION_H, BTreeSet::new());
                    self.names.insert(name, Node::Sealed { bytes, mode, until_h, last_h, holds });
                } else {
                    self.give_up(name);
                }
                Ok(())
            }
            Request::Unlink(name) => match self.names.get(&name) {
                None => Err(Errno::NOENT),
                Some(Node::Directory { .. }) => Err(Errno::ISDIR),
                Some(node) if node.is_over(now_h) => {
                    self.names.remove(&name);
                    Ok(())
                }
                Some(Node::Writing { .. } | Node::Sealed { .. }) => Err(Errno::PERM),
            },
            Request::Rmdir(name) => match self.names.get(&name) {
                None => Err(Errno::NOENT),
                Some(Node::Directory { .. }) => {
                    self.names.remove(&name);
                    Ok(())
                }
                Some(Node::Writing { .. } | Node::Sealed { .. }) => Err(Errno::NOTDIR),
            },
            Request::Hold(..) | Request::Lift(..) | Request::Extend(..) => self.keep(request),
            Request::Rename(from, to) => match (self.names.get(&from), self.names.get(&to)) {
                (None, _) => Err(Errno::NOENT),
                // The kernel's own: nothing to do, and things that do not go together.
                (Some(_), Some(_)) if from == to => Ok(()),
                (Some(from), Some(to)) if from.is_directory() && !to.is_directory() => {
                    Err(Errno::NOTDIR)
                }
                (Some(from), Some(to)) if !from.is_directory() && to.is_directory() => {
                    Err(Errno::ISDIR)
                }
                (Some(_), _) => Err(Errno::PERM),
            },
            Request::Chmod(name, new) => match self.names.get_mut(&name) {
                None => Err(Errno::NOENT),
                Some(Node::Sealed { .. }) => Err(Errno::PERM),
                Some(Node::Writing { mode, .. } | Node::Directory { mode }) => {
                    *mode = new;
                    Ok(())
                }
            },
        }
    }

    /// What keeps a file longer than its class does.
    fn keep(&mut self, request: Request) -> Result<(), Errno> {
        let (Request::Hold(name, _) | Request::Lift(name, _) | Request::Extend(name, _)) = request
        else {
            panic!("{request:?} keeps nothing");
        };
        let (until_h, last_h, holds) = match self.names.get_mut(&name) {
            None => return Err(Errno::NOENT),
            Some(Node::Sealed { until_h, last_h, holds, .. }) => (until_h, *last_h, holds),
            Some(open) => {
                return Err(match (request, open.is_directory()) {
                    (Request::Extend(..), true) => Errno::PERM,
                    (Request::Extend(..), false) => Errno::OPNOTSUPP,
                    (_, true) => Errno::ISDIR,
                    (_, false) => Errno::BUSY,
                });
            }
        };
        match request {
            Request::Hold(_, hold) if !holds.insert(hold) => Err(Errno::EXIST),
            Request::Lift(_, hold) if !holds.remove(&hold) => Err(Errno::NOENT),
            Request::Extend(_, hours) => {
                let wanted_h = self.now_h + hours;
                // What was lengthened to its limit stays there.
                if !(*until_h..=last_h.max(*until_h)).contains(&wanted_h) {
                    return Err(Errno::PERM);
                }
                *until_h = wanted_h;
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn give_up(&mut self, name: u8) {
        if let Some(Node::Writing { bytes, .. }) = self.names.remove(&name) {
            self.incomplete.push((self.now_h + INCOMPLETE_H, bytes));
        }
    }
}

impl Node {
    fn is_open(&self) -> bool {
        matches!(self, Self::Writing { .. })
    }

    /// It has been open for too long.
    fn is_overdue(&self, now_h: i64) -> bool {
        match self {
            Self::Writing { opened_h, written_h, .. } => {
                now_h - written_h >= IDLE_H || now_h - opened_h >= OPEN_H
            }
            Self::Sealed { .. } | Self::Directory { .. } => false,
        }
    }

    /// Nothing keeps it any more.
    fn is_over(&self, now_h: i64) -> bool {
        match self {
            Self::Sealed { until_h, holds, .. } => *until_h <= now_h && holds.is_empty(),
            Self::Writing { .. } | Self::Directory { .. } => false,
        }
    }

    fn is_directory(&self) -> bool {
        matches!(self, Self::Directory { .. })
    }
}

fn store_path(name: u8) -> StorePath {
    StorePath::decode(&format!("guest/{name}")).unwrap()
}

fn path(name: u8) -> Vec<u8> {
    format!("guest/{name}").into_bytes()
}

/// The real thing, with the descriptors that its programs hold.
struct Real<'a> {
    worm: &'a dyn Session,
    open: BTreeMap<u8, Fd>,
}

impl Real<'_> {
    fn apply(&mut self, request: Request) -> Result<(), Errno> {
        let worm = self.worm;
        let held = |open: &BTreeMap<u8, Fd>, name| open.get(&name).copied().ok_or(Errno::BADF);
        match request {
            Request::Create(name) => {
                let fd = worm.create(&path(name))?;
                self.open.insert(name, fd);
                Ok(())
            }
            Request::Write(name, byte) => worm.write(held(&self.open, name)?, &[byte]).map(|_| ()),
            Request::Begin(name) => worm.control(held(&self.open, name)?, Control::Begin),
            Request::Commit(name) => self.end(name, Some(Control::Commit)),
            Request::Abort(name) => self.end(name, Some(Control::Abort)),
            Request::Close(name) => self.end(name, None),
            Request::Unlink(name) => worm.unlink(&path(name)),
            Request::Rename(from, to) => worm.rename(&path(from), &path(to), RenameFlags::empty()),
            Request::Chmod(name, mode) => worm.chmod(&path(name), mode),
            Request::Mkdir(name) => worm.mkdir(&path(name), 0o755),
            Request::Rmdir(name) => worm.rmdir(&path(name)),
            Request::Hold(name, hold) => {
                let by = Actor::user(0);
                let held = worm.fs().hold(by, &store_path(name), &hold.to_string(), "model");
                held.map_err(|error| error.errno())
            }
            Request::Lift(name, hold) => {
                let by = Actor::user(0);
                let lifted = worm.fs().lift_hold(by, &store_path(name), &hold.to_string(), "model");
                lifted.map_err(|error| error.errno())
            }
            Request::Extend(name, hours) => {
                let until = rfc3339(worm.clock().read().system_ms + hours * HOUR_MS);
                worm.setxattr(&path(name), "user.worm.retain_until", until.as_bytes())
            }
            Request::Hours(hours) => {
                worm.clock().advance(hours * HOUR_MS);
                Ok(())
            }
            Request::Housekeep => {
                worm.housekeep();
                // Nobody knows of the descriptor of a file that was given up any more.
                for (name, fd) in std::mem::take(&mut self.open) {
                    match worm.worm(&path(name), "state").as_deref() {
                        Ok("writing") => drop(self.open.insert(name, fd)),
                        _ => worm.close(fd)?,
                    }
                }
                Ok(())
            }
            Request::Restart(end) => {
                self.open.clear();
                worm.restart(end);
                Ok(())
            }
        }
    }

    /// Ends a file, and closes it: after the close nobody knows of the descriptor any more.
    fn end(&mut self, name: u8, control: Option<Control>) -> Result<(), Errno> {
        let fd = self.open.remove(&name).ok_or(Errno::BADF)?;
        control.map_or(Ok(()), |control| self.worm.control(fd, control))?;
        self.worm.close(fd)
    }
}

/// Waits until all that was closed has become what the model says, and compares.
#[track_caller]
fn compare(worm: &dyn Session, model: &Model) {
    for name in 0..NAMES {
        let path = path(name);
        match model.names.get(&name) {
            None => worm.wait_gone(&path),
            Some(Node::Directory { mode }) => {
                let stat = worm.stat(&path).unwrap();
                assert!(stat.is_directory && stat.mode == *mode, "{name}: {stat:?}");
            }
            Some(Node::Writing { bytes, mode, .. }) => {
                assert_eq!(worm.worm(&path, "state").unwrap(), "writing", "{name}");
                assert_eq!(worm.stat(&path).unwrap().mode, *mode, "{name}");
                assert_eq!(worm.get(&path).unwrap(), *bytes, "{name}");
                assert_eq!(worm.view().stat(&path), Err(Errno::NOENT), "{name}");
            }
            Some(node @ Node::Sealed { bytes, mode, until_h, holds, .. }) => {
                worm.wait_sealed(&path);
                let state = if node.is_over(model.now_h) { "expired" } else { "sealed" };
                let until = rfc3339(START_MS + until_h * HOUR_MS);
                assert_eq!(worm.worm(&path, "retain_until").unwrap(), until, "{name}");
                let on_it = worm.worm(&path, "holds").unwrap();
                assert_eq!(on_it.split_whitespace().count(), holds.len(), "{name}: {on_it}");
                assert_eq!(worm.worm(&path, "state").unwrap(), state, "{name}");
                assert_eq!(worm.stat(&path).unwrap().mode, *mode, "{name}");
                assert_eq!(worm.get(&path).unwrap(), *bytes, "{name}");
                assert_eq!(worm.view().get(&path).unwrap(), *bytes, "{name}");
            }
        }
    }
    let inside = &b"guest/.incomplete"[..];
    let kept = worm.list(inside).unwrap();
    let read = |name: &Vec<u8>| worm.get(&[inside, b"/", name].concat());
    let mut kept: Vec<_> = kept.iter().filter_map(|name| read(name).ok()).collect();
    let mut expected: Vec<_> = model.incomplete.iter().map(|(_, bytes)| bytes.clone()).collect();
    kept.sort();
    expected.sort();
    assert_eq!(kept, expected, "incomplete");
}

/// After each request the real thing answers as the model does, and is as the model is.
fn run(worm: &dyn Session, requests: &[Request]) {
    let mut model = Model::default();
    let mut real = Real { worm, open: BTreeMap::new() };
    worm.ground().rule("guest", |rule| rule.max_retention = Some(MAX_RETENTION_H * HOUR_MS));
    worm.restart(End::Clean);
    for request in requests {
        let expected = model.apply(*request);
        assert_eq!(real.apply(*request), expected, "{request:?}");
        compare(worm, &model);
    }
    // In the end all is right on the disk, too, and after a crash.
    let _same = model.apply(Request::Restart(End::Crash));
    real.apply(Request::Restart(End::Crash)).unwrap();
    compare(worm, &model);
    let guest = worm.fs().usage().into_iter().find(|class| class.class == "guest").unwrap();
    let files = guest.limits.iter().find(|row| row.name == "files").unwrap().used;
    let named = model.names.values().filter(|node| !node.is_directory()).count();
    assert_eq!(files, (named + model.incomplete.len()) as u64);
    let report = worm_fs::verify::verify(&worm.ground().store(), 1, &Default::default()).unwrap();
    assert!(report.problems.is_empty(), "{report:?}");
}

fn request() -> impl Strategy<Value = Request> {
    let name = || 0..NAMES;
    prop_oneof![
        4 => name().prop_map(Request::Create),
        4 => (name(), any::<u8>()).prop_map(|(name, byte)| Request::Write(name, byte)),
        2 => name().prop_map(Request::Begin),
        2 => name().prop_map(Request::Commit),
        1 => name().prop_map(Request::Abort),
        4 => name().prop_map(Request::Close),
        2 => name().prop_map(Request::Unlink),
        2 => (name(), name()).prop_map(|(from, to)| Request::Rename(from, to)),
        2 => (name(), prop_oneof![Just(0o600), Just(0o755)])
            .prop_map(|(name, mode)| Request::Chmod(name, mode)),
        1 => name().prop_map(Request::Mkdir),
        1 => name().prop_map(Request::Rmdir),
        2 => (name(), 0..2_u8).prop_map(|(name, hold)| Request::Hold(name, hold)),
        2 => (name(), 0..2_u8).prop_map(|(name, hold)| Request::Lift(name, hold)),
        1 => (name(), prop_oneof![Just(1), Just(47), Just(48), Just(72), Just(96), Just(97)])
            .prop_map(|(name, hours)| Request::Extend(name, hours)),
        2 => prop_oneof![Just(1), Just(23), Just(24), Just(48)].prop_map(Request::Hours),
        1 => Just(Request::Housekeep),
        1 => prop_oneof![Just(End::Clean), Just(End::Crash)].prop_map(Request::Restart),
    ]
}

fn config(usually: usize, in_soak: usize) -> Config {
    let cases = u32::try_from(rounds(usually, in_soak)).unwrap();
    // A new seed for each run; what a test prints is shown when it fails.
    let seed = std::env::var("PROPTEST_RNG_SEED").ok().and_then(|seed| seed.parse().ok());
    let seed = seed.unwrap_or_else(|| RandomState::new().hash_one(cases));
    println!("PROPTEST_RNG_SEED={seed}");
    let rng_seed = RngSeed::Fixed(seed);
    // Failures are kept as tests with a name, not in a file.
    let failure_persistence = Some(Box::new(FileFailurePersistence::Off) as _);
    let asked = std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok());
    Config { cases: asked.unwrap_or(cases), rng_seed, failure_persistence, ..Config::default() }
}

proptest! {
    #![proptest_config(config(128, 1000))]

    #[test]
    fn any_requests_end_as_the_model_says_in_process(
        requests in proptest::collection::vec(request(), 1..40),
    ) {
        run(&InProcess::default(), &requests);
    }
}

proptest! {
    #![proptest_config(config(12, 100))]

    #[test]
    fn any_requests_end_as_the_model_says_mounted(
        requests in proptest::collection::vec(request(), 1..40),
    ) {
        run(&Mounted::default(), &requests);
    }
}

/// The longest way through a name's life, so that it is walked in every run.
#[test]
fn a_whole_life_ends_as_the_model_says() {
    let requests = [
        Request::Create(0),
        Request::Write(0, 1),
        Request::Create(0),
        Request::Rename(0, 1),
        Request::Unlink(0),
        Request::Chmod(0, 0o600),
        Request::Begin(0),
        Request::Close(0),
        Request::Create(0),
        Request::Begin(0),
        Request::Commit(0),
        Request::Chmod(0, 0o644),
        Request::Hours(24),
        Request::Restart(End::Clean),
        Request::Housekeep,
        Request::Hold(0, 0),
        Request::Extend(0, 49),
        Request::Extend(0, 48),
        Request::Hours(48),
        Request::Unlink(0),
        Request::Lift(0, 0),
        Request::Unlink(0),
        Request::Mkdir(0),
        Request::Rename(0, 0),
        Request::Rmdir(0),
    ];
    run(&InProcess::default(), &requests);
    run(&Mounted::default(), &requests);
}
