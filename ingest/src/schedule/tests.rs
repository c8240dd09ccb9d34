//! Weeks of schedule in simulated time, with outages, clocks that are set, and both changes of a zone.

mod simulation;
mod weeks;

use jiff::SignedDuration;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use proptest::prelude::*;

use super::*;

pub(crate) fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

/// With the three classes of the manual.
pub(crate) fn schedule(zone: &str) -> Schedule {
    lines(zone, &[("hourly", "0 * * * *"), ("daily", "0 0 * * *"), ("weekly", "0 0 * * 0")])
}

pub(crate) fn lines(zone: &str, lines: &[(&str, &str)]) -> Schedule {
    Schedule {
        lines: lines.iter().map(|(class, text)| Line::new(class, text).unwrap()).collect(),
        zone: TimeZone::get(zone).unwrap(),
        catch_up: None,
        jitter: Jitter::default(),
    }
}

/// `count` times after `from`, in the zone.
#[track_caller]
fn check(text: &str, zone: &str, from: &str, expected: &[&str]) {
    let (line, zone) = (Line::new("daily", text).unwrap(), TimeZone::get(zone).unwrap());
    let mut times = Vec::new();
    let mut moment = at(from);
    for _ in expected {
        moment = line.after(moment, &zone).unwrap();
        times.push(moment.to_zoned(zone.clone()).strftime("%Y-%m-%dT%H:%M%:z").to_string());
        assert_eq!(line.until(moment, &zone), Some(moment), "{text} at {moment}");
    }
    assert_eq!(times, expected, "{text}");
}

#[test]
fn a_fixed_time_comes_once_on_each_day_on_which_clocks_change() {
    let rome = "Europe/Rome";
    check(
        "30 2 * * *",
        rome,
        "2026-03-27T12:00:00Z",
        &["2026-03-28T02:30+01:00", "2026-03-29T03:00+02:00", "2026-03-30T02:30+02:00"],
    );
    check(
        "30 2 * * *",
        rome,
        "2026-10-23T12:00:00Z",
        &["2026-10-24T02:30+02:00", "2026-10-25T02:30+02:00", "2026-10-26T02:30+01:00"],
    );
    let york = "America/New_York";
    check(
        "30 2 * * 0",
        york,
        "2026-03-06T12:00:00Z",
        &["2026-03-08T03:00-04:00", "2026-03-15T02:30-04:00"],
    );
    check(
        "30 1 * * *",
        york,
        "2026-10-31T12:00:00Z",
        &["2026-11-01T01:30-04:00", "2026-11-02T01:30-05:00"],
    );
    // Midnight is where the clock goes on.
    check(
        "0 0 * * *",
        "America/Havana",
        "2026-03-07T12:00:00Z",
        &["2026-03-08T01:00-04:00", "2026-03-09T00:00-04:00"],
    );
}

#[test]
fn every_hour_is_every_hour_of_the_clock_on_the_wall() {
    check(
        "@hourly",
        "Europe/Rome",
        "2026-03-29T00:00:00Z",
        &["2026-03-29T03:00+02:00", "2026-03-29T04:00+02:00"],
    );
    check(
        "@hourly",
        "Europe/Rome",
        "2026-10-24T23:30:00Z",
        &[
            "2026-10-25T02:00+02:00",
            "2026-10-25T02:00+01:00",
            "2026-10-25T03:00+01:00",
            "2026-10-25T04:00+01:00",
        ],
    );
}

#[test]
fn lines_that_make_no_sense_are_refused() {
    for text in [
        "",
        "* * * *",
        "0 * * * * *",
        "0 0 30 2 *",
        "61 * * * *",
        "@reboot",
        "@often",
        "0 0 * * 0 2026",
    ] {
        let error = Line::new("daily", text).map(|line| line.text).unwrap_err();
        assert!(error.to_string().contains("daily"), "{error}");
    }
    for text in
        ["@hourly", "@daily", "@weekly", "*/15 8-18 * * MON-FRI", "0 0 29 2 *", "5 4 1,15 * *"]
    {
        let line = Line::new("daily", text).unwrap();
        assert_eq!(line.text, text);
    }
}

#[test]
fn the_next_runs_name_classes_that_coincide() {
    let runs = schedule("UTC").next(at("2026-01-17T22:30:00Z"), 4);
    let shown: Vec<String> = runs.iter().map(|run| format!("{} {}", run.at, run.names())).collect();
    assert_eq!(
        shown,
        [
            "2026-01-17T23:00:00Z hourly",
            "2026-01-18T00:00:00Z hourly+daily+weekly",
            "2026-01-18T01:00:00Z hourly",
            "2026-01-18T02:00:00Z hourly",
        ]
    );
}

#[test]
fn jitter_keeps_classes_together_and_ends_before_the_next_time() {
    let mut schedule = schedule("UTC");
    schedule.jitter = Jitter { most: SignedDuration::from_hours(5), share: u32::MAX };
    let mut runs = schedule.next(at("2026-01-17T23:30:00Z"), 3);
    // What has come and is put off is still ahead.
    assert_eq!(runs.remove(0).at.as_second(), at("2026-01-17T23:59:59Z").as_second());
    assert_eq!(runs[0].names(), "hourly+daily+weekly");
    assert_eq!(runs[0].at.as_second(), at("2026-01-18T00:59:59Z").as_second());
    assert_eq!(runs[1].at.as_second(), at("2026-01-18T01:59:59Z").as_second());
    assert_eq!(schedule.next(at("2026-01-18T00:30:00Z"), 2), runs);

    schedule.jitter = Jitter { most: SignedDuration::from_mins(10), share: 1 << 31 };
    let known = Known { last_start: Some(at("2026-01-17T23:05:00Z")), failed: None };
    let known = ["hourly", "daily", "weekly"].map(|class| (class, known));
    let due = |text| schedule.due(at(text), &known);
    assert_eq!(due("2026-01-18T00:04:59Z"), None);
    let wait = schedule.wait(at("2026-01-18T00:04:00Z"), &known).unwrap();
    assert_eq!(wait, SignedDuration::from_mins(1));
    assert_eq!(due("2026-01-18T00:05:00Z").unwrap().names(), "hourly+daily+weekly");
}

#[test]
fn what_was_missed_is_made_up_for_within_its_window() {
    let mut schedule = schedule("UTC");
    let known = Known { last_start: Some(at("2026-01-10T00:00:00Z")), failed: None };
    let known = ["hourly", "daily", "weekly"].map(|class| (class, known));
    let due = |schedule: &Schedule, text: &str| {
        schedule.due(at(text), &known).map(|run| run.names()).unwrap_or_default()
    };
    // Sunday is the 11th.
    assert_eq!(due(&schedule, "2026-01-11T00:45:00Z"), "hourly+daily+weekly");
    assert_eq!(due(&schedule, "2026-01-11T00:46:00Z"), "daily+weekly");
    assert_eq!(due(&schedule, "2026-01-11T18:46:00Z"), "weekly");
    assert_eq!(due(&schedule, "2026-01-16T06:00:00Z"), "hourly+daily+weekly");
    assert_eq!(due(&schedule, "2026-01-16T06:46:00Z"), "daily");
    assert_eq!(due(&schedule, "2026-01-16T18:46:00Z"), "");
    schedule.catch_up = Some(SignedDuration::from_hours(3));
    assert_eq!(due(&schedule, "2026-01-11T00:59:00Z"), "hourly+daily+weekly");
    assert_eq!(due(&schedule, "2026-01-11T03:59:00Z"), "hourly");
    // A run that is on time is never refused.
    schedule.catch_up = Some(SignedDuration::ZERO);
    assert_eq!(due(&schedule, "2026-01-11T00:05:00Z"), "hourly+daily+weekly");
    assert_eq!(due(&schedule, "2026-01-11T00:06:00Z"), "");
}

#[test]
fn what_is_not_known_is_left_alone_and_what_is_not_there_is_due_at_once() {
    let schedule = schedule("UTC");
    let now = at("2026-01-17T22:50:00Z");
    assert_eq!(schedule.due(now, &[]), None);
    let none = [("weekly", Known::default())];
    assert_eq!(schedule.due(now, &none).unwrap().names(), "weekly");
}

#[test]
fn a_failed_class_is_tried_again_later_and_later_or_with_another() {
    let schedule = schedule("UTC");
    let occurrence = at("2026-01-17T00:00:00Z");
    let failed = |tries, ago, wrote| Known {
        last_start: Some(at("2026-01-16T00:00:00Z")),
        failed: Some(Failed { occurrence, tries, ago: SignedDuration::from_mins(ago), wrote }),
    };
    let now = at("2026-01-17T09:50:00Z");
    for (tries, wrote, minutes) in
        [(1, true, 1), (2, true, 2), (5, true, 16), (40, true, 120), (3, false, 4), (9, false, 5)]
    {
        let before = [("daily", failed(tries, minutes - 1, wrote))];
        assert_eq!(schedule.due(now, &before), None, "{tries}");
        assert_eq!(schedule.wait(now, &before), Some(SignedDuration::from_mins(1)), "{tries}");
        assert!(schedule.due(now, &[("daily", failed(tries, minutes, wrote))]).is_some());
    }
    let hourly = Known { last_start: Some(at("2026-01-17T09:00:00Z")), failed: None };
    let together = [("hourly", hourly), ("daily", failed(9, 0, true))];
    assert_eq!(schedule.due(now, &together), None);
    assert_eq!(
        schedule.due(at("2026-01-17T10:00:00Z"), &together).unwrap().names(),
        "hourly+daily"
    );
    // Another time is another try.
    let later = at("2026-01-18T00:00:00Z");
    assert!(schedule.due(later, &[("daily", failed(9, 0, true))]).is_some());
}

fn zones() -> impl Strategy<Value = &'static str> {
    prop_oneof![
        Just("UTC"),
        Just("Europe/Rome"),
        Just("America/New_York"),
        Just("Australia/Lord_Howe"),
        Just("Asia/Kathmandu"),
        Just("America/Havana"),
    ]
}

fn texts() -> impl Strategy<Value = &'static str> {
    prop_oneof![
        Just("0 * * * *"),
        Just("0 0 * * *"),
        Just("0 0 * * 0"),
        Just("30 2 * * *"),
        Just("15 1 * * *"),
        Just("*/20 * * * *"),
        Just("30 1,2,14 * * *"),
        Just("45 2 * * SUN"),
        Just("0 0 1 * *"),
    ]
}

proptest! {
    /// Looking back finds what looking ahead had found: there is one list of times.
    #[test]
    fn back_is_the_inverse_of_ahead(
        text in texts(),
        zone in zones(),
        from in 1_767_225_600_i64..1_798_761_600,
    ) {
        let (line, zone) = (Line::new("x", text).unwrap(), TimeZone::get(zone).unwrap());
        let mut moment = Timestamp::from_second(from).unwrap();
        for _ in 0..50 {
            let next = line.after(moment, &zone).unwrap();
            prop_assert!(next > moment);
            prop_assert_eq!(line.until(next, &zone), Some(next));
            prop_assert!(line.until(next - SignedDuration::from_secs(1), &zone).unwrap() < next);
            let before = line.until(next - SignedDuration::from_secs(1), &zone).unwrap();
            prop_assert_eq!(line.after(before, &zone), Some(next));
            moment = next;
        }
    }
}
