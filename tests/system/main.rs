//! The system tests: one program, a module for each theme.

mod admin;
mod big;
mod chain;
mod classes;
mod clock;
mod closed;
mod containers;
mod contention;
mod crash;
mod daemon;
mod keys;
mod ledger;
mod logs;
mod matrix;
mod powercut;
mod private;
mod promise;
mod races;
mod reference;
mod sandbox;
mod scrub;
mod shell;
mod start;
mod tidy;
mod verdicts;
mod verify;
