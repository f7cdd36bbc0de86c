//! Whatever comes from outside is read or refused; nothing panics. Bounded runs of what a fuzzer would do for ever.

#[path = "anything/applied.rs"]
mod applied;

use proptest::prelude::*;
use protocol::patch::{self, JsonPatch};
use protocol::schema::{self, Definition, protobuf, syntax};
use protocol::selector::FieldSelector;
use protocol::{Selector, quantity::Quantity};
use serde_json::{Value, json};

/// Names that mean something somewhere, so that values get below the surface.
const NAMES: &[&str] = &[
    "apiVersion",
    "kind",
    "metadata",
    "name",
    "namespace",
    "labels",
    "annotations",
    "finalizers",
    "ownerReferences",
    "managedFields",
    "fieldsV1",
    "spec",
    "status",
    "template",
    "containers",
    "initContainers",
    "env",
    "ports",
    "containerPort",
    "protocol",
    "volumes",
    "conditions",
    "type",
    "data",
    "rules",
    "subsets",
    "replicas",
    "selector",
    "matchLabels",
    "tolerations",
    "$patch",
    "$retainKeys",
    "$setElementOrder/containers",
    "$deleteFromPrimitiveList/finalizers",
    "op",
    "path",
    "value",
    "from",
    "f:spec",
    "k:{\"name\":\"a\"}",
    "v:1",
    ".",
    "resources",
    "requests",
    "cpu",
];

fn any_name() -> impl Strategy<Value = String> {
    prop_oneof![9 => prop::sample::select(NAMES).prop_map(str::to_owned), 1 => ".{0,6}"]
}

fn any_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        (-3..90i64).prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        prop_oneof![".{0,8}", "[0-9]{1,4}(m|Mi|k|)", "delete|replace|merge|add|remove|test|TCP|a"]
            .prop_map(Value::from),
    ];
    leaf.prop_recursive(7, 60, 5, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map(any_name(), inner, 0..6)
                .prop_map(|m| Value::Object(m.into_iter().collect())),
        ]
    })
}

fn any_definition() -> impl Strategy<Value = &'static Definition> {
    let kinds: Vec<&'static Definition> = schema::all().iter().filter(|d| d.gvk.is_some()).collect();
    prop::sample::select(kinds)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..400), definition in any_definition()) {
        let _ = schema::decode(definition, &bytes);
        let _ = syntax::error(&bytes);
        let _ = syntax::tolerated(bytes.clone().into());
        let _ = JsonPatch::parse(&bytes);
        let _ = protobuf::to_json(&bytes);
        // The envelope's mark brings the rest to the decoder.
        let _ = protobuf::to_json(&[b"k8s\0".as_slice(), &bytes].concat());
    }

    #[test]
    fn texts_are_read_or_refused(text in ".{0,40}", likely in "[a-z!=(), .><0-9kMi/-]{0,30}") {
        for text in [text, likely] {
            let _ = Selector::parse(&text);
            let _ = FieldSelector::parse(&text);
            let _ = Quantity::written(&text, true);
            let _ = text.parse::<Quantity>();
            let _ = protocol::apply::Element::parse(&text);
        }
    }

    #[test]
    fn objects_are_read_or_refused(value in any_value(), definition in any_definition()) {
        let _ = patch::typed::problem(definition, &value);
        // Reading in place comes to the same as reading from a text, or from a value into another.
        let mut read = value.clone();
        let in_place = schema::decode_in(definition, &mut read);
        let in_place =
            in_place.map(|(strict, empties)| schema::Decoded { value: read, strict, empties });
        prop_assert_eq!(&in_place, &schema::decode_value(definition, &value));
        prop_assert_eq!(in_place, schema::decode(definition, value.to_string().as_bytes()));
        if let Ok(decoded) = schema::decode_value(definition, &value) {
            let mut value = decoded.value;
            schema::apply_defaults(definition, &mut value);
            // What was read can be read again, and is the same.
            let again = schema::decode_value(definition, &value).map(|d| d.value);
            prop_assert_eq!(again, Ok(schema::decode::finish(definition, value)));
        }
    }

    #[test]
    fn patches_are_applied_or_refused(object in any_value(), given in any_value(), definition in any_definition()) {
        let mut target = object.clone();
        patch::merge(&mut target, given.clone());
        let mut target = object.clone();
        let _ = patch::strategic(definition, &mut target, given.clone());
        let operations = Value::Array(vec![given.clone(), json!({"op": "add", "path": "/spec/x", "value": given})]);
        if let Ok(patch) = JsonPatch::parse(operations.to_string().as_bytes()) {
            let mut target = object;
            let _ = patch.apply(&mut target);
        }
    }

    #[test]
    fn configurations_are_applied_or_refused(live in any_value(), config in any_value(), entries in any_value(),
                                             definition in any_definition()) {
        applied::everywhere(definition, &live, &config, &entries);
    }
}
