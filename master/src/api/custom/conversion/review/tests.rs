use serde_json::{Value, json};

use super::*;

fn given() -> Value {
    json!({"apiVersion": "example.com/v1", "kind": "Thing", "spec": {"size": 1}, "metadata": {
        "name": "a", "namespace": "n", "uid": "u", "resourceVersion": "7", "labels": {"x": "y"}}})
}

fn made() -> Value {
    json!({"apiVersion": "example.com/v2", "kind": "Thing", "spec": {"sizes": [1]}, "metadata": {
        "name": "a", "namespace": "n", "uid": "u", "resourceVersion": "999", "labels": {"x": "y"}}})
}

fn answer(objects: Value) -> Value {
    json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "ConversionReview", "response": {
        "uid": "1", "result": {"status": "Success"}, "convertedObjects": objects}})
}

fn check(mut answer: Value) -> Result<Vec<Value>, String> {
    Dialect::V1.accept("1", "example.com/v2", &[given()], &mut answer)
}

fn changed(change: impl FnOnce(&mut Value)) -> Value {
    let mut made = made();
    change(&mut made);
    answer(json!([made]))
}

#[test]
fn a_question_names_the_version_wanted() {
    let question = Dialect::V1.question("1", "example.com/v2", &[given()]);
    assert_eq!(question["apiVersion"], "apiextensions.k8s.io/v1");
    assert_eq!(question["request"]["desiredAPIVersion"], "example.com/v2");
    assert_eq!(question["request"]["objects"], json!([given()]));
    assert_eq!(Dialect::chosen(&[json!("v7"), json!("v1beta1"), json!("v1")]), Some(Dialect::V1Beta1));
    assert_eq!(Dialect::chosen(&[json!("v7")]), None);
}

#[test]
fn only_labels_and_annotations_come_back_changed() {
    let made = check(changed(|made| {
        made["metadata"]["labels"] = json!({"z": "w"});
        made["metadata"]["annotations"] = json!({"a": "b"});
        made["metadata"]["finalizers"] = json!(["mine"]);
    }));
    let made = made.expect("a good answer");
    let metadata = json!({"name": "a", "namespace": "n", "uid": "u", "resourceVersion": "7",
        "labels": {"z": "w"}, "annotations": {"a": "b"}});
    assert_eq!(made[0]["metadata"], metadata);
    assert_eq!(made[0]["spec"], json!({"sizes": [1]}));
    let bare = check(changed(|made| made["metadata"]["labels"] = Value::Null)).expect("a good answer");
    assert_eq!(bare[0]["metadata"].get("labels"), None);
}

#[test]
fn other_answers_are_refused_as_upstream_words_it() {
    let by = "conversion webhook for example.com/v1, Kind=Thing";
    let with = |pointer: &'static str, value: Value| {
        let mut answer = answer(json!([made()]));
        *answer.pointer_mut(pointer).expect("is there") = value;
        answer
    };
    let cases = [
        (
            with("/kind", json!("Other")),
            format!(
                "{by} failed: expected webhook response of apiextensions.k8s.io/v1, Kind=ConversionReview, got \
                 apiextensions.k8s.io/v1, Kind=Other"
            ),
        ),
        (with("/response", Value::Null), format!("{by} failed: no response provided")),
        (with("/response/uid", json!("2")), format!("{by} failed: expected response.uid=\"1\", got \"2\"")),
        (
            with("/response/result", json!({"status": "Failure", "message": "no idea"})),
            format!("{by} failed: no idea"),
        ),
        (
            with("/response/result", json!({})),
            format!("{by} failed: response.result.status was '', not 'Success'"),
        ),
        (answer(json!([])), format!("{by} returned 0 objects, expected 1")),
        (
            changed(|made| made["apiVersion"] = json!("example.com/v3")),
            format!(
                "{by} returned invalid object at index 0: invalid groupVersion (expected example.com/v2, received \
                 example.com/v3)"
            ),
        ),
        (
            changed(|made| made["kind"] = json!("Other")),
            format!("{by} returned invalid object at index 0: invalid kind (expected Thing, received Other)"),
        ),
        (
            changed(|made| made["metadata"]["name"] = json!("b")),
            format!("{by} returned invalid object: must have the same name: a != b"),
        ),
        (
            changed(|made| made["metadata"]["uid"] = json!("v")),
            format!("{by} returned invalid object: must have the same UID: u != v"),
        ),
        (
            changed(|made| made["metadata"]["labels"] = json!({"x": 1})),
            format!(
                "{by} returned invalid metadata: metadata.labels[x] must be a string, but is int64 in converted object"
            ),
        ),
        (
            changed(|made| made["metadata"]["annotations"] = json!([])),
            format!(
                "{by} returned invalid metadata: invalid metadata.annotations of type []interface {{}} in converted \
                 object"
            ),
        ),
    ];
    for (answer, wanted) in cases {
        assert_eq!(check(answer.clone()).err().as_deref(), Some(wanted.as_str()), "{answer}");
    }
    let long = check(changed(|made| made["metadata"]["labels"] = json!({"x": "-"}))).unwrap_err();
    assert!(
        long.starts_with(&format!("{by} returned invalid metadata: metadata.labels: Invalid value")),
        "{long}"
    );
}

#[test]
fn the_older_reviews_say_nothing_of_themselves() {
    let mut answer = json!({"response": {"result": {"status": "Success"}, "convertedObjects": [made()]}});
    assert!(Dialect::V1Beta1.accept("1", "example.com/v2", &[given()], &mut answer).is_ok());
}
