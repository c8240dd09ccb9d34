//! The backup agent: streams one PostgreSQL database into a write-once directory and seals the file
//! only when it is proven whole.
//!
//! A run goes `cli` (what was typed) -> `settings` (what else was said, and who wins) -> `config` (what
//! it means) -> `job` (which databases, into which classes) -> `backup` (of one database: observe,
//! dump, prove, seal, check, describe). What is decided is decided in pure modules (`stream/scan`, `proof`,
//! `name`, `table`, `manifest`, `schedule`), what is done is done in `source/*`, `stream/pipeline` and `vault`.
//! `worm-ingest run` (`service`) does the same by the clock, and knows from `history` what is sealed.
//! The agent sees the mount as a directory and has no more power over it than any other program.

pub mod audit;
mod backup;
pub mod batch;
mod beside;
mod carry;
pub mod cli;
pub mod config;
pub mod connect;
pub mod doctor;
pub mod error;
pub mod exit;
mod history;
pub mod http;
mod inventory;
pub mod job;
mod list;
mod lock;
pub mod logging;
pub mod look;
pub mod manifest;
pub mod metrics;
pub mod name;
pub mod notify;
mod progress;
mod proof;
pub mod schedule;
pub mod scratch;
pub mod service;
pub mod settings;
mod shape;
mod source;
mod stream;
pub mod summary;
mod table;
mod tripwire;
mod vault;

pub use source::leash;
