//! Validating admission policies: what is said of their expressions, and what they say in the audit log.

use serde_json::{Value, json};

use crate::plane::Plane;

fn policy(name: &str, more: Value) -> Value {
    let mut spec = json!({"matchConstraints": {"resourceRules": [{"apiGroups": [""], "apiVersions": ["v1"],
        "operations": ["CREATE"], "resources": ["configmaps"]}]}});
    for (field, value) in more.as_object().into_iter().flatten() {
        spec[field] = value.clone();
    }
    json!({"apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicy",
        "metadata": {"name": name}, "spec": spec})
}

#[test]
fn expressions_are_checked_for_the_kinds_that_they_are_about() {
    let plane = Plane::start();
    plane.apply(&policy("wrong", json!({"validations": [{"expression": "object.date == 'x'"}]})));
    plane.apply(&policy("right", json!({"validations": [{"expression": "object.data['a'] == 'x'"}]})));
    let status = |name: &str| {
        let path = "jsonpath={.status.observedGeneration} {.status.typeChecking.expressionWarnings}";
        let args = ["get", "validatingadmissionpolicy", name, "-o", path];
        plane.until(&args, |said| said.starts_with('1'))
    };
    assert_eq!(status("right").trim(), "1");
    let warnings: Value = serde_json::from_str(&status("wrong")[2..]).expect("JSON");
    let text = "/v1, Kind=ConfigMap: ERROR: <input>:1:7: undefined field 'date'\n | object.date == 'x'\n | ......^\n";
    assert_eq!(warnings, json!([{"fieldRef": "spec.validations[0].expression", "warning": text}]));
}

#[test]
fn policies_say_in_the_audit_log_what_they_have_to_say() {
    let plane = Plane::start();
    plane.apply(&policy(
        "named",
        json!({
        "validations": [{"expression": "true"}, {"expression": "has(object.data)", "message": "it is empty"}],
        "auditAnnotations": [{"key": "who", "valueExpression": "'by ' + request.userInfo.username"},
            {"key": "nothing", "valueExpression": "null"}]}),
    ));
    plane.apply(
        &json!({"apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicyBinding",
        "metadata": {"name": "bound"}, "spec": {"policyName": "named", "validationActions": ["Audit"],
            "matchResources": {"objectSelector": {"matchLabels": {"test": "yes"}}}}}),
    );
    plane.apply(
        &json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a", "labels": {"test": "yes"}},
        "data": {}}),
    );
    let record = plane.audited(|r| {
        r["objectRef"]["name"] == "a" && r["verb"] == "create" && r["stage"] == "ResponseComplete"
    });
    let annotations = &record["annotations"];
    assert_eq!(annotations["named/who"], "by admin");
    assert_eq!(annotations.get("named/nothing"), None);
    let failure =
        annotations["validation.policy.admission.k8s.io/validation_failure"].as_str().unwrap_or_default();
    let failure: Value = serde_json::from_str(failure).expect("JSON");
    let expected = json!([{"message": "it is empty", "policy": "named", "binding": "bound", "expressionIndex": 1,
        "validationActions": ["Audit"]}]);
    assert_eq!(failure, expected);
}
