//! One run of the mirror: look at the view, the mirror and the log; copy what is missing.
//!
//! A backup that fails does not stop the others. What ends the run at once is a full or read-only
//! mirror, an audit log that cannot be written, or a signal: in each case no further copy would do
//! any good.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Instant;

use jiff::Timestamp;
use serde::Serialize;
use tracing::error;
use tracing::info;
use worm_ingest::manifest::beside::ENDINGS;

use crate::audit::AuditLog;
use crate::audit::chain::Event;
use crate::audit::chain::FileLine;
use crate::audit::chain::Run;
use crate::audit::chain::Trouble;
use crate::cancel::Cancel;
use crate::catalog::Backup;
use crate::catalog::Catalog;
use crate::catalog::Found;
use crate::catalog::key_of;
use crate::config::OnceConfig;
use crate::durable;
use crate::durable::MirrorLock;
use crate::durable::Staging;
use crate::error::Error;
use crate::error::Result;
use crate::exit::Exit;
use crate::listing;
use crate::mirror::Mirror;
use crate::plan::Action;
use crate::plan::Expected;
use crate::plan::Held;
use crate::plan::decide;
use crate::progress::Progress;
use crate::progress::pace;
use crate::source::Source;

/// What a run did.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// As in the audit log.
    #[serde(flatten)]
    pub run: Run,
    /// How to end.
    #[serde(skip)]
    pub exit: Exit,
}

impl Report {
    /// The summary line.
    #[must_use]
    pub fn text(&self) -> String {
        let Run { copied, already, failed, mismatched, unfinished, bytes, duration_ms, .. } =
            self.run;
        let pace = pace(bytes, std::time::Duration::from_millis(duration_ms));
        let mut text = format!(
            "{copied} copied, {already} already there, {failed} failed, {mismatched} damaged or in conflict; {pace}"
        );
        if unfinished > 0 {
            text.push_str(&format!("; {unfinished} unfinished in the view, passed over"));
        }
        text
    }
}

/// Copies every complete backup that the mirror does not have.
///
/// # Errors
/// What kept the run from beginning or going on. What befell single backups is in the report.
pub fn once(config: &OnceConfig, cancel: &Cancel) -> Result<Report> {
    let started = Instant::now();
    let _lock = MirrorLock::take(&config.mirror)?;
    let mirror_name = config.mirror.to_string_lossy().into_owned();
    let mut recorded = BTreeMap::new();
    let audit =
        AuditLog::open(&config.audit, |event| remember(&mut recorded, &mirror_name, event))?;
    if let Some(found) = audit.broken() {
        error!(
            "the audit log {} was tampered with or damaged: {found}. Keep it aside as evidence; \
             a new one begins by itself. Until then every file is read again",
            config.audit.display()
        );
    }
    if audit.broken().is_some() || config.rehash {
        recorded.clear();
    }
    let staging = Staging::open(&config.mirror, config.staging.as_deref())?;
    let listing = config.view.list(config.class.as_deref())?;
    let catalog = Catalog::of(&listing);
    let mirrored: BTreeMap<PathBuf, Held> = listing::list_mirror(&config.mirror)?
        .into_iter()
        .map(|Found { folder, name, bytes, modified }| {
            (folder.path().join(name), Held { bytes, modified })
        })
        .collect();
    let progress = Progress::of_bytes(missing_bytes(&catalog, &listing, &mirrored));
    let run = Run {
        view: config.view.root.to_string_lossy().into_owned(),
        store: config.view.store.clone(),
        mirror: mirror_name,
        unfinished: catalog.unfinished,
        ..Run::default()
    };
    let mirror = Mirror { root: &config.mirror, staging: &staging, cancel, progress: &progress };
    let mut worker = Worker { config, audit, recorded, mirrored, mirror, run };
    let ended = worker.all(&catalog.complete);
    progress.end();
    worker.finish(ended, started)
}

/// Keeps what a line of the log vouches for. What was found damaged or in conflict is not vouched for
/// any more, until it is read again and right.
fn remember(recorded: &mut BTreeMap<String, Expected>, mirror: &str, event: Event) {
    match event {
        Event::Copied(line) | Event::Verified(line) if line.mirror == mirror => {
            let FileLine { path, bytes, sha256, .. } = line;
            let _earlier = recorded.insert(path, Expected { bytes, sha256 });
        }
        Event::Mismatch(trouble) if trouble.mirror == mirror => {
            if let Some(key) = key_of(&trouble.path) {
                recorded.retain(|path, _| !path.starts_with(&key));
            }
        }
        Event::Copied(_)
        | Event::Verified(_)
        | Event::Mismatch(_)
        | Event::Failed(_)
        | Event::Run(_)
        | Event::Restore(_)
        | Event::Recovered { .. } => {}
    }
}

/// How many bytes are to be copied, for the progress bar.
fn missing_bytes(catalog: &Catalog, listing: &[Found], mirrored: &BTreeMap<PathBuf, Held>) -> u64 {
    let sizes: BTreeMap<PathBuf, u64> =
        listing.iter().map(|found| (found.folder.path().join(&found.name), found.bytes)).collect();
    let files = catalog
        .complete
        .iter()
        .flat_map(|backup| ENDINGS.map(|ending| (backup, format!("{}{ending}", backup.name))));
    files
        .filter(|(backup, name)| !mirrored.contains_key(&backup.mirrored().path().join(name)))
        .filter_map(|(backup, name)| sizes.get(&backup.folder.path().join(name)))
        .sum()
}

/// What became of one backup.
enum Outcome {
    Copied,
    Already,
}

/// Why one backup, or the whole run, went wrong.
enum Fault {
    /// The others can still be copied.
    Backup(Error),
    /// Nothing can.
    Run(Error),
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        if matches!(error, Error::Cancelled(_)) || error.stops_all_copies() {
            return Self::Run(error);
        }
        Self::Backup(error)
    }
}

/// A run under way.
struct Worker<'run> {
    config: &'run OnceConfig,
    audit: AuditLog,
    /// What earlier runs left in the mirror, by path below it.
    recorded: BTreeMap<String, Expected>,
    /// What is in the mirror.
    mirrored: BTreeMap<PathBuf, Held>,
    mirror: Mirror<'run>,
    run: Run,
}

impl Worker<'_> {
    fn all(&mut self, backups: &[Backup]) -> Result<()> {
        for backup in backups {
            if self.mirror.cancel.is_requested() {
                return Err(Error::Cancelled("the other backups were not looked at"));
            }
            match self.one(backup) {
                Ok(Outcome::Copied) => self.run.copied += 1,
                Ok(Outcome::Already) => self.run.already += 1,
                Err(Fault::Backup(error)) => self.trouble(backup, &error)?,
                Err(Fault::Run(error)) => return Err(error),
            }
        }
        Ok(())
    }

    /// One backup: dump, what stands beside it, manifest, in this order, so that here too a manifest vouches for
    /// the rest.
    fn one(&mut self, backup: &Backup) -> std::result::Result<Outcome, Fault> {
        let folder = backup.mirrored().path();
        let mut outcome = Outcome::Already;
        let mut prepared = None;
        for source in Source::of_backup(&self.config.view, backup)? {
            let path = folder.join(&source.name);
            let key = path.to_string_lossy().into_owned();
            let mirrored = self.mirrored.get(&path).copied();
            let recorded = self.recorded.get(&key);
            let action = decide(&source.expected, source.modified, mirrored, recorded);
            if action == Action::Believe {
                continue;
            }
            let dir = match &prepared {
                Some(dir) => dir,
                None => &*prepared.insert(durable::make_dirs(self.mirror.root, &folder)?),
            };
            let copied = self.mirror.put(action, &source, &backup.folder.class, dir, &path)?;
            let Expected { bytes, sha256 } = source.expected;
            let line = FileLine { mirror: self.run.mirror.clone(), path: key, bytes, sha256 };
            let event = if copied { Event::Copied(line) } else { Event::Verified(line) };
            self.audit.append(Timestamp::now(), event).map_err(Fault::Run)?;
            if copied {
                info!(path = %path.display(), bytes, "copied");
                self.run.bytes += bytes;
                outcome = Outcome::Copied;
            }
        }
        Ok(outcome)
    }

    fn trouble(&mut self, backup: &Backup, error: &Error) -> Result<()> {
        let path = backup.folder.path().join(backup.name.as_str());
        self.mirror.progress.aside(|| error!("{}: {error}", path.display()));
        let trouble = Trouble {
            mirror: self.run.mirror.clone(),
            path: path.to_string_lossy().into_owned(),
            reason: error.to_string(),
        };
        let event = if error.exit() == Exit::Mismatch {
            self.run.mismatched += 1;
            Event::Mismatch(trouble)
        } else {
            self.run.failed += 1;
            Event::Failed(trouble)
        };
        self.audit.append(Timestamp::now(), event)
    }

    /// Writes the line of the run, and decides how it ended.
    fn finish(mut self, ended: Result<()>, started: Instant) -> Result<Report> {
        let tampered = self.audit.broken().is_some();
        let run_exit = exit(&self.run, tampered);
        let exit = ended.as_ref().err().map_or(run_exit, Error::exit);
        self.run.duration_ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.run.exit = exit.code();
        let idle = exit == Exit::Done && self.run.copied == 0 && self.run.unfinished == 0;
        // Once a minute the same line would say nothing, and is read again at every run.
        if !(self.config.unattended && idle) {
            self.audit.append(Timestamp::now(), Event::Run(self.run.clone()))?;
        }
        ended?;
        Ok(Report { run: self.run, exit })
    }
}

/// What the counts amount to. Damage is worse than failure: it does not go away by trying again.
fn exit(run: &Run, tampered: bool) -> Exit {
    if run.mismatched > 0 || tampered {
        Exit::Mismatch
    } else if run.failed == 0 {
        Exit::Done
    } else if run.copied + run.already > 0 {
        Exit::Partly
    } else {
        Exit::Failed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn damage_comes_before_failure_and_failure_before_success() {
        let run = |copied, already, failed, mismatched| Run {
            copied,
            already,
            failed,
            mismatched,
            ..Run::default()
        };
        assert_eq!(exit(&run(0, 0, 0, 0), false), Exit::Done);
        assert_eq!(exit(&run(1, 1, 0, 0), false), Exit::Done);
        assert_eq!(exit(&run(0, 1, 1, 0), false), Exit::Partly);
        assert_eq!(exit(&run(0, 0, 1, 0), false), Exit::Failed);
        assert_eq!(exit(&run(1, 1, 1, 1), false), Exit::Mismatch);
        assert_eq!(exit(&run(1, 0, 0, 0), true), Exit::Mismatch);
    }
}
