//! Addresses of balanced Services on a real segment: namespaces as machines, the kernel's own ARP and neighbour
//! discovery, and a neighbour that is told where the addresses went. Needs root; without it the tests say so and pass over.

#![expect(clippy::unwrap_used, reason = "what a test needs and does not get ends it")]

#[path = "support/namespace.rs"]
mod namespace;
#[path = "support/scripted.rs"]
mod scripted;

use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use actors::Stage;
use namespace::{Namespace, PORT, enter, ip, is_root, serve_at, tcp};
use node::announce;
use node::family::Family;
use protocol::balancing::ANNOUNCED_BY;
use scripted::Scripted;
use serde_json::json;
use tokio::sync::oneshot;
use tokio::task::LocalSet;

const V4: &str = "192.0.2.200";
const V6: &str = "2001:db8::200";
const PATIENCE: Duration = Duration::from_secs(1);

/// A machine on the segment.
struct Machine {
    space: Namespace,
    name: &'static str,
    address: IpAddr,
}

/// Machines `n1`, `n2` and a neighbour.
struct Segment {
    _bridge: Namespace,
    machines: [Machine; 3],
}

impl Segment {
    fn new() -> Segment {
        let prefix = format!("ta{}", std::process::id() % 100_000);
        let bridge = Namespace::new(format!("{prefix}-seg"));
        ip(&format!("-n {} link add br0 type bridge", bridge.0));
        ip(&format!("-n {} link set br0 up", bridge.0));
        let machines = [(1, "n1"), (2, "n2"), (3, "neighbour")].map(|(last, name)| {
            let space = Namespace::new(format!("{prefix}-h{last}"));
            let (ns, seg) = (&space.0, &bridge.0);
            ip(&format!("-n {seg} link add v{last} type veth peer name eth0 netns {ns}"));
            ip(&format!("-n {seg} link set v{last} master br0 up"));
            ip(&format!("-n {ns} addr add 192.0.2.{last}/24 dev eth0"));
            ip(&format!("-n {ns} link set eth0 up"));
            if dual() {
                ip(&format!("-n {ns} -6 addr add 2001:db8::{last}/64 dev eth0 nodad"));
            }
            let all = SocketAddr::from((Ipv6Addr::UNSPECIFIED, PORT));
            serve_at(&space.0, name, if dual() { all } else { SocketAddr::from(([0, 0, 0, 0], PORT)) });
            Machine { space, name, address: [192, 0, 2, last].into() }
        });
        Segment { _bridge: bridge, machines }
    }
}

fn dual() -> bool {
    Family::here().contains(&Family::V6)
}

/// Both addresses, where the kernel has IPv6.
fn both() -> &'static [&'static str] {
    if dual() { &[V4, V6] } else { &[V4] }
}

/// A node's announcer, until it is dropped.
struct Announcer {
    end: Option<oneshot::Sender<bool>>,
    thread: Option<JoinHandle<()>>,
}

impl Machine {
    fn start(&self, api: &Scripted) -> Announcer {
        let (namespace, name, address) = (self.space.0.clone(), self.name.to_owned(), self.address);
        let client = api.client();
        let (end, ended) = oneshot::channel();
        let thread = std::thread::spawn(move || {
            enter(&namespace);
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            LocalSet::new().block_on(&runtime, async move {
                let stage = Stage::local();
                announce::start(&stage, name, address, client);
                let clean = ended.await.unwrap_or_default();
                stage.shut_down(Duration::from_secs(5)).await;
                if clean {
                    announce::clean_up().await.unwrap();
                    announce::clean_up().await.unwrap();
                }
            });
        });
        Announcer { end: Some(end), thread: Some(thread) }
    }

    /// Which of the addresses it has.
    fn has(&self) -> Vec<&'static str> {
        let shown = ip(&format!("-n {} -o addr show", self.space.0));
        both().iter().copied().filter(|address| shown.contains(&format!(" {address}/"))).collect()
    }

    /// The Ethernet address of its interface.
    fn mac(&self) -> String {
        let shown = ip(&format!("-n {} -o link show dev eth0", self.space.0));
        shown.split(' ').skip_while(|w| *w != "link/ether").nth(1).unwrap().to_owned()
    }

    /// Whether its kernel takes an address to be at this Ethernet address.
    fn takes_to_be_at(&self, address: &str, mac: &str) -> bool {
        ip(&format!("-n {} neigh show {address} dev eth0", self.space.0)).contains(mac)
    }

    fn asks(&self, address: &str) -> String {
        let address: IpAddr = address.parse().unwrap();
        tcp(&self.space.0, &SocketAddr::new(address, PORT).to_string(), PATIENCE).unwrap_or_default()
    }
}

impl Announcer {
    fn end(mut self, clean: bool) {
        let _ = self.end.take().unwrap().send(clean);
        self.thread.take().unwrap().join().unwrap();
    }
}

fn service(api: &Scripted, name: &str, node: &str, addresses: &[&str]) {
    let ingress: Vec<_> = addresses.iter().map(|a| json!({"ip": a, "ipMode": "VIP"})).collect();
    api.set(
        "services",
        json!({
            "apiVersion": "v1", "kind": "Service",
            "metadata": {"namespace": "default", "name": name, "annotations": {ANNOUNCED_BY: node}},
            "spec": {"type": "LoadBalancer"}, "status": {"loadBalancer": {"ingress": ingress}},
        }),
    );
}

fn until(what: &str, mut so: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !so() {
        assert!(begun.elapsed() < Duration::from_secs(20), "it does not come about that {what}");
        pause();
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "the kernel and other threads have no virtual time; no arbiter waits here"
)]
fn pause() {
    std::thread::sleep(Duration::from_millis(20));
}

#[test]
fn addresses_are_found_where_they_are_and_followed_where_they_go() {
    if !is_root() {
        eprintln!("SKIPPED: network namespaces need root");
        return;
    }
    let (segment, api) = (Segment::new(), Scripted::default());
    let [one, two, neighbour] = &segment.machines;
    service(&api, "web", "n1", both());
    service(&api, "mail", "n1", both());
    let (first, second) = (one.start(&api), two.start(&api));
    until("the node has them", || one.has() == both());
    for address in both() {
        until("the neighbour finds it", || neighbour.asks(address).starts_with("n1 "));
    }
    assert!(two.has().is_empty());

    // One of two Services goes: the other keeps the addresses.
    api.delete("services", json!({"metadata": {"namespace": "default", "name": "mail"}}));
    // What an interface loses when it goes down comes back with it, though the process hears of nothing else.
    ip(&format!("-n {} link set eth0 down", one.space.0));
    ip(&format!("-n {} link set eth0 up", one.space.0));
    if dual() {
        ip(&format!("-n {} -6 addr add 2001:db8::1/64 dev eth0 nodad", one.space.0));
    }
    until("the node has them again", || one.has() == both());
    for address in both() {
        until("the neighbour finds it again", || neighbour.asks(address).starts_with("n1 "));
    }

    // The other node gets them. The neighbour is told, and has not to ask: it knows better before it says a word.
    assert!(both().iter().all(|address| neighbour.takes_to_be_at(address, &one.mac())));
    service(&api, "web", "n2", both());
    for address in both() {
        until("the neighbour is told", || neighbour.takes_to_be_at(address, &two.mac()));
        until("it is answered there", || neighbour.asks(address).starts_with("n2 "));
    }
    until("the first has given them up", || one.has().is_empty());

    // The process ends and another begins: the addresses stay meanwhile, and go once nobody wants them.
    second.end(false);
    assert_eq!(two.has(), both());
    service(&api, "web", "n1", both());
    until("the first has them", || one.has() == both());
    let second = two.start(&api);
    until("what an earlier process took goes", || two.has().is_empty());

    service(&api, "web", "n2", both());
    until("the second has them", || two.has() == both());
    first.end(true);
    second.end(true);
    assert!(two.has().is_empty(), "nothing stays after the clean-up");
}

/// The node's own packets leave under its own address, though the other is on the same interface.
#[test]
fn the_node_does_not_speak_under_a_balanced_address() {
    if !is_root() || !dual() {
        eprintln!("SKIPPED: network namespaces need root, and the kernel IPv6");
        return;
    }
    let api = Scripted::default();
    let space = Namespace::new(format!("tb{}-n", std::process::id() % 100_000));
    let machine = Machine { space, name: "n1", address: [192, 0, 2, 1].into() };
    let ns = &machine.space.0;
    ip(&format!("-n {ns} link add eth0 type veth peer name far"));
    ip(&format!("-n {ns} link set far up"));
    ip(&format!("-n {ns} link set eth0 up"));
    ip(&format!("-n {ns} addr add 192.0.2.1/24 dev eth0"));
    ip(&format!("-n {ns} -6 addr add 2001:db8::1/64 dev eth0 nodad"));
    service(&api, "web", "n1", &[V6]);
    let announcer = machine.start(&api);
    until("the node has it", || machine.has() == [V6]);
    // A neighbour with more of its address in common with the balanced one than with the node's own.
    let route = ip(&format!("-n {ns} -6 route get 2001:db8::201"));
    assert!(route.contains("src 2001:db8::1 "), "{route}");
    announcer.end(true);
}
