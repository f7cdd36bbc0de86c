//! The features that a node says that it has.

use serde_json::Value;

use crate::api::invalid::{Errors, Path, go_quote};
use crate::api::object::list;

const NAME_CHARS_MAX: usize = 253;

/// Whether a text names a feature: segments of letters and digits with slashes between, the first in upper camel case.
fn is_feature(name: &str) -> bool {
    let plain = |part: &str| {
        part.starts_with(|c: char| c.is_ascii_alphabetic()) && part.bytes().all(|b| b.is_ascii_alphanumeric())
    };
    name.starts_with(|c: char| c.is_ascii_uppercase()) && name.split('/').all(plain)
}

/// Checks the declared features: names, in order.
pub(super) fn declared_features(node: &Value, errors: &mut Errors) {
    let path = Path::new("status.declaredFeatures");
    let names: Vec<&str> =
        list(node, &["status", "declaredFeatures"]).iter().filter_map(Value::as_str).collect();
    for (i, name) in names.iter().enumerate() {
        let shown = go_quote(name);
        if name.len() > NAME_CHARS_MAX {
            let detail =
                format!("invalid feature name {shown}: must be no more than {NAME_CHARS_MAX} characters");
            errors.invalid(&path.index(i), *name, detail);
        } else if !is_feature(name) {
            let detail = format!(
                "invalid feature name {shown}: must start with an UpperCamelCase segment, with subsequent segments \
                 separated by '/' (e.g., MyFeature or MyFeature/mySubFeature), and contain only alphanumeric \
                 characters and slashes"
            );
            errors.invalid(&path.index(i), *name, detail);
        }
        match names.get(i + 1) {
            Some(next) if next == name => errors.duplicate(&path.index(i + 1), *next),
            Some(next) if name > next => {
                errors.invalid(&path.index(i + 1), *next, "list must be sorted alphabetically");
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::api::invalid::said;

    #[test]
    fn features_have_a_form_and_an_order() {
        for (features, count, last) in [
            (json!(["Abc", "Abc/def", "B2"]), 0, ""),
            (json!(["abc"]), 1, "and contain only alphanumeric characters and slashes"),
            (json!(["Abc/2d"]), 1, "and contain only alphanumeric characters and slashes"),
            (json!(["B", "A"]), 1, "list must be sorted alphabetically"),
            (json!(["A", "A"]), 1, "Duplicate value: \"A\""),
        ] {
            let told =
                said(|errors| declared_features(&json!({"status": {"declaredFeatures": features}}), errors));
            assert_eq!(told.len(), count, "{features} {told:?}");
            assert!(told.last().is_none_or(|told| told.ends_with(last)), "{told:?}");
        }
    }
}
