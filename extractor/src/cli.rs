//! What was typed, checked for form only. What it means is in `config`.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use clap::Parser;
use clap::Subcommand;
use clap::ValueEnum;
use jiff::SignedDuration;

/// Mirrors sealed backups and restores them.
#[derive(Debug, Parser)]
#[command(version, after_help = EXIT_CODES)]
pub struct Cli {
    /// How to write the log, on standard error.
    #[arg(long, global = true, value_enum, default_value_t, env = "WORM_LOG_FORMAT")]
    pub log_format: LogFormat,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The form of the log.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, ValueEnum)]
pub enum LogFormat {
    /// Lines for people.
    #[default]
    Text,
    /// One JSON object per line.
    Json,
}

/// The verbs.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Copy every complete backup that the mirror does not have yet, then end
    Once(OnceArgs),
    /// The same again and again, until SIGTERM
    Run(RunArgs),
    /// Say whether `run` does what it should: 0 if so, 1 if not, 6 if it does not run
    Health(HealthArgs),
    /// Restore a backup into an empty database
    Restore(RestoreArgs),
}

/// Arguments of `once`.
#[derive(Args, Debug)]
pub struct OnceArgs {
    /// What to mirror, and where.
    #[command(flatten)]
    pub mirror: MirrorArgs,
    /// Print the summary as JSON
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `run`.
#[derive(Args, Debug)]
pub struct RunArgs {
    /// What to mirror, and where.
    #[command(flatten)]
    pub mirror: MirrorArgs,
    /// The pause between two rounds, for example 30s or 5m. After failures it grows, up to 5m
    #[arg(long, value_name = "DURATION", env = "WORM_EVERY", default_value = "1m", value_parser = duration)]
    pub every: Duration,
    /// Where to note how it goes
    #[arg(long, value_name = "FILE", env = "WORM_HEALTH", default_value = HEALTH)]
    pub health: PathBuf,
}

/// Arguments of `health`.
#[derive(Args, Debug)]
pub struct HealthArgs {
    /// Where `run` notes how it goes
    #[arg(long, value_name = "FILE", env = "WORM_HEALTH", default_value = HEALTH)]
    pub health: PathBuf,
}

/// Where `run` notes how it goes, unless told otherwise.
const HEALTH: &str = "/run/worm/extractor.json";

fn duration(text: &str) -> Result<Duration, String> {
    let parsed = text.parse::<SignedDuration>().ok();
    let time = parsed.and_then(|time| Duration::try_from(time).ok());
    let time = time.filter(|time| !time.is_zero());
    time.ok_or_else(|| "a duration such as 30s or 5m is wanted".to_owned())
}

/// What to mirror, and where.
#[derive(Args, Clone, Debug)]
pub struct MirrorArgs {
    /// The write-once mount, or its read-only view
    #[arg(long, value_name = "VIEW", env = "WORM_VIEW", default_value = "/backups/active")]
    pub from: PathBuf,
    /// The mirror; backups go to DIR/CLASS/DATE
    #[arg(long, value_name = "DIR", env = "WORM_MIRROR", default_value = "/external_storage")]
    pub to: PathBuf,
    /// Copy this class only
    #[arg(long, env = "WORM_CLASS")]
    pub class: Option<String>,
    /// Where copies grow, on the file system of the mirror [default: .NAME.worm-staging beside the
    /// mirror, or .worm-staging at its top where it is a mount of its own]
    #[arg(long, value_name = "DIR", env = "WORM_STAGING")]
    pub staging: Option<PathBuf>,
    /// The audit log
    #[arg(
        long,
        value_name = "FILE",
        env = "WORM_EXTRACTION_AUDIT",
        default_value = "/backups/logs/extraction_audit.jsonl"
    )]
    pub audit: PathBuf,
    /// Read every file of the mirror again, also those that the audit log vouches for
    #[arg(long)]
    pub rehash: bool,
    /// Copy from a directory that is not a write-once mount
    #[arg(long)]
    pub allow_plain: bool,
}

/// Arguments of `restore`.
#[derive(Args, Debug)]
pub struct RestoreArgs {
    /// `latest`, or the path of a dump (.sql.gz, ...) or of its manifest
    #[arg(value_name = "latest|PATH", default_value = "latest")]
    pub backup: String,
    /// The database to restore into, as a URL: postgres://USER@HOST:PORT/DATABASE. A password is
    /// better in PGPASSWORD or PGPASSWORD_FILE
    #[arg(long, value_name = "URL", env = "WORM_RESTORE_TO", hide_env_values = true)]
    pub to: String,
    /// The mirror, or a mount, in which to look for `latest`
    #[arg(long, value_name = "MIRROR", env = "WORM_MIRROR", default_value = "/external_storage")]
    pub from: PathBuf,
    /// The latest of this class only
    #[arg(long, env = "WORM_CLASS")]
    pub class: Option<String>,
    /// The latest of this database only. Needed where there are backups of several
    #[arg(long, value_name = "NAME")]
    pub database: Option<String>,
    /// Take the latest also when it is suspect: when it looks as if something had happened to its
    /// database before it was made
    #[arg(long)]
    pub include_suspect: bool,
    /// The audit log
    #[arg(
        long,
        value_name = "FILE",
        env = "WORM_EXTRACTION_AUDIT",
        default_value = "/backups/logs/extraction_audit.jsonl"
    )]
    pub audit: PathBuf,
    /// A file with the secret key of an encrypted backup: of age, or of SSH. May be repeated
    #[arg(long, value_name = "FILE", env = "WORM_IDENTITY", value_delimiter = ',')]
    pub identity: Vec<PathBuf>,
    /// Where the files of a directory archive (.tar) are unpacked [default: the system's directory
    /// for temporary files]. Of an encrypted one it must be in memory, such as /dev/shm
    #[arg(long, value_name = "DIR", env = "WORM_SCRATCH")]
    pub scratch: Option<PathBuf>,
    /// Also make the roles that stand beside the dump and that the server does not have. Those that it
    /// has stay as they are
    #[arg(long)]
    pub globals: bool,
    /// Restore although the database is not empty or the server is older than the dump's
    #[arg(long)]
    pub force: bool,
    /// Check everything and say what would be done, but change nothing
    #[arg(long)]
    pub preview: bool,
}

const EXIT_CODES: &str = "\
Exit codes:
  0   done
  1   failed
  2   the command line or the environment makes no sense
  3   some backups were copied, others failed
  4   refused before anything was written
  5   stopped by SIGINT or SIGTERM; what was half done was undone
  6   backup, class, directory or database not found
  7   another run holds the mirror
  8   the server or the mount does not answer, or does not let us in
  9   bytes, rows or the audit log are not what they must be
  10  the source is not a write-once mount
Any other number is a failure.";
