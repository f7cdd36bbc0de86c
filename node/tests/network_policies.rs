//! NetworkPolicies in the kernel: real namespaces, real rules, real traffic. Needs root; without it the tests say so
//! and pass over.

#![expect(clippy::unwrap_used, reason = "what a test needs and does not get ends it")]

#[path = "support/netns.rs"]
mod netns;
#[path = "support/scripted.rs"]
mod scripted;

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use actors::Stage;
use async_trait::async_trait;
use netns::Lab;
use node::family::Family;
use node::policy::{self, PolicyConfig, PolicyHandle};
use node::proxy::{self, NodeFacts, ProxyConfig, ProxyMode, Scheduler};
use node::runtime::{NetworkError, PodIdentity, PodNetwork, PortMapping};
use node::services::Services;
use scripted::Scripted;
use serde_json::{Value, json};

const DNS: &str = "10.96.0.10";

fn pod(name: &str, address: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"namespace": "default", "name": name, "uid": format!("uid-{name}"), "labels": {"app": name}},
        "spec": {"nodeName": "n1", "containers": [
            {"name": "c", "ports": [{"name": "web", "containerPort": 8080}]}]},
        "status": {"phase": "Running", "podIP": address, "podIPs": [{"ip": address}]},
    })
}

fn namespace(name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Namespace",
           "metadata": {"name": name, "labels": {"kubernetes.io/metadata.name": name}}})
}

fn about(app: &str, spec: Value) -> Value {
    let mut spec = spec;
    spec["podSelector"] = json!({"matchLabels": {"app": app}});
    json!({"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
           "metadata": {"namespace": "default", "name": format!("about-{app}")}, "spec": spec})
}

fn app(name: &str) -> Value {
    json!({"podSelector": {"matchLabels": {"app": name}}})
}

/// The node of a lab, with its policies.
struct Node {
    lab: Lab,
    api: Scripted,
    stage: Stage,
    policies: PolicyHandle,
}

impl Node {
    async fn settled(&self) {
        // A change needs a moment to arrive before it can unsettle anything.
        tokio::time::sleep(Duration::from_millis(50)).await;
        for _ in 0..500 {
            let state = self.policies.state().await.expect("it answers");
            assert_eq!(state.error, None);
            if state.settled {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("policies do not settle");
    }

    async fn set(&self, policy: Value) {
        self.api.set("networkpolicies", policy);
        self.settled().await;
    }

    /// Asserts who is answered by whom: `a>b` is, `a!b` is not. Sees in the counters that refused ones were dropped.
    fn check(&self, pairs: &str) {
        for pair in pairs.split(' ') {
            let (from, to) = pair.split_once(['>', '!']).expect("a pair");
            let answered = self.lab.tcp(from, &format!("{}:8080", address(to)));
            assert_eq!(
                answered.is_ok(),
                pair.contains('>'),
                "{pair}: {answered:?}\n{}",
                self.lab.nft("list ruleset")
            );
        }
    }
}

fn address(name: &str) -> &'static str {
    match name {
        "a" => "10.7.0.2",
        "b" => "10.7.0.3",
        "c" => "10.7.0.4",
        other => panic!("{other}"),
    }
}

fn address6(name: &str) -> &'static str {
    match name {
        "a" => "fd00:7::2",
        "b" => "fd00:7::3",
        "c" => "fd00:7::4",
        other => panic!("{other}"),
    }
}

/// Runs `test` on a lab whose policies are kept.
fn with_policies<F: Future<Output = ()>>(test: impl FnOnce(Node) -> F + Send + 'static) {
    with_policies_of(&[Family::V4], test);
}

/// The same, for pods with addresses of these families.
fn with_policies_of<F: Future<Output = ()>>(
    families: &'static [Family],
    test: impl FnOnce(Node) -> F + Send + 'static,
) {
    Lab::run(async move |lab| {
        let (api, stage) = (Scripted::default(), Stage::local());
        for name in ["a", "b", "c"] {
            let mut pod = pod(name, address(name));
            if families.contains(&Family::V6) {
                let second = json!({"ip": address6(name)});
                pod["status"]["podIPs"].as_array_mut().unwrap().push(second);
            }
            api.set("pods", pod);
        }
        api.set("namespaces", namespace("default"));
        api.set("namespaces", namespace("kube-system"));
        let policies = policy::start(&stage, PolicyConfig { families, ..config() }, api.client());
        let node = Node { lab, api, stage, policies };
        node.settled().await;
        test(node).await;
    });
}

fn config() -> PolicyConfig {
    PolicyConfig {
        node: "n1".into(),
        cluster_dns: DNS.parse().unwrap(),
        families: &[Family::V4],
        bridge: "br0".into(),
    }
}

#[test]
fn ingress_is_denied_but_to_whom_it_is_allowed() {
    with_policies(|node| async move {
        node.check("a>b a>c c>b node>b");
        // A connection that is there before the policy.
        let listener = node.lab.within("b", || TcpListener::bind("0.0.0.0:9090").unwrap());
        let mut client = node.lab.within("a", || TcpStream::connect("10.7.0.3:9090").unwrap());
        let (mut server, _) = listener.accept().unwrap();

        node.set(about("b", json!({}))).await;
        node.check("a!b c!b node>b b>c a>c");
        client.write_all(b"still here").unwrap();
        let mut heard = [0; 10];
        server.read_exact(&mut heard).unwrap();
        assert_eq!(&heard, b"still here", "established connections live on");

        node.set(about("b", json!({"ingress": [{"from": [app("a")], "ports": [{"port": "web"}]}]}))).await;
        node.check("a>b c!b");
        node.set(about(
            "b",
            json!({"ingress": [{"from": [app("a")], "ports": [{"port": 8000, "endPort": 8079}]}]}),
        ))
        .await;
        node.check("a!b c!b");
        node.set(about("b", json!({"ingress": [{"ports": [{"port": 8000, "endPort": 8080}]}]}))).await;
        node.check("a>b c>b");
        let block = json!({"cidr": "10.7.0.0/24", "except": ["10.7.0.4/32"]});
        node.set(about("b", json!({"ingress": [{"from": [{"ipBlock": block}]}]}))).await;
        node.check("a>b c!b");
        let all = json!({"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "default"}}});
        node.set(about("b", json!({"ingress": [{"from": [all]}]}))).await;
        node.check("a>b c>b");

        // A label is all it takes; and so it is with the pod's end.
        let mut other = pod("c", address("c"));
        node.set(about("b", json!({"ingress": [{"from": [app("friend")]}]}))).await;
        node.check("c!b");
        other["metadata"]["labels"] = json!({"app": "friend"});
        node.api.set("pods", other);
        node.settled().await;
        node.check("c>b a!b");

        node.api.delete("networkpolicies", about("b", json!({})));
        node.settled().await;
        node.check("a>b c>b");
        node.policies.stop().await.unwrap();
        assert_eq!(node.lab.nft("list ruleset"), "", "nothing stays behind");
    });
}

#[test]
fn services_are_judged_by_the_pods_behind_them() {
    with_policies(|node| async move {
        let facts = NodeFacts {
            name: "n1".into(),
            cluster_cidrs: vec!["10.7.0.0/24".parse().unwrap()],
            service_cidrs: vec!["10.96.0.0/16".parse().unwrap()],
            served_here: [DNS.parse().unwrap()].into(),
            ..NodeFacts::default()
        };
        let settings = ProxyConfig {
            facts,
            mode: ProxyMode::Nftables,
            scheduler: Scheduler::default(),
            look_interval: proxy::LOOK_INTERVAL,
            services: Services::default(),
        };
        let proxy = proxy::start(&node.stage, settings, node.api.client());
        for (name, ip, node_port, behind) in
            [("to-b", "10.96.0.5", 30080, "b"), ("to-c", "10.96.0.6", 30081, "c")]
        {
            node.api.set("services", json!({
                "apiVersion": "v1", "kind": "Service", "metadata": {"namespace": "default", "name": name},
                "spec": {"type": "NodePort", "clusterIP": ip, "ports": [{"port": 80, "nodePort": node_port}]},
            }));
            node.api.set("endpointslices", json!({
                "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
                "metadata": {"namespace": "default", "name": name, "labels": {"kubernetes.io/service-name": name}},
                "addressType": "IPv4", "ports": [{"port": 8080}],
                "endpoints": [{"addresses": [address(behind)], "nodeName": "n1"}],
            }));
        }
        node.set(about("a", json!({"policyTypes": ["Egress"], "egress": [{"to": [app("b")]}]}))).await;
        for _ in 0..200 {
            if node.lab.tcp("node", "10.96.0.6:80").is_ok() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        assert_eq!(node.lab.tcp("a", "10.96.0.5:80").unwrap(), "b 10.7.0.2");
        assert!(node.lab.tcp("a", "10.96.0.6:80").is_err(), "c is nobody that a may send to");
        // Whom a Service leads back to itself is let through, whatever its policies say.
        let closed = json!({"policyTypes": ["Ingress", "Egress"]});
        node.set(about("b", closed)).await;
        assert!(node.lab.tcp("b", "10.96.0.5:80").unwrap().starts_with("b "));
        assert!(node.lab.tcp("b", "10.96.0.6:80").is_err());
        // Who comes in by a node port is judged by its own address.
        assert!(node.lab.tcp("out", "192.168.77.1:30080").is_err());
        let from = |cidr: &str| json!({"ingress": [{"from": [{"ipBlock": {"cidr": cidr}}]}]});
        node.set(about("b", from("192.168.77.2/32"))).await;
        assert!(node.lab.tcp("out", "192.168.77.1:30080").is_ok());
        node.set(about("b", from("192.168.77.1/32"))).await;
        assert!(node.lab.tcp("out", "192.168.77.1:30080").is_err());
        proxy.stop().await.unwrap();
        node.policies.stop().await.unwrap();
    });
}

#[test]
fn names_are_asked_for_where_that_is_allowed() {
    with_policies(|node| async move {
        let dns = node.lab.within("node", || {
            let added =
                std::process::Command::new("ip").args(["addr", "add", "10.96.0.10/32", "dev", "lo"]).status();
            assert!(added.unwrap().success());
            UdpSocket::bind((DNS, 53)).unwrap()
        });
        std::thread::spawn(move || {
            let mut buffer = [0; 64];
            while let Ok((_, peer)) = dns.recv_from(&mut buffer) {
                let _ = dns.send_to(b"name", peer);
            }
        });
        let answered = || {
            let client = node.lab.udp_socket("a", "10.96.0.10:53");
            client.send(b"who?").is_ok() && client.recv(&mut [0; 64]).is_ok()
        };
        assert!(answered());
        node.set(about("a", json!({"policyTypes": ["Egress"]}))).await;
        assert!(!answered());
        assert!(
            node.lab.tcp("a", "10.7.0.1:9").is_err_and(|e| e.kind() == std::io::ErrorKind::ConnectionRefused),
            "the node itself is reached"
        );
        let usual = json!({
            "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "kube-system"}},
            "podSelector": {"matchLabels": {"k8s-app": "kube-dns"}},
        });
        let port = json!([{"port": 53, "protocol": "UDP"}, {"port": 53}]);
        node.set(about("a", json!({"policyTypes": ["Egress"], "egress": [{"to": [usual], "ports": port}]})))
            .await;
        assert!(answered());
        node.check("a!b");
        node.set(about("a", json!({"policyTypes": ["Egress"], "egress": [{"ports": port}]}))).await;
        assert!(answered(), "to anyone, on this port");
        node.policies.stop().await.unwrap();
    });
}

#[test]
fn pods_of_one_bridge_do_not_pass_policies_by_ipv6() {
    with_policies(past_by_link_local_addresses);
}

#[test]
fn pods_with_both_families_do_not_pass_policies_by_link_local_addresses() {
    with_policies_of(&Family::ALL, past_by_link_local_addresses);
}

#[test]
fn policies_hold_for_both_families() {
    with_policies_of(&Family::ALL, |node| async move {
        if !Family::here().contains(&Family::V6) {
            eprintln!("SKIPPED: no IPv6 here");
            return;
        }
        node.lab.add_ipv6();
        for name in ["b", "c"] {
            node.lab.serve_at(name, &format!("[{}]:8080", address6(name)));
        }
        let check = |pairs: &str| {
            node.check(pairs);
            for pair in pairs.split(' ') {
                let (from, to) = pair.split_once(['>', '!']).unwrap();
                let answered = node.lab.tcp(from, &format!("[{}]:8080", address6(to)));
                assert_eq!(answered.is_ok(), pair.contains('>'), "{pair} by IPv6: {answered:?}");
            }
        };
        check("a>b c>b node>b");
        node.set(about("b", json!({}))).await;
        check("a!b c!b node>b b>c");
        node.set(about("b", json!({"ingress": [{"from": [app("a")], "ports": [{"port": "web"}]}]}))).await;
        check("a>b c!b");
        let blocks = json!([
            {"ipBlock": {"cidr": "10.7.0.0/24", "except": ["10.7.0.4/32"]}},
            {"ipBlock": {"cidr": "fd00:7::/64", "except": ["fd00:7::4/128"]}},
        ]);
        node.set(about("b", json!({"ingress": [{"from": blocks}]}))).await;
        check("a>b c!b");
        node.api.delete("networkpolicies", about("b", json!({})));
        node.set(about("a", json!({"policyTypes": ["Egress"], "egress": [{"to": [app("c")]}]}))).await;
        check("a>c a!b b>c");
        node.policies.stop().await.unwrap();
    });
}

async fn past_by_link_local_addresses(node: Node) {
    // Link-local addresses come by themselves; nobody listens, so a refusal says that the way is open.
    let to_b = |node: &Node| {
        let shown = node.lab.within("b", || {
            std::process::Command::new("ip").args(["-6", "-o", "addr", "show", "dev", "eth0"]).output()
        });
        let shown = String::from_utf8_lossy(&shown.unwrap().stdout).into_owned();
        let address = shown.split_whitespace().find(|w| w.starts_with("fe80"))?.split('/').next()?.to_owned();
        node.lab.within("a", move || {
            let index = nix::net::if_::if_nametoindex("eth0").unwrap();
            let address = std::net::SocketAddrV6::new(address.parse().ok()?, 9, 0, index);
            TcpStream::connect_timeout(&SocketAddr::V6(address), Duration::from_secs(1)).err()
        })
    };
    let refused = |e: &std::io::Error| e.kind() == std::io::ErrorKind::ConnectionRefused;
    node.lab.nft("delete table inet troupe-policy");
    let mut open = false;
    for _ in 0..20 {
        open = to_b(&node).as_ref().is_some_and(refused);
        if open {
            break;
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    if !open {
        eprintln!("SKIPPED: no IPv6 here");
        return;
    }
    // The next change is refused by the kernel, as its table is gone; so all of it comes back.
    node.api.set("networkpolicies", about("b", json!({})));
    for _ in 0..100 {
        tokio::time::sleep(Duration::from_millis(50)).await;
        if node.lab.nft("list ruleset").contains("isolated-ingress") {
            break;
        }
    }
    assert!(!to_b(&node).as_ref().is_some_and(refused));
    node.policies.stop().await.unwrap();
}

/// Pods get the address that their name stands for.
struct Plugs;

#[async_trait]
impl PodNetwork for Plugs {
    async fn attach(
        &self,
        _: &str,
        _: &str,
        pod: &PodIdentity,
        _: &[PortMapping],
    ) -> Result<Vec<IpAddr>, NetworkError> {
        Ok(vec![address(&pod.name).parse().unwrap()])
    }
    async fn detach(&self, _: &str, _: &str, _: &PodIdentity, _: &[PortMapping]) -> Result<(), NetworkError> {
        Ok(())
    }
    async fn ready(&self) -> Result<(), NetworkError> {
        Ok(())
    }
}

#[test]
fn a_pod_is_isolated_before_it_starts() {
    with_policies(|node| async move {
        let fresh = Scripted::default();
        fresh.set("namespaces", namespace("default"));
        fresh.set("networkpolicies", about("b", json!({})));
        let network = policy::guard(&node.stage, config(), fresh.client(), Arc::new(Plugs));
        let identity = PodIdentity { namespace: "default".into(), name: "b".into(), uid: "uid-b".into() };
        // The API tells of the pod a little after the kubelet knows it, and of no address yet.
        let mut pending = pod("b", "");
        pending["status"] = json!({"phase": "Pending"});
        let later = async {
            tokio::time::sleep(Duration::from_millis(100)).await;
            assert!(!node.lab.nft("list table inet troupe-policy").contains("10.7.0.3"));
            fresh.set("pods", pending);
        };
        let (attached, ()) = futures::join!(network.attach("s", "", &identity, &[]), later);
        assert_eq!(attached.unwrap(), [IpAddr::from([10, 7, 0, 3])]);
        assert!(node.lab.nft("list table inet troupe-policy").contains("ingress/10.7.0.3"));
        node.check("a!b");
        network.detach("s", "", &identity, &[]).await.unwrap();
        for _ in 0..100 {
            tokio::time::sleep(Duration::from_millis(20)).await;
            if !node.lab.nft("list table inet troupe-policy").contains("10.7.0.3") {
                return;
            }
        }
        panic!("the chain of a pod that is gone stays");
    });
}
