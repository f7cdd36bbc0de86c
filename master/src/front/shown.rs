//! The certificate that a client shows when it connects, and who certified it.
//!
//! TLS lets in whom either of two CAs certified: that of clients, and that of authenticating proxies. Which one it
//! was decides what the certificate is worth, so it is looked at once, when the connection is made.

use std::sync::Arc;

use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;

use crate::pki::roots;

/// A client's certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shown {
    /// The certificate itself.
    pub der: Vec<u8>,
    /// The CA of clients certified it: its names are a user's and groups'.
    pub client: bool,
    /// The CA of authenticating proxies did.
    pub proxy: bool,
}

/// The two CAs.
#[derive(Clone, Debug)]
pub struct Certifiers {
    clients: Arc<dyn ClientCertVerifier>,
    /// `None` where there are no proxies.
    proxies: Option<Arc<dyn ClientCertVerifier>>,
}

fn verifier(ca: &str) -> Result<Arc<dyn ClientCertVerifier>, String> {
    let roots = Arc::new(roots::of_pem(ca.as_bytes())?);
    let built = WebPkiClientVerifier::builder(roots).build().map_err(|e| e.to_string())?;
    Ok(built)
}

impl Certifiers {
    /// By the CAs' certificates, PEM.
    ///
    /// # Errors
    /// When they are none.
    pub fn new(clients: &str, proxies: Option<&str>) -> Result<Self, String> {
        Ok(Certifiers { clients: verifier(clients)?, proxies: proxies.map(verifier).transpose()? })
    }

    /// What a chain that TLS let in is worth.
    pub fn shown(&self, chain: &[CertificateDer<'_>]) -> Option<Shown> {
        let (first, others) = chain.split_first()?;
        let by = |ca: &dyn ClientCertVerifier| ca.verify_client_cert(first, others, UnixTime::now()).is_ok();
        let (client, proxy) = match &self.proxies {
            // TLS knows no other CA.
            None => (true, false),
            Some(proxies) => (by(&*self.clients), by(&**proxies)),
        };
        Some(Shown { der: first.to_vec(), client, proxy })
    }
}

#[cfg(test)]
mod tests {
    use rustls::pki_types::pem::PemObject;

    use super::*;
    use crate::pki::Pki;

    #[test]
    fn each_ca_vouches_for_its_own() {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let dir = tempfile::tempdir().expect("a folder");
        let pki = Pki::open(dir.path()).expect("keys");
        let der = |pem: &str| CertificateDer::from_pem_slice(pem.as_bytes()).expect("a certificate");
        let admin = der(&pki.admin().expect("a certificate").certificate);
        let proxy = der(&pki.front_proxy_client().expect("a certificate").certificate);
        let both = Certifiers::new(pki.ca(), Some(pki.front_proxy_ca())).expect("CAs");
        let worth = |certifiers: &Certifiers, chain: &CertificateDer<'_>| {
            certifiers.shown(std::slice::from_ref(chain)).map(|shown| (shown.client, shown.proxy))
        };
        assert_eq!(worth(&both, &admin), Some((true, false)));
        assert_eq!(worth(&both, &proxy), Some((false, true)));
        let alone = Certifiers::new(pki.ca(), None).expect("a CA");
        assert_eq!(worth(&alone, &admin), Some((true, false)));
        assert_eq!(alone.shown(&[]), None);
    }
}
