//! Addresses and networks: which forms of them are read, which are right, and what is said about the rest.

use std::net::{IpAddr, Ipv4Addr};

use serde_json::Value;

use crate::api::invalid::{Errors, Path};
use crate::api::object::{list, text};

const IP: &str = "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)";
const CIDR: &str = "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)";

/// Reads an address the lenient way: octets may have leading zeros.
pub fn parse_ip(text: &str) -> Option<IpAddr> {
    if let Ok(address) = text.parse() {
        return Some(address);
    }
    let octets: Vec<&str> = text.split('.').collect();
    if octets.len() != 4 {
        return None;
    }
    let mut numbers = [0u8; 4];
    for (number, octet) in numbers.iter_mut().zip(&octets) {
        if octet.is_empty() || octet.len() > 16 || !octet.bytes().all(|b| b.is_ascii_digit()) {
            return None;
        }
        *number = octet.parse().ok()?;
    }
    Some(Ipv4Addr::from(numbers).into())
}

/// An address as old fields take it: in any form that means one address to everybody.
pub fn ip(value: &str, path: &Path, errors: &mut Errors) -> Option<IpAddr> {
    let parsed = parse_ip(value);
    match (parsed, value.parse::<IpAddr>()) {
        (None, _) => errors.invalid(path, value, IP),
        (_, Err(_)) => errors.invalid(path, value, "must not have leading 0s"),
        (_, Ok(IpAddr::V6(v6))) if v6.to_ipv4_mapped().is_some() => {
            errors.invalid(path, value, "must not be an IPv4-mapped IPv6 address");
        }
        _ => {}
    }
    parsed
}

/// What is said about addresses that are right but written in an unusual way.
pub fn address_notes(addresses: &[Value], path: &Path, said: &mut Vec<String>) {
    for (i, text) in addresses.iter().enumerate().filter_map(|(i, a)| Some((i, a.as_str()?))) {
        address_note(text, &path.index(i), said);
    }
}

/// The same of one address.
pub fn address_note(text: &str, path: &Path, said: &mut Vec<String>) {
    let Some(address) = parse_ip(text) else { return };
    let mapped = matches!(address, IpAddr::V6(v6) if v6.to_ipv4_mapped().is_some());
    if text.parse::<IpAddr>().is_err() || mapped {
        let plain = address.to_canonical();
        said.push(format!("{path}: non-standard IP address {text:?} is invalid: use \"{plain}\""));
    } else if address.is_ipv6() && address.to_string() != text {
        said.push(format!(
            "{path}: IPv6 address {text:?} should be in RFC 5952 canonical format (\"{address}\")"
        ));
    }
}

/// What is said about networks that are right but written in an unusual way.
pub fn range_notes(ranges: &[Value], path: &Path, said: &mut Vec<String>) {
    for (i, text) in ranges.iter().enumerate().filter_map(|(i, range)| Some((i, range.as_str()?))) {
        range_note(text, &path.index(i), said);
    }
}

/// The same of one network.
pub fn range_note(text: &str, path: &Path, said: &mut Vec<String>) {
    let Some(range) = parse_cidr(text) else { return };
    let (before, network) = (said.len(), range.trunc());
    if range.addr() != range.network() {
        let single = ipnet::IpNet::from(range.addr());
        said.push(format!(
            "{path}: CIDR value {text:?} is ambiguous in this context (should be \"{network}\" or \"{single}\"?)"
        ));
    }
    let mapped = matches!(range.addr(), IpAddr::V6(v6) if v6.to_ipv4_mapped().is_some());
    if has_leading_zeros(text) || mapped {
        said.push(format!("{path}: non-standard CIDR value {text:?} is invalid: use \"{network}\""));
    }
    if said.len() == before && range.addr().is_ipv6() && range.to_string() != text {
        said.push(format!(
            "{path}: IPv6 CIDR value {text:?} should be in RFC 5952 canonical format (\"{range}\")"
        ));
    }
}

/// What is said about the addresses that a load balancer got.
pub fn balancer_notes(object: &Value, said: &mut Vec<String>) {
    let path = Path::new("status.loadBalancer.ingress");
    for (i, ingress) in list(object, &["status", "loadBalancer", "ingress"]).iter().enumerate() {
        address_note(text(ingress, &["ip"]), &path.index(i), said);
    }
}

/// Whether a network's text has zeros that Go's strict reading does not take.
fn has_leading_zeros(text: &str) -> bool {
    let (address, length) = text.split_once('/').unwrap_or((text, ""));
    address.parse::<IpAddr>().is_err() || (length.len() > 1 && length.starts_with('0'))
}

/// What is wrong with an address that must be in its canonical form.
pub fn strict_ip(value: &str) -> Vec<String> {
    let mut wrong = Vec::new();
    match value.parse::<IpAddr>() {
        Ok(IpAddr::V6(v6)) if v6.to_ipv4_mapped().is_some() => {
            wrong.push("must not be an IPv4-mapped IPv6 address".to_owned());
        }
        Ok(address) if address.to_string() != value => {
            wrong.push(format!("must be in canonical form (\"{address}\")"));
        }
        Ok(_) => {}
        Err(_) if parse_ip(value).is_some() => wrong.push("must not have leading 0s".to_owned()),
        Err(_) => wrong.push(IP.to_owned()),
    }
    wrong
}

/// An address that something else can be reached at.
pub fn endpoint_ip(value: &str, path: &Path, errors: &mut Errors) {
    let Some(address) = parse_ip(value) else {
        errors.invalid(path, value, "must be a valid IP address");
        return;
    };
    if address.is_unspecified() {
        errors.invalid(path, value, format!("may not be unspecified ({value})"));
    }
    if address.is_loopback() {
        errors.invalid(path, value, "may not be in the loopback range (127.0.0.0/8, ::1/128)");
    }
    let (unicast, multicast) = match address {
        IpAddr::V4(v4) => (v4.is_link_local(), v4.octets()[..3] == [224, 0, 0]),
        IpAddr::V6(v6) => {
            let [first, second, ..] = v6.octets();
            (first == 0xfe && second & 0xc0 == 0x80, first == 0xff && second & 0x0f == 2)
        }
    };
    if unicast {
        errors.invalid(path, value, "may not be in the link-local range (169.254.0.0/16, fe80::/10)");
    }
    if multicast {
        errors.invalid(path, value, "may not be in the link-local multicast range (224.0.0.0/24, ff02::/10)");
    }
}

/// Reads a network the lenient way; the address may have bits beyond the prefix.
pub fn parse_cidr(text: &str) -> Option<ipnet::IpNet> {
    let (address, length) = text.split_once('/')?;
    if length.is_empty() || !length.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    ipnet::IpNet::new(parse_ip(address)?, length.parse().ok()?).ok()
}

/// A network as old fields take it: in any form that means one network to everybody.
pub fn cidr(value: &str, path: &Path, errors: &mut Errors) -> Option<ipnet::IpNet> {
    let Some(parsed) = parse_cidr(value) else {
        errors.invalid(path, value, CIDR);
        return None;
    };
    let leading = has_leading_zeros(value);
    let mapped = matches!(parsed.addr(), IpAddr::V6(v6) if v6.to_ipv4_mapped().is_some());
    if leading {
        errors.invalid(path, value, "must not have leading 0s in IP or prefix length");
    } else if mapped {
        errors.invalid(path, value, "must not have an IPv4-mapped IPv6 address");
    } else if parsed.addr() != parsed.network() {
        errors.invalid(path, value, "must not have bits set beyond the prefix length");
    }
    Some(parsed)
}

/// A network in its canonical form.
pub fn strict_cidr(value: &str, path: &Path, errors: &mut Errors) -> Option<ipnet::IpNet> {
    let before = errors.len();
    let parsed = cidr(value, path, errors)?;
    if errors.len() == before && parsed.to_string() != value {
        errors.invalid(path, value, format!("must be in canonical form (\"{parsed}\")"));
    }
    Some(parsed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::invalid::said;

    #[test]
    fn addresses_are_read_leniently_or_strictly() {
        assert_eq!(parse_ip("010.0.0.1"), Some(IpAddr::from([10, 0, 0, 1])));
        assert_eq!(parse_ip("1.2.3"), None);
        for (text, wrong) in [
            ("10.0.0.1", None),
            ("010.0.0.1", Some("must not have leading 0s")),
            ("::ffff:1.2.3.4", Some("must not be an IPv4-mapped IPv6 address")),
            ("2001:DB8::1", Some("must be in canonical form (\"2001:db8::1\")")),
            ("x", Some(IP)),
        ] {
            assert_eq!(strict_ip(text).first().map(String::as_str), wrong, "{text}");
        }
    }

    #[test]
    fn addresses_of_endpoints_are_somewhere_else() {
        for (text, wrong) in [
            ("192.0.2.1", 0),
            ("127.0.0.1", 1),
            ("0.0.0.0", 1),
            ("169.254.1.1", 1),
            ("224.0.0.1", 1),
            ("fe80::1", 1),
            ("ff02::1", 1),
            ("x", 1),
        ] {
            assert_eq!(said(|e| endpoint_ip(text, &Path::new("f"), e)).len(), wrong, "{text}");
        }
    }

    #[test]
    fn networks_may_not_have_host_bits() {
        for (text, wrong) in [
            ("10.0.0.0/8", ""),
            (
                "10.0.0.1/8",
                "f: Invalid value: \"10.0.0.1/8\": must not have bits set beyond the prefix length",
            ),
            (
                "10.0.0.0/08",
                "f: Invalid value: \"10.0.0.0/08\": must not have leading 0s in IP or prefix length",
            ),
        ] {
            let found = said(|e| {
                strict_cidr(text, &Path::new("f"), e);
            });
            assert_eq!(found.join(""), wrong);
        }
    }

    #[test]
    fn addresses_in_odd_forms_are_noted() {
        for (address, wanted) in [
            ("10.0.0.1", None),
            ("::1", None),
            ("nothing", None),
            ("010.0.0.1", Some("p: non-standard IP address \"010.0.0.1\" is invalid: use \"10.0.0.1\"")),
            (
                "::ffff:1.2.3.4",
                Some("p: non-standard IP address \"::ffff:1.2.3.4\" is invalid: use \"1.2.3.4\""),
            ),
            ("::0001", Some("p: IPv6 address \"::0001\" should be in RFC 5952 canonical format (\"::1\")")),
        ] {
            let mut said = Vec::new();
            address_note(address, &Path::new("p"), &mut said);
            assert_eq!(said.first().map(String::as_str), wanted, "{address}");
        }
    }

    #[test]
    fn networks_in_odd_forms_are_noted() {
        for (network, wanted) in [
            ("10.0.0.0/8", vec![]),
            ("2001:db8::/32", vec![]),
            ("x", vec![]),
            (
                "10.0.0.1/8",
                vec![
                    "p: CIDR value \"10.0.0.1/8\" is ambiguous in this context (should be \"10.0.0.0/8\" or \
                     \"10.0.0.1/32\"?)",
                ],
            ),
            (
                "10.1.0.0/8",
                vec![
                    "p: CIDR value \"10.1.0.0/8\" is ambiguous in this context (should be \"10.0.0.0/8\" or \
                     \"10.1.0.0/32\"?)",
                ],
            ),
            (
                "10.0.0.0/08",
                vec!["p: non-standard CIDR value \"10.0.0.0/08\" is invalid: use \"10.0.0.0/8\""],
            ),
            (
                "010.0.0.0/8",
                vec!["p: non-standard CIDR value \"010.0.0.0/8\" is invalid: use \"10.0.0.0/8\""],
            ),
            (
                "2001:DB8::/32",
                vec![
                    "p: IPv6 CIDR value \"2001:DB8::/32\" should be in RFC 5952 canonical format \
                     (\"2001:db8::/32\")",
                ],
            ),
        ] {
            let mut said = Vec::new();
            range_note(network, &Path::new("p"), &mut said);
            assert_eq!(said, wanted, "{network}");
        }
    }
}
