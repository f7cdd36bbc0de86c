//! Clients' requests that other servers answer.

use std::time::Duration;

use actix_web::http::header::HeaderName;
use actix_web::{HttpRequest, HttpResponse, web};
use bytes::Bytes;
use protocol::{ApiError, ApiRequest, ApiResponse, Caller, Verb};
use serde_json::json;

use super::Aggregation;
use super::identity::{PREFIX, speak_for};
use super::reach::Question;
use super::services::Backend;
use crate::streams::proxy::carry::{self, Back, carry};

/// How long the body of an answer may take, unless it is a stream.
const BODY_TIME: Duration = Duration::from_secs(60);
/// How long a read from within may take.
const READ_TIME: Duration = Duration::from_secs(30);
/// Bytes of the answer to a read from within.
const READ_BYTES_MAX: usize = 32 << 20;

/// Plain text, as upstream says that a server behind it cannot be used.
fn refused(code: u16, why: &str) -> HttpResponse {
    let code = actix_web::http::StatusCode::from_u16(code)
        .unwrap_or(actix_web::http::StatusCode::SERVICE_UNAVAILABLE);
    HttpResponse::build(code)
        .content_type("text/plain; charset=utf-8")
        .insert_header(("X-Content-Type-Options", "nosniff"))
        .body(format!("{why}\n"))
}

/// What the other server is told by us alone, or not at all.
fn is_ours(name: &HeaderName) -> bool {
    carry::is_private(name) || name.as_str().starts_with(PREFIX)
}

impl Aggregation {
    /// Has a server answer a request that was let in. A stream's answer may last.
    pub async fn serve(
        &self,
        backend: &Backend,
        http: HttpRequest,
        payload: web::Payload,
        caller: &Caller,
        lasts: bool,
    ) -> HttpResponse {
        if !backend.available {
            return refused(503, "service unavailable");
        }
        match self.carried(backend, http, payload, caller, lasts).await {
            Ok(answer) => answer,
            Err(error) => refused(error.code(), &error.to_string()),
        }
    }

    async fn carried(
        &self,
        backend: &Backend,
        http: HttpRequest,
        payload: web::Payload,
        caller: &Caller,
        lasts: bool,
    ) -> Result<HttpResponse, ApiError> {
        let path = http.uri().path_and_query().map_or("/", |path| path.as_str());
        let mut asked = hyper::Request::builder()
            .method(http.method().as_str())
            .uri(path)
            .body(())
            .map_err(|e| ApiError::bad_request(e.to_string()))?;
        carry::copy_headers(&http, &mut asked, |name| is_ours(name) || self.hidden.names(name.as_str()))?;
        let headers = asked.headers_mut();
        carry::set(headers, "host", format!("{}:{}", backend.host(), backend.port).as_bytes())?;
        carry::set_forwarded(&http, headers, b"https", http.uri().path())?;
        speak_for(caller, headers)?;
        let io = self.connect(backend, true).await?;
        let time = (!lasts).then_some(BODY_TIME);
        carry(io, asked, &http, payload, Back { prefix: "", time }).await
    }

    /// Has a server answer a read or a deletion from within this program.
    pub async fn within(&self, backend: &Backend, request: &ApiRequest) -> Result<ApiResponse, ApiError> {
        if !backend.available {
            return Err(ApiError::new(503, "ServiceUnavailable", "service unavailable"));
        }
        let path = path_of(request)?;
        let (method, body) = match request.verb {
            Verb::Delete | Verb::DeleteCollection => ("DELETE", delete_options(request)),
            _ => ("GET", Bytes::new()),
        };
        let question = Question {
            method,
            path: &path,
            body,
            caller: &request.caller,
            accept: "application/json",
            time: READ_TIME,
            bytes_max: READ_BYTES_MAX,
            checked: true,
        };
        let said = self.ask(backend, &question).await?;
        Ok(ApiResponse { code: said.code, body: said.body, revision: 0, warnings: Vec::new() })
    }
}

/// What a deletion says besides its path.
fn delete_options(request: &ApiRequest) -> Bytes {
    let options = &request.options;
    let mut made = json!({"kind": "DeleteOptions", "apiVersion": "v1"});
    if let Some(policy) = &options.propagation_policy {
        made["propagationPolicy"] = policy.as_str().into();
    }
    if let Some(uid) = &options.precondition_uid {
        made["preconditions"] = json!({"uid": uid});
    }
    Bytes::from(made.to_string())
}

/// Path and query of a read or a deletion.
fn path_of(request: &ApiRequest) -> Result<String, ApiError> {
    let target = &request.target;
    // Only path and query of it are used.
    let mut url = reqwest::Url::parse("https://server").map_err(ApiError::internal)?;
    if let Ok(mut path) = url.path_segments_mut() {
        path.clear().extend(["apis", &target.group, &target.version]);
        path.extend(target.namespace.iter().flat_map(|namespace| ["namespaces", namespace]));
        path.push(&target.resource);
        path.extend([&target.name, &target.subresource].into_iter().flatten());
    }
    let options = &request.options;
    for (name, value) in [
        ("labelSelector", options.label_selector.clone()),
        ("fieldSelector", options.field_selector.clone()),
        ("resourceVersion", options.resource_version.clone()),
        ("continue", options.continue_token.clone()),
        ("limit", (options.limit > 0).then(|| options.limit.to_string())),
    ] {
        if let Some(value) = value {
            url.query_pairs_mut().append_pair(name, &value);
        }
    }
    for (name, value) in &options.extra {
        url.query_pairs_mut().append_pair(name, value);
    }
    let query = url.query().map(|query| format!("?{query}")).unwrap_or_default();
    Ok(format!("{}{query}", url.path()))
}

#[cfg(test)]
mod tests {
    use protocol::Target;

    use super::*;

    #[test]
    fn reads_have_paths() {
        let target = Target {
            group: "metrics.k8s.io".to_owned(),
            version: "v1beta1".to_owned(),
            resource: "pods".to_owned(),
            namespace: Some("n".to_owned()),
            ..Target::default()
        };
        let mut request = ApiRequest::new(Verb::List, target);
        request.options.label_selector = Some("a=b,c".to_owned());
        let expected = "/apis/metrics.k8s.io/v1beta1/namespaces/n/pods?labelSelector=a%3Db%2Cc";
        assert_eq!(path_of(&request).expect("a path"), expected);
        request.options.label_selector = None;
        request.target = Target {
            name: Some("*".to_owned()),
            subresource: Some("requests".to_owned()),
            ..request.target.clone()
        };
        request.options.extra = vec![("metricLabelSelector".to_owned(), "a=b".to_owned())];
        let expected = "/apis/metrics.k8s.io/v1beta1/namespaces/n/pods/*/requests?metricLabelSelector=a%3Db";
        assert_eq!(path_of(&request).expect("a path"), expected);
        request.options.extra.clear();
        request.target.subresource = None;
        request.target.namespace = None;
        request.target.name = Some("a/b".to_owned());
        assert_eq!(path_of(&request).expect("a path"), "/apis/metrics.k8s.io/v1beta1/pods/a%2Fb");
    }
}
