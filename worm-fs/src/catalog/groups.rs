//! PURE: which files of a catalog end together, and which are over.

use std::num::NonZero;

use super::Catalog;
use super::Directory;
use super::File;
use super::Hold;
use crate::config::MANIFEST_SIDECAR;
use crate::policy::Retention;
use crate::policy::retention;
use crate::policy::retention::Group;
use crate::policy::retention::Kept;

impl Catalog {
    /// The file that one just sealed belongs to. It is settled now and for good: a later change
    /// of the class's rule does not tear a group apart.
    pub(super) fn main_of(&self, file: &File) -> Option<NonZero<u64>> {
        let (_, rule) = self.class_of(file.parent).filter(|_| !file.is_incomplete())?;
        let name = retention::main_name(&file.name, rule)?;
        let id = *self.get_directory(file.parent)?.children.get(&name)?;
        let main = self.kept(id).filter(|main| retention::belongs(main, file.sealed_ms));
        // What is over may be on its way out; nothing new joins it.
        let main = main.filter(|_| self.end_of(id).is_some_and(|end| end > file.sealed_ms));
        let is_sidecar = self.get_file(id).is_none_or(|main| main.main.is_some());
        main.filter(|_| !is_sidecar).and_then(|_| NonZero::new(id))
    }

    /// The files that end together with this one, the main file first.
    pub(crate) fn group_of(&self, id: u64) -> Vec<u64> {
        let main = self.get_file(id).and_then(|file| file.main).map_or(id, NonZero::get);
        let sidecars = self.get_file(main).map_or(&[][..], |main| &main.sidecars[..]);
        [&[main], sidecars].concat()
    }

    /// When a file ends, on the retention clock: the latest end of its group.
    #[must_use]
    pub fn end_of(&self, id: u64) -> Option<i64> {
        let ends = self.group_of(id).into_iter().filter_map(|id| self.get_file(id));
        ends.map(|file| file.retain_until_ms).max()
    }

    /// The holds on a file: those on any file of its group.
    pub fn holds_of(&self, id: u64) -> impl Iterator<Item = &Hold> {
        self.group_of(id).into_iter().filter_map(|id| self.holds.get(&id)).flatten()
    }

    /// Whether a hold is on a file.
    #[must_use]
    pub fn is_held(&self, id: u64) -> bool {
        !self.holds.is_empty() && self.holds_of(id).next().is_some()
    }

    /// Whether the admin may release a file before its end: all of its group must allow that.
    #[must_use]
    pub fn is_governance(&self, id: u64) -> bool {
        let mut group = self.group_of(id).into_iter().filter_map(|id| self.get_file(id));
        group.all(|file| file.governance)
    }

    /// Whether a file may go at `now_ms`, and if not, what keeps it.
    #[must_use]
    pub fn retention_of(&self, id: u64, now_ms: i64) -> Retention {
        if self.is_held(id) {
            Retention::Held
        } else if self.end_of(id).is_some_and(|end| end <= now_ms) && !self.is_protected(id) {
            Retention::Over
        } else {
            Retention::Running
        }
    }

    /// Whether a file is in one of the newest groups that are kept however old.
    #[must_use]
    pub fn is_protected(&self, id: u64) -> bool {
        let Some(main) = self.get_file(id).map(|file| file.main.map_or(id, NonZero::get)) else {
            return false;
        };
        let whole = self.whole_group(main).zip(self.class_of(main));
        let Some(((directory, age), (_, rule))) = whole else { return false };
        // Names of backups tell when they were made: newer ones are found at the end.
        let Some(Directory { children, .. }) = self.get_directory(directory) else { return false };
        let others = children.values().rev().filter_map(|other| self.whole_group(*other));
        let newer = others.filter(|(_, of_other)| *of_other > age);
        newer.take(rule.keep_last).count() < rule.keep_last
    }

    /// The directory of a main file with its manifest, and how old it is: later ones are greater.
    fn whole_group(&self, main: u64) -> Option<(u64, (i64, u64))> {
        let file = self.get_file(main)?;
        let is_whole = file.sidecars.iter().any(|sidecar| self.is_manifest(*sidecar));
        is_whole.then_some((file.parent, (file.sealed_ms, main)))
    }

    /// The groups that are over at `now_ms`, each with its main file first: what may be removed.
    #[must_use]
    pub fn over(&self, now_ms: i64) -> Vec<Vec<u64>> {
        let mut groups = Vec::new();
        let due = |id: &u64| self.get_file(*id).is_some_and(|file| file.retain_until_ms <= now_ms);
        for (id, directory) in self.directories() {
            if directory.children.values().any(due) {
                let keep_last = self.class_of(id).map_or(0, |(_, rule)| rule.keep_last);
                groups.extend(retention::over(self.groups_in(directory), keep_last, now_ms));
            }
        }
        groups
    }

    /// The groups of a directory, oldest first.
    pub(crate) fn groups_in(&self, directory: &Directory) -> Vec<Group> {
        let files = directory.children.values().filter_map(|id| Some((*id, self.get_file(*id)?)));
        let mut groups: Vec<Group> = files
            .filter(|(_, file)| file.main.is_none())
            .map(|(id, file)| Group {
                files: self.group_of(id),
                sealed_ms: file.sealed_ms,
                until_ms: self.end_of(id).unwrap_or(file.retain_until_ms),
                held: self.is_held(id),
                whole: self.whole_group(id).is_some(),
            })
            .collect();
        groups.sort_by(|a, b| (a.sealed_ms, &a.files).cmp(&(b.sealed_ms, &b.files)));
        groups
    }

    fn is_manifest(&self, id: u64) -> bool {
        let ending = MANIFEST_SIDECAR.as_bytes();
        self.get_file(id).is_some_and(|file| file.name.as_bytes().ends_with(ending))
    }

    /// What retention needs to know of a sealed file.
    #[must_use]
    pub fn kept(&self, id: u64) -> Option<Kept> {
        let file = self.get_file(id).filter(|file| !file.is_incomplete())?;
        Some(Kept { sealed_ms: file.sealed_ms, until_ms: file.retain_until_ms })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::Inconsistent;
    use crate::clock::Reading;
    use crate::config::ClassRule;
    use crate::config::Config;
    use crate::policy::name::StorePath;
    use crate::record::Digest;
    use crate::record::Event;
    use crate::record::FORMAT;
    use crate::record::Line;

    /// A store with class `hourly`, whose lines carry the moments in which they are given.
    struct Told(Catalog);

    impl Told {
        fn new() -> Self {
            let reading = Reading { boot: "b".into(), raw_ms: 0, suspend_ms: 0, system_ms: 0 };
            let (store, key) = ("s".into(), "k".into());
            let line = line(1, 0, Event::Created { format: FORMAT, store, key, reading });
            let mut told = Self(Catalog::new(&line).unwrap());
            told.0.apply(&line, Digest::ZERO).unwrap();
            told.rule(|_| {});
            told
        }

        fn tell(&mut self, clock_ms: i64, event: Event) -> Result<(), Inconsistent> {
            self.0.apply(&line(self.0.seq + 1, clock_ms, event), Digest::ZERO)
        }

        fn rule(&mut self, change: impl FnOnce(&mut ClassRule)) {
            let mut rule = Config::default().classes.remove("hourly").unwrap();
            change(&mut rule);
            let path = StorePath::decode("hourly").unwrap();
            self.tell(0, Event::Class { id: 2, path, rule }).unwrap();
        }

        fn seal(&mut self, name: &str, sealed_ms: i64, retain_until_ms: i64) -> u64 {
            let id = self.0.next_id;
            let path = StorePath::decode(&format!("hourly/{name}")).unwrap();
            let event = Event::Sealed {
                id,
                path,
                size: 1,
                sha256: Digest::ZERO,
                mode: 0o644,
                uid: 0,
                gid: 0,
                mtime_ns: 0,
                retain_until_ms,
                committed: false,
                governance: false,
            };
            self.tell(sealed_ms, event).unwrap();
            id
        }

        fn remove(&mut self, id: u64, now_ms: i64) -> Result<(), Inconsistent> {
            let (path, why) = (self.0.path(id), "expired".to_owned());
            self.tell(now_ms, Event::Removed { id, path, why, uid: None, login_uid: None })
        }
    }

    fn line(seq: u64, clock_ms: i64, event: Event) -> Line {
        Line { seq, prev: Digest::ZERO, clock_ms, time: String::new(), event }
    }

    #[test]
    fn a_group_ends_together_at_its_latest_end() {
        let mut told = Told::new();
        let main = told.seal("a", 0, 10);
        let digest = told.seal("a.sha256", 1, 30);
        let alone = told.seal("z", 2, 10);
        assert_eq!((told.0.end_of(main), told.0.end_of(digest)), (Some(30), Some(30)));
        assert_eq!(told.0.over(10), [[alone]]);
        assert_eq!(told.0.over(30), [vec![main, digest], vec![alone]]);
    }

    #[test]
    fn a_sidecar_of_a_sidecar_is_on_its_own() {
        let mut told = Told::new();
        let main = told.seal("a", 0, 10);
        let digest = told.seal("a.sha256", 1, 10);
        told.seal("a.sha256.sha256", 2, 99);
        assert_eq!(told.0.over(10), [[main, digest]]);
    }

    #[test]
    fn a_later_rule_does_not_tear_a_group_apart() {
        let mut told = Told::new();
        let main = told.seal("a", 0, 10);
        told.seal("a.sha256", 1, 30);
        told.rule(|rule| rule.sidecars.clear());
        assert_eq!(told.0.end_of(main), Some(30));
        let other = told.seal("b", 2, 10);
        told.seal("b.sha256", 3, 30);
        assert_eq!(told.0.end_of(other), Some(10), "the new rule knows no sidecars");
    }

    #[test]
    fn the_newest_whole_backup_is_protected() {
        let mut told = Told::new();
        let old = told.seal("a", 0, 10);
        let of_old = told.seal("a.manifest.json", 1, 10);
        let new = told.seal("b", 2, 10);
        let of_new = told.seal("b.manifest.json", 3, 10);
        let alone = told.seal("c", 4, 10);
        assert_eq!(told.0.over(99), [vec![old, of_old], vec![alone]]);
        assert!(told.0.is_protected(new) && told.0.is_protected(of_new));
        assert!(!told.0.is_protected(old) && !told.0.is_protected(alone));
    }

    /// The two ways to ask, for every directory at once and for one file, agree.
    #[test]
    fn a_file_is_protected_when_its_group_is() {
        for keep_last in 0..4 {
            let mut told = Told::new();
            told.rule(|rule| rule.keep_last = keep_last);
            // Names in another order than times, and two of one moment.
            for (name, at) in [("d", 0), ("a", 2), ("c", 4), ("b", 4), ("e", 6)] {
                told.seal(name, at, 10);
                if name != "e" {
                    told.seal(&format!("{name}.manifest.json"), at + 1, 10);
                }
            }
            let groups = told.0.groups_in(told.0.get_directory(2).unwrap());
            let protected = retention::protected(&groups, keep_last);
            assert_eq!(protected.len(), keep_last);
            for group in groups {
                let expected = protected.contains(&group.files[0]);
                for id in group.files {
                    assert_eq!(
                        told.0.is_protected(id),
                        expected,
                        "{keep_last} {}",
                        told.0.path(id)
                    );
                }
            }
        }
    }

    #[test]
    fn a_removal_before_the_end_contradicts_the_ledger() {
        let mut told = Told::new();
        let main = told.seal("a", 0, 10);
        let digest = told.seal("a.sha256", 1, 30);
        assert!(told.remove(main, 29).is_err());
        told.remove(digest, 30).unwrap();
        told.remove(main, 30).unwrap();
        assert!(told.0.find(&StorePath::decode("hourly/a").unwrap()).is_none());
    }
}
