//! Forms of texts and numbers that a schema's `format` may name.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::LazyLock;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use regex::Regex;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// A fixed pattern; the tests use every one.
fn pattern(text: &str) -> Regex {
    Regex::new(text).unwrap_or_else(|_| unreachable!("a fixed pattern"))
}

static UUID: LazyLock<Regex> =
    LazyLock::new(|| pattern("^(?i)[0-9a-f]{8}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{12}$"));
static UUID3: LazyLock<Regex> =
    LazyLock::new(|| pattern("^(?i)[0-9a-f]{8}-?[0-9a-f]{4}-?3[0-9a-f]{3}-?[0-9a-f]{4}-?[0-9a-f]{12}$"));
static UUID4: LazyLock<Regex> = LazyLock::new(|| {
    pattern("^(?i)[0-9a-f]{8}-?[0-9a-f]{4}-?4[0-9a-f]{3}-?[89ab][0-9a-f]{3}-?[0-9a-f]{12}$")
});
static UUID5: LazyLock<Regex> = LazyLock::new(|| {
    pattern("^(?i)[0-9a-f]{8}-?[0-9a-f]{4}-?5[0-9a-f]{3}-?[89ab][0-9a-f]{3}-?[0-9a-f]{12}$")
});
static HOSTNAME: LazyLock<Regex> = LazyLock::new(|| {
    pattern(
        "^([a-zA-Z0-9\\p{S}\\p{L}]((-?[a-zA-Z0-9\\p{S}\\p{L}]{0,62})?)|([a-zA-Z0-9\\p{S}\\p{L}](([a-zA-Z0-9-\\p{S}\\p{L}]{0,61}[a-zA-Z0-9\\p{S}\\p{L}])?)(\\.)){1,}([a-zA-Z\\p{L}]){2,63})$",
    )
});
static MAC: LazyLock<Regex> = LazyLock::new(|| {
    pattern(
        "^([0-9a-fA-F]{2}([:-][0-9a-fA-F]{2}){5}|[0-9a-fA-F]{2}([:-][0-9a-fA-F]{2}){7}|[0-9a-fA-F]{4}(\\.[0-9a-fA-F]{4}){2,3})$",
    )
});
static HEX_COLOR: LazyLock<Regex> = LazyLock::new(|| pattern("^#?([0-9a-fA-F]{3}|[0-9a-fA-F]{6})$"));
static RGB_COLOR: LazyLock<Regex> = LazyLock::new(|| {
    let part = "(0|[1-9]\\d?|1\\d\\d?|2[0-4]\\d|25[0-5])";
    pattern(&format!("^rgb\\(\\s*{part}\\s*,\\s*{part}\\s*,\\s*{part}\\s*\\)$"))
});
static SSN: LazyLock<Regex> = LazyLock::new(|| pattern("^\\d{3}[- ]?\\d{2}[- ]?\\d{4}$"));
static EMAIL: LazyLock<Regex> = LazyLock::new(|| {
    pattern(
        "^[A-Za-z0-9.!#$%&'*+/=?^_`{|}~-]+@[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?(?:\\.[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?)*$",
    )
});
static DURATION_WORDS: LazyLock<Regex> = LazyLock::new(|| {
    pattern(
        "^\\s*(?:\\d+\\s*(?:ns|nanos?|nanoseconds?|us|micros?|microseconds?|ms|millis?|milliseconds?|s|secs?|seconds?|m|mins?|minutes?|h|hrs?|hours?|d|days?|w|wks?|weeks?)\\s*)+$",
    )
});
static DATE: LazyLock<Regex> = LazyLock::new(|| pattern("^\\d{4}-(0[1-9]|1[0-2])-(0[1-9]|[12]\\d|3[01])$"));

/// Whether a text has a form; `None` for forms that are not known here, which anything has.
pub fn matches(format: &str, text: &str) -> Option<bool> {
    // Dashes within the name of a form make no difference.
    Some(match format.replace('-', "").as_str() {
        "byte" => STANDARD.decode(text).is_ok(),
        "cidr" => text.parse::<ipnet::IpNet>().is_ok() && text.contains('/'),
        "date" => DATE.is_match(text),
        "datetime" => is_date_time(text),
        "duration" => is_duration(text) || DURATION_WORDS.is_match(text),
        "email" => EMAIL.is_match(text),
        "hostname" => text.len() <= 255 && HOSTNAME.is_match(text),
        "ipv4" => text.parse::<Ipv4Addr>().is_ok(),
        "ipv6" => text.parse::<Ipv6Addr>().is_ok(),
        "mac" => MAC.is_match(text),
        "uri" => is_uri(text),
        "uuid" => UUID.is_match(text),
        "uuid3" => UUID3.is_match(text),
        "uuid4" => UUID4.is_match(text),
        "uuid5" => UUID5.is_match(text),
        "hexcolor" => HEX_COLOR.is_match(text),
        "rgbcolor" => RGB_COLOR.is_match(text),
        "ssn" => SSN.is_match(text),
        "creditcard" => is_card(text),
        "isbn" => is_isbn(text, 10) || is_isbn(text, 13),
        "isbn10" => is_isbn(text, 10),
        "isbn13" => is_isbn(text, 13),
        "k8sshortname" => protocol::selector::is_dns1123_label(text),
        "k8slongname" => protocol::selector::is_dns1123_subdomain(text),
        "bsonobjectid" => text.len() == 24 && text.bytes().all(|b| b.is_ascii_hexdigit()),
        "password" => true,
        _ => return None,
    })
}

/// Whether a form has a meaning for values of a type.
pub fn is_known(ty: &str, format: &str) -> bool {
    match ty {
        "" | "string" => matches(format, "").is_some(),
        "integer" => matches!(format, "int32" | "int64"),
        "number" => matches!(format, "float" | "double"),
        _ => false,
    }
}

fn is_date_time(text: &str) -> bool {
    OffsetDateTime::parse(&text.to_uppercase().replacen(' ', "T", 1), &Rfc3339).is_ok()
}

/// Whether a text is a duration as Go writes them.
pub fn is_duration(text: &str) -> bool {
    crate::api::cel::time::parse_duration(text).is_some()
}

fn is_uri(text: &str) -> bool {
    match text.split_once(':') {
        _ if text.is_empty() || text.contains(|c: char| c.is_control() || c == ' ') => false,
        // What begins with a slash is a path, anything else must name its scheme.
        _ if text.starts_with('/') => true,
        Some((scheme, _)) => {
            scheme.starts_with(|c: char| c.is_ascii_alphabetic())
                && scheme.chars().all(|c| c.is_ascii_alphanumeric() || "+-.".contains(c))
        }
        None => false,
    }
}

fn is_card(text: &str) -> bool {
    let digits: Vec<u32> = text.chars().filter_map(|c| c.to_digit(10)).collect();
    if !(13..=19).contains(&digits.len()) {
        return false;
    }
    let sum: u32 = digits
        .iter()
        .rev()
        .enumerate()
        .map(|(i, d)| if i % 2 == 0 { *d } else { (d * 2) / 10 + (d * 2) % 10 })
        .sum();
    sum.is_multiple_of(10)
}

fn is_isbn(text: &str, length: usize) -> bool {
    let clean: Vec<char> = text.chars().filter(|c| *c != '-' && !c.is_whitespace()).collect();
    if clean.len() != length {
        return false;
    }
    let value = |i: usize| match clean[i] {
        'X' | 'x' if length == 10 && i == 9 => Some(10),
        c => c.to_digit(10),
    };
    let mut sum = 0;
    for i in 0..length {
        let Some(digit) = value(i) else { return false };
        let weight = if length == 10 { 10 - i as u32 } else { [1, 3][i % 2] };
        sum += digit * weight;
    }
    sum.is_multiple_of(if length == 10 { 11 } else { 10 })
}
