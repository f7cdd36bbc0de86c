//! Services: what is filled in, and what a change keeps of what was assigned.

mod change;
mod checks;
mod warnings;

use std::collections::HashSet;

use serde_json::{Value, json};

pub use self::checks::addresses;
pub(super) use self::checks::balancer_ingress;
use super::{Strategy, base};
use crate::api::invalid::Path;
use crate::api::meta::NameRule;
use crate::api::object::{default, list, list_mut, object_mut, text};

const TOPOLOGY_MODE: &str = "service.kubernetes.io/topology-mode";
const TOPOLOGY_HINTS: &str = "service.kubernetes.io/topology-aware-hints";

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
        validate: checks::validate,
        validate_update: change::validate_update,
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
        warnings: warnings::warnings,
        status_warnings: Some(super::checks::balancer_notes),
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
                // A policy that says nothing is said.
                Value::String(s) => s.is_empty() && name != "ipFamilyPolicy",
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
        // A port is known by its name, whatever else of it changed.
        let old_ports = list(old, &["spec", "ports"]).to_vec();
        let used: HashSet<i64> =
            list(new, &["spec", "ports"]).iter().filter_map(|p| p["nodePort"].as_i64()).collect();
        for port in list_mut(new, &["spec", "ports"]) {
            if port["nodePort"].as_i64().unwrap_or(0) != 0 {
                continue;
            }
            let same = |o: &&Value| text(o, &["name"]) == text(port, &["name"]);
            let before = old_ports
                .iter()
                .rfind(same)
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
    fn ports_are_known_by_their_names() {
        let port = |name: &str, port: i64, node: Option<i64>| {
            let mut port = json!({"name": name, "port": port, "protocol": "TCP"});
            if let Some(node) = node {
                port["nodePort"] = node.into();
            }
            port
        };
        let service = |ports: Value| json!({"spec": {"type": "NodePort", "ports": ports}});
        let old = service(json!([port("a", 1, Some(30001)), port("b", 2, Some(30002))]));
        for (ports, wanted) in [
            (json!([port("a", 9, None), port("c", 2, None)]), [json!(30001), Value::Null]),
            (json!([port("b", 1, None), port("a", 2, None)]), [json!(30002), json!(30001)]),
            (json!([port("a", 1, None), port("b", 2, Some(30001))]), [Value::Null, json!(30001)]),
        ] {
            let mut new = service(ports.clone());
            keep_addresses(&mut new, &old);
            let kept = [0, 1].map(|i| new["spec"]["ports"][i]["nodePort"].clone());
            assert_eq!(kept, wanted, "{ports}");
        }
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
