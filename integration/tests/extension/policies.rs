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

#[test]
fn admission_is_configured_by_a_file_and_by_flags() {
    let plane = Plane::with(|options, dir| {
        let (file, plugin) = (dir.join("admission.yaml"), dir.join("pod-security.yaml"));
        let config = "apiVersion: apiserver.config.k8s.io/v1\nkind: AdmissionConfiguration\nplugins:\n\
                      - {name: PodSecurity, path: pod-security.yaml}\n\
                      - name: ResourceQuota\n  configuration:\n    apiVersion: apiserver.config.k8s.io/v1\n    \
                      kind: ResourceQuotaConfiguration\n    limitedResources:\n    \
                      - {resource: services, matchContains: [services.nodeports]}\n";
        std::fs::write(&file, config).expect("a file");
        let security = "apiVersion: pod-security.admission.config.k8s.io/v1\nkind: PodSecurityConfiguration\n\
                        defaults: {enforce: baseline, audit: restricted}\n\
                        exemptions: {namespaces: [free]}\n";
        std::fs::write(&plugin, security).expect("a file");
        options.admission_control_config_file = Some(file);
        options.disable_admission_plugins = vec!["DefaultTolerationSeconds".to_owned()];
    });
    let account = |namespace: &str| {
        let args = ["get", "serviceaccount", "default", "-o", "name", "-n", namespace];
        plane.until(&args, |said| said.starts_with("serviceaccount/"));
    };
    let pod = |name: &str, namespace: &str, privileged: bool| {
        json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": namespace}, "spec": {
            "schedulerName": "nobody", "containers": [{"name": "c", "image": "registry.example.com/c",
                "securityContext": {"privileged": privileged}}]}})
    };
    plane.kubectl(&["create", "namespace", "free"]);
    account("default");
    account("free");
    let create = ["create", "-f", "-"];
    let said = plane.refused(&create, &pod("a", "default", true).to_string());
    assert!(said.contains("violates PodSecurity \"baseline:latest\": privileged"), "{said}");
    plane.create(&pod("b", "default", false));
    plane.create(&pod("c", "free", true));
    let record = |name: &'static str| {
        let made = |r: &Value| {
            r["objectRef"]["name"] == name && r["verb"] == "create" && r["stage"] == "ResponseComplete"
        };
        plane.audited(made)["annotations"].clone()
    };
    let annotations = record("b");
    assert_eq!(annotations["pod-security.kubernetes.io/enforce-policy"], "baseline:latest");
    let told = annotations["pod-security.kubernetes.io/audit-violations"].as_str().unwrap_or_default();
    assert!(told.starts_with("would violate PodSecurity \"restricted:latest\": "), "{told}");
    assert_eq!(record("c")["pod-security.kubernetes.io/exempt"], "namespace");
    let tolerations = plane.kubectl(&["get", "pod", "b", "-o", "jsonpath={.spec.tolerations}"]);
    assert_eq!(tolerations, "", "the plugin that adds them is off");

    let service = |name: &str| {
        json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": name},
            "spec": {"type": "NodePort", "ports": [{"port": 80}]}})
    };
    let said = plane.refused(&create, &service("a").to_string());
    assert!(said.contains("insufficient quota to consume: services.nodeports"), "{said}");
    plane.kubectl(&["create", "quota", "ports", "--hard=services.nodeports=1"]);
    plane.until(&["get", "quota", "ports", "-o", "jsonpath={.status.used}"], |said| said.contains('0'));
    plane.create(&service("a"));
}
