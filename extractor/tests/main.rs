//! The built program, run on directories, a real PostgreSQL, and under faults.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::disallowed_methods,
    reason = "these are tests: helpers may fail loudly, and write files without ceremony"
)]

mod beside;
mod crash;
mod once;
mod postgres;
mod replaced;
mod restore;
mod restore_refused;
mod run;
mod support;
mod tls;
