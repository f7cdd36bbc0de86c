//! Service, Endpoints, EndpointSlice, NetworkPolicy.

use std::collections::HashSet;

use serde_json::{Map, Value, json};

use super::containers::{port_name_errors, port_number};
use super::{Strategy, base, immutable};
use crate::api::invalid::{Errors, Path};
use crate::api::meta::{self, NameRule, name_errors};
use crate::api::object::{default, list, list_mut, object_mut, text};

fn path(name: &str) -> Path {
    Path::new("spec").child(name)
}

pub(super) fn service() -> Strategy {
    Strategy {
        names: NameRule::Label1035,
        defaults: service_defaults,
        prepare_create: |object| object["status"] = json!({"loadBalancer": {}}),
        prepare_update: keep_addresses,
        validate: service_validate,
        validate_update: |new, old, errors| {
            let (before, after) = (text(old, &["spec", "clusterIP"]), text(new, &["spec", "clusterIP"]));
            let external = |s: &Value| text(s, &["spec", "type"]) == "ExternalName";
            if !external(new) && !external(old) && !before.is_empty() && after != before {
                errors.invalid(
                    &path("clusterIPs").index(0),
                    list(new, &["spec", "clusterIPs"]).to_vec(),
                    "may not change once set",
                );
            }
        },
        ..base()
    }
}

fn service_defaults(object: &mut Value) {
    let spec = object_mut(object, &["spec"]);
    default(spec, "sessionAffinity", "None");
    default(spec, "type", "ClusterIP");
    let kind = spec["type"].as_str().unwrap_or_default().to_owned();
    if spec.get("sessionAffinity").is_some_and(|a| a == "ClientIP") {
        let client = object_mut(object, &["spec", "sessionAffinityConfig", "clientIP"]);
        default(client, "timeoutSeconds", 10800);
    } else {
        spec.remove("sessionAffinityConfig");
    }
    let spec = object_mut(object, &["spec"]);
    if kind == "NodePort" || kind == "LoadBalancer" {
        default(spec, "externalTrafficPolicy", "Cluster");
    }
    if kind == "LoadBalancer" {
        default(spec, "allocateLoadBalancerNodePorts", true);
    }
    if kind != "ExternalName" {
        default(spec, "internalTrafficPolicy", "Cluster");
    }
    for port in list_mut(object, &["spec", "ports"]) {
        let unset = match &port["targetPort"] {
            Value::Null => true,
            Value::Number(n) => n.as_i64() == Some(0),
            Value::String(s) => s.is_empty(),
            _ => false,
        };
        if unset {
            port["targetPort"] = port["port"].clone();
        }
    }
}

/// An update that does not name the addresses and ports that were assigned keeps them.
fn keep_addresses(new: &mut Value, old: &Value) {
    let kind = text(new, &["spec", "type"]).to_owned();
    let same_family = kind != "ExternalName" && text(old, &["spec", "type"]) != "ExternalName";
    if same_family {
        for name in ["clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy"] {
            let absent = match &new["spec"][name] {
                Value::Null => true,
                Value::String(s) => s.is_empty(),
                Value::Array(a) => a.is_empty(),
                _ => false,
            };
            if absent && !old["spec"][name].is_null() {
                new["spec"][name] = old["spec"][name].clone();
            }
        }
    }
    if kind == "NodePort" || kind == "LoadBalancer" {
        let old_ports = list(old, &["spec", "ports"]).to_vec();
        let used: HashSet<i64> =
            list(new, &["spec", "ports"]).iter().filter_map(|p| p["nodePort"].as_i64()).collect();
        for port in list_mut(new, &["spec", "ports"]) {
            if port["nodePort"].as_i64().unwrap_or(0) != 0 {
                continue;
            }
            let same =
                |o: &&Value| o["port"] == port["port"] && text(o, &["protocol"]) == text(port, &["protocol"]);
            let before = old_ports
                .iter()
                .find(same)
                .and_then(|o| o["nodePort"].as_i64())
                .filter(|n| !used.contains(n));
            if let Some(number) = before.filter(|n| *n != 0) {
                port["nodePort"] = number.into();
            }
        }
    } else if text(old, &["spec", "type"]) != kind {
        // Ports of the old type that the client merely sent back.
        let old_ports = list(old, &["spec", "ports"]).to_vec();
        for port in list_mut(new, &["spec", "ports"]) {
            if old_ports.iter().any(|o| o["nodePort"] == port["nodePort"])
                && let Some(fields) = port.as_object_mut()
            {
                fields.remove("nodePort");
            }
        }
        for name in ["externalTrafficPolicy", "allocateLoadBalancerNodePorts", "healthCheckNodePort"] {
            if new["spec"][name] == old["spec"][name] {
                object_mut(new, &["spec"]).remove(name);
            }
        }
    }
    if kind == "ExternalName" && text(old, &["spec", "type"]) != "ExternalName" {
        for name in ["clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy", "internalTrafficPolicy"] {
            if new["spec"][name] == old["spec"][name] {
                object_mut(new, &["spec"]).remove(name);
            }
        }
    }
}

fn service_validate(object: &Value, errors: &mut Errors) {
    let spec = &object["spec"];
    let kind = text(spec, &["type"]);
    let headless = text(spec, &["clusterIP"]) == "None";
    let ports = list(spec, &["ports"]);
    if ports.is_empty() && !headless && kind != "ExternalName" {
        errors.required(&path("ports"), "");
    }
    match kind {
        "ExternalName" => {
            let name = text(spec, &["externalName"]).trim_end_matches('.');
            if name.is_empty() {
                errors.required(&path("externalName"), "");
            } else {
                for error in name_errors(NameRule::Subdomain, name, false) {
                    errors.invalid(&path("externalName"), name, error);
                }
            }
        }
        "LoadBalancer" | "NodePort" if headless => {
            let message = format!("may not be set to 'None' for {kind} services");
            errors.invalid(&path("clusterIPs").index(0), "None", message);
        }
        "ClusterIP" | "LoadBalancer" | "NodePort" => {}
        other => errors.unsupported(
            &path("type"),
            other,
            &["ClusterIP", "ExternalName", "LoadBalancer", "NodePort"],
        ),
    }
    let mut names = HashSet::new();
    for (i, port) in ports.iter().enumerate() {
        service_port(port, ports.len() > 1, kind, &mut names, &path("ports").index(i), errors);
    }
    duplicates(ports, errors);
    meta::labels(&spec["selector"], &path("selector"), errors);
    let affinity = text(spec, &["sessionAffinity"]);
    if affinity.is_empty() {
        errors.required(&path("sessionAffinity"), "");
    } else if !["ClientIP", "None"].contains(&affinity) {
        errors.unsupported(&path("sessionAffinity"), affinity, &["ClientIP", "None"]);
    }
    if let Some(seconds) = spec["sessionAffinityConfig"]["clientIP"]["timeoutSeconds"].as_i64()
        && !(1..=86400).contains(&seconds)
    {
        let at = path("sessionAffinityConfig").child("clientIP").child("timeoutSeconds");
        errors.invalid(&at, seconds, "must be greater than 0 and less than 86400");
    }
    for (i, address) in list(spec, &["externalIPs"]).iter().enumerate() {
        let value = address.as_str().unwrap_or_default();
        if value.parse::<std::net::IpAddr>().is_err() {
            let message = "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)";
            errors.invalid(&path("externalIPs").index(i), value, message);
        }
    }
    let external = text(spec, &["externalTrafficPolicy"]);
    if !external.is_empty() {
        if kind != "NodePort" && kind != "LoadBalancer" && list(spec, &["externalIPs"]).is_empty() {
            let message = "may only be set for externally-accessible services";
            errors.invalid(&path("externalTrafficPolicy"), external, message);
        } else if !["Cluster", "Local"].contains(&external) {
            errors.unsupported(&path("externalTrafficPolicy"), external, &["Cluster", "Local"]);
        }
    }
    let internal = text(spec, &["internalTrafficPolicy"]);
    if !internal.is_empty() && !["Cluster", "Local"].contains(&internal) {
        errors.unsupported(&path("internalTrafficPolicy"), internal, &["Cluster", "Local"]);
    }
}

fn service_port<'a>(
    port: &'a Value,
    several: bool,
    kind: &str,
    names: &mut HashSet<&'a str>,
    path: &Path,
    errors: &mut Errors,
) {
    let name = text(port, &["name"]);
    if name.is_empty() {
        if several {
            errors.required(&path.child("name"), "");
        }
    } else {
        for error in name_errors(NameRule::Label, name, false) {
            errors.invalid(&path.child("name"), name, error);
        }
        if !names.insert(name) {
            errors.duplicate(&path.child("name"), name);
        }
    }
    port_number(port["port"].as_i64().unwrap_or(0), &path.child("port"), errors);
    let protocol = text(port, &["protocol"]);
    if protocol.is_empty() {
        errors.required(&path.child("protocol"), "");
    } else if !["TCP", "UDP", "SCTP"].contains(&protocol) {
        errors.unsupported(&path.child("protocol"), protocol, &["SCTP", "TCP", "UDP"]);
    }
    match &port["targetPort"] {
        Value::String(target) => {
            for error in port_name_errors(target) {
                errors.invalid(&path.child("targetPort"), target.as_str(), error);
            }
        }
        target => port_number(target.as_i64().unwrap_or(0), &path.child("targetPort"), errors),
    }
    let number = port["nodePort"].as_i64().unwrap_or(0);
    if number != 0 && kind == "ClusterIP" {
        errors.forbidden(&path.child("nodePort"), "may not be used when `type` is 'ClusterIP'");
    }
}

fn duplicates(ports: &[Value], errors: &mut Errors) {
    let mut seen = HashSet::new();
    for (i, port) in ports.iter().enumerate() {
        let key = (port["port"].as_i64(), text(port, &["protocol"]));
        if !seen.insert(key) {
            let mut shown = Map::new();
            shown.insert("protocol".into(), port["protocol"].clone());
            shown.insert("port".into(), port["port"].clone());
            errors.duplicate(&path("ports").index(i), Value::Object(shown));
        }
    }
}

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
                let path = Path::new("subsets").index(i);
                if list(subset, &["addresses"]).is_empty() && list(subset, &["notReadyAddresses"]).is_empty()
                {
                    errors.required(&path, "must specify `addresses` or `notReadyAddresses`");
                }
                for kind in ["addresses", "notReadyAddresses"] {
                    for (j, address) in list(subset, &[kind]).iter().enumerate() {
                        let ip = text(address, &["ip"]);
                        if ip.parse::<std::net::IpAddr>().is_err() {
                            let message = "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)";
                            errors.invalid(&path.child(kind).index(j).child("ip"), ip, message);
                        }
                    }
                }
                let ports = list(subset, &["ports"]);
                for (j, port) in ports.iter().enumerate() {
                    let path = path.child("ports").index(j);
                    if ports.len() > 1 && text(port, &["name"]).is_empty() {
                        errors.required(&path.child("name"), "");
                    }
                    port_number(port["port"].as_i64().unwrap_or(0), &path.child("port"), errors);
                }
            }
        },
        ..base()
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
            if kind.is_empty() {
                errors.required(&Path::new("addressType"), "");
            } else if !["FQDN", "IPv4", "IPv6"].contains(&kind) {
                errors.unsupported(&Path::new("addressType"), kind, &["FQDN", "IPv4", "IPv6"]);
            }
            for (i, endpoint) in list(object, &["endpoints"]).iter().enumerate() {
                let path = Path::new("endpoints").index(i).child("addresses");
                if list(endpoint, &["addresses"]).is_empty() {
                    errors.required(&path, "must contain at least 1 address");
                }
            }
        },
        validate_update: |new, old, errors| {
            immutable(&new["addressType"], &old["addressType"], &Path::new("addressType"), errors);
        },
        ..base()
    }
}

pub(super) fn network_policy() -> Strategy {
    Strategy {
        defaults: |object| {
            for direction in ["ingress", "egress"] {
                for rule in list_mut(object, &["spec", direction]) {
                    for port in list_mut(rule, &["ports"]) {
                        default(object_mut(port, &[]), "protocol", "TCP");
                    }
                }
            }
            if list(object, &["spec", "policyTypes"]).is_empty() {
                let egress = !list(object, &["spec", "egress"]).is_empty();
                object["spec"]["policyTypes"] =
                    if egress { json!(["Ingress", "Egress"]) } else { json!(["Ingress"]) };
            }
        },
        ..base()
    }
}
