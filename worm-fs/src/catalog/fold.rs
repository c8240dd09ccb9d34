//! PURE: how a line of the ledger changes what stands.

use std::collections::BTreeMap;

use super::Catalog;
use super::Directory;
use super::DirectoryKind;
use super::File;
use super::Hold;
use super::Inconsistent;
use crate::clock::Anchor;
use crate::clock::Credit;
use crate::clock::Reading;
use crate::config::ClassRule;
use crate::policy::name::INCOMPLETE;
use crate::policy::name::Name;
use crate::policy::name::StorePath;
use crate::record::Actor;
use crate::record::Digest;
use crate::record::Event;
use crate::record::KeyChange;
use crate::record::Line;

impl Catalog {
    /// Follows one more line, whose digest is `digest`. The chain is the reader's to check.
    ///
    /// # Errors
    /// When the line contradicts what stands.
    pub fn apply(&mut self, line: &Line, digest: Digest) -> Result<(), Inconsistent> {
        if line.seq > 1 {
            let effect = self.effect(&line.event);
            self.follow(line).map_err(|what| Inconsistent { seq: line.seq, what })?;
            if let Some(effect) = effect {
                self.account(line.clock_ms, effect);
            }
        }
        self.seq = line.seq;
        self.head = digest;
        Ok(())
    }

    fn follow(&mut self, line: &Line) -> Result<(), String> {
        self.check(&line.event, line.clock_ms)?;
        match &line.event {
            Event::Created { .. } => Err("a store is made once".to_owned()),
            Event::Started { reading, credit_ms, unremoved, .. } => {
                self.started(line.clock_ms, reading, *credit_ms, *unremoved);
                Ok(())
            }
            Event::Clock { reading } | Event::ClockCredited { reading, .. } => {
                if let Event::ClockCredited { credit_ms, .. } = &line.event {
                    self.uncredited_ms = self.uncredited_ms.saturating_sub(*credit_ms).max(0);
                }
                self.anchor = Anchor { clock_ms: line.clock_ms, reading: reading.clone() };
                Ok(())
            }
            Event::Scrubbed { pass_ms, through, damaged } => {
                self.pass.follow(*pass_ms, *through, damaged);
                Ok(())
            }
            Event::Class { id, path, rule } => self.class(line, *id, path, rule),
            Event::DirectoryMade { id, path, mode, uid, gid } => {
                let directory =
                    self.directory(line, path, DirectoryKind::Plain, (*mode, *uid, *gid))?;
                self.insert_directory(line, *id, path, directory)
            }
            Event::DirectoryChanged { id, mode, uid, gid } => {
                self.change_directory(line, *id, (*mode, *uid, *gid))
            }
            Event::DirectoryRemoved { id, path, .. } => {
                self.remove(line, *id, path)?;
                // No file has this length.
                self.removed.insert(path.clone(), u64::MAX);
                Ok(())
            }
            Event::Sealed { id, path, .. }
            | Event::Incomplete { id, path, .. }
            | Event::LogMade { id, path, .. } => {
                let file = self.finished(line, path)?;
                self.insert_file(line, *id, path, file)
            }
            Event::Appended { id, size, sha256, retain_until_ms, .. } => {
                self.grow(line, *id, (*size, *sha256), *retain_until_ms);
                Ok(())
            }
            Event::Extended { id, retain_until_ms, .. } => {
                self.extend(*id, *retain_until_ms);
                Ok(())
            }
            Event::Held { id, hold, reason, by, .. } => {
                self.hold(line, *id, (hold.clone(), reason.clone(), *by));
                Ok(())
            }
            Event::HoldLifted { id, hold, .. } => {
                self.lift(*id, hold);
                Ok(())
            }
            Event::Released { id, .. } => {
                self.release(*id, line.clock_ms);
                Ok(())
            }
            Event::Removed { id, path, .. } => {
                let size = self.get_file(*id).map_or(0, |file| file.size);
                self.removed.insert(path.clone(), size);
                self.remove(line, *id, path)
            }
            Event::KeyChanged { .. } => self.change_key(line),
            Event::Snapshot(snapshot) => {
                self.snapshot = Some(snapshot.clone());
                Ok(())
            }
        }
    }

    /// Notes that the next line begins a segment. That happens only when everything that was
    /// removed before is gone from the disk.
    pub fn segment_begins(&mut self) {
        self.removed.clear();
    }

    fn started(&mut self, clock_ms: i64, reading: &Reading, credit_ms: i64, unremoved: u64) {
        if unremoved == 0 {
            self.removed.clear();
        }
        let lost_ms = self.anchor.down(reading).saturating_sub(credit_ms).max(0);
        self.uncredited_ms = self.uncredited_ms.saturating_add(lost_ms);
        if credit_ms > 0 {
            self.credits.push(Credit { clock_ms, credit_ms });
        }
        self.anchor = Anchor { clock_ms, reading: reading.clone() };
    }

    fn hold(&mut self, line: &Line, id: u64, (name, reason, by): (String, String, Actor)) {
        let since_ms = line.system_ms();
        self.holds.entry(id).or_default().push(Hold { name, reason, by, since_ms });
    }

    fn change_directory(
        &mut self,
        line: &Line,
        id: u64,
        owner: (u32, u32, u32),
    ) -> Result<(), String> {
        let directory = self.directory_mut(id).ok_or_else(|| format!("no directory {id}"))?;
        (directory.mode, directory.uid, directory.gid) = owner;
        directory.changed_ms = line.system_ms();
        Ok(())
    }

    fn grow(&mut self, line: &Line, id: u64, (size, sha256): (u64, Digest), retain_until_ms: i64) {
        if let Some(file) = self.files.get_mut(&id) {
            (file.size, file.sha256) = (size, Some(sha256));
            (file.sealed_ms, file.sealed_system_ms) = (line.clock_ms, line.system_ms());
            file.mtime_ns = file.sealed_system_ms.saturating_mul(1_000_000);
            file.retain_until_ms = file.retain_until_ms.max(retain_until_ms);
        }
    }

    /// Whoever wrote the line, nothing here shortens a retention.
    fn extend(&mut self, id: u64, retain_until_ms: i64) {
        if let Some(file) = self.files.get_mut(&id) {
            file.retain_until_ms = file.retain_until_ms.max(retain_until_ms);
        }
    }

    fn change_key(&mut self, line: &Line) -> Result<(), String> {
        KeyChange::of(line).map_or(Ok(()), |change| self.keys.follow(change))
    }

    fn lift(&mut self, id: u64, hold: &str) {
        for id in self.group_of(id) {
            if let Some(holds) = self.holds.get_mut(&id) {
                holds.retain(|stands| stands.name != hold);
            }
        }
        self.holds.retain(|_, holds| !holds.is_empty());
    }

    fn release(&mut self, id: u64, clock_ms: i64) {
        for id in self.group_of(id) {
            if let Some(file) = self.files.get_mut(&id) {
                file.retain_until_ms = file.retain_until_ms.min(clock_ms);
            }
        }
    }

    fn class(
        &mut self,
        line: &Line,
        id: u64,
        path: &StorePath,
        rule: &ClassRule,
    ) -> Result<(), String> {
        let kind = DirectoryKind::Class(Box::new(rule.clone()));
        let owner = (rule.permissions, rule.owner, rule.group);
        if let Some(directory) = self.directory_mut(id) {
            directory.kind = kind;
            (directory.mode, directory.uid, directory.gid) = owner;
            return Ok(());
        }
        let directory = self.directory(line, path, kind, owner)?;
        self.insert_directory(line, id, path, directory)?;
        let path = path.join(INCOMPLETE.as_bytes());
        let directory = self.directory(line, &path, DirectoryKind::Incomplete, (0o755, 0, 0))?;
        self.insert_directory(line, id + 1, &path, directory)
    }

    fn directory(
        &self,
        line: &Line,
        path: &StorePath,
        kind: DirectoryKind,
        (mode, uid, gid): (u32, u32, u32),
    ) -> Result<Directory, String> {
        let (parent, name) = self.place(path)?;
        let (name, children) = (Some(name), BTreeMap::new());
        let changed_ms = line.system_ms();
        Ok(Directory { parent, name, kind, children, mode, uid, gid, changed_ms })
    }

    /// The file that a line tells the end of, or the making of a log.
    fn finished(&self, line: &Line, path: &StorePath) -> Result<File, String> {
        let (parent, name) = self.place(path)?;
        let mut file = File {
            parent,
            name,
            size: 0,
            sha256: None,
            mode: 0,
            uid: 0,
            gid: 0,
            mtime_ns: 0,
            sealed_ms: line.clock_ms,
            sealed_system_ms: line.system_ms(),
            retain_until_ms: 0,
            main: None,
            sidecars: Box::default(),
            governance: false,
        };
        if let Event::Sealed { sha256, governance, .. } = &line.event {
            (file.sha256, file.governance) = (Some(*sha256), *governance);
        }
        if let Event::Sealed { size, mode, uid, gid, mtime_ns, retain_until_ms, .. }
        | Event::Incomplete { size, mode, uid, gid, mtime_ns, retain_until_ms, .. } = &line.event
        {
            (file.size, file.mtime_ns, file.retain_until_ms) = (*size, *mtime_ns, *retain_until_ms);
            (file.mode, file.uid, file.gid) = (*mode & 0o7777, *uid, *gid);
        }
        if let Event::LogMade { mode, uid, gid, retain_until_ms, .. } = &line.event {
            (file.mode, file.uid, file.gid) = (*mode & 0o7777, *uid, *gid);
            file.mtime_ns = file.sealed_system_ms.saturating_mul(1_000_000);
            (file.sha256, file.retain_until_ms) = (Some(Digest::of(b"")), *retain_until_ms);
        }
        file.main = self.main_of(&file);
        Ok(file)
    }

    fn insert_file(
        &mut self,
        line: &Line,
        id: u64,
        path: &StorePath,
        file: File,
    ) -> Result<(), String> {
        // The bytes that the file has: a name is in memory once.
        self.insert(line, id, path, Some(&file.name))?;
        if let Some(main) = file.main.and_then(|main| self.files.get_mut(&main.get())) {
            main.sidecars = [&main.sidecars, &[id][..]].concat().into();
        }
        self.files.insert(id, Box::new(file));
        Ok(())
    }

    fn insert_directory(
        &mut self,
        line: &Line,
        id: u64,
        path: &StorePath,
        directory: Directory,
    ) -> Result<(), String> {
        self.insert(line, id, path, directory.name.as_ref())?;
        self.directories.insert(id, directory);
        Ok(())
    }

    /// The directory and the name that a path means.
    pub(super) fn place(&self, path: &StorePath) -> Result<(u64, Name), String> {
        let (parent, name) = path.split();
        let name = Name::new(name).map_err(|refusal| format!("{path}: {refusal}"))?;
        let parent = self.find(&parent).ok_or_else(|| format!("{path}: no such directory"))?;
        Ok((parent, name))
    }

    /// Puts a number at a path, under the name that is given, or another copy of it.
    fn insert(
        &mut self,
        line: &Line,
        id: u64,
        path: &StorePath,
        name: Option<&Name>,
    ) -> Result<(), String> {
        let (parent, same) = self.place(path)?;
        let directory = self.directory_mut(parent).ok_or_else(|| format!("{path}: in a file"))?;
        directory.children.insert(name.cloned().unwrap_or(same), id);
        directory.changed_ms = line.system_ms();
        self.next_id = self.next_id.max(id + 1);
        Ok(())
    }

    fn remove(&mut self, line: &Line, id: u64, path: &StorePath) -> Result<(), String> {
        let (parent, name) = self.place(path)?;
        if let Some(directory) = self.directory_mut(parent) {
            directory.children.remove(&name);
            directory.changed_ms = line.system_ms();
        }
        self.holds.remove(&id);
        self.directories.remove(&id);
        if let Some(file) = self.files.remove(&id) {
            if let Some(main) = file.main.and_then(|main| self.files.get_mut(&main.get())) {
                main.sidecars =
                    main.sidecars.iter().copied().filter(|other| *other != id).collect();
            }
            for sidecar in file.sidecars {
                if let Some(sidecar) = self.files.get_mut(&sidecar) {
                    sidecar.main = None;
                }
            }
        }
        Ok(())
    }

    pub(super) fn directory_mut(&mut self, id: u64) -> Option<&mut Directory> {
        self.directories.get_mut(&id)
    }
}
