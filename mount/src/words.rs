//! Words for people: moments, lengths, durations, and values as JSON.

use crate::outcome::Failure;
use crate::outcome::Outcome;
use crate::outcome::say;

/// Prints a value as JSON.
pub(crate) fn json(value: &impl serde::Serialize) -> Outcome {
    let text = serde_json::to_string_pretty(value).map_err(Failure::doing("print JSON"))?;
    say(text);
    Ok(())
}

/// A moment without its fraction of a second.
pub(crate) fn moment(rfc3339: &str) -> String {
    match rfc3339.split_once('.') {
        Some((seconds, _)) => format!("{seconds}Z"),
        None => rfc3339.to_owned(),
    }
}

/// A length.
pub(crate) fn bytes(bytes: u64) -> String {
    indicatif::BinaryBytes(bytes).to_string()
}

/// A duration in its two largest units, `6d 23h`.
pub(crate) fn span(seconds: i64) -> String {
    let sign = if seconds < 0 { "-" } else { "" };
    let seconds = seconds.unsigned_abs();
    let units = [("w", 604_800), ("d", 86_400), ("h", 3_600), ("m", 60), ("s", 1)];
    let first = units.iter().position(|(_, unit)| seconds >= *unit).unwrap_or(4);
    // Weeks are for durations that are nothing else, and not for one.
    let weeks = seconds.is_multiple_of(604_800) && seconds > 604_800;
    let first = if first == 0 && !weeks { 1 } else { first };
    let mut words = Vec::new();
    let mut rest = seconds;
    for (name, unit) in units.iter().skip(first).take(2) {
        if rest >= *unit {
            words.push(format!("{}{name}", rest / unit));
            rest %= unit;
        }
    }
    if words.is_empty() { "0s".to_owned() } else { format!("{sign}{}", words.join(" ")) }
}

/// A duration in the milliseconds of our clocks.
pub(crate) fn milliseconds(duration: std::time::Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

/// The time left; past ends are `over`.
pub(crate) fn time_left(seconds: i64) -> String {
    if seconds <= 0 { "over".to_owned() } else { span(seconds) }
}

/// `1 file`, `2 files`.
pub(crate) fn count(number: usize, noun: &str) -> String {
    if number == 1 { format!("1 {noun}") } else { format!("{number} {noun}s") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_short() {
        for (seconds, text) in [
            (0, "0s"),
            (59, "59s"),
            (61, "1m 1s"),
            (7_200, "2h"),
            (172_800, "2d"),
            (604_799, "6d 23h"),
            (604_800, "7d"),
            (2_419_200, "4w"),
            (691_200, "8d"),
            (-90, "-1m 30s"),
        ] {
            assert_eq!(span(seconds), text);
        }
        assert_eq!((time_left(0), time_left(61)), ("over".to_owned(), "1m 1s".to_owned()));
    }

    #[test]
    fn moments_have_no_fractions() {
        assert_eq!(moment("2026-01-18T00:00:00.123Z"), "2026-01-18T00:00:00Z");
        assert_eq!(moment("2026-01-18T00:00:00Z"), "2026-01-18T00:00:00Z");
    }
}
