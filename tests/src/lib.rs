//! The harness of the system tests: real programs, real mounts, a real PostgreSQL.
//!
//! Everything here is bounded, and cleans up after itself when the test panics and when the test
//! process is killed. It panics rather than returning errors: a test has nothing better to do.

pub mod binary;
pub mod compare;
pub mod daemon;
pub mod postgres;
pub mod session;
pub mod watchdog;
