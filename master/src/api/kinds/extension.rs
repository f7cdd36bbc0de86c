//! Kinds that extend the API.

use super::{Strategy, base, keep_metadata, webhooks};
use crate::api::custom::definition;
use crate::api::policy;

/// Policies and their bindings.
pub fn policy(plural: &str) -> Strategy {
    let of = |strategy: Strategy, validate| Strategy { validate, ..strategy };
    match plural {
        "validatingadmissionpolicies" => Strategy {
            prepare_status: keep_metadata,
            validate_status: |new, _, errors| policy::definition::status(new, errors),
            ..of(webhooks::policy(), policy::definition::validating)
        },
        "mutatingadmissionpolicies" => of(webhooks::policy(), policy::definition::mutating),
        _ => of(webhooks::policy_binding(), policy::definition::binding),
    }
}

/// CustomResourceDefinitions.
pub fn definition() -> Strategy {
    Strategy {
        defaults: definition::defaults,
        prepare_create: definition::prepare_create,
        prepare_update: definition::prepare_update,
        validate: definition::validate,
        own_name: definition::own_name,
        validate_create: definition::validate_create,
        validate_status: |new, _, errors| definition::validate_status(new, errors),
        validate_update: definition::validate_update,
        warnings: definition::warnings,
        mark_deleted: Some(definition::mark_deleted),
        ..base()
    }
}
