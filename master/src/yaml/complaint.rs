//! What is wrong with a YAML text, as Go's reader would begin to say it: its words, and the lines that it counts.

use serde_saphyr::{Error, Location};

/// Which line is told.
#[derive(Clone, Copy)]
enum Line {
    /// The one where it stands, unless that is the first: what is found while reading characters.
    Here,
    /// The one before: what is found while putting tokens together.
    Before,
    /// The one after.
    After,
    /// Where the text ends, as its characters are read.
    End,
    /// Where the text ends, as its tokens are put together.
    EndOfTokens,
    /// None.
    Nowhere,
}

/// What is wrong, `yaml: line 2: …`; the first line's number is left out.
pub(super) fn of(error: &Error, given: &str) -> String {
    let error = error.without_snippet();
    let location = error.location();
    let text = error.to_string();
    let text = text.lines().next().unwrap_or_default();
    if text.contains("references unknown anchor")
        && let Some(name) = location.and_then(|at| alias_at(given, at))
    {
        return format!("yaml: unknown anchor '{name}' referenced");
    }
    if text.contains("recursive references require")
        && let Some(name) = location.and_then(|at| alias_at(given, at))
    {
        return format!("yaml: anchor '{name}' value contains itself");
    }
    // The reader says the place itself, at either end.
    let text = text.strip_prefix("error: ").unwrap_or(text);
    let text = match text.split_once(": ") {
        Some((place, rest)) if place.starts_with("line ") => rest,
        _ => text.rsplit_once(" at line ").map_or(text, |(rest, _)| rest),
    };
    let before = location.and_then(|at| before(given, at)).unwrap_or_default();
    let (text, line) = words(text, given, before);
    match number(line, location.map_or(0, |at| at.line()), given) {
        0 => format!("yaml: {text}"),
        line => format!("yaml: line {line}: {text}"),
    }
}

/// What is wrong with a document that says to be of a version of YAML which Go's reader does not know.
pub(super) fn of_version(given: &str) -> Option<String> {
    for (i, line) in given.lines().enumerate() {
        match line.strip_prefix('%') {
            Some(directive) => {
                let mut words = directive.split_whitespace();
                if words.next() == Some("YAML") && words.next().is_some_and(|version| version != "1.1") {
                    let text = "found incompatible YAML document";
                    let at = if i == 0 { String::new() } else { format!("line {}: ", i + 1) };
                    return Some(format!("yaml: {at}{text}"));
                }
            }
            None if line.is_empty() || line.starts_with('#') => {}
            None => return None,
        }
    }
    None
}

fn number(line: Line, here: u64, given: &str) -> u64 {
    let breaks = given.bytes().filter(|b| *b == b'\n').count() as u64;
    match line {
        Line::Here if here > 1 => here,
        Line::Here | Line::Nowhere => 0,
        Line::Before => here.saturating_sub(1),
        Line::After => here + 1,
        Line::End if breaks == 0 => 0,
        Line::End => breaks + 1,
        Line::EndOfTokens => breaks + u64::from(!given.ends_with('\n')),
    }
}

/// Go's words for what our reader says, where a text stands `before` the place.
fn words<'t>(text: &'t str, given: &str, before: &str) -> (&'t str, Line) {
    const NO_NODE: &str = "did not find expected node content";
    const NO_KEY: &str = "did not find expected key";
    const NO_TOKEN: &str = "found character that cannot start any token";
    let unended = |otherwise| {
        let rest = given.trim_end().trim_end_matches([' ', '\n']);
        if rest.ends_with([',', ':', '[', '{']) { NO_NODE } else { otherwise }
    };
    let (in_list, in_map) = ("did not find expected ',' or ']'", "did not find expected ',' or '}'");
    let begins = |with: &str| text.starts_with(with);
    match text {
        _ if begins("tabs disallowed") => (NO_TOKEN, Line::Here),
        _ if begins("unexpected character: ") => match text.contains("\\u{") {
            true => ("control characters are not allowed", Line::Nowhere),
            false => (NO_TOKEN, Line::Here),
        },
        _ if begins("unclosed quote") || begins("invalid indentation in multiline quoted scalar") => {
            ("found unexpected end of stream", Line::End)
        }
        "unclosed bracket '['" => (unended(in_list), Line::EndOfTokens),
        "unclosed bracket '{'" => (unended(in_map), Line::EndOfTokens),
        _ if begins("mismatched bracket '['") => (in_list, Line::Before),
        _ if begins("mismatched bracket '{'") => (in_map, Line::Before),
        _ if begins("misplaced bracket") => {
            let before = before.trim_end();
            let node = before.is_empty() || before.ends_with([':', '-', ',']);
            (if node { NO_NODE } else { NO_KEY }, Line::Before)
        }
        _ if begins("unexpected EOF while parsing") => (NO_NODE, Line::Before),
        _ if begins("invalid trailing content after") => (NO_KEY, Line::Before),
        "simple key expected ':'" => ("could not find expected ':'", Line::After),
        "while parsing a quoted scalar, did not find expected hexadecimal number" => {
            ("did not find expected hexdecimal number", Line::Here)
        }
        "while parsing a quoted scalar, found unknown escape character" => {
            ("found unknown escape character", Line::Here)
        }
        // What it was about is not told.
        _ => match text.split_once(", ") {
            Some((about, what)) if about.starts_with("while parsing ") => (what, Line::Before),
            Some((about, what)) if about.starts_with("while scanning ") => (what, Line::Here),
            _ => (text, Line::Here),
        },
    }
}

/// What stands in its line before a place.
fn before(given: &str, at: Location) -> Option<&str> {
    let line = given.lines().nth(usize::try_from(at.line()).ok()?.checked_sub(1)?)?;
    let column = usize::try_from(at.column()).ok()?.saturating_sub(1);
    let end = line.char_indices().nth(column).map_or(line.len(), |(end, _)| end);
    line.get(..end)
}

/// The name of the alias at a place.
fn alias_at(given: &str, at: Location) -> Option<&str> {
    let line = given.lines().nth(usize::try_from(at.line()).ok()?.checked_sub(1)?)?;
    let from = line.char_indices().nth(usize::try_from(at.column()).ok()?.saturating_sub(1))?.0;
    let name = line[from..].split_once('*')?.1;
    Some(
        name.split(|c: char| c.is_whitespace() || matches!(c, ',' | ']' | '}' | '[' | '{'))
            .next()
            .unwrap_or(name),
    )
}

#[cfg(test)]
mod tests {
    #[test]
    fn what_is_wrong_is_said_in_gos_words() {
        for (text, wanted) in [
            ("a: \"b", "found unexpected end of stream"),
            ("a: \"x\n\n y", "line 3: found unexpected end of stream"),
            ("a: [1,2", "line 1: did not find expected ',' or ']'"),
            ("- a\n- [b", "line 2: did not find expected ',' or ']'"),
            ("{a: ", "line 1: did not find expected node content"),
            ("a: {b: 1\n", "line 1: did not find expected ',' or '}'"),
            ("{a: [b}", "did not find expected ',' or ']'"),
            ("a: }", "did not find expected node content"),
            ("a: [1, 2]]", "did not find expected key"),
            ("a: 'b' c", "did not find expected key"),
            ("- a\nb: c", "line 1: did not find expected '-' indicator"),
            ("a:\n  b: c\n d: e", "line 2: did not find expected key"),
            ("a: @x", "found character that cannot start any token"),
            ("a: >x\n b", "did not find expected comment or line break"),
            ("a: \"\\x\"", "did not find expected hexdecimal number"),
            ("a: b: c", "mapping values are not allowed in this context"),
            ("a:\n  b: \"\\q\"", "line 2: found unknown escape character"),
            ("%YAML 1.2\n---\na: b", "found incompatible YAML document"),
            ("# c\n%YAML 3.0\n---\na: b", "line 2: found incompatible YAML document"),
        ] {
            let said = crate::yaml::read(text).err();
            assert_eq!(said, Some(format!("yaml: {wanted}")), "{text:?}");
        }
    }
}
