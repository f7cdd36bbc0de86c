//! What a request asks for: first what its line says, then, once its caller is known, what that caller wants to do.

use std::sync::Arc;

use actix_web::HttpRequest;
use actix_web::http::header::{HeaderMap, HeaderValue, USER_AGENT};
use protocol::{ApiRequest, Caller, Resource, Target, Verb};

use super::path::{self, Named};
use super::route::{Refusal, is_proxied, is_stream, method_not_allowed, not_found, route, unsupported};
use super::{Admitted, Shared};
use crate::auth::{Attributes, Decision};

/// What a path names.
pub(super) struct Place {
    pub named: Named,
    /// The kind behind it, where that is served.
    pub kind: Option<&'static Resource>,
}

/// What a request's line says.
pub(super) struct Parsed {
    /// The path as a resource's; `None` for other paths.
    pub place: Option<Place>,
    /// The parameters.
    pub query: Vec<(String, String)>,
}

impl Parsed {
    pub fn of(http: &HttpRequest, shared: &Shared) -> Self {
        let place = path::parse(http.path()).map(|named| {
            let kind = shared.config.documents.kind(&named.target);
            Place { named, kind }
        });
        Parsed { place, query: path::query(http.query_string()) }
    }

    /// What a method means for the path; nothing for some.
    pub fn verb(&self, method: &str) -> Option<Verb> {
        match &self.place {
            Some(place) => path::verb(method, &place.named, path::watches(&self.query)),
            None => Some(Verb::Get),
        }
    }

    /// Whether the request may last: watches and streams.
    pub fn is_long(&self) -> bool {
        self.place.as_ref().is_some_and(|Place { named, .. }| {
            named.watch || path::watches(&self.query) || is_stream(&named.target)
        })
    }
}

/// What somebody asks for, of a resource or of another path, and what authorizers see of that: without a verb where the
/// method means nothing.
pub(super) fn wanted(
    (method, path): (&str, &str),
    verb: Option<Verb>,
    target: Option<Target>,
    caller: Arc<Caller>,
) -> (ApiRequest, Attributes) {
    let of_resource = target.is_some();
    let mut request = ApiRequest::new(verb.unwrap_or(Verb::Get), target.unwrap_or_default());
    request.caller = caller;
    let mut attributes = match of_resource {
        true => Attributes::of(&request),
        false => Attributes::path(request.caller.clone(), method, path),
    };
    if verb.is_none() {
        attributes.verb = String::new();
    }
    (request, attributes)
}

/// A request whose caller is known.
pub(super) struct Asked {
    /// What a resource's path says besides the target; `None` for other paths.
    pub way: Option<Way>,
    pub query: Vec<(String, String)>,
    /// What the pipeline will be asked; empty for other paths.
    pub request: ApiRequest,
    /// What the caller wants to do, as authorizers see it.
    pub attributes: Attributes,
}

/// What a resource's path says besides the target.
pub(super) struct Way {
    /// The kind that is asked for, where it is served.
    pub kind: Option<&'static Resource>,
    /// The old `/watch/` prefix was used.
    pub watch: bool,
    /// What follows a `proxy` subresource.
    pub rest: String,
}

impl Asked {
    pub fn new(
        http: &HttpRequest,
        admitted: &Admitted,
        parsed: Parsed,
        shared: &Shared,
    ) -> Result<Self, Refusal> {
        let line = (http.method().as_str(), http.path());
        let verb = parsed.verb(line.0);
        let Parsed { place, query } = parsed;
        let (target, way) = match place {
            Some(Place { named: Named { target, watch, rest }, kind }) => {
                (Some(target), Some(Way { kind, watch, rest }))
            }
            None => (None, None),
        };
        let (mut request, attributes) = wanted(line, verb, target, admitted.caller.clone());
        let agent = http.headers().get(USER_AGENT).map_or(&[][..], HeaderValue::as_bytes);
        request.user_agent = String::from_utf8_lossy(agent).into_owned();
        // What is only passed on may be asked what it can do, by whoever may do all of it.
        let passes = line.0 == "OPTIONS" && way.as_ref().is_some_and(|way| way.kind.is_some());
        let passes = passes && is_proxied(&request.target);
        let passes = passes && matches!(shared.config.gate.decision(&attributes), Decision::Allow(_));
        if verb.is_none() && !passes {
            return Err(no_verb(attributes, shared, &request, way.as_ref(), http.headers()));
        }
        Ok(Asked { way, query, request, attributes })
    }
}

/// The answer to a method that means nothing for a path: who may not do nothing does not learn what is there.
fn no_verb(
    attributes: Attributes,
    shared: &Shared,
    request: &ApiRequest,
    way: Option<&Way>,
    headers: &HeaderMap,
) -> Refusal {
    match shared.config.gate.decision(&attributes) {
        Decision::Deny(reason) | Decision::NoOpinion(reason) => {
            Refusal::Status(attributes.forbidden(&reason))
        }
        Decision::Allow(_) => {
            let Some(Way { kind, rest, .. }) = way else { return Refusal::Status(not_found()) };
            // What can be read is there.
            match route("GET", request, *kind, &*shared.config.documents, "*/*", headers, rest) {
                Err(Refusal::NoGroup) => Refusal::NoGroup,
                Err(Refusal::Status(error)) if error.code() == 404 => Refusal::Status(error),
                _ => Refusal::Status(
                    kind.filter(|kind| kind.custom).map_or_else(method_not_allowed, unsupported),
                ),
            }
        }
    }
}
