//! Who may read a backup: public keys of age. The agent never holds a key that reads.

use std::io;
use std::io::Write;
use std::str::FromStr;

use age::Encryptor;
use age::Recipient;
use age::stream::StreamWriter;

use crate::manifest::Encryption;

/// The public keys that a backup is encrypted to: whoever has the secret key of one can read it.
#[derive(Clone, Debug)]
pub(crate) struct Recipients(Vec<Key>);

#[derive(Clone, Debug)]
enum Key {
    Age(age::x25519::Recipient),
    Ssh(Box<age::ssh::Recipient>),
}

/// Why a text is no public key. The text itself is not repeated: it may be a secret.
#[derive(Debug, Eq, PartialEq, thiserror::Error)]
pub(crate) enum NoRecipient {
    #[error(
        "recipient {0} is a SECRET key: it must never be on this machine. Give the public key that \
         belongs to it (age-keygen -y FILE)"
    )]
    Secret(usize),
    #[error(
        "recipient {0} is not a public key that age knows: age1..., ssh-ed25519 ..., ssh-rsa ..."
    )]
    Unknown(usize),
}

impl Recipients {
    /// Reads public keys, one in each text.
    pub(crate) fn parse<'a>(texts: impl Iterator<Item = &'a str>) -> Result<Self, NoRecipient> {
        let keys = (1..).zip(texts).map(|(number, text)| Key::parse(number, text.trim()));
        keys.collect::<Result<Vec<Key>, NoRecipient>>().map(Self)
    }

    /// What a manifest says of them: public keys, without the comments that may name people.
    pub(crate) fn described(&self) -> Encryption {
        let recipients = self.0.iter().map(|key| match key {
            Key::Age(key) => key.to_string(),
            Key::Ssh(key) => key.to_string(),
        });
        Encryption { method: "age".to_owned(), recipients: recipients.collect() }
    }

    /// A small thing, encrypted.
    pub(crate) fn seal(&self, bytes: &[u8]) -> io::Result<Vec<u8>> {
        let mut sealer = Sealer::new(Vec::new(), Some(self))?;
        sealer.write_all(bytes)?;
        sealer.finish()
    }

    fn encryptor(&self) -> io::Result<Encryptor> {
        let keys = self.0.iter().map(|key| match key {
            Key::Age(key) => key as &dyn Recipient,
            Key::Ssh(key) => key.as_ref() as &dyn Recipient,
        });
        Encryptor::with_recipients(keys).map_err(io::Error::other)
    }
}

impl Key {
    fn parse(number: usize, text: &str) -> Result<Self, NoRecipient> {
        if crate::settings::is_secret_key(text) {
            return Err(NoRecipient::Secret(number));
        }
        let age = age::x25519::Recipient::from_str(text).map(Self::Age);
        let ssh = || age::ssh::Recipient::from_str(text).map(|key| Self::Ssh(Box::new(key)));
        age.or_else(|_not_age| ssh()).map_err(|_neither| NoRecipient::Unknown(number))
    }
}

/// Encrypts what is written to it, or does not, and writes that on.
pub(super) enum Sealer<W: Write> {
    Open(W),
    Age(StreamWriter<W>),
}

impl<W: Write> Sealer<W> {
    pub(super) fn new(sink: W, recipients: Option<&Recipients>) -> io::Result<Self> {
        Ok(match recipients {
            None => Self::Open(sink),
            Some(recipients) => Self::Age(recipients.encryptor()?.wrap_output(sink)?),
        })
    }

    /// Writes what is left, and gives the sink back.
    pub(super) fn finish(self) -> io::Result<W> {
        match self {
            Self::Open(sink) => Ok(sink),
            Self::Age(writer) => writer.finish(),
        }
    }
}

impl<W: Write> Write for Sealer<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Open(sink) => sink.write(bytes),
            Self::Age(writer) => writer.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Open(sink) => sink.flush(),
            Self::Age(writer) => writer.flush(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    const SSH: &str =
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHsKLqeplhpW+uObz5dvMgjz1OxfM/XXUB+VHtZ6isGN";

    #[test]
    fn every_recipient_can_read_and_nobody_else() {
        let [one, two, stranger] = [0; 3].map(|_| age::x25519::Identity::generate());
        let texts = [one.to_public().to_string(), two.to_public().to_string(), SSH.to_owned()];
        let recipients = Recipients::parse(texts.iter().map(String::as_str)).unwrap();
        let mut sealer = Sealer::new(Vec::new(), Some(&recipients)).unwrap();
        sealer.write_all(b"plain").unwrap();
        let sealed = sealer.finish().unwrap();
        assert!(!sealed.windows(5).any(|window| window == b"plain"));
        let open = |identity: &age::x25519::Identity| {
            let mut text = Vec::new();
            let decryptor = age::Decryptor::new(&sealed[..]).unwrap();
            let mut reader = decryptor.decrypt(std::iter::once(identity as _)).ok()?;
            reader.read_to_end(&mut text).unwrap();
            Some(text)
        };
        assert_eq!(open(&one).unwrap(), b"plain");
        assert_eq!(open(&two).unwrap(), b"plain");
        assert_eq!(open(&stranger), None);
    }

    #[test]
    fn a_manifest_names_the_keys_without_comments() {
        let key = age::x25519::Identity::generate().to_public().to_string();
        let commented = format!("  {SSH} alice@example.org\n");
        let recipients = Recipients::parse([key.as_str(), &commented].into_iter()).unwrap();
        assert_eq!(recipients.described().recipients, [key, SSH.to_owned()]);
    }

    #[test]
    fn a_secret_key_is_refused_and_not_repeated() {
        let parse = |text: &str| Recipients::parse(text.lines()).unwrap_err();
        let secret = "AGE-SECRET-KEY-1GFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPQ4EGAEX";
        assert_eq!(parse(secret), NoRecipient::Secret(1));
        assert_eq!(parse("-----BEGIN OPENSSH PRIVATE KEY-----"), NoRecipient::Secret(1));
        assert_eq!(parse(&format!("{SSH}\nage1nonsense")), NoRecipient::Unknown(2));
        assert!(!parse(secret).to_string().contains("GFPYYS"));
    }
}
