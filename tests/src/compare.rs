//! Whether two databases hold the same: every row of every table, large objects, sequences, and
//! what defines them.
//!
//! A fingerprint is taken of each database on its own, in one snapshot, and the two are compared,
//! so they need not be there at the same time. Not compared: grants, and what belongs to
//! extensions; materialized views by definition only, since a restore computes them anew.

use std::collections::BTreeMap;

use tokio_postgres::Client;
use tokio_postgres::NoTls;
use worm_ingest::manifest::Manifest;

mod query;

/// What a database holds: the name of each thing, and a value that is equal only for equal things.
pub type Fingerprint = BTreeMap<String, String>;

/// The entry that says which major release the server has.
const SERVER: &str = "server major release";

/// What is compared even between servers of different releases, which word definitions differently.
const CONTENT: [&str; 3] = ["table ", "sequence ", "large objects"];

/// Takes the fingerprint of the database at `url`, in one snapshot, without changing anything.
///
/// # Errors
/// When the server cannot be reached, or hides something from this user.
pub fn fingerprint(url: &str) -> Result<Fingerprint, tokio_postgres::Error> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("start a runtime").block_on(async {
        let (client, connection) = tokio_postgres::connect(url, NoTls).await?;
        let connection = tokio::spawn(connection);
        let taken = take(&client).await;
        drop(client);
        // Whatever the connection says at its end, the answers were complete.
        let _ended = connection.await;
        taken
    })
}

async fn take(client: &Client) -> Result<Fingerprint, tokio_postgres::Error> {
    client.batch_execute(query::SESSION).await?;
    let mut found = Fingerprint::new();
    let major: i32 = client.query_one(query::MAJOR, &[]).await?.get(0);
    found.insert(SERVER.to_owned(), major.to_string());
    for (kind, sql) in query::DEFINITIONS {
        for row in client.query(sql, &[]).await? {
            let (name, definition): (String, String) = (row.get(0), row.get(1));
            found.insert(format!("{kind} {name}"), definition);
        }
    }
    // The catalogue writes the queries: it knows how to quote.
    for (kind, sql) in [("table", query::TABLES), ("sequence", query::SEQUENCES)] {
        for row in client.query(sql, &[]).await? {
            let (name, content): (String, String) = (row.get(0), row.get(1));
            let value: String = client.query_one(&content, &[]).await?.get(0);
            found.insert(format!("{kind} {name}"), value);
        }
    }
    let large: String = client.query_one(query::LARGE_OBJECTS, &[]).await?.get(0);
    found.insert("large objects".to_owned(), large);
    client.batch_execute("COMMIT").await?;
    Ok(found)
}

/// What differs between `source` and `copy`, one line each; nothing when they are equal.
///
/// Between servers of different releases only the content is compared.
#[must_use]
pub fn differences(source: &Fingerprint, copy: &Fingerprint) -> Vec<String> {
    let same_release = source.get(SERVER) == copy.get(SERVER);
    let compared =
        |name: &&String| same_release || CONTENT.iter().any(|content| name.starts_with(content));
    let missing = |value: Option<&String>| value.map_or("nothing".to_owned(), Clone::clone);
    let mut names: Vec<&String> = source.keys().chain(copy.keys()).filter(compared).collect();
    names.sort();
    names.dedup();
    names
        .into_iter()
        .filter(|name| source.get(*name) != copy.get(*name))
        .map(|name| {
            let (source, copy) = (missing(source.get(name)), missing(copy.get(name)));
            format!("{name}: {source} became {copy}")
        })
        .collect()
}

/// Where the rows of `copy` are not as many as `manifest` says, one line each.
#[must_use]
pub fn miscounts(manifest: &Manifest, copy: &Fingerprint) -> Vec<String> {
    manifest
        .tables
        .iter()
        .filter_map(|counted| {
            let name = table_name(&counted.schema, &counted.table);
            let found = copy.get(&format!("table {name}"));
            let rows = found.and_then(|value| value.split(' ').nth(1)?.parse().ok());
            let found = rows.map_or("no such table".to_owned(), |rows: u64| format!("{rows} rows"));
            let expected = format!("{} rows", counted.rows);
            (found != expected).then(|| format!("table {name}: {expected} became {found}"))
        })
        .collect()
}

/// A sentence on how much a fingerprint covers.
#[must_use]
pub fn summary(fingerprint: &Fingerprint) -> String {
    let rows = |value: &String| value.split(' ').nth(1).and_then(|rows| rows.parse::<u64>().ok());
    let of =
        |kind: &'static str| fingerprint.iter().filter(move |(name, _)| name.starts_with(kind));
    let all: u64 = of("table ").filter_map(|(_, value)| rows(value)).sum();
    let large: u64 = of("large objects").filter_map(|(_, value)| rows(value)).sum();
    let (tables, sequences) = (of("table ").count(), of("sequence ").count());
    format!("{all} rows in {tables} tables, {large} large objects, {sequences} sequences")
}

/// The name of a table in a fingerprint: both parts quoted, whether they need it or not.
fn table_name(schema: &str, table: &str) -> String {
    let quoted = |part: &str| format!("\"{}\"", part.replace('"', "\"\""));
    format!("{}.{}", quoted(schema), quoted(table))
}

/// Two databases are equal.
///
/// # Panics
/// With the differences when they are not, or when one of them cannot be read.
#[track_caller]
pub fn assert_equal(source_url: &str, copy_url: &str) {
    let [source, copy] = [source_url, copy_url].map(|url| match fingerprint(url) {
        Ok(fingerprint) => fingerprint,
        Err(error) => panic!("read {url}: {error:?}"),
    });
    let differences = differences(&source, &copy);
    assert!(differences.is_empty(), "the databases differ:\n{}", differences.join("\n"));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::postgres::Postgres;

    fn check(difference: &str, expected: &[&str]) {
        const SAME: &str = "
            CREATE TABLE \"odd \"\"name\"\"\" (b int, a text, \"r\" float8 DEFAULT 0.1);
            INSERT INTO \"odd \"\"name\"\"\" SELECT n, 'row ' || n FROM generate_series(1, 100) n;
            CREATE TABLE nothing ();
            INSERT INTO nothing SELECT FROM generate_series(1, 3);
            CREATE SEQUENCE counter;
            SELECT lo_from_bytea(4711, '\\x00ff');
        ";
        let server = Postgres::start();
        for (db, sql) in [("source", ""), ("copy", difference)] {
            server.create_database(db);
            let _answer = server.psql(db, SAME);
            let _answer = server.psql(db, sql);
        }
        let [source, copy] = ["source", "copy"].map(|db| fingerprint(&server.url(db)).unwrap());
        let found = differences(&source, &copy);
        let begins = found.iter().map(|line| line.split(':').next().unwrap()).collect::<Vec<_>>();
        assert_eq!(begins, expected, "{difference}\n{found:#?}");
        let all = "103 rows in 2 tables, 1 large objects, 1 sequences";
        assert_eq!(summary(&source), all, "{source:#?}");
    }

    #[test]
    fn equal_databases_are_equal_in_any_order_of_rows() {
        check("UPDATE \"odd \"\"name\"\"\" SET b = b WHERE b < 50", &[]);
    }

    #[test]
    fn every_kind_of_difference_is_found() {
        check(
            "UPDATE \"odd \"\"name\"\"\" SET r = 0.30000000000000004 WHERE b = 50;
             DELETE FROM nothing WHERE ctid = '(0,1)';
             SELECT nextval('counter');
             SELECT lo_put(4711, 1, '\\x01');
             CREATE VIEW extra AS SELECT 1 AS one;
             COMMENT ON TABLE nothing IS 'new';",
            &[
                "column public.extra.one",
                "comment table public.nothing",
                "large objects",
                "relation public.extra",
                "sequence \"public\".\"counter\"",
                "table \"public\".\"nothing\"",
                "table \"public\".\"odd \"\"name\"\"\"",
                "view public.extra",
            ],
        );
    }

    #[test]
    fn rows_are_counted_against_a_manifest() {
        let manifest = |rows: u64| {
            serde_json::json!({
                "format": 1, "name": "n", "class": "daily", "database": "d", "agent": "a",
                "started_at": "2026-01-18T00:00:00Z", "finished_at": "2026-01-18T00:00:01Z",
                "server_version": "15", "server_version_num": 150_000, "dump_version": "15",
                "snapshot": "s", "database_bytes": 1, "extensions": [],
                "compression": {"codec": "gzip", "level": 1},
                "raw": {"bytes": 1, "sha256": ""}, "stored": {"bytes": 1, "sha256": ""},
                "tables": [{"schema": "public", "table": "odd \"name\"", "rows": rows},
                           {"schema": "public", "table": "gone", "rows": 0}],
            })
        };
        let copy = Fingerprint::from([(
            "table \"public\".\"odd \"\"name\"\"\"".to_owned(),
            "rows 5 sum 1 2".to_owned(),
        )]);
        let count = |rows: u64| {
            let bytes = manifest(rows).to_string().into_bytes();
            miscounts(&Manifest::decode(&bytes).unwrap(), &copy)
        };
        let gone = "table \"public\".\"gone\": 0 rows became no such table";
        assert_eq!(count(5), [gone]);
        let odd = "table \"public\".\"odd \"\"name\"\"\": 6 rows became 5 rows";
        assert_eq!(count(6), [odd, gone]);
    }
}
