//! `worm`: mounts the write-once file system and is the admin's hand.

mod alarms;
mod bare;
mod cli;
mod clock;
mod control;
mod daemon;
mod doors;
mod expire;
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
mod outcome;
mod places;
mod private;
mod retention;
mod run_file;
mod sandbox;
mod scrubber;
mod status;
mod subject;
mod target;
mod umount;
mod verify;
mod wait;
mod watch;
mod why;
mod words;

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
    };
    outcome::report(done)
}
