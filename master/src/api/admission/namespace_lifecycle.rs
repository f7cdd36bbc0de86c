//! NamespaceLifecycle: nothing new in a namespace that is going or was never there; some stay for ever.

use protocol::{ApiError, Verb};
use serde_json::{Value, json};

use super::Write;
use crate::api::object;
use crate::api::registry::Subject;

/// Namespaces that cannot be deleted.
const IMMORTAL: [&str; 3] = ["default", "kube-system", "kube-public"];

/// Refuses to delete what a cluster cannot do without.
pub(super) fn deletion(subject: &Subject<'_>) -> Result<(), ApiError> {
    if subject.stored.plural == "namespaces" && IMMORTAL.contains(&subject.name) {
        let why = "this namespace may not be deleted";
        return Err(ApiError::forbidden("", "namespaces", subject.name, why));
    }
    Ok(())
}

pub(super) fn mutate(write: &Write<'_>, value: &Value) -> Result<(), ApiError> {
    let namespace = write.subject.namespace;
    if !write.creates() || namespace.is_empty() || !write.subject.resource.namespaced {
        return Ok(());
    }
    let Some(stored) = write.snapshot.get("", "namespaces", "", namespace) else {
        return Err(ApiError::not_found("", "namespaces", namespace));
    };
    if stored.meta.is_deleting() && write.request.verb == Verb::Create {
        let resource = write.subject.resource;
        let (name, why) = (
            object::name(value),
            format!("unable to create new content in namespace {namespace} because it is being terminated"),
        );
        let mut details = json!({"kind": resource.plural, "causes": [{
            "reason": "NamespaceTerminating", "message": format!("namespace {namespace} is being terminated"),
            "field": "metadata.namespace"}]});
        if !name.is_empty() {
            details["name"] = name.into();
        }
        if !resource.group.is_empty() {
            details["group"] = resource.group.into();
        }
        let qualified = protocol::error::qualified(resource.group, resource.plural);
        return Err(ApiError::about(
            403,
            "Forbidden",
            format!("{qualified} \"{name}\" is forbidden: {why}"),
            details,
        ));
    }
    Ok(())
}
