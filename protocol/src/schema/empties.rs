//! What a body says is empty.
//!
//! Built-in kinds are stored in a form that cannot tell an empty list or map from none, and are read into one that
//! does not either. But until an object is stored, upstream's server can tell them apart: its messages show `[]` and
//! `{}` where a client wrote them, and a few of its comparisons count them as changes.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::{Definition, Type};

/// Where an object has empty lists and maps, and bytes that are none.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Empties(BTreeMap<String, Place>);

#[derive(Clone, Debug, PartialEq)]
enum Place {
    Bytes,
    List,
    Map,
    /// Further within; entries of lists are told by their index.
    Within(Empties),
}

impl Empties {
    /// Those of an object that was read and not yet brought into its form.
    pub fn of(definition: &'static Definition, object: &Value) -> Empties {
        Empties(fields(definition, object))
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn place(&self, path: &str) -> Option<&Place> {
        let mut rest = path;
        let mut within = self;
        loop {
            let (name, after) = step(rest)?;
            let place = within.0.get(name)?;
            match place {
                _ if after.is_empty() => return Some(place),
                Place::Within(more) => (within, rest) = (more, after),
                Place::Bytes | Place::List | Place::Map => return None,
            }
        }
    }

    /// Whether what lies at a path, such as `spec.rules[0].ports`, was given and is empty.
    pub fn has(&self, path: &str) -> bool {
        matches!(self.place(path), Some(Place::Bytes | Place::List | Place::Map))
    }

    /// Whether a value that lies at a path still has something of what was given as empty: defaults may have filled it.
    pub fn remain_in(&self, path: &str, value: &Value) -> bool {
        self.restored(path, value) != *value
    }

    /// A value that lies at a path, with what was given as empty.
    pub fn restored(&self, path: &str, value: &Value) -> Value {
        let mut value = value.clone();
        if let Some(place) = self.place(path) {
            put(place, &mut value);
        }
        value
    }
}

/// The first name of a path, and what follows it.
fn step(path: &str) -> Option<(&str, &str)> {
    if let Some(key) = path.strip_prefix('[') {
        let (name, after) = key.split_once(']')?;
        return Some((name, after.strip_prefix('.').unwrap_or(after)));
    }
    let end = path.find(['.', '[']).unwrap_or(path.len());
    let (name, after) = path.split_at(end);
    Some((name, after.strip_prefix('.').unwrap_or(after)))
}

fn fields(definition: &'static Definition, object: &Value) -> BTreeMap<String, Place> {
    let given = object.as_object().into_iter().flatten();
    let found = given.filter_map(|(name, value)| Some((name, place(&definition.field(name)?.ty, value)?)));
    found.map(|(name, place)| (name.clone(), place)).collect()
}

fn place(ty: &'static Type, value: &Value) -> Option<Place> {
    let found: BTreeMap<String, Place> = match (ty, value) {
        (Type::List(_), Value::Array(items)) if items.is_empty() => return Some(Place::List),
        (Type::Map(_), Value::Object(entries)) if entries.is_empty() => return Some(Place::Map),
        (Type::Bytes, Value::String(text)) if text.is_empty() => return Some(Place::Bytes),
        // Every write comes by here, and few have any: names are copied for those alone.
        (Type::List(of), Value::Array(items)) => {
            let found = items.iter().enumerate().filter_map(|(i, item)| Some((i, place(of, item)?)));
            found.map(|(i, place)| (i.to_string(), place)).collect()
        }
        (Type::Map(of), Value::Object(entries)) => {
            let found = entries.iter().filter_map(|(name, entry)| Some((name, place(of, entry)?)));
            found.map(|(name, place)| (name.clone(), place)).collect()
        }
        (Type::Object(_), value) => fields(ty.definition()?, value),
        _ => return None,
    };
    (!found.is_empty()).then_some(Place::Within(Empties(found)))
}

fn put(place: &Place, value: &mut Value) {
    match (place, &mut *value) {
        (Place::List, Value::Null) => *value = Value::Array(Vec::new()),
        (Place::Map, Value::Null) => *value = Value::Object(Map::new()),
        (Place::Within(within), Value::Object(fields)) => {
            for (name, place) in &within.0 {
                match (fields.get_mut(name), place) {
                    (Some(field), place) => put(place, field),
                    (None, Place::Bytes | Place::Within(_)) => {}
                    (None, place) => {
                        let mut field = Value::Null;
                        put(place, &mut field);
                        fields.insert(name.clone(), field);
                    }
                }
            }
        }
        (Place::Within(within), Value::Array(items)) => {
            for (index, place) in &within.0 {
                if let Some(item) = index.parse::<usize>().ok().and_then(|index| items.get_mut(index)) {
                    put(place, item);
                }
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::definition;
    use super::*;

    #[test]
    fn what_was_given_as_empty_comes_back() {
        let policy = definition("a.networking.v1.NetworkPolicy").expect("a kind");
        let given = json!({"metadata": {"labels": {}}, "spec": {
            "policyTypes": [],
            // No map.
            "podSelector": {},
            "egress": [{"to": [], "ports": [{"port": 1}]}, {"to": [{"podSelector": {"matchLabels": {}}}]}],
        }});
        let empties = Empties::of(policy, &given);
        for (path, value, wanted) in [
            ("spec.policyTypes", json!(null), json!([])),
            ("spec.policyTypes", json!(["a"]), json!(["a"])),
            ("spec.podSelector", json!(null), json!(null)),
            ("metadata.labels", json!(null), json!({})),
            ("spec.egress[0].to", json!(null), json!([])),
            ("spec.egress[1].to[0].podSelector", json!({}), json!({"matchLabels": {}})),
            ("spec.egress", json!([{"a": 1}, {}]), json!([{"a": 1, "to": []}, {}])),
            ("spec", json!({"egress": null}), json!({"policyTypes": [], "egress": null})),
            ("spec.none", json!(null), json!(null)),
            ("[", json!(null), json!(null)),
        ] {
            assert_eq!(empties.restored(path, &value), wanted, "{path} {value}");
        }
        assert!(empties.has("spec.policyTypes") && !empties.has("spec"));
        for (spec, wanted) in [
            (json!({}), true),
            (json!({"policyTypes": ["Ingress"]}), false),
            (json!({"policyTypes": ["Ingress"], "egress": [{"ports": [{"port": 1}]}]}), true),
        ] {
            assert_eq!(empties.remain_in("spec", &spec), wanted, "{spec}");
        }
        let full = json!({"spec": {"podSelector": {}, "policyTypes": ["Egress"]}});
        assert!(Empties::of(policy, &full).is_empty());
        let node = definition("a.core.v1.Node").expect("a kind");
        let keyed = Empties::of(
            node,
            &json!({"metadata": {"annotations": {"a.b/c": "d"}}, "status": {"capacity": {}}}),
        );
        assert_eq!(keyed.restored("status", &json!({})), json!({"capacity": {}}));
    }

    #[test]
    fn paths_are_taken_apart() {
        for (path, wanted) in [
            ("spec.a", Some(("spec", "a"))),
            ("a[x.y/z].b", Some(("a", "[x.y/z].b"))),
            ("[x.y/z].b", Some(("x.y/z", "b"))),
            ("[0][1]", Some(("0", "[1]"))),
            ("[", None),
            ("a", Some(("a", ""))),
        ] {
            assert_eq!(step(path), wanted, "{path}");
        }
    }
}
