//! Sends a body to an address, a few times if need be.

use std::path::Path;
use std::time::Duration;

use ureq::Agent;
use ureq::tls::Certificate;
use ureq::tls::PemItem;
use ureq::tls::RootCerts;
use ureq::tls::TlsConfig;

/// Between two tries.
const PAUSE: Duration = Duration::from_secs(1);

/// Sends.
pub(super) struct Poster(Agent);

impl Poster {
    /// Trusts the authorities of the file, or those that browsers trust. One try takes no longer than
    /// `patience`, from the look-up of the name to the answer.
    pub(super) fn new(authority: Option<&Path>, patience: Duration) -> Result<Self, String> {
        let mut tls = TlsConfig::builder();
        if let Some(path) = authority {
            tls = tls.root_certs(RootCerts::from(certificates(path)?));
        }
        let config = Agent::config_builder()
            .timeout_global(Some(patience))
            .max_redirects(0)
            .user_agent(concat!("worm-ingest/", env!("CARGO_PKG_VERSION")))
            .tls_config(tls.build());
        Ok(Self(config.build().new_agent()))
    }

    /// Sends a ping.
    pub(super) fn ping(&self, url: &str, body: &str, tries: u32) -> Result<(), String> {
        self.send(url, "text/plain; charset=utf-8", body, tries)
    }

    /// Sends JSON.
    pub(super) fn json(&self, url: &str, body: &str, tries: u32) -> Result<(), String> {
        self.send(url, "application/json", body, tries)
    }

    fn send(&self, url: &str, kind: &str, body: &str, tries: u32) -> Result<(), String> {
        let mut result = Ok(());
        for left in (0..tries).rev() {
            let sent = self.0.post(url).content_type(kind).send(body);
            result = match sent {
                Ok(answer) if answer.status().is_success() => return Ok(()),
                // What sends elsewhere was not heard.
                Ok(answer) => Err(format!("the answer was {}", answer.status())),
                Err(error) => Err(masked(&error, url)),
            };
            if left > 0 {
                std::thread::sleep(PAUSE);
            }
        }
        result
    }
}

/// What went wrong, without the address.
fn masked(error: &ureq::Error, url: &str) -> String {
    crate::error::chain(error).replace(url, "(its address)")
}

fn certificates(path: &Path) -> Result<Vec<Certificate<'static>>, String> {
    let shown = path.display();
    let pem = std::fs::read(path).map_err(|error| format!("could not read {shown}: {error}"))?;
    let mut certificates = Vec::new();
    for item in ureq::tls::parse_pem(&pem) {
        match item {
            Ok(PemItem::Certificate(certificate)) => certificates.push(certificate),
            Ok(_other) => {}
            Err(error) => return Err(format!("could not read {shown}: {error}")),
        }
    }
    if certificates.is_empty() {
        Err(format!("{shown} has no certificate"))
    } else {
        Ok(certificates)
    }
}
