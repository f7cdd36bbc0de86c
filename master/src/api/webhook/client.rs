//! Where a webhook is: a URL, or a Service.

use std::sync::{Arc, OnceLock};

use serde_json::Value;

use super::kept::Kept;
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
    /// Read when first called.
    trust: OnceLock<Result<Arc<Trust>, String>>,
}

/// How webhooks are proved, and what is left of earlier calls for later ones: TLS sessions and connections.
pub struct Trust {
    pub(super) tls: Arc<rustls::ClientConfig>,
    pub(super) kept: Kept,
}

impl std::fmt::Debug for Trust {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Trust").finish_non_exhaustive()
    }
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
    pub fn trust(&self) -> Result<Arc<Trust>, String> {
        let made = self.trust.get_or_init(|| {
            let roots = roots::of_bundle(&self.pem)?;
            let tls = rustls::ClientConfig::builder().with_root_certificates(roots);
            Ok(Arc::new(Trust { tls: Arc::new(tls.with_no_client_auth()), kept: Kept::default() }))
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
            bundle: Bundle { pem: text(config, &["caBundle"]).to_owned(), trust: OnceLock::new() },
        }
    }
}
