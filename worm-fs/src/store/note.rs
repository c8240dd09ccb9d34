//! Signed notes, as specified by C2SP (c2sp.org/signed-note), with Ed25519: a text, an empty
//! line, and a line per signature. And the head of a ledger in that form.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use ed25519_dalek::Signature;
use ed25519_dalek::Signer as _;
use ed25519_dalek::SigningKey;
use ed25519_dalek::VerifyingKey;
use sha2::Digest as _;
use sha2::Sha256;

use crate::record::Digest;

/// The algorithm byte of Ed25519 in the specification.
const ED25519: u8 = 1;
/// The first line of a head, so that a signature of one thing is never one of another.
const HEAD_TITLE: &str = "worm-head-v1";

/// Why a note, a key or a head is not accepted.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct NoteError(String);

impl From<String> for NoteError {
    fn from(what: String) -> Self {
        Self(what)
    }
}

fn fail<T>(what: impl Into<String>) -> Result<T, NoteError> {
    Err(NoteError(what.into()))
}

/// The name of a store's key.
fn key_name(store: &str) -> String {
    format!("worm-{store}")
}

fn key_hash(name: &str, key: &VerifyingKey) -> [u8; 4] {
    let mut hasher = Sha256::new();
    hasher.update(name.as_bytes());
    hasher.update([b'\n', ED25519]);
    hasher.update(key.as_bytes());
    let digest: [u8; 32] = hasher.finalize().into();
    [digest[0], digest[1], digest[2], digest[3]]
}

fn with_algorithm(bytes: &[u8; 32]) -> String {
    let mut out = vec![ED25519];
    out.extend_from_slice(bytes);
    BASE64.encode(out)
}

fn without_algorithm(text: &str) -> Result<[u8; 32], NoteError> {
    match BASE64.decode(text).as_deref() {
        Ok([ED25519, key @ ..]) => key
            .try_into()
            .or_else(|_: std::array::TryFromSliceError| fail("the key is not 32 bytes")),
        Ok(_) => fail("the key is not an Ed25519 key"),
        Err(error) => fail(format!("the key is not base64: {error}")),
    }
}

/// Reads a C2SP verifier key, `NAME+HASH+KEY`: its name and the key.
fn read_public(public: &str) -> Result<(&str, VerifyingKey), NoteError> {
    let mut parts = public.splitn(3, '+');
    let (Some(name), Some(hash), Some(key)) = (parts.next(), parts.next(), parts.next()) else {
        return fail("the public key is not NAME+HASH+KEY");
    };
    let Ok(key) = VerifyingKey::from_bytes(&without_algorithm(key)?) else {
        return fail("the public key is not a point on the curve");
    };
    if hash == hex::encode(key_hash(name, &key)) {
        Ok((name, key))
    } else {
        fail("the public key does not match its hash")
    }
}

/// Signs the heads of one store.
#[derive(Debug)]
pub struct StoreSigner {
    name: String,
    key: SigningKey,
}

impl StoreSigner {
    /// A signer from 32 random bytes.
    #[must_use]
    pub fn new(store: &str, secret: [u8; 32]) -> Self {
        Self { name: key_name(store), key: SigningKey::from_bytes(&secret) }
    }

    /// Reads a key file: `PRIVATE+KEY+NAME+HASH+KEY`.
    ///
    /// # Errors
    /// When it is none, or of another store.
    pub fn decode(text: &str, store: &str) -> Result<Self, NoteError> {
        let Some(rest) = text.trim().strip_prefix("PRIVATE+KEY+") else {
            return fail("the file does not hold a signing key");
        };
        let Some((name, rest)) = rest.split_once('+') else { return fail("the key has no name") };
        if name != key_name(store) {
            return fail(format!("the key is that of {name}, not of worm-{store}"));
        }
        let Some((hash, key)) = rest.split_once('+') else { return fail("the key has no hash") };
        let signer = Self::new(store, without_algorithm(key)?);
        if hash != hex::encode(key_hash(name, &signer.key.verifying_key())) {
            return fail("the key does not match its hash");
        }
        Ok(signer)
    }

    /// The public key that a file with a signing key, or with a public key, holds.
    ///
    /// # Errors
    /// When it holds neither.
    pub fn public_of(text: &str) -> Result<String, NoteError> {
        let text = text.trim();
        if let Some(name) = text.strip_prefix("PRIVATE+KEY+worm-") {
            let store = name.split('+').next().unwrap_or_default();
            return Ok(Self::decode(text, store)?.public());
        }
        match read_public(text) {
            Ok(_) => Ok(text.to_owned()),
            Err(error) => fail(format!("it holds neither a signing key nor a public key: {error}")),
        }
    }

    /// The key file's text.
    #[must_use]
    pub fn encode(&self) -> String {
        let hash = hex::encode(key_hash(&self.name, &self.key.verifying_key()));
        format!("PRIVATE+KEY+{}+{hash}+{}\n", self.name, with_algorithm(&self.key.to_bytes()))
    }

    /// The public key, as a C2SP verifier key.
    #[must_use]
    pub fn public(&self) -> String {
        let key = self.key.verifying_key();
        let hash = hex::encode(key_hash(&self.name, &key));
        format!("{}+{hash}+{}", self.name, with_algorithm(key.as_bytes()))
    }

    /// A signed head.
    #[must_use]
    pub fn sign(&self, head: &Head) -> String {
        let text = head.text();
        let mut signature = key_hash(&self.name, &self.key.verifying_key()).to_vec();
        signature.extend_from_slice(&self.key.sign(text.as_bytes()).to_bytes());
        format!("{text}\n\u{2014} {} {}\n", self.name, BASE64.encode(signature))
    }
}

/// How far a ledger reaches, in a form that can be signed and carried away.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Head {
    /// The store's id.
    pub store: String,
    /// Number of its newest line.
    pub seq: u64,
    /// SHA-256 of that line.
    pub digest: Digest,
}

impl Head {
    fn text(&self) -> String {
        format!("{HEAD_TITLE}\n{}\n{}\n{}\n", self.store, self.seq, self.digest)
    }

    /// Of which store a head says it is, whoever signed it; `None` when it is no head.
    #[must_use]
    pub fn store_of(note: &str) -> Option<&str> {
        note.strip_prefix(HEAD_TITLE)?.strip_prefix('\n')?.lines().next()
    }

    /// Reads a signed head and checks its signature with `public`, a C2SP verifier key.
    ///
    /// # Errors
    /// When it is not signed by that key, or is no head.
    pub fn verify(note: &str, public: &str) -> Result<Self, NoteError> {
        let (name, key) = read_public(public)?;
        let Some((text, signatures)) = note.rsplit_once("\n\n") else {
            return fail("the head has no signature");
        };
        let text = format!("{text}\n");
        let prefix = format!("\u{2014} {name} ");
        let signed = signatures.lines().filter_map(|line| line.strip_prefix(&prefix)).any(|line| {
            let Ok(bytes) = BASE64.decode(line) else { return false };
            let Some((hash, signature)) = bytes.split_at_checked(4) else { return false };
            let Ok(signature) = Signature::from_slice(signature) else { return false };
            hash == key_hash(name, &key) && key.verify_strict(text.as_bytes(), &signature).is_ok()
        });
        if !signed {
            return fail("the head is not signed by this store's key");
        }
        Self::parse(&text)
    }

    fn parse(text: &str) -> Result<Self, NoteError> {
        let lines: Vec<&str> = text.lines().collect();
        let [HEAD_TITLE, store, seq, digest] = lines[..] else {
            return fail("the head is of another kind or of a newer version");
        };
        match (seq.parse(), digest.parse()) {
            (Ok(seq), Ok(digest)) => Ok(Self { store: store.to_owned(), seq, digest }),
            _ => fail("the head is not a number and a digest"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_is_believed_with_its_own_signature_only() {
        let signer = StoreSigner::new("ab12", [7; 32]);
        let head = Head { store: "ab12".into(), seq: 42, digest: Digest::of(b"x") };
        let note = signer.sign(&head);
        assert_eq!(Head::verify(&note, &signer.public()).unwrap(), head);
        let other = StoreSigner::new("ab12", [8; 32]).public();
        assert!(Head::verify(&note, &other).is_err());
        assert!(Head::verify(&note.replace("42", "43"), &signer.public()).is_err());
        assert!(Head::verify("", &signer.public()).is_err());
        assert_eq!(Head::store_of(&note), Some("ab12"));
        assert_eq!(Head::store_of("hello"), None);
        assert!(Head::verify(&note, "").is_err());
    }

    #[test]
    fn a_key_survives_its_file_and_knows_its_store() {
        let signer = StoreSigner::new("ab12", [7; 32]);
        let text = signer.encode();
        assert_eq!(StoreSigner::decode(&text, "ab12").unwrap().public(), signer.public());
        assert!(StoreSigner::decode(&text, "cd34").is_err());
        for text in [&text, &signer.public(), &format!("{}\n", signer.public())] {
            assert_eq!(StoreSigner::public_of(text).unwrap(), signer.public());
        }
        for neither in ["", "hello", "PRIVATE+KEY+worm-ab12", "a+b", "{\"a\": \"b+c+d\"}"] {
            assert!(StoreSigner::public_of(neither).is_err(), "{neither}");
        }
        assert!(StoreSigner::decode("hello", "ab12").is_err());
        assert!(StoreSigner::decode(&text.replace("+A", "+B"), "ab12").is_err());
    }
}
