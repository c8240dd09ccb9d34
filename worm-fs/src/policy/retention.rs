//! PURE: when a file may go. Retention can be lengthened, never shortened.

use super::Refusal;
use super::name::Name;
use crate::config::ClassRule;

/// How long after its main file a sidecar may be sealed and still belong to it.
pub const GROUP_WINDOW_MS: i64 = 3_600_000;

/// What retention needs to know of a sealed file.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Kept {
    /// When it was sealed, on the retention clock.
    pub sealed_ms: i64,
    /// The end that its own seal, or an extension, gave it.
    pub until_ms: i64,
}

/// A main file with its sidecars, or a file alone. They end together.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Group {
    /// The numbers of its files, the main file first.
    pub files: Vec<u64>,
    /// When its main file was sealed.
    pub sealed_ms: i64,
    /// The latest end of its files.
    pub until_ms: i64,
    /// It has its manifest, so it is a whole backup.
    pub whole: bool,
    /// A hold is on it.
    pub held: bool,
}

/// The name of the file that `name` would be a sidecar of, by the rule that stands when it is
/// sealed.
#[must_use]
pub fn main_name(name: &Name, rule: &ClassRule) -> Option<Name> {
    rule.sidecars.iter().find_map(|sidecar| {
        let main = name.as_bytes().strip_suffix(sidecar.as_bytes())?;
        Name::new(main).ok()
    })
}

/// Whether a sidecar that is sealed at `sealed_ms` still belongs to its main file.
#[must_use]
pub fn belongs(main: &Kept, sealed_ms: i64) -> bool {
    let after = sealed_ms.saturating_sub(main.sealed_ms);
    (0..=GROUP_WINDOW_MS).contains(&after)
}

/// The main files of the newest groups that are whole: those stay however old they are. The
/// groups are those of one directory, oldest first.
#[must_use]
pub fn protected(groups: &[Group], keep_last: usize) -> Vec<u64> {
    let whole = groups.iter().rev().filter(|group| group.whole).take(keep_last);
    whole.filter_map(|group| group.files.first().copied()).collect()
}

/// The groups of one directory that are over at `now_ms`, oldest first as they came.
#[must_use]
pub fn over(groups: Vec<Group>, keep_last: usize, now_ms: i64) -> Vec<Vec<u64>> {
    let protected = protected(&groups, keep_last);
    groups
        .into_iter()
        .filter(|group| group.until_ms <= now_ms && !group.held)
        .map(|group| group.files)
        .filter(|files| files.first().is_some_and(|main| !protected.contains(main)))
        .collect()
}

/// Whether an end may be moved to `wanted_ms`.
///
/// # Errors
/// [`Refusal::RetentionShortened`] when that is earlier than the end that stands, or later than
/// the class allows.
pub fn extend(kept: &Kept, wanted_ms: i64, rule: &ClassRule) -> Result<(), Refusal> {
    let longest = rule.max_retention.unwrap_or(rule.retention);
    let limit = kept.sealed_ms.saturating_add(longest).max(kept.until_ms);
    if (kept.until_ms..=limit).contains(&wanted_ms) {
        Ok(())
    } else {
        Err(Refusal::RetentionShortened)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    fn rule() -> ClassRule {
        Config::default().classes.remove("hourly").unwrap()
    }

    fn group(main: u64, until_ms: i64, whole: bool) -> Group {
        let sealed_ms = i64::try_from(main).unwrap();
        Group { files: vec![main], sealed_ms, until_ms, whole, held: false }
    }

    #[test]
    fn a_group_goes_at_its_end_and_not_before() {
        assert!(over(vec![group(1, 10, false)], 1, 9).is_empty());
        assert_eq!(over(vec![group(1, 10, false)], 1, 10), [[1]]);
    }

    #[test]
    fn a_hold_has_no_end() {
        let held = Group { held: true, ..group(1, 10, false) };
        assert!(over(vec![held], 0, i64::MAX).is_empty());
    }

    #[test]
    fn the_newest_whole_backups_stay_however_old() {
        let groups = || vec![group(1, 10, true), group(2, 10, true), group(3, 10, false)];
        assert_eq!(over(groups(), 0, 99), [[1], [2], [3]]);
        assert_eq!(over(groups(), 1, 99), [[1], [3]]);
        assert_eq!(over(groups(), 9, 99), [[3]]);
    }

    #[test]
    fn what_is_sealed_an_hour_later_or_before_is_no_sidecar() {
        let main = Kept { sealed_ms: 5, until_ms: 10 };
        assert!(belongs(&main, 5) && belongs(&main, 5 + GROUP_WINDOW_MS));
        assert!(!belongs(&main, 4) && !belongs(&main, 6 + GROUP_WINDOW_MS));
        assert!(!belongs(&main, i64::MIN) && !belongs(&main, i64::MAX));
    }

    #[test]
    fn a_sidecar_is_known_by_its_ending() {
        let main = |name: &[u8]| main_name(&Name::new(name).unwrap(), &rule());
        assert_eq!(main(b"a.sha256"), Some(Name::new(b"a").unwrap()));
        assert_eq!(main(b"a.manifest.json"), Some(Name::new(b"a").unwrap()));
        assert_eq!(main(b"a"), None);
        assert_eq!(main(b".sha256"), None);
    }

    #[test]
    fn ends_move_later_only_and_within_the_limit() {
        let mut rule = rule();
        let kept = Kept { sealed_ms: 0, until_ms: rule.retention };
        assert!(extend(&kept, kept.until_ms, &rule).is_ok());
        assert!(extend(&kept, kept.until_ms - 1, &rule).is_err());
        assert!(extend(&kept, kept.until_ms + 1, &rule).is_err());
        rule.max_retention = Some(rule.retention * 2);
        assert!(extend(&kept, kept.until_ms + 1, &rule).is_ok());
        assert!(extend(&kept, rule.retention * 2 + 1, &rule).is_err());
        assert!(extend(&kept, i64::MAX, &rule).is_err());
        assert!(extend(&kept, i64::MIN, &rule).is_err());
    }
}
