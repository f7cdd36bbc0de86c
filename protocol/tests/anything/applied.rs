//! Server-side apply on whatever comes: every walk over values of a shape. Property tests and the fuzzer share it.

use protocol::apply::update::Write;
use protocol::apply::{Free, Managed, Manager, Operation, Set, Shape, Table, Versions, compare};
use protocol::schema::{self, Definition};
use serde_json::{Value, json};

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

    fn filter(&self, _: &str) -> protocol::apply::compare::Filter<'_> {
        protocol::apply::compare::Filter::None
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

/// Applies a configuration to a live object whose fields are owned as `entries` say, and updates it to it.
pub fn everywhere(definition: &'static Definition, live: &Value, config: &Value, entries: &Value) {
    let managed = Managed::decode(&json!([{
        "manager": "a", "operation": "Apply", "apiVersion": "v1", "fieldsType": "FieldsV1", "fieldsV1": entries,
    }]));
    let set = Set::decode(entries).unwrap_or_default();
    walk(Table::of(definition), live, config, &set);
    walk(Table::of(schema::custom()), live, config, &set);
    walk(Free, live, config, &set);
    let versions = Only(definition);
    let manager = Manager::new("a", Operation::Apply, "v1", "");
    let write = Write { versions: &versions, version: "v1", live, manager, now: "2026-01-01T00:00:00Z" };
    let managed = managed.unwrap_or_default();
    let _ = write.apply(config, managed.clone(), true);
    if let Ok(changes) = write.changes(config) {
        let _ = write.update(config, &changes, managed);
    }
}
