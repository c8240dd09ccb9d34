//! The daemon: serves a store at its places until it is unmounted or told to end.

use std::fs::OpenOptions;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::Receiver;
use std::sync::mpsc::RecvTimeoutError;
use std::sync::mpsc::channel;
use std::time::Duration;
use std::time::Instant;

use rustix::process::Resource;
use rustix::process::getrlimit;
use rustix::process::setrlimit;
use rustix::thread::CapabilitySet;
use signal_hook::consts::SIGINT;
use signal_hook::consts::SIGTERM;
use signal_hook::iterator::Signals;
use worm_fs::clock::MachineClock;
use worm_fs::config::Config;
use worm_fs::fs::Descriptors;
use worm_fs::fs::Options;
use worm_fs::fs::WormFs;
use worm_fs::fuse::Detached;
use worm_fs::fuse::Mounted;
use worm_fs::fuse::Settings;

use crate::alarms::Alarms;
use crate::cli::MountArgs;
use crate::doors::Doors;
use crate::keeper::Keeper;
use crate::keeper::Taken;
use crate::logging;
use crate::outcome::Exit;
use crate::outcome::Failure;
use crate::outcome::Outcome;
use crate::outcome::say;
use crate::places::Role;
use crate::run_file;
use crate::run_file::Note;
use crate::run_file::RunFile;
use crate::sandbox;
use crate::sandbox::Needs;
use crate::scrubber::Scrubber;
use crate::service;
use crate::service::Service;
use crate::target;
use crate::watch::MountTable;
use crate::watch::Watch;

/// What the daemon says when its mounts answer.
pub(crate) const READY: &str = "ready";
/// How often expired files are looked for.
const HOUSEKEEPING: Duration = Duration::from_secs(10);
/// How often the daemon looks how far logs have grown.
const LOGS: Duration = Duration::from_millis(250);
/// How often the daemon looks whether its mounts are still there.
const LOOK: Duration = Duration::from_millis(200);
/// How long after a change of mounts it looks at its places: a mount that is taken away in order is
/// gone before its session is over, by how busy the machine is.
const SETTLED: Duration = Duration::from_secs(1);
/// How long the last requests may take after the end was asked for.
const LAST_REQUESTS: Duration = Duration::from_secs(5);
/// How long nothing is open before a mount counts as left by all. Its session goes on where another
/// mount namespace has a copy of it.
const LEFT: Duration = Duration::from_millis(500);

/// What to serve, checked.
pub(crate) struct Plan {
    pub(crate) id: String,
    pub(crate) store: PathBuf,
    pub(crate) mountpoint: PathBuf,
    pub(crate) view_group: u32,
    pub(crate) key: PathBuf,
    pub(crate) config: Config,
    pub(crate) clock: Arc<MachineClock>,
    pub(crate) settings: Settings,
}

/// What stays with the host, whatever the daemon gives up or leaves.
pub(crate) struct Host {
    pub(crate) keeper: Keeper,
    pub(crate) mounts: MountTable,
}

/// Serves until the end.
pub(crate) fn serve(plan: Plan, args: &MountArgs, host: Host) -> Outcome {
    raise_limit();
    std::fs::create_dir_all(&args.run_dir)
        .map_err(Failure::doing(format_args!("make {}", args.run_dir.display())))?;
    start_logging(&plan, args)?;
    let signals = Signals::new([SIGTERM, SIGINT]).map_err(Failure::doing("wait for signals"))?;
    let Host { keeper, mounts } = host;
    let places = make_mounts(&plan, &keeper)?;
    let devices = places.iter().map(|(path, mount)| Ok((path.clone(), mount.device()?)));
    let devices = devices.collect::<std::io::Result<_>>();
    let watch = Watch::new(mounts, devices.map_err(Failure::doing("ask for the mounts"))?);
    let doors = Doors::bind(&plan, args)?;
    // No thread has been started yet, and sockets are bound: all that comes is inside.
    let sandbox = enter_sandbox(&plan, args);
    tracing::info!(sandbox, "given up");

    let clock = Arc::clone(&plan.clock);
    let fs = if args.read_only {
        WormFs::show(&plan.store, clock)?
    } else {
        let (store, key, config) = (plan.store.clone(), plan.key.clone(), plan.config.clone());
        WormFs::serve(Options { store, key, config, clock, segment_bytes: args.segment_bytes })?
    };
    let mounts = match attach(&fs, places, &keeper, &plan) {
        Ok(mounts) => mounts,
        Err(failure) => {
            fs.shut_down(Descriptors::Unknown);
            return Err(failure);
        }
    };
    let note = (!args.read_only).then(|| {
        let now = RunFile {
            pid: std::process::id(),
            store: seen_from_outside(&plan, args),
            mounts: mounts.iter().map(|(path, _)| path.clone()).collect(),
            places: Vec::new(),
            sandbox: sandbox.clone(),
            alarms: fs.alarms(),
        };
        Note::new(&args.run_dir, &plan.id, now)
    });
    let (stop, stopped) = channel();
    let alarms = Arc::new(Alarms::new(Arc::clone(&fs), note));
    alarms.look(&watch);
    let doors = doors.open(&alarms, sandbox);
    let housekeeper = housekeep(Arc::clone(&alarms), stopped);
    let (stop_recording, recording_stopped) = channel();
    let recorder = record_logs(Arc::clone(&fs), recording_stopped);
    let scrubber = Scrubber::start(Arc::clone(&fs), plan.config.scrub);
    tracing::info!(store = %plan.store.display(), at = %plan.mountpoint.display(), "serving");
    if args.report_ready {
        say(READY);
        leave_terminal();
    }
    let service = Service::ready(&plan.mountpoint);
    if housekeeper.is_ok() && recorder.is_ok() && scrubber.is_ok() {
        wait(&mounts, signals, &watch, &alarms, service);
    }
    service::stopping();
    drop((stop, stop_recording));
    let scrubbing = scrubber.map(drop);
    let descriptors = take_away(mounts, &keeper, &fs);
    let threads = [housekeeper, recorder].map(|thread| thread.map(|one| drop(one.join())));
    doors.close();
    fs.shut_down(descriptors);
    if let Some(note) = &alarms.note {
        note.remove();
    }
    threads.into_iter().collect::<Outcome>()?;
    scrubbing?;
    tracing::info!("ended");
    Ok(())
}

/// Where others find the store: through this process, when only it sees it.
fn seen_from_outside(plan: &Plan, args: &MountArgs) -> PathBuf {
    if args.private_store.is_none() {
        return plan.store.clone();
    }
    let root = format!("/proc/{}/root", std::process::id());
    Path::new(&root).join(plan.store.strip_prefix("/").unwrap_or(&plan.store))
}

/// Gives up what is not needed from here on, and says what.
fn enter_sandbox(plan: &Plan, args: &MountArgs) -> String {
    let (store, run, key) = (plan.store.as_path(), args.run_dir.as_path(), plan.key.as_path());
    let device = Path::new("/dev/fuse");
    // Refusals are logged with the caller's cgroup.
    let proc = Path::new("/proc");
    let (change, read) = if args.read_only {
        (vec![run, device], vec![store, proc])
    } else {
        (vec![store, run, device], vec![key, proc])
    };
    // Passthrough asks for it at each first open of a file.
    let capabilities =
        if plan.settings.passthrough { CapabilitySet::SYS_ADMIN } else { CapabilitySet::empty() };
    sandbox::enter(&Needs { capabilities, change, read })
}

/// Files in the mount need descriptors here: as many as the host allows.
fn raise_limit() {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    if let Err(error) = setrlimit(Resource::Nofile, limit) {
        tracing::debug!(%error, "the limit of open files stays");
    }
}

fn start_logging(plan: &Plan, args: &MountArgs) -> Outcome {
    let file = if args.foreground {
        None
    } else {
        let path = run_file::log_path(&args.run_dir, &plan.id);
        let open = OpenOptions::new().create(true).append(true).open(&path);
        Some(open.map_err(Failure::doing(format_args!("log to {}", path.display())))?)
    };
    logging::start(args.log_format, file);
    Ok(())
}

/// In the background a closed terminal is no reason to end, and no directory is kept busy.
fn leave_terminal() {
    if let Err(error) = rustix::process::setsid() {
        tracing::debug!(%error, "no session of its own");
    }
    if let Err(error) = std::env::set_current_dir("/") {
        tracing::debug!(%error, "the working directory stays");
    }
}

/// All places, in the order in which they are unmounted.
type Mounts = Vec<(PathBuf, Mounted)>;

/// Makes the mounts, which nobody sees yet.
fn make_mounts(plan: &Plan, keeper: &Keeper) -> Outcome<Vec<(PathBuf, Detached)>> {
    let make =
        |(path, role): (&Path, Role)| match worm_fs::fuse::make(&plan.id, role.is_read_only()) {
            Ok(mount) => Ok((path.to_owned(), mount)),
            Err(error) => Err(target::cannot_mount(path, &error)),
        };
    keeper.places().all().into_iter().map(make).collect()
}

/// Serves the mounts, and lets them be seen.
fn attach(
    fs: &Arc<WormFs>,
    places: Vec<(PathBuf, Detached)>,
    keeper: &Keeper,
    plan: &Plan,
) -> Outcome<Mounts> {
    let (mut mounts, mut served) = (Vec::new(), Vec::new());
    for ((path, mount), (_, role)) in places.into_iter().zip(keeper.places().all()) {
        let Some(place) = role.place(fs, &plan.config, plan.view_group) else {
            let message = format!("{}: the store has no class for it", path.display());
            return Err(Failure::new(Exit::Failed, message));
        };
        let (mounted, mount) = mount
            .serve(fs, place, plan.settings)
            .map_err(|error| target::cannot_mount(&path, &error))?;
        served.push((path, mounted));
        mounts.push(mount);
    }
    keeper.attach(fs.store_id(), &mounts)?;
    Ok(served)
}

/// Waits for a signal, or until the first place is not served any more: its session is over, or it
/// is unmounted here and nothing is open. Copies of a mount in other mount namespaces, such as that
/// of a container which began meanwhile, keep a session alive.
fn wait(
    mounts: &Mounts,
    mut signals: Signals,
    watch: &Watch,
    alarms: &Alarms,
    mut service: Service,
) {
    let mut changed: Option<Instant> = None;
    let mut gone = false;
    loop {
        service.alive(alarms);
        if let Some(signal) = signals.pending().next() {
            tracing::info!(signal, "told to end");
            return;
        }
        if let Some((path, _)) = mounts.first().filter(|(_, mounted)| mounted.is_over()) {
            tracing::info!(at = %path.display(), "unmounted");
            return;
        }
        if watch.wait(LOOK) {
            changed.get_or_insert_with(Instant::now);
        }
        let settled = changed.take_if(|when| when.elapsed() >= SETTLED).is_some();
        if settled {
            gone = watch.is_gone();
        }
        if gone && alarms.fs.is_idle() {
            tracing::info!("unmounted; another mount namespace has a copy, which ends now");
            return;
        }
        if settled {
            alarms.look(watch);
        }
    }
}

/// Takes all places away. What is still in use is detached: whoever holds it open keeps a
/// descriptor that answers errors once the daemon is gone.
fn take_away(mounts: Mounts, keeper: &Keeper, fs: &WormFs) -> Descriptors {
    let mut descriptors = Descriptors::AllClosed;
    for (place, (path, mounted)) in mounts.into_iter().enumerate() {
        match keeper.detach(place) {
            Ok(Taken::Unmounted | Taken::Before) => {}
            Ok(Taken::Detached) => {
                descriptors = Descriptors::Unknown;
                tracing::warn!(at = %path.display(), "still in use: detached");
            }
            Err(failure) => tracing::error!(message = failure.message),
        }
        // The last requests: most of all the closing of files.
        let asked = Instant::now();
        let mut in_use = asked;
        while !mounted.is_over() && asked.elapsed() < LAST_REQUESTS && in_use.elapsed() < LEFT {
            std::thread::sleep(Duration::from_millis(10));
            if !fs.is_idle() {
                in_use = Instant::now();
            }
        }
        if !mounted.is_over() {
            descriptors = Descriptors::Unknown;
        } else if let Err(error) = mounted.join() {
            tracing::error!(%error, "a mount ended badly");
        }
    }
    descriptors
}

/// Removes what is over and notes the clocks and new alarms, now and then.
fn housekeep(alarms: Arc<Alarms>, stopped: Receiver<()>) -> Outcome<std::thread::JoinHandle<()>> {
    let keep = move || {
        loop {
            alarms.note();
            match alarms.fs.housekeep() {
                Ok(0) => {}
                Ok(removed) => {
                    tracing::info!(removed, "expired files were removed");
                    continue;
                }
                Err(error) => tracing::error!(%error, "housekeeping failed"),
            }
            // At the beginning expiry waits until all that is in the store is known.
            let pause = if alarms.fs.is_comparing() { LOOK } else { HOUSEKEEPING };
            match stopped.recv_timeout(pause) {
                Err(RecvTimeoutError::Timeout) => {}
                Ok(()) | Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    };
    std::thread::Builder::new()
        .name("housekeeping".to_owned())
        .spawn(keep)
        .map_err(Failure::doing("start the housekeeping"))
}

/// Records how far logs have grown, where that is due. On a thread of its own: removing files takes
/// as long as it takes.
fn record_logs(fs: Arc<WormFs>, stopped: Receiver<()>) -> Outcome<std::thread::JoinHandle<()>> {
    let record = move || {
        while matches!(stopped.recv_timeout(LOGS), Err(RecvTimeoutError::Timeout)) {
            fs.record_logs();
        }
    };
    std::thread::Builder::new()
        .name("logs".to_owned())
        .spawn(record)
        .map_err(Failure::doing("start the recording of logs"))
}
