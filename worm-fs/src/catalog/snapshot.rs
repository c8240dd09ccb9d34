//! PURE: a catalog as lines of text, and back. What is alive can so be known without reading the
//! ledger from its first line. Each line is a JSON object with one key, which says what it is: first
//! `snapshot`, then `credit`, `removed`, `hold`, `usage`, `directory` (parents before what is in them)
//! and `file`. The same catalog always gives the same bytes.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::collections::HashMap;

use serde::Deserialize;
use serde::Serialize;

use super::Catalog;
use super::Directory;
use super::File;
use super::Hold;
use super::Node;
use super::Pass;
use super::ROOT;
use super::Usage;
use crate::clock::Anchor;
use crate::clock::Credit;
use crate::policy::name::StorePath;
use crate::record::Digest;
use crate::record::FORMAT;
use crate::record::Snapshot;

/// A line of a snapshot.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Row<'a> {
    Snapshot(Box<Header>),
    Credit(Credit),
    Removed(StorePath, u64),
    Hold(u64, Cow<'a, Hold>),
    Usage(u64, Cow<'a, Usage>),
    Directory(u64, Cow<'a, Directory>),
    File(u64, Cow<'a, File>),
}

/// The first line.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Header {
    format: u32,
    store: String,
    key: String,
    seq: u64,
    head: Digest,
    anchor: Anchor,
    uncredited_ms: i64,
    /// What was read again.
    pass: Pass,
    next_id: u64,
    /// The snapshot recorded before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    before: Option<Snapshot>,
    /// How many lines follow.
    rows: u64,
}

impl Catalog {
    /// The catalog as lines, each with its newline.
    pub fn encode(&self) -> impl Iterator<Item = Result<Vec<u8>, String>> {
        // Whatever is added to the catalog must be added here.
        let Self {
            store,
            key,
            next_id,
            seq,
            head,
            anchor,
            credits,
            removed,
            snapshot,
            nodes,
            holds,
            uncredited_ms,
            pass,
            usage,
        } = self;
        let holds = holds.iter().flat_map(|(id, holds)| holds.iter().map(|hold| (*id, hold)));
        let few = credits.len() + removed.len() + holds.clone().count() + usage.len();
        let rows = few + nodes.len();
        let header = Header {
            format: FORMAT,
            store: store.clone(),
            key: key.clone(),
            seq: *seq,
            head: *head,
            anchor: anchor.clone(),
            uncredited_ms: *uncredited_ms,
            pass: pass.clone(),
            next_id: *next_id,
            before: snapshot.clone(),
            rows: rows as u64,
        };
        let mut removed: Vec<_> = removed.iter().collect();
        removed.sort();
        let directories = self.parents_first();
        let files: Vec<u64> = directories.iter().flat_map(|id| self.files_in(*id)).collect();
        std::iter::once(Row::Snapshot(Box::new(header)))
            .chain(credits.iter().map(|credit| Row::Credit(*credit)))
            .chain(removed.into_iter().map(|(path, size)| Row::Removed(path.clone(), *size)))
            .chain(holds.map(|(id, hold)| Row::Hold(id, Cow::Borrowed(hold))))
            .chain(usage.iter().map(|(id, usage)| Row::Usage(*id, Cow::Borrowed(usage))))
            .chain(
                directories.into_iter().filter_map(|id| {
                    Some(Row::Directory(id, Cow::Borrowed(self.get_directory(id)?)))
                }),
            )
            .chain(
                files
                    .into_iter()
                    .filter_map(|id| Some(Row::File(id, Cow::Borrowed(self.get_file(id)?)))),
            )
            .map(|row| {
                let mut line = serde_json::to_vec(&row).map_err(|error| error.to_string())?;
                line.push(b'\n');
                Ok(line)
            })
    }

    /// All directories, each after the one that it is in.
    fn parents_first(&self) -> Vec<u64> {
        let (mut order, mut at) = (vec![ROOT], 0);
        while let Some(id) = order.get(at) {
            let children = self.get_directory(*id).map(|directory| directory.children.values());
            let inside = children.into_iter().flatten().copied();
            let inside: Vec<u64> = inside.filter(|id| self.get_directory(*id).is_some()).collect();
            order.extend(inside);
            at += 1;
        }
        order
    }

    fn files_in(&self, directory: u64) -> impl Iterator<Item = u64> {
        let children = self.get_directory(directory).map(|directory| directory.children.values());
        children.into_iter().flatten().copied().filter(|id| self.get_file(*id).is_some())
    }
}

/// Reads a snapshot line by line.
#[derive(Debug, Default)]
pub(crate) struct Decoder {
    catalog: Option<Catalog>,
    rows: u64,
    read: u64,
}

impl Decoder {
    /// Takes the next line, with or without its newline.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(crate) fn line(&mut self, bytes: &[u8]) -> Result<(), String> {
        let row = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
        let Some(catalog) = &mut self.catalog else {
            let Row::Snapshot(header) = row else {
                return Err("its first line is not the one that says what it is".to_owned());
            };
            self.rows = header.rows;
            self.catalog = Some(begin(*header)?);
            return Ok(());
        };
        self.read += 1;
        match row {
            Row::Snapshot(_) => Err("it begins twice".to_owned()),
            Row::Credit(credit) => {
                catalog.credits.push(credit);
                Ok(())
            }
            Row::Removed(path, size) => {
                catalog.removed.insert(path, size);
                Ok(())
            }
            Row::Hold(id, hold) => {
                catalog.holds.entry(id).or_default().push(hold.into_owned());
                Ok(())
            }
            Row::Usage(id, usage) => match catalog.usage.insert(id, usage.into_owned()) {
                None => Ok(()),
                Some(_) => Err(format!("the usage of class {id} comes twice")),
            },
            Row::Directory(id, directory) => {
                let directory = directory.into_owned();
                let name = directory.name.clone();
                if (id == ROOT) != name.is_none() {
                    return Err(format!("directory {id} cannot have that name"));
                }
                let parent = directory.parent;
                catalog.put(id, parent, name, Node::Directory(directory))
            }
            Row::File(id, file) => {
                let file = file.into_owned();
                let (parent, name) = (file.parent, Some(file.name.clone()));
                catalog.put(id, parent, name, Node::File(file))
            }
        }
    }

    /// What all the lines amount to.
    ///
    /// # Errors
    /// When it is not whole.
    pub(crate) fn finish(self) -> Result<Catalog, String> {
        let Some(mut catalog) = self.catalog else { return Err("it is empty".to_owned()) };
        if self.read != self.rows || catalog.get_directory(ROOT).is_none() {
            return Err(format!("{} of its {} lines are there", self.read, self.rows));
        }
        let groups: Vec<(u64, Vec<u64>)> = catalog
            .files()
            .filter(|(_, file)| !file.sidecars.is_empty())
            .map(|(id, file)| (id, file.sidecars.clone()))
            .collect();
        for (main, sidecars) in groups {
            for sidecar in sidecars {
                let Some(Node::File(file)) = catalog.nodes.get_mut(&sidecar) else {
                    return Err(format!("sidecar {sidecar} of {main} is not there"));
                };
                file.main = Some(main);
            }
        }
        Ok(catalog)
    }
}

fn begin(header: Header) -> Result<Catalog, String> {
    let Header {
        format,
        store,
        key,
        seq,
        head,
        anchor,
        uncredited_ms,
        pass,
        next_id,
        before,
        rows: _,
    } = header;
    if format > FORMAT {
        return Err(format!("its format {format} is of a newer version"));
    }
    Ok(Catalog {
        store,
        key,
        next_id,
        seq,
        head,
        anchor,
        credits: Vec::new(),
        removed: HashMap::new(),
        snapshot: before,
        nodes: HashMap::new(),
        holds: BTreeMap::new(),
        uncredited_ms,
        pass,
        usage: BTreeMap::new(),
    })
}

impl Catalog {
    /// Puts something where it was.
    fn put(
        &mut self,
        id: u64,
        parent: u64,
        name: Option<crate::policy::name::Name>,
        node: Node,
    ) -> Result<(), String> {
        if self.nodes.contains_key(&id) {
            return Err(format!("number {id} comes twice"));
        }
        if let Some(name) = name {
            let parent = self.directory_mut(parent).ok_or_else(|| format!("{id} lies nowhere"))?;
            if parent.children.insert(name, id).is_some() {
                return Err(format!("{id} has the name of another"));
            }
        }
        self.nodes.insert(id, node);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::any;
    use proptest::prelude::prop_assert_eq;
    use proptest::proptest;

    use super::*;
    use crate::clock::Reading;
    use crate::config::Config;
    use crate::record::Event;
    use crate::record::Line;

    /// Names that meet each other: mains, sidecars, sidecars of sidecars, odd bytes.
    const NAMES: [&str; 8] =
        ["a", "a.sha256", "a.manifest.json", "b", "b.manifest.json", "dir", "dir/a", "dir/odd %FF"];

    fn line(catalog: Option<&Catalog>, clock_ms: i64, event: Event) -> Line {
        let (seq, prev) = catalog.map_or((0, Digest::ZERO), |catalog| (catalog.seq, catalog.head));
        let time = crate::clock::rfc3339(1_768_694_400_000 + clock_ms);
        Line { seq: seq + 1, prev, clock_ms, time, event }
    }

    fn tell(catalog: &mut Catalog, clock_ms: i64, event: Event) {
        let line = line(Some(catalog), clock_ms, event);
        // What cannot be followed is not written, either.
        drop(catalog.apply(&line, Digest::of(&line.encode().unwrap())));
    }

    fn reading(raw_ms: i64) -> Reading {
        Reading { boot: format!("boot-{}", raw_ms / 40), raw_ms, suspend_ms: 1, system_ms: raw_ms }
    }

    /// A store with class `hourly`, after something happened for each of the numbers.
    fn catalog(happened: &[(u8, u8)]) -> Catalog {
        let (store, key) = ("ab12".to_owned(), "k".to_owned());
        let created = Event::Created { format: FORMAT, store, key, reading: reading(0) };
        let first = line(None, 0, created);
        let mut catalog = Catalog::new(&first).unwrap();
        catalog.apply(&first, Digest::of(b"1")).unwrap();
        for ((what, which), now) in [(0, 0)].iter().chain(happened).zip(1..) {
            let event = event(&catalog, *what, *which, now);
            tell(&mut catalog, now, event);
        }
        catalog
    }

    fn event(catalog: &Catalog, what: u8, which: u8, now: i64) -> Event {
        let name = NAMES[usize::from(which) % NAMES.len()];
        let path = StorePath::decode(&format!("hourly/{name}")).unwrap();
        let id = catalog.find(&path).unwrap_or(catalog.next_id);
        let (mode, uid, gid, size) = (0o640, 7, 8, u64::from(which));
        let (mtime_ns, retain_until_ms) = (now * 1000 + 1, now + i64::from(which % 16));
        let by = crate::record::Actor { uid: 1, login_uid: Some(2) };
        let (hold, reason) = (format!("hold {}", which % 2), "why".to_owned());
        match what % 14 {
            0 => {
                let mut rule = Config::default().classes.remove("hourly").unwrap();
                rule.keep_last = usize::from(which % 3);
                let path = StorePath::decode("hourly").unwrap();
                Event::Class { id: catalog.find(&path).unwrap_or(catalog.next_id), path, rule }
            }
            1 => Event::DirectoryMade { id, path, mode, uid, gid },
            2 => Event::DirectoryChanged { id, mode, uid, gid: 99 },
            3 => Event::DirectoryRemoved { id, path, uid },
            4 => {
                let path = StorePath::decode(&format!("hourly/.incomplete/x.{id}")).unwrap();
                let (meant, why) = (path.clone(), "because".to_owned());
                let id = catalog.next_id;
                Event::Incomplete {
                    id,
                    path,
                    meant,
                    size,
                    mode,
                    uid,
                    gid,
                    mtime_ns,
                    retain_until_ms,
                    why,
                }
            }
            5 => Event::Extended { id, path, retain_until_ms, by, reason: None },
            6 => Event::Removed { id, path, why: "expired".to_owned(), uid: None },
            7 => {
                let credit_ms = i64::from(which);
                let (version, reading) = ("0".to_owned(), reading(now));
                Event::Started { version, reading, credit_ms, unsigned: 0 }
            }
            8 => {
                let sha256 = Digest::of(&[which]);
                Event::Snapshot(Snapshot { number: 1, up_to: 1, sha256, bytes: 9 })
            }
            9 => Event::Held { id, path, hold, reason, by },
            10 => Event::HoldLifted { id, path, hold, reason, by },
            11 => Event::Released { id, path, reason, by },
            13 => Event::ClockCredited { reading: reading(now), credit_ms: 1, reason, by },
            _ => {
                let (sha256, governance) = (Digest::of(&[which]), which.is_multiple_of(3));
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
                    committed: true,
                    governance,
                }
            }
        }
    }

    fn decode(lines: &[Vec<u8>]) -> Result<Catalog, String> {
        let mut decoder = Decoder::default();
        for line in lines {
            decoder.line(line)?;
        }
        decoder.finish()
    }

    fn encode(catalog: &Catalog) -> Vec<Vec<u8>> {
        catalog.encode().map(Result::unwrap).collect()
    }

    fn over(catalog: &Catalog, now: i64) -> Vec<Vec<u64>> {
        let mut groups = catalog.over(now);
        groups.sort();
        groups
    }

    proptest! {
        /// What comes back is the same in every respect, and goes on in the same way.
        #[test]
        fn a_catalog_survives_its_snapshot(
            happened in vec((any::<u8>(), any::<u8>()), 0..60),
            after in vec((any::<u8>(), any::<u8>()), 0..10),
        ) {
            let mut catalog = catalog(&happened);
            let lines = encode(&catalog);
            let mut decoded = decode(&lines).unwrap();
            prop_assert_eq!(&decoded, &catalog);
            prop_assert_eq!(encode(&decoded), lines);
            for ((what, which), now) in after.iter().zip(100..) {
                let event = event(&catalog, *what, *which, now);
                tell(&mut catalog, now, event.clone());
                tell(&mut decoded, now, event);
                prop_assert_eq!(over(&decoded, now), over(&catalog, now));
            }
            prop_assert_eq!(&decoded, &catalog);
        }
    }

    /// A group with a sidecar in a directory, something protected, removed and credited.
    fn full() -> Catalog {
        let catalog = catalog(&[
            (1, 5),
            (12, 16 + 8),
            (12, 16 + 9),
            (12, 16 + 10),
            (12, 14),
            (12, 0),
            (12, 3),
            (4, 0),
            (7, 3),
            (12, 15),
            (6, 3),
            (9, 14),
        ]);
        let id = |path: &str| catalog.find(&StorePath::decode(path).unwrap());
        assert_eq!(catalog.group_of(id("hourly/a.sha256").unwrap()).len(), 3);
        assert!(id("hourly/dir/a").is_some() && id("hourly/dir/odd %FF").is_some());
        assert_eq!(catalog.holds.len(), 1);
        assert!(!catalog.removed.is_empty() && !catalog.credits.is_empty());
        catalog
    }

    #[test]
    fn a_snapshot_that_lacks_a_line_is_none() {
        let lines = encode(&full());
        decode(&lines).unwrap();
        for missing in 0..lines.len() {
            let mut lines = lines.clone();
            lines.remove(missing);
            assert!(decode(&lines).is_err(), "line {}", missing + 1);
        }
        for twice in 0..lines.len() {
            let mut lines = lines.clone();
            lines.insert(twice, lines[twice].clone());
            assert!(decode(&lines).is_err(), "line {} twice", twice + 1);
        }
    }

    #[test]
    fn what_this_version_does_not_know_is_not_passed_over() {
        for (was, is) in [
            ("{\"file\":", "{\"hologram\":"),
            ("\"size\":", "\"held_by\":[],\"size\":"),
            ("\"format\":1", "\"format\":2"),
            ("\"rows\":", "\"mood\":1,\"rows\":"),
        ] {
            let mut changed = 0;
            let lines: Vec<_> = encode(&full())
                .into_iter()
                .map(|line| String::from_utf8(line).unwrap())
                .inspect(|line| changed += usize::from(line.contains(was)))
                .map(|line| line.replace(was, is).into_bytes())
                .collect();
            assert!(decode(&lines).is_err() && changed > 0, "{was}");
        }
    }
}
