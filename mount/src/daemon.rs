//! The daemon: serves a store at its places until it is unmounted or told to end.

use std::fs::OpenOptions;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::Receiver;
use std::sync::mpsc::RecvTimeoutError;
use std::sync::mpsc::channel;
use std::time::Duration;

use rustix::io::Errno;
use rustix::process::Resource;
use rustix::process::getrlimit;
use rustix::process::setrlimit;
use signal_hook::consts::SIGINT;
use signal_hook::consts::SIGTERM;
use signal_hook::iterator::Signals;
use worm_fs::clock::MachineClock;
use worm_fs::config::Config;
use worm_fs::fs::Descriptors;
use worm_fs::fs::Options;
use worm_fs::fs::Place;
use worm_fs::fs::WormFs;
use worm_fs::fuse::Mounted;
use worm_fs::fuse::Settings;

use crate::cli::MountArgs;
use crate::guard;
use crate::logging;
use crate::outcome::Exit;
use crate::outcome::Failure;
use crate::outcome::Outcome;
use crate::outcome::say;
use crate::run_file;
use crate::run_file::RunFile;
use crate::target;
use crate::target::Standing;

/// What the daemon says when its mounts answer.
pub(crate) const READY: &str = "ready";
/// How often expired files are looked for.
const HOUSEKEEPING: Duration = Duration::from_secs(10);
/// How often the daemon looks whether its mounts are still there.
const LOOK: Duration = Duration::from_millis(200);
/// How long the last requests may take after the end was asked for.
const LAST_REQUESTS: Duration = Duration::from_secs(5);

/// What to serve, checked.
pub(crate) struct Plan {
    pub(crate) id: String,
    pub(crate) store: PathBuf,
    pub(crate) mountpoint: PathBuf,
    pub(crate) view: Option<PathBuf>,
    pub(crate) view_group: u32,
    pub(crate) key: PathBuf,
    pub(crate) config: Config,
    pub(crate) clock: Arc<MachineClock>,
    pub(crate) settings: Settings,
}

/// Serves until the end.
pub(crate) fn serve(plan: Plan, args: &MountArgs) -> Outcome {
    raise_limit();
    std::fs::create_dir_all(&args.run_dir)
        .map_err(Failure::doing(format_args!("make {}", args.run_dir.display())))?;
    start_logging(&plan, args)?;
    let signals = Signals::new([SIGTERM, SIGINT]).map_err(Failure::doing("wait for signals"))?;
    let clock = Arc::clone(&plan.clock);
    let fs = if args.read_only {
        WormFs::show(&plan.store, clock)?
    } else {
        let (store, key, config) = (plan.store.clone(), plan.key.clone(), plan.config.clone());
        WormFs::serve(Options { store, key, config, clock })?
    };
    let served = serve_at_its_places(&fs, &plan, args, signals);
    // From here on nobody serves: nothing may be written into the bare directory.
    let guarded = if args.read_only { Ok(()) } else { guard::place(&plan.mountpoint) };
    served?;
    guarded?;
    tracing::info!("ended");
    Ok(())
}

/// Mounts, serves, and takes all away again.
fn serve_at_its_places(
    fs: &Arc<WormFs>,
    plan: &Plan,
    args: &MountArgs,
    signals: Signals,
) -> Outcome {
    let mounts = match mount_all(fs, plan, args.read_only) {
        Ok(mounts) => mounts,
        Err(failure) => {
            fs.shut_down(Descriptors::Unknown);
            return Err(failure);
        }
    };
    let note = RunFile {
        pid: std::process::id(),
        store: plan.store.clone(),
        mounts: mounts.iter().map(|(path, _)| path.clone()).collect(),
        alarms: fs.alarms(),
    };
    // A copy that is only shown has the id of its original, whose daemon is the one to find.
    if !args.read_only
        && let Err(failure) = note.write(&args.run_dir, &plan.id)
    {
        tracing::warn!(message = failure.message);
    }
    let (stop, stopped) = channel();
    let note = (!args.read_only).then(|| (note, args.run_dir.clone(), plan.id.clone()));
    let housekeeper = housekeep(Arc::clone(fs), note, stopped);
    tracing::info!(store = %plan.store.display(), at = %plan.mountpoint.display(), "serving");
    if args.report_ready {
        say(READY);
        leave_terminal();
    }
    if housekeeper.is_ok() {
        wait(&mounts, signals);
    }
    drop(stop);
    let descriptors = unmount_all(mounts, &plan.id);
    let housekeeping = housekeeper.map(|thread| drop(thread.join()));
    fs.shut_down(descriptors);
    if !args.read_only {
        drop(std::fs::remove_file(run_file::path(&args.run_dir, &plan.id)));
    }
    housekeeping
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

fn mount_all(fs: &Arc<WormFs>, plan: &Plan, read_only: bool) -> Outcome<Mounts> {
    let view = Place::View { group: plan.view_group };
    let active = if read_only { view } else { Place::Active };
    let mut mounts = Vec::new();
    let places = [(Some(&plan.mountpoint), active), (plan.view.as_ref(), view)];
    for (path, place) in places {
        let Some(path) = path else { continue };
        match mount_one(fs, plan, path, place) {
            Ok(mounted) => mounts.push((path.clone(), mounted)),
            Err(failure) => {
                unmount_all(mounts, &plan.id);
                return Err(failure);
            }
        }
    }
    Ok(mounts)
}

fn mount_one(fs: &Arc<WormFs>, plan: &Plan, path: &Path, place: Place) -> Outcome<Mounted> {
    target::clear(path, &plan.id)?;
    match place {
        Place::Active => guard::prepare(path)?,
        Place::View { .. } => target::detach_dead(path)?,
    }
    worm_fs::fuse::mount(fs, place, path, plan.settings).map_err(|error| {
        let hint = match Errno::from_io_error(&error) {
            Some(Errno::PERM | Errno::ACCESS) => target::NO_RIGHT,
            _ => "",
        };
        let message = format!("cannot mount at {}: {error}{hint}", path.display());
        Failure::new(Exit::Preflight, message)
    })
}

/// Waits for a signal, or until the first place is not served any more.
fn wait(mounts: &Mounts, mut signals: Signals) {
    loop {
        if let Some(signal) = signals.pending().next() {
            tracing::info!(signal, "told to end");
            return;
        }
        if let Some((path, _)) = mounts.first().filter(|(_, mounted)| mounted.is_over()) {
            tracing::info!(at = %path.display(), "unmounted");
            return;
        }
        std::thread::sleep(LOOK);
    }
}

/// Takes all places away. What is still in use is detached: whoever holds it open keeps a
/// descriptor that answers errors once the daemon is gone.
fn unmount_all(mounts: Mounts, id: &str) -> Descriptors {
    let mut descriptors = Descriptors::AllClosed;
    for (path, mounted) in mounts {
        match target::standing(&path) {
            Ok(Standing::Ours { dead, store, .. }) if store == id => {
                let gently = target::unmount(&path);
                if dead || gently.is_err() {
                    descriptors = Descriptors::Unknown;
                    tracing::warn!(at = %path.display(), "still in use: detached");
                    if let Err(failure) = target::detach(&path) {
                        tracing::error!(message = failure.message);
                    }
                }
            }
            // Somebody else has unmounted it; what stands there now is not ours.
            Ok(_) => {}
            Err(failure) => tracing::error!(message = failure.message),
        }
        // The last requests: most of all the closing of files.
        for _ in 0..LAST_REQUESTS.as_millis() / 10 {
            if mounted.is_over() {
                break;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        if !mounted.is_over() {
            descriptors = Descriptors::Unknown;
        } else if let Err(error) = mounted.join() {
            tracing::error!(%error, "a mount ended badly");
        }
    }
    descriptors
}

/// Notes new alarms, where `worm status` finds them.
fn note_alarms(fs: &WormFs, note: &mut Option<(RunFile, PathBuf, String)>) {
    let Some((note, directory, store)) = note else { return };
    let alarms = fs.alarms();
    if alarms != note.alarms {
        note.alarms = alarms;
        if let Err(failure) = note.write(directory, store) {
            tracing::warn!(message = failure.message);
        }
    }
}

/// Removes what is over and notes the clocks and new alarms, now and then.
fn housekeep(
    fs: Arc<WormFs>,
    mut note: Option<(RunFile, PathBuf, String)>,
    stopped: Receiver<()>,
) -> Outcome<std::thread::JoinHandle<()>> {
    let keep = move || {
        loop {
            note_alarms(&fs, &mut note);
            match fs.housekeep() {
                Ok(0) => {}
                Ok(removed) => {
                    tracing::info!(removed, "expired files were removed");
                    continue;
                }
                Err(error) => tracing::error!(%error, "housekeeping failed"),
            }
            match stopped.recv_timeout(HOUSEKEEPING) {
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
