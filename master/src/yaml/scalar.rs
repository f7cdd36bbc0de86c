//! How a text is written as a scalar: plainly where a reader would take it for this text, in quotes or as a block
//! where not. The rules are those of YAML 1.1's common writers, which Kubernetes' answers come from.

use super::resolve::{Scalar, untagged};

/// How a scalar is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Style {
    /// As it is.
    Plain,
    /// In single quotes.
    Single,
    /// In double quotes, with escapes.
    Double,
    /// As a literal block.
    Literal,
}

/// The style of a text; `key` of one that is a mapping's key.
pub(super) fn style(text: &str, key: bool) -> Style {
    let form = Form::of(text);
    let wanted = if text.contains('\n') {
        Style::Literal
    } else if means_something_else(text) {
        Style::Double
    } else {
        Style::Plain
    };
    match wanted {
        Style::Literal if form.block && !key => Style::Literal,
        Style::Plain if form.plain => Style::Plain,
        Style::Plain if form.single => Style::Single,
        _ => Style::Double,
    }
}

/// Whether a reader takes the plain text for something that is no text: a number, a time, a boolean or nothing.
fn means_something_else(text: &str) -> bool {
    !matches!(untagged(text), Scalar::Text(_)) || is_time(text) || is_sexagesimal(text)
}

fn unsigned(text: &str) -> &str {
    text.strip_prefix(['+', '-']).unwrap_or(text)
}

/// `1`, `1.5`, `.5`, `1.`, each with an exponent or without.
pub(super) fn is_float(text: &str) -> bool {
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let text = unsigned(text);
    let (mantissa, exponent) = match text.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, Some(exponent)),
        None => (text, None),
    };
    let whole = match mantissa.split_once('.') {
        None => digits(mantissa),
        Some(("", after)) => digits(after),
        Some((before, after)) => digits(before) && (after.is_empty() || digits(after)),
    };
    whole && exponent.is_none_or(|exponent| digits(unsigned(exponent)))
}

/// `1:30`, which old readers take for ninety.
fn is_sexagesimal(text: &str) -> bool {
    let text = unsigned(text);
    let mut parts = text.split(':');
    let first = parts.next().unwrap_or_default();
    let starts = first.starts_with(|c: char| c.is_ascii_digit());
    let numbers = starts && first.chars().all(|c| c.is_ascii_digit() || c == '_');
    let mut rest = parts.peekable();
    if !numbers || rest.peek().is_none() {
        return false;
    }
    let mut fine = true;
    while let Some(part) = rest.next() {
        let part = match part.split_once('.') {
            Some((whole, fraction)) if rest.peek().is_none() => {
                fine &= fraction.chars().all(|c| c.is_ascii_digit() || c == '_');
                whole
            }
            _ => part,
        };
        fine &= matches!(part.as_bytes(), [b'0'..=b'9'] | [b'0'..=b'5', b'0'..=b'9']);
    }
    fine
}

/// A day, or a day and a time.
pub(super) fn is_time(text: &str) -> bool {
    let Some((year, rest)) = text.split_once('-') else { return false };
    let (day, time) = match rest.find(['T', 't', ' ']) {
        Some(at) => (&rest[..at], Some((&rest[at..=at], &rest[at + 1..]))),
        None => (rest, None),
    };
    let number = |text: &str, most: u32| {
        (1..=2).contains(&text.len())
            && text.bytes().all(|b| b.is_ascii_digit())
            && text.parse::<u32>().is_ok_and(|n| n <= most)
    };
    let dated = year.len() == 4
        && year.bytes().all(|b| b.is_ascii_digit())
        && day.split_once('-').is_some_and(|(month, day)| number(month, 12) && number(day, 31));
    let Some((separator, time)) = time else { return dated };
    let zone = time.find(['Z', '+', '-']).unwrap_or(time.len());
    let (clock, zone) = time.split_at(zone);
    let zoned = match zone {
        "" => separator == " ",
        "Z" => separator != " ",
        other => {
            separator != " "
                && other.len() == 6
                && other[1..].split_once(':').is_some_and(|(h, m)| number(h, 24) && number(m, 60))
        }
    };
    let mut parts = clock.splitn(3, ':');
    let mut next = || parts.next().unwrap_or_default();
    let (hour, minute, second) = (next(), next(), next());
    let (second, fraction) = second.split_once('.').unwrap_or((second, ""));
    dated
        && zoned
        && number(hour, 23)
        && number(minute, 59)
        && number(second, 59)
        && fraction.bytes().all(|b| b.is_ascii_digit())
}

/// Which styles a text may be written in.
struct Form {
    plain: bool,
    single: bool,
    block: bool,
}

impl Form {
    fn of(text: &str) -> Form {
        let chars: Vec<char> = text.chars().collect();
        let (Some(first), Some(last)) = (chars.first(), chars.last()) else {
            return Form { plain: true, single: true, block: false };
        };
        let mut indicators = text.starts_with("---") || text.starts_with("...");
        let (mut breaks, mut special, mut break_space, mut space_break) = (false, false, false, false);
        for (i, c) in chars.iter().enumerate() {
            let before = i.checked_sub(1).and_then(|i| chars.get(i));
            let ends = chars.get(i + 1).is_none_or(|c| matches!(c, ' ' | '\t'));
            indicators |= match c {
                '#' => before.is_none_or(|c| matches!(c, ' ' | '\t') || is_break(*c)),
                ':' => ends,
                '?' | '-' if i == 0 => ends,
                ',' | '[' | ']' | '{' | '}' | '&' | '*' | '!' | '|' | '>' | '\'' | '"' | '%' | '@' | '`' => {
                    i == 0
                }
                _ => false,
            };
            special |= !is_printable(*c);
            breaks |= is_break(*c);
            break_space |= *c == ' ' && before.is_some_and(|c| is_break(*c));
            space_break |= is_break(*c) && before == Some(&' ');
        }
        let ragged = [first, last].iter().any(|c| **c == ' ' || is_break(**c));
        Form {
            plain: !(ragged || break_space || space_break || special || breaks || indicators),
            single: !(break_space || space_break || special),
            block: !(*last == ' ' || space_break || special),
        }
    }
}

pub(super) fn is_break(c: char) -> bool {
    matches!(c, '\r' | '\n' | '\u{85}' | '\u{2028}' | '\u{2029}')
}

pub(super) fn is_printable(c: char) -> bool {
    matches!(c, '\n' | '\u{20}'..='\u{7e}' | '\u{a0}'..='\u{d7ff}' | '\u{e000}'..='\u{fffd}' | '\u{10000}'..)
        && c != '\u{feff}'
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_means_something_else_is_quoted() {
        for text in [
            "",
            "~",
            "null",
            "yes",
            "Off",
            "1",
            "+1",
            "-0x1f",
            "0755",
            "08",
            "1_000",
            "1.5",
            ".5",
            "1e5",
            "1:30",
            "2025-01-02",
            "2025-01-02T03:04:05Z",
            "2025-1-2 3:4:5",
            ".inf",
        ] {
            assert_eq!(style(text, false), Style::Double, "{text}");
        }
        for text in [
            "a",
            "1Gi",
            "100m",
            "10.0.0.1",
            "v1",
            "nil",
            "1.2.3",
            "-a",
            "a:b",
            "a#b",
            "f:data",
            ".",
            "2025-13-01",
            "0xg",
            "1:99",
            "k:{\"name\":\"c\"}",
            "a, b",
            "it's",
            "ä",
        ] {
            assert_eq!(style(text, false), Style::Plain, "{text}");
        }
    }

    #[test]
    fn what_would_be_misread_is_quoted_or_a_block() {
        for (text, expected) in [
            ("a: b", Style::Single),
            ("a:", Style::Single),
            ("a #b", Style::Single),
            ("- a", Style::Single),
            ("*", Style::Single),
            ("{}", Style::Single),
            ("'a'", Style::Single),
            (" a", Style::Single),
            ("---", Style::Single),
            ("a\tb", Style::Double),
            ("a\u{1}", Style::Double),
            ("a\nb\n", Style::Literal),
            ("a \nb", Style::Double),
            ("a\nb ", Style::Double),
        ] {
            assert_eq!(style(text, false), expected, "{text:?}");
        }
        assert_eq!(style("a\nb", true), Style::Double);
    }
}
