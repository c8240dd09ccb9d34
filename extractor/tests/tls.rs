//! `restore` over TCP with TLS and a password.

use std::path::Path;
use std::path::PathBuf;
use std::process::Command;

use crate::postgres::Server;
use crate::postgres::WITH_PASSWORD;
use crate::support::Place;
use crate::support::expect;
use crate::support::program;
use crate::support::put_backup;
use crate::support::rows;

/// A new key and its certificate, signed by itself unless `more` names an authority.
fn certificate(at: &Path, name: &str, more: &[&str]) -> PathBuf {
    let mut openssl = Command::new("openssl");
    let _command = openssl
        .current_dir(at)
        .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"])
        .args(["-nodes", "-days", "2", "-subj", &format!("/CN={name}")])
        .args(["-keyout", &format!("{name}.key"), "-out", &format!("{name}.crt")])
        .args(more);
    let _said = expect(0, &mut openssl);
    at.join(format!("{name}.crt"))
}

#[test]
fn a_restore_goes_to_a_server_that_shows_who_it_is() {
    let place = Place::new();
    let at = place.path("");
    let authority = certificate(&at, "authority", &[]);
    let stranger = certificate(&at, "stranger", &[]);
    let signed = ["-CA", "authority.crt", "-CAkey", "authority.key"];
    let facts = [
        "-addext",
        "basicConstraints=critical,CA:FALSE",
        "-addext",
        "subjectAltName=DNS:localhost",
    ];
    let shown = certificate(&at, "server", &[&signed[..], &facts].concat());
    let (server, port) = Server::with_tls(&shown, &at.join("server.key"));
    let target = server.database();
    let role = format!("CREATE ROLE {WITH_PASSWORD} SUPERUSER LOGIN PASSWORD 'hush'");
    let _said = target.sql(&role);

    let folder = place.path("mirror/daily");
    std::fs::create_dir_all(&folder).unwrap();
    let sql = "CREATE TABLE a (n int);\nCOPY public.a (n) FROM stdin;\n1\n2\n\\.\n";
    let dump =
        put_backup(&folder, "2026-01-18_00-00-00", sql.as_bytes(), &[rows("public", "a", 2)]);
    let restore = |host: &str, parameters: &str| {
        let database = &target.name;
        let url = format!("postgres://{WITH_PASSWORD}@{host}:{port}/{database}?{parameters}");
        let mut command = program();
        let _command = command.arg("restore").arg(&dump).args(["--to", &url]);
        let _command = command.env("PGPASSWORD", "hush").env("HOME", "/nonexistent");
        let _command = command.arg("--audit").arg(place.path("logs/audit.jsonl"));
        command
    };
    let by = |root: &Path| format!("sslmode=verify-full&sslrootcert={}", root.display());

    for (host, parameters, why) in [
        ("localhost", by(&stranger), "none of the authorities"),
        ("127.0.0.1", by(&authority), "subjectAltName"),
    ] {
        let (_, error) = expect(4, &mut restore(host, &parameters));
        assert!(error.contains(why), "{error}");
        target.assert_untouched();
    }
    let (_, error) = expect(8, &mut restore("localhost", "sslmode=disable"));
    assert!(error.contains("no encryption"), "{error}");
    let _said = expect(0, &mut restore("localhost", &by(&authority)));
    assert_eq!(target.sql("SELECT count(*) FROM a"), "2");
}
