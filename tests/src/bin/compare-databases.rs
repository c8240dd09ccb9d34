//! Says whether two databases hold the same, by fingerprints that are taken one at a time.
//!
//! ```text
//! compare-databases fingerprint FILE             takes it of the database at the environment's
//!                                                COMPARE_URL (no secrets on a command line)
//! compare-databases compare SOURCE COPY          compares two of them
//! compare-databases manifest MANIFEST COPY       compares the rows that the manifest counted
//! ```
//!
//! Exit codes: 0 equal, 1 different, 2 usage or unreadable.

use std::process::ExitCode;

use system_tests::compare;
use system_tests::compare::Fingerprint;
use worm_ingest::manifest::Manifest;

/// More differences than anybody reads.
const SHOWN_MAX: usize = 20;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let answer = match arguments.as_slice() {
        ["fingerprint", file] => fingerprint(file),
        ["compare", source, copy] => both(source, copy),
        ["manifest", manifest, copy] => counts(manifest, copy),
        _ => Err("usage: compare-databases fingerprint FILE | compare SOURCE COPY | \
                  manifest MANIFEST COPY"
            .to_owned()),
    };
    match answer {
        Ok(differences) if differences.is_empty() => ExitCode::SUCCESS,
        Ok(differences) => {
            for difference in differences.iter().take(SHOWN_MAX) {
                println!("{difference}");
            }
            let hidden = differences.len().saturating_sub(SHOWN_MAX);
            if hidden > 0 {
                println!("and {hidden} more differences");
            }
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("compare-databases: {error}");
            ExitCode::from(2)
        }
    }
}

fn fingerprint(file: &str) -> Result<Vec<String>, String> {
    let url = std::env::var("COMPARE_URL").map_err(|_| "COMPARE_URL is not set".to_owned())?;
    let taken = compare::fingerprint(&url).map_err(|error| {
        let cause = std::error::Error::source(&error).map(|cause| format!(": {cause}"));
        format!("read the database: {error}{}", cause.unwrap_or_default())
    })?;
    let json = serde_json::to_string_pretty(&taken).map_err(|error| error.to_string())?;
    let mut out =
        std::fs::File::create_new(file).map_err(|error| format!("make {file}: {error}"))?;
    std::io::Write::write_all(&mut out, json.as_bytes())
        .map_err(|error| format!("write {file}: {error}"))?;
    Ok(Vec::new())
}

fn both(source: &str, copy: &str) -> Result<Vec<String>, String> {
    let (source, copy) = (load(source)?, load(copy)?);
    let differences = compare::differences(&source, &copy);
    if differences.is_empty() {
        println!("{}", compare::summary(&source));
    }
    Ok(differences)
}

fn counts(manifest: &str, copy: &str) -> Result<Vec<String>, String> {
    let manifest = Manifest::decode(&read(manifest)?).map_err(|error| error.to_string())?;
    let copy = load(copy)?;
    let miscounts = compare::miscounts(&manifest, &copy);
    if miscounts.is_empty() {
        println!("{}", compare::summary(&copy));
    }
    Ok(miscounts)
}

fn load(file: &str) -> Result<Fingerprint, String> {
    serde_json::from_slice(&read(file)?).map_err(|error| format!("read {file}: {error}"))
}

fn read(file: &str) -> Result<Vec<u8>, String> {
    std::fs::read(file).map_err(|error| format!("read {file}: {error}"))
}
