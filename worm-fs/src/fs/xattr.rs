//! `user.worm.*`: what stands, and the one thing that can be set.

use std::time::Duration;

use super::Caller;
use super::Place;
use super::WormFs;
use super::attributes::attributes;
use super::carry::Item;
use super::open_file::Outcome;
use crate::catalog::Node;
use crate::clock::rfc3339;
use crate::error::Error;
use crate::error::Result;
use crate::policy::FileState;
use crate::policy::Refusal;
use crate::policy::Request;
use crate::policy::Retention;
use crate::policy::limits::Amounts;
use crate::record::Actor;

/// How long a request for the digest of a closed file waits for the seal.
pub(crate) const SEAL_WAIT: Duration = Duration::from_secs(30);

/// Our attributes.
const STORE: &str = "user.worm.store";
const CLASS: &str = "user.worm.class";
const STATE: &str = "user.worm.state";
const SHA256: &str = "user.worm.sha256";
const SEALED_AT: &str = "user.worm.sealed_at";
const RETAIN_UNTIL: &str = "user.worm.retain_until";
const HOLDS: &str = "user.worm.holds";
const RECORDED: &str = "user.worm.recorded";

impl WormFs {
    /// The names of the attributes that have a value now.
    ///
    /// # Errors
    /// [`Error::NotFound`]
    pub fn xattrs(&self, place: Place, id: u64) -> Result<Vec<&'static str>> {
        attributes(&self.state.read(), place, id)?;
        let mut names = vec![STORE];
        if Item::of(id).is_some() {
            return Ok(names);
        }
        let state = self.state.read();
        if state.catalog.get_directory(id).is_some() {
            names.extend(state.catalog.class_of(id).map(|_| CLASS));
            return Ok(names);
        }
        names.extend([CLASS, STATE]);
        if state.catalog.is_log(id) {
            names.extend([RECORDED, RETAIN_UNTIL, HOLDS]);
        } else if let Some(file) = state.catalog.get_file(id) {
            names.extend((!file.is_incomplete()).then_some(SHA256));
            names.extend([SEALED_AT, RETAIN_UNTIL, HOLDS]);
        }
        Ok(names)
    }

    /// Whether [`Self::xattr`] may take long: the seal of this file is on its way.
    #[must_use]
    pub fn xattr_waits(&self, id: u64, name: &[u8]) -> bool {
        name == SHA256.as_bytes() && matches!(self.file_state(id), Ok(FileState::Closing))
    }

    /// The value of an attribute.
    ///
    /// # Errors
    /// [`Error::NoAttribute`] when there is none, or not yet; [`Error::NotYet`] when the seal
    /// takes longer than [`SEAL_WAIT`].
    pub fn xattr(&self, place: Place, id: u64, name: &[u8]) -> Result<Vec<u8>> {
        attributes(&self.state.read(), place, id)?;
        let Ok(name) = std::str::from_utf8(name) else { return Err(Error::NoAttribute) };
        match name {
            _ if name != STORE && Item::of(id).is_some() => Err(Error::NoAttribute),
            STORE => Ok(self.store.id.clone().into_bytes()),
            CLASS => self.class_name(id),
            STATE if !self.is_directory(id) => Ok(self.state_name(id)?.into()),
            SHA256 => self.sha256(id),
            SEALED_AT if !self.is_log(id) => {
                self.of_file(id, |file, _| rfc3339(file.sealed_system_ms))
            }
            RECORDED if self.is_log(id) => self.of_file(id, |file, _| {
                let sha256 = file.sha256.map(|sha256| sha256.to_string()).unwrap_or_default();
                format!("{} {sha256}", file.size)
            }),
            RETAIN_UNTIL => {
                let lag = self.lag_ms();
                self.of_file(id, |_, end| rfc3339(end.saturating_add(lag)))
            }
            HOLDS => self.holds(id),
            _ if name.starts_with("system.posix_acl_") => Err(Refusal::Unsupported.into()),
            _ => Err(Error::NoAttribute),
        }
    }

    fn is_log(&self, id: u64) -> bool {
        self.state.read().catalog.is_log(id)
    }

    fn of_file(
        &self,
        id: u64,
        value: impl FnOnce(&crate::catalog::File, i64) -> String,
    ) -> Result<Vec<u8>> {
        let state = self.state.read();
        let file = state.catalog.get_file(id).ok_or(Error::NoAttribute)?;
        let end = state.catalog.end_of(id).unwrap_or(file.retain_until_ms);
        Ok(value(file, end).into_bytes())
    }

    /// The names of the holds, one a line.
    fn holds(&self, id: u64) -> Result<Vec<u8>> {
        let state = self.state.read();
        state.catalog.get_file(id).ok_or(Error::NoAttribute)?;
        let names: Vec<&str> = state.catalog.holds_of(id).map(|hold| hold.name.as_str()).collect();
        Ok(names.join("\n").into_bytes())
    }

    fn class_name(&self, id: u64) -> Result<Vec<u8>> {
        let state = self.state.read();
        let parent = state.open.get(&id).map(|open| open.parent);
        let (class, _) = state
            .catalog
            .class_of(id)
            .or_else(|| state.catalog.class_of(parent?))
            .ok_or(Error::NoAttribute)?;
        Ok(state.catalog.path(class).as_bytes().to_vec())
    }

    fn state_name(&self, id: u64) -> Result<&'static str> {
        Ok(match self.file_state(id)? {
            FileState::Writing { .. } => "writing",
            FileState::Closing => "closing",
            FileState::Sealed(Retention::Running | Retention::Held) => "sealed",
            FileState::Appending(Retention::Running | Retention::Held) => "appending",
            FileState::Sealed(Retention::Frozen | Retention::Over)
            | FileState::Appending(Retention::Frozen | Retention::Over) => "expired",
            FileState::Incomplete(_) => "incomplete",
        })
    }

    /// Answers only when data, ledger and name are on the disk.
    fn sha256(&self, id: u64) -> Result<Vec<u8>> {
        let open = {
            let state = self.state.read();
            match state.open.get(&id) {
                Some(open) => open.clone(),
                None => return sealed_sha256(&state, id),
            }
        };
        match open.file_state(false) {
            FileState::Closing => match open.wait(SEAL_WAIT) {
                Some(Outcome::Sealed) => sealed_sha256(&self.state.read(), id),
                Some(Outcome::Incomplete) => Err(Error::NoAttribute),
                Some(Outcome::Failed(errno)) => Err(Error::store("seal the file")(errno)),
                None => Err(Error::NotYet),
            },
            FileState::Writing { .. }
            | FileState::Sealed(_)
            | FileState::Incomplete(_)
            | FileState::Appending(_) => Err(Error::NoAttribute),
        }
    }

    /// Sets an attribute: `user.worm.retain_until`, later than it was, and nothing else.
    ///
    /// # Errors
    /// What the policy or the disk says.
    pub fn set_xattr(
        &self,
        place: Place,
        caller: Caller,
        id: u64,
        name: &[u8],
        value: &[u8],
    ) -> Result<()> {
        if name != RETAIN_UNTIL.as_bytes() {
            return self.allowed(place, id, Request::SetXattr);
        }
        self.allowed(place, id, Request::SetRetention)?;
        let lag = self.lag_ms();
        let wanted_ms = parse_moment(value)?.checked_sub(lag).ok_or(Refusal::BadValue)?;
        let _until_recorded = self.share(id, Amounts::CHANGE)?;
        self.lengthen(id, wanted_ms, Actor::user(caller.uid), None)
    }

    /// Removes an attribute: none can be.
    ///
    /// # Errors
    /// Always.
    pub fn remove_xattr(&self, place: Place, id: u64) -> Result<()> {
        self.allowed(place, id, Request::SetXattr)
    }
}

fn sealed_sha256(state: &super::state::State, id: u64) -> Result<Vec<u8>> {
    match state.catalog.get(id) {
        // What is recorded of a log is not what it has for good.
        Some(Node::File(_)) if state.catalog.is_log(id) => Err(Error::NoAttribute),
        Some(Node::File(file)) => {
            file.sha256.map(|sha256| sha256.to_string().into_bytes()).ok_or(Error::NoAttribute)
        }
        Some(Node::Directory(_)) | None => Err(Error::NoAttribute),
    }
}

/// A moment as people write it, RFC 3339, in milliseconds since 1970.
fn parse_moment(value: &[u8]) -> Result<i64> {
    let text = std::str::from_utf8(value).map_err(|_not_text| Refusal::BadValue)?;
    let moment = text.trim().parse::<jiff::Timestamp>();
    Ok(moment.map_err(|_not_a_moment| Refusal::BadValue)?.as_millisecond())
}
