//! What stands beside a dump: mirrored as its manifest says, and roles made by `restore --globals`.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::path::PathBuf;

use sha2::Digest;
use sha2::Sha256;
use worm_ingest::manifest::Content;
use worm_ingest::manifest::beside::Sidecar;

use crate::postgres::Server;
use crate::support::Place;
use crate::support::beside;
use crate::support::change_manifest;
use crate::support::expect;
use crate::support::flip_last_byte;
use crate::support::program;
use crate::support::put_backup;

const GLOBALS: &str = "\
\\restrict abc
SET client_encoding = 'UTF8';
CREATE ROLE beside_owner;
ALTER ROLE beside_owner WITH NOLOGIN CONNECTION LIMIT 7;
CREATE ROLE beside_there;
ALTER ROLE beside_there WITH LOGIN SUPERUSER;
GRANT beside_owner TO beside_there GRANTED BY postgres;
CREATE TABLESPACE beside_fast OWNER beside_owner LOCATION '/nowhere';
\\unrestrict abc
";
const DUMP: &str = "CREATE TABLE t (a int);\nALTER TABLE t OWNER TO beside_owner;\n";

/// A backup with roles beside it.
fn put(folder: &Path, globals: &str) -> PathBuf {
    fs::create_dir_all(folder).unwrap();
    let dump = put_backup(folder, "2026-01-18_00-00-00", DUMP.as_bytes(), &[]);
    fs::write(beside(&dump, ".globals.sql"), globals).unwrap();
    let sha256 = hex::encode(Sha256::digest(globals));
    let content = Content { bytes: globals.len() as u64, sha256 };
    let sidecar = Sidecar { suffix: ".globals.sql".to_owned(), content };
    change_manifest(&dump, |manifest| manifest.sidecars = vec![sidecar]);
    dump
}

#[test]
fn what_the_manifest_names_is_mirrored_and_compared() {
    let place = Place::new();
    let dump = put(&place.path("view/daily"), GLOBALS);
    let globals = beside(&dump, ".globals.sql");
    flip_last_byte(&globals);
    let (_, error) = expect(9, &mut place.once(&[]));
    assert!(error.contains("globals.sql has") && error.contains("its manifest says"), "{error}");
    fs::rename(&globals, place.path("away")).unwrap();
    let (_, error) = expect(9, &mut place.once(&[]));
    assert!(error.contains("globals.sql is missing, which its manifest names"), "{error}");
    assert_eq!(place.mirrored().len(), 0);
    fs::rename(place.path("away"), &globals).unwrap();
    flip_last_byte(&globals);
    let _said = expect(0, &mut place.once(&[]));
    assert_eq!(place.mirrored().len(), 4);
    let copy = place.path("mirror/daily/2026-01-18").join(globals.file_name().unwrap());
    assert_eq!(fs::read_to_string(&copy).unwrap(), GLOBALS);
    assert_eq!(fs::metadata(&copy).unwrap().permissions().mode() & 0o7777, 0o400);

    // Damage in the mirror is found when all is read again.
    fs::set_permissions(&copy, fs::Permissions::from_mode(0o600)).unwrap();
    flip_last_byte(&copy);
    let (_, error) = expect(9, &mut place.once(&["--rehash"]));
    assert!(error.contains("holds other bytes"), "{error}");
    change_manifest(&dump, |manifest| manifest.sidecars[0].suffix = "/../../x".to_owned());
    let (_, error) = expect(9, &mut place.once(&[]));
    assert!(error.contains("names a file"), "{error}");
}

#[test]
fn missing_roles_are_made_with_the_dump_or_not_at_all() {
    let server = Server::shared();
    let place = Place::new();
    let target = server.database();
    let _said = target.sql("CREATE ROLE beside_there NOLOGIN");
    let restore = |dump: &Path, more: &[&str]| {
        let mut command = program();
        let _command = command.arg("restore").arg(dump).arg("--to").arg(target.url()).args(more);
        let _command = command.env("WORM_EXTRACTION_AUDIT", place.audit());
        command
    };
    let roles = "SELECT rolname || rolconnlimit || rolsuper FROM pg_roles \
                 WHERE rolname LIKE 'beside%' ORDER BY 1";
    let broken =
        put(&place.path("mirror/daily/broken"), &GLOBALS.replace("7;", "7;\nDROP ROLE x;"));
    let (_, error) = expect(9, &mut restore(&broken, &["--globals"]));
    assert!(error.contains("does not write: DROP ROLE x"), "{error}");

    let dump = put(&place.path("mirror/daily/2026-01-18"), GLOBALS);
    let (_, error) = expect(1, &mut restore(&dump, &[]));
    assert!(error.contains("let --globals make it"), "{error}");
    let (said, _) = expect(0, &mut restore(&dump, &["--globals", "--preview"]));
    assert!(said.contains("1 roles to be made (beside_owner), 1 there already"), "{said}");
    target.assert_untouched();

    // They come and go with the dump.
    let failing = put(&place.path("mirror/daily/failing"), GLOBALS);
    let sql = format!("{DUMP}SELECT nonsense;\n");
    let _again = put_backup(failing.parent().unwrap(), "2026-01-18_00-00-00", sql.as_bytes(), &[]);
    let sidecar = Sidecar {
        suffix: ".globals.sql".to_owned(),
        content: Content {
            bytes: GLOBALS.len() as u64,
            sha256: hex::encode(Sha256::digest(GLOBALS)),
        },
    };
    change_manifest(&failing, |manifest| manifest.sidecars = vec![sidecar]);
    let _failed = expect(1, &mut restore(&failing, &["--globals"]));
    assert_eq!(target.sql(roles), "beside_there-1false");

    let (said, error) = expect(0, &mut restore(&dump, &["--globals"]));
    assert!(said.contains("1 roles made (beside_owner), 1 there already"), "{said}");
    assert!(error.contains("does not have tablespaces beside_fast"), "{error}");
    assert_eq!(target.sql(roles), "beside_owner7false\nbeside_there-1false");
    assert_eq!(
        target.sql("SELECT tableowner FROM pg_tables WHERE tablename = 't'"),
        "beside_owner"
    );
    assert_eq!(target.sql("SELECT pg_has_role('beside_there', 'beside_owner', 'MEMBER')"), "t");
    let _said = target.sql("DROP TABLE t; DROP ROLE beside_owner, beside_there");

    change_manifest(&dump, |manifest| manifest.sidecars.clear());
    let (_, error) = expect(4, &mut restore(&dump, &["--globals"]));
    assert!(error.contains("has no roles beside it"), "{error}");
}
