//! Functions on texts.

use std::sync::Arc;

use super::{Outcome, Value, error, to_text};
use crate::api::custom::schema::compile;

/// A text that a function makes is no longer than this, in bytes.
const TEXT_BYTES_MAX: usize = 4 << 20;

fn list<'a>(parts: impl IntoIterator<Item = String>) -> Outcome<'a> {
    Ok(Value::List(Arc::new(parts.into_iter().map(Value::text).collect())))
}

fn pattern(text: &str) -> Result<regex::Regex, super::Failure> {
    match compile(text) {
        Ok(pattern) => Ok(pattern),
        Err(_) => {
            let why = crate::api::custom::schema::pattern_error(text).unwrap_or_default();
            error(why)
        }
    }
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
        ("format", 1) => format(s, &rest[0].items().unwrap_or_default()),
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

/// `%`-directives, as far as they concern texts and numbers.
fn format<'a>(form: &str, args: &[Value<'a>]) -> Outcome<'a> {
    let mut out = String::new();
    let mut args = args.iter();
    let mut chars = form.chars().peekable();
    while let Some(c) = chars.next() {
        if c != '%' {
            out.push(c);
            continue;
        }
        if chars.peek() == Some(&'%') {
            chars.next();
            out.push('%');
            continue;
        }
        let mut precision = None;
        if chars.peek() == Some(&'.') {
            chars.next();
            let mut digits = String::new();
            while let Some(d) = chars.peek().filter(|c| c.is_ascii_digit()) {
                digits.push(*d);
                chars.next();
            }
            precision = digits.parse::<usize>().ok().map(|p| p.min(100));
        }
        let Some(directive) = chars.next() else { return error("unexpected end of format string") };
        let Some(arg) = args.next() else {
            return error(format!("index {} out of range", args.len()));
        };
        let wrong =
            || error(format!("error during formatting: unrecognized formatting clause \"{directive}\""));
        match (directive, arg) {
            ('s', value) => out.push_str(&shown(value, 0)),
            ('d', Value::Int(n)) => out.push_str(&n.to_string()),
            ('d', Value::Uint(n)) => out.push_str(&n.to_string()),
            ('d', Value::Double(n)) => out.push_str(&n.to_string()),
            ('f', Value::Double(n)) => out.push_str(&format!("{n:.*}", precision.unwrap_or(6))),
            ('f', Value::Int(n)) => out.push_str(&format!("{:.*}", precision.unwrap_or(6), *n as f64)),
            ('e', Value::Double(n)) => out.push_str(&format!("{n:.*e}", precision.unwrap_or(6))),
            ('b', Value::Int(n)) => out.push_str(&format!("{n:b}")),
            ('b', Value::Bool(b)) => out.push(if *b { '1' } else { '0' }),
            ('o', Value::Int(n)) => out.push_str(&format!("{n:o}")),
            ('x', Value::Int(n)) => out.push_str(&format!("{n:x}")),
            ('X', Value::Int(n)) => out.push_str(&format!("{n:X}")),
            ('x', Value::String(s)) => s.bytes().for_each(|b| out.push_str(&format!("{b:02x}"))),
            ('X', Value::String(s)) => s.bytes().for_each(|b| out.push_str(&format!("{b:02X}"))),
            _ => return wrong(),
        }
        if out.len() > TEXT_BYTES_MAX {
            return error("the text would be too long");
        }
    }
    Ok(Value::text(out))
}

/// Values within lists nest no deeper than they are shown.
const SHOWN_DEPTH_MAX: usize = 16;

fn shown(value: &Value<'_>, depth: usize) -> String {
    if depth > SHOWN_DEPTH_MAX {
        return "...".to_owned();
    }
    if let Some(items) = value.items() {
        let items: Vec<String> = items.iter().map(|i| shown(i, depth + 1)).collect();
        return format!("[{}]", items.join(", "));
    }
    if let Some(entries) = value.entries() {
        let mut entries: Vec<String> = entries
            .iter()
            .map(|(k, v)| format!("{}: {}", shown(k, depth + 1), shown(v, depth + 1)))
            .collect();
        entries.sort();
        return format!("{{{}}}", entries.join(", "));
    }
    match value {
        Value::Null => "null".to_owned(),
        Value::Type(name) => name.to_string(),
        other => to_text(other).unwrap_or_default(),
    }
}
