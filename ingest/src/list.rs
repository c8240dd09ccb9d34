//! PURE: `list` and `show`: what is sealed, for people and for programs.

use std::fmt::Write;
use std::path::Path;

use jiff::Timestamp;
use serde::Serialize;

use crate::error::Error;
use crate::inventory::Entry;
use crate::inventory::State;
use crate::manifest::Accepted;
use crate::manifest::Manifest;
use crate::manifest::Suspicion;
use crate::name::BackupName;
use crate::summary::bytes;

/// One line of `list`.
#[derive(Debug, Serialize)]
struct Row<'entry> {
    class: String,
    name: &'entry str,
    /// Below the mount.
    path: String,
    /// `good`, `suspect` or `not_good`.
    state: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    why: Option<&'entry str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    retain_until: Option<Timestamp>,
    #[serde(flatten)]
    facts: Option<Facts<'entry>>,
}

/// What the manifest says.
#[derive(Debug, Serialize)]
struct Facts<'entry> {
    database: &'entry str,
    started_at: Timestamp,
    finished_at: Timestamp,
    bytes: u64,
    raw_bytes: u64,
    sha256: &'entry str,
    tables: usize,
    rows: u64,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    suspect: &'entry [Suspicion],
    #[serde(skip_serializing_if = "Option::is_none")]
    accepted: Option<&'entry Accepted>,
}

/// `show --json`: the same, with all that the manifest says.
#[derive(Debug, Serialize)]
struct Whole<'entry> {
    #[serde(flatten)]
    row: Row<'entry>,
    manifest: Option<&'entry Manifest>,
}

fn row(entry: &Entry) -> Row<'_> {
    let (state, why) = match &entry.state {
        State::Good(_) => ("good", None),
        State::Suspect(_) => ("suspect", None),
        State::NotGood(why) => ("not_good", Some(why.as_str())),
    };
    let facts = entry.manifest().map(|manifest| Facts {
        database: &manifest.database,
        started_at: manifest.started_at,
        finished_at: manifest.finished_at,
        bytes: manifest.stored.bytes,
        raw_bytes: manifest.raw.bytes,
        sha256: &manifest.stored.sha256,
        tables: manifest.tables.len(),
        rows: rows(manifest),
        suspect: &manifest.suspect,
        accepted: manifest.accepted.as_ref(),
    });
    Row {
        class: entry.class(),
        name: &entry.found.name,
        path: entry.found.path().to_string_lossy().into_owned(),
        state,
        why,
        retain_until: entry.retain_until,
        facts,
    }
}

fn rows(manifest: &Manifest) -> u64 {
    manifest.tables.iter().map(|table| table.rows).sum()
}

/// All entries as one JSON array.
///
/// # Errors
/// When they cannot be expressed as JSON.
pub(crate) fn list_json(entries: &[Entry]) -> Result<String, serde_json::Error> {
    serde_json::to_string_pretty(&entries.iter().map(row).collect::<Vec<_>>())
}

/// One entry as a JSON object, with its manifest.
///
/// # Errors
/// When it cannot be expressed as JSON.
pub(crate) fn show_json(entry: &Entry) -> Result<String, serde_json::Error> {
    serde_json::to_string_pretty(&Whole { row: row(entry), manifest: entry.manifest() })
}

/// A line for each entry.
pub(crate) fn list_text(entries: &[Entry]) -> String {
    let width = entries.iter().map(|entry| entry.found.path().as_os_str().len()).max();
    let lines: Vec<String> = entries.iter().map(|entry| line(entry, width.unwrap_or(0))).collect();
    lines.join("\n")
}

fn line(entry: &Entry, width: usize) -> String {
    let path = entry.found.path().to_string_lossy().into_owned();
    let Some(manifest) = entry.manifest() else {
        return format!("{path:width$}  NOT A BACKUP: {}", told(entry));
    };
    format!(
        "{path:width$}  {:>9} of {:>9}  {:>4} tables {:>10} rows  {}  {}",
        bytes(manifest.stored.bytes),
        bytes(manifest.raw.bytes),
        manifest.tables.len(),
        rows(manifest),
        kept(entry),
        told(entry),
    )
}

fn kept(entry: &Entry) -> String {
    match entry.retain_until {
        Some(until) => until.strftime("until %Y-%m-%d %H:%M").to_string(),
        None => "NOT protected".to_owned(),
    }
}

fn told(entry: &Entry) -> String {
    match &entry.state {
        State::Good(manifest) => match &manifest.accepted {
            Some(accepted) => format!("good, accepted: {}", accepted.reason),
            None => "good".to_owned(),
        },
        State::Suspect(manifest) => format!("SUSPECT {}", crate::tripwire::told(&manifest.suspect)),
        State::NotGood(why) => why.clone(),
    }
}

/// One entry, with its tables.
pub(crate) fn show_text(entry: &Entry) -> String {
    let mut text = String::new();
    let mut say = |word: &str, what: &dyn std::fmt::Display| {
        if writeln!(text, "{word:<12} {what}").is_err() {
            // Writing into memory does not fail.
        }
    };
    say("backup", &entry.found.path().display());
    say("state", &told(entry));
    say("kept", &kept(entry));
    if let Some(manifest) = entry.manifest() {
        say("database", &manifest.database);
        say("begun", &manifest.started_at);
        say("sealed", &manifest.finished_at);
        say("stored", &format!("{} ({})", bytes(manifest.stored.bytes), manifest.stored.bytes));
        say("raw", &format!("{} ({})", bytes(manifest.raw.bytes), manifest.raw.bytes));
        if !manifest.filters.is_empty() {
            say("part", &manifest.filters);
        }
        say("sha256", &manifest.stored.sha256);
        say(
            "format",
            &format!(
                "{:?}, {:?}:{}",
                manifest.kind, manifest.compression.codec, manifest.compression.level
            )
            .to_lowercase(),
        );
        if let Some(encryption) = &manifest.encryption {
            say("encrypted", &format!("to {}", encryption.recipients.join(", ")));
        }
        say("server", &manifest.server_version);
        say("pg_dump", &manifest.dump_version);
        if let Some(count) = manifest.large_objects.filter(|count| *count > 0) {
            say("large objects", &count);
        }
        for sidecar in &manifest.sidecars {
            say("beside", &format!("{}{}", manifest.name, sidecar.suffix));
        }
        for lack in &manifest.lacks {
            say("lacks", &lack.message);
        }
        for extension in &manifest.extensions {
            say("extension", &format!("{} {}", extension.name, extension.version));
        }
        for table in &manifest.tables {
            say("table", &format!("{}.{}: {} rows", table.schema, table.table, table.rows));
        }
    }
    text.truncate(text.trim_end().len());
    text
}

/// What `latest` or a name means: for `latest` the newest good one, a part of a database only when
/// there is no whole one, and how many newer ones were passed over because they are suspect. Entries come newest first.
///
/// # Errors
/// [`Error::NotFound`], or [`Error::Usage`] where a name means several.
pub(crate) fn select<'all>(
    entries: &'all [Entry],
    wanted: &str,
) -> Result<(&'all Entry, usize), Error> {
    if wanted == "latest" {
        let whole = entries.iter().position(|entry| entry.is_good() && entry.is_whole());
        let newest = whole.or_else(|| entries.iter().position(Entry::is_good));
        let newest = newest.ok_or_else(|| {
            Error::NotFound("there is no good backup; `worm-ingest list` shows all".to_owned())
        })?;
        let newer = &entries[..newest];
        let passed = newer.iter().filter(|entry| matches!(entry.state, State::Suspect(_))).count();
        return Ok((&entries[newest], passed));
    }
    let means = |entry: &&Entry| {
        let name = entry.found.name.as_str();
        let (directory, file) =
            wanted.rsplit_once('/').map_or((None, wanted), |(d, f)| (Some(d), f));
        let means = file == name || BackupName::of_file(file).is_some_and(|it| it.as_str() == name);
        means && directory.is_none_or(|directory| entry.found.directory == Path::new(directory))
    };
    let fitting: Vec<&Entry> = entries.iter().filter(means).collect();
    match fitting.as_slice() {
        [] => Err(Error::NotFound(format!("there is no backup {wanted}; see `worm-ingest list`"))),
        [entry] => Ok((entry, 0)),
        several => {
            let paths: Vec<String> =
                several.iter().map(|entry| entry.found.path().display().to_string()).collect();
            Err(Error::Usage(format!("{wanted} means several: name one of {}", paths.join(", "))))
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;
    use crate::inventory::Found;

    fn entry(class: &str, name: &str, state: State) -> Entry {
        let found =
            Found { name: name.to_owned(), directory: PathBuf::from(class), bytes: Some(1) };
        Entry { found, state, retain_until: None }
    }

    fn good(class: &str, name: &str) -> Entry {
        entry(class, name, State::Good(Box::new(crate::tripwire::tests::run(0, &[("t", 7)]))))
    }

    fn suspect(class: &str, name: &str) -> Entry {
        let mut manifest = crate::tripwire::tests::run(0, &[]);
        let suspicion = Suspicion { code: "rows.dropped".to_owned(), message: "few".to_owned() };
        manifest.suspect = vec![suspicion];
        entry(class, name, State::Suspect(Box::new(manifest)))
    }

    fn failed(class: &str, name: &str) -> Entry {
        entry(class, name, State::NotGood("it has no manifest".to_owned()))
    }

    #[test]
    fn the_latest_is_the_newest_good_one() {
        let entries = [failed("h", "4"), suspect("h", "3"), good("h", "2"), suspect("h", "1")];
        let (latest, passed) = select(&entries, "latest").unwrap();
        assert_eq!((latest.found.name.as_str(), passed), ("2", 1));
        let mut manifest = crate::tripwire::tests::run(0, &[("t", 7)]);
        manifest.filters.table = vec!["t".to_owned()];
        let part = || entry("h", "5", State::Good(Box::new(manifest.clone())));
        assert_eq!(select(&[part(), good("h", "2")], "latest").unwrap().0.found.name, "2");
        assert_eq!(select(&[part()], "latest").unwrap().0.found.name, "5");
        let error = select(&entries[..2], "latest").unwrap_err();
        assert_eq!(error.exit().number(), 6);
    }

    #[test]
    fn a_name_means_one_backup() {
        let [one, two] = ["2026-01-18_01-00-00.sql.gz", "2026-01-18_02-00-00.sql.zst.age"];
        let entries = [good("daily", two), suspect("hourly", two), failed("hourly", one)];
        assert_eq!(select(&entries, one).unwrap().0.class(), "hourly");
        assert_eq!(select(&entries, &format!("hourly/{two}.sha256")).unwrap().0.class(), "hourly");
        assert_eq!(select(&entries, two).unwrap_err().exit().number(), 2);
        assert_eq!(select(&entries, &format!("weekly/{two}")).unwrap_err().exit().number(), 6);
    }

    #[test]
    fn what_is_not_good_says_why() {
        let entries = [good("daily", "2"), suspect("hourly", "2"), failed("hourly", "1")];
        let text = list_text(&entries);
        let lines: Vec<&str> = text.lines().collect();
        assert!(lines[0].ends_with("good"), "{text}");
        assert!(lines[1].ends_with("SUSPECT rows.dropped: few"), "{text}");
        assert!(lines[2].ends_with("NOT A BACKUP: it has no manifest"), "{text}");
        let json: serde_json::Value = serde_json::from_str(&list_json(&entries).unwrap()).unwrap();
        assert_eq!((&json[0]["state"], &json[0]["rows"]), (&"good".into(), &7.into()));
        assert_eq!(json[1]["suspect"][0]["code"], "rows.dropped");
        assert_eq!(json[2]["why"], "it has no manifest");
        assert!(show_text(&entries[0]).ends_with("public.t: 7 rows"));
        let json: serde_json::Value =
            serde_json::from_str(&show_json(&entries[0]).unwrap()).unwrap();
        assert_eq!(json["manifest"]["tables"][0]["rows"], 7);
    }
}
