//! The places where a daemon can be asked about itself. They are bound while it has its rights,
//! and opened when there is something to tell.

use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;

use worm_fs::store::OpenError;
use worm_fs::store::is_served;

use crate::alarms::Alarms;
use crate::cli::MountArgs;
use crate::control;
use crate::control::answer::Daemon;
use crate::control::server;
use crate::daemon::Plan;
use crate::listen::Door;
use crate::listen::Listener;
use crate::metrics;
use crate::metrics::Address;
use crate::outcome::Outcome;

/// Sockets that are bound and wait.
#[derive(Debug, Default)]
pub(crate) struct Doors {
    control: Option<server::Bound>,
    metrics: Option<Listener>,
    sockets: Vec<PathBuf>,
}

/// Doors at work.
#[derive(Debug)]
pub(crate) struct Open {
    doors: Vec<Door>,
    sockets: Vec<PathBuf>,
}

impl Doors {
    /// Binds what was asked for. A copy that is only shown has none: its original's daemon is
    /// the one to find under its id.
    pub(crate) fn bind(plan: &Plan, args: &MountArgs) -> Outcome<Self> {
        if args.read_only {
            return Ok(Self::default());
        }
        // Said here, because its socket would be met first.
        if is_served(&plan.store) {
            return Err(OpenError::Busy(plan.store.clone()).into());
        }
        let socket = args.socket.clone();
        let socket = socket.unwrap_or_else(|| control::socket_path(&args.run_dir, &plan.id));
        let control = Some(server::Bound::new(&socket)?);
        let metrics = args.metrics.as_ref().map(metrics::bind).transpose()?;
        let sockets = args.metrics.iter().filter_map(Address::path).chain([&*socket]);
        let sockets = sockets.map(Path::to_owned).collect();
        Ok(Self { control, metrics, sockets })
    }

    /// Answers from here on. What cannot be opened is missed, but the backups matter more.
    pub(crate) fn open(self, alarms: &Arc<Alarms>, sandbox: String) -> Open {
        let daemon = Daemon::new(Arc::clone(alarms), sandbox);
        let control = self.control.map(|bound| {
            let daemon = daemon.clone();
            bound.serve(move |by, ask| daemon.answer(by, ask))
        });
        let metrics = self.metrics.map(|listener| metrics::serve(listener, daemon));
        let opened = control.into_iter().chain(metrics).filter_map(|door| {
            door.inspect_err(|error| tracing::error!(%error, "a door stays closed")).ok()
        });
        Open { doors: opened.collect(), sockets: self.sockets }
    }
}

impl Open {
    /// Answers nobody any more. A socket that the daemon cannot reach now stays: nobody listens
    /// there, and the next daemon replaces it.
    pub(crate) fn close(self) {
        for socket in self.sockets {
            let gone = std::fs::remove_file(socket);
            tracing::debug!(?gone, "socket");
        }
        self.doors.into_iter().for_each(Door::close);
    }
}
