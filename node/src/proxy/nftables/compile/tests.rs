use std::net::SocketAddr;

use k8s_openapi::api::discovery::v1::EndpointSlice;
use serde_json::{Value, json};

use super::*;
use crate::proxy::plan::plan;
use crate::proxy::played::{service, slice};

fn facts() -> NodeFacts {
    NodeFacts {
        name: "n1".into(),
        cluster_cidrs: vec!["10.244.0.0/16".parse().unwrap(), "fd00:244::/56".parse().unwrap()],
        service_cidrs: vec!["10.96.0.0/16".parse().unwrap()],
        ..NodeFacts::default()
    }
}

fn compiled(spec: Value, endpoints: &[(u8, bool)]) -> Fragment {
    let plan = plan(&service(spec), [&slice(endpoints)], &facts());
    compile(&plan, Family::V4, &facts(), &Listeners::new(), None)
}

/// The value of an element of a shared map.
fn shared<'a>(fragment: &'a Fragment, map: Shared, element: &str) -> Option<&'a str> {
    fragment.shared.get(&(map, element.to_owned())).map(String::as_str)
}

#[test]
fn a_cluster_ip_leads_to_its_endpoints() {
    let fragment = compiled(json!({}), &[(1, true), (2, false)]);
    let target = shared(&fragment, Shared::Services, "10.96.0.5 . tcp . 80");
    assert_eq!(target, Some("goto balance-2"));
    assert_eq!(shared(&fragment, Shared::ClusterIps, "10.96.0.5"), Some(""));
    assert_eq!(shared(&fragment, Shared::Hairpins, "10.244.0.1 . 10.244.0.1"), Some(""));
    assert_eq!(shared(&fragment, Shared::Hairpins, "10.244.0.2 . 10.244.0.2"), None, "not on this node");
    let endpoint = |n: usize| shared(&fragment, Shared::Endpoints, &format!("10.96.0.5 . tcp . 80 . {n}"));
    assert_eq!((endpoint(0), endpoint(1)), (Some("10.244.0.1 . 8080"), Some("10.244.0.2 . 8080")));
    assert!(fragment.chains.is_empty() && fragment.private.is_empty(), "nothing of its own: {fragment:?}");
}

#[test]
fn without_endpoints_clients_are_refused() {
    let fragment = compiled(json!({"type": "NodePort", "ports": [{"port": 80, "nodePort": 30080}]}), &[]);
    assert_eq!(shared(&fragment, Shared::NoEndpoints, "10.96.0.5 . tcp . 80"), Some("goto refuse"));
    assert_eq!(shared(&fragment, Shared::NoEndpointNodePorts, "tcp . 30080"), Some("goto refuse"));
    assert!(fragment.chains.is_empty());
}

#[test]
fn traffic_policies() {
    // (spec, endpoints) → what stands for the cluster IP, what the external entry does.
    let node_port = |more: Value| {
        let mut spec = json!({"type": "NodePort", "ports": [{"port": 80, "nodePort": 30080}]});
        for (k, v) in more.as_object().unwrap() {
            spec[k] = v.clone();
        }
        spec
    };
    let cluster = compiled(node_port(json!({})), &[(1, true), (2, false)]);
    assert_eq!(shared(&cluster, Shared::NodePorts, "tcp . 30080"), Some("goto balance-node-port-2"));
    assert_eq!(shared(&cluster, Shared::NodePortEndpoints, "tcp . 30080 . 1"), Some("10.244.0.2 . 8080"));

    let local = compiled(node_port(json!({"externalTrafficPolicy": "Local"})), &[(1, true), (2, false)]);
    assert_eq!(
        local.chains["ext/default/web/tcp/80"],
        [
            "ip saddr 10.244.0.0/16 goto svc/default/web/tcp/80",
            "fib saddr type local jump mark-for-masquerade",
            "fib saddr type local goto svc/default/web/tcp/80",
            "goto loc/default/web/tcp/80",
        ]
    );
    assert_eq!(local.private["eps-loc/default/web/tcp/80"].elements.len(), 1);
    assert_eq!(local.private["eps-svc/default/web/tcp/80"].elements.len(), 2);

    let away = compiled(node_port(json!({"externalTrafficPolicy": "Local"})), &[(2, false)]);
    assert_eq!(shared(&away, Shared::NoEndpointNodePorts, "tcp . 30080"), Some("drop"));
    assert_eq!(away.chains["ext/default/web/tcp/80"].len(), 3, "pods and this node still get there");

    let internal = compiled(json!({"internalTrafficPolicy": "Local"}), &[(1, true), (2, false)]);
    let target = shared(&internal, Shared::Services, "10.96.0.5 . tcp . 80");
    assert_eq!(target, Some("goto balance-1"));
    assert_eq!(shared(&internal, Shared::Endpoints, "10.96.0.5 . tcp . 80 . 0"), Some("10.244.0.1 . 8080"));
    let nobody_here = compiled(json!({"internalTrafficPolicy": "Local"}), &[(2, false)]);
    assert_eq!(shared(&nobody_here, Shared::NoEndpoints, "10.96.0.5 . tcp . 80"), Some("drop"));
}

#[test]
fn affinity_remembers_clients_for_each_endpoint() {
    let spec =
        json!({"sessionAffinity": "ClientIP", "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 60}}});
    let fragment = compiled(spec, &[(1, true)]);
    let clients = &fragment.private["clients/default/web/tcp/80/10.244.0.1/8080"];
    assert_eq!(clients.declaration.body, "type ipv4_addr; flags dynamic,timeout; timeout 60s;");
    assert_eq!(
        fragment.chains["svc/default/web/tcp/80"],
        [
            "ip saddr @clients/default/web/tcp/80/10.244.0.1/8080 goto ep/default/web/tcp/80/10.244.0.1/8080",
            "numgen random mod 1 vmap @eps-svc/default/web/tcp/80",
        ]
    );
}

#[test]
fn external_addresses_and_source_ranges() {
    let mut balanced = service(json!({
        "type": "LoadBalancer", "externalIPs": ["198.51.100.1"], "loadBalancerSourceRanges": ["203.0.113.0/24"]
    }));
    balanced.status = serde_json::from_value(json!({"loadBalancer": {"ingress": [
        {"ip": "198.51.100.7"}, {"ip": "198.51.100.8", "ipMode": "Proxy"}
    ]}}))
    .unwrap();
    let plan = plan(&balanced, [&slice(&[(1, true)])], &facts());
    let fragment = compile(&plan, Family::V4, &facts(), &Listeners::new(), None);
    let entry = Some("goto balance-marked-1");
    assert_eq!(shared(&fragment, Shared::Services, "198.51.100.1 . tcp . 80"), entry);
    assert_eq!(shared(&fragment, Shared::Services, "198.51.100.7 . tcp . 80"), entry);
    assert_eq!(shared(&fragment, Shared::Services, "198.51.100.8 . tcp . 80"), None);
    let wall = shared(&fragment, Shared::Firewalls, "198.51.100.7 . tcp . 80");
    assert_eq!(wall, Some("goto fw/default/web/tcp/80"));
    assert_eq!(shared(&fragment, Shared::Firewalls, "198.51.100.1 . tcp . 80"), None);
    assert_eq!(fragment.chains["fw/default/web/tcp/80"], ["ip saddr != { 203.0.113.0/24 } drop"]);
}

#[test]
fn slots_move_as_little_as_possible() {
    let b = |last: u8| Backend { ip: [10, 0, 0, last].into(), port: 80 };
    let check = |old: &[u8], wanted: &[u8], expected: &[u8]| {
        let list = |l: &[u8]| l.iter().map(|l| b(*l)).collect::<Vec<_>>();
        assert_eq!(assign_slots(&list(old), &list(wanted)), list(expected), "{old:?} → {wanted:?}");
    };
    check(&[], &[1, 2, 3], &[1, 2, 3]);
    check(&[1, 2, 3], &[1, 3], &[1, 3]);
    check(&[1, 2, 3], &[2, 3, 4], &[4, 2, 3]);
    check(&[1, 2, 3, 4, 5], &[2, 3, 4, 5], &[5, 2, 3, 4]);
    check(&[3, 1], &[1, 2, 3], &[3, 1, 2]);
}

proptest::proptest! {
    #[test]
    fn slots_hold_exactly_what_is_wanted(
        old in proptest::collection::btree_set(0u8..40, 0..30),
        wanted in proptest::collection::btree_set(0u8..40, 0..30),
    ) {
        let list = |set: &BTreeSet<u8>| set.iter().map(|l| Backend { ip: [10, 0, 0, *l].into(), port: 80 }).collect::<Vec<_>>();
        let slots = assign_slots(&list(&old), &list(&wanted));
        let moved = slots.iter().zip(list(&old)).filter(|(new, old)| *new != old).count();
        let mut sorted = slots.clone();
        sorted.sort();
        proptest::prop_assert_eq!(sorted, list(&wanted));
        proptest::prop_assert!(moved <= old.symmetric_difference(&wanted).count());
    }
}

#[test]
fn listeners_stand_in_for_endpoints() {
    let spec = json!({"type": "NodePort", "externalTrafficPolicy": "Local", "sessionAffinity": "ClientIP",
        "ports": [{"port": 80, "nodePort": 30080}]});
    let plan = plan(&service(spec), [&slice(&[(1, true), (2, false)])], &facts());
    let key = "default/web/tcp/80".to_owned();
    let at = |port: u16| SocketAddr::from(([169, 254, 96, 1], port));
    let listeners = Listeners::from([((key.clone(), Reach::Cluster), at(7)), ((key, Reach::Local), at(8))]);
    let fragment = compile(&plan, Family::V4, &facts(), &listeners, None);
    assert_eq!(fragment.chains["svc/default/web/tcp/80"], ["meta l4proto tcp dnat ip to 169.254.96.1:7"]);
    assert_eq!(fragment.chains["loc/default/web/tcp/80"], ["meta l4proto tcp dnat ip to 169.254.96.1:8"]);
    assert!(fragment.private.is_empty(), "no endpoints in the kernel: {:?}", fragment.private);
    assert_eq!(shared(&fragment, Shared::Services, "10.96.0.5 . tcp . 80"), Some("goto balance-1"));
    assert_eq!(shared(&fragment, Shared::Endpoints, "10.96.0.5 . tcp . 80 . 0"), Some("169.254.96.1 . 7"));
}

#[test]
fn families_have_fragments_of_their_own() {
    let spec = json!({"clusterIPs": ["10.96.0.5", "fd00:96::5"], "sessionAffinity": "ClientIP"});
    let six: EndpointSlice = serde_json::from_value(json!({
        "metadata": {"namespace": "default", "name": "web-2"}, "addressType": "IPv6",
        "ports": [{"port": 8080, "protocol": "TCP"}], "endpoints": [{"addresses": ["fd00:244::1"], "nodeName": "n1"}],
    }))
    .unwrap();
    let plan = plan(&service(spec), [&slice(&[(1, true)]), &six], &facts());
    let none = Listeners::new();
    let four = compile(&plan, Family::V4, &facts(), &none, None);
    assert!(shared(&four, Shared::ClusterIps, "10.96.0.5").is_some() && four.shared.len() == 3, "{four:?}");
    let six = compile(&plan, Family::V6, &facts(), &none, None);
    let target = shared(&six, Shared::Services, "fd00:96::5 . tcp . 80");
    assert_eq!(target, Some("goto svc/default/web/tcp/80"));
    assert_eq!(
        six.chains["ep/default/web/tcp/80/fd00_244__1/8080"],
        [
            "update @clients/default/web/tcp/80/fd00_244__1/8080 { ip6 saddr }",
            "meta l4proto tcp dnat ip6 to [fd00:244::1]:8080",
        ]
    );
}

#[test]
fn an_address_that_the_node_serves_itself_is_left_alone() {
    let facts = NodeFacts { served_here: [[10, 96, 0, 5].into()].into(), ..facts() };
    let plan = plan(&service(json!({})), [&slice(&[])], &facts);
    let fragment = compile(&plan, Family::V4, &facts, &Listeners::new(), None);
    assert!(fragment.shared.is_empty(), "{:?}", fragment.shared);
}

#[test]
fn very_many_endpoints_have_chains_of_their_own() {
    let endpoints: Vec<(u8, bool)> = (1..=BALANCED_MAX as u8 + 1).map(|n| (n, false)).collect();
    let node_port = json!({"type": "NodePort", "ports": [{"port": 80, "nodePort": 30080}]});
    let fragment = compiled(node_port, &endpoints);
    let target = shared(&fragment, Shared::Services, "10.96.0.5 . tcp . 80");
    assert_eq!(target, Some("goto svc/default/web/tcp/80"));
    assert_eq!(
        fragment.chains["svc/default/web/tcp/80"],
        ["meta l4proto tcp dnat ip to numgen random mod 65 map @eps-svc/default/web/tcp/80"]
    );
    assert_eq!(fragment.private["eps-svc/default/web/tcp/80"].elements.len(), 65);
    assert_eq!(shared(&fragment, Shared::NodePorts, "tcp . 30080"), Some("goto ext/default/web/tcp/80"));
    let ext = &fragment.chains["ext/default/web/tcp/80"];
    assert_eq!(*ext, ["jump mark-for-masquerade", "goto svc/default/web/tcp/80"]);
}
