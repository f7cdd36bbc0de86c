use serde_json::json;

use super::*;

fn read(text: &str) -> Result<(Value, Vec<(usize, String)>), String> {
    match first(text) {
        Ok(document) => Ok((document.value, document.repeated)),
        Err(Fault::Syntax) => Err("syntax".to_owned()),
        Err(Fault::Said(why)) => Err(why),
    }
}

fn told(lines: &[(usize, &str)]) -> Vec<(usize, String)> {
    lines.iter().map(|(line, key)| (*line, (*key).to_owned())).collect()
}

#[test]
fn keys_are_the_same_if_they_mean_the_same() {
    let read = |text| read(text).expect("is read");
    assert_eq!(read("1: a\n0x1: b\n'1': c\n"), (json!({"1": "c"}), told(&[(2, "1")])));
    assert_eq!(read("1.0: a\n1: b\n"), (json!({"1": "b"}), told(&[])));
    assert_eq!(read("!!str 5: a\n5: b\n!!int '5': c\n"), (json!({"5": "c"}), told(&[(3, "5")])));
    assert_eq!(read("true: a\nyes: b\n"), (json!({"true": "b"}), told(&[(2, "true")])));
}

#[test]
fn a_merge_counts_where_it_stands() {
    let read = |text| read(text).expect("is read");
    let both = "x: &x {a: 1}\nm:\n  a: 9\n  <<: *x\n";
    assert_eq!(read(both), (json!({"x": {"a": 1}, "m": {"a": 1}}), told(&[(1, "\"a\"")])));
    let after = "x: &x {a: 1}\nm:\n  <<: *x\n  a: 9\n";
    assert_eq!(read(after), (json!({"x": {"a": 1}, "m": {"a": 9}}), told(&[(4, "\"a\"")])));
    let several = "m: {<<: [{a: 1}, {a: 2, c: 3}]}\n";
    assert_eq!(read(several), (json!({"m": {"a": 1, "c": 3}}), told(&[(1, "\"a\"")])));
    assert_eq!(read("{'<<': {a: 1}}"), (json!({"<<": {"a": 1}}), told(&[])));
}

#[test]
fn what_cannot_be_said_in_json_is_refused() {
    for (text, why) in [
        ("~: a\nnull: b", "unsupported map key of type: %!s(<nil>), key: <nil>, value: \"b\""),
        ("~: a", "unsupported map key of type: %!s(<nil>), key: <nil>, value: \"a\""),
        (
            "null: {b: 1}",
            "unsupported map key of type: %!s(<nil>), key: <nil>, value: map[interface {}]interface {}{\"b\":1}",
        ),
        ("? [a]\n: b", "yaml: invalid map key: []interface {}{\"a\"}"),
        ("{a: b}: c", "yaml: invalid map key: map[interface {}]interface {}{\"a\":\"b\"}"),
        ("a: .inf", "json: unsupported value: +Inf"),
        ("a: !!int x", "yaml: cannot decode !!str `x` as a !!int"),
        ("<<: 5", "yaml: map merge requires map or sequence of maps as the value"),
        ("<<: [5]", "yaml: map merge requires map or sequence of maps as the value"),
        ("a: [", "syntax"),
        ("a: *b", "syntax"),
        ("a: &a {b: *a}", "syntax"),
    ] {
        assert_eq!(read(text), Err(why.to_owned()), "{text}");
    }
}

#[test]
fn what_follows_the_first_document_is_not_looked_at() {
    for text in ["{a: 1} {}", "{a: 1}x", "a: 1\n---\n[", "---\na: 1\n...\nfoo: bar\n"] {
        assert_eq!(read(text), Ok((json!({"a": 1}), Vec::new())), "{text}");
    }
    assert_eq!(read("# nothing\n"), Ok((Value::Null, Vec::new())));
}
