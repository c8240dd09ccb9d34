//! Whole weeks, with the exact list of runs that is expected.

use jiff::SignedDuration;
use jiff::Timestamp;
use proptest::prelude::*;

use super::at;
use super::lines;
use super::schedule;
use super::simulation::Event;
use super::simulation::Simulation;

/// The runs of `hourly` alone: at every full hour from the first to the last, in UTC.
fn hours(day: &str, range: std::ops::RangeInclusive<u32>) -> Vec<String> {
    range.map(|hour| format!("{day} {hour:02}:00 hourly")).collect()
}

/// Three weeks: Monday, March 16th to Monday, April 6th, 2026.
#[test]
fn three_weeks_with_outages_and_clocks_that_are_set_have_exactly_these_runs() {
    let script = [
        // An outage from Wednesday 10:30 to Thursday 07:20.
        ("2026-03-18T10:30:00Z", Event::Down),
        ("2026-03-19T07:20:00Z", Event::Up),
        // One over midnight of Sunday that ends too late for the hour.
        ("2026-03-21T23:50:00Z", Event::Down),
        ("2026-03-22T05:50:00Z", Event::Up),
        // The clock is set forward by three hours, and a day later back again.
        ("2026-03-23T10:30:00Z", Event::Clock(180)),
        ("2026-03-24T14:30:00Z", Event::Clock(-180)),
        // The database is away from midnight to five.
        ("2026-03-25T00:00:00Z", Event::Away),
        ("2026-03-25T05:00:00Z", Event::Back),
        // Nobody can see what is sealed: nothing is made, and nothing is made twice.
        ("2026-03-25T13:30:00Z", Event::Unmounted),
        ("2026-03-25T15:10:00Z", Event::Mounted),
        // A small correction of the clock back across the hour.
        ("2026-03-25T18:01:00Z", Event::Clock(-3)),
        // Nine days of outage, past the window of the weekly run.
        ("2026-03-26T12:30:00Z", Event::Down),
        ("2026-04-04T12:10:00Z", Event::Up),
    ];
    let mut machine = Simulation::new(&schedule("UTC"), at("2026-03-16T09:12:00Z"), 4);
    for (moment, event) in script {
        machine.until(at(moment)).happen(event);
    }
    machine.until(at("2026-04-06T01:30:00Z"));

    let whole_day = |day: &str| {
        let mut runs = hours(day, 0..=23);
        runs[0] = format!("{day} 00:00 hourly+daily");
        runs
    };
    let day = |day: &str, first: &str, range| {
        [vec![format!("{day} {first}")], hours(day, range)].concat()
    };
    let expected = [
        // The store was empty: everything at once.
        day("Mon 16", "09:12 hourly+daily+weekly", 10..=23),
        whole_day("Tue 17"),
        day("Wed 18", "00:00 hourly+daily", 1..=10),
        // Once for all that was missed.
        day("Thu 19", "07:20 hourly+daily", 8..=23),
        whole_day("Fri 20"),
        day("Sat 21", "00:00 hourly+daily", 1..=23),
        // The hour of five o'clock is not made up for ten minutes before six.
        day("Sun 22", "05:50 daily+weekly", 6..=23),
        day("Mon 23", "00:00 hourly+daily", 1..=10),
        day("Mon 23", "13:30 hourly", 14..=23),
        day("Tue 24", "00:00 hourly+daily", 1..=14),
        // These hours come twice, and are backed up twice.
        hours("Tue 24", 12..=23),
        day("Wed 25", "05:00 hourly+daily", 6..=13),
        day("Wed 25", "15:10 hourly", 16..=18),
        // 18:00 came twice within the tolerance, and was backed up once.
        hours("Wed 25", 19..=23),
        day("Thu 26", "00:00 hourly+daily", 1..=12),
        day("Sat 04", "12:10 hourly+daily", 13..=23),
        day("Sun 05", "00:00 hourly+daily+weekly", 1..=23),
        day("Mon 06", "00:00 hourly+daily", 1..=1),
    ]
    .concat();
    assert_eq!(machine.runs, expected);
    // While the database was away: after 0, 1, 3, 7 minutes, then every five, in each hour until its
    // window ends; the daily class waits as long.
    assert!((55..=70).contains(&machine.failed), "{}", machine.failed);
}

#[test]
fn missed_times_are_counted() {
    let mut machine = Simulation::new(&schedule("UTC"), at("2026-03-16T00:00:00Z"), 4);
    machine.until(at("2026-03-18T10:30:00Z")).happen(Event::Down);
    machine.until(at("2026-03-19T07:20:00Z")).happen(Event::Up);
    machine.until(at("2026-03-19T08:30:00Z"));
    // From 11 to 6; seven o'clock was made up for.
    assert_eq!(machine.missed("hourly"), 20);
    assert_eq!((machine.missed("daily"), machine.missed("weekly")), (0, 0));
    machine.happen(Event::Broken);
    machine.until(at("2026-03-19T11:30:00Z"));
    assert_eq!(machine.missed("hourly"), 22, "nine and ten; eleven may still be made up for");
    machine.until(at("2026-03-19T11:50:00Z"));
    assert_eq!(machine.missed("hourly"), 23);
    machine.happen(Event::Back);
    machine.until(at("2026-03-23T00:30:00Z"));
    assert_eq!((machine.missed("hourly"), machine.missed("daily")), (23, 0));
}

/// Sunday, March 29th 2026: from 02:00 to 03:00 in Rome. Sunday, October 25th: from 03:00 to 02:00.
#[test]
fn the_weeks_in_which_clocks_change_have_exactly_these_runs() {
    let rome = lines("Europe/Rome", &[("daily", "30 2 * * *"), ("weekly", "30 2 * * 0")]);
    let mut machine = Simulation::new(&rome, at("2026-03-26T12:00:00Z"), 4);
    machine.until(at("2026-03-31T12:00:00Z"));
    assert_eq!(
        machine.runs,
        [
            "Thu 26 12:00 daily+weekly",
            "Fri 27 01:30 daily",
            "Sat 28 01:30 daily",
            "Sun 29 01:00 daily+weekly",
            "Mon 30 00:30 daily",
            "Tue 31 00:30 daily",
        ]
    );
    let mut machine = Simulation::new(&rome, at("2026-10-22T12:00:00Z"), 4);
    machine.until(at("2026-10-27T12:00:00Z"));
    assert_eq!(
        machine.runs,
        [
            "Thu 22 12:00 daily+weekly",
            "Fri 23 00:30 daily",
            "Sat 24 00:30 daily",
            "Sun 25 00:30 daily+weekly",
            "Mon 26 01:30 daily",
            "Tue 27 01:30 daily",
        ]
    );
}

/// An outage over the change itself, and the same in New York, where it is two in the night, too.
#[test]
fn an_outage_over_a_change_of_clocks_costs_one_run() {
    let mut machine = Simulation::new(&schedule("America/New_York"), at("2026-10-31T20:10:00Z"), 4);
    machine.until(at("2026-10-31T23:30:00Z")).happen(Event::Down);
    machine.until(at("2026-11-01T05:40:00Z")).happen(Event::Up);
    machine.until(at("2026-11-01T09:30:00Z"));
    assert_eq!(
        machine.runs,
        [
            "Sat 31 20:10 hourly+daily+weekly",
            "Sat 31 21:00 hourly",
            "Sat 31 22:00 hourly",
            "Sat 31 23:00 hourly",
            // 01:40 in New York: the hour of one o'clock, and midnight of Sunday.
            "Sun 01 05:40 hourly+daily+weekly",
            // One o'clock for the second time.
            "Sun 01 06:00 hourly",
            "Sun 01 07:00 hourly",
            "Sun 01 08:00 hourly",
            "Sun 01 09:00 hourly",
        ]
    );
}

#[test]
fn a_dump_that_takes_longer_than_an_hour_is_not_begun_twice() {
    let mut machine = Simulation::new(&schedule("UTC"), at("2026-03-17T00:00:00Z"), 90);
    machine.until(at("2026-03-17T06:30:00Z"));
    assert_eq!(
        machine.runs,
        [
            "Tue 17 00:00 hourly+daily+weekly",
            "Tue 17 01:30 hourly",
            "Tue 17 03:00 hourly",
            "Tue 17 04:30 hourly",
            "Tue 17 06:00 hourly",
        ]
    );
    assert_eq!(machine.missed("hourly"), 2);
}

#[test]
fn a_clock_that_was_a_year_ahead_stops_nothing() {
    let mut machine = Simulation::new(&schedule("UTC"), at("2026-03-17T00:00:00Z"), 4);
    machine.until(at("2026-03-17T02:30:00Z")).happen(Event::Clock(365 * 24 * 60));
    machine.until(at("2027-03-17T04:30:00Z")).happen(Event::Clock(-365 * 24 * 60));
    machine.happen(Event::Up);
    machine.until(at("2026-03-17T06:30:00Z"));
    let last = machine.runs.split_off(3);
    assert_eq!(
        last,
        [
            // 2027: a catch-up of all, and an hour.
            "Wed 17 02:30 hourly+daily+weekly",
            "Wed 17 03:00 hourly",
            "Wed 17 04:00 hourly",
            // 2026 again: what began in 2027 counts for nothing.
            "Tue 17 04:30 hourly",
            "Tue 17 05:00 hourly",
            "Tue 17 06:00 hourly",
        ]
    );
}

/// What can happen, and after how many minutes.
fn events(with_clocks_set_back: bool) -> impl Strategy<Value = Vec<(i64, Event)>> {
    let back = if with_clocks_set_back { -2000_i64 } else { 0 };
    let event = prop_oneof![
        Just(Event::Down),
        Just(Event::Up),
        Just(Event::Up),
        (back..2000).prop_map(Event::Clock),
        Just(Event::Away),
        Just(Event::Broken),
        Just(Event::Back),
        Just(Event::Back),
        Just(Event::Unmounted),
        Just(Event::Mounted),
    ];
    proptest::collection::vec((1..900_i64, event), 0..25)
}

/// Plays it, and then a quiet day.
fn play(zone: &str, begin: i64, minutes: i64, events: &[(i64, Event)]) -> Simulation {
    let begin = Timestamp::from_second(begin).unwrap();
    let mut machine = Simulation::new(&schedule(zone), begin, minutes);
    for (after, event) in events {
        for _ in 0..*after {
            machine.tick();
        }
        machine.happen(*event);
    }
    for event in [Event::Up, Event::Back, Event::Mounted] {
        machine.happen(event);
    }
    for _ in 0..24 * 60 {
        machine.tick();
    }
    machine
}

/// Around both changes of 2026, in seconds.
fn begins() -> impl Strategy<Value = i64> {
    prop_oneof![1_774_400_000_i64..1_775_000_000, 1_792_500_000_i64..1_793_400_000]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// As long as the clock is not set back: every time of each class is made once or missed once,
    /// and never made twice, whatever happens.
    #[test]
    fn no_time_is_served_twice(
        zone in super::zones(),
        begin in begins(),
        minutes in 1..50_i64,
        events in events(false),
    ) {
        let machine = play(zone, begin, minutes, &events);
        let schedule = schedule(zone);
        for line in &schedule.lines {
            let mut served: Vec<Timestamp> = machine
                .sealed
                .iter()
                .filter(|made| made.class == line.class)
                .map(|made| line.until(made.start, &schedule.zone).unwrap())
                .collect();
            let made = served.len();
            served.dedup();
            prop_assert_eq!(served.len(), made, "{}: {:?}", line.class, machine.runs);
        }
        // And the quiet day had all of its hours.
        let newest = machine.sealed.iter().map(|made| made.start).max().unwrap();
        let late = machine.now().duration_since(newest);
        prop_assert!(late <= SignedDuration::from_mins(60 + minutes), "{late}: {:?}", machine.runs);
    }

    /// However the clock is set: never a storm, and never a silent stop.
    #[test]
    fn clocks_that_are_set_back_cost_one_run_each(
        begin in begins(),
        minutes in 1..50_i64,
        events in events(true),
    ) {
        let machine = play("UTC", begin, minutes, &events);
        let set = events.iter().filter(|(_, event)| matches!(event, Event::Clock(_) | Event::Up));
        let minutes_in_all: i64 = events.iter().map(|(after, _)| after).sum::<i64>() + 24 * 60;
        let most = u64::try_from(minutes_in_all / 60 + 2).unwrap() + set.count() as u64;
        prop_assert!(machine.made("hourly") <= most, "{most}: {:?}", machine.runs);
        if !machine.is_set_back() {
            let now = machine.now();
            let newest = machine.sealed.iter().map(|made| made.start).max().unwrap();
            let late = now.duration_since(newest);
            prop_assert!(late <= SignedDuration::from_mins(60 + minutes), "{:?}", machine.runs);
        }
    }
}
