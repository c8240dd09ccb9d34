//! PURE: how a backup is called: `2026-01-18_00-00-00.sql.gz`, in UTC.

use jiff::SignedDuration;
use jiff::Timestamp;
use jiff::tz::TimeZone;

/// So many seconds after the first are tried before giving up.
const TRIES: i64 = 120;

/// The name of a backup begun at that moment.
pub(crate) fn backup_name(at: Timestamp) -> String {
    at.to_zoned(TimeZone::UTC).strftime("%Y-%m-%d_%H-%M-%S.sql.gz").to_string()
}

/// Names in the order in which to try them: that of the moment, then the seconds after it.
pub(crate) fn candidates(at: Timestamp) -> impl Iterator<Item = String> {
    (0..=TRIES)
        .filter_map(move |later| at.checked_add(SignedDuration::from_secs(later)).ok())
        .map(backup_name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_the_utc_second() {
        let at: Timestamp = "2026-01-18T00:59:59.999+01:00".parse().unwrap();
        assert_eq!(backup_name(at), "2026-01-17_23-59-59.sql.gz");
    }

    #[test]
    fn the_next_names_are_the_next_seconds_across_midnight() {
        let at: Timestamp = "2026-02-28T23:59:59Z".parse().unwrap();
        let names: Vec<String> = candidates(at).take(3).collect();
        assert_eq!(
            names,
            [
                "2026-02-28_23-59-59.sql.gz",
                "2026-03-01_00-00-00.sql.gz",
                "2026-03-01_00-00-01.sql.gz"
            ]
        );
        assert_eq!(candidates(at).count(), 121);
    }
}
