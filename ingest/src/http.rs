//! `/livez`, `/readyz` and `/metrics` of a service, for probes and for Prometheus.
//!
//! Off unless asked for, and on this machine only: there is no password. It has a thread of its own
//! and never stands in the way of a backup: so many connections, for so long, and what waits for a
//! disk is waited for no longer than a probe has patience.

mod bounded;

use std::net::SocketAddr;
use std::os::unix::fs::FileTypeExt;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use axum::response::Response;
use axum::routing::get;
use tokio::sync::Mutex;

use self::bounded::Bounded;
use crate::error::Error;

/// What Prometheus wants to hear that it gets.
const METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
/// A disk that does not answer in this time makes us not ready.
const READY_PATIENCE: Duration = Duration::from_secs(5);
/// Reading the numbers of all that is sealed may take so long.
const METRICS_PATIENCE: Duration = Duration::from_secs(30);

/// Where it listens.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Address {
    /// A loopback address and port.
    Tcp(SocketAddr),
    /// A unix socket.
    Unix(PathBuf),
}

impl Address {
    /// Reads `127.0.0.1:9187` or `unix:/PATH`. Nothing that other machines can reach.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        if let Some(path) = text.strip_prefix("unix:") {
            return path.starts_with('/').then(|| Self::Unix(PathBuf::from(path)));
        }
        let address: SocketAddr = text.parse().ok()?;
        address.ip().is_loopback().then_some(Self::Tcp(address))
    }
}

/// What a service says about itself.
pub trait Health: Send + Sync + 'static {
    /// Whether its loop turns; otherwise why it does not. Waits for nothing.
    ///
    /// # Errors
    /// The reason.
    fn alive(&self) -> Result<(), String>;

    /// Whether a backup could be made now; otherwise why not. May wait for a disk.
    ///
    /// # Errors
    /// The reason.
    fn ready(&self) -> Result<(), String>;

    /// Its numbers. May wait for a disk.
    ///
    /// # Errors
    /// The reason why there are none.
    fn metrics(&self) -> Result<String, String>;
}

/// Who is asked, and whose turn it is to wait for a disk.
#[derive(Clone)]
struct Asked {
    health: Arc<dyn Health>,
    ready: Arc<Mutex<()>>,
    metrics: Arc<Mutex<()>>,
}

/// A bound address. A socket goes with it.
#[derive(Debug)]
pub struct Door {
    listener: Option<Listener>,
    socket: Option<PathBuf>,
}

#[derive(Debug)]
enum Listener {
    Tcp(std::net::TcpListener),
    Unix(std::os::unix::net::UnixListener),
}

impl Door {
    /// Binds the address. A socket that an earlier process left is replaced.
    ///
    /// # Errors
    /// [`Error::Usage`] when it cannot be had.
    pub fn open(address: &Address) -> Result<Self, Error> {
        let failed = |shown: String| {
            move |source: std::io::Error| {
                Error::Usage(format!(
                    "could not listen at {shown} ({source}): choose another place by --listen"
                ))
            }
        };
        match address {
            Address::Tcp(address) => {
                let failed = failed(address.to_string());
                let listener = std::net::TcpListener::bind(address)
                    .and_then(|listener| listener.set_nonblocking(true).map(|()| listener));
                let listener = listener.map_err(failed)?;
                if let Ok(address) = listener.local_addr() {
                    tracing::info!(%address, "health and metrics");
                }
                Ok(Self { listener: Some(Listener::Tcp(listener)), socket: None })
            }
            Address::Unix(path) => {
                let listener = bind(path).map_err(failed(path.display().to_string()))?;
                Ok(Self { listener: Some(Listener::Unix(listener)), socket: Some(path.clone()) })
            }
        }
    }

    /// Answers, on a thread of its own, for as long as the process lives.
    ///
    /// # Errors
    /// [`Error::Internal`] when there is no thread.
    pub fn serve(&mut self, health: Arc<dyn Health>) -> Result<(), Error> {
        let internal = |error: std::io::Error| Error::Internal(error.to_string());
        let Some(listener) = self.listener.take() else { return Ok(()) };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(internal)?;
        let answer = move || {
            if let Err(error) = runtime.block_on(answer(listener, health)) {
                tracing::warn!(%error, "health and metrics are not served any more");
            }
            // A disk that a last answer waits for must keep nobody.
            runtime.shutdown_background();
        };
        std::thread::Builder::new().name("health".to_owned()).spawn(answer).map_err(internal)?;
        Ok(())
    }
}

impl Drop for Door {
    fn drop(&mut self) {
        if let Some(path) = &self.socket
            && let Err(error) = std::fs::remove_file(path)
        {
            tracing::debug!(%error, "the socket stays");
        }
    }
}

/// Binds a socket for this user and group. A dead one is replaced; a living one is not, nor anything
/// that is no socket.
fn bind(path: &Path) -> std::io::Result<std::os::unix::net::UnixListener> {
    use std::os::unix::net::UnixListener;
    use std::os::unix::net::UnixStream;
    match path.symlink_metadata() {
        Ok(there) if !there.file_type().is_socket() => {
            return Err(std::io::Error::other("there is something that is no socket"));
        }
        Ok(_) if UnixStream::connect(path).is_ok() => {
            return Err(std::io::Error::other("another process listens there"));
        }
        Ok(_) => std::fs::remove_file(path)?,
        Err(_absent) => {}
    }
    let listener = UnixListener::bind(path)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o660))?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

async fn answer(listener: Listener, health: Arc<dyn Health>) -> std::io::Result<()> {
    let asked = Asked { health, ready: Arc::default(), metrics: Arc::default() };
    let router = Router::new()
        .route("/livez", get(livez))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .with_state(asked);
    match listener {
        Listener::Tcp(listener) => {
            let listener = tokio::net::TcpListener::from_std(listener)?;
            axum::serve(Bounded::new(listener), router).await
        }
        Listener::Unix(listener) => {
            let listener = tokio::net::UnixListener::from_std(listener)?;
            axum::serve(Bounded::new(listener), router).await
        }
    }
}

async fn livez(State(asked): State<Asked>) -> Response {
    verdict(asked.health.alive().map(|()| "alive".to_owned()))
}

async fn readyz(State(asked): State<Asked>) -> Response {
    if let Err(why) = asked.health.alive() {
        return verdict(Err(why));
    }
    let health = asked.health;
    let ready = patiently(READY_PATIENCE, asked.ready, move || health.ready()).await;
    verdict(ready.map(|()| "ready".to_owned()))
}

async fn metrics(State(asked): State<Asked>) -> Response {
    let health = asked.health;
    match patiently(METRICS_PATIENCE, asked.metrics, move || health.metrics()).await {
        Ok(text) => ([(CONTENT_TYPE, METRICS)], text).into_response(),
        Err(why) => verdict(Err(why)),
    }
}

/// Asks on a thread that may wait for a disk: one at a time, so that a silent disk takes one.
async fn patiently<T: Send + 'static>(
    patience: Duration,
    turn: Arc<Mutex<()>>,
    ask: impl FnOnce() -> Result<T, String> + Send + 'static,
) -> Result<T, String> {
    let asking = async {
        let turn = turn.lock_owned().await;
        let ask = move || {
            let _turn = turn;
            ask()
        };
        tokio::task::spawn_blocking(ask).await.unwrap_or_else(|error| Err(error.to_string()))
    };
    match tokio::time::timeout(patience, asking).await {
        Ok(answer) => answer,
        Err(_elapsed) => Err(format!("no answer in {} s: does the disk?", patience.as_secs())),
    }
}

fn verdict(result: Result<String, String>) -> Response {
    match result {
        Ok(word) => (StatusCode::OK, format!("{word}\n")).into_response(),
        Err(why) => (StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n")).into_response(),
    }
}

/// Asks the service at `address` for `path`, as a probe without curl.
///
/// # Errors
/// What it answered, or why nobody did.
pub fn ask(address: &Address, path: &str) -> Result<String, String> {
    let asked = match address {
        Address::Tcp(address) => std::net::TcpStream::connect_timeout(address, READY_PATIENCE)
            .and_then(|stream| {
                stream.set_read_timeout(Some(READY_PATIENCE * 2))?;
                exchange(stream, path)
            }),
        Address::Unix(socket) => {
            std::os::unix::net::UnixStream::connect(socket).and_then(|stream| {
                stream.set_read_timeout(Some(READY_PATIENCE * 2))?;
                exchange(stream, path)
            })
        }
    };
    let answer = asked.map_err(|error| format!("the service does not answer: {error}"))?;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    match head.split(' ').nth(1) {
        Some("200") => Ok(body.trim_end().to_owned()),
        Some(_) | None => Err(body.trim_end().to_owned()),
    }
}

fn exchange(
    mut stream: impl std::io::Read + std::io::Write,
    path: &str,
) -> std::io::Result<String> {
    write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Alive, with a disk that answers when the test says so.
    struct Ill(std::sync::Mutex<std::sync::mpsc::Receiver<()>>);

    impl Health for Ill {
        fn alive(&self) -> Result<(), String> {
            Ok(())
        }

        fn ready(&self) -> Result<(), String> {
            Err("the mount is gone".to_owned())
        }

        fn metrics(&self) -> Result<String, String> {
            self.0.lock().unwrap().recv().unwrap();
            Ok("# EOF\n".to_owned())
        }
    }

    #[test]
    fn only_this_machine_can_ask() {
        for good in ["127.0.0.1:9187", "[::1]:9187", "unix:/run/worm/ingest.sock"] {
            assert!(Address::parse(good).is_some(), "{good}");
        }
        for wrong in ["0.0.0.0:9187", "192.0.2.1:1", "localhost:9187", "9187", "unix:x", ""] {
            assert_eq!(Address::parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn probes_hear_why_it_is_not_ready_while_the_numbers_wait_for_a_disk() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("socket");
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        let address = Address::Unix(path.clone());
        let mut door = Door::open(&address).unwrap();
        let (disk, waits) = std::sync::mpsc::channel();
        door.serve(Arc::new(Ill(std::sync::Mutex::new(waits)))).unwrap();
        assert!(Door::open(&address).is_err(), "it is in use");
        let there = address.clone();
        let numbers = std::thread::spawn(move || ask(&there, "/metrics"));
        // More than are let in at a time.
        for _ in 0..40 {
            assert_eq!(ask(&address, "/livez"), Ok("alive".to_owned()));
        }
        assert_eq!(ask(&address, "/readyz"), Err("the mount is gone".to_owned()));
        assert_eq!(ask(&address, "/other"), Err(String::new()));
        disk.send(()).unwrap();
        assert_eq!(numbers.join().unwrap(), Ok("# EOF".to_owned()));
        drop(door);
        assert!(!path.exists());
    }
}
