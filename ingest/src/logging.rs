//! Logs go to standard error: text for people, JSON for machines.

use std::io;
use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;

use crate::settings::Environment;
use crate::settings::Settings;
use crate::settings::SettingsError;
use crate::settings::table;

/// How to log to standard error.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

impl LogFormat {
    /// What these settings say.
    ///
    /// # Errors
    /// [`SettingsError`] if it is neither of the two.
    pub fn of(settings: &Settings) -> Result<Self, SettingsError> {
        let read = |text: &str| match text {
            "text" => Some(Self::Text),
            "json" => Some(Self::Json),
            _neither => None,
        };
        let format = settings.parse(&table::LOG_FORMAT, "text or json is wanted", read)?;
        Ok(format.unwrap_or(Self::Text))
    }

    /// What to use while nobody knows yet what the settings say.
    #[must_use]
    pub fn presumed(environment: &Environment) -> Self {
        match environment.variables.get("WORM_LOG_FORMAT").map(String::as_str) {
            Some("json") => Self::Json,
            Some(_) | None => Self::Text,
        }
    }
}

/// Starts logging. `RUST_LOG` chooses how much; by default what matters.
pub fn start(format: LogFormat) {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_unset| EnvFilter::new("info"));
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr);
    match format {
        LogFormat::Text => {
            builder.with_target(false).with_ansi(io::stderr().is_terminal()).compact().init();
        }
        LogFormat::Json => builder.json().flatten_event(true).init(),
    }
}
