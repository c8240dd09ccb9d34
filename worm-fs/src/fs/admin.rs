//! What the admin does, each with who and why: hold, lift, release, extend, credit.

use super::WormFs;
use crate::clock::ClockReport;
use crate::error::Error;
use crate::error::Result;
use crate::policy;
use crate::policy::FileState;
use crate::policy::Identity;
use crate::policy::Refusal;
use crate::policy::Request;
use crate::policy::name::StorePath;
use crate::policy::retention;
use crate::record::Actor;
use crate::record::Event;
use crate::report;

/// The longest name of a hold, in bytes.
pub(crate) const HOLD_NAME_BYTES_MAX: usize = 64;
/// The longest reason, in bytes.
pub(crate) const REASON_BYTES_MAX: usize = 1024;

impl WormFs {
    /// Puts a hold on a file and its group.
    ///
    /// # Errors
    /// [`Error::NotFound`] when no finished file has the path, [`Refusal::NameTaken`] when a hold
    /// of that name stands, [`Refusal::BadValue`] for a name or reason that is none, or what the
    /// disk says.
    pub fn hold(&self, by: Actor, path: &StorePath, hold: &str, reason: &str) -> Result<()> {
        let (id, path) = self.finished(path)?;
        let (hold, reason) = (hold_name(hold)?, reason_of(reason)?);
        if self.stands(id, &hold) {
            return Err(Refusal::NameTaken.into());
        }
        self.commit(vec![Event::Held { id, path, hold, reason, by }])
    }

    /// Lifts a hold.
    ///
    /// # Errors
    /// [`Error::NotFound`] when there is no such file or hold, or what the disk says.
    pub fn lift_hold(&self, by: Actor, path: &StorePath, hold: &str, reason: &str) -> Result<()> {
        let (id, path) = self.finished(path)?;
        let (hold, reason) = (hold_name(hold)?, reason_of(reason)?);
        if !self.stands(id, &hold) {
            return Err(Error::NotFound);
        }
        self.commit(vec![Event::HoldLifted { id, path, hold, reason, by }])
    }

    /// Ends the retention of a file and its group that were sealed in governance mode.
    ///
    /// # Errors
    /// [`Refusal::Retained`] in compliance mode, or what the disk says.
    pub fn release_group(&self, by: Actor, path: &StorePath, reason: &str) -> Result<()> {
        let (id, path) = self.finished(path)?;
        let reason = reason_of(reason)?;
        if !self.state.read().catalog.is_governance(id) {
            return Err(Refusal::Retained.into());
        }
        self.commit(vec![Event::Released { id, path, reason, by }])
    }

    /// Lengthens the retention of a file to a moment of the system clock.
    ///
    /// # Errors
    /// [`Refusal::RetentionShortened`] when that is earlier than its end or beyond the limit of
    /// its class, or what the disk says.
    pub fn extend(
        &self,
        by: Actor,
        path: &StorePath,
        until_system_ms: i64,
        reason: Option<&str>,
    ) -> Result<()> {
        let (id, _) = self.finished(path)?;
        let reason = reason.map(reason_of).transpose()?;
        let wanted_ms = until_system_ms.checked_sub(self.lag_ms()).ok_or(Refusal::BadValue)?;
        self.lengthen(id, wanted_ms, by, reason)
    }

    /// As [`Self::extend`], to a moment of the retention clock.
    pub(crate) fn lengthen(
        &self,
        id: u64,
        wanted_ms: i64,
        by: Actor,
        reason: Option<String>,
    ) -> Result<()> {
        let now_ms = self.now_ms();
        let event = {
            let state = self.state.read();
            let file = state.catalog.get_file(id).ok_or(Refusal::Unsupported)?;
            let (Some(kept), Some((_, rule))) =
                (state.catalog.kept(id), state.catalog.class_of(id))
            else {
                return Err(Refusal::Sealed.into());
            };
            let who = Identity::of(by.uid, file.uid);
            let target = state.target(id, now_ms)?;
            policy::verdict_for(who, Request::SetRetention, target)?;
            retention::extend(&kept, wanted_ms, rule)?;
            if wanted_ms == kept.until_ms {
                return Ok(());
            }
            let path = state.catalog.path(id);
            Event::Extended { id, path, retain_until_ms: wanted_ms, by, reason }
        };
        self.commit(vec![event])
    }

    /// Moves the retention clock on by downtime that was not credited: at most to where the
    /// system clock stands.
    ///
    /// # Errors
    /// [`Refusal::BadValue`] for less than a millisecond or more than the lag, or what the disk
    /// says.
    pub fn credit(&self, by: Actor, credit_ms: i64, reason: &str) -> Result<()> {
        let reason = reason_of(reason)?;
        if !(1..=self.lag_ms()).contains(&credit_ms) {
            return Err(Refusal::BadValue.into());
        }
        let reading = self.clock.read();
        self.commit(vec![Event::ClockCredited { reading, credit_ms, reason, by }])
    }

    /// Where the retention clock stands, and why it is not the system clock.
    #[must_use]
    pub fn clock_report(&self) -> ClockReport {
        let reading = self.clock.read();
        let state = self.state.read();
        let doubts: Vec<&str> = state.doubts.values().map(String::as_str).collect();
        let doubt = (!doubts.is_empty()).then(|| doubts.join("; "));
        report::clock(&state.catalog, &reading, doubt)
    }

    fn stands(&self, id: u64, hold: &str) -> bool {
        self.state.read().catalog.holds_of(id).any(|stands| stands.name == hold)
    }

    /// The finished file at a path.
    fn finished(&self, path: &StorePath) -> Result<(u64, StorePath)> {
        let id = self.state.read().find(path).ok_or(Error::NotFound)?;
        match self.file_state(id)? {
            FileState::Sealed(_) | FileState::Incomplete(_) | FileState::Appending(_) => {
                Ok((id, path.clone()))
            }
            FileState::Writing { .. } | FileState::Closing => Err(Refusal::Busy.into()),
        }
    }
}

/// A name that fits on a line and can be typed.
fn hold_name(name: &str) -> Result<String> {
    let fits = (1..=HOLD_NAME_BYTES_MAX).contains(&name.len());
    let typed = |c: char| c.is_alphanumeric() || "-_.:/#@".contains(c);
    if fits && name.chars().all(typed) {
        Ok(name.to_owned())
    } else {
        Err(Refusal::BadValue.into())
    }
}

/// Something that a person can read later.
pub(super) fn reason_of(reason: &str) -> Result<String> {
    let reason = reason.trim();
    let fits = (1..=REASON_BYTES_MAX).contains(&reason.len());
    if fits && !reason.chars().any(char::is_control) {
        Ok(reason.to_owned())
    } else {
        Err(Refusal::BadValue.into())
    }
}
