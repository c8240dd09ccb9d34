//! A write-once file system: a file can be created and closed once; every later change is
//! refused until its retention ends, for root too.
//!
//! The path of a request: `fuse` (decides nothing) -> `fs` (finds what is meant) ->
//! [`policy`] (says yes or no, pure) -> `store` (does it, judges nothing). What is alive is a
//! fold over the ledger ([`catalog`]); what a line of it looks like is in [`record`].

pub mod catalog;
pub mod clock;
mod committer;
pub mod config;
mod digest;
pub mod error;
pub mod fs;
pub mod fuse;
pub mod policy;
pub mod record;
pub mod refusals;
pub mod report;
pub mod store;
mod sys;
pub mod verify;
