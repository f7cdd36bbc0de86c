//! Kinds that extend the API.

use super::{Strategy, base};
use crate::api::custom::definition;

/// CustomResourceDefinitions.
pub fn definition() -> Strategy {
    Strategy {
        defaults: definition::defaults,
        prepare_create: definition::prepare_create,
        prepare_update: definition::prepare_update,
        validate: definition::validate,
        validate_update: definition::validate_update,
        mark_deleted: Some(definition::mark_deleted),
        ..base()
    }
}
