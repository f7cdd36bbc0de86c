//! The service proxy in the kernel: real namespaces, real rules, real traffic; every scenario in every mode. Needs root;
//! without it the tests say so and pass over.

#![expect(clippy::unwrap_used, reason = "what a test needs and does not get ends it")]

#[path = "support/netns.rs"]
mod netns;
#[path = "support/proxied.rs"]
mod proxied;
#[path = "support/scripted.rs"]
mod scripted;

use std::future::Future;
use std::io::ErrorKind;
use std::time::Duration;

use netns::Lab;
use node::proxy::{ProxyMode, Scheduler};
use proxied::{B, C, NODE, Proxied, endpoint};
use scripted::Scripted;
use serde_json::json;

/// Runs a scenario on a lab of its own, and sees that nothing stays behind.
fn run<F: Future<Output = Proxied>>(mode: ProxyMode, scenario: impl FnOnce(Proxied) -> F + Send + 'static) {
    Lab::run(async move |lab| {
        let proxied = Proxied::start(lab, Scripted::default(), mode, Scheduler::default());
        scenario(proxied).await.stop().await;
    });
}

macro_rules! in_every_mode {
    (@$name:ident $mode:ident $($scenario:ident)*) => {
        mod $name {
            $(#[test]
            fn $scenario() {
                super::run(node::proxy::ProxyMode::$mode, super::$scenario);
            })*
        }
    };
    ($($scenario:ident)*) => {
        in_every_mode!(@nftables Nftables $($scenario)*);
        in_every_mode!(@iptables Iptables $($scenario)*);
        in_every_mode!(@userspace Userspace $($scenario)*);
    };
}

in_every_mode! {
    cluster_ips_lead_to_their_endpoints
    endpoints_and_services_come_and_go
    node_ports_answer_on_the_nodes_addresses
    external_ips_lead_to_endpoints
    balancers_addresses_lead_to_endpoints_unless_they_are_proxies
    source_ranges_keep_others_out
    clients_with_affinity_stay_until_they_were_silent
    affinity_of_a_node_port_is_switched_on_and_off
    internal_traffic_stays_on_the_node
    external_traffic_that_stays_keeps_its_source
    nobody_behind_is_refused
    terminating_endpoints_serve_while_nobody_else_does
    endpoints_reach_themselves
    udp_clients_move_with_the_endpoints
    udp_clients_of_nobody_are_answered_once_somebody_is_there
    udp_clients_move_though_nobody_looked
    panics_take_nothing_away
    named_ports_differ_from_pod_to_pod
    endpoints_by_hand_may_be_anywhere
    zones_are_followed
    both_families_are_served
    balancers_addresses_of_ipv6_lead_to_endpoints
    services_that_share_an_address_have_its_ports
}

async fn cluster_ips_lead_to_their_endpoints(p: Proxied) -> Proxied {
    p.service("web", "10.96.0.5", json!({}));
    p.endpoints("web", "TCP", &[B, C]);
    p.settled().await;
    for (from, times) in [("a", 30), ("node", 20)] {
        let tally = p.tally(from, "10.96.0.5:80", times).await;
        assert_eq!(tally.keys().collect::<Vec<_>>(), ["b", "c"], "{from}: {tally:?}");
    }
    p.endpoints("web", "TCP", &[B]);
    p.settled().await;
    p.answers("a", "10.96.0.5:80", "b", "10.7.0.2").await;
    p
}

async fn endpoints_and_services_come_and_go(p: Proxied) -> Proxied {
    for n in 5..9 {
        p.service(&format!("web{n}"), &format!("10.96.0.{n}"), json!({}));
        p.endpoints(&format!("web{n}"), "TCP", &[B, C]);
    }
    p.settled().await;
    p.endpoints("web5", "TCP", &[C]);
    p.delete("web6");
    p.endpoints("web7", "TCP", &[]);
    p.settled().await;
    assert_eq!(p.tally("a", "10.96.0.5:80", 6).await.into_keys().collect::<Vec<_>>(), ["c"]);
    for from in ["a", "node"] {
        p.refused(from, "10.96.0.6:80").await;
        p.refused(from, "10.96.0.7:80").await;
        p.refused(from, "10.96.0.8:81").await;
    }
    assert_eq!(p.tally("a", "10.96.0.8:80", 20).await.len(), 2, "others are as they were");
    p.endpoints("web7", "TCP", &[B]);
    p.service("web6", "10.96.0.6", json!({}));
    p.settled().await;
    p.answers("a", "10.96.0.7:80", "b", "10.7.0.2").await;
    assert_eq!(p.tally("a", "10.96.0.6:80", 20).await.len(), 2);
    p
}

async fn node_ports_answer_on_the_nodes_addresses(p: Proxied) -> Proxied {
    p.service("web", "10.96.0.5", json!({"type": "NodePort", "ports": [{"port": 80, "nodePort": 30080}]}));
    p.endpoints("web", "TCP", &[B]);
    p.settled().await;
    // The client is hidden, so that answers come back by this node.
    p.answers("out", &format!("{NODE}:30080"), "b", "10.7.0.1").await;
    p.answers("node", &format!("{NODE}:30080"), "b", "10.7.0.1").await;
    p.answers("a", &format!("{NODE}:30080"), "b", "10.7.0.1").await;
    p.answers("a", "10.7.0.1:30080", "b", "10.7.0.1").await;
    p
}

async fn external_ips_lead_to_endpoints(p: Proxied) -> Proxied {
    p.lab.ip("out", "route add 198.51.100.0/24 via 192.168.77.1");
    p.service("web", "10.96.0.5", json!({"externalIPs": ["198.51.100.1"]}));
    p.endpoints("web", "TCP", &[C]);
    // Who comes first by name has an address; the other has it once that is gone.
    p.service("xerox", "10.96.0.6", json!({"externalIPs": ["198.51.100.1"]}));
    p.endpoints("xerox", "TCP", &[B]);
    p.settled().await;
    p.answers("out", "198.51.100.1:80", "c", "10.7.0.1").await;
    p.answers("a", "198.51.100.1:80", "c", "10.7.0.1").await;
    p.delete("web");
    p.settled().await;
    p.answers("out", "198.51.100.1:80", "b", "10.7.0.1").await;
    p
}

async fn balancers_addresses_lead_to_endpoints_unless_they_are_proxies(p: Proxied) -> Proxied {
    p.lab.ip("out", "route add 198.51.100.7 via 192.168.77.1");
    // A balancer that is a machine of its own, and answers itself.
    p.lab.ip("out", "addr add 198.51.100.8/32 dev lo");
    p.lab.serve("out", 80);
    let status = json!({"loadBalancer": {"ingress": [
        {"ip": "198.51.100.7", "ipMode": "VIP"}, {"ip": "198.51.100.8", "ipMode": "Proxy"}]}});
    p.service_with("web", "10.96.0.5", json!({"type": "LoadBalancer"}), status);
    p.endpoints("web", "TCP", &[B]);
    p.settled().await;
    p.answers("out", "198.51.100.7:80", "b", "10.7.0.1").await;
    p.answers("a", "198.51.100.7:80", "b", "10.7.0.1").await;
    assert_eq!(p.tcp("node", "198.51.100.8:80").await.unwrap(), "out 192.168.77.1");
    p
}

async fn source_ranges_keep_others_out(p: Proxied) -> Proxied {
    p.lab.ip("out", "route add 198.51.100.0/24 via 192.168.77.1");
    for (name, ip, n, range) in
        [("near", "10.96.0.5", 7, "192.168.77.0/24"), ("far", "10.96.0.6", 9, "203.0.113.0/24")]
    {
        let spec = json!({"type": "LoadBalancer", "loadBalancerSourceRanges": [range],
            "externalIPs": [format!("198.51.100.{}", n + 1)]});
        let status = json!({"loadBalancer": {"ingress": [{"ip": format!("198.51.100.{n}")}]}});
        p.service_with(name, ip, spec, status);
        p.endpoints(name, "TCP", &[B]);
    }
    p.settled().await;
    p.answers("out", "198.51.100.7:80", "b", "10.7.0.1").await;
    p.dropped("a", "198.51.100.7:80").await;
    p.dropped("out", "198.51.100.9:80").await;
    // The ranges are about balancers' addresses alone.
    p.answers("out", "198.51.100.10:80", "b", "10.7.0.1").await;
    p.answers("a", "10.96.0.6:80", "b", "10.7.0.2").await;
    p
}

async fn clients_with_affinity_stay_until_they_were_silent(p: Proxied) -> Proxied {
    // An odd number: whoever takes turns gives each client the other endpoint in a second round.
    let clients: Vec<String> = (20..37).map(|n| format!("10.7.0.{n}")).collect();
    for client in &clients {
        p.lab.ip("a", &format!("addr add {client}/24 dev eth0"));
    }
    let config = json!({"clientIP": {"timeoutSeconds": 6}});
    p.service("web", "10.96.0.5", json!({"sessionAffinity": "ClientIP", "sessionAffinityConfig": config}));
    p.endpoints("web", "TCP", &[B, C]);
    p.settled().await;
    let mut rounds = Vec::new();
    for pause in [0, 0, 7] {
        tokio::time::sleep(Duration::from_secs(pause)).await;
        let mut round = Vec::new();
        for client in &clients {
            let answer = p.tcp_as("a", client, "10.96.0.5:80").await.unwrap();
            round.push(answer.split(' ').next().unwrap_or_default().to_owned());
        }
        rounds.push(round);
    }
    assert!(rounds[0].iter().any(|who| who == "b") && rounds[0].iter().any(|who| who == "c"), "{rounds:?}");
    assert_eq!(rounds[0], rounds[1], "each stays where it is");
    assert_ne!(rounds[1], rounds[2], "chosen anew, 17 equal choices are one in 131072");
    // An endpoint that goes takes nobody with it.
    p.endpoints("web", "TCP", &[C]);
    p.settled().await;
    for client in &clients {
        assert!(p.tcp_as("a", client, "10.96.0.5:80").await.unwrap().starts_with("c "));
    }
    p
}

async fn affinity_of_a_node_port_is_switched_on_and_off(p: Proxied) -> Proxied {
    let at = format!("{NODE}:30080");
    let switched = async |affinity: &str| {
        let ports = json!([{"port": 80, "nodePort": 30080}]);
        p.service(
            "web",
            "10.96.0.5",
            json!({"type": "NodePort", "ports": ports, "sessionAffinity": affinity}),
        );
        p.settled().await;
    };
    p.lab.ip("out", "route add 10.96.0.5 via 192.168.77.1");
    p.endpoints("web", "TCP", &[B, C]);
    for _ in 0..2 {
        switched("None").await;
        // Forty equal choices by chance are one in 2^39.
        assert_eq!(p.tally("out", &at, 40).await.len(), 2, "no affinity");
        switched("ClientIP").await;
        let stays = p.tally("out", &at, 40).await;
        assert_eq!(stays.len(), 1, "affinity: {stays:?}");
        // The same client is the same to the Service's own address.
        let there = p.tally("out", "10.96.0.5:80", 10).await;
        assert_eq!(there.keys().collect::<Vec<_>>(), stays.keys().collect::<Vec<_>>());
    }
    p
}

async fn internal_traffic_stays_on_the_node(p: Proxied) -> Proxied {
    for (name, ip) in [("web", "10.96.0.5"), ("away", "10.96.0.6")] {
        p.service(name, ip, json!({"internalTrafficPolicy": "Local"}));
    }
    let there = endpoint(B, json!({"nodeName": "n2"}));
    p.slice("web", "1", json!([{"port": 8080}]), vec![there.clone(), endpoint(C, json!({}))]);
    p.slice("away", "1", json!([{"port": 8080}]), vec![there]);
    p.settled().await;
    assert_eq!(p.tally("a", "10.96.0.5:80", 10).await.into_keys().collect::<Vec<_>>(), ["c"]);
    p.dropped("a", "10.96.0.6:80").await;
    p
}

async fn external_traffic_that_stays_keeps_its_source(p: Proxied) -> Proxied {
    for (name, ip, port) in [("web", "10.96.0.5", 30081), ("away", "10.96.0.6", 30082)] {
        let ports = json!([{"port": 80, "nodePort": port}]);
        p.service(name, ip, json!({"type": "NodePort", "externalTrafficPolicy": "Local", "ports": ports}));
    }
    p.endpoints("web", "TCP", &[B]);
    p.slice("away", "1", json!([{"port": 8080}]), vec![endpoint(C, json!({"nodeName": "n2"}))]);
    p.settled().await;
    p.answers("out", &format!("{NODE}:30081"), "b", "192.168.77.2").await;
    p.answers("a", &format!("{NODE}:30081"), "b", "10.7.0.2").await;
    p.dropped("out", &format!("{NODE}:30082")).await;
    // Pods and the node itself may go anywhere.
    p.answers("a", &format!("{NODE}:30082"), "c", "10.7.0.2").await;
    p.answers("node", &format!("{NODE}:30082"), "c", "10.7.0.1").await;
    p.answers("a", "10.96.0.6:80", "c", "10.7.0.2").await;
    p
}

async fn nobody_behind_is_refused(p: Proxied) -> Proxied {
    p.lab.ip("out", "route add 198.51.100.0/24 via 192.168.77.1");
    let ports =
        json!([{"name": "t", "port": 80, "nodePort": 30080}, {"name": "u", "port": 53, "protocol": "UDP"}]);
    p.service(
        "web",
        "10.96.0.5",
        json!({"type": "NodePort", "ports": ports, "externalIPs": ["198.51.100.1"]}),
    );
    p.settled().await;
    for from in ["a", "node"] {
        p.refused(from, "10.96.0.5:80").await;
        p.refused(from, "10.96.200.5:80").await;
        p.refused(from, &format!("{NODE}:30080")).await;
    }
    p.refused("out", &format!("{NODE}:30080")).await;
    p.refused("out", "198.51.100.1:80").await;
    let client = p.lab.udp_socket("a", "10.96.0.5:53");
    assert_eq!(p.udp(&client).await.unwrap_err().kind(), ErrorKind::ConnectionRefused);
    p
}

async fn terminating_endpoints_serve_while_nobody_else_does(p: Proxied) -> Proxied {
    let leaving =
        |ip| endpoint(ip, json!({"conditions": {"ready": false, "serving": true, "terminating": true}}));
    p.service("web", "10.96.0.5", json!({}));
    p.slice("web", "1", json!([{"port": 8080}]), vec![leaving(B)]);
    p.settled().await;
    p.answers("a", "10.96.0.5:80", "b", "10.7.0.2").await;
    p.slice("web", "1", json!([{"port": 8080}]), vec![leaving(B), endpoint(C, json!({}))]);
    p.settled().await;
    assert_eq!(p.tally("a", "10.96.0.5:80", 10).await.into_keys().collect::<Vec<_>>(), ["c"]);
    p
}

async fn endpoints_reach_themselves(p: Proxied) -> Proxied {
    p.service("lonely", "10.96.0.6", json!({"type": "NodePort", "ports": [{"port": 80, "nodePort": 30080}]}));
    p.endpoints("lonely", "TCP", &[B]);
    p.settled().await;
    p.answers("b", "10.96.0.6:80", "b", "10.7.0.1").await;
    p.answers("b", &format!("{NODE}:30080"), "b", "10.7.0.1").await;
    p
}

async fn udp_clients_move_with_the_endpoints(p: Proxied) -> Proxied {
    p.service(
        "dns",
        "10.96.0.9",
        json!({"type": "NodePort",
        "ports": [{"port": 53, "protocol": "UDP", "nodePort": 30053}]}),
    );
    p.endpoints("dns", "UDP", &[B]);
    p.settled().await;
    let inside = p.lab.udp_socket("a", "10.96.0.9:53");
    let outside = p.lab.udp_socket("out", &format!("{NODE}:30053"));
    let here = p.lab.udp_socket("node", "10.96.0.9:53");
    for client in [&inside, &outside, &here] {
        assert_eq!(p.udp(client).await.unwrap(), "b", "{}", p.rules());
    }
    // The same sockets go on: only forgotten flows let them reach the new endpoint.
    p.endpoints("dns", "UDP", &[C]);
    p.settled().await;
    for client in [&inside, &outside, &here] {
        assert_eq!(p.udp(client).await.unwrap(), "c", "{}", p.rules());
    }
    p
}

async fn udp_clients_of_nobody_are_answered_once_somebody_is_there(p: Proxied) -> Proxied {
    p.service("dns", "10.96.0.9", json!({"ports": [{"port": 53, "protocol": "UDP"}]}));
    p.settled().await;
    let client = p.lab.udp_socket("a", "10.96.0.9:53");
    assert!(p.udp(&client).await.is_err());
    p.endpoints("dns", "UDP", &[B]);
    p.settled().await;
    assert_eq!(p.udp(&client).await.unwrap(), "b");
    p
}

async fn udp_clients_move_though_nobody_looked(p: Proxied) -> Proxied {
    p.service("dns", "10.96.0.9", json!({"ports": [{"port": 53, "protocol": "UDP"}]}));
    p.endpoints("dns", "UDP", &[B]);
    p.settled().await;
    let client = p.lab.udp_socket("a", "10.96.0.9:53");
    assert_eq!(p.udp(&client).await.unwrap(), "b");
    // The node's process ends; the endpoint goes; another process begins.
    let mode = p.mode;
    let (lab, api) = p.end().await;
    let p = Proxied::start(lab, api, mode, Scheduler::default());
    p.endpoints("dns", "UDP", &[C]);
    p.settled().await;
    assert_eq!(p.udp(&client).await.unwrap(), "c", "{}", p.rules());
    p
}

async fn panics_take_nothing_away(p: Proxied) -> Proxied {
    p.service("web", "10.96.0.5", json!({}));
    p.endpoints("web", "TCP", &[B]);
    p.settled().await;
    let mut paths = vec![format!("node/proxy/{:?}", p.mode).to_lowercase(), "node/proxy".to_owned()];
    if p.mode == ProxyMode::Userspace {
        paths.push("node/proxy/port[default/web/tcp/80]".to_owned());
    }
    for (path, (ip, who)) in paths.iter().zip([(C, "c "), (B, "b "), (C, "c ")]) {
        assert!(p.panic(path), "{path} is there");
        p.endpoints("web", "TCP", &[ip]);
        let mut last = None;
        for _ in 0..200 {
            tokio::time::sleep(Duration::from_millis(25)).await;
            last = Some(p.tcp("a", "10.96.0.5:80").await);
            if last.as_ref().is_some_and(|answer| answer.as_ref().is_ok_and(|a| a.starts_with(who))) {
                break;
            }
        }
        let answer = last.and_then(Result::ok).unwrap_or_default();
        assert!(answer.starts_with(who), "after {path}: {answer:?}\n{}", p.rules());
    }
    p
}

async fn named_ports_differ_from_pod_to_pod(p: Proxied) -> Proxied {
    p.lab.serve("c", 9090);
    let ports = json!([{"name": "http", "port": 80, "targetPort": "web"}, {"name": "none", "port": 81}]);
    p.service("web", "10.96.0.5", json!({"ports": ports}));
    p.slice("web", "1", json!([{"name": "http", "port": 8080}]), vec![endpoint(B, json!({}))]);
    p.slice("web", "2", json!([{"name": "http", "port": 9090}]), vec![endpoint(C, json!({}))]);
    p.settled().await;
    assert_eq!(p.tally("a", "10.96.0.5:80", 20).await.len(), 2);
    p.refused("a", "10.96.0.5:81").await;
    p
}

async fn endpoints_by_hand_may_be_anywhere(p: Proxied) -> Proxied {
    p.lab.serve("out", 9999);
    p.service("outside", "10.96.0.5", json!({}));
    p.slice("outside", "mine", json!([{"port": 9999}]), vec![json!({"addresses": ["192.168.77.2"]})]);
    p.settled().await;
    assert_eq!(p.tcp("node", "10.96.0.5:80").await.unwrap(), "out 192.168.77.1");
    p
}

async fn both_families_are_served(p: Proxied) -> Proxied {
    p.lab.add_ipv6();
    p.lab.serve_at("c", "[fd00:7::4]:8080");
    let port = json!([{"port": 80, "nodePort": 30080}]);
    let ips = json!(["10.96.0.5", "fd00:96::5"]);
    p.service("web", "10.96.0.5", json!({"type": "NodePort", "clusterIPs": ips, "ports": port}));
    p.endpoints("web", "TCP", &[B]);
    p.slice_of("IPv6", "web", "6", json!([{"port": 8080}]), vec![endpoint("fd00:7::4", json!({}))]);
    p.service("nobody", "10.96.0.6", json!({"clusterIPs": ["fd00:96::6"]}));
    p.settled().await;
    p.answers("a", "10.96.0.5:80", "b", "10.7.0.2").await;
    // In every mode the kernel does it, so endpoints see who asks, but for themselves.
    assert_eq!(p.tcp("a", "[fd00:96::5]:80").await.unwrap(), "c fd00:7::2");
    assert_eq!(p.tcp("c", "[fd00:96::5]:80").await.unwrap(), "c fd00:7::1");
    assert_eq!(
        p.tcp("out", "[fd00:77::1]:30080").await.unwrap(),
        "c fd00:7::1",
        "by node port, as from the node"
    );
    p.refused("a", "[fd00:96::6]:80").await;
    p
}

async fn balancers_addresses_of_ipv6_lead_to_endpoints(p: Proxied) -> Proxied {
    p.lab.add_ipv6();
    p.lab.serve_at("c", "[fd00:7::4]:8080");
    p.lab.ip("out", "-6 route add fd00:99::/64 via fd00:77::1");
    p.lab.ip("out", "route add 198.51.100.7 via 192.168.77.1");
    let given = |ips: &[&str]| {
        let ingress: Vec<_> = ips.iter().map(|ip| json!({"ip": ip, "ipMode": "VIP"})).collect();
        json!({"loadBalancer": {"ingress": ingress}})
    };
    let ips = json!(["10.96.0.5", "fd00:96::5"]);
    p.service_with(
        "web",
        "10.96.0.5",
        json!({"type": "LoadBalancer", "clusterIPs": ips}),
        given(&["198.51.100.7", "fd00:99::7"]),
    );
    p.endpoints("web", "TCP", &[B]);
    p.slice_of("IPv6", "web", "6", json!([{"port": 8080}]), vec![endpoint("fd00:7::4", json!({}))]);
    // One of IPv6 alone, which keeps clients' addresses and lets some of them in.
    p.service_with(
        "six",
        "fd00:96::6",
        json!({"type": "LoadBalancer", "externalTrafficPolicy": "Local",
            "loadBalancerSourceRanges": ["fd00:77::/64", "192.168.77.0/24"]}),
        given(&["fd00:99::8"]),
    );
    p.slice_of("IPv6", "six", "6", json!([{"port": 8080}]), vec![endpoint("fd00:7::4", json!({}))]);
    p.settled().await;
    p.answers("out", "198.51.100.7:80", "b", "10.7.0.1").await;
    assert_eq!(p.tcp("out", "[fd00:99::7]:80").await.unwrap(), "c fd00:7::1");
    assert_eq!(p.tcp("a", "[fd00:99::7]:80").await.unwrap(), "c fd00:7::1");
    assert_eq!(p.tcp("out", "[fd00:99::8]:80").await.unwrap(), "c fd00:77::2", "under its own address");
    p.dropped("a", "[fd00:99::8]:80").await;
    p
}

async fn services_that_share_an_address_have_its_ports(p: Proxied) -> Proxied {
    p.lab.ip("out", "route add 198.51.100.7 via 192.168.77.1");
    let given = || json!({"loadBalancer": {"ingress": [{"ip": "198.51.100.7"}]}});
    let at = |port: u16| json!({"type": "LoadBalancer", "ports": [{"port": port}]});
    p.service_with("web", "10.96.0.5", at(80), given());
    p.endpoints("web", "TCP", &[B]);
    p.service_with("mail", "10.96.0.6", at(25), given());
    p.endpoints("mail", "TCP", &[C]);
    p.settled().await;
    for from in ["out", "a"] {
        p.answers(from, "198.51.100.7:80", "b", "10.7.0.1").await;
        p.answers(from, "198.51.100.7:25", "c", "10.7.0.1").await;
    }
    p.delete("web");
    p.settled().await;
    p.answers("out", "198.51.100.7:25", "c", "10.7.0.1").await;
    p
}

async fn zones_are_followed(p: Proxied) -> Proxied {
    let hinted = |ip: &str, zone: &str| endpoint(ip, json!({"hints": {"forZones": [{"name": zone}]}}));
    let node =
        |labels| json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n1", "labels": labels}});
    p.api.set("nodes", node(json!({"topology.kubernetes.io/zone": "east"})));
    p.service("web", "10.96.0.5", json!({}));
    p.slice("web", "1", json!([{"port": 8080}]), vec![hinted(B, "west"), hinted(C, "east")]);
    p.settled().await;
    assert_eq!(p.tally("a", "10.96.0.5:80", 12).await.into_keys().collect::<Vec<_>>(), ["c"]);
    p.api.set("nodes", node(json!({"topology.kubernetes.io/zone": "west"})));
    p.settled().await;
    assert_eq!(p.tally("a", "10.96.0.5:80", 12).await.into_keys().collect::<Vec<_>>(), ["b"]);
    p.api.set("nodes", node(json!({})));
    p.settled().await;
    assert_eq!(p.tally("a", "10.96.0.5:80", 20).await.len(), 2, "without a zone, all are as good");
    p
}

#[test]
fn a_lost_table_comes_back_with_the_next_change() {
    run(ProxyMode::Nftables, async |p| {
        p.service("web", "10.96.0.5", json!({}));
        p.endpoints("web", "TCP", &[B]);
        p.settled().await;
        p.lab.nft("delete table ip troupe");
        // The change is refused, as its chains are gone; all of it is written again.
        p.endpoints("web", "TCP", &[C]);
        for _ in 0..100 {
            tokio::time::sleep(Duration::from_millis(50)).await;
            if p.tcp("a", "10.96.0.5:80").await.is_ok_and(|who| who.starts_with("c ")) {
                return p;
            }
        }
        panic!("the rules did not come back: {}", p.rules());
    });
}

#[test]
fn a_change_of_mode_leaves_nothing_of_the_other() {
    Lab::run(async |lab| {
        let api = Scripted::default();
        let all = [ProxyMode::Nftables, ProxyMode::Iptables, ProxyMode::Userspace];
        let order = [0, 1, 2, 0, 2, 1, 0].map(|i| all[i]);
        let mut next = Some((lab, api));
        for mode in order {
            let (lab, api) = next.take().unwrap();
            let p = Proxied::start(lab, api, mode, Scheduler::default());
            p.service("web", "10.96.0.5", json!({}));
            p.endpoints("web", "TCP", &[B]);
            p.settled().await;
            p.answers("a", "10.96.0.5:80", "b", "10.7.0.2").await;
            let expected: &[&str] = match mode {
                ProxyMode::Nftables => &["tables"],
                ProxyMode::Iptables => &["chains"],
                ProxyMode::Userspace => &["tables", "address"],
            };
            assert_eq!(p.left(), expected, "{mode:?}\n{}", p.rules());
            next = Some(p.end().await);
        }
        let (lab, api) = next.unwrap();
        Proxied::start(lab, api, ProxyMode::Iptables, Scheduler::default()).stop().await;
    });
}

#[test]
fn destinations_are_told_apart_by_the_address_that_clients_used() {
    Lab::run(async |lab| {
        let p = Proxied::start(lab, Scripted::default(), ProxyMode::Userspace, Scheduler::DestinationHash);
        let addresses: Vec<String> = (1..=12).map(|n| format!("198.51.100.{n}")).collect();
        p.service("web", "10.96.0.5", json!({"externalIPs": addresses}));
        p.endpoints("web", "TCP", &[B, C]);
        p.settled().await;
        let mut used = std::collections::BTreeSet::new();
        for address in &addresses {
            let tally = p.tally("a", &format!("{address}:80"), 3).await;
            assert_eq!(tally.len(), 1, "one address, one endpoint: {tally:?}");
            used.extend(tally.into_keys());
        }
        assert_eq!(used.len(), 2, "twelve addresses share two endpoints");
        p.stop().await;
    });
}

#[test]
fn whoever_was_not_led_there_reaches_no_listener() {
    run(ProxyMode::Userspace, async |p| {
        p.service("web", "10.96.0.5", json!({}));
        p.endpoints("web", "TCP", &[B]);
        p.settled().await;
        let sockets = p.lab.output("ss -Hltn src 169.254.96.1");
        let listener = sockets.split_whitespace().nth(3).expect("a listener").to_owned();
        p.dropped("a", &listener).await;
        p.answers("a", "10.96.0.5:80", "b", "10.7.0.1").await;
        p
    });
}

/// Until somebody else's firewall is reloaded, and a little longer.
#[test]
fn flushed_chains_of_iptables_come_back() {
    run(ProxyMode::Iptables, async |p: Proxied| {
        p.service("web", "10.96.0.5", json!({}));
        p.endpoints("web", "TCP", &[B]);
        p.service("nobody", "10.96.0.6", json!({}));
        p.settled().await;
        p.answers("a", "10.96.0.5:80", "b", "10.7.0.2").await;
        for (what, commands) in [
            ("rules go", vec!["iptables -t nat -F"]),
            ("chains go", vec!["iptables -t nat -F", "iptables -t nat -X"]),
            ("those that refuse go", vec!["iptables -t filter -F", "iptables -t filter -X"]),
        ] {
            commands.iter().for_each(|command| drop(p.lab.output(command)));
            let mut back = false;
            for _ in 0..200 {
                tokio::time::sleep(Duration::from_millis(50)).await;
                let refused = p.tcp("a", "10.96.0.6:80").await;
                back = p.tcp("a", "10.96.0.5:80").await.is_ok()
                    && refused.is_err_and(|e| e.kind() == std::io::ErrorKind::ConnectionRefused);
                if back {
                    break;
                }
            }
            assert!(back, "{what}, and come back:\n{}", p.lab.output("iptables-save"));
        }
        p
    });
}
