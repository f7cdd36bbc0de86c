//! Functions on lists as sequences.

use std::cmp::Ordering;
use std::sync::Arc;

use super::{Outcome, Value, error};

/// Entries that a function makes from nothing.
const RANGE_MAX: i64 = 10_000;
/// Entries among which equal ones are looked for, each against each.
const DISTINCT_MAX: usize = 2_000;

fn list<'a>(items: Vec<Value<'a>>) -> Outcome<'a> {
    Ok(Value::List(Arc::new(items)))
}

/// Calls a function of one of these names.
pub fn call<'a>(name: &str, args: &[Value<'a>]) -> Outcome<'a> {
    if let ("lists.range", [Value::Int(n)]) = (name, args) {
        if *n > RANGE_MAX {
            return error(format!("lists.range({n}) has more than {RANGE_MAX} entries"));
        }
        return list((0..*n).map(Value::Int).collect());
    }
    let Some((mut items, rest)) = args.split_first().and_then(|(of, rest)| Some((of.items()?, rest))) else {
        return error("no such overload");
    };
    match (name, rest) {
        ("first", []) => Ok(Value::Optional(items.into_iter().next().map(Arc::new))),
        ("last", []) => Ok(Value::Optional(items.pop().map(Arc::new))),
        ("reverse", []) => {
            items.reverse();
            list(items)
        }
        ("distinct", []) if items.len() > DISTINCT_MAX => {
            error(format!("a list of more than {DISTINCT_MAX} entries"))
        }
        ("distinct", []) => {
            let mut made: Vec<Value<'a>> = Vec::new();
            for item in items {
                if !made.iter().any(|known| known.same(&item)) {
                    made.push(item);
                }
            }
            list(made)
        }
        ("sort", []) => {
            if items.windows(2).any(|w| w[0].order(&w[1]).is_none()) {
                return error("list elements must have the same type");
            }
            items.sort_by(|a, b| a.order(b).unwrap_or(Ordering::Equal));
            list(items)
        }
        ("flatten", []) => list(flatten(items, 1)),
        ("flatten", [Value::Int(depth)]) => match u32::try_from(*depth) {
            Ok(depth) => list(flatten(items, depth)),
            Err(_) => error("level must be non-negative"),
        },
        ("slice", [Value::Int(from), Value::Int(to)]) => slice(items, *from, *to),
        _ => error("no such overload"),
    }
}

/// Lists within lists nest no deeper than an expression, so neither does this.
fn flatten<'a>(items: Vec<Value<'a>>, depth: u32) -> Vec<Value<'a>> {
    let mut made = Vec::new();
    for item in items {
        match item.items().filter(|_| depth > 0) {
            Some(inner) => made.extend(flatten(inner, depth - 1)),
            None => made.push(item),
        }
    }
    made
}

fn slice<'a>(items: Vec<Value<'a>>, from: i64, to: i64) -> Outcome<'a> {
    let count = items.len() as i64;
    if from < 0 || to < 0 {
        return error(format!("cannot slice({from}, {to}), negative indexes not supported"));
    }
    if from > to {
        return error(format!(
            "cannot slice({from}, {to}), start index must be less than or equal to end index"
        ));
    }
    if to > count {
        return error(format!("cannot slice({from}, {to}), list is length {count}"));
    }
    let (from, to) = (usize::try_from(from).unwrap_or(0), usize::try_from(to).unwrap_or(0));
    list(items.into_iter().skip(from).take(to - from).collect())
}
