//! I/O: the secret keys that encrypted backups are read with. They are read once, and never shown.

use std::fs::File;
use std::io;
use std::io::BufRead;
use std::io::Read;
use std::io::Seek;
use std::path::Path;
use std::path::PathBuf;

use age::DecryptError;
use age::Decryptor;
use age::Identity;
use age::IdentityFile;
use age::stream::StreamReader;
use worm_ingest::manifest::Encryption;

use crate::error::Error;
use crate::error::Result;

/// No file with keys is longer.
const BYTES_MAX: u64 = 1 << 20;
/// How files begin that age has encrypted, keys among them.
const ENCRYPTED: [&str; 2] = ["age-encryption.org/", "-----BEGIN AGE ENCRYPTED FILE-----"];

/// Secret keys.
#[derive(Default)]
pub(crate) struct Identities(Vec<Box<dyn Identity + Send + Sync>>);

impl std::fmt::Debug for Identities {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} identities", self.0.len())
    }
}

impl Identities {
    /// Reads all keys of these files.
    pub(crate) fn read(paths: &[PathBuf]) -> Result<Self> {
        let mut identities = Self::default();
        for path in paths {
            let mut text = String::new();
            let read =
                File::open(path).and_then(|file| file.take(BYTES_MAX).read_to_string(&mut text));
            let unreadable = |error: io::Error| {
                Error::Usage(format!("the identity {} cannot be read: {error}", path.display()))
            };
            let _bytes = read.map_err(unreadable)?;
            identities.add(path, &text)?;
        }
        Ok(identities)
    }

    fn add(&mut self, path: &Path, text: &str) -> Result<()> {
        let shown = path.display();
        let passphrase = || {
            Error::Usage(format!(
                "the identity {shown} is protected by a passphrase, and nobody is asked for one here: \
                 make a copy without it in memory (for SSH keys ssh-keygen -p, for age keys age -d), \
                 use that, then remove it"
            ))
        };
        if ENCRYPTED.iter().any(|begin| text.trim_start().starts_with(begin)) {
            return Err(passphrase());
        }
        if text.trim_start().starts_with("-----BEGIN") {
            let key = age::ssh::Identity::from_buffer(text.as_bytes(), None);
            return match key {
                Ok(key @ age::ssh::Identity::Unencrypted(_)) => {
                    self.0.push(Box::new(key));
                    Ok(())
                }
                Ok(age::ssh::Identity::Encrypted(_)) => Err(passphrase()),
                Ok(age::ssh::Identity::Unsupported(_)) | Err(_) => Err(Error::Usage(format!(
                    "the identity {shown} is no key that age can use: ssh-ed25519 and ssh-rsa are"
                ))),
            };
        }
        let none = || Error::Usage(format!("the identity {shown} holds no AGE-SECRET-KEY"));
        let file = IdentityFile::from_buffer(text.as_bytes()).map_err(|_not_told| none())?;
        let keys = file.into_identities().map_err(|_not_told| none())?;
        if keys.is_empty() {
            return Err(none());
        }
        self.0.extend(keys);
        Ok(())
    }

    /// Makes sure that one of them opens `file`, which is left at its beginning.
    pub(crate) fn check(&self, file: &mut File, encryption: &Encryption) -> Result<()> {
        let opened = self.open(io::BufReader::new(&mut *file), encryption).map(drop);
        file.rewind().map_err(Error::io("rewind the dump"))?;
        opened
    }

    /// What `sealed` holds.
    pub(crate) fn open<R: BufRead>(
        &self,
        sealed: R,
        encryption: &Encryption,
    ) -> Result<StreamReader<R>> {
        let keys = || encryption.recipients.join(", ");
        if self.0.is_empty() {
            return Err(Error::Refused(format!(
                "the backup is encrypted: give one of the secret keys of {} by --identity FILE",
                keys()
            )));
        }
        let decryptor = Decryptor::new_buffered(sealed);
        let identities = self.0.iter().map(|key| key.as_ref() as &dyn Identity);
        decryptor.and_then(|decryptor| decryptor.decrypt(identities)).map_err(|error| {
            if matches!(error, DecryptError::NoMatchingKeys) {
                return Error::Refused(format!(
                    "none of the identities opens the backup: it is encrypted to {}",
                    keys()
                ));
            }
            Error::Mismatch(format!("the backup cannot be decrypted: {error}"))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn add(text: &str) -> Result<Identities> {
        let mut identities = Identities::default();
        identities.add(Path::new("key"), text).map(|()| identities)
    }

    #[test]
    fn keys_are_read_and_passphrases_refused() {
        use age::secrecy::ExposeSecret;
        let key = age::x25519::Identity::generate();
        let file = format!("# made for a test\n{}\n", key.to_string().expose_secret());
        assert_eq!(format!("{:?}", add(&file).unwrap()), "1 identities");
        let ssh = include_str!("../../../tests/fixtures/identity");
        assert_eq!(format!("{:?}", add(ssh).unwrap()), "1 identities");
        for (text, says) in [
            (include_str!("../../../tests/fixtures/identity-with-passphrase"), "passphrase"),
            ("age-encryption.org/v1\n-> scrypt", "passphrase"),
            ("-----BEGIN AGE ENCRYPTED FILE-----\n", "passphrase"),
            ("-----BEGIN CERTIFICATE-----\nAA==\n-----END CERTIFICATE-----\n", "no key that age"),
            ("", "no AGE-SECRET-KEY"),
            ("nonsense", "no AGE-SECRET-KEY"),
        ] {
            let error = add(text).unwrap_err();
            assert!(error.to_string().contains(says), "{text}: {error}");
            assert_eq!(error.exit(), crate::exit::Exit::Usage);
        }
    }
}
