//! What is said of a connection stays with it, and what a request comes from is told to who answers it. Pure.

use std::net::SocketAddr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hyper::header::{
    CONNECTION, CONTENT_LENGTH, COOKIE, EXPECT, FORWARDED, HOST, HeaderMap, HeaderName, HeaderValue,
    PROXY_AUTHENTICATE, PROXY_AUTHORIZATION, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_VERSION,
    TE, TRANSFER_ENCODING, UPGRADE,
};
use hyper::http::request;
use hyper::{StatusCode, Version};

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const X_FORWARDED_PORT: HeaderName = HeaderName::from_static("x-forwarded-port");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const X_REAL_IP: HeaderName = HeaderName::from_static("x-real-ip");
const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");

/// Of one connection, wherever they stand.
const HOP: [HeaderName; 7] = [
    CONNECTION,
    KEEP_ALIVE,
    PROXY_AUTHENTICATE,
    PROXY_AUTHORIZATION,
    PROXY_CONNECTION,
    TRANSFER_ENCODING,
    UPGRADE,
];

/// How a request came in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arrival {
    /// Who sent it.
    pub client: SocketAddr,
    /// The port that it came to.
    pub port: u16,
    /// Whether it came through TLS.
    pub tls: bool,
}

/// The names that `Connection` lists.
fn listed(headers: &HeaderMap) -> Vec<HeaderName> {
    let values = headers.get_all(CONNECTION).iter().filter_map(|value| value.to_str().ok());
    let names = values.flat_map(|value| value.split(','));
    names.filter_map(|name| name.trim().parse().ok()).collect()
}

/// What a connection is to become, where a request or an answer asks for that (HTTP/1.1).
pub fn upgrade(headers: &HeaderMap) -> Option<HeaderValue> {
    if listed(headers).contains(&UPGRADE) { headers.get(UPGRADE).cloned() } else { None }
}

fn end_to_end(headers: &mut HeaderMap) {
    for name in listed(headers) {
        // Whoever lists a header that routing or length depend on would make two readers disagree.
        if name != HOST && name != CONTENT_LENGTH && name != TE {
            headers.remove(name);
        }
    }
    for name in HOP {
        headers.remove(name);
    }
}

fn say_upgrade(headers: &mut HeaderMap, to: HeaderValue) {
    headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(UPGRADE, to);
}

/// Makes a request that arrived one that is sent: without what is the connection's, and with what is known of its
/// coming. Nobody before us is trusted, so what it says of that itself is not passed on.
pub fn request(parts: &mut request::Parts, host: &HeaderValue, arrival: Arrival) {
    let headers = &mut parts.headers;
    let upgrade = if parts.version == Version::HTTP_11 { upgrade(headers) } else { None };
    let trailers = headers.get_all(TE).iter().any(|te| te.to_str().is_ok_and(|te| te.contains("trailers")));
    end_to_end(headers);
    // Answered here, as the body is read from here.
    for name in [TE, EXPECT, FORWARDED] {
        headers.remove(name);
    }
    if trailers {
        headers.insert(TE, HeaderValue::from_static("trailers"));
    }
    join_cookies(headers);
    headers.insert(HOST, host.clone());
    let text = |text: String| HeaderValue::try_from(text).ok();
    let client = arrival.client.ip().to_canonical().to_string();
    let proto = HeaderValue::from_static(if arrival.tls { "https" } else { "http" });
    let facts = [
        (X_FORWARDED_FOR, text(client.clone())),
        (X_REAL_IP, text(client)),
        (X_FORWARDED_HOST, Some(host.clone())),
        (X_FORWARDED_PORT, text(arrival.port.to_string())),
        (X_FORWARDED_PROTO, Some(proto)),
    ];
    for (name, value) in facts {
        headers.remove(&name);
        if let Some(value) = value {
            headers.insert(name, value);
        }
    }
    if let Some(to) = upgrade {
        say_upgrade(headers, to);
    }
    parts.version = Version::HTTP_11;
}

/// Makes a request for WebSockets that came by HTTP/2 the one that HTTP/1.1 asks by; `key` is any number.
pub fn websocket(headers: &mut HeaderMap, key: [u8; 16]) {
    headers.remove(CONTENT_LENGTH);
    headers.insert(SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
    if let Ok(key) = HeaderValue::try_from(STANDARD.encode(key)) {
        headers.insert(SEC_WEBSOCKET_KEY, key);
    }
    say_upgrade(headers, HeaderValue::from_static("websocket"));
}

/// Makes the answer to that one that HTTP/2 answers by.
pub fn bootstrapped(headers: &mut HeaderMap) {
    for name in [CONNECTION, UPGRADE, SEC_WEBSOCKET_ACCEPT] {
        headers.remove(name);
    }
}

/// HTTP/2 may send cookies in pieces; before HTTP/2 there was one header.
fn join_cookies(headers: &mut HeaderMap) {
    let pieces: Vec<&[u8]> = headers.get_all(COOKIE).iter().map(HeaderValue::as_bytes).collect();
    if pieces.len() > 1
        && let Ok(joined) = HeaderValue::from_bytes(&pieces.join(&b"; "[..]))
    {
        headers.insert(COOKIE, joined);
    }
}

/// Makes an answer that arrived one that is passed on.
pub fn answer(status: StatusCode, headers: &mut HeaderMap) {
    let upgrade = if status == StatusCode::SWITCHING_PROTOCOLS { upgrade(headers) } else { None };
    end_to_end(headers);
    if let Some(to) = upgrade {
        say_upgrade(headers, to);
    }
}

#[cfg(test)]
mod tests {
    use hyper::Request;

    use super::*;

    const ARRIVAL: Arrival = Arrival {
        client: SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::new(198, 51, 100, 7)), 5),
        port: 443,
        tls: true,
    };

    fn sent(headers: &[(&str, &str)], version: Version) -> Vec<String> {
        let mut request = Request::builder().version(version);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let (mut parts, ()) = request.body(()).unwrap().into_parts();
        super::request(&mut parts, &HeaderValue::from_static("a.example:8443"), ARRIVAL);
        let line =
            |(name, value): (&HeaderName, &HeaderValue)| format!("{name}: {}", value.to_str().unwrap());
        let mut lines: Vec<_> = parts.headers.iter().map(line).collect();
        lines.sort();
        lines
    }

    const ALWAYS: [&str; 6] = [
        "host: a.example:8443",
        "x-forwarded-for: 198.51.100.7",
        "x-forwarded-host: a.example:8443",
        "x-forwarded-port: 443",
        "x-forwarded-proto: https",
        "x-real-ip: 198.51.100.7",
    ];

    #[test]
    fn what_is_sent_on() {
        let h1 = Version::HTTP_11;
        type Headers<'a> = &'a [(&'a str, &'a str)];
        let table: [(&str, Version, Headers<'_>, Headers<'_>); 8] = [
            ("nothing", h1, &[], &[]),
            (
                "of the connection",
                h1,
                &[("connection", "close, X-Mine"), ("x-mine", "1"), ("keep-alive", "5")],
                &[],
            ),
            ("end to end", h1, &[("accept", "a"), ("accept", "b")], &[("accept", "a"), ("accept", "b")]),
            (
                "claims of who is before us",
                h1,
                &[("x-forwarded-for", "1.2.3.4"), ("forwarded", "for=1.2.3.4")],
                &[],
            ),
            (
                "an upgrade",
                h1,
                &[("connection", "keep-alive, Upgrade"), ("upgrade", "websocket")],
                &[("connection", "upgrade"), ("upgrade", "websocket")],
            ),
            ("no upgrade", h1, &[("upgrade", "websocket")], &[]),
            (
                "trailers",
                Version::HTTP_2,
                &[("te", "trailers"), ("expect", "100-continue")],
                &[("te", "trailers")],
            ),
            ("cookies", Version::HTTP_2, &[("cookie", "a=1"), ("cookie", "b=2")], &[("cookie", "a=1; b=2")]),
        ];
        for (what, version, headers, wanted) in table {
            let mut wanted: Vec<_> = wanted.iter().map(|(name, value)| format!("{name}: {value}")).collect();
            wanted.extend(ALWAYS.map(str::to_owned));
            wanted.sort();
            assert_eq!(sent(headers, version), wanted, "{what}");
        }
    }

    #[test]
    fn length_and_host_are_not_to_be_listed_away() {
        let lines =
            sent(&[("connection", "content-length, host"), ("content-length", "5")], Version::HTTP_11);
        assert!(lines.contains(&"content-length: 5".to_owned()) && lines.contains(&ALWAYS[0].to_owned()));
    }

    #[test]
    fn websockets_by_http2_become_those_of_http1_and_back() {
        let mut headers = HeaderMap::new();
        headers.insert("sec-websocket-protocol", HeaderValue::from_static("chat"));
        websocket(&mut headers, [7; 16]);
        assert_eq!(headers["upgrade"], "websocket");
        assert_eq!(headers["connection"], "upgrade");
        assert_eq!(headers["sec-websocket-key"], "BwcHBwcHBwcHBwcHBwcHBw==");
        assert_eq!(headers["sec-websocket-version"], "13");
        headers.insert("sec-websocket-accept", HeaderValue::from_static("x"));
        bootstrapped(&mut headers);
        assert!(!headers.contains_key("upgrade") && !headers.contains_key("sec-websocket-accept"));
        assert_eq!(headers["sec-websocket-protocol"], "chat");
    }

    #[test]
    fn what_is_answered() {
        let mut headers = HeaderMap::new();
        headers.insert("connection", HeaderValue::from_static("Upgrade"));
        headers.insert("upgrade", HeaderValue::from_static("websocket"));
        headers.insert("x-other", HeaderValue::from_static("1"));
        let mut plain = headers.clone();
        answer(StatusCode::OK, &mut plain);
        assert_eq!(plain.keys().collect::<Vec<_>>(), ["x-other"]);
        answer(StatusCode::SWITCHING_PROTOCOLS, &mut headers);
        assert_eq!(headers.len(), 3);
    }
}
