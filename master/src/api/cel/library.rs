//! What functions do.

use std::cmp::Ordering;
use std::sync::Arc;

use protocol::{Caller, Quantity};

use super::eval::{Failure, error};
use super::value::{Opaque, Value};
use crate::auth::Attributes;

mod addresses;
pub mod format;
mod numbers;
mod sequences;
mod strings;
mod times;
mod types;

pub use types::{Semver, Url};

type Outcome<'a> = Result<Value<'a>, Failure>;

/// What a call costs, by the size of all that it looks at.
pub fn cost(name: &str, size: u64) -> u64 {
    match name {
        "matches" | "find" | "findAll" => size.saturating_mul(size) / 40 + size / 10,
        "indexOf" | "lastIndexOf" | "contains" | "replace" | "split" | "sets.contains"
        | "sets.equivalent" | "sets.intersects" => size.saturating_mul(size) / 100 + size / 10,
        "_[_]" | "_[?_]" | "size" => 0,
        _ => size / 10,
    }
}

/// A value as text, where it has one.
pub fn to_text(value: &Value<'_>) -> Option<String> {
    Some(match value {
        Value::String(s) => s.to_string(),
        Value::Bool(b) => b.to_string(),
        Value::Int(n) => n.to_string(),
        Value::Uint(n) => n.to_string(),
        Value::Double(n) => protocol::go::float(*n),
        Value::Bytes(b) => String::from_utf8(b.to_vec()).ok()?,
        Value::Timestamp(t) => times::print(*t),
        Value::Duration(n) => times::seconds(*n),
        Value::Opaque(Opaque::Ip(ip)) => ip.to_string(),
        Value::Opaque(Opaque::Cidr(net)) => net.to_string(),
        _ => return None,
    })
}

/// Calls a function on values; of a member function the first is what it is called on.
pub fn call<'a>(name: &str, args: &[Value<'a>], member: bool) -> Outcome<'a> {
    if name.starts_with('_') || matches!(name, "!_" | "-_" | "int" | "uint" | "double") {
        return numbers::call(name, args);
    }
    if let Some(made) = times::call(name, args) {
        return made;
    }
    match (name, args) {
        ("size", [value]) => {
            value.size().map_or_else(|| error("no such overload"), |n| Ok(Value::Int(n as i64)))
        }
        ("dyn", [value]) => Ok(value.clone()),
        ("string", [value]) => to_text(value).map_or_else(
            || match value {
                Value::Bytes(_) => error("invalid UTF-8 in bytes, cannot convert to string"),
                _ => error(format!("no such overload: string({})", value.type_name())),
            },
            |t| Ok(Value::text(t)),
        ),
        ("bytes", [Value::String(s)]) => Ok(Value::Bytes(s.as_bytes().into())),
        ("bytes", [value @ Value::Bytes(_)]) => Ok(value.clone()),
        ("bool", [value @ Value::Bool(_)]) => Ok(value.clone()),
        ("bool", [Value::String(s)]) => match &**s {
            "1" | "t" | "true" | "TRUE" | "True" => Ok(Value::Bool(true)),
            "0" | "f" | "false" | "FALSE" | "False" => Ok(Value::Bool(false)),
            _ => numbers::unconverted("bool"),
        },
        ("optional.of", [value]) => Ok(Value::Optional(Some(Arc::new(value.clone())))),
        ("optional.none", []) => Ok(Value::Optional(None)),
        ("optional.ofNonZeroValue", [value]) => {
            let zero = match value {
                Value::Null => true,
                Value::Bool(b) => !b,
                Value::Int(n) => *n == 0,
                Value::Uint(n) => *n == 0,
                Value::Double(n) => *n == 0.0,
                other => other.size() == Some(0),
            };
            Ok(Value::Optional((!zero).then(|| Arc::new(value.clone()))))
        }
        ("hasValue", [Value::Optional(value)]) => Ok(Value::Bool(value.is_some())),
        ("value", [Value::Optional(value)]) => match value {
            Some(value) => Ok((**value).clone()),
            None => error("optional.none() dereference"),
        },
        ("isSorted" | "sum" | "min" | "max" | "sets.contains" | "sets.equivalent" | "sets.intersects", _) => {
            lists(name, args)
        }
        ("lists.range" | "distinct" | "flatten" | "sort" | "slice" | "first" | "last" | "reverse", _) => {
            sequences::call(name, args)
        }
        ("indexOf" | "lastIndexOf", [list, wanted]) if list.items().is_some() => {
            let items = list.items().unwrap_or_default();
            let found = if name == "indexOf" {
                items.iter().position(|i| i.same(wanted))
            } else {
                items.iter().rposition(|i| i.same(wanted))
            };
            Ok(Value::Int(found.map_or(-1, |i| i as i64)))
        }
        (_, [Value::Opaque(Opaque::Authorizer(_) | Opaque::Check(_) | Opaque::Decision(..)), ..]) => {
            authorizer(name, args)
        }
        (_, [Value::Opaque(Opaque::Quantity(_)), ..]) | ("quantity" | "isQuantity" | "sign", _) => {
            quantities(name, args)
        }
        (_, [Value::Opaque(_), ..]) => types::member(name, args),
        _ if !member || name.contains('.') => types::global(name, args),
        _ => strings::member(name, args),
    }
}

fn lists<'a>(name: &str, args: &[Value<'a>]) -> Outcome<'a> {
    let first = args.first().and_then(Value::items).unwrap_or_default();
    let second = args.get(1).and_then(Value::items).unwrap_or_default();
    let within =
        |inner: &[Value<'a>], outer: &[Value<'a>]| inner.iter().all(|i| outer.iter().any(|o| o.same(i)));
    // Which overload it is, the first entry tells.
    let of_none = first.first().is_some_and(|item| match item {
        Value::Int(_) | Value::Uint(_) | Value::Double(_) | Value::Duration(_) => false,
        Value::Bool(_) | Value::String(_) | Value::Bytes(_) | Value::Timestamp(_) => name == "sum",
        _ => true,
    });
    if of_none && !name.starts_with("sets.") {
        return error(format!("no such overload: {name}(list)"));
    }
    match name {
        "sets.contains" => Ok(Value::Bool(within(&second, &first))),
        "sets.equivalent" => Ok(Value::Bool(within(&second, &first) && within(&first, &second))),
        "sets.intersects" => Ok(Value::Bool(first.iter().any(|a| second.iter().any(|b| a.same(b))))),
        "isSorted" => {
            Ok(Value::Bool(first.windows(2).all(|w| w[0].order(&w[1]).is_some_and(Ordering::is_le))))
        }
        "sum" => {
            let mut items = first.into_iter();
            let Some(mut total) = items.next() else { return Ok(Value::Int(0)) };
            for item in items {
                total = numbers::call("_+_", &[total, item])?;
            }
            Ok(total)
        }
        _ => {
            let wanted = if name == "min" { Ordering::Less } else { Ordering::Greater };
            let mut items = first.into_iter();
            let Some(mut best) = items.next() else { return error(format!("{name} called on empty list")) };
            for item in items {
                if item.order(&best) == Some(wanted) {
                    best = item;
                }
            }
            Ok(best)
        }
    }
}

fn quantities<'a>(name: &str, args: &[Value<'a>]) -> Outcome<'a> {
    let make = |quantity: Quantity| Ok(Value::Opaque(Opaque::Quantity(quantity)));
    match (name, args) {
        ("isQuantity", [Value::String(s)]) => Ok(Value::Bool(s.parse::<Quantity>().is_ok())),
        ("quantity", [Value::String(s)]) => match s.parse::<Quantity>() {
            Ok(quantity) => make(quantity),
            Err(e) => error(e.to_string()),
        },
        (_, [Value::Opaque(Opaque::Quantity(q)), rest @ ..]) => {
            let other = match rest {
                [Value::Opaque(Opaque::Quantity(other))] => Some(*other),
                [Value::Int(n)] => Some(Quantity::from_units(*n)),
                _ => None,
            };
            let whole = Quantity::from_units(q.units()) == *q;
            match (name, other) {
                ("isInteger", None) => Ok(Value::Bool(whole)),
                ("asInteger", None) if whole => Ok(Value::Int(q.units())),
                ("asInteger", None) => error("cannot convert value to integer"),
                ("asApproximateFloat", None) => Ok(Value::Double(q.milli() as f64 / 1000.0)),
                ("sign", None) => Ok(Value::Int(if q.is_zero() {
                    0
                } else if q.is_negative() {
                    -1
                } else {
                    1
                })),
                ("add", Some(other)) => make(*q + other),
                ("sub", Some(other)) => make(*q - other),
                ("isGreaterThan", Some(other)) => Ok(Value::Bool(*q > other)),
                ("isLessThan", Some(other)) => Ok(Value::Bool(*q < other)),
                ("compareTo", Some(other)) => Ok(Value::Int(q.cmp(&other) as i64)),
                _ => error("no such overload"),
            }
        }
        _ => error("no such overload"),
    }
}

fn authorizer<'a>(name: &str, args: &[Value<'a>]) -> Outcome<'a> {
    let check = |attributes: Attributes| Ok(Value::Opaque(Opaque::Check(Arc::new(attributes))));
    match (name, args) {
        ("path", [Value::Opaque(Opaque::Authorizer(caller)), Value::String(path)]) => {
            check(Attributes { caller: caller.clone(), path: path.to_string(), ..Attributes::default() })
        }
        ("group", [Value::Opaque(Opaque::Authorizer(caller)), Value::String(group)]) => {
            let version = "*".to_owned();
            check(Attributes {
                caller: caller.clone(),
                group: group.to_string(),
                version,
                ..Attributes::default()
            })
        }
        (
            "serviceAccount",
            [Value::Opaque(Opaque::Authorizer(_)), Value::String(namespace), Value::String(name)],
        ) => {
            let user = format!("system:serviceaccount:{namespace}:{name}");
            let group = format!("system:serviceaccounts:{namespace}");
            let caller = Caller::component(user, &["system:serviceaccounts", &group]);
            Ok(Value::Opaque(Opaque::Authorizer(Arc::new(caller))))
        }
        (_, [Value::Opaque(Opaque::Check(question)), Value::String(text)]) => {
            let (mut next, text) = ((**question).clone(), text.to_string());
            match name {
                "resource" => next.resource = text,
                // Who may do something to some objects only is asked as if it were to all of them.
                "fieldSelector" | "labelSelector" => {}
                "subresource" => next.subresource = text,
                "namespace" => next.namespace = text,
                "name" => next.name = text,
                _ => return error("no such overload"),
            }
            check(next)
        }
        ("allowed", [Value::Opaque(Opaque::Decision(allowed, _))]) => Ok(Value::Bool(*allowed)),
        ("reason", [Value::Opaque(Opaque::Decision(_, why))]) => Ok(Value::String(why.clone())),
        ("errored", _) => Ok(Value::Bool(false)),
        ("error", _) => Ok(Value::text("")),
        _ => error("no such overload"),
    }
}
