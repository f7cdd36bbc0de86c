//! What a request counts for: its metrics, and its seat.

use std::future::Future;
use std::time::{Duration, Instant};

use actix_web::http::header::{HeaderName, HeaderValue};
use actix_web::{HttpRequest, HttpResponse};
use protocol::{ApiError, Target, Verb};

use super::fairness::{Permit, Refused};
use super::handle::{header, is_long};
use super::metrics::{self, FrontMetrics, Running};
use super::path::Named;
use super::{Shared, path, write};
use crate::api::policy::matching::CONNECTIONS;

/// What metrics say of a request.
pub(super) struct Counted<'a> {
    metrics: &'a FrontMetrics,
    target: Option<Target>,
    verb: &'static str,
    dry_run: bool,
    page: &'static str,
    /// Requests that last are not timed.
    long: bool,
    started: Instant,
    _running: Running,
}

impl<'a> Counted<'a> {
    pub(super) fn new(http: &HttpRequest, shared: &'a Shared) -> Self {
        let query = path::query(http.query_string());
        let named = path::parse(http.path());
        let watching = query.iter().any(|(name, value)| name == "watch" && path::truth(value));
        let long = named.as_ref().is_some_and(|named| is_long(named, &query));
        let verb = verb(http, named.as_ref(), watching);
        let page = PAGES.iter().copied().find(|page| *page == http.path()).unwrap_or_default();
        // Labels are made of served kinds only: paths that anybody thinks up would be labels without end.
        let target = named.map(|named| named.target).filter(|t| shared.config.documents.kind(t).is_some());
        let metrics = &shared.config.metrics;
        Counted {
            metrics,
            target,
            verb,
            dry_run: query.iter().any(|(name, value)| name == "dryRun" && value == "All"),
            page,
            long,
            started: Instant::now(),
            _running: metrics.begin(!matches!(verb, "GET" | "LIST" | "WATCH")),
        }
    }

    /// The request was answered; others made it wait for so long.
    pub(super) fn answered(self, code: u16, bytes: Option<u64>, waited: Duration) {
        let Counted { target, verb, dry_run, page, .. } = &self;
        let request = metrics::Request { target: target.as_ref(), verb, dry_run: *dry_run, page };
        let took = self.started.elapsed();
        let took = (!self.long).then(|| (took, took.saturating_sub(waited)));
        self.metrics.answered(&request, code, took, bytes);
    }
}

/// Paths that are no resource and have a label of their own.
const PAGES: [&str; 4] = ["/healthz", "/livez", "/readyz", "/metrics"];

/// The verb as upstream's metrics spell it.
fn verb(http: &HttpRequest, named: Option<&Named>, watching: bool) -> &'static str {
    let method = http.method().as_str();
    let Some(named) = named else {
        return match method {
            "GET" => "GET",
            "POST" => "POST",
            _ => "other",
        };
    };
    if named.target.subresource.as_deref().is_some_and(|sub| CONNECTIONS.contains(&sub)) {
        return "CONNECT";
    }
    match path::verb(method, named, watching) {
        Some(Verb::Get) => "GET",
        Some(Verb::List) => "LIST",
        Some(Verb::Watch) => "WATCH",
        Some(Verb::Create) => "POST",
        Some(Verb::Update) => "PUT",
        Some(Verb::Patch) if header(http.headers(), "content-type").contains("apply-patch") => "APPLY",
        Some(Verb::Patch) => "PATCH",
        Some(Verb::Delete) => "DELETE",
        Some(Verb::DeleteCollection) => "DELETECOLLECTION",
        None => "other",
    }
}

/// Does the work under a permit, and says in the answer whose it was. A watch keeps no seat once it runs.
pub(super) async fn seated<F: Future<Output = Result<HttpResponse, ApiError>>>(
    permit: Result<Permit, Refused>,
    work: impl FnOnce() -> F,
) -> Result<HttpResponse, ApiError> {
    let (schema, level, mut response) = match permit {
        Ok(mut permit) => {
            let response = work().await;
            let (schema, level) = (std::mem::take(&mut permit.schema), std::mem::take(&mut permit.level));
            drop(permit);
            // A refusal is answered by whoever knows the client's syntax; it has no such headers.
            (schema, level, response?)
        }
        Err(refused) => (refused.schema, refused.level, write::too_many()),
    };
    for (name, uid) in [(FLOW_SCHEMA, schema), (PRIORITY_LEVEL, level)] {
        if let Ok(value) = HeaderValue::from_str(&uid)
            && !uid.is_empty()
        {
            response.headers_mut().insert(HeaderName::from_static(name), value);
        }
    }
    Ok(response)
}

const FLOW_SCHEMA: &str = "x-kubernetes-pf-flowschema-uid";
const PRIORITY_LEVEL: &str = "x-kubernetes-pf-prioritylevel-uid";
