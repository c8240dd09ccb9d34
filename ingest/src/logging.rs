//! Logs go to standard error: text for people, JSON for machines.

use std::io;
use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;

use crate::cli::LogFormat;

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
