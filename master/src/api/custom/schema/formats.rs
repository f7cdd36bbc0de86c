//! Forms of texts and numbers that a schema's `format` may name.

use std::net::IpAddr;
use std::sync::LazyLock;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use regex::Regex;

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
static SSN: LazyLock<Regex> = LazyLock::new(|| pattern("^\\d{3}[- ]\\d{2}[- ]\\d{4}$"));
static EMAIL: LazyLock<Regex> = LazyLock::new(|| {
    pattern(
        "^[A-Za-z0-9.!#$%&'*+/=?^_`{|}~-]+@[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?(?:\\.[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?)*$",
    )
});
static DURATION_PART: LazyLock<Regex> = LazyLock::new(|| pattern("([0-9]+)\\s*([A-Za-zµ]+)"));
/// Words for spans of time; the last of each may go on as it likes (`minutes`).
const DURATION_WORDS: [&[&str]; 8] = [
    &["ns", "nano"],
    &["us", "µs", "micro"],
    &["ms", "milli"],
    &["s", "sec"],
    &["m", "min"],
    &["h", "hr", "hour"],
    &["d", "day"],
    &["w", "wk", "week"],
];
static TIME_OF_DAY: LazyLock<Regex> =
    LazyLock::new(|| pattern("^([0-9]{2}):([0-9]{2}):([0-9]{2})(.[0-9]+)?(z|[+-][0-9]{2}:[0-9]{2})$"));
static DATE: LazyLock<Regex> = LazyLock::new(|| pattern("^\\d{4}-(0[1-9]|1[0-2])-(0[1-9]|[12]\\d|3[01])$"));

/// Whether a text has a form; `None` for forms that are not known here, which anything has.
pub fn matches(format: &str, text: &str) -> Option<bool> {
    // Dashes within the name of a form make no difference.
    Some(match format.replace('-', "").as_str() {
        "byte" => !text.is_empty() && STANDARD.decode(text).is_ok(),
        "cidr" => text.contains('/') && without_zeros(text).parse::<ipnet::IpNet>().is_ok(),
        "date" => is_date(text),
        "datetime" => is_date_time(text),
        "duration" => duration(text).is_some(),
        "email" => EMAIL.is_match(address(text)),
        "hostname" => text.len() <= 255 && HOSTNAME.is_match(text),
        "ipv4" => text.contains('.') && is_address(text),
        "ipv6" => text.contains(':') && is_address(text),
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

/// The parts of addresses without zeros in front, which were read as decimal numbers before anybody was strict.
fn without_zeros(text: &str) -> String {
    let part = |part: &str| match part.trim_start_matches('0') {
        "" => "0".to_owned(),
        rest if rest.starts_with('/') => format!("0{rest}"),
        rest => rest.to_owned(),
    };
    if text.contains(':') { text.to_owned() } else { text.split('.').map(part).collect::<Vec<_>>().join(".") }
}

fn is_address(text: &str) -> bool {
    let plain = text.split('.').all(|part| !part.is_empty());
    plain && without_zeros(text).parse::<IpAddr>().is_ok()
}

/// The address of a mailbox that may have a name in front of it: `Somebody <a@example.com>`.
fn address(text: &str) -> &str {
    let named = text.trim().strip_suffix('>').and_then(|t| t.split_once('<'));
    named.filter(|(name, _)| !name.contains(['@', '>', ','])).map_or(text.trim(), |(_, address)| address)
}

fn is_date(text: &str) -> bool {
    let number =
        |range: std::ops::Range<usize>| text.get(range).and_then(|t| t.parse::<u8>().ok()).unwrap_or(0);
    let year = text.get(..4).and_then(|y| y.parse().ok()).unwrap_or(0);
    DATE.is_match(text)
        && time::Month::try_from(number(5..7))
            .is_ok_and(|month| time::Date::from_calendar_date(year, month, number(8..10)).is_ok())
}

fn is_date_time(text: &str) -> bool {
    let lower = text.to_ascii_lowercase();
    let Some((date, of_day)) = lower.split_once('t') else { return false };
    let parts = TIME_OF_DAY.captures(of_day);
    let within = |parts: regex::Captures<'_>| parts[1] <= *"23" && parts[2] <= *"59" && parts[3] <= *"59";
    is_date(date) && parts.is_some_and(within)
}

/// Whether a text names spans of time (`5 minutes`), wherever in it.
/// The nanoseconds of a duration in words, such as `2 days`; `None` if there are none in it.
fn duration_in_words(text: &str) -> Option<i64> {
    const NANOS: [i64; 8] = [
        1,
        1_000,
        1_000_000,
        1_000_000_000,
        60_000_000_000,
        3_600_000_000_000,
        86_400_000_000_000,
        604_800_000_000_000,
    ];
    let mut total: Option<i64> = None;
    for found in DURATION_PART.captures_iter(text) {
        let (count, unit) = (found[1].parse::<i64>().ok()?, found[2].to_lowercase());
        for (words, nanos) in DURATION_WORDS.iter().zip(NANOS) {
            let last = words.last().is_some_and(|last| unit.starts_with(last));
            let named = usize::from(last)
                + words.split_last().map_or(0, |(_, rest)| rest.iter().filter(|w| **w == unit).count());
            for _ in 0..named {
                total = Some(total.unwrap_or(0).wrapping_add(count.wrapping_mul(nanos)));
            }
        }
    }
    total
}

/// The nanoseconds of a duration, as Go writes them or in words.
pub fn duration(text: &str) -> Option<i64> {
    crate::api::cel::time::parse_duration(text).or_else(|| duration_in_words(text))
}

/// Whether a text is a duration as Go writes them.
pub fn is_duration(text: &str) -> bool {
    crate::api::cel::time::parse_duration(text).is_some()
}

fn is_uri(text: &str) -> bool {
    crate::api::cel::library::Url::parse(text).is_some()
}

/// The numbers of cards, by how they begin (from, to) and how long they are.
const CARDS: [(&str, &str, usize); 13] = [
    ("4", "4", 13),
    ("4", "4", 16),
    ("51", "55", 16),
    ("6011", "6011", 16),
    ("65", "65", 16),
    ("34", "34", 15),
    ("37", "37", 15),
    ("300", "305", 14),
    ("36", "36", 14),
    ("38", "38", 14),
    ("2131", "2131", 15),
    ("1800", "1800", 15),
    ("35", "35", 16),
];

/// Whatever is no digit is passed over.
fn is_card(text: &str) -> bool {
    let digits: String = text.chars().filter(char::is_ascii_digit).collect();
    let issued = CARDS.iter().any(|(from, to, length)| {
        digits.len() == *length
            && digits.get(..from.len()).is_some_and(|begin| (*from..=*to).contains(&begin))
    });
    let sum: u32 = digits
        .bytes()
        .rev()
        .map(|byte| u32::from(byte - b'0'))
        .enumerate()
        .map(|(i, d)| if i % 2 == 0 { d } else { (d * 2) / 10 + (d * 2) % 10 })
        .sum();
    issued && sum.is_multiple_of(10)
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
