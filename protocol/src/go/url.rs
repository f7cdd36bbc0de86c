//! URLs as Go's `net/url` reads them, and what it says of texts that are none.

use super::quote;

/// The parts of a URL, as they stand there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Url<'a> {
    /// The scheme, in lowercase; empty where there is none.
    pub scheme: String,
    /// What is before an `@`, where there is one.
    pub user: Option<&'a str>,
    /// Host, and port if one is named.
    pub host: &'a str,
    /// What follows a question mark.
    pub query: &'a str,
    /// What follows a hash.
    pub fragment: &'a str,
}

/// Takes a URL apart.
///
/// # Errors
/// In Go's words, the text included.
pub fn parse(text: &str) -> Result<Url<'_>, String> {
    let (before, fragment) = text.split_once('#').unwrap_or((text, ""));
    let refused = |whole: &str, why: String| format!("parse {}: {why}", quote(whole));
    let mut url = before_fragment(before).map_err(|why| refused(before, why))?;
    escapes(fragment).map_err(|why| refused(text, why))?;
    url.fragment = fragment;
    Ok(url)
}

fn before_fragment(text: &str) -> Result<Url<'_>, String> {
    if text.bytes().any(|byte| byte.is_ascii_control()) {
        return Err("net/url: invalid control character in URL".to_owned());
    }
    let (scheme, rest) = scheme(text)?;
    let scheme = scheme.to_ascii_lowercase();
    let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
    let url = Url { scheme, query, ..Url::default() };
    if !rest.starts_with('/') {
        if !url.scheme.is_empty() {
            return Ok(url);
        }
        if rest.split('/').next().is_some_and(|segment| segment.contains(':')) {
            return Err("first path segment in URL cannot contain colon".to_owned());
        }
    }
    let authority = rest.strip_prefix("//").filter(|after| !url.scheme.is_empty() || !after.starts_with('/'));
    let Some(after) = authority else {
        escapes(rest)?;
        return Ok(url);
    };
    let (authority, path) = after.split_at(after.find('/').unwrap_or(after.len()));
    let (user, host) = match authority.rsplit_once('@') {
        Some((user, host)) => (Some(user), host),
        None => (None, authority),
    };
    check_host(host)?;
    if let Some(user) = user {
        let good = |byte: u8| byte.is_ascii_alphanumeric() || b"-._:~!$&'()*+,;=%@".contains(&byte);
        if !user.bytes().all(good) {
            return Err("net/url: invalid userinfo".to_owned());
        }
        escapes(user)?;
    }
    escapes(path)?;
    Ok(Url { user, host, ..url })
}

/// The scheme, and what follows it.
fn scheme(text: &str) -> Result<(&str, &str), String> {
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' => {}
            b'0'..=b'9' | b'+' | b'-' | b'.' if at > 0 => {}
            b':' if at == 0 => return Err("missing protocol scheme".to_owned()),
            b':' => return Ok((&text[..at], &text[at + 1..])),
            _ => break,
        }
    }
    Ok(("", text))
}

fn check_host(host: &str) -> Result<(), String> {
    let port = if host.starts_with('[') {
        let end = host.rfind(']').ok_or("missing ']' in host")?;
        &host[end + 1..]
    } else {
        &host[host.rfind(':').unwrap_or(host.len())..]
    };
    let digits = port.strip_prefix(':').unwrap_or_default();
    if !port.is_empty() && (!port.starts_with(':') || !digits.bytes().all(|byte| byte.is_ascii_digit())) {
        return Err(format!("invalid port {} after host", quote(port)));
    }
    escapes(host)?;
    let good = |byte: u8| {
        !byte.is_ascii() || byte.is_ascii_alphanumeric() || b"!$&'()*+,;=:[]<>\"-_.~%".contains(&byte)
    };
    match host.chars().find(|c| u8::try_from(*c).is_ok_and(|byte| !good(byte))) {
        Some(c) => Err(format!("invalid character {} in host name", quote(&c.to_string()))),
        None => Ok(()),
    }
}

/// Whether every percent sign begins an escape.
fn escapes(text: &str) -> Result<(), String> {
    let bytes = text.as_bytes();
    for (at, _) in text.match_indices('%') {
        let digits = bytes.get(at + 1..at + 3).unwrap_or_default();
        if digits.len() < 2 || !digits.iter().all(u8::is_ascii_hexdigit) {
            let end = bytes.len().min(at + 3);
            return Err(format!("invalid URL escape {}", quote(&String::from_utf8_lossy(&bytes[at..end]))));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_url_is_told_in_gos_words() {
        for (text, why) in [
            (":x", r#"parse ":x": missing protocol scheme"#),
            (
                "2020-01-01T00:00:00Z",
                r#"parse "2020-01-01T00:00:00Z": first path segment in URL cannot contain colon"#,
            ),
            ("https://h/%zz", r#"parse "https://h/%zz": invalid URL escape "%zz""#),
            ("https://h/a%2", r#"parse "https://h/a%2": invalid URL escape "%2""#),
            ("https://h/#%", r#"parse "https://h/#%": invalid URL escape "%""#),
            ("https://h:x#f", r#"parse "https://h:x": invalid port ":x" after host"#),
            ("https://[::1", r#"parse "https://[::1": missing ']' in host"#),
            ("https://[::1]x", r#"parse "https://[::1]x": invalid port "x" after host"#),
            ("https://a b/", r#"parse "https://a b/": invalid character " " in host name"#),
            ("https://a[b@h/", r#"parse "https://a[b@h/": net/url: invalid userinfo"#),
            ("https://h\n", r#"parse "https://h\n": net/url: invalid control character in URL"#),
        ] {
            assert_eq!(parse(text), Err(why.to_owned()));
        }
    }

    #[test]
    fn a_url_is_taken_apart() {
        let of = |scheme: &str, host| Url { scheme: scheme.to_owned(), host, ..Url::default() };
        for (text, wanted) in [
            ("", of("", "")),
            ("a/b:c", of("", "")),
            ("HTTPS://h:443/p", of("https", "h:443")),
            ("//h/p", of("", "h")),
            ("///h", of("", "")),
            ("file:///p", of("file", "")),
            ("mailto:a", of("mailto", "")),
            ("https://[::1]:8/%20", of("https", "[::1]:8")),
            ("https://u:p@h?q#f", Url { user: Some("u:p"), query: "q", fragment: "f", ..of("https", "h") }),
            ("https://ünï/", of("https", "ünï")),
        ] {
            assert_eq!(parse(text), Ok(wanted), "{text}");
        }
    }
}
