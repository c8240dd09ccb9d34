//! PURE: what a run that went well says about itself, in one line.

use std::fmt::Write;
use std::time::Duration;

use crate::audit::Record;

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
        "{}/{}: {} of SQL in {}, {} tables, {} rows, {}.{} s ({}/s), ",
        record.class,
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

#[cfg(test)]
mod tests {
    use super::*;

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
