//! The system tests: one program, a module for each theme.

mod promise;
mod reference;
mod shell;
mod tidy;
mod verify;
