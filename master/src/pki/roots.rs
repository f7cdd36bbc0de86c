//! Whom other servers' certificates may come from: the bundle that an object names, or, without one, whomever this
//! machine trusts.

use std::sync::OnceLock;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

/// The CAs that the machine trusts. The first call reads files: make it on a blocking thread.
pub fn system() -> &'static RootCertStore {
    static SYSTEM: OnceLock<RootCertStore> = OnceLock::new();
    SYSTEM.get_or_init(|| {
        let found = rustls_native_certs::load_native_certs();
        for error in &found.errors {
            tracing::warn!(%error, "a CA of this machine cannot be read");
        }
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(found.certs);
        roots
    })
}

/// The CAs of a bundle (PEM in base64), as objects hold it; the machine's where it is empty.
///
/// # Errors
/// When it holds something else, in upstream's words.
pub fn of_bundle(bundle: &str) -> Result<RootCertStore, String> {
    if bundle.is_empty() {
        return Ok(system().clone());
    }
    let bundle = STANDARD.decode(bundle).map_err(|e| format!("caBundle: {e}"))?;
    of_pem(&bundle).map_err(|e| format!("unable to load root certificates: {e}"))
}

/// The CAs of a text (PEM).
///
/// # Errors
/// When one of its certificates is none.
pub fn of_pem(pem: &[u8]) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem) {
        let certificate = certificate.map_err(|e| e.to_string())?;
        roots.add(certificate).map_err(|e| e.to_string())?;
    }
    Ok(roots)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pki::Pki;

    #[test]
    fn a_bundle_stands_alone_and_none_is_the_machines() {
        let dir = tempfile::tempdir().expect("a folder");
        let pki = Pki::open(dir.path()).expect("keys");
        let bundle = STANDARD.encode(format!("{}{}", pki.ca(), pki.front_proxy_ca()));
        assert_eq!(of_bundle(&bundle).expect("CAs").len(), 2);
        assert_eq!(of_bundle("").expect("CAs").len(), system().len());
        assert!(of_bundle("*").is_err());
        let broken = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        assert!(of_bundle(&STANDARD.encode(broken)).is_err());
    }
}
