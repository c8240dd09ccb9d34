//! I/O: what there is to be judged. Nothing here says whether it is good.

use std::io;
use std::path::Path;
use std::path::PathBuf;

use jiff::Timestamp;

use super::canary;
use super::canary::Canary;
use super::canary::NotTried;
use super::server;
use super::server::Server;
use crate::audit;
use crate::config::Config;
use crate::inventory;
use crate::tripwire;
use crate::vault;

/// A file that a secret was read from.
#[derive(Clone, Debug)]
pub struct SecretFile {
    /// The setting that it is for.
    pub what: String,
    /// Where it is.
    pub path: PathBuf,
    /// Its mode, if it can be looked at.
    pub mode: Option<u32>,
}

impl SecretFile {
    /// Looks at a file.
    #[must_use]
    pub fn look(what: &str, path: &Path) -> Self {
        use std::os::unix::fs::MetadataExt;
        let mode = std::fs::metadata(path).ok().map(|meta| meta.mode());
        Self { what: what.to_owned(), path: path.to_owned(), mode }
    }
}

/// The newest backup of a database in a class, be it suspect or not.
#[derive(Clone, Debug)]
pub(super) struct Newest {
    pub(super) database: String,
    pub(super) class: String,
    pub(super) at: Timestamp,
    pub(super) bytes: u64,
    pub(super) suspect: Option<String>,
}

/// All facts.
#[derive(Debug)]
pub(super) struct Facts {
    pub(super) root: PathBuf,
    pub(super) allow_plain: bool,
    /// The store that it shows; none for a plain directory.
    pub(super) mount: Result<Option<String>, String>,
    pub(super) classes: Vec<String>,
    pub(super) canary: Option<Result<Canary, NotTried>>,
    pub(super) audit_log: PathBuf,
    pub(super) audit_error: Option<io::Error>,
    /// Where the server is.
    pub(super) address: String,
    pub(super) server: Result<Server, String>,
    /// Whether roles and settings are to be kept.
    pub(super) globals: bool,
    pub(super) secrets: Vec<SecretFile>,
    pub(super) free_bytes: Option<u64>,
    pub(super) newest: Vec<Newest>,
}

/// Looks at everything.
pub(super) async fn gather(config: &Config, secrets: Vec<SecretFile>) -> Facts {
    let root = config.backups.clone();
    let mount = vault::store(&root).map_err(|error| error.to_string());
    let canary = match mount {
        Ok(Some(_)) => Some(canary::send(&root)),
        Ok(None) | Err(_) => None,
    };
    let free = rustix::fs::statvfs(&root).ok();
    Facts {
        allow_plain: config.allow_plain,
        mount,
        classes: vault::classes(&root).unwrap_or_default(),
        canary,
        audit_log: config.audit_log.clone(),
        audit_error: audit::check(&config.audit_log).err(),
        address: format!("{}:{}", config.target.host, config.target.port),
        server: server::ask(config).await.map_err(|error| error.to_string()),
        globals: config.globals,
        secrets,
        free_bytes: free.map(|free| free.f_bavail.saturating_mul(free.f_frsize)),
        newest: newest(&root),
        root,
    }
}

fn newest(root: &Path) -> Vec<Newest> {
    let mut newest: Vec<Newest> = Vec::new();
    let mut entries = inventory::read(root, None, None).unwrap_or_default();
    // A part of a database says nothing of the age of the newest whole backup.
    entries.sort_by_key(|entry| !entry.is_whole());
    for entry in entries {
        let Some(manifest) = entry.manifest() else { continue };
        let class = entry.class();
        if newest.iter().any(|known| known.class == class && known.database == manifest.database) {
            continue;
        }
        newest.push(Newest {
            database: manifest.database.clone(),
            class,
            at: manifest.started_at,
            bytes: manifest.stored.bytes,
            suspect: (!manifest.suspect.is_empty()).then(|| tripwire::told(&manifest.suspect)),
        });
    }
    newest
}
