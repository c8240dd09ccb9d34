//! PostgreSQL as a source: facts by a connection of our own, the stream by `pg_dump`, both from
//! one exported snapshot.

pub(crate) mod cluster;
mod selected;

use std::ffi::OsString;
use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;

use tokio_postgres::Client as Session;
use tokio_postgres::Row;
use tokio_postgres::error::SqlState;

use super::Facts;
use super::Source;
use super::child::Launch;
use super::child::Running;
use super::client;
use super::client::Client;
use crate::config::Config;
use crate::connect::ConnectError;
use crate::connect::Secret;
use crate::connect::Surroundings;
use crate::connect::Target;
use crate::connect::passfile_for_child;
use crate::connect::session;
use crate::connect::session::Failure;
use crate::connect::session::FailureKind;
use crate::error::Error;
use crate::manifest::Extension;
use crate::manifest::Kind;
use crate::shape::Shape;
use crate::table::Expected;
use crate::table::Table;
use crate::table::TableName;

/// A server that answers at all answers each of our few questions in this time.
const PATIENCE: Duration = Duration::from_secs(120);

/// Makes the session last as long as the dump, and names mean what they should.
const PREPARE: &str = "SELECT pg_catalog.set_config(name, '0', false) FROM pg_catalog.pg_settings \
     WHERE name IN ('statement_timeout', 'lock_timeout', 'transaction_timeout', \
                    'idle_in_transaction_session_timeout'); \
     SELECT pg_catalog.set_config('search_path', '', false)";

/// The snapshot of this transaction is the one that is dumped.
const BEGIN: &str = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY";

const SERVER: &str = "SELECT pg_catalog.pg_export_snapshot(), \
     pg_catalog.current_database()::text, \
     pg_catalog.pg_database_size(pg_catalog.current_database()), \
     pg_catalog.current_setting('server_version'), \
     pg_catalog.current_setting('server_version_num')::int4, \
     pg_catalog.current_setting('server_encoding')";

const LARGE_OBJECTS: &str = "SELECT pg_catalog.count(*) FROM pg_catalog.pg_largeobject_metadata";

const EXTENSIONS: &str =
    "SELECT extname::text, extversion FROM pg_catalog.pg_extension ORDER BY extname";

/// The tables for which `pg_dump` writes a COPY block: all that have rows of their own (partitions
/// do, partitioned tables do not), except those of the system and of extensions; of the latter
/// those that the extension marked as configuration are dumped. On a standby tables that are not
/// logged cannot be read, and `pg_dump` leaves their rows out.
///
/// Names come as bytes in the database's encoding, as the dump has them, and as text to be shown,
/// except from a database that does not know its own encoding.
const TABLES: &str = "SELECT \
     pg_catalog.convert_to(n.nspname::text, $1), pg_catalog.convert_to(c.relname::text, $1), \
     CASE WHEN $2 THEN n.nspname::text END, CASE WHEN $2 THEN c.relname::text END, \
     pg_catalog.convert_to(rn.nspname::text, $1), pg_catalog.convert_to(r.relname::text, $1), \
     CASE WHEN $2 THEN rn.nspname::text END, CASE WHEN $2 THEN r.relname::text END, \
     EXISTS (SELECT FROM pg_catalog.pg_extension e WHERE c.oid = ANY (e.extconfig)), SECURED, c.oid \
     FROM pg_catalog.pg_class c \
     JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
     LEFT JOIN pg_catalog.pg_class r ON r.oid = ROOT AND r.oid <> c.oid \
     LEFT JOIN pg_catalog.pg_namespace rn ON rn.oid = r.relnamespace \
     WHERE c.relkind = 'r' AND c.relpersistence <> 't' \
     AND NOT (c.relpersistence = 'u' AND pg_catalog.pg_is_in_recovery()) AND CASE \
       WHEN EXISTS (SELECT FROM pg_catalog.pg_depend d \
            WHERE d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass AND d.objid = c.oid \
            AND d.refclassid = 'pg_catalog.pg_extension'::pg_catalog.regclass AND d.deptype = 'e') \
       THEN EXISTS (SELECT FROM pg_catalog.pg_extension e \
            WHERE e.oid >= 16384 AND c.oid = ANY (e.extconfig)) \
       ELSE n.nspname !~ '^pg_' AND n.nspname <> 'information_schema' END";

/// A PostgreSQL database.
pub(crate) struct Postgres {
    target: Target,
    around: Surroundings,
    client_directory: Option<PathBuf>,
    lock_wait_timeout: Duration,
    /// Whether to wait for another agent to end.
    wait: bool,
    /// Holds the snapshot open until it is dropped.
    session: Option<Session>,
    client: Option<Client>,
}

/// As `pg_dumpall` chooses; a database of limit -2 was being removed when something stopped it.
const DATABASES: &str = "SELECT datname::text FROM pg_catalog.pg_database \
     WHERE datallowconn AND NOT datistemplate AND datconnlimit <> -2 ORDER BY 1";

/// Where to ask which databases there are, after the one of the connection.
const EVERYWHERE: [&str; 2] = ["postgres", "template1"];

impl Postgres {
    /// The databases of the server that allow connections, without templates.
    pub(crate) async fn databases(config: &Config) -> Result<Vec<String>, Error> {
        let mut result = Err(Error::NoDatabase { wanted: config.target.database.clone() });
        let names = [config.target.database.as_str()].into_iter().chain(EVERYWHERE);
        for database in names {
            let target = Target { database: database.to_owned(), ..config.target.clone() };
            let asked = Self::new(target, config.around.clone(), None, config.lock_wait_timeout);
            result = asked.ask_databases().await;
            // The first need not exist, and not everybody may use the second.
            if !matches!(result, Err(Error::LoginRefused { .. } | Error::NoDatabase { .. })) {
                break;
            }
        }
        result
    }

    async fn ask_databases(&self) -> Result<Vec<String>, Error> {
        let session = self.connect().await?;
        let rows = tokio::time::timeout(PATIENCE, session.query(DATABASES, &[]))
            .await
            .map_err(|_elapsed| self.unreachable("it stopped answering".to_owned()))?
            .map_err(|error| self.query_failed(&error))?;
        let names: Result<_, _> = rows.iter().map(|row| row.try_get(0)).collect();
        names.map_err(|error| self.query_failed(&error))
    }

    /// The database at `target`; `pg_dump` is looked for in `client_directory` only, if given.
    pub(crate) fn new(
        target: Target,
        around: Surroundings,
        client_directory: Option<PathBuf>,
        lock_wait_timeout: Duration,
    ) -> Self {
        Self {
            target,
            around,
            client_directory,
            lock_wait_timeout,
            wait: false,
            session: None,
            client: None,
        }
    }

    /// Waits for another agent to end, if `wait`.
    pub(crate) fn waiting(self, wait: bool) -> Self {
        Self { wait, ..self }
    }

    /// Logs in.
    pub(crate) async fn connect(&self) -> Result<Session, Error> {
        let Target { tls, connect_timeout, .. } = &self.target;
        // The driver's own limit ends with the socket, and a server may accept and never answer.
        // Twice, since a name may have two addresses of which one is dead.
        let limit = connect_timeout.map(|limit| limit * 2);
        let opened = session::open(&self.target.driver_config(), tls, limit).await;
        opened.map_err(|failure| self.refused(failure))
    }

    /// Tells a server that said no from one that could not be asked.
    fn refused(&self, Failure { kind, message }: Failure) -> Error {
        let server = self.server();
        // Starting up, shutting down, too many connections: later it may be different.
        let passing = |code: &SqlState| matches!(&code.code()[..2], "57" | "53" | "08");
        match kind {
            FailureKind::Settings => Error::Usage(message),
            FailureKind::Untrusted => Error::Untrusted { server, message },
            FailureKind::Refused(code) if code == SqlState::INVALID_CATALOG_NAME => {
                Error::NoDatabase { wanted: self.target.database.clone() }
            }
            FailureKind::Refused(code) if !passing(&code) => {
                Error::LoginRefused { server, message }
            }
            // No password where one is wanted, or one of the wrong kind: no use in trying again.
            FailureKind::Lost
                if message.contains("password") || message.contains("authentication") =>
            {
                Error::LoginRefused { server, message }
            }
            FailureKind::Lost | FailureKind::Refused(_) => Error::Unreachable { server, message },
        }
    }

    /// Why a question was not answered.
    fn query_failed(&self, error: &tokio_postgres::Error) -> Error {
        match error.as_db_error() {
            Some(answer) => Error::Query { message: answer.message().to_owned() },
            None => self.refused(Failure::of(error)),
        }
    }

    fn server(&self) -> String {
        format!("{}:{}", self.target.host, self.target.port)
    }

    fn unreachable(&self, message: String) -> Error {
        Error::Unreachable { server: self.server(), message }
    }

    /// `pg_dump`, what it is told whatever it is to dump, and its password file.
    fn dump_launch(
        &self,
        facts: &Facts,
    ) -> Result<(PathBuf, Vec<OsString>, Option<String>), Error> {
        let program = self.client.as_ref().map(|client| client.path.clone()).unwrap_or_default();
        let passfile = match &self.target.password {
            Some(Secret(password)) => {
                Some(passfile_for_child(password).ok_or(ConnectError::NotSupported(
                    "a password with a line break cannot be given to pg_dump",
                ))?)
            }
            None => None,
        };
        // The names in the stream are compared with those of the catalogue, so they must come in
        // the database's own encoding whatever a role or a variable says.
        let arguments = [
            "--no-password".to_owned(),
            format!("--encoding={}", facts.encoding),
            format!("--snapshot={}", facts.snapshot),
            format!("--lock-wait-timeout={}", self.lock_wait_timeout.as_millis()),
        ];
        Ok((program, arguments.map(OsString::from).into(), passfile))
    }

    /// The client for this server.
    pub(crate) async fn find_client(
        &self,
        server_version: &str,
        number: u32,
        shape: &Shape,
    ) -> Result<Client, Error> {
        let path = self.around.variables.get("PATH").map_or("", String::as_str);
        let server = number / 10_000;
        let needed = client::needed(shape.kind, shape.compression.codec);
        let major = server.max(needed);
        let clients = client::find(path, self.client_directory.as_deref(), major).await;
        let Some(client) = client::choose(&clients, major).cloned() else {
            let found: Vec<&str> = clients.iter().map(|client| client.version.as_str()).collect();
            let found = if found.is_empty() { "none".to_owned() } else { found.join(", ") };
            if client::choose(&clients, server).is_some() {
                return Err(Error::OldClient { needed, found });
            }
            return Err(Error::NoClient { server: server_version.to_owned(), found });
        };
        let restorer = client.restorer();
        let reads = shape.kind != Kind::Plain || !shape.filters.is_empty();
        if reads && !restorer.is_file() {
            return Err(Error::NoRestorer { path: restorer });
        }
        Ok(client)
    }
}

impl Source for Postgres {
    async fn observe(&mut self, shape: &Shape) -> Result<Facts, Error> {
        let session = self.connect().await?;
        // Held, like the snapshot, as long as the session lasts.
        crate::lock::database(&session, self.wait).await?;
        let facts = tokio::time::timeout(PATIENCE, read_facts(&session))
            .await
            .map_err(|_elapsed| self.unreachable("it stopped answering".to_owned()))?
            .map_err(|error| self.query_failed(&error))?;
        self.session = Some(session);
        let all = shape.filters.is_empty();
        if all {
            refuse_hidden_rows(&facts.tables)?;
        }
        let (version, number) = (&facts.server_version, facts.server_version_num);
        let client = self.find_client(version, number, shape).await?;
        let server_major = facts.server_version_num / 10_000;
        if client.major != server_major {
            tracing::warn!(
                "{} is newer than the server: its dump may not restore into version \
                 {server_major}, but into {} or later. Install a PostgreSQL client of version \
                 {server_major}",
                client.version,
                client.major
            );
        }
        let mut facts = Facts { dump_version: client.version.clone(), ..facts };
        self.client = Some(client);
        if !all {
            self.select(&mut facts, &shape.filters).await?;
            refuse_hidden_rows(&facts.tables)?;
        }
        Ok(facts)
    }

    fn dump(
        &mut self,
        facts: &Facts,
        shape: &Shape,
        into: Option<&Path>,
    ) -> Result<Running, Error> {
        let (program, mut arguments, passfile) = self.dump_launch(facts)?;
        arguments.extend(shape.dump_arguments().into_iter().map(OsString::from));
        if let Some(directory) = into {
            let mut file = OsString::from("--file=");
            file.push(directory);
            arguments.push(file);
        }
        let environment = self.target.child_environment(&self.around);
        let launch = Launch { program: &program, arguments, environment, passfile, input: false };
        Running::start(launch).map_err(|source| Error::Start { program, source })
    }

    fn read(&mut self, archive: Option<&Path>) -> Result<Running, Error> {
        let program = self.client.as_ref().map(Client::restorer).unwrap_or_default();
        let mut arguments = vec![OsString::from("--file=-")];
        arguments.extend(archive.map(OsString::from));
        let environment = self.target.child_environment(&self.around);
        let input = archive.is_none();
        let launch = Launch { program: &program, arguments, environment, passfile: None, input };
        Running::start(launch).map_err(|source| Error::Start { program, source })
    }
}

/// Refuses tables of which row security would show us only a part. `pg_dump` would refuse them, too,
/// but only after a file was made, and only unless somebody tells it not to.
fn refuse_hidden_rows(tables: &[Expected]) -> Result<(), Error> {
    let hidden: Vec<String> = tables
        .iter()
        .filter(|expected| expected.hidden)
        .map(|expected| expected.table.name.to_string())
        .collect();
    if hidden.is_empty() { Ok(()) } else { Err(Error::RowSecurity { tables: hidden.join(", ") }) }
}

/// Asks the server everything, inside the transaction whose snapshot `pg_dump` will use.
async fn read_facts(session: &Session) -> Result<Facts, tokio_postgres::Error> {
    session.batch_execute(PREPARE).await?;
    session.batch_execute(BEGIN).await?;
    let server = session.query_one(SERVER, &[]).await?;
    let number: i32 = server.try_get(4)?;
    let encoding: String = server.try_get(5)?;

    let root = if number >= 120_000 { "pg_catalog.pg_partition_root(c.oid)" } else { "NULL" };
    let secured = if number >= 90_500 { "pg_catalog.row_security_active(c.oid)" } else { "false" };
    let query = TABLES.replace("ROOT", root).replace("SECURED", secured);
    let knows_encoding = encoding != "SQL_ASCII";
    let rows = session.query(&query, &[&encoding, &knows_encoding]).await?;
    let mut tables = Vec::with_capacity(rows.len());
    for row in rows {
        if let Some(table) = table(&row, 0)? {
            tables.push(Expected {
                table,
                oid: row.try_get(10)?,
                optional: false,
                root: self::table(&row, 4)?,
                extension: row.try_get(8)?,
                hidden: row.try_get(9)?,
            });
        }
    }
    let mut extensions = Vec::new();
    for row in session.query(EXTENSIONS, &[]).await? {
        extensions.push(Extension { name: row.try_get(0)?, version: row.try_get(1)? });
    }
    let large_objects: i64 = session.query_one(LARGE_OBJECTS, &[]).await?.try_get(0)?;
    let bytes: i64 = server.try_get(2)?;
    Ok(Facts {
        snapshot: server.try_get(0)?,
        database: server.try_get(1)?,
        database_bytes: u64::try_from(bytes).unwrap_or_default(),
        server_version: server.try_get(3)?,
        server_version_num: u32::try_from(number).unwrap_or_default(),
        encoding,
        tables,
        large_objects: u64::try_from(large_objects).unwrap_or_default(),
        extensions,
        dump_version: String::new(),
    })
}

/// The table in the four columns from `at`.
fn table(row: &Row, at: usize) -> Result<Option<Table>, tokio_postgres::Error> {
    let (schema, table): (Option<Vec<u8>>, Option<Vec<u8>>) =
        (row.try_get(at)?, row.try_get(at + 1)?);
    let (Some(schema), Some(table)) = (schema, table) else { return Ok(None) };
    let shown = |text: Option<String>, raw: &[u8]| {
        text.unwrap_or_else(|| String::from_utf8_lossy(raw).into_owned())
    };
    Ok(Some(Table {
        schema: shown(row.try_get(at + 2)?, &schema),
        table: shown(row.try_get(at + 3)?, &table),
        name: TableName { schema, table },
    }))
}
