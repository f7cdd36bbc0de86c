use k8s_openapi::api::core::v1::Service;
use serde_json::{Value, json};

use super::*;
use crate::proxy::plan::plan;
use crate::proxy::played::{service, slice};

fn facts() -> NodeFacts {
    NodeFacts {
        name: "n1".into(),
        cluster_cidrs: vec!["10.244.0.0/16".parse().unwrap()],
        ..NodeFacts::default()
    }
}

fn planned(spec: Value, status: Value, here: &[bool]) -> ServicePlan {
    let endpoints: Vec<(u8, bool)> = (1..).zip(here.iter().copied()).collect();
    let service = Service { status: serde_json::from_value(status).unwrap(), ..service(spec) };
    plan(&service, [&slice(&endpoints)], &facts())
}

/// All rules, with chains named by what they are about, in the order of names.
fn rules(spec: Value, status: Value, here: &[bool]) -> Vec<String> {
    let fragment = compile(&planned(spec, status, here), Family::V4, &facts());
    let key = "default/web/tcp/80";
    let mut names = vec![
        (chain(Own::Cluster, key), "svc".to_owned()),
        (chain(Own::Local, key), "loc".to_owned()),
        (chain(Own::External, key), "ext".to_owned()),
        (chain(Own::Sources, key), "src".to_owned()),
    ];
    for n in 1..9 {
        names.push((chain(Own::Endpoint, &format!("{key}/10.244.0.{n}:8080")), format!("ep{n}")));
    }
    let plain = |text: String| names.iter().fold(text, |text, (name, plain)| text.replace(name, plain));
    let own = fragment.chains.iter().flat_map(|(name, rules)| {
        let name = plain(name.clone());
        rules.iter().map(move |rule| format!("{name} {rule}"))
    });
    let shared = fragment.shared.iter().map(|((chain, what), target)| {
        format!("{} {what} {target}", chain.name().trim_start_matches("TROUPE-"))
    });
    let mut all: Vec<String> = own.chain(shared).map(plain).collect();
    // Rules of one chain keep their order.
    all.sort_by_key(|line| line.split(' ').next().unwrap().to_owned());
    all
}

fn check(spec: Value, status: Value, here: &[bool], expected: &[&str]) {
    let found = rules(spec.clone(), status, here);
    assert_eq!(found, expected, "{spec}");
}

const MASQUERADED: &str = "svc ! -s 10.244.0.0/16 -d 10.96.0.5 -p tcp -m tcp --dport 80 -j TROUPE-MARK";

#[test]
fn a_cluster_ip_leads_to_its_endpoints_by_equal_chance() {
    check(
        json!({}),
        json!({}),
        &[true, false, false],
        &[
            "SERVICES -d 10.96.0.5 -p tcp -m tcp --dport 80 -j svc",
            "ep1 -s 10.244.0.1 -j TROUPE-MARK",
            "ep1 -p tcp -j DNAT --to-destination 10.244.0.1:8080",
            "ep2 -p tcp -j DNAT --to-destination 10.244.0.2:8080",
            "ep3 -p tcp -j DNAT --to-destination 10.244.0.3:8080",
            MASQUERADED,
            "svc -m statistic --mode random --probability 0.3333333333 -j ep1",
            "svc -m statistic --mode random --probability 0.5000000000 -j ep2",
            "svc -j ep3",
        ],
    );
}

#[test]
fn without_endpoints_clients_are_refused() {
    check(
        json!({"type": "NodePort", "ports": [{"port": 80, "nodePort": 30080}], "externalIPs": ["198.51.100.1"]}),
        json!({}),
        &[],
        &[
            "UNANSWERED -d 10.96.0.5 -p tcp -m tcp --dport 80 -j REJECT",
            "UNANSWERED -d 198.51.100.1 -p tcp -m tcp --dport 80 -j REJECT",
            "UNANSWERED-NP -p tcp -m tcp --dport 30080 -j REJECT",
        ],
    );
}

#[test]
fn affinity_asks_the_endpoints_lists_first() {
    check(
        json!({"sessionAffinity": "ClientIP", "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 60}}}),
        json!({}),
        &[false, false],
        &[
            "SERVICES -d 10.96.0.5 -p tcp -m tcp --dport 80 -j svc",
            "ep1 -p tcp -m recent --name ep1 --set -j DNAT --to-destination 10.244.0.1:8080",
            "ep2 -p tcp -m recent --name ep2 --set -j DNAT --to-destination 10.244.0.2:8080",
            MASQUERADED,
            "svc -m recent --name ep1 --rcheck --seconds 60 --reap -j ep1",
            "svc -m recent --name ep2 --rcheck --seconds 60 --reap -j ep2",
            "svc -m statistic --mode random --probability 0.5000000000 -j ep1",
            "svc -j ep2",
        ],
    );
}

#[test]
fn local_policies_keep_clients_addresses_or_drop() {
    let spec = json!({"type": "NodePort", "externalTrafficPolicy": "Local", "internalTrafficPolicy": "Local",
        "ports": [{"port": 80, "nodePort": 30080}]});
    check(
        spec.clone(),
        json!({}),
        &[true, false],
        &[
            "NODE-PORTS -p tcp -m tcp --dport 30080 -j ext",
            "SERVICES -d 10.96.0.5 -p tcp -m tcp --dport 80 -j loc",
            "ep1 -s 10.244.0.1 -j TROUPE-MARK",
            "ep1 -p tcp -j DNAT --to-destination 10.244.0.1:8080",
            "ep2 -p tcp -j DNAT --to-destination 10.244.0.2:8080",
            "ext -s 10.244.0.0/16 -j svc",
            "ext -m addrtype --src-type LOCAL -j TROUPE-MARK",
            "ext -m addrtype --src-type LOCAL -j svc",
            "ext -j loc",
            "loc ! -s 10.244.0.0/16 -d 10.96.0.5 -p tcp -m tcp --dport 80 -j TROUPE-MARK",
            "loc -j ep1",
            "svc -m statistic --mode random --probability 0.5000000000 -j ep1",
            "svc -j ep2",
        ],
    );
    check(
        spec,
        json!({}),
        &[false],
        &[
            "NODE-PORTS -p tcp -m tcp --dport 30080 -j ext",
            "UNANSWERED -d 10.96.0.5 -p tcp -m tcp --dport 80 -j DROP",
            "UNANSWERED-NP -p tcp -m tcp --dport 30080 -j DROP",
            "ep1 -p tcp -j DNAT --to-destination 10.244.0.1:8080",
            "ext -s 10.244.0.0/16 -j svc",
            "ext -m addrtype --src-type LOCAL -j TROUPE-MARK",
            "ext -m addrtype --src-type LOCAL -j svc",
            "svc -j ep1",
        ],
    );
}

#[test]
fn source_ranges_let_in_and_the_rest_is_dropped() {
    let spec = json!({"type": "LoadBalancer", "externalIPs": ["198.51.100.1"],
        "loadBalancerSourceRanges": ["203.0.113.0/24", "10.0.0.0/8"]});
    let status = json!({"loadBalancer": {"ingress": [{"ip": "198.51.100.7"}, {"ip": "198.51.100.8", "ipMode": "Proxy"}]}});
    check(
        spec,
        status,
        &[false],
        &[
            "FIREWALL -d 198.51.100.7 -p tcp -m tcp --dport 80 -j DROP",
            "SERVICES -d 10.96.0.5 -p tcp -m tcp --dport 80 -j svc",
            "SERVICES -d 198.51.100.1 -p tcp -m tcp --dport 80 -j ext",
            "SERVICES -d 198.51.100.7 -p tcp -m tcp --dport 80 -j src",
            "ep1 -p tcp -j DNAT --to-destination 10.244.0.1:8080",
            "ext -j TROUPE-MARK",
            "ext -j svc",
            "src -s 203.0.113.0/24 -j ext",
            "src -s 10.0.0.0/8 -j ext",
            MASQUERADED,
            "svc -j ep1",
        ],
    );
}
