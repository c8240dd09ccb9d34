//! PURE: a status in the text format of Prometheus, version 0.0.4
//! (prometheus.io/docs/instrumenting/exposition_formats).

use std::fmt::Display;

use worm_fs::fs::ClassUsage;
use worm_fs::fs::LimitUsage;
use worm_fs::report::Status;

/// What a metric is.
#[derive(Clone, Copy)]
enum Kind {
    Gauge,
    Counter,
}

/// All numbers of a status.
pub(super) fn of(status: &Status) -> String {
    let mut page = Page(String::new());
    if let Some(daemon) = &status.daemon {
        let version = [("version", daemon.version.as_str())];
        page.metric("worm_build_info", Kind::Gauge, "The daemon's version.", [(&version[..], 1)]);
        let started = seconds(&daemon.started_at);
        page.one("worm_start_time_seconds", "When the daemon began to serve.", started);
        page.one("worm_open_files", "Files being written or sealed.", daemon.open_files);
        let refusals = daemon.refusals.iter().map(|row| {
            ([("request", row.request.as_str()), ("reason", row.reason.as_str())], row.count)
        });
        page.metric(
            "worm_refusals_total",
            Kind::Counter,
            "Requests turned down by the rules.",
            refusals,
        );
    }
    usage(&mut page, status.daemon.as_ref().map_or(&[][..], |daemon| &daemon.usage));
    if let Some(room) = status.room {
        page.one("worm_disk_size_bytes", "Size of the disk below the store.", room.bytes);
        page.one("worm_disk_free_bytes", "What can still be written there.", room.free_bytes);
    }
    let classes = || status.classes.iter().map(|class| ([("class", class.name.as_str())], class));
    let files = classes().map(|(label, class)| (label, class.files));
    page.metric("worm_class_files", Kind::Gauge, "Sealed files.", files);
    let bytes = classes().map(|(label, class)| (label, class.bytes));
    page.metric("worm_class_size_bytes", Kind::Gauge, "Bytes of sealed files.", bytes);
    let incomplete = classes().map(|(label, class)| (label, class.incomplete));
    let help = "Files that were never finished.";
    page.metric("worm_class_incomplete_files", Kind::Gauge, help, incomplete);
    let newest =
        classes().filter_map(|(label, class)| Some((label, seconds(class.newest.as_deref()?))));
    let help = "When the newest file was sealed; absent where there is none.";
    page.metric("worm_class_newest_seal_timestamp_seconds", Kind::Gauge, help, newest);
    page.one("worm_alarms", "What somebody should look at: see worm status.", status.alarms.len());
    page.one("worm_ledger_lines", "Lines of the ledger.", status.lines);
    page.one("worm_ledger_signed_lines", "Lines under the signed head.", status.signed);
    // Where no head was ever read, nobody has anything.
    let unwitnessed = status.daemon.as_ref().map(|daemon| daemon.unwitnessed);
    let unwitnessed = unwitnessed.map(|lines| ([], lines.unwrap_or(status.lines)));
    let help = "Lines since the newest head that was read through the view.";
    page.metric("worm_ledger_unwitnessed_lines", Kind::Gauge, help, unwitnessed);
    let unread = status.unread.iter().map(|unread| ([], unread.seconds));
    let help = "For how long the sealed file read longest ago was not; absent without files.";
    page.metric("worm_scrub_oldest_unread_seconds", Kind::Gauge, help, unread);
    let help = "By how much the system clock is ahead of the retention clock.";
    page.one("worm_clock_lag_seconds", help, status.lag_seconds);
    page.0
}

/// What classes have, and what they may have; bytes apart from what is counted.
fn usage(page: &mut Page, classes: &[ClassUsage]) {
    let is_bytes = |row: &LimitUsage| row.name.starts_with("bytes");
    let mut metric = |name, help, bytes: bool, value: fn(&LimitUsage) -> u64| {
        let rows = classes.iter().flat_map(|class| {
            let rows = class.limits.iter().filter(move |row| is_bytes(row) == bytes);
            rows.map(move |row| {
                ([("class", class.class.as_str()), ("limit", row.name.as_str())], value(row))
            })
        });
        page.metric(name, Kind::Gauge, help, rows);
    };
    let (has, may) = ("What a class has of what is limited.", "What it may have.");
    metric("worm_class_used_bytes", has, true, |row| row.used);
    metric("worm_class_limit_bytes", may, true, |row| row.limit);
    metric("worm_class_used", has, false, |row| row.used);
    metric("worm_class_limit", may, false, |row| row.limit);
}

/// A moment as Prometheus counts it; whole seconds are enough.
fn seconds(rfc3339: &str) -> i64 {
    rfc3339.parse::<jiff::Timestamp>().map_or(0, jiff::Timestamp::as_second)
}

struct Page(String);

impl Page {
    /// A gauge without labels.
    fn one(&mut self, name: &str, help: &str, value: impl Display) {
        self.metric(name, Kind::Gauge, help, [([], value)]);
    }

    /// A metric with all its values. Label values are percent-encoded or words of ours: nothing
    /// in them needs to be escaped.
    fn metric<'a, L: AsRef<[(&'a str, &'a str)]>, V: Display>(
        &mut self,
        name: &str,
        kind: Kind,
        help: &str,
        values: impl IntoIterator<Item = (L, V)>,
    ) {
        let kind = match kind {
            Kind::Gauge => "gauge",
            Kind::Counter => "counter",
        };
        self.line(format_args!("# HELP {name} {help}"));
        self.line(format_args!("# TYPE {name} {kind}"));
        for (labels, value) in values {
            let labels: Vec<String> =
                labels.as_ref().iter().map(|(name, value)| format!("{name}=\"{value}\"")).collect();
            match labels.join(",") {
                none if none.is_empty() => self.line(format_args!("{name} {value}")),
                labels => self.line(format_args!("{name}{{{labels}}} {value}")),
            }
        }
    }

    fn line(&mut self, line: impl Display) {
        self.0.push_str(&format!("{line}\n"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use worm_fs::report::ClassRow;
    use worm_fs::report::Room;
    use worm_fs::report::Serving;
    use worm_fs::report::Unread;

    fn status() -> Status {
        let refusal = worm_fs::refusals::RefusalCount {
            request: "unlink".into(),
            reason: "retained".into(),
            count: 3,
        };
        let limit = |name: &str, used| LimitUsage { name: name.into(), used, limit: used * 10 };
        let limits = vec![limit("bytes_per_day", 8), limit("files", 2)];
        let class = ClassRow {
            name: "hourly".into(),
            retention_seconds: 60,
            files: 2,
            bytes: 9,
            incomplete: 1,
            newest: Some("2026-01-18T00:00:01.500Z".into()),
        };
        Status {
            store: "s".into(),
            served: true,
            lines: 7,
            signed: 6,
            clock: String::new(),
            lag_seconds: 5,
            room: Some(Room { bytes: 100, free_bytes: 40 }),
            unread: Some(Unread { path: "hourly/a".into(), seconds: 77 }),
            classes: vec![class.clone(), ClassRow { name: "a b".into(), newest: None, ..class }],
            daemon: Some(Serving {
                version: "0.1.0".into(),
                started_at: "2026-01-18T00:00:00Z".into(),
                open_files: 4,
                unwitnessed: Some(3),
                refusals: vec![refusal],
                usage: vec![ClassUsage { class: "hourly".into(), limits }],
                ..Serving::default()
            }),
            alarms: vec!["x".into()],
        }
    }

    #[test]
    fn numbers_have_names_help_and_base_units() {
        let text = of(&status());
        for line in [
            "worm_build_info{version=\"0.1.0\"} 1",
            "worm_start_time_seconds 1768694400",
            "worm_open_files 4",
            "# TYPE worm_refusals_total counter",
            "worm_refusals_total{request=\"unlink\",reason=\"retained\"} 3",
            "worm_class_used_bytes{class=\"hourly\",limit=\"bytes_per_day\"} 8",
            "worm_class_limit_bytes{class=\"hourly\",limit=\"bytes_per_day\"} 80",
            "worm_class_used{class=\"hourly\",limit=\"files\"} 2",
            "worm_class_limit{class=\"hourly\",limit=\"files\"} 20",
            "worm_disk_size_bytes 100",
            "worm_disk_free_bytes 40",
            "worm_class_files{class=\"a b\"} 2",
            "worm_class_size_bytes{class=\"hourly\"} 9",
            "worm_class_incomplete_files{class=\"hourly\"} 1",
            "worm_class_newest_seal_timestamp_seconds{class=\"hourly\"} 1768694401",
            "worm_alarms 1",
            "worm_ledger_lines 7",
            "worm_ledger_signed_lines 6",
            "worm_ledger_unwitnessed_lines 3",
            "worm_scrub_oldest_unread_seconds 77",
            "worm_clock_lag_seconds 5",
        ] {
            assert!(text.lines().any(|written| written == line), "{line}\n{text}");
        }
        assert!(!text.contains("seconds{class=\"a b\"}"), "{text}");
        let never = Serving { unwitnessed: None, ..Serving::default() };
        let never = of(&Status { daemon: Some(never), unread: None, ..status() });
        assert!(never.contains("\nworm_ledger_unwitnessed_lines 7\n"), "nobody has any: {never}");
        assert!(!never.contains("\nworm_scrub_oldest_unread_seconds "), "{never}");
        // Every value stands under its own HELP and TYPE.
        let mut named = "";
        for line in text.lines() {
            if let Some(rest) = line.strip_prefix("# TYPE ") {
                named = rest.split(' ').next().unwrap();
            } else if !line.starts_with('#') {
                assert_eq!(line.split(['{', ' ']).next().unwrap(), named, "{line}");
            }
        }
    }
}
