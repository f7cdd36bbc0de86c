//! What of a job's pod template may change: nothing once pods run.

use serde_json::{Map, Value};

use crate::api::invalid::{Errors, Path};
use crate::api::kinds::checks::IMMUTABLE;
use crate::api::object::{copy_field, list, list_mut, object_mut};

/// Checks that a job's template stays. While nothing runs it may still be decided where its pods will, and with what.
pub(super) fn kept(new: &Value, old_job: &Value, errors: &mut Errors) {
    let (old, status) = (&old_job["spec"]["template"], &old_job["status"]);
    if new == old {
        return;
    }
    let suspended = list(status, &["conditions"])
        .iter()
        .any(|condition| condition["type"] == "Suspended" && condition["status"] == "True");
    let waiting = old_job["spec"]["suspend"] == Value::Bool(true)
        && (status["startTime"].is_null() || suspended)
        && status["active"].as_i64().unwrap_or(0) == 0;
    if !waiting {
        errors.invalid_struct(&Path::new("spec.template"), "a.core.v1.PodTemplateSpec", new, IMMUTABLE);
        return;
    }
    let mut old = old.clone();
    for name in ["nodeSelector", "tolerations", "schedulingGates"] {
        copy_field(&new["spec"], &mut old["spec"], name);
    }
    node_affinity(&new["spec"]["affinity"], object_mut(&mut old, &["spec"]));
    for kind in ["containers", "initContainers"] {
        let now = list(new, &["spec", kind]);
        let before = list_mut(&mut old, &["spec", kind]);
        if now.len() != before.len() {
            continue;
        }
        for (before, now) in before.iter_mut().zip(now).filter(|(before, now)| before["name"] == now["name"])
        {
            copy_field(now, before, "resources");
        }
    }
    if new["spec"] != old["spec"] {
        errors.invalid_struct(&Path::new("spec.template.spec"), "a.core.v1.PodSpec", &new["spec"], IMMUTABLE);
    }
}

/// Gives a spec the affinity to nodes that another has; other affinities stay.
fn node_affinity(new: &Value, old: &mut Map<String, Value>) {
    let mut affinity = old.get("affinity").and_then(Value::as_object).cloned().unwrap_or_default();
    match new.get("nodeAffinity") {
        Some(nodes) => affinity.insert("nodeAffinity".to_owned(), nodes.clone()),
        None => affinity.remove("nodeAffinity"),
    };
    // Nothing at all is none, unless it was said to be nothing.
    if affinity.is_empty() && new.is_null() {
        old.remove("affinity");
    } else {
        old.insert("affinity".to_owned(), affinity.into());
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::api::invalid::said;

    #[test]
    fn while_nothing_runs_place_and_resources_may_change() {
        let template = |spec: Value| {
            let mut whole = json!({"containers": [{"name": "c", "image": "i"}]});
            object_mut(&mut whole, &[]).extend(spec.as_object().cloned().unwrap_or_default());
            json!({"metadata": {}, "spec": whole})
        };
        let nodes = json!({"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {}}});
        let more = json!([{"name": "c", "image": "i", "resources": {"requests": {"cpu": "1"}}}]);
        let place = [
            json!({"nodeSelector": {"a": "b"}}),
            json!({"tolerations": [{"operator": "Exists"}]}),
            json!({ "affinity": nodes }),
            json!({ "containers": more }),
        ];
        let other = [
            json!({"affinity": {"podAffinity": {}}}),
            json!({"containers": [{"name": "c", "image": "other"}]}),
            json!({"hostname": "h"}),
        ];
        let job = |suspend: bool, status: Value| json!({"spec": {"suspend": suspend, "template": template(json!({}))}, "status": status});
        let suspended = json!([{"type": "Suspended", "status": "True"}]);
        for (old, waits) in [
            (job(true, json!({})), true),
            (job(true, json!({"startTime": "2026-01-01T00:00:00Z", "conditions": suspended})), true),
            (job(true, json!({"startTime": "2026-01-01T00:00:00Z"})), false),
            (job(true, json!({"active": 1})), false),
            (job(false, json!({})), false),
        ] {
            for change in &place {
                let wrong = said(|errors| kept(&template(change.clone()), &old, errors));
                assert_eq!(wrong.is_empty(), waits, "{change} of {old}: {wrong:?}");
            }
            for change in &other {
                let wrong = said(|errors| kept(&template(change.clone()), &old, errors));
                assert_eq!(wrong.len(), 1, "{change} of {old}");
                let at = if waits { "spec.template.spec: Invalid" } else { "spec.template: Invalid" };
                assert!(wrong[0].starts_with(at), "{wrong:?}");
            }
            assert!(said(|errors| kept(&template(json!({})), &old, errors)).is_empty());
        }
    }
}
