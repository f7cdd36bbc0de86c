use serde_json::{Value, json};

use super::*;

fn policy(spec: Value) -> Policy {
    let object = json!({"metadata": {"namespace": "shop", "name": "p"}, "spec": spec});
    Policy::of(&serde_json::from_value(object).unwrap()).unwrap()
}

/// The lines of a policy with this one rule of ingress, as texts.
fn lines(rule: Value) -> Vec<String> {
    let policy = policy(json!({"podSelector": {}, "ingress": [rule]}));
    let peers = |peers: &Peers| match peers {
        Peers::Any => "any".to_owned(),
        Peers::Pods(pods) => pods.any.iter().map(ToString::to_string).collect::<Vec<_>>().join(" or "),
        Peers::Addresses(ranges) => {
            ranges.iter().map(|(a, b)| format!("{a}-{b}")).collect::<Vec<_>>().join(" or ")
        }
    };
    let ports = |ports: &Ports| match ports {
        Ports::Any => "any".to_owned(),
        Ports::Protocol(p) => p.name().to_owned(),
        Ports::Numbers(p, ranges) => format!("{} {ranges:?}", p.name()),
        Ports::Named(p, name) => format!("{} {name}", p.name()),
    };
    policy.ingress.unwrap().iter().map(|l| format!("{} | {}", peers(&l.peers), ports(&l.ports))).collect()
}

#[test]
fn types_default_to_what_is_spoken_of() {
    let check = |spec: Value, ingress: Option<usize>, egress: Option<usize>| {
        let policy = policy(spec.clone());
        let count = |lines: &Option<Vec<Line>>| lines.as_ref().map(Vec::len);
        assert_eq!((count(&policy.ingress), count(&policy.egress)), (ingress, egress), "{spec}");
    };
    check(json!({"podSelector": {}}), Some(0), None);
    check(json!({"podSelector": {}, "policyTypes": []}), Some(0), None);
    check(json!({"podSelector": {}, "egress": []}), Some(0), None);
    check(json!({"podSelector": {}, "egress": [{}]}), Some(0), Some(1));
    check(json!({"podSelector": {}, "policyTypes": ["Egress"]}), None, Some(0));
    check(json!({"podSelector": {}, "policyTypes": ["Egress"], "ingress": [{}]}), None, Some(0));
    check(
        json!({"podSelector": {}, "policyTypes": ["Ingress", "Egress"], "ingress": [{}]}),
        Some(1),
        Some(0),
    );
}

#[test]
fn peers_are_understood() {
    let check = |from: Value, expected: &[&str]| {
        let expected: Vec<String> = expected.iter().map(|peers| format!("{peers} | any")).collect();
        assert_eq!(lines(json!({"from": from})), expected, "{from}");
    };
    check(json!(null), &["any"]);
    check(json!([]), &["any"]);
    check(json!([{"podSelector": {}}]), &["in shop: "]);
    check(json!([{"podSelector": {"matchLabels": {"a": "b"}}}]), &["in shop: a=b"]);
    check(json!([{"namespaceSelector": {}}]), &["where : "]);
    check(json!([{"namespaceSelector": {"matchLabels": {"t": "x"}}}]), &["where t=x: "]);
    check(
        json!([{"namespaceSelector": {"matchLabels": {"t": "x"}}, "podSelector": {"matchLabels": {"a": "b"}}}]),
        &["where t=x: a=b"],
    );
    check(
        json!([{"podSelector": {}}, {"namespaceSelector": {"matchLabels": {"t": "x"}}}]),
        &["in shop:  or where t=x: "],
    );
    check(json!([{}]), &[]);
    check(json!([{"podSelector": {"matchExpressions": [{"key": "a", "operator": "Odd"}]}}]), &[]);
    check(
        json!([{"ipBlock": {"cidr": "10.0.0.0/24"}}, {"podSelector": {}}]),
        &["in shop: ", "10.0.0.0-10.0.0.255"],
    );
}

#[test]
fn blocks_become_ranges_apart() {
    let check = |blocks: Value, expected: &str| {
        let from: Vec<Value> =
            blocks.as_array().unwrap().iter().map(|block| json!({"ipBlock": block})).collect();
        let expected: Vec<String> =
            if expected.is_empty() { vec![] } else { vec![format!("{expected} | any")] };
        assert_eq!(lines(json!({"from": from})), expected, "{blocks}");
    };
    check(json!([{"cidr": "0.0.0.0/0"}]), "0.0.0.0-255.255.255.255");
    check(
        json!([{"cidr": "10.0.0.0/24", "except": ["10.0.0.0/26", "10.0.0.128/25"]}]),
        "10.0.0.64-10.0.0.127",
    );
    check(
        json!([{"cidr": "10.0.0.0/24", "except": ["10.0.0.64/26", "10.0.0.64/28"]}]),
        "10.0.0.0-10.0.0.63 or 10.0.0.128-10.0.0.255",
    );
    check(json!([{"cidr": "0.0.0.0/0", "except": ["255.0.0.0/8"]}]), "0.0.0.0-254.255.255.255");
    check(json!([{"cidr": "10.0.0.0/24", "except": ["10.0.0.0/24"]}]), "");
    check(json!([{"cidr": "10.0.0.0/25"}, {"cidr": "10.0.0.128/25"}]), "10.0.0.0-10.0.0.255");
    check(
        json!([{"cidr": "10.0.0.0/8", "except": ["10.1.0.0/16"]}, {"cidr": "10.1.2.0/24"}]),
        "10.0.0.0-10.0.255.255 or 10.1.2.0-10.1.2.255 or 10.2.0.0-10.255.255.255",
    );
    check(json!([{"cidr": "10.0.0.7/24"}]), "10.0.0.0-10.0.0.255");
    check(
        json!([{"cidr": "2001:db8::/32", "except": ["2001:db8:1::/48"]}, {"cidr": "10.0.0.0/31"}]),
        "10.0.0.0-10.0.0.1 or 2001:db8::-2001:db8:0:ffff:ffff:ffff:ffff:ffff or 2001:db8:2::-2001:db8:ffff:ffff:ffff:ffff:ffff:ffff",
    );
    check(json!([{"cidr": "::/0"}]), "::-ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff");
    check(json!([{"cidr": "::/0", "except": ["8000::/1"]}]), "::-7fff:ffff:ffff:ffff:ffff:ffff:ffff:ffff");
    check(json!([{"cidr": "0.0.0.0/0"}, {"cidr": "::/128"}]), "0.0.0.0-255.255.255.255 or ::-::");
    check(json!([{"cidr": "10.0.0.0/24", "except": ["fd00::/64"]}]), "");
    check(json!([{"cidr": "10.0.0.0/24", "except": ["what"]}]), "");
}

#[test]
fn ports_are_joined_by_protocol() {
    let check = |ports: Value, expected: &[&str]| {
        let expected: Vec<String> = expected.iter().map(|ports| format!("any | {ports}")).collect();
        assert_eq!(lines(json!({"ports": ports})), expected, "{ports}");
    };
    check(json!([]), &["any"]);
    check(json!([{}]), &["tcp"]);
    check(json!([{"port": 80}]), &["tcp [(80, 80)]"]);
    check(json!([{"port": 80}, {"port": 81}, {"port": 443}]), &["tcp [(80, 81), (443, 443)]"]);
    check(json!([{"port": 8000, "endPort": 9000}, {"port": 8500, "endPort": 9500}]), &["tcp [(8000, 9500)]"]);
    check(json!([{"port": 1, "endPort": 65535}, {"port": 7}]), &["tcp [(1, 65535)]"]);
    check(json!([{"port": 53, "protocol": "UDP"}, {"port": 53}]), &["tcp [(53, 53)]", "udp [(53, 53)]"]);
    check(json!([{"protocol": "SCTP"}, {"port": 9, "protocol": "SCTP"}]), &["sctp"]);
    check(json!([{"port": "http"}, {"port": 80}]), &["tcp [(80, 80)]", "tcp http"]);
    check(json!([{"port": "http"}, {}]), &["tcp"]);
    check(json!([{"port": "} drop"}]), &[]);
    check(json!([{"protocol": "ICMP"}]), &[]);
    check(json!([{"port": 9, "endPort": 8}]), &[]);
}

#[test]
fn same_peers_have_the_same_set() {
    let id = |from: Value| {
        let policy = policy(json!({"podSelector": {}, "ingress": [{"from": from}]}));
        match &policy.ingress.unwrap()[0].peers {
            Peers::Pods(pods) => pods.id.clone(),
            other => panic!("{other:?}"),
        }
    };
    let (a, b) = (json!({"podSelector": {"matchLabels": {"a": "b"}}}), json!({"namespaceSelector": {}}));
    assert_eq!(id(json!([a, b])), id(json!([b, a])));
    assert_ne!(id(json!([a])), id(json!([b])));
    assert_eq!(id(json!([a])).len(), 16);
}
