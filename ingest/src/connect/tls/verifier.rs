//! Whom to believe: nobody's word is asked, an authority's, or an authority's about this very host.
//! The checks themselves are those of rustls and webpki.

use rustls::CertificateError;
use rustls::DigitallySignedStruct;
use rustls::Error;
use rustls::RootCertStore;
use rustls::SignatureScheme;
use rustls::client::danger::HandshakeSignatureValid;
use rustls::client::danger::ServerCertVerified;
use rustls::client::danger::ServerCertVerifier;
use rustls::client::verify_server_cert_signed_by_trust_anchor;
use rustls::client::verify_server_name;
use rustls::crypto::WebPkiSupportedAlgorithms;
use rustls::crypto::verify_tls12_signature;
use rustls::crypto::verify_tls13_signature;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::ServerName;
use rustls::pki_types::UnixTime;
use rustls::server::ParsedCertificate;

/// Which certificates are good.
#[derive(Debug)]
pub(super) enum Trust {
    /// Any: against who only listens, not against who answers in the server's place.
    Anybody,
    /// One that an authority has signed, for whichever host.
    Signed(RootCertStore),
    /// One that an authority has signed for the host that was named.
    Named(RootCertStore),
}

/// Judges what a server shows.
#[derive(Debug)]
pub(super) struct Verifier {
    pub(super) trust: Trust,
    pub(super) algorithms: WebPkiSupportedAlgorithms,
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        _ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let (roots, named) = match &self.trust {
            Trust::Anybody => return Ok(ServerCertVerified::assertion()),
            Trust::Signed(roots) => (roots, false),
            Trust::Named(roots) => (roots, true),
        };
        let parsed = ParsedCertificate::try_from(certificate)?;
        let algorithms = self.algorithms.all;
        verify_server_cert_signed_by_trust_anchor(&parsed, roots, intermediates, now, algorithms)?;
        if named {
            verify_server_name(&parsed, server_name)?;
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signed, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signed, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

/// What to do about a certificate that was not good enough, in a few words.
pub(in crate::connect) fn advice(error: &Error) -> &'static str {
    let Error::InvalidCertificate(found) = error else { return "" };
    if *found == CertificateError::UnknownIssuer {
        return ": none of the authorities in sslrootcert has signed it";
    }
    let name = matches!(
        found,
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. }
    );
    if name {
        return ": connect by a name that it has as a subjectAltName (the common name does not \
                count), or let sslmode=verify-ca pass over the name";
    }
    ""
}
