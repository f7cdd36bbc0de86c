use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::patch::merge;
use crate::schema;

fn pod(original: Value, patch: Value) -> Result<Value, StrategicError> {
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
    assert_eq!(error, Err(StrategicError::Other(message.to_owned())));
}

#[test]
fn what_is_wrong_is_told_in_upstreams_words() {
    let cases = [
        (
            json!({"metadata": {"labels": {"$patch": "explode"}}}),
            "unknown patch type: explode in map: map[$patch:explode]",
        ),
        (json!({"spec": {"$patch": 1.5}}), "unknown patch type: %!s(float64=1.5) in map: map[$patch:1.5]"),
        (
            json!({"spec": {"$setElementOrder/containers": [{"name": "z"}], "containers": [{"name": "a", "image": "n"}]}}),
            "The order in patch list:\n[map[image:n name:a]]\n doesn't match $setElementOrder list:\n[map[name:z]]\n",
        ),
        (
            json!({"spec": {"containers": [{"$patch": "merge", "name": "a"}]}}),
            "merging lists cannot yet be specified in the patch",
        ),
        (json!({"spec": {"$retainKeys": ["x"], "nodeName": "n"}}), "invalid patch format of retainKeys"),
        (
            json!({"spec": {"$setElementOrder/golden": []}}),
            "unable to find api field in struct PodSpec for the json field \"golden\"",
        ),
        (
            json!({"spec": {"containers": [1]}}),
            "list element types are not identical: [[map[image:x name:a]] [1]]",
        ),
        (json!([]), "invalid JSON document"),
    ];
    for (patch, wanted) in cases {
        let patch = if patch == json!({"metadata": {"labels": {"$patch": "explode"}}}) {
            // Directives act on what is there.
            let original = json!({"metadata": {"labels": {"a": "b"}}});
            assert_eq!(pod(original, patch).map_err(|e| e.to_string()), Err(wanted.to_owned()));
            continue;
        } else {
            patch
        };
        assert_eq!(
            pod(containers(&["a"]), patch.clone()).map_err(|e| e.to_string()),
            Err(wanted.to_owned()),
            "{patch}"
        );
    }
}

#[test]
fn what_is_new_has_no_directives_and_no_nulls() {
    let patch = json!({"spec": {"securityContext": {"runAsUser": null, "fsGroup": 1}, "affinity": {"$patch": "delete"}}});
    let expected = json!({"spec": {"securityContext": {"fsGroup": 1}}});
    assert_eq!(pod(json!({"spec": {}}), patch), Ok(expected));
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

fn any_patch() -> impl Strategy<Value = Value> {
    let key = prop_oneof![
        Just("spec"),
        Just("containers"),
        Just("name"),
        Just("metadata"),
        Just("finalizers"),
        Just("tolerations"),
        Just("$patch"),
        Just("$retainKeys"),
        Just("$setElementOrder/containers"),
        Just("$setElementOrder"),
        Just("$deleteFromPrimitiveList/finalizers"),
        Just("$deleteFromPrimitiveList"),
        Just("volumes"),
    ];
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        "a|b|delete|replace|merge".prop_map(Value::from),
        (0..3).prop_map(Value::from),
    ];
    leaf.prop_recursive(6, 40, 4, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..3).prop_map(Value::from),
            prop::collection::btree_map(key.clone().prop_map(str::to_owned), inner, 0..4)
                .prop_map(|m| Value::Object(m.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn any_patch_is_applied_or_refused(original in any_patch(), patch in any_patch()) {
        let _ = pod(original, patch);
    }

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

#[test]
fn what_is_to_be_replaced_is_not_merged() {
    let budget = schema::kind("policy", "v1", "PodDisruptionBudget").expect("a kind");
    let mut value = json!({"spec": {"minAvailable": 1, "selector": {"matchLabels": {"a": "b"}}}});
    strategic(budget, &mut value, json!({"spec": {"selector": {"matchLabels": {"c": "d"}}}})).expect("fits");
    assert_eq!(value, json!({"spec": {"minAvailable": 1, "selector": {"matchLabels": {"c": "d"}}}}));
}
