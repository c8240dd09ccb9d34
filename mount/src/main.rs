//! `worm`: mounts the write-once file system and is the admin's hand.

use std::process::ExitCode;

fn main() -> ExitCode {
    worm_mount::main()
}
