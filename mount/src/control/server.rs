//! The daemon's side of the door: who may come in, and reading what they ask.
//!
//! The socket is 0600, and the kernel tells who connected (`SO_PEERCRED`, unix(7)): root and the
//! daemon's own user, nobody else. It must never stand in a place that the agent's container can
//! reach: root in a container without a user namespace of its own is root here, too.

use std::io;
use std::io::BufRead as _;
use std::io::BufReader;
use std::io::Read as _;
use std::io::Write as _;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;
use std::path::Path;

use rustix::fs::Mode;
use rustix::fs::OFlags;
use serde::Deserialize;
use serde_json::Value;
use worm_fs::record::Actor;

use super::Answer;
use super::Ask;
use super::QUESTION_BYTES_MAX;
use super::Question;
use super::Reply;
use super::VERSION;
use crate::listen::Connection;
use crate::listen::Door;
use crate::listen::Listener;
use crate::listen::unix;
use crate::outcome::Exit;
use crate::outcome::Failure;
use crate::outcome::Outcome;

/// A socket that is bound and waits to be served.
#[derive(Debug)]
pub(crate) struct Bound {
    listener: UnixListener,
    /// As it is at the start, so that it stays in reach wherever the daemon withdraws to.
    proc: OwnedFd,
}

impl Bound {
    /// Binds the socket.
    pub(crate) fn new(path: &Path) -> Outcome<Self> {
        let listener = unix::bind(path, 0o600, "--socket")?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let proc = rustix::fs::open("/proc", flags, Mode::empty())
            .map_err(Failure::doing("open /proc"))?;
        Ok(Self { listener, proc })
    }

    /// Answers what is asked with `answer`, which is told who asks.
    pub(crate) fn serve(
        self,
        answer: impl Fn(Actor, Ask) -> Outcome<Value> + Send + Sync + 'static,
    ) -> io::Result<Door> {
        let Self { listener, proc } = self;
        let serve = move |mut connection: Connection| {
            let done = match asked(&mut connection, &proc) {
                Ok(Some((by, ask))) => answer(by, ask),
                Ok(None) => return,
                Err(failure) => {
                    tracing::warn!(message = failure.message, "a question was turned down");
                    Err(failure)
                }
            };
            connection.answering();
            if let Err(error) = send(&mut connection, done) {
                tracing::debug!(%error, "an answer was not taken");
            }
        };
        Door::open("control", Listener::Unix(listener), serve)
    }
}

/// Who asks, and what. `None`: they only looked whether somebody listens.
fn asked(connection: &mut Connection, proc: &OwnedFd) -> Outcome<Option<(Actor, Ask)>> {
    let peer = rustix::net::sockopt::socket_peercred(&*connection)
        .map_err(Failure::doing("find out who asks"))?;
    // Read in any case: with bytes left unread the kernel would not deliver the answer.
    let mut line = Vec::new();
    BufReader::new(connection.take(QUESTION_BYTES_MAX))
        .read_until(b'\n', &mut line)
        .map_err(Failure::doing("read the question"))?;
    let (uid, own) = (peer.uid, rustix::process::geteuid());
    if !uid.is_root() && uid != own {
        let message = format!(
            "uid {} may not use this socket: only root and the daemon's own user may",
            uid.as_raw()
        );
        return Err(Failure::new(Exit::Preflight, message));
    }
    if line.is_empty() {
        return Ok(None);
    }
    let login_uid = login_uid(proc, peer.pid.as_raw_nonzero().get());
    Ok(Some((Actor { uid: uid.as_raw(), login_uid }, question(&line)?)))
}

fn question(line: &[u8]) -> Outcome<Ask> {
    #[derive(Deserialize)]
    struct Version {
        version: u32,
    }
    let wrong = |what: String| {
        Failure::new(Exit::Usage, format_args!("the question is not understood: {what}"))
    };
    if line.last() != Some(&b'\n') {
        return Err(wrong(format!("it is no line of at most {QUESTION_BYTES_MAX} bytes")));
    }
    let Version { version } =
        serde_json::from_slice(line).map_err(|error| wrong(error.to_string()))?;
    if version != VERSION {
        let message = format!(
            "the daemon is worm {} and speaks version {VERSION} at this socket, not {version}: \
             use its worm",
            env!("CARGO_PKG_VERSION")
        );
        return Err(Failure::new(Exit::Preflight, message));
    }
    let Question { ask, .. } =
        serde_json::from_slice(line).map_err(|error| wrong(error.to_string()))?;
    Ok(ask)
}

fn send(connection: &mut Connection, done: Outcome<Value>) -> io::Result<()> {
    let answer = match done {
        Ok(value) => Answer::Done(value),
        Err(Failure { exit, message }) => Answer::Failed { exit: exit as u8, message },
    };
    let mut line = serde_json::to_vec(&Reply { version: VERSION, answer })?;
    line.push(b'\n');
    connection.write_all(&line)
}

/// The user who logged in, see `loginuid` in proc(5): the person behind `sudo`.
pub(crate) fn login_uid(proc: &OwnedFd, pid: i32) -> Option<u32> {
    let path = format!("{pid}/loginuid");
    let file = rustix::fs::openat(proc, path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty());
    let mut text = String::new();
    std::fs::File::from(file.ok()?).take(16).read_to_string(&mut text).ok()?;
    text.trim().parse().ok().filter(|uid| *uid != u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn questions_that_are_none_are_told_what_is_wrong() {
        for (line, exit, says) in [
            (&b"{}\n"[..], Exit::Usage, "version"),
            (b"garbage\n", Exit::Usage, "not understood"),
            (b"\xff\xfe\n", Exit::Usage, "not understood"),
            (b"{\"version\":1,\"ask\":\"status\"}", Exit::Usage, "no line"),
            (b"{\"version\":2,\"ask\":\"status\"}\n", Exit::Preflight, "use its worm"),
            (b"{\"version\":1,\"ask\":\"unseal\"}\n", Exit::Usage, "unseal"),
            (b"{\"version\":1,\"ask\":\"hold\",\"path\":\"../x\"}\n", Exit::Usage, "not valid"),
        ] {
            let failure = question(line).unwrap_err();
            assert_eq!(failure.exit, exit, "{failure:?}");
            assert!(failure.message.contains(says), "{failure:?}");
        }
        assert_eq!(question(b"{\"version\":1,\"ask\":\"status\"}\n").unwrap(), Ask::Status);
    }
}
