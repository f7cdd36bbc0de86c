//! What the validation of several kinds has in common: names, choices, numbers, addresses, ports, selectors.
//!
//! Each function adds what it finds to the errors, with upstream's words and at upstream's path.

use std::net::{IpAddr, Ipv4Addr};

use protocol::Quantity;
use protocol::schema::{self, internal};
use protocol::selector::{label_value_error, qualified_name_error};
use serde_json::Value;

pub use crate::api::invalid::internal;
use crate::api::invalid::{Errors, Path, go_quote};
use crate::api::meta::{self, NameRule, name_errors};
use crate::api::object::{list, text};

/// "Must not be negative", as upstream says it.
pub const NOT_NEGATIVE: &str = "must be greater than or equal to 0";
/// "Must be positive", as upstream says it.
pub const POSITIVE: &str = "must be greater than zero";
/// "Must not change", as upstream says it.
pub const IMMUTABLE: &str = "field is immutable";
const IP: &str = "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)";
const CIDR: &str = "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)";
const PERCENT: &str = "a valid percent string must be a numeric string followed by an ending '%' (e.g. '1%',  or \
'93%', regex used for validation is '[0-9]+%')";
const WILDCARD: &str = "a wildcard DNS-1123 subdomain must start with '*.', followed by a valid DNS subdomain, which \
must consist of lower case alphanumeric characters, '-' or '.' and end with an alphanumeric character (e.g. \
'*.example.com', regex used for validation is '\\*\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')";
const C_IDENTIFIER: &str = "a valid C identifier must start with alphabetic character or '_', followed by a string of \
alphanumeric characters or '_' (e.g. 'my_name',  or 'MY_NAME',  or 'MyName', regex used for validation is \
'[A-Za-z_][A-Za-z0-9_]*')";

/// What changed between two values, as lines of their internal structs.
pub fn internal_diff(definition: &str, old: &Value, new: &Value) -> String {
    match schema::definition(definition) {
        Some(definition) => internal::internal(definition, old).diff(&internal::internal(definition, new)),
        None => String::new(),
    }
}

/// The same of some fields alone.
pub fn internal_diff_of(definition: &str, fields: &[&str], old: &Value, new: &Value) -> String {
    match schema::definition(definition) {
        Some(definition) => {
            let part = |value| internal::part(definition, fields, value);
            part(old).diff(&part(new))
        }
        None => String::new(),
    }
}

/// A label selector with its fields in Go's order.
pub fn shown_selector(value: &Value) -> String {
    if value.is_null() { "null".to_owned() } else { internal("m.LabelSelector", value) }
}

/// A field that must not change.
pub fn immutable(new: &Value, old: &Value, path: &Path, errors: &mut Errors) {
    if new != old {
        errors.invalid(path, new.clone(), IMMUTABLE);
    }
}

/// A struct that must not change.
pub fn immutable_struct(definition: &str, new: &Value, old: &Value, path: &Path, errors: &mut Errors) {
    if new != old {
        let shown =
            if new.is_null() { "null".to_owned() } else { errors.shown_struct(path, definition, new) };
        errors.invalid_shown(path, &shown, IMMUTABLE);
    }
}

/// A number that must not be negative.
pub fn non_negative(value: &Value, path: &Path, errors: &mut Errors) {
    if value.as_i64().is_some_and(|n| n < 0) {
        errors.invalid(path, value.clone(), NOT_NEGATIVE);
    }
}

/// A number that must be positive.
pub fn positive(value: &Value, path: &Path, errors: &mut Errors) {
    if value.as_i64().is_some_and(|n| n <= 0) {
        errors.invalid(path, value.clone(), POSITIVE);
    }
}

/// Several fields of one object that must not be negative, in this order.
pub fn all_non_negative(object: &Value, names: &[&str], path: &Path, errors: &mut Errors) {
    for name in names {
        non_negative(&object[*name], &path.child(name), errors);
    }
}

/// A number within a range.
pub fn in_range(value: &Value, min: i64, max: i64, path: &Path, errors: &mut Errors) {
    if value.as_i64().is_some_and(|n| !(min..=max).contains(&n)) {
        errors.invalid(path, value.clone(), format!("must be between {min} and {max}, inclusive"));
    }
}

/// A text that must be one of some, where it is there at all.
pub fn choice(value: &Value, supported: &[&str], path: &Path, errors: &mut Errors) {
    if let Some(given) = value.as_str()
        && !supported.contains(&given)
    {
        errors.unsupported(path, given, supported);
    }
}

/// A text that must be there and be one of some.
pub fn required_choice(value: &Value, supported: &[&str], path: &Path, errors: &mut Errors) {
    match value.as_str().unwrap_or_default() {
        "" => errors.required(path, ""),
        given if !supported.contains(&given) => errors.unsupported(path, given, supported),
        _ => {}
    }
}

/// The same, where what is missing is told what it could be.
pub fn required_one_of(value: &Value, supported: &[&str], path: &Path, errors: &mut Errors) {
    if value.as_str().is_none_or(str::is_empty) {
        let known: Vec<String> = supported.iter().map(|known| go_quote(known)).collect();
        errors.required(path, &format!("valid values: [{}]", known.join(" ")));
    } else {
        choice(value, supported, path, errors);
    }
}

/// A text that must be there.
pub fn required(object: &Value, name: &str, path: &Path, errors: &mut Errors) {
    if text(object, &[name]).is_empty() {
        errors.required(&path.child(name), "");
    }
}

/// A name of some form.
pub fn named(rule: NameRule, value: &str, path: &Path, errors: &mut Errors) {
    for error in name_errors(rule, value, false) {
        errors.invalid(path, value, error);
    }
}

/// A name of some form, where there is one.
pub fn named_if_set(rule: NameRule, object: &Value, name: &str, path: &Path, errors: &mut Errors) {
    let value = text(object, &[name]);
    if !value.is_empty() {
        named(rule, value, &path.child(name), errors);
    }
}

/// A name that must be there and have some form.
pub fn required_name(rule: NameRule, object: &Value, name: &str, path: &Path, errors: &mut Errors) {
    match text(object, &[name]) {
        "" => errors.required(&path.child(name), ""),
        value => named(rule, value, &path.child(name), errors),
    }
}

/// A qualified name, such as a label's key.
pub fn qualified(value: &str, path: &Path, errors: &mut Errors) {
    for error in qualified_name_error(value) {
        errors.invalid(path, value, error);
    }
}

/// A name with a domain before a slash: `acme.io/foo`.
pub fn domain_prefixed_path(value: &str, path: &Path, errors: &mut Errors) {
    if value.is_empty() {
        errors.required(path, "");
        return;
    }
    let Some((host, rest)) = value.split_once('/').filter(|(h, r)| !h.is_empty() && !r.is_empty()) else {
        errors.invalid(path, value, "must be a domain-prefixed path (such as \"acme.io/foo\")");
        return;
    };
    for error in name_errors(NameRule::Subdomain, host, false) {
        errors.invalid(path, host, error);
    }
    let plain = |c: char| c.is_ascii_alphanumeric() || "/%-._~!$&'()*+,;=:".contains(c);
    if !rest.chars().all(plain) {
        errors.invalid(
            path,
            rest,
            "Invalid path (regex used for validation is '[A-Za-z0-9/\\-._~%!$&'()*+,;=:]+')",
        );
    }
}

/// A fully qualified domain name: labels joined by dots, two at least.
pub fn fully_qualified(value: &str, segments_min: usize, path: &Path, errors: &mut Errors) {
    if value.is_empty() {
        errors.required(path, "");
        return;
    }
    let wrong = name_errors(NameRule::Subdomain, value, false);
    if !wrong.is_empty() {
        wrong.into_iter().for_each(|e| errors.invalid(path, value, e));
        return;
    }
    if value.split('.').count() < segments_min {
        let words = if segments_min == 3 { "three" } else { "two" };
        errors.invalid(
            path,
            value,
            format!("should be a domain with at least {words} segments separated by dots"),
        );
    }
}

/// A DNS name that begins with `*.`.
pub fn wildcard(value: &str, path: &Path, errors: &mut Errors) {
    if value.len() > 253 {
        errors.invalid(path, value, "must be no more than 253 characters");
    }
    let fine =
        value.strip_prefix("*.").is_some_and(|rest| name_errors(NameRule::Subdomain, rest, false).is_empty());
    if !fine {
        errors.invalid(path, value, WILDCARD);
    }
}

/// A C identifier.
pub fn c_identifier(value: &str, path: &Path, errors: &mut Errors) {
    let first = value.bytes().next().is_some_and(|b| b.is_ascii_alphabetic() || b == b'_');
    if !first || !value.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') {
        errors.invalid(path, value, C_IDENTIFIER);
    }
}

/// What is wrong with the name of an environment variable.
pub fn env_name_errors(name: &str) -> Option<&'static str> {
    let printable = !name.is_empty() && name.bytes().all(|b| (0x20..0x7f).contains(&b) && b != b'=');
    (!printable).then_some(
        "a valid environment variable name must consist only of printable ASCII characters other than '='",
    )
}

/// What is wrong with a key of a config map or secret.
pub fn config_key_errors(key: &str) -> Vec<String> {
    let mut errors = Vec::new();
    if key.len() > 253 {
        errors.push("must be no more than 253 characters".to_owned());
    }
    if key.is_empty() || !key.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.')) {
        errors.push(
            "a valid config key must consist of alphanumeric characters, '-', '_' or '.' (e.g. 'key.name',  or \
             'KEY_NAME',  or 'key-name', regex used for validation is '[-._a-zA-Z0-9]+')"
                .to_owned(),
        );
    } else if key == "." {
        errors.push("must not be '.'".to_owned());
    } else if key == ".." {
        errors.push("must not be '..'".to_owned());
    } else if key.starts_with("..") {
        errors.push("must not start with '..'".to_owned());
    }
    errors
}

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

/// The range of a port number.
pub fn port_number(number: i64, path: &Path, errors: &mut Errors) {
    if !(1..=65535).contains(&number) {
        errors.invalid(path, number, "must be between 1 and 65535, inclusive");
    }
}

/// What is wrong with a port's name.
pub fn port_name_errors(name: &str) -> Vec<&'static str> {
    let mut errors = Vec::new();
    if name.len() > 15 {
        errors.push("must be no more than 15 characters");
    }
    if !name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-') || name.is_empty() {
        errors.push("must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)");
    }
    if !name.bytes().any(|b| b.is_ascii_lowercase()) {
        errors.push("must contain at least one letter (a-z)");
    }
    if name.contains("--") {
        errors.push("must not contain consecutive hyphens");
    }
    if name.starts_with('-') || name.ends_with('-') {
        errors.push("must not begin or end with a hyphen");
    }
    errors
}

/// A port: a number, or a name.
pub fn port(value: &Value, path: &Path, errors: &mut Errors) {
    match value {
        Value::String(name) => {
            for error in port_name_errors(name) {
                errors.invalid(path, name.as_str(), error);
            }
        }
        number => port_number(number.as_i64().unwrap_or(0), path, errors),
    }
}

/// The amount of a quantity.
pub fn amount(value: &Value) -> Option<Quantity> {
    value.as_str()?.parse().ok()
}

/// A quantity that must not be negative.
pub fn quantity(value: &Value, path: &Path, errors: &mut Errors) {
    if amount(value).is_some_and(|q| q.is_negative()) {
        errors.invalid(path, value.clone(), NOT_NEGATIVE);
    }
}

/// A quantity that must be positive.
pub fn positive_quantity(value: &Value, path: &Path, errors: &mut Errors) {
    if amount(value).is_some_and(|q| q.is_negative() || q.is_zero()) {
        errors.invalid(path, value.clone(), POSITIVE);
    }
}

/// The number of a percentage.
pub fn percent(value: &Value) -> Option<i64> {
    let digits = value.as_str()?.strip_suffix('%')?;
    digits.bytes().all(|b| b.is_ascii_digit()).then(|| digits.parse().ok())?
}

/// A value that is a number or a percentage, not negative.
pub fn int_or_percent(value: &Value, path: &Path, errors: &mut Errors) {
    match value {
        Value::String(text) => {
            let digits = text.strip_suffix('%');
            if digits.is_none_or(|d| d.is_empty() || !d.bytes().all(|b| b.is_ascii_digit())) {
                errors.invalid(path, text.as_str(), PERCENT);
            }
        }
        number => non_negative(number, path, errors),
    }
}

/// A percentage of at most a hundred.
pub fn at_most_all(value: &Value, path: &Path, errors: &mut Errors) {
    if percent(value).is_some_and(|p| p > 100) {
        errors.invalid(path, value.clone(), "must not be greater than 100%");
    }
}

/// A label selector field.
pub fn label_selector(selector: &Value, path: &Path, errors: &mut Errors) {
    meta::labels(&selector["matchLabels"], &path.child("matchLabels"), errors);
    for (i, expression) in list(selector, &["matchExpressions"]).iter().enumerate() {
        let path = path.child("matchExpressions").index(i);
        let (operator, values) = (text(expression, &["operator"]), list(expression, &["values"]));
        match operator {
            "In" | "NotIn" if values.is_empty() => {
                errors
                    .required(&path.child("values"), "must be specified when `operator` is 'In' or 'NotIn'");
            }
            "Exists" | "DoesNotExist" if !values.is_empty() => {
                errors.forbidden(
                    &path.child("values"),
                    "may not be specified when `operator` is 'Exists' or 'DoesNotExist'",
                );
            }
            "In" | "NotIn" | "Exists" | "DoesNotExist" => {}
            other => errors.invalid(&path.child("operator"), other, "not a valid selector operator"),
        }
        qualified(text(expression, &["key"]), &path.child("key"), errors);
        for (j, value) in values.iter().filter_map(Value::as_str).enumerate() {
            for error in label_value_error(value) {
                errors.invalid(&path.child("values").index(j), value, error);
            }
        }
    }
}

/// Whether a label selector says nothing.
pub fn selects_all(selector: &Value) -> bool {
    selector["matchLabels"].as_object().is_none_or(serde_json::Map::is_empty)
        && list(selector, &["matchExpressions"]).is_empty()
}

/// A node selector.
pub fn node_selector(selector: &Value, path: &Path, errors: &mut Errors) {
    let (terms, path) = (list(selector, &["nodeSelectorTerms"]), path.child("nodeSelectorTerms"));
    if terms.is_empty() {
        errors.required(&path, "must have at least one node selector term");
    }
    for (i, term) in terms.iter().enumerate() {
        node_term(term, true, &path.index(i), errors);
    }
}

/// One term of a node selector; `strict` where values must be such as labels can have.
pub fn node_term(term: &Value, strict: bool, path: &Path, errors: &mut Errors) {
    for (j, requirement) in list(term, &["matchExpressions"]).iter().enumerate() {
        let path = path.child("matchExpressions").index(j);
        let (operator, values) = (text(requirement, &["operator"]), list(requirement, &["values"]));
        match operator {
            "In" | "NotIn" if values.is_empty() => {
                errors
                    .required(&path.child("values"), "must be specified when `operator` is 'In' or 'NotIn'");
            }
            "Exists" | "DoesNotExist" if !values.is_empty() => {
                errors.forbidden(
                    &path.child("values"),
                    "may not be specified when `operator` is 'Exists' or 'DoesNotExist'",
                );
            }
            "Gt" | "Lt" if values.len() != 1 => {
                errors.required(
                    &path.child("values"),
                    "must be specified single value when `operator` is 'Lt' or 'Gt'",
                );
            }
            "In" | "NotIn" | "Exists" | "DoesNotExist" | "Gt" | "Lt" => {}
            other => errors.invalid(&path.child("operator"), other, "not a valid selector operator"),
        }
        qualified(text(requirement, &["key"]), &path.child("key"), errors);
        for (k, value) in values.iter().filter_map(Value::as_str).enumerate().filter(|_| strict) {
            for error in label_value_error(value) {
                errors.invalid(&path.child("values").index(k), value, error);
            }
        }
    }
    for (j, requirement) in list(term, &["matchFields"]).iter().enumerate() {
        node_field(requirement, &path.child("matchFields").index(j), errors);
    }
}

fn node_field(requirement: &Value, path: &Path, errors: &mut Errors) {
    let (operator, values) = (text(requirement, &["operator"]), list(requirement, &["values"]));
    if !["In", "NotIn"].contains(&operator) {
        errors.invalid(&path.child("operator"), operator, "not a valid selector operator");
    } else if values.len() != 1 {
        errors.required(
            &path.child("values"),
            "must be only one value when `operator` is 'In' or 'NotIn' for node field selector",
        );
    }
    if text(requirement, &["key"]) == "metadata.name" {
        for (k, value) in values.iter().filter_map(Value::as_str).enumerate() {
            named(NameRule::Subdomain, value, &path.child("values").index(k), errors);
        }
    } else {
        let key = text(requirement, &["key"]);
        errors.invalid(&path.child("key"), key, "not a valid field selector key");
    }
}

/// A path without `..` in it.
pub fn no_backsteps(value: &str, path: &Path, errors: &mut Errors) {
    if value.split('/').any(|part| part == "..") {
        errors.invalid(path, value, "must not contain '..'");
    }
}

/// A path that stays below where it begins.
pub fn descending(value: &str, path: &Path, errors: &mut Errors) {
    if value.starts_with('/') {
        errors.invalid(path, value, "must be a relative path");
    }
    no_backsteps(value, path, errors);
}

/// As [`descending`], and no name of its own begins with two dots.
pub fn non_reserved_descending(value: &str, path: &Path, errors: &mut Errors) {
    descending(value, path, errors);
    if value.starts_with("..") && !value.starts_with("../") {
        errors.invalid(path, value, "must not start with '..'");
    }
}

/// Conditions of a status, as the meta package has them.
pub fn conditions(conditions: &[Value], path: &Path, errors: &mut Errors) {
    let mut types: Vec<&str> = Vec::new();
    for (i, condition) in conditions.iter().enumerate() {
        let path = path.index(i);
        let kind = text(condition, &["type"]);
        if types.contains(&kind) {
            errors.duplicate(&path.child("type"), kind);
        }
        types.push(kind);
        qualified(kind, &path.child("type"), errors);
        required_or_choice(condition, &path, errors);
        if let Some(generation) = condition["observedGeneration"].as_i64().filter(|g| *g < 0) {
            let path = path.child("observedGeneration");
            errors.invalid(&path, generation, "must be greater than or equal to zero");
        }
        if text(condition, &["lastTransitionTime"]).is_empty() {
            errors.required(&path.child("lastTransitionTime"), "");
        }
        let reason = text(condition, &["reason"]);
        if reason.is_empty() {
            errors.required(&path.child("reason"), "");
        } else {
            let fine = reason.bytes().next().is_some_and(|b| b.is_ascii_alphabetic())
                && reason.bytes().all(|b| b.is_ascii_alphanumeric() || b"_,:".contains(&b))
                && reason.bytes().last().is_some_and(|b| b.is_ascii_alphanumeric() || b == b'_');
            if !fine {
                errors.invalid(
                    &path.child("reason"),
                    reason,
                    "a condition reason must start with alphabetic character, optionally followed by a string of \
                     alphanumeric characters or '_,:', and must end with an alphanumeric character or '_' (e.g. \
                     'my_name',  or 'MY_NAME',  or 'MyName',  or 'ReasonA,ReasonB',  or 'ReasonA:ReasonB', regex \
                     used for validation is '[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?')",
                );
            }
            if reason.len() > 1024 {
                errors.too_long(&path.child("reason"), 1024);
            }
        }
        if text(condition, &["message"]).len() > 32 * 1024 {
            errors.too_long(&path.child("message"), 32 * 1024);
        }
    }
}

fn required_or_choice(condition: &Value, path: &Path, errors: &mut Errors) {
    let status = text(condition, &["status"]);
    if !["True", "False", "Unknown"].contains(&status) {
        errors.unsupported(&path.child("status"), status, &["False", "True", "Unknown"]);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn messages(check: impl Fn(&Path, &mut Errors)) -> Vec<String> {
        let mut errors = Errors::default();
        check(&Path::new("f"), &mut errors);
        errors.messages()
    }

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
            assert_eq!(messages(|p, e| endpoint_ip(text, p, e)).len(), wrong, "{text}");
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
            let said = messages(|p, e| {
                strict_cidr(text, p, e);
            });
            assert_eq!(said.join(""), wrong);
        }
    }

    #[test]
    fn networks_in_odd_forms_are_noted() {
        for (range, wanted) in [
            ("10.0.0.0/8", None),
            ("2001:db8::/32", None),
            ("x", None),
            (
                "2001:DB8::/32",
                Some(
                    "p: IPv6 CIDR value \"2001:DB8::/32\" should be in RFC 5952 canonical format (\"2001:db8::/32\")",
                ),
            ),
            (
                "10.1.0.0/8",
                Some(
                    "p: CIDR value \"10.1.0.0/8\" is ambiguous in this context (should be \"10.0.0.0/8\" or \
                     \"10.1.0.0/32\"?)",
                ),
            ),
            (
                "10.0.0.0/08",
                Some("p: non-standard CIDR value \"10.0.0.0/08\" is invalid: use \"10.0.0.0/8\""),
            ),
        ] {
            let mut said = Vec::new();
            range_note(range, &Path::new("p"), &mut said);
            assert_eq!(said.first().map(String::as_str), wanted);
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
    fn odd_networks_are_noted() {
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

    #[test]
    fn what_is_missing_is_told_what_it_could_be() {
        let said = |value: Value| messages(|p, e| required_one_of(&value, &["In", "NotIn"], p, e));
        assert!(said(json!("In")).is_empty());
        assert!(said(json!(null))[0].ends_with("Required value: valid values: [\"In\" \"NotIn\"]"));
        assert!(said(json!("x"))[0].contains("Unsupported value: \"x\""));
    }

    #[test]
    fn percentages_have_a_form_and_a_limit() {
        assert_eq!(percent(&json!("25%")), Some(25));
        assert_eq!(percent(&json!("25")), None);
        assert_eq!(messages(|p, e| int_or_percent(&json!("10"), p, e)).len(), 1);
        assert_eq!(messages(|p, e| int_or_percent(&json!(-1), p, e)).len(), 1);
        assert_eq!(messages(|p, e| at_most_all(&json!("101%"), p, e)).len(), 1);
    }

    #[test]
    fn controllers_have_a_domain() {
        for (text, wrong) in [("a.io/b", 0), ("golden", 1), ("A/b", 1), ("a.io/b c", 1), ("", 1)] {
            assert_eq!(messages(|p, e| domain_prefixed_path(text, p, e)).len(), wrong, "{text}");
        }
    }
}
