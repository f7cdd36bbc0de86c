//! Events, of the core group and of `events.k8s.io`.
//!
//! Both are stored as core events; what is checked depends on the API that the client speaks.

use serde_json::Value;

use super::checks::{IMMUTABLE, internal, qualified};
use super::{Strategy, base};
use crate::api::invalid::{Errors, Path};
use crate::api::meta::NameRule;
use crate::api::object::{name, namespace, object_mut, text};

const CHARS_MAX: usize = 128;
const NOTE_CHARS_MAX: usize = 1024;

/// Events of the core group, which take nearly everything.
pub(super) fn core() -> Strategy {
    Strategy { names: NameRule::PathSegment, validate: belongs, ..base() }
}

fn belongs(object: &Value, errors: &mut Errors) {
    let (own, about) = (namespace(object), text(object, &["involvedObject", "namespace"]));
    let fine = if about.is_empty() { matches!(own, "" | "default") } else { about == own };
    if !fine {
        errors.invalid(&Path::new("involvedObject.namespace"), about, "does not match event.namespace");
    }
}

/// Events of their own group.
pub(super) fn own() -> Strategy {
    Strategy {
        prepare_create: |object| {
            if name(object).is_empty() {
                object_mut(object, &["metadata"]).remove("name");
            }
        },
        validate: |object, errors| {
            if text(object, &["eventTime"]).is_empty() {
                errors.required(&Path::new("eventTime"), "");
            }
            series(&object["series"], errors);
            let path = Path::new("reportingController");
            let controller = text(object, &["reportingComponent"]);
            if controller.is_empty() {
                errors.required(&path, "");
            }
            qualified(controller, &path, errors);
            for field in ["reportingInstance", "action", "reason"] {
                let given = text(object, &[field]);
                if given.is_empty() {
                    errors.required(&Path::new(field), "");
                }
                limit(given, field, CHARS_MAX, errors);
            }
            limit(text(object, &["message"]), "message", NOTE_CHARS_MAX, errors);
            let kind = text(object, &["type"]);
            if !["Normal", "Warning"].contains(&kind) {
                errors.invalid(&Path::new("type"), "", format!("has invalid value: {kind}"));
            }
        },
        validate_update: |new, old, errors| {
            let frozen = [
                ("involvedObject", "involvedObject"),
                ("reason", "reason"),
                ("message", "message"),
                ("source", "source"),
                ("firstTimestamp", "firstTimestamp"),
                ("lastTimestamp", "lastTimestamp"),
                ("count", "count"),
                ("reason", "reason"),
                ("type", "type"),
                ("eventTime", "eventTime"),
                ("action", "action"),
                ("related", "related"),
                ("reportingComponent", "reportingController"),
                ("reportingInstance", "reportingInstance"),
            ];
            for (field, shown) in frozen {
                if new[field] == old[field] {
                    continue;
                }
                let path = Path::new(shown);
                match field {
                    "involvedObject" | "related" => {
                        let value = internal("a.core.v1.ObjectReference", &new[field]);
                        errors.invalid_shown(&path, &value, IMMUTABLE);
                    }
                    "source" => {
                        let value = internal("a.core.v1.EventSource", &new[field]);
                        errors.invalid_shown(&path, &value, IMMUTABLE);
                    }
                    _ => errors.invalid(&path, new[field].clone(), IMMUTABLE),
                }
            }
        },
        ..base()
    }
}

fn series(series: &Value, errors: &mut Errors) {
    if !series.is_object() {
        return;
    }
    if series["count"].as_i64().unwrap_or(0) < 2 {
        errors.invalid(&Path::new("series.count"), "", "should be at least 2");
    }
    if text(series, &["lastObservedTime"]).is_empty() {
        errors.required(&Path::new("series.lastObservedTime"), "");
    }
}

fn limit(value: &str, field: &str, max: usize, errors: &mut Errors) {
    if value.len() > max {
        errors.invalid(&Path::new(field), "", format!("can have at most {max} characters"));
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_event_lives_where_its_object_does() {
        for (own, about, wrong) in
            [("a", "a", false), ("default", "", false), ("a", "", true), ("a", "b", true)]
        {
            let event = json!({"metadata": {"namespace": own}, "involvedObject": {"namespace": about}});
            let mut errors = Errors::default();
            belongs(&event, &mut errors);
            assert_eq!(!errors.is_empty(), wrong, "{own} {about}");
        }
    }
}
