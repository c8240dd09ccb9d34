//! PURE: a catalog as lines of text, and back. What is alive can so be known without reading the
//! ledger from its first line. Each line is a JSON object with one key, which says what it is: first
//! `snapshot`, then `key`, `credit`, `removed`, `hold`, `usage`, `directory` (parents before what is in them)
//! and `file`. The same catalog always gives the same bytes.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::collections::HashMap;
use std::num::NonZero;

use serde::Deserialize;
use serde::Serialize;

use super::Catalog;
use super::Directory;
use super::File;
use super::Hold;
use super::Pass;
use super::ROOT;
use super::Usage;
use crate::clock::Anchor;
use crate::clock::Credit;
use crate::policy::name::Name;
use crate::policy::name::StorePath;
use crate::record::Digest;
use crate::record::FORMAT;
use crate::record::KeyChange;
use crate::record::Keys;
use crate::record::Snapshot;

/// A line of a snapshot.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Row<'a> {
    Snapshot(Box<Header>),
    Key(Cow<'a, KeyChange>),
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
            keys,
            next_id,
            seq,
            head,
            anchor,
            credits,
            removed,
            snapshot,
            files,
            directories,
            holds,
            uncredited_ms,
            pass,
            usage,
        } = self;
        let holds = holds.iter().flat_map(|(id, holds)| holds.iter().map(|hold| (*id, hold)));
        let few = keys.changes().len()
            + credits.len()
            + removed.len()
            + holds.clone().count()
            + usage.len();
        let rows = few + files.len() + directories.len();
        let header = Header {
            format: FORMAT,
            store: store.clone(),
            key: keys.first().to_owned(),
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
            .chain(keys.changes().iter().map(|change| Row::Key(Cow::Borrowed(change))))
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
            // Each is signed by the one before it, the first by that of `store.json`.
            Row::Key(change) if change.seq > catalog.seq => {
                Err(format!("the key of line {} is of a later line", change.seq))
            }
            Row::Key(change) => catalog.keys.follow(change.into_owned()),
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
                catalog.put(id, directory.parent, name)?;
                catalog.directories.insert(id, directory);
                Ok(())
            }
            Row::File(id, file) => {
                let file = file.into_owned();
                catalog.put(id, file.parent, Some(file.name.clone()))?;
                catalog.files.insert(id, Box::new(file));
                Ok(())
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
        let groups: Vec<(u64, Box<[u64]>)> = catalog
            .files()
            .filter(|(_, file)| !file.sidecars.is_empty())
            .map(|(id, file)| (id, file.sidecars.clone()))
            .collect();
        for (main, sidecars) in groups {
            for sidecar in sidecars {
                let Some(file) = catalog.files.get_mut(&sidecar) else {
                    return Err(format!("sidecar {sidecar} of {main} is not there"));
                };
                file.main = NonZero::new(main);
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
        keys: Keys::new(&store, &key),
        store,
        next_id,
        seq,
        head,
        anchor,
        credits: Vec::new(),
        removed: HashMap::new(),
        snapshot: before,
        files: HashMap::new(),
        directories: HashMap::new(),
        holds: BTreeMap::new(),
        uncredited_ms,
        pass,
        usage: BTreeMap::new(),
    })
}

impl Catalog {
    /// Puts a number where it was.
    fn put(&mut self, id: u64, parent: u64, name: Option<Name>) -> Result<(), String> {
        if self.get(id).is_some() {
            return Err(format!("number {id} comes twice"));
        }
        if let Some(name) = name {
            let parent = self.directory_mut(parent).ok_or_else(|| format!("{id} lies nowhere"))?;
            if parent.children.insert(name, id).is_some() {
                return Err(format!("{id} has the name of another"));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
