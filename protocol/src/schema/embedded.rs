//! Structs that Go embeds: in JSON their fields lie in the object around them, under no name of their own.
//!
//! The protobuf table knows them: a message that is no field of the JSON object is an embedded struct.

use std::collections::HashMap;
use std::sync::LazyLock;

use super::{Definition, FIELDS_OF_TYPE_META};

/// Fields of each message in the order of declaration, and the message that each holds.
type Messages = HashMap<&'static str, Vec<(&'static str, Option<&'static str>)>>;

static MESSAGES: LazyLock<Messages> =
    LazyLock::new(|| super::protobuf::table(|_, name, ty| Some((name, ty.strip_prefix('@')))));

/// How deep structs are embedded at most.
const DEPTH_MAX: usize = 4;

/// The JSON names of a definition in the order of declaration, embedded structs unfolded.
pub fn declared(definition: &Definition) -> Vec<&'static str> {
    let mut names = Vec::new();
    unfold(definition, definition.name, &mut Vec::new(), &mut |name, _| names.push(name));
    names
}

/// Gives the fields of a definition their order. Those of what no table of messages knows have it already.
pub(super) fn number(definition: &mut Definition) {
    let names = declared(definition);
    for (order, name) in (FIELDS_OF_TYPE_META..).zip(names) {
        if let Some(field) = definition.fields.iter_mut().find(|field| field.name == name) {
            field.order = order;
        }
    }
    if definition.gvk.is_some() {
        for field in &mut definition.fields {
            match field.name {
                "kind" => field.order = 0,
                "apiVersion" => field.order = 1,
                _ => {}
            }
        }
    }
}

/// The Go names of the structs through which a definition has a field, outermost first; mostly none.
pub fn within(definition: &Definition, field: &str) -> Vec<&'static str> {
    // Objects within objects have their kind as objects of their own do.
    if definition.gvk.is_some() && matches!(field, "apiVersion" | "kind") {
        return vec!["TypeMeta"];
    }
    let mut found = Vec::new();
    unfold(definition, definition.name, &mut Vec::new(), &mut |name, within| {
        if name == field {
            found = within.iter().map(|message| message.rsplit('.').next().unwrap_or(message)).collect();
        }
    });
    found
}

fn unfold(
    definition: &Definition,
    message: &str,
    within: &mut Vec<&'static str>,
    found: &mut impl FnMut(&'static str, &[&'static str]),
) {
    for (name, inner) in MESSAGES.get(message).into_iter().flatten() {
        match inner {
            Some(inner) if definition.field(name).is_none() && within.len() < DEPTH_MAX => {
                within.push(inner);
                unfold(definition, inner, within, found);
                within.pop();
            }
            _ => found(name, within),
        }
    }
}
