//! `format`: texts with `%`-directives, which the checker looks at too where they are literals.

use super::super::value::Value;
use super::{Outcome, error, to_text};
use protocol::go;

/// A text that is made is no longer than this, in bytes.
const TEXT_BYTES_MAX: usize = 4 << 20;
/// Values within lists nest no deeper than they are shown.
const SHOWN_DEPTH_MAX: usize = 16;
/// Decimals are no more than these.
const PRECISION_MAX: usize = 100;

/// What a directive is about: its letter, and how many decimals it has.
#[derive(Clone, Copy)]
pub struct Clause {
    /// The letter.
    pub letter: char,
    precision: usize,
}

impl Clause {
    /// Whether the directive takes values of a type, by its name; `dyn` may be of any.
    pub fn takes(self, ty: &str) -> bool {
        let taken: &[&str] = match self.letter {
            'd' | 'o' => &["int", "uint"],
            'f' | 'e' => &["double", "string"],
            'b' => &["int", "uint", "bool"],
            'x' | 'X' => &["int", "uint", "string", "bytes"],
            _ => &[
                "list",
                "map",
                "int",
                "uint",
                "double",
                "bool",
                "string",
                "google.protobuf.Timestamp",
                "bytes",
                "google.protobuf.Duration",
                "type",
                "null_type",
            ],
        };
        ty == "dyn" || taken.contains(&ty)
    }

    /// What is wrong with a value of a type that the directive does not take.
    pub fn refusal(self, ty: &str) -> String {
        let what = match self.letter {
            'd' => "decimal clause can only be used on integers",
            'o' => "octal clause can only be used on integers",
            'f' => "fixed-point clause can only be used on doubles",
            'e' => "scientific clause can only be used on doubles",
            'b' => "only integers and bools can be formatted as binary",
            'x' | 'X' => "only integers, byte buffers, and strings can be formatted as hex",
            _ => {
                "string clause can only be used on strings, bools, bytes, ints, doubles, maps, lists, types, \
                 durations, and timestamps"
            }
        };
        format!("error during formatting: {what}, was given {ty}")
    }
}

/// A piece of a form.
pub enum Piece<'f> {
    /// Text that stays.
    Text(&'f str),
    /// A directive.
    Clause(Clause),
}

/// Takes the next piece off a form that is not at its end.
pub fn next_piece<'f>(form: &mut &'f str) -> Result<Piece<'f>, String> {
    let wrong = |why: String| format!("could not parse formatting clause: {why}");
    let all = *form;
    let Some(after) = all.strip_prefix('%') else {
        let end = all.find('%').unwrap_or(all.len());
        *form = &all[end..];
        return Ok(Piece::Text(&all[..end]));
    };
    if let Some(rest) = after.strip_prefix('%') {
        *form = rest;
        return Ok(Piece::Text("%"));
    }
    if after.is_empty() {
        return Err("unexpected end of string".to_owned());
    }
    let (precision, rest) = match after.strip_prefix('.') {
        None => (6, after),
        Some(rest) => {
            let of_precision = |why: &str| wrong(format!("error while parsing precision: {why}"));
            let Some(end) = rest.find(|c: char| !c.is_ascii_digit()) else {
                return Err(of_precision("could not find end of precision specifier"));
            };
            let digits = &rest[..end];
            let number = digits.parse().map_err(|_| {
                let why = if digits.is_empty() { "invalid syntax" } else { "value out of range" };
                of_precision(&format!(
                    "error while converting precision to integer: strconv.Atoi: parsing {digits:?}: {why}"
                ))
            })?;
            (number, &rest[end..])
        }
    };
    let letter = rest.chars().next().unwrap_or_default();
    if !"sdfebxXo".contains(letter) {
        // The letter is read as a byte.
        let read = rest.bytes().next().map_or('\0', char::from);
        return Err(wrong(format!("unrecognized formatting clause \"{read}\"")));
    }
    *form = &rest[letter.len_utf8()..];
    Ok(Piece::Clause(Clause { letter, precision }))
}

/// Formats values.
pub fn format<'a>(mut form: &str, args: &[Value<'a>]) -> Outcome<'a> {
    let mut out = String::new();
    let mut next = 0;
    while !form.is_empty() {
        let directive = form.starts_with('%') && !form.starts_with("%%");
        if directive && next >= args.len() {
            return error(format!("index {next} out of range"));
        }
        match next_piece(&mut form).or_else(error)? {
            Piece::Text(text) => out.push_str(text),
            Piece::Clause(clause) => {
                out.push_str(&one(clause, &args[next]).or_else(error)?);
                next += 1;
            }
        }
        if out.len() > TEXT_BYTES_MAX {
            return error("the text would be too long");
        }
    }
    Ok(Value::text(out))
}

fn one(clause: Clause, value: &Value<'_>) -> Result<String, String> {
    let precision = clause.precision.min(PRECISION_MAX);
    let double = match value {
        Value::Double(n) => Some(*n),
        Value::String(s) => match &**s {
            "NaN" => Some(f64::NAN),
            "Infinity" => Some(f64::INFINITY),
            "-Infinity" => Some(f64::NEG_INFINITY),
            _ => None,
        },
        _ => None,
    };
    let made = match (clause.letter, value) {
        ('s', Value::Null) => Some("null".to_owned()),
        ('s', _) if value.items().is_some() || value.entries().is_some() => {
            return within(value, 0).map_err(|why| format!("error during formatting: {why}"));
        }
        ('s', Value::Type(name)) => Some(name.to_string()),
        ('s', Value::Opaque(_)) => None,
        ('s', _) => to_text(value),
        ('d', Value::Int(n)) => Some(n.to_string()),
        ('d', Value::Uint(n)) => Some(n.to_string()),
        ('f', _) => double.map(|n| fixed(n, precision)),
        ('e', _) => double.map(scientific),
        ('b', Value::Bool(b)) => Some(if *b { "1" } else { "0" }.to_owned()),
        ('b' | 'o' | 'x' | 'X', Value::Int(n)) => {
            let sign = if *n < 0 { "-" } else { "" };
            Some(format!("{sign}{}", digits(clause.letter, n.unsigned_abs())))
        }
        ('b' | 'o' | 'x' | 'X', Value::Uint(n)) => Some(digits(clause.letter, *n)),
        ('x' | 'X', Value::String(s)) => Some(hex(clause.letter, s.as_bytes())),
        ('x' | 'X', Value::Bytes(b)) => Some(hex(clause.letter, b)),
        _ => None,
    };
    made.ok_or_else(|| clause.refusal(value.type_name()))
}

fn digits(letter: char, n: u64) -> String {
    match letter {
        'b' => format!("{n:b}"),
        'o' => format!("{n:o}"),
        'x' => format!("{n:x}"),
        _ => format!("{n:X}"),
    }
}

fn hex(letter: char, bytes: &[u8]) -> String {
    let one = |b: &u8| if letter == 'x' { format!("{b:02x}") } else { format!("{b:02X}") };
    bytes.iter().map(one).collect()
}

/// What is no number, or no finite one, as people write it.
fn odd(n: f64) -> Option<String> {
    let sign = if n < 0.0 { "-" } else { "" };
    (!n.is_finite()).then(|| if n.is_nan() { "NaN".to_owned() } else { format!("{sign}∞") })
}

/// A number as people write it in English: its thousands are grouped.
fn fixed(n: f64, precision: usize) -> String {
    if let Some(odd) = odd(n) {
        return odd;
    }
    let plain = format!("{:.precision$}", n.abs());
    let (whole, decimals) = plain.split_once('.').unwrap_or((&plain, ""));
    let mut out = String::from(if n.is_sign_negative() { "-" } else { "" });
    for (i, digit) in whole.chars().enumerate() {
        if i > 0 && (whole.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    if !decimals.is_empty() {
        out.push('.');
        out.push_str(decimals);
    }
    out
}

/// A number with its power of ten as people write it: at least two digits, raised.
/// However precisely it is asked for, upstream writes six decimals.
fn scientific(n: f64) -> String {
    const PRECISION: usize = 6;
    const RAISED: [char; 10] = ['⁰', '¹', '²', '³', '⁴', '⁵', '⁶', '⁷', '⁸', '⁹'];
    if let Some(odd) = odd(n) {
        return odd;
    }
    let plain = format!("{n:.PRECISION$e}");
    let (number, power) = plain.split_once('e').unwrap_or((&plain, "0"));
    let (sign, power) = power.strip_prefix('-').map_or(("", power), |power| ("⁻", power));
    let power: String = format!("{power:0>2}").bytes().map(|b| RAISED[usize::from(b - b'0') % 10]).collect();
    format!("{number}×10{sign}{power}")
}

/// A value within a list or map, as an expression would have it.
fn within(value: &Value<'_>, depth: usize) -> Result<String, String> {
    if depth > SHOWN_DEPTH_MAX {
        return Ok("...".to_owned());
    }
    if let Some(items) = value.items() {
        let items: Result<Vec<String>, String> = items.iter().map(|item| within(item, depth + 1)).collect();
        return Ok(format!("[{}]", items?.join(", ")));
    }
    if let Some(entries) = value.entries().filter(|_| value.type_name() == "map") {
        let mut made = Vec::new();
        for (key, value) in entries {
            if !matches!(key, Value::String(_) | Value::Bool(_) | Value::Int(_) | Value::Uint(_)) {
                return Err(format!("no formatting function for map key of type {}", key.type_name()));
            }
            made.push(format!("{}:{}", within(&key, depth + 1)?, within(&value, depth + 1)?));
        }
        made.sort();
        return Ok(format!("{{{}}}", made.join(", ")));
    }
    let text = || to_text(value).unwrap_or_default();
    Ok(match value {
        Value::Null => "null".to_owned(),
        Value::Type(name) => name.to_string(),
        Value::String(s) => format!("{:?}", &**s),
        Value::Bytes(_) => format!("b{:?}", text()),
        Value::Double(n) if n.is_finite() => format!("{n:.6}"),
        Value::Double(n) => format!("{:?}", go::float(*n)),
        Value::Timestamp(_) => format!("timestamp({:?})", text()),
        Value::Duration(_) => format!("duration({:?})", text()),
        Value::Int(_) | Value::Uint(_) | Value::Bool(_) => text(),
        other => return Err(format!("no formatting function for {}", other.type_name())),
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    fn said(form: &str, args: &[Value<'static>]) -> String {
        match format(form, args) {
            Ok(Value::String(text)) => text.to_string(),
            Ok(other) => format!("{other:?}"),
            Err(why) => why.to_string(),
        }
    }

    #[test]
    fn values_are_written_as_people_do() {
        for (form, value, wanted) in [
            ("%f", Value::Double(1_234_567.5), "1,234,567.500000"),
            ("%.1f", Value::Double(-2.35), "-2.4"),
            ("%e", Value::Double(1000.0), "1.000000×10⁰³"),
            ("%.2e", Value::Double(0.00125), "1.250000×10⁻⁰³"),
            ("%f", Value::text("Infinity"), "∞"),
            ("%x", Value::Int(-255), "-ff"),
            ("%X", Value::text("hi"), "6869"),
            ("%b%%", Value::Bool(true), "1%"),
            ("%s", Value::List(Arc::new(vec![Value::text("a"), Value::Double(1.5)])), "[\"a\", 1.500000]"),
            ("%s", Value::Map(Arc::new(vec![(Value::text("a"), Value::Null)])), "{\"a\":null}"),
            (
                "%d",
                Value::text("a"),
                "error during formatting: decimal clause can only be used on integers, was given string",
            ),
            ("%q", Value::Null, "could not parse formatting clause: unrecognized formatting clause \"q\""),
            ("%", Value::Null, "unexpected end of string"),
            ("%d%d", Value::Int(1), "index 1 out of range"),
        ] {
            assert_eq!(said(form, &[value]), wanted, "{form}");
        }
    }
}
