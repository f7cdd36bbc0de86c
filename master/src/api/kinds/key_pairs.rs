//! Whether a Secret's certificate and key belong together: what is said of those that do not.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use serde_json::Value;
use x509_parser::pem::Pem;
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::api::object::text;

const CERTIFICATE: &str = "CERTIFICATE";

/// Says what is wrong with the pair that a Secret for TLS holds.
pub fn notes(secret: &Value, said: &mut Vec<String>) {
    if text(secret, &["type"]) != "kubernetes.io/tls" {
        return;
    }
    let blocks = |name: &str| -> Vec<Pem> {
        let bytes = STANDARD.decode(text(secret, &["data", name])).unwrap_or_default();
        Pem::iter_from_buffer(&bytes).map_while(Result::ok).collect()
    };
    said.extend(problem(&blocks("tls.crt"), &blocks("tls.key")));
}

fn problem(certificates: &[Pem], keys: &[Pem]) -> Option<String> {
    let types = |blocks: &[Pem]| blocks.iter().map(|b| b.label.as_str()).collect::<Vec<_>>().join(" ");
    let Some(leaf) = certificates.iter().find(|block| block.label == CERTIFICATE) else {
        return Some(match certificates {
            [] => "tls: failed to find any PEM data in certificate input".to_owned(),
            [one] if one.label.ends_with("PRIVATE KEY") => {
                "tls: failed to find certificate PEM data in certificate input, but did find a private key; PEM inputs \
                 may have been switched"
                    .to_owned()
            }
            other => format!(
                "tls: failed to find \"CERTIFICATE\" PEM block in certificate input after skipping PEM blocks of the \
                 following types: [{}]",
                types(other)
            ),
        });
    };
    let is_key = |block: &&Pem| block.label == "PRIVATE KEY" || block.label.ends_with(" PRIVATE KEY");
    let Some(key) = keys.iter().find(is_key) else {
        return Some(match keys {
            [] => "tls: failed to find any PEM data in key input".to_owned(),
            [one] if one.label == CERTIFICATE => {
                "tls: found a certificate rather than a key in the PEM for the private key".to_owned()
            }
            other => format!(
                "tls: failed to find PEM block with type ending in \"PRIVATE KEY\" in key input after skipping PEM \
                 blocks of the following types: [{}]",
                types(other)
            ),
        });
    };
    if X509Certificate::from_der(&leaf.contents).is_err() {
        return Some("x509: malformed certificate".to_owned());
    }
    let secret = PrivateKeyDer::try_from(key.contents.clone()).ok();
    let key = secret.and_then(|secret| rustls::crypto::ring::sign::any_supported_type(&secret).ok());
    let Some(key) = key else { return Some("tls: failed to parse private key".to_owned()) };
    let pair = CertifiedKey::new(vec![CertificateDer::from(leaf.contents.clone())], key);
    pair.keys_match().is_err().then(|| "tls: private key does not match public key".to_owned())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_pair_that_does_not_belong_together_is_told_of() {
        let key = rcgen::KeyPair::generate().expect("a key");
        let other = rcgen::KeyPair::generate().expect("a key").serialize_pem();
        let parameters = rcgen::CertificateParams::new(vec!["a.example.org".to_owned()]).expect("names");
        let certificate = parameters.self_signed(&key).expect("a certificate").pem();
        let of = |certificate: &str, key: &str| {
            let data = json!({"tls.crt": STANDARD.encode(certificate), "tls.key": STANDARD.encode(key)});
            let mut said = Vec::new();
            notes(&json!({"type": "kubernetes.io/tls", "data": data}), &mut said);
            said.join("; ")
        };
        let key = key.serialize_pem();
        assert_eq!(of(&certificate, &key), "");
        assert_eq!(of(&certificate, &other), "tls: private key does not match public key");
        assert_eq!(of("", &key), "tls: failed to find any PEM data in certificate input");
        assert_eq!(of(&certificate, "x"), "tls: failed to find any PEM data in key input");
        assert!(of(&key, &certificate).ends_with("PEM inputs may have been switched"));
        assert!(of(&certificate, &certificate).starts_with("tls: found a certificate rather than a key"));
    }
}
