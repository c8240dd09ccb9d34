//! I/O: the files of one backup in the view, open, and what each of them must be.

use std::fs::File;
use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::path::PathBuf;

use sha2::Digest;
use sha2::Sha256;
use worm_ingest::manifest::Manifest;
use worm_ingest::manifest::beside::Sidecar;

use crate::catalog::Backup;
use crate::catalog::Role;
use crate::error::Error;
use crate::error::Result;
use crate::listing;
use crate::listing::View;
use crate::plan::Expected;
use crate::proof;
use crate::proof::Claim;
use crate::proof::Doubt;

/// A `.sha256` file is one line: a digest and a name.
pub(crate) const DIGEST_BYTES_MAX: u64 = 4096;
/// Room for half a million tables.
pub(crate) const MANIFEST_BYTES_MAX: u64 = 64 << 20;

/// A file of the view that is to be mirrored.
#[derive(Debug)]
pub(crate) struct Source {
    /// Its name.
    pub(crate) name: String,
    /// Where it lies, for messages.
    pub(crate) path: PathBuf,
    /// Open for reading.
    pub(crate) file: File,
    /// What it must be.
    pub(crate) expected: Expected,
    /// When it was last changed, in whole seconds.
    pub(crate) modified: i64,
    /// Whether nobody but its owner may read it: passwords stand in it, as the server keeps them.
    pub(crate) secret: bool,
}

impl Source {
    /// Opens the files and lets `.sha256`, manifest and mount speak about them. The dump comes first
    /// and the manifest last.
    ///
    /// [`Error::Mismatch`] when they do not agree. The dump itself is not read here.
    pub(crate) fn of_backup(view: &View, backup: &Backup) -> Result<Vec<Self>> {
        let folder = view.root.join(backup.folder.path());
        let doubt = |doubt: Doubt| Error::Mismatch(doubt.to_string());
        let name = backup.name.as_str();
        let (digest, digest_bytes) =
            Self::small(view, &folder, Role::Digest.of(&backup.name), DIGEST_BYTES_MAX)?;
        let (manifest, manifest_bytes) =
            Self::small(view, &folder, Role::Manifest.of(&backup.name), MANIFEST_BYTES_MAX)?;
        let path = folder.join(name);
        let (file, meta) = open(&path)?;
        let (bytes, modified) = (meta.len(), meta.mtime());
        let decoded = Manifest::decode(&manifest_bytes)
            .map_err(|error| Error::Mismatch(format!("its manifest is unusable: {error}")))?;
        let mut claims = vec![
            proof::parse_digest_file(&digest_bytes, name).map_err(doubt)?,
            proof::claim_of_manifest(&decoded, name, bytes).map_err(doubt)?,
        ];
        claims.extend(mount_claim(view, &file, &path)?);
        let sha256 = proof::agreed(&claims).map_err(doubt)?.to_owned();
        let expected = Expected { bytes, sha256 };
        let name = name.to_owned();
        let mut all = vec![Self { name, path, file, expected, modified, secret: false }, digest];
        for sidecar in &decoded.sidecars {
            all.push(Self::beside(view, &folder, backup, sidecar)?);
        }
        all.push(manifest);
        Ok(all)
    }

    /// A file that the manifest names: it must be there, and be what the manifest says.
    fn beside(view: &View, folder: &Path, backup: &Backup, sidecar: &Sidecar) -> Result<Self> {
        let Sidecar { suffix, content } = sidecar;
        if !sidecar.is_beside() {
            return Err(Error::Mismatch(format!("its manifest names a file {suffix:?} beside it")));
        }
        let name = format!("{}{suffix}", backup.name);
        if matches!(folder.join(&name).try_exists(), Ok(false)) {
            return Err(Error::Mismatch(format!("{name} is missing, which its manifest names")));
        }
        let (source, _bytes) = Self::small(view, folder, name, MANIFEST_BYTES_MAX)?;
        let Expected { bytes, sha256 } = &source.expected;
        if (*bytes, sha256) != (content.bytes, &content.sha256) {
            return Err(Error::Mismatch(format!(
                "{} has {bytes} bytes of SHA-256 {sha256}, but its manifest says {} of {}",
                source.name, content.bytes, content.sha256
            )));
        }
        Ok(Self { secret: true, ..source })
    }

    /// A sidecar, and its bytes. What was parsed is what must arrive in the mirror.
    fn small(view: &View, folder: &Path, name: String, bytes_max: u64) -> Result<(Self, Vec<u8>)> {
        let path = folder.join(&name);
        let (file, _) = open(&path)?;
        let bytes = listing::read_small(&file, bytes_max)
            .map_err(Error::io(format!("read {}", path.display())))?;
        let sha256 = hex::encode(Sha256::digest(&bytes));
        if let Some(claim) = mount_claim(view, &file, &path)?
            && claim.sha256 != sha256
        {
            let said = claim.sha256;
            return Err(Error::Mismatch(format!(
                "{name} has SHA-256 {sha256}, but the mount says {said}"
            )));
        }
        // From a new descriptor, because this one has been read to its end.
        let (file, meta) = open(&path)?;
        let (expected, modified) = (Expected { bytes: bytes.len() as u64, sha256 }, meta.mtime());
        Ok((Self { name, path, file, expected, modified, secret: false }, bytes))
    }
}

fn mount_claim(view: &View, file: &File, path: &Path) -> Result<Option<Claim>> {
    Ok(view.digest(file, path)?.map(|sha256| Claim { by: "the mount", sha256 }))
}

fn open(path: &Path) -> Result<(File, Metadata)> {
    let file = listing::open_file(path).map_err(Error::io(format!("open {}", path.display())))?;
    let meta = file.metadata().map_err(Error::io(format!("look at {}", path.display())))?;
    Ok((file, meta))
}
