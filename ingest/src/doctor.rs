//! `worm-ingest doctor`: looks at everything that the next backup needs, and says what to fix.
//!
//! First all facts are gathered, then each is judged by itself (`doctor/verdict.rs`, pure).

mod canary;
mod gather;
mod server;
mod verdict;

use serde::Serialize;

use self::verdict::Verdict;
use crate::config::Config;
use crate::error::Error;
use crate::exit::Exit;

pub use self::gather::SecretFile;

/// The outcome of all checks.
#[derive(Debug)]
pub struct Report {
    checks: Vec<Check>,
}

/// One check.
#[derive(Debug, Serialize)]
struct Check {
    check: &'static str,
    verdict: Level,
    message: String,
    #[serde(skip)]
    write_once: bool,
}

/// How it went.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Level {
    Ok,
    Warn,
    Fail,
}

impl Report {
    /// What the program ends with: 10 when the directory is not write-once, 4 when anything else
    /// failed. Warnings do not count.
    #[must_use]
    pub fn exit(&self) -> Exit {
        let failed = || self.checks.iter().filter(|check| check.verdict == Level::Fail);
        if failed().any(|check| check.write_once) {
            Exit::NotWriteOnce
        } else if failed().next().is_some() {
            Exit::Preflight
        } else {
            Exit::Done
        }
    }

    /// A line for each check, or one JSON array.
    ///
    /// # Errors
    /// [`Error::Internal`] when it cannot be expressed as JSON.
    pub fn text(&self, json: bool) -> Result<String, Error> {
        if json {
            let text = serde_json::to_string_pretty(&self.checks);
            return text.map_err(|error| Error::Internal(error.to_string()));
        }
        let line = |check: &Check| {
            let level = match check.verdict {
                Level::Ok => "ok",
                Level::Warn => "WARN",
                Level::Fail => "FAIL",
            };
            format!("{level:<4}  {:<10}  {}", check.check, check.message)
        };
        Ok(self.checks.iter().map(line).collect::<Vec<_>>().join("\n"))
    }
}

/// Makes all checks. `secrets` are the files that secrets were read from.
pub async fn run(config: &Config, secrets: Vec<SecretFile>) -> Report {
    let facts = gather::gather(config, secrets).await;
    let of = |check, verdicts: Vec<Verdict>| {
        verdicts.into_iter().map(move |verdict| Check {
            check,
            verdict: verdict.level,
            message: verdict.message,
            write_once: matches!(check, "mount" | "canary"),
        })
    };
    let checks = of("mount", vec![verdict::mount(&facts)])
        .chain(of("canary", vec![verdict::canary(&facts)]))
        .chain(of("audit log", vec![verdict::audit_log(&facts)]))
        .chain(of("server", vec![verdict::server(&facts)]))
        .chain(of("pg_dump", verdict::client(&facts)))
        .chain(of("rights", verdict::rights(&facts)))
        .chain(of("globals", verdict::globals(&facts)))
        .chain(of("extensions", verdict::extensions(&facts)))
        .chain(of("secrets", verdict::secrets(&facts)))
        .chain(of("space", vec![verdict::space(&facts)]))
        .chain(of("clock", verdict::clock(&facts)))
        .chain(of("backups", verdict::backups(&facts)));
    Report { checks: checks.collect() }
}
