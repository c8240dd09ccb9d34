//! What the agent asks of a database: what is in it at one moment, and a stream of just that.
//!
//! There is one implementation, [`postgres`]; the seam is where another would fit.

pub(crate) mod child;
pub(crate) mod client;
pub(crate) mod databases;
pub mod leash;
pub(crate) mod postgres;

use std::future::Future;
use std::path::Path;

use self::child::Running;
use crate::error::Error;
use crate::manifest::Extension;
use crate::shape::Shape;
use crate::table::Expected;

/// What is known of a database before it is dumped. All of it belongs to one snapshot.
#[derive(Clone, Debug)]
pub(crate) struct Facts {
    /// Its name, as the server has it.
    pub(crate) database: String,
    /// Its size on the server.
    pub(crate) database_bytes: u64,
    /// The server's version, in its own words.
    pub(crate) server_version: String,
    /// The same as a number.
    pub(crate) server_version_num: u32,
    /// The encoding of the database, which is that of the dump.
    pub(crate) encoding: String,
    /// The snapshot that this list and the dump share.
    pub(crate) snapshot: String,
    /// The tables whose rows must be in the dump.
    pub(crate) tables: Vec<Expected>,
    /// How many large objects must be in it.
    pub(crate) large_objects: u64,
    /// The extensions.
    pub(crate) extensions: Vec<Extension>,
    /// The program that will dump it, in its own words.
    pub(crate) dump_version: String,
}

/// A database that can be backed up.
pub(crate) trait Source {
    /// Looks at the database, keeps the moment, and makes sure that it can be dumped in this shape.
    /// Writes nothing.
    fn observe(&mut self, shape: &Shape) -> impl Future<Output = Result<Facts, Error>> + Send;

    /// Starts to dump the database as it was at that moment: to its output, or, for a directory,
    /// into the directory `into`, which is not there yet.
    fn dump(&mut self, facts: &Facts, shape: &Shape, into: Option<&Path>)
    -> Result<Running, Error>;

    /// Starts to read an archive that was dumped, the directory `archive` or what comes through its
    /// input, and to write it out as SQL: what a restore would do.
    fn read(&mut self, archive: Option<&Path>) -> Result<Running, Error>;
}
