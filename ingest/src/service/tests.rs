//! The loop in a world whose clocks go as the test says.

use std::collections::BTreeMap;
use std::collections::VecDeque;

use jiff::SignedDuration;
use jiff::tz::TimeZone;

use super::*;
use crate::schedule::Jitter;
use crate::schedule::Schedule;
use crate::schedule::line::Line;

/// What a test makes happen when the clock that nobody sets has come so far.
type Event = (Duration, Box<dyn Fn(&mut Fake)>);

struct Fake {
    begin: Timestamp,
    clock: Duration,
    set_by: SignedDuration,
    end: Duration,
    dump: Duration,
    events: VecDeque<Event>,
    /// Why nothing can be seen.
    away: Option<&'static str>,
    /// Why dumps fail, but that of the database `good`.
    broken: Option<&'static str>,
    /// A seal that the mount does not show afterwards.
    forgets: bool,
    hangs: bool,
    /// Of each class and database.
    sealed: BTreeMap<(String, String), Vec<Timestamp>>,
    databases: Vec<&'static str>,
    looks: usize,
    sleeps: usize,
    runs: Vec<String>,
    told: Vec<String>,
    /// The audit log cannot be written.
    mute: bool,
    noted: Vec<String>,
    /// Until when an earlier service has noted it.
    noted_before: Option<&'static str>,
    last: Status,
    ready: Option<Duration>,
}

impl Fake {
    fn new(begin: &str, hours: u64) -> Self {
        Self {
            begin: begin.parse().unwrap(),
            clock: Duration::ZERO,
            set_by: SignedDuration::ZERO,
            end: Duration::from_hours(hours),
            dump: Duration::from_mins(4),
            events: VecDeque::new(),
            away: None,
            broken: None,
            forgets: false,
            hangs: false,
            sealed: BTreeMap::new(),
            databases: vec!["app"],
            looks: 0,
            sleeps: 0,
            runs: Vec::new(),
            told: Vec::new(),
            mute: false,
            noted: Vec::new(),
            noted_before: None,
            last: Status::default(),
            ready: None,
        }
    }

    fn at(mut self, minutes: u64, event: impl Fn(&mut Self) + 'static) -> Self {
        self.events.push_back((Duration::from_mins(minutes), Box::new(event)));
        self
    }

    fn pass(&mut self, time: Duration) {
        let until = self.clock + time;
        while let Some((at, _)) = self.events.front()
            && *at <= until
        {
            let (at, event) = self.events.pop_front().unwrap();
            self.clock = at.max(self.clock);
            event(self);
        }
        self.clock = until.max(self.clock);
    }

    fn serve(&mut self) -> Exit {
        let lines = [("hourly", "0 * * * *"), ("daily", "0 0 * * *")];
        let schedule = Schedule {
            lines: lines.map(|(class, text)| Line::new(class, text).unwrap()).into(),
            zone: TimeZone::UTC,
            catch_up: None,
            jitter: Jitter::default(),
        };
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let mut agenda = Agenda::new(schedule);
        if let Some(until) = self.noted_before {
            agenda.noted("hourly", until.parse().unwrap());
        }
        runtime.block_on(serve(self, agenda))
    }
}

impl World for Fake {
    fn now(&self) -> Timestamp {
        self.begin + SignedDuration::try_from(self.clock).unwrap() + self.set_by
    }

    fn clock(&self) -> Duration {
        self.clock
    }

    async fn sleep(&mut self, time: Duration) {
        assert!(time <= TICK, "the clock on the wall may have been set meanwhile");
        self.sleeps += 1;
        self.pass(time);
    }

    fn is_stopped(&self) -> bool {
        self.clock >= self.end
    }

    async fn look(&mut self, class: &str, judge: Judge) -> Result<Vec<Sealed>, String> {
        self.looks += 1;
        if let Some(why) = self.away {
            return Err(why.to_owned());
        }
        let of = |database: &&str| {
            let mut starts = Vec::new();
            let key = (class.to_owned(), (*database).to_owned());
            for start in self.sealed.get(&key).into_iter().flatten().rev() {
                starts.push(*start);
                if judge.counts(*start) {
                    break;
                }
            }
            Sealed { database: (*database).to_owned(), starts }
        };
        Ok(self.databases.iter().map(of).collect())
    }

    async fn run(&mut self, wanted: Vec<Wanted>) -> Ran {
        let begun = self.now();
        let classes: Vec<String> = wanted.iter().map(|wanted| wanted.class.clone()).collect();
        let mut line = format!("{} {}", begun.strftime("%d %H:%M"), classes.join("+"));
        self.pass(if self.broken.is_some() { Duration::ZERO } else { self.dump });
        if self.hangs || self.is_stopped() {
            self.runs.push(line);
            return if self.hangs { Ran::Hangs } else { Ran::Cancelled };
        }
        let mut results = Vec::new();
        for Wanted { class, occurrence, judge } in wanted {
            let mut result = Ok(());
            for database in &self.databases {
                let sealed =
                    self.sealed.entry((class.clone(), (*database).to_owned())).or_default();
                let met = |start: &Timestamp| *start >= occurrence && judge.counts(*start);
                if self.databases.len() > 1 && sealed.iter().any(met) {
                    line.push_str(&format!(" without {database}"));
                } else if let Some(why) = self.broken.filter(|_| *database != "good") {
                    let message = format!("{class}: {why}");
                    result = Err(Failure { message, wrote: false });
                } else if !self.forgets {
                    sealed.push(begun);
                    sealed.sort_unstable();
                }
            }
            results.push(result);
        }
        self.runs.push(line);
        Ran::Ended(results)
    }

    async fn note(&mut self, missed: &Missed) -> Result<(), String> {
        if self.mute {
            return Err("it is full".to_owned());
        }
        self.noted.push(format!("{} {}", missed.class, missed.count));
        Ok(())
    }

    fn tell(&mut self, status: &Status) {
        let line = status.line();
        if self.told.last() != Some(&line) {
            self.told.push(line);
        }
        self.last = status.clone();
        if status.ready() && self.ready.is_none() {
            self.ready = Some(self.clock);
        }
    }
}

#[test]
fn an_empty_store_is_filled_at_once_and_then_by_the_clock() {
    let mut world = Fake::new("2026-01-17T21:30:20Z", 4);
    assert_eq!(world.serve(), Exit::Done);
    let expected =
        ["17 21:30 hourly+daily", "17 22:00 hourly", "17 23:00 hourly", "18 00:00 hourly+daily"];
    assert_eq!(world.runs[..4], expected);
    assert_eq!(world.runs[4..], ["18 01:00 hourly"]);
    assert_eq!(world.ready, Some(Duration::ZERO));
    assert!(world.looks < 100, "{} looks: the mount is not asked all the time", world.looks);
    assert!(world.told.iter().any(|told| told.starts_with("backing up hourly+daily since ")));
    let next = "next: hourly at 2026-01-17T22:00:00Z";
    assert!(world.told.iter().any(|told| told == next), "{:?}", world.told);
}

#[test]
fn a_mount_that_is_away_is_waited_for_and_triggers_nothing() {
    let away = "/backups/active is not write-once";
    let mut world = Fake::new("2026-01-17T21:30:00Z", 6).at(90, |world| world.away = None);
    world.away = Some(away);
    world.serve();
    assert_eq!(world.runs[0], "17 23:00 hourly+daily");
    assert_eq!(world.ready, Some(Duration::from_mins(90)));
    assert!(world.told[0].contains(&format!("hourly: {away}")), "{:?}", world.told);
    // Told anew only when the next hour is another.
    assert_eq!(world.told.iter().filter(|told| told.contains(away)).count(), 2, "{:?}", world.told);
    assert_eq!(world.last.classes[1].missed, 0);

    // Away in the middle: nothing is made, and nothing twice when it is back.
    let mut world = Fake::new("2026-01-17T21:30:00Z", 6)
        .at(80, |world| world.away = Some("gone"))
        .at(170, |world| world.away = None);
    world.serve();
    let expected =
        ["17 21:30 hourly+daily", "17 22:00 hourly", "18 00:20 hourly+daily", "18 01:00 hourly"];
    assert_eq!(world.runs[..4], expected);
    assert_eq!(world.last.classes[0].missed, 1);
    assert_eq!(world.noted, ["hourly 1"]);
}

#[test]
fn what_was_missed_is_noted_once_and_again_until_that_works() {
    let mut world = Fake::new("2026-01-17T21:30:00Z", 12)
        .at(80, |world| world.away = Some("gone"))
        .at(85, |world| world.mute = true)
        .at(290, |world| world.away = None)
        .at(350, |world| world.mute = false);
    world.serve();
    assert_eq!(world.noted, ["hourly 3"]);

    // A service that begins later notes what nobody has noted before.
    for (before, noted) in [
        (None, &["hourly 3"][..]),
        (Some("2026-01-18T07:00:00Z"), &["hourly 1"]),
        (Some("2026-01-18T08:00:00Z"), &[]),
    ] {
        let mut later = Fake::new("2026-01-18T09:40:00Z", 2);
        for class in ["hourly", "daily"] {
            let start = "2026-01-18T05:00:00Z".parse().unwrap();
            later.sealed.insert((class.to_owned(), "app".to_owned()), vec![start]);
        }
        later.noted_before = before;
        later.serve();
        assert_eq!(later.noted, noted);
    }
}

#[test]
fn a_database_that_is_away_is_asked_again_and_again_but_not_all_the_time() {
    let mut world = Fake::new("2026-01-17T21:30:00Z", 3)
        .at(20, |world| world.broken = Some("refused"))
        .at(60, |world| world.broken = None);
    world.serve();
    let expected = [
        "17 21:30 hourly+daily",
        "17 22:00 hourly",
        "17 22:01 hourly",
        "17 22:03 hourly",
        "17 22:07 hourly",
        "17 22:12 hourly",
        "17 22:17 hourly",
        "17 22:22 hourly",
        "17 22:27 hourly",
        "17 22:32 hourly",
        "17 23:00 hourly",
    ];
    assert_eq!(world.runs[..11], expected);
    assert!(world.told.iter().any(|told| told.contains("hourly failed 3 times: hourly: refused")));
    assert_eq!(world.last.classes[0].failed, 0, "{:?}", world.last);
}

#[test]
fn a_database_that_fails_is_tried_again_without_those_that_are_good() {
    let mut world = Fake::new("2026-01-17T21:30:00Z", 2).at(2, |world| world.broken = None);
    world.broken = Some("refused");
    world.databases = vec!["good", "bad"];
    world.serve();
    let expected = [
        "17 21:30 hourly+daily",
        // The window of the day is over.
        "17 21:31 hourly without good",
        "17 21:33 hourly without good",
        "17 22:00 hourly",
        "17 23:00 hourly",
    ];
    assert_eq!(world.runs, expected);
}

#[test]
fn a_new_database_is_made_up_for_within_the_window_and_one_that_goes_is_forgotten() {
    let mut world = Fake::new("2026-01-17T21:30:00Z", 3)
        // Ten past ten: within the hour's window, not within the day's.
        .at(40, |world| world.databases = vec!["app", "new"])
        // Ten to eleven: within neither.
        .at(80, |world| world.databases = vec!["app", "late", "new"])
        .at(100, |world| world.databases = vec!["app", "late"]);
    world.serve();
    let expected = [
        "17 21:30 hourly+daily",
        "17 22:00 hourly",
        "17 22:14 hourly without app",
        "17 23:00 hourly",
        "18 00:00 hourly+daily",
    ];
    assert_eq!(world.runs, expected);
    assert_eq!(world.last.classes[0].missed, 0);
    assert_eq!(world.last.classes[1].missed, 0);
}

#[test]
fn a_backup_that_the_mount_does_not_show_is_not_made_over_and_over() {
    let mut world = Fake::new("2026-01-17T21:30:00Z", 2);
    world.forgets = true;
    world.serve();
    assert_eq!(world.runs, ["17 21:30 hourly+daily", "17 22:00 hourly", "17 23:00 hourly"]);
}

#[test]
fn clocks_that_are_set_are_noticed_within_a_minute() {
    let mut world = Fake::new("2026-01-17T10:30:00Z", 6)
        .at(70, |world| world.set_by = SignedDuration::from_hours(2))
        .at(200, |world| world.set_by = SignedDuration::from_hours(-1));
    world.serve();
    let expected = [
        "17 10:30 hourly+daily",
        "17 11:00 hourly",
        // 11:40 became 13:40.
        "17 13:40 hourly",
        "17 14:00 hourly",
        "17 15:00 hourly",
        // 15:50 became 12:50: half of that hour's window is over, eleven o'clock was the last.
        "17 13:00 hourly",
        "17 14:00 hourly",
        "17 15:00 hourly",
    ];
    let runs: Vec<&str> = world.runs.iter().map(String::as_str).collect();
    assert_eq!(runs, expected);
}

#[test]
fn the_end_in_the_middle_of_a_run_is_told_from_one_in_peace() {
    let mut world = Fake::new("2026-01-17T21:59:00Z", 1);
    world.dump = Duration::from_hours(2);
    assert_eq!(world.serve(), Exit::Cancelled);
    let mut world = Fake::new("2026-01-17T21:59:00Z", 1);
    world.hangs = true;
    assert_eq!(world.serve(), Exit::Failed);
    assert_eq!(world.runs.len(), 1);
}
