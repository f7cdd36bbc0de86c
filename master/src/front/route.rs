//! Whether a path, a method and media types lead anywhere.

use actix_web::http::header::HeaderMap;
use protocol::{ApiError, ApiRequest, Resource, Target, Verb};
use serde_json::json;

use super::handle::header;
use super::{Documents, elsewhere, negotiate};

/// Subresources that are streams, not objects.
const STREAMS: &[&str] = &["log", "exec", "attach", "portforward", "proxy"];

pub(super) enum Refusal {
    /// The group or version is unknown: not even the API's own 404.
    NoGroup,
    Status(ApiError),
}

/// Whether there is a route for a request, by what upstream's router looks at.
pub(super) fn route(
    method: &str,
    request: &ApiRequest,
    resource: Option<&Resource>,
    documents: &dyn Documents,
    accept: &str,
    headers: &HeaderMap,
    rest: &str,
) -> Result<(), Refusal> {
    let target = &request.target;
    let Some(resource) = resource else {
        // Groups that only clients declare end where their kinds do.
        let own = protocol::resources::groups().iter().any(|(known, _)| *known == target.group);
        let known = own && elsewhere::knows_group(documents, &target.group);
        return Err(if known { Refusal::Status(not_found()) } else { Refusal::NoGroup });
    };
    // What is only ever created, a review or a binding say, has no name to be found by.
    let unnamed = !resource.custom && target.name.is_some() && resource.verbs == [Verb::Create];
    if unnamed || !has_part(resource, target) {
        return Err(Refusal::Status(not_found()));
    }
    // Declared kinds have no paths but those of their scope; what else there is nobody looks for there.
    let across = matches!(request.verb, Verb::List | Verb::Watch) && target.name.is_none();
    let within = target.namespace.as_deref().is_some_and(|namespace| !namespace.is_empty());
    if resource.custom && (if resource.namespaced { !within && !across } else { within }) {
        return Err(Refusal::NoGroup);
    }
    // What lies deeper than a subresource is nowhere, but for the one handler of declared kinds, and neither are single
    // objects outside of their namespace.
    let deeper = !rest.is_empty() && target.subresource.as_deref() != Some("proxy") && !resource.custom;
    let outside =
        resource.namespaced && target.namespace.is_none() && (target.name.is_some() || !resource.is_stored());
    // A path may leave the namespace empty, but only where there is one; of declared kinds the pipeline tells.
    let misplaced =
        !resource.namespaced && target.namespace.as_deref().is_some_and(|n| n.is_empty() || !resource.custom);
    if deeper || outside || misplaced || target.name.as_deref().is_some_and(|name| name.contains('/')) {
        return Err(Refusal::Status(not_found()));
    }
    // Declared kinds have no routes of their own, but one handler, which looks at the method.
    let passed_on = is_proxied(target);
    if !resource.custom && !passed_on && (method == "HEAD" || method == "OPTIONS") {
        return Err(Refusal::Status(method_not_allowed()));
    }
    // What exists is changed by its name, and what does not is created without one.
    let by_name = matches!(request.verb, Verb::Update | Verb::Patch);
    let created = request.verb == Verb::Create && target.subresource.is_none();
    if !resource.custom && (by_name && target.name.is_none() || created && target.name.is_some()) {
        return Err(Refusal::Status(method_not_allowed()));
    }
    if by_name && target.name.is_none() {
        if request.verb == Verb::Patch {
            negotiate::consumes_declared_patch(header(headers, "content-type")).map_err(Refusal::Status)?;
        }
        return Err(Refusal::Status(ApiError::bad_request("name must be provided")));
    }
    // A path may leave out the name of what it names a part of, but there is no such object.
    if target.name.as_deref() == Some("") {
        return Err(Refusal::Status(ApiError::bad_request("name must be provided")));
    }
    if is_stream(target) {
        let offered = target.subresource.as_deref().and_then(|name| resource.subresource(name));
        return match offered {
            Some(offered) if !offered.verbs.contains(&request.verb) => {
                Err(Refusal::Status(method_not_allowed()))
            }
            _ => Ok(()),
        };
    }
    if request.verb.is_write() && !resource.custom && !has_method(resource, request) {
        return Err(Refusal::Status(method_not_allowed()));
    }
    if request.verb == Verb::Patch {
        let given = header(headers, "content-type");
        let consumed = match resource.custom {
            true => negotiate::consumes_declared_patch(given),
            false => negotiate::consumes_patch(given).map(drop),
        };
        consumed.map_err(Refusal::Status)?;
    }
    if resource.custom {
        return Ok(());
    }
    let watchable = matches!(request.verb, Verb::List | Verb::Watch) && resource.allows(Verb::Watch);
    negotiate::produces(accept, watchable).map_err(Refusal::Status)
}

/// Whether there is a route to the subresource that is asked for, if one is: of declared kinds all lead to one place.
pub(super) fn has_part(kind: &Resource, target: &Target) -> bool {
    kind.custom || target.subresource.as_deref().is_none_or(|name| kind.subresource(name).is_some())
}

/// Whether a kind of the table, or a subresource of it, has the method: found out before the media types are looked at.
fn has_method(kind: &Resource, request: &ApiRequest) -> bool {
    match request.target.subresource.as_deref().and_then(|name| kind.subresource(name)) {
        Some(part) => part.verbs.contains(&request.verb),
        None => kind.allows(request.verb),
    }
}

/// Whether a request is passed on to another server, whatever its method.
pub(super) fn is_proxied(target: &Target) -> bool {
    target.subresource.as_deref() == Some("proxy")
}

pub(super) fn is_stream(target: &Target) -> bool {
    target.subresource.as_deref().is_some_and(|name| STREAMS.contains(&name))
}

/// The answer to a method that a path does not have.
pub(super) fn method_not_allowed() -> ApiError {
    let message = "the server does not allow this method on the requested resource";
    ApiError::about(405, "MethodNotAllowed", message, json!({}))
}

/// The same for a declared kind, whose one handler names it, and a verb where there is one.
pub(super) fn unsupported(kind: &Resource) -> ApiError {
    let (group, plural) = (kind.group, kind.plural);
    let message = format!(" is not supported on resources of kind \"{plural}.{group}\"");
    ApiError::about(405, "MethodNotAllowed", message, json!({"group": group, "kind": plural}))
}

/// The answer to a path that leads nowhere within a known group.
pub(super) fn not_found() -> ApiError {
    ApiError::about(404, "NotFound", "the server could not find the requested resource", json!({}))
}
