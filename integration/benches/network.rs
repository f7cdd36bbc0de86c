//! What the pods' network costs: pod to pod across nodes against host to host, by VXLAN and by plain routes, with IPv4
//! and IPv6. Machines are network namespaces on one segment, pods are plugged in by the CNI plugins. Needs root and these.
//!
//! Ratios within one run are what counts: no wire is between these machines, so all of it is the processor's time.
//!
//!     cargo bench -p troupe --bench network

#![expect(clippy::unwrap_used, reason = "what the bench needs and does not get ends it")]

#[path = "support/bulk.rs"]
mod bulk;
#[path = "../../node/tests/support/hosts.rs"]
#[allow(dead_code, reason = "tests ask more of it")]
mod hosts;
#[path = "../../node/tests/support/namespace.rs"]
#[allow(dead_code, reason = "tests ask more of it")]
mod namespace;
#[path = "../../node/tests/support/scripted.rs"]
#[allow(dead_code, reason = "tests ask more of it")]
mod scripted;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::{Duration, Instant};

use bulk::{answer, median, sink, throughput};
use hosts::{RunningNode, Segment};
use namespace::is_root;
use node::family::Family;
use node::network::PodNetworkMode;
use scripted::Scripted;

const PORT: u16 = 9090;
/// Rounds of each way, in turns.
const ROUNDS: usize = 3;
/// A node is reached within this time, or never.
const PATIENCE: Duration = Duration::from_secs(30);

/// What one way between two places costs.
#[derive(Default)]
struct Cost {
    gigabits: Vec<f64>,
    micros: Vec<f64>,
}

impl Cost {
    fn round(&mut self, from: &str, to: SocketAddr) {
        self.gigabits.push(throughput(from, to));
        self.micros.push(answer(from, to).as_secs_f64() * 1e6);
    }

    fn medians(self) -> (f64, f64) {
        (median(self.gigabits), median(self.micros))
    }
}

#[expect(clippy::disallowed_methods, reason = "no arbiter waits here")]
fn ready(node: &RunningNode) -> Duration {
    let start = Instant::now();
    while let Err(why) = node.ready() {
        assert!(start.elapsed() < PATIENCE, "the node is not ready: {why}");
        std::thread::sleep(Duration::from_millis(1));
    }
    start.elapsed()
}

fn measure(mode: PodNetworkMode, family: Family) {
    let state = tempfile::tempdir().unwrap();
    let (segment, api) = (Segment::new("n"), Scripted::default());
    let [one, two] = [1, 2].map(|last| segment.dual_machine(last));
    api.set("nodes", one.node());
    api.set("nodes", two.node());
    let (first, second) = (one.start(&api, mode, state.path()), two.start(&api, mode, state.path()));
    let prepared = ready(&first).max(ready(&second));
    let (a, b) = (segment.pod("a"), segment.pod("b"));
    first.attach_all(&a);
    let of_b = second.attach_all(&b);
    let any: IpAddr = match family {
        Family::V4 => Ipv4Addr::UNSPECIFIED.into(),
        Family::V6 => Ipv6Addr::UNSPECIFIED.into(),
    };
    sink(&two.space.0, (any, PORT).into());
    sink(&b.0, (any, PORT).into());
    let host: IpAddr = match family {
        Family::V4 => Ipv4Addr::new(192, 0, 2, 2).into(),
        Family::V6 => Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 2).into(),
    };
    let pod = of_b.into_iter().find(|ip| Family::of(*ip) == family).unwrap();
    let (mut hosts, mut pods) = (Cost::default(), Cost::default());
    for _ in 0..ROUNDS {
        hosts.round(&one.space.0, (host, PORT).into());
        pods.round(&a.0, (pod, PORT).into());
    }
    let ((host_gigabits, host_micros), (pod_gigabits, pod_micros)) = (hosts.medians(), pods.medians());
    println!(
        "{mode:?} {}: {pod_gigabits:.2} Gbit/s pod to pod, {host_gigabits:.2} host to host ({:.2} x); \
         an answer in {pod_micros:.0} µs, {host_micros:.0} µs ({:.2} x); network ready after {prepared:.0?}",
        family.address_type(),
        pod_gigabits / host_gigabits,
        pod_micros / host_micros,
    );
}

fn main() {
    if !is_root() {
        eprintln!("SKIPPED: network namespaces need root");
        return;
    }
    for mode in [PodNetworkMode::Vxlan, PodNetworkMode::Routes] {
        for family in Family::here() {
            measure(mode, *family);
        }
    }
}
