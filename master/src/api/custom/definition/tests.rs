use serde_json::json;

use super::*;

fn definition() -> Value {
    let mut value = json!({"metadata": {"name": "things.example.com"}, "spec": {"group": "example.com",
        "scope": "Namespaced", "names": {"plural": "things", "kind": "Thing"}, "versions": [
            {"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": {"type": "object"}}}]}});
    defaults(&mut value);
    prepare_create(&mut value);
    value
}

fn errors_of(value: &Value) -> Vec<String> {
    let mut errors = Errors::default();
    validate(value, &mut errors);
    validate_create(value, &mut errors);
    errors.messages()
}

#[test]
fn a_plain_definition_is_completed_and_good() {
    let value = definition();
    assert_eq!(value["spec"]["names"]["listKind"], "ThingList");
    assert_eq!(value["spec"]["conversion"], json!({"strategy": "None"}));
    assert_eq!(value["status"]["storedVersions"], json!(["v1"]));
    assert_eq!(errors_of(&value), Vec::<String>::new());
}

#[test]
fn a_definition_is_called_by_what_it_defines() {
    let value = definition();
    let name = object::name(&value);
    assert_eq!(own_name(&value, name), None);
    let why = "must be spec.names.plural+\".\"+spec.group";
    assert_eq!(own_name(&value, "x").as_deref(), Some(why));
}

#[test]
fn what_is_wrong_is_told_where_upstream_tells_it() {
    type Change = fn(&mut Value);
    let cases: [(Change, &str); 5] = [
        (
            |v| v["spec"]["scope"] = "x".into(),
            "spec.scope: Unsupported value: \"x\": supported values: \"Cluster\", \"Namespaced\"",
        ),
        (
            |v| {
                v["spec"]["versions"][0]["schema"]["openAPIV3Schema"] =
                    json!({"type": "object", "properties": {"a": {}}})
            },
            "spec.validation.openAPIV3Schema.properties[a].type: Required value: must not be empty for specified object fields",
        ),
        (
            |v| {
                v["spec"]["versions"][0]["subresources"] =
                    json!({"scale": {"specReplicasPath": ".x", "statusReplicasPath": ".status.r"}})
            },
            "spec.subresources.scale.specReplicasPath: Invalid value: \".x\": should be a json path under .spec",
        ),
        (
            |v| {
                v["spec"]["versions"][0]["additionalPrinterColumns"] =
                    json!([{"name": "X", "type": "string"}])
            },
            "spec.additionalPrinterColumns[0].JSONPath: Required value",
        ),
        (
            |v| v["spec"]["versions"][0]["selectableFields"] = json!([{"jsonPath": "spec.x"}]),
            "spec.selectableFields[0].jsonPath: Invalid value: \"spec.x\": is an invalid path: expected [ or . but got: spec",
        ),
    ];
    for (change, wanted) in cases {
        let mut value = definition();
        change(&mut value);
        assert_eq!(errors_of(&value), [wanted]);
    }
}

#[test]
fn who_keeps_unknown_fields_converts_nothing() {
    let mut value = definition();
    value["spec"]["preserveUnknownFields"] = true.into();
    let conversion = "spec.conversion.strategy: Invalid value: \"Webhook\": must be None if spec.preserveUnknownFields is true";
    assert!(!errors_of(&value).iter().any(|told| told == conversion));
    value["spec"]["conversion"]["strategy"] = "Webhook".into();
    assert!(errors_of(&value).iter().any(|told| told == conversion), "{:?}", errors_of(&value));
}

#[test]
fn a_storage_version_is_remembered() {
    let old = definition();
    let mut new = old.clone();
    let mut second = new["spec"]["versions"][0].clone();
    second["name"] = "v2".into();
    new["spec"]["versions"][0]["storage"] = false.into();
    new["spec"]["versions"].as_array_mut().expect("list").push(second);
    prepare_update(&mut new, &old);
    assert_eq!(new["status"]["storedVersions"], json!(["v1", "v2"]));
    assert_eq!(errors_of(&new), Vec::<String>::new());
    new["spec"]["versions"].as_array_mut().expect("list").remove(0);
    assert!(
        errors_of(&new)[0]
            .starts_with("status.storedVersions[0]: Invalid value: \"v1\": missing from spec.versions")
    );
}

#[test]
fn what_was_stored_stays_among_the_versions() {
    let told = |stored: Value, versions: Value| {
        let mut errors = Errors::default();
        stored_versions(
            &json!({"spec": {"versions": versions}, "status": {"storedVersions": stored}}),
            &mut errors,
        );
        errors.messages()
    };
    let version = |name: &str| json!({"name": name, "storage": true});
    assert!(told(json!(["v1"]), json!([version("v1")])).is_empty());
    let none = "status.storedVersions: Invalid value: null: must have at least one stored version";
    assert_eq!(told(json!([]), json!([version("v1")])), [none]);
    // A name that is there twice is found once.
    let twice = told(json!(["v1"]), json!([version("v1"), version("v1")]));
    assert_eq!(twice, ["status.storedVersions: Invalid value: [\"v1\"]: must have the storage version v1"]);
    assert_eq!(told(json!(["v0", "v1"]), json!([version("v1")])).len(), 1);
}

#[test]
fn forms_without_a_meaning_are_told_when_they_come() {
    let with = |format: &str| {
        let mut value = definition();
        value["spec"]["versions"][0]["schema"]["openAPIV3Schema"] =
            json!({"type": "object", "properties": {"a": {"type": "string", "format": format}}});
        value
    };
    let told = |new: &Value, old: Option<&Value>| {
        let mut said = Vec::new();
        warnings(new, old, &mut said);
        said
    };
    assert_eq!(told(&with("x"), None), ["unrecognized format \"x\""]);
    assert!(told(&with("x"), Some(&with("x"))).is_empty());
    assert!(told(&with("date-time"), None).is_empty());
}
