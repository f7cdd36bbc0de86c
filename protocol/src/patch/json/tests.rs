use proptest::prelude::*;
use serde_json::json;

use super::*;

fn patched(document: Value, patch: Value) -> Result<Value, JsonPatchError> {
    let mut document = document;
    JsonPatch::parse(patch.to_string().as_bytes())?.apply(&mut document)?;
    Ok(document)
}

#[test]
fn operations_do_what_they_say() {
    let document = json!({"a": {"b": 1}, "list": [1, 2, 3]});
    let cases = [
        (
            json!([{"op": "add", "path": "/a/c", "value": 2}]),
            json!({"a": {"b": 1, "c": 2}, "list": [1, 2, 3]}),
        ),
        (json!([{"op": "add", "path": "/list/-", "value": 4}]), json!({"a": {"b": 1}, "list": [1, 2, 3, 4]})),
        (json!([{"op": "add", "path": "/list/0", "value": 0}]), json!({"a": {"b": 1}, "list": [0, 1, 2, 3]})),
        (json!([{"op": "add", "path": "/list/3", "value": 4}]), json!({"a": {"b": 1}, "list": [1, 2, 3, 4]})),
        (json!([{"op": "remove", "path": "/list/-1"}]), json!({"a": {"b": 1}, "list": [1, 2]})),
        (json!([{"op": "remove", "path": "/a"}]), json!({"list": [1, 2, 3]})),
        (
            json!([{"op": "replace", "path": "/a/new", "value": 1}]),
            json!({"a": {"b": 1, "new": 1}, "list": [1, 2, 3]}),
        ),
        (json!([{"op": "replace", "path": "", "value": {}}]), json!({})),
        (json!([{"op": "move", "from": "/a/b", "path": "/c"}]), json!({"a": {}, "c": 1, "list": [1, 2, 3]})),
        (
            json!([{"op": "copy", "from": "/list/1", "path": "/list/0"}]),
            json!({"a": {"b": 1}, "list": [2, 1, 2, 3]}),
        ),
        (json!([{"op": "test", "path": "/a/b", "value": 1}]), document.clone()),
        (json!([{"op": "test", "path": "/a/none", "value": null}]), document.clone()),
        (
            json!([{"op": "add", "path": "/a/x~1y~0z", "value": 1}]),
            json!({"a": {"b": 1, "x/y~z": 1}, "list": [1, 2, 3]}),
        ),
    ];
    for (patch, wanted) in cases {
        assert_eq!(patched(document.clone(), patch.clone()), Ok(wanted), "{patch}");
    }
}

#[test]
fn what_does_not_fit_is_refused() {
    let cases = [
        json!([{"op": "frobnicate", "path": "/a"}]),
        // Numbers are compared as they are written.
        json!([{"op": "test", "path": "/a/b", "value": 1.0}]),
        json!([{"op": "add", "value": 1}]),
        json!([{"op": "remove", "path": "/none"}]),
        json!([{"op": "remove", "path": "/list/3"}]),
        json!([{"op": "remove", "path": "/list/-4"}]),
        json!([{"op": "add", "path": "/list/5", "value": 1}]),
        json!([{"op": "add", "path": "/none/x", "value": 1}]),
        json!([{"op": "test", "path": "/a/b", "value": 2}]),
        json!([{"op": "test", "path": "/none/x", "value": null}]),
        json!([{"op": "move", "from": "/none", "path": "/x"}]),
    ];
    for patch in cases {
        let document = json!({"a": {"b": 1}, "list": [1, 2, 3]});
        assert_eq!(patched(document, patch.clone()), Err(JsonPatchError::Inapplicable), "{patch}");
    }
}

#[test]
fn what_is_no_patch_is_told_in_gos_words() {
    let cases = [
        (json!({}), "json: cannot unmarshal object into Go value of type []handlers.jsonPatchOp"),
        (json!([1]), "json: cannot unmarshal number into Go value of type handlers.jsonPatchOp"),
        (
            json!([{"op": 1}]),
            "json: cannot unmarshal number into Go struct field jsonPatchOp.op of type string",
        ),
    ];
    for (patch, wanted) in cases {
        let error = JsonPatch::parse(patch.to_string().as_bytes()).map_err(|e| e.to_string());
        assert_eq!(error, Err(wanted.to_owned()), "{patch}");
    }
    let unknown = JsonPatch::parse(br#"[{"op":"add","path":"/a","value":1,"x":1}]"#).expect("a patch");
    assert_eq!(unknown.strict, ["json patch unknown field \"[0].x\""]);
    let many = br#"[{"zz":1,"op":"add","op":"add","path":"/a","value":{"x":1,"x":{"y":2,"y":3}},"aa":2}]"#;
    let told = JsonPatch::parse(many).expect("a patch").strict;
    let wanted = [
        "unknown field \"[0].zz",
        "duplicate field \"[0].op",
        "duplicate field \"[0].value.x",
        "duplicate field \"[0].value.x.y",
        "unknown field \"[0].aa",
    ];
    assert_eq!(told, wanted.map(|what| format!("json patch {what}\"")));
    // However many there are, what is said of them stays short.
    let repeated = format!(r#"[{{"op":"test","path":"/a"{}}}]"#, r#","op":"test""#.repeat(1000));
    assert_eq!(JsonPatch::parse(repeated.as_bytes()).expect("a patch").strict.len(), 100);
}

#[test]
fn patches_have_limits() {
    let many = Value::Array(vec![json!({"op": "test", "path": "", "value": {}}); OPERATIONS_MAX + 1]);
    assert_eq!(
        JsonPatch::parse(many.to_string().as_bytes()),
        Err(JsonPatchError::TooMany(OPERATIONS_MAX + 1))
    );
    // Copies into what is copied double it every time.
    let doubling = json!({"op": "copy", "from": "/a", "path": "/a/-"});
    let doubled = patched(json!({"a": ["0123456789"]}), Value::Array(vec![doubling; 60]));
    assert_eq!(doubled, Err(JsonPatchError::Inapplicable));
}

#[test]
fn nothing_becomes_too_deep_to_walk() {
    let mut operations = Vec::new();
    for _ in 0..2000 {
        operations.push(json!({"op": "add", "path": "/b", "value": {}}));
        operations.push(json!({"op": "move", "from": "/a", "path": "/b/a"}));
        operations.push(json!({"op": "move", "from": "/b", "path": "/a"}));
    }
    assert_eq!(patched(json!({"a": 1}), Value::Array(operations)), Err(JsonPatchError::Inapplicable));
    // Moving to and fro does not deepen anything.
    let there = json!({"op": "move", "from": "/a", "path": "/b/c"});
    let back = json!({"op": "move", "from": "/b/c", "path": "/a"});
    let swings = Value::Array((0..1000).flat_map(|_| [there.clone(), back.clone()]).collect());
    assert_eq!(patched(json!({"a": 1, "b": {}}), swings), Ok(json!({"a": 1, "b": {}})));
}

proptest! {
    #[test]
    fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = JsonPatch::parse(&bytes);
    }

    #[test]
    fn any_paths_are_followed_or_refused(paths in prop::collection::vec("(/[a-z0-9~-]{0,3}){0,4}", 1..6),
                                         op in "add|remove|replace|test|move|copy") {
        let operations: Vec<Value> =
            paths.iter().map(|p| json!({"op": op, "path": p, "from": "/a", "value": [1, {"b": 2}]})).collect();
        let _ = patched(json!({"a": {"b": [1, 2, {"c": 3}]}}), Value::Array(operations));
    }
}
