use serde_json::{Value, json};

use super::*;
use crate::proxy::played::{service, slice};

fn facts() -> NodeFacts {
    NodeFacts { name: "n1".into(), ..NodeFacts::default() }
}

fn planned(spec: Value, endpoints: &[(u8, bool)]) -> ServicePlan {
    plan(&service(spec), [&slice(endpoints)], &facts())
}

fn lasts(backends: &[Backend]) -> Vec<String> {
    backends.iter().map(|b| b.address().to_string().replace("10.244.0.", "")).collect()
}

#[test]
fn some_services_are_not_proxied() {
    for spec in [
        json!({"clusterIP": "None"}),
        json!({"type": "ExternalName", "externalName": "example.com"}),
        json!({"clusterIP": ""}),
    ] {
        assert_eq!(planned(spec.clone(), &[(1, true)]), ServicePlan::default(), "{spec}");
    }
    let mut odd = service(json!({}));
    odd.metadata.name = Some("x { } ; flush ruleset".into());
    assert_eq!(plan(&odd, [&slice(&[(1, true)])], &facts()), ServicePlan::default());
}

#[test]
fn balancers_ask_for_endpoints_on_their_own_node() {
    let check = |spec: Value, expected: Option<(u16, usize)>| {
        let mut full =
            json!({"type": "LoadBalancer", "externalTrafficPolicy": "Local", "healthCheckNodePort": 31000});
        for (key, value) in spec.as_object().unwrap() {
            full[key] = value.clone();
        }
        assert_eq!(planned(full, &[(1, true), (2, false), (3, true)]).health, expected, "{spec}");
    };
    check(json!({}), Some((31000, 2)));
    check(json!({"externalTrafficPolicy": "Cluster"}), None);
    check(json!({"type": "NodePort"}), None);
    check(json!({"healthCheckNodePort": 0}), None);
}

#[test]
fn policies_say_who_reaches_what() {
    // Endpoints 1 is here and 2 elsewhere.
    type Expected = (Reach, Option<(Reach, Reach)>);
    let check = |spec: Value, here: bool, there: bool, (internal, external): Expected| {
        let endpoints: Vec<_> =
            [(1, true), (2, false)].into_iter().filter(|(_, h)| if *h { here } else { there }).collect();
        let plan = planned(spec.clone(), &endpoints);
        let port = &plan.ports[0];
        assert_eq!(port.internal, internal, "{spec} {endpoints:?}");
        assert_eq!(port.external.as_ref().map(|e| (e.outside, e.inside)), external, "{spec} {endpoints:?}");
        for reach in [Reach::Cluster, Reach::Local] {
            let used = port.internal == reach || external.is_some_and(|(o, i)| o == reach || i == reach);
            assert_eq!(port.backends(reach).is_empty(), !used, "{spec} {endpoints:?} {reach:?}");
        }
    };
    use Reach::*;
    let node_port = |more: Value| {
        let mut spec = json!({"type": "NodePort", "ports": [{"port": 80, "nodePort": 30080}]});
        for (k, v) in more.as_object().unwrap() {
            spec[k] = v.clone();
        }
        spec
    };
    check(json!({}), true, true, (Cluster, None));
    check(json!({}), false, false, (Refused, None));
    let inside = json!({"internalTrafficPolicy": "Local"});
    check(inside.clone(), true, true, (Local, None));
    check(inside.clone(), false, true, (Dropped, None));
    check(inside, false, false, (Refused, None));
    check(node_port(json!({})), false, true, (Cluster, Some((Cluster, Cluster))));
    check(node_port(json!({})), false, false, (Refused, Some((Refused, Refused))));
    let outside = node_port(json!({"externalTrafficPolicy": "Local"}));
    check(outside.clone(), true, true, (Cluster, Some((Local, Cluster))));
    check(outside.clone(), false, true, (Cluster, Some((Dropped, Cluster))));
    check(outside, false, false, (Refused, Some((Refused, Refused))));
    let both = node_port(json!({"externalTrafficPolicy": "Local", "internalTrafficPolicy": "Local"}));
    check(both, true, false, (Local, Some((Local, Cluster))));
}

#[test]
fn endpoints_that_nothing_leads_to_are_left_out() {
    let plan = planned(json!({"internalTrafficPolicy": "Local"}), &[(1, true), (2, false)]);
    let port = &plan.ports[0];
    assert_eq!((lasts(&port.cluster), lasts(&port.local)), (vec![], vec!["1:8080".to_owned()]));
    assert_eq!(port.here, ["10.244.0.1".parse::<IpAddr>().unwrap()]);
    let plan = planned(json!({}), &[(1, true), (2, false)]);
    assert_eq!((lasts(&plan.ports[0].cluster).len(), plan.ports[0].local.len()), (2, 0));
}

#[test]
fn addresses_outside_and_who_may_come_to_them() {
    let mut balanced = service(json!({
        "type": "LoadBalancer", "externalIPs": ["198.51.100.1", "fd00::9"], "loadBalancerSourceRanges": ["203.0.113.0/24", " 10.0.0.0/8"]
    }));
    balanced.status = serde_json::from_value(json!({"loadBalancer": {"ingress": [
        {"ip": "198.51.100.7", "ipMode": "VIP"}, {"ip": "198.51.100.8", "ipMode": "Proxy"}, {"hostname": "x.example"}
    ]}}))
    .unwrap();
    let plan = plan(&balanced, [&slice(&[(1, true)])], &facts());
    let external = plan.ports[0].external.as_ref().unwrap();
    let addresses: Vec<_> =
        external.addresses.iter().map(|a| (a.ip.to_string(), a.sources.as_ref().map(Vec::len))).collect();
    assert_eq!(addresses, [("198.51.100.1".to_owned(), None), ("198.51.100.7".to_owned(), Some(2))]);
}

#[test]
fn affinity_has_upstreams_default() {
    let seconds = |spec: Value| planned(spec, &[(1, true)]).ports[0].affinity_seconds;
    assert_eq!(seconds(json!({})), None);
    assert_eq!(seconds(json!({"sessionAffinity": "ClientIP"})), Some(10_800));
    let config = json!({"clientIP": {"timeoutSeconds": 60}});
    assert_eq!(seconds(json!({"sessionAffinity": "ClientIP", "sessionAffinityConfig": config})), Some(60));
    assert_eq!(seconds(json!({"sessionAffinity": "None", "sessionAffinityConfig": config})), None);
}

#[test]
fn an_address_that_the_node_serves_itself_is_marked() {
    let facts = NodeFacts { served_here: [[10, 96, 0, 5].into()].into(), ..facts() };
    let plan = plan(&service(json!({})), [&slice(&[])], &facts);
    assert!(plan.ports[0].served_here);
}
