use protocol::apply::Comparison;
use protocol::{ApiError, Client, Verb, resources, schema};
use serde_json::json;

use super::scale::ScaleTracking;
use super::*;

fn subject(group: &str, plural: &str) -> Subject<'static> {
    let found = resources::find(group, "v1", plural).expect("a kind");
    Subject::new(found, "ns", "x").expect("a subject")
}

fn request(manager: &str, subresource: Option<&str>) -> ApiRequest {
    let target = Client::target::<k8s_openapi::api::core::v1::ConfigMap>("ns", Some("x"), subresource);
    let mut request = ApiRequest::new(Verb::Update, target);
    request.options.field_manager = Some(manager.to_owned());
    request
}

fn config_map(data: Value) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "x", "namespace": "ns", "uid": "u"}, "data": data})
}

/// A config map as `manager` makes it.
fn created(manager: &str, data: Value) -> Value {
    let request = request(manager, None);
    let mut made = config_map(data);
    Tracking::of(&request, subject("", "configmaps")).create(&mut made, &Empties::default());
    made
}

fn updated(manager: &str, old: &Value, data: Value) -> Value {
    let request = request(manager, None);
    let mut new = old.clone();
    new["data"] = data;
    Tracking::of(&request, subject("", "configmaps")).update(old, &mut new, &Empties::default());
    new
}

/// The fields of every manager.
fn owners(object: &Value) -> Vec<(String, Value)> {
    let entries = object::list(object, &["metadata", "managedFields"]).iter();
    entries.map(|e| (e["manager"].as_str().unwrap_or_default().to_owned(), e["fieldsV1"].clone())).collect()
}

#[test]
fn writers_own_what_they_write() {
    let made = created("a", json!({"k": "1"}));
    assert_eq!(owners(&made), [("a".to_owned(), json!({"f:data": {".": {}, "f:k": {}}}))]);
    let changed = updated("b", &made, json!({"k": "2"}));
    assert_eq!(
        owners(&changed),
        [("a".to_owned(), json!({"f:data": {}})), ("b".to_owned(), json!({"f:data": {"f:k": {}}}))]
    );
    // Who changes nothing owns nothing.
    assert_eq!(owners(&updated("c", &changed, json!({"k": "2"}))), owners(&changed));
}

#[test]
fn what_a_writer_owns_already_is_found_without_taking_entries_apart() {
    let made = created("a", json!({"k": "1", "l": "1"}));
    let writer = Manager::new("a", Operation::Update, "v1", "");
    let live = &made["metadata"]["managedFields"];
    let changes =
        |path: &[&str]| Comparison { modified: protocol::apply::Set::of(&[path]), ..Comparison::default() };
    assert_eq!(entries::holder(live, &changes(&["data", "k"]), &writer, "v1"), Some(0));
    assert_eq!(entries::holder(live, &changes(&["data", "z"]), &writer, "v1"), None);
    let other = Manager::new("b", Operation::Update, "v1", "");
    assert_eq!(entries::holder(live, &changes(&["data", "k"]), &other, "v1"), None);
    let later = "2030-01-01T00:00:00Z";
    let kept = entries::dated(live.clone(), 0, later);
    assert_eq!((kept[0]["time"].as_str(), &kept[0]["fieldsV1"]), (Some(later), &live[0]["fieldsV1"]));
}

#[test]
fn managers_can_be_forgotten_by_hand() {
    let made = created("a", json!({"k": "1"}));
    for reset in [json!([]), json!([{}])] {
        let request = request("b", None);
        let mut new = made.clone();
        new["metadata"]["managedFields"] = reset.clone();
        Tracking::of(&request, subject("", "configmaps")).update(&made, &mut new, &Empties::default());
        assert_eq!(new["metadata"].get("managedFields"), None, "{reset}");
        // And are not followed any more.
        assert_eq!(updated("c", &new, json!({"k": "9"}))["metadata"].get("managedFields"), None);
    }
    // Nor are they where a version is none: nobody could tell what is owned.
    let request = request("b", None);
    let mut new = made.clone();
    new["metadata"]["managedFields"] = json!([{"manager": "x", "operation": "Update", "apiVersion": "a/b/c",
        "fieldsType": "FieldsV1", "fieldsV1": {"f:data": {}}}]);
    Tracking::of(&request, subject("", "configmaps")).update(&made, &mut new, &Empties::default());
    assert_eq!(new["metadata"].get("managedFields"), None);
    // What is left out, or is not understood, is as if the write had not mentioned it.
    for entries in [Value::Null, json!([{"manager": "x", "operation": "Delete"}])] {
        let request = self::request("a", None);
        let mut new = made.clone();
        new["metadata"]["managedFields"] = entries.clone();
        Tracking::of(&request, subject("", "configmaps")).update(&made, &mut new, &Empties::default());
        assert_eq!(owners(&new), owners(&made), "{entries}");
    }
}

#[test]
fn times_are_kept_where_nothing_changes() {
    let made = created("a", json!({"k": "1"}));
    let mut later = made.clone();
    later["metadata"]["managedFields"][0]["time"] = "2030-01-01T00:00:00Z".into();
    let mut same = later.clone();
    entries::keep_times(&made, &mut same);
    assert_eq!(same, made);
    later["data"]["k"] = "2".into();
    let mut other = later.clone();
    entries::keep_times(&made, &mut other);
    assert_eq!(other, later);
}

fn deployment(replicas: i64) -> Value {
    json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "x"}, "spec": {"replicas": replicas}})
}

fn apply(manager: &str, old: Option<&Value>, config: &Value, force: bool) -> Result<Value, ApiError> {
    let request = request(manager, None);
    Tracking::of(&request, subject("apps", "deployments")).apply(old, config, force).map(|made| made.value)
}

#[test]
fn conflicts_and_wrong_configurations_are_answered_in_upstreams_words() {
    let mut made = apply("a", None, &deployment(1), false).expect("applied");
    made["metadata"]["uid"] = "u".into();
    let status = |result: Result<Value, ApiError>| result.expect_err("refused").to_status();
    let conflict = status(apply("b", Some(&made), &deployment(2), false));
    assert_eq!(conflict["code"], 409);
    assert_eq!(conflict["message"], "Apply failed with 1 conflict: conflict with \"a\": .spec.replicas");
    assert_eq!(
        conflict["details"],
        json!({"causes": [{"reason": "FieldManagerConflict", "message": "conflict with \"a\"", "field": ".spec.replicas"}]})
    );
    assert!(apply("b", Some(&made), &deployment(2), true).is_ok());
    let mut wrong = deployment(1);
    wrong["spec"]["golden"] = 1.into();
    let cases = [
        (json!({"metadata": {"name": "x"}}), 400, "invalid object type: /, Kind="),
        (json!({"apiVersion": "v1", "kind": "Pod"}), 400, "invalid object type: /v1, Kind=Pod"),
        (
            json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"managedFields": []}}),
            400,
            "metadata.managedFields must be nil",
        ),
        (
            wrong,
            500,
            "failed to create typed patch object (/x; apps/v1, Kind=Deployment): .spec.golden: field not declared in schema",
        ),
    ];
    for (config, code, message) in cases {
        let refused = status(apply("b", Some(&made), &config, false));
        assert_eq!((&refused["code"], &refused["message"]), (&json!(code), &json!(message)), "{config}");
    }
}

#[test]
fn kubectl_takes_over_what_its_client_side_apply_left() {
    let annotation = "kubectl.kubernetes.io/last-applied-configuration";
    let applied = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "x"}, "spec": {"replicas": 1}});
    let mut made = deployment(1);
    made["metadata"]["annotations"][annotation] = applied.to_string().into();
    let by = request("kubectl-client-side-apply", None);
    Tracking::of(&by, subject("apps", "deployments")).create(&mut made, &Empties::default());
    made["metadata"]["uid"] = "u".into();
    assert!(apply("somebody", Some(&made), &deployment(2), false).is_err());
    let taken = apply("kubectl", Some(&made), &deployment(2), false).expect("taken over");
    assert_eq!(taken["spec"]["replicas"], 2);
    let kept = taken["metadata"]["annotations"][annotation].as_str().unwrap_or_default();
    assert_eq!(serde_json::from_str::<Value>(kept).expect("JSON"), deployment(2));
    assert!(kept.ends_with('\n'));
    // What changed since then is somebody else's.
    made["spec"]["replicas"] = 3.into();
    assert!(apply("kubectl", Some(&made), &deployment(2), false).is_err());
}

#[test]
fn an_object_that_was_not_followed_gets_a_first_manager() {
    let mut made = deployment(1);
    made["metadata"]["uid"] = "u".into();
    let applied = apply(
        "a",
        Some(&made),
        &json!({"apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"name": "x", "labels": {"l": "1"}}}),
        false,
    )
    .expect("applied");
    let names: Vec<String> = owners(&applied).into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["a", "before-first-apply"]);
}

#[test]
fn replicas_change_hands_through_the_scale() {
    let made = apply("a", None, &deployment(1), false).expect("applied");
    let definition = schema::kind("autoscaling", "v1", "Scale").expect("scales");
    let scale = |replicas: i64| json!({"apiVersion": "autoscaling/v1", "kind": "Scale", "metadata": {"name": "x", "uid": "u"}, "spec": {"replicas": replicas}});
    let by = request("s", Some("scale"));
    let tracking = ScaleTracking::of(&by, subject("apps", "deployments"), definition);
    let mut before = scale(1);
    tracking.show(&made, &mut before).expect("shown");
    assert_eq!(owners(&before), [("a".to_owned(), json!({"f:spec": {"f:replicas": {}}}))]);
    let mut after = scale(5);
    tracking.update(&before, &mut after);
    let mut parent = made.clone();
    tracking.hand_down(&after, &mut parent).expect("handed down");
    let entry = &parent["metadata"]["managedFields"][0];
    assert_eq!(owners(&parent), [("s".to_owned(), json!({"f:spec": {"f:replicas": {}}}))]);
    assert_eq!((&entry["apiVersion"], &entry["subresource"]), (&json!("apps/v1"), &json!("scale")));
    assert!(tracking.apply(&before, &scale(2), false).is_err());
}

#[test]
fn lists_that_are_shown_even_if_they_are_empty_are_owned_by_who_gave_them() {
    let client = request("m", None);
    for (given, owned) in [(json!({"rules": []}), true), (json!({"rules": null}), false), (json!({}), false)]
    {
        let roles = subject("rbac.authorization.k8s.io", "roles");
        let empties = Empties::of(roles.definition, &given);
        let mut role = json!({"metadata": {"name": "a"}, "rules": null});
        Tracking::of(&client, roles).create(&mut role, &empties);
        let fields = &role["metadata"]["managedFields"][0]["fieldsV1"];
        assert_eq!(fields.get("f:rules").is_some(), owned, "{given}");
        // It is shown as it is stored.
        assert!(role["rules"].is_null(), "{role}");
    }
}

#[test]
fn another_groups_owners_of_an_event_are_gone_with_a_write_through_the_core_group() {
    let event = json!({"apiVersion": "v1", "kind": "Event", "metadata": {"name": "x", "namespace": "ns"},
        "involvedObject": {"kind": "Pod", "name": "p", "namespace": "ns"}, "reason": "Why", "count": 1});
    let mut made = event.clone();
    let of = subject("events.k8s.io", "events");
    Tracking::of(&request("a", None), of).create(&mut made, &Empties::default());
    assert_eq!(owners(&made).len(), 1);
    for (group, expected) in [("events.k8s.io", vec!["a", "b"]), ("", vec!["b"])] {
        let mut changed = made.clone();
        changed["count"] = 2.into();
        Tracking::of(&request("b", None), subject(group, "events")).update(
            &made,
            &mut changed,
            &Empties::default(),
        );
        let names: Vec<String> = owners(&changed).into_iter().map(|(name, _)| name).collect();
        assert_eq!(names, expected, "{group}");
    }
}
