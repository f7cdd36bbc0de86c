//! Kubernetes' own types: URLs, addresses, networks, versions, forms of texts.

use std::cmp::Ordering;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;

use ipnet::IpNet;
use protocol::selector::{label_value_error, qualified_name_error};

use super::addresses::no_address;
use super::{Opaque, Outcome, Value, error};
use crate::api::custom::schema::formats;
use crate::api::meta::{NameRule, name_errors};

/// A URL taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Url {
    scheme: String,
    host: String,
    path: String,
    query: String,
}

impl Url {
    /// Takes an absolute URL, or an absolute path, apart.
    pub fn parse(text: &str) -> Option<Url> {
        if text.is_empty() || text.contains(|c: char| c.is_ascii_control()) {
            return None;
        }
        let text = text.split('#').next().unwrap_or_default();
        let (before, query) = text.split_once('?').unwrap_or((text, ""));
        if before.starts_with('/') {
            return Some(Url {
                scheme: String::new(),
                host: String::new(),
                path: before.to_owned(),
                query: query.to_owned(),
            });
        }
        let (scheme, rest) = before.split_once(':')?;
        let good = scheme.starts_with(|c: char| c.is_ascii_alphabetic())
            && scheme.chars().all(|c| c.is_ascii_alphanumeric() || "+-.".contains(c));
        if !good {
            return None;
        }
        let (host, path) = match rest.strip_prefix("//") {
            Some(rest) => rest.find('/').map_or((rest, ""), |i| rest.split_at(i)),
            // What follows a scheme without a slash is nobody's path (`mailto:a@example.com`).
            None => ("", if rest.starts_with('/') { rest } else { "" }),
        };
        let host = host.rsplit('@').next().unwrap_or_default();
        let port = host.rsplit_once(':').filter(|(_, p)| !p.ends_with(']')).map_or("", |(_, p)| p);
        let closed = host.starts_with('[') == host.contains(']');
        if !closed || host.contains(' ') || !port.chars().all(|c| c.is_ascii_digit()) {
            return None;
        }
        Some(Url {
            scheme: scheme.to_ascii_lowercase(),
            host: host.to_owned(),
            path: path.to_owned(),
            query: query.to_owned(),
        })
    }

    /// The path with all escaped that a path may not hold; what is escaped already stays so.
    fn escaped_path(&self) -> String {
        let mut out = String::new();
        for c in self.path.chars() {
            if c.is_ascii_alphanumeric() || "-_.~$&+,/:;=@!'()*[]%".contains(c) {
                out.push(c);
            } else {
                let mut buffer = [0; 4];
                c.encode_utf8(&mut buffer).bytes().for_each(|b| out.push_str(&format!("%{b:02X}")));
            }
        }
        out
    }

    fn split_host(&self) -> (&str, &str) {
        if let Some(rest) = self.host.strip_prefix('[') {
            let (name, after) = rest.split_once(']').unwrap_or((rest, ""));
            return (name, after.strip_prefix(':').unwrap_or_default());
        }
        self.host.rsplit_once(':').unwrap_or((&self.host, ""))
    }
}

/// A semantic version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Semver {
    numbers: [u64; 3],
    before: Vec<String>,
}

impl Semver {
    /// Reads a version; `normalize` lets it have a `v` in front, fewer numbers and leading zeros.
    pub fn parse(text: &str, normalize: bool) -> Result<Semver, String> {
        let normal;
        let text = if normalize {
            normal = Self::normalized(text)?;
            &normal
        } else {
            text
        };
        if text.is_empty() {
            return Err("Version string empty".to_owned());
        }
        let parts: Vec<&str> = text.splitn(3, '.').collect();
        let [major, minor, rest] = parts.as_slice() else {
            return Err("No Major.Minor.Patch elements found".to_owned());
        };
        let digits = |w: &str| w.bytes().all(|b| b.is_ascii_digit());
        let word = |w: &str| w.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
        let zeros = |w: &str| w.len() > 1 && w.starts_with('0');
        let number = |what: &str, w: &str| match w.parse::<u64>() {
            _ if !digits(w) => Err(format!("Invalid character(s) found in {what} number {w:?}")),
            _ if zeros(w) => {
                let what = format!("{}{}", what[..1].to_uppercase(), &what[1..]);
                Err(format!("{what} number must not contain leading zeroes {w:?}"))
            }
            Ok(n) => Ok(n),
            Err(_) => {
                let why = if w.is_empty() { "invalid syntax" } else { "value out of range" };
                Err(format!("strconv.ParseUint: parsing {w:?}: {why}"))
            }
        };
        let (major, minor) = (number("major", major)?, number("minor", minor)?);
        let (rest, build) = rest.split_once('+').map_or((*rest, None), |(rest, build)| (rest, Some(build)));
        let (patch, before) =
            rest.split_once('-').map_or((rest, None), |(patch, before)| (patch, Some(before)));
        let patch = number("patch", patch)?;
        let before: Vec<String> =
            before.map(|b| b.split('.').map(str::to_owned).collect()).unwrap_or_default();
        for w in &before {
            if w.is_empty() {
                return Err("Prerelease is empty".to_owned());
            } else if digits(w) && zeros(w) {
                return Err(format!("Numeric PreRelease version must not contain leading zeroes {w:?}"));
            } else if !word(w) {
                return Err(format!("Invalid character(s) found in prerelease {w:?}"));
            }
        }
        for w in build.into_iter().flat_map(|build| build.split('.')) {
            if w.is_empty() {
                return Err("Build meta data is empty".to_owned());
            } else if !word(w) {
                return Err(format!("Invalid character(s) found in build meta data {w:?}"));
            }
        }
        Ok(Semver { numbers: [major, minor, patch], before })
    }

    /// A version with all its numbers, and without what is in front of them.
    fn normalized(text: &str) -> Result<String, String> {
        let parts = text.strip_prefix('v').unwrap_or(text).splitn(3, '.').map(|part| {
            let bare = part.trim_start_matches('0');
            match bare.starts_with(|c: char| c.is_ascii_digit()) || part.len() <= 1 {
                true if part.len() > 1 => bare.to_owned(),
                true => part.to_owned(),
                false => format!("0{bare}"),
            }
        });
        let mut parts: Vec<String> = parts.collect();
        if parts.len() < 3 && parts.last().is_some_and(|last| last.contains(['+', '-'])) {
            return Err("Short version cannot contain PreRelease/Build meta data".to_owned());
        }
        parts.resize(parts.len().max(3), "0".to_owned());
        Ok(parts.join("."))
    }

    /// The order of two versions.
    pub fn order(&self, other: &Semver) -> Ordering {
        let word = |a: &String, b: &String| match (a.parse::<u64>(), b.parse::<u64>()) {
            (Ok(a), Ok(b)) => a.cmp(&b),
            (Ok(_), Err(_)) => Ordering::Less,
            (Err(_), Ok(_)) => Ordering::Greater,
            _ => a.cmp(b),
        };
        self.numbers.cmp(&other.numbers).then_with(|| {
            match (self.before.is_empty(), other.before.is_empty()) {
                (true, true) => Ordering::Equal,
                (true, false) => Ordering::Greater,
                (false, true) => Ordering::Less,
                (false, false) => {
                    let words = self.before.iter().zip(&other.before).map(|(a, b)| word(a, b));
                    let differs = words.into_iter().find(|o| o.is_ne());
                    differs.unwrap_or_else(|| self.before.len().cmp(&other.before.len()))
                }
            }
        })
    }
}

/// An address as Kubernetes reads it: without a zone, and not an IPv4 one in IPv6's clothes.
fn parse_ip(text: &str) -> Option<IpAddr> {
    let ip: IpAddr = text.parse().ok()?;
    match ip {
        IpAddr::V6(v6) if v6.to_ipv4_mapped().is_some() => None,
        ip => Some(ip),
    }
}

fn parse_cidr(text: &str) -> Option<IpNet> {
    let net: IpNet = text.parse().ok()?;
    parse_ip(&net.addr().to_string()).map(|_| net)
}

const FORMATS: [&str; 13] = [
    "dns1123Label",
    "dns1123Subdomain",
    "dns1035Label",
    "qualifiedName",
    "dns1123LabelPrefix",
    "dns1123SubdomainPrefix",
    "dns1035LabelPrefix",
    "labelValue",
    "uri",
    "uuid",
    "byte",
    "date",
    "datetime",
];

fn form_errors(form: &str, text: &str) -> Vec<String> {
    let known = |format: &str, what: &str| {
        if formats::matches(format, text) == Some(true) { Vec::new() } else { vec![what.to_owned()] }
    };
    match form {
        "dns1123Label" => name_errors(NameRule::Label, text, false),
        "dns1123Subdomain" => name_errors(NameRule::Subdomain, text, false),
        "dns1035Label" => name_errors(NameRule::Label1035, text, false),
        "dns1123LabelPrefix" => name_errors(NameRule::Label, text, true),
        "dns1123SubdomainPrefix" => name_errors(NameRule::Subdomain, text, true),
        "dns1035LabelPrefix" => name_errors(NameRule::Label1035, text, true),
        "qualifiedName" => qualified_name_error(text).into_iter().map(|e| e.to_string()).collect(),
        "labelValue" => label_value_error(text).into_iter().map(|e| e.to_string()).collect(),
        "uri" => known("uri", "invalid URI"),
        "uuid" => known("uuid", "does not match the UUID format"),
        "byte" => known("byte", "invalid base64"),
        "date" => known("date", "invalid date"),
        _ => known("datetime", "invalid datetime"),
    }
}

fn opaque<'a>(value: Opaque) -> Outcome<'a> {
    Ok(Value::Opaque(value))
}

/// Calls a function that makes or recognizes one of these types.
pub fn global<'a>(name: &str, args: &[Value<'a>]) -> Outcome<'a> {
    if let Some(form) = name.strip_prefix("format.") {
        let wanted = match args {
            [Value::String(form)] if name == "format.named" => &**form,
            _ => form,
        };
        let found = FORMATS.iter().find(|f| **f == wanted).map(|f| Value::Opaque(Opaque::Format(f)));
        return match found {
            found if name == "format.named" => Ok(Value::Optional(found.map(Arc::new))),
            Some(found) => Ok(found),
            None => error("no such overload"),
        };
    }
    let normalize = matches!(args.get(1), Some(Value::Bool(true)));
    let Some(Value::String(s)) = args.first() else { return error("no such overload") };
    match name {
        "isURL" => Ok(Value::Bool(Url::parse(s).is_some())),
        "url" => match Url::parse(s) {
            Some(url) => opaque(Opaque::Url(Arc::new(url))),
            None => error(format!(
                "URL parse error during conversion from string: parse {:?}: invalid URI for request",
                &**s
            )),
        },
        "isIP" => Ok(Value::Bool(parse_ip(s).is_some())),
        "ip" => match parse_ip(s) {
            Some(ip) => opaque(Opaque::Ip(ip)),
            None => error(no_address(s)),
        },
        "ip.isCanonical" => match parse_ip(s) {
            Some(ip) => Ok(Value::Bool(ip.to_string() == **s)),
            None => error(no_address(s)),
        },
        "isCIDR" => Ok(Value::Bool(parse_cidr(s).is_some())),
        "cidr" => match parse_cidr(s) {
            Some(net) => opaque(Opaque::Cidr(net)),
            None => error(no_network(s)),
        },
        "isSemver" => Ok(Value::Bool(Semver::parse(s, normalize).is_ok())),
        "semver" => match Semver::parse(s, normalize) {
            Ok(version) => opaque(Opaque::Semver(Arc::new(version))),
            Err(why) => error(why),
        },
        "jsonpatch.escapeKey" => Ok(Value::text(s.replace('~', "~0").replace('/', "~1"))),
        "strings.quote" => Ok(Value::text(format!("{:?}", &**s))),
        "matches" => super::strings::member(name, args),
        _ => error("no such overload"),
    }
}

/// Calls a member function of one of these types.
pub fn member<'a>(name: &str, args: &[Value<'a>]) -> Outcome<'a> {
    let text = |t: &str| Ok(Value::text(t));
    match args {
        [Value::Opaque(Opaque::Url(url))] => match name {
            "getScheme" => text(&url.scheme),
            "getHost" => text(&url.host),
            "getHostname" => text(url.split_host().0),
            "getPort" => text(url.split_host().1),
            "getEscapedPath" => text(&url.escaped_path()),
            "getQuery" => {
                let mut made: Vec<(Value<'a>, Vec<Value<'a>>)> = Vec::new();
                for (key, value) in crate::front::path::query(&url.query) {
                    let key = Value::text(key);
                    match made.iter_mut().find(|(k, _)| k.same(&key)) {
                        Some((_, values)) => values.push(Value::text(value)),
                        None => made.push((key, vec![Value::text(value)])),
                    }
                }
                let made = made.into_iter().map(|(k, v)| (k, Value::List(Arc::new(v))));
                Ok(Value::Map(Arc::new(made.collect())))
            }
            _ => error("no such overload"),
        },
        [Value::Opaque(Opaque::Ip(ip))] => address(name, *ip),
        [Value::Opaque(Opaque::Cidr(net)), rest @ ..] => network(name, net, rest),
        [Value::Opaque(Opaque::Semver(a)), rest @ ..] => match (name, rest) {
            ("major", []) => Ok(Value::Int(a.numbers[0] as i64)),
            ("minor", []) => Ok(Value::Int(a.numbers[1] as i64)),
            ("patch", []) => Ok(Value::Int(a.numbers[2] as i64)),
            ("isGreaterThan", [Value::Opaque(Opaque::Semver(b))]) => Ok(Value::Bool(a.order(b).is_gt())),
            ("isLessThan", [Value::Opaque(Opaque::Semver(b))]) => Ok(Value::Bool(a.order(b).is_lt())),
            ("compareTo", [Value::Opaque(Opaque::Semver(b))]) => Ok(Value::Int(a.order(b) as i64)),
            _ => error("no such overload"),
        },
        [Value::Opaque(Opaque::Format(form)), Value::String(s)] if name == "validate" => {
            let wrong = form_errors(form, s);
            let wrong = (!wrong.is_empty())
                .then(|| Value::List(Arc::new(wrong.into_iter().map(Value::text).collect())));
            Ok(Value::Optional(wrong.map(Arc::new)))
        }
        _ => error("no such overload"),
    }
}

fn address<'a>(name: &str, ip: IpAddr) -> Outcome<'a> {
    let link_local = |v6: &Ipv6Addr| (v6.segments()[0] & 0xffc0) == 0xfe80;
    let unicast = match ip {
        IpAddr::V4(v4) => v4.is_link_local(),
        IpAddr::V6(v6) => link_local(&v6),
    };
    Ok(match name {
        "family" => Value::Int(if ip.is_ipv4() { 4 } else { 6 }),
        "isUnspecified" => Value::Bool(ip.is_unspecified()),
        "isLoopback" => Value::Bool(ip.is_loopback()),
        "isLinkLocalUnicast" => Value::Bool(unicast),
        "isLinkLocalMulticast" => Value::Bool(match ip {
            IpAddr::V4(v4) => v4.octets()[..3] == [224, 0, 0],
            IpAddr::V6(v6) => (v6.segments()[0] & 0xff0f) == 0xff02,
        }),
        "isGlobalUnicast" => {
            let broadcast = matches!(ip, IpAddr::V4(v4) if v4.is_broadcast());
            Value::Bool(
                !ip.is_unspecified() && !ip.is_loopback() && !ip.is_multicast() && !unicast && !broadcast,
            )
        }
        _ => return error("no such overload"),
    })
}

fn network<'a>(name: &str, net: &IpNet, rest: &[Value<'a>]) -> Outcome<'a> {
    match (name, rest) {
        ("ip", []) => opaque(Opaque::Ip(net.addr())),
        ("masked", []) => opaque(Opaque::Cidr(net.trunc())),
        ("prefixLength", []) => Ok(Value::Int(i64::from(net.prefix_len()))),
        ("containsIP", [Value::Opaque(Opaque::Ip(ip))]) => Ok(Value::Bool(net.contains(ip))),
        ("containsCIDR", [Value::Opaque(Opaque::Cidr(other))]) => {
            Ok(Value::Bool(net.trunc().contains(other)))
        }
        // What is no address is of no type that is taken here.
        ("containsIP", [Value::String(s)]) => match parse_ip(s) {
            Some(ip) => Ok(Value::Bool(net.contains(&ip))),
            None => error("no such overload"),
        },
        ("containsCIDR", [Value::String(s)]) => match parse_cidr(s) {
            Some(other) => Ok(Value::Bool(net.trunc().contains(&other))),
            None => error(no_network(s)),
        },
        _ => error("no such overload"),
    }
}

/// What upstream says of a text that is no network, twice over.
fn no_network(text: &str) -> String {
    const DURING: &str = "network address parse error during conversion from string";
    format!("{DURING}: {DURING}: netip.ParsePrefix({text:?}): no '/'")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_have_an_order() {
        let sorted =
            ["0.9.0", "1.0.0-alpha", "1.0.0-alpha.1", "1.0.0-alpha.beta", "1.0.0-2a", "1.0.0", "1.0.10"];
        for pair in
            ["0.9.0", "1.0.0-alpha", "1.0.0-alpha.1", "1.0.0-alpha.beta", "1.0.0", "1.0.10"].windows(2)
        {
            let (a, b) =
                (Semver::parse(pair[0], false).expect("a"), Semver::parse(pair[1], false).expect("b"));
            assert!(a.order(&b).is_lt(), "{pair:?}");
        }
        assert!(sorted.iter().all(|v| Semver::parse(v, false).is_ok()));
        for bad in ["", "1.0", "v1.0.0", "01.0.0", "1.0.0-01", "1.0.0-"] {
            assert!(Semver::parse(bad, false).is_err(), "{bad}");
        }
        assert!(Semver::parse("v1.0", true).is_ok());
        for (bad, normalize, why) in [
            ("v1.2.3", false, "Invalid character(s) found in major number \"v1\""),
            ("x", true, "Invalid character(s) found in major number \"x\""),
            ("1.02.3", false, "Minor number must not contain leading zeroes \"02\""),
            ("1.2.x", false, "Invalid character(s) found in patch number \"x\""),
            ("1.2.", false, "strconv.ParseUint: parsing \"\": invalid syntax"),
            ("1.2.3-", false, "Prerelease is empty"),
            ("1.2.3+a_b", false, "Invalid character(s) found in build meta data \"a_b\""),
            ("1.2-a", true, "Short version cannot contain PreRelease/Build meta data"),
        ] {
            assert_eq!(Semver::parse(bad, normalize).err().as_deref(), Some(why), "{bad}");
        }
    }

    #[test]
    fn every_form_tells_good_from_bad() {
        for (form, good, bad) in [
            ("dns1123Label", "a", "A_"),
            ("qualifiedName", "a.b/c", "a b"),
            ("labelValue", "a", "a b"),
            ("uuid", "123e4567-e89b-12d3-a456-426614174000", "x"),
            ("datetime", "2020-01-01T00:00:00Z", "x"),
        ] {
            assert!(form_errors(form, good).is_empty(), "{form}");
            assert!(!form_errors(form, bad).is_empty(), "{form}");
        }
    }
}
