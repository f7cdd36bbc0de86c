//! The tools' way to a cluster: its kubeconfig, and HTTPS with the client certificate in it.

use std::path::{Path, PathBuf};
use std::time::Duration;

use base64::Engine;
use serde::de::DeserializeOwned;
use serde_json::Value;

/// Why a cluster could not be asked.
#[derive(Debug, thiserror::Error)]
pub enum ToolError {
    /// There is no kubeconfig, or it names no cluster.
    #[error("{path}: {why}; start a cluster with `troupe up`, or name a kubeconfig with --kubeconfig")]
    Kubeconfig {
        /// The file.
        path: String,
        /// What is wrong.
        why: String,
    },
    /// The server does not answer.
    #[error("the cluster does not answer: {0}")]
    Unreachable(String),
    /// The server refused.
    #[error("{0}")]
    Refused(String),
}

/// A connection to a cluster's master.
pub struct Cluster {
    server: String,
    http: reqwest::Client,
}

/// The kubeconfig to use: the one named, `$KUBECONFIG`'s first, or `~/.kube/config`.
pub fn kubeconfig_path(named: Option<&Path>) -> PathBuf {
    if let Some(path) = named {
        return path.to_owned();
    }
    if let Some(list) = std::env::var_os("KUBECONFIG")
        && let Some(first) = std::env::split_paths(&list).find(|p| !p.as_os_str().is_empty())
    {
        return first;
    }
    let home = std::env::var_os("HOME").unwrap_or_else(|| "/root".into());
    Path::new(&home).join(".kube/config")
}

impl Cluster {
    /// The cluster of a kubeconfig's current context.
    pub fn of(kubeconfig: &Path) -> Result<Self, ToolError> {
        let wrong = |why: String| ToolError::Kubeconfig { path: kubeconfig.display().to_string(), why };
        let text = std::fs::read_to_string(kubeconfig).map_err(|e| wrong(e.to_string()))?;
        let config: Value = serde_saphyr::from_str(&text).map_err(|e| wrong(e.to_string()))?;
        let named = |list: &str, inner: &str, name: &Value| {
            config[list]
                .as_array()
                .into_iter()
                .flatten()
                .find(|e| e["name"] == *name)
                .map(|e| e[inner].clone())
        };
        let context = named("contexts", "context", &config["current-context"])
            .ok_or_else(|| wrong("it has no current context".to_owned()))?;
        let cluster = named("clusters", "cluster", &context["cluster"])
            .ok_or_else(|| wrong("its current context names no cluster".to_owned()))?;
        let user = named("users", "user", &context["user"]).unwrap_or_default();
        let bytes = |value: &Value, key: &str| -> Result<Vec<u8>, ToolError> {
            if let Some(data) = value[format!("{key}-data")].as_str() {
                let engine = base64::engine::general_purpose::STANDARD;
                return engine.decode(data).map_err(|e| wrong(format!("{key}-data: {e}")));
            }
            match value[key].as_str() {
                Some(path) => std::fs::read(path).map_err(|e| wrong(format!("{path}: {e}"))),
                None => Ok(Vec::new()),
            }
        };
        let mut builder = reqwest::Client::builder().timeout(Duration::from_secs(30));
        let ca = bytes(&cluster, "certificate-authority")?;
        if !ca.is_empty() {
            let roots = reqwest::Certificate::from_pem_bundle(&ca).map_err(|e| wrong(e.to_string()))?;
            builder = builder.tls_certs_only(roots);
        }
        let mut identity = bytes(&user, "client-certificate")?;
        if !identity.is_empty() {
            identity.push(b'\n');
            identity.extend(bytes(&user, "client-key")?);
            builder =
                builder.identity(reqwest::Identity::from_pem(&identity).map_err(|e| wrong(e.to_string()))?);
        }
        let http = builder.build().map_err(|e| wrong(e.to_string()))?;
        let server = cluster["server"].as_str().unwrap_or_default().trim_end_matches('/').to_owned();
        Ok(Cluster { server, http })
    }

    /// Asks for JSON.
    pub async fn get<T: DeserializeOwned>(
        &self,
        path: &str,
        query: &[(&str, String)],
    ) -> Result<T, ToolError> {
        self.send(self.request(reqwest::Method::GET, path, query)).await
    }

    /// The server's address.
    pub fn server(&self) -> &str {
        &self.server
    }

    /// The server's port, if the server is named by an address of this machine's own.
    pub fn local_port(&self) -> Option<u16> {
        let url = reqwest::Url::parse(&self.server).ok()?;
        let host = url.host_str()?.trim_matches(['[', ']']);
        let local = host == "localhost"
            || host.parse::<std::net::IpAddr>().is_ok_and(|a| std::net::UdpSocket::bind((a, 0)).is_ok());
        url.port_or_known_default().filter(|_| local)
    }

    /// A request that the caller completes and sends.
    pub fn request(
        &self,
        method: reqwest::Method,
        path: &str,
        query: &[(&str, String)],
    ) -> reqwest::RequestBuilder {
        self.http.request(method, self.url(path, query))
    }

    /// Orders something, or creates an object.
    pub async fn post<T: DeserializeOwned>(
        &self,
        path: &str,
        query: &[(&str, String)],
        body: Option<&Value>,
    ) -> Result<T, ToolError> {
        let mut request = self.request(reqwest::Method::POST, path, query);
        if let Some(body) = body {
            request = request.json(body);
        }
        self.send(request).await
    }

    fn url(&self, path: &str, query: &[(&str, String)]) -> String {
        let mut url = format!("{}{path}", self.server);
        for (n, (name, value)) in query.iter().enumerate() {
            url.push(if n == 0 { '?' } else { '&' });
            url.push_str(name);
            url.push('=');
            for byte in value.bytes() {
                match byte {
                    b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'/' => {
                        url.push(byte as char)
                    }
                    other => url.push_str(&format!("%{other:02X}")),
                }
            }
        }
        url
    }

    async fn send<T: DeserializeOwned>(&self, request: reqwest::RequestBuilder) -> Result<T, ToolError> {
        let failed = |e: reqwest::Error| ToolError::Unreachable(e.to_string());
        let response = request.send().await.map_err(failed)?;
        let status = response.status();
        let body = response.bytes().await.map_err(failed)?;
        if !status.is_success() {
            let refusal: Value = serde_json::from_slice(&body).unwrap_or_default();
            let message = refusal["message"].as_str().map(str::to_owned);
            return Err(ToolError::Refused(message.unwrap_or_else(|| format!("HTTP {status}"))));
        }
        serde_json::from_slice(&body)
            .map_err(|e| ToolError::Refused(format!("the answer is not understood: {e}")))
    }
}
