//! What a scalar of the older YAML means, as Go's reader takes it.

use super::scalar::{is_float, is_time};

/// What a scalar says. Floats are told apart by their bits.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Scalar {
    Null,
    Text(String),
    Bool(bool),
    Int(i64),
    /// What no signed number is large enough for.
    Unsigned(u64),
    Float(u64),
}

impl Scalar {
    fn float(value: f64) -> Self {
        Scalar::Float(value.to_bits())
    }

    /// The tag of what it is.
    fn tag(&self) -> &'static str {
        match self {
            Scalar::Null => "!!null",
            Scalar::Text(_) => "!!str",
            Scalar::Bool(_) => "!!bool",
            Scalar::Int(_) | Scalar::Unsigned(_) => "!!int",
            Scalar::Float(_) => "!!float",
        }
    }
}

/// What a text means that is written plainly, or with a tag. The error is Go's.
pub(super) fn resolve(text: &str, plain: bool, tag: Option<&str>) -> Result<Scalar, String> {
    let as_text = || Scalar::Text(text.to_owned());
    match tag {
        None if plain => Ok(untagged(text)),
        None | Some("!!str" | "!") => Ok(as_text()),
        Some("!!binary") => {
            use base64::Engine as _;
            let decoded = base64::engine::general_purpose::STANDARD.decode(text.replace(['\n', ' '], ""));
            let bytes = decoded.map_err(|_| "!!binary value contains invalid base64 data".to_owned())?;
            Ok(Scalar::Text(String::from_utf8_lossy(&bytes).into_owned()))
        }
        Some("!!timestamp") if is_time(text) => Ok(as_text()),
        Some(wanted @ ("!!null" | "!!bool" | "!!int" | "!!float" | "!!timestamp")) => {
            match (untagged(text), wanted) {
                (Scalar::Int(number), "!!float") => Ok(Scalar::float(number as f64)),
                (found, _) if found.tag() == wanted => Ok(found),
                (found, _) => Err(format!("cannot decode {} `{text}` as a {wanted}", found.tag())),
            }
        }
        // Nobody knows what it means.
        Some(_) => Ok(as_text()),
    }
}

/// What a plain text means.
pub(super) fn untagged(text: &str) -> Scalar {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Scalar::Null,
        "y" | "Y" | "yes" | "Yes" | "YES" | "true" | "True" | "TRUE" | "on" | "On" | "ON" => {
            return Scalar::Bool(true);
        }
        "n" | "N" | "no" | "No" | "NO" | "false" | "False" | "FALSE" | "off" | "Off" | "OFF" => {
            return Scalar::Bool(false);
        }
        ".nan" | ".NaN" | ".NAN" => return Scalar::float(f64::NAN),
        ".inf" | ".Inf" | ".INF" | "+.inf" | "+.Inf" | "+.INF" => return Scalar::float(f64::INFINITY),
        "-.inf" | "-.Inf" | "-.INF" => return Scalar::float(f64::NEG_INFINITY),
        _ => {}
    }
    let number = match text.as_bytes().first() {
        Some(b'.') => is_float(text).then(|| text.parse().ok().map(Scalar::float)).flatten(),
        Some(b'0'..=b'9' | b'+' | b'-') if !is_time(text) => number(&text.replace('_', "")),
        _ => None,
    };
    number.unwrap_or_else(|| Scalar::Text(text.to_owned()))
}

fn number(text: &str) -> Option<Scalar> {
    let (negative, digits) = match text.as_bytes().first() {
        Some(b'-') => (true, &text[1..]),
        Some(b'+') => (false, &text[1..]),
        _ => (false, text),
    };
    let (digits, base) = match digits.as_bytes() {
        [b'0', b'x' | b'X', ..] => (&digits[2..], 16),
        [b'0', b'b' | b'B', ..] => (&digits[2..], 2),
        [b'0', b'o' | b'O', ..] => (&digits[2..], 8),
        [b'0', _, ..] => (&digits[1..], 8),
        _ => (digits, 10),
    };
    let whole = match digits.as_bytes().first() {
        Some(b'+' | b'-') => None,
        _ => i128::from_str_radix(digits, base).ok(),
    };
    let whole = whole.map(|number| if negative { -number } else { number });
    if let Some(number) = whole.and_then(|number| i64::try_from(number).ok()) {
        return Some(Scalar::Int(number));
    }
    if let Some(number) = whole.and_then(|number| u64::try_from(number).ok()) {
        return Some(Scalar::Unsigned(number));
    }
    if is_float(text) { text.parse().ok().map(Scalar::float) } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_scalars_mean_what_the_older_yaml_says() {
        for (text, wanted) in [
            ("", Scalar::Null),
            ("~", Scalar::Null),
            ("nil", Scalar::Text("nil".to_owned())),
            ("y", Scalar::Bool(true)),
            ("Off", Scalar::Bool(false)),
            ("12", Scalar::Int(12)),
            ("+12", Scalar::Int(12)),
            ("-1_000", Scalar::Int(-1000)),
            ("010", Scalar::Int(8)),
            ("0o10", Scalar::Int(8)),
            ("0x1F", Scalar::Int(31)),
            ("-0b11", Scalar::Int(-3)),
            ("08", Scalar::float(8.0)),
            ("18446744073709551615", Scalar::Unsigned(u64::MAX)),
            ("18446744073709551616", Scalar::float(18_446_744_073_709_551_616.0)),
            ("1.5e3", Scalar::float(1500.0)),
            (".5", Scalar::float(0.5)),
            ("1:30", Scalar::Text("1:30".to_owned())),
            ("2001-01-01", Scalar::Text("2001-01-01".to_owned())),
            ("1.2.3", Scalar::Text("1.2.3".to_owned())),
            ("--1", Scalar::Text("--1".to_owned())),
        ] {
            assert_eq!(resolve(text, true, None), Ok(wanted), "{text}");
            assert_eq!(resolve(text, false, None), Ok(Scalar::Text(text.to_owned())), "{text}");
        }
    }

    #[test]
    fn tags_say_what_a_scalar_is() {
        for (tag, text, wanted) in [
            ("!!str", "5", Ok(Scalar::Text("5".to_owned()))),
            ("!!int", "5", Ok(Scalar::Int(5))),
            ("!!float", "5", Ok(Scalar::float(5.0))),
            ("!!binary", "YQ==", Ok(Scalar::Text("a".to_owned()))),
            ("!own", "5", Ok(Scalar::Text("5".to_owned()))),
            ("!!int", "x", Err("cannot decode !!str `x` as a !!int".to_owned())),
            ("!!bool", "1", Err("cannot decode !!int `1` as a !!bool".to_owned())),
        ] {
            assert_eq!(resolve(text, false, Some(tag)), wanted, "{tag} {text}");
        }
    }
}
