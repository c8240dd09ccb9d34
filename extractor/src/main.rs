//! Parse, convert, run, say what happened, end. The only place that prints.

use std::io;
use std::io::IsTerminal;
use std::io::Write;
use std::process::ExitCode;

use clap::Parser;
use jiff::Timestamp;
use tokio::signal::unix::SignalKind;
use tokio::signal::unix::signal;
use tracing::error;
use tracing_subscriber::EnvFilter;
use worm_extractor::cancel::Cancel;
use worm_extractor::cli::Cli;
use worm_extractor::cli::Command;
use worm_extractor::cli::LogFormat;
use worm_extractor::cli::OnceArgs;
use worm_extractor::cli::RestoreArgs;
use worm_extractor::config::OnceConfig;
use worm_extractor::config::RestoreConfig;
use worm_extractor::error::Error;
use worm_extractor::error::Result;
use worm_extractor::exit::Exit;
use worm_extractor::once;
use worm_extractor::restore;
use worm_extractor::run;

#[tokio::main]
async fn main() -> ExitCode {
    // A wrong command line ends here with 2, --help with 0.
    let cli = Cli::parse();
    log_to_stderr(cli.log_format);
    let exit = match run(cli.command).await {
        Ok(exit) => exit,
        Err(error) => {
            error!("{error}");
            error.exit()
        }
    };
    ExitCode::from(exit.code())
}

async fn run(command: Command) -> Result<Exit> {
    let cancel = Cancel::default();
    stop_on_signals(&cancel)?;
    match command {
        Command::Once(args) => run_once(args, cancel).await,
        Command::Run(args) => run::run(&args, &cancel).await.map(|()| Exit::Done),
        Command::Health(args) => {
            say(&run::judge(&args.health, Timestamp::now())?)?;
            Ok(Exit::Done)
        }
        Command::Restore(args) => run_restore(args, &cancel).await,
    }
}

async fn run_once(args: OnceArgs, cancel: Cancel) -> Result<Exit> {
    let json = args.json;
    let run = move || once::once(&OnceConfig::attended(args.mirror)?, &cancel);
    let report = tokio::task::spawn_blocking(run)
        .await
        .map_err(|error| Error::Failed(format!("the run ended early: {error}")))??;
    if json {
        let text = serde_json::to_string(&report)
            .map_err(|error| Error::Failed(format!("could not write the summary: {error}")))?;
        say(&text)?;
    } else {
        say(&report.text())?;
    }
    Ok(report.exit)
}

async fn run_restore(args: RestoreArgs, cancel: &Cancel) -> Result<Exit> {
    let config: RestoreConfig = args.try_into()?;
    let summary = restore::restore(&config, cancel).await?;
    say(&summary)?;
    Ok(Exit::Done)
}

/// The outcome goes to standard output, all else to standard error.
fn say(text: &str) -> Result<()> {
    writeln!(io::stdout(), "{text}")
        .map_err(|source| Error::Io { doing: "print the summary".to_owned(), source })
}

fn stop_on_signals(cancel: &Cancel) -> Result<()> {
    for kind in [SignalKind::interrupt(), SignalKind::terminate()] {
        let mut signals = signal(kind)
            .map_err(|source| Error::Io { doing: "listen for signals".to_owned(), source })?;
        let cancel = cancel.clone();
        drop(tokio::spawn(async move {
            while signals.recv().await.is_some() {
                cancel.request();
            }
        }));
    }
    Ok(())
}

fn log_to_stderr(format: LogFormat) {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal());
    match format {
        LogFormat::Text => log.with_target(false).init(),
        LogFormat::Json => log.json().init(),
    }
}
