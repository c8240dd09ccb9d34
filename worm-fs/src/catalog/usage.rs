//! PURE: what each class has of what is limited, kept up with every line.

use serde::Deserialize;
use serde::Serialize;

use super::Catalog;
use crate::policy::limits::Amounts;
use crate::policy::limits::Day;
use crate::policy::limits::ENTRY_BYTES;
use crate::policy::limits::LINE_BYTES;
use crate::policy::limits::LINE_BYTES_PER_PATH_BYTE;
use crate::policy::limits::Limit;
use crate::policy::name::StorePath;
use crate::record::Event;

/// What a class has, as far as the ledger knows: without the files that are being written.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
pub struct Usage {
    /// Finished files.
    files: u64,
    /// Directories.
    directories: u64,
    /// Bytes of both.
    bytes: u64,
    /// Bytes of the lines about them, those included that are gone: no line is ever removed.
    line_bytes: u64,
    /// What came in within the last day.
    day: Day,
}

impl Usage {
    /// What it has at a moment of the retention clock.
    #[must_use]
    pub fn amounts(&self, now_ms: i64) -> Amounts {
        self.day
            .amounts(now_ms)
            .with(Limit::Files, self.files)
            .with(Limit::Directories, self.directories)
            .with(Limit::Bytes, self.bytes.saturating_add(self.line_bytes))
    }
}

/// What a line does to the usage of a class.
#[derive(Clone, Copy, Debug)]
pub(super) enum Effect {
    /// A file is there.
    File(u64),
    /// A file has grown.
    Growth(u64),
    /// A directory is there.
    Directory,
    /// A file is gone.
    FileGone(u64),
    /// A directory is gone.
    DirectoryGone,
    /// Something about a file or directory changed.
    Change,
}

impl Catalog {
    /// What a class has at a moment of the retention clock, files that are being written aside.
    #[must_use]
    pub fn usage(&self, class: u64, now_ms: i64) -> Amounts {
        self.usage.get(&class).map_or(Amounts::NONE, |usage| usage.amounts(now_ms))
    }

    /// Which class an event that can be followed touches, and how. To be asked before it is
    /// followed: afterwards nobody knows how long a removed file was.
    pub(super) fn effect(&self, event: &Event) -> Option<(u64, Effect, u64)> {
        let (id, path) = event.subject()?;
        let effect = match event {
            Event::Sealed { size, .. } | Event::Incomplete { size, .. } => Effect::File(*size),
            Event::LogMade { .. } => Effect::File(0),
            Event::Appended { size, .. } => {
                Effect::Growth(size.saturating_sub(self.get_file(id)?.size))
            }
            Event::DirectoryMade { .. } => Effect::Directory,
            Event::Removed { .. } => Effect::FileGone(self.get_file(id)?.size),
            Event::DirectoryRemoved { .. } => Effect::DirectoryGone,
            Event::DirectoryChanged { .. } | Event::Extended { .. } => Effect::Change,
            Event::Created { .. }
            | Event::Started { .. }
            | Event::Clock { .. }
            | Event::Snapshot(_)
            | Event::Scrubbed { .. }
            | Event::ClockCredited { .. }
            | Event::KeyChanged { .. }
            | Event::Class { .. }
            | Event::Held { .. }
            | Event::HoldLifted { .. }
            // What only the admin does is not the doing of who writes.
            | Event::Released { .. } => return None,
        };
        let mut paths = path.map_or(0, |path| path.as_bytes().len());
        if let Event::Incomplete { meant, .. } = event {
            paths += meant.as_bytes().len();
        }
        let line_bytes = LINE_BYTES + LINE_BYTES_PER_PATH_BYTE * paths as u64;
        // Something new has no number yet: its path begins with its class.
        let named = || {
            let class = path?.components().next()?;
            self.find(&StorePath::root().join(class))
        };
        let class = named().or_else(|| self.class_of(id).map(|(class, _)| class))?;
        Some((class, effect, line_bytes))
    }

    /// Keeps the usage of a class up.
    pub(super) fn account(&mut self, now_ms: i64, (class, effect, line_bytes): (u64, Effect, u64)) {
        let usage = self.usage.entry(class).or_default();
        usage.line_bytes = usage.line_bytes.saturating_add(line_bytes);
        match effect {
            Effect::File(size) => {
                usage.files += 1;
                usage.bytes = usage.bytes.saturating_add(ENTRY_BYTES).saturating_add(size);
                usage.day.add(now_ms, 1, size);
            }
            Effect::Growth(bytes) => {
                usage.bytes = usage.bytes.saturating_add(bytes);
                usage.day.add(now_ms, 0, bytes);
            }
            Effect::Directory => {
                usage.directories += 1;
                usage.bytes = usage.bytes.saturating_add(ENTRY_BYTES);
                usage.day.add(now_ms, 1, 0);
            }
            Effect::FileGone(size) => {
                usage.files = usage.files.saturating_sub(1);
                usage.bytes = usage.bytes.saturating_sub(ENTRY_BYTES).saturating_sub(size);
            }
            Effect::DirectoryGone => {
                usage.directories = usage.directories.saturating_sub(1);
                usage.bytes = usage.bytes.saturating_sub(ENTRY_BYTES);
            }
            Effect::Change => usage.day.add(now_ms, 1, 0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::DAY_MS;
    use crate::clock::HOUR_MS;
    use crate::clock::Reading;
    use crate::config::Config;
    use crate::record::Actor;
    use crate::record::Digest;
    use crate::record::FORMAT;
    use crate::record::Line;

    fn path(text: &str) -> StorePath {
        StorePath::decode(text).unwrap()
    }

    fn tell(catalog: &mut Catalog, clock_ms: i64, event: Event) {
        let (seq, time) = (catalog.seq + 1, String::new());
        let line = Line { seq, prev: Digest::ZERO, clock_ms, time, event };
        catalog.apply(&line, Digest::ZERO).unwrap();
    }

    /// A store with the classes `hourly` (2) and `daily` (4).
    fn catalog() -> Catalog {
        let reading = Reading { boot: "b".into(), raw_ms: 0, suspend_ms: 0, system_ms: 0 };
        let (store, key) = ("s".into(), "k".into());
        let event = Event::Created { format: FORMAT, store, key, reading };
        let (prev, time) = (Digest::ZERO, String::new());
        let mut catalog = Catalog::new(&Line { seq: 1, prev, clock_ms: 0, time, event }).unwrap();
        for (id, name) in [(2, "hourly"), (4, "daily")] {
            let rule = Config::default().classes.remove(name).unwrap();
            tell(&mut catalog, 0, Event::Class { id, path: path(name), rule });
        }
        catalog
    }

    fn sealed(id: u64, name: &str, size: u64) -> Event {
        let (path, sha256, retain_until_ms) = (path(name), Digest::ZERO, 0);
        let (mode, uid, gid, mtime_ns, committed) = (0, 0, 0, 0, true);
        Event::Sealed {
            id,
            path,
            size,
            sha256,
            mode,
            uid,
            gid,
            mtime_ns,
            retain_until_ms,
            committed,
            governance: false,
        }
    }

    fn line_bytes(paths: &[&str]) -> u64 {
        512 + 3 * paths.iter().map(|path| path.len() as u64).sum::<u64>()
    }

    #[test]
    fn each_line_is_counted_for_its_class_and_what_goes_leaves_only_its_lines() {
        let mut catalog = catalog();
        assert_eq!(catalog.usage(2, 0), Amounts::NONE);
        let (made, changed) = ((10, path("hourly/d")), (1, 2, 3));
        let (id, path) = made;
        let (mode, uid, gid) = changed;
        tell(&mut catalog, 0, Event::DirectoryMade { id, path: path.clone(), mode, uid, gid });
        tell(&mut catalog, 0, Event::DirectoryChanged { id, mode, uid, gid });
        tell(&mut catalog, 0, sealed(11, "hourly/d/x", 1000));
        let (until, by) = (DAY_MS, Actor::user(0));
        let file = self::path("hourly/d/x");
        let extended = |retain_until_ms| {
            let path = file.clone();
            Event::Extended { id: 11, path, retain_until_ms, by, reason: None }
        };
        tell(&mut catalog, 0, extended(until));
        let lines = line_bytes(&["hourly/d"]) + line_bytes(&[]) + 2 * line_bytes(&["hourly/d/x"]);
        let all = Amounts::NONE
            .with(Limit::Files, 1)
            .with(Limit::Directories, 1)
            .with(Limit::Bytes, 1000 + 2 * 4096 + lines)
            .with(Limit::CreatesPerDay, 4)
            .with(Limit::BytesPerDay, 1000);
        assert_eq!(catalog.usage(2, 0), all);
        assert_eq!(catalog.usage(4, 0), Amounts::NONE, "another class");
        let gone = |path: StorePath| {
            let (why, uid, login_uid) = (String::new(), None, None);
            Event::Removed { id: 11, path, why, uid, login_uid }
        };
        tell(&mut catalog, until, gone(file.clone()));
        tell(&mut catalog, until, Event::DirectoryRemoved { id, path, uid: 0 });
        let lines = lines + line_bytes(&["hourly/d/x"]) + line_bytes(&["hourly/d"]);
        let left = catalog.usage(2, until + HOUR_MS);
        assert_eq!(left, Amounts::NONE.with(Limit::Bytes, lines));
    }

    #[test]
    fn a_log_counts_what_it_has_grown_and_each_line_about_it() {
        let mut catalog = catalog();
        let rule = Config::default().with_logs().unwrap().classes.remove("logs").unwrap();
        tell(&mut catalog, 0, Event::Class { id: 6, path: path("logs"), rule });
        let (id, sha256, retain_until_ms) = (9, Digest::ZERO, 0);
        let log = || path("logs/x");
        let (mode, uid, gid) = (0, 0, 0);
        let made = Event::LogMade { id, path: log(), mode, uid, gid, retain_until_ms };
        tell(&mut catalog, 0, made);
        for size in [7, 10] {
            let appended = Event::Appended { id, path: log(), size, sha256, retain_until_ms };
            tell(&mut catalog, 0, appended);
        }
        let all = Amounts::NONE
            .with(Limit::Files, 1)
            .with(Limit::Bytes, 10 + 4096 + 3 * line_bytes(&["logs/x"]))
            .with(Limit::CreatesPerDay, 1)
            .with(Limit::BytesPerDay, 10);
        assert_eq!(catalog.usage(6, 0), all);
    }

    #[test]
    fn what_was_given_up_counts_as_what_is_whole_does() {
        let mut catalog = catalog();
        let (path, meant) = (path("daily/.incomplete/x.9"), path("daily/x"));
        let incomplete = Event::Incomplete {
            id: 9,
            path,
            meant,
            size: 7,
            mode: 0,
            uid: 0,
            gid: 0,
            mtime_ns: 0,
            retain_until_ms: 0,
            why: String::new(),
        };
        tell(&mut catalog, 0, incomplete);
        let usage = catalog.usage(4, 0);
        let lines = line_bytes(&["daily/.incomplete/x.9", "daily/x"]);
        assert_eq!(usage.get(Limit::Bytes), 7 + 4096 + lines);
        let numbers = [Limit::Files, Limit::CreatesPerDay, Limit::BytesPerDay];
        assert_eq!(numbers.map(|limit| usage.get(limit)), [1, 1, 7]);
    }
}
