use serde_json::json;

use super::*;

fn node(name: &str, address: &str, range: &str) -> Node {
    serde_json::from_value(json!({
        "metadata": {"name": name}, "spec": {"podCIDR": range, "podCIDRs": [range]},
        "status": {"addresses": [{"type": "Hostname", "address": name}, {"type": "InternalIP", "address": address}]},
    }))
    .unwrap()
}

#[test]
fn ranges_lead_to_the_other_nodes() {
    let own: DualRange = "10.244.0.0/24".parse().unwrap();
    let me: IpAddr = "192.0.2.1".parse().unwrap();
    let check = |nodes: &[Node], expected: &[(&str, &str)], why: &str| {
        let mut peers = Peers::new("me");
        peers.replace(nodes);
        let found: Vec<_> =
            peers.ranges(me, own).into_iter().map(|(r, p)| (r.to_string(), p.v4.to_string())).collect();
        let found: Vec<_> = found.iter().map(|(r, a)| (r.as_str(), a.as_str())).collect();
        assert_eq!(found, expected, "{why}");
    };
    let mine = node("me", "192.0.2.1", "10.244.0.0/24");
    let a = node("a", "192.0.2.2", "10.244.1.0/24");
    check(&[mine.clone(), a.clone()], &[("10.244.1.0/24", "192.0.2.2")], "not to myself");
    check(&[node("a", "192.0.2.2", "")], &[], "no range yet");
    check(&[node("a", "", "10.244.1.0/24")], &[], "no address yet");
    check(&[node("a", "2001:db8::1", "10.244.1.0/24")], &[], "IPv6 only");
    check(&[node("a", "127.0.0.1", "10.244.1.0/24")], &[], "a made-up node");
    check(&[node("a", "192.0.2.1", "10.244.1.0/24")], &[], "another node on this machine");
    check(&[node("a", "192.0.2.2", "10.244.0.128/25")], &[], "part of my own range");
    check(&[node("a", "192.0.2.2", "10.0.0.0/8")], &[], "my own range is part of it");
    check(
        &[a.clone(), node("b", "192.0.2.3", "10.244.1.0/24")],
        &[("10.244.1.0/24", "192.0.2.2")],
        "claimed twice",
    );
    check(
        &[node("a", "192.0.2.2", "10.244.1.7/24")],
        &[("10.244.1.0/24", "192.0.2.2")],
        "host bits are cut off",
    );
}

#[test]
fn nodes_come_change_and_go() {
    let own: DualRange = "10.244.0.0/24".parse().unwrap();
    let me: IpAddr = "192.0.2.1".parse().unwrap();
    let mut peers = Peers::new("me");
    assert_eq!(peers.own_range(), None);
    peers.replace(&[node("me", "192.0.2.1", "10.244.0.0/24"), node("a", "192.0.2.2", "10.244.1.0/24")]);
    assert_eq!(peers.own_range(), Some(own));
    peers.put(&node("a", "192.0.2.9", "10.244.1.0/24"));
    assert_eq!(
        peers.ranges(me, own).into_values().collect::<Vec<_>>(),
        [Peer::from("192.0.2.9".parse::<Ipv4Addr>().unwrap())]
    );
    peers.remove(&node("a", "", ""));
    assert!(peers.ranges(me, own).is_empty());
}

fn dual(name: &str, addresses: &[&str], ranges: &[&str]) -> Node {
    let addresses: Vec<_> = addresses.iter().map(|a| json!({"type": "InternalIP", "address": a})).collect();
    serde_json::from_value(json!({
        "metadata": {"name": name}, "spec": {"podCIDR": ranges[0], "podCIDRs": ranges},
        "status": {"addresses": addresses},
    }))
    .unwrap()
}

#[test]
fn ranges_of_ipv6_lead_there_too_where_both_have_them() {
    let check = |own: &str, node: Node, expected: (Option<&str>, Option<&str>), why: &str| {
        let mut peers = Peers::new("me");
        peers.replace(&[node]);
        let ranges = peers.ranges("192.0.2.1".parse().unwrap(), own.parse().unwrap());
        let peer = ranges.into_values().next().unwrap();
        let found = (peer.range6.map(|r| r.to_string()), peer.v6.map(|a| a.to_string()));
        assert_eq!((found.0.as_deref(), found.1.as_deref()), expected, "{why}");
    };
    let own = "10.244.0.0/24,fd00:0:0:0::/64";
    let both = ["10.244.1.0/24", "fd00:0:0:1::/64"];
    check(own, dual("a", &["192.0.2.2"], &both), (Some("fd00:0:0:1::/64"), None), "over the overlay");
    check(
        own,
        dual("a", &["192.0.2.2", "2001:db8::2"], &both),
        (Some("fd00:0:0:1::/64"), Some("2001:db8::2")),
        "or directly",
    );
    check(own, dual("a", &["192.0.2.2"], &both[..1]), (None, None), "it has none");
    check("10.244.0.0/24", dual("a", &["192.0.2.2"], &both), (None, None), "I have none");
    check(
        own,
        dual("a", &["192.0.2.2"], &["10.244.1.0/24", "fd00::/48"]),
        (None, None),
        "mine is part of it",
    );
}
