//! `worm wait`: for scripts that cannot commit and want to know when a file is sealed.

use std::time::Duration;
use std::time::Instant;

use rustix::io::Errno;

use crate::cli::WaitArgs;
use crate::outcome::Exit;
use crate::outcome::Failure;
use crate::outcome::Outcome;
use crate::outcome::say;

/// The pause between two looks.
const PAUSE: Duration = Duration::from_millis(20);

/// Runs `worm wait`.
pub(crate) fn run(args: &WaitArgs) -> Outcome {
    let file = &args.file;
    let fail = |exit, what: &str| Failure::new(exit, format_args!("{}: {what}", file.display()));
    let deadline = Instant::now() + args.timeout;
    loop {
        match attribute(args, "user.worm.sha256") {
            Ok(sha256) => {
                say(sha256);
                return Ok(());
            }
            Err(Errno::NOENT) => {
                return Err(fail(Exit::NotFound, "it is not there, or it was never finished"));
            }
            Err(Errno::AGAIN) => {}
            // Still being written, or no file of ours at all.
            Err(Errno::NODATA | Errno::OPNOTSUPP) => match attribute(args, "user.worm.state") {
                Ok(state) if state == "incomplete" => {
                    return Err(fail(Exit::Failed, "it was never finished"));
                }
                Ok(state) if state == "appending" => {
                    return Err(fail(Exit::Failed, "it is a log, which is never sealed"));
                }
                Ok(_) => {}
                Err(Errno::NOENT) => {
                    return Err(fail(Exit::NotFound, "it is not there, or it was never finished"));
                }
                Err(_) => return Err(fail(Exit::NotWriteOnce, "it is not a file of a worm mount")),
            },
            Err(errno) => return Err(fail(Exit::Failed, &errno.to_string())),
        }
        if Instant::now() >= deadline {
            return Err(fail(Exit::Failed, "it is not sealed yet; somebody still has it open"));
        }
        std::thread::sleep(PAUSE);
    }
}

fn attribute(args: &WaitArgs, name: &str) -> Result<String, Errno> {
    let mut value = [0; 256];
    let length = rustix::fs::getxattr(&args.file, name, &mut value)?;
    Ok(String::from_utf8_lossy(&value[..length]).into_owned())
}
