//! `/metrics`: the store's numbers for Prometheus, read by one `GET`.
//!
//! Off unless asked for, and never beyond this machine: there is no password. The numbers are
//! taken anew for each request, so a gauge is back at zero when its reason is gone.

mod http;
mod text;

use std::io;
use std::net::SocketAddr;
use std::net::TcpListener;
use std::path::Path;
use std::path::PathBuf;
use std::str::FromStr;

use crate::control::answer::Daemon;
use crate::listen::Door;
use crate::listen::Listener;
use crate::listen::unix;
use crate::outcome::Failure;
use crate::outcome::Outcome;

/// Where the numbers are to be had.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Address {
    /// A loopback address and port.
    Tcp(SocketAddr),
    /// A unix socket.
    Unix(PathBuf),
}

impl Address {
    /// The socket, if it is one.
    pub(crate) fn path(&self) -> Option<&Path> {
        match self {
            Self::Tcp(_) => None,
            Self::Unix(path) => Some(path),
        }
    }
}

impl FromStr for Address {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Some(path) = text.strip_prefix("unix:") {
            let path = PathBuf::from(path);
            return match path.is_absolute() {
                true => Ok(Self::Unix(path)),
                false => Err("write the whole path: unix:/run/worm/metrics.sock".to_owned()),
            };
        }
        let address: SocketAddr = text
            .parse()
            .map_err(|_not_one| "write 127.0.0.1:PORT, [::1]:PORT or unix:/PATH".to_owned())?;
        if address.ip().is_loopback() {
            Ok(Self::Tcp(address))
        } else {
            Err("only loopback addresses: there is no password, let a proxy ask for one".to_owned())
        }
    }
}

/// Binds an address.
pub(crate) fn bind(address: &Address) -> Outcome<Listener> {
    match address {
        Address::Tcp(address) => {
            let listener = TcpListener::bind(address)
                .map_err(Failure::doing(format_args!("serve metrics at {address}")))?;
            if let Ok(address) = listener.local_addr() {
                tracing::info!(%address, "metrics");
            }
            Ok(Listener::Tcp(listener))
        }
        Address::Unix(path) => Ok(Listener::Unix(unix::bind(path, 0o660, "--metrics")?)),
    }
}

/// Serves the numbers of a daemon.
pub(crate) fn serve(listener: Listener, daemon: Daemon) -> io::Result<Door> {
    let answer = move |connection| http::answer(connection, || text::of(&daemon.status().status));
    Door::open("metrics", listener, answer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_this_machine_can_ask() {
        for good in ["127.0.0.1:9100", "127.9.9.9:1", "[::1]:9100", "unix:/run/worm/m.sock"] {
            assert!(good.parse::<Address>().is_ok(), "{good}");
        }
        for (wrong, says) in [
            ("0.0.0.0:9100", "loopback"),
            ("[::]:9100", "loopback"),
            ("192.0.2.1:9100", "loopback"),
            ("localhost:9100", "127.0.0.1"),
            ("9100", "127.0.0.1"),
            ("unix:metrics", "whole path"),
        ] {
            let error = wrong.parse::<Address>().unwrap_err();
            assert!(error.contains(says), "{wrong}: {error}");
        }
    }
}
