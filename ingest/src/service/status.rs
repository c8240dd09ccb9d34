//! PURE: how a service stands, for people, for systemd and for metrics.

use jiff::Timestamp;

use crate::schedule::agenda::Agenda;

/// How a service stands.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Status {
    /// One for each class of the schedule.
    pub classes: Vec<ClassStatus>,
    /// The classes of the run under way, and when it began.
    pub running: Option<(Vec<String>, Timestamp)>,
    /// When the next run begins by the schedule, and its classes.
    pub next: Option<(Timestamp, String)>,
}

/// How one class stands.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct ClassStatus {
    /// Its name.
    pub class: String,
    /// Whether what is sealed in it could be seen when the mount was last looked at.
    pub seen: bool,
    /// Why not, if so.
    pub problem: Option<String>,
    /// When the newest backup of it began, if there is one.
    pub last_start: Option<Timestamp>,
    /// How many times of the schedule it missed for good since the service began.
    pub missed: u64,
    /// How many runs of it failed in a row, tries included.
    pub failed: u64,
    /// What the last one that failed said.
    pub failure: Option<String>,
}

impl Status {
    pub(super) fn new(agenda: &Agenda) -> Self {
        let class = |class: &str| ClassStatus { class: class.to_owned(), ..ClassStatus::default() };
        let classes = agenda.schedule().lines.iter().map(|line| class(&line.class)).collect();
        Self { classes, running: None, next: None }
    }

    /// Whether backups can be made: some class can be seen.
    #[must_use]
    pub fn ready(&self) -> bool {
        self.classes.iter().any(|class| class.seen)
    }

    /// Whether a backup could be made in every class; otherwise why not.
    ///
    /// # Errors
    /// The reason.
    pub fn can_back_up(&self) -> Result<(), String> {
        if self.classes.is_empty() {
            return Err("the mount has not been looked at yet".to_owned());
        }
        let problem = |class: &ClassStatus| {
            let unseen = (!class.seen).then(|| "it has not been looked at yet".to_owned());
            let why = class.problem.clone().or(unseen)?;
            Some(format!("{}: {why}", class.class))
        };
        let problems: Vec<String> = self.classes.iter().filter_map(problem).collect();
        if problems.is_empty() { Ok(()) } else { Err(problems.join("; ")) }
    }

    /// Whether every class can be seen.
    #[must_use]
    pub fn complete(&self) -> bool {
        self.classes.iter().all(|class| class.seen)
    }

    /// Notes whether a class can be seen. Says so once, when that has changed.
    pub(super) fn problem(&mut self, class: &str, problem: Option<String>) {
        let Some(class) = self.class(class) else { return };
        match &problem {
            Some(why) if class.problem.as_ref() != Some(why) => {
                tell_problem(&class.class, why);
            }
            None if class.problem.is_some() => tell_solved(&class.class),
            Some(_) | None => {}
        }
        class.seen = problem.is_none();
        class.problem = problem;
    }

    pub(super) fn begin(&mut self, classes: &[String], at: Timestamp) {
        self.running = Some((classes.to_vec(), at));
    }

    pub(super) fn end(&mut self, class: &str, failure: Option<String>) {
        let Some(class) = self.class(class) else { return };
        class.failed = if failure.is_some() { class.failed + 1 } else { 0 };
        class.failure = failure;
    }

    /// Notes how many were missed, and gives by how many it has grown.
    pub(super) fn missed(&mut self, class: &str, missed: u64) -> u64 {
        let Some(class) = self.class(class) else { return 0 };
        let more = missed.saturating_sub(class.missed);
        class.missed = missed;
        more
    }

    pub(super) fn last_starts<'a>(
        &mut self,
        starts: impl Iterator<Item = (&'a str, Option<Timestamp>)>,
    ) {
        for (class, start) in starts {
            if let Some(class) = self.class(class) {
                class.last_start = start;
            }
        }
    }

    fn class(&mut self, name: &str) -> Option<&mut ClassStatus> {
        self.classes.iter_mut().find(|class| class.class == name)
    }

    /// In one line.
    #[must_use]
    pub fn line(&self) -> String {
        let mut parts = Vec::new();
        for class in &self.classes {
            if let Some(why) = &class.problem {
                parts.push(format!("{}: {why}", class.class));
            } else if class.failed > 0 {
                let why = class.failure.as_deref().unwrap_or_default();
                parts.push(format!("{} failed {} times: {why}", class.class, class.failed));
            }
            if class.missed > 0 {
                parts.push(format!("{} missed {}", class.class, class.missed));
            }
        }
        match (&self.running, &self.next) {
            (Some((classes, since)), _) => {
                parts.insert(0, format!("backing up {} since {since}", classes.join("+")));
            }
            (None, Some((at, classes))) => parts.insert(0, format!("next: {classes} at {at}")),
            (None, None) => {}
        }
        parts.join("; ")
    }
}

fn tell_problem(class: &str, why: &str) {
    tracing::error!(class, "no backup can be made: {why}");
}

fn tell_solved(class: &str) {
    tracing::info!(class, "backups can be made again");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_ready_when_every_class_was_seen() {
        let mut status = Status::default();
        assert!(status.can_back_up().unwrap_err().contains("not been looked at"));
        let class = |class: &str| ClassStatus { class: class.to_owned(), ..ClassStatus::default() };
        status.classes = vec![class("hourly"), class("daily")];
        assert!(status.can_back_up().unwrap_err().contains("hourly: it has not"));
        status.problem("hourly", None);
        status.problem("daily", Some("gone".to_owned()));
        assert_eq!(status.can_back_up(), Err("daily: gone".to_owned()));
        status.problem("daily", None);
        assert_eq!(status.can_back_up(), Ok(()));
        // A backup that failed is told by the numbers: another can be made.
        status.end("daily", Some("refused".to_owned()));
        assert_eq!(status.can_back_up(), Ok(()));
    }
}
