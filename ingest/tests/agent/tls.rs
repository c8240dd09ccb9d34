//! TLS over TCP, with passwords and certificates: `sslmode` means what it means for libpq, for our
//! connection and for `pg_dump` alike.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use tempfile::TempDir;

use crate::server::Server;
use crate::world::Run;
use crate::world::World;
use crate::world::put;

const RULES: &str = "\
hostssl   all tls_only  127.0.0.1/32 scram-sha-256
hostnossl all no_tls    127.0.0.1/32 scram-sha-256
host      all either    127.0.0.1/32 scram-sha-256
hostssl   all certified 127.0.0.1/32 cert
host      all all       0.0.0.0/0    reject
";
const PASSWORD: &str = "it's a:pass\\word";

/// Certificates, made afresh: nothing here could expire.
fn certificates() -> TempDir {
    let directory = tempfile::tempdir().unwrap();
    let at = directory.path();
    make(at, "ca", "test authority", &[]);
    make(at, "stranger", "another authority", &[]);
    let leaf =
        ["-CA", "ca.crt", "-CAkey", "ca.key", "-addext", "basicConstraints=critical,CA:FALSE"];
    make(
        at,
        "server",
        "somebody",
        &[&leaf[..], &["-addext", "subjectAltName=DNS:localhost"]].concat(),
    );
    make(at, "client", "certified", &leaf);
    directory
}

/// A key and a certificate, signed by itself unless `more` names an authority.
fn make(at: &Path, name: &str, subject: &str, more: &[&str]) {
    let made = Command::new("openssl")
        .current_dir(at)
        .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"])
        .args(["-nodes", "-days", "2", "-subj", &format!("/CN={subject}")])
        .args(["-keyout", &format!("{name}.key"), "-out", &format!("{name}.crt")])
        .args(more)
        .output()
        .unwrap_or_else(|error| panic!("openssl: {error}"));
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
}

/// A server with TLS, one database, and a role for each rule.
struct Place {
    server: Arc<Server>,
    certificates: TempDir,
}

impl Place {
    fn new() -> Self {
        let certificates = certificates();
        let server = Arc::new(Server::tcp(RULES, certificates.path()));
        server.database("app", "", "CREATE TABLE t AS SELECT generate_series(1, 100) AS n");
        for role in ["tls_only", "no_tls", "either", "certified"] {
            let password = PASSWORD.replace('\'', "''");
            server.sql("app", &format!("CREATE ROLE {role} SUPERUSER LOGIN PASSWORD '{password}'"));
        }
        Self { server, certificates }
    }

    fn file(&self, name: &str) -> String {
        self.certificates.path().join(name).display().to_string()
    }

    /// A backup as this role. `{NAME.crt}` in a value stands for the path of that file.
    fn backup(&self, role: &str, variables: &[(&str, &str)]) -> (World, Run) {
        let world = World::beside(Arc::clone(&self.server), "app");
        let run = world.backup(|command| {
            command.env("PGHOST", "localhost").env("PGPORT", self.server.port());
            command.env("PGUSER", role).env("PGPASSWORD", PASSWORD).env("HOME", "/nonexistent");
            for (name, value) in variables {
                let path = value.strip_prefix('{').and_then(|name| name.strip_suffix('}'));
                let value = path.map_or_else(|| (*value).to_owned(), |name| self.file(name));
                command.env(name, value);
            }
        });
        (world, run)
    }

    #[track_caller]
    fn check_good(&self, role: &str, variables: &[(&str, &str)]) {
        let (world, run) = self.backup(role, variables);
        assert_eq!(run.code, Some(0), "{role} {variables:?}: {run:?}");
        assert_eq!((&run.json()["rows"], world.names().len()), (&100.into(), 3), "{run:?}");
    }

    #[track_caller]
    fn check_refused(&self, role: &str, variables: &[(&str, &str)], code: &str, hint: &str) {
        let (world, run) = self.backup(role, variables);
        world.check_failed(&run, 4, code);
        assert!(run.stderr.contains(hint), "{run:?}");
    }
}

/// All in one test: they share a server.
#[test]
fn sslmode_means_what_it_means_for_libpq() {
    let place = Place::new();
    let (mode, root) = ("PGSSLMODE", "PGSSLROOTCERT");
    let by_address = ("PGHOST", "127.0.0.1");

    // The chain, and with verify-full the name.
    place.check_good("tls_only", &[(mode, "verify-full"), (root, "{ca.crt}")]);
    place.check_good("tls_only", &[(mode, "verify-ca"), (root, "{ca.crt}"), by_address]);
    let named = [(mode, "verify-full"), (root, "{ca.crt}"), by_address];
    place.check_refused("tls_only", &named, "database.untrusted", "subjectAltName");
    for strict in ["verify-full", "verify-ca", "require"] {
        let wrong = [(mode, strict), (root, "{stranger.crt}")];
        place.check_refused("tls_only", &wrong, "database.untrusted", "none of the authorities");
    }

    // Without a root anybody will do; what is not encrypted will not.
    place.check_good("tls_only", &[(mode, "require")]);
    place.check_refused("no_tls", &[(mode, "require")], "database.refused", "no_tls");
    place.check_refused("tls_only", &[(mode, "disable")], "database.refused", "tls_only");

    // The weak modes go the other way if one is refused.
    place.check_good("tls_only", &[]);
    place.check_good("no_tls", &[]);
    place.check_good("tls_only", &[(mode, "allow")]);
    place.check_good("either", &[(root, "{stranger.crt}")]);

    place.check_good("tls_only", &[(mode, "require"), ("PGCHANNELBINDING", "require")]);
    let unbound = [(mode, "disable"), ("PGCHANNELBINDING", "require")];
    place.check_refused("either", &unbound, "database.refused", "channel binding");

    // Who we are.
    let certificate = [("PGSSLCERT", "{client.crt}"), ("PGSSLKEY", "{client.key}")];
    place.check_good("certified", &[&[(mode, "require")], &certificate[..]].concat());
    place.check_refused("certified", &[(mode, "require")], "database.refused", "certificate");

    // The same words in a URL and in a service file.
    let port = place.server.port();
    let (ca, password) = (place.file("ca.crt"), "it%27s%20a%3Apass%5Cword");
    let url = format!(
        "postgres://tls_only:{password}@localhost:{port}/app?sslmode=verify-full&sslrootcert={ca}"
    );
    place.check_good("nobody", &[("DATABASE_URL", &url), ("PGPASSWORD", "wrong")]);
    let service = format!("[main]\nuser=tls_only\nsslmode=verify-full\nsslrootcert={ca}\n");
    put(&place.certificates.path().join("services"), service.as_bytes(), 0o644);
    place.check_good("nobody", &[("PGSERVICE", "main"), ("PGSERVICEFILE", "{services}")]);

    place.server.set_tls(false);
    let demanded = [(mode, "require")];
    place.check_refused("either", &demanded, "database.untrusted", "does not speak TLS");
    place.check_good("either", &[]);
}
