//! I/O: asks the server what the role may read. Changes nothing there.

use std::time::Duration;

use jiff::SignedDuration;
use jiff::Timestamp;
use tokio_postgres::Client;

use crate::config::Config;
use crate::error::Error;
use crate::source::postgres::Postgres;
use crate::source::postgres::cluster;
use crate::source::postgres::cluster::Rights;

/// All questions together take no longer.
const PATIENCE: Duration = Duration::from_secs(120);

const PREPARE: &str = "SELECT pg_catalog.set_config('search_path', '', false); \
     SET default_transaction_read_only = on; SET statement_timeout = '60s'; \
     SET lock_timeout = '5s'";

const ABOUT: &str = "SELECT current_user::text, \
     pg_catalog.current_setting('server_version'), \
     pg_catalog.current_setting('server_version_num')::int4, \
     pg_catalog.pg_database_size(pg_catalog.current_database()), \
     (SELECT r.rolsuper FROM pg_catalog.pg_roles r WHERE r.rolname = current_user), \
     (extract(epoch FROM pg_catalog.clock_timestamp()) * 1000)::int8";

/// What `pg_dump` reads: tables and sequences that belong to no extension.
const RELATIONS: &str = "SELECT c.oid::pg_catalog.regclass::text, \
     pg_catalog.has_schema_privilege(n.oid, 'USAGE') \
       AND pg_catalog.has_table_privilege(c.oid, 'SELECT'), \
     c.relkind IN ('r', 'p') AND pg_catalog.row_security_active(c.oid) \
     FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
     WHERE c.relkind IN ('r', 'p', 'S', 'm') AND c.relpersistence <> 't' \
     AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema' \
     AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend d \
       WHERE d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass AND d.objid = c.oid \
       AND d.refclassid = 'pg_catalog.pg_extension'::pg_catalog.regclass AND d.deptype = 'e') \
     ORDER BY 1";

/// Large objects: all, and those that neither ownership nor a grant lets the role read.
const LARGE_OBJECTS: &str = "SELECT pg_catalog.count(*), pg_catalog.count(*) FILTER (WHERE NOT ( \
       (SELECT r.rolsuper FROM pg_catalog.pg_roles r WHERE r.rolname = current_user) \
       OR pg_catalog.pg_has_role(m.lomowner, 'USAGE') \
       OR EXISTS (SELECT FROM pg_catalog.aclexplode(m.lomacl) a WHERE a.privilege_type = 'SELECT' \
            AND (a.grantee = 0 OR pg_catalog.pg_has_role(a.grantee, 'USAGE'))))) \
     FROM pg_catalog.pg_largeobject_metadata m";

const EXTENSIONS: &str =
    "SELECT extname::text || ' ' || extversion FROM pg_catalog.pg_extension ORDER BY extname";

/// What the server said.
#[derive(Debug)]
pub(super) struct Server {
    pub(super) role: String,
    pub(super) superuser: bool,
    pub(super) version: String,
    pub(super) major: u32,
    pub(super) database_bytes: u64,
    /// By how much its clock is ahead of ours.
    pub(super) ahead: SignedDuration,
    /// How many tables and sequences there are.
    pub(super) relations: usize,
    pub(super) unreadable: Vec<String>,
    /// Tables of which the role would not see all rows.
    pub(super) row_security: Vec<String>,
    pub(super) large_objects: i64,
    pub(super) large_objects_denied: i64,
    pub(super) extensions: Vec<String>,
    /// What it may see of the server.
    pub(super) sees: Rights,
    /// Whether there is a `pg_dumpall` beside that `pg_dump`.
    pub(super) dumps_globals: bool,
    /// Major version and words of the `pg_dump` that a run would take.
    pub(super) client: Result<(u32, String), String>,
}

/// Asks everything.
pub(super) async fn ask(config: &Config) -> Result<Server, Error> {
    let source = Postgres::new(
        config.target.clone(),
        config.around.clone(),
        config.client_directory.clone(),
        config.lock_wait_timeout,
    );
    let session = source.connect().await?;
    let query = |message: String| Error::Query { message };
    let asked = tokio::time::timeout(PATIENCE, read(&session)).await;
    let asked = asked.map_err(|_elapsed| query("it stopped answering".to_owned()))?;
    let (mut server, number) = asked.map_err(|error| query(crate::error::chain(&error)))?;
    let client = source.find_client(&server.version, number, &config.shape).await;
    server.dumps_globals = client.as_ref().is_ok_and(|client| client.dumper_of_all().is_file());
    server.client =
        client.map(|client| (client.major, client.version)).map_err(|error| error.to_string());
    Ok(server)
}

async fn read(session: &Client) -> Result<(Server, u32), tokio_postgres::Error> {
    session.batch_execute(PREPARE).await?;
    let about = session.query_one(ABOUT, &[]).await?;
    let ours = Timestamp::now();
    let theirs = Timestamp::from_millisecond(about.try_get(5)?).unwrap_or(ours);
    let number: i32 = about.try_get(2)?;
    let number = u32::try_from(number).unwrap_or_default();
    let bytes: i64 = about.try_get(3)?;

    let (mut relations, mut unreadable, mut row_security) = (0, Vec::new(), Vec::new());
    for row in session.query(RELATIONS, &[]).await? {
        relations += 1;
        let name: String = row.try_get(0)?;
        let (readable, hidden): (bool, bool) = (row.try_get(1)?, row.try_get(2)?);
        if !readable {
            unreadable.push(name);
        } else if hidden {
            row_security.push(name);
        }
    }
    let large_objects = session.query_one(LARGE_OBJECTS, &[]).await?;
    let mut extensions = Vec::new();
    for row in session.query(EXTENSIONS, &[]).await? {
        extensions.push(row.try_get(0)?);
    }
    let sees = cluster::rights(session).await?;
    let superuser: Option<bool> = about.try_get(4)?;
    let server = Server {
        role: about.try_get(0)?,
        superuser: superuser.unwrap_or(false),
        version: about.try_get(1)?,
        major: number / 10_000,
        database_bytes: u64::try_from(bytes).unwrap_or_default(),
        ahead: theirs.duration_since(ours),
        relations,
        unreadable,
        row_security,
        large_objects: large_objects.try_get(0)?,
        large_objects_denied: large_objects.try_get(1)?,
        extensions,
        sees,
        dumps_globals: false,
        client: Err(String::new()),
    };
    Ok((server, number))
}
