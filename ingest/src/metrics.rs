//! PURE: the agent's numbers for Prometheus, from what is sealed and from the audit log, so that
//! they are the same after a restart, and grow older while a run hangs.

pub(crate) mod attempts;

use std::collections::BTreeMap;
use std::sync::atomic::AtomicU64;

use jiff::Timestamp;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use self::attempts::Attempt;
use crate::audit::Missed;
use crate::error::Error;
use crate::inventory::Entry;
use crate::inventory::State;

type Labels = Vec<(&'static str, String)>;
type Number = Gauge<f64, AtomicU64>;

/// What the schedule has for a class.
#[derive(Clone, Debug)]
pub struct Planned {
    /// The class.
    pub class: String,
    /// From one run to the next, in seconds.
    pub interval_seconds: f64,
    /// When the next one begins.
    pub next: Option<Timestamp>,
}

/// All that the numbers follow from.
#[derive(Debug)]
pub(crate) struct Facts<'all> {
    pub(crate) now: Timestamp,
    /// What is on the mount, the newest first.
    pub(crate) entries: &'all [Entry],
    /// What the audit log knows, in its order.
    pub(crate) attempts: &'all [Attempt],
    /// Runs that were missed, by the audit log.
    pub(crate) missed: &'all [Missed],
    /// What the schedule has; nothing where there is none.
    pub(crate) planned: &'all [Planned],
    /// Dumps under way in this process.
    pub(crate) in_progress: usize,
    /// Bytes that those have read so far.
    pub(crate) progress_bytes: u64,
    /// How often nobody could be told how a run went.
    pub(crate) untold: u64,
}

/// The text that Prometheus reads.
///
/// # Errors
/// [`Error::Internal`] when it cannot be written, which does not happen in memory.
pub(crate) fn text(facts: &Facts) -> Result<String, Error> {
    let mut registry = Registry::with_prefix("worm_ingest");
    sealed(&mut registry, facts);
    attempted(&mut registry, facts);
    planned(&mut registry, facts);
    let of_process = |registry: &mut Registry, name, help, value: f64| {
        let gauge = Number::default();
        let _before = gauge.set(value);
        registry.register(name, help, gauge);
    };
    of_process(
        &mut registry,
        "in_progress",
        "Dumps under way in this process",
        float(facts.in_progress as u64),
    );
    of_process(
        &mut registry,
        "progress_bytes",
        "What those have read so far",
        float(facts.progress_bytes),
    );
    let untold = Counter::<u64>::default();
    let _before = untold.inc_by(facts.untold);
    registry.register(
        "notify_failures",
        "How often nobody could be told how a run went, since the process began",
        untold,
    );
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, &registry)
        .map_err(|error| Error::Internal(error.to_string()))?;
    Ok(text)
}

/// Gauges of one name.
struct Gauges<'registry> {
    registry: &'registry mut Registry,
}

impl Gauges<'_> {
    fn put(&mut self, name: &str, help: &str, values: impl Iterator<Item = (Labels, f64)>) {
        let family = Family::<Labels, Number>::default();
        let mut any = false;
        for (labels, value) in values {
            let _before = family.get_or_create(&labels).set(value);
            any = true;
        }
        if any {
            self.registry.register(name, help, family);
        }
    }
}

fn labels(database: &str, class: &str) -> Labels {
    vec![("database", database.to_owned()), ("class", class.to_owned())]
}

/// The newest good backup of each database and class.
fn newest(entries: &[Entry]) -> BTreeMap<(String, String), &Entry> {
    let mut newest = BTreeMap::new();
    for entry in entries.iter().filter(|entry| entry.is_good()) {
        if let Some(manifest) = entry.manifest() {
            newest.entry((manifest.database.clone(), entry.class())).or_insert(entry);
        }
    }
    newest
}

fn sealed(registry: &mut Registry, facts: &Facts) {
    let newest = newest(facts.entries);
    let mut gauges = Gauges { registry };
    let mut each = |name: &str, help: &str, value: &dyn Fn(&Entry) -> Option<f64>| {
        let values = newest.iter().filter_map(|((database, class), entry)| {
            Some((labels(database, class), value(entry)?))
        });
        gauges.put(name, help, values);
    };
    let manifest = Entry::manifest;
    each("last_success_timestamp_seconds", "When the newest good backup was sealed", &|entry| {
        Some(seconds(manifest(entry)?.finished_at))
    });
    each("last_success_age_seconds", "How long ago that was", &|entry| {
        Some(facts.now.duration_since(manifest(entry)?.finished_at).as_secs_f64())
    });
    each("duration_seconds", "How long the newest good backup took", &|entry| {
        let manifest = manifest(entry)?;
        Some(manifest.finished_at.duration_since(manifest.started_at).as_secs_f64())
    });
    each("raw_bytes", "Its size before compression", &|entry| {
        Some(float(manifest(entry)?.raw.bytes))
    });
    each("stored_bytes", "Its size as stored", &|entry| Some(float(manifest(entry)?.stored.bytes)));
    each("rows", "Its rows", &|entry| {
        Some(float(manifest(entry)?.tables.iter().map(|table| table.rows).sum()))
    });
    each("retain_until_timestamp_seconds", "Until when the mount keeps it", &|entry| {
        entry.retain_until.map(seconds)
    });

    let mut suspect = BTreeMap::new();
    let mut counts: BTreeMap<(String, &str), u64> = BTreeMap::new();
    for entry in facts.entries {
        let state = match &entry.state {
            State::Good(_) => "good",
            State::Suspect(_) => "suspect",
            State::NotGood(_) => "not_good",
        };
        *counts.entry((entry.class(), state)).or_default() += 1;
        if let Some(manifest) = entry.manifest() {
            let key = (manifest.database.clone(), entry.class());
            suspect.entry(key).or_insert(!entry.is_good());
        }
    }
    gauges.put(
        "suspect",
        "1 if the newest backup looks as if something had happened to the database",
        suspect
            .into_iter()
            .map(|((database, class), suspect)| (labels(&database, &class), f64::from(suspect))),
    );
    gauges.put(
        "backups",
        "What is on the mount",
        counts.into_iter().map(|((class, state), count)| {
            (vec![("class", class), ("state", state.to_owned())], float(count))
        }),
    );
}

fn attempted(registry: &mut Registry, facts: &Facts) {
    let mut last: BTreeMap<(&str, &str), &Attempt> = BTreeMap::new();
    for attempt in facts.attempts {
        let _older = last.insert((&attempt.database, &attempt.class), attempt);
    }
    let mut gauges = Gauges { registry };
    let mut each = |name: &str, help: &str, value: &dyn Fn(&Attempt) -> f64| {
        let values = last
            .iter()
            .map(|((database, class), attempt)| (labels(database, class), value(attempt)));
        gauges.put(name, help, values);
    };
    each("last_attempt_timestamp_seconds", "When the newest run ended", &|attempt| {
        seconds(attempt.ts)
    });
    each(
        "last_result",
        "How it ended: 0 good, otherwise the exit code of worm-ingest",
        &|attempt| f64::from(attempt.exit),
    );
    each("last_attempt_duration_seconds", "How long it took", &|attempt| {
        float(attempt.duration_ms) / 1000.0
    });
}

fn planned(registry: &mut Registry, facts: &Facts) {
    let of = |planned: &Planned| vec![("class", planned.class.clone())];
    let mut gauges = Gauges { registry };
    gauges.put(
        "schedule_interval_seconds",
        "From one run to the next",
        facts.planned.iter().map(|planned| (of(planned), planned.interval_seconds)),
    );
    gauges.put(
        "next_run_timestamp_seconds",
        "When the next run begins",
        facts.planned.iter().filter_map(|planned| Some((of(planned), seconds(planned.next?)))),
    );
    let missed = Family::<Labels, Counter>::default();
    // A counter that is there from the beginning can be seen to grow.
    for planned in facts.planned {
        let _before = missed.get_or_create(&of(planned)).inc_by(0);
    }
    for line in facts.missed {
        let _before = missed.get_or_create(&vec![("class", line.class.clone())]).inc_by(line.count);
    }
    if !facts.planned.is_empty() || !facts.missed.is_empty() {
        registry.register(
            "missed_runs",
            "Runs that were not made up for, by the audit log",
            missed,
        );
    }
}

fn seconds(at: Timestamp) -> f64 {
    at.duration_since(Timestamp::UNIX_EPOCH).as_secs_f64()
}

#[expect(clippy::cast_precision_loss, reason = "gauges are floating, and so far off nobody looks")]
fn float(number: u64) -> f64 {
    number as f64
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;
    use crate::audit::MissedEvent;
    use crate::inventory::Found;
    use crate::tripwire::tests::run;

    fn entry(hour: i64, suspect: bool) -> Entry {
        let mut manifest = run(hour, &[("t", 10)]);
        if suspect {
            manifest.suspect = vec![crate::manifest::Suspicion {
                code: "rows.dropped".to_owned(),
                message: String::new(),
            }];
        }
        let retain_until = Some(manifest.finished_at);
        let found = Found {
            name: manifest.name.clone(),
            directory: PathBuf::from("hourly"),
            bytes: Some(1),
        };
        let manifest = Box::new(manifest);
        let state = if suspect { State::Suspect(manifest) } else { State::Good(manifest) };
        Entry { found, state, retain_until }
    }

    fn facts<'all>(entries: &'all [Entry], attempts: &'all [Attempt]) -> Facts<'all> {
        let now = run(3, &[]).started_at;
        Facts {
            now,
            entries,
            attempts,
            missed: &[],
            planned: &[],
            in_progress: 0,
            progress_bytes: 0,
            untold: 2,
        }
    }

    #[track_caller]
    fn check(text: &str, line: &str) {
        let full = format!("worm_ingest_{line}");
        assert!(text.lines().any(|found| found == full), "{line}\n{text}");
    }

    #[test]
    fn the_age_is_that_of_the_newest_good_backup() {
        let entries = [entry(2, true), entry(1, false), entry(0, false)];
        let text = text(&facts(&entries, &[])).unwrap();
        check(&text, r#"last_success_age_seconds{database="app",class="hourly"} 7140.0"#);
        check(
            &text,
            r#"last_success_timestamp_seconds{database="app",class="hourly"} 1800003660.0"#,
        );
        check(
            &text,
            r#"retain_until_timestamp_seconds{database="app",class="hourly"} 1800003660.0"#,
        );
        check(&text, r#"duration_seconds{database="app",class="hourly"} 60.0"#);
        check(&text, r#"rows{database="app",class="hourly"} 10.0"#);
        check(&text, r#"suspect{database="app",class="hourly"} 1.0"#);
        check(&text, r#"backups{class="hourly",state="good"} 2.0"#);
        check(&text, "notify_failures_total 2");
        check(&text, "in_progress 0.0");
        let text = super::text(&facts(&entries[1..], &[])).unwrap();
        check(&text, r#"suspect{database="app",class="hourly"} 0.0"#);
        assert!(!text.contains("next_run"), "{text}");
    }

    #[test]
    fn a_failure_clears_with_the_next_success() {
        let attempt = |exit| Attempt {
            ts: Timestamp::UNIX_EPOCH,
            class: "hourly".to_owned(),
            database: "app".to_owned(),
            exit,
            duration_ms: 1500,
        };
        let [bad, good] = [8, 0].map(attempt);
        let line = |result| format!("last_result{{database=\"app\",class=\"hourly\"}} {result}.0");
        check(&text(&facts(&[], &[good.clone(), bad.clone()])).unwrap(), &line(8));
        check(&text(&facts(&[], &[bad, good])).unwrap(), &line(0));
    }

    #[test]
    fn the_schedule_is_told_where_there_is_one() {
        let planned = [Planned {
            class: "daily".to_owned(),
            interval_seconds: 86_400.0,
            next: Some(Timestamp::UNIX_EPOCH),
        }];
        let now = Timestamp::UNIX_EPOCH;
        let missed = [1, 2].map(|count| Missed {
            ts: now,
            event: MissedEvent::Missed,
            class: "daily".to_owned(),
            count,
            until: now,
        });
        let text = text(&Facts { planned: &planned, missed: &missed, ..facts(&[], &[]) }).unwrap();
        check(&text, r#"schedule_interval_seconds{class="daily"} 86400.0"#);
        check(&text, r#"next_run_timestamp_seconds{class="daily"} 0.0"#);
        check(&text, r#"missed_runs_total{class="daily"} 3"#);
    }
}
