//! JSON with line breaks, for people.

use bytes::Bytes;

/// The same JSON, indented by two spaces as Go does it. The order of fields stays.
pub(super) fn indented(json: &[u8]) -> Bytes {
    let mut out = Vec::with_capacity(json.len() * 2);
    let mut depth = 0usize;
    let mut at = 0;
    while at < json.len() {
        let byte = json[at];
        match byte {
            b'"' => {
                let end = string_end(json, at);
                out.extend_from_slice(&json[at..end]);
                at = end;
                continue;
            }
            b'{' | b'[' => {
                out.push(byte);
                let close = if byte == b'{' { b'}' } else { b']' };
                if next_token(json, at + 1) == Some(close) {
                    out.push(close);
                    at =
                        json.iter().skip(at + 1).position(|b| *b == close).map_or(json.len(), |p| at + p + 2);
                    continue;
                }
                depth += 1;
                break_line(&mut out, depth);
            }
            b'}' | b']' => {
                depth = depth.saturating_sub(1);
                break_line(&mut out, depth);
                out.push(byte);
            }
            b',' => {
                out.push(byte);
                break_line(&mut out, depth);
            }
            b':' => out.extend_from_slice(b": "),
            b' ' | b'\n' | b'\r' | b'\t' => {}
            _ => out.push(byte),
        }
        at += 1;
    }
    out.into()
}

fn break_line(out: &mut Vec<u8>, depth: usize) {
    out.push(b'\n');
    out.resize(out.len() + 2 * depth, b' ');
}

fn next_token(json: &[u8], at: usize) -> Option<u8> {
    json[at..].iter().copied().find(|b| !b.is_ascii_whitespace())
}

/// The position after the string that starts at `at`.
fn string_end(json: &[u8], at: usize) -> usize {
    let mut at = at + 1;
    while at < json.len() {
        match json[at] {
            b'\\' => at += 2,
            b'"' => return at + 1,
            _ => at += 1,
        }
    }
    json.len()
}

#[cfg(test)]
mod tests {
    use super::indented;

    #[test]
    fn it_looks_like_gos() {
        let json = br#"{"z":{},"a":[1,{"b":"x\"{,"}],"e":[ ]}"#;
        let expected = "{\n  \"z\": {},\n  \"a\": [\n    1,\n    {\n      \"b\": \"x\\\"{,\"\n    }\n  ],\n  \"e\": []\n}";
        assert_eq!(std::str::from_utf8(&indented(json)).ok(), Some(expected));
    }
}
