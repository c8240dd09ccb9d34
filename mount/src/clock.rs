//! `worm clock`: the retention clock, why it is behind, and moving it on.

use worm_fs::clock::ClockReport;
use worm_fs::clock::rfc3339;
use worm_fs::report;

use crate::cli::admin::ClockArgs;
use crate::cli::admin::ClockCommand;
use crate::cli::admin::CreditArgs;
use crate::cli::admin::Place;
use crate::control::Ask;
use crate::log;
use crate::outcome::Outcome;
use crate::outcome::say;
use crate::subject::Subject;
use crate::words::json;
use crate::words::milliseconds;
use crate::words::moment;
use crate::words::span;

/// Runs `worm clock`.
pub(crate) fn run(args: &ClockArgs) -> Outcome {
    match &args.command {
        None => show(&args.place),
        Some(ClockCommand::Credit(args)) => credit(args),
    }
}

fn credit(args: &CreditArgs) -> Outcome {
    let ask = Ask::Credit { credit_ms: milliseconds(args.by), reason: args.reason.clone() };
    Subject::of_place(&args.place)?.demand::<()>(ask)?;
    show(&args.place)
}

fn show(place: &Place) -> Outcome {
    let subject = Subject::of_place(place)?;
    let report = match subject.ask(Ask::Clock)? {
        Some(report) => report,
        None => {
            let (_, loaded, reading) = subject.load()?;
            report::clock(&loaded.catalog, &reading, None)
        }
    };
    if place.door.json {
        return json(&report);
    }
    print(&report);
    // Who moved it, and when, is in the ledger.
    log::each_line(&subject, |line| {
        if log::moves_the_clock(&line.event) {
            say(log::line_words(line));
        }
    })
}

fn print(report: &ClockReport) {
    let ms = |ms| moment(&rfc3339(ms));
    say(format_args!("retention clock  {}", ms(report.clock_ms)));
    say(format_args!("system clock     {}", ms(report.system_ms)));
    say(format_args!("lag              {}", span(report.lag_ms / 1000)));
    for reason in report.reasons() {
        say(format_args!("                 {reason}"));
    }
    let left = span(report.credit_left_ms / 1000);
    say(format_args!("restarts may credit {left} more in the next 30 days"));
}
