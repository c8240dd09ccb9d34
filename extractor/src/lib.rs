//! The extractor: reads the read-only view, mirrors what is sealed, and restores it.
//!
//! ```text
//! once:     listing -> catalog -> plan -> source -> mirror (copy, durable) -> audit
//! run:      once, again and again -> health
//! restore:  listing -> catalog -> restore: verify, target, server, stream (sql) -> psql -> audit
//! ```
//!
//! `catalog`, `plan`, `proof`, `exit`, `health`, `audit::chain`, `restore::sql`, `restore::target` and
//! `restore::version` are pure. Nothing here ever replaces a file of the mirror or changes one in the view, and nothing
//! knows worm-fs but by its directories and attributes.

pub mod audit;
pub mod cancel;
pub mod catalog;
pub mod cli;
pub mod config;
mod copy;
mod durable;
pub mod error;
pub mod exit;
pub mod health;
mod listing;
mod mirror;
pub mod once;
pub mod plan;
mod progress;
pub mod proof;
pub mod restore;
pub mod run;
mod source;
