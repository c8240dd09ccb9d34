//! PURE: when a file may go. Retention can be lengthened, never shortened.

use std::collections::BTreeMap;

use super::Refusal;
use super::name::Name;
use crate::config::ClassRule;
use crate::config::MANIFEST_SIDECAR;

/// How long after its main file a sidecar may be sealed and still belong to it.
pub const GROUP_WINDOW_MS: i64 = 3_600_000;

/// What retention needs to know of a sealed file.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Kept {
    /// The file's number.
    pub id: u64,
    /// When it was sealed, on the retention clock.
    pub sealed_ms: i64,
    /// The end that its own seal, or an extension, gave it.
    pub until_ms: i64,
}

/// The sealed files of one directory by name.
pub type Directory = BTreeMap<Name, Kept>;

/// The name of the main file of the group that `name` would be a sidecar of.
fn main_of(name: &Name, rule: &ClassRule) -> Option<Name> {
    rule.sidecars.iter().find_map(|sidecar| {
        let main = name.as_bytes().strip_suffix(sidecar.as_bytes())?;
        Name::new(main).ok()
    })
}

/// The files of the group that `name` is in: itself alone, or a main file with the sidecars
/// that were sealed within [`GROUP_WINDOW_MS`] after it. The main file comes first.
#[must_use]
pub fn group(files: &impl Lookup, name: &Name, rule: &ClassRule) -> Vec<(Name, Kept)> {
    let Some(file) = files.kept(name) else { return Vec::new() };
    if let Some(main) = main_of(name, rule)
        && let Some(head) = files.kept(&main)
        && main_of(&main, rule).is_none()
        && belongs(&head, &file)
    {
        return group_of_main(files, main, head, rule);
    }
    group_of_main(files, name.clone(), file, rule)
}

fn belongs(main: &Kept, sidecar: &Kept) -> bool {
    let after = sidecar.sealed_ms.saturating_sub(main.sealed_ms);
    (0..=GROUP_WINDOW_MS).contains(&after)
}

fn group_of_main(
    files: &impl Lookup,
    main: Name,
    head: Kept,
    rule: &ClassRule,
) -> Vec<(Name, Kept)> {
    let mut members = Vec::with_capacity(1 + rule.sidecars.len());
    if main_of(&main, rule).is_none() {
        for sidecar in &rule.sidecars {
            let Ok(name) = Name::new(&[main.as_bytes(), sidecar.as_bytes()].concat()) else {
                continue;
            };
            if let Some(kept) = files.kept(&name).filter(|kept| belongs(&head, kept)) {
                members.push((name, kept));
            }
        }
    }
    members.insert(0, (main, head));
    members
}

/// Looks a sealed file up by its name, in one directory.
pub trait Lookup {
    /// The file, if there is a sealed one of that name.
    fn kept(&self, name: &Name) -> Option<Kept>;
}

impl Lookup for Directory {
    fn kept(&self, name: &Name) -> Option<Kept> {
        self.get(name).copied()
    }
}

/// When the group of `name` ends: at the latest end of its members.
#[must_use]
pub fn end(files: &impl Lookup, name: &Name, rule: &ClassRule) -> Option<i64> {
    group(files, name, rule).iter().map(|(_, kept)| kept.until_ms).max()
}

/// The groups of a directory, oldest first.
fn groups(files: &Directory, rule: &ClassRule) -> Vec<Vec<(Name, Kept)>> {
    let mut groups: Vec<Vec<(Name, Kept)>> = files
        .keys()
        .map(|name| (name, group(files, name, rule)))
        .filter(|(name, group)| group.first().is_some_and(|(main, _)| main == *name))
        .map(|(_, group)| group)
        .collect();
    groups.sort_by_key(|group| group.first().map(|(_, kept)| (kept.sealed_ms, kept.id)));
    groups
}

/// The main files of the newest groups that have a manifest.
fn newest_whole(groups: &[Vec<(Name, Kept)>], keep_last: usize) -> Vec<u64> {
    let whole = groups.iter().rev().filter(|group| has_manifest(group)).take(keep_last);
    whole.filter_map(|group| group.first().map(|(_, kept)| kept.id)).collect()
}

/// Whether the group of `name` is one of the newest that are kept however old.
#[must_use]
pub fn is_protected(files: &Directory, name: &Name, rule: &ClassRule) -> bool {
    let Some((_, main)) = group(files, name, rule).into_iter().next() else { return false };
    newest_whole(&groups(files, rule), rule.keep_last).contains(&main.id)
}

/// The groups of a directory that are over at `now`, oldest first, without the newest
/// `keep_last` that have a manifest: those stay however old they are.
#[must_use]
pub fn over(files: &Directory, rule: &ClassRule, now: i64) -> Vec<Vec<Kept>> {
    let groups = groups(files, rule);
    let protected = newest_whole(&groups, rule.keep_last);
    groups
        .into_iter()
        .map(|group| group.into_iter().map(|(_, kept)| kept).collect::<Vec<_>>())
        .filter(|group| group.iter().all(|kept| kept.until_ms <= now))
        .filter(|group| group.first().is_some_and(|main| !protected.contains(&main.id)))
        .collect()
}

fn has_manifest(group: &[(Name, Kept)]) -> bool {
    group.iter().any(|(name, _)| name.as_bytes().ends_with(MANIFEST_SIDECAR.as_bytes()))
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

    fn directory(files: &[(&str, i64, i64)]) -> Directory {
        let numbered = files.iter().zip(1..);
        numbered
            .map(|((name, sealed_ms, until_ms), id)| {
                let kept = Kept { id, sealed_ms: *sealed_ms, until_ms: *until_ms };
                (Name::new(name.as_bytes()).unwrap(), kept)
            })
            .collect()
    }

    #[track_caller]
    fn check(files: &[(&str, i64, i64)], now: i64, expected: &[&[u64]]) {
        let ids: Vec<Vec<u64>> = over(&directory(files), &rule(), now)
            .iter()
            .map(|group| group.iter().map(|kept| kept.id).collect())
            .collect();
        assert_eq!(ids, expected);
    }

    #[test]
    fn a_file_alone_goes_at_its_end_and_not_before() {
        check(&[("a", 0, 10)], 9, &[]);
        check(&[("a", 0, 10)], 10, &[&[1]]);
    }

    #[test]
    fn a_group_ends_together_at_its_latest_end() {
        let files = [("a", 0, 10), ("a.sha256", 1, 30), ("z", 2, 10)];
        check(&files, 10, &[&[3]]);
        check(&files, 30, &[&[1, 2], &[3]]);
        let name = Name::new(b"a").unwrap();
        assert_eq!(end(&directory(&files), &name, &rule()), Some(30));
    }

    #[test]
    fn what_is_sealed_an_hour_later_or_before_is_no_sidecar() {
        check(&[("a", 0, 10), ("a.sha256", GROUP_WINDOW_MS + 1, 99)], 10, &[&[1]]);
        check(&[("a", 5, 10), ("a.sha256", 4, 99)], 10, &[&[1]]);
    }

    #[test]
    fn a_sidecar_of_a_sidecar_is_on_its_own() {
        let files = [("a", 0, 10), ("a.sha256", 1, 10), ("a.sha256.sha256", 2, 99)];
        check(&files, 10, &[&[1, 2]]);
        check(&files, 99, &[&[1, 2], &[3]]);
    }

    #[test]
    fn the_newest_whole_backup_stays_however_old() {
        let files = [
            ("a", 0, 10),
            ("a.manifest.json", 1, 10),
            ("b", 2, 10),
            ("b.manifest.json", 3, 10),
            ("c", 4, 10),
        ];
        check(&files, 1_000, &[&[1, 2], &[5]]);
    }

    #[test]
    fn ends_move_later_only_and_within_the_limit() {
        let mut rule = rule();
        let kept = Kept { id: 1, sealed_ms: 0, until_ms: rule.retention };
        assert!(extend(&kept, kept.until_ms - 1, &rule).is_err());
        assert!(extend(&kept, kept.until_ms + 1, &rule).is_err());
        rule.max_retention = Some(rule.retention * 2);
        assert!(extend(&kept, kept.until_ms + 1, &rule).is_ok());
        assert!(extend(&kept, rule.retention * 2 + 1, &rule).is_err());
        assert!(extend(&kept, i64::MAX, &rule).is_err());
        assert!(extend(&kept, i64::MIN, &rule).is_err());
    }
}
