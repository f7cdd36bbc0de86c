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

    /// Whether any of them would be shown, though they are empty.
    pub fn are_shown(&self, definition: &'static Definition) -> bool {
        self.0.iter().any(|(name, place)| match (definition.field(name), place) {
            (Some(field), Place::Within(within)) => within.are_shown_of(&field.ty),
            (Some(field), Place::List | Place::Map) => !field.omitempty,
            _ => false,
        })
    }

    fn are_shown_of(&self, ty: &'static Type) -> bool {
        match (ty.element(), ty.definition()) {
            (Some(of), _) => self.0.values().any(|place| match place {
                Place::Within(within) => within.are_shown_of(of),
                _ => false,
            }),
            (_, Some(definition)) => self.are_shown(definition),
            _ => false,
        }
    }

    /// Puts those that are shown into an object that stands for the same.
    pub fn show_in(&self, definition: &'static Definition, object: &mut Value) {
        let Value::Object(fields) = object else { return };
        for (name, place) in &self.0 {
            let Some(field) = definition.field(name) else { continue };
            match place {
                Place::Within(within) => {
                    if let Some(value) = fields.get_mut(name) {
                        within.show_in_type(&field.ty, value);
                    }
                }
                Place::List | Place::Map if !field.omitempty => {
                    put(place, fields.entry(name.as_str()).or_insert(Value::Null));
                }
                _ => {}
            }
        }
    }

    fn show_in_type(&self, ty: &'static Type, value: &mut Value) {
        if let Some(definition) = ty.definition() {
            return self.show_in(definition, value);
        }
        let Some(of) = ty.element() else { return };
        for (name, place) in &self.0 {
            let entry = match &mut *value {
                Value::Array(items) => name.parse::<usize>().ok().and_then(|index| items.get_mut(index)),
                Value::Object(entries) => entries.get_mut(name),
                _ => None,
            };
            if let (Some(entry), Place::Within(within)) = (entry, place) {
                within.show_in_type(of, entry);
            }
        }
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
    fn what_is_shown_even_if_it_is_empty_comes_back() {
        for (name, given, wanted) in [
            ("a.rbac.v1.Role", json!({"rules": [], "metadata": {"labels": {}}}), json!({"rules": []})),
            (
                "a.rbac.v1.Role",
                json!({"rules": [{"verbs": [], "resources": []}]}),
                json!({"rules": [{"verbs": []}]}),
            ),
            ("a.storage.v1.CSINode", json!({"spec": {"drivers": []}}), json!({"spec": {"drivers": []}})),
            ("a.core.v1.Endpoints", json!({"subsets": []}), json!({})),
        ] {
            let definition = definition(name).expect("a kind");
            let mut read = given.clone();
            let empties = Empties::of(definition, &read);
            super::super::decode_in(definition, &mut read).expect("is read");
            let mut shown = super::super::decode::finish(definition, read.clone());
            empties.show_in(definition, &mut shown);
            assert_eq!(empties.are_shown(definition), wanted != json!({}), "{given}");
            for (pointer, wanted) in
                [("/rules", &wanted["rules"]), ("/spec/drivers", &wanted["spec"]["drivers"])]
            {
                if !wanted.is_null() {
                    assert_eq!(shown.pointer(pointer), Some(wanted), "{given}");
                }
            }
            assert!(shown.pointer("/metadata/labels").is_none(), "{shown}");
        }
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
