//! Opens a session with a server, by TLS or without as `sslmode` has it.

use std::error::Error as _;
use std::io;
use std::time::Duration;

use tokio_postgres::Client;
use tokio_postgres::Config;
use tokio_postgres::config::Host;
use tokio_postgres::config::SslMode as Way;
use tokio_postgres::error::SqlState;
use tokio_postgres_rustls::MakeRustlsConnect;

use super::ConnectError;
use super::tls::SslMode;
use super::tls::Tls;
use super::tls::advice;

/// Why there is no session.
#[derive(Debug)]
pub struct Failure {
    /// What kind of failure it is.
    pub kind: FailureKind,
    /// What was heard, on one line.
    pub message: String,
}

/// What kind of failure it is.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum FailureKind {
    /// Our own settings: a certificate that cannot be read.
    Settings,
    /// Nobody answered, or not in time, or not for long.
    Lost,
    /// No TLS where it is demanded, or a certificate that proves nothing.
    Untrusted,
    /// The server said no.
    Refused(SqlState),
}

impl Failure {
    /// What an error of the driver amounts to.
    #[must_use]
    pub fn of(error: &tokio_postgres::Error) -> Self {
        if let Some(answer) = error.as_db_error() {
            let kind = FailureKind::Refused(answer.code().clone());
            return Self { kind, message: answer.message().to_owned() };
        }
        let message = crate::error::chain(error);
        if let Some(broken) = tls_error(error) {
            let message = format!("{message}{}", advice(broken));
            return Self { kind: FailureKind::Untrusted, message };
        }
        // The driver has no other way to tell.
        if message.contains("server does not support TLS") {
            let message = "it does not speak TLS, and sslmode demands it".to_owned();
            return Self { kind: FailureKind::Untrusted, message };
        }
        Self { kind: FailureKind::Lost, message }
    }
}

impl From<ConnectError> for Failure {
    fn from(error: ConnectError) -> Self {
        Self { kind: FailureKind::Settings, message: error.to_string() }
    }
}

/// Opens a session. `limit` holds for each attempt to open one.
///
/// # Errors
/// [`Failure`]
pub async fn open(config: &Config, tls: &Tls, limit: Option<Duration>) -> Result<Client, Failure> {
    let connector = tls.connector()?;
    let socket = config.get_hosts().iter().any(|host| matches!(host, Host::Unix(_)));
    let (first, second) = ways(tls.mode, socket);
    let failure = match attempt(config, &connector, first, limit).await {
        Ok(client) => return Ok(client),
        Err(failure) => failure,
    };
    let Some(second) = second.filter(|_| another_way_may_help(&failure.kind)) else {
        return Err(failure);
    };
    tracing::debug!(message = failure.message, "the first way was refused, trying the other");
    attempt(config, &connector, second, limit).await.map_err(|mut last| {
        if last.message != failure.message {
            last.message = format!("{}; before that: {}", last.message, failure.message);
        }
        last
    })
}

/// What to try first, and what then.
fn ways(mode: SslMode, socket: bool) -> (Way, Option<Way>) {
    match mode {
        // Nobody listens on a socket, and libpq does not encrypt there either.
        _any if socket => (Way::Disable, None),
        SslMode::Disable => (Way::Disable, None),
        SslMode::Allow => (Way::Disable, Some(Way::Require)),
        SslMode::Prefer => (Way::Prefer, Some(Way::Disable)),
        SslMode::Require | SslMode::VerifyCa | SslMode::VerifyFull => (Way::Require, None),
    }
}

/// A rule in `pg_hba.conf` may be for one way only; a handshake may fail where no TLS is needed.
fn another_way_may_help(kind: &FailureKind) -> bool {
    match kind {
        FailureKind::Refused(code) => *code == SqlState::INVALID_AUTHORIZATION_SPECIFICATION,
        FailureKind::Untrusted => true,
        FailureKind::Settings | FailureKind::Lost => false,
    }
}

async fn attempt(
    config: &Config,
    connector: &MakeRustlsConnect,
    way: Way,
    limit: Option<Duration>,
) -> Result<Client, Failure> {
    let mut config = config.clone();
    config.ssl_mode(way);
    let connecting = config.connect(connector.clone());
    let connected = match limit {
        None => connecting.await,
        Some(limit) => tokio::time::timeout(limit, connecting).await.map_err(|_elapsed| {
            Failure { kind: FailureKind::Lost, message: "it does not answer".to_owned() }
        })?,
    };
    let (client, connection) = connected.map_err(|error| Failure::of(&error))?;
    tokio::spawn(async move {
        // What breaks a connection also fails the question that was under way.
        if let Err(error) = connection.await {
            tracing::debug!(%error, "the connection to the database broke");
        }
    });
    Ok(client)
}

/// What TLS itself found wrong, if that is what happened.
fn tls_error(error: &tokio_postgres::Error) -> Option<&rustls::Error> {
    let mut cause = error.source();
    while let Some(next) = cause {
        if let Some(found) = next.downcast_ref::<rustls::Error>() {
            return Some(found);
        }
        if let Some(inner) = next.downcast_ref::<io::Error>().and_then(io::Error::get_ref)
            && let Some(found) = inner.downcast_ref::<rustls::Error>()
        {
            return Some(found);
        }
        cause = next.source();
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_mode_tries_what_libpq_tries() {
        assert_eq!(ways(SslMode::Disable, false), (Way::Disable, None));
        assert_eq!(ways(SslMode::Allow, false), (Way::Disable, Some(Way::Require)));
        assert_eq!(ways(SslMode::Prefer, false), (Way::Prefer, Some(Way::Disable)));
        for mode in [SslMode::Require, SslMode::VerifyCa, SslMode::VerifyFull] {
            assert_eq!(ways(mode, false), (Way::Require, None), "{mode:?}");
        }
        for mode in SslMode::ALL {
            assert_eq!(ways(mode, true), (Way::Disable, None), "{mode:?}");
        }
    }

    #[test]
    fn a_wrong_password_is_not_tried_again() {
        let refused = |code| another_way_may_help(&FailureKind::Refused(code));
        assert!(refused(SqlState::INVALID_AUTHORIZATION_SPECIFICATION));
        assert!(!refused(SqlState::INVALID_PASSWORD));
        assert!(another_way_may_help(&FailureKind::Untrusted));
        assert!(!another_way_may_help(&FailureKind::Lost));
    }
}
