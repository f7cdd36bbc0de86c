//! What a request counts for: its metrics, and its seat.

use std::future::Future;
use std::time::{Duration, Instant};

use actix_web::http::header::HeaderName;
use actix_web::{HttpRequest, HttpResponse};
use protocol::{ApiError, Verb};

use super::asked::Parsed;
use super::fairness::{Permit, Refused};
use super::handle::header;
use super::metrics::{self, FrontMetrics, Running};
use super::path::Named;
use super::{Shared, path, write};
use crate::api::policy::matching::CONNECTIONS;

/// What metrics say of a request.
pub(super) struct Counted<'a> {
    metrics: &'a FrontMetrics,
    request: metrics::Request,
    /// Requests that last are not timed.
    long: bool,
    started: Instant,
    _running: Running,
}

impl<'a> Counted<'a> {
    pub(super) fn new(http: &HttpRequest, asked: &Parsed, shared: &'a Shared) -> Self {
        let Parsed { place, query } = asked;
        let verb = verb(http, place.as_ref().map(|place| &place.named), path::watches(query));
        let page = PAGES.iter().copied().find(|page| *page == http.path()).unwrap_or_default();
        let about = place.as_ref().and_then(|place| metrics::About::of(place.kind?, &place.named.target));
        let dry_run = query.iter().any(|(name, value)| name == "dryRun" && value == "All");
        let metrics = &shared.config.metrics;
        Counted {
            metrics,
            request: metrics::Request { about, verb, dry_run, page },
            long: asked.is_long(),
            started: Instant::now(),
            _running: metrics.begin(!matches!(verb, "GET" | "LIST" | "WATCH")),
        }
    }

    /// The request was answered; others made it wait for so long.
    pub(super) fn answered(self, code: u16, bytes: Option<u64>, waited: Duration) {
        let took = self.started.elapsed();
        let took = (!self.long).then(|| (took, took.saturating_sub(waited)));
        self.metrics.answered(&self.request, code, took, bytes);
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
    let (flow, mut response) = match permit {
        Ok(mut permit) => {
            let response = work().await;
            let flow = std::mem::take(&mut permit.flow);
            drop(permit);
            // A refusal is answered by whoever knows the client's syntax; it has no such headers.
            (flow, response?)
        }
        Err(refused) => (refused.flow, write::too_many()),
    };
    for (name, uid) in [(FLOW_SCHEMA, flow.schema), (PRIORITY_LEVEL, flow.level)] {
        if let Some(uid) = uid.filter(|uid| !uid.is_empty()) {
            response.headers_mut().insert(HeaderName::from_static(name), uid);
        }
    }
    Ok(response)
}

const FLOW_SCHEMA: &str = "x-kubernetes-pf-flowschema-uid";
const PRIORITY_LEVEL: &str = "x-kubernetes-pf-prioritylevel-uid";
