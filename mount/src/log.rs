//! `worm log`: the ledger as people read it, from the daemon or from the disk.

mod event;

pub(crate) use event::moves_the_clock;

use std::io::BufWriter;
use std::io::Write;
use std::time::Duration;

use worm_fs::clock::Clock as _;
use worm_fs::clock::MachineClock;
use worm_fs::config::parse_duration;
use worm_fs::policy::name::StorePath;
use worm_fs::record::Line;
use worm_fs::store::pages::Page;
use worm_fs::store::pages::Pages;
use worm_fs::store::pages::Position;

use crate::cli::admin::LogArgs;
use crate::control::Ask;
use crate::outcome::Exit;
use crate::outcome::Failure;
use crate::outcome::Outcome;
use crate::subject::Subject;
use crate::subject::store_path;
use crate::words::moment;

/// How often it is looked for more, with `--follow`.
const PAUSE: Duration = Duration::from_millis(500);

/// What is to be shown.
struct Filter {
    since_ms: Option<i64>,
    below: Option<StorePath>,
}

/// Runs `worm log`.
pub(crate) fn run(args: &LogArgs) -> Outcome {
    let subject = Subject::of_store(&args.store, &args.door)?;
    let since_ms = args.since.as_deref().map(moment_ms).transpose()?;
    let below = args.path.as_deref().map(store_path).transpose()?;
    let filter = Filter { since_ms, below };
    let mut out = BufWriter::new(std::io::stdout().lock());
    let mut from = Position::default();
    loop {
        let Page { lines, next } = page(&subject, from)?;
        from = next;
        for line in &lines {
            // A reader that went away is not a failure.
            if write(&mut out, line, &filter, args.door.json).is_err() {
                return Ok(());
            }
        }
        if lines.is_empty() {
            if out.flush().is_err() || !args.follow {
                return Ok(());
            }
            std::thread::sleep(PAUSE);
        }
    }
}

/// Some lines of a store's ledger.
fn page(subject: &Subject, from: Position) -> Outcome<Page> {
    match subject.ask(Ask::Ledger { from })? {
        Some(page) => Ok(page),
        None => {
            let directory = subject.directory()?;
            let read = || Pages::open(directory)?.page(from);
            read()
                .map_err(Failure::doing(format_args!("read the ledger of {}", directory.display())))
        }
    }
}

/// Hands every line of a store's ledger to `each`.
pub(crate) fn each_line(subject: &Subject, mut each: impl FnMut(&Line)) -> Outcome {
    let mut from = Position::default();
    loop {
        let Page { lines, next } = page(subject, from)?;
        if lines.is_empty() {
            return Ok(());
        }
        from = next;
        for line in lines.iter().filter_map(|line| Line::decode(line.as_bytes()).ok()) {
            each(&line);
        }
    }
}

/// A line in plain words.
pub(crate) fn line_words(line: &Line) -> String {
    format!("{:>6}  {}  {}", line.seq, moment(&line.time), event::words(line))
}

fn write(out: &mut impl Write, text: &str, filter: &Filter, raw: bool) -> std::io::Result<()> {
    let line = match Line::decode(text.as_bytes()) {
        Ok(line) => line,
        // Never passed over in silence.
        Err(_) if raw => return writeln!(out, "{text}"),
        Err(error) => {
            return writeln!(out, "A LINE THAT {}", error.to_string().replacen("it ", "", 1));
        }
    };
    if !filter.shows(&line) {
        Ok(())
    } else if raw {
        writeln!(out, "{text}")
    } else {
        writeln!(out, "{}", line_words(&line))
    }
}

impl Filter {
    fn shows(&self, line: &Line) -> bool {
        let moment = line.time.parse::<jiff::Timestamp>();
        let moment_ms = moment.map_or(i64::MAX, jiff::Timestamp::as_millisecond);
        let is_below = |below: &StorePath| {
            let mut paths = event::paths(&line.event);
            paths.any(|path| {
                path == below || path.as_bytes().starts_with(&[below.as_bytes(), b"/"].concat())
            })
        };
        self.since_ms.is_none_or(|since_ms| moment_ms >= since_ms)
            && self.below.as_ref().is_none_or(is_below)
    }
}

/// A moment, or how long ago, in milliseconds since 1970.
fn moment_ms(text: &str) -> Outcome<i64> {
    if let Ok(moment) = text.parse::<jiff::Timestamp>() {
        return Ok(moment.as_millisecond());
    }
    let ago = parse_duration(text).map_err(|_not_a_duration| {
        let message = "write a moment as 2026-01-18T00:00:00Z, or how long ago as 24h";
        Failure::new(Exit::Usage, format_args!("{text:?}: {message}"))
    })?;
    let clock = MachineClock::new().map_err(Failure::doing("read the clocks"))?;
    Ok(clock.read().system_ms.saturating_sub(ago))
}
