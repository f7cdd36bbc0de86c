//! Where a webhook is: a URL, or a Service.

use serde_json::Value;

use crate::api::object::text;

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
    /// The certificates that it must be certified by, as PEM in base64.
    pub ca_bundle: String,
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
            ca_bundle: text(config, &["caBundle"]).to_owned(),
        }
    }
}
