//! What was typed. Checked for form only; what it means is in [`crate::config`].

use std::path::PathBuf;

use clap::Args;
use clap::Parser;
use clap::Subcommand;
use clap::ValueEnum;
use clap::value_parser;

use crate::exit::EXIT_CODES;

/// Backs up PostgreSQL into a write-once directory.
#[derive(Clone, Debug, Parser)]
#[command(name = "worm-ingest", version, after_help = EXIT_CODES)]
pub struct Cli {
    /// How to log.
    #[arg(long, global = true, value_enum, default_value_t = LogFormat::Text, env = "WORM_LOG_FORMAT")]
    pub log_format: LogFormat,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// How to log to standard error.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// What to do.
#[derive(Clone, Debug, Subcommand)]
pub enum Command {
    /// Make one backup now, and seal it only if it is proven whole.
    #[command(after_help = EXIT_CODES, long_about = BACKUP)]
    Backup(Backup),
}

/// In seconds. The server takes its timeouts as milliseconds of 31 bits.
const LONGEST_WAIT: i64 = 2_000_000;

const BACKUP: &str = "\
Make one backup now, and seal it only if it is proven whole.

The database is named by the variables that every PostgreSQL program knows (PGHOST, PGPORT, PGUSER,
PGDATABASE, PGPASSFILE, PGSSLMODE, PGOPTIONS, ...) or by a URL. The password comes from the URL,
PGPASSWORD, the file named by PGPASSWORD_FILE, PGPASSFILE, /run/secrets/db_password, or ~/.pgpass.";

/// The arguments of `backup`.
#[derive(Args, Clone, Debug)]
pub struct Backup {
    /// Retention classes: hourly, daily, weekly, or other directories of the mount. One dump serves
    /// them all, and each keeps its own copy for its own time.
    #[arg(required = true, value_name = "CLASS")]
    pub classes: Vec<String>,
    /// Where the write-once file system is mounted.
    #[arg(long, value_name = "DIR", env = "WORM_BACKUPS", default_value = "/backups/active")]
    pub backups: PathBuf,
    /// Where to note every run.
    #[arg(
        long,
        value_name = "FILE",
        env = "WORM_AUDIT_LOG",
        default_value = "/backups/logs/backup_audit.jsonl"
    )]
    pub audit_log: PathBuf,
    /// The database, as postgres://user@host:port/database. A password is safer in a file.
    #[arg(long, value_name = "URL", env = "DATABASE_URL", hide_env_values = true)]
    pub url: Option<String>,
    /// A file that holds the URL.
    #[arg(long, value_name = "FILE", env = "DATABASE_URL_FILE")]
    pub url_file: Option<PathBuf>,
    /// How to compress: gzip:1 (fast) to gzip:9 (small). gzip:2 is as fast as pg_dump.
    #[arg(long, value_name = "CODEC:LEVEL", env = "WORM_COMPRESS", default_value = "gzip:2")]
    pub compress: String,
    /// Look for pg_dump only here.
    #[arg(long, value_name = "DIR", env = "WORM_CLIENT_DIR")]
    pub client_dir: Option<PathBuf>,
    /// Give up when pg_dump waits longer than this for a lock on a table.
    #[arg(
        long,
        value_name = "SECONDS",
        env = "WORM_LOCK_WAIT_TIMEOUT",
        default_value_t = 600,
        value_parser = value_parser!(u32).range(1..=LONGEST_WAIT)
    )]
    pub lock_wait_timeout: u32,
    /// Give up when for so long nothing was dumped and nothing written. Longer than the wait for a
    /// lock, so that pg_dump can say which table it waits for.
    #[arg(
        long,
        value_name = "SECONDS",
        env = "WORM_STALL_TIMEOUT",
        default_value_t = 1800,
        value_parser = value_parser!(u32).range(1..=LONGEST_WAIT)
    )]
    pub stall_timeout: u32,
    /// Also write to a directory that is not write-once. It protects nothing.
    #[arg(long)]
    pub allow_plain: bool,
    /// Print the result as one line of JSON.
    #[arg(long)]
    pub json: bool,
}
