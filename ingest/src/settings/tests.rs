//! Who wins over whom, what is said twice, and what never shows.

use std::collections::BTreeSet;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use clap::Parser;

use super::*;
use crate::cli::Cli;

/// A configuration file of its own, an environment, and a command line.
struct Case {
    file: tempfile::NamedTempFile,
    environment: Environment,
}

impl Case {
    fn new(file: &str, variables: &[(&str, &str)]) -> Self {
        let mut written = tempfile::NamedTempFile::new().unwrap();
        written.write_all(file.as_bytes()).unwrap();
        let variables = variables.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned()));
        let environment = Environment {
            variables: variables.collect(),
            not_text: BTreeSet::new(),
            default_file: written.path().to_owned(),
        };
        Self { file: written, environment }
    }

    fn load(&self, flags: &[&str]) -> Result<Settings, SettingsError> {
        let line = ["worm-ingest", "backup", "hourly"].iter().chain(flags);
        Cli::try_parse_from(line).unwrap().settings(&self.environment)
    }

    #[track_caller]
    fn refused(&self, flags: &[&str], words: &[&str]) {
        let error = self.load(flags).unwrap_err();
        let said = error.to_string();
        assert!(words.iter().all(|word| said.contains(word)), "{said}");
        assert!(!said.contains('\n') && !said.contains("hush"), "{said}");
        assert_eq!(crate::error::Error::from(error).exit().number(), 2);
    }
}

#[track_caller]
fn check(settings: &Settings, setting: &Setting, text: &str, origin: &str) {
    let value = settings.value(setting).unwrap();
    assert_eq!((value.text(), value.origin.to_string().as_str()), (text, origin));
}

#[test]
fn each_layer_wins_over_the_next_setting_by_setting() {
    let case = Case::new(
        "# ours\nbackups = \"/file\"\naudit_log = \"/file.jsonl\"\nstall_timeout = 3\n",
        &[("WORM_BACKUPS", "/variable"), ("WORM_AUDIT_LOG", "/variable.jsonl")],
    );
    let path = case.file.path().display().to_string();
    let settings = case.load(&["--backups", "/flag"]).unwrap();
    check(&settings, &table::BACKUPS, "/flag", "--backups");
    check(&settings, &table::AUDIT_LOG, "/variable.jsonl", "WORM_AUDIT_LOG");
    check(&settings, &table::STALL_TIMEOUT, "3", &format!("{path}:4"));
    check(&settings, &table::LOCK_WAIT_TIMEOUT, "600", "default");
    assert!(settings.value(&table::HOST).is_none());
}

#[test]
fn an_empty_variable_is_an_unset_one_and_an_empty_flag_a_mistake() {
    let case = Case::new("backups = \"/file\"\n", &[("WORM_BACKUPS", ""), ("PGHOST_FILE", "")]);
    assert_eq!(case.load(&[]).unwrap().text(&table::BACKUPS), Some("/file"));
    case.refused(&["--backups", ""], &["--backups", "empty"]);
    Case::new("backups = \"\"\n", &[]).refused(&[], &[":1 is empty"]);
}

#[test]
fn what_is_said_twice_in_one_place_is_refused_whoever_wins() {
    for (one, two) in [
        ("PGHOST", "POSTGRES_HOST"),
        ("PGPORT", "POSTGRES_PORT"),
        ("PGDATABASE", "POSTGRES_DB"),
        ("PGUSER", "POSTGRES_USER"),
        ("PGPASSWORD", "POSTGRES_PASSWORD"),
        ("PGPASSWORD", "PGPASSWORD_FILE"),
        ("PGPASSWORD_FILE", "POSTGRES_PASSWORD_FILE"),
        ("PGPASSWORD", "POSTGRES_PASSWORD_FILE"),
        ("DATABASE_URL", "DATABASE_URL_FILE"),
        ("WORM_STALL_TIMEOUT", "WORM_STALL_TIMEOUT_FILE"),
    ] {
        let case = Case::new("", &[(one, "hush"), (two, "hush")]);
        case.refused(&[], &[one, two]);
        case.refused(&["--host", "db", "--port", "1", "--user", "me"], &[one, two]);
    }
    let case = Case::new("password = \"hush\"\npassword_file = \"/x\"\n", &[]);
    case.refused(&[], &[":1", ":2"]);
    Case::new("", &[]).refused(&["--url", "a", "--url-file", "b"], &["--url", "--url-file"]);
}

#[test]
fn an_alias_means_what_its_proper_name_means() {
    let variables = [
        ("POSTGRES_HOST", "db"),
        ("POSTGRES_PORT", "6000"),
        ("POSTGRES_DB", "app"),
        ("POSTGRES_USER", "me"),
        ("POSTGRES_PASSWORD", "pw"),
    ];
    let settings = Case::new("", &variables).load(&[]).unwrap();
    check(&settings, &table::HOST, "db", "POSTGRES_HOST");
    check(&settings, &table::PORT, "6000", "POSTGRES_PORT");
    check(&settings, &table::DBNAME, "app", "POSTGRES_DB");
    check(&settings, &table::USER, "me", "POSTGRES_USER");
    check(&settings, &table::PASSWORD, "pw", "POSTGRES_PASSWORD");
}

#[test]
fn every_variable_may_be_a_file_which_loses_one_final_newline_and_no_more() {
    for (content, expected) in
        [("secret\n", "secret"), ("secret", "secret"), ("a\r\n", "a"), (" a\n\n", " a\n")]
    {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(content.as_bytes()).unwrap();
        let path = file.path().to_str().unwrap();
        let one_text = |setting: &&&Setting| matches!(setting.form, Form::Text(_));
        for setting in table::TABLE.iter().filter(one_text) {
            for name in setting
                .variables
                .iter()
                .filter(|_| setting.in_file && !["url", "service"].contains(&setting.name))
            {
                let name = format!("{name}_FILE");
                let settings = Case::new("", &[(&name, path)]).load(&[]).unwrap();
                check(&settings, setting, expected, &name);
            }
        }
    }
    Case::new("", &[("PGHOST_FILE", "/nonexistent")])
        .refused(&[], &["/nonexistent", "PGHOST_FILE"]);
    Case::new("", &[("WORM_CONFIG_FILE", "/x")]).refused(&[], &["WORM_CONFIG?"]);
    Case::new("", &[("PGPASSWORD_FILE", "/dev/null")]).refused(&[], &["PGPASSWORD_FILE", "empty"]);
}

#[test]
fn a_file_that_loses_is_not_read() {
    let case = Case::new("password_file = \"/nonexistent\"\n", &[("PGPASSWORD", "pw")]);
    check(&case.load(&[]).unwrap(), &table::PASSWORD, "pw", "PGPASSWORD");
}

#[test]
fn a_list_is_what_stands_between_commas_or_on_lines() {
    for (text, expected) in [
        ("a, b", &["a", "b"][..]),
        ("a\nssh-ed25519 AAAA me\n", &["a", "ssh-ed25519 AAAA me"]),
        (",a,", &["a"]),
    ] {
        assert_eq!(layers::items(text), expected);
    }
    assert_eq!(layers::lines("# who\n\n a \nb\n"), ["a", "b"]);
}

#[test]
fn the_file_says_which_line_is_wrong_and_what_was_meant() {
    for (text, words) in [
        ("\naudit-log = \"/x\"\n", [":2", "\"audit_log\""]),
        ("stal_timeout = 3\n", [":1", "\"stall_timeout\""]),
        ("backup = \"/x\"\n", [":1", "\"backups\""]),
        ("config = \"/x\"\n", [":1", "unknown key"]),
        ("backups = true\n", [":1", "string"]),
        ("backups = [\"/x\"]\n", [":1", "string"]),
        ("allow_plain = \"yes\"\n", [":1", "true or false"]),
        ("x\n", [":1", "="]),
        ("[target]\nbackups = \"/x\"\n", [":1", "target"]),
        ("backups_file = \"/x\"\n", [":1", "unknown key"]),
        ("port = 1\nport = 2\n", [":2", "duplicate"]),
    ] {
        Case::new(text, &[]).refused(&[], &words);
    }
}

#[test]
fn a_named_file_must_be_there_and_the_usual_one_need_not() {
    let mut case = Case::new("", &[]);
    case.refused(&["--config", "/nonexistent"], &["--config", "/nonexistent"]);
    case.environment.default_file = PathBuf::from("/nonexistent");
    assert!(case.load(&[]).is_ok());
    let other = Case::new("host = \"other\"\n", &[]);
    let path = other.file.path().to_str().unwrap();
    let host = |settings: Settings| settings.text(&table::HOST).unwrap().to_owned();
    assert_eq!(host(case.load(&["--config", path]).unwrap()), "other");
    case.environment.variables.insert("WORM_CONFIG".to_owned(), path.to_owned());
    assert_eq!(host(case.load(&[]).unwrap()), "other");
}

#[test]
fn a_file_with_a_password_is_not_for_all_to_read() {
    for (text, loose) in [
        ("password = \"hush\"\n", true),
        ("url = \"postgres://me:hush@db/app\"\n", true),
        ("url = \"postgres://me@db/app\"\n", false),
        ("password_file = \"/dev/null\"\nhost = \"db\"\n", false),
    ] {
        let case = Case::new(text, &[("PGPASSWORD", "hush")]);
        let mode =
            |mode| std::fs::set_permissions(case.file.path(), PermissionsExt::from_mode(mode));
        mode(0o640).unwrap();
        assert!(case.load(&[]).is_ok(), "{text}");
        mode(0o644).unwrap();
        assert_eq!(case.load(&[]).is_err(), loose, "{text}");
    }
}

#[test]
fn a_url_wins_over_single_settings_of_its_own_layer_and_weaker_ones() {
    let url =
        ("DATABASE_URL", "postgres://me:a%40b@[::1]:7000/app?sslmode=disable&options=-c%20a%3Db");
    let case = Case::new("user = \"file\"\nport = 1\n", &[url, ("PGHOST", "db"), ("PGPORT", "2")]);
    let settings = case.load(&["--dbname", "flag"]).unwrap();
    check(&settings, &table::USER, "me", "DATABASE_URL");
    check(&settings, &table::PASSWORD, "a@b", "DATABASE_URL");
    check(&settings, &table::HOST, "::1", "DATABASE_URL");
    check(&settings, &table::PORT, "7000", "DATABASE_URL");
    check(&settings, &table::DBNAME, "flag", "--dbname");
    check(&settings, &table::SSLMODE, "disable", "DATABASE_URL");
    check(&settings, &table::OPTIONS, "-c a=b", "DATABASE_URL");
    let settings = case.load(&["--url", "postgres:///?host=/run/pg&user=you"]).unwrap();
    check(&settings, &table::HOST, "/run/pg", "--url");
    check(&settings, &table::USER, "you", "--url");
    check(&settings, &table::PORT, "2", "PGPORT");
    assert!(settings.value(&table::PASSWORD).is_none());
}

#[test]
fn a_service_wins_over_variables_and_yields_to_url_and_flags() {
    let mut services = tempfile::NamedTempFile::new().unwrap();
    services
        .write_all(b"# all\n[other]\nhost=no\n\n[main]\nhost=db\nport = 7\nuser=me\ndbname=app\n[main]\nuser=x\n")
        .unwrap();
    let path = services.path().to_str().unwrap().to_owned();
    let path = path.as_str();
    let file = ("PGSERVICEFILE", path);
    let case = Case::new("", &[file, ("PGSERVICE", "main"), ("PGHOST", "variable")]);
    let settings = case.load(&["--port", "8"]).unwrap();
    check(&settings, &table::HOST, "db", &format!("{path}:6"));
    check(&settings, &table::PORT, "8", "--port");
    check(&settings, &table::USER, "me", &format!("{path}:8"));
    let url = "postgres://url/?service=main";
    let settings =
        Case::new("user = \"file\"\n", &[file, ("DATABASE_URL", url)]).load(&[]).unwrap();
    check(&settings, &table::HOST, "url", "DATABASE_URL");
    check(&settings, &table::USER, "me", &format!("{path}:8"));
    Case::new("", &[file, ("PGSERVICE", "absent")]).refused(&[], &["absent", "PGSERVICE"]);
    let gone = ("PGSERVICEFILE", "/nonexistent");
    Case::new("", &[gone, ("PGSERVICE", "main")]).refused(&[], &["/nonexistent"]);
    services.write_all(b"[bad]\nhots=x\n").unwrap();
    Case::new("", &[file, ("PGSERVICE", "bad")]).refused(&[], &[":13", "hots"]);
}

#[test]
fn a_url_that_cannot_be_read_is_refused_unshown() {
    for (url, word) in [
        ("mysql://db/app", "postgres://"),
        ("host=db", "postgres://"),
        ("postgres://me:hu@hush@db/app", "percent-encode"),
        ("postgres://me:a?b@hush/app", "percent-encode"),
        ("postgres://db/app?sslrotcert=/x", "sslrotcert"),
        ("postgres://db/app?url=x", "url"),
        ("postgres://db/app?sslmode", "sslmode"),
        ("postgres://me:%ff@db/app", "UTF-8"),
    ] {
        Case::new("", &[("DATABASE_URL", url)]).refused(&[], &["DATABASE_URL", word]);
    }
}

#[test]
fn what_is_shown_has_no_password_in_it() {
    for (url, masked) in [
        ("postgres://me:hush@db:1/app", "postgres://me:***@db:1/app"),
        ("postgres://me@db/app", "postgres://me@db/app"),
        ("postgres://db/app?password=hush&user=me", "postgres://db/app?password=***&user=me"),
        ("postgres://db/app?sslpassword=hush", "postgres://db/app?sslpassword=***"),
        ("postgres://me:hu@sh@db/app", "postgres://me:***@db/app"),
        ("postgres://me:a?b@hush/app", "postgres://***"),
        ("hush@x", "hush@x"),
    ] {
        assert_eq!(show::masked_url(url), masked, "{url}");
    }
    let variables = [("PGPASSWORD", "hush"), ("DATABASE_URL", "postgres://me:hush@db/app")];
    let settings = Case::new("", &variables).load(&[]).unwrap();
    assert!(!format!("{settings:?}").contains("hush"));
    let shown = show(&settings, None);
    assert!(shown.iter().all(|shown| !shown.value.concat().contains("hush")), "{shown:?}");
    assert_eq!(shown.len(), table::TABLE.len());
}

#[test]
fn a_secret_key_where_a_public_one_belongs_is_not_shown() {
    let keys = "age1public,AGE-SECRET-KEY-1HUSH,-----BEGIN OPENSSH PRIVATE KEY----- hush";
    let settings = Case::new("", &[("WORM_RECIPIENT", keys)]).load(&[]).unwrap();
    let shown = show(&settings, Some(Path::new("/run/secrets/db")));
    let of = |name: &str| shown.iter().find(|shown| shown.name == name).unwrap();
    assert_eq!(of("recipient").value, ["age1public", "***", "***"]);
    let password = of("password");
    assert_eq!((password.layer, password.origin.as_str()), ("default", "/run/secrets/db"));
    assert_eq!(password.value, ["***"]);
}

#[test]
fn a_switch_is_yes_or_no() {
    for (flags, variable, expected) in [
        (&["--allow-plain"][..], "", Some(true)),
        (&["--allow-plain=false"], "true", Some(false)),
        (&[], "true", Some(true)),
        (&[], "0", Some(false)),
        (&[], "", Some(false)),
        (&[], "perhaps", None),
    ] {
        let settings = Case::new("", &[("WORM_ALLOW_PLAIN", variable)]).load(flags).unwrap();
        assert_eq!(settings.switch(&table::ALLOW_PLAIN).ok(), expected, "{variable:?}");
    }
}

#[test]
fn a_variable_that_is_no_text_is_refused() {
    let mut case = Case::new("", &[]);
    case.environment.not_text = ["WORM_BACKUPS".to_owned()].into();
    case.refused(&[], &["WORM_BACKUPS", "UTF-8"]);
}

#[test]
fn no_name_means_two_settings() {
    let names = table::TABLE.iter().flat_map(|setting| {
        let own = setting.variables.iter().map(|name| (*name).to_owned());
        own.chain([setting.key(), format!("{}_file", setting.key())])
    });
    let names: Vec<String> = names.collect();
    let unique: BTreeSet<&String> = names.iter().collect();
    assert_eq!(unique.len(), names.len());
}

/// A setting as the manual has it, on one line.
fn manual(setting: &Setting) -> String {
    let flag = setting.flag.then(|| match setting.form {
        Form::Text(word) | Form::List(word) => format!("`--{} {word}`", setting.name),
        Form::Switch => format!("`--{}`", setting.name),
    });
    let file = setting.from_file.map(|name| format!("`--{name} FILE`"));
    let flags: Vec<String> = flag.into_iter().chain(file).collect();
    let mut facts: Vec<String> = setting.variables.iter().map(|name| format!("`{name}`")).collect();
    facts.extend(setting.in_file.then(|| format!("key `{}`", setting.key())));
    facts.extend(setting.default.map(|default| format!("default `{default}`")));
    format!("- **{}** ({}):{}", flags.join(", "), facts.join(", "), setting.help)
}

#[test]
fn the_manual_has_every_setting_and_no_other() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/agent.md");
    let text = std::fs::read_to_string(path).unwrap();
    let there: BTreeSet<String> =
        text.lines().filter(|line| line.starts_with("- **")).map(str::to_owned).collect();
    let wanted: BTreeSet<String> = table::TABLE.iter().map(|setting| manual(setting)).collect();
    let lines =
        |set: Vec<&String>| set.into_iter().map(|line| format!("{line}\n")).collect::<String>();
    let missing = lines(wanted.difference(&there).collect());
    let wrong = lines(there.difference(&wanted).collect());
    assert!(
        missing.is_empty() && wrong.is_empty(),
        "docs/agent.md must have:\n{missing}and not:\n{wrong}"
    );
}
