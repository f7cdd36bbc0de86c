//! What the text of a literal means.

use std::borrow::Cow;

/// An integer; a sign is part of its text.
pub fn int(text: &str) -> Result<i64, &'static str> {
    let (sign, digits) = match text.strip_prefix('-') {
        Some(digits) => ("-", digits),
        None => ("", text),
    };
    let parsed = match digits.strip_prefix("0x") {
        Some(hex) => i64::from_str_radix(&format!("{sign}{hex}"), 16),
        None => text.parse(),
    };
    parsed.map_err(|_| "invalid int literal")
}

/// An integer that is marked as unsigned.
pub fn uint(text: &str) -> Result<u64, &'static str> {
    let text = text.strip_suffix(['u', 'U']).unwrap_or(text);
    let parsed = match text.strip_prefix("0x") {
        Some(hex) => u64::from_str_radix(hex, 16),
        None => text.parse(),
    };
    parsed.map_err(|_| "invalid uint literal")
}

/// A number with a fraction or an exponent. What is too large for one is none.
pub fn double(text: &str) -> Result<f64, &'static str> {
    text.parse().ok().filter(|n: &f64| n.is_finite()).ok_or("invalid double literal")
}

/// A string, with its quotes.
pub fn string(text: &str) -> Result<String, &'static str> {
    String::from_utf8(unescaped(text, false)?).map_err(|_| UNREADABLE)
}

/// A string of bytes, with its mark and its quotes.
pub fn bytes(text: &str) -> Result<Vec<u8>, &'static str> {
    unescaped(text.strip_prefix(['b', 'B']).unwrap_or(text), true)
}

const UNREADABLE: &str = "unable to unescape string";

fn unescaped(text: &str, bytes: bool) -> Result<Vec<u8>, &'static str> {
    // A line ends with one character, however the source is stored.
    let mut text = Cow::Borrowed(text);
    if text.contains('\r') {
        text = Cow::Owned(text.replace("\r\n", "\n").replace('\r', "\n"));
    }
    let (raw, text) = match text.strip_prefix(['r', 'R']) {
        Some(rest) => (true, rest),
        None => (false, &*text),
    };
    let inside = |quote: &str| text.strip_prefix(quote).and_then(|rest| rest.strip_suffix(quote));
    let inner = ["\"\"\"", "'''", "\"", "'"].into_iter().find_map(inside).ok_or(UNREADABLE)?;
    if raw || !inner.contains('\\') {
        return Ok(inner.as_bytes().to_vec());
    }
    let mut out = Vec::with_capacity(inner.len());
    let mut rest = inner.chars();
    while let Some(c) = rest.next() {
        let code = if c == '\\' { escape(&mut rest, bytes)? } else { Code::Char(c) };
        match code {
            Code::Byte(byte) => out.push(byte),
            Code::Char(c) => out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
    Ok(out)
}

/// What an escape stands for.
enum Code {
    Byte(u8),
    Char(char),
}

/// What follows a backslash. Digits give a byte of bytes, and a character of a string.
fn escape(rest: &mut std::str::Chars<'_>, bytes: bool) -> Result<Code, &'static str> {
    let c = rest.next().ok_or("unable to unescape string, found '\\' as last character")?;
    let mut number = |first: u32, count: usize, radix: u32, wrong: &'static str| {
        let mut value = first;
        for _ in 0..count {
            let digit = rest.next().and_then(|c| c.to_digit(radix)).ok_or(wrong)?;
            value = value.wrapping_mul(radix).wrapping_add(digit);
        }
        if bytes {
            Ok(Code::Byte(value as u8))
        } else {
            char::from_u32(value).map(Code::Char).ok_or("invalid unicode code point")
        }
    };
    Ok(Code::Char(match c {
        'a' => '\u{7}',
        'b' => '\u{8}',
        'f' => '\u{c}',
        'n' => '\n',
        'r' => '\r',
        't' => '\t',
        'v' => '\u{b}',
        '\\' | '\'' | '"' | '`' | '?' => c,
        'x' | 'X' => return number(0, 2, 16, UNREADABLE),
        'u' if !bytes => return number(0, 4, 16, UNREADABLE),
        'U' if !bytes => return number(0, 8, 16, UNREADABLE),
        '0'..='3' => {
            let first = u32::from(c) - u32::from('0');
            return number(first, 2, 8, "unable to unescape octal sequence in string");
        }
        _ => return Err(UNREADABLE),
    }))
}
