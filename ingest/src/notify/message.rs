//! PURE: what is said to whom, and under which address.

use std::fmt;

use crate::connect::Secret;
use crate::job::Part;
use crate::summary;

/// The receivers of pings cut what is longer.
const BODY_MAX: usize = 100_000;

/// What a ping says.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Verb {
    /// A run begins.
    Start,
    /// All of it went well.
    Success,
    /// Some of it did not, or looks wrong.
    Failure,
}

/// An address that expects to hear of every run: silence is its alarm.
#[derive(Clone, Eq, PartialEq)]
pub(crate) struct Ping {
    /// Told of this class only.
    pub(crate) class: Option<String>,
    url: Secret,
}

/// Keeps the address to itself.
impl fmt::Debug for Ping {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.label())
    }
}

impl Ping {
    /// Reads `URL` or `CLASS=URL`.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (class, url) = match text.split_once('=') {
            Some((class, url)) if !class.contains([':', '/']) => (Some(class.to_owned()), url),
            Some(_) | None => (None, text),
        };
        is_address(url).then(|| Self { class, url: Secret(url.to_owned()) })
    }

    /// Whether it is to hear of a run of these classes.
    pub(crate) fn is_for(&self, classes: &[String]) -> bool {
        self.class.as_ref().is_none_or(|class| classes.contains(class))
    }

    /// Its name in the log: not its address.
    pub(crate) fn label(&self) -> String {
        self.class.as_ref().map_or("ping".to_owned(), |class| format!("ping of {class}"))
    }

    /// The address for a verb: behind the path, before the question mark.
    pub(crate) fn url(&self, verb: Verb) -> String {
        let Secret(url) = &self.url;
        let (path, query) = url.split_once('?').map_or((url.as_str(), None), |(p, q)| (p, Some(q)));
        let path = path.trim_end_matches('/');
        let ending = match verb {
            Verb::Start => "/start",
            Verb::Success => "",
            Verb::Failure => "/fail",
        };
        let query = query.map_or_else(String::new, |query| format!("?{query}"));
        format!("{path}{ending}{query}")
    }
}

/// Whether something can be sent there.
pub(crate) fn is_address(url: &str) -> bool {
    let rest = url.strip_prefix("https://").or_else(|| url.strip_prefix("http://"));
    rest.is_some_and(|rest| !rest.is_empty() && !rest.starts_with('/'))
}

/// How one database in one class ended, for those outside.
#[derive(Clone, Debug)]
pub(crate) struct Ending {
    pub(crate) class: String,
    /// Nothing wants a person.
    pub(crate) is_good: bool,
    /// The line of the audit log.
    pub(crate) json: String,
    line: String,
    facts: Vec<(&'static str, String)>,
}

impl Ending {
    /// What became of a part.
    pub(crate) fn of(part: &Part) -> Self {
        let record = &part.record;
        let error = record.error.as_ref();
        let line = error.map_or_else(|| summary::line(record), |error| error.message.clone());
        let number = |number: Option<u64>| number.map_or_else(String::new, |n| n.to_string());
        let facts = vec![
            ("WORM_RUN_ID", record.run_id.clone()),
            ("WORM_CLASS", record.class.clone()),
            ("WORM_DATABASE", record.database.clone()),
            ("WORM_OUTCOME", record.outcome.to_owned()),
            ("WORM_EXIT", record.exit.to_string()),
            ("WORM_NAME", record.name.clone().unwrap_or_default()),
            ("WORM_BYTES", number(record.bytes)),
            ("WORM_RAW_BYTES", number(record.raw_bytes)),
            ("WORM_ROWS", number(record.rows)),
            ("WORM_ERROR_CODE", error.map_or("", |error| error.code).to_owned()),
            ("WORM_MESSAGE", line.clone()),
        ];
        Self {
            class: record.class.clone(),
            is_good: part.error.is_none(),
            json: serde_json::to_string(record).unwrap_or_default(),
            line: format!("{} {}: {}: {line}", record.class, record.database, record.outcome),
            facts,
        }
    }

    /// What a hook finds in its environment.
    pub(crate) fn variables(&self) -> Vec<(&'static str, String)> {
        // The system takes none with a zero byte in it.
        let clean = |(name, value): &(&'static str, String)| (*name, value.replace('\0', " "));
        self.facts.iter().map(clean).collect()
    }
}

/// What a ping carries: a line for each part.
pub(crate) fn body(endings: &[&Ending]) -> String {
    let lines: Vec<&str> = endings.iter().map(|ending| ending.line.as_str()).collect();
    let mut body = lines.join("\n");
    body.truncate(body.floor_char_boundary(BODY_MAX));
    body
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use jiff::Timestamp;

    use super::*;
    use crate::audit::Record;
    use crate::error::Error;

    #[track_caller]
    fn check(text: &str, class: Option<&str>, urls: [&str; 3]) {
        let ping = Ping::parse(text).unwrap();
        assert_eq!(ping.class.as_deref(), class);
        let verbs = [Verb::Start, Verb::Success, Verb::Failure];
        assert_eq!(verbs.map(|verb| ping.url(verb)), urls);
        assert!(!format!("{ping:?}").contains("http"), "{ping:?}");
    }

    #[test]
    fn the_verb_stands_behind_the_path() {
        check(
            "https://hc/u-u",
            None,
            ["https://hc/u-u/start", "https://hc/u-u", "https://hc/u-u/fail"],
        );
        check(
            "daily=http://hc:80/k/app/?create=1",
            Some("daily"),
            [
                "http://hc:80/k/app/start?create=1",
                "http://hc:80/k/app?create=1",
                "http://hc:80/k/app/fail?create=1",
            ],
        );
        for wrong in ["", "hc/u", "ftp://x", "daily=", "daily=x", "https://", "https:///x"] {
            assert_eq!(Ping::parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_ping_of_one_class_hears_of_no_other() {
        let ping = Ping::parse("daily=http://x").unwrap();
        let classes =
            |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        assert!(ping.is_for(&classes(&["hourly", "daily"])));
        assert!(!ping.is_for(&classes(&["hourly"])));
        assert!(Ping::parse("http://x").unwrap().is_for(&classes(&["hourly"])));
    }

    #[test]
    fn an_ending_says_what_went_wrong() {
        let mut record = Record::begun(Timestamp::UNIX_EPOCH, "r", "hourly", "app");
        let error = Error::Internal("broken\0".to_owned());
        record.conclude(Some(&error));
        let ending = Ending::of(&Part { record, error: Some(Arc::new(error)) });
        assert!(!ending.is_good);
        assert_eq!(body(&[&ending, &ending]).lines().count(), 2);
        assert!(body(&[&ending]).starts_with("hourly app: failed: internal error: broken"));
        let variables = ending.variables();
        assert!(variables.contains(&("WORM_ERROR_CODE", "internal".to_owned())), "{variables:?}");
        assert!(variables.iter().all(|(_, value)| !value.contains('\0')));
        let long = Ending { line: "ä".repeat(BODY_MAX), ..ending };
        assert_eq!(body(&[&long]).len(), BODY_MAX);
    }
}
