//! The service proxy in the kernel: real namespaces, real rules, real traffic. Needs root; without it the
//! tests say so and pass over.

#![expect(clippy::unwrap_used, reason = "what a test needs and does not get ends it")]

#[path = "support/netns.rs"]
mod netns;
#[path = "support/scripted.rs"]
mod scripted;

use std::collections::BTreeMap;
use std::time::Duration;

use actors::Stage;
use netns::{Lab, is_root};
use node::nft::Nft;
use node::proxy::{self, NodeFacts, ProxyConfig, ProxyHandle};
use node::services::Services;
use scripted::Scripted;
use serde_json::{Value, json};
use tokio::task::LocalSet;

fn service(name: &str, ip: &str, more: Value) -> Value {
    let mut spec = json!({"clusterIP": ip, "ports": [{"port": 80, "protocol": "TCP"}]});
    for (key, value) in more.as_object().unwrap() {
        spec[key] = value.clone();
    }
    json!({"apiVersion": "v1", "kind": "Service", "metadata": {"namespace": "default", "name": name}, "spec": spec})
}

fn slice(service: &str, protocol: &str, ips: &[&str]) -> Value {
    let endpoints: Vec<Value> = ips.iter().map(|ip| json!({"addresses": [ip], "nodeName": "n1"})).collect();
    json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
        "metadata": {"namespace": "default", "name": format!("{service}-1"),
                     "labels": {"kubernetes.io/service-name": service}},
        "addressType": "IPv4", "ports": [{"port": 8080, "protocol": protocol}], "endpoints": endpoints,
    })
}

async fn settled(proxy: &ProxyHandle) {
    // A change needs a moment to arrive before the proxy can be unsettled by it.
    tokio::time::sleep(Duration::from_millis(50)).await;
    for _ in 0..500 {
        let state = proxy.state().await.expect("the proxy answers");
        assert_eq!(state.error, None);
        if state.settled {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("the proxy does not settle");
}

/// Starts a proxy for the lab's node and runs `test` with it.
fn with_proxy<F: Future<Output = ()>>(test: impl FnOnce(Lab, Scripted, ProxyHandle) -> F) {
    if !is_root() {
        eprintln!("SKIPPED: network namespaces need root");
        return;
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    LocalSet::new().block_on(&runtime, async {
        let lab = Lab::new();
        let api = Scripted::default();
        let stage = Stage::local();
        let facts = NodeFacts {
            name: "n1".into(),
            cluster_cidr: "10.7.0.0/24".parse().ok(),
            service_cidr: "10.96.0.0/16".parse().ok(),
            ..NodeFacts::default()
        };
        let config = ProxyConfig { facts, nft: Nft::in_namespace(&lab.node), services: Services::default() };
        let proxy = proxy::start(&stage, config, api.client());
        test(lab, api, proxy).await;
    });
}

fn tally(answers: impl IntoIterator<Item = String>) -> BTreeMap<String, usize> {
    let mut count = BTreeMap::new();
    for answer in answers {
        *count.entry(answer.split(' ').next().unwrap_or_default().to_owned()).or_default() += 1;
    }
    count
}

#[test]
fn traffic_reaches_endpoints_and_only_them() {
    with_proxy(|lab, api, proxy| async move {
        let node_port = json!({"type": "NodePort", "ports": [{"port": 80, "nodePort": 30080}]});
        api.set("services", service("web", "10.96.0.5", node_port));
        api.set("endpointslices", slice("web", "TCP", &["10.7.0.3", "10.7.0.4"]));
        api.set("services", service("lonely", "10.96.0.6", json!({})));
        api.set("endpointslices", slice("lonely", "TCP", &["10.7.0.3"]));
        api.set("services", service("nobody", "10.96.0.7", json!({})));
        api.set("services", service("sticky", "10.96.0.8", json!({"sessionAffinity": "ClientIP"})));
        api.set("endpointslices", slice("sticky", "TCP", &["10.7.0.3", "10.7.0.4"]));
        settled(&proxy).await;

        let from_pod = tally((0..40).map(|_| lab.tcp("a", "10.96.0.5:80").unwrap()));
        assert_eq!(from_pod.keys().collect::<Vec<_>>(), ["b", "c"], "both endpoints are used: {from_pod:?}");
        let from_node = tally((0..20).map(|_| lab.tcp("node", "10.96.0.5:80").unwrap()));
        assert!(from_node.len() == 2, "{from_node:?}");
        assert_eq!(
            lab.tcp("b", "10.96.0.6:80").unwrap().split(' ').next(),
            Some("b"),
            "an endpoint reaches itself"
        );

        let outside = lab.tcp("out", "192.168.77.1:30080").unwrap();
        assert!(outside.ends_with(" 10.7.0.1"), "a node port hides its client: {outside}");

        let sticky = tally((0..20).map(|_| lab.tcp("a", "10.96.0.8:80").unwrap()));
        assert_eq!(sticky.len(), 1, "one client, one endpoint: {sticky:?}");

        for who in ["a", "node"] {
            let refused = lab.tcp(who, "10.96.0.7:80").unwrap_err();
            assert_eq!(
                refused.kind(),
                std::io::ErrorKind::ConnectionRefused,
                "nobody behind it, asked by {who}"
            );
            let refused = lab.tcp(who, "10.96.0.5:81").unwrap_err();
            assert_eq!(
                refused.kind(),
                std::io::ErrorKind::ConnectionRefused,
                "not a port of it, asked by {who}"
            );
        }

        // An endpoint leaves, then the service.
        api.set("endpointslices", slice("web", "TCP", &["10.7.0.4"]));
        settled(&proxy).await;
        assert_eq!(
            tally((0..10).map(|_| lab.tcp("a", "10.96.0.5:80").unwrap())).keys().collect::<Vec<_>>(),
            ["c"]
        );
        api.delete("services", service("web", "10.96.0.5", json!({})));
        settled(&proxy).await;
        assert!(lab.tcp("a", "10.96.0.5:80").is_err());

        proxy.stop().await.unwrap();
        assert_eq!(lab.nft("list ruleset"), "", "nothing stays behind");
    });
}

#[test]
fn local_policy_keeps_the_client_address() {
    with_proxy(|lab, api, proxy| async move {
        let spec = json!({"type": "NodePort", "externalTrafficPolicy": "Local", "ports": [{"port": 80, "nodePort": 30081}]});
        api.set("services", service("web", "10.96.0.5", spec));
        api.set("endpointslices", slice("web", "TCP", &["10.7.0.3"]));
        settled(&proxy).await;
        let seen = lab.tcp("out", "192.168.77.1:30081").unwrap();
        assert_eq!(seen, "b 192.168.77.2");
        let seen = lab.tcp("a", "192.168.77.1:30081").unwrap();
        assert_eq!(seen, "b 10.7.0.2", "a pod keeps its address");
        proxy.stop().await.unwrap();
    });
}

#[test]
fn udp_clients_move_with_the_endpoints() {
    with_proxy(|lab, api, proxy| async move {
        let udp = json!({"ports": [{"port": 53, "protocol": "UDP"}]});
        api.set("services", service("dns", "10.96.0.9", udp));
        api.set("endpointslices", slice("dns", "UDP", &["10.7.0.3"]));
        settled(&proxy).await;
        let mut client = lab.udp("a", "10.96.0.9:53");
        assert_eq!(client.ask().unwrap(), "b");
        // The same socket goes on: only a forgotten flow lets it reach the new endpoint.
        api.set("endpointslices", slice("dns", "UDP", &["10.7.0.4"]));
        settled(&proxy).await;
        tokio::time::sleep(Duration::from_millis(200)).await;
        assert_eq!(client.ask().unwrap(), "c");
        proxy.stop().await.unwrap();
    });
}

#[test]
fn a_lost_table_comes_back_with_the_next_change() {
    with_proxy(|lab, api, proxy| async move {
        api.set("services", service("web", "10.96.0.5", json!({})));
        api.set("endpointslices", slice("web", "TCP", &["10.7.0.3"]));
        settled(&proxy).await;
        lab.nft("delete table ip troupe");
        // The change is refused, as its chains are gone; all of it is written again.
        api.set("endpointslices", slice("web", "TCP", &["10.7.0.4"]));
        for _ in 0..100 {
            tokio::time::sleep(Duration::from_millis(50)).await;
            if lab.tcp("a", "10.96.0.5:80").is_ok_and(|who| who.starts_with("c ")) {
                proxy.stop().await.unwrap();
                return;
            }
        }
        panic!("the rules did not come back: {}", lab.nft("list ruleset"));
    });
}
