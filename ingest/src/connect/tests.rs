//! What wins over what, where passwords come from, and what never reaches the child.

use std::collections::BTreeSet;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;

use clap::Parser;

use super::*;
use crate::cli::Cli;

fn around(variables: &[(&str, &str)]) -> Surroundings {
    Surroundings {
        variables: variables.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect(),
        secret: PathBuf::from("/nonexistent"),
    }
}

/// The target that a URL and the variables lead to.
fn resolve(url: Option<&str>, around: &Surroundings) -> Result<Target, Error> {
    let mut variables = around.variables.clone();
    variables.extend(url.map(|url| ("DATABASE_URL".to_owned(), url.to_owned())));
    let environment = Environment {
        variables,
        not_text: BTreeSet::new(),
        default_file: PathBuf::from("/nonexistent"),
    };
    let cli = Cli::try_parse_from(["worm-ingest", "backup", "hourly"]).unwrap();
    Target::resolve(&cli.settings(&environment)?, around)
}

fn password(target: Result<Target, Error>) -> Option<String> {
    target.unwrap().password.map(|Secret(password)| password)
}

fn file(content: &str, mode: u32) -> tempfile::TempPath {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(content.as_bytes()).unwrap();
    file.as_file().set_permissions(std::fs::Permissions::from_mode(mode)).unwrap();
    file.into_temp_path()
}

#[test]
fn a_socket_can_be_named_in_a_url() {
    let target = resolve(Some("postgresql:///app?host=/run/pg&user=me"), &around(&[]));
    let target = target.unwrap();
    assert_eq!((target.host.as_str(), target.database.as_str()), ("/run/pg", "app"));
    assert!(target.is_socket());
}

#[test]
fn empty_variables_are_unset_and_the_database_is_called_like_the_user() {
    let around = around(&[("PGHOST", "db"), ("PGUSER", "me"), ("PGDATABASE", ""), ("PGPORT", "")]);
    let target = resolve(None, &around).unwrap();
    assert_eq!((target.database.as_str(), target.port), ("me", 5432));
    assert_eq!(target.connect_timeout, Some(Duration::from_secs(30)));
}

#[test]
fn what_cannot_be_done_is_refused_and_not_ignored() {
    for (url, variables) in [
        (None, ("PGSSLMODE", "verify-full")),
        (None, ("PGSSLMODE", "sometimes")),
        (None, ("PGSERVICE", "main")),
        (None, ("PGHOST", "a,b")),
        (None, ("PGPORT", "many")),
        (None, ("PGREQUIREPEER", "postgres")),
        (None, ("PGSSLCRL", "/crl.pem")),
        (None, ("PGSSLMINPROTOCOLVERSION", "TLSv1.3")),
        (None, ("PGCHANNELBINDING", "perhaps")),
        (None, ("PGSSLROOTCERT", "/nonexistent")),
        (None, ("PGSSLCERT", "/nonexistent")),
        (None, ("PGHOSTADDR", "db")),
        (Some("postgres://db/app?sslmode=verify-ca"), ("X", "")),
        (Some("postgres://a,b/app"), ("X", "")),
        (Some("postgres://db/app?sslrootcert=/x"), ("X", "")),
        (Some("mysql://db/app"), ("X", "")),
        (Some("host=db"), ("X", "")),
    ] {
        let error = resolve(url, &around(&[("PGUSER", "me"), variables])).unwrap_err();
        assert!(!error.to_string().contains('\n'), "{error}");
    }
}

#[test]
fn a_containers_secret_is_used_when_nothing_else_is_said() {
    let secret = file("fromsecret\n", 0o444);
    let mut around = around(&[("PGUSER", "me")]);
    around.secret = secret.to_path_buf();
    assert_eq!(password(resolve(None, &around)).unwrap(), "fromsecret");
    around.variables.insert("PGPASSWORD".to_owned(), "fromvariable".to_owned());
    assert_eq!(password(resolve(None, &around)).unwrap(), "fromvariable");
}

#[test]
fn a_passfile_answers_for_the_line_that_fits() {
    let path = file(
        "# comment\ndb:5432:other:me:no\nlocalhost:*:app:me:socket\ndb:*:app:me:a\\:b\\\\c\n",
        0o600,
    );
    let find = |url: &str| {
        let around = around(&[("PGPASSFILE", path.to_str().unwrap())]);
        password(resolve(Some(url), &around))
    };
    assert_eq!(find("postgres://me@db/app").unwrap(), "a:b\\c");
    assert_eq!(find("postgres://me@/app?host=/run/pg").unwrap(), "socket");
    assert_eq!(find("postgres://you@db/app"), None);
}

#[test]
fn a_passfile_that_others_can_read_is_refused() {
    let path = file("*:*:*:*:x\n", 0o644);
    let variables = [("PGUSER", "me"), ("PGPASSFILE", path.to_str().unwrap())];
    let error = resolve(None, &around(&variables)).unwrap_err();
    assert!(matches!(error, Error::Connect(ConnectError::Loose(_))));
}

#[test]
fn the_child_is_told_the_target_and_no_secret() {
    let around = around(&[
        ("PGHOST", "db"),
        ("PGUSER", "me"),
        ("PGPASSWORD", "hush"),
        ("DATABASE_URL", "postgres://me:hush@db/app"),
        ("AWS_SECRET_ACCESS_KEY", "hush"),
        ("PGCLIENTENCODING", "SJIS"),
        ("PGSSLMODE", "disable"),
        ("PGGSSENCMODE", "disable"),
        ("PATH", "/bin"),
        ("LANG", "de_DE.UTF-8"),
    ]);
    let target = resolve(None, &around).unwrap();
    let environment = target.child_environment(&around);
    assert!(environment.values().all(|value| !value.contains("hush")), "{environment:?}");
    let get = |name: &str| environment.get(name).map(String::as_str);
    assert_eq!((get("PGHOST"), get("PGUSER")), (Some("db"), Some("me")));
    assert_eq!((get("PGGSSENCMODE"), get("PATH")), (Some("disable"), Some("/bin")));
    assert_eq!((get("LC_ALL"), get("LANG"), get("PGCLIENTENCODING")), (Some("C"), None, None));
}

#[test]
fn a_password_survives_the_way_to_the_child() {
    for password in ["simple", "a:b\\c", "ünï", " "] {
        let text = passfile_for_child(password).unwrap();
        let target = resolve(Some("postgres://me@db/app"), &around(&[])).unwrap();
        assert_eq!(passfile::find(&text, &target).unwrap(), password);
    }
    assert_eq!(passfile_for_child("a\nb"), None);
}
