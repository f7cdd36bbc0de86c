//! Patches of all sorts, on objects of all kinds. What was read can be read again, and is the same.
#![no_main]

use arbitrary::Unstructured;
use fuzz::{anything, definition, object, text};
use libfuzzer_sys::fuzz_target;
use protocol::patch::{self, JsonPatch};
use protocol::schema;
use serde_json::{Value, json};

fuzz_target!(|bytes: &[u8]| {
    let _ = run(&mut Unstructured::new(bytes));
});

fn run(u: &mut Unstructured<'_>) -> arbitrary::Result<()> {
    let kind = definition(u)?;
    let current = object(u, kind, 0)?;
    let given = object(u, kind, 0)?;
    if let Ok(decoded) = schema::decode_value(kind, &current) {
        let mut value = decoded.value;
        schema::apply_defaults(kind, &mut value);
        let again = schema::decode_value(kind, &value).map(|d| d.value);
        assert_eq!(again, Ok(schema::decode::finish(kind, value)));
    }
    let _ = patch::typed::problem(kind, &given);
    let mut target = current.clone();
    patch::merge(&mut target, given.clone());
    let mut target = current.clone();
    let _ = patch::strategic(kind, &mut target, given);
    let mut operations = Vec::new();
    for _ in 0..u.int_in_range(0..=4)? {
        let op = *u.choose(&["add", "remove", "replace", "move", "copy", "test", ""])?;
        operations.push(json!({"op": op, "path": text(u)?, "from": text(u)?, "value": anything(u, 8)?}));
    }
    if let Ok(patch) = JsonPatch::parse(Value::from(operations).to_string().as_bytes()) {
        let mut target = current;
        let _ = patch.apply(&mut target);
    }
    Ok(())
}
