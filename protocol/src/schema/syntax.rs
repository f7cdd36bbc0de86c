//! JSON's syntax with Go's eyes: what is wrong with a text in Go's words, and what Go lets pass.

use std::borrow::Cow;

use bytes::Bytes;

/// How deep Go follows.
const DEPTH_MAX: usize = 10_000;

/// What Go's reader would say about a text; `None` when it is JSON.
pub fn error(text: &[u8]) -> Option<String> {
    Scanner { text, at: 0 }.document().err()
}

/// The text with what Go replaces replaced: bytes that are no UTF-8, and halves of surrogate pairs.
pub fn tolerated(text: Bytes) -> Bytes {
    let text = match String::from_utf8_lossy(&text) {
        Cow::Borrowed(_) => text,
        Cow::Owned(replaced) => Bytes::from(replaced),
    };
    // Hardly any body escapes anything.
    if !text.contains(&b'\\')
        || !text.windows(3).any(|w| w[0] == b'\\' && w[1] == b'u' && matches!(w[2], b'd' | b'D'))
    {
        return text;
    }
    let unit = |at: usize| -> Option<u32> {
        let digits = text.get(at..at + 6)?.strip_prefix(b"\\u")?;
        u32::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
    };
    let mut out = Vec::with_capacity(text.len());
    let mut at = 0;
    while at < text.len() {
        let taken = match (text[at], unit(at)) {
            (b'\\', Some(0xd800..=0xdbff)) if matches!(unit(at + 6), Some(0xdc00..=0xdfff)) => 12,
            (b'\\', Some(0xd800..=0xdfff)) => {
                out.extend_from_slice(b"\\ufffd");
                at += 6;
                continue;
            }
            (b'\\', _) => 2,
            _ => 1,
        };
        let end = (at + taken).min(text.len());
        out.extend_from_slice(&text[at..end]);
        at = end;
    }
    Bytes::from(out)
}

struct Scanner<'a> {
    text: &'a [u8],
    at: usize,
}

type Scan = Result<(), String>;

/// What the scanner stands in.
enum Open {
    Object,
    Array,
}

impl Scanner<'_> {
    fn peek(&mut self) -> Result<u8, String> {
        self.text.get(self.at).copied().ok_or_else(|| "unexpected end of JSON input".to_owned())
    }

    fn space(&mut self) {
        while matches!(self.text.get(self.at), Some(b' ' | b'\n' | b'\r' | b'\t')) {
            self.at += 1;
        }
    }

    fn invalid(&self, context: &str) -> String {
        let shown = match self.text.get(self.at) {
            Some(byte) => crate::go::quote_char(char::from(*byte)),
            None => return "unexpected end of JSON input".to_owned(),
        };
        format!("invalid character {shown} {context}")
    }

    fn document(&mut self) -> Scan {
        let mut open = Vec::new();
        loop {
            if open.len() > DEPTH_MAX {
                return Err("exceeded max depth".to_owned());
            }
            // A value begins here.
            self.space();
            match self.peek()? {
                b'{' => {
                    self.at += 1;
                    open.push(Open::Object);
                    self.space();
                    if self.peek()? != b'}' {
                        self.key("looking for beginning of object key string")?;
                        continue;
                    }
                }
                b'[' => {
                    self.at += 1;
                    open.push(Open::Array);
                    self.space();
                    if self.peek()? != b']' {
                        continue;
                    }
                }
                b'"' => self.string()?,
                b'-' | b'0'..=b'9' => self.number()?,
                b't' => self.literal("true")?,
                b'f' => self.literal("false")?,
                b'n' => self.literal("null")?,
                _ => return Err(self.invalid("looking for beginning of value")),
            }
            // A value has ended here; perhaps what holds it ends too.
            loop {
                self.space();
                match (open.last(), self.text.get(self.at)) {
                    (None, None) => return Ok(()),
                    (None, Some(_)) => return Err(self.invalid("after top-level value")),
                    (Some(Open::Object), Some(b'}')) | (Some(Open::Array), Some(b']')) => {
                        self.at += 1;
                        open.pop();
                    }
                    (Some(Open::Object), Some(b',')) => {
                        self.at += 1;
                        self.space();
                        self.key("looking for beginning of object key string")?;
                        break;
                    }
                    (Some(Open::Array), Some(b',')) => {
                        self.at += 1;
                        break;
                    }
                    (Some(Open::Object), _) => return Err(self.invalid("after object key:value pair")),
                    (Some(Open::Array), _) => return Err(self.invalid("after array element")),
                }
            }
        }
    }

    /// A key and its colon.
    fn key(&mut self, context: &str) -> Scan {
        if self.peek()? != b'"' {
            return Err(self.invalid(context));
        }
        self.string()?;
        self.space();
        if self.peek()? != b':' {
            return Err(self.invalid("after object key"));
        }
        self.at += 1;
        Ok(())
    }

    fn string(&mut self) -> Scan {
        self.at += 1;
        loop {
            match self.peek()? {
                b'"' => {
                    self.at += 1;
                    return Ok(());
                }
                b'\\' => {
                    self.at += 1;
                    match self.peek()? {
                        b'b' | b'f' | b'n' | b'r' | b't' | b'\\' | b'/' | b'"' => self.at += 1,
                        b'u' => {
                            self.at += 1;
                            for _ in 0..4 {
                                if !self.peek()?.is_ascii_hexdigit() {
                                    return Err(self.invalid("in \\u hexadecimal character escape"));
                                }
                                self.at += 1;
                            }
                        }
                        _ => return Err(self.invalid("in string escape code")),
                    }
                }
                0..=0x1f => return Err(self.invalid("in string literal")),
                _ => self.at += 1,
            }
        }
    }

    fn digits(&mut self) {
        while matches!(self.text.get(self.at), Some(b'0'..=b'9')) {
            self.at += 1;
        }
    }

    fn some_digits(&mut self, context: &str) -> Scan {
        if !self.peek()?.is_ascii_digit() {
            return Err(self.invalid(context));
        }
        self.digits();
        Ok(())
    }

    fn number(&mut self) -> Scan {
        if self.peek()? == b'-' {
            self.at += 1;
        }
        match self.peek()? {
            b'0' => self.at += 1,
            b'1'..=b'9' => self.digits(),
            _ => return Err(self.invalid("in numeric literal")),
        }
        if self.text.get(self.at) == Some(&b'.') {
            self.at += 1;
            self.some_digits("after decimal point in numeric literal")?;
        }
        if matches!(self.text.get(self.at), Some(b'e' | b'E')) {
            self.at += 1;
            if matches!(self.text.get(self.at), Some(b'+' | b'-')) {
                self.at += 1;
            }
            self.some_digits("in exponent of numeric literal")?;
        }
        Ok(())
    }

    fn literal(&mut self, word: &str) -> Scan {
        self.at += 1;
        for expected in word.chars().skip(1) {
            if char::from(self.peek()?) != expected {
                return Err(self.invalid(&format!("in literal {word} (expecting '{expected}')")));
            }
            self.at += 1;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_are_gos() {
        for (text, expected) in [
            ("{\"a\":[1,-2.5e3,true,null,{}],\"b\":\"\\u00e9\"}", None),
            ("", Some("unexpected end of JSON input")),
            ("{\"a\":{", Some("unexpected end of JSON input")),
            ("<xml/>", Some("invalid character '<' looking for beginning of value")),
            ("{a:1}", Some("invalid character 'a' looking for beginning of object key string")),
            ("{\"a\":1,}", Some("invalid character '}' looking for beginning of object key string")),
            ("{\"a\" 1}", Some("invalid character '1' after object key")),
            ("{\"a\":1 \"b\"}", Some("invalid character '\"' after object key:value pair")),
            ("[1 2]", Some("invalid character '2' after array element")),
            ("{} x", Some("invalid character 'x' after top-level value")),
            ("trye", Some("invalid character 'y' in literal true (expecting 'u')")),
            ("\"a\nb\"", Some("invalid character '\\n' in string literal")),
            ("1.x", Some("invalid character 'x' after decimal point in numeric literal")),
        ] {
            assert_eq!(error(text.as_bytes()).as_deref(), expected, "{text}");
        }
        assert_eq!(error("[".repeat(20_000).as_bytes()).as_deref(), Some("exceeded max depth"));
    }

    #[test]
    fn what_go_replaces_is_replaced() {
        for (text, expected) in [
            (&b"{\"a\":\"b\"}"[..], &b"{\"a\":\"b\"}"[..]),
            (b"\"\\ud800\"", b"\"\\ufffd\""),
            (b"\"\\ud83d\\ude00\"", b"\"\\ud83d\\ude00\""),
            (b"\"\\\\ud800\"", b"\"\\\\ud800\""),
            (b"\"\xff\"", "\"\u{fffd}\"".as_bytes()),
        ] {
            assert_eq!(tolerated(Bytes::from_static(text)), expected);
        }
    }

    proptest::proptest! {
        #[test]
        fn whatever_serde_reads_is_fine(text in "[\\[\\]{}:,\"a0.e\\-\\\\ tn]{0,24}") {
            let read = serde_json::from_str::<serde_json::Value>(&text).is_ok();
            if read {
                proptest::prop_assert_eq!(error(text.as_bytes()), None);
            }
        }
    }
}
