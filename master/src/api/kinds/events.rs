//! Events, of the core group and of `events.k8s.io`.
//!
//! Both are stored as core events; what is checked depends on the API that the client speaks.

use serde_json::Value;

use super::checks::{IMMUTABLE, internal, qualified};
use super::{MetadataTurn, Strategy, base};
use crate::api::invalid::{Errors, Path};
use crate::api::meta::NameRule;
use crate::api::object::{name, namespace, object_mut, text};

const CHARS_MAX: usize = 128;
const NOTE_CHARS_MAX: usize = 1024;

/// Events of the core group. Those without an `eventTime` take nearly everything.
pub(super) fn core() -> Strategy {
    Strategy {
        names: NameRule::PathSegment,
        metadata: MetadataTurn::Last,
        validate: |object, errors| told(object, "reportingComponent", errors),
        ..base()
    }
}

/// What both groups demand. `reporter` is how the client's group calls the reporting controller.
fn told(object: &Value, reporter: &str, errors: &mut Errors) {
    let (own, about) = (namespace(object), text(object, &["involvedObject", "namespace"]));
    let timed = !text(object, &["eventTime"]).is_empty();
    let fine = match (timed, about.is_empty()) {
        (true, true) => matches!(own, "default" | "kube-system"),
        (true, false) => true,
        (false, true) => matches!(own, "" | "default"),
        (false, false) => about == own,
    };
    if !fine {
        errors.invalid(&Path::new("involvedObject.namespace"), about, "does not match event.namespace");
    }
    if !timed {
        return;
    }
    let path = Path::new(reporter);
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
}

/// What belongs to the core group's way of telling an event, as their paths are shown.
fn outdated(object: &Value, errors: &mut Errors) {
    let given = |field: &str| match &object[field] {
        Value::Null => false,
        Value::Number(n) => n.as_i64() != Some(0),
        Value::String(s) => !s.is_empty(),
        other => ["component", "host"].iter().any(|part| !text(other, &[part]).is_empty()),
    };
    for field in ["firstTimestamp", "lastTimestamp", "count", "source"] {
        if given(field) {
            errors.invalid(&Path::new(field), "", "needs to be unset");
        }
    }
}

/// Events of their own group.
pub(super) fn own() -> Strategy {
    Strategy {
        metadata: MetadataTurn::Between,
        prepare_create: |object| {
            if name(object).is_empty() {
                object_mut(object, &["metadata"]).remove("name");
            }
        },
        validate: |object, errors| told(object, "reportingController", errors),
        validate_create: |object, errors| {
            series(&object["series"], errors);
            if text(object, &["eventTime"]).is_empty() {
                errors.required(&Path::new("eventTime"), "");
            }
            let kind = text(object, &["type"]);
            if !["Normal", "Warning"].contains(&kind) {
                errors.invalid(&Path::new("type"), "", format!("has invalid value: {kind}"));
            }
            outdated(object, errors);
        },
        validate_update: |new, old, errors| {
            if new["series"] != old["series"] {
                series(&new["series"], errors);
            }
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
                    "count" | "firstTimestamp" | "lastTimestamp" | "eventTime" => {
                        errors.invalid(&path, new[field].clone(), IMMUTABLE);
                    }
                    _ => errors.invalid(&path, text(new, &[field]), IMMUTABLE),
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
        for (own, about, timed, wrong) in [
            ("a", "a", false, false),
            ("default", "", false, false),
            ("a", "", false, true),
            ("a", "b", false, true),
            ("a", "b", true, false),
            ("kube-system", "", true, false),
            ("a", "", true, true),
        ] {
            let mut event = json!({
                "metadata": {"namespace": own}, "involvedObject": {"namespace": about},
                "reportingComponent": "c", "reportingInstance": "i", "action": "a", "reason": "r",
            });
            if timed {
                event["eventTime"] = json!("2026-01-01T00:00:00.000000Z");
            }
            let mut errors = Errors::default();
            told(&event, "reportingComponent", &mut errors);
            assert_eq!(!errors.is_empty(), wrong, "{own} {about} {timed}");
        }
    }

    #[test]
    fn the_old_fields_have_no_place_in_the_new_group() {
        for (event, count) in [
            (json!({}), 0),
            (json!({"count": 0, "source": {}, "firstTimestamp": null}), 0),
            (json!({"count": 1}), 1),
            (json!({"source": {"host": "h"}, "lastTimestamp": "2026-01-01T00:00:00Z"}), 2),
        ] {
            let mut errors = Errors::default();
            outdated(&event, &mut errors);
            assert_eq!(errors.len(), count, "{event}");
        }
    }
}
