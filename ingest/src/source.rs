//! What the agent asks of a database: what is in it at one moment, and a stream of just that.
//!
//! There is one implementation, [`postgres`]; the seam is where another would fit.

pub(crate) mod child;
pub(crate) mod client;
pub(crate) mod postgres;

use std::future::Future;

use self::child::Dump;
use crate::error::Error;
use crate::manifest::Extension;
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
    /// The extensions.
    pub(crate) extensions: Vec<Extension>,
    /// The program that will dump it, in its own words.
    pub(crate) dump_version: String,
}

/// A database that can be backed up.
pub(crate) trait Source {
    /// Looks at the database, keeps the moment, and makes sure that it can be dumped. Writes nothing.
    fn observe(&mut self) -> impl Future<Output = Result<Facts, Error>> + Send;

    /// Starts to stream the database as it was at that moment.
    fn dump(&mut self, facts: &Facts) -> Result<Dump, Error>;
}
