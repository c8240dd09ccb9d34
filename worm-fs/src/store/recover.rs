//! What the ledger says is alive, compared with what is on the disk. All of it is PURE; nothing here
//! plans to remove a file that the ledger did not see removed.
//!
//! [`plan`] is what must be done before anything is served; it needs to know of the disk what
//! [`wanted`] names. [`compare`] tells, behind that, what else is not as it should be.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::ops::Bound;

use super::files::Found;
use super::layout::OpenName;
use crate::catalog::Catalog;
use crate::policy::name::Name;
use crate::policy::name::StorePath;

/// One thing to put right before anything is served.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Repair {
    /// A directory of the ledger is not on the disk: make it.
    MakeDirectory(StorePath),
    /// A directory was removed by the ledger, and the crash came before it went.
    RemoveDirectory(StorePath),
    /// A file was removed by the ledger, and the crash came before its data went.
    FinishRemoval(StorePath),
    /// Something went from this directory, and the crash may have come before that was synced.
    Sync(StorePath),
    /// A file was sealed, and the crash came before it got its place.
    Publish {
        /// Its number.
        id: u64,
        /// Its name in `open/`.
        from: Vec<u8>,
    },
    /// A file has its place and its name in `open/`, too.
    Forget {
        /// Its name in `open/`.
        from: Vec<u8>,
        /// Its place.
        path: StorePath,
    },
    /// A file was never finished.
    GiveUp {
        /// Its name in `open/`.
        from: OpenName,
        /// Its length.
        bytes: u64,
    },
    /// Something stands in the place of a directory.
    Stray(StorePath),
    /// Something in `open/` that is not ours.
    StrayOpen(Vec<u8>),
}

/// One thing in `data/` that is not as the ledger says.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Difference {
    /// Nobody recorded this: it keeps its name taken and is never served or removed.
    Stray(Name),
    /// Nobody recorded this directory: a crash may have come before its record.
    StrayDirectory(Name),
    /// The data of a finished file is gone.
    Missing(u64),
    /// The data of a finished file is not as long as it was.
    WrongSize {
        /// Its number.
        id: u64,
        /// Its length now.
        bytes: u64,
    },
    /// Something else stands in the place of a finished file.
    NotAFile(u64),
}

/// What [`plan`] must know of the disk: directories, what was being removed, and the places of
/// what stands in `open/`. And how long logs are.
pub(crate) fn wanted(catalog: &Catalog, open: &[(Vec<u8>, u64)]) -> Vec<StorePath> {
    let directories = catalog.directories().map(|(id, _)| catalog.path(id));
    let places = open.iter().filter_map(|(name, _)| {
        let id = OpenName::decode(name)?.id;
        catalog.get_file(id).map(|_| catalog.path(id))
    });
    let logs = catalog.files().filter(|(id, _)| catalog.is_log(*id));
    let logs = logs.map(|(id, _)| catalog.path(id));
    let mut paths: Vec<_> =
        directories.chain(catalog.removed.keys().cloned()).chain(places).chain(logs).collect();
    paths.retain(|path| *path != StorePath::root());
    paths.sort();
    paths.dedup();
    paths
}

/// What has to be done before anything is served, in the order in which to do it.
pub(crate) fn plan(
    catalog: &Catalog,
    open: &[(Vec<u8>, u64)],
    data: &BTreeMap<StorePath, Found>,
) -> Vec<Repair> {
    let mut repairs = Vec::new();
    let mut directories: Vec<StorePath> = catalog
        .directories()
        .map(|(id, _)| catalog.path(id))
        .filter(|path| *path != StorePath::root())
        .collect();
    directories.sort();
    for path in &directories {
        match data.get(path) {
            Some(Found::Directory) => {}
            None => repairs.push(Repair::MakeDirectory(path.clone())),
            Some(Found::File(_) | Found::Other) => repairs.push(Repair::Stray(path.clone())),
        }
    }
    // From the leaves up, so that what becomes empty goes too.
    let mut removed: Vec<_> = catalog.removed.iter().collect();
    removed.sort();
    let mut gone_from = BTreeSet::new();
    for (path, size) in removed.into_iter().rev() {
        match data.get(path) {
            // A name that was taken again is the new one's.
            _ if catalog.find(path).is_some() => {}
            Some(Found::File(bytes)) if bytes == size => {
                repairs.push(Repair::FinishRemoval(path.clone()));
            }
            Some(Found::Directory) => repairs.push(Repair::RemoveDirectory(path.clone())),
            Some(Found::File(_) | Found::Other) => {}
            // It went, but who knows whether for good: the next line forgets that it was to go.
            None => drop(gone_from.insert(path.split().0)),
        }
    }
    gone_from.retain(|directory| catalog.find(directory).is_some());
    repairs.extend(gone_from.into_iter().map(Repair::Sync));
    for (name, bytes) in open {
        match OpenName::decode(name) {
            Some(open) if catalog.get_file(open.id).is_some() => {
                let (id, from, path) = (open.id, name.clone(), catalog.path(open.id));
                repairs.push(if data.contains_key(&path) {
                    Repair::Forget { from, path }
                } else {
                    Repair::Publish { id, from }
                });
            }
            Some(from) => repairs.push(Repair::GiveUp { from, bytes: *bytes }),
            None => repairs.push(Repair::StrayOpen(name.clone())),
        }
    }
    repairs
}

/// Compares a part of a directory: what stands on the disk there, by name, with what was recorded,
/// from after one name up to another. What is [`Difference::Missing`] may be on its way.
pub(crate) fn compare(
    catalog: &Catalog,
    directory: u64,
    part: (Bound<&Name>, Bound<&Name>),
    entries: &[(Name, Found)],
) -> Vec<Difference> {
    let Some(recorded) = catalog.get_directory(directory).map(|directory| &directory.children)
    else {
        return Vec::new();
    };
    let on_disk = entries.iter().filter_map(|(name, found)| {
        let file = recorded.get(name).map(|id| (*id, catalog.get_file(*id)));
        match (found, file) {
            (Found::File(_) | Found::Other, None) => Some(Difference::Stray(name.clone())),
            (Found::Directory, None) => Some(Difference::StrayDirectory(name.clone())),
            // A log grows, and its record comes before its data: it was looked at before.
            (Found::File(_), Some((id, Some(_)))) if catalog.is_log(id) => None,
            (Found::File(bytes), Some((id, Some(file)))) if file.size != *bytes => {
                Some(Difference::WrongSize { id, bytes: *bytes })
            }
            (Found::Directory | Found::Other, Some((id, Some(_)))) => {
                Some(Difference::NotAFile(id))
            }
            // What is a directory was looked at before anything was served.
            (Found::File(_), Some((_, Some(_)))) | (_, Some((_, None))) => None,
        }
    });
    let is_there = |name: &Name| entries.binary_search_by(|(there, _)| there.cmp(name)).is_ok();
    let gone = recorded
        .range::<Name, _>(part)
        .filter(|(name, id)| catalog.get_file(**id).is_some() && !is_there(name))
        .filter(|(_, id)| !catalog.is_log(**id))
        .map(|(_, id)| Difference::Missing(*id));
    on_disk.chain(gone).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Reading;
    use crate::config::Config;
    use crate::record::Digest;
    use crate::record::Event;
    use crate::record::Line;

    fn reading() -> Reading {
        Reading { boot: "b".into(), raw_ms: 0, suspend_ms: 0, system_ms: 0 }
    }

    /// A store with class `hourly` (2) and the given events after that.
    fn catalog(events: Vec<Event>) -> Catalog {
        let rule = Config::default().classes.remove("hourly").unwrap();
        let created =
            Event::Created { format: 1, store: "s".into(), key: "k".into(), reading: reading() };
        let class = Event::Class { id: 2, path: path("hourly"), rule };
        let all = [created, class].into_iter().chain(events);
        let mut catalog: Option<Catalog> = None;
        for (event, seq) in all.zip(1..) {
            let line = Line { seq, prev: Digest::ZERO, clock_ms: 0, time: String::new(), event };
            let state = match &mut catalog {
                Some(state) => state,
                None => catalog.insert(Catalog::new(&line).unwrap()),
            };
            state.apply(&line, Digest::ZERO).unwrap();
        }
        catalog.unwrap()
    }

    fn path(text: &str) -> StorePath {
        StorePath::decode(text).unwrap()
    }

    fn sealed(id: u64, at: &str, size: u64) -> Event {
        Event::Sealed {
            id,
            path: path(at),
            size,
            sha256: Digest::ZERO,
            mode: 0o644,
            uid: 0,
            gid: 0,
            mtime_ns: 0,
            retain_until_ms: 0,
            committed: false,
            governance: false,
        }
    }

    fn removed(id: u64, at: &str) -> Event {
        Event::Removed { id, path: path(at), why: "expired".into(), uid: None, login_uid: None }
    }

    /// What is put right before anything is served, and what is told behind that.
    #[track_caller]
    fn check(
        events: Vec<Event>,
        open: &[(&str, u64)],
        data: &[(&str, Found)],
        expected: &[Repair],
        told: &[Difference],
    ) {
        let catalog = catalog(events);
        let open: Vec<_> = open.iter().map(|(n, b)| (n.as_bytes().to_vec(), *b)).collect();
        let mut found: BTreeMap<_, _> = data.iter().map(|(p, f)| (path(p), *f)).collect();
        found.insert(path("hourly"), Found::Directory);
        found.insert(path("hourly/.incomplete"), Found::Directory);
        let wanted = wanted(&catalog, &open);
        let known = found.iter().filter(|(path, _)| wanted.contains(path));
        let known: BTreeMap<_, _> = known.map(|(path, found)| (path.clone(), *found)).collect();
        assert_eq!(plan(&catalog, &open, &known), expected);
        let inside = found.iter().filter(|(path, _)| path.split().0 == self::path("hourly"));
        let inside: Vec<_> =
            inside.map(|(path, found)| (Name::new(path.split().1).unwrap(), *found)).collect();
        let all = (Bound::Unbounded, Bound::Unbounded);
        assert_eq!(compare(&catalog, 2, all, &inside), told);
        // In parts it is the same.
        let mut parts = Vec::new();
        let mut before = Bound::Unbounded;
        for (at, entry) in inside.iter().enumerate() {
            let last = at + 1 == inside.len();
            let end = if last { Bound::Unbounded } else { Bound::Included(&entry.0) };
            parts.extend(compare(&catalog, 2, (before, end), &inside[at..=at]));
            before = Bound::Excluded(&entry.0);
        }
        assert!(parts.len() == told.len() && told.iter().all(|one| parts.contains(one)));
    }

    fn name(text: &str) -> Name {
        Name::new(text.as_bytes()).unwrap()
    }

    #[test]
    fn a_whole_store_needs_nothing() {
        check(vec![sealed(4, "hourly/a", 3)], &[], &[("hourly/a", Found::File(3))], &[], &[]);
    }

    #[test]
    fn a_sealed_file_gets_its_place_and_an_unfinished_one_is_given_up() {
        let from = OpenName::decode(b"5.2.b").unwrap();
        check(
            vec![sealed(4, "hourly/a", 3)],
            &[("4.2.a", 3), ("5.2.b", 1), ("x", 0)],
            &[],
            &[
                Repair::Publish { id: 4, from: b"4.2.a".to_vec() },
                Repair::GiveUp { from, bytes: 1 },
                Repair::StrayOpen(b"x".to_vec()),
            ],
            &[Difference::Missing(4)],
        );
    }

    #[test]
    fn a_file_with_two_names_loses_the_old_one() {
        check(
            vec![sealed(4, "hourly/a", 3)],
            &[("4.2.a", 3)],
            &[("hourly/a", Found::File(3))],
            &[Repair::Forget { from: b"4.2.a".to_vec(), path: path("hourly/a") }],
            &[],
        );
    }

    #[test]
    fn only_what_the_ledger_removed_is_removed() {
        let strays = ["a", "b", "c"].map(|text| Difference::Stray(name(text)));
        check(
            vec![sealed(4, "hourly/a", 3), removed(4, "hourly/a")],
            &[],
            &[
                ("hourly/a", Found::File(3)),
                ("hourly/b", Found::File(3)),
                ("hourly/c", Found::Other),
            ],
            &[Repair::FinishRemoval(path("hourly/a"))],
            &strays,
        );
        // What went may come back, as long as its directory was not synced.
        check(
            vec![sealed(4, "hourly/a", 3), removed(4, "hourly/a")],
            &[],
            &[],
            &[Repair::Sync(path("hourly"))],
            &[],
        );
        // A name that was taken again is the new file's.
        check(
            vec![sealed(4, "hourly/a", 3), removed(4, "hourly/a"), sealed(5, "hourly/a", 3)],
            &[],
            &[("hourly/a", Found::File(3))],
            &[],
            &[],
        );
        // Not what was removed.
        check(
            vec![sealed(4, "hourly/a", 3), removed(4, "hourly/a")],
            &[],
            &[("hourly/a", Found::File(4))],
            &[],
            &strays[..1],
        );
    }

    #[test]
    fn what_was_not_removed_is_tried_again_until_it_is() {
        let started = |unremoved| Event::Started {
            version: "v".into(),
            reading: reading(),
            credit_ms: 0,
            unsigned: 0,
            unremoved,
        };
        let gone = [sealed(4, "hourly/a", 3), removed(4, "hourly/a")];
        let after = |starts: &[u64]| {
            gone.iter().cloned().chain(starts.iter().map(|left| started(*left))).collect()
        };
        let data = [("hourly/a", Found::File(3))];
        let stray = [Difference::Stray(name("a"))];
        let again = [Repair::FinishRemoval(path("hourly/a"))];
        check(after(&[1, 1]), &[], &data, &again, &stray);
        // Whoever put it there after all was gone: it was not we.
        check(after(&[1, 0]), &[], &data, &[], &stray);
    }

    #[test]
    fn what_is_gone_cut_or_something_else_is_told() {
        check(
            vec![sealed(4, "hourly/a", 3), sealed(5, "hourly/b", 3), sealed(6, "hourly/c", 3)],
            &[],
            &[
                ("hourly/b", Found::File(2)),
                ("hourly/c", Found::Directory),
                ("hourly/d", Found::Directory),
            ],
            &[],
            &[
                Difference::WrongSize { id: 5, bytes: 2 },
                Difference::NotAFile(6),
                Difference::StrayDirectory(name("d")),
                Difference::Missing(4),
            ],
        );
    }
}
