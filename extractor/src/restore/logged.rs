//! I/O: what the audit log says about the files of a backup. Whoever can replace a file of the
//! mirror can replace its `.sha256` and its manifest as well; the log lies somewhere else.

use std::path::Path;
use std::path::PathBuf;

use worm_ingest::manifest::MANIFEST_SUFFIX;

use crate::audit::AuditLog;
use crate::audit::chain::Event;
use crate::error::Error;
use crate::error::Result;

/// The digests that earlier runs saw in the mirror and wrote down; none where they saw nothing.
#[derive(Debug, Default)]
pub(crate) struct Logged {
    /// Of the dump.
    pub(crate) dump: Option<String>,
    /// Of its manifest.
    pub(crate) manifest: Option<String>,
}

impl Logged {
    /// Looks for the newest lines about `dump`. A log that is not there says nothing: a mirror may
    /// be all that is left of the machine. [`Error::Mismatch`] when the chain is broken.
    pub(crate) fn about(dump: &Path, audit: &Path) -> Result<Self> {
        let dump = dump.canonicalize().unwrap_or_else(|_| dump.to_owned());
        let mut manifest = dump.clone().into_os_string();
        manifest.push(MANIFEST_SUFFIX);
        let manifest = PathBuf::from(manifest);
        let mut logged = Self::default();
        let chain = AuditLog::read(audit, |event| {
            if let Event::Copied(line) | Event::Verified(line) = event {
                let path = Path::new(&line.mirror).join(&line.path);
                if path == dump {
                    logged.dump = Some(line.sha256);
                } else if path == manifest {
                    logged.manifest = Some(line.sha256);
                }
            }
        })?;
        let Some(found) = chain.and_then(|chain| chain.broken) else { return Ok(logged) };
        Err(Error::Mismatch(format!(
            "the audit log {} was tampered with or damaged: {found}. It vouches for no backup any \
             more. Keep it aside as evidence; to restore all the same, name another log with \
             --audit",
            audit.display()
        )))
    }
}
