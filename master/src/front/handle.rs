//! One HTTP request about a resource.
//!
//! The order is upstream's: who asks, whether they may, whether the path, the method and the media types fit a
//! route, and only then what the request says.

use std::pin::pin;
use std::sync::Arc;

use actix_web::body::{BodySize, MessageBody};
use actix_web::dev::Payload;
use actix_web::http::header::{ACCEPT, ACCEPT_ENCODING, AsHeaderName, HeaderMap, HeaderName, HeaderValue};
use actix_web::{HttpRequest, HttpResponse, web};
use actors::trace;
use protocol::{ApiError, ApiRequest, Caller, Options, Resource, Verb};

use super::asked::{Asked, Parsed, Way, wanted};
use super::audited::Audited;
use super::counted::{Counted, seated};
use super::metrics::{About, Request};
use super::negotiate::{self, Chosen, Form, Offer, Syntax};
use super::path;
use super::route::{Refusal, is_stream, not_found, route};
use super::shown::Shown;
use super::traced::{call, cause_of, key_of};
use super::{Shared, body, deadline, elsewhere, packed, pages, pieces, watch, write};
use crate::audit::annotations;
use crate::metrics::waited;

pub(super) async fn handle(
    http: HttpRequest,
    payload: web::Payload,
    shared: web::Data<Shared>,
) -> HttpResponse {
    let [accept, encodings] = [ACCEPT, ACCEPT_ENCODING].map(|name| http.headers().get(name).cloned());
    if !path::is_encoded(http.path()) {
        // No request at all, before anybody asks whose it is.
        return HttpResponse::BadRequest()
            .content_type("text/plain; charset=utf-8")
            .force_close()
            .body("400 Bad Request");
    }
    if path::ends_with_watch(http.path()) {
        return pages::no_kind(&http.uri().to_string());
    }
    let asked = Parsed::of(&http, &shared);
    let counted = Counted::new(&http, &asked, &shared);
    let (answered, waited) = waited::measure(Box::pin(answer(http, payload, &shared, asked))).await;
    let response = match answered {
        Ok(response) => response,
        // An error is always an answer the client can read.
        Err(error) => write::error(&error, Chosen::for_errors(text(accept.as_ref()))),
    };
    let response = write::compressed(response, text(encodings.as_ref())).await;
    let bytes = match response.body().size() {
        BodySize::None => Some(0),
        BodySize::Sized(bytes) => Some(bytes),
        BodySize::Stream => None,
    };
    counted.answered(response.status().as_u16(), bytes, waited);
    response
}

pub(super) fn header(headers: &HeaderMap, name: impl AsHeaderName) -> &str {
    text(headers.get(name))
}

/// What a header says; nothing where it is not there or is no text.
fn text(value: Option<&HeaderValue>) -> &str {
    value.and_then(|value| value.to_str().ok()).unwrap_or_default()
}

async fn answer(
    http: HttpRequest,
    payload: web::Payload,
    shared: &web::Data<Shared>,
    asked: Parsed,
) -> Result<HttpResponse, ApiError> {
    let mut payload = payload.into_inner();
    let version = http.version();
    let result = admitted(http, &mut payload, shared, asked).await;
    body::pass_over(version, payload).await;
    result
}

/// Answers who is known; what is left of the body then is what nobody looked at.
async fn admitted(
    http: HttpRequest,
    payload: &mut Payload,
    shared: &web::Data<Shared>,
    asked: Parsed,
) -> Result<HttpResponse, ApiError> {
    let backend = shared.config.aggregation.behind(http.path());
    let upgrades = backend.is_some() && http.headers().contains_key("upgrade");
    let long = upgrades || asked.is_long();
    let time = if long { None } else { Some(deadline::of(&asked.query)?) };
    let certificate = http.conn_data::<Shown>();
    let admitted = {
        let line = (http.method().as_str(), http.path());
        let what = |caller: Arc<Caller>| {
            let target = asked.place.as_ref().map(|place| place.named.target.clone());
            wanted(line, asked.verb(line.0), target, caller).1
        };
        shared.config.gate.caller(certificate, http.headers(), &what).await?
    };
    let asked = match Asked::new(&http, &admitted, asked, shared) {
        Ok(asked) => asked,
        Err(refusal) => return refused(refusal),
    };
    let target = asked.way.as_ref().map(|_| &asked.request.target);
    let mut audited = Audited::begin(&http, shared, &admitted, &asked.attributes, target).await;
    let id = audited.id();
    let mut result = {
        // It stays where it is: it is large.
        let work = pin!(async {
            match backend {
                Some(backend) => elsewhere::aggregated(http, payload, shared, asked, &backend, long).await,
                None => work(http, payload, shared, asked, &mut audited).await,
            }
        });
        match time {
            None => work.await,
            Some(time) => {
                tokio::time::timeout(time, work).await.unwrap_or_else(|_| Err(deadline::exceeded()))
            }
        }
    };
    match &mut result {
        Ok(response) => {
            if let Some(id) = id.and_then(|id| HeaderValue::from_str(&id).ok()) {
                response.headers_mut().insert(HeaderName::from_static("audit-id"), id);
            }
            audited.finish(response.status().as_u16()).await;
        }
        Err(error) => {
            audited.failure(error);
            audited.finish(error.code()).await;
        }
    }
    result
}

/// The answer to what leads nowhere.
fn refused(refusal: Refusal) -> Result<HttpResponse, ApiError> {
    match refusal {
        Refusal::NoGroup => Ok(elsewhere::page_not_found()),
        Refusal::Status(error) => Err(error),
    }
}

/// Serves a request, in its seat.
async fn work(
    http: HttpRequest,
    payload: &mut Payload,
    shared: &web::Data<Shared>,
    asked: Asked,
    audited: &mut Audited,
) -> Result<HttpResponse, ApiError> {
    let Asked { way, query, request, attributes } = asked;
    let fairness = &shared.config.fairness;
    let Some(way) = way else {
        let permit = waited::wait(fairness.admit(&attributes, 1)).await;
        return seated(permit, || Box::pin(elsewhere::answer(http, payload, shared, request.caller))).await;
    };
    if is_stream(&request.target) {
        return Box::pin(serve(http, payload, shared, request, way, query, audited)).await;
    }
    let stored = way.kind.filter(|_| request.verb == Verb::List).map(|kind| (kind.storage.0, kind.plural));
    let seats = fairness.width(&attributes, stored);
    let permit = waited::wait(fairness.admit(&attributes, seats)).await;
    // In a place of its own: what holds it is moved, and it is large.
    seated(permit, || Box::pin(serve(http, payload, shared, request, way, query, audited))).await
}

/// A request that has its seat.
async fn serve(
    http: HttpRequest,
    payload: &mut Payload,
    shared: &web::Data<Shared>,
    request: ApiRequest,
    way: Way,
    query: Vec<(String, String)>,
    audited: &mut Audited,
) -> Result<HttpResponse, ApiError> {
    let Way { kind: found, watch, rest } = way;
    let config = &shared.config;
    let method = http.method().clone();
    let asked = query.iter().find(|(name, _)| name == "pretty").map(|(_, value)| value.as_str());
    let pretty = negotiate::wants_pretty(asked, &request.user_agent);
    let accept = header(http.headers(), ACCEPT).to_owned();
    if let Err(refusal) =
        route(method.as_str(), &request, found, &*config.documents, &accept, http.headers(), &rest)
    {
        // Who may not do it does not learn that it cannot be done.
        config.gate.may(&request)?;
        return refused(refusal);
    }
    let Some(resource) = found else { return Err(not_found()) };
    // From here on whatever comes of a request is told together with what is to be noted about its kind.
    let noted = config.documents.notices(resource, &request);
    let syntax = (!noted.is_empty()).then(|| Chosen::for_errors(&accept));
    let asked = Routed { watch, rest, query, accept, pretty };
    match routed(http, payload, shared, request, resource, asked, audited).await {
        Err(error) if error.code() != 403 => {
            let Some(syntax) = syntax else { return Err(error) };
            audited.failure(&error);
            let mut response = write::error(&error, syntax);
            write::warn(&mut response, &noted);
            Ok(response)
        }
        result => result,
    }
}

/// A request that has its route.
struct Routed {
    watch: bool,
    rest: String,
    query: Vec<(String, String)>,
    /// What it accepts, and whether indented.
    accept: String,
    pretty: bool,
}

async fn routed(
    http: HttpRequest,
    payload: &mut Payload,
    shared: &web::Data<Shared>,
    mut request: ApiRequest,
    resource: &'static Resource,
    asked: Routed,
    audited: &mut Audited,
) -> Result<HttpResponse, ApiError> {
    let Routed { watch, rest, query, accept, pretty } = asked;
    let config = &shared.config;
    let verb = request.verb;
    match path::options(verb, query) {
        Ok(options) => {
            let by_path = watch && !path::watches(&options.extra);
            request.options = Options { watch_by_path: by_path, ..options };
        }
        Err(why) => {
            config.gate.may(&request)?;
            return Err(ApiError::bad_request(why));
        }
    }
    // The pipeline decides again, but what comes before it tells too: what is wrong with a body.
    if verb.is_write()
        && let Err(error) = config.gate.may(&request)
    {
        return Err(error);
    }

    if is_stream(&request.target) {
        // kubectl opens an exec with GET or POST alike; RBAC knows both as upstream does.
        config.gate.may(&request)?;
        let admitting = config.gate.admit(&request, &rest);
        let (warnings, annotations) = annotations::collect(admitting).await;
        audited.annotate(annotations);
        let warnings = warnings?;
        let payload = body::taken(&http, payload).await?;
        let mut response = stream(http, payload, shared, request, rest).await;
        write::warn(&mut response, &warnings);
        return Ok(response);
    }
    let protobuf = protocol::schema::protobuf::knows(resource.group, resource.version, resource.kind);
    // What is only ever created, a review or a binding say, has no rows.
    let tables = match request.target.subresource.as_deref().map(|name| resource.subresource(name)) {
        Some(Some(subresource)) => subresource.verbs.contains(&Verb::Get),
        Some(None) => true,
        None => resource.allows(Verb::Get),
    };
    let offer = Offer { protobuf, tables, ..Offer::OBJECTS };
    let Some(mut chosen) = negotiate::choose(&accept, offer) else {
        config.gate.may(&request)?;
        return Err(negotiate::not_acceptable(offer));
    };
    if verb == Verb::Watch {
        // What an object could be a stream of events must be too.
        let offer = Offer { stream: true, ..offer };
        let Some(stream) = negotiate::choose(&accept, offer) else {
            config.gate.may(&request)?;
            return Err(negotiate::no_stream(offer));
        };
        chosen = stream;
    }
    chosen.pretty |= pretty;
    let include = include_object(&request);
    let door = (config.door)(request.caller.clone());
    if verb == Verb::Watch {
        check_include(chosen.form, &include)?;
        let columns = (chosen.form == Form::Table).then(|| (config.documents.clone(), include));
        let warnings = config.documents.notices(resource, &request);
        let about = About::of(resource, &request.target);
        let asked = Request { about, verb: "WATCH", dry_run: false, page: "" };
        let counted = config.metrics.watching(resource, &asked);
        let events = door.watch(request).await?;
        let kept = (audited.last(200).await, counted);
        return Ok(watch::respond(events, resource, chosen, columns, kept, &warnings));
    }
    let packed = chosen.form == Form::Object && chosen.syntax == Syntax::Protobuf;
    if verb == Verb::List && (packed || chosen == Chosen::PLAIN) && !audited.keeps_responses() {
        let (mut response, list) = door.list(request).await?;
        audited.response(response.code, &response.body);
        if !packed && !list.is_empty() {
            return Ok(pieces::respond(&response.warnings, list));
        }
        if packed && let Some(answer) = packed::respond(&response.warnings, &list).await? {
            return Ok(answer);
        }
        if response.body.is_empty() {
            response.body = list.concat().into();
        }
        return write::object(&response, chosen, resource, &*config.documents, &include);
    }
    let mut warnings =
        body::read(http.headers(), payload, resource, &*config.documents, &mut request).await?;
    if verb.is_write() {
        config.metrics.received(resource, verb, request.body.len());
    }
    audited.request(&request.body);
    let (response, annotations) = annotations::collect(call(&http, door, request)).await;
    audited.annotate(annotations);
    let mut response = response?;
    audited.response(response.code, &response.body);
    warnings.append(&mut response.warnings);
    response.warnings = warnings;
    if chosen.form == Form::Table && response.code < 400 {
        check_include(chosen.form, &include)?;
    }
    if response.code >= 400 {
        chosen = chosen.of_error(&accept);
    }
    match write::object(&response, chosen, resource, &*config.documents, &include) {
        // It was done, and what is to be said about it is, though it cannot be shown as asked for.
        Err(error) if !response.warnings.is_empty() => {
            audited.failure(&error);
            let mut answer = write::error(&error, Chosen::for_errors(&accept));
            write::warn(&mut answer, &response.warnings);
            Ok(answer)
        }
        answer => answer,
    }
}

async fn stream(
    http: HttpRequest,
    payload: web::Payload,
    shared: &web::Data<Shared>,
    request: ApiRequest,
    rest: String,
) -> HttpResponse {
    let key = key_of(&request);
    let cause = cause_of(http.headers());
    let kind = format!("{} {}", request.verb, request.target.subresource.as_deref().unwrap_or_default());
    let work = shared.config.streams.serve(http, payload, request, rest);
    trace::step_caused_by(cause, "master/front", &kind, key, |r| r.status().as_u16() >= 400, work).await
}

fn include_object(request: &ApiRequest) -> String {
    let found = request.options.extra.iter().find(|(name, _)| name == "includeObject");
    found.map(|(_, value)| value.clone()).unwrap_or_default()
}

fn check_include(form: Form, include: &str) -> Result<(), ApiError> {
    if form != Form::Table || ["", "None", "Metadata", "Object"].contains(&include) {
        return Ok(());
    }
    Err(ApiError::bad_request(format!(
        "Unable to convert to Table as requested: includeObject: Invalid value: {include:?}: must be 'Metadata', \
         'Object', 'None', or empty"
    )))
}

/// What a document is written in that has no other forms.
pub(super) fn plain(accept: &str, offer: Offer) -> Result<Chosen, ApiError> {
    negotiate::produces(accept, false)?;
    negotiate::choose(accept, offer).ok_or_else(|| negotiate::not_acceptable(offer))
}
