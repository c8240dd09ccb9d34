//! PURE: tables by name, as the server stores them and as people read them.

use std::fmt;

/// A table's name in the bytes of the database's own encoding, which is what a dump carries.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub(crate) struct TableName {
    /// Schema, unquoted.
    pub(crate) schema: Vec<u8>,
    /// Table, unquoted.
    pub(crate) table: Vec<u8>,
}

impl fmt::Display for TableName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (schema, table) =
            (String::from_utf8_lossy(&self.schema), String::from_utf8_lossy(&self.table));
        write!(f, "{}.{}", schema.escape_debug(), table.escape_debug())
    }
}

/// A table that the catalogue of the snapshot names.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Table {
    /// As it stands in the dump.
    pub(crate) name: TableName,
    /// Schema in UTF-8.
    pub(crate) schema: String,
    /// Table in UTF-8.
    pub(crate) table: String,
}

/// A table whose rows the dump must hold.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Expected {
    /// The table itself.
    pub(crate) table: Table,
    /// The partitioned table at the top, if it is a partition: `pg_dump` writes the rows of some
    /// partitions (hashed by an enum) under that name, one COPY block for each partition.
    pub(crate) root: Option<Table>,
    /// Its number on the server.
    pub(crate) oid: u32,
    /// Whether it may be missing all the same.
    pub(crate) optional: bool,
    /// Whether it is a configuration table of an extension.
    pub(crate) extension: bool,
    /// Whether row security would hide rows of it from us.
    pub(crate) hidden: bool,
}
