//! `worm verify`: every byte against the ledger, with progress.

use std::io::IsTerminal as _;
use std::path::Path;
use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::time::Duration;
use std::time::Instant;

use indicatif::ProgressBar;
use indicatif::ProgressStyle;
use worm_fs::store::layout;
use worm_fs::store::note::StoreSigner;
use worm_fs::verify::Check;
use worm_fs::verify::Given;
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
    let check = Check {
        threads,
        key: args.key.as_deref().map(public_key).transpose()?,
        witnesses: witnesses(&args.witness)?,
    };
    let (progress, start) = (Progress::default(), Instant::now());
    let report = std::thread::scope(|scope| {
        let check = scope.spawn(|| check.run(&store, &progress));
        show(&progress, || check.is_finished());
        check.join()
    });
    let Ok(report) = report else {
        return Err(Failure::new(Exit::Failed, "the check panicked: this is a bug"));
    };
    let report = report?;
    print(&report, args.json, start.elapsed())?;
    let advice = "restore files from a mirror; keep the store as it is for whoever looks into it";
    match report.problems.len() {
        0 => Ok(()),
        1 => Err(Failure::new(Exit::Verification, format_args!("1 problem: {advice}"))),
        n => Err(Failure::new(Exit::Verification, format_args!("{n} problems: {advice}"))),
    }
}

fn read(path: &Path) -> Outcome<Given> {
    let text = std::fs::read_to_string(path).map_err(|error| {
        Failure::new(Exit::NotFound, format_args!("cannot read {}: {error}", path.display()))
    })?;
    Ok(Given { name: path.display().to_string(), text })
}

/// The public key of a key file, or the one that a file holds.
fn public_key(path: &Path) -> Outcome<Given> {
    let Given { name, text } = read(path)?;
    match StoreSigner::public_of(&text) {
        Ok(text) => Ok(Given { name, text }),
        Err(error) => Err(Failure::new(Exit::Usage, format_args!("{name}: {error}"))),
    }
}

/// The heads that were given, and those in directories that were given.
fn witnesses(paths: &[PathBuf]) -> Outcome<Vec<Given>> {
    let mut heads = Vec::new();
    for path in paths {
        if !path.is_dir() {
            heads.push(read(path)?);
            continue;
        }
        let list = || -> std::io::Result<Vec<PathBuf>> {
            std::fs::read_dir(path)?.map(|entry| Ok(entry?.path())).collect()
        };
        let mut inside = list().map_err(Failure::doing(format_args!("list {}", path.display())))?;
        inside.retain(|path| path.ends_with("head") || path.extension() == Some("head".as_ref()));
        if inside.is_empty() {
            let what = "holds no heads (head, *.head)";
            return Err(Failure::new(Exit::Usage, format_args!("{} {what}", path.display())));
        }
        inside.sort();
        for path in &inside {
            heads.push(read(path)?);
        }
    }
    Ok(heads)
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
    for problem in &report.problems {
        say(format_args!("{}: {}", problem.path, problem.what));
    }
    for unchecked in &report.unchecked {
        say(format_args!("not checked: {unchecked}"));
    }
    let seconds = took.as_secs_f64().max(0.001);
    let rate = (report.bytes as f64 / seconds) as u64;
    say(format_args!(
        "{} files, {} logs, {} read in {seconds:.1} s ({}/s); {} ledger lines, {} signed; {} earlier heads; \
         {} incomplete, {} open; {}",
        report.files,
        report.logs,
        bytes(report.bytes),
        bytes(rate),
        report.lines,
        report.signed,
        report.witnesses,
        report.incomplete,
        report.open,
        if report.problems.is_empty() { "all is as it was sealed" } else { "NOT as it was sealed" }
    ));
    Ok(())
}
