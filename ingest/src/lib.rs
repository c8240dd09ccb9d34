//! Agent.
pub mod manifest;
