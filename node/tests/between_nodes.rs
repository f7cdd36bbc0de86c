//! Pods of different nodes talk to one another: real namespaces as machines, real VXLAN and routes, the real CNI
//! plugins. Needs root and the plugins; without them the tests say so and pass over.

#![expect(clippy::unwrap_used, reason = "what a test needs and does not get ends it")]

#[path = "support/hosts.rs"]
mod hosts;
#[path = "support/namespace.rs"]
mod namespace;
#[path = "support/scripted.rs"]
mod scripted;

use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use hosts::{Machine, RunningNode, Segment, node};
use namespace::{PORT, ip, is_root, serve, serve_at, tcp};
use node::family::Family;
use node::network::PodNetworkMode;
use node::proxy::ProxyMode;
use scripted::Scripted;
use serde_json::json;

const PATIENCE: Duration = Duration::from_secs(2);

fn can_run() -> bool {
    let plugins = ["/opt/cni/bin", "/usr/lib/cni", "/usr/libexec/cni"];
    let found = plugins.iter().any(|dir| std::path::Path::new(dir).join("bridge").is_file());
    if !is_root() || !found {
        eprintln!("SKIPPED: needs root and CNI plugins");
    }
    is_root() && found
}

/// Looks until it is so.
fn until(what: &str, mut so: impl FnMut() -> bool) {
    for _ in 0..400 {
        if so() {
            return;
        }
        pause();
    }
    panic!("it does not come about that {what}");
}

#[expect(
    clippy::disallowed_methods,
    reason = "the kernel and other threads have no virtual time; no arbiter waits here"
)]
fn pause() {
    std::thread::sleep(Duration::from_millis(20));
}

fn ready(node: &RunningNode) {
    until("the node is ready", || node.ready().is_ok());
}

fn routes(machine: &Machine) -> String {
    ip(&format!("-n {} route show proto 116", machine.space.0))
}

fn mtu(namespace: &str, device: &str) -> u32 {
    let shown = ip(&format!("-n {namespace} -o link show dev {device}"));
    shown.split(' ').skip_while(|w| *w != "mtu").nth(1).and_then(|m| m.parse().ok()).expect("an MTU")
}

/// Three nodes, the third coming later; what each sees. `far` is a node that no route can lead to directly.
fn nodes_come_and_go(mode: PodNetworkMode, name: &str, pod_mtu: u32) {
    if !can_run() {
        return;
    }
    let state = tempfile::tempdir().unwrap();
    let (segment, api) = (Segment::new(name), Scripted::default());
    let machines = [1, 2, 3].map(|last| segment.machine(last));
    let [one, two, three] = &machines;
    api.set("nodes", one.node());
    api.set("nodes", two.node());
    let first = one.start(&api, mode, state.path());
    let second = two.start(&api, mode, state.path());
    ready(&first);
    ready(&second);
    let (a, b) = (segment.pod("a"), segment.pod("b"));
    let (at_a, at_b) = (first.attach(&a), second.attach(&b));
    serve(&a.0, "a", PORT);
    serve(&b.0, "b", PORT);
    let talk = |from: &str, to: &str| tcp(from, &format!("{to}:{PORT}"), PATIENCE);

    // Pod to pod, under their own addresses.
    assert_eq!(talk(&a.0, &at_b).unwrap(), format!("b {at_a}"));
    assert_eq!(talk(&b.0, &at_a).unwrap(), format!("a {at_b}"));
    // A pod and another node, either way.
    assert!(talk(&one.space.0, &at_b).unwrap().starts_with("b "));
    serve(&two.space.0, "node", PORT);
    assert_eq!(
        talk(&a.0, "192.0.2.2").unwrap(),
        "node 192.0.2.1",
        "outside the pods' network they are the node"
    );
    assert_eq!(mtu(&a.0, "eth0"), pod_mtu);

    // A node comes, and one that is not to be reached; then the pods of the first are.
    api.set("nodes", node(9, "203.0.113.9"));
    api.set("nodes", three.node());
    let third = three.start(&api, mode, state.path());
    ready(&third);
    let c = segment.pod("c");
    let at_c = third.attach(&c);
    serve(&c.0, "c", PORT);
    until("pods of the new node are reached", || talk(&a.0, &at_c).is_ok());
    assert_eq!(talk(&b.0, &at_c).unwrap(), format!("c {at_b}"));
    assert_eq!(routes(one).contains("10.244.9.0/24"), mode == PodNetworkMode::Vxlan, "{}", routes(one));

    // A node leaves.
    api.delete("nodes", node(9, ""));
    api.delete("nodes", three.node());
    until("the way to it goes", || !routes(one).contains("10.244.3.0/24"));
    assert!(routes(one).contains("10.244.2.0/24"), "{}", routes(one));
    assert!(talk(&a.0, &at_b).is_ok());

    // A node that was away meanwhile: what it left is what it finds, and brings up to date.
    drop(first);
    ip(&format!("-n {} route add 10.244.77.0/24 via 192.0.2.77 dev eth0 proto 116", one.space.0));
    api.set("nodes", three.node());
    api.delete("nodes", two.node());
    let first = one.start(&api, mode, state.path());
    ready(&first);
    until("the ways are those of now", || {
        routes(one).lines().count() == 1 && routes(one).contains("10.244.3.0/24")
    });
    let d = segment.pod("d");
    let at_d = first.attach(&d);
    assert_eq!(talk(&d.0, &at_c).unwrap(), format!("c {at_d}"));

    // What somebody else takes away comes back; so does what an interface that goes down and up has lost.
    api.set("nodes", two.node());
    until("the ways are both", || routes(one).lines().count() == 2);
    ip(&format!("-n {} route flush proto 116", one.space.0));
    until("all ways are back", || routes(one).lines().count() == 2);
    let device = if mode == PodNetworkMode::Vxlan { "troupe-vxlan" } else { "eth0" };
    ip(&format!("-n {} link set {device} down", one.space.0));
    ip(&format!("-n {} link set {device} up", one.space.0));
    until("all ways are back again", || routes(one).lines().count() == 2);
    assert_eq!(talk(&d.0, &at_b).unwrap(), format!("b {at_d}"));

    first.clean_up();
    assert_eq!(routes(one), "");
    assert!(!ip(&format!("-n {} link show", one.space.0)).contains("troupe-vxlan"));
}

#[test]
fn pods_talk_over_vxlan() {
    nodes_come_and_go(PodNetworkMode::Vxlan, "v", 1450);
}

#[test]
fn pods_talk_by_routes() {
    nodes_come_and_go(PodNetworkMode::Routes, "r", 1500);
}

/// Two nodes whose pods have addresses of both families.
fn both_families(mode: PodNetworkMode, name: &str) {
    if !can_run() || !Family::here().contains(&Family::V6) {
        eprintln!("SKIPPED: needs IPv6 too");
        return;
    }
    let state = tempfile::tempdir().unwrap();
    let (segment, api) = (Segment::new(name), Scripted::default());
    let [one, two] = [1, 2].map(|last| segment.dual_machine(last));
    api.set("nodes", one.node());
    api.set("nodes", two.node());
    let (first, second) = (one.start(&api, mode, state.path()), two.start(&api, mode, state.path()));
    ready(&first);
    ready(&second);
    let pods = ["a", "b", "c"].map(|pod| segment.pod(pod));
    let [a, b, c] = &pods;
    let at = [first.attach_all(a), second.attach_all(b), first.attach_all(c)];
    for addresses in &at {
        assert!(addresses.len() == 2 && addresses[0].is_ipv4() && addresses[1].is_ipv6(), "{addresses:?}");
    }
    assert!(at[1][1].to_string().starts_with("fd00:10:244:2::"), "{at:?}");
    let all = |port| SocketAddr::from((Ipv6Addr::UNSPECIFIED, port));
    for (pod, name) in [(a, "a"), (b, "b"), (c, "c")] {
        serve_at(&pod.0, name, all(PORT));
    }
    serve_at(&two.space.0, "node", all(PORT));
    let talk = |from: &str, to: &str| tcp(from, &format!("{to}:{PORT}"), PATIENCE).unwrap();
    let v6 = |address: &IpAddr| format!("[{address}]");
    until("pods of the other node are reached", || {
        tcp(&a.0, &format!("{}:{PORT}", v6(&at[1][1])), PATIENCE).is_ok()
    });
    assert_eq!(talk(&a.0, &v6(&at[1][1])), format!("b {}", at[0][1]), "under its own address");
    assert_eq!(talk(&b.0, &v6(&at[0][1])), format!("a {}", at[1][1]), "and back");
    assert_eq!(talk(&a.0, &v6(&at[2][1])), format!("c {}", at[0][1]), "on one node");
    assert_eq!(talk(&a.0, &at[1][0].to_string()), format!("b ::ffff:{}", at[0][0]), "by IPv4 as ever");
    assert!(talk(&one.space.0, &v6(&at[1][1])).starts_with("b "), "from a node to pods of another");
    assert_eq!(
        talk(&a.0, "[2001:db8::2]"),
        "node 2001:db8::1",
        "outside the pods' network they are the node"
    );

    let routes6 = || ip(&format!("-n {} -6 route show proto 116", one.space.0));
    assert!(routes6().contains("fd00:10:244:2::/64"), "{}", routes6());
    api.delete("nodes", two.node());
    until("the way to it goes", || !routes6().contains("fd00:10:244:2::"));
    first.clean_up();
    assert_eq!((routes6(), routes(&one)), (String::new(), String::new()));
}

#[test]
fn pods_of_both_families_talk_over_vxlan() {
    both_families(PodNetworkMode::Vxlan, "dv");
}

#[test]
fn pods_of_both_families_talk_by_routes() {
    both_families(PodNetworkMode::Routes, "dr");
}

/// Nodes on which IPv6 is switched off: their pods have it all the same, and its Services, as have the nodes themselves.
fn services_of_ipv6_without_any_on_the_nodes(proxy: ProxyMode, name: &str) {
    if !can_run() || !Family::here().contains(&Family::V6) {
        eprintln!("SKIPPED: needs IPv6 too");
        return;
    }
    let state = tempfile::tempdir().unwrap();
    let (segment, api) = (Segment::new(name), Scripted::default());
    let [one, two] = [1, 2].map(|last| segment.machine_without_ipv6(last));
    api.set("nodes", one.node());
    api.set("nodes", two.node());
    let start =
        |machine: &Machine| machine.start_with(&api, PodNetworkMode::Vxlan, state.path(), Some(proxy));
    let (first, second) = (start(&one), start(&two));
    ready(&first);
    ready(&second);
    let pods = ["a", "b"].map(|pod| segment.pod(pod));
    let [a, b] = &pods;
    let (at_a, at_b) = (first.attach_all(a), second.attach_all(b));
    for (pod, name) in [(a, "a"), (b, "b")] {
        serve_at(&pod.0, name, SocketAddr::from((Ipv6Addr::UNSPECIFIED, PORT)));
    }
    let service = |name: &str, last: u8| {
        let ips = [format!("10.96.0.{last}"), format!("fd00:10:96::{last}")];
        api.set(
            "services",
            json!({
            "apiVersion": "v1", "kind": "Service", "metadata": {"namespace": "default", "name": name},
            "spec": {"clusterIP": ips[0], "clusterIPs": ips, "ports": [{"port": 80, "protocol": "TCP"}]}}),
        );
    };
    let slice = |service: &str, node: &str, addresses: &[IpAddr]| {
        for (kind, address) in ["IPv4", "IPv6"].iter().zip(addresses) {
            let endpoint = json!({"addresses": [address], "nodeName": node});
            api.set(
                "endpointslices",
                json!({
                "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
                "metadata": {"namespace": "default", "name": format!("{service}-{kind}"),
                             "labels": {"kubernetes.io/service-name": service}},
                "addressType": kind, "ports": [{"port": PORT, "protocol": "TCP"}], "endpoints": [endpoint]}),
            );
        }
    };
    service("far", 5);
    slice("far", "n2", &at_b);
    service("near", 6);
    slice("near", "n1", &at_a);
    service("nobody", 7);

    let talk = |from: &str, last: u8| tcp(from, &format!("[fd00:10:96::{last}]:80"), PATIENCE);
    until("the Service leads to the other node", || talk(&a.0, 5).is_ok());
    assert_eq!(talk(&a.0, 5).unwrap(), format!("b {}", at_a[1]), "under the pod's own address");
    until("and from there to this one", || talk(&b.0, 6).is_ok());
    assert_eq!(talk(&b.0, 6).unwrap(), format!("a {}", at_b[1]));
    assert!(talk(&a.0, 6).unwrap().starts_with("a "), "a pod reaches itself");
    // The nodes themselves, and with them what runs in their network.
    assert!(talk(&one.space.0, 5).unwrap().starts_with("b "), "from a node to a pod of another");
    assert!(talk(&one.space.0, 6).unwrap().starts_with("a "), "from a node to a pod of its own");
    // Nobody is behind it, or it is no Service's at all: both are said at once.
    for from in [&a.0, &one.space.0] {
        for last in [7, 99] {
            // Its rule may come with a batch after that of the others; before that it is nobody's, and nothing is said.
            let is_refused =
                || talk(from, last).is_err_and(|why| why.kind() == std::io::ErrorKind::ConnectionRefused);
            until(&format!("{from} is refused at {last}"), is_refused);
            let refused = talk(from, last).unwrap_err();
            assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused, "{from} to {last}: {refused}");
        }
    }
    // What somebody else takes away comes back.
    ip(&format!("-n {} -6 route del fd00:10:96::/112", one.space.0));
    until("the way to Services is back", || talk(&one.space.0, 5).is_ok());
    first.clean_up();
    assert_eq!(ip(&format!("-n {} -6 route show proto 116", one.space.0)), "");
}

#[test]
fn services_of_ipv6_need_none_on_the_nodes_in_nftables() {
    services_of_ipv6_without_any_on_the_nodes(ProxyMode::Nftables, "sn");
}

#[test]
fn services_of_ipv6_need_none_on_the_nodes_in_iptables() {
    services_of_ipv6_without_any_on_the_nodes(ProxyMode::Iptables, "si");
}

#[test]
fn services_of_ipv6_need_none_on_the_nodes_in_userspace() {
    services_of_ipv6_without_any_on_the_nodes(ProxyMode::Userspace, "su");
}

#[test]
fn a_node_that_moves_takes_one_entry_with_it() {
    if !can_run() {
        return;
    }
    let state = tempfile::tempdir().unwrap();
    let (segment, api) = (Segment::new("m"), Scripted::default());
    let one = segment.machine(1);
    api.set("nodes", one.node());
    api.set("nodes", node(2, "192.0.2.2"));
    let first = one.start(&api, PodNetworkMode::Vxlan, state.path());
    ready(&first);
    let ns = &one.space.0;
    let forwarding = || {
        let shown = std::process::Command::new("bridge")
            .args(["-n", ns, "fdb", "show", "dev", "troupe-vxlan"])
            .output();
        String::from_utf8_lossy(&shown.expect("bridge runs").stdout).into_owned()
    };
    let entry = |address: &str| format!("0a:58:0a:f4:02:00 dst {address}");
    until("its entry is there", || forwarding().contains(&entry("192.0.2.2")));
    let device = ip(&format!("-n {ns} -o link show dev troupe-vxlan"));
    api.set("nodes", node(2, "192.0.2.22"));
    until("its entry leads there", || forwarding().contains(&entry("192.0.2.22")));
    assert!(!forwarding().contains(&entry("192.0.2.2 ")), "{}", forwarding());
    assert_eq!(ip(&format!("-n {ns} -o link show dev troupe-vxlan")), device, "the interface stays as it is");

    // The other mode, after a restart, leaves nothing of this one.
    drop(first);
    let again = one.start(&api, PodNetworkMode::Routes, state.path());
    ready(&again);
    until("the overlay goes", || !ip(&format!("-n {ns} link show")).contains("troupe-vxlan"));
    assert!(routes(&one).contains("10.244.2.0/24 via 192.0.2.22 dev eth0"), "{}", routes(&one));
}
