//! What is sealed of each database that the service is to back up.
//!
//! Which databases there are, the server says. While it does not, what it said last holds; before it
//! ever said anything, what the class has directories of. So a server that is away is found out by
//! a run that fails and is told, and not by a class that cannot be judged.

use std::path::Path;
use std::time::Duration;
use std::time::Instant;

use crate::config::Config;
use crate::history::History;
use crate::manifest::folder::database_of;
use crate::manifest::folder::directory_of;
use crate::schedule::agenda::Judge;
use crate::schedule::agenda::Sealed;
use crate::source::databases::Databases;
use crate::vault::Class;
use crate::vault::VaultError;

/// The classes are looked at one after the other: the server is asked once for all.
const FRESH: Duration = Duration::from_secs(30);

/// Which databases the server has.
#[derive(Debug, Default)]
pub(super) struct Listing {
    asked: Option<Instant>,
    last: Option<Vec<String>>,
}

impl Listing {
    /// Whether to ask the server.
    pub(super) fn is_old(&self) -> bool {
        self.asked.is_none_or(|asked| asked.elapsed() >= FRESH)
    }

    /// It was asked. Where it did not answer, what it said last holds.
    pub(super) fn heard(&mut self, answer: Result<Vec<String>, String>) {
        match answer {
            Ok(databases) => self.last = Some(databases),
            Err(why) => tracing::debug!(why, "the server did not say which databases there are"),
        }
        self.asked = Some(Instant::now());
    }

    /// What it said last.
    pub(super) fn databases(&self) -> Option<Vec<String>> {
        self.last.clone()
    }

    /// How many it has, as far as is known.
    pub(super) fn number(&self) -> usize {
        self.last.as_ref().map_or(0, Vec::len)
    }
}

/// What is sealed in a class of each database that is chosen among those that are `listed`.
pub(super) fn read(
    config: &Config,
    class: &str,
    listed: Option<Vec<String>>,
    judge: &Judge,
) -> Result<Vec<Sealed>, String> {
    // Also where no database is known yet, the class must be one.
    let failed = |error: VaultError| error.to_string();
    let _is_one = Class::open(&config.backups, class, config.allow_plain).map_err(failed)?;
    let databases = match &config.databases {
        Databases::One => vec![(config.target.database.clone(), None)],
        Databases::Several(selection) => {
            let path = config.backups.join(class);
            let listed = match listed {
                Some(listed) => listed,
                None => with_directory(&path)
                    .map_err(|error| failed(VaultError::io("list", path, error)))?,
            };
            let chosen = selection.choose(&listed).databases.into_iter();
            chosen.map(|name| (name.clone(), Some(directory_of(&name)))).collect()
        }
    };
    let sealed = databases.into_iter().map(|(database, within)| {
        let history = open(config, class, &database, within.as_deref())?;
        let mut starts = Vec::new();
        for manifest in history {
            let start = manifest?.started_at;
            starts.push(start);
            if judge.counts(start) {
                break;
            }
        }
        Ok(Sealed { database, starts })
    });
    sealed.collect::<Result<_, _>>().map_err(failed)
}

fn open(
    config: &Config,
    class: &str,
    database: &str,
    within: Option<&str>,
) -> Result<History, VaultError> {
    let wanted = (database, &config.shape.filters);
    History::open(&config.backups, class, within, wanted, config.allow_plain)
}

/// The databases that have a directory in this one.
fn with_directory(class: &Path) -> std::io::Result<Vec<String>> {
    let mut databases = Vec::new();
    for entry in std::fs::read_dir(class)? {
        let entry = entry?;
        if entry.file_type()?.is_dir()
            && let Some(database) = entry.file_name().to_str().and_then(database_of)
        {
            databases.push(database);
        }
    }
    databases.sort();
    Ok(databases)
}
