//! What a dump of one database does not hold, and a new server needs: roles and tablespaces by
//! `pg_dumpall`, settings and rules of access by questions of our own.
//!
//! All of it stays in memory. None of it can fail a backup: what cannot be had is named instead.

use std::ffi::OsString;
use std::io::Read;

use serde::Serialize;
use serde_json::Value;
use tokio_postgres::Client as Session;

use super::PATIENCE;
use super::Postgres;
use crate::connect::passfile_for_child;
use crate::manifest::beside::Lack;
use crate::proof::Ending;
use crate::source::Facts;
use crate::source::child::Launch;
use crate::source::child::Running;

/// Nobody has so many roles.
const BYTES_MAX: u64 = 32 << 20;
/// The last comment of what `pg_dumpall` writes.
const TRAILER: &str = "\n-- PostgreSQL database cluster dump complete\n";

/// What the role of the backup may see.
const RIGHTS: &str = "SELECT pg_catalog.has_table_privilege('pg_catalog.pg_authid', 'SELECT'), \
     coalesce((SELECT pg_catalog.has_table_privilege(v.oid, 'SELECT') \
          AND pg_catalog.has_function_privilege(p.oid, 'EXECUTE') \
        FROM pg_catalog.pg_class v, pg_catalog.pg_proc p \
        WHERE v.relname = 'pg_hba_file_rules' AND p.proname = 'pg_hba_file_rules' \
        AND v.relnamespace = 'pg_catalog'::pg_catalog.regnamespace \
        AND p.pronamespace = v.relnamespace), false), \
     coalesce((SELECT pg_catalog.pg_has_role(r.oid, 'USAGE') FROM pg_catalog.pg_roles r \
        WHERE r.rolname = 'pg_read_all_settings'), false)";

/// Asked first: it must not show what we set ourselves.
const SETTINGS: &str = "SELECT name, setting, unit, source, sourcefile, sourceline \
     FROM pg_catalog.pg_settings WHERE source NOT IN ('default', 'override', 'client', 'session') \
     ORDER BY name";
const PREPARE: &str = "SELECT pg_catalog.set_config('search_path', '', false)";
const HBA: &str = "SELECT * FROM pg_catalog.pg_hba_file_rules ORDER BY line_number";
const TABLESPACES: &str = "SELECT spcname AS name, pg_catalog.pg_get_userbyid(spcowner) AS owner, \
     pg_catalog.pg_tablespace_location(oid) AS location, spcoptions AS options \
     FROM pg_catalog.pg_tablespace ORDER BY spcname";
const EXTENSIONS: &str = "SELECT e.extname AS name, e.extversion AS version, n.nspname AS schema \
     FROM pg_catalog.pg_extension e JOIN pg_catalog.pg_namespace n ON n.oid = e.extnamespace \
     ORDER BY e.extname";
/// What belongs to the database and stands in no dump of it.
const DATABASE: &str = "SELECT d.datname AS name, pg_catalog.pg_get_userbyid(d.datdba) AS owner, \
     pg_catalog.pg_encoding_to_char(d.encoding) AS encoding, d.datcollate AS collate, \
     d.datctype AS ctype, t.spcname AS tablespace, d.datconnlimit AS connection_limit, \
     d.datacl::text AS privileges, \
     (SELECT pg_catalog.json_agg(pg_catalog.json_build_object( \
          'role', CASE s.setrole WHEN 0 THEN NULL ELSE pg_catalog.pg_get_userbyid(s.setrole) END, \
          'settings', s.setconfig)) \
      FROM pg_catalog.pg_db_role_setting s WHERE s.setdatabase = d.oid) AS settings \
     FROM pg_catalog.pg_database d JOIN pg_catalog.pg_tablespace t ON t.oid = d.dattablespace \
     WHERE d.datname = pg_catalog.current_database()";

/// What goes beside a dump.
#[derive(Debug, Default)]
pub(crate) struct Beside {
    /// Roles and tablespaces as SQL.
    pub(crate) globals: Option<Vec<u8>>,
    /// What is known of the server, as JSON.
    pub(crate) cluster: Option<Vec<u8>>,
    /// What could not be had.
    pub(crate) lacks: Vec<Lack>,
}

/// What the role may see of the server.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rights {
    /// The passwords of roles, as the server keeps them.
    pub(crate) passwords: bool,
    /// The rules of access.
    pub(crate) hba: bool,
    /// The settings that are not for everybody.
    pub(crate) all_settings: bool,
}

/// Asks what the role may see.
pub(crate) async fn rights(session: &Session) -> Result<Rights, tokio_postgres::Error> {
    let row = session.query_one(RIGHTS, &[]).await?;
    let (passwords, hba, all_settings) = (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
    Ok(Rights { passwords, hba, all_settings })
}

/// The content of the JSON file.
#[derive(Serialize)]
struct Cluster<'a> {
    format: u32,
    server_version: &'a str,
    server_version_num: u32,
    database: Value,
    settings: Value,
    hba: Option<Value>,
    tablespaces: Value,
    extensions: Value,
}

impl Postgres {
    /// Gathers all that goes beside a dump, by a connection of its own: an error in the one that
    /// holds the snapshot would end it.
    pub(crate) async fn beside(&self, facts: &Facts) -> Beside {
        let mut beside = Beside::default();
        let asked = tokio::time::timeout(PATIENCE, self.cluster(facts, &mut beside)).await;
        let rights = match asked {
            Ok(Ok(rights)) => Some(rights),
            Ok(Err(why)) => {
                beside.lack("cluster.missing", format!("what is known of the server: {why}"));
                None
            }
            Err(_elapsed) => {
                beside.lack("cluster.missing", "what is known of the server: it did not answer");
                None
            }
        };
        let user = &self.target.user;
        let mut globals = Err(format!("{user} may not read pg_authid"));
        if rights.is_none_or(|rights| rights.passwords) {
            globals = self.globals(facts, true).await;
        }
        if let Err(why) = &globals {
            let without = self.globals(facts, false).await;
            match &without {
                Ok(_) => beside.lack(
                    "globals.passwords",
                    format!(
                        "the passwords of the roles: {why}. As a superuser: GRANT SELECT ON \
                         pg_catalog.pg_authid TO \"{user}\""
                    ),
                ),
                Err(why) => beside.lack("globals.missing", format!("the roles: {why}")),
            }
            globals = without;
        }
        beside.globals = globals.ok();
        beside
    }

    /// Describes the server.
    async fn cluster(&self, facts: &Facts, beside: &mut Beside) -> Result<Rights, String> {
        let session = self.connect().await.map_err(|error| error.to_string())?;
        let said = |error: tokio_postgres::Error| crate::error::chain(&error);
        let rights = rights(&session).await.map_err(said)?;
        let settings = rows(&session, SETTINGS).await.map_err(said)?;
        session.batch_execute(PREPARE).await.map_err(said)?;
        let user = &self.target.user;
        let mut hba = None;
        if rights.hba {
            hba = Some(rows(&session, HBA).await.map_err(said)?);
        } else {
            beside.lack("cluster.hba", format!("the rules of access: {user} may not read them"));
        }
        if !rights.all_settings {
            let message = format!(
                "settings that are not for everybody. As a superuser: GRANT pg_read_all_settings \
                 TO \"{user}\""
            );
            beside.lack("cluster.settings", message);
        }
        let database = rows(&session, DATABASE).await.map_err(said)?;
        let cluster = Cluster {
            format: 1,
            server_version: &facts.server_version,
            server_version_num: facts.server_version_num,
            database: database.get(0).cloned().unwrap_or(Value::Null),
            settings,
            hba,
            tablespaces: rows(&session, TABLESPACES).await.map_err(said)?,
            extensions: rows(&session, EXTENSIONS).await.map_err(said)?,
        };
        let mut text = serde_json::to_vec_pretty(&cluster).map_err(|error| error.to_string())?;
        text.push(b'\n');
        beside.cluster = Some(text);
        Ok(rights)
    }

    /// Roles and tablespaces, as `pg_dumpall` writes them.
    async fn globals(&self, facts: &Facts, passwords: bool) -> Result<Vec<u8>, String> {
        let client = self.client.as_ref().ok_or("there is no pg_dump")?;
        let program = client.dumper_of_all();
        if !program.is_file() {
            return Err(format!("there is no {}, which comes with pg_dump", program.display()));
        }
        let passfile = self.target.password.as_ref();
        let passfile = passfile.and_then(|password| passfile_for_child(&password.0));
        // In this form no name is taken for anything else.
        let database = self.target.database.replace('\\', "\\\\").replace('\'', "\\'");
        let mut arguments: Vec<OsString> = vec![
            "--globals-only".into(),
            "--no-password".into(),
            format!("--database=dbname='{database}'").into(),
        ];
        if !passwords {
            arguments.push("--no-role-passwords".into());
        }
        let mut environment = self.target.child_environment(&self.around);
        environment.insert("PGCLIENTENCODING".to_owned(), facts.encoding.clone());
        let launch = Launch { program: &program, arguments, environment, passfile, input: false };
        let running = Running::start(launch).map_err(|error| error.to_string())?;
        whole(running).await
    }
}

impl Beside {
    fn lack(&mut self, code: &str, message: impl Into<String>) {
        self.lacks.push(Lack::new(code, message));
    }
}

/// All that `pg_dumpall` writes, if it comes to its end.
async fn whole(mut running: Running) -> Result<Vec<u8>, String> {
    let stdout = running.take_stdout().map_err(|error| error.to_string())?;
    let reading = tokio::task::spawn_blocking(move || {
        let mut text = Vec::new();
        stdout.take(BYTES_MAX + 1).read_to_end(&mut text).map(|_bytes| text)
    });
    let ended = tokio::time::timeout(PATIENCE, running.wait()).await;
    // What hangs is ended, and then so is the reading.
    running.stop().await;
    let text = reading.await.map_err(|panic| panic.to_string())?;
    let text = text.map_err(|error| error.to_string())?;
    let ending = ended.map_err(|_elapsed| "pg_dumpall did not end".to_owned())?;
    match ending.map_err(|error| error.to_string())? {
        Ending::Status(0) => {}
        Ending::Status(_) => return Err(format!("pg_dumpall: {}", running.last_words().await)),
        Ending::Signal(signal) => return Err(format!("pg_dumpall was killed by signal {signal}")),
    }
    if text.len() as u64 > BYTES_MAX {
        return Err(format!("pg_dumpall wrote more than {BYTES_MAX} bytes"));
    }
    match memchr::memmem::rfind(&text, TRAILER.as_bytes()) {
        Some(_) => Ok(text),
        None => Err("what pg_dumpall wrote stops before its end".to_owned()),
    }
}

/// The rows of a question, as a JSON array of objects.
async fn rows(session: &Session, question: &str) -> Result<Value, tokio_postgres::Error> {
    let question = format!(
        "SELECT coalesce(pg_catalog.json_agg(pg_catalog.row_to_json(r)), '[]')::pg_catalog.text \
         FROM ({question}) AS r"
    );
    let text: String = session.query_one(&question, &[]).await?.try_get(0)?;
    // The server's JSON is ours, too.
    Ok(serde_json::from_str(&text).unwrap_or(Value::String(text)))
}
