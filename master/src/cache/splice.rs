//! Finding members of an object's JSON, and putting a resourceVersion into it, without parsing it.

use bytes::Bytes;

/// The object's JSON with `metadata.resourceVersion` set: inserted, or replaced where there is one.
/// `None` when the bytes are not a JSON object with a `metadata` object.
pub fn with_resource_version(json: &[u8], revision: u64) -> Option<Bytes> {
    let metadata = metadata(json)?;
    match member(json, metadata, b"\"resourceVersion\"") {
        Some((start, end)) => Some(joined(json, (start, end), "\"", revision, "\"")),
        None => Some(inserted(json, metadata, revision)),
    }
}

/// The same for JSON that has no resourceVersion yet: none is looked for.
pub fn with_first_resource_version(json: &[u8], revision: u64) -> Option<Bytes> {
    Some(inserted(json, metadata(json)?, revision))
}

/// Where the metadata begins.
fn metadata(json: &[u8]) -> Option<usize> {
    let at = member(json, 0, b"\"metadata\"")?.0;
    (json.get(at) == Some(&b'{')).then_some(at)
}

/// Puts it where upstream has it: beside the uid, after it where the fields are in the order of declaration, and
/// before it where they are sorted; at the beginning where there is no uid.
fn inserted(json: &[u8], metadata: usize, revision: u64) -> Bytes {
    const NAME: &str = "\"resourceVersion\":\"";
    match find(json, metadata, b"\"uid\"") {
        Some(uid) if is_declared(json) => {
            joined(json, (uid.end, uid.end), ",\"resourceVersion\":\"", revision, "\"")
        }
        Some(uid) => joined(json, (uid.name, uid.name), NAME, revision, "\","),
        None => {
            let first = skip_space(json, metadata + 1);
            let after = if json.get(first) == Some(&b'}') { "\"" } else { "\"," };
            joined(json, (metadata + 1, metadata + 1), NAME, revision, after)
        }
    }
}

/// Whether fields stand in the order of declaration: what an object is comes first then, and the kind before all.
fn is_declared(json: &[u8]) -> bool {
    json.get(skip_space(json, 0) + 1..).is_some_and(|rest| rest.starts_with(b"\"kind\""))
}

/// The JSON with what lies between two places replaced.
fn joined(json: &[u8], (from, to): (usize, usize), before: &str, revision: u64, after: &str) -> Bytes {
    let digits = revision.to_string();
    let mut made = Vec::with_capacity(json.len() + before.len() + digits.len() + after.len());
    for part in [&json[..from], before.as_bytes(), digits.as_bytes(), after.as_bytes(), &json[to..]] {
        made.extend_from_slice(part);
    }
    made.into()
}

/// A member of an object.
struct Member {
    /// Where its name begins.
    name: usize,
    /// Where its value begins.
    start: usize,
    /// Where its value ends.
    end: usize,
}

/// Where the value of a member lies (from, to), in the object that starts at `at`. The name is given with its quotes.
pub fn member(json: &[u8], at: usize, name: &[u8]) -> Option<(usize, usize)> {
    find(json, at, name).map(|member| (member.start, member.end))
}

fn find(json: &[u8], at: usize, wanted: &[u8]) -> Option<Member> {
    let mut at = skip_space(json, at);
    if json.get(at) != Some(&b'{') {
        return None;
    }
    at = skip_space(json, at + 1);
    while json.get(at) == Some(&b'"') {
        let (name, end) = (at, skip_string(json, at)?);
        let found = &json[name..end] == wanted;
        at = skip_space(json, end);
        if json.get(at) != Some(&b':') {
            return None;
        }
        let start = skip_space(json, at + 1);
        let end = skip_value(json, start)?;
        if found {
            return Some(Member { name, start, end });
        }
        at = skip_space(json, end);
        if json.get(at) == Some(&b',') {
            at = skip_space(json, at + 1);
        }
    }
    None
}

fn skip_space(json: &[u8], mut at: usize) -> usize {
    while matches!(json.get(at), Some(b' ' | b'\n' | b'\r' | b'\t')) {
        at += 1;
    }
    at
}

/// The position after the string that starts at `at`.
fn skip_string(json: &[u8], at: usize) -> Option<usize> {
    let mut at = at + 1;
    loop {
        at += memchr::memchr2(b'"', b'\\', json.get(at..)?)?;
        if json[at] == b'"' {
            return Some(at + 1);
        }
        at += 2;
    }
}

/// The position after the value that starts at `at`.
fn skip_value(json: &[u8], mut at: usize) -> Option<usize> {
    let mut depth = 0usize;
    loop {
        match json.get(at)? {
            b'"' => at = skip_string(json, at)?,
            b'{' | b'[' => {
                depth += 1;
                at += 1;
                continue;
            }
            b'}' | b']' => {
                depth = depth.checked_sub(1)?;
                at += 1;
            }
            b',' | b':' | b' ' | b'\n' | b'\r' | b'\t' if depth > 0 => {
                at += 1;
                continue;
            }
            // A number or a word.
            _ => {
                let from = at;
                while !matches!(
                    json.get(at),
                    None | Some(b',' | b'}' | b']' | b' ' | b'\n' | b'\r' | b'\t' | b':')
                ) {
                    at += 1;
                }
                if at == from {
                    return None;
                }
            }
        }
        if depth == 0 {
            return Some(at);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::{Value, json};

    #[test]
    fn inserts_or_replaces() {
        for (json, wanted) in [
            (r#"{"metadata":{}}"#, Some(r#"{"metadata":{"resourceVersion":"7"}}"#)),
            (r#"{"metadata":{"name":"a"}}"#, Some(r#"{"metadata":{"resourceVersion":"7","name":"a"}}"#)),
            (
                r#"{"a":{"metadata":{"x":1}},"b":"}\"","metadata":{"name":"a","resourceVersion":"123"},"z":[1]}"#,
                Some(
                    r#"{"a":{"metadata":{"x":1}},"b":"}\"","metadata":{"name":"a","resourceVersion":"7"},"z":[1]}"#,
                ),
            ),
            (r#"{"metadata":{"resourceVersion":""}}"#, Some(r#"{"metadata":{"resourceVersion":"7"}}"#)),
            (
                r#"{ "metadata" : { "labels":{"resourceVersion":"no"} } }"#,
                Some(r#"{ "metadata" : {"resourceVersion":"7", "labels":{"resourceVersion":"no"} } }"#),
            ),
            (
                r#"{"kind":"A","metadata":{"name":"a","uid":"u","labels":{}}}"#,
                Some(r#"{"kind":"A","metadata":{"name":"a","uid":"u","resourceVersion":"7","labels":{}}}"#),
            ),
            (
                r#"{"apiVersion":"v1","metadata":{"labels":{"uid":"1"},"uid":"u"}}"#,
                Some(
                    r#"{"apiVersion":"v1","metadata":{"labels":{"uid":"1"},"resourceVersion":"7","uid":"u"}}"#,
                ),
            ),
            ("{}", None),
            (r#"{"metadata":[]}"#, None),
            (r#"{"metadata":"#, None),
            ("[]", None),
            ("", None),
        ] {
            let made = with_resource_version(json.as_bytes(), 7);
            assert_eq!(made.as_deref(), wanted.map(str::as_bytes), "{json}");
            if !json.contains("resourceVersion") {
                assert_eq!(with_first_resource_version(json.as_bytes(), 7), made, "{json}");
            }
        }
    }

    fn any_json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            "[ -~é\"\\\\\n]{0,12}".prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 40, 6, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
                proptest::collection::btree_map("[a-z\"{}\\\\]{0,6}", inner, 0..5)
                    .prop_map(|m| Value::Object(m.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn does_what_parsing_would(a in any_json(), z in any_json(), labels in any_json(), rv: bool, uid: bool, kind: bool, pretty: bool) {
            let first = if kind { "kind" } else { "a" };
            let mut object = json!({first: a, "metadata": {"labels": labels}, "z": z});
            if uid {
                object["metadata"]["uid"] = json!("u");
            }
            if rv {
                object["metadata"]["resourceVersion"] = json!("5");
            }
            let bytes = if pretty { serde_json::to_vec_pretty(&object) } else { serde_json::to_vec(&object) }.unwrap();
            let made = with_resource_version(&bytes, 99).unwrap();
            if !rv && labels.get("resourceVersion").is_none() {
                prop_assert_eq!(with_first_resource_version(&bytes, 99), Some(made.clone()));
            }
            object["metadata"]["resourceVersion"] = json!("99");
            let wanted: Value = serde_json::from_str(&object.to_string()).unwrap();
            prop_assert_eq!(serde_json::from_slice::<Value>(&made).unwrap(), wanted);
        }

        #[test]
        fn rubbish_does_no_harm(bytes in "[{}\\[\\]\":,\\\\a0 ]{0,40}") {
            let _ = with_resource_version(format!("{{\"metadata\":{bytes}").as_bytes(), 1);
        }
    }
}
