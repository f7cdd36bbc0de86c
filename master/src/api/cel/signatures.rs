//! The types of functions and operators (`functions.txt`), parsed at first use.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock};

use super::types::{Named, Type};

/// One way to call a function.
#[derive(Clone, Debug)]
pub struct Overload {
    /// Arguments; of a member function the first is what it is called on.
    pub args: Vec<Type>,
    /// Result.
    pub result: Type,
}

static TABLE: LazyLock<HashMap<&'static str, Vec<Overload>>> = LazyLock::new(|| {
    let mut table: HashMap<&str, Vec<Overload>> = HashMap::new();
    for line in include_str!("functions.txt").lines() {
        let Some((name, overloads)) = line.split_once(" : ") else { continue };
        let name = name.split('@').next().filter(|n| !n.is_empty()).unwrap_or(name);
        table.entry(name).or_default().extend(overloads.split(" | ").map(overload));
    }
    table
});

fn overload(text: &'static str) -> Overload {
    let (args, result) = text.split_once("->").unwrap_or((text, "dyn"));
    Overload { args: args.split_whitespace().map(ty).collect(), result: ty(result.trim()) }
}

fn ty(text: &'static str) -> Type {
    if let Some((outer, inner)) = text.strip_suffix(')').and_then(|t| t.split_once('(')) {
        return match outer {
            "list" => Type::list(ty(inner)),
            "type" => Type::Type(Named(Arc::new(ty(inner)))),
            "optional" => Type::Optional(Arc::new(ty(inner))),
            _ => {
                let (key, value) = inner.split_once(',').unwrap_or((inner, "dyn"));
                Type::Map(Arc::new(ty(key)), Arc::new(ty(value)))
            }
        };
    }
    match text {
        "duration" => Type::Duration,
        "timestamp" => Type::Timestamp,
        "type" => Type::Type(Named::called("dyn")),
        "dyn" => Type::Dyn,
        "A" => Type::Param('A'),
        "B" => Type::Param('B'),
        other => Type::scalar(other).unwrap_or(Type::Opaque(other)),
    }
}

/// The ways to call a function (`size`) or a member function (`.size`); `None` where there is none of the name.
pub fn overloads(name: &str) -> Option<&'static [Overload]> {
    TABLE.get(name).map(Vec::as_slice)
}
