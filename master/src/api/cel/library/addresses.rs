//! What is wrong with a text that is no address.

const UNREADABLE: &str = "parse error during conversion from string";

/// Why a text is not taken as an address.
pub fn no_address(text: &str) -> String {
    let shown = quoted(text);
    match wrong(text) {
        Some((why, "")) => format!("IP Address {shown} {UNREADABLE}: ParseAddr({shown}): {why}"),
        Some((why, at)) => {
            format!("IP Address {shown} {UNREADABLE}: ParseAddr({shown}): {why} (at {})", quoted(at))
        }
        None if text.contains('%') => format!("IP address {shown} with zone value is not allowed"),
        None => format!("IPv4-mapped IPv6 address {shown} is not allowed"),
    }
}

fn quoted(text: &str) -> String {
    format!("{text:?}")
}

/// What is wrong, and where if that is told.
type Wrong<'a> = (&'static str, &'a str);

fn wrong(text: &str) -> Option<Wrong<'_>> {
    match text.chars().find(|c| matches!(c, '.' | ':' | '%')) {
        Some('.') => wrong_four(text),
        Some(':') => wrong_six(text),
        Some(_) => Some(("missing IPv6 address", "")),
        None => Some(("unable to parse IP", "")),
    }
}

/// Four decimal fields.
fn wrong_four(text: &str) -> Option<Wrong<'_>> {
    let (mut fields, mut value, mut digits) = (0, 0, 0);
    let bytes = text.as_bytes();
    for (i, c) in text.char_indices() {
        match c {
            '0'..='9' if digits == 1 && value == 0 => {
                return Some(("IPv4 field has octet with leading zero", ""));
            }
            '0'..='9' => {
                value = value * 10 + (u32::from(c) - u32::from('0'));
                digits += 1;
                if value > 255 {
                    return Some(("IPv4 field has value >255", ""));
                }
            }
            '.' if i == 0 || i + 1 == text.len() || bytes[i - 1] == b'.' => {
                return Some(("IPv4 field must have at least one digit", &text[i..]));
            }
            '.' if fields == 3 => return Some(("IPv4 address too long", "")),
            '.' => (fields, value, digits) = (fields + 1, 0, 0),
            _ => return Some(("unexpected character", &text[i..])),
        }
    }
    (fields < 3).then_some(("IPv4 address too short", ""))
}

/// Eight hexadecimal fields, of which `::` stands for some, and of which the last two may be four decimal ones.
fn wrong_six(text: &str) -> Option<Wrong<'_>> {
    const BYTES: usize = 16;
    let mut rest = match text.split_once('%') {
        Some((_, "")) => return Some(("zone must be a non-empty string", "")),
        Some((rest, _)) => rest,
        None => text,
    };
    let mut gap = None;
    if let Some(after) = rest.strip_prefix("::") {
        (gap, rest) = (Some(0), after);
        if rest.is_empty() {
            return None;
        }
    }
    let mut filled = 0;
    while filled < BYTES {
        let digits = rest.bytes().take_while(u8::is_ascii_hexdigit).count();
        if digits > 4 {
            return Some(("each group must have 4 or less digits", rest));
        }
        if digits == 0 {
            return Some(("each colon-separated field must have at least one digit", rest));
        }
        if rest[digits..].starts_with('.') {
            if gap.is_none() && filled != BYTES - 4 {
                let why = "embedded IPv4 address must replace the final 2 fields of the address";
                return Some((why, rest));
            }
            if filled + 4 > BYTES {
                let why = "too many hex fields to fit an embedded IPv4 at the end of the address";
                return Some((why, rest));
            }
            if let Some(wrong) = wrong_four(rest) {
                return Some(wrong);
            }
            (filled, rest) = (filled + 4, "");
            break;
        }
        filled += 2;
        rest = &rest[digits..];
        if rest.is_empty() {
            break;
        }
        if !rest.starts_with(':') {
            return Some(("unexpected character, want colon", rest));
        }
        if rest.len() == 1 {
            return Some(("colon must be followed by more characters", rest));
        }
        rest = &rest[1..];
        if rest.starts_with(':') {
            if gap.is_some() {
                return Some(("multiple :: in address", rest));
            }
            (gap, rest) = (Some(filled), &rest[1..]);
            if rest.is_empty() {
                break;
            }
        }
    }
    match (filled < BYTES, gap) {
        _ if !rest.is_empty() => Some(("trailing garbage after address", rest)),
        (true, None) => Some(("address string too short", "")),
        (false, Some(_)) => Some(("the :: must expand to at least one field of zeros", "")),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_is_told() {
        for (text, wanted) in [
            ("x", "unable to parse IP"),
            ("", "unable to parse IP"),
            ("%x", "missing IPv6 address"),
            ("1.2.3", "IPv4 address too short"),
            ("1.2.3.4.5", "IPv4 address too long"),
            ("1.2.3.256", "IPv4 field has value >255"),
            ("1.2.3.04", "IPv4 field has octet with leading zero"),
            ("1..3.4", "IPv4 field must have at least one digit (at \".3.4\")"),
            ("1.2.3.x", "unexpected character (at \"x\")"),
            ("10.0.0.0/8", "unexpected character (at \"/8\")"),
            ("1:2", "address string too short"),
            ("1::2::3", "multiple :: in address (at \":3\")"),
            ("12345::", "each group must have 4 or less digits (at \"12345::\")"),
            ("1:2:3:4:5:6:7:8:9", "trailing garbage after address (at \"9\")"),
            ("1:2:3:4:5:6:7::8", "the :: must expand to at least one field of zeros"),
            ("1:", "colon must be followed by more characters (at \":\")"),
            (":1", "each colon-separated field must have at least one digit (at \":1\")"),
            ("1:g", "each colon-separated field must have at least one digit (at \"g\")"),
            ("1:2g", "unexpected character, want colon (at \"g\")"),
            ("fe80::1%", "zone must be a non-empty string"),
            (
                "1:1.2.3.4",
                "embedded IPv4 address must replace the final 2 fields of the address (at \"1.2.3.4\")",
            ),
        ] {
            let wanted = format!("IP Address {text:?} {UNREADABLE}: ParseAddr({text:?}): {wanted}");
            assert_eq!(no_address(text), wanted);
        }
        assert_eq!(no_address("fe80::1%eth0"), "IP address \"fe80::1%eth0\" with zone value is not allowed");
        let mapped = "IPv4-mapped IPv6 address \"::ffff:1.2.3.4\" is not allowed";
        assert_eq!(no_address("::ffff:1.2.3.4"), mapped);
    }
}
