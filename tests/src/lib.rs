//! The harness of the system tests: real programs, real mounts, a real PostgreSQL.
//!
//! Everything here is bounded, and cleans up after itself when the test panics and when the test
//! process is killed. It panics rather than returning errors: a test has nothing better to do.

pub mod binary;
pub mod compare;
pub mod daemon;
pub mod device;
pub mod engine;
pub mod matrix;
pub mod postgres;
pub mod powercut;
pub mod random;
pub mod session;
pub mod stack;
pub mod watchdog;

/// How often something is tried: `usually` in `make test`, `in_soak` in `make soak`.
#[must_use]
pub fn rounds(usually: usize, in_soak: usize) -> usize {
    if std::env::var_os("WORM_SOAK").is_some() { in_soak } else { usually }
}
