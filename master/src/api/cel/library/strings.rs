//! Functions on texts.

use std::sync::Arc;

use super::{Outcome, Value, error, to_text};
use crate::api::custom::schema::pattern::compile;

/// A text that a function makes is no longer than this, in bytes.
const TEXT_BYTES_MAX: usize = 4 << 20;

fn list<'a>(parts: impl IntoIterator<Item = String>) -> Outcome<'a> {
    Ok(Value::List(Arc::new(parts.into_iter().map(Value::text).collect())))
}

fn pattern(text: &str) -> Result<regex::Regex, super::Failure> {
    compile(text).or_else(error)
}

/// Calls a member function of texts (and of lists of texts).
pub fn member<'a>(name: &str, args: &[Value<'a>]) -> Outcome<'a> {
    if let ("join", Some(items)) = (name, args.first().and_then(Value::items)) {
        let by = args.get(1).and_then(to_text).unwrap_or_default();
        let Some(parts) = items.iter().map(to_text).collect::<Option<Vec<_>>>() else {
            return error("no such overload");
        };
        return Ok(Value::text(parts.join(&by)));
    }
    let [Value::String(s), rest @ ..] = args else { return error("no such overload") };
    let number = |i: usize| match rest.get(i) {
        Some(Value::Int(n)) => Some(*n),
        _ => None,
    };
    let text = |i: usize| match rest.get(i) {
        Some(Value::String(t)) => Some(&**t),
        _ => None,
    };
    match (name, rest.len()) {
        ("contains", 1) => flag(text(0).map(|t| s.contains(t))),
        ("startsWith", 1) => flag(text(0).map(|t| s.starts_with(t))),
        ("endsWith", 1) => flag(text(0).map(|t| s.ends_with(t))),
        ("matches", 1) => flag(Some(pattern(text(0).unwrap_or_default())?.is_match(s))),
        ("find", 1) => {
            let found = pattern(text(0).unwrap_or_default())?.find(s).map(|m| m.as_str().to_owned());
            Ok(Value::text(found.unwrap_or_default()))
        }
        ("findAll", 1 | 2) => {
            let pattern = pattern(text(0).unwrap_or_default())?;
            let limit = number(1).map_or(usize::MAX, |n| usize::try_from(n).unwrap_or(usize::MAX));
            list(pattern.find_iter(s).take(limit).map(|m| m.as_str().to_owned()))
        }
        ("charAt", 1) => {
            let at = number(0).unwrap_or(-1);
            let count = s.chars().count() as i64;
            if at < 0 || at > count {
                return error(format!("index out of range: {at}"));
            }
            let found = s.chars().nth(usize::try_from(at).unwrap_or(0));
            Ok(Value::text(found.map(String::from).unwrap_or_default()))
        }
        ("indexOf" | "lastIndexOf", 1 | 2) => {
            find(s, text(0).unwrap_or_default(), number(1), name == "lastIndexOf")
        }
        ("lowerAscii", 0) => Ok(Value::text(s.to_ascii_lowercase())),
        ("upperAscii", 0) => Ok(Value::text(s.to_ascii_uppercase())),
        ("trim", 0) => Ok(Value::text(s.trim())),
        ("replace", 2 | 3) => {
            let (from, to) = (text(0).unwrap_or_default(), text(1).unwrap_or_default());
            let limit = number(2).map_or(usize::MAX, |n| usize::try_from(n).unwrap_or(usize::MAX));
            let times = if from.is_empty() { s.chars().count() + 1 } else { s.matches(from).count() };
            if s.len() + times.min(limit) * to.len() > TEXT_BYTES_MAX {
                return error("the text would be too long");
            }
            Ok(Value::text(s.replacen(from, to, limit)))
        }
        ("split", 1 | 2) => {
            let by = text(0).unwrap_or_default();
            let limit = number(1).unwrap_or(-1);
            let parts: Vec<String> = match (limit, by) {
                (0, _) => Vec::new(),
                (n, "") if n < 0 => s.chars().map(String::from).collect(),
                (n, "") => {
                    let keep = usize::try_from(n).unwrap_or(1).saturating_sub(1);
                    let mut parts: Vec<String> = s.chars().take(keep).map(String::from).collect();
                    let rest: String = s.chars().skip(keep).collect();
                    if !rest.is_empty() {
                        parts.push(rest);
                    }
                    parts
                }
                (n, by) if n < 0 => s.split(by).map(str::to_owned).collect(),
                (n, by) => s.splitn(usize::try_from(n).unwrap_or(1), by).map(str::to_owned).collect(),
            };
            list(parts)
        }
        ("substring", 1 | 2) => {
            let count = s.chars().count() as i64;
            let (from, to) = (number(0).unwrap_or(0), number(1).unwrap_or(count));
            if from < 0 || from > count {
                return error(format!("index out of range: {from}"));
            }
            if to < 0 || to > count {
                return error(format!("index out of range: {to}"));
            }
            if from > to {
                return error(format!("invalid substring range. start: {from}, end: {to}"));
            }
            let (from, length) =
                (usize::try_from(from).unwrap_or(0), usize::try_from(to - from).unwrap_or(0));
            Ok(Value::text(s.chars().skip(from).take(length).collect::<String>()))
        }
        ("format", 1) => super::format::format(s, &rest[0].items().unwrap_or_default()),
        _ => error("no such overload"),
    }
}

fn flag<'a>(b: Option<bool>) -> Outcome<'a> {
    b.map_or_else(|| error("no such overload"), |b| Ok(Value::Bool(b)))
}

fn find<'a>(s: &str, wanted: &str, from: Option<i64>, last: bool) -> Outcome<'a> {
    let chars: Vec<char> = s.chars().collect();
    let wanted: Vec<char> = wanted.chars().collect();
    let count = chars.len() as i64;
    if from.is_some_and(|f| f < 0 || f > count) {
        return error(format!("index out of range: {}", from.unwrap_or(0)));
    }
    let at = |i: &usize| chars[*i..].starts_with(&wanted);
    let found = if last {
        let limit = usize::try_from(from.unwrap_or(count)).unwrap_or(0);
        (0..=limit.min(chars.len())).rev().find(at)
    } else {
        (usize::try_from(from.unwrap_or(0)).unwrap_or(0)..=chars.len()).find(at)
    };
    Ok(Value::Int(found.map_or(-1, |i| i as i64)))
}
