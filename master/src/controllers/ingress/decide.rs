//! Which nodes Ingresses are reached at. Pure.

use k8s_openapi::api::core::v1::Node;
use k8s_openapi::api::networking::v1::{IngressLoadBalancerIngress, IngressPortStatus};
use protocol::ingress;

use crate::controllers::node::health::takes_outside_traffic;

/// Where a node is reached by clients of Ingresses: nothing where it serves none, is not ready, or is on its
/// way out.
pub fn address(node: &Node) -> Option<IngressLoadBalancerIngress> {
    let ports = ingress::served_by(node)?;
    if !takes_outside_traffic(node) {
        return None;
    }
    let addresses = node.status.as_ref()?.addresses.as_ref()?;
    let of = |kind: &str| addresses.iter().find(|a| a.type_ == kind).map(|a| a.address.clone());
    let ip = of("ExternalIP").or_else(|| of("InternalIP"))?;
    let open = [ports.http, ports.https].into_iter().filter(|port| *port != 0);
    let ports: Vec<_> = open
        .map(|port| IngressPortStatus {
            port: i32::from(port),
            protocol: "TCP".to_owned(),
            ..Default::default()
        })
        .collect();
    Some(IngressLoadBalancerIngress { ip: Some(ip), ports: Some(ports), ..Default::default() })
}

/// What the status of every Ingress of ours is to name: each node that serves once, in order of address.
pub fn addresses<'a>(nodes: impl IntoIterator<Item = &'a Node>) -> Vec<IngressLoadBalancerIngress> {
    let mut all: Vec<_> = nodes.into_iter().filter_map(address).collect();
    all.sort_by(|a, b| a.ip.cmp(&b.ip));
    all.dedup_by(|a, b| a.ip == b.ip);
    all
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn node(name: &str, change: impl FnOnce(&mut Value)) -> Node {
        let mut node = json!({
            "metadata": {"name": name, "annotations": {ingress::SERVED: "http=80,https=0"}, "labels": {}},
            "status": {
                "conditions": [{"type": "Ready", "status": "True"}],
                "addresses": [{"type": "Hostname", "address": name}, {"type": "InternalIP", "address": "192.0.2.1"}]},
        });
        change(&mut node);
        serde_json::from_value(node).unwrap()
    }

    #[test]
    fn only_nodes_that_serve_and_are_ready_are_named() {
        let ip = |node: &Node| address(node).and_then(|a| a.ip);
        assert_eq!(ip(&node("a", |_| ())).as_deref(), Some("192.0.2.1"));
        let outside = json!({"type": "ExternalIP", "address": "198.51.100.1"});
        let reached = node("a", |n| n["status"]["addresses"].as_array_mut().unwrap().push(outside));
        assert_eq!(ip(&reached).as_deref(), Some("198.51.100.1"));
        for (what, node) in [
            ("serves none", node("a", |n| n["metadata"]["annotations"] = json!({}))),
            ("not ready", node("a", |n| n["status"]["conditions"][0]["status"] = "Unknown".into())),
            ("going", node("a", |n| n["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z".into())),
            (
                "excluded",
                node("a", |n| {
                    n["metadata"]["labels"] =
                        json!({"node.kubernetes.io/exclude-from-external-load-balancers": ""})
                }),
            ),
            ("without an address", node("a", |n| n["status"]["addresses"] = json!([]))),
        ] {
            assert_eq!(address(&node), None, "{what}");
        }
    }

    #[test]
    fn each_address_once_in_order() {
        let at = |name: &str, ip: &str| node(name, |n| n["status"]["addresses"][1]["address"] = ip.into());
        let nodes = [at("a", "192.0.2.9"), at("b", "192.0.2.3"), at("c", "192.0.2.9")];
        let all = addresses(&nodes);
        let ips: Vec<_> = all.iter().filter_map(|a| a.ip.as_deref()).collect();
        assert_eq!(ips, ["192.0.2.3", "192.0.2.9"]);
        let ports: Vec<_> = all[0].ports.iter().flatten().map(|p| p.port).collect();
        assert_eq!(ports, [80], "a port that is not served is not named");
    }
}
