use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::schema;

fn pod(original: Value, patch: Value) -> Result<Value, PatchError> {
    let mut target = original;
    strategic(schema::kind("", "v1", "Pod").expect("pod"), &mut target, patch)?;
    Ok(target)
}

fn containers(names: &[&str]) -> Value {
    json!({"spec": {"containers": names.iter().map(|n| json!({"name": n, "image": "x"})).collect::<Vec<_>>()}})
}

#[test]
fn lists_merge_by_key() {
    let patched = pod(
        containers(&["a", "b"]),
        json!({"spec": {"containers": [{"name": "b", "image": "y"}, {"name": "c"}]}}),
    );
    let expected = json!({"spec": {"containers": [
        {"name": "a", "image": "x"}, {"name": "b", "image": "y"}, {"name": "c"}]}});
    assert_eq!(patched, Ok(expected));
}

#[test]
fn new_entries_come_where_the_patch_has_them() {
    let patch = |names: &[&str]| json!({"spec": {"containers": names.iter().map(|n| json!({"name": n, "image": "x"})).collect::<Vec<_>>()}});
    assert_eq!(pod(containers(&["a", "b"]), patch(&["c"])), Ok(containers(&["c", "a", "b"])));
    assert_eq!(pod(containers(&["a", "b"]), patch(&["a", "c"])), Ok(containers(&["a", "c", "b"])));
}

#[test]
fn directives_delete_replace_and_retain() {
    let cases = [
        (json!({"spec": {"containers": [{"$patch": "delete", "name": "a"}]}}), containers(&["b"])),
        (
            json!({"spec": {"containers": [{"$patch": "replace"}, {"name": "z", "image": "x"}]}}),
            containers(&["z"]),
        ),
        (json!({"spec": {"$patch": "replace", "nodeName": "n"}}), json!({"spec": {"nodeName": "n"}})),
        (json!({"spec": {"$retainKeys": ["nodeName"], "nodeName": "n"}}), json!({"spec": {"nodeName": "n"}})),
        (json!({"spec": {"containers": null}}), json!({"spec": {}})),
    ];
    for (patch, expected) in cases {
        assert_eq!(pod(containers(&["a", "b"]), patch.clone()), Ok(expected), "{patch}");
    }
}

#[test]
fn primitive_lists_and_orders() {
    let finalizers = |list: &[&str]| json!({"metadata": {"finalizers": list}});
    assert_eq!(pod(finalizers(&["a", "b"]), finalizers(&["b", "c"])), Ok(finalizers(&["a", "b", "c"])));
    let gone = json!({"metadata": {"$deleteFromPrimitiveList/finalizers": ["a"]}});
    assert_eq!(pod(finalizers(&["a", "b"]), gone), Ok(finalizers(&["b"])));
    let order = json!({"spec": {"$setElementOrder/containers": [{"name": "c"}, {"name": "a"}]}});
    assert_eq!(pod(containers(&["a", "b", "c"]), order), Ok(containers(&["b", "c", "a"])));
}

#[test]
fn atomic_lists_are_replaced() {
    let original = json!({"spec": {"containers": [{"name": "a", "args": ["1", "2"]}]}});
    let patch = json!({"spec": {"containers": [{"name": "a", "args": ["3"]}]}});
    assert_eq!(pod(original, patch.clone()), Ok(patch));
}

#[test]
fn an_entry_without_its_key_is_refused() {
    let error = pod(containers(&["a"]), json!({"spec": {"containers": [{"image": "x"}]}}));
    let message = "map: map[image:x] does not contain declared merge key: name";
    assert_eq!(error, Err(PatchError::Invalid(message.to_owned())));
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        "[a-c]{1,2}".prop_map(Value::from)
    ];
    leaf.prop_recursive(4, 24, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..3).prop_map(Value::from),
            prop::collection::btree_map("[a-d]", inner, 0..4)
                .prop_map(|m| Value::Object(m.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn merging_twice_is_merging_once(original in any_json(), patch in any_json()) {
        let (mut once, mut twice) = (original.clone(), original);
        merge(&mut once, patch.clone());
        merge(&mut twice, patch.clone());
        merge(&mut twice, patch);
        prop_assert_eq!(once, twice);
    }

    #[test]
    fn the_new_state_as_a_strategic_patch_gives_its_entries(old in prop::collection::btree_set("[a-f]", 0..5),
                                                           new in prop::collection::btree_set("[a-f]", 1..5)) {
        let names = |set: &std::collections::BTreeSet<String>| set.iter().map(String::as_str).collect::<Vec<_>>().join(",");
        let patched = pod(containers(&old.iter().map(String::as_str).collect::<Vec<_>>()),
                          containers(&new.iter().map(String::as_str).collect::<Vec<_>>())).expect("patched");
        let mut got: Vec<&str> = patched["spec"]["containers"].as_array().expect("list").iter().filter_map(|c| c["name"].as_str()).collect();
        got.sort_unstable();
        prop_assert_eq!(got.join(","), names(&old.union(&new).cloned().collect()));
    }
}
