//! I/O: what the server says before and after a restore. Changes nothing but planner statistics.

use std::collections::BTreeSet;
use std::time::Duration;

use tokio::time::sleep;
use tokio::time::timeout;
use tokio_postgres::Client;
use tokio_postgres::error::SqlState;
use worm_ingest::connect::session;
use worm_ingest::connect::session::Failure;
use worm_ingest::connect::session::FailureKind;
use worm_ingest::manifest::TableRows;

use crate::error::Error;
use crate::error::Result;
use crate::restore::target::Target;

/// How many objects of a database that is not empty are named.
const OBJECTS_SHOWN: usize = 3;
/// How long a server may take to undo what a killed client had begun, in steps of [`STEP`].
const STEPS_MAX: u32 = 600;
const STEP: Duration = Duration::from_millis(100);
/// A server that answers at all answers a question about itself in this time.
const PATIENCE: Duration = Duration::from_secs(120);

/// A connection to the database to restore into.
pub(crate) struct Server {
    client: Client,
    /// `server_version_num`, for example 150018.
    pub(crate) version_num: u32,
}

impl Server {
    /// Connects, and asks for the version.
    pub(crate) async fn connect(target: &Target) -> Result<Self> {
        let mut config = target.config.clone();
        // The driver's own limit ends when the socket is open: a server may hang after that.
        let limit = config.get_connect_timeout().copied().unwrap_or(PATIENCE);
        config.application_name("worm-extractor");
        let opened = session::open(&config, &target.tls, Some(limit)).await;
        let client = opened.map_err(|failure| refusal(target, failure))?;
        let question = "SELECT current_setting('server_version_num')::int4";
        let row = in_time(PATIENCE, &target.shown, client.query_one(question, &[]))
            .await?
            .map_err(failed("ask for the version of the server"))?;
        let version: i32 = row.get(0);
        Ok(Self { client, version_num: version.unsigned_abs() })
    }

    /// What the database holds already: `table public.a, view public.b and 7 more`.
    pub(crate) async fn contents(&self, target: &Target) -> Result<Option<String>> {
        let rows = in_time(PATIENCE, &target.shown, self.client.query(CONTENTS, &[]))
            .await?
            .map_err(failed("look for objects"))?;
        let names: Vec<String> = rows.iter().take(OBJECTS_SHOWN).map(|row| row.get(0)).collect();
        if names.is_empty() {
            return Ok(None);
        }
        let more = match rows.len() - names.len() {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        Ok(Some(format!("{}{more}", names.join(", "))))
    }

    /// The names of all roles.
    pub(crate) async fn roles(&self) -> Result<BTreeSet<String>> {
        self.names("SELECT rolname::text FROM pg_catalog.pg_roles").await
    }

    /// The names of all tablespaces.
    pub(crate) async fn tablespaces(&self) -> Result<BTreeSet<String>> {
        self.names("SELECT spcname::text FROM pg_catalog.pg_tablespace").await
    }

    async fn names(&self, question: &str) -> Result<BTreeSet<String>> {
        let rows = self.client.query(question, &[]).await;
        let rows = rows.map_err(failed("look for roles and tablespaces"))?;
        Ok(rows.iter().map(|row| row.get(0)).collect())
    }

    /// Ends the sessions of a killed `psql`, and returns when all that they did is undone.
    pub(crate) async fn end_sessions(&self, application: &str) -> Result<()> {
        let question = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
                        WHERE datname = current_database() AND application_name = $1";
        for _ in 0..STEPS_MAX {
            let left = self.client.query(question, &[&application]).await;
            if left.map_err(failed("end the session of psql"))?.is_empty() {
                return Ok(());
            }
            sleep(STEP).await;
        }
        Err(Error::Failed(format!(
            "the server has not yet undone what {application} did: wait until it has"
        )))
    }

    /// The rows of one table, without those of its heirs. Where `pg_dump` writes the rows of
    /// partitions under the name of their root, as it does for a hash of an enum, the manifest
    /// names the root: a partitioned table has no rows of its own, so the rows of all partitions
    /// are meant that are not themselves in `listed`.
    pub(crate) async fn rows(
        &self,
        table: &TableRows,
        listed: &[TableRows],
    ) -> Result<Option<u64>> {
        let kind = "SELECT c.relkind = 'p' FROM pg_catalog.pg_class c \
                    JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
                    WHERE n.nspname = $1 AND c.relname = $2";
        let found = self.client.query_opt(kind, &[&table.schema, &table.table]).await;
        let Some(row) = found.map_err(failed("look for the table"))? else { return Ok(None) };
        let name = format!("{}.{}", quoted(&table.schema), quoted(&table.table));
        let counted = if row.get(0) {
            let schemas: Vec<&str> = listed.iter().map(|table| table.schema.as_str()).collect();
            let tables: Vec<&str> = listed.iter().map(|table| table.table.as_str()).collect();
            let question = format!("SELECT count(*) FROM {name} {NOT_LISTED}");
            self.client.query_one(&question, &[&schemas, &tables]).await
        } else {
            self.client.query_one(&format!("SELECT count(*) FROM ONLY {name}"), &[]).await
        };
        let rows: i64 = counted.map_err(failed("count the rows"))?.get(0);
        Ok(Some(rows.unsigned_abs()))
    }

    /// How many large objects there are.
    pub(crate) async fn large_objects(&self) -> Result<u64> {
        let question = "SELECT count(*) FROM pg_catalog.pg_largeobject_metadata";
        let counted = self.client.query_one(question, &[]).await;
        let count: i64 = counted.map_err(failed("count the large objects"))?.get(0);
        Ok(count.unsigned_abs())
    }

    /// Row security must not hide rows from the count: an error is better than a wrong number.
    pub(crate) async fn see_all_rows(&self) -> Result<()> {
        self.client.batch_execute("SET row_security = off").await.map_err(failed("see all rows"))
    }

    /// A restored database is slow until the planner knows what is in it.
    pub(crate) async fn analyze(&self) -> Result<()> {
        self.client.batch_execute("ANALYZE").await.map_err(failed("ANALYZE the database"))
    }
}

/// Leaves out the rows of tables that a manifest lists.
const NOT_LISTED: &str = "WHERE tableoid NOT IN (
    SELECT c.oid FROM pg_catalog.pg_class c
    JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    JOIN unnest($1::text[], $2::text[]) AS listed (schema, name)
    ON n.nspname = listed.schema AND c.relname = listed.name)";

/// Waits for a server no longer than `limit`.
async fn in_time<T>(limit: Duration, server: &str, answer: impl Future<Output = T>) -> Result<T> {
    timeout(limit, answer).await.map_err(|_elapsed| {
        let seconds = limit.as_secs();
        Error::Unreachable(format!("{server} did not answer within {seconds} seconds"))
    })
}

/// Everything that a user may have made, extensions and their members left out.
const CONTENTS: &str = "
WITH schemas AS (
    SELECT oid, nspname FROM pg_namespace
    WHERE nspname NOT IN ('pg_catalog', 'information_schema', 'pg_toast')
      AND nspname !~ '^pg_(toast_)?temp_'
), objects AS (
    SELECT 'pg_class'::regclass AS class, c.oid, n.nspname, c.relname AS name,
           CASE c.relkind WHEN 'v' THEN 'view' WHEN 'm' THEN 'view' WHEN 'S' THEN 'sequence'
                          ELSE 'table' END AS kind
    FROM pg_class c JOIN schemas n ON n.oid = c.relnamespace
    WHERE c.relkind IN ('r', 'p', 'f', 'v', 'm', 'S')
    UNION ALL
    SELECT 'pg_proc'::regclass, p.oid, n.nspname, p.proname, 'function'
    FROM pg_proc p JOIN schemas n ON n.oid = p.pronamespace
    UNION ALL
    SELECT 'pg_type'::regclass, t.oid, n.nspname, t.typname, 'type'
    FROM pg_type t JOIN schemas n ON n.oid = t.typnamespace
    LEFT JOIN pg_class c ON c.oid = t.typrelid
    WHERE (t.typrelid = 0 OR c.relkind = 'c') AND t.typtype <> 'm'
      AND NOT EXISTS (SELECT FROM pg_type e WHERE e.typarray = t.oid)
    UNION ALL
    SELECT 'pg_namespace'::regclass, n.oid, NULL, n.nspname, 'schema'
    FROM schemas n WHERE n.nspname <> 'public'
    UNION ALL
    SELECT 'pg_largeobject'::regclass, l.oid, NULL, l.oid::text, 'large object'
    FROM pg_largeobject_metadata l
)
SELECT kind || ' ' || coalesce(quote_ident(nspname) || '.', '') || quote_ident(name)
FROM objects o
WHERE NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = o.class AND d.objid = o.oid
                  AND d.deptype = 'e')
ORDER BY 1";

/// A name as SQL wants it.
fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// Says what it means that the server would not have us.
fn refusal(target: &Target, Failure { kind, message }: Failure) -> Error {
    let Target { shown, database, .. } = target;
    match kind {
        FailureKind::Refused(SqlState::INVALID_CATALOG_NAME) => Error::NotFound(format!(
            "there is no database {database} on that server. Create it, then try again: \
             createdb -T template0 {database}"
        )),
        FailureKind::Settings => Error::Usage(message),
        FailureKind::Untrusted => {
            Error::Refused(format!("the server at {shown} is not trusted: {message}"))
        }
        FailureKind::Refused(_) | FailureKind::Lost => {
            Error::Unreachable(format!("cannot connect to {shown}: {message}"))
        }
    }
}

fn failed(doing: &'static str) -> impl FnOnce(tokio_postgres::Error) -> Error {
    move |error| {
        let said = error.as_db_error().map_or_else(|| chain(&error), |db| db.message().to_owned());
        Error::Failed(format!("could not {doing}: {said}"))
    }
}

/// An error with its causes: this library's own words alone say too little.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let said = error.to_string();
        if !text.contains(&said) {
            text = format!("{text}: {said}");
        }
        cause = error.source();
    }
    text
}
