//! PURE: which databases of a server are meant.

use globset::GlobBuilder;
use globset::GlobMatcher;

/// Characters that make a pattern of a name.
const PATTERN: [char; 4] = ['*', '?', '[', '{'];

/// What was asked for.
#[derive(Clone, Debug)]
pub(crate) enum Databases {
    /// The one of the connection. Its backups lie in the class itself.
    One,
    /// Those that these lead to. Each has a directory of its own.
    Several(Selection),
}

/// Which of many.
#[derive(Clone, Debug)]
pub(crate) struct Selection {
    all: bool,
    include: Vec<Pattern>,
    exclude: Vec<Pattern>,
}

/// A name, or a pattern of names.
#[derive(Clone, Debug)]
struct Pattern {
    text: String,
    /// None: the text is the name.
    glob: Option<GlobMatcher>,
}

impl Pattern {
    fn new(text: &str) -> Result<Self, String> {
        let glob = if is_pattern(text) {
            let glob = GlobBuilder::new(text).literal_separator(false).build();
            Some(glob.map_err(|error| error.to_string())?.compile_matcher())
        } else {
            None
        };
        Ok(Self { text: text.to_owned(), glob })
    }

    fn fits(&self, database: &str) -> bool {
        match &self.glob {
            Some(glob) => glob.is_match(database),
            None => self.text == database,
        }
    }
}

/// What a selection amounts to on a server.
#[derive(Debug, Default, Eq, PartialEq)]
pub(crate) struct Chosen {
    /// Databases, in the order of the server's list.
    pub(crate) databases: Vec<String>,
    /// Names and patterns that lead to none. Each is a failure of its own.
    pub(crate) missing: Vec<String>,
}

impl Databases {
    /// What these settings mean. A single name means that database alone, and is handed back to be
    /// the one of the connection.
    ///
    /// An error says which pattern cannot be read, or what contradicts itself.
    pub(crate) fn of(
        include: &[String],
        exclude: &[String],
        all: bool,
    ) -> Result<(Self, Option<String>), String> {
        if all && !include.is_empty() {
            return Err("--all-databases and --database: give one of them".to_owned());
        }
        match include {
            [] if !all && !exclude.is_empty() => {
                return Err("--exclude-database goes with --all-databases or a pattern".to_owned());
            }
            [] if !all => return Ok((Self::One, None)),
            [one] if !is_pattern(one) && exclude.is_empty() => {
                return Ok((Self::One, Some(one.clone())));
            }
            _ => {}
        }
        let patterns = |texts: &[String]| -> Result<Vec<Pattern>, String> {
            texts.iter().map(|text| Pattern::new(text)).collect()
        };
        let several = Selection { all, include: patterns(include)?, exclude: patterns(exclude)? };
        Ok((Self::Several(several), None))
    }
}

impl Selection {
    /// Chooses from the databases that there are.
    pub(crate) fn choose(&self, databases: &[String]) -> Chosen {
        let fits = |patterns: &[Pattern], name: &str| patterns.iter().any(|p| p.fits(name));
        let wanted =
            |name: &&String| (self.all || fits(&self.include, name)) && !fits(&self.exclude, name);
        let leads_nowhere = |pattern: &&Pattern| !databases.iter().any(|name| pattern.fits(name));
        Chosen {
            databases: databases.iter().filter(wanted).cloned().collect(),
            missing: self.include.iter().filter(leads_nowhere).map(|p| p.text.clone()).collect(),
        }
    }

    /// What was asked for, in one line.
    pub(crate) fn text(&self) -> String {
        if self.all {
            return "*".to_owned();
        }
        let texts: Vec<&str> = self.include.iter().map(|pattern| pattern.text.as_str()).collect();
        texts.join(", ")
    }
}

fn is_pattern(text: &str) -> bool {
    text.contains(PATTERN)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn strings(texts: &[&str]) -> Vec<String> {
        texts.iter().map(|text| (*text).to_owned()).collect()
    }

    #[track_caller]
    fn check(include: &[&str], exclude: &[&str], chosen: &[&str], missing: &[&str]) {
        let all = include.is_empty();
        let databases = Databases::of(&strings(include), &strings(exclude), all).unwrap().0;
        let Databases::Several(selection) = databases else { panic!("one") };
        let there = strings(&["a/b", "app", "app_test", "postgres"]);
        let expected = Chosen { databases: strings(chosen), missing: strings(missing) };
        assert_eq!(selection.choose(&there), expected);
    }

    #[test]
    fn names_and_patterns_choose_among_what_there_is() {
        check(&[], &[], &["a/b", "app", "app_test", "postgres"], &[]);
        check(&[], &["*_test", "postgres"], &["a/b", "app"], &[]);
        check(&["app*"], &[], &["app", "app_test"], &[]);
        check(&["app*"], &["app_test"], &["app"], &[]);
        check(&["postgres", "app"], &[], &["app", "postgres"], &[]);
        check(&["a*"], &[], &["a/b", "app", "app_test"], &[]);
        check(&["app_???t"], &[], &["app_test"], &[]);
    }

    #[test]
    fn what_leads_to_no_database_is_told() {
        check(&["app", "gone", "x*"], &[], &["app"], &["gone", "x*"]);
        // Left out on purpose is not missing.
        check(&["app*"], &["app*"], &[], &[]);
    }

    #[test]
    fn one_name_is_one_database_and_keeps_the_simple_layout() {
        let of = |include: &[&str], exclude: &[&str], all| {
            Databases::of(&strings(include), &strings(exclude), all)
        };
        assert!(matches!(of(&[], &[], false), Ok((Databases::One, None))));
        let one = of(&["app"], &[], false).unwrap();
        assert!(matches!(one, (Databases::One, Some(name)) if name == "app"));
        assert!(matches!(of(&["app*"], &[], false), Ok((Databases::Several(_), None))));
        assert!(matches!(of(&[], &[], true), Ok((Databases::Several(_), None))));
        for (include, exclude, all) in
            [(&["a"][..], &[][..], true), (&[], &["a"], false), (&["a["], &[], false)]
        {
            assert!(of(include, exclude, all).is_err(), "{include:?} {exclude:?}");
        }
    }
}
