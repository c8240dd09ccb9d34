//! `worm ls`: read from the ledger, with or without a daemon.

use std::path::Path;

use worm_fs::clock::Clock as _;
use worm_fs::clock::MachineClock;
use worm_fs::report;
use worm_fs::report::FileRow;
use worm_fs::report::Now;
use worm_fs::store::Access;
use worm_fs::store::Loaded;
use worm_fs::store::Store;

use crate::cli::LookArgs;
use crate::outcome::Failure;
use crate::outcome::Outcome;
use crate::outcome::say;
use crate::run_file;
use crate::words::bytes;
use crate::words::json;
use crate::words::moment;
use crate::words::time_left;

/// Runs `worm ls`.
pub(crate) fn files(args: &LookArgs) -> Outcome {
    let (loaded, now) = look(&args.path, &args.run_dir)?;
    let rows = report::files(&loaded.catalog, now);
    if args.json {
        return json(&rows);
    }
    say(format_args!("{:>10}  {:<10}  {:<20}  {:>9}  PATH", "SIZE", "STATE", "SEALED", "LEFT"));
    for FileRow { path, size, state, sealed_at, left_seconds, .. } in &rows {
        let (size, left) = (bytes(*size), time_left(*left_seconds));
        let sealed = moment(sealed_at);
        say(format_args!("{size:>10}  {state:<10}  {sealed:<20}  {left:>9}  {path}"));
    }
    Ok(())
}

fn look(path: &Path, run_directory: &Path) -> Outcome<(Loaded, Now)> {
    let path = run_file::store_of(path, run_directory)?;
    let (_, loaded) = Store::open(&path, Access::Look)?;
    let clock = MachineClock::new().map_err(Failure::doing("read the clocks"))?;
    let now = Now::of(&loaded.catalog, &clock.read());
    Ok((loaded, now))
}
