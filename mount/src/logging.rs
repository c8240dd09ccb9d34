//! Logs: to standard error, or for a daemon in the background to its file in the run directory.

use std::fs::File;
use std::io::IsTerminal as _;

use tracing_subscriber::EnvFilter;

use crate::cli::LogFormat;

/// Starts logging at `info`, or as `WORM_LOG` says.
pub(crate) fn start(format: LogFormat, file: Option<File>) {
    let filter =
        EnvFilter::try_from_env("WORM_LOG").unwrap_or_else(|_unset| EnvFilter::new("info"));
    let colours = file.is_none() && std::io::stderr().is_terminal();
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_ansi(colours);
    let builder = builder.with_writer(move || -> Box<dyn std::io::Write> {
        match file.as_ref().map(File::try_clone) {
            Some(Ok(file)) => Box::new(file),
            Some(Err(_)) | None => Box::new(std::io::stderr()),
        }
    });
    match format {
        LogFormat::Text => builder.init(),
        LogFormat::Json => builder.json().init(),
    }
}
