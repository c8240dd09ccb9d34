//! PURE: variables that look as if they were ours and are not.

use super::Environment;
use super::file::LIKE;
use super::table;

/// How ours begin.
const BEGINNINGS: [&str; 2] = ["WORM_", "BACKUP_"];
/// Those of the mirror, which may stand in the same environment, and those that hooks get.
const OF_OTHERS: &[&str] = &[
    "WORM_BYTES",
    "WORM_CLASS",
    "WORM_ERROR_CODE",
    "WORM_EVERY",
    "WORM_EXIT",
    "WORM_EXTRACTION_AUDIT",
    "WORM_HEALTH",
    "WORM_IDENTITY",
    "WORM_LOG",
    "WORM_MESSAGE",
    "WORM_MIRROR",
    "WORM_NAME",
    "WORM_OUTCOME",
    "WORM_RAW_BYTES",
    "WORM_RESTORE_TO",
    "WORM_ROWS",
    "WORM_RUN_ID",
    "WORM_STAGING",
    "WORM_VIEW",
];

/// One line about the variables that no setting has, if there are any.
#[must_use]
pub fn strange_variables(environment: &Environment) -> Option<String> {
    let own: Vec<&str> =
        table::TABLE.iter().flat_map(|setting| setting.variables).copied().collect();
    let is_strange = |name: &&str| {
        let plain = name.strip_suffix("_FILE").unwrap_or(name);
        BEGINNINGS.iter().any(|beginning| name.starts_with(beginning))
            && !own.contains(&plain)
            && !own.contains(name)
            && !OF_OTHERS.contains(&plain)
    };
    let strange = environment.variables.keys().map(String::as_str).filter(is_strange);
    let described: Vec<String> = strange
        .map(|name| match nearest(&own, name) {
            Some(nearest) => format!("{name} (did you mean {nearest}?)"),
            None => name.to_owned(),
        })
        .collect();
    (!described.is_empty()).then(|| format!("no setting is called {}", described.join(", ")))
}

fn nearest<'a>(own: &[&'a str], name: &str) -> Option<&'a str> {
    let ours = own.iter().filter(|own| BEGINNINGS.iter().any(|word| own.starts_with(word)));
    // What all have in common makes nothing alike.
    let end = |name: &str| name.split_once('_').map_or(String::new(), |(_, end)| end.to_owned());
    ours.map(|own| (strsim::jaro_winkler(&end(own), &end(name)), *own))
        .filter(|(likeness, _)| *likeness >= LIKE)
        .max_by(|one, other| one.0.total_cmp(&other.0))
        .map(|(_, own)| own)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::PathBuf;

    use super::*;

    fn told(names: &[&str]) -> Option<String> {
        let variables = names.iter().map(|name| ((*name).to_owned(), "1".to_owned()));
        strange_variables(&Environment {
            variables: variables.collect(),
            not_text: BTreeSet::new(),
            default_file: PathBuf::new(),
        })
    }

    #[test]
    fn misspelt_variables_are_told_in_one_line() {
        assert_eq!(
            told(&["WORM_STAL_TIMEOUT", "BACKUP_SCHEDUL", "PATH", "WORM_XYZZY_FILE"]).unwrap(),
            "no setting is called BACKUP_SCHEDUL (did you mean BACKUP_SCHEDULE?), \
             WORM_STAL_TIMEOUT (did you mean WORM_STALL_TIMEOUT?), WORM_XYZZY_FILE"
        );
    }

    #[test]
    fn ours_and_those_of_others_are_not() {
        let own = table::TABLE.iter().flat_map(|setting| setting.variables).copied();
        let own: Vec<&str> = own.chain(OF_OTHERS.iter().copied()).collect();
        assert_eq!(told(&own), None);
        assert_eq!(told(&["WORM_PING_URL_FILE", "PGWORM_X", "HOME"]), None);
    }
}
