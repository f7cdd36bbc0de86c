//! Lists in chunks: of one moment, as long as the store knows that moment.

use serde_json::{Value, json};

use crate::client::Api;
use crate::plane::Plane;
use crate::plane::etcd::Etcd;
use crate::scene::{Scene, collection, items, name, template};

/// Objects that are listed.
const COUNT: usize = 40;
/// Objects of a chunk.
const LIMIT: usize = 7;

fn fill(api: &Api, templates: &str) {
    for number in 0..COUNT {
        let object = json!({"metadata": {"name": format!("t{number:03}")}, "template": template("x")});
        api.post(templates, &object).ok();
    }
}

fn token(list: &Value) -> String {
    list["metadata"]["continue"].as_str().unwrap_or_default().to_owned()
}

fn left(list: &Value) -> usize {
    let left = list["metadata"]["remainingItemCount"].as_u64().unwrap_or(0);
    usize::try_from(left).expect("a few")
}

fn names(items: &[Value]) -> Vec<String> {
    items.iter().map(|item| name(item).to_owned()).collect()
}

/// Reads on from a chunk to the end; all chunks show the same moment.
fn rest(api: &Api, templates: &str, chunk: Value) -> Vec<Value> {
    let (mut all, version) = (items(&chunk), chunk["metadata"]["resourceVersion"].clone());
    let begun = COUNT - left(&chunk) - all.len();
    let mut chunk = chunk;
    while !token(&chunk).is_empty() {
        chunk = api.get(&format!("{templates}?limit={LIMIT}&continue={}", token(&chunk))).ok();
        assert!(items(&chunk).len() <= LIMIT && chunk["metadata"]["resourceVersion"] == version, "{chunk}");
        all.extend(items(&chunk));
        assert_eq!(begun + all.len() + left(&chunk), COUNT);
    }
    all
}

pub fn of_one_moment(scene: &Scene) {
    let templates = scene.core("podtemplates");
    fill(scene.api, &templates);
    let first = scene.get(&format!("{templates}?limit={LIMIT}"));
    assert_eq!((items(&first).len(), left(&first)), (LIMIT, COUNT - LIMIT));
    // What is changed, made and deleted meanwhile is not seen.
    scene.create(&templates, &json!({"metadata": {"name": "t999"}, "template": template("x")}));
    scene.api.delete(&format!("{templates}/t039")).ok();
    let all = rest(scene.api, &templates, first);
    let expected: Vec<String> = (0..COUNT).map(|number| format!("t{number:03}")).collect();
    assert_eq!(names(&all), expected);
    let whole = scene.get(&templates);
    assert_eq!((items(&whole).len(), token(&whole)), (COUNT, String::new()));
    assert_eq!(names(&items(&whole)).last().map(String::as_str), Some("t999"));
}

pub fn of_a_moment_that_is_forgotten(_: &Scene) {
    let etcd = Etcd::start();
    let plane = Plane::on(vec![etcd.endpoint.clone()], |_, _| {});
    let api = Api::of(&plane);
    let templates = collection("v1", "default", "podtemplates");
    fill(&api, &templates);
    let first = api.get(&format!("{templates}?limit={LIMIT}")).ok();
    let last = api.merge(&format!("{templates}/t039"), &json!({"metadata": {"labels": {"of": "now"}}})).ok();
    let version = last["metadata"]["resourceVersion"].as_str().expect("a version");
    etcd.forget(version);
    let expired = api.get(&format!("{templates}?limit={LIMIT}&continue={}", token(&first)));
    let status = expired.body.clone();
    let said = expired.refused(410);
    assert!(said.starts_with("The provided continue parameter is too old"), "{said}");
    assert_eq!(status["reason"], "Expired");
    let onward = status["metadata"]["continue"].as_str().expect("a token for the rest");
    let second = api.get(&format!("{templates}?limit={LIMIT}&continue={onward}")).ok();
    assert_eq!(left(&second), COUNT - 2 * LIMIT);
    let moment = second["metadata"]["resourceVersion"].clone();
    assert_ne!(moment, first["metadata"]["resourceVersion"], "it is as things are now");
    let all = rest(&api, &templates, second);
    let expected: Vec<String> = (LIMIT..COUNT).map(|number| format!("t{number:03}")).collect();
    assert_eq!(names(&all), expected);
    assert_eq!(all.last().expect("the last")["metadata"]["labels"]["of"], "now");
}
