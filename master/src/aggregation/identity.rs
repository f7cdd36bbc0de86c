//! Who this server is to other API servers, and how it tells them on whose behalf it asks.

use std::fmt::Write as _;
use std::sync::Arc;

use protocol::{ApiError, Caller};
use rustls::ClientConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use super::services::Backend;
use crate::pki::{Pair, roots};
use crate::streams::proxy::carry::set;
use crate::streams::proxy::reach::Anyone;

/// What every header that names the caller begins with.
pub const PREFIX: &str = "x-remote-";

/// The front proxy's certificate and key. Other servers believe whoever shows it.
pub struct FrontProxy {
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
}

impl FrontProxy {
    /// From PEM.
    ///
    /// # Errors
    /// When it is none.
    pub fn of(pair: &Pair) -> Result<Self, String> {
        let chain = CertificateDer::pem_slice_iter(pair.certificate.as_bytes())
            .collect::<Result<_, _>>()
            .map_err(|e| e.to_string())?;
        let key = PrivateKeyDer::from_pem_slice(pair.key.as_bytes()).map_err(|e| e.to_string())?;
        Ok(FrontProxy { chain, key })
    }

    /// How to speak TLS to a server; `checked` unless nothing depends on who answers.
    fn config(&self, backend: &Backend, checked: bool) -> Result<Arc<ClientConfig>, String> {
        let builder = ClientConfig::builder();
        let builder = if checked && !backend.insecure {
            builder.with_root_certificates(roots::of_bundle(&backend.ca_bundle)?)
        } else {
            let verifier = Anyone::verifier(builder.crypto_provider().clone());
            builder.dangerous().with_custom_certificate_verifier(verifier)
        };
        let config = builder.with_client_auth_cert(self.chain.clone(), self.key.clone_key());
        config.map(Arc::new).map_err(|e| e.to_string())
    }

    /// How to speak TLS to a server that must prove who it is.
    pub fn tls(&self, backend: &Backend) -> Result<Arc<ClientConfig>, String> {
        backend.tls.get_or_init(|| self.config(backend, true)).clone()
    }

    /// How to speak TLS to a server that is only asked whether it is there.
    pub fn unchecked(&self, backend: &Backend) -> Result<Arc<ClientConfig>, String> {
        self.config(backend, false)
    }
}

/// Says on whose behalf a request is made.
pub fn speak_for(caller: &Caller, headers: &mut hyper::HeaderMap) -> Result<(), ApiError> {
    set(headers, "x-remote-user", caller.user.as_bytes())?;
    let bad = |e: &dyn std::fmt::Display| ApiError::internal(format!("the caller cannot be named: {e}"));
    for group in &caller.groups {
        let value = hyper::header::HeaderValue::from_bytes(group.as_bytes()).map_err(|e| bad(&e))?;
        headers.append("x-remote-group", value);
    }
    for (key, values) in &caller.extra {
        let name = format!("{PREFIX}extra-{}", escaped(key));
        let name = hyper::header::HeaderName::from_bytes(name.as_bytes()).map_err(|e| bad(&e))?;
        for value in values {
            let value = hyper::header::HeaderValue::from_bytes(value.as_bytes()).map_err(|e| bad(&e))?;
            headers.append(name.clone(), value);
        }
    }
    Ok(())
}

/// A name as a part of a header's: what cannot stand there is percent-encoded.
fn escaped(key: &str) -> String {
    let mut out = String::new();
    for byte in key.bytes() {
        let plain = byte.is_ascii_alphanumeric() || b"!#$&'*+-.^_`|~".contains(&byte);
        if plain {
            out.push(char::from(byte.to_ascii_lowercase()));
        } else {
            // Writing to text does not fail.
            let _ = write!(out, "%{byte:02x}");
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn callers_are_named_in_headers() {
        let mut caller = Caller::component("jane", &["dev"]);
        caller.extra.insert("example.com/why not".to_owned(), vec!["a".to_owned(), "b".to_owned()]);
        let mut headers = hyper::HeaderMap::new();
        speak_for(&caller, &mut headers).expect("can be said");
        let all = |name: &str| -> Vec<&str> {
            headers.get_all(name).iter().filter_map(|v| v.to_str().ok()).collect()
        };
        assert_eq!(all("X-Remote-User"), ["jane"]);
        assert_eq!(all("X-Remote-Group"), ["dev", "system:authenticated"]);
        assert_eq!(all("X-Remote-Extra-example.com%2fwhy%20not"), ["a", "b"]);
        caller.user = "line\nbreak".to_owned();
        assert!(speak_for(&caller, &mut headers).is_err());
    }
}
