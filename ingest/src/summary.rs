//! PURE: what a run that went well says about itself, in one line.

use std::fmt::Write;
use std::time::Duration;

use jiff::tz::TimeZone;

use crate::audit::Record;
use crate::schedule::Run;
use crate::settings::Shown;

/// `12.3 MB`, in powers of ten.
pub(crate) fn bytes(bytes: u64) -> String {
    const UNITS: [(&str, u64); 4] =
        [("TB", 1_000_000_000_000), ("GB", 1_000_000_000), ("MB", 1_000_000), ("kB", 1_000)];
    match UNITS.iter().find(|(_, size)| bytes >= *size) {
        Some((unit, size)) => format!("{}.{} {unit}", bytes / size, bytes % size * 10 / size),
        None => format!("{bytes} B"),
    }
}

/// The line for a person.
#[must_use]
pub fn line(record: &Record) -> String {
    let raw = record.raw_bytes.unwrap_or_default();
    let elapsed = Duration::from_millis(record.duration_ms);
    let mut line = format!(
        "{}/{}{}: {} of SQL in {}, {} tables, {} rows, {}.{} s ({}/s), ",
        record.class,
        record.folder.as_ref().map(|folder| format!("{folder}/")).unwrap_or_default(),
        record.name.as_deref().unwrap_or_default(),
        bytes(raw),
        bytes(record.bytes.unwrap_or_default()),
        record.tables.unwrap_or_default(),
        record.rows.unwrap_or_default(),
        record.duration_ms / 1000,
        record.duration_ms % 1000 / 100,
        bytes(crate::progress::rate(raw, elapsed)),
    );
    let ending = match record.retain_until {
        Some(until) => write!(line, "kept until {}", until.strftime("%Y-%m-%d %H:%M UTC")),
        None => write!(line, "NOT protected (plain directory)"),
    };
    if ending.is_ok() && record.wished_name.is_some() {
        line.push_str("; its first name was taken");
    }
    line
}

/// Settings for `config show`: a line each, or one JSON array.
///
/// # Errors
/// If they cannot be put into JSON.
pub fn settings(shown: &[Shown], json: bool) -> serde_json::Result<String> {
    if json {
        return serde_json::to_string_pretty(shown);
    }
    let width = shown.iter().map(|setting| setting.name.len()).max().unwrap_or_default();
    let lines = shown.iter().map(|Shown { name, value, layer, origin }| {
        let value = value.join(", ");
        let origin = match *layer {
            "unset" => "(not set)".to_owned(),
            _said => format!("({origin})"),
        };
        format!("{name:width$}  {value}{}{origin}", if value.is_empty() { "" } else { "  " })
    });
    Ok(lines.collect::<Vec<_>>().join("\n"))
}

/// Coming runs for `next`: a line each, in UTC and in the zone of the schedule, or one JSON array.
///
/// # Errors
/// If they cannot be put into JSON.
pub fn runs(runs: &[Run], zone: &TimeZone, json: bool) -> serde_json::Result<String> {
    let local = |run: &Run| run.at.to_zoned(zone.clone());
    if json {
        let entry = |run: &Run| {
            let classes: Vec<&str> = run.classes.iter().map(|(class, _)| class.as_str()).collect();
            serde_json::json!({ "at": run.at, "local": local(run).to_string(), "classes": classes })
        };
        return serde_json::to_string_pretty(&runs.iter().map(entry).collect::<Vec<_>>());
    }
    let line = |run: &Run| {
        let at = run.at.strftime("%a %Y-%m-%d %H:%M:%S UTC");
        let local = match zone == &TimeZone::UTC {
            true => String::new(),
            false => local(run).strftime("  %a %H:%M:%S %Z").to_string(),
        };
        format!("{at}{local}  {}", run.names())
    };
    Ok(runs.iter().map(line).collect::<Vec<_>>().join("\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn coming_runs_are_shown_in_both_times() {
        let at = "2026-03-29T01:00:00Z".parse().unwrap();
        let classes = ["daily", "weekly"].map(|class| (class.to_owned(), at)).into();
        let shown = |zone: &str, json| {
            let run = Run { at, classes: Vec::clone(&classes) };
            runs(&[run], &TimeZone::get(zone).unwrap(), json).unwrap()
        };
        assert_eq!(shown("UTC", false), "Sun 2026-03-29 01:00:00 UTC  daily+weekly");
        assert_eq!(
            shown("Europe/Rome", false),
            "Sun 2026-03-29 01:00:00 UTC  Sun 03:00:00 CEST  daily+weekly"
        );
        let json: serde_json::Value = serde_json::from_str(&shown("Europe/Rome", true)).unwrap();
        assert_eq!(json[0]["at"], "2026-03-29T01:00:00Z");
        assert_eq!(json[0]["local"], "2026-03-29T03:00:00+02:00[Europe/Rome]");
        assert_eq!(json[0]["classes"], serde_json::json!(["daily", "weekly"]));
    }

    #[test]
    fn sizes_are_short() {
        for (size, text) in [
            (0, "0 B"),
            (999, "999 B"),
            (1_000, "1.0 kB"),
            (1_999_999, "1.9 MB"),
            (2_500_000_000, "2.5 GB"),
        ] {
            assert_eq!(bytes(size), text);
        }
    }
}
