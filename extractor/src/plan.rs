//! PURE: what is to be done about one file, from what the view, the mirror and the log say.

/// What a file must be.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Expected {
    /// Its length.
    pub bytes: u64,
    /// Its SHA-256 in lower-case hexadecimal.
    pub sha256: String,
}

/// A file of the mirror, as its directory shows it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Held {
    /// Its length.
    pub bytes: u64,
    /// Its modification time in whole seconds, which every file system keeps.
    pub modified: i64,
}

/// What is to be done about one file.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Action {
    /// The mirror has no such name.
    Copy,
    /// The mirror has the name. Read it, and see whether it has the bytes.
    Compare,
    /// An earlier run saw these bytes in the mirror and wrote so; length and time are still right.
    Believe,
}

/// Decides about one file.
///
/// `modified` is the modification time of the source, which its copy was given, `mirrored` the file
/// in the mirror, `recorded` what the audit log says that an earlier run left there. Neither a
/// changed length or time nor a digest other than the expected one is ever believed: such a file
/// is read, and then it is right or it is a conflict.
#[must_use]
pub fn decide(
    expected: &Expected,
    modified: i64,
    mirrored: Option<Held>,
    recorded: Option<&Expected>,
) -> Action {
    let Some(held) = mirrored else { return Action::Copy };
    let unchanged = held == Held { bytes: expected.bytes, modified };
    if unchanged && recorded == Some(expected) { Action::Believe } else { Action::Compare }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(bytes: u64, sha256: &str) -> Expected {
        Expected { bytes, sha256: sha256.to_owned() }
    }

    fn held(bytes: u64, modified: i64) -> Option<Held> {
        Some(Held { bytes, modified })
    }

    #[test]
    fn what_the_mirror_lacks_is_copied_whatever_the_log_says() {
        assert_eq!(decide(&of(3, "aa"), 7, None, None), Action::Copy);
        assert_eq!(decide(&of(3, "aa"), 7, None, Some(&of(3, "aa"))), Action::Copy);
    }

    #[test]
    fn only_a_recorded_file_of_the_right_length_and_time_is_believed() {
        let expected = of(3, "aa");
        assert_eq!(decide(&expected, 7, held(3, 7), Some(&of(3, "aa"))), Action::Believe);
        assert_eq!(decide(&expected, 7, held(3, 7), None), Action::Compare);
        assert_eq!(decide(&expected, 7, held(3, 8), Some(&of(3, "aa"))), Action::Compare);
        assert_eq!(decide(&expected, 7, held(2, 7), Some(&of(3, "aa"))), Action::Compare);
        assert_eq!(decide(&expected, 7, held(2, 7), Some(&of(2, "aa"))), Action::Compare);
        assert_eq!(decide(&expected, 7, held(3, 7), Some(&of(3, "bb"))), Action::Compare);
    }
}
