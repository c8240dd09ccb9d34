//! `worm-manual DIRECTORY`: writes the man pages of all programs and their commands, and completions
//! for bash, zsh and fish, as a package wants them. They come from the command lines themselves, so
//! they say what `--help` says.

#![allow(clippy::disallowed_methods, reason = "what is lost is made anew")]

use std::fs;
use std::io;
use std::io::Write;
use std::path::Path;
use std::process::ExitCode;

use clap::Command;
use clap::CommandFactory as _;
use clap_complete::Shell;

fn main() -> ExitCode {
    let Some(directory) = std::env::args_os().nth(1) else {
        return complain("usage: worm-manual DIRECTORY");
    };
    match write_all(Path::new(&directory)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => complain(&error.to_string()),
    }
}

fn complain(message: &str) -> ExitCode {
    // With standard error closed there is nobody to tell.
    drop(writeln!(io::stderr(), "worm-manual: {message}"));
    ExitCode::FAILURE
}

fn write_all(directory: &Path) -> io::Result<()> {
    let programs = [
        worm_mount::command(),
        worm_ingest::cli::Cli::command(),
        worm_extractor::cli::Cli::command(),
    ];
    for name in ["man8", "bash", "zsh", "fish"] {
        fs::create_dir_all(directory.join(name))?;
    }
    for program in programs {
        let name = program.get_name().to_owned();
        for (shell, file) in [
            (Shell::Bash, format!("bash/{name}")),
            (Shell::Zsh, format!("zsh/_{name}")),
            (Shell::Fish, format!("fish/{name}.fish")),
        ] {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut program.clone(), &name, &mut script);
            fs::write(directory.join(file), script)?;
        }
        // Names the commands below it, and copies to them what holds everywhere.
        let mut program = program.disable_help_subcommand(true);
        program.build();
        pages(&directory.join("man8"), program)?;
    }
    // For `man mount.worm`.
    fs::write(directory.join("man8/mount.worm.8"), ".so man8/worm-mount.8\n")
}

/// A page for a command, and one for each below it: worm.8, worm-mount.8, ...
fn pages(directory: &Path, command: Command) -> io::Result<()> {
    for below in command.get_subcommands().filter(|below| !below.is_hide_set()) {
        pages(directory, below.clone())?;
    }
    clap_mangen::Man::new(command).section("8").manual("worm").generate_to(directory).map(drop)
}
