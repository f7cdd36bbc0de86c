//! Calling a webhook: a question as JSON over HTTPS, an answer of bounded size within bounded time.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use futures::StreamExt;
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use serde_json::Value;

use super::client::Place;
use crate::cache::Cache;

/// Bytes of an answer.
const ANSWER_BYTES_MAX: usize = 3 << 20;

/// Where a call goes: the address in its messages, the one that is dialled, and whose name is proved.
struct Route {
    shown: String,
    url: String,
    resolved: Option<(String, SocketAddr)>,
}

impl Route {
    /// What is dialled, for messages.
    fn dialled(&self) -> String {
        if let Some((_, address)) = &self.resolved {
            return address.to_string();
        }
        let url = reqwest::Url::parse(&self.url).ok();
        let parts = url.as_ref().and_then(|url| Some((url.host_str()?, url.port_or_known_default()?)));
        parts.map(|(host, port)| format!("{host}:{port}")).unwrap_or_default()
    }
}

fn route(cache: &Cache, place: &Place, seconds: u64) -> Result<Route, String> {
    if let Some(url) = &place.url {
        let query = if url.contains('?') { '&' } else { '?' };
        let url = format!("{url}{query}timeout={seconds}s");
        return Ok(Route { shown: url.clone(), url, resolved: None });
    }
    let host = format!("{}.{}.svc", place.service, place.namespace);
    let path = &place.path;
    let shown = format!("https://{host}:{}{path}?timeout={seconds}s", place.port);
    let failed = |why: String| format!("Post {shown:?}: {why}");
    let service = cache
        .get::<Service>(&place.namespace, &place.service)
        .ok_or_else(|| failed(format!("service {:?} not found", place.service)))?;
    let spec = service.spec.clone().unwrap_or_default();
    if spec.type_.as_deref() == Some("ExternalName") {
        let name = spec.external_name.unwrap_or_default();
        let url = format!("https://{name}:{}{path}?timeout={seconds}s", place.port);
        return Ok(Route { shown, url, resolved: None });
    }
    let port = spec
        .ports
        .iter()
        .flatten()
        .find(|p| p.port == i32::from(place.port))
        .ok_or_else(|| {
            failed(format!("no service port {} found for service {:?}", place.port, place.service))
        })?
        .clone();
    let (address, port) = endpoint(cache, place, port.name.as_deref().unwrap_or_default())
        .ok_or_else(|| failed(format!("no endpoints available for service {:?}", place.service)))?;
    let url = format!("https://{host}:{port}{path}?timeout={seconds}s");
    Ok(Route { shown, url, resolved: Some((host, SocketAddr::new(address, port))) })
}

/// A ready endpoint of a Service, and its port of that name.
fn endpoint(cache: &Cache, place: &Place, port: &str) -> Option<(IpAddr, u16)> {
    let slices = cache.list::<EndpointSlice>(&place.namespace);
    let of_service = |slice: &&Arc<EndpointSlice>| {
        let label = slice.metadata.labels.as_ref().and_then(|l| l.get("kubernetes.io/service-name"));
        label.is_some_and(|name| *name == place.service)
    };
    slices.iter().filter(of_service).find_map(|slice| {
        let found = slice.ports.iter().flatten().find(|p| p.name.as_deref().unwrap_or_default() == port)?;
        let ready = slice
            .endpoints
            .iter()
            .flatten()
            .find(|e| e.conditions.as_ref().and_then(|c| c.ready).unwrap_or(true))?;
        Some((ready.addresses.first()?.parse().ok()?, u16::try_from(found.port?).ok()?))
    })
}

/// Whom a webhook must prove to be, by its bundle of certificates.
fn tls(place: &Place) -> Result<rustls::ClientConfig, String> {
    let mut roots = rustls::RootCertStore::empty();
    let bundle = STANDARD.decode(&place.ca_bundle).map_err(|e| format!("caBundle: {e}"))?;
    for certificate in CertificateDer::pem_slice_iter(&bundle) {
        let certificate = certificate.map_err(|e| format!("unable to load root certificates: {e}"))?;
        roots.add(certificate).map_err(|e| format!("unable to load root certificates: {e}"))?;
    }
    Ok(rustls::ClientConfig::builder().with_root_certificates(roots).with_no_client_auth())
}

/// Asks a webhook.
pub async fn call(cache: &Cache, place: &Place, seconds: u64, question: &Value) -> Result<Value, String> {
    let route = route(cache, place, seconds)?;
    let failed = |why: &dyn std::fmt::Display| format!("Post {:?}: {why}", route.shown);
    let mut client = reqwest::Client::builder()
        .tls_backend_preconfigured(tls(place)?)
        .redirect(reqwest::redirect::Policy::none())
        .timeout(Duration::from_secs(seconds))
        .no_proxy();
    if let Some((host, address)) = &route.resolved {
        client = client.resolve(host, *address);
    }
    let client = client.build().map_err(|e| failed(&e))?;
    let at = route.dialled();
    let sent = client
        .post(&route.url)
        .header("content-type", "application/json")
        .header("accept", "application/json")
        .body(question.to_string())
        .send()
        .await;
    let answer = sent.map_err(|e| {
        if e.is_timeout() { failed(&"context deadline exceeded") } else { failed(&root(&e, &at)) }
    })?;
    let code = answer.status();
    let mut body = Vec::new();
    let mut chunks = answer.bytes_stream();
    while let Some(chunk) = chunks.next().await {
        let chunk = chunk.map_err(|e| failed(&root(&e, &at)))?;
        if body.len() + chunk.len() > ANSWER_BYTES_MAX {
            return Err(failed(&"the answer is too long"));
        }
        body.extend_from_slice(&chunk);
    }
    if !code.is_success() {
        let reason = code.canonical_reason().unwrap_or_default();
        return Err(format!(
            "the server rejected our request for an unknown reason ({} {reason})",
            code.as_u16()
        ));
    }
    serde_json::from_slice(&body).map_err(|e| format!("couldn't get version/kind; json parse error: {e}"))
}

/// What an error began with, in upstream's words where it is one of the usual ones; `at` is what was dialled.
fn root(error: &(dyn std::error::Error + 'static), at: &str) -> String {
    let mut inner = error;
    loop {
        if let Some(io) = inner.downcast_ref::<std::io::Error>()
            && io.kind() == std::io::ErrorKind::ConnectionRefused
        {
            return format!("dial tcp {at}: connect: connection refused");
        }
        if let Some(rustls::Error::InvalidCertificate(rustls::CertificateError::UnknownIssuer)) =
            inner.downcast_ref()
        {
            let why = "x509: certificate signed by unknown authority";
            return format!("tls: failed to verify certificate: {why}");
        }
        match inner.source() {
            Some(source) => inner = source,
            None => return inner.to_string(),
        }
    }
}
