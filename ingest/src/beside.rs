//! What stands beside a dump, ready to be sealed: encrypted where the dump is, with its digest.

use std::io;
use std::sync::Arc;

use sha2::Digest;
use sha2::Sha256;

use crate::error::Error;
use crate::manifest::Content;
use crate::manifest::beside::CLUSTER_SUFFIX;
use crate::manifest::beside::ENCRYPTED_SUFFIX;
use crate::manifest::beside::GLOBALS_SUFFIX;
use crate::manifest::beside::Lack;
use crate::manifest::beside::Sidecar;
use crate::source::postgres::cluster::Beside;
use crate::stream::recipients::Recipients;
use crate::vault::Class;
use crate::vault::Kind;

/// Files that go beside a dump, and what is missing among them.
#[derive(Debug, Default)]
pub(crate) struct Ready {
    files: Vec<(Sidecar, Vec<u8>)>,
    pub(crate) lacks: Vec<Lack>,
}

impl Ready {
    /// Encrypts them to the recipients, if there are any. Nothing of them was on a disk so far.
    pub(crate) fn new(beside: Beside, recipients: Option<&Recipients>) -> io::Result<Self> {
        let Beside { globals, cluster, lacks } = beside;
        let mut files = Vec::new();
        for (suffix, bytes) in [(GLOBALS_SUFFIX, globals), (CLUSTER_SUFFIX, cluster)] {
            let Some(bytes) = bytes else { continue };
            let (suffix, bytes) = match recipients {
                None => (suffix.to_owned(), bytes),
                Some(keys) => (format!("{suffix}{ENCRYPTED_SUFFIX}"), keys.seal(&bytes)?),
            };
            let sha256 = hex::encode(Sha256::digest(&bytes));
            let content = Content { bytes: bytes.len() as u64, sha256 };
            files.push((Sidecar { suffix, content }, bytes));
        }
        Ok(Self { files, lacks })
    }

    /// What the manifest says of them.
    pub(crate) fn described(&self) -> Vec<Sidecar> {
        self.files.iter().map(|(sidecar, _)| sidecar.clone()).collect()
    }

    /// Seals them beside the dump `name`, and makes sure that they are what was written.
    pub(crate) fn seal(&self, class: &Arc<Class>, name: &str) -> Result<(), Error> {
        for (Sidecar { suffix, content }, bytes) in &self.files {
            let name = format!("{name}{suffix}");
            class.put_secret(&name, bytes)?;
            let there = class.attributes(&name)?;
            let sha256 = match class.kind() {
                Kind::Worm(_) => there.sha256.unwrap_or_default(),
                Kind::Plain => content.sha256.clone(),
            };
            let there = Content { bytes: there.bytes, sha256 };
            if there != *content {
                let what = format!("it has {there:?}, {content:?} was written");
                return Err(Error::Mismatch { name, what });
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_beside_an_encrypted_dump_is_encrypted_too() {
        let beside = || Beside {
            globals: Some(b"CREATE ROLE secret".to_vec()),
            cluster: Some(b"{\"secret\":1}".to_vec()),
            lacks: Vec::new(),
        };
        let names = |ready: &Ready| ready.described().into_iter().map(|it| it.suffix).collect();
        let open: Vec<String> = names(&Ready::new(beside(), None).unwrap());
        assert_eq!(open, [".globals.sql", ".cluster.json"]);
        let key = age::x25519::Identity::generate().to_public().to_string();
        let keys = Recipients::parse([key.as_str()].into_iter()).unwrap();
        let sealed = Ready::new(beside(), Some(&keys)).unwrap();
        let suffixes: Vec<String> = names(&sealed);
        assert_eq!(suffixes, [".globals.sql.age", ".cluster.json.age"]);
        for (sidecar, bytes) in &sealed.files {
            assert!(bytes.starts_with(b"age-encryption.org/v1"));
            assert!(memchr::memmem::find(bytes, b"secret").is_none());
            assert_eq!(sidecar.content.sha256, hex::encode(Sha256::digest(bytes)));
        }
    }
}
