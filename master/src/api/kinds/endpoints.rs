//! Endpoints and EndpointSlice.

use std::collections::HashSet;

use serde_json::Value;

use super::checks::{self, ip, named, port_number, qualified};
use super::{Strategy, base};
use crate::api::invalid::{Errors, Path};
use crate::api::meta::{self, NameRule};
use crate::api::object::{default, list, list_mut, object_mut, text};

const PROTOCOLS: &[&str] = &["SCTP", "TCP", "UDP"];
const ENDPOINTS_MAX: usize = 1000;
const PORTS_MAX: usize = 20000;
const ADDRESSES_MAX: usize = 100;
const ZONES_MAX: usize = 8;

pub(super) fn endpoints() -> Strategy {
    Strategy {
        defaults: |object| {
            for subset in list_mut(object, &["subsets"]) {
                for port in list_mut(subset, &["ports"]) {
                    default(object_mut(port, &[]), "protocol", "TCP");
                }
            }
        },
        validate: |object, errors| {
            for (i, subset) in list(object, &["subsets"]).iter().enumerate() {
                self::subset(subset, &Path::new("subsets").index(i), errors);
            }
        },
        ..base()
    }
}

fn subset(subset: &Value, path: &Path, errors: &mut Errors) {
    if list(subset, &["addresses"]).is_empty() && list(subset, &["notReadyAddresses"]).is_empty() {
        errors.required(path, "must specify `addresses` or `notReadyAddresses`");
    }
    for kind in ["addresses", "notReadyAddresses"] {
        for (i, address) in list(subset, &[kind]).iter().enumerate() {
            let path = path.child(kind).index(i);
            ip(text(address, &["ip"]), &path.child("ip"), errors);
            checks::named_if_set(NameRule::Label, address, "hostname", &path, errors);
            if let Some(node) = address["nodeName"].as_str() {
                named(NameRule::Subdomain, node, &path.child("nodeName"), errors);
            }
            checks::endpoint_ip(text(address, &["ip"]), &path.child("ip"), errors);
        }
    }
    let ports = list(subset, &["ports"]);
    for (i, port) in ports.iter().enumerate() {
        let path = path.child("ports").index(i);
        match text(port, &["name"]) {
            "" if ports.len() > 1 => errors.required(&path.child("name"), ""),
            "" => {}
            name => named(NameRule::Label, name, &path.child("name"), errors),
        }
        port_number(port["port"].as_i64().unwrap_or(0), &path.child("port"), errors);
        checks::required_choice(&port["protocol"], PROTOCOLS, &path.child("protocol"), errors);
        if let Some(protocol) = port["appProtocol"].as_str() {
            qualified(protocol, &path.child("appProtocol"), errors);
        }
    }
}

pub(super) fn endpoint_slice() -> Strategy {
    Strategy {
        defaults: |object| {
            for port in list_mut(object, &["ports"]) {
                let port = object_mut(port, &[]);
                default(port, "protocol", "TCP");
                port.entry("name").or_insert_with(|| "".into());
            }
        },
        validate: |object, errors| {
            let kind = text(object, &["addressType"]);
            checks::required_choice(
                &object["addressType"],
                &["FQDN", "IPv4", "IPv6"],
                &Path::new("addressType"),
                errors,
            );
            let endpoints = list(object, &["endpoints"]);
            let path = Path::new("endpoints");
            if endpoints.len() > ENDPOINTS_MAX {
                errors.too_many(&path, endpoints.len(), ENDPOINTS_MAX);
            } else {
                for (i, endpoint) in endpoints.iter().enumerate() {
                    self::endpoint(endpoint, kind, &path.index(i), errors);
                }
            }
            slice_ports(list(object, &["ports"]), &Path::new("ports"), errors);
        },
        validate_update: |new, old, errors| {
            checks::immutable(&new["addressType"], &old["addressType"], &Path::new("addressType"), errors);
        },
        ..base()
    }
}

fn endpoint(endpoint: &Value, kind: &str, path: &Path, errors: &mut Errors) {
    let at = path.child("addresses");
    let addresses = list(endpoint, &["addresses"]);
    if addresses.is_empty() {
        errors.required(&at, "must contain at least 1 address");
    } else if addresses.len() > ADDRESSES_MAX {
        errors.too_many(&at, addresses.len(), ADDRESSES_MAX);
    }
    for (i, address) in addresses.iter().filter_map(Value::as_str).enumerate() {
        match kind {
            "IPv4" | "IPv6" => match checks::parse_ip(address) {
                None => drop(ip(address, &at.index(i), errors)),
                Some(parsed) if parsed.is_ipv4() != (kind == "IPv4") => {
                    errors.invalid(&at, address, format!("must be an {kind} address"));
                }
                Some(_) => checks::endpoint_ip(address, &at.index(i), errors),
            },
            "FQDN" => {
                let name = address.strip_suffix('.').unwrap_or(address);
                checks::fully_qualified(name, 2, &at.index(i), errors);
            }
            _ => {}
        }
    }
    if let Some(node) = endpoint["nodeName"].as_str() {
        named(NameRule::Subdomain, node, &path.child("nodeName"), errors);
    }
    meta::labels(&endpoint["deprecatedTopology"], &path.child("deprecatedTopology"), errors);
    if let Some(host) = endpoint["hostname"].as_str() {
        named(NameRule::Label, host, &path.child("hostname"), errors);
    }
    hints(&endpoint["hints"], &path.child("hints"), errors);
}

fn hints(hints: &Value, path: &Path, errors: &mut Errors) {
    for field in ["forZones", "forNodes"] {
        let path = path.child(field);
        let found = list(hints, &[field]);
        if found.len() > ZONES_MAX {
            errors.too_many(&path, found.len(), ZONES_MAX);
            return;
        }
        let mut names = HashSet::new();
        for (i, hint) in found.iter().enumerate() {
            let (name, at) = (text(hint, &["name"]), path.index(i).child("name"));
            if !names.insert(name) {
                errors.duplicate(&at, name);
            }
            let wrong = match field {
                "forZones" => protocol::selector::label_value_error(name),
                _ => meta::name_errors(NameRule::Subdomain, name, false),
            };
            for error in wrong {
                errors.invalid(&at, name, error);
            }
        }
    }
}

fn slice_ports(ports: &[Value], path: &Path, errors: &mut Errors) {
    if ports.len() > PORTS_MAX {
        errors.too_many(path, ports.len(), PORTS_MAX);
        return;
    }
    let mut names = HashSet::new();
    for (i, port) in ports.iter().enumerate() {
        let path = path.index(i);
        let name = text(port, &["name"]);
        if !name.is_empty() {
            named(NameRule::Label, name, &path.child("name"), errors);
        }
        if !names.insert(name) {
            errors.duplicate(&path.child("name"), name);
        }
        // The port's number is whatever the endpoint says; upstream does not look at it either.
        checks::required_choice(&port["protocol"], PROTOCOLS, &path.child("protocol"), errors);
        if let Some(protocol) = port["appProtocol"].as_str() {
            qualified(protocol, &path.child("appProtocol"), errors);
        }
    }
}
