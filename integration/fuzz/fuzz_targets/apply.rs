//! Server-side apply: live objects, configurations and owners of all sorts.
#![no_main]

use arbitrary::Unstructured;
use fuzz::{anything, definition, object};
use libfuzzer_sys::fuzz_target;
use protocol::apply::update::Write;
use protocol::apply::{Free, Managed, Manager, Operation, Set, Shape, Table, Versions, compare};
use protocol::schema::{self, Definition};
use serde_json::{Value, json};

fuzz_target!(|bytes: &[u8]| {
    let _ = run(&mut Unstructured::new(bytes));
});

/// One version of one kind.
struct Only(&'static Definition);

impl Versions for Only {
    type Shape<'s> = Table;

    fn shape(&self, version: &str) -> Option<Table> {
        (version == "v1").then(|| Table::of(self.0))
    }

    fn convert<'v>(&self, object: &'v Value, _: &str, _: &str) -> std::borrow::Cow<'v, Value> {
        std::borrow::Cow::Borrowed(object)
    }

    fn filter(&self, _: &str) -> compare::Filter<'_> {
        compare::Filter::None
    }
}

/// Every walk over values of a shape.
fn walk<'s, S: Shape<'s>>(shape: S, a: &Value, b: &Value, set: &Set) {
    let _ = protocol::apply::validate::validate(shape, a, true);
    let _ = compare(shape, a, b);
    let _ = protocol::apply::merge::merge(shape, a, b);
    let fields = protocol::apply::fields::fields(shape, a);
    let _ = protocol::apply::remove::remove(shape, a, set);
    let _ = protocol::apply::fields::reconcile(shape, &fields);
    let _ = set.with_named(Some(shape));
}

fn run(u: &mut Unstructured<'_>) -> arbitrary::Result<()> {
    let kind = definition(u)?;
    let (live, config) = (object(u, kind, 0)?, object(u, kind, 0)?);
    let entries = if u.ratio(1, 2)? {
        protocol::apply::fields::fields(Table::of(kind), &object(u, kind, 0)?).encode()
    } else {
        anything(u, 0)?
    };
    let set = Set::decode(&entries).unwrap_or_default();
    walk(Table::of(kind), &live, &config, &set);
    walk(Table::of(schema::custom()), &live, &config, &set);
    walk(Free, &live, &config, &set);
    let managed = Managed::decode(&json!([{
        "manager": "a", "operation": "Apply", "apiVersion": "v1", "fieldsType": "FieldsV1", "fieldsV1": entries,
    }]));
    let versions = Only(kind);
    let manager = Manager::new("a", Operation::Apply, "v1", "");
    let write = Write { versions: &versions, version: "v1", live: &live, manager, now: "2026-01-01T00:00:00Z" };
    let managed = managed.unwrap_or_default();
    let _ = write.apply(&config, managed.clone(), true);
    if let Ok(changes) = write.changes(&config) {
        let _ = write.update(&config, &changes, managed);
    }
    Ok(())
}
