//! Which tables a filtered dump must hold: `pg_dump` itself says so, by a dump without rows of the same
//! snapshot, whose tables `pg_restore` lists by number. No rule of patterns is ours.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::io::Read;
use std::time::Duration;

use tokio::task::JoinHandle;

use super::Postgres;
use crate::error::Error;
use crate::manifest::filters::Filters;
use crate::proof::Ending;
use crate::proof::Flaw;
use crate::source::Facts;
use crate::source::child::Launch;
use crate::source::child::Running;

/// To list all tables takes no longer, even behind others' locks.
const PATIENCE: Duration = Duration::from_secs(1800);
/// The number of `pg_class`, which is that of tables in a list.
const PG_CLASS: &str = "1259";
/// How `pg_dump` says that patterns fit nothing.
const NOTHING: &str = "no matching tables were found";

impl Postgres {
    /// Leaves of the facts what the filters select.
    pub(super) async fn select(&self, facts: &mut Facts, filters: &Filters) -> Result<(), Error> {
        let mut selected = self.listed(facts, filters.of_tables()).await?;
        if !filters.exclude_table_data.is_empty() {
            let patterns = filters.exclude_table_data.iter();
            let named = patterns.map(|pattern| format!("--table={pattern}")).collect();
            let without_rows = match self.listed(facts, named).await {
                Err(Error::NotWhole { words, .. }) if words.contains(NOTHING) => BTreeSet::new(),
                listed => listed?,
            };
            selected.retain(|oid| !without_rows.contains(oid));
        }
        for expected in &mut facts.tables {
            expected.optional = expected.extension;
        }
        facts.tables.retain(|expected| expected.optional || selected.contains(&expected.oid));
        if !filters.takes_large_objects() {
            facts.large_objects = 0;
        }
        Ok(())
    }

    /// The tables that `pg_dump` would dump with these arguments.
    async fn listed(&self, facts: &Facts, filters: Vec<String>) -> Result<BTreeSet<u32>, Error> {
        let (program, mut arguments, passfile) = self.dump_launch(facts)?;
        arguments.extend(["--schema-only", "--format=custom"].map(OsString::from));
        arguments.extend(filters.into_iter().map(OsString::from));
        let environment = self.target.child_environment(&self.around);
        let launch = Launch { program: &program, arguments, environment, passfile, input: false };
        let mut dump = Running::start(launch).map_err(|source| Error::Start { program, source })?;
        let restorer = self.client.as_ref().map(crate::source::client::Client::restorer);
        let program = restorer.unwrap_or_default();
        let environment = self.target.child_environment(&self.around);
        let arguments = vec![OsString::from("--list")];
        let launch =
            Launch { program: &program, arguments, environment, passfile: None, input: true };
        let mut list = Running::start(launch).map_err(|source| Error::Start { program, source })?;

        let internal = |error: std::io::Error| Error::Internal(error.to_string());
        let mut archive = dump.take_stdout().map_err(internal)?;
        let mut input = list.take_stdin().map_err(internal)?;
        let mut output = list.take_stdout().map_err(internal)?;
        // Who reads no more says why by his end.
        let _feeding = tokio::task::spawn_blocking(move || {
            drop(std::io::copy(&mut archive, &mut input));
        });
        let reading: JoinHandle<std::io::Result<Vec<u8>>> =
            tokio::task::spawn_blocking(move || {
                let mut text = Vec::new();
                output.read_to_end(&mut text).map(|_bytes| text)
            });
        let endings = [ended(&mut dump).await?, ended(&mut list).await?];
        if let Some(ending) = endings.into_iter().find(|ending| *ending != Ending::Status(0)) {
            let flaw = Flaw::Ended(ending.to_string());
            let words = [dump.last_words().await, list.last_words().await];
            let words = words.into_iter().find(|words| !words.is_empty()).unwrap_or_default();
            return Err(Error::NotWhole { flaw, words });
        }
        let text = reading.await.map_err(|panic| Error::Internal(panic.to_string()))?;
        Ok(tables(&String::from_utf8_lossy(&text.map_err(internal)?)))
    }
}

/// How a child ended, be it by our hand.
async fn ended(child: &mut Running) -> Result<Ending, Error> {
    match tokio::time::timeout(PATIENCE, child.wait()).await {
        Ok(ending) => ending.map_err(|error| Error::Internal(error.to_string())),
        Err(_elapsed) => {
            child.stop().await;
            Ok(Ending::Signal(15))
        }
    }
}

/// The numbers of the tables in what `pg_restore --list` prints:
/// `215; 1259 16390 TABLE public t owner`.
fn tables(list: &str) -> BTreeSet<u32> {
    let table = |line: &str| {
        let (number, rest) = line.split_once("; ")?;
        let _entry: u32 = number.parse().ok()?;
        let mut words = rest.split(' ');
        let (class, oid, kind) = (words.next()?, words.next()?, words.next()?);
        (class == PG_CLASS && kind == "TABLE").then(|| oid.parse().ok()).flatten()
    };
    list.lines().filter_map(table).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_are_told_from_all_else_in_a_list() {
        let list = ";\n; Archive created at 2026-01-18\n;     dbname: app; 1259 7 TABLE\n\
                    215; 1259 16390 TABLE public two words owner\n\
                    216; 1259 16391 VIEW public TABLE owner\n\
                    217; 1259 16392 SEQUENCE public s owner\n\
                    218; 0 0 TABLE ATTACH public p owner\n\
                    219; 2606 16400 CONSTRAINT public t owner\n\
                    3000; 0 0 COMMENT public TABLE t owner\n\
                    220; 1259 16393 TABLE DATA t owner\n";
        assert_eq!(tables(list).into_iter().collect::<Vec<_>>(), [16390, 16393]);
    }
}
