//! The built agent against a real, throw-away PostgreSQL and a plain directory: what it makes of a
//! good dump, what it refuses before the start, and what a broken dump leaves behind.

#![expect(clippy::panic, clippy::unwrap_used, reason = "helpers of tests may panic, too")]

mod beside;
mod broken;
mod classes;
mod databases;
mod filters;
mod formats;
mod listener;
mod outside;
mod refused;
mod server;
mod service;
mod tls;
mod whole;
mod world;
