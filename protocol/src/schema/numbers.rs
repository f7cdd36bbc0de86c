//! Numbers as they were written.
//!
//! The parser reads what is too big for a whole number, or has a fraction, as a float; Go repeats the text.

const WHAT: &str = "cannot unmarshal number ";

/// A message about a number that does not fit, with the number as it stands in the text.
pub fn as_written(message: String, text: &[u8]) -> String {
    let Some((before, rest)) = message.split_once(WHAT) else { return message };
    let (shown, after) = rest.split_once(' ').unwrap_or((rest, ""));
    let Ok(value) = shown.parse::<f64>() else { return message };
    match tokens(text).find(|token| token.parse() == Ok(value)) {
        Some(token) if token != shown => format!("{before}{WHAT}{token} {after}"),
        _ => message,
    }
}

/// The numbers of a JSON text, in order.
fn tokens(text: &[u8]) -> impl Iterator<Item = &str> {
    let mut at = 0;
    std::iter::from_fn(move || {
        let mut quoted = false;
        while let Some(byte) = text.get(at) {
            let digit = |b: &u8| b.is_ascii_digit() || b"-+.eE".contains(b);
            match byte {
                b'"' => quoted = !quoted,
                b'\\' if quoted => at += 1,
                b'-' | b'0'..=b'9' if !quoted => {
                    let len = text[at..].iter().take_while(|b| digit(b)).count();
                    let token = text.get(at..at + len);
                    at += len;
                    return token.and_then(|token| std::str::from_utf8(token).ok());
                }
                _ => {}
            }
            at += 1;
        }
        None
    })
}

#[cfg(test)]
mod tests {
    use super::as_written;

    #[test]
    fn numbers_are_repeated_as_they_were_written() {
        let message =
            |number: &str| format!("json: cannot unmarshal number {number} into Go value of type int32");
        for (shown, text, written) in [
            (
                "1e+20",
                r#"{"a": "100000000000000000000", "b": 100000000000000000000}"#,
                "100000000000000000000",
            ),
            ("1.5", r#"{"x\"1.50": 2, "b": [1.50]}"#, "1.50"),
            ("7", r#"{"b": 7}"#, "7"),
            ("7", "", "7"),
        ] {
            assert_eq!(as_written(message(shown), text.as_bytes()), message(written), "{text}");
        }
        assert_eq!(as_written("other".to_owned(), b"1"), "other");
    }
}
