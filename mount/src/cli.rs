//! What was typed. It is checked for form here and for sense where it is used.

pub(crate) mod admin;

use std::path::PathBuf;

use clap::Args;
use clap::Parser;
use clap::Subcommand;
use clap::ValueEnum;
use worm_fs::fs::SEGMENT_BYTES;

use crate::places::Places;

const AFTER_HELP: &str = "\
Exit codes:
  0 done          2 wrong arguments or configuration   7 busy: served, or files are open
  1 failed        4 refused before anything changed    9 not as the ledger says, or alarms
                  6 not found                         10 not write-once";

/// Write-once storage on a plain directory: what is written and closed stays until its time.
#[derive(Debug, Parser)]
#[command(name = "worm", version, after_help = AFTER_HELP)]
pub(crate) struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Mount a store; an empty or absent directory becomes a new store
    Mount(MountArgs),
    /// Unmount, end the daemon, and leave a guard on the mount point
    Umount(UmountArgs),
    /// Let nothing be written into mount points before their first mount, for example at boot
    Guard(GuardArgs),
    /// Attach a daemon's mounts and take them away; started by it
    #[command(hide = true)]
    Keep(KeepArgs),
    /// List files with size, sealing time and time left
    Ls(LookArgs),
    /// Show a store at a glance
    Status(admin::StatusArgs),
    /// Say in one line why a change of a path would be refused, and until when
    Why(admin::PathArgs),
    /// Show everything that is known about a path
    Show(admin::PathArgs),
    /// Print the ledger: what happened, who did it and why
    Log(admin::LogArgs),
    /// Put a hold on a file and its group, or lift it: held files stay, whatever their end
    Hold(admin::HoldArgs),
    /// End the retention of a file and its group early, where its class was in governance mode
    Release(admin::ReleaseArgs),
    /// Lengthen the retention of a file, within the limit of its class
    Extend(admin::ExtendArgs),
    /// Show the retention clock, and why it is behind the system clock
    Clock(admin::ClockArgs),
    /// Remove what is over now, rather than at the daemon's next round
    Expire(admin::ExpireArgs),
    /// Show the keys that sign a store, or put a new one in the place of the old
    Key(admin::KeyArgs),
    /// Compare every byte of a store with its ledger, and the ledger with its signed head
    Verify(VerifyArgs),
    /// Wait until a file is sealed and print its SHA-256
    Wait(WaitArgs),
}

/// `worm mount`.
#[derive(Args, Clone, Debug)]
pub(crate) struct MountArgs {
    /// Directory that backs the file system
    pub(crate) store: PathBuf,
    /// Where new files are taken
    pub(crate) mountpoint: PathBuf,
    /// Also show sealed files, read-only, at this directory
    #[arg(long, value_name = "DIR", conflicts_with = "read_only")]
    pub(crate) view: Option<PathBuf>,
    /// Also take logs at this directory: files of the append-only class, which only grow
    #[arg(long, value_name = "DIR", conflicts_with = "read_only")]
    pub(crate) logs: Option<PathBuf>,
    /// Group that may read in the read-only view, by name or number
    #[arg(long, value_name = "GROUP", default_value = "0")]
    pub(crate) view_group: String,
    /// Classes and their retention [default: /etc/worm/worm.toml if it is there]
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Signing key; made with a new store [default: /etc/worm/keys/STORE-ID]
    #[arg(long, value_name = "FILE")]
    pub(crate) key: Option<PathBuf>,
    /// Where the daemon notes what it serves, and logs
    #[arg(long, value_name = "DIR", default_value = crate::run_file::RUN_DIRECTORY)]
    pub(crate) run_dir: PathBuf,
    /// Where the admin's commands reach the daemon [default: RUN-DIR/STORE-ID.sock]
    #[arg(long, value_name = "FILE", conflicts_with = "read_only")]
    pub(crate) socket: Option<PathBuf>,
    /// Serve numbers for Prometheus at /metrics there: 127.0.0.1:PORT or unix:/PATH
    #[arg(long, value_name = "ADDRESS", conflicts_with = "read_only")]
    pub(crate) metrics: Option<crate::metrics::Address>,
    /// Show a store that nobody serves, for example a copy; change nothing
    #[arg(long)]
    pub(crate) read_only: bool,
    /// Keep the store on this block device, mounted where only the daemon sees it
    #[arg(long, value_name = "DEVICE", conflicts_with = "read_only")]
    pub(crate) private_store: Option<PathBuf>,
    /// Type of the file system on it [default: looked up; ext4, xfs or btrfs]
    #[arg(long, value_name = "TYPE", requires = "private_store")]
    pub(crate) private_type: Option<String>,
    /// Threads that take requests [default: one per CPU, at least 2]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=256))]
    pub(crate) threads: Option<u16>,
    /// Read sealed files through the daemon, never straight from the disk
    #[arg(long)]
    pub(crate) no_passthrough: bool,
    /// Stay in the foreground and log to standard error
    #[arg(long)]
    pub(crate) foreground: bool,
    /// How to log
    #[arg(long, value_enum, default_value_t = LogFormat::Text)]
    pub(crate) log_format: LogFormat,
    /// From how many bytes on a segment of the ledger ends, for tests
    #[arg(long, value_name = "N", hide = true, default_value_t = SEGMENT_BYTES)]
    pub(crate) segment_bytes: u64,
    /// The command that waits for this daemon reads its standard output
    #[arg(long, hide = true)]
    pub(crate) report_ready: bool,
}

/// How to log.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub(crate) enum LogFormat {
    /// For people.
    Text,
    /// One JSON object per line.
    Json,
}

/// `worm umount`.
#[derive(Args, Debug)]
pub(crate) struct UmountArgs {
    /// Where it is mounted
    pub(crate) mountpoint: PathBuf,
    /// Remove the guard, too: the mount point becomes an ordinary directory again
    #[arg(long)]
    pub(crate) guard: bool,
    /// Where daemons note what they serve
    #[arg(long, value_name = "DIR", default_value = crate::run_file::RUN_DIRECTORY)]
    pub(crate) run_dir: PathBuf,
}

/// `worm guard`.
#[derive(Args, Debug)]
pub(crate) struct GuardArgs {
    /// Mount points to be; made where they are not there
    #[arg(required = true)]
    pub(crate) directories: Vec<PathBuf>,
}

/// `worm keep`, see the module `keeper`.
#[derive(Args, Debug)]
pub(crate) struct KeepArgs {
    /// Its places
    #[command(flatten)]
    pub(crate) places: Places,
}

/// `worm ls`.
#[derive(Args, Debug)]
pub(crate) struct LookArgs {
    /// A store, or where one is mounted
    pub(crate) path: PathBuf,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
    /// Where daemons note what they serve
    #[arg(long, value_name = "DIR", default_value = crate::run_file::RUN_DIRECTORY)]
    pub(crate) run_dir: PathBuf,
}

/// `worm verify`.
#[derive(Args, Debug)]
pub(crate) struct VerifyArgs {
    /// The store, or where it is mounted
    pub(crate) store: PathBuf,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
    /// The key that must sign: the signing key's file, or one with the public key
    #[arg(long, value_name = "FILE")]
    pub(crate) key: Option<PathBuf>,
    /// An earlier signed head, or a directory of such (head and *.head): the ledger must still
    /// hold the line that it names. Can be given more than once
    #[arg(long, value_name = "HEAD")]
    pub(crate) witness: Vec<PathBuf>,
    /// Threads that read [default: one per CPU]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=256))]
    pub(crate) threads: Option<u16>,
    /// Where daemons note what they serve
    #[arg(long, value_name = "DIR", default_value = crate::run_file::RUN_DIRECTORY)]
    pub(crate) run_dir: PathBuf,
}

/// `worm wait`.
#[derive(Args, Debug)]
pub(crate) struct WaitArgs {
    /// A file in a mounted store
    pub(crate) file: PathBuf,
    /// How long to wait, for example 30s or 10m
    #[arg(long, value_name = "DURATION", default_value = "10m", value_parser = duration)]
    pub(crate) timeout: std::time::Duration,
}

fn duration(text: &str) -> Result<std::time::Duration, String> {
    let ms = worm_fs::config::parse_duration(text)?;
    Ok(std::time::Duration::from_millis(ms.unsigned_abs()))
}
