//! What was typed for the commands that ask a daemon, or read a store when there is none.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use clap::Subcommand;

use super::duration;

/// Where to find a daemon, and how to print what it says.
#[derive(Args, Clone, Debug)]
pub(crate) struct Door {
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
    /// The daemon's socket [default: RUN-DIR/STORE-ID.sock]
    #[arg(long, value_name = "FILE")]
    pub(crate) socket: Option<PathBuf>,
    /// Where daemons note what they serve
    #[arg(long, value_name = "DIR", default_value = crate::run_file::RUN_DIRECTORY)]
    pub(crate) run_dir: PathBuf,
}

/// Where to find the store and its daemon.
#[derive(Args, Clone, Debug)]
pub(crate) struct Place {
    /// The store, or where it is mounted; then paths are CLASS/NAME
    #[arg(long, value_name = "DIR")]
    pub(crate) store: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) door: Door,
}

/// `worm status`.
#[derive(Args, Debug)]
pub(crate) struct StatusArgs {
    /// A store, or where one is mounted
    pub(crate) path: PathBuf,
    #[command(flatten)]
    pub(crate) door: Door,
}

/// `worm why` and `worm show`.
#[derive(Args, Debug)]
pub(crate) struct PathArgs {
    /// A path in a mounted store, or CLASS/NAME with --store; nothing need be there
    pub(crate) path: PathBuf,
    #[command(flatten)]
    pub(crate) place: Place,
}

/// `worm hold`.
#[derive(Args, Debug)]
pub(crate) struct HoldArgs {
    /// A file in a mounted store, or CLASS/NAME with --store
    pub(crate) file: PathBuf,
    /// What the hold is called, to find it again: a case number, a ticket
    #[arg(long)]
    pub(crate) name: String,
    /// Why; it goes into the ledger
    #[arg(long, value_name = "TEXT")]
    pub(crate) reason: String,
    /// Lift the hold of this name
    #[arg(long)]
    pub(crate) lift: bool,
    #[command(flatten)]
    pub(crate) place: Place,
}

/// `worm release`.
#[derive(Args, Debug)]
pub(crate) struct ReleaseArgs {
    /// A file in a mounted store, or CLASS/NAME with --store
    pub(crate) file: PathBuf,
    /// Why; it goes into the ledger
    #[arg(long, value_name = "TEXT")]
    pub(crate) reason: String,
    #[command(flatten)]
    pub(crate) place: Place,
}

/// `worm extend`.
#[derive(Args, Debug)]
pub(crate) struct ExtendArgs {
    /// A file in a mounted store, or CLASS/NAME with --store
    pub(crate) file: PathBuf,
    /// Keep it until this moment, RFC 3339: 2026-12-24T00:00:00Z
    #[arg(long, value_name = "TIME", required_unless_present = "by", conflicts_with = "by")]
    pub(crate) until: Option<jiff::Timestamp>,
    /// Keep it so much longer than its end is now: 30d, 4w
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub(crate) by: Option<Duration>,
    /// Why; it goes into the ledger
    #[arg(long, value_name = "TEXT")]
    pub(crate) reason: Option<String>,
    #[command(flatten)]
    pub(crate) place: Place,
}

/// `worm clock`.
#[derive(Args, Debug)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct ClockArgs {
    #[command(subcommand)]
    pub(crate) command: Option<ClockCommand>,
    #[command(flatten)]
    pub(crate) place: Place,
}

/// `worm clock ...`.
#[derive(Debug, Subcommand)]
pub(crate) enum ClockCommand {
    /// Move the retention clock on, by downtime that was not credited
    Credit(CreditArgs),
}

/// `worm clock credit`.
#[derive(Args, Debug)]
pub(crate) struct CreditArgs {
    /// By how much: 36h, 3d; at most the lag
    #[arg(value_parser = duration)]
    pub(crate) by: Duration,
    /// Why; it goes into the ledger
    #[arg(long, value_name = "TEXT")]
    pub(crate) reason: String,
    #[command(flatten)]
    pub(crate) place: Place,
}

/// `worm expire`.
#[derive(Args, Debug)]
pub(crate) struct ExpireArgs {
    /// Show what would be removed now, and what is kept beyond its end and why; remove nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
    #[command(flatten)]
    pub(crate) place: Place,
}

/// `worm log`.
#[derive(Args, Debug)]
pub(crate) struct LogArgs {
    /// A store, or where one is mounted
    pub(crate) store: PathBuf,
    /// Only from this moment on: a time (2026-01-18T00:00:00Z) or how long ago (24h)
    #[arg(long, value_name = "TIME")]
    pub(crate) since: Option<String>,
    /// Only what is about this path, CLASS/NAME, or what is below it
    #[arg(long, value_name = "PATH")]
    pub(crate) path: Option<PathBuf>,
    /// Go on and print what comes
    #[arg(long, short)]
    pub(crate) follow: bool,
    #[command(flatten)]
    pub(crate) door: Door,
}

/// `worm key`.
#[derive(Args, Debug)]
pub(crate) struct KeyArgs {
    #[command(subcommand)]
    pub(crate) command: KeyCommand,
}

/// `worm key ...`.
#[derive(Debug, Subcommand)]
pub(crate) enum KeyCommand {
    /// Let a new key sign from now on; the store must not be served
    Rotate(RotateArgs),
    /// Show the public keys that signed a store, and since when
    Show(ShowKeyArgs),
}

/// `worm key rotate`.
#[derive(Args, Debug)]
pub(crate) struct RotateArgs {
    /// A store that nobody serves
    pub(crate) store: PathBuf,
    /// Why; it goes into the ledger
    #[arg(long, value_name = "TEXT")]
    pub(crate) reason: String,
    /// The signing key, which the new one replaces [default: /etc/worm/keys/STORE-ID]
    #[arg(long, value_name = "FILE")]
    pub(crate) key: Option<PathBuf>,
    /// Where daemons note what they serve
    #[arg(long, value_name = "DIR", default_value = crate::run_file::RUN_DIRECTORY)]
    pub(crate) run_dir: PathBuf,
}

/// `worm key show`.
#[derive(Args, Debug)]
pub(crate) struct ShowKeyArgs {
    /// A store, or where one is mounted
    pub(crate) store: PathBuf,
    #[command(flatten)]
    pub(crate) door: Door,
}
