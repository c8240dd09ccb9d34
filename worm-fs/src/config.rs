//! PURE: `worm.toml`, the classes and their rules.

mod limits;
mod scrub;
mod size;

use std::collections::BTreeMap;

use serde::Deserialize;
use serde::Deserializer;
use serde::Serialize;
use serde::Serializer;

pub use limits::Limits;
pub use scrub::Scrub;
pub use size::Size;

use crate::clock::DAY_MS;
use crate::clock::HOUR_MS;
use crate::clock::SECOND_MS;
use crate::policy::name::INCOMPLETE;
use crate::policy::name::Name;

/// The append-only class where none is configured.
const LOGS: &str = "logs";
/// For how long its files are kept from their last bytes on.
const LOGS_RETENTION_MS: i64 = 365 * DAY_MS;
/// How long an incomplete file is kept.
pub const INCOMPLETE_RETENTION_MS: i64 = DAY_MS;
/// The longest retention that can be configured, so that no arithmetic overflows.
pub const RETENTION_MS_MAX: i64 = 200 * 366 * DAY_MS;

/// The rules of a store.
#[derive(Clone, Debug, Eq, PartialEq, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Config {
    /// The room of the disk that no class can take.
    #[serde(default)]
    pub reserve: Option<Size>,
    /// How everything is read again in the background.
    #[serde(default)]
    pub scrub: Scrub,
    /// The classes by their name, which is the name of their directory.
    #[serde(rename = "class")]
    pub classes: BTreeMap<String, ClassRule>,
}

/// What holds for the files of one class. A change touches files sealed later only.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClassRule {
    /// How long a file is kept from its seal on, in milliseconds; written `48h`, `7d`, `4w`.
    #[serde(deserialize_with = "duration", serialize_with = "seconds")]
    pub retention: i64,
    /// Up to how long retention can be extended, from the seal on; `retention` if absent.
    #[serde(
        default,
        deserialize_with = "optional_duration",
        serialize_with = "optional_seconds",
        skip_serializing_if = "Option::is_none"
    )]
    pub max_retention: Option<i64>,
    /// Its files are logs: they take bytes at their end only, and are kept from the last ones on.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub append_only: bool,
    /// Whether the admin may end a retention early.
    #[serde(default, skip_serializing_if = "Mode::is_compliance")]
    pub mode: Mode,
    /// How many of the newest groups with a manifest are kept however old, in each directory.
    #[serde(default = "default_keep_last")]
    pub keep_last: usize,
    /// What is appended to a file's name to name the files that end together with it.
    #[serde(default = "default_sidecars")]
    pub sidecars: Vec<String>,
    /// Owner of the class directory, a number.
    #[serde(default)]
    pub owner: u32,
    /// Group of the class directory, a number.
    #[serde(default)]
    pub group: u32,
    /// Permissions of the class directory, octal.
    #[serde(
        default = "default_permissions",
        deserialize_with = "octal",
        serialize_with = "as_octal"
    )]
    pub permissions: u32,
    /// How much of everything it may have.
    #[serde(default, skip_serializing_if = "Limits::is_default")]
    pub limits: Limits,
}

/// Whether a retention can be ended early, as S3 Object Lock names it. Fixed for each file when
/// it is sealed.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// By nobody.
    #[default]
    Compliance,
    /// By the admin, with a reason that goes into the ledger.
    Governance,
}

impl Mode {
    fn is_compliance(&self) -> bool {
        *self == Self::Compliance
    }
}

fn default_keep_last() -> usize {
    1
}

/// The sidecar whose presence makes a group a whole backup.
pub const MANIFEST_SIDECAR: &str = ".manifest.json";

fn default_sidecars() -> Vec<String> {
    let beside = [".globals.sql", ".globals.sql.age", ".cluster.json", ".cluster.json.age"];
    [".sha256", MANIFEST_SIDECAR].into_iter().chain(beside).map(str::to_owned).collect()
}

fn default_permissions() -> u32 {
    0o755
}

impl ClassRule {
    /// The rule of a class of which only the retention is given.
    fn kept(retention: i64) -> Self {
        Self {
            retention,
            max_retention: None,
            append_only: false,
            mode: Mode::Compliance,
            keep_last: default_keep_last(),
            sidecars: default_sidecars(),
            owner: 0,
            group: 0,
            permissions: default_permissions(),
            limits: Limits::default(),
        }
    }

    /// The same for logs. They have no sidecars, so there are no groups to keep.
    fn of_logs(mut self) -> Self {
        self.append_only = true;
        self.keep_last = 0;
        self.sidecars.clear();
        self
    }
}

impl Default for Config {
    /// The three classes that most people want: hourly 48 h, daily 7 d, weekly 4 w.
    fn default() -> Self {
        let class = |name: &str, retention| (name.to_owned(), ClassRule::kept(retention));
        let classes = [
            class("hourly", 48 * HOUR_MS),
            class("daily", 7 * DAY_MS),
            class("weekly", 28 * DAY_MS),
        ];
        Self { reserve: None, scrub: Scrub::default(), classes: classes.into() }
    }
}

impl Config {
    /// Reads `worm.toml` and checks that it makes sense.
    ///
    /// # Errors
    /// One sentence that says what is wrong with it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut config: Self = toml::from_str(text).map_err(|error| error.to_string())?;
        if config.classes.is_empty() {
            return Err("no class: write at least one [class.NAME] with a retention".to_owned());
        }
        for (name, rule) in &config.classes {
            let valid = Name::new(name.as_bytes()).is_ok() && !name.starts_with('.');
            if !valid || name == INCOMPLETE {
                return Err(format!("class {name:?}: not a name for a directory"));
            }
            if rule.max_retention.is_some_and(|max| max < rule.retention) {
                return Err(format!("class {name}: max_retention is shorter than retention"));
            }
            if rule.sidecars.iter().any(|sidecar| sidecar.is_empty() || sidecar.contains('/')) {
                return Err(format!("class {name}: a sidecar is an ending such as \".sha256\""));
            }
            if rule.limits.idle_time < SECOND_MS || rule.limits.open_time < SECOND_MS {
                return Err(format!("class {name}: idle_time and open_time are at least 1s"));
            }
            if rule.append_only && rule.mode != Mode::Compliance {
                return Err(format!("class {name}: an append_only class has no governance mode"));
            }
        }
        let logs = config.classes.values_mut().filter(|rule| rule.append_only);
        let logs: Vec<()> = logs.map(|rule| *rule = rule.clone().of_logs()).collect();
        if logs.len() > 1 {
            return Err("more than one class is append_only: leave one".to_owned());
        }
        Ok(config)
    }

    /// The name of the append-only class.
    #[must_use]
    pub fn logs(&self) -> Option<&str> {
        let (name, _) = self.classes.iter().find(|(_, rule)| rule.append_only)?;
        Some(name)
    }

    /// The same with an append-only class, which is `logs`, kept for 365 days, if there is none.
    ///
    /// # Errors
    /// One sentence, when another class has that name.
    pub fn with_logs(mut self) -> Result<Self, String> {
        if self.logs().is_none() {
            let rule = ClassRule::kept(LOGS_RETENTION_MS).of_logs();
            if self.classes.insert(LOGS.to_owned(), rule).is_some() {
                return Err(format!("class {LOGS} is not append_only: say so, or rename it"));
            }
        }
        Ok(self)
    }
}

/// Reads `90s`, `30m`, `48h`, `7d` or `4w` into milliseconds.
///
/// # Errors
/// One sentence that says what a duration looks like.
pub fn parse_duration(text: &str) -> Result<i64, String> {
    let wrong = || format!("{text:?} is not a duration: write 90s, 30m, 48h, 7d or 4w");
    let unit_at = text.find(|c: char| !c.is_ascii_digit()).ok_or_else(wrong)?;
    let (number, unit) = text.split_at(unit_at);
    let unit_ms = match unit {
        "s" => SECOND_MS,
        "m" => 60 * SECOND_MS,
        "h" => HOUR_MS,
        "d" => DAY_MS,
        "w" => 7 * DAY_MS,
        _ => return Err(wrong()),
    };
    let number: i64 = number.parse().map_err(|_parse: std::num::ParseIntError| wrong())?;
    match number.checked_mul(unit_ms) {
        Some(ms) if ms <= RETENTION_MS_MAX => Ok(ms),
        Some(_) | None => Err(format!("{text:?} is longer than 200 years")),
    }
}

fn duration<'de, D: Deserializer<'de>>(deserializer: D) -> Result<i64, D::Error> {
    let text = String::deserialize(deserializer)?;
    parse_duration(&text).map_err(serde::de::Error::custom)
}

fn optional_duration<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<i64>, D::Error> {
    duration(deserializer).map(Some)
}

fn seconds<S: Serializer>(ms: &i64, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&format_args!("{}s", ms / SECOND_MS))
}

fn optional_seconds<S: Serializer>(ms: &Option<i64>, serializer: S) -> Result<S::Ok, S::Error> {
    match ms {
        Some(ms) => seconds(ms, serializer),
        None => serializer.serialize_none(),
    }
}

fn as_octal<S: Serializer>(bits: &u32, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&format_args!("{bits:04o}"))
}

fn octal<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u32, D::Error> {
    let text = String::deserialize(deserializer)?;
    let wrong = || serde::de::Error::custom(format!("{text:?}: write permissions as \"0755\""));
    let bits = u32::from_str_radix(&text, 8).map_err(|_parse: std::num::ParseIntError| wrong())?;
    if bits > 0o7777 { Err(wrong()) } else { Ok(bits) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_is_the_three_classes() {
        let written = "
            [class.hourly]\nretention = \"48h\"
            [class.daily]\nretention = \"7d\"
            [class.weekly]\nretention = \"4w\"";
        assert_eq!(Config::parse(written).unwrap(), Config::default());
    }

    #[test]
    fn what_is_misspelt_is_refused() {
        for (wrong, says) in [
            ("", "class"),
            ("[class]", "no class"),
            ("[class.a]\nretenton = \"1d\"", "retenton"),
            ("[class.a]\nretention = \"1 day\"", "48h"),
            ("[class.a]\nretention = \"99999999w\"", "200 years"),
            ("[class.a]\nretention = \"2d\"\nmax_retention = \"1d\"", "shorter"),
            ("[class.\".incomplete\"]\nretention = \"2d\"", "not a name"),
            ("[class.a]\nretention = \"2d\"\npermissions = \"99\"", "0755"),
            ("[clas.a]\nretention = \"2d\"", "clas"),
            ("[class.a]\nretention = \"2d\"\nlimits.bites = \"1GiB\"", "bites"),
            ("[class.a]\nretention = \"2d\"\nlimits.bytes = \"1 GiB\"", "10GiB"),
            ("[class.a]\nretention = \"2d\"\nlimits.idle_time = \"0s\"", "idle_time"),
            ("reserve = \"1G\"\n[class.a]\nretention = \"2d\"", "not a size"),
            (
                "[class.a]\nretention = \"2d\"\nappend_only = true\nmode = \"governance\"",
                "append_only",
            ),
            (
                "[class.a]\nretention = \"2d\"\nappend_only = true\n\
                 [class.b]\nretention = \"2d\"\nappend_only = true",
                "leave one",
            ),
        ] {
            let error = Config::parse(wrong).unwrap_err();
            assert!(error.contains(says), "{wrong}: {error}");
        }
    }

    #[test]
    fn logs_are_a_class_of_their_own() {
        assert_eq!(Config::default().logs(), None);
        let with_logs = Config::default().with_logs().unwrap();
        assert_eq!(with_logs.logs(), Some("logs"));
        assert_eq!(with_logs.classes["logs"].retention, 365 * DAY_MS);
        assert_eq!(with_logs.clone().with_logs().unwrap(), with_logs);
        let named = "[class.audit]\nretention = \"9d\"\nappend_only = true";
        let named = Config::parse(named).unwrap().with_logs().unwrap();
        assert_eq!((named.logs(), named.classes.len()), (Some("audit"), 1));
        assert_eq!(
            (named.classes["audit"].keep_last, &named.classes["audit"].sidecars[..]),
            (0, &[][..])
        );
        let taken = Config::parse("[class.logs]\nretention = \"9d\"").unwrap();
        assert!(taken.with_logs().unwrap_err().contains("append_only"));
    }

    #[test]
    fn a_rule_survives_the_ledger() {
        let limited = Config::parse(
            "[class.a]\nretention = \"2d\"\nlimits.bytes = \"10GiB\"\nlimits.files = 9
            limits.bytes_per_day = \"5%\"\nlimits.open_time = \"3h\"",
        );
        let limited = limited.unwrap().classes.remove("a").unwrap();
        let expected = Limits {
            bytes: Size::Bytes(10 << 30),
            files: 9,
            bytes_per_day: Size::Percent(5),
            open_time: 3 * HOUR_MS,
            ..Limits::default()
        };
        assert_eq!(limited.limits, expected);
        for rule in Config::default().with_logs().unwrap().classes.values().chain([&limited]) {
            let text = serde_json::to_string(rule).unwrap();
            assert_eq!(&serde_json::from_str::<ClassRule>(&text).unwrap(), rule, "{text}");
            // Lines written before there were limits say nothing of them.
            assert_eq!(text.contains("limits"), rule == &limited, "{text}");
        }
    }

    #[test]
    fn durations_have_units() {
        assert_eq!(parse_duration("90s"), Ok(90_000));
        assert_eq!(parse_duration("4w"), Ok(28 * DAY_MS));
        for wrong in ["", "7", "d", "-1d", "1.5h", "7 d", "7D"] {
            assert!(parse_duration(wrong).is_err(), "{wrong}");
        }
    }
}
