use super::*;

#[test]
fn wrong_patterns_are_told_in_gos_words() {
    for (pattern, what) in [
        (r"(a)\1", r"invalid escape sequence: `\1`"),
        (r"\_\y", r"invalid escape sequence: `\y`"),
        ("[z-a]", "invalid character class range: `z-a`"),
        ("[[:golden:]]", "invalid character class range: `[:golden:]`"),
        (r"\p{Golden}", r"invalid character class range: `\p{Golden}`"),
        ("a{2000}", "invalid repeat count: `{2000}`"),
        ("a{3,2}", "invalid repeat count: `{3,2}`"),
        ("((a{100}){100}){100}", "invalid repeat count: `{100}`"),
        ("a**", "invalid nested repetition operator: `**`"),
        ("a+?{2}", "invalid nested repetition operator: `+?{2}`"),
        ("*a", "missing argument to repetition operator: `*`"),
        ("a|+?b", "missing argument to repetition operator: `+?`"),
        ("(?i)*", "missing argument to repetition operator: `*`"),
        ("^(?!a)", "invalid or unsupported Perl syntax: `(?!`"),
        ("(?<=a)b", "invalid named capture: `(?<=a)b`"),
        ("(?P<a b>c)", "invalid named capture: `(?P<a b>`"),
        ("(?>a)", "invalid or unsupported Perl syntax: `(?>`"),
        ("(a", "missing closing ): `(a`"),
        ("a)b", "unexpected ): `a)b`"),
        ("x[a", "missing closing ]: `[a`"),
        ("a\\", "trailing backslash at end of expression: ``"),
        (r"\x{110000}", r"invalid escape sequence: `\x{110000`"),
        (r"\xg1", r"invalid escape sequence: `\xg1`"),
    ] {
        assert_eq!(pattern_error(pattern), Some(format!("error parsing regexp: {what}")), "{pattern}");
    }
}

#[test]
fn good_patterns_match_as_in_go() {
    for (pattern, matches, fails) in [
        ("^a{$", "a{", "a"),
        ("^a{,2}$", "a{,2}", "aa"),
        (r"^\Qa.b\E+$", "a.bb", "axb"),
        ("^[a&&b]+$", "a&b", "c"),
        ("^[]a]$", "]", "b"),
        (r"^[\d-]+$", "1-2", "٣"),
        (r"^\w\s\S$", "a b", "é b"),
        ("^(?P<n>a)(?P<n>b)$", "ab", "a"),
        ("^(?:)(?i:a)(?i)b$", "AB", "A"),
        (r"^\101\x41\x{41}$", "AAA", "A"),
        (r"^\pL\p{Greek}\P{^Lu}$", "aαA", "1αA"),
        (r"a\bé", "aé", "ab"),
        (r"^a\B", "ab", "a-"),
        ("^(a{2}){500}$", &"a".repeat(1000), "a"),
    ] {
        let compiled = compile(pattern).unwrap_or_else(|why| panic!("{pattern}: {why}"));
        assert!(compiled.is_match(matches), "{pattern}");
        assert!(!compiled.is_match(fails), "{pattern}");
    }
}
