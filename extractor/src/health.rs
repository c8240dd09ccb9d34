//! PURE: what the extractor that runs by itself notes of its rounds, and whether that is well.

use std::time::Duration;

use jiff::Timestamp;
use serde::Deserialize;
use serde::Serialize;

/// A round that has not ended after so long is stuck: not even a first mirror takes a day.
const ROUND_MAX: Duration = Duration::from_secs(24 * 3600);
/// The longest pause after rounds that failed, unless rounds are further apart anyhow.
const PAUSE_MAX: Duration = Duration::from_secs(300);
/// Beyond the pause, so late may the next round begin on a busy machine.
const LATE: Duration = Duration::from_secs(60);

/// What is noted at the beginning and at the end of each round.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Health {
    /// Since when a round is under way; none between rounds.
    pub under_way_since: Option<Timestamp>,
    /// The last round that ended.
    pub last: Option<Round>,
}

/// A round that ended.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Round {
    /// When.
    pub ended: Timestamp,
    /// Its exit code, as that of `once`.
    pub exit: u8,
    /// What it said.
    pub message: String,
    /// How many rounds in a row have failed, this one included.
    pub failures: u32,
    /// How long the pause after it is.
    pub pause_ms: u64,
}

/// How long to wait after a round, when `failures` have failed in a row: the usual time, then twice
/// as long each time, up to five minutes.
#[must_use]
pub fn pause(every: Duration, failures: u32) -> Duration {
    let doubled = 2_u32.saturating_pow(failures.saturating_sub(1));
    every.saturating_mul(doubled).min(PAUSE_MAX.max(every))
}

impl Health {
    /// Says in a line how it is: `Err` when a person should look.
    ///
    /// # Errors
    /// The last round failed, or the next one does not begin or does not end.
    pub fn judge(&self, now: Timestamp) -> Result<String, String> {
        let passed = |since: Timestamp| {
            Duration::try_from(now.duration_since(since)).unwrap_or(Duration::ZERO)
        };
        if let Some(since) = self.under_way_since
            && passed(since) > ROUND_MAX
        {
            return Err(format!("the round that began at {since} does not end"));
        }
        let Some(Round { ended, exit, message, failures, pause_ms }) = &self.last else {
            return match self.under_way_since {
                Some(since) => Ok(format!("the first round is under way since {since}")),
                None => Err("no round has begun".to_owned()),
            };
        };
        if *failures > 0 {
            return Err(format!(
                "{failures} rounds failed, the last at {ended} ({exit}): {message}"
            ));
        }
        let latest = Duration::from_millis(*pause_ms).saturating_add(LATE);
        if self.under_way_since.is_none() && passed(*ended) > latest {
            return Err(format!("no round has begun since {ended}"));
        }
        Ok(format!("{ended}: {message}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn ended(exit: u8, failures: u32) -> Health {
        let message = "said".to_owned();
        let last = Round { ended: at(1000), exit, message, failures, pause_ms: 60_000 };
        Health { under_way_since: None, last: Some(last) }
    }

    #[test]
    fn pauses_grow_with_failures_and_not_for_ever() {
        let seconds = |failures| pause(MINUTE, failures).as_secs();
        let pauses = [0, 1, 2, 3, 4, 5, 100].map(seconds);
        assert_eq!(pauses, [60, 60, 120, 240, 300, 300, 300]);
        let hour = Duration::from_secs(3600);
        assert_eq!(pause(hour, 7), hour, "never shorter than usual");
    }

    #[test]
    fn a_round_that_went_well_is_well_until_the_next_one_is_missed() {
        let health = ended(0, 0);
        assert!(health.judge(at(1100)).unwrap().contains("said"));
        assert!(health.judge(at(1121)).unwrap_err().contains("no round has begun since"));
        let under_way = Health { under_way_since: Some(at(1060)), ..health };
        assert!(under_way.judge(at(9000)).is_ok(), "a big backup takes its time");
        assert!(under_way.judge(at(1060 + 86_401)).unwrap_err().contains("does not end"));
    }

    #[test]
    fn a_round_that_failed_is_not_well_until_one_went_well() {
        let failed = ended(8, 2);
        assert!(failed.judge(at(1001)).unwrap_err().contains("2 rounds failed"));
        let again = Health { under_way_since: Some(at(1002)), ..failed };
        assert!(again.judge(at(1003)).is_err());
    }

    #[test]
    fn the_first_round_may_take_its_time() {
        let none = Health { under_way_since: None, last: None };
        assert!(none.judge(at(0)).is_err());
        let first = Health { under_way_since: Some(at(0)), last: None };
        assert!(first.judge(at(80_000)).is_ok());
        assert!(first.judge(at(-5)).is_ok(), "a clock that was set back is no alarm");
    }
}
