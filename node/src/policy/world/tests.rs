use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Pod;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::policy::objects::key;
use crate::policy::table::tests::Model;

mod naive;

const DNS: &str = "10.96.0.10";

/// What the API holds.
#[derive(Clone, Debug, Default)]
struct Objects {
    pods: BTreeMap<String, Value>,
    namespaces: BTreeMap<String, Value>,
    policies: BTreeMap<String, Value>,
}

/// One change of it.
#[derive(Clone, Debug)]
enum Change {
    Pod(String, Option<Value>),
    Namespace(String, Option<Value>),
    Policy(String, Option<Value>),
}

fn facts(pod: &Value) -> PodFacts {
    PodFacts::of(&serde_json::from_value::<Pod>(pod.clone()).unwrap(), "n1")
}

fn labels(object: &Value) -> Labels {
    serde_json::from_value(object["metadata"]["labels"].clone()).unwrap_or_default()
}

fn policy(object: &Value) -> Policy {
    Policy::of(&serde_json::from_value(object.clone()).unwrap()).unwrap()
}

fn new_world() -> World {
    World::new(DNS.parse().unwrap(), &Family::ALL)
}

impl Objects {
    fn take(&mut self, world: &mut World, change: Change) {
        let put = |of: &mut BTreeMap<String, Value>, key: &str, object: &Option<Value>| match object {
            Some(object) => drop(of.insert(key.to_owned(), object.clone())),
            None => drop(of.remove(key)),
        };
        match change {
            Change::Pod(key, object) => {
                put(&mut self.pods, &key, &object);
                world.set_pod(&key.as_str().into(), object.as_ref().map(facts));
            }
            Change::Namespace(name, object) => {
                put(&mut self.namespaces, &name, &object);
                world.set_namespace(&name, object.as_ref().map(labels));
            }
            Change::Policy(key, object) => {
                put(&mut self.policies, &key, &object);
                world.set_policy(&key.as_str().into(), object.as_ref().map(policy));
            }
        }
    }

    /// A world that was told all of it at once.
    fn listed(&self) -> World {
        let mut world = new_world();
        world.replace_policies(self.policies.iter().map(|(k, p)| (k.as_str().into(), policy(p))).collect());
        world.replace_pods(self.pods.iter().map(|(k, p)| (k.as_str().into(), facts(p))).collect());
        world.replace_namespaces(self.namespaces.iter().map(|(k, n)| (k.clone(), labels(n))).collect());
        world.settle();
        world
    }
}

fn v4(a: u8, b: u8, c: u8, d: u8) -> IpAddr {
    IpAddr::from([a, b, c, d])
}

/// The first packet of a connection; `None` for a protocol without ports.
#[derive(Clone, Copy, Debug)]
struct Packet {
    from: IpAddr,
    to: IpAddr,
    port: Option<(Protocol, u16)>,
}

/// What the compiled table does with a packet: in the forwarding, or to the node itself where `input`.
fn passes(table: &Table, packet: Packet, input: bool) -> bool {
    let asked = |direction: Direction, own: IpAddr| {
        if !table.has(&SetName::Isolated(direction), own.into()) {
            return true;
        }
        let Some(Chain::Asks(policies)) = table.chain(&ChainName::Pod(direction, own)) else {
            panic!("{own} is sent to a chain that is not there");
        };
        policies.iter().any(|name| match table.chain(name) {
            Some(Chain::Accepts(of, lines)) => {
                assert_eq!(*of, direction);
                lines.iter().any(|line| lets_through(table, line, direction, packet))
            }
            other => panic!("{name} is {other:?}"),
        })
    };
    if input {
        return !table.has(&SetName::Served, packet.to.into()) || asked(Direction::Egress, packet.from);
    }
    if packet.from == packet.to && table.has(&SetName::Selves, packet.from.into()) {
        return true;
    }
    asked(Direction::Egress, packet.from) && asked(Direction::Ingress, packet.to)
}

fn lets_through(table: &Table, line: &Line, direction: Direction, packet: Packet) -> bool {
    let peer = if direction == Direction::Ingress { packet.from } else { packet.to };
    let peers = match &line.peers {
        Peers::Any => true,
        Peers::Pods(pods) => table.has(&SetName::Pods(pods.id.clone()), peer.into()),
        Peers::Addresses(ranges) => ranges.iter().any(|(first, last)| (*first..=*last).contains(&peer)),
    };
    let ports = match (&line.ports, packet.port) {
        (Ports::Any, _) => true,
        (_, None) => false,
        (Ports::Protocol(wanted), Some((protocol, _))) => *wanted == protocol,
        (Ports::Numbers(wanted, ranges), Some((protocol, port))) => {
            *wanted == protocol && ranges.iter().any(|(first, last)| (*first..=*last).contains(&port))
        }
        (Ports::Named(wanted, name), Some((protocol, port))) => {
            let set = SetName::Ports(*wanted, name.clone());
            *wanted == protocol && table.has(&set, Element { address: packet.to, port })
        }
    };
    peers && ports
}

fn selector() -> impl Strategy<Value = Value> {
    prop_oneof![
        2 => Just(json!({})),
        3 => "[xyz]".prop_map(|app| json!({"matchLabels": {"app": app}})),
        1 => "[xyz]".prop_map(|app| json!({"matchExpressions": [{"key": "app", "operator": "NotIn", "values": [app]}]})),
        1 => Just(json!({"matchExpressions": [{"key": "app", "operator": "Exists"}]})),
        1 => Just(json!({"matchLabels": {"k8s-app": "kube-dns"}})),
    ]
}

fn namespaces() -> impl Strategy<Value = Value> {
    prop_oneof![
        1 => Just(json!({})),
        2 => "[ab]".prop_map(|team| json!({"matchLabels": {"team": team}})),
        1 => "[ab]".prop_map(|team| json!({"matchExpressions": [{"key": "team", "operator": "NotIn", "values": [team]}]})),
    ]
}

fn peer() -> impl Strategy<Value = Value> {
    prop_oneof![
        3 => selector().prop_map(|pods| json!({"podSelector": pods})),
        2 => namespaces().prop_map(|n| json!({"namespaceSelector": n})),
        2 => (namespaces(), selector()).prop_map(|(n, p)| json!({"namespaceSelector": n, "podSelector": p})),
        1 => Just(json!({"ipBlock": {"cidr": "10.0.0.0/24", "except": ["10.0.0.4/30", "10.0.0.1/32"]}})),
        1 => Just(json!({"ipBlock": {"cidr": "0.0.0.0/0", "except": ["10.0.0.0/8"]}})),
        1 => Just(json!({"ipBlock": {"cidr": "10.96.0.10/32"}})),
        1 => Just(json!({"ipBlock": {"cidr": "fd00::/64", "except": ["fd00::4/126"]}})),
        1 => Just(json!({"ipBlock": {"cidr": "::/0", "except": ["fd00::/125"]}})),
    ]
}

fn port() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(json!({})),
        Just(json!({"protocol": "UDP"})),
        Just(json!({"port": 80})),
        Just(json!({"port": 8000, "endPort": 8100})),
        Just(json!({"port": 53, "protocol": "UDP"})),
        Just(json!({"port": "http"})),
        Just(json!({"port": "dns", "protocol": "UDP"})),
    ]
}

fn rules(peers: &'static str) -> impl Strategy<Value = Value> {
    let some = |of: &str, list: Vec<Value>, present: bool| {
        let mut rule = json!({});
        if present {
            rule[of] = json!(list);
        }
        rule
    };
    let rule = (
        proptest::collection::vec(peer(), 0..3),
        any::<bool>(),
        proptest::collection::vec(port(), 0..3),
        any::<bool>(),
    )
        .prop_map(move |(who, has_who, ports, has_ports)| {
            let mut rule = some(peers, who, has_who);
            if has_ports {
                rule["ports"] = json!(ports);
            }
            rule
        });
    proptest::collection::vec(rule, 0..3).prop_map(|rules| json!(rules))
}

fn change() -> impl Strategy<Value = Change> {
    let pod = (0u8..8, "[ab]", "[wxyz]", "n[12]", 0u8..10, any::<bool>()).prop_map(|(n, ns, app, node, fate, http)| {
        let name = format!("{ns}/p{n}");
        if fate == 0 {
            return Change::Pod(name, None);
        }
        let port = if http { 8080 } else { 80 };
        let number = n + if ns == "a" { 0 } else { 8 };
        let address = format!("10.0.0.{number}");
        let address6 = IpAddr::from([0xfd00, 0, 0, 0, 0, 0, 0, u16::from(number)]).to_string();
        let labels = if app == "w" { json!({}) } else { json!({"app": app}) };
        let pod = json!({
            "metadata": {"namespace": ns, "name": format!("p{n}"), "labels": labels},
            "spec": {"nodeName": node, "hostNetwork": fate == 1, "containers": [
                {"name": "c", "ports": [{"name": "http", "containerPort": port}]}]},
            "status": {"phase": if fate == 2 { "Succeeded" } else { "Running" }, "podIPs": [{"ip": address}, {"ip": address6}]},
        });
        Change::Pod(name, Some(pod))
    });
    let namespace = ("[ab]|kube-system", "[ab]", any::<bool>()).prop_map(|(name, team, there)| {
        let object = json!({"metadata": {"name": name, "labels": {"team": team}}});
        Change::Namespace(name, there.then_some(object))
    });
    let types = prop_oneof![
        Just(json!(null)),
        Just(json!(["Ingress"])),
        Just(json!(["Egress"])),
        Just(json!(["Ingress", "Egress"])),
    ];
    let policy = (0u8..3, "[ab]", selector(), types, rules("from"), rules("to"), 0u8..5).prop_map(
        |(n, ns, pods, types, ingress, egress, fate)| {
            let name = format!("{ns}/policy{n}");
            let object = json!({
                "metadata": {"namespace": ns, "name": format!("policy{n}")},
                "spec": {"podSelector": pods, "policyTypes": types, "ingress": ingress, "egress": egress},
            });
            Change::Policy(name, (fate > 0).then_some(object))
        },
    );
    prop_oneof![5 => pod, 1 => namespace, 3 => policy]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// However it came about, the table decides as the API's words do; and the kernel, told only what changed, has
    /// what it would have if it were told all.
    #[test]
    fn the_table_decides_as_the_words_do(changes in proptest::collection::vec((change(), any::<bool>()), 1..60)) {
        let (mut objects, mut world, mut kernel) = (Objects::default(), new_world(), Model::default());
        kernel.take(&world.table.take_all("br"));
        for (change, settle) in changes {
            objects.take(&mut world, change);
            if settle {
                world.settle();
                kernel.take(&world.table.take_changes());
            }
        }
        world.settle();
        kernel.take(&world.table.take_changes());
        let mut told_all = Model::default();
        told_all.take(&objects.listed().table.take_all("br"));
        prop_assert_eq!(&kernel, &told_all);

        let addresses = (0..16).map(|n| v4(10, 0, 0, n));
        let addresses6 = (0..16).map(|n| IpAddr::from([0xfd00, 0, 0, 0, 0, 0, 0, n]));
        let outside = [v4(192, 0, 2, 1), IpAddr::from([0x2001, 0xdb8, 0, 0, 0, 0, 0, 1])];
        let addresses: Vec<IpAddr> = addresses.chain(addresses6).chain(outside).collect();
        let ports = [None, Some((Protocol::Tcp, 80)), Some((Protocol::Tcp, 8080)), Some((Protocol::Udp, 53))];
        for from in &addresses {
            for port in ports {
                for to in addresses.iter().filter(|to| to.is_ipv4() == from.is_ipv4()) {
                    let packet = Packet { from: *from, to: *to, port };
                    let (found, meant) = (passes(&world.table, packet, false), naive::passes(&objects, packet, false));
                    prop_assert_eq!(found, meant, "{:?} of {:#?}", packet, objects);
                }
                for to in [DNS.parse().unwrap(), v4(192, 0, 2, 9)].into_iter().filter(|_| from.is_ipv4()) {
                    let packet = Packet { from: *from, to, port };
                    let (found, meant) = (passes(&world.table, packet, true), naive::passes(&objects, packet, true));
                    prop_assert_eq!(found, meant, "{:?} to the node, of {:#?}", packet, objects);
                }
            }
        }
    }
}

fn running(namespace: &str, name: &str, address: &str, node: &str, app: &str) -> Value {
    json!({
        "metadata": {"namespace": namespace, "name": name, "labels": {"app": app}},
        "spec": {"nodeName": node, "containers": []},
        "status": {"podIP": address, "podIPs": [{"ip": address}]},
    })
}

fn from_app(app: &str) -> Value {
    json!({
        "metadata": {"namespace": "a", "name": "p"},
        "spec": {"podSelector": {}, "ingress": [{"from": [{"podSelector": {"matchLabels": {"app": app}}}]}]},
    })
}

#[test]
fn a_pod_anywhere_is_an_element_and_policies_without_pods_here_are_nothing() {
    let (mut objects, mut world) = (Objects::default(), new_world());
    let mut tell = |world: &mut World, change| {
        objects.take(world, change);
        let touched = world.settle();
        (world.table.take_changes(), touched)
    };
    world.table.take_all("br");
    let pod = |name: &str, address: &str, node: &str, app: &str| {
        Change::Pod(format!("a/{name}"), Some(running("a", name, address, node, app)))
    };
    for n in 0..100 {
        tell(&mut world, pod(&format!("far{n}"), &format!("10.0.1.{n}"), "n2", "x"));
    }
    let (text, _) = tell(&mut world, Change::Policy("a/p".into(), Some(from_app("x"))));
    assert_eq!(text, "", "nobody here is selected");
    assert_eq!(world.table.size(), (4, 1, 0));
    let (text, touched) = tell(&mut world, pod("here", "10.0.0.1", "n1", "y"));
    assert!(text.contains("add chain inet troupe-policy ingress-policy/a/p\n"), "{text}");
    assert_eq!(touched.into_iter().collect::<Vec<_>>(), ["a/here".into(), "a/p".into()] as [Key; 2]);

    let (text, _) = tell(&mut world, pod("far100", "10.0.1.100", "n2", "x"));
    assert!(
        text.starts_with("add element inet troupe-policy pods/") && text.ends_with(" { 10.0.1.100 }\n"),
        "{text}"
    );
    assert_eq!(text.lines().count(), 1, "{text}");
    let (text, touched) = tell(&mut world, pod("far101", "10.0.1.101", "n2", "z"));
    assert_eq!((text.as_str(), touched.len()), ("", 0), "nobody's peer");

    let (text, _) = tell(&mut world, Change::Pod("a/here".into(), None));
    assert!(text.contains("delete set"), "{text}");
    assert_eq!(world.table.size(), (4, 1, 0), "nothing is left");
}

#[test]
fn what_is_plugged_in_here_counts_before_any_status() {
    let mut world = new_world();
    let key: Key = key("a", "here");
    world.set_policy(&super::super::objects::key("a", "p"), Some(policy(&from_app("x"))));
    let mut pending = running("a", "here", "", "n1", "y");
    pending["status"] = json!({});
    world.set_pod(&key, Some(facts(&pending)));
    let address: IpAddr = "10.0.0.1".parse().unwrap();
    world.plug(&key, "s1", Some(vec![address]));
    world.settle();
    let isolated = |world: &World, address: IpAddr| {
        world.table.has(&SetName::Isolated(Direction::Ingress), address.into())
    };
    assert!(isolated(&world, address));
    // The next sandbox has another address; the status still tells the old one, which somebody else gets.
    world.set_pod(&key, Some(facts(&running("a", "here", "10.0.0.1", "n1", "y"))));
    let next: IpAddr = "10.0.0.2".parse().unwrap();
    world.plug(&key, "s1", None);
    world.plug(&key, "s2", Some(vec![next]));
    world.set_pod(
        &super::super::objects::key("b", "other"),
        Some(facts(&running("b", "other", "10.0.0.1", "n1", "y"))),
    );
    world.settle();
    assert!(isolated(&world, next) && !isolated(&world, address));
}
