//! After a start: what the ledger says is alive, compared with what is on the disk. [`plan`] is
//! PURE; it never plans to remove a file that the ledger did not see removed.

use std::collections::BTreeMap;

use super::files::Found;
use super::layout::OpenName;
use crate::catalog::Catalog;
use crate::policy::name::StorePath;

/// One thing to put right, or to tell somebody about.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Repair {
    /// A directory of the ledger is not on the disk: make it.
    MakeDirectory(StorePath),
    /// A directory on the disk is not in the ledger: remove it if it is empty.
    RemoveDirectory(StorePath),
    /// A file was removed by the ledger, and the crash came before its data went.
    FinishRemoval(StorePath),
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
    /// Nobody recorded this: it keeps its name taken and is never served or removed.
    Stray(StorePath),
    /// The data of a finished file is gone.
    Missing(u64),
    /// The data of a finished file is not as long as it was.
    WrongSize {
        /// Its number.
        id: u64,
        /// Its length now.
        bytes: u64,
    },
    /// Something in `open/` that is not ours.
    StrayOpen(Vec<u8>),
}

/// What has to be done so that the disk is what the ledger says, in the order in which to do it.
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
    for (path, found) in data.iter().rev() {
        repairs.extend(of_data(catalog, path, *found));
    }
    let mut in_open = std::collections::HashSet::new();
    for (name, bytes) in open {
        match OpenName::decode(name) {
            Some(open) if catalog.get_file(open.id).is_some() => {
                in_open.insert(open.id);
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
    let gone = catalog
        .files()
        .filter(|(id, _)| !in_open.contains(id) && !data.contains_key(&catalog.path(*id)))
        .map(|(id, _)| Repair::Missing(id));
    repairs.extend(gone);
    repairs
}

fn of_data(catalog: &Catalog, path: &StorePath, found: Found) -> Option<Repair> {
    let id = catalog.find(path);
    match found {
        Found::Directory if id.is_none() => Some(Repair::RemoveDirectory(path.clone())),
        Found::Directory => None,
        Found::File(bytes) => match id.and_then(|id| Some((id, catalog.get_file(id)?))) {
            Some((_, file)) if file.size == bytes => None,
            Some((id, _)) => Some(Repair::WrongSize { id, bytes }),
            None if catalog.removed.get(path) == Some(&bytes) => {
                Some(Repair::FinishRemoval(path.clone()))
            }
            None => Some(Repair::Stray(path.clone())),
        },
        Found::Other => Some(Repair::Stray(path.clone())),
    }
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
        Event::Removed { id, path: path(at), why: "expired".into(), uid: None }
    }

    #[track_caller]
    fn check(
        events: Vec<Event>,
        open: &[(&str, u64)],
        data: &[(&str, Found)],
        expected: &[Repair],
    ) {
        let open: Vec<_> = open.iter().map(|(n, b)| (n.as_bytes().to_vec(), *b)).collect();
        let mut found: BTreeMap<_, _> = data.iter().map(|(p, f)| (path(p), *f)).collect();
        found.insert(path("hourly"), Found::Directory);
        found.insert(path("hourly/.incomplete"), Found::Directory);
        assert_eq!(plan(&catalog(events), &open, &found), expected);
    }

    #[test]
    fn a_whole_store_needs_nothing() {
        check(vec![sealed(4, "hourly/a", 3)], &[], &[("hourly/a", Found::File(3))], &[]);
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
        );
    }

    #[test]
    fn a_file_with_two_names_loses_the_old_one() {
        check(
            vec![sealed(4, "hourly/a", 3)],
            &[("4.2.a", 3)],
            &[("hourly/a", Found::File(3))],
            &[Repair::Forget { from: b"4.2.a".to_vec(), path: path("hourly/a") }],
        );
    }

    #[test]
    fn only_what_the_ledger_removed_is_removed() {
        check(
            vec![sealed(4, "hourly/a", 3), removed(4, "hourly/a")],
            &[],
            &[
                ("hourly/a", Found::File(3)),
                ("hourly/b", Found::File(3)),
                ("hourly/c", Found::Other),
            ],
            &[
                Repair::Stray(path("hourly/c")),
                Repair::Stray(path("hourly/b")),
                Repair::FinishRemoval(path("hourly/a")),
            ],
        );
        // A name that was taken again is the new file's.
        check(
            vec![sealed(4, "hourly/a", 3), removed(4, "hourly/a"), sealed(5, "hourly/a", 3)],
            &[],
            &[("hourly/a", Found::File(3))],
            &[],
        );
        // Not what was removed.
        check(
            vec![sealed(4, "hourly/a", 3), removed(4, "hourly/a")],
            &[],
            &[("hourly/a", Found::File(4))],
            &[Repair::Stray(path("hourly/a"))],
        );
    }

    #[test]
    fn what_is_gone_or_cut_raises_an_alarm() {
        check(
            vec![sealed(4, "hourly/a", 3), sealed(5, "hourly/b", 3)],
            &[],
            &[("hourly/b", Found::File(2))],
            &[Repair::WrongSize { id: 5, bytes: 2 }, Repair::Missing(4)],
        );
    }
}
