use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

fn set(fields: Value) -> Set {
    Set::decode(&fields).expect("fields")
}

#[test]
fn what_is_written_is_what_was_read() {
    let cases = [
        json!({}),
        json!({"f:a": {}}),
        json!({"f:a": {".": {}, "f:b": {}}}),
        json!({"f:spec": {"f:containers": {"k:{\"name\":\"c\"}": {".": {}, "f:image": {}}}}}),
        json!({"f:ports": {"k:{\"containerPort\":80,\"protocol\":\"TCP\"}": {}}}),
        json!({"f:finalizers": {".": {}, "v:\"x/y\"": {}}, "f:list": {"i:3": {}}}),
    ];
    for fields in cases {
        assert_eq!(set(fields.clone()).encode(), fields);
    }
    // Keys are put in order, kinds of the future passed over.
    assert_eq!(set(json!({"k:{\"b\":1,\"a\":2}": {}})).encode(), json!({"k:{\"a\":2,\"b\":1}": {}}));
    assert_eq!(set(json!({"x:future": {}, "f:a": {}})).encode(), json!({"f:a": {}}));
}

#[test]
fn what_is_no_set_is_refused() {
    for fields in [
        json!({"a": {}}),
        json!({"fa": {}}),
        json!({"f:a": 1}),
        json!([]),
        json!({"k:x": {}}),
        json!({"i:x": {}}),
    ] {
        assert!(Set::decode(&fields).is_err(), "{fields}");
    }
}

#[test]
fn differences_leave_or_take_what_is_below() {
    let all = set(json!({"f:a": {".": {}, "f:b": {}, "f:c": {}}, "f:d": {}}));
    let a = set(json!({"f:a": {}}));
    assert_eq!(all.difference(&a).encode(), json!({"f:a": {"f:b": {}, "f:c": {}}, "f:d": {}}));
    assert_eq!(all.recursive_difference(&a).encode(), json!({"f:d": {}}));
}

#[test]
fn paths_come_level_by_level() {
    let all = set(json!({"f:a": {"f:x": {}}, "f:b": {}, "f:l": {"k:{\"n\":\"1\"}": {".": {}, "f:v": {}}}}));
    let shown: Vec<String> = all.paths().iter().map(|p| shown(p)).collect();
    assert_eq!(shown, [".b", ".a.x", ".l[n=\"1\"]", ".l[n=\"1\"].v"]);
}

#[test]
fn the_encoded_form_can_be_asked_without_reading_it() {
    let encoded = json!({"f:a": {".": {}, "f:b": {}}, "f:c": {"k:{\"n\":1}": {"f:v": {}}}});
    let cases = [
        (json!({"f:a": {}}), true, true),
        (json!({"f:a": {"f:b": {}}}), true, true),
        (json!({"f:a": {"f:z": {}}}), false, true),
        (json!({"f:z": {}}), false, false),
        (json!({"f:c": {"k:{\"n\":1}": {"f:v": {}}}}), true, true),
        (json!({"f:c": {}}), false, false),
    ];
    for (fields, held, touched) in cases {
        assert_eq!(set(fields.clone()).is_held_by(&encoded), held, "{fields}");
        // `a` is a member with everything below it, as far as this look goes.
        assert_eq!(set(fields.clone()).may_touch(&encoded), touched, "{fields}");
    }
}

fn any_element() -> impl Strategy<Value = Element> {
    prop_oneof![
        "[a-c]".prop_map(|n| Element::field(&n)),
        ("[a-b]", 0..3i64).prop_map(|(n, v)| Element::key(vec![(n, v.into())])),
        (0..3i64).prop_map(|v| Element::Value(v.into())),
        (0..3i64).prop_map(Element::Index),
    ]
}

fn any_set() -> impl Strategy<Value = Set> {
    prop::collection::vec(prop::collection::vec(any_element(), 1..4), 0..8).prop_map(|paths| {
        let mut set = Set::new();
        paths.into_iter().for_each(|p| set.insert(p));
        set
    })
}

proptest! {
    #[test]
    fn sets_obey_the_algebra_of_sets(a in any_set(), b in any_set(), c in any_set()) {
        prop_assert_eq!(a.union(&b), b.union(&a));
        prop_assert_eq!(a.union(&b).union(&c), a.union(&b.union(&c)));
        prop_assert_eq!(a.intersection(&b), b.intersection(&a));
        prop_assert_eq!(a.difference(&b), a.difference(&a.intersection(&b)));
        prop_assert_eq!(a.difference(&b).union(&a.intersection(&b)), a.clone());
        prop_assert!(a.difference(&b).intersection(&b).is_empty());
        prop_assert!(a.recursive_difference(&a).is_empty());
        prop_assert_eq!(a.len() + b.len(), a.union(&b).len() + a.intersection(&b).len());
    }

    #[test]
    fn sets_survive_being_written(a in any_set()) {
        prop_assert_eq!(Set::decode(&a.encode()), Ok(a));
    }

    #[test]
    fn members_are_found_by_their_paths(a in any_set(), b in any_set()) {
        let both = a.union(&b);
        for path in b.paths() {
            prop_assert!(both.has(&path));
            prop_assert!(!both.difference(&b).has(&path));
        }
    }

    #[test]
    fn looks_at_the_encoded_form_err_on_the_safe_side(a in any_set(), b in any_set()) {
        let encoded = b.encode();
        if a.is_held_by(&encoded) {
            prop_assert!(a.difference(&b).is_empty());
        }
        if !a.intersection(&b).is_empty() {
            prop_assert!(a.may_touch(&encoded));
        }
    }

    #[test]
    fn any_keys_are_read_or_refused(keys in prop::collection::vec(".{0,12}", 0..4)) {
        let fields: serde_json::Map<String, Value> = keys.into_iter().map(|k| (k, json!({"f:x": {}}))).collect();
        let _ = Set::decode(&Value::Object(fields));
    }
}
