//! `worm`, the program: it mounts the write-once file system and is the admin's hand. What is read
//! from outside this crate is its command line, which man pages and completions are made of.

mod alarms;
mod bare;
mod cli;
mod clock;
mod control;
mod daemon;
mod doors;
mod expire;
mod fstab;
mod guard;
mod hold;
mod keeper;
mod key;
mod list;
mod listen;
mod log;
mod logging;
mod metrics;
mod mount;
mod mountinfo;
mod names;
mod outcome;
mod places;
mod private;
mod retention;
mod run_file;
mod sandbox;
mod scrubber;
mod service;
mod status;
mod subject;
mod target;
mod umount;
mod verify;
mod wait;
mod watch;
mod why;
mod words;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::CommandFactory as _;
use clap::Parser as _;

use cli::Cli;
use cli::Command;
use fstab::Asked;

/// What of mount(8) stands for wrong arguments, and for everything else (mount(8), "Exit status").
const MOUNT_USAGE: u8 = 1;
const MOUNT_FAILED: u8 = 32;

/// Runs the program.
#[must_use]
pub fn main() -> ExitCode {
    let mut words = std::env::args_os();
    let program = words.next().unwrap_or_default();
    if !fstab::is_called(&program) {
        return outcome::report(run([program].into_iter().chain(words).collect()));
    }
    let code = match fstab::translate(words) {
        Ok(Asked::Nothing) => return ExitCode::SUCCESS,
        Ok(Asked::Run(words)) => match run(words) {
            Ok(()) => return ExitCode::SUCCESS,
            Err(failure) => {
                outcome::complain(&failure.message);
                if failure.exit == outcome::Exit::Usage { MOUNT_USAGE } else { MOUNT_FAILED }
            }
        },
        Err(message) => {
            outcome::complain(&message);
            MOUNT_USAGE
        }
    };
    ExitCode::from(code)
}

/// The command line.
#[must_use]
pub fn command() -> clap::Command {
    Cli::command()
}

/// Does what these words say, the first of which is the program's name.
fn run(words: Vec<OsString>) -> outcome::Outcome {
    match Cli::parse_from(&words).command {
        Command::Mount(args) => mount::run(&args, &words),
        Command::Umount(args) => umount::run(&args),
        Command::Guard(args) => guard::run(&args),
        Command::Keep(args) => keeper::run(&args),
        Command::Ls(args) => list::files(&args),
        Command::Status(args) => status::run(&args),
        Command::Why(args) => why::why(&args),
        Command::Show(args) => why::show(&args),
        Command::Log(args) => log::run(&args),
        Command::Hold(args) => hold::run(&args),
        Command::Release(args) => retention::release(&args),
        Command::Extend(args) => retention::extend(&args),
        Command::Clock(args) => clock::run(&args),
        Command::Expire(args) => expire::run(&args),
        Command::Key(args) => key::run(&args),
        Command::Verify(args) => verify::run(&args),
        Command::Wait(args) => wait::run(&args),
    }
}
