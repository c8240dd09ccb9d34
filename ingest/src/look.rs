//! I/O: what `list`, `show` and `metrics` read and print. They change nothing and ask no server.

use std::path::Path;

use jiff::Timestamp;

use crate::error::Error;
use crate::inventory;
use crate::list;
use crate::manifest::filters::Filters;
use crate::metrics;
use crate::metrics::Facts;
use crate::metrics::Planned;
use crate::metrics::attempts;
use crate::metrics::attempts::Told;
use crate::notify;
use crate::progress;

/// What is on the mount below `root`, of one class and one database or of all.
///
/// # Errors
/// [`Error::Vault`] when it cannot be read.
pub fn list(
    root: &Path,
    class: Option<&str>,
    database: Option<&str>,
    json: bool,
) -> Result<String, Error> {
    let entries = inventory::read(root, class, database)?;
    match json {
        true => list::list_json(&entries).map_err(|error| Error::Internal(error.to_string())),
        false if entries.is_empty() => Err(Error::NotFound("there are no backups".to_owned())),
        false => Ok(list::list_text(&entries)),
    }
}

/// One backup with all that is known of it: `latest`, a name, or `CLASS/NAME`.
///
/// # Errors
/// [`Error::NotFound`], [`Error::Usage`] when it means several, [`Error::Vault`].
pub fn show(
    root: &Path,
    wanted: &str,
    class: Option<&str>,
    database: Option<&str>,
    json: bool,
) -> Result<String, Error> {
    let entries = inventory::read(root, class, database)?;
    let (entry, passed_over) = list::select(&entries, wanted)?;
    if passed_over > 0 {
        tracing::warn!(passed_over, "newer backups are suspect: `worm-ingest list` says why");
    }
    match json {
        true => list::show_json(entry).map_err(|error| Error::Internal(error.to_string())),
        false => Ok(list::show_text(entry)),
    }
}

/// The numbers for Prometheus, as they are now, of what is backed up as `filters` say. `planned` is what a schedule has, if there is one.
///
/// # Errors
/// [`Error::Vault`] when the mount cannot be read. An audit log that cannot is told in the log.
pub fn metrics(
    root: &Path,
    filters: &Filters,
    audit_log: &Path,
    planned: &[Planned],
) -> Result<String, Error> {
    let mut entries = inventory::read(root, None, None)?;
    entries.retain(|entry| entry.manifest().is_none_or(|manifest| manifest.filters == *filters));
    let told = attempts::read(audit_log).unwrap_or_else(|error| {
        tracing::warn!(%error, path = %audit_log.display(), "the audit log could not be read");
        Told::default()
    });
    let (in_progress, progress_bytes) = progress::under_way();
    metrics::text(&Facts {
        now: Timestamp::now(),
        entries: &entries,
        attempts: &told.attempts,
        missed: &told.missed,
        planned,
        in_progress,
        progress_bytes,
        untold: notify::failures(),
    })
}
