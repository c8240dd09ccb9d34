//! What was typed. Checked for form only; what it means is in [`crate::config`].

use clap::Args;
use clap::Parser;
use clap::Subcommand;
use clap::builder::NonEmptyStringValueParser;

use crate::exit::EXIT_CODES;
use crate::settings::Environment;
use crate::settings::Every;
use crate::settings::Flags;
use crate::settings::ForBackup;
use crate::settings::ForHealth;
use crate::settings::ForLook;
use crate::settings::ForNext;
use crate::settings::Global;
use crate::settings::Settings;
use crate::settings::SettingsError;

/// Backs up PostgreSQL into a write-once directory.
#[derive(Clone, Debug, Parser)]
#[command(name = "worm-ingest", version, after_help = EXIT_CODES)]
pub struct Cli {
    /// The settings that every command takes.
    #[command(flatten)]
    pub global: Flags<Global>,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

impl Cli {
    /// The settings that this command line leads to.
    ///
    /// # Errors
    /// [`SettingsError`]
    pub fn settings(&self, environment: &Environment) -> Result<Settings, SettingsError> {
        let global = &self.global;
        match &self.command {
            Command::Backup(Backup { flags, .. }) => Settings::load(global, flags, environment),
            Command::Next(Next { flags, .. }) => Settings::load(global, flags, environment),
            Command::List(List { flags, .. })
            | Command::Show(Show { flags, .. })
            | Command::Metrics(Metrics { flags, .. }) => Settings::load(global, flags, environment),
            Command::Health { flags } => Settings::load(global, flags, environment),
            Command::Doctor(Doctor { flags, .. }) => Settings::load(global, flags, environment),
            Command::Run { flags }
            | Command::Config(ConfigCommand::Show { flags, .. } | ConfigCommand::Check { flags }) => {
                Settings::load(global, flags, environment)
            }
        }
    }
}

/// What to do.
#[derive(Clone, Debug, Subcommand)]
pub enum Command {
    /// Make one backup now, and seal it only if it is proven whole.
    #[command(after_help = EXIT_CODES, long_about = BACKUP)]
    Backup(Backup),
    /// Make backups by the clock, until told to end.
    #[command(after_help = EXIT_CODES, long_about = RUN)]
    Run {
        /// The settings.
        #[command(flatten)]
        flags: Flags<Every>,
    },
    /// Print when the next backups are due.
    Next(Next),
    /// List what is on the mount: good backups, suspect ones, and what is none, with why.
    List(List),
    /// Show one backup with all that is known of it.
    Show(Show),
    /// Look at everything that the next backup needs, and say what to fix.
    #[command(after_help = EXIT_CODES)]
    Doctor(Doctor),
    /// Ask a service whether a backup could be made now: for health checks of containers.
    #[command(after_help = HEALTH)]
    Health {
        /// The settings.
        #[command(flatten)]
        flags: Flags<ForHealth>,
    },
    /// Print the numbers for Prometheus as they are now.
    Metrics(Metrics),
    /// Show or check the settings.
    #[command(subcommand)]
    Config(ConfigCommand),
}

const BACKUP: &str = "\
Make one backup now, and seal it only if it is proven whole.

Every setting is a flag, a variable, or a line of /etc/worm/ingest.toml, in this order; `worm-ingest
config show` tells which holds. A value may also stand in a file that is named by the variable with
_FILE behind its name.";

const HEALTH: &str = "\
Asks GET /readyz where `worm-ingest run --listen ADDRESS` answers, and needs the same setting. Ends
with 0 when the loop turns and every class can be backed up into, and with 1 when not.";

const RUN: &str = "\
Make backups by the clock, until told to end.

What is due follows from what is sealed: a class that has missed its time is made up for once, as soon
as possible. SIGTERM ends a dump that is under way as aborted (exit code 5), and otherwise ends in
peace (0). Settings are read at the start: restart it after a change.";

/// The arguments of `next`.
#[derive(Args, Clone, Debug)]
pub struct Next {
    /// How many.
    #[arg(short = 'n', long = "count", value_name = "N", default_value_t = 10)]
    pub count: u16,
    /// The settings.
    #[command(flatten)]
    pub flags: Flags<ForNext>,
    /// Print one JSON array.
    #[arg(long)]
    pub json: bool,
}

/// The arguments of `backup`.
#[derive(Args, Clone, Debug)]
pub struct Backup {
    /// Retention classes: hourly, daily, weekly, or other directories of the mount. One dump serves
    /// them all, and each keeps its own copy for its own time.
    #[arg(required = true, value_name = "CLASS")]
    pub classes: Vec<String>,
    /// The settings.
    #[command(flatten)]
    pub flags: Flags<ForBackup>,
    /// Take this backup for good although it does not look like those before it, and compare later
    /// ones with it. The reason is sealed with it.
    #[arg(long, value_name = "REASON", value_parser = NonEmptyStringValueParser::new())]
    pub accept_suspect: Option<String>,
    /// Print the result as one line of JSON.
    #[arg(long)]
    pub json: bool,
}

/// The arguments of `list`.
#[derive(Args, Clone, Debug)]
pub struct List {
    /// Of this class only.
    pub class: Option<String>,
    /// Of this database only.
    #[arg(long = "of-database", value_name = "NAME")]
    pub database: Option<String>,
    /// The settings.
    #[command(flatten)]
    pub flags: Flags<ForLook>,
    /// Print one JSON array.
    #[arg(long)]
    pub json: bool,
}

/// The arguments of `show`.
#[derive(Args, Clone, Debug)]
pub struct Show {
    /// `latest`, which is the newest good one, a name, or CLASS/NAME.
    #[arg(value_name = "latest|NAME")]
    pub backup: String,
    /// Of this class only.
    #[arg(long, value_name = "CLASS")]
    pub class: Option<String>,
    /// Of this database only.
    #[arg(long = "of-database", value_name = "NAME")]
    pub database: Option<String>,
    /// The settings.
    #[command(flatten)]
    pub flags: Flags<ForLook>,
    /// Print one JSON object.
    #[arg(long)]
    pub json: bool,
}

/// The arguments of `doctor`.
#[derive(Args, Clone, Debug)]
pub struct Doctor {
    /// The settings.
    #[command(flatten)]
    pub flags: Flags<ForBackup>,
    /// Print one JSON array.
    #[arg(long)]
    pub json: bool,
}

/// The arguments of `metrics`.
#[derive(Args, Clone, Debug)]
pub struct Metrics {
    /// Write them into this file instead, in place of what is there.
    #[arg(long, value_name = "FILE")]
    pub textfile: Option<std::path::PathBuf>,
    /// The settings.
    #[command(flatten)]
    pub flags: Flags<ForLook>,
}

/// The verbs of `config`.
#[derive(Clone, Debug, Subcommand)]
pub enum ConfigCommand {
    /// Print every setting, and which flag, variable or line of the file it came from.
    Show {
        /// The settings.
        #[command(flatten)]
        flags: Flags<Every>,
        /// Print one JSON array.
        #[arg(long)]
        json: bool,
    },
    /// Say whether the settings make sense. Asks no server and looks at no mount.
    Check {
        /// The settings.
        #[command(flatten)]
        flags: Flags<Every>,
    },
}
