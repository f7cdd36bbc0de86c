//! Fields that a write does not own, because the server puts them back: the status through the main resource,
//! the spec through the status.

use std::sync::LazyLock;

use protocol::apply::Set;
use protocol::apply::compare::Filter;

static STATUS: LazyLock<Set> = LazyLock::new(|| Set::of(&[&["status"]]));
static SPEC: LazyLock<Set> = LazyLock::new(|| Set::of(&[&["spec"]]));
static SPEC_AND_STATUS: LazyLock<Set> = LazyLock::new(|| Set::of(&[&["spec"], &["status"]]));
static SPEC_AND_LABELS: LazyLock<Set> = LazyLock::new(|| Set::of(&[&["spec"], &["metadata", "labels"]]));
static SPEC_AND_METADATA: LazyLock<Set> = LazyLock::new(|| Set::of(&[&["spec"], &["metadata"]]));
static SPEC_OF_POD: LazyLock<Set> = LazyLock::new(|| {
    Set::of(&[&["spec"], &["metadata", "deletionTimestamp"], &["metadata", "ownerReferences"]])
});
static SPEC_AND_CONDITIONS: LazyLock<Set> =
    LazyLock::new(|| Set::of(&[&["spec"], &["status", "conditions"]]));
static SPEC_AND_CERTIFICATE: LazyLock<Set> =
    LazyLock::new(|| Set::of(&[&["spec"], &["status", "certificate"]]));

/// What a write of a kind through a subresource does not own; `declared` is whether clients declared the kind.
pub fn filter(plural: &str, declared: bool, has_status: bool, subresource: &str) -> Filter<'static> {
    match (plural, subresource) {
        ("certificatesigningrequests", "") => Filter::Without(&SPEC_AND_STATUS),
        ("certificatesigningrequests", "status") => Filter::Without(&SPEC_AND_CONDITIONS),
        (_, "") if has_status => Filter::Without(&STATUS),
        ("pods", "status") => Filter::Without(&SPEC_OF_POD),
        ("deployments", "status") => Filter::Without(&SPEC_AND_LABELS),
        (
            "flowschemas"
            | "prioritylevelconfigurations"
            | "resourceclaims"
            | "servicecidrs"
            | "validatingadmissionpolicies"
            | "volumeattachments"
            | "apiservices",
            "status",
        ) => Filter::Without(&SPEC_AND_METADATA),
        (_, "status") if declared => Filter::Without(&SPEC_AND_METADATA),
        (_, "status") => Filter::Without(&SPEC),
        ("certificatesigningrequests", "approval") => Filter::Without(&SPEC_AND_CERTIFICATE),
        ("namespaces", "finalize") => Filter::Without(&STATUS),
        _ => Filter::None,
    }
}
