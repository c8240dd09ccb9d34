//! `worm-ingest`: parse, run, say how it went, end with a number.

use std::io;
use std::io::Write;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use clap::Parser;
use jiff::Timestamp;
use tokio::runtime::Builder;
use tokio::runtime::Runtime;
use tokio::signal::unix::SignalKind;
use tokio::signal::unix::signal;
use tokio::sync::watch;
use worm_ingest::audit::Record;
use worm_ingest::batch;
use worm_ingest::cli::Backup;
use worm_ingest::cli::Cli;
use worm_ingest::cli::Command;
use worm_ingest::cli::ConfigCommand;
use worm_ingest::cli::Doctor;
use worm_ingest::cli::List;
use worm_ingest::cli::Metrics;
use worm_ingest::cli::Next;
use worm_ingest::cli::Show;
use worm_ingest::config;
use worm_ingest::config::Config;
use worm_ingest::connect;
use worm_ingest::doctor;
use worm_ingest::doctor::SecretFile;
use worm_ingest::error::Error;
use worm_ingest::exit::Exit;
use worm_ingest::http;
use worm_ingest::job;
use worm_ingest::job::Job;
use worm_ingest::job::Outcome;
use worm_ingest::leash;
use worm_ingest::logging;
use worm_ingest::logging::LogFormat;
use worm_ingest::look;
use worm_ingest::notify;
use worm_ingest::service;
use worm_ingest::settings;
use worm_ingest::settings::Environment;
use worm_ingest::settings::Settings;
use worm_ingest::settings::table;
use worm_ingest::summary;

fn main() -> ExitCode {
    leash::enter();
    let cli = Cli::parse();
    let environment = Environment::of_this_process();
    let loaded = cli.settings(&environment).and_then(|settings| {
        let format = LogFormat::of(&settings)?;
        Ok((settings, format))
    });
    let (settings, format) = match loaded {
        Ok(loaded) => loaded,
        Err(error) => {
            let format = LogFormat::presumed(&environment);
            logging::start(format);
            return fail(&error.into(), format);
        }
    };
    logging::start(format);
    if let Some(strange) = settings::strange_variables(&environment) {
        tracing::warn!("{strange}");
    }
    let result = match cli.command {
        Command::Backup(Backup { classes, accept_suspect, json, .. }) => {
            let config = Config::new(classes, &settings, &environment);
            return backup(config.map(|config| config.accepting(accept_suspect)), json, format);
        }
        Command::Run { .. } => return serve(&settings, &environment, format),
        Command::Next(Next { count, json, .. }) => next(&settings, &environment, count, json),
        Command::List(List { class, database, json, .. }) => settings
            .needed_path(&table::BACKUPS)
            .map_err(Error::from)
            .and_then(|root| look::list(&root, class.as_deref(), database.as_deref(), json)),
        Command::Show(Show { backup, class, database, json, .. }) => {
            let (class, database) = (class.as_deref(), database.as_deref());
            let root = settings.needed_path(&table::BACKUPS).map_err(Error::from);
            root.and_then(|root| look::show(&root, &backup, class, database, json))
        }
        Command::Metrics(Metrics { textfile, .. }) => metrics(&settings, textfile.as_deref()),
        Command::Health { .. } => health(&settings),
        Command::Doctor(Doctor { json, .. }) => {
            let config = Config::new(Vec::new(), &settings, &environment);
            return examine(config, &settings, json, format);
        }
        Command::Config(ConfigCommand::Show { json, .. }) => {
            let password = connect::password_file(&settings, &environment);
            let shown = settings::show(&settings, password.as_deref());
            let text = summary::settings(&shown, json);
            text.map_err(|error| Error::Internal(error.to_string()))
        }
        Command::Config(ConfigCommand::Check { .. }) => {
            let config = Config::new(Vec::new(), &settings, &environment);
            config.and_then(|config| {
                let _sense = service::schedule(&settings, config.database())?;
                Ok(config.to_string())
            })
        }
    };
    match result {
        Ok(text) => print(&text, format),
        Err(error) => fail(&error, format),
    }
}

fn runtime() -> Result<Runtime, Error> {
    batch::enter();
    let runtime = Builder::new_multi_thread().worker_threads(2).enable_all().build();
    runtime.map_err(|error| Error::Internal(error.to_string()))
}

/// The coming runs, in UTC and in the zone of the schedule.
fn next(
    settings: &Settings,
    environment: &Environment,
    count: u16,
    json: bool,
) -> Result<String, Error> {
    let config = Config::new(Vec::new(), settings, environment)?;
    let schedule = service::schedule(settings, config.database())?;
    let runs = schedule.next(Timestamp::now(), count.into());
    summary::runs(&runs, &schedule.zone, json).map_err(|error| Error::Internal(error.to_string()))
}

fn serve(settings: &Settings, environment: &Environment, format: LogFormat) -> ExitCode {
    let result = Config::new(Vec::new(), settings, environment).and_then(|config| {
        let schedule = service::schedule(settings, config.database())?;
        let runtime = runtime()?;
        let exit = runtime.block_on(async {
            let stop = until_signal().and_then(|stop| ignore_hangup().map(|()| stop));
            let stop = stop.map_err(|error| Error::Internal(error.to_string()))?;
            service::run(Arc::new(config), schedule, stop).await
        });
        runtime.shutdown_background();
        exit
    });
    match result {
        Ok(exit) => exit.into(),
        Err(error) => fail(&error, format),
    }
}

/// A service whose terminal goes away, or that is told to read its settings again, goes on.
fn ignore_hangup() -> io::Result<()> {
    let mut hangup = signal(SignalKind::hangup())?;
    tokio::spawn(async move {
        while hangup.recv().await.is_some() {
            tracing::warn!("SIGHUP changes nothing: settings are read at the start, so restart");
        }
    });
    Ok(())
}

/// How the service stands that these settings belong to.
fn health(settings: &Settings) -> Result<String, Error> {
    let address = config::listen(settings)?.ok_or_else(|| {
        Error::Usage(
            "where does the service answer? Give --listen or WORM_LISTEN to it and to this"
                .to_owned(),
        )
    })?;
    http::ask(&address, "/readyz").map_err(Error::NotReady)
}

/// Prints the numbers, or writes them into a file.
fn metrics(settings: &Settings, textfile: Option<&Path>) -> Result<String, Error> {
    let root = settings.needed_path(&table::BACKUPS)?;
    let (filters, log) = (config::filters(settings), settings.needed_path(&table::AUDIT_LOG)?);
    let text = look::metrics(&root, &filters, &log, &[])?;
    let Some(path) = textfile else { return Ok(text.trim_end().to_owned()) };
    let written = service::health::write_whole(path, &text);
    written
        .map_err(|error| Error::Usage(format!("could not write {}: {error}", path.display())))?;
    Ok(format!("written to {}", path.display()))
}

/// Lets the doctor look, and prints what it found.
fn examine(
    config: Result<Config, Error>,
    settings: &Settings,
    json: bool,
    format: LogFormat,
) -> ExitCode {
    let secrets = settings.secret_files();
    let secrets = secrets.iter().map(|(what, path)| SecretFile::look(what, path)).collect();
    let report = config.and_then(|config| {
        let report = block_on(async { Ok(doctor::run(&config, secrets).await) })?;
        Ok((report.text(json)?, report.exit()))
    });
    match report {
        Ok((text, exit)) => {
            let _done = print(&text, format);
            exit.into()
        }
        Err(error) => fail(&error, format),
    }
}

/// Runs a future to its end.
fn block_on<T>(future: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
    let runtime = runtime()?;
    let result = runtime.block_on(future);
    // A thread that waits for a child that cannot be ended must not keep us.
    runtime.shutdown_background();
    result
}

fn backup(config: Result<Config, Error>, json: bool, format: LogFormat) -> ExitCode {
    let exit = config.and_then(|config| block_on(run(config, json, format)));
    exit.unwrap_or_else(|error| fail(&error, format))
}

/// Makes the backup, says how it went, and lets those outside hear it.
async fn run(config: Config, json: bool, format: LogFormat) -> Result<ExitCode, Error> {
    let cancelled = until_signal().map_err(|error| Error::Internal(error.to_string()))?;
    let classes = config.classes().to_vec();
    let job = Job { classes, config: Arc::new(config), wanted: Vec::new() };
    let (outcome, notices) = job::run(&job, cancelled).await;
    let exit = tell(&outcome, json, format);
    notices.told(notify::LONGEST).await;
    Ok(exit)
}

/// Prints what became of each part, and ends with the number of the whole.
fn tell(outcome: &Outcome, json: bool, format: LogFormat) -> ExitCode {
    for part in &outcome.parts {
        if (json || part.is_good())
            && let Err(broken) = print_record(&part.record, json)
        {
            tracing::warn!(%broken, "the result could not be printed");
        }
    }
    for error in outcome.errors() {
        let _its_own = fail(error, format);
    }
    outcome.exit().into()
}

/// Turns true at the first SIGTERM or SIGINT. Not at SIGHUP, which `nohup` is there to ignore.
fn until_signal() -> io::Result<watch::Receiver<bool>> {
    let (tell, cancelled) = watch::channel(false);
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        tell.send_replace(true);
        // Kept, so that nobody takes the end of this task for a signal.
        std::future::pending::<()>().await;
    });
    Ok(cancelled)
}

/// Prints what was asked for.
fn print(text: &str, format: LogFormat) -> ExitCode {
    match writeln!(io::stdout(), "{text}") {
        Ok(()) => Exit::Done.into(),
        // `| head` has seen enough.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Exit::Done.into(),
        Err(error) => fail(&Error::Internal(format!("could not print: {error}")), format),
    }
}

fn print_record(record: &Record, json: bool) -> io::Result<()> {
    let line = if json { serde_json::to_string(record)? } else { summary::line(record) };
    writeln!(io::stdout(), "{line}")
}

/// The one place where an error is printed.
fn fail(error: &Error, format: LogFormat) -> ExitCode {
    let exit = error.exit();
    match format {
        LogFormat::Json => tracing::error!(code = error.code(), exit = exit.number(), "{error}"),
        LogFormat::Text => {
            if writeln!(io::stderr(), "worm-ingest: {error}").is_err() {
                // Nobody listens; the number still tells.
            }
        }
    }
    exit.into()
}
