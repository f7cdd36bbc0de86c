//! Values as Go's own printing shows them: clients see it in messages.

use serde_json::{Map, Value};

pub mod url;

/// What `%T` says of a value that was read from JSON.
pub fn type_name(value: &Value) -> &'static str {
    match value {
        Value::Null => "<nil>",
        Value::Bool(_) => "bool",
        Value::Number(n) if n.is_i64() => "int64",
        // Whole numbers that are too large too.
        Value::Number(_) => "float64",
        Value::String(_) => "string",
        Value::Array(_) => "[]interface {}",
        Value::Object(_) => "map[string]interface {}",
    }
}

/// What Go's JSON decoder calls a value.
pub fn json_type(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "bool",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

/// How Go's JSON decoder refuses to read a value as a type.
pub fn cannot_unmarshal(value: &Value, ty: &str) -> String {
    format!("json: cannot unmarshal {} into Go value of type {ty}", json_type(value))
}

/// An object as Go's `%v` prints a map.
pub fn map(entries: &Map<String, Value>) -> String {
    let entries: Vec<String> = entries.iter().map(|(k, v)| format!("{k}:{}", text(v))).collect();
    format!("map[{}]", entries.join(" "))
}

/// A value as Go's `%v` prints it.
pub fn text(value: &Value) -> String {
    match value {
        Value::Object(entries) => map(entries),
        Value::Array(items) => format!("[{}]", items.iter().map(text).collect::<Vec<_>>().join(" ")),
        Value::String(said) => said.clone(),
        Value::Null => "<nil>".to_owned(),
        Value::Number(number) if !number.is_i64() => float(number.as_f64().unwrap_or_default()),
        other => other.to_string(),
    }
}

/// A number as Go prints floats.
pub fn float(n: f64) -> String {
    /// From this power of ten on, one is written; so it is below the other.
    const POWERS: std::ops::Range<i32> = -4..6;
    if !n.is_finite() {
        let sign = if n < 0.0 { "-" } else { "+" };
        return if n.is_nan() { "NaN".to_owned() } else { format!("{sign}Inf") };
    }
    let written = format!("{n:e}");
    let (digits, power) = written.split_once('e').unwrap_or((&written, "0"));
    let power: i32 = power.parse().unwrap_or_default();
    if POWERS.contains(&power) {
        return format!("{n}");
    }
    let sign = if power < 0 { '-' } else { '+' };
    format!("{digits}e{sign}{:02}", power.abs())
}

/// A number without its fraction, where 64 bits hold that.
pub fn truncated(number: f64) -> Option<i64> {
    const END: f64 = 9_223_372_036_854_775_808.0;
    (-END..END).contains(&number).then_some(number as i64)
}

/// Makes a value what is left of it when Go writes it down and reads it again: numbers without a fraction are whole.
pub fn rewrite(value: &mut Value) {
    match value {
        Value::Object(map) => map.values_mut().for_each(rewrite),
        Value::Array(items) => items.iter_mut().for_each(rewrite),
        Value::Number(number) if number.is_f64() => {
            let whole = number.as_f64().filter(|f| f.fract() == 0.0).and_then(truncated);
            if let Some(whole) = whole {
                *value = whole.into();
            }
        }
        _ => {}
    }
}

/// A value as Go's `%s` prints it: what is no text says so.
pub fn verb_s(value: &Value) -> String {
    match value {
        Value::String(_) => text(value),
        Value::Null => "%!s(<nil>)".to_owned(),
        Value::Array(items) => format!("[{}]", items.iter().map(verb_s).collect::<Vec<_>>().join(" ")),
        Value::Object(entries) => {
            let entries: Vec<String> = entries.iter().map(|(k, v)| format!("{k}:{}", verb_s(v))).collect();
            format!("map[{}]", entries.join(" "))
        }
        other => format!("%!s({}={})", type_name(other), text(other)),
    }
}

/// A number as Go reads one from a text of decimal digits.
///
/// # Errors
/// What Go says where it is none.
pub fn parse_int(text: &str) -> Result<i64, String> {
    use std::num::IntErrorKind::{NegOverflow, PosOverflow};
    text.parse().map_err(|error: std::num::ParseIntError| {
        let why = match error.kind() {
            PosOverflow | NegOverflow => "value out of range",
            _ => "invalid syntax",
        };
        format!("strconv.ParseInt: parsing {}: {why}", quote(text))
    })
}

/// Go's `%q`.
pub fn quote(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            c => escape(c, &mut out),
        }
    }
    out.push('"');
    out
}

/// A list of texts as Go's `%q` prints it.
pub fn quoted_list<T: AsRef<str>>(texts: &[T]) -> String {
    let texts: Vec<String> = texts.iter().map(|text| quote(text.as_ref())).collect();
    format!("[{}]", texts.join(" "))
}

/// A character as Go shows it in single quotes.
pub fn quote_char(c: char) -> String {
    let mut out = String::from("'");
    match c {
        '\'' => out.push_str("\\'"),
        c => escape(c, &mut out),
    }
    out.push('\'');
    out
}

fn escape(c: char, out: &mut String) {
    match c {
        '\\' => out.push_str("\\\\"),
        '\n' => out.push_str("\\n"),
        '\r' => out.push_str("\\r"),
        '\t' => out.push_str("\\t"),
        '\u{7}' => out.push_str("\\a"),
        '\u{8}' => out.push_str("\\b"),
        '\u{b}' => out.push_str("\\v"),
        '\u{c}' => out.push_str("\\f"),
        c if u32::from(c) < 0x20 || u32::from(c) == 0x7f => out.push_str(&format!("\\x{:02x}", u32::from(c))),
        c if c.is_control() => out.push_str(&format!("\\u{:04x}", u32::from(c))),
        c => out.push(c),
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn what_is_written_again_is_whole() {
        let mut value = serde_json::json!({"a": [2.0, -0.5, 1e300], "b": "2.0", "c": 3});
        super::rewrite(&mut value);
        assert_eq!(value, serde_json::json!({"a": [2, -0.5, 1e300], "b": "2.0", "c": 3}));
    }

    #[test]
    fn numbers_are_told_as_go_prints_floats() {
        for (number, wanted) in [
            (0.0, "0"),
            (1.5, "1.5"),
            (-3.0, "-3"),
            (123_456.0, "123456"),
            (1_000_000.0, "1e+06"),
            (1_234_567.5, "1.2345675e+06"),
            (0.0001, "0.0001"),
            (0.000_01, "1e-05"),
            (1e21, "1e+21"),
            (f64::INFINITY, "+Inf"),
        ] {
            assert_eq!(super::float(number), wanted);
        }
    }
}
