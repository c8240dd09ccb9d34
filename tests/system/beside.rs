//! Roles go with a backup from one server to another: agent, mount, mirror, restore.

use std::os::unix::fs::PermissionsExt as _;

use system_tests::binary;
use system_tests::daemon::Daemon;
use system_tests::daemon::names;
use system_tests::postgres::Postgres;

use crate::chain;

const ROLES: &str = "
CREATE ROLE owner NOLOGIN;
CREATE ROLE \"it's \"\"odd\"\"\" LOGIN PASSWORD 'secret' IN ROLE owner;
COMMENT ON ROLE owner IS 'owns; all';
ALTER ROLE owner SET work_mem = '7MB';
CREATE TABLE t AS SELECT generate_series(1, 10) AS n;
ALTER TABLE t OWNER TO owner;
GRANT SELECT ON t TO \"it's \"\"odd\"\"\";";

/// What a server knows of its roles.
const KNOWN: &str = "SELECT a.rolname, a.rolcanlogin, a.rolpassword, s.setconfig,
    shobj_description(a.oid, 'pg_authid'), (SELECT array_agg(m.roleid::regrole ORDER BY 1)
        FROM pg_auth_members m WHERE m.member = a.oid)
    FROM pg_authid a LEFT JOIN pg_db_role_setting s ON s.setrole = a.oid
    WHERE a.rolname !~ '^pg_' AND a.rolname <> 'postgres' ORDER BY 1";

fn there_and_back(arguments: &[&str], identity: &[&str]) {
    let (source, target, daemon) = (Postgres::start(), Postgres::start(), Daemon::start());
    source.create_database("app");
    source.psql("app", ROLES);
    let mut command = chain::backup(&daemon, &source.url("app"), "daily");
    binary::run(command.args(arguments)).success();
    let sealed = names(&daemon.active().join("daily"));
    assert_eq!(sealed.iter().filter(|name| !name.starts_with('.')).count(), 5, "{sealed:?}");
    binary::run(&mut chain::mirror(&daemon)).success();
    for name in sealed.iter().filter(|name| name.contains(".globals.sql")) {
        let sealed = std::fs::metadata(daemon.active().join("daily").join(name)).unwrap();
        assert_eq!(sealed.permissions().mode() & 0o077, 0, "{name}");
    }

    target.create_database("app");
    let restore = |to: &str, more: &[&str]| {
        let mut command = chain::restore(&daemon, "latest", &target.url(to));
        command.args(identity).args(more);
        command
    };
    let refused = binary::run(&mut restore("app", &[])).expect_code(1);
    assert!(refused.stderr.contains("let --globals make it"), "{}", refused.stderr);
    let said = binary::run(&mut restore("app", &["--globals"])).success();
    assert!(said.contains("2 roles made") && said.contains("1 there already"), "{said}");
    assert_eq!(target.psql("app", KNOWN), source.psql("app", KNOWN));
    target.create_database("again");
    let said = binary::run(&mut restore("again", &["--globals"])).success();
    assert!(said.contains("0 roles made, 3 there already"), "{said}");
    daemon.verify();
}

#[test]
fn roles_are_made_on_another_server() {
    there_and_back(&[], &[]);
}

#[test]
fn roles_of_an_encrypted_backup_are_made_on_another_server() {
    let fixture = |name: &str| format!("{}/fixtures/{name}", env!("CARGO_MANIFEST_DIR"));
    let (recipient, identity) = (fixture("recipient"), fixture("identity"));
    there_and_back(&["--recipients-file", &recipient], &["--identity", &identity]);
}
