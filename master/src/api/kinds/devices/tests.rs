use serde_json::json;

use super::*;

fn said(check: impl Fn(&Path, &mut Errors)) -> Vec<String> {
    let mut errors = Errors::default();
    check(&Path::new("f"), &mut errors);
    errors.messages()
}

#[test]
fn requests_are_found_by_name() {
    let class = |name: &str| json!({"name": name, "deviceClassName": "c", "allocationMode": "All"});
    let exactly = |name: &str| json!({"name": name, "exactly": class("")});
    let devices = json!({
        "requests": [exactly("a"), {"name": "b", "firstAvailable": [class("x"), class("x")]}, exactly("a")],
        "config": [{"requests": ["a", "b/x", "b/y", "a"], "opaque": {"driver": "d", "parameters": [1]}}],
    });
    let detail = "must be the name of a request in the claim or the name of a request and a subrequest separated \
                  by '/'";
    assert_eq!(
        said(|path, errors| claim_spec(&json!({"devices": devices}), path, errors)),
        [
            "f.devices.requests[1].firstAvailable[1]: Duplicate value: \"x\"".to_owned(),
            "f.devices.requests[2]: Duplicate value: \"a\"".to_owned(),
            format!("f.devices.config[0].requests[2]: Invalid value: \"b/y\": {detail}"),
            "f.devices.config[0].requests[3]: Duplicate value: \"a\"".to_owned(),
            "f.devices.config[0].opaque.parameters: Invalid value: \"<value omitted>\": must be a valid JSON object"
                .to_owned(),
        ]
    );
    let many = json!({"devices": {"requests": vec![exactly("a"); 33]}});
    let told = said(|path, errors| claim_spec(&many, path, errors));
    assert_eq!(told, ["f.devices.requests: Too many: 33: must have at most 32 items"]);
}

#[test]
fn attributes_have_a_name_and_perhaps_a_domain() {
    for (name, full, count) in [
        ("a", false, 0),
        ("a", true, 1),
        ("d.io/a", true, 0),
        ("/a", true, 1),
        ("d/", false, 1),
        ("d/a/b", true, 0),
        ("a-b", false, 1),
    ] {
        let told = said(|path, errors| qualified_attribute(name, full, path, errors));
        assert_eq!(told.len(), count, "{name} {told:?}");
    }
}

#[test]
fn taints_tell_since_when() {
    let before = "2020-01-01T00:00:00Z";
    let taints = json!([{"key": "a"}, {"key": "b", "timeAdded": before}]);
    let mut object = json!({"spec": {"devices": [{"taints": taints}]}});
    (slice().defaults)(&mut object);
    let taints = list(&object["spec"]["devices"][0], &["taints"]);
    assert!(text(&taints[0], &["timeAdded"]) > before, "{taints:?}");
    assert_eq!(taints[1]["timeAdded"], before);
}

#[test]
fn a_template_says_how_claims_are_labelled_and_nothing_else() {
    for (meta, wanted) in [
        (json!({}), vec![]),
        (json!({"labels": {"a": "b"}, "annotations": {"a": "b"}, "name": "", "generation": 0}), vec![]),
        (
            json!({"uid": "x", "name": "n"}),
            vec!["f.name: Forbidden: cannot be set", "f.uID: Forbidden: cannot be set"],
        ),
        (
            json!({"deletionGracePeriodSeconds": 0}),
            vec!["f.deletionGracePeriodSeconds: Forbidden: cannot be set"],
        ),
    ] {
        assert_eq!(said(|path, errors| checks::template_metadata(&meta, path, errors)), wanted, "{meta}");
    }
}

#[test]
fn devices_wait_for_some_conditions_and_fail_by_others() {
    for (device, wanted) in [
        (json!({"bindingConditions": ["a"], "bindingFailureConditions": ["b"]}), vec![]),
        (
            json!({"bindingConditions": ["a"]}),
            vec![
                "f.bindingFailureConditions: Invalid value: null: bindingFailureConditions are required to use \
                 bindingConditions",
            ],
        ),
        (
            json!({"bindingConditions": ["a", "a"], "bindingFailureConditions": ["a", "b!"]}),
            vec![
                "f.bindingFailureConditions[1]: Invalid value: \"b!\": name part must consist of alphanumeric \
                 characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  \
                 or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')",
                "f.bindingConditions[1]: Duplicate value: \"a\"",
                "f.bindingFailureConditions[0]: Invalid value: \"a\": bindingFailureConditions must not overlap with \
                 bindingConditions",
            ],
        ),
    ] {
        assert_eq!(said(|path, errors| binding_conditions(&device, path, errors)), wanted, "{device}");
    }
}
