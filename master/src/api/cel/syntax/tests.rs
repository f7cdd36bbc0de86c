use proptest::prelude::*;

use super::super::parse::parse;
use super::super::problem::{Place, Problem, render};
use super::problems;

mod cases;

const OPERAND: &str = "{'[', '{', '(', '.', '-', '!', 'true', 'false', 'null', NUM_FLOAT, NUM_INT, NUM_UINT, STRING, \
                       BYTES, IDENTIFIER}";

/// What is told of a source, without its lines.
fn told(source: &str) -> Vec<String> {
    let rendered = render(source, &problems(source, true));
    rendered.lines().filter_map(|line| line.strip_prefix("ERROR: <input>:")).map(str::to_owned).collect()
}

fn messages(source: &str) -> Vec<String> {
    problems(source, true).into_iter().map(|problem| problem.message).collect()
}

#[test]
fn problems_are_upstreams() {
    for (source, wanted) in cases::CASES {
        let wanted: Vec<String> = wanted
            .iter()
            .map(|line| line.replacen("~ ", "Syntax error: ", 1).replace("OPERAND", OPERAND))
            .collect();
        assert_eq!(told(source), wanted, "{source:?}");
    }
}

#[test]
fn lines_are_shown_below_problems() {
    let shown = |source: &str| render(source, &problems(source, true));
    assert_eq!(
        shown("a\n\t+ 世界"),
        "ERROR: <input>:2:4: Syntax error: token recognition error at: '世'\n |  + 世界\n | ...＾\n\
         ERROR: <input>:2:5: Syntax error: token recognition error at: '界'\n |  + 世界\n | ...．＾\n\
         ERROR: <input>:2:6: Syntax error: mismatched input '<EOF>' expecting "
            .to_owned()
            + OPERAND
            + "\n |  + 世界\n | ...．．^"
    );
    // Nothing has no line.
    assert_eq!(shown("").lines().count(), 1);
    // Where a token is missing that a part would be at, that is before the first character.
    assert_eq!(
        render("a", &[Problem { place: Place::Before, message: "x".to_owned() }]),
        "ERROR: <input>:1:0: x\n | a\n | ^"
    );
    // Very long lines are not shown.
    assert_eq!(shown(&format!("{} b", "x".repeat(16_383))).lines().count(), 1);
    assert_eq!(shown(&format!("{} b", "x".repeat(16_382))).lines().count(), 3);
}

#[test]
fn what_is_told_is_bounded() {
    let long = "a".repeat(100_001);
    assert_eq!(told(&long), ["-1:0: expression code point size exceeds limit: size: 100001, limit 100000"]);
    assert!(problems(&long[1..], true).is_empty());
    // Tokens that are none.
    let told_of = render(&"#".repeat(150), &problems(&"#".repeat(150), true));
    assert_eq!(told_of.matches("token recognition error").count(), 100);
    assert!(told_of.ends_with("\n1 more errors were truncated"));
    // Rules in themselves.
    let nested = |count: usize| messages(&format!("{}a{}", "(".repeat(count), ")".repeat(count)));
    assert!(nested(249).is_empty());
    assert_eq!(nested(250), ["expression recursion limit exceeded: 250"]);
    let fields = |count: usize| messages(&format!("a{}", ".b".repeat(count)));
    assert!(fields(250).is_empty());
    assert_eq!(fields(251), ["max recursion depth exceeded"]);
    // Tries to go on, and what is left out for one.
    let tries = messages(&vec!["a."; 40].join(" || "));
    assert_eq!(
        tries.last().map(String::as_str),
        Some("Syntax error: error recovery attempt limit exceeded: 30")
    );
    let left_out = messages(&format!("a. {}", "b ".repeat(300)));
    assert_eq!(
        left_out.last().map(String::as_str),
        Some("error recovery token lookahead limit exceeded: 256")
    );
}

/// What looking ahead could cost most for.
#[test]
fn looking_ahead_is_bounded() {
    let inner = "-1.a + ".repeat(6_000);
    for source in [
        format!("{}{inner}1{}", "-1[".repeat(120), "]".repeat(120)),
        format!("{}{inner}", "x.all(y, -1[".repeat(60)),
        format!("x{}{{", ".y".repeat(40_000)),
        format!("{}1", "-".repeat(90_000)),
        format!("{} b", "a ? -1[b] : ".repeat(240)),
        "(".repeat(100_000),
        "{".repeat(100_000),
        "'".repeat(100_000),
        "a ".repeat(50_000),
        "a||".repeat(33_333),
    ] {
        let start = std::time::Instant::now();
        let found = problems(&source, true);
        assert_eq!(parse(&source, true).is_ok(), found.is_empty(), "{:.40}", source);
        assert!(render(&source, &found).len() < 4_000_000);
        let took = start.elapsed();
        assert!(took < std::time::Duration::from_secs(60), "{:.40} took {took:?}", source);
    }
}

/// Pieces of sources, of which any can stand beside any.
fn pieces() -> impl Strategy<Value = String> {
    const PIECES: &[&str] = &[
        "==",
        "!=",
        "in",
        "<",
        "<=",
        "&&",
        "||",
        "[",
        "]",
        "{",
        "}",
        "(",
        ")",
        ".",
        ",",
        "-",
        "!",
        "?",
        ":",
        "+",
        "*",
        "%",
        "true",
        "null",
        "1.5",
        "3",
        "7u",
        "'s'",
        "b'x'",
        "a",
        "self",
        "x.y",
        "`q`",
        "has",
        ".all(x, ",
        ".map(x, ",
        "cel.bind(",
        "as",
        "0x",
        "=",
        "&",
        "#",
        "é",
        "\\",
        "'",
        "\"\"\"",
        "\n",
        "// c\n",
        "sortBy",
        "9223372036854775808",
        "'\\ud800'",
        "{a: 1}",
        "[0]",
        ".?b",
        "[?0]",
        "(a)",
        ".b(c)",
        "a ? b : c",
    ];
    let piece = prop_oneof![4 => Just(" "), 1 => Just("")];
    let pair = (proptest::sample::select(PIECES), piece).prop_map(|(piece, space)| format!("{piece}{space}"));
    proptest::collection::vec(pair, 0..24).prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn who_reads_and_who_tells_agree(source in pieces()) {
        prop_assert_eq!(parse(&source, true).is_ok(), problems(&source, true).is_empty());
        prop_assert_eq!(parse(&source, false).is_ok(), problems(&source, false).is_empty());
    }

    #[test]
    fn problems_have_places_in_the_source(source in "\\PC{0,60}") {
        let found = problems(&source, true);
        for problem in &found {
            prop_assert!(!matches!(problem.place, Place::At(at) if at > source.chars().count()));
        }
        prop_assert!(found.is_empty() == render(&source, &found).is_empty());
    }
}
