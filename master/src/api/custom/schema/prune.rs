//! Pruning: what a schema does not know goes, unless it says that it stays.

use serde_json::{Map, Value};

use super::{Additional, Schema};

/// What an embedded object always has.
const TYPE_META: [&str; 3] = ["apiVersion", "kind", "metadata"];

/// Takes out what the schema of an object does not know, and returns the paths of it, in order. `root` is
/// whether the object has apiVersion, kind and metadata of its own.
pub fn prune(value: &mut Value, schema: &Schema, root: bool) -> Vec<String> {
    let mut pruner = Pruner::default();
    pruner.value(value, schema, root);
    pruner.found.sort();
    pruner.found
}

#[derive(Default)]
struct Pruner {
    path: String,
    found: Vec<String>,
}

impl Pruner {
    fn within(&mut self, step: &str, work: impl FnOnce(&mut Self)) {
        let length = self.path.len();
        if !step.starts_with('[') && !self.path.is_empty() {
            self.path.push('.');
        }
        self.path.push_str(step);
        work(self);
        self.path.truncate(length);
    }

    fn value(&mut self, value: &mut Value, schema: &Schema, resource: bool) {
        match value {
            Value::Object(map) => self.object(map, schema, resource || schema.embedded),
            Value::Array(items) => {
                let Some(of) = &schema.items else {
                    // Without a schema of its own an entry is as unknown as it would be in a preserved object.
                    if !schema.preserve {
                        let empty = Schema::default();
                        for (i, item) in items.iter_mut().enumerate() {
                            self.within(&format!("[{i}]"), |me| me.value(item, &empty, false));
                        }
                    }
                    return;
                };
                for (i, item) in items.iter_mut().enumerate() {
                    self.within(&format!("[{i}]"), |me| me.value(item, of, false));
                }
            }
            _ => {}
        }
    }

    fn object(&mut self, map: &mut Map<String, Value>, schema: &Schema, resource: bool) {
        let names: Vec<String> = map.keys().cloned().collect();
        for name in names {
            if resource && TYPE_META.contains(&name.as_str()) {
                continue;
            }
            let Some(value) = map.get_mut(&name) else { continue };
            let known = schema.property(&name);
            match (known, &schema.additional) {
                (Some(inner), _) => self.within(&name, |me| me.value(value, inner, false)),
                (None, Additional::Any(true)) => {}
                (None, _) if schema.preserve => {}
                (None, _) => {
                    map.remove(&name);
                    self.within(&name, |me| me.found.push(me.path.clone()));
                }
            }
        }
    }
}

/// Takes out what metadata of embedded objects does not know, and returns the paths of it.
pub fn embedded_metadata(value: &mut Value, schema: &Schema) -> Vec<String> {
    let mut pruner = Pruner::default();
    pruner.metadata(value, schema);
    pruner.found
}

impl Pruner {
    fn metadata(&mut self, value: &mut Value, schema: &Schema) {
        if schema.embedded
            && let Some(Value::Object(meta)) = value.get_mut("metadata")
            && let Some(definition) = protocol::schema::definition("m.ObjectMeta")
        {
            let unknown: Vec<String> =
                meta.keys().filter(|k| definition.field(k).is_none()).cloned().collect();
            for name in unknown {
                meta.remove(&name);
                self.within(&format!("metadata.{name}"), |me| me.found.push(me.path.clone()));
            }
        }
        match value {
            Value::Object(map) => {
                for (name, inner) in map.iter_mut() {
                    if let Some(of) = schema.property(name) {
                        self.within(name, |me| me.metadata(inner, of));
                    }
                }
            }
            Value::Array(items) => {
                let Some(of) = &schema.items else { return };
                for (i, item) in items.iter_mut().enumerate() {
                    self.within(&format!("[{i}]"), |me| me.metadata(item, of));
                }
            }
            _ => {}
        }
    }
}
