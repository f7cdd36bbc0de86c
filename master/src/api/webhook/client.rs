//! Where a webhook is: a URL, or a Service.

use std::sync::{Arc, OnceLock};

use serde_json::Value;

use crate::api::object::text;
use crate::pki::roots;

/// Where a webhook is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Place {
    /// A URL; otherwise it is a Service.
    pub url: Option<String>,
    /// The Service's name.
    pub service: String,
    /// The Service's namespace.
    pub namespace: String,
    /// Path under the Service.
    pub path: String,
    /// Port of the Service.
    pub port: u16,
    /// Who must have certified it.
    pub bundle: Bundle,
}

/// The certificates that a webhook must be certified by, as PEM in base64.
#[derive(Clone, Debug, Default)]
pub struct Bundle {
    pem: String,
    /// Read when first called: sessions that are kept here are taken up again by later calls.
    tls: OnceLock<Result<Arc<rustls::ClientConfig>, String>>,
}

impl PartialEq for Bundle {
    fn eq(&self, other: &Bundle) -> bool {
        self.pem == other.pem
    }
}

impl Eq for Bundle {}

impl Bundle {
    /// How to make sure of a webhook.
    ///
    /// # Errors
    /// When the bundle holds something else, in upstream's words.
    pub fn tls(&self) -> Result<Arc<rustls::ClientConfig>, String> {
        let made = self.tls.get_or_init(|| {
            let roots = roots::of_bundle(&self.pem)?;
            let config = rustls::ClientConfig::builder().with_root_certificates(roots);
            Ok(Arc::new(config.with_no_client_auth()))
        });
        made.clone()
    }
}

impl Place {
    /// The place that a client configuration names.
    pub fn of(config: &Value) -> Place {
        let service = &config["service"];
        let path = text(service, &["path"]);
        Place {
            url: config["url"].as_str().map(str::to_owned),
            service: text(service, &["name"]).to_owned(),
            namespace: text(service, &["namespace"]).to_owned(),
            path: if path.starts_with('/') { path.to_owned() } else { format!("/{path}") },
            port: service["port"].as_u64().and_then(|p| u16::try_from(p).ok()).unwrap_or(443),
            bundle: Bundle { pem: text(config, &["caBundle"]).to_owned(), tls: OnceLock::new() },
        }
    }
}
