use serde_json::{Value, json};

use super::*;

fn facts() -> NodeFacts {
    NodeFacts {
        name: "n1".into(),
        cluster_cidr: Some("10.244.0.0/16".parse().unwrap()),
        service_cidr: Some("10.96.0.0/16".parse().unwrap()),
        ..NodeFacts::default()
    }
}

fn service(spec: Value) -> Service {
    let mut full = json!({"clusterIP": "10.96.0.5", "ports": [{"port": 80, "protocol": "TCP"}]});
    for (key, value) in spec.as_object().unwrap() {
        full[key] = value.clone();
    }
    serde_json::from_value(json!({"metadata": {"namespace": "default", "name": "web"}, "spec": full}))
        .unwrap()
}

/// Endpoints `10.244.0.<last>:8080`; those with a `true` run here.
fn slice(endpoints: &[(u8, bool)]) -> EndpointSlice {
    let endpoints: Vec<Value> = endpoints
        .iter()
        .map(|(last, here)| json!({"addresses": [format!("10.244.0.{last}")], "nodeName": if *here { "n1" } else { "n2" }}))
        .collect();
    serde_json::from_value(json!({
        "metadata": {"namespace": "default", "name": "web-1"}, "addressType": "IPv4",
        "ports": [{"port": 8080, "protocol": "TCP"}], "endpoints": endpoints,
    }))
    .unwrap()
}

fn compiled(spec: Value, endpoints: &[(u8, bool)]) -> Fragment {
    compile(&service(spec), [&slice(endpoints)], &facts(), None)
}

/// The value of an element of a shared map.
fn shared<'a>(fragment: &'a Fragment, map: Shared, element: &str) -> Option<&'a str> {
    fragment.shared.get(&(map, element.to_owned())).map(String::as_str)
}

#[test]
fn a_cluster_ip_leads_to_its_endpoints() {
    let fragment = compiled(json!({}), &[(1, true), (2, false)]);
    let target = shared(&fragment, Shared::Services, "10.96.0.5 . tcp . 80");
    assert_eq!(target, Some("goto svc/default/web/tcp/80"));
    assert_eq!(shared(&fragment, Shared::ClusterIps, "10.96.0.5"), Some(""));
    assert_eq!(shared(&fragment, Shared::Hairpins, "10.244.0.1 . 10.244.0.1"), Some(""));
    assert_eq!(shared(&fragment, Shared::Hairpins, "10.244.0.2 . 10.244.0.2"), None, "not on this node");
    assert_eq!(
        fragment.chains["svc/default/web/tcp/80"],
        ["meta l4proto tcp dnat ip to numgen random mod 2 map @eps-svc/default/web/tcp/80"]
    );
    let elements = &fragment.private["eps-svc/default/web/tcp/80"].elements;
    assert_eq!(elements["0"], "10.244.0.1 . 8080");
    assert_eq!(elements["1"], "10.244.0.2 . 8080");
}

#[test]
fn some_services_are_not_proxied() {
    for spec in [
        json!({"clusterIP": "None"}),
        json!({"type": "ExternalName", "externalName": "example.com"}),
        json!({"clusterIP": "fd00::1"}),
        json!({"clusterIP": ""}),
    ] {
        assert_eq!(compiled(spec.clone(), &[(1, true)]), Fragment::default(), "{spec}");
    }
    let mut odd = service(json!({}));
    odd.metadata.name = Some("x { } ; flush ruleset".into());
    assert_eq!(compile(&odd, [&slice(&[(1, true)])], &facts(), None), Fragment::default());
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
    assert_eq!(
        cluster.chains["ext/default/web/tcp/80"],
        ["jump mark-for-masquerade", "goto svc/default/web/tcp/80"]
    );

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
    assert_eq!(target, Some("goto loc/default/web/tcp/80"));
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
    let fragment = compile(&balanced, [&slice(&[(1, true)])], &facts(), None);
    let entry = Some("goto ext/default/web/tcp/80");
    assert_eq!(shared(&fragment, Shared::Services, "198.51.100.1 . tcp . 80"), entry);
    assert_eq!(shared(&fragment, Shared::Services, "198.51.100.7 . tcp . 80"), entry);
    assert_eq!(shared(&fragment, Shared::Services, "198.51.100.8 . tcp . 80"), None);
    let wall = shared(&fragment, Shared::Firewalls, "198.51.100.7 . tcp . 80");
    assert_eq!(wall, Some("goto fw/default/web/tcp/80"));
    assert_eq!(shared(&fragment, Shared::Firewalls, "198.51.100.1 . tcp . 80"), None);
    assert_eq!(fragment.chains["fw/default/web/tcp/80"], ["ip saddr != { 203.0.113.0/24 } drop"]);
}

#[test]
fn an_address_that_the_node_serves_itself_is_left_alone() {
    let mut facts = facts();
    facts.served_here.insert("10.96.0.5".parse().unwrap());
    let fragment = compile(&service(json!({})), [&slice(&[])], &facts, None);
    assert!(fragment.shared.is_empty(), "{:?}", fragment.shared);
}

#[test]
fn slots_move_as_little_as_possible() {
    let b = |last: u8| Backend { ip: Ipv4Addr::new(10, 0, 0, last), port: 80 };
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
        let list = |set: &BTreeSet<u8>| set.iter().map(|l| Backend { ip: Ipv4Addr::new(10, 0, 0, *l), port: 80 }).collect::<Vec<_>>();
        let slots = assign_slots(&list(&old), &list(&wanted));
        let moved = slots.iter().zip(list(&old)).filter(|(new, old)| *new != old).count();
        let mut sorted = slots.clone();
        sorted.sort();
        proptest::prop_assert_eq!(sorted, list(&wanted));
        proptest::prop_assert!(moved <= old.symmetric_difference(&wanted).count());
    }
}

#[test]
fn balancers_ask_for_endpoints_on_their_own_node() {
    let check = |spec: Value, expected: Option<(u16, usize)>| {
        let mut full =
            json!({"type": "LoadBalancer", "externalTrafficPolicy": "Local", "healthCheckNodePort": 31000});
        for (key, value) in spec.as_object().unwrap() {
            full[key] = value.clone();
        }
        assert_eq!(compiled(full, &[(1, true), (2, false), (3, true)]).health, expected, "{spec}");
    };
    check(json!({}), Some((31000, 2)));
    check(json!({"externalTrafficPolicy": "Cluster"}), None);
    check(json!({"type": "NodePort"}), None);
    check(json!({"healthCheckNodePort": 0}), None);
}
