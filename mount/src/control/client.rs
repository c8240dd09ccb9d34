//! Asks a daemon.

use std::io;
use std::io::BufRead as _;
use std::io::BufReader;
use std::io::Read as _;
use std::io::Write as _;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use serde::de::DeserializeOwned;

use super::ANSWER_BYTES_MAX;
use super::Answer;
use super::Ask;
use super::Question;
use super::Reply;
use super::VERSION;
use crate::outcome::Exit;
use crate::outcome::Failure;
use crate::outcome::Outcome;

/// How long an answer may take: a disk that is busy syncing needs its time.
const PATIENCE: Duration = Duration::from_secs(120);

/// Asks the daemon at a socket. `None`: no daemon is there.
pub(crate) fn ask<T: DeserializeOwned>(socket: &Path, ask: Ask) -> Outcome<Option<T>> {
    let stream = match UnixStream::connect(socket) {
        Ok(stream) => stream,
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused
            ) =>
        {
            return Ok(None);
        }
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            let message = "only root and the daemon's own user may use it";
            return Err(Failure::new(
                Exit::Preflight,
                format_args!("{}: {message}", socket.display()),
            ));
        }
        Err(error) => {
            return Err(Failure::doing(format_args!("reach the daemon at {}", socket.display()))(
                error,
            ));
        }
    };
    let line = exchange(stream, &Question { version: VERSION, ask })
        .map_err(Failure::doing(format_args!("talk to the daemon at {}", socket.display())))?;
    if line.is_empty() {
        let message = "the daemon did not answer: it is ending, or too many ask at once: try again";
        return Err(Failure::new(Exit::Busy, message));
    }
    let reply: Reply<T> = serde_json::from_str(&line).map_err(|error| {
        let message = "use the worm of the daemon's version";
        Failure::new(
            Exit::Preflight,
            format_args!("the answer is not understood ({error}): {message}"),
        )
    })?;
    match reply.answer {
        Answer::Done(answer) => Ok(Some(answer)),
        Answer::Failed { exit, message } => Err(Failure::new(Exit::of(exit), message)),
    }
}

fn exchange(mut stream: UnixStream, question: &Question) -> io::Result<String> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let mut line = serde_json::to_vec(question)?;
    line.push(b'\n');
    match stream.write_all(&line) {
        Ok(()) => {}
        // Turned away before it could ask.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(String::new()),
        Err(error) => return Err(error),
    }
    let mut answer = String::new();
    match BufReader::new(stream.take(ANSWER_BYTES_MAX)).read_line(&mut answer) {
        Ok(_) => Ok(answer),
        Err(error) if error.kind() == io::ErrorKind::ConnectionReset => Ok(String::new()),
        Err(error) => Err(error),
    }
}
