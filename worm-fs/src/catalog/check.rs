//! PURE: whether something may be said about a catalog.

use super::Catalog;
use super::DirectoryKind;
use super::Node;
use crate::config::ClassRule;
use crate::policy::name::StorePath;
use crate::record::Event;

impl Catalog {
    /// Whether a line may be written that says this at that moment. What it asks for here is
    /// what [`Self::apply`] insists on, so no line that cannot be followed reaches the disk.
    ///
    /// # Errors
    /// What contradicts it.
    pub fn check(&self, event: &Event, clock_ms: i64) -> Result<(), String> {
        match event {
            Event::Created { .. } => Err("a store is made once".to_owned()),
            Event::Started { .. } | Event::Clock { .. } | Event::Scrubbed { .. } => Ok(()),
            Event::Snapshot(snapshot) if snapshot.up_to > self.seq => {
                Err(format!("snapshot {}: of a line that is not there", snapshot.number))
            }
            Event::Snapshot(_) => Ok(()),
            Event::ClockCredited { credit_ms, .. } if *credit_ms <= 0 => {
                Err("the retention clock never goes back".to_owned())
            }
            Event::ClockCredited { .. } => Ok(()),
            Event::KeyChanged { key, .. } => self.keys.check_next(key),
            Event::Extended { id, path, .. } => self.check_file(*id, path),
            Event::Held { id, path, hold, .. } => {
                self.check_file(*id, path)?;
                if self.holds_of(*id).any(|stands| stands.name == *hold) {
                    return Err(format!("{path}: hold {hold:?} stands already"));
                }
                Ok(())
            }
            Event::HoldLifted { id, path, hold, .. } => {
                self.check_file(*id, path)?;
                if self.holds_of(*id).any(|stands| stands.name == *hold) {
                    return Ok(());
                }
                Err(format!("{path}: there is no hold {hold:?}"))
            }
            Event::Released { id, path, .. } => {
                self.check_file(*id, path)?;
                if self.is_governance(*id) {
                    return Ok(());
                }
                Err(format!("{path}: it is not in governance mode"))
            }
            Event::Class { id, path, rule } => self.check_class(*id, path, rule),
            Event::DirectoryMade { id, path, .. } => self.check_free(*id, path),
            Event::Sealed { id, path, .. } | Event::Incomplete { id, path, .. } => {
                self.check_free(*id, path)?;
                self.check_append_only(path, false)
            }
            Event::LogMade { id, path, .. } => {
                self.check_free(*id, path)?;
                self.check_append_only(path, true)
            }
            Event::Appended { id, path, size, .. } => self.check_growth(*id, path, *size),
            Event::DirectoryChanged { id, .. } => match self.get_directory(*id) {
                Some(_) => Ok(()),
                None => Err(format!("no directory {id}")),
            },
            Event::DirectoryRemoved { id, path, .. } => match self.get_directory(*id) {
                Some(directory) if !directory.children.is_empty() => {
                    Err(format!("{path}: not empty"))
                }
                _ if self.find(path) != Some(*id) => Err(format!("{path}: not the name of {id}")),
                _ => Ok(()),
            },
            Event::Removed { id, path, .. } => self.check_removal(*id, path, clock_ms),
        }
    }

    fn check_removal(&self, id: u64, path: &StorePath, clock_ms: i64) -> Result<(), String> {
        if self.get_file(id).is_none() || self.find(path) != Some(id) {
            return Err(format!("{path}: not the name of file {id}"));
        }
        if self.end_of(id).is_none_or(|end| end > clock_ms) {
            return Err(format!("{path} was removed before its retention end"));
        }
        if self.is_held(id) {
            return Err(format!("{path} was removed while a hold was on it"));
        }
        Ok(())
    }

    fn check_class(&self, id: u64, path: &StorePath, rule: &ClassRule) -> Result<(), String> {
        match self.get(id) {
            // A file would become something else than it was made as.
            Some(Node::Directory(directory)) => match &directory.kind {
                DirectoryKind::Class(stands) if stands.append_only != rule.append_only => {
                    Err(format!("{path}: append_only is settled when a class is made"))
                }
                DirectoryKind::Root
                | DirectoryKind::Class(_)
                | DirectoryKind::Incomplete
                | DirectoryKind::Plain => Ok(()),
            },
            Some(Node::File(_)) => Err(format!("{path}: number {id} is taken")),
            None => self.check_free(id, path),
        }
    }

    fn check_growth(&self, id: u64, path: &StorePath, size: u64) -> Result<(), String> {
        match self.get_file(id).filter(|_| self.is_log(id)) {
            Some(file) if file.size <= size => Ok(()),
            Some(_) => Err(format!("{path}: a log never gets shorter")),
            None => Err(format!("{path}: no log {id}")),
        }
    }

    /// That what is made at a path is what its class takes.
    fn check_append_only(&self, path: &StorePath, is_log: bool) -> Result<(), String> {
        let (parent, _) = self.place(path)?;
        match self.class_of(parent) {
            Some((_, rule)) if rule.append_only == is_log => Ok(()),
            Some(_) if is_log => Err(format!("{path}: its class is not append-only")),
            Some(_) => Err(format!("{path}: its class is append-only")),
            None => Err(format!("{path}: in no class")),
        }
    }

    fn check_file(&self, id: u64, path: &StorePath) -> Result<(), String> {
        match self.get_file(id) {
            Some(_) => Ok(()),
            None => Err(format!("{path}: no file {id}")),
        }
    }

    fn check_free(&self, id: u64, path: &StorePath) -> Result<(), String> {
        let (parent, name) = self.place(path)?;
        if self.get(id).is_some() {
            return Err(format!("{path}: number {id} is taken"));
        }
        match self.get_directory(parent) {
            Some(directory) if directory.children.contains_key(&name) => {
                Err(format!("{path}: the name is taken"))
            }
            Some(_) => Ok(()),
            None => Err(format!("{path}: in a file")),
        }
    }
}
