//! What a Service may say.

use std::collections::HashSet;

use serde_json::{Value, json};

use super::{TOPOLOGY_HINTS, TOPOLOGY_MODE, is_headless, path};
use crate::api::invalid::{Errors, Path};
use crate::api::kinds::checks::{self, ip, named, port, port_number, qualified};
use crate::api::meta::{self, NameRule};
use crate::api::object::{list, text};

const PROTOCOLS: &[&str] = &["SCTP", "TCP", "UDP"];
const POLICIES: &[&str] = &["Cluster", "Local"];
const LB_ONLY: &str = "may only be used when `type` is 'LoadBalancer'";
const SOURCE_RANGES: &str = "service.beta.kubernetes.io/load-balancer-source-ranges";

pub(super) fn validate(object: &Value, errors: &mut Errors) {
    let notes = &object["metadata"]["annotations"];
    if let (Some(mode), Some(hints)) = (notes[TOPOLOGY_MODE].as_str(), notes[TOPOLOGY_HINTS].as_str())
        && mode != hints
    {
        let detail = format!("must match annotations[{TOPOLOGY_HINTS}] when both are specified");
        errors.invalid(&Path::new("metadata.annotations").key(TOPOLOGY_MODE), mode, detail);
    }
    let spec = &object["spec"];
    let kind = text(spec, &["type"]);
    let headless = is_headless(spec);
    let ports = list(spec, &["ports"]);
    if ports.is_empty() && !headless && kind != "ExternalName" {
        errors.required(&path("ports"), "");
    }
    of_type(spec, kind, headless, errors);
    let mut names = HashSet::new();
    for (i, port) in ports.iter().enumerate() {
        service_port(port, ports.len() > 1, &mut names, &path("ports").index(i), errors);
    }
    meta::labels(&spec["selector"], &path("selector"), errors);
    affinity(spec, errors);
    if kind != "ExternalName" {
        addresses(spec, headless, errors);
    }
    for (i, address) in list(spec, &["externalIPs"]).iter().enumerate() {
        let (value, at) = (address.as_str().unwrap_or_default(), path("externalIPs").index(i));
        let before = errors.len();
        ip(value, &at, errors);
        if errors.len() == before {
            checks::endpoint_ip(value, &at, errors);
        }
    }
    match kind {
        "" => errors.required(&path("type"), ""),
        "ClusterIP" | "LoadBalancer" | "NodePort" | "ExternalName" => {}
        other => {
            errors.unsupported(
                &path("type"),
                other,
                &["ClusterIP", "ExternalName", "LoadBalancer", "NodePort"],
            );
        }
    }
    node_ports(kind, ports, errors);
    duplicates(ports, errors);
    source_ranges(object, kind, errors);
    balancer(spec, kind, errors);
    traffic(spec, kind, errors);
}

fn of_type(spec: &Value, kind: &str, headless: bool, errors: &mut Errors) {
    match kind {
        "LoadBalancer" | "NodePort" if headless => {
            let detail = format!("may not be set to 'None' for {kind} services");
            errors.invalid(&path("clusterIPs").index(0), "None", detail);
        }
        "ExternalName" => {
            let detail = "may not be set for ExternalName services";
            if !list(spec, &["clusterIPs"]).is_empty() || !text(spec, &["clusterIP"]).is_empty() {
                errors.forbidden(&path("clusterIPs"), detail);
            }
            if !list(spec, &["ipFamilies"]).is_empty() {
                errors.forbidden(&path("ipFamilies"), detail);
            }
            if !spec["ipFamilyPolicy"].is_null() {
                errors.forbidden(&path("ipFamilyPolicy"), detail);
            }
            let given = text(spec, &["externalName"]);
            match given.strip_suffix('.').unwrap_or(given) {
                "" => errors.required(&path("externalName"), ""),
                name => named(NameRule::Subdomain, name, &path("externalName"), errors),
            }
        }
        _ => {}
    }
}

fn service_port<'a>(
    port: &'a Value,
    several: bool,
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
        named(NameRule::Label, name, &path.child("name"), errors);
        if !names.insert(name) {
            errors.duplicate(&path.child("name"), name);
        }
    }
    port_number(port["port"].as_i64().unwrap_or(0), &path.child("port"), errors);
    checks::required_choice(&port["protocol"], PROTOCOLS, &path.child("protocol"), errors);
    self::port(&port["targetPort"], &path.child("targetPort"), errors);
    if let Some(protocol) = port["appProtocol"].as_str() {
        qualified(protocol, &path.child("appProtocol"), errors);
    }
}

fn affinity(spec: &Value, errors: &mut Errors) {
    checks::required_choice(
        &spec["sessionAffinity"],
        &["ClientIP", "None"],
        &path("sessionAffinity"),
        errors,
    );
    let at = path("sessionAffinityConfig");
    match text(spec, &["sessionAffinity"]) {
        "ClientIP" => {
            let need = "when session affinity type is ClientIP";
            let config = &spec["sessionAffinityConfig"];
            if config.is_null() {
                errors.required(&at, need);
            } else if config["clientIP"].is_null() {
                errors.required(&at.child("clientIP"), need);
            } else {
                let at = at.child("clientIP").child("timeoutSeconds");
                match config["clientIP"]["timeoutSeconds"].as_i64() {
                    None => errors.required(&at, need),
                    Some(seconds) if !(1..=86400).contains(&seconds) => {
                        errors.invalid(&at, seconds, "must be greater than 0 and less than 86400");
                    }
                    Some(_) => {}
                }
            }
        }
        "None" if !spec["sessionAffinityConfig"].is_null() => {
            errors.forbidden(&at, "must not be set when session affinity is None");
        }
        _ => {}
    }
}

/// Checks what a Service says of its addresses and their families.
pub fn addresses(spec: &Value, headless: bool, errors: &mut Errors) {
    let (single, all) = (text(spec, &["clusterIP"]), list(spec, &["clusterIPs"]));
    let at = path("clusterIPs");
    let shown = || Value::from(all.to_vec());
    if !single.is_empty() && !all.is_empty() && all[0] != single {
        errors.invalid(&at, shown(), "first value must match `clusterIP`");
    } else if single.is_empty() && !all.is_empty() {
        errors.invalid(&at, shown(), "must be empty when `clusterIP` is not specified");
    }
    let families = list(spec, &["ipFamilies"]);
    for (i, family) in families.iter().enumerate() {
        let at = path("ipFamilies").index(i);
        checks::choice(family, &["IPv4", "IPv6"], &at, errors);
        if families[..i].contains(family) {
            errors.duplicate(&at, family.clone());
        }
    }
    checks::choice(
        &spec["ipFamilyPolicy"],
        &["PreferDualStack", "RequireDualStack", "SingleStack"],
        &path("ipFamilyPolicy"),
        errors,
    );
    // One that is named alone is the first of all.
    let named = [&spec["clusterIP"]];
    let each: Vec<&Value> = match all {
        [] => named.into_iter().filter(|ip| ip.as_str().is_some_and(|ip| !ip.is_empty())).collect(),
        all => all.iter().collect(),
    };
    let before = errors.len();
    for (i, address) in each.into_iter().enumerate() {
        if i == 0 && address == "None" {
            if all.len() > 1 {
                errors.invalid(&at, shown(), "'None' must be the first and only value");
            }
            continue;
        }
        ip(address.as_str().unwrap_or_default(), &at.index(i), errors);
    }
    let wrong = errors.len() > before;
    if all.len() > 2 {
        errors.invalid(&at, shown(), "may only hold up to 2 values");
    }
    if wrong || headless {
        return;
    }
    let is_v6 = |address: &Value| address.as_str().is_some_and(|a| a.contains(':'));
    if all.len() > 1 && all.iter().all(|address| is_v6(address) == is_v6(&all[0])) {
        errors.invalid(&at, shown(), "may specify no more than one IP for each IP family");
    }
    for (i, (address, family)) in all.iter().zip(families).enumerate() {
        if is_v6(address) != (family == "IPv6") {
            let family = family.as_str().unwrap_or_default();
            let detail = format!("expected an {family} value as indicated by `ipFamilies[{i}]`");
            errors.invalid(&at.index(i), address.clone(), detail);
        }
    }
}

fn node_ports(kind: &str, ports: &[Value], errors: &mut Errors) {
    let numbered = || {
        let all = ports.iter().enumerate().map(|(i, port)| (i, port, port["nodePort"].as_i64().unwrap_or(0)));
        all.filter(|(_, _, number)| *number != 0)
    };
    let at = |i: usize| path("ports").index(i).child("nodePort");
    if kind == "ClusterIP" {
        for (i, _, _) in numbered() {
            errors.forbidden(&at(i), "may not be used when `type` is 'ClusterIP'");
        }
    }
    let mut seen = HashSet::new();
    for (i, port, number) in numbered() {
        if !seen.insert((text(port, &["protocol"]), number)) {
            errors.duplicate(&at(i), number);
        }
    }
}

fn duplicates(ports: &[Value], errors: &mut Errors) {
    let mut seen = HashSet::new();
    for (i, port) in ports.iter().enumerate() {
        if !seen.insert((port["port"].as_i64(), text(port, &["protocol"]))) {
            let key = json!({"protocol": port["protocol"], "port": port["port"]});
            errors.duplicate_shown(&path("ports").index(i), &checks::internal("a.core.v1.ServicePort", &key));
        }
    }
}

fn source_ranges(object: &Value, kind: &str, errors: &mut Errors) {
    let ranges = list(&object["spec"], &["loadBalancerSourceRanges"]);
    if !ranges.is_empty() {
        let at = path("LoadBalancerSourceRanges");
        if kind != "LoadBalancer" {
            errors.forbidden(&at, LB_ONLY);
        }
        for (i, range) in ranges.iter().filter_map(Value::as_str).enumerate() {
            checks::cidr(range.trim(), &at.index(i), errors);
        }
    } else if let Some(ranges) = object["metadata"]["annotations"][SOURCE_RANGES].as_str() {
        let at = Path::new("metadata.annotations").key(SOURCE_RANGES);
        if kind != "LoadBalancer" {
            errors.forbidden(&at, LB_ONLY);
        }
        let ranges = ranges.trim();
        if !ranges.is_empty() {
            for range in ranges.split(',') {
                checks::cidr(range.trim(), &at, errors);
            }
        }
    }
}

fn balancer(spec: &Value, kind: &str, errors: &mut Errors) {
    let allocate = &spec["allocateLoadBalancerNodePorts"];
    let at = path("allocateLoadBalancerNodePorts");
    if !allocate.is_null() && kind != "LoadBalancer" {
        errors.forbidden(&at, LB_ONLY);
    }
    if allocate.is_null() && kind == "LoadBalancer" {
        errors.required(&at, "");
    }
    balancer_class(spec, kind, errors);
}

pub(super) fn balancer_class(spec: &Value, kind: &str, errors: &mut Errors) {
    if let Some(class) = spec["loadBalancerClass"].as_str() {
        if kind == "LoadBalancer" {
            qualified(class, &path("loadBalancerClass"), errors);
        } else {
            errors.forbidden(&path("loadBalancerClass"), LB_ONLY);
        }
    }
}

fn traffic(spec: &Value, kind: &str, errors: &mut Errors) {
    let external = text(spec, &["externalTrafficPolicy"]);
    let reachable = match kind {
        "LoadBalancer" | "NodePort" => true,
        "ClusterIP" => !list(spec, &["externalIPs"]).is_empty(),
        _ => false,
    };
    let at = path("externalTrafficPolicy");
    if reachable {
        checks::required_choice(&spec["externalTrafficPolicy"], POLICIES, &at, errors);
    } else if !external.is_empty() {
        errors.invalid(&at, external, "may only be set for externally-accessible services");
    }
    let health = spec["healthCheckNodePort"].as_i64().unwrap_or(0);
    let checked = kind == "LoadBalancer" && external == "Local";
    if health != 0 && !checked {
        errors.invalid(
            &path("healthCheckNodePort"),
            health,
            "may only be set when `type` is 'LoadBalancer' and `externalTrafficPolicy` is 'Local'",
        );
    } else if health != 0 {
        checks::port_number(health, &path("healthCheckNodePort"), errors);
    }
    match spec["internalTrafficPolicy"].as_str() {
        None if kind != "ExternalName" => errors.required(&path("internalTrafficPolicy"), ""),
        _ => checks::choice(&spec["internalTrafficPolicy"], POLICIES, &path("internalTrafficPolicy"), errors),
    }
    checks::choice(
        &spec["trafficDistribution"],
        &["PreferClose", "PreferSameZone", "PreferSameNode"],
        &path("trafficDistribution"),
        errors,
    );
}

/// Where a load balancer is reached, as services and ingresses say it in their status.
pub(in crate::api::kinds) fn balancer_ingress(
    balancer: &Value,
    modes: bool,
    path: &Path,
    errors: &mut Errors,
) {
    for (i, ingress) in list(balancer, &["ingress"]).iter().enumerate() {
        let path = path.index(i);
        let address = text(ingress, &["ip"]);
        if !address.is_empty() {
            ip(address, &path.child("ip"), errors);
        }
        if modes {
            match ingress["ipMode"].as_str() {
                None if !address.is_empty() => {
                    errors.required(&path.child("ipMode"), "must be specified when `ip` is set");
                }
                Some(_) if address.is_empty() => {
                    errors.forbidden(&path.child("ipMode"), "may not be specified when `ip` is not set");
                }
                _ => checks::choice(&ingress["ipMode"], &["Proxy", "VIP"], &path.child("ipMode"), errors),
            }
        }
        let host = text(ingress, &["hostname"]);
        if !host.is_empty() {
            named(NameRule::Subdomain, host, &path.child("hostname"), errors);
            if checks::parse_ip(host).is_some() {
                errors.invalid(&path.child("hostname"), host, "must be a DNS name, not an IP address");
            }
        }
    }
}
