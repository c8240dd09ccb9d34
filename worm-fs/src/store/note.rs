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
/// The first line of what a key signs to put another in its place.
const SUCCESSION_TITLE: &str = "worm-key-change-v1";

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

/// Name and hash of a verifier key: enough to tell keys apart.
pub(crate) fn short(public: &str) -> &str {
    public.match_indices('+').nth(1).map_or(public, |(end, _)| &public[..end])
}

/// Whether `signature`, as the last word of a signature line, is that of a text by `public`, a C2SP
/// verifier key.
fn is_signed(text: &str, signature: &str, public: &str) -> Result<bool, NoteError> {
    let (name, key) = read_public(public)?;
    let Ok(bytes) = BASE64.decode(signature) else { return Ok(false) };
    let Some((hash, signature)) = bytes.split_at_checked(4) else { return Ok(false) };
    let Ok(signature) = Signature::from_slice(signature) else { return Ok(false) };
    Ok(hash == key_hash(name, &key) && key.verify_strict(text.as_bytes(), &signature).is_ok())
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

    /// A new key.
    ///
    /// # Errors
    /// When the system gives no random numbers.
    pub fn generate(store: &str) -> std::io::Result<Self> {
        let mut secret = [0; 32];
        getrandom::fill(&mut secret).map_err(|error| std::io::Error::other(error.to_string()))?;
        Ok(Self::new(store, secret))
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
        format!("{text}\n\u{2014} {} {}\n", self.name, self.signature(&text))
    }

    /// The signature by which this key puts another in its place.
    #[must_use]
    pub fn hand_over(&self, to: &Succession<'_>) -> String {
        self.signature(&to.text())
    }

    /// The last word of a signature line.
    fn signature(&self, text: &str) -> String {
        let mut signature = key_hash(&self.name, &self.key.verifying_key()).to_vec();
        signature.extend_from_slice(&self.key.sign(text.as_bytes()).to_bytes());
        BASE64.encode(signature)
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
        let signed = SignedHead::read(note)?;
        signed.verify(public)?;
        Ok(signed.head)
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

/// A head with its signatures. What it says is a claim until [`Self::verify`] was asked.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct SignedHead {
    /// What it says.
    pub head: Head,
    signatures: String,
}

impl SignedHead {
    /// Reads a head and does not look at its signatures: by whose key they must be depends on the
    /// line that it names.
    ///
    /// # Errors
    /// When it is no head.
    pub fn read(note: &str) -> Result<Self, NoteError> {
        let Some((text, signatures)) = note.rsplit_once("\n\n") else {
            return fail("the head has no signature");
        };
        let head = Head::parse(text)?;
        // Nothing else may have been signed than what was read.
        if head.text() == format!("{text}\n") {
            Ok(Self { head, signatures: signatures.to_owned() })
        } else {
            fail("the head is not written as heads are")
        }
    }

    /// Checks that `public`, a C2SP verifier key, signed it.
    ///
    /// # Errors
    /// When it did not.
    pub fn verify(&self, public: &str) -> Result<(), NoteError> {
        let text = self.head.text();
        let (name, _) = read_public(public)?;
        let prefix = format!("\u{2014} {name} ");
        for signature in self.signatures.lines().filter_map(|line| line.strip_prefix(&prefix)) {
            if is_signed(&text, signature, public)? {
                return Ok(());
            }
        }
        fail("the head is not signed by this store's key")
    }
}

/// The words by which the key of a store puts another in its place. They name the line that
/// records it and the line before that, so that they mean nothing in any other ledger.
#[derive(Clone, Copy, Debug)]
pub struct Succession<'a> {
    /// The store's id.
    pub store: &'a str,
    /// Number of the line that records it.
    pub seq: u64,
    /// SHA-256 of the line before that.
    pub prev: Digest,
    /// The new public key, a C2SP verifier key.
    pub key: &'a str,
}

impl Succession<'_> {
    fn text(&self) -> String {
        let Self { store, seq, prev, key } = self;
        format!("{SUCCESSION_TITLE}\n{store}\n{seq}\n{prev}\n{key}\n")
    }

    /// Checks that `public`, a C2SP verifier key, said so.
    ///
    /// # Errors
    /// When it did not.
    pub fn verify(&self, signature: &str, public: &str) -> Result<(), NoteError> {
        if is_signed(&self.text(), signature, public)? {
            Ok(())
        } else {
            fail("the new key is not signed by the one before it")
        }
    }

    /// Checks that the new key is one that can sign for the store.
    ///
    /// # Errors
    /// When it is none, or that of another store.
    pub fn check_key(&self) -> Result<(), NoteError> {
        let (name, _) = read_public(self.key)?;
        if name == key_name(self.store) {
            Ok(())
        } else {
            fail(format!("the new key is that of {name}"))
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
    fn a_key_is_handed_over_by_its_own_signature_and_at_one_place_only() {
        let (old, new) = (StoreSigner::new("ab12", [7; 32]), StoreSigner::new("ab12", [8; 32]));
        let key = new.public();
        let words = Succession { store: "ab12", seq: 9, prev: Digest::of(b"8"), key: &key };
        let signature = old.hand_over(&words);
        words.verify(&signature, &old.public()).unwrap();
        words.check_key().unwrap();
        let other = StoreSigner::new("ab12", [9; 32]).public();
        for changed in [
            Succession { store: "cd34", ..words },
            Succession { seq: 10, ..words },
            Succession { prev: Digest::of(b"7"), ..words },
            Succession { key: &other, ..words },
        ] {
            assert!(changed.verify(&signature, &old.public()).is_err(), "{changed:?}");
        }
        for wrong in ["", "hello", &new.hand_over(&words), &signature[4..]] {
            assert!(words.verify(wrong, &old.public()).is_err(), "{wrong}");
        }
        // What signs a head signs no key.
        let head = Head { store: "ab12".into(), seq: 9, digest: Digest::of(b"8") };
        let note = old.sign(&head);
        let of_head = note.split_whitespace().next_back().unwrap();
        assert!(words.verify(of_head, &old.public()).is_err());
        let foreign = StoreSigner::new("cd34", [8; 32]).public();
        for none in ["k", "", &foreign] {
            assert!(Succession { key: none, ..words }.check_key().is_err(), "{none}");
        }
    }

    #[test]
    fn a_head_is_written_in_one_way_only() {
        let signer = StoreSigner::new("ab12", [7; 32]);
        let head = Head { store: "ab12".into(), seq: 42, digest: Digest::of(b"x") };
        let note = signer.sign(&head);
        assert_eq!(SignedHead::read(&note).unwrap().head, head);
        for (was, is) in [("42", "042"), ("42", "+42"), ("ab12\n", "ab12\r\n"), ("-v1", "-v2")] {
            assert!(SignedHead::read(&note.replacen(was, is, 1)).is_err(), "{is}");
        }
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
