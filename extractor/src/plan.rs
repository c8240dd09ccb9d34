//! PURE: what is to be done about one file, from what the view, the mirror and the log say.

/// What a file must be.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Expected {
    /// Its length.
    pub bytes: u64,
    /// Its SHA-256 in lower-case hexadecimal.
    pub sha256: String,
}

/// What is to be done about one file.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Action {
    /// The mirror has no such name.
    Copy,
    /// The mirror has the name. Read it, and see whether it has the bytes.
    Compare,
    /// An earlier run saw these bytes in the mirror and wrote so; the length is still right.
    Believe,
}

/// Decides about one file.
///
/// `mirrored` is the length of the file in the mirror, `recorded` what the audit log says that an
/// earlier run left there. Neither a changed length nor a digest other than the expected one is
/// ever believed: such a file is read, and then it is right or it is a conflict.
#[must_use]
pub fn decide(expected: &Expected, mirrored: Option<u64>, recorded: Option<&Expected>) -> Action {
    match mirrored {
        None => Action::Copy,
        Some(bytes) if bytes == expected.bytes && recorded == Some(expected) => Action::Believe,
        Some(_) => Action::Compare,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(bytes: u64, sha256: &str) -> Expected {
        Expected { bytes, sha256: sha256.to_owned() }
    }

    #[test]
    fn what_the_mirror_lacks_is_copied_whatever_the_log_says() {
        assert_eq!(decide(&of(3, "aa"), None, None), Action::Copy);
        assert_eq!(decide(&of(3, "aa"), None, Some(&of(3, "aa"))), Action::Copy);
    }

    #[test]
    fn only_a_recorded_file_of_the_right_length_is_believed() {
        let expected = of(3, "aa");
        assert_eq!(decide(&expected, Some(3), Some(&of(3, "aa"))), Action::Believe);
        assert_eq!(decide(&expected, Some(3), None), Action::Compare);
        assert_eq!(decide(&expected, Some(2), Some(&of(3, "aa"))), Action::Compare);
        assert_eq!(decide(&expected, Some(2), Some(&of(2, "aa"))), Action::Compare);
        assert_eq!(decide(&expected, Some(3), Some(&of(3, "bb"))), Action::Compare);
    }
}
