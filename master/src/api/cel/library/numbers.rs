//! Arithmetic. Whatever overflows is an error.

use time::Duration;

use super::{Outcome, Value, error};

fn overflow<'a>(made: Option<Value<'a>>) -> Outcome<'a> {
    made.map_or_else(|| error("integer overflow"), Ok)
}

/// A text that says nothing of the wanted type.
pub fn unconverted<'a>(ty: &str) -> Outcome<'a> {
    error(format!("type conversion error from 'string' to '{ty}'"))
}

/// Calls an operator or a conversion.
pub fn call<'a>(name: &str, args: &[Value<'a>]) -> Outcome<'a> {
    match (name, args) {
        ("!_", [Value::Bool(b)]) => Ok(Value::Bool(!b)),
        ("-_", [Value::Int(n)]) => overflow(n.checked_neg().map(Value::Int)),
        ("-_", [Value::Double(n)]) => Ok(Value::Double(-n)),
        ("int", [value]) => int(value),
        ("uint", [value]) => uint(value),
        ("double", [value]) => match value {
            Value::Double(n) => Ok(Value::Double(*n)),
            Value::Int(n) => Ok(Value::Double(*n as f64)),
            Value::Uint(n) => Ok(Value::Double(*n as f64)),
            Value::String(s) => match s.parse() {
                Ok(n) => Ok(Value::Double(n)),
                Err(_) => unconverted("double"),
            },
            _ => error("no such overload"),
        },
        (name, [a, b]) => binary(name, a, b),
        _ => error("no such overload"),
    }
}

fn int<'a>(value: &Value<'a>) -> Outcome<'a> {
    match value {
        Value::Int(n) => Ok(Value::Int(*n)),
        Value::Uint(n) => overflow(i64::try_from(*n).ok().map(Value::Int)),
        Value::Double(n) if n.abs() < 9.2e18 => Ok(Value::Int(*n as i64)),
        Value::Double(_) => error("integer overflow"),
        Value::Timestamp(t) => Ok(Value::Int(t.unix_timestamp())),
        Value::Duration(n) => Ok(Value::Int(*n)),
        Value::String(s) => match s.parse() {
            Ok(n) => Ok(Value::Int(n)),
            Err(_) => unconverted("int"),
        },
        _ => error("no such overload"),
    }
}

fn uint<'a>(value: &Value<'a>) -> Outcome<'a> {
    match value {
        Value::Uint(n) => Ok(Value::Uint(*n)),
        Value::Int(n) => match u64::try_from(*n) {
            Ok(n) => Ok(Value::Uint(n)),
            Err(_) => error("unsigned integer overflow"),
        },
        Value::Double(n) if *n >= 0.0 && *n < 1.8e19 => Ok(Value::Uint(*n as u64)),
        Value::String(s) => match s.parse() {
            Ok(n) => Ok(Value::Uint(n)),
            Err(_) => unconverted("uint"),
        },
        _ => error("unsigned integer overflow"),
    }
}

fn binary<'a>(name: &str, a: &Value<'a>, b: &Value<'a>) -> Outcome<'a> {
    let zero = match name {
        "_/_" => "division by zero",
        _ => "modulus by zero",
    };
    match (a, b) {
        (Value::Int(a), Value::Int(b)) => {
            if *b == 0 && matches!(name, "_/_" | "_%_") {
                return error(zero);
            }
            overflow(
                match name {
                    "_+_" => a.checked_add(*b),
                    "_-_" => a.checked_sub(*b),
                    "_*_" => a.checked_mul(*b),
                    "_/_" => a.checked_div(*b),
                    "_%_" => a.checked_rem(*b),
                    _ => None,
                }
                .map(Value::Int),
            )
        }
        (Value::Uint(a), Value::Uint(b)) => {
            if *b == 0 && matches!(name, "_/_" | "_%_") {
                return error(zero);
            }
            overflow(
                match name {
                    "_+_" => a.checked_add(*b),
                    "_-_" => a.checked_sub(*b),
                    "_*_" => a.checked_mul(*b),
                    "_/_" => a.checked_div(*b),
                    "_%_" => a.checked_rem(*b),
                    _ => None,
                }
                .map(Value::Uint),
            )
        }
        (Value::Double(a), Value::Double(b)) => Ok(Value::Double(match name {
            "_+_" => a + b,
            "_-_" => a - b,
            "_*_" => a * b,
            "_/_" => a / b,
            _ => return error("no such overload"),
        })),
        (Value::String(a), Value::String(b)) if name == "_+_" => Ok(Value::text(format!("{a}{b}"))),
        (Value::Bytes(a), Value::Bytes(b)) if name == "_+_" => Ok(Value::Bytes([&**a, &**b].concat().into())),
        (Value::Duration(a), Value::Duration(b)) => {
            let made = if name == "_+_" { a.checked_add(*b) } else { a.checked_sub(*b) };
            overflow(made.map(Value::Duration))
        }
        (Value::Timestamp(t), Value::Duration(d)) | (Value::Duration(d), Value::Timestamp(t)) => {
            let by = Duration::nanoseconds(*d);
            let made = if name == "_+_" { t.checked_add(by) } else { t.checked_sub(by) };
            overflow(made.map(Value::Timestamp))
        }
        (Value::Timestamp(a), Value::Timestamp(b)) if name == "_-_" => {
            overflow(i64::try_from((*a - *b).whole_nanoseconds()).ok().map(Value::Duration))
        }
        (a, b) if name == "_+_" => a.joined(b).map_or_else(|| error("no such overload"), Ok),
        _ => error("no such overload"),
    }
}
