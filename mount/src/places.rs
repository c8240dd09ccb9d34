//! Where a store is served, and as what: the daemon and its keeper agree on the order.

use std::path::Path;
use std::path::PathBuf;

use clap::Args;
use worm_fs::config::Config;
use worm_fs::fs::Place;
use worm_fs::fs::WormFs;

/// The places of a store.
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct Places {
    /// Where files are taken
    #[arg(long)]
    pub(crate) active: Option<PathBuf>,
    /// Where logs are taken
    #[arg(long)]
    pub(crate) logs: Option<PathBuf>,
    /// Where sealed files are shown
    #[arg(long)]
    pub(crate) view: Option<PathBuf>,
}

/// As what a store is served at a place.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Role {
    /// It takes files.
    Active,
    /// It takes logs.
    Logs,
    /// It shows what is there.
    View,
}

/// How many there are.
pub(crate) const PLACES_MAX: usize = 3;

impl Role {
    /// The flag that names its place to the keeper.
    pub(crate) fn flag(self) -> &'static str {
        match self {
            Self::Active => "--active",
            Self::Logs => "--logs",
            Self::View => "--view",
        }
    }

    /// Whether nothing changes there.
    pub(crate) fn is_read_only(self) -> bool {
        match self {
            Self::Active | Self::Logs => false,
            Self::View => true,
        }
    }

    /// The place as the file system knows it. `None`: it has none of the kind.
    pub(crate) fn place(self, fs: &WormFs, config: &Config, view_group: u32) -> Option<Place> {
        match self {
            Self::Active => Some(Place::Active),
            Self::Logs => fs.logs(config.logs()?),
            Self::View => Some(Place::View { group: view_group }),
        }
    }
}

impl Places {
    /// All of them, in the order in which they are attached and taken away.
    pub(crate) fn all(&self) -> Vec<(&Path, Role)> {
        let all =
            [(&self.active, Role::Active), (&self.logs, Role::Logs), (&self.view, Role::View)];
        all.into_iter().filter_map(|(path, role)| Some((path.as_deref()?, role))).collect()
    }
}
