//! Calling a webhook: a question as JSON over HTTPS, an answer of bounded size within bounded time.
//!
//! A webhook in a pod is reached as proxied requests are: through the pod's node, where the pod is on one. Connections
//! are kept for further questions.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper_util::rt::TokioIo;
use k8s_openapi::api::core::v1::Service;
use protocol::streams::NodeStreams;
use rustls::pki_types::ServerName;
use serde_json::Value;

use super::client::{Place, Trust};
use super::kept::{At, Sender, WAIT_MAX};
use crate::cache::Cache;
use crate::streams::proxy::place::Named;
use crate::streams::proxy::reach::{dialled, plain, secured};
use crate::streams::proxy::service_place;

/// Why a webhook could not be asked.
#[derive(Debug, thiserror::Error)]
#[error("{why}")]
pub struct CallError {
    /// What happened.
    pub why: String,
    /// The webhook's own status code, where it answered; otherwise 503.
    pub code: u16,
}

impl From<String> for CallError {
    fn from(why: String) -> Self {
        CallError { why, code: 503 }
    }
}

/// Bytes of an answer.
const ANSWER_BYTES_MAX: usize = 3 << 20;

/// The way to webhooks. Cheap to clone.
#[derive(Clone)]
pub struct Webhooks {
    cache: Cache,
    nodes: Arc<dyn NodeStreams>,
}

/// Where a call goes.
struct Route {
    /// The address in its messages.
    shown: String,
    /// Path and query.
    path: String,
    /// Whose name is proved.
    host: String,
    /// What is dialled.
    at: At,
}

/// The way to a webhook that a URL names.
fn by_url(url: &str, seconds: u64) -> Result<Route, String> {
    let mut url = reqwest::Url::parse(url).map_err(|e| e.to_string())?;
    let query = match url.query() {
        Some(query) => format!("{query}&timeout={seconds}s"),
        None => format!("timeout={seconds}s"),
    };
    url.set_query(Some(&query));
    let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']).to_owned();
    let port = url.port_or_known_default().unwrap_or(443);
    let path = format!("{}?{query}", url.path());
    Ok(Route { shown: url.to_string(), path, at: At::Host(host.clone(), port), host })
}

impl Webhooks {
    /// Finds Services in a cache, and reaches pods through their nodes.
    pub fn new(cache: Cache, nodes: Arc<dyn NodeStreams>) -> Self {
        Webhooks { cache, nodes }
    }

    fn route(&self, place: &Place, seconds: u64) -> Result<Route, String> {
        if let Some(url) = &place.url {
            return by_url(url, seconds);
        }
        let host = format!("{}.{}.svc", place.service, place.namespace);
        let path = format!("{}?timeout={seconds}s", place.path);
        let shown = format!("https://{host}:{}{path}", place.port);
        let failed = |why: String| format!("Post {shown:?}: {why}");
        let service = self
            .cache
            .get::<Service>(&place.namespace, &place.service)
            .ok_or_else(|| failed(format!("service {:?} not found", place.service)))?;
        let spec = service.spec.clone().unwrap_or_default();
        if spec.type_.as_deref() == Some("ExternalName") {
            let name = spec.external_name.unwrap_or_default();
            return Ok(Route { shown, path, at: At::Host(name.clone(), place.port), host: name });
        }
        let port = place.port.to_string();
        let asked = Named { scheme: "https", name: &place.service, port: &port };
        let reached =
            service_place(&self.cache, &service, asked).map_err(|error| failed(error.to_string()))?;
        Ok(Route { shown, path, host, at: At::Endpoint(reached) })
    }

    /// Asks a webhook.
    pub async fn call(&self, place: &Place, seconds: u64, question: &Value) -> Result<Value, CallError> {
        let route = self.route(place, seconds)?;
        let asked = tokio::time::timeout(Duration::from_secs(seconds), self.ask(place, &route, question));
        let asked = asked.await.unwrap_or_else(|_| Err("context deadline exceeded".to_owned()));
        let (code, body) = asked.map_err(|why| format!("Post {:?}: {why}", route.shown))?;
        if !code.is_success() {
            let reason = code.canonical_reason().unwrap_or_default();
            let code = code.as_u16();
            let why = format!("the server rejected our request for an unknown reason ({code} {reason})");
            return Err(CallError { why, code });
        }
        serde_json::from_slice(&body)
            .map_err(|e| format!("couldn't get version/kind; json parse error: {e}").into())
    }

    async fn ask(
        &self,
        place: &Place,
        route: &Route,
        question: &Value,
    ) -> Result<(hyper::StatusCode, Bytes), String> {
        let trust = place.bundle.trust()?;
        let mut request = hyper::Request::builder()
            .method("POST")
            .uri(&route.path)
            .header("host", &route.host)
            .header("content-type", "application/json")
            .header("accept", "application/json")
            .body(Full::new(Bytes::from(question.to_string())))
            .map_err(|e| e.to_string())?;
        let (sender, answer) = loop {
            let kept = trust.kept.take(&route.at, &route.host);
            let again = kept.is_some();
            let mut sender = match kept {
                Some(mut sender) => match sender.ready().await {
                    Ok(()) => sender,
                    Err(_) => continue,
                },
                None => self.connected(&trust, route).await?,
            };
            match sender.try_send_request(request).await {
                Ok(answer) => break (sender, answer),
                // A kept one ended meanwhile, and nothing of the question was sent.
                Err(mut error) if again && error.message().is_some() => match error.take_message() {
                    Some(back) => request = back,
                    None => return Err(error.into_error().to_string()),
                },
                Err(error) => return Err(error.into_error().to_string()),
            }
        };
        let code = answer.status();
        let body = Limited::new(answer.into_body(), ANSWER_BYTES_MAX).collect().await;
        let body = body.map_err(|e| match e.downcast_ref::<LengthLimitError>() {
            Some(_) => "the answer is too long".to_owned(),
            None => e.to_string(),
        })?;
        trust.kept.keep(&route.at, &route.host, sender);
        Ok((code, body.to_bytes()))
    }

    /// A new connection.
    async fn connected(&self, trust: &Arc<Trust>, route: &Route) -> Result<Sender, String> {
        let io = match &route.at {
            At::Host(host, port) => dialled(host, *port).await,
            At::Endpoint(reached) => plain(&*self.nodes, reached).await,
        };
        let name = ServerName::try_from(route.host.clone()).map_err(|e| e.to_string())?;
        let io = secured(io.map_err(|e| e.to_string())?, trust.tls.clone(), name).await;
        let io = TokioIo::new(io.map_err(|e| e.to_string())?);
        let (sender, connection) =
            hyper::client::conn::http1::handshake(io).await.map_err(|e| e.to_string())?;
        // Only looked at: a connection must not outlive what it was proved by.
        let trust = Arc::downgrade(trust);
        actors::spawn(async move {
            let mut connection = std::pin::pin!(connection);
            // Its failure is the call's failure.
            while tokio::time::timeout(WAIT_MAX, connection.as_mut()).await.is_err() {
                if let Some(trust) = trust.upgrade() {
                    trust.kept.sweep();
                }
            }
        });
        Ok(sender)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_say_where_to_go() {
        for (url, shown, path, host, port) in [
            (
                "https://a.example.com/x",
                "https://a.example.com/x?timeout=5s",
                "/x?timeout=5s",
                "a.example.com",
                443,
            ),
            (
                "https://127.0.0.1:8443",
                "https://127.0.0.1:8443/?timeout=5s",
                "/?timeout=5s",
                "127.0.0.1",
                8443,
            ),
            ("https://[::1]:1/y?a=b", "https://[::1]:1/y?a=b&timeout=5s", "/y?a=b&timeout=5s", "::1", 1),
        ] {
            let route = by_url(url, 5).expect("a URL");
            let At::Host(dialled, at) = route.at else { panic!("a host") };
            assert_eq!((route.shown.as_str(), route.path.as_str()), (shown, path));
            assert_eq!((route.host.as_str(), dialled.as_str(), at), (host, host, port));
        }
        assert!(by_url("nowhere", 5).is_err());
    }
}
