//! Values as YAML, in the layout that Kubernetes' answers have: keys in natural order, lists not indented below their
//! key, long texts folded.

use std::cmp::Ordering;

use serde_json::{Map, Number, Value};

use super::scalar::{self, Style};

/// Keys longer than this are written with a question mark before them.
const KEY_BYTES_MAX: usize = 128;

/// A value as YAML, whose texts are folded at spaces behind column `width`.
pub(super) fn text(value: &Value, width: usize) -> String {
    let mut emitter = Emitter { out: String::new(), column: 0, width };
    emitter.node(value, 0, Place::Root);
    emitter.finish_line();
    emitter.out
}

/// Where a value stands.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    Root,
    /// After a key, on its line.
    Key,
    /// After a dash, on its line.
    Item,
}

struct Emitter {
    out: String,
    /// Characters on the current line.
    column: usize,
    width: usize,
}

impl Emitter {
    fn put(&mut self, text: &str) {
        self.out.push_str(text);
        self.column += text.chars().count();
    }

    fn finish_line(&mut self) {
        if self.column > 0 {
            self.out.push('\n');
            self.column = 0;
        }
    }

    fn line(&mut self, indent: usize) {
        self.finish_line();
        self.out.extend(std::iter::repeat_n(' ', indent));
        self.column = indent;
    }

    /// Writes a value; `indent` is where its own lines begin.
    fn node(&mut self, value: &Value, indent: usize, place: Place) {
        match value {
            Value::Object(entries) if !entries.is_empty() => self.mapping(entries, indent, place),
            Value::Array(items) if !items.is_empty() => {
                for (i, item) in items.iter().enumerate() {
                    if i > 0 || place == Place::Key {
                        self.line(indent);
                    } else if place == Place::Item {
                        self.put(" ");
                    }
                    self.put("-");
                    self.node(item, indent + 2, Place::Item);
                }
            }
            scalar => {
                if place != Place::Root {
                    self.put(" ");
                }
                self.scalar(scalar, indent);
            }
        }
    }

    fn mapping(&mut self, entries: &Map<String, Value>, indent: usize, place: Place) {
        let mut entries: Vec<(&String, &Value)> = entries.iter().collect();
        entries.sort_by(|(a, _), (b, _)| natural(a, b));
        for (i, (key, value)) in entries.into_iter().enumerate() {
            if i > 0 || place == Place::Key {
                self.line(indent);
            } else if place == Place::Item {
                self.put(" ");
            }
            if key.len() > KEY_BYTES_MAX {
                self.put("? ");
                self.string(key, indent + 2, true);
                self.line(indent);
                self.put(":");
            } else {
                self.string(key, indent + 2, true);
                self.put(":");
            }
            // A list begins below its key, what else has lines of its own two further.
            let inner =
                if matches!(value, Value::Array(items) if !items.is_empty()) { indent } else { indent + 2 };
            self.node(value, inner, Place::Key);
        }
    }

    fn scalar(&mut self, value: &Value, indent: usize) {
        match value {
            Value::String(text) => self.string(text, indent, false),
            Value::Number(number) => self.put(&plain_number(number)),
            // Only what is empty comes here.
            other => self.put(&other.to_string()),
        }
    }

    fn string(&mut self, text: &str, indent: usize, key: bool) {
        match scalar::style(text, key) {
            Style::Plain => self.folded(text, indent, key, "", |c, out| out.push(c)),
            Style::Single => self.folded(text, indent, key, "'", |c, out| {
                out.push(c);
                if c == '\'' {
                    out.push(c);
                }
            }),
            Style::Double => self.folded(text, indent, key, "\"", escaped),
            Style::Literal => self.literal(text, indent),
        }
    }

    /// A text in quotes or without, with line breaks in place of spaces that stand too far to the right.
    fn folded(&mut self, text: &str, indent: usize, key: bool, quote: &str, write: fn(char, &mut String)) {
        self.put(quote);
        let chars: Vec<char> = text.chars().collect();
        let mut after_space = false;
        let mut piece = String::new();
        for (i, c) in chars.iter().enumerate() {
            let next_is_space = chars.get(i + 1) == Some(&' ');
            let double = quote == "\"";
            let inside = quote.is_empty() || (i > 0 && i + 1 < chars.len());
            let may = inside && (double || !next_is_space);
            if *c == ' ' && !key && !after_space && self.column > self.width && may {
                self.line(indent);
                if double && next_is_space {
                    self.put("\\");
                }
            } else {
                piece.clear();
                write(*c, &mut piece);
                self.put(&piece);
            }
            after_space = *c == ' ';
        }
        self.put(quote);
    }

    fn literal(&mut self, text: &str, indent: usize) {
        self.put("|");
        if text.starts_with([' ', '\n']) {
            self.put("2");
        }
        let body = text.strip_suffix('\n');
        match body {
            None => self.put("-"),
            Some(body) if body.is_empty() || body.ends_with('\n') => self.put("+"),
            Some(_) => {}
        }
        for line in body.unwrap_or(text).split('\n') {
            if line.is_empty() {
                self.finish_line();
                self.out.push('\n');
            } else {
                self.line(indent);
                self.put(line);
            }
        }
    }
}

/// A character within double quotes.
fn escaped(c: char, out: &mut String) {
    let short = match c {
        '\0' => '0',
        '\u{7}' => 'a',
        '\u{8}' => 'b',
        '\t' => 't',
        '\n' => 'n',
        '\u{b}' => 'v',
        '\u{c}' => 'f',
        '\r' => 'r',
        '\u{1b}' => 'e',
        '"' | '\\' => c,
        '\u{85}' => 'N',
        '\u{2028}' => 'L',
        '\u{2029}' => 'P',
        c if scalar::is_printable(c) => return out.push(c),
        c => {
            let code = u32::from(c);
            return out.push_str(&match code {
                0..=0xff => format!("\\x{code:02X}"),
                0x100..=0xffff => format!("\\u{code:04X}"),
                _ => format!("\\U{code:08X}"),
            });
        }
    };
    out.push('\\');
    out.push(short);
}

/// A number in Go's shortest form.
fn plain_number(number: &Number) -> String {
    if number.is_i64() || number.is_u64() {
        return number.to_string();
    }
    let Some(float) = number.as_f64() else { return number.to_string() };
    let scientific = format!("{float:e}");
    let Some((mantissa, exponent)) = scientific.split_once('e') else { return scientific };
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if (-4..21).contains(&exponent) && exponent < 6 {
        return float.to_string();
    }
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{mantissa}e{sign}{:02}", exponent.abs())
}

/// The order of keys: letters after everything else, and numbers within them by their size.
fn natural(a: &str, b: &str) -> Ordering {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let Some(i) = a.iter().zip(&b).position(|(a, b)| a != b) else { return a.len().cmp(&b.len()) };
    let (x, y) = (a[i], b[i]);
    match (x.is_alphabetic(), y.is_alphabetic()) {
        (true, true) => return x.cmp(&y),
        (true, false) => return Ordering::Greater,
        (false, true) => return Ordering::Less,
        (false, false) => {}
    }
    // Zeros count where they follow another digit.
    let within = a[..i].iter().rev().take_while(|c| c.is_ascii_digit()).any(|c| *c != '0');
    let lead = u64::from((x == '0' || y == '0') && within);
    let number = |chars: &[char]| {
        let digits = chars[i..].iter().map_while(|c| c.to_digit(10));
        digits
            .fold((lead, 0usize), |(n, count), d| (n.wrapping_mul(10).wrapping_add(u64::from(d)), count + 1))
    };
    let ((n, long), (m, short)) = (number(&a), number(&b));
    n.cmp(&m).then(long.cmp(&short)).then(x.cmp(&y))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn values_are_laid_out_as_answers_are() {
        let value = json!({
            "b": [{"x": 1, "a": "1"}, [1, [2]], "t", [], {}], "a10": 1.5, "a9": null, "e": {}, "l": [], "f": {"g": {"h": true}},
            "text": "one\ntwo\n", "none": "a\nb", "more": "a\n\n", "spaced": " a\nb\n",
        });
        let expected = "a9: null\na10: 1.5\nb:\n- a: \"1\"\n  x: 1\n- - 1\n  - - 2\n- t\n- []\n- {}\ne: {}\nf:\n  g:\n    h: true\nl: []\n\
            more: |+\n  a\n\nnone: |-\n  a\n  b\nspaced: |2\n   a\n  b\ntext: |\n  one\n  two\n";
        assert_eq!(text(&value, 80), expected);
        assert_eq!(text(&json!("a"), 80), "a\n");
        assert_eq!(text(&json!([]), 80), "[]\n");
    }

    #[test]
    fn long_texts_are_folded_behind_the_width() {
        let words = "word ".repeat(20);
        let value = json!({"m": {"k": words.trim_end(), "q": format!("a: {}", words.trim_end())}});
        let line = "word ".repeat(14);
        let expected = format!(
            "m:\n  k: {line}word word\n    word word word word\n  q: 'a: {line}word\n    word word word word word'\n"
        );
        assert_eq!(text(&value, 80), expected);
        assert_eq!(text(&json!({"k": words.trim_end()}), usize::MAX), format!("k: {}\n", words.trim_end()));
        let key = "k".repeat(129);
        assert_eq!(text(&json!({ &key: 1 }), 80), format!("? {key}\n: 1\n"));
    }

    #[test]
    fn numbers_and_escapes_are_gos() {
        for (value, expected) in [
            (json!(1e10), "1e+10"),
            (json!(1234567.5), "1.2345675e+06"),
            (json!(0.00001), "1e-05"),
            (json!(0.5), "0.5"),
            (json!(-3), "-3"),
            (json!("a\tb\u{1}\"\u{2028}"), "\"a\\tb\\x01\\\"\\L\""),
        ] {
            assert_eq!(text(&value, 80).trim_end(), expected);
        }
    }

    #[test]
    fn keys_are_in_natural_order() {
        let mut keys = vec!["a10", "a2", "b", "a", "A", "a-1", "10", "9", "a02", ".", "f:a", "k:{\"a\"}"];
        keys.sort_by(|a, b| natural(a, b));
        assert_eq!(keys, [".", "9", "10", "A", "a", "a-1", "a2", "a02", "a10", "b", "f:a", "k:{\"a\"}"]);
    }
}
