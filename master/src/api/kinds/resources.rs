//! Validation of resource requirements.

use protocol::Quantity;
use serde_json::Value;

use crate::api::invalid::{Errors, Path};

/// Checks a container's requests and limits.
pub fn requirements(resources: &Value, path: &Path, errors: &mut Errors) {
    let amount = |value: &Value| value.as_str().and_then(|t| t.parse::<Quantity>().ok());
    for which in ["limits", "requests"] {
        for (name, value) in resources[which].as_object().into_iter().flatten() {
            let path = path.child(which).key(name);
            if amount(value).is_some_and(|q| q.is_negative()) {
                errors.invalid(&path, value.clone(), "must be greater than or equal to 0");
            }
            let standard = matches!(name.as_str(), "cpu" | "memory" | "ephemeral-storage")
                || name.starts_with("hugepages-");
            if !standard && !name.contains('/') {
                errors.invalid(&path, name.as_str(), "must be a standard resource type or fully qualified");
                errors.invalid(&path, name.as_str(), "must be a standard resource for containers");
            }
        }
    }
    for (name, request) in resources["requests"].as_object().into_iter().flatten() {
        let (Some(request_amount), Some(limit)) =
            (amount(request), amount(&resources["limits"][name.as_str()]))
        else {
            continue;
        };
        if request_amount > limit {
            errors.invalid(
                &path.child("requests"),
                request.clone(),
                format!("must be less than or equal to {name} limit of {limit}"),
            );
        }
    }
}
