//! Endpoints and EndpointSlice.

use std::collections::HashSet;

use serde_json::Value;

use super::checks::{self, ip, named, port_number, qualified};
use super::{Strategy, base};
use crate::api::invalid::{Errors, Path};
use crate::api::meta::{self, NameRule};
use crate::api::object::{default, list, list_mut, object_mut, text};

const PROTOCOLS: &[&str] = &["SCTP", "TCP", "UDP"];
/// Who writes Endpoints, as a label says.
const MANAGED_BY: &str = "endpoints.kubernetes.io/managed-by";
const CONTROLLER: &str = "endpoint-controller";
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
        warnings: |object, _, said| {
            // The controller writes addresses well, however they were written before.
            if text(object, &["metadata", "labels", MANAGED_BY]) == CONTROLLER {
                return;
            }
            for (i, subset) in list(object, &["subsets"]).iter().enumerate() {
                for which in ["addresses", "notReadyAddresses"] {
                    for (j, address) in list(subset, &[which]).iter().enumerate() {
                        let path = Path::new("subsets").index(i).child(which).index(j).child("ip");
                        checks::address_note(text(address, &["ip"]), &path, said);
                    }
                }
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

/// Drops the topology of endpoints that are new; this version of the API only shows it. A node's name in it
/// that was there before becomes the endpoint's. Whoever writes it has changed the object, if it is not kept.
fn without_topology(object: &mut Value, old: &Value) {
    const HOST: &str = "kubernetes.io/hostname";
    if object["endpoints"] == old["endpoints"] {
        return;
    }
    let mut dropped = false;
    let host = |endpoint: &Value| endpoint["deprecatedTopology"][HOST].as_str().map(str::to_owned);
    let known: Vec<String> = list(old, &["endpoints"]).iter().filter_map(host).collect();
    for endpoint in list_mut(object, &["endpoints"]) {
        let node = host(endpoint).filter(|name| {
            known.contains(name) && meta::name_errors(NameRule::Subdomain, name, false).is_empty()
        });
        let fields = object_mut(endpoint, &[]);
        let topology = fields.remove("deprecatedTopology");
        dropped |= topology.is_some_and(|topology| topology.as_object().is_some_and(|t| !t.is_empty()));
        if let Some(node) = node {
            default(fields, "nodeName", node);
        }
    }
    if dropped && !old.is_null() {
        let generation = old["metadata"]["generation"].as_i64().unwrap_or(0) + 1;
        object["metadata"]["generation"] = generation.into();
    }
}

pub(super) fn endpoint_slice() -> Strategy {
    Strategy {
        prepare_create: |object| without_topology(object, &Value::Null),
        prepare_update: without_topology,
        warnings: |object, old, said| {
            if old.is_none() && object["addressType"] == "FQDN" {
                said.push("spec.addressType: FQDN endpoints are deprecated".to_owned());
            }
        },
        defaults: |object| {
            for port in list_mut(object, &["ports"]) {
                let port = object_mut(port, &[]);
                default(port, "protocol", "TCP");
                port.entry("name").or_insert_with(|| "".into());
            }
        },
        validate: |object, errors| {
            let kinds = ["FQDN", "IPv4", "IPv6"];
            checks::required_choice(&object["addressType"], &kinds, &Path::new("addressType"), errors);
            slice_ports(list(object, &["ports"]), &Path::new("ports"), errors);
        },
        validate_create: slice_endpoints,
        validate_update: |new, old, errors| {
            // Older versions took more for good than this one; what is there may stay.
            if new["endpoints"] != old["endpoints"] {
                slice_endpoints(new, errors);
            }
            checks::immutable(&new["addressType"], &old["addressType"], &Path::new("addressType"), errors);
        },
        ..base()
    }
}

fn slice_endpoints(object: &Value, errors: &mut Errors) {
    let (endpoints, path) = (list(object, &["endpoints"]), Path::new("endpoints"));
    if endpoints.len() > ENDPOINTS_MAX {
        errors.too_many(&path, endpoints.len(), ENDPOINTS_MAX);
        return;
    }
    for (i, endpoint) in endpoints.iter().enumerate() {
        self::endpoint(endpoint, text(object, &["addressType"]), &path.index(i), errors);
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
            "IPv4" | "IPv6" => slice_address(address, kind, &at, i, errors),
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

/// An address of a family: IPv4 as old fields take it, IPv6 in its canonical form.
fn slice_address(address: &str, kind: &str, path: &Path, index: usize, errors: &mut Errors) {
    let (before, at) = (errors.len(), path.index(index));
    let parsed = if kind == "IPv4" {
        ip(address, &at, errors)
    } else {
        checks::strict_ip(address).into_iter().for_each(|wrong| errors.invalid(&at, address, wrong));
        checks::parse_ip(address)
    };
    let Some(parsed) = parsed.filter(|_| errors.len() == before) else { return };
    if parsed.is_ipv4() != (kind == "IPv4") {
        errors.invalid(path, address, format!("must be an {kind} address"));
    }
    checks::endpoint_ip(address, &at, errors);
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
        if port["protocol"].is_null() {
            errors.required(&path.child("protocol"), "");
        }
        checks::choice(&port["protocol"], PROTOCOLS, &path.child("protocol"), errors);
        if let Some(protocol) = port["appProtocol"].as_str() {
            qualified(protocol, &path.child("appProtocol"), errors);
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::api::invalid::said;

    #[test]
    fn endpoints_that_stay_are_not_looked_at_again() {
        let slice =
            |kind: &str, address: &str| json!({"addressType": kind, "endpoints": [{"addresses": [address]}]});
        let change = endpoint_slice().validate_update;
        let told = said(|errors| change(&slice("IPv6", "192.0.2.1"), &slice("IPv4", "192.0.2.1"), errors));
        assert_eq!(told, ["addressType: Invalid value: \"IPv6\": field is immutable"]);
        let told = said(|errors| change(&slice("IPv4", "fd00::1"), &slice("IPv4", "192.0.2.1"), errors));
        assert_eq!(told, ["endpoints[0].addresses: Invalid value: \"fd00::1\": must be an IPv4 address"]);
    }

    #[test]
    fn addresses_have_the_form_of_their_family() {
        for (kind, address, wrong) in [
            ("IPv4", "192.0.2.1", 0),
            ("IPv4", "192.0.2.01", 1),
            ("IPv4", "fd00::1", 1),
            ("IPv6", "fd00::1", 0),
            ("IPv6", "FD00::1", 1),
            ("IPv6", "::1", 1),
        ] {
            let told = said(|errors| slice_address(address, kind, &Path::new("a"), 0, errors));
            assert_eq!(told.len(), wrong, "{told:?}");
        }
    }

    #[test]
    fn topology_is_only_shown() {
        let topology = json!({"kubernetes.io/hostname": "n", "a": "b"});
        let old = json!({"endpoints": [{"addresses": ["192.0.2.1"], "deprecatedTopology": topology}]});
        let mut same = old.clone();
        without_topology(&mut same, &old);
        assert_eq!(same, old);
        let mut new = json!({"endpoints": [{"addresses": ["192.0.2.2"], "deprecatedTopology": topology}]});
        without_topology(&mut new, &old);
        let kept = json!([{"addresses": ["192.0.2.2"], "nodeName": "n"}]);
        assert_eq!(new, json!({"endpoints": kept, "metadata": {"generation": 1}}));
        new = json!({"endpoints": [{"deprecatedTopology": topology}]});
        without_topology(&mut new, &Value::Null);
        assert_eq!(new, json!({"endpoints": [{}]}));
    }
}
