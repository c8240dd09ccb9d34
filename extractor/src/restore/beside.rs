//! I/O: the roles beside a dump, read, proven by its manifest, and decrypted. They stay in memory.

use std::io;
use std::io::Read;
use std::path::Path;
use std::path::PathBuf;

use sha2::Digest;
use sha2::Sha256;
use worm_ingest::manifest::Content;
use worm_ingest::manifest::Manifest;
use worm_ingest::manifest::beside::ENCRYPTED_SUFFIX;
use worm_ingest::manifest::beside::GLOBALS_SUFFIX;

use crate::error::Error;
use crate::error::Result;
use crate::listing;
use crate::restore::identity::Identities;
use crate::source::MANIFEST_BYTES_MAX;

/// Roles and tablespaces, as `pg_dumpall` wrote them.
pub(crate) fn globals(
    dump: &Path,
    manifest: &Manifest,
    identities: &Identities,
) -> Result<Vec<u8>> {
    let sealed = format!("{GLOBALS_SUFFIX}{ENCRYPTED_SUFFIX}");
    let wanted = if manifest.encryption.is_some() { &sealed } else { GLOBALS_SUFFIX };
    let Some(sidecar) = manifest.sidecars.iter().find(|sidecar| sidecar.suffix == *wanted) else {
        return Err(Error::Refused(format!(
            "the backup has no roles beside it ({wanted}): make those that it needs yourself, and \
             leave --globals out"
        )));
    };
    let mut path = dump.as_os_str().to_owned();
    path.push(wanted);
    let path = PathBuf::from(path);
    let shown = path.display();
    let bytes = listing::open_file(&path)
        .and_then(|file| listing::read_small(&file, MANIFEST_BYTES_MAX))
        .map_err(Error::io(format!("read {shown}")))?;
    let sha256 = hex::encode(Sha256::digest(&bytes));
    let found = Content { bytes: bytes.len() as u64, sha256 };
    if found != sidecar.content {
        return Err(Error::Mismatch(format!(
            "{shown} has {} bytes of SHA-256 {}, but the manifest says {} of {}",
            found.bytes, found.sha256, sidecar.content.bytes, sidecar.content.sha256
        )));
    }
    let Some(encryption) = &manifest.encryption else { return Ok(bytes) };
    let mut open = identities.open(io::BufReader::new(&bytes[..]), encryption)?;
    let mut text = Vec::new();
    open.read_to_end(&mut text)
        .map_err(|error| Error::Mismatch(format!("{shown} cannot be decrypted: {error}")))?;
    Ok(text)
}
