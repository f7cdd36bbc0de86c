//! Bytes in base64, read as Go reads them: line breaks are skipped, and an error says where.

use base64::Engine;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use serde_json::Value;

use crate::go::json_type;

/// Go does not mind bits after the last byte.
const READER: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_allow_trailing_bits(true)
        .with_decode_padding_mode(DecodePaddingMode::RequireCanonical),
);

/// The text in the one form that its bytes have. The error is Go's message.
pub fn canonical(text: &str) -> Result<String, String> {
    let broken = text.bytes().any(is_break);
    let joined = if broken { text.chars().filter(|c| !"\r\n".contains(*c)).collect() } else { String::new() };
    match READER.decode(if broken { joined.as_str() } else { text }) {
        Ok(bytes) => Ok(READER.encode(bytes)),
        Err(_) => Err(format!("illegal base64 data at input byte {}", fault(text.as_bytes()))),
    }
}

/// Bytes that were given one by one, as numbers; null is zero. The error is what the first is that is none, in Go's
/// words.
pub fn of_numbers(items: &[Value]) -> Result<String, String> {
    let byte = |item: &Value| match item {
        Value::Null => Ok(0),
        Value::Number(number) => {
            let byte = number.as_u64().and_then(|n| u8::try_from(n).ok());
            byte.ok_or_else(|| format!("number {number}"))
        }
        other => Err(json_type(other).to_owned()),
    };
    items.iter().map(byte).collect::<Result<Vec<u8>, String>>().map(|bytes| READER.encode(bytes))
}

fn is_break(byte: u8) -> bool {
    matches!(byte, b'\r' | b'\n')
}

/// Where Go finds fault with bytes that are not base64: what does not belong, or where a group of four that does not
/// end begins.
fn fault(text: &[u8]) -> usize {
    let mut group = 0;
    let mut at = 0;
    while let Some(byte) = text.get(at) {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'+' | b'/' => group = (group + 1) % 4,
            b'\r' | b'\n' => {}
            b'=' if group >= 2 => return after_padding(text, at, group),
            _ => return at,
        }
        at += 1;
    }
    text.len() - group
}

/// The same, from the first `=` on, after two or three letters of its group.
fn after_padding(text: &[u8], at: usize, letters: usize) -> usize {
    let next = |from: usize| text[from..].iter().position(|b| !is_break(*b)).map(|i| from + i);
    match (letters, next(at + 1)) {
        (2, None) => text.len(),
        (2, Some(second)) if text[second] != b'=' => second - 1,
        (2, Some(second)) => next(second + 1).unwrap_or(text.len()),
        (_, rest) => rest.unwrap_or(text.len()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{canonical, of_numbers};

    #[test]
    fn bytes_may_be_numbers() {
        for (given, read) in [
            (json!([97, null]), Ok("YQA=")),
            (json!([97, "a"]), Err("string")),
            (json!([256, "a"]), Err("number 256")),
            (json!([-1]), Err("number -1")),
        ] {
            let items = given.as_array().map(Vec::as_slice).unwrap_or_default();
            let made = of_numbers(items);
            assert_eq!(made.as_deref().map_err(String::as_str), read, "{given}");
        }
    }

    #[test]
    fn bytes_have_one_form() {
        for (given, kept) in [("", ""), ("eA==", "eA=="), ("eB==", "eA=="), ("YWJj\r\nZA==\n", "YWJjZA==")] {
            assert_eq!(canonical(given).as_deref(), Ok(kept));
        }
    }

    #[test]
    fn an_error_says_where() {
        for (given, at) in [
            ("!!", 0),
            ("v1", 0),
            ("YWJjZ", 4),
            ("YW=", 3),
            ("YW=x", 2),
            ("YQ==x", 4),
            ("YWI=x", 4),
            ("Y===", 1),
            ("YW Jj", 2),
        ] {
            assert_eq!(canonical(given), Err(format!("illegal base64 data at input byte {at}")), "{given}");
        }
    }
}
