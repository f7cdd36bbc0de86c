//! Services.

use std::collections::HashSet;

use serde_json::{Value, json};

use super::checks::{self, ip, named, port, port_number, qualified};
use super::{Strategy, base};
use crate::api::invalid::{Errors, Path};
use crate::api::meta::{self, NameRule};
use crate::api::object::{default, list, list_mut, object_mut, text};

const PROTOCOLS: &[&str] = &["SCTP", "TCP", "UDP"];
const POLICIES: &[&str] = &["Cluster", "Local"];
const LB_ONLY: &str = "may only be used when `type` is 'LoadBalancer'";
const TOPOLOGY_MODE: &str = "service.kubernetes.io/topology-mode";
const TOPOLOGY_HINTS: &str = "service.kubernetes.io/topology-aware-hints";
const SOURCE_RANGES: &str = "service.beta.kubernetes.io/load-balancer-source-ranges";

fn path(name: &str) -> Path {
    Path::new("spec").child(name)
}

fn is(service: &Value, kind: &str) -> bool {
    text(service, &["spec", "type"]) == kind
}

/// Whether a Service is to have no address.
pub fn is_headless(spec: &Value) -> bool {
    list(spec, &["clusterIPs"]).first().is_some_and(|ip| ip == "None") || text(spec, &["clusterIP"]) == "None"
}

pub(super) fn service() -> Strategy {
    Strategy {
        names: NameRule::Label,
        defaults: service_defaults,
        prepare_create: |object| {
            object["status"] = json!({"loadBalancer": {}});
            if is(object, "ExternalName") {
                object_mut(object, &["spec"]).remove("internalTrafficPolicy");
            }
        },
        prepare_update: keep_addresses,
        validate,
        validate_update,
        change_first: true,
        validate_status: |new, _, errors| {
            let balancer = &new["status"]["loadBalancer"];
            let at = Path::new("status.loadBalancer.ingress");
            if !is(new, "LoadBalancer") && !list(balancer, &["ingress"]).is_empty() {
                errors.forbidden(&at, "may only be used when `spec.type` is 'LoadBalancer'");
                return;
            }
            balancer_ingress(balancer, true, &at, errors);
        },
        warnings,
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
    let external = spec.get("externalIPs").and_then(Value::as_array).is_some_and(|l| !l.is_empty());
    if kind == "NodePort" || kind == "LoadBalancer" || (kind == "ClusterIP" && external) {
        default(spec, "externalTrafficPolicy", "Cluster");
    }
    if kind == "LoadBalancer" {
        default(spec, "allocateLoadBalancerNodePorts", true);
        for ingress in list_mut(object, &["status", "loadBalancer", "ingress"]) {
            if !text(ingress, &["ip"]).is_empty() {
                default(object_mut(ingress, &[]), "ipMode", "VIP");
            }
        }
    }
    let spec = object_mut(object, &["spec"]);
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
        follow_address(new, old);
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
    let local = |service: &Value| {
        is(service, "LoadBalancer") && text(service, &["spec", "externalTrafficPolicy"]) == "Local"
    };
    let health = old["spec"]["healthCheckNodePort"].clone();
    if local(new)
        && local(old)
        && !health.is_null()
        && new["spec"]["healthCheckNodePort"].as_i64().unwrap_or(0) == 0
    {
        new["spec"]["healthCheckNodePort"] = health.clone();
    } else if local(old) && !local(new) && new["spec"]["healthCheckNodePort"] == health {
        object_mut(new, &["spec"]).remove("healthCheckNodePort");
    }
    if is(old, "LoadBalancer") && kind != "LoadBalancer" {
        new["status"]["loadBalancer"] = json!({});
        forget(new, old, &["allocateLoadBalancerNodePorts", "loadBalancerClass"]);
    }
    if sends_outside(old) && !sends_outside(new) {
        forget(new, old, &["externalTrafficPolicy"]);
    }
    let balanced =
        kind == "LoadBalancer" && new["spec"]["allocateLoadBalancerNodePorts"] != Value::Bool(false);
    if kind == "NodePort" || balanced {
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
    } else if kind != "LoadBalancer" && text(old, &["spec", "type"]) != kind {
        // Ports of the old type that the client merely sent back.
        let old_ports = list(old, &["spec", "ports"]).to_vec();
        for port in list_mut(new, &["spec", "ports"]) {
            if old_ports.iter().any(|o| o["nodePort"] == port["nodePort"])
                && let Some(fields) = port.as_object_mut()
            {
                fields.remove("nodePort");
            }
        }
        forget(new, old, &["healthCheckNodePort"]);
    }
    if kind == "ExternalName" && text(old, &["spec", "type"]) != "ExternalName" {
        forget(
            new,
            old,
            &["clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy", "internalTrafficPolicy"],
        );
    }
}

/// Takes out what the new type has no use for, and the client merely sent back.
fn forget(new: &mut Value, old: &Value, names: &[&str]) {
    for name in names {
        if new["spec"][name] == old["spec"][name] {
            object_mut(new, &["spec"]).remove(*name);
        }
    }
}

/// Whether something outside of the cluster reaches it, which a policy may be for.
fn sends_outside(service: &Value) -> bool {
    is(service, "LoadBalancer")
        || is(service, "NodePort")
        || (is(service, "ClusterIP") && !list(service, &["spec", "externalIPs"]).is_empty())
}

/// A client that knows of one address only changes that one: the list of them follows.
fn follow_address(new: &mut Value, old: &Value) {
    let (given, before) = (text(new, &["spec", "clusterIP"]).to_owned(), text(old, &["spec", "clusterIP"]));
    let (listed, listed_before) = (list(new, &["spec", "clusterIPs"]), list(old, &["spec", "clusterIPs"]));
    if given.is_empty() || given == before || !(listed.is_empty() || listed == listed_before) {
        return;
    }
    let mut follows = listed_before.to_vec();
    match follows.first_mut() {
        Some(first) => *first = given.into(),
        None => follows.push(given.into()),
    }
    new["spec"]["clusterIPs"] = follows.into();
}

fn validate(object: &Value, errors: &mut Errors) {
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
    let before = errors.len();
    for (i, address) in all.iter().enumerate() {
        if i == 0 && address == "None" {
            if all.len() > 1 {
                errors.invalid(&at, shown(), "'None' must be the first and only value");
            }
            continue;
        }
        ip(address.as_str().unwrap_or_default(), &at.index(i), errors);
    }
    if all.len() > 2 {
        errors.invalid(&at, shown(), "may only hold up to 2 values");
    }
    if errors.len() > before || headless {
        return;
    }
    let is_v6 = |address: &Value| address.as_str().is_some_and(|a| a.contains(':'));
    if all.len() > 1 && is_v6(&all[0]) == is_v6(&all[1]) {
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
        if number < 0 {
            errors.invalid(&at(i), number, crate::api::allocate::NO_NODE_PORT);
        } else if !seen.insert((text(port, &["protocol"]), number)) {
            // The second is refused as if it were another Service's.
            errors.invalid(&at(i), number, "provided port is already allocated");
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

fn balancer_class(spec: &Value, kind: &str, errors: &mut Errors) {
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

fn validate_update(new: &Value, old: &Value, errors: &mut Errors) {
    if !is(new, "ExternalName") && !is(old, "ExternalName") {
        let headless = [old, new].map(|service| is_headless(&service["spec"]));
        if headless != [true, true] {
            kept(new, old, "clusterIPs", "clusterIP", errors);
        }
        if headless == [false, false] {
            kept(new, old, "ipFamilies", "ipFamily", errors);
        }
    }
    let class = |service: &Value| service["spec"]["loadBalancerClass"].clone();
    if is(new, "LoadBalancer") && is(old, "LoadBalancer") && class(new) != class(old) {
        errors.invalid(&path("loadBalancerClass"), class(new), "may not change once set");
    }
    balancer_class(&new["spec"], text(new, &["spec", "type"]), errors);
    let health = [old, new].map(|service| {
        let local = text(service, &["spec", "externalTrafficPolicy"]) == "Local";
        (is(service, "LoadBalancer") && local).then(|| service["spec"]["healthCheckNodePort"].clone())
    });
    if let [Some(was), Some(now)] = health
        && was != now
    {
        errors.forbidden(&path("healthCheckNodePort"), checks::IMMUTABLE);
    }
}

/// Of addresses and their families the first stays, and a second may come or go.
fn kept(new: &Value, old: &Value, field: &str, one: &str, errors: &mut Errors) {
    let (before, after) = (list(old, &["spec", field]), list(new, &["spec", field]));
    let families = field == "ipFamilies";
    let at = |i: usize| path(field).index(i);
    let once = "may not change once set";
    if before.len() == after.len() {
        for (i, _) in before.iter().zip(after).enumerate().filter(|(_, (was, is))| was != is) {
            // Of families, the place of the first is shown.
            errors.invalid(&at(if families { 0 } else { i }), after.to_vec(), once);
        }
        return;
    }
    let addresses = list(new, &["spec", "clusterIPs"]);
    if before.len() > after.len() && addresses.is_empty() {
        errors.invalid(&at(0), after.to_vec(), format!("primary {one} can not be unset"));
    }
    if let (Some(was), Some(is)) = (before.first(), after.first())
        && was != is
    {
        errors.invalid(&at(0), addresses.to_vec(), once);
    }
    let policy = &new["spec"]["ipFamilyPolicy"];
    if before.len() > after.len() && after.len() == 1 && policy != "SingleStack" {
        let detail = format!("must be set to 'SingleStack' when releasing the secondary {one}");
        errors.invalid(&path("ipFamilyPolicy"), policy.clone(), detail);
    }
}

/// Where a load balancer is reached, as services and ingresses say it in their status.
pub(super) fn balancer_ingress(balancer: &Value, modes: bool, path: &Path, errors: &mut Errors) {
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

fn warnings(object: &Value, _: Option<&Value>, said: &mut Vec<String>) {
    let spec = &object["spec"];
    let external_ips = !list(spec, &["externalIPs"]).is_empty();
    if !object["metadata"]["annotations"][TOPOLOGY_HINTS].is_null() {
        said.push(format!("annotation {TOPOLOGY_HINTS} is deprecated, please use {TOPOLOGY_MODE} instead"));
    }
    if !is_headless(spec) {
        checks::address_notes(list(spec, &["clusterIPs"]), &path("clusterIPs"), said);
    }
    if is_headless(spec) {
        if !text(spec, &["loadBalancerIP"]).is_empty() {
            said.push("spec.loadBalancerIP is ignored for headless services".to_owned());
        }
        if external_ips {
            said.push("spec.externalIPs is ignored for headless services".to_owned());
        }
        if text(spec, &["sessionAffinity"]) != "None" {
            said.push("spec.sessionAffinity is ignored for headless services".to_owned());
        }
    }
    checks::address_notes(list(spec, &["externalIPs"]), &path("externalIPs"), said);
    checks::address_note(text(spec, &["loadBalancerIP"]), &path("loadBalancerIP"), said);
    if is(object, "ExternalName") && external_ips {
        said.push("spec.externalIPs is ignored when spec.type is \"ExternalName\"".to_owned());
    }
    if !is(object, "ExternalName") && !text(spec, &["externalName"]).is_empty() {
        said.push("spec.externalName is ignored when spec.type is not \"ExternalName\"".to_owned());
    }
    if external_ips {
        said.push(
            "spec.externalIPs is deprecated and may no longer be implemented in some clusters".to_owned(),
        );
    }
    if text(spec, &["trafficDistribution"]) == "PreferClose" {
        said.push(
            "spec.trafficDistribution: \"PreferClose\" is deprecated; use \"PreferSameZone\"".to_owned(),
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_new_type_has_no_use_for_goes_if_it_was_only_sent_back() {
        let old = json!({"spec": {"type": "LoadBalancer", "clusterIP": "10.0.0.1", "clusterIPs": ["10.0.0.1"],
            "loadBalancerClass": "example.com/x", "allocateLoadBalancerNodePorts": true,
            "externalTrafficPolicy": "Cluster", "ports": [{"port": 1, "protocol": "TCP", "nodePort": 30001}]},
            "status": {"loadBalancer": {"ingress": [{"ip": "192.0.2.1"}]}}});
        for (kind, gone, stays) in [
            (
                "NodePort",
                &["loadBalancerClass", "allocateLoadBalancerNodePorts"][..],
                &["externalTrafficPolicy"][..],
            ),
            ("ClusterIP", &["loadBalancerClass", "externalTrafficPolicy"], &["clusterIPs"]),
            (
                "ExternalName",
                &["loadBalancerClass", "externalTrafficPolicy", "clusterIPs", "clusterIP"],
                &["ports"],
            ),
        ] {
            let mut new = old.clone();
            new["spec"]["type"] = kind.into();
            keep_addresses(&mut new, &old);
            assert!(gone.iter().all(|name| new["spec"][*name].is_null()), "{kind}: {new}");
            assert!(stays.iter().all(|name| !new["spec"][*name].is_null()), "{kind}: {new}");
            assert_eq!(new["status"], json!({"loadBalancer": {}}), "{kind}");
        }
        // What was asked for is not taken away, and refused later.
        let mut new = old.clone();
        new["spec"]["type"] = "NodePort".into();
        new["spec"]["loadBalancerClass"] = "example.com/y".into();
        keep_addresses(&mut new, &old);
        assert_eq!(new["spec"]["loadBalancerClass"], "example.com/y");
    }

    #[test]
    fn the_list_of_addresses_follows_the_one_address() {
        let old = json!({"spec": {"type": "ClusterIP", "clusterIP": "10.0.0.1", "clusterIPs": ["10.0.0.1"]}});
        for (spec, wanted) in [
            (json!({"clusterIP": "None"}), json!(["None"])),
            (json!({"clusterIP": "10.0.0.9", "clusterIPs": ["10.0.0.1"]}), json!(["10.0.0.9"])),
            (json!({"clusterIP": "10.0.0.9", "clusterIPs": ["10.0.0.8"]}), json!(["10.0.0.8"])),
            (json!({}), json!(["10.0.0.1"])),
        ] {
            let mut new = json!({"spec": spec});
            new["spec"]["type"] = "ClusterIP".into();
            keep_addresses(&mut new, &old);
            assert_eq!(new["spec"]["clusterIPs"], wanted, "{new}");
        }
    }
}
