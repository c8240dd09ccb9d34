//! What the settings say about when to back up.

use jiff::SignedDuration;
use jiff::SpanRelativeTo;
use jiff::tz::TimeZone;
use sha2::Digest;
use sha2::Sha256;

use crate::config::is_class_name;
use crate::error::Error;
use crate::schedule::Jitter;
use crate::schedule::Schedule;
use crate::schedule::line::Line;
use crate::settings::Setting;
use crate::settings::Settings;
use crate::settings::SettingsError;
use crate::settings::table;

/// The three classes of the manual.
const CLASSES: [(&str, &Setting); 3] = [
    ("hourly", &table::SCHEDULE_HOURLY),
    ("daily", &table::SCHEDULE_DAILY),
    ("weekly", &table::SCHEDULE_WEEKLY),
];
/// Instead of a line: the class is not backed up by the clock.
const OFF: &str = "off";

/// The schedule of these settings. `host` and `database` decide the share of the jitter.
pub(crate) fn schedule(settings: &Settings, host: &str, database: &str) -> Result<Schedule, Error> {
    let usage = |error: crate::schedule::line::LineError| Error::Usage(error.to_string());
    let mut lines = Vec::new();
    for (class, setting) in CLASSES {
        if let Some(text) = settings.text(setting).filter(|text| *text != OFF) {
            lines.push(Line::new(class, text).map_err(usage)?);
        }
    }
    for part in settings.text(&table::SCHEDULE_OTHER).unwrap_or_default().split(';') {
        if part.trim().is_empty() {
            continue;
        }
        let Some((class, text)) = part.split_once('=') else {
            let wanted = "write CLASS=LINE, with ; between several";
            return Err(Error::Usage(format!("schedule-other: {part:?} names no class: {wanted}")));
        };
        let class = class.trim();
        if !is_class_name(class) || lines.iter().any(|line| line.class == class) {
            return Err(Error::Usage(format!(
                "schedule-other: {class:?} is no class, or has its schedule already"
            )));
        }
        lines.push(Line::new(class, text.trim()).map_err(usage)?);
    }
    if lines.is_empty() {
        return Err(Error::Usage("every class is off: there is nothing to do".to_owned()));
    }
    let wanted = "an IANA name is wanted, such as Europe/Rome or UTC. Is tzdata installed?";
    let zone = settings.parse(&table::ZONE, wanted, |name| TimeZone::get(name).ok())?;
    let most = settings.parse(&table::JITTER, DURATION, duration)?.unwrap_or_default();
    Ok(Schedule {
        lines,
        zone: zone.unwrap_or(TimeZone::UTC),
        catch_up: settings.parse(&table::CATCH_UP, DURATION, duration)?,
        jitter: Jitter { most, share: share(host, database) },
    })
}

/// What a duration looks like.
pub(crate) const DURATION: &str = "a duration is wanted, such as 90s, 5m, 6h or 3d";

/// Reads one: `90s`, `5m`, `1h 30m`, `3d`; a day has 24 hours.
pub(crate) fn duration(text: &str) -> Option<SignedDuration> {
    let span: jiff::Span = text.parse().ok()?;
    let duration = span.to_duration(SpanRelativeTo::days_are_24_hours()).ok()?;
    (!duration.is_negative()).then_some(duration)
}

/// Reads one that is longer than nothing, and that clocks can count.
pub(crate) fn limit(settings: &Settings, setting: &Setting) -> Result<std::time::Duration, Error> {
    let positive = |text: &str| duration(text).filter(|limit| limit.is_positive())?.try_into().ok();
    let limit = settings.parse(setting, DURATION, positive)?;
    Ok(limit.ok_or_else(|| SettingsError::missing(setting))?)
}

/// The same for one agent always, and spread evenly over all agents.
fn share(host: &str, database: &str) -> u32 {
    let digest = Sha256::digest(format!("{host}\0{database}"));
    digest.iter().take(4).fold(0, |share, byte| share << 8 | u32::from(*byte))
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::cli::Cli;
    use crate::settings::Environment;

    fn read(variables: &[(&str, &str)], flags: &[&str]) -> Result<Schedule, Error> {
        let variables =
            variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        let environment = Environment {
            variables: variables.collect(),
            not_text: std::collections::BTreeSet::new(),
            default_file: "/nonexistent".into(),
        };
        let line = ["worm-ingest", "next"].iter().chain(flags);
        let settings = Cli::try_parse_from(line).unwrap().settings(&environment)?;
        schedule(&settings, "host", "app")
    }

    fn shown(schedule: &Schedule) -> Vec<String> {
        schedule.lines.iter().map(|line| format!("{}: {}", line.class, line.text)).collect()
    }

    #[test]
    fn the_defaults_are_those_of_the_manual() {
        let schedule = read(&[], &[]).unwrap();
        assert_eq!(
            shown(&schedule),
            ["hourly: 0 * * * *", "daily: 0 0 * * *", "weekly: 0 0 * * 0"]
        );
        assert_eq!(schedule.zone, TimeZone::UTC);
        assert_eq!((schedule.catch_up, schedule.jitter.most), (None, SignedDuration::ZERO));
    }

    #[test]
    fn each_class_has_its_line_or_none_and_others_may_follow() {
        let variables = [("BACKUP_SCHEDULE", "*/30 * * * *"), ("TZ", "Europe/Rome")];
        let flags =
            ["--schedule-weekly", "off", "--schedule-other", "monthly=0 3 1 * *;yearly=@yearly"];
        let schedule =
            read(&variables, &[&flags[..], &["--jitter", "5m", "--catch-up", "1d"]].concat());
        let schedule = schedule.unwrap();
        let expected =
            ["hourly: */30 * * * *", "daily: 0 0 * * *", "monthly: 0 3 1 * *", "yearly: @yearly"];
        assert_eq!(shown(&schedule), expected);
        assert_eq!(schedule.zone, TimeZone::get("Europe/Rome").unwrap());
        assert_eq!(schedule.catch_up, Some(SignedDuration::from_hours(24)));
        assert_eq!(schedule.jitter.most, SignedDuration::from_mins(5));
        assert_eq!(schedule.jitter.share, share("host", "app"));
        assert_ne!(schedule.jitter.share, share("other", "app"));
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for (name, value) in [
            ("BACKUP_SCHEDULE", "every hour"),
            ("WORM_SCHEDULE_OTHER", "0 3 1 * *"),
            ("WORM_SCHEDULE_OTHER", "../x=0 3 1 * *"),
            ("WORM_SCHEDULE_OTHER", "daily=0 3 1 * *"),
            ("TZ", "Europe/Nowhere"),
            ("WORM_JITTER", "-5m"),
            ("WORM_JITTER", "five"),
            ("WORM_CATCH_UP", "1y 2"),
        ] {
            assert_eq!(
                read(&[(name, value)], &[]).unwrap_err().exit().number(),
                2,
                "{name}={value}"
            );
        }
        let off = ["hourly", "daily", "weekly"].map(|class| format!("--schedule-{class}=off"));
        assert!(read(&[], &off.each_ref().map(String::as_str)).is_err());
    }
}
