//! `worm mount`: checks what was asked, and starts the daemon in the foreground or behind it.

use std::ffi::OsString;
use std::io::BufRead as _;
use std::io::BufReader;
use std::path::Path;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::Arc;

use rustix::io::Errno;
use worm_fs::clock::MachineClock;
use worm_fs::config::Config;
use worm_fs::fuse::Settings;
use worm_fs::store::Store;

use crate::bare;
use crate::cli::MountArgs;
use crate::daemon;
use crate::daemon::Host;
use crate::daemon::Plan;
use crate::keeper::Keeper;
use crate::key;
use crate::names;
use crate::names::Kind;
use crate::outcome::Exit;
use crate::outcome::Failure;
use crate::outcome::Outcome;
use crate::outcome::say;
use crate::places::Places;
use crate::private;
use crate::target;
use crate::target::Standing;
use crate::watch::MountTable;

/// Where classes are configured, unless told otherwise.
const CONFIG: &str = "/etc/worm/worm.toml";

/// Runs `worm mount`.
/// `words` is the command line that `args` was made of.
pub(crate) fn run(args: &MountArgs, words: &[OsString]) -> Outcome {
    if !args.foreground && !args.report_ready {
        return behind(words);
    }
    let args = &with_absolute_paths(args)?;
    let done = ask(args).and_then(|asked| {
        // It and what is known of the mounts stay with the host, wherever the daemon goes.
        let host = Host::new(&asked)?;
        let plan = plan(args, asked)?;
        daemon::serve(plan, args, host)
    });
    if let (Err(failure), true) = (&done, args.report_ready) {
        // The command that waits prints it.
        say(failure.line());
    }
    done
}

/// The daemon leaves the directory in which it was started.
fn with_absolute_paths(args: &MountArgs) -> Outcome<MountArgs> {
    let run_dir = std::path::absolute(&args.run_dir)
        .map_err(Failure::doing(format_args!("find {}", args.run_dir.display())))?;
    let socket = args.socket.as_deref().map(std::path::absolute).transpose();
    let socket = socket.map_err(Failure::doing("find the socket's place"))?;
    Ok(MountArgs { run_dir, socket, ..args.clone() })
}

/// Starts the daemon as a process of its own and waits until its mount answers.
fn behind(words: &[OsString]) -> Outcome {
    let doing = "start the daemon";
    let program = std::env::current_exe().map_err(Failure::doing(doing))?;
    let mut daemon = std::process::Command::new(program)
        .args(["mount", "--report-ready"])
        // The program's name and the command.
        .args(words.iter().skip(2))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .map_err(Failure::doing(doing))?;
    let Some(stdout) = daemon.stdout.take() else {
        return Err(Failure::new(Exit::Failed, "the daemon has no standard output"));
    };
    for line in BufReader::new(stdout).lines() {
        let line = line.map_err(Failure::doing(doing))?;
        match line.split_once(' ') {
            _ if line == daemon::READY => return Ok(()),
            Some((number, message)) if number.parse::<u8>().is_ok() => {
                return Err(Failure::new(Exit::from_number(number), message));
            }
            _ => say(line),
        }
    }
    let status = daemon.wait().map_err(Failure::doing(doing))?;
    Err(Failure::new(Exit::Failed, format_args!("the daemon ended before it served: {status}")))
}

/// Where the store is, where it is served, and by what rules.
struct Asked {
    store: PathBuf,
    mountpoint: PathBuf,
    places: Places,
    view_group: u32,
    config: Config,
}

/// Checks that what was asked makes sense together, and makes the mount points.
fn ask(args: &MountArgs) -> Outcome<Asked> {
    let config = config(args.config.as_deref())?;
    let config = match args.logs {
        Some(_) => config.with_logs().map_err(|what| Failure::new(Exit::Usage, what))?,
        None => config,
    };
    let view_group = names::number(Kind::Group, &args.view_group);
    let view_group = view_group.map_err(|what| Failure::new(Exit::Usage, what))?;
    device()?;
    let (store, mountpoint) = (resolve(&args.store)?, resolve(&args.mountpoint)?);
    let [view, logs] = [&args.view, &args.logs].map(|path| path.as_deref().map(resolve));
    let places = if args.read_only {
        Places { view: Some(mountpoint.clone()), ..Places::default() }
    } else {
        Places {
            active: Some(mountpoint.clone()),
            view: view.transpose()?,
            logs: logs.transpose()?,
        }
    };
    let all = places.all();
    for (at, (place, _)) in all.iter().enumerate() {
        if all[..at].iter().any(|(before, _)| before == place) {
            let message = format!("{}: each place needs a directory of its own", place.display());
            return Err(Failure::new(Exit::Usage, message));
        }
        check_apart(&store, place)?;
    }
    for (place, _) in all {
        make_mountpoint(place)?;
    }
    Ok(Asked { store, mountpoint, places, view_group, config })
}

impl Host {
    /// Starts what stays in the host's mount namespace.
    fn new(asked: &Asked) -> Outcome<Self> {
        Ok(Self { keeper: Keeper::start(asked.places.clone())?, mounts: MountTable::open()? })
    }
}

/// Reads the store, and makes a new one where there is none.
fn plan(args: &MountArgs, asked: Asked) -> Outcome<Plan> {
    let Asked { store, mountpoint, places: _, view_group, config } = asked;
    let clock = Arc::new(MachineClock::new().map_err(Failure::doing("read the clocks"))?);
    if let Some(device) = &args.private_store {
        enter_private(args, device, &store)?;
    }
    if !args.read_only {
        make_store(args, &clock)?;
    }
    let id = Store::id_of(&store)?;
    let key = key::place(args.key.as_deref(), &id);
    if !args.read_only {
        // From here on the daemon gives up the rest of that directory.
        Store::settle_key(&store, &key)?;
    }
    let cpus = std::thread::available_parallelism().map_or(2, std::num::NonZero::get);
    Ok(Plan {
        id,
        store,
        mountpoint,
        view_group,
        key,
        config,
        clock,
        settings: Settings {
            threads: args.threads.map_or(cpus.clamp(2, 16), usize::from),
            passthrough: !args.no_passthrough,
        },
    })
}

/// The store's device is mounted where only the daemon sees it.
fn enter_private(args: &MountArgs, device: &Path, store: &Path) -> Outcome {
    let run = resolve(&args.run_dir)?;
    let keys = resolve(args.key.as_deref().unwrap_or(Path::new(key::DIRECTORY)))?;
    let mut needed = [&run, &keys].map(PathBuf::as_path).to_vec();
    needed.extend(["/dev/fuse", "/proc"].map(Path::new));
    // Where others shall find the sockets.
    needed.extend(args.socket.as_deref());
    needed.extend(args.metrics.as_ref().and_then(crate::metrics::Address::path));
    private::enter(device, args.private_type.as_deref(), store, &needed)
}

/// The absolute path of something that need not be there. A dead mount cannot be looked at, so
/// what stands above it is resolved.
pub(crate) fn resolve(path: &Path) -> Outcome<PathBuf> {
    let whole = std::path::absolute(path)
        .map_err(Failure::doing(format_args!("find {}", path.display())))?;
    let there = whole.ancestors().find_map(|above| Some((above, above.canonicalize().ok()?)));
    let Some((above, real)) = there else { return Ok(whole) };
    match whole.strip_prefix(above) {
        Ok(rest) if !rest.as_os_str().is_empty() => Ok(real.join(rest)),
        Ok(_) | Err(_) => Ok(real),
    }
}

/// A store must not lie in a mount of a store, its own or another's.
fn check_apart(store: &Path, place: &Path) -> Outcome {
    let usage = |message: String| Err(Failure::new(Exit::Usage, message));
    if store.starts_with(place) || place.starts_with(store) {
        return usage(format!(
            "the store {} and the mount point {} lie within each other: choose places apart",
            store.display(),
            place.display()
        ));
    }
    let above = store.ancestors().find(|above| above.exists());
    let mut id = [0; 64];
    if above.is_some_and(|above| rustix::fs::getxattr(above, "user.worm.store", &mut id).is_ok()) {
        return usage(format!(
            "{} lies in a mounted store: choose a place on a disk",
            store.display()
        ));
    }
    Ok(())
}

fn config(path: Option<&Path>) -> Outcome<Config> {
    let (path, must) = match path {
        Some(path) => (path, true),
        None => (Path::new(CONFIG), false),
    };
    let wrong =
        |what: String| Failure::new(Exit::Usage, format_args!("{}: {what}", path.display()));
    match std::fs::read_to_string(path) {
        Ok(text) => names::with_numbers(text, names::number)
            .and_then(|text| Config::parse(&text))
            .map_err(|what| wrong(what.trim().replace('\n', " "))),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound && !must => {
            Ok(Config::default())
        }
        Err(error) => Err(wrong(error.to_string())),
    }
}

/// Whether FUSE can be used here at all.
fn device() -> Outcome {
    let open = std::fs::OpenOptions::new().read(true).write(true).open("/dev/fuse");
    let error = match open {
        Ok(_) => return Ok(()),
        Err(error) => error,
    };
    let hint = if error.kind() == std::io::ErrorKind::NotFound {
        "run modprobe fuse on the host; in a container, give it the device /dev/fuse"
    } else {
        "run as root; in a container, give it the device /dev/fuse and CAP_SYS_ADMIN"
    };
    Err(Failure::new(Exit::Preflight, format_args!("/dev/fuse: {error}: {hint}")))
}

/// Makes a mount point that is not there. A dead mount counts as there; it is cleared when its
/// turn comes.
fn make_mountpoint(path: &Path) -> Outcome {
    match std::fs::create_dir_all(path) {
        Ok(()) => Ok(()),
        Err(error) if error.raw_os_error() == Some(Errno::NOTCONN.raw_os_error()) => Ok(()),
        Err(_) if target::standing(path)? != Standing::Nothing => Ok(()),
        Err(error) => Err(Failure::doing(format_args!("make {}", path.display()))(error)),
    }
}

fn make_store(args: &MountArgs, clock: &MachineClock) -> Outcome {
    if args.store.join(worm_fs::store::layout::STORE_JSON).exists() {
        return Ok(());
    }
    if std::fs::File::open(&args.store).is_ok_and(bare::is_locked) {
        let what =
            "an immutable directory, as where a private store is mounted: give --private-store";
        return Err(Failure::new(
            Exit::Preflight,
            format_args!("{}: {what}", args.store.display()),
        ));
    }
    let mut place = PathBuf::new();
    let made = |id: &str| {
        place = key::place(args.key.as_deref(), id);
        place.clone()
    };
    Store::create(&args.store, made, clock)?;
    say(format_args!(
        "made a new store in {}; its signing key is {}: keep a copy of the key elsewhere",
        args.store.display(),
        place.display()
    ));
    Ok(())
}
