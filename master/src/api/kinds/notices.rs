//! What is said about a request for a kind beside its answer: that an API is old, that a delete leaves things
//! behind, that a field cannot be selected by.

use protocol::{ApiRequest, Resource, Verb};

/// Old APIs, and since when.
const DEPRECATED: &[(&str, &str, &str)] =
    &[("", "endpoints", "v1 Endpoints is deprecated in v1.33+; use discovery.k8s.io/v1 EndpointSlice")];
const ORPHANS: &str = "child pods are preserved by default when jobs are deleted; set \
propagationPolicy=Background to remove them or set propagationPolicy=Orphan to suppress this warning";

/// Warnings that a request for a kind gets whatever comes of it.
pub fn notices(resource: &Resource, request: &ApiRequest) -> Vec<String> {
    if request.target.subresource.is_some() {
        return Vec::new();
    }
    let old =
        DEPRECATED.iter().find(|(group, plural, _)| (*group, *plural) == (resource.group, resource.plural));
    old.map(|(_, _, text)| (*text).to_owned()).into_iter().collect()
}

/// The warning that a delete leaves behind what was made for the object, as its author may not know.
pub fn left_behind(resource: &Resource, request: &ApiRequest) -> Option<&'static str> {
    let deletes = matches!(request.verb, Verb::Delete | Verb::DeleteCollection);
    let options = &request.options;
    let undecided = options.propagation_policy.is_none() && options.orphan_dependents.is_none();
    let jobs = (resource.group, resource.plural) == ("batch", "jobs");
    (jobs && deletes && undecided && request.target.subresource.is_none()).then_some(ORPHANS)
}

/// The refusal of a field that a kind's objects cannot be selected by.
pub fn unknown_field(resource: &Resource, field: &str) -> String {
    match (resource.group, resource.plural) {
        ("batch", "jobs") => format!("field label \"{field}\" not supported for Job"),
        ("resource.k8s.io", "resourceslices") => {
            format!(
                "field label not supported for {}, Kind={}: {field}",
                resource.api_version(),
                resource.kind
            )
        }
        // Kinds with field labels of their own word it differently.
        _ if resource.custom || !resource.selectable.is_empty() => {
            format!("field label not supported: {field}")
        }
        _ => format!(
            "\"{field}\" is not a known field selector: only \"metadata.name\", \"metadata.namespace\""
        ),
    }
}

/// Whether objects of a kind can be selected by their namespace, though they may have none.
pub fn selects_namespace(resource: &Resource) -> bool {
    resource.namespaced || resource.custom || resource.selectable.is_empty()
}

/// Whether lists of a kind as of any version come from what upstream holds in memory, and so whole: of all but events.
pub fn is_held(resource: &Resource) -> bool {
    resource.plural != "events"
}
