//! PURE: a cron line, and its times in a zone.
//!
//! A line with one fixed time of day has one run on each of its days, also on those on which the
//! clocks change: a time that is skipped in spring comes when the gap ends, one that comes twice in
//! autumn runs once. A line with several hours or minutes, such as that of every hour, follows the
//! clock on the wall: skipped times are skipped, repeated ones repeated.

use croner::Cron;
use croner::parser::CronParser;
use croner::parser::Seconds;
use croner::parser::Year;
use jiff::SignedDuration;
use jiff::Timestamp;
use jiff::tz::TimeZone;

/// A class and its cron line.
#[derive(Clone, Debug)]
pub struct Line {
    /// The class.
    pub class: String,
    /// As it was written.
    pub text: String,
    cron: Cron,
}

/// Why a line cannot be followed.
#[derive(Debug, thiserror::Error)]
#[error(
    "the schedule {text:?} of class {class} makes no sense: {why}. Five fields are wanted (minute, \
     hour, day of month, month, day of week), or @hourly, @daily, @weekly, @monthly, @yearly"
)]
pub struct LineError {
    class: String,
    text: String,
    why: String,
}

impl Line {
    /// Reads `text` for `class`.
    ///
    /// # Errors
    /// [`LineError`] when it is no cron line, or when its time never comes.
    pub fn new(class: &str, text: &str) -> Result<Self, LineError> {
        let error = |why: String| LineError {
            class: class.to_owned(),
            text: text.to_owned(),
            why: why.trim_end_matches('.').to_owned(),
        };
        let parser =
            CronParser::builder().seconds(Seconds::Disallowed).year(Year::Disallowed).build();
        let cron = parser.parse(text).map_err(|reason| error(reason.to_string()))?;
        let line = Self { class: class.to_owned(), text: text.to_owned(), cron };
        let first = line.after(Timestamp::UNIX_EPOCH, &TimeZone::UTC);
        let within = first.is_some_and(|at| at < line_horizon());
        within.then_some(line).ok_or_else(|| error("that time never comes".to_owned()))
    }

    /// The first of its times after `moment`.
    #[must_use]
    pub fn after(&self, moment: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
        // The cron crate counts in whole seconds.
        let from = whole_second(moment).to_zoned(zone.clone());
        Some(self.cron.find_next_occurrence(&from, false).ok()?.timestamp())
    }

    /// The last of its times that is not after `moment`.
    #[must_use]
    pub fn until(&self, moment: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
        let from = whole_second(moment).to_zoned(zone.clone());
        Some(self.cron.find_previous_occurrence(&from, true).ok()?.timestamp())
    }
}

/// A line that has not come by then since 1970 never does: even the 29th of February has.
fn line_horizon() -> Timestamp {
    Timestamp::UNIX_EPOCH + SignedDuration::from_hours(24 * 366 * 41)
}

/// The whole second that is not after `moment`.
fn whole_second(moment: Timestamp) -> Timestamp {
    let second = moment.as_nanosecond().div_euclid(1_000_000_000);
    i64::try_from(second).ok().and_then(|at| Timestamp::from_second(at).ok()).unwrap_or(moment)
}
