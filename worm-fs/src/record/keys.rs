//! PURE: the keys that signed a store's heads, one after the other.

use serde::Deserialize;
use serde::Serialize;

use super::Digest;
use super::Event;
use super::Line;
use crate::store::note::Head;
use crate::store::note::NoteError;
use crate::store::note::SignedHead;
use crate::store::note::Succession;
use crate::store::note::short;

/// How one key took the place of another.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeyChange {
    /// Number of the line that records it: heads from there on are signed by the new key.
    pub seq: u64,
    /// SHA-256 of the line before.
    pub prev: Digest,
    /// The new public key, a C2SP verifier key.
    pub key: String,
    /// The signature of the key before it, see [`Succession`].
    pub signature: String,
    /// When, on the system clock.
    pub since_ms: i64,
}

impl KeyChange {
    /// The change that a line records, if it records one.
    #[must_use]
    pub fn of(line: &Line) -> Option<Self> {
        let Event::KeyChanged { key, signature, .. } = &line.event else { return None };
        let (key, signature) = (key.clone(), signature.clone());
        Some(Self { seq: line.seq, prev: line.prev, key, signature, since_ms: line.system_ms() })
    }
}

/// The first key of a store and all that came after it. Each was signed by the one before it, so
/// whoever knows the first can tell the last, and nobody who has none of them can add one.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Keys {
    store: String,
    first: String,
    changes: Vec<KeyChange>,
}

impl Keys {
    /// The key with which a store was made.
    #[must_use]
    pub fn new(store: &str, first: &str) -> Self {
        Self { store: store.to_owned(), first: first.to_owned(), changes: Vec::new() }
    }

    /// The key of line 1, which `store.json` names.
    #[must_use]
    pub fn first(&self) -> &str {
        &self.first
    }

    /// What came after it, oldest first.
    #[must_use]
    pub fn changes(&self) -> &[KeyChange] {
        &self.changes
    }

    /// The key that signs now.
    #[must_use]
    pub fn newest(&self) -> &str {
        self.in_force(u64::MAX)
    }

    /// The key that signs a head which names line `seq`.
    #[must_use]
    pub fn in_force(&self, seq: u64) -> &str {
        let newest = self.changes.iter().rfind(|change| change.seq <= seq);
        newest.map_or(&self.first, |change| &change.key)
    }

    /// Whether a key is one of them.
    #[must_use]
    pub fn has(&self, key: &str) -> bool {
        self.first == key || self.changes.iter().any(|change| change.key == key)
    }

    /// Whether a key may come next: one that was replaced never comes back.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn check_next(&self, key: &str) -> Result<(), String> {
        let words = Succession { store: &self.store, seq: 0, prev: Digest::ZERO, key };
        words.check_key().map_err(|error| error.to_string())?;
        if self.has(key) { Err("the new key was used before".to_owned()) } else { Ok(()) }
    }

    /// Follows one more change.
    ///
    /// # Errors
    /// When the newest key did not sign it, or it cannot come next.
    pub fn follow(&mut self, change: KeyChange) -> Result<(), String> {
        self.check_next(&change.key)?;
        if self.changes.last().is_some_and(|last| last.seq >= change.seq) {
            return Err(format!("the change of key in line {} comes too late", change.seq));
        }
        let KeyChange { seq, prev, key, signature, since_ms: _ } = &change;
        let words = Succession { store: &self.store, seq: *seq, prev: *prev, key };
        words.verify(signature, self.newest()).map_err(|error| error.to_string())?;
        self.changes.push(change);
        Ok(())
    }

    /// Checks that a head is of this store and signed by the key in force at the line that it
    /// names.
    ///
    /// # Errors
    /// When it is not.
    pub fn verify(&self, signed: &SignedHead) -> Result<Head, NoteError> {
        let SignedHead { head, .. } = signed;
        if head.store != self.store {
            return Err(NoteError::from(format!("it is that of store {}", head.store)));
        }
        let key = self.in_force(head.seq);
        signed.verify(key).map_err(|_not_signed| {
            let (key, seq) = (short(key), head.seq);
            NoteError::from(format!("it is not signed by {key}, the key in force at line {seq}"))
        })?;
        Ok(head.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::note::StoreSigner;

    const STORE: &str = "ab12";

    fn signer(number: u8) -> StoreSigner {
        StoreSigner::new(STORE, [number; 32])
    }

    fn change(seq: u64, from: u8, to: u8) -> KeyChange {
        let (prev, key) = (Digest::of(&[from]), signer(to).public());
        let words = Succession { store: STORE, seq, prev, key: &key };
        let signature = signer(from).hand_over(&words);
        KeyChange { seq, prev, key, signature, since_ms: 0 }
    }

    /// Key 1 from line 1, key 2 from line 10, key 3 from line 20.
    fn keys() -> Keys {
        let mut keys = Keys::new(STORE, &signer(1).public());
        keys.follow(change(10, 1, 2)).unwrap();
        keys.follow(change(20, 2, 3)).unwrap();
        keys
    }

    #[test]
    fn each_head_is_signed_by_the_key_in_force_at_its_line() {
        let keys = keys();
        assert_eq!((keys.first(), keys.newest()), (&*signer(1).public(), &*signer(3).public()));
        for (seq, number) in [(1, 1), (9, 1), (10, 2), (19, 2), (20, 3), (99, 3)] {
            for by in 1..5 {
                let head = Head { store: STORE.into(), seq, digest: Digest::ZERO };
                let note = signer(by).sign(&head);
                let verified = keys.verify(&SignedHead::read(&note).unwrap());
                assert_eq!(verified.ok(), (by == number).then_some(head), "{by} at {seq}");
            }
        }
        let head = Head { store: "cd34".into(), seq: 1, digest: Digest::ZERO };
        let note = StoreSigner::new("cd34", [1; 32]).sign(&head);
        assert!(keys.verify(&SignedHead::read(&note).unwrap()).is_err());
    }

    #[test]
    fn nobody_but_the_newest_key_adds_one() {
        let whole = keys();
        let add = |change: KeyChange| {
            let mut keys = whole.clone();
            keys.follow(change).map(|()| keys)
        };
        let right = change(30, 3, 4);
        assert_eq!(add(right.clone()).unwrap().newest(), signer(4).public());
        for (wrong, says) in [
            (change(30, 2, 4), "not signed by the one before"),
            (change(30, 1, 4), "not signed by the one before"),
            (change(30, 4, 4), "not signed by the one before"),
            (change(30, 3, 3), "used before"),
            (change(30, 3, 1), "used before"),
            (change(20, 3, 4), "too late"),
            (KeyChange { seq: 31, ..right.clone() }, "not signed"),
            (KeyChange { prev: Digest::ZERO, ..right.clone() }, "not signed"),
            (KeyChange { key: signer(5).public(), ..right.clone() }, "not signed"),
            (KeyChange { key: "k".into(), ..right.clone() }, "NAME+HASH+KEY"),
            (KeyChange { signature: String::new(), ..right }, "not signed"),
        ] {
            let error = add(wrong.clone()).unwrap_err();
            assert!(error.contains(says), "{wrong:?}: {error}");
        }
    }
}
