//! TLS to the server, with libpq's meaning of its settings: for our own connection by rustls, for
//! `pg_dump` and `psql` by the same words in their environment.

mod verifier;

use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;

use rustls::ClientConfig;
use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject;
use tokio_postgres_rustls::MakeRustlsConnect;

use self::verifier::Trust;
use self::verifier::Verifier;
pub(super) use self::verifier::advice;
use super::ConnectError;

/// What `sslrootcert=system` stands for: the first of these that is there.
const SYSTEM_ROOTS: [&str; 4] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// libpq's `sslmode`, the weakest first.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum SslMode {
    /// Never TLS.
    Disable,
    /// TLS if the server will not have it otherwise.
    Allow,
    /// TLS if the server can.
    Prefer,
    /// TLS, with whoever answers; with a file of authorities, as [`Self::VerifyCa`].
    Require,
    /// TLS, with a server whose certificate an authority has signed.
    VerifyCa,
    /// The same, and the certificate is for the host that was named.
    VerifyFull,
}

impl SslMode {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::Disable, Self::Allow, Self::Prefer, Self::Require, Self::VerifyCa, Self::VerifyFull];

    /// Its name in URLs and variables.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Disable => "disable",
            Self::Allow => "allow",
            Self::Prefer => "prefer",
            Self::Require => "require",
            Self::VerifyCa => "verify-ca",
            Self::VerifyFull => "verify-full",
        }
    }

    /// The mode of this name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|mode| mode.name() == name)
    }
}

/// What was said about TLS. What is left out is looked for where libpq looks for it.
#[derive(Clone, Debug, Default)]
pub struct Wishes {
    /// `sslmode`.
    pub mode: Option<SslMode>,
    /// `sslrootcert`: the authorities to trust, or the word `system`.
    pub root: Option<PathBuf>,
    /// `sslcert`: our certificate.
    pub certificate: Option<PathBuf>,
    /// `sslkey`: its key.
    pub key: Option<PathBuf>,
    /// Where `~/.postgresql` is.
    pub home: Option<PathBuf>,
}

/// What holds for every connection to one server.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Tls {
    /// How much is demanded.
    pub mode: SslMode,
    /// The authorities to trust.
    root: Option<PathBuf>,
    /// Our certificate and its key, for a server that asks who we are.
    identity: Option<(PathBuf, PathBuf)>,
}

impl Tls {
    /// Finds out which files count. Looks at files but does not read them.
    ///
    /// # Errors
    /// [`ConnectError`] if one that is needed is not there, or a key is for others to read.
    pub fn resolve(wishes: &Wishes) -> Result<Self, ConnectError> {
        let system = wishes.root.as_deref() == Some(Path::new("system"));
        let mode = match wishes.mode {
            None if system => SslMode::VerifyFull,
            None => SslMode::Prefer,
            // Anybody can get a certificate that some authority of the system has signed.
            Some(mode) if system && mode < SslMode::VerifyFull => {
                return Err(ConnectError::NotSupported(
                    "sslrootcert=system needs sslmode=verify-full",
                ));
            }
            Some(mode) => mode,
        };
        if mode == SslMode::Disable {
            return Ok(Self { mode, root: None, identity: None });
        }
        let usual = |name: &str| {
            let path = wishes.home.as_ref().map(|home| home.join(".postgresql").join(name));
            path.filter(|path| path.exists())
        };
        let root = match &wishes.root {
            Some(_) if system => Some(system_roots()?),
            Some(path) => Some(path.clone()),
            None => usual("root.crt"),
        };
        if root.is_none() && mode >= SslMode::VerifyCa {
            return Err(ConnectError::NotSupported(
                "sslmode verify-ca and verify-full need the certificates of the authorities to \
                 trust: name a file by sslrootcert (PGSSLROOTCERT), or put it at \
                 ~/.postgresql/root.crt; sslrootcert=system takes those of the system",
            ));
        }
        let identity = match wishes.certificate.clone().or_else(|| usual("postgresql.crt")) {
            None => None,
            Some(certificate) => {
                let key = wishes.key.clone().or_else(|| usual("postgresql.key"));
                let key = key.ok_or(ConnectError::NotSupported(
                    "there is a client certificate without its key: name the key by sslkey \
                     (PGSSLKEY), or put it at ~/.postgresql/postgresql.key",
                ))?;
                check_key(&key)?;
                Some((certificate, key))
            }
        };
        Ok(Self { mode, root, identity })
    }

    /// The variables by which libpq does the same.
    #[must_use]
    pub fn environment(&self) -> Vec<(&'static str, String)> {
        let text = |path: &Path| path.to_string_lossy().into_owned();
        let mut variables = vec![("PGSSLMODE", self.mode.name().to_owned())];
        variables.extend(self.root.as_deref().map(|path| ("PGSSLROOTCERT", text(path))));
        if let Some((certificate, key)) = &self.identity {
            variables.push(("PGSSLCERT", text(certificate)));
            variables.push(("PGSSLKEY", text(key)));
        }
        variables
    }

    /// For our own connections. Reads the files.
    pub(super) fn connector(&self) -> Result<MakeRustlsConnect, ConnectError> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let trust = match &self.root {
            None => Trust::Anybody,
            Some(path) if self.mode == SslMode::VerifyFull => Trust::Named(roots(path)?),
            Some(path) => Trust::Signed(roots(path)?),
        };
        let algorithms = provider.signature_verification_algorithms;
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| ConnectError::Tls(error.to_string()))?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Verifier { trust, algorithms }));
        let config = match &self.identity {
            None => builder.with_no_client_auth(),
            Some((certificate, key)) => {
                let chain = certificates(certificate)?;
                let private = PrivateKeyDer::from_pem_file(key).map_err(unreadable(key))?;
                builder.with_client_auth_cert(chain, private).map_err(unreadable(certificate))?
            }
        };
        Ok(MakeRustlsConnect::new(config))
    }
}

fn system_roots() -> Result<PathBuf, ConnectError> {
    let found = SYSTEM_ROOTS.iter().map(PathBuf::from).find(|path| path.exists());
    found.ok_or(ConnectError::NotSupported(
        "sslrootcert=system, but there are no certificates of authorities: install \
         ca-certificates, or name a file",
    ))
}

/// As strict as libpq, which would refuse it later.
fn check_key(path: &Path) -> Result<(), ConnectError> {
    let metadata = std::fs::metadata(path).map_err(super::secret_error(path))?;
    // One that belongs to root may be for a group to read.
    let loose = if metadata.uid() == 0 { 0o037 } else { 0o077 };
    if metadata.mode() & loose != 0 {
        return Err(ConnectError::Loose(path.to_owned()));
    }
    Ok(())
}

fn roots(path: &Path) -> Result<RootCertStore, ConnectError> {
    let mut store = RootCertStore::empty();
    let (added, ignored) = store.add_parsable_certificates(certificates(path)?);
    if added == 0 {
        return Err(unreadable(path)("it has no certificate that can be an authority"));
    }
    if ignored > 0 {
        tracing::debug!(ignored, path = %path.display(), "certificates that cannot be used");
    }
    Ok(store)
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, ConnectError> {
    let read = |path| CertificateDer::pem_file_iter(path)?.collect::<Result<Vec<_>, _>>();
    let found = read(path).map_err(unreadable(path))?;
    if found.is_empty() {
        return Err(unreadable(path)("it has no certificate"));
    }
    Ok(found)
}

fn unreadable<E: ToString>(path: &Path) -> impl FnOnce(E) -> ConnectError {
    let path = path.to_owned();
    move |error| ConnectError::Certificate { path, message: error.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolve(mode: Option<SslMode>, root: Option<&str>, home: &Path) -> Option<Tls> {
        let root = root.map(PathBuf::from);
        let home = Some(home.to_owned());
        Tls::resolve(&Wishes { mode, root, home, ..Wishes::default() }).ok()
    }

    #[test]
    fn a_root_is_needed_to_verify_and_found_where_libpq_finds_it() {
        let home = tempfile::tempdir().unwrap();
        for mode in SslMode::ALL {
            assert_eq!(SslMode::from_name(mode.name()), Some(mode));
            let found = resolve(Some(mode), None, home.path());
            assert_eq!(found.is_some(), mode < SslMode::VerifyCa, "{mode:?}");
        }
        let path = home.path().join(".postgresql/root.crt");
        std::fs::create_dir(home.path().join(".postgresql")).unwrap();
        std::fs::File::create(&path).unwrap();
        let usual = |mode| resolve(Some(mode), None, home.path()).unwrap().root;
        assert_eq!(usual(SslMode::Disable), None);
        assert_eq!(usual(SslMode::Require), Some(path.clone()));
        assert_eq!(usual(SslMode::VerifyFull), Some(path));
        let named = resolve(Some(SslMode::VerifyCa), Some("/ca.crt"), home.path()).unwrap();
        let environment = named.environment();
        assert!(environment.contains(&("PGSSLROOTCERT", "/ca.crt".to_owned())), "{environment:?}");
        assert!(environment.contains(&("PGSSLMODE", "verify-ca".to_owned())), "{environment:?}");
    }

    #[test]
    fn the_authorities_of_the_system_are_trusted_with_a_name_only() {
        let home = tempfile::tempdir().unwrap();
        for mode in SslMode::ALL.into_iter().filter(|mode| *mode < SslMode::VerifyFull) {
            assert_eq!(resolve(Some(mode), Some("system"), home.path()), None, "{mode:?}");
        }
        if let Some(tls) = resolve(None, Some("system"), home.path()) {
            assert_eq!(tls.mode, SslMode::VerifyFull);
        }
    }

    #[test]
    fn a_file_without_certificates_is_no_root() {
        let home = tempfile::tempdir().unwrap();
        let tls = resolve(Some(SslMode::VerifyCa), Some("/dev/null"), home.path()).unwrap();
        let error = tls.connector().err().unwrap().to_string();
        assert!(error.contains("/dev/null") && error.contains("no certificate"), "{error}");
    }
}
