//! `worm`: mounts the write-once file system and is the admin's hand.

mod alarms;
mod bare;
mod cli;
mod daemon;
mod guard;
mod keeper;
mod list;
mod logging;
mod mount;
mod mountinfo;
mod outcome;
mod private;
mod run_file;
mod sandbox;
mod target;
mod umount;
mod verify;
mod wait;
mod watch;

use std::process::ExitCode;

use clap::Parser as _;

use cli::Cli;
use cli::Command;

fn main() -> ExitCode {
    let cli = Cli::parse();
    let done = match cli.command {
        Command::Mount(args) => mount::run(&args),
        Command::Umount(args) => umount::run(&args),
        Command::Guard(args) => guard::run(&args),
        Command::Keep(args) => keeper::run(&args),
        Command::Ls(args) => list::files(&args),
        Command::Status(args) => list::status(&args),
        Command::Verify(args) => verify::run(&args),
        Command::Wait(args) => wait::run(&args),
    };
    outcome::report(done)
}
