use proptest::prelude::*;
use serde_json::json;

use super::{prune::prune, *};
use crate::api::invalid::{Errors, Path};

fn schema() -> Schema {
    Schema::parse(&json!({"type": "object", "properties": {
        "spec": {"type": "object", "properties": {
            "x": {"type": "string", "default": "d"},
            "n": {"type": "integer", "nullable": true},
            "l": {"type": "array", "items": {"type": "object", "properties": {"a": {"type": "string", "default": "i"}}}},
            "m": {"type": "object", "additionalProperties": {"type": "object", "properties": {"a": {"type": "string"}}}},
            "keep": {"type": "object", "x-kubernetes-preserve-unknown-fields": true,
                "properties": {"in": {"type": "object", "properties": {"a": {"type": "string"}}}}},
        }},
    }}))
}

#[test]
fn unknown_fields_go_and_are_told() {
    let mut value = json!({"kind": "K", "metadata": {"name": "n"}, "other": 1, "spec": {
        "x": "1", "y": {"z": 1}, "l": [{"a": "1", "b": 2}], "m": {"k": {"a": "1", "b": 2}},
        "keep": {"any": {"thing": 1}, "in": {"a": "1", "b": 2}}}});
    let found = prune(&mut value, &schema(), true);
    assert_eq!(found, ["other", "spec.keep.in.b", "spec.l[0].b", "spec.m.k.b", "spec.y"]);
    assert_eq!(
        value,
        json!({"kind": "K", "metadata": {"name": "n"}, "spec": {
            "x": "1", "l": [{"a": "1"}], "m": {"k": {"a": "1"}}, "keep": {"any": {"thing": 1}, "in": {"a": "1"}}}})
    );
}

#[test]
fn defaults_come_where_nothing_is() {
    for (given, wanted) in [
        (json!({}), json!({})),
        (json!({"spec": {}}), json!({"spec": {"x": "d"}})),
        (json!({"spec": {"x": "own"}}), json!({"spec": {"x": "own"}})),
        (json!({"spec": {"x": null, "n": null}}), json!({"spec": {"x": "d", "n": null}})),
        (json!({"spec": {"l": [{}], "m": null}}), json!({"spec": {"x": "d", "l": [{"a": "i"}]}})),
    ] {
        let mut value = given.clone();
        defaults::apply(&mut value, &schema());
        defaults::drop_nulls(&mut value, &schema());
        assert_eq!(value, wanted, "{given}");
    }
}

#[test]
fn what_is_not_supported_is_looked_into() {
    let bad = json!({"type": "x"});
    let schema = json!({"type": "object", "definitions": {"a": bad}, "dependencies": {"b": bad, "c": ["d"]},
        "patternProperties": {"e": bad}, "items": [bad]});
    let mut errors = Errors::default();
    openapi::validate_root(&schema, None, &Path::new("s"), &mut errors);
    let said = errors.messages();
    for at in ["definitions[a]", "dependencies[b]", "items[0]"] {
        assert!(
            said.iter().any(|said| said.starts_with(&format!("s.{at}.type: Unsupported"))),
            "{at}: {said:?}"
        );
    }
    assert!(!said.iter().any(|said| said.starts_with("s.patternProperties[e]")), "{said:?}");
}

#[test]
fn errors_are_upstreams() {
    let check = |schema: Value, value: Value| {
        let mut errors = Errors::default();
        validate::validate(&value, None, &Schema::parse(&schema), &Path::new("x"), &mut errors);
        errors.messages()
    };
    for (schema, value, wanted) in [
        (
            json!({"type": "string"}),
            json!(1),
            "x: Invalid value: \"integer\": x in body must be of type string: \"integer\"",
        ),
        (
            json!({"type": "string", "enum": ["a"]}),
            json!("b"),
            "x: Unsupported value: \"b\": supported values: \"a\"",
        ),
        (
            json!({"type": "integer", "minimum": 1}),
            json!(0),
            "x: Invalid value: 0: x in body should be greater than or equal to 1",
        ),
        (
            json!({"type": "integer", "maximum": 5, "exclusiveMaximum": true}),
            json!(5),
            "x: Invalid value: 5: x in body should be less than 5",
        ),
        (
            json!({"type": "string", "pattern": "^a$"}),
            json!("b"),
            "x: Invalid value: \"b\": x in body should match '^a$'",
        ),
        (
            json!({"type": "string", "maxLength": 2}),
            json!("abc"),
            "x: Too long: may not be more than 2 bytes",
        ),
        (json!({"type": "array", "maxItems": 1}), json!([1, 2]), "x: Too many: 2: must have at most 1 item"),
        (json!({"type": "object", "required": ["a"]}), json!({}), "x.a: Required value"),
        (
            json!({"x-kubernetes-int-or-string": true}),
            json!(true),
            "x: Invalid value: \"boolean\": x in body must be of type integer,string: \"boolean\"",
        ),
        (
            json!({"type": "object", "not": {"required": ["a"]}}),
            json!({"a": 1}),
            "<nil>: Invalid value: \"\": \"x\" must not validate the schema (not)",
        ),
    ] {
        assert_eq!(check(schema.clone(), value), [wanted], "{schema}");
    }
}

#[test]
fn an_update_is_not_held_to_what_it_leaves_alone() {
    let schema = Schema::parse(&json!({"type": "object", "properties": {
        "a": {"type": "string", "enum": ["x"]}, "b": {"type": "string", "enum": ["x"]}}}));
    let check = |new: Value, old: Value| {
        let mut errors = Errors::default();
        validate::validate(&new, Some(&old), &schema, &Path::default(), &mut errors);
        errors.len()
    };
    assert_eq!(check(json!({"a": "bad", "b": "x"}), json!({"a": "bad", "b": "y"})), 0);
    assert_eq!(check(json!({"a": "worse", "b": "x"}), json!({"a": "bad", "b": "y"})), 1);
}

#[test]
fn formats_tell_good_from_bad() {
    for (format, good, bad) in [
        ("ipv4", "192.0.2.1", "192.0.2"),
        ("ipv4", "192.0.2.01", "::1"),
        ("ipv6", "::ffff:192.0.2.1", "fe80::1%eth0"),
        ("cidr", "192.0.2.0/24", "192.0.2.0/33"),
        ("uri", "mailto:x@example.com", "http://[::1"),
        ("uri", "/rel", "a b"),
        ("email", "Somebody <a@example.com>", "@example.com"),
        ("hostname", "a.example.com", "A_b"),
        ("date", "2020-02-29", "2021-02-29"),
        ("datetime", "2020-01-01t00:00:00.123+01:00", "2020-01-01 00:00:00Z"),
        ("date-time", "2020-01-01T23:59:59Z", "2020-02-30T00:00:00Z"),
        ("duration", "5 minutes", "5"),
        ("duration", "P1D", "P1"),
        ("ssn", "111 22 3333", "111223333"),
        ("ipv6", "2001:db8::1", "x"),
        ("cidr", "192.0.2.0/24", "192.0.2.0"),
        ("mac", "00:00:5e:00:53:01", "x"),
        ("uri", "https://example.com/a", "::"),
        ("email", "a@example.com", "a"),
        ("uuid", "123e4567-e89b-12d3-a456-426614174000", "123"),
        ("uuid3", "123e4567-e89b-32d3-a456-426614174000", "123e4567-e89b-42d3-a456-426614174000"),
        ("uuid4", "123e4567-e89b-42d3-a456-426614174000", "123e4567-e89b-12d3-a456-426614174000"),
        ("uuid5", "123e4567-e89b-52d3-a456-426614174000", "123e4567-e89b-42d3-a456-426614174000"),
        ("date", "2020-02-03", "2020-13-03"),
        ("date-time", "2020-01-01T00:00:00Z", "yesterday"),
        ("duration", "5m", "five"),
        ("byte", "YQ==", "%%"),
        ("byte", "YWJj", ""),
        ("hostname", "example.com", "-"),
        ("hexcolor", "#ff0000", "#ff"),
        ("rgbcolor", "rgb(0,1,2)", "rgb(0,1)"),
        ("ssn", "111-22-3333", "111"),
        ("creditcard", "4111111111111111", "4111111111111112"),
        ("isbn10", "0321751043", "0321751044"),
        ("isbn13", "9780306406157", "9780306406158"),
    ] {
        assert_eq!(formats::matches(format, good), Some(true), "{format} {good}");
        assert_eq!(formats::matches(format, bad), Some(false), "{format} {bad}");
    }
    assert_eq!(formats::matches("golden", "x"), None);
}

#[test]
fn a_value_is_compared_as_what_it_is() {
    let errors = |schema: Value, value: Value| {
        let mut errors = Errors::default();
        validate::validate(&value, None, &Schema::parse(&schema), &Path::new("x"), &mut errors);
        errors.len()
    };
    let number = json!({"type": "number", "minimum": 1.5, "maximum": 2.5});
    // Of a bound an integer sees what is one.
    for (value, wrong) in [(json!(1), 0), (json!(1.0), 1), (json!(3), 1), (json!(2.4), 0)] {
        assert_eq!(errors(number.clone(), value.clone()), wrong, "{value}");
    }
    // No list of values has null.
    let listed = json!({"type": "string", "nullable": true, "enum": ["a", null]});
    assert_eq!((errors(listed.clone(), json!("a")), errors(listed, json!(null))), (0, 1));
    // What 64 bits do not hold is no integer.
    assert_eq!(errors(json!({"type": "integer"}), json!(1e20)), 2);
    assert_eq!(errors(json!({"type": "integer"}), json!(i64::MAX)), 0);
    assert_eq!(errors(json!({"type": "integer"}), json!(1u64 << 63)), 2);
}

#[test]
fn a_number_is_divided_as_what_it_is() {
    let messages = |value: Value, of: f64| {
        let schema = Schema::parse(&json!({"type": "number", "multipleOf": of}));
        let mut errors = Errors::default();
        validate::validate(&value, None, &schema, &Path::new("x"), &mut errors);
        errors.messages()
    };
    assert!(messages(json!(1.5), 0.5).is_empty());
    assert_eq!(messages(json!(1.2), 0.5), ["x: Invalid value: 1.2: x in body should be a multiple of 0.5"]);
    // What of a half is an integer is nothing.
    let nothing = "x: Invalid value: 0: factor MultipleOf declared for x must be positive: 0";
    assert_eq!(messages(json!(1), 0.5), [nothing]);
    assert_eq!(messages(json!(7), 2.5), ["x: Invalid value: 7: x in body should be a multiple of 2"]);
    // An integer that no float holds is still one.
    let odd = json!(9_007_199_254_740_993_i64);
    assert_eq!(
        messages(odd, 2.0),
        ["x: Invalid value: 9007199254740993: x in body should be a multiple of 2"]
    );
    assert!(messages(json!(9_007_199_254_740_994_i64), 2.0).is_empty());
    // So many times is no integer that every reader of JSON knows.
    assert_eq!(messages(json!(1e21), 0.5).len(), 1);
}

#[test]
fn what_stands_under_no_path_is_written_as_if_it_did() {
    let schema = Schema::parse(&json!({"type": "object", "additionalProperties": {"type": "integer"}}));
    let mut errors = Errors::default();
    validate::validate(&json!({"k": "a"}), None, &schema, &Path::default(), &mut errors);
    let told = "at.k: Invalid value: \"string\": .k in body must be of type integer: \"string\"";
    assert_eq!(errors.within(&Path::new("at")).messages(), [told]);
}

#[test]
fn objects_within_objects_are_read_as_objects() {
    let schema = Schema::parse(&json!({"type": "object", "properties": {"l": {"type": "array",
        "items": {"type": "object", "x-kubernetes-embedded-resource": true}}}}));
    let read = |object: Value| {
        let mut value = json!({"l": [object]});
        embedded::read(&mut value, &schema, &Path::default()).map(|()| value["l"][0].clone())
    };
    for (object, wanted) in [
        (
            json!({"kind": "K", "metadata": {"name": "a"}}),
            Ok(json!({"kind": "K", "metadata": {"name": "a"}})),
        ),
        (json!({"kind": "K", "metadata": null}), Ok(json!({"kind": "K", "metadata": {}}))),
        (json!({"kind": 1}), Err("l[0].kind: Invalid value: 1: must be a string")),
        (json!({"apiVersion": null}), Err("l[0].apiVersion: Invalid value: null: must be a string")),
    ] {
        assert_eq!(read(object.clone()), wanted.map_err(str::to_owned), "{object}");
    }
    assert!(read(json!({"metadata": {"labels": 1}})).is_err());
    assert!(read(json!({"metadata": "x"})).is_err());
}

fn json_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        "[a-z]{0,4}".prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 48, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map("(spec|x|n|l|m|a|keep|in|b)", inner, 0..6)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn pruning_and_defaulting_change_nothing_twice(given in json_value()) {
        let schema = schema();
        let mut once = given;
        prune(&mut once, &schema, true);
        defaults::apply(&mut once, &schema);
        defaults::drop_nulls(&mut once, &schema);
        let mut twice = once.clone();
        prop_assert!(prune(&mut twice, &schema, true).is_empty());
        defaults::apply(&mut twice, &schema);
        defaults::drop_nulls(&mut twice, &schema);
        prop_assert_eq!(once, twice);
    }

    #[test]
    fn validation_takes_anything(given in json_value()) {
        let mut errors = Errors::default();
        validate::validate(&given, None, &schema(), &Path::default(), &mut errors);
        validate::uniqueness(&given, &schema(), &Path::default(), &mut errors);
    }
}

#[test]
fn defaults_of_embedded_objects_are_read() {
    let of = |default: Value| {
        json!({"type": "object", "properties": {"t": {"type": "object", "default": default,
        "x-kubernetes-embedded-resource": true, "x-kubernetes-preserve-unknown-fields": true}}})
    };
    let mut schema = of(json!({"kind": "Pod", "metadata": {"name": "a", "other": "b"}}));
    embedded::read_defaults(&mut schema);
    assert_eq!(schema["properties"]["t"]["default"], json!({"kind": "Pod", "metadata": {"name": "a"}}));
    // What cannot be read is refused, and stays to be shown.
    let unread = of(json!({"metadata": {"labels": {"a": 1}}}));
    let mut schema = unread.clone();
    embedded::read_defaults(&mut schema);
    assert_eq!(schema, unread);
}
