//! NetworkPolicy as its documentation words it, evaluated on the objects themselves: slow, and written without a
//! look at how it is compiled.

use serde_json::{Value, json};

use super::{DNS, IpAddr, Objects, Packet, Protocol};

/// Whether a packet passes this node (`n1`).
pub(super) fn passes(objects: &Objects, packet: Packet, input: bool) -> bool {
    if input {
        // The node itself is always reached; the DNS is no part of it.
        return packet.to.to_string() != DNS || allowed(objects, packet, false);
    }
    packet.from == packet.to || (allowed(objects, packet, false) && allowed(objects, packet, true))
}

/// The pod with this address: one that is alive, and not on its host's network.
fn pod_at(objects: &Objects, address: IpAddr) -> Option<Value> {
    if address.to_string() == DNS {
        return Some(json!({
            "metadata": {"namespace": "kube-system", "labels": {"k8s-app": "kube-dns"}},
            "spec": {"containers": [{"ports": [
                {"name": "dns", "containerPort": 53, "protocol": "UDP"},
                {"name": "dns-tcp", "containerPort": 53}]}]},
        }));
    }
    objects
        .pods
        .values()
        .find(|pod| {
            let mut ips = pod["status"]["podIPs"].as_array().into_iter().flatten();
            ips.any(|ip| ip["ip"] == address.to_string())
                && pod["spec"]["hostNetwork"] != true
                && pod["status"]["phase"] == "Running"
        })
        .cloned()
}

fn allowed(objects: &Objects, packet: Packet, ingress: bool) -> bool {
    let (own, peer) = if ingress { (packet.to, packet.from) } else { (packet.from, packet.to) };
    let Some(pod) = pod_at(objects, own) else { return true };
    if pod["spec"]["nodeName"] != "n1" {
        return true;
    }
    let kind = if ingress { "Ingress" } else { "Egress" };
    let mut isolated = false;
    for policy in objects.policies.values() {
        let spec = &policy["spec"];
        let types: Vec<&str> = match spec["policyTypes"].as_array() {
            Some(types) => types.iter().filter_map(Value::as_str).collect(),
            None if spec["egress"].as_array().is_some_and(|e| !e.is_empty()) => vec!["Ingress", "Egress"],
            None => vec!["Ingress"],
        };
        let selects = policy["metadata"]["namespace"] == pod["metadata"]["namespace"]
            && matches(&spec["podSelector"], &pod["metadata"]["labels"]);
        if !selects || !types.contains(&kind) {
            continue;
        }
        isolated = true;
        let (field, peers) = if ingress { ("ingress", "from") } else { ("egress", "to") };
        for rule in spec[field].as_array().into_iter().flatten() {
            let from = rule[peers].as_array().filter(|list| !list.is_empty());
            let ports = rule["ports"].as_array().filter(|list| !list.is_empty());
            let peer_fits = from.is_none_or(|list| list.iter().any(|p| peer_is(objects, policy, p, peer)));
            let port_fits = ports.is_none_or(|list| list.iter().any(|p| port_is(objects, p, packet)));
            if peer_fits && port_fits {
                return true;
            }
        }
    }
    !isolated
}

fn inside(address: IpAddr, cidr: &Value) -> bool {
    cidr.as_str().unwrap().parse::<ipnet::IpNet>().unwrap().contains(&address)
}

fn peer_is(objects: &Objects, policy: &Value, peer: &Value, address: IpAddr) -> bool {
    let block = &peer["ipBlock"];
    if block.is_object() {
        let except = block["except"].as_array();
        return inside(address, &block["cidr"])
            && !except.into_iter().flatten().any(|hole| inside(address, hole));
    }
    let Some(pod) = pod_at(objects, address) else { return false };
    let namespace = pod["metadata"]["namespace"].as_str().unwrap();
    let in_namespace = match peer.get("namespaceSelector") {
        Some(selector) => objects
            .namespaces
            .get(namespace)
            .is_some_and(|object| matches(selector, &object["metadata"]["labels"])),
        None => policy["metadata"]["namespace"] == namespace,
    };
    in_namespace && peer.get("podSelector").is_none_or(|s| matches(s, &pod["metadata"]["labels"]))
}

fn port_is(objects: &Objects, port: &Value, packet: Packet) -> bool {
    let Some((protocol, number)) = packet.port else { return false };
    let protocol = match protocol {
        Protocol::Tcp => "TCP",
        Protocol::Udp => "UDP",
        Protocol::Sctp => "SCTP",
    };
    if port["protocol"].as_str().unwrap_or("TCP") != protocol {
        return false;
    }
    match &port["port"] {
        Value::Null => true,
        Value::String(name) => {
            // A name is looked up in the pod that the packet goes to.
            let pod = pod_at(objects, packet.to).unwrap_or_default();
            let containers = pod["spec"]["containers"].as_array().cloned().unwrap_or_default();
            let ports = containers.iter().flat_map(|c| c["ports"].as_array().into_iter().flatten());
            ports.into_iter().any(|p| {
                p["name"] == name.as_str()
                    && p["protocol"].as_str().unwrap_or("TCP") == protocol
                    && p["containerPort"] == number
            })
        }
        first => {
            let last = port.get("endPort").unwrap_or(first);
            (first.as_u64().unwrap()..=last.as_u64().unwrap()).contains(&u64::from(number))
        }
    }
}

fn matches(selector: &Value, labels: &Value) -> bool {
    let equal = selector["matchLabels"].as_object().into_iter().flatten().all(|(k, v)| labels[k] == *v);
    equal
        && selector["matchExpressions"].as_array().into_iter().flatten().all(|e| {
            let value = &labels[e["key"].as_str().unwrap()];
            match e["operator"].as_str().unwrap() {
                "Exists" => !value.is_null(),
                "NotIn" => !e["values"].as_array().unwrap().contains(value),
                other => panic!("{other}"),
            }
        })
}
