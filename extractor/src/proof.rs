//! PURE: what the `.sha256` file, the manifest and the mount say about a file must agree.

use worm_ingest::manifest::Manifest;

/// Characters of a SHA-256 in hexadecimal.
const HEX_LEN: usize = 64;

/// One voice about the digest of a file.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Claim {
    /// Who says so, in words for the user.
    pub by: &'static str,
    /// The digest in lower-case hexadecimal.
    pub sha256: String,
}

/// Why nothing can be expected of a file.
#[derive(Debug, Eq, PartialEq, thiserror::Error)]
pub enum Doubt {
    /// The `.sha256` file is not one line `HEX  NAME`.
    #[error("its .sha256 file is not one line \"HEX  {name}\"")]
    DigestFile {
        /// The name that the line must end with.
        name: String,
    },
    /// The manifest describes another file, or another length.
    #[error("its manifest says {field} {said}, but it is {found}")]
    Manifest {
        /// Which field.
        field: &'static str,
        /// What the manifest says.
        said: String,
        /// What is there.
        found: String,
    },
    /// Two voices differ.
    #[error("{} says SHA-256 {}, {} says {}", .0.by, .0.sha256, .1.by, .1.sha256)]
    Disagree(Claim, Claim),
    /// Nobody says anything.
    #[error("nothing says which SHA-256 it must have")]
    NoClaim,
}

/// Reads the only line of a `.sha256` file about `name`, in the form of `sha256sum`.
///
/// # Errors
/// [`Doubt::DigestFile`] for anything else.
pub fn parse_digest_file(bytes: &[u8], name: &str) -> Result<Claim, Doubt> {
    let digest = || {
        let line = std::str::from_utf8(bytes).ok()?;
        let line = line.strip_suffix('\n').unwrap_or(line);
        let (digest, rest) = line.split_once(' ')?;
        // A blank for text mode, a star for binary mode; on Linux they mean the same.
        let named = rest.strip_prefix(' ').or_else(|| rest.strip_prefix('*'))?;
        (is_sha256(digest) && named == name).then(|| digest.to_owned())
    };
    match digest() {
        Some(sha256) => Ok(Claim { by: "its .sha256 file", sha256 }),
        None => Err(Doubt::DigestFile { name: name.to_owned() }),
    }
}

/// What the manifest says of the dump `name`, which has `bytes` bytes.
///
/// # Errors
/// [`Doubt::Manifest`] when it speaks of another name or length.
pub fn claim_of_manifest(manifest: &Manifest, name: &str, bytes: u64) -> Result<Claim, Doubt> {
    let differs = |field, said: String, found: String| Doubt::Manifest { field, said, found };
    if manifest.name != name {
        return Err(differs("name", manifest.name.clone(), name.to_owned()));
    }
    if manifest.stored.bytes != bytes {
        return Err(differs("bytes", manifest.stored.bytes.to_string(), bytes.to_string()));
    }
    Ok(Claim { by: "its manifest", sha256: manifest.stored.sha256.clone() })
}

/// The one digest that all claims agree on.
///
/// # Errors
/// [`Doubt::Disagree`] naming the first two that differ, [`Doubt::NoClaim`] when there is none.
pub fn agreed(claims: &[Claim]) -> Result<&str, Doubt> {
    let first = claims.first().ok_or(Doubt::NoClaim)?;
    match claims.iter().find(|claim| claim.sha256 != first.sha256) {
        Some(other) => Err(Doubt::Disagree(first.clone(), other.clone())),
        None => Ok(&first.sha256),
    }
}

fn is_sha256(text: &str) -> bool {
    text.len() == HEX_LEN && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_file_is_one_line_about_the_file() {
        let hex = "0".repeat(HEX_LEN);
        let read = |text: String| parse_digest_file(text.as_bytes(), "a").map(|c| c.sha256);
        assert_eq!(read(format!("{hex}  a\n")), Ok(hex.clone()));
        assert_eq!(read(format!("{hex} *a")), Ok(hex.clone()));
        for text in [
            String::new(),
            format!("{hex} a\n"),
            format!("{hex}  b\n"),
            format!("{hex}  a\n\n"),
            format!("{hex}  a\n{hex}  b\n"),
            format!("{}  a\n", &hex[1..]),
            format!("{}  a\n", "A".repeat(HEX_LEN)),
        ] {
            assert!(read(text.clone()).is_err(), "{text:?}");
        }
    }

    #[test]
    fn all_that_speak_must_agree() {
        let claim = |by, sha256: &str| Claim { by, sha256: sha256.to_owned() };
        assert_eq!(agreed(&[]), Err(Doubt::NoClaim));
        assert_eq!(agreed(&[claim("a", "1"), claim("b", "1")]), Ok("1"));
        let doubt = agreed(&[claim("a", "1"), claim("b", "1"), claim("c", "2")]).unwrap_err();
        assert_eq!(doubt.to_string(), "a says SHA-256 1, c says 2");
    }
}
