//! Holds by a test what good will does not: the layers, the length of files, words that must not
//! stay, and links that lead somewhere.

use std::path::Path;
use std::path::PathBuf;

/// The members of the workspace.
const CRATES: [&str; 5] = ["worm-fs", "mount", "ingest", "extractor", "tests"];

/// What a pure module must not name: it is handed everything and asks for nothing.
const IMPURE: &[&str] = &[
    "std::fs",
    "std::io",
    "std::net",
    "std::process",
    "std::thread",
    "std::env",
    "rustix",
    "libc",
    "fuser",
    "tokio",
    "tracing",
    "::now()",
];

/// What the files below a path must not name, and why.
const LAYERS: &[(&str, &[&str], &str)] = &[
    ("worm-fs/src/policy.rs", IMPURE, "policy is pure"),
    ("worm-fs/src/policy/", IMPURE, "policy is pure"),
    ("worm-fs/src/record.rs", IMPURE, "a ledger line is read and written apart from I/O"),
    ("worm-fs/src/catalog.rs", IMPURE, "state is a fold over the ledger and nothing else"),
    ("worm-fs/src/config.rs", IMPURE, "the configuration is text that makes sense"),
    ("worm-fs/src/store/layout.rs", IMPURE, "names on disk are computed, not looked up"),
    ("worm-fs/src/store/recover.rs", IMPURE, "what a start puts right is planned apart from I/O"),
    ("worm-fs/src/verify/chain.rs", IMPURE, "a damaged chain is judged apart from I/O"),
    ("worm-fs/src/verify/known.rs", IMPURE, "what should be there is known from the ledger alone"),
    ("worm-fs/src/store", &["crate::fuse", "crate::fs", "verdict("], "the store does not judge"),
    ("worm-fs/src/store.rs", &["fuser"], "only the adapter speaks to the kernel"),
    ("worm-fs/src/store/", &["fuser"], "only the adapter speaks to the kernel"),
    ("worm-fs/src/fs.rs", &["fuser", "crate::fuse"], "the file system works without FUSE"),
    ("worm-fs/src/fs/", &["fuser", "crate::fuse"], "the file system works without FUSE"),
    ("worm-fs/src/fuse", &["std::fs::read", "verdict(", "SystemTime::now"], "it decides nothing"),
    ("mount/src/", &["fuser"], "only worm-fs/src/fuse names fuser"),
    ("ingest/src/manifest.rs", IMPURE, "a manifest is read and written apart from I/O"),
    ("ingest/src/schedule", IMPURE, "what is due follows from the moment and from what is sealed"),
    ("ingest/src/service/settings.rs", IMPURE, "what settings mean follows from the settings"),
    ("ingest/src/tripwire.rs", IMPURE, "a backup is compared with others apart from I/O"),
    ("ingest/src/list.rs", IMPURE, "what is listed is handed in"),
    ("ingest/src/metrics.rs", IMPURE, "numbers follow from facts that are handed in"),
    ("ingest/src/notify/message.rs", IMPURE, "what is told is settled apart from telling it"),
    ("ingest/src/doctor/verdict.rs", IMPURE, "facts are judged apart from gathering them"),
    ("ingest/src/", &["worm_fs", "fuser"], "the agent sees a directory, nothing more"),
    (
        "extractor/src/restore/globals.rs",
        IMPURE,
        "which roles are wanted is settled apart from I/O",
    ),
    ("extractor/src/plan.rs", IMPURE, "what to mirror is planned apart from I/O"),
    (
        "extractor/src/health.rs",
        &["std::fs", "std::env", "tokio", "::now()"],
        "how it goes is judged apart from I/O",
    ),
    ("extractor/src/", &["worm_fs", "fuser"], "the extractor sees a directory, nothing more"),
];

/// What a crate must not depend on, so that the layers hold when nobody looks at the sources.
const DEPENDENCIES: &[(&str, &[&str])] = &[
    ("worm-fs", &["tokio", "tokio-postgres", "worm-ingest", "worm-extractor", "clap"]),
    ("mount", &["fuser", "tokio", "worm-ingest", "worm-extractor"]),
    ("ingest", &["fuser", "worm-fs", "worm-extractor", "worm-mount"]),
    ("extractor", &["fuser", "worm-fs", "worm-mount"]),
];

/// The most lines of a file with its tests.
const LINES_MAX: usize = 500;
/// Files that are longer, how long they may be, and why.
const LONG: &[(&str, usize, &str)] =
    &[("worm-fs/src/fuse.rs", 750, "every request of the protocol has its method, in one place")];

/// Words that must not stay, in pieces so that this file does not contain them.
const WORDS: &[(&str, &str)] = &[
    (concat!("to", "do!"), "finish it, or leave it out"),
    (concat!("unimple", "mented!"), "finish it, or leave it out"),
    (concat!("db", "g!"), "log by tracing"),
    (concat!("FIX", "ME"), "fix it, or write it down where a user finds it"),
    (concat!("XX", "X"), "fix it, or write it down where a user finds it"),
    (concat!("#[ig", "nore"), "a test runs or is not there"),
    (concat!("#[al", "low("), "write expect, with the reason"),
    (concat!("#![al", "low("), "write expect, with the reason"),
];

fn root() -> PathBuf {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR"));
    tests.parent().expect("the tests are a member of the workspace").to_owned()
}

/// Every file with this ending below a directory.
fn files(directory: &Path, ending: &str) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(directory)
        .unwrap_or_else(|error| panic!("list {}: {error}", directory.display()));
    let mut found = Vec::new();
    for entry in entries {
        let path = entry.unwrap().path();
        if path.is_dir() && !path.ends_with("target") {
            found.extend(files(&path, ending));
        } else if path.extension().is_some_and(|extension| extension == ending) {
            found.push(path);
        }
    }
    found.sort();
    found
}

/// Every source file of the workspace: its path from the root, and its text.
fn sources() -> Vec<(String, String)> {
    let root = root();
    let all = CRATES.iter().flat_map(|name| files(&root.join(name), "rs"));
    all.map(|path| {
        let short = path.strip_prefix(&root).unwrap().to_str().unwrap().to_owned();
        (short, std::fs::read_to_string(&path).unwrap())
    })
    .collect()
}

/// The lines that are no comments, with their numbers.
fn code(text: &str) -> impl Iterator<Item = (usize, &str)> {
    (1..).zip(text.lines()).filter(|(_, line)| !line.trim_start().starts_with("//"))
}

#[track_caller]
fn check_none(found: &[String]) {
    assert!(found.is_empty(), "\n{}\n", found.join("\n"));
}

#[test]
fn no_layer_names_what_is_not_its_business() {
    let sources = sources();
    let mut found = Vec::new();
    for (layer, words, why) in LAYERS {
        let inside: Vec<_> = sources.iter().filter(|(path, _)| path.starts_with(layer)).collect();
        if inside.is_empty() {
            found.push(format!("{layer}: there is no such layer any more"));
        }
        for (path, text) in inside {
            for (number, line) in code(text) {
                let named = words.iter().filter(|word| line.contains(*word));
                found.extend(named.map(|word| format!("{path}:{number}: {word}: {why}")));
            }
        }
    }
    check_none(&found);
}

#[test]
fn fuser_is_named_in_one_folder() {
    let adapter = |path: &str| path.starts_with("worm-fs/src/fuse") || path.starts_with("tests/");
    let mut found = Vec::new();
    for (path, text) in sources().iter().filter(|(path, _)| !adapter(path)) {
        let named = code(text).filter(|(_, line)| line.contains("fuser::"));
        found.extend(named.map(|(number, _)| format!("{path}:{number}: fuser")));
    }
    check_none(&found);
}

#[test]
fn no_crate_depends_on_what_it_must_not_reach() {
    let mut found = Vec::new();
    for (name, forbidden) in DEPENDENCIES {
        let manifest = std::fs::read_to_string(root().join(name).join("Cargo.toml")).unwrap();
        // Tests may lean on more than the program does.
        let program = manifest.split("[dev-dependencies]").next().unwrap();
        let keys = program.lines().filter_map(|line| line.split(['.', ' ', '=']).next());
        let named = keys.filter(|key| forbidden.contains(key));
        found.extend(named.map(|key| format!("{name}/Cargo.toml: {key}")));
    }
    check_none(&found);
}

#[test]
fn files_are_short_and_say_what_they_are_for() {
    let mut found = Vec::new();
    for (path, text) in sources() {
        let lines = text.lines().count();
        let exception = LONG.iter().find(|(long, ..)| *long == path);
        let most = exception.map_or(LINES_MAX, |(_, most, _)| *most);
        if lines > most {
            found.push(format!("{path}: {lines} lines, at most {most}"));
        }
        if exception.is_some() && lines <= LINES_MAX {
            found.push(format!("{path}: needs no exception any more"));
        }
        if !text.starts_with("//!") {
            found.push(format!("{path}: begin with //! and what it is for"));
        }
        if path.ends_with("/mod.rs") {
            found.push(format!("{path}: call it by the name of its folder, beside it"));
        }
    }
    check_none(&found);
}

#[test]
fn nothing_is_left_unfinished_or_skipped() {
    let mut found = Vec::new();
    for (path, text) in sources() {
        for (number, line) in (1..).zip(text.lines()) {
            let named = WORDS.iter().filter(|(word, _)| line.contains(word));
            found.extend(named.map(|(word, why)| format!("{path}:{number}: {word} {why}")));
        }
    }
    check_none(&found);
}

#[test]
fn every_link_in_the_documents_leads_somewhere() {
    let root = root();
    let mut documents = files(&root.join("docs"), "md");
    documents.extend(
        ["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "CHANGELOG.md"].map(|d| root.join(d)),
    );
    let mut found = Vec::new();
    for document in documents {
        let text = std::fs::read_to_string(&document)
            .unwrap_or_else(|error| panic!("read {}: {error}", document.display()));
        for link in text.split("](").skip(1).filter_map(|rest| rest.split([')', '#']).next()) {
            let elsewhere = link.is_empty() || link.contains("://") || link.starts_with("mailto:");
            let beside = document.parent().unwrap().join(link);
            if !elsewhere && !beside.exists() {
                found.push(format!("{}: {link}", document.display()));
            }
        }
    }
    check_none(&found);
}
