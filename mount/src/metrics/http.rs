//! As much of HTTP/1.1 as one `GET` needs (RFC 9112): reads the head of one request, answers,
//! closes.

use std::io;
use std::io::Read as _;
use std::io::Write as _;

use crate::listen::Connection;

/// The longest head of a request, in bytes.
const HEAD_BYTES_MAX: usize = 8 * 1024;

/// Answers one request.
pub(super) fn answer(mut connection: Connection, text: impl FnOnce() -> String) {
    let head = match head(&mut connection) {
        Ok(head) => head,
        Err(error) => {
            tracing::debug!(%error, "no request");
            return;
        }
    };
    let mut words = head.split(|byte| *byte == b' ');
    let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let path = target.split(|byte| *byte == b'?').next().unwrap_or_default();
    let (status, body) = match (method, path) {
        (b"GET", b"/metrics") => ("200 OK", text()),
        (b"GET", _) => ("404 Not Found", "the numbers are at /metrics\n".to_owned()),
        _ => ("405 Method Not Allowed\r\nAllow: GET", "only GET\n".to_owned()),
    };
    connection.answering();
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: text/plain; version=0.0.4; charset=utf-8\r\n\
         Content-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    let sent =
        connection.write_all(head.as_bytes()).and_then(|()| connection.write_all(body.as_bytes()));
    if let Err(error) = sent {
        tracing::debug!(%error, "the numbers were not taken");
    }
}

/// Everything up to the empty line.
fn head(connection: &mut Connection) -> io::Result<Vec<u8>> {
    let mut head = Vec::new();
    let mut piece = [0; 1024];
    while head.len() < HEAD_BYTES_MAX {
        match connection.read(&mut piece)? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            bytes => head.extend_from_slice(&piece[..bytes]),
        }
        if head.windows(4).any(|end| end == b"\r\n\r\n") {
            return Ok(head);
        }
    }
    Err(io::Error::other("the head of the request is too long"))
}
