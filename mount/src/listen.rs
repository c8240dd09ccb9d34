//! Takes connections on a socket, at most so many at a time, each on a thread of its own and for
//! a bounded time. Whoever connects cannot hold up the mount, nor anybody else for long.

pub(crate) mod unix;

use std::io;
use std::io::Read;
use std::io::Write;
use std::net::TcpListener;
use std::net::TcpStream;
use std::os::fd::AsFd;
use std::os::fd::BorrowedFd;
use std::os::unix::net::UnixListener;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;
use std::time::Duration;
use std::time::Instant;

use rustix::event::PollFd;
use rustix::event::PollFlags;

/// The most connections at a time; one more is closed at once.
const CONNECTIONS_MAX: usize = 16;
/// How long somebody may take to ask, and then to take the answer.
const PATIENCE: Duration = Duration::from_secs(5);
/// The pause after a connection could not be taken, for want of descriptors for example.
const PAUSE: Duration = Duration::from_millis(100);
/// How long the end waits for answers that are on their way.
const LAST_ANSWERS: Duration = Duration::from_secs(2);

/// A socket that listens.
#[derive(Debug)]
pub(crate) enum Listener {
    Unix(UnixListener),
    Tcp(TcpListener),
}

/// Somebody who has connected. Reading and writing end with an error when [`PATIENCE`] is over.
#[derive(Debug)]
pub(crate) struct Connection {
    stream: Stream,
    deadline: Instant,
}

#[derive(Debug)]
enum Stream {
    Unix(UnixStream),
    Tcp(TcpStream),
}

impl Listener {
    fn accept(&self) -> io::Result<Connection> {
        let stream = match self {
            Self::Unix(listener) => Stream::Unix(listener.accept()?.0),
            Self::Tcp(listener) => Stream::Tcp(listener.accept()?.0),
        };
        // Whether the listener's own setting is inherited differs from system to system.
        match &stream {
            Stream::Unix(stream) => stream.set_nonblocking(false)?,
            Stream::Tcp(stream) => stream.set_nonblocking(false)?,
        }
        Ok(Connection { stream, deadline: Instant::now() + PATIENCE })
    }

    fn set_nonblocking(&self) -> io::Result<()> {
        match self {
            Self::Unix(listener) => listener.set_nonblocking(true),
            Self::Tcp(listener) => listener.set_nonblocking(true),
        }
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Unix(listener) => listener.as_fd(),
            Self::Tcp(listener) => listener.as_fd(),
        }
    }
}

impl AsFd for Connection {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match &self.stream {
            Stream::Unix(stream) => stream.as_fd(),
            Stream::Tcp(stream) => stream.as_fd(),
        }
    }
}

impl Connection {
    /// The question was read and what it asks for is done: the answer has its own time.
    pub(crate) fn answering(&mut self) {
        self.deadline = Instant::now() + PATIENCE;
    }

    fn left(&self) -> io::Result<Option<Duration>> {
        let left = self.deadline.saturating_duration_since(Instant::now());
        if left.is_zero() { Err(io::ErrorKind::TimedOut.into()) } else { Ok(Some(left)) }
    }
}

impl Read for Connection {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = self.left()?;
        match &mut self.stream {
            Stream::Unix(stream) => {
                stream.set_read_timeout(left)?;
                stream.read(buffer)
            }
            Stream::Tcp(stream) => {
                stream.set_read_timeout(left)?;
                stream.read(buffer)
            }
        }
    }
}

impl Write for Connection {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let left = self.left()?;
        match &mut self.stream {
            Stream::Unix(stream) => {
                stream.set_write_timeout(left)?;
                stream.write(bytes)
            }
            Stream::Tcp(stream) => {
                stream.set_write_timeout(left)?;
                stream.write(bytes)
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Somebody at work on what comes in.
#[derive(Debug)]
pub(crate) struct Door {
    /// Closed to end it.
    stop: io::PipeWriter,
    thread: JoinHandle<()>,
    open: Arc<AtomicUsize>,
}

impl Door {
    /// Hands each connection to `serve`, on threads called `name`.
    pub(crate) fn open(
        name: &'static str,
        listener: Listener,
        serve: impl Fn(Connection) + Send + Sync + 'static,
    ) -> io::Result<Self> {
        listener.set_nonblocking()?;
        let (stopped, stop) = io::pipe()?;
        let open = Arc::new(AtomicUsize::new(0));
        let (count, serve) = (Arc::clone(&open), Arc::new(serve));
        let run = move || {
            while wait(&listener, &stopped) {
                match listener.accept() {
                    Ok(connection) => admit(name, connection, &count, &serve),
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                    Err(error) => {
                        tracing::warn!(%error, name, "a connection was not taken");
                        std::thread::sleep(PAUSE);
                    }
                }
            }
        };
        let thread = std::thread::Builder::new().name(name.to_owned()).spawn(run)?;
        Ok(Self { stop, thread, open })
    }

    /// Takes no more connections, and lets those at work finish.
    pub(crate) fn close(self) {
        drop(self.stop);
        if self.thread.join().is_err() {
            tracing::error!("the thread that takes connections panicked");
        }
        let deadline = Instant::now() + LAST_ANSWERS;
        while self.open.load(Ordering::Acquire) > 0 && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

/// Waits for a connection. False: there will be no more.
fn wait(listener: &Listener, stopped: &io::PipeReader) -> bool {
    let mut polled = [PollFd::new(listener, PollFlags::IN), PollFd::new(stopped, PollFlags::IN)];
    match rustix::event::poll(&mut polled, None) {
        Ok(_) => polled[1].revents().is_empty(),
        Err(rustix::io::Errno::INTR) => true,
        Err(error) => {
            tracing::error!(%error, "connections are not taken any more");
            false
        }
    }
}

/// Counts one less when it goes.
struct Leave(Arc<AtomicUsize>);

impl Drop for Leave {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

fn admit(
    name: &str,
    connection: Connection,
    open: &Arc<AtomicUsize>,
    serve: &Arc<impl Fn(Connection) + Send + Sync + 'static>,
) {
    let leave = Leave(Arc::clone(open));
    if leave.0.fetch_add(1, Ordering::AcqRel) >= CONNECTIONS_MAX {
        tracing::warn!(name, "too many connections");
        return;
    }
    let serve = Arc::clone(serve);
    let run = move || {
        let _leave = leave;
        serve(connection);
    };
    if let Err(error) = std::thread::Builder::new().name(name.to_owned()).spawn(run) {
        tracing::warn!(%error, name, "no thread for a connection");
    }
}
