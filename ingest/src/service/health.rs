//! What a service says about itself to probes and to Prometheus.

use std::fs::OpenOptions;
use std::io;
use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::time::Duration;
use std::time::Instant;

use jiff::Timestamp;
use tokio::sync::watch;

use super::status::Status;
use crate::config::Config;
use crate::http::Health;
use crate::look;
use crate::metrics::Planned;
use crate::schedule::Schedule;
use crate::vault;

/// A loop that is silent for longer does not turn: it gives a sign of life every minute.
const SILENCE_MAX: Duration = Duration::from_mins(3);
/// The file for node_exporter is made anew so often.
const WRITE_EVERY: Duration = Duration::from_secs(30);

/// The signs of life of the loop.
#[derive(Clone, Debug)]
pub(crate) struct Pulse {
    began: Instant,
    /// When the last one was, in milliseconds since then.
    last: Arc<AtomicU64>,
}

impl Pulse {
    pub(crate) fn new() -> Self {
        Self { began: Instant::now(), last: Arc::default() }
    }

    /// A sign of life.
    pub(crate) fn beat(&self) {
        let now = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.last.store(now, Ordering::Relaxed);
    }

    fn silence(&self) -> Duration {
        let last = Duration::from_millis(self.last.load(Ordering::Relaxed));
        self.began.elapsed().saturating_sub(last)
    }
}

/// What is known of a service from outside its loop.
#[derive(Debug)]
pub(crate) struct Known {
    pub(crate) config: Arc<Config>,
    pub(crate) schedule: Schedule,
    pub(crate) status: watch::Receiver<Status>,
    pub(crate) pulse: Pulse,
}

impl Health for Known {
    fn alive(&self) -> Result<(), String> {
        is_turning(self.pulse.silence())
    }

    fn ready(&self) -> Result<(), String> {
        self.status.borrow().can_back_up()?;
        // The loop looks every few minutes only.
        match vault::store(&self.config.backups) {
            Ok(None) if !self.config.allow_plain => {
                Err(format!("{} is not write-once", self.config.backups.display()))
            }
            Ok(_) => Ok(()),
            Err(error) => Err(error.to_string()),
        }
    }

    fn metrics(&self) -> Result<String, String> {
        let planned = planned(&self.schedule, Timestamp::now());
        let text = look::metrics(
            &self.config.backups,
            &self.config.shape.filters,
            &self.config.audit_log,
            &planned,
        );
        text.map_err(|error| error.to_string())
    }
}

/// PURE: whether a loop that was silent for so long turns.
fn is_turning(silence: Duration) -> Result<(), String> {
    if silence > SILENCE_MAX {
        return Err(format!("the service has given no sign of life for {} s", silence.as_secs()));
    }
    Ok(())
}

/// PURE: what the schedule has for each class.
pub(crate) fn planned(schedule: &Schedule, now: Timestamp) -> Vec<Planned> {
    let planned = schedule.lines.iter().map(|line| {
        let next = line.after(now, &schedule.zone);
        let later = next.and_then(|next| line.after(next, &schedule.zone));
        let interval = next.zip(later).map(|(next, later)| later.duration_since(next));
        Planned {
            class: line.class.clone(),
            interval_seconds: interval.map_or(f64::INFINITY, |interval| interval.as_secs_f64()),
            next: next.map(|next| schedule.begin(next)),
        }
    });
    planned.collect()
}

/// Writes the numbers into a file, again and again, for as long as the process lives.
///
/// # Errors
/// When there is no thread for it.
pub(crate) fn write_always(path: &Path, known: Arc<Known>) -> io::Result<()> {
    let path = path.to_owned();
    let write = move || {
        let mut is_told = false;
        loop {
            let written = known
                .metrics()
                .and_then(|text| write_whole(&path, &text).map_err(|error| error.to_string()));
            match written {
                Ok(()) => is_told = false,
                Err(why) if !is_told => {
                    tracing::warn!(path = %path.display(), why, "the numbers could not be written");
                    is_told = true;
                }
                Err(_told) => {}
            }
            std::thread::sleep(WRITE_EVERY);
        }
    };
    std::thread::Builder::new().name("textfile".to_owned()).spawn(write).map(drop)
}

/// Puts a whole file in the place of the one before, so that no reader sees a half.
///
/// # Errors
/// When it cannot be written.
pub fn write_whole(path: &Path, text: &str) -> io::Result<()> {
    let mut new = path.as_os_str().to_owned();
    new.push(".new");
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).open(&new)?;
    file.write_all(text.as_bytes())?;
    rustix::fs::rename(&new, path)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use jiff::tz::TimeZone;

    use super::*;
    use crate::schedule::Jitter;
    use crate::schedule::line::Line;

    #[test]
    fn a_loop_that_is_silent_for_long_does_not_turn() {
        assert_eq!(is_turning(Duration::from_mins(2)), Ok(()));
        assert!(is_turning(Duration::from_mins(4)).unwrap_err().contains("240 s"));
        let pulse = Pulse::new();
        pulse.beat();
        assert_eq!(is_turning(pulse.silence()), Ok(()));
    }

    #[test]
    fn what_is_planned_follows_from_the_schedule() {
        let lines = [("hourly", "0 * * * *"), ("weekly", "0 0 * * 0")];
        let schedule = Schedule {
            lines: lines.map(|(class, text)| Line::new(class, text).unwrap()).into(),
            zone: TimeZone::UTC,
            catch_up: None,
            jitter: Jitter::default(),
        };
        let planned = planned(&schedule, "2026-01-17T21:30:00Z".parse().unwrap());
        let told = |at: usize| {
            let Planned { class, interval_seconds, next } = &planned[at];
            format!("{class} {interval_seconds} {}", next.unwrap())
        };
        assert_eq!(told(0), "hourly 3600 2026-01-17T22:00:00Z");
        assert_eq!(told(1), "weekly 604800 2026-01-18T00:00:00Z");
    }

    #[test]
    fn a_file_is_replaced_whole() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("worm.prom");
        for text in ["long\nlonger\n", "short\n"] {
            write_whole(&path, text).unwrap();
            assert_eq!(std::fs::read_to_string(&path).unwrap(), text);
        }
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 1);
    }
}
