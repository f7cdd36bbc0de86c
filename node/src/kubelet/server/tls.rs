//! Who may talk to port 10250: holders of a certificate of the cluster's CA, in a group that may.

use std::sync::Arc;

use rustls::client::danger::HandshakeSignatureValid;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{
    DigitallySignedStruct, DistinguishedName, RootCertStore, ServerConfig as TlsConfig, SignatureScheme,
};

use crate::kubelet::config::ServerConfig;

/// Groups (organizations in certificates) that may read everything here.
const GROUPS: [&str; 2] = ["system:masters", "system:monitoring"];
/// Users (common names) that may.
const USERS: [&str; 2] = ["kube-apiserver-kubelet-client", "system:kube-apiserver"];

/// The TLS settings of port 10250.
pub fn config(settings: &ServerConfig) -> Result<TlsConfig, String> {
    let certificates = |pem: &str| -> Result<Vec<CertificateDer<'static>>, String> {
        CertificateDer::pem_slice_iter(pem.as_bytes()).collect::<Result<_, _>>().map_err(|e| e.to_string())
    };
    let mut roots = RootCertStore::empty();
    for root in certificates(&settings.client_ca_pem)? {
        roots.add(root).map_err(|e| e.to_string())?;
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let inner = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone())
        .build()
        .map_err(|e| e.to_string())?;
    let config = TlsConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|e| e.to_string())?
        .with_client_cert_verifier(Arc::new(Verifier { inner }))
        .with_cert_resolver(Arc::new(settings.certificate.clone()));
    Ok(config)
}

/// Checks the certificate's chain, then whose it is.
#[derive(Debug)]
struct Verifier {
    inner: Arc<dyn ClientCertVerifier>,
}

/// Whether the holder of a certificate may read what the kubelet shows.
fn may_read(certificate: &[u8]) -> bool {
    let Ok((_, parsed)) = x509_parser::parse_x509_certificate(certificate) else { return false };
    let subject = parsed.subject();
    let in_group = subject.iter_organization().filter_map(|o| o.as_str().ok()).any(|o| GROUPS.contains(&o));
    in_group || subject.iter_common_name().filter_map(|n| n.as_str().ok()).any(|n| USERS.contains(&n))
}

impl ClientCertVerifier for Verifier {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.inner.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        let verified = self.inner.verify_client_cert(end_entity, intermediates, now)?;
        if may_read(end_entity) {
            Ok(verified)
        } else {
            Err(rustls::Error::General("this certificate's holder may not read from the kubelet".to_owned()))
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.inner.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.inner.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}
