//! `worm verify`: every byte against the ledger, with progress.

use std::io::IsTerminal as _;
use std::sync::atomic::Ordering;
use std::time::Duration;
use std::time::Instant;

use indicatif::ProgressBar;
use indicatif::ProgressStyle;
use worm_fs::store::layout;
use worm_fs::verify;
use worm_fs::verify::Progress;
use worm_fs::verify::Report;

use crate::cli::VerifyArgs;
use crate::outcome::Exit;
use crate::outcome::Failure;
use crate::outcome::Outcome;
use crate::outcome::say;
use crate::run_file;
use crate::words::bytes;

/// Runs `worm verify`.
pub(crate) fn run(args: &VerifyArgs) -> Outcome {
    // A store that lost its store.json is still to be checked, not looked for elsewhere.
    let store = if args.store.join(layout::LEDGER).is_dir() {
        args.store.clone()
    } else {
        run_file::store_of(&args.store, &args.run_dir)?
    };
    let cpus = std::thread::available_parallelism().map_or(2, std::num::NonZero::get);
    let threads = args.threads.map_or(cpus, usize::from);
    let (progress, start) = (Progress::default(), Instant::now());
    let report = std::thread::scope(|scope| {
        let check = scope.spawn(|| verify::verify(&store, threads, &progress));
        show(&progress, || check.is_finished());
        check.join()
    });
    let Ok(report) = report else {
        return Err(Failure::new(Exit::Failed, "the check panicked: this is a bug"));
    };
    let report = report?;
    print(&report, args.json, start.elapsed())?;
    match report.problems.len() {
        0 => Ok(()),
        1 => Err(Failure::new(Exit::Verification, "1 problem: restore it from a mirror")),
        n => Err(Failure::new(
            Exit::Verification,
            format_args!("{n} problems: restore them from a mirror"),
        )),
    }
}

fn show(progress: &Progress, is_finished: impl Fn() -> bool) {
    let bar = if std::io::stderr().is_terminal() {
        let bar = ProgressBar::new(0);
        let form = "{bar:30} {bytes} of {total_bytes}  {bytes_per_sec}  {eta} left";
        if let Ok(style) = ProgressStyle::with_template(form) {
            bar.set_style(style);
        }
        bar
    } else {
        ProgressBar::hidden()
    };
    while !is_finished() {
        bar.set_length(progress.total.load(Ordering::Relaxed));
        bar.set_position(progress.done.load(Ordering::Relaxed));
        std::thread::sleep(Duration::from_millis(20));
    }
    bar.finish_and_clear();
}

fn print(report: &Report, json: bool, took: Duration) -> Outcome {
    if json {
        let text = serde_json::to_string_pretty(report).map_err(Failure::doing("print JSON"))?;
        say(text);
        return Ok(());
    }
    if report.uncovered > 0 {
        let size = bytes(report.uncovered);
        say(format_args!("{size} at the ends of logs are not recorded yet, and not checked"));
    }
    for problem in &report.problems {
        say(format_args!("{}: {}", problem.path, problem.what));
    }
    let seconds = took.as_secs_f64().max(0.001);
    let rate = (report.bytes as f64 / seconds) as u64;
    say(format_args!(
        "{} files, {} logs, {} read in {seconds:.1} s ({}/s); {} ledger lines, {} signed; {} incomplete, {} open; {}",
        report.files,
        report.logs,
        bytes(report.bytes),
        bytes(rate),
        report.lines,
        report.signed,
        report.incomplete,
        report.open,
        if report.problems.is_empty() { "all is as it was sealed" } else { "NOT as it was sealed" }
    ));
    Ok(())
}
