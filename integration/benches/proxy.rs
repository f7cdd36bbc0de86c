//! What the service proxy costs, in a network namespace, in every mode: the first sync of many Services, one changed
//! endpoint among them, and a connection through it against a direct one. Needs root.
//!
//! Ratios within one run are what counts; absolute figures are the machine's.
//!
//!     cargo bench -p troupe --bench proxy [-- MODE...]

#![expect(clippy::unwrap_used, reason = "what the bench needs and does not get ends it")]

#[path = "support/bulk.rs"]
mod bulk;
#[path = "../../node/tests/support/netns.rs"]
mod netns;

use netns::namespace;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use actors::{Stage, TraceContext};
use async_trait::async_trait;
use bytes::Bytes;
use clap::ValueEnum;
use futures::StreamExt;
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use netns::{Lab, is_root};
use node::family::Family;
use node::proxy::plan::{Reach, ServicePlan, plan};
use node::proxy::userspace::ADDRESS;
use node::proxy::{self, NodeFacts, ProxyConfig, ProxyHandle, ProxyMode, Scheduler, ServiceKey};
use node::proxy::{iptables, nftables};
use node::services::Services;
use protocol::{Api, ApiError, ApiRequest, ApiResponse, Client, WatchEvent, WatchKind, WatchStream};
use serde_json::{Value, json};
use tokio::io::AsyncReadExt;
use tokio::net::TcpSocket;
use tokio::sync::broadcast;

/// Numbers of Services, each with two ports. In the userspace mode a port is a socket, and processes may not have any number.
fn sizes(mode: ProxyMode) -> [usize; 3] {
    [10, 1_000, if mode == ProxyMode::Userspace { 4_000 } else { 10_000 }]
}
/// Changes of one endpoint whose times are taken.
const CHANGES: usize = 20;
/// Connections of a round whose times are taken.
const CONNECTIONS: usize = 500;
/// The port to which bytes are sent in bulk.
const BULK: u16 = 9090;
/// Rounds of connecting and sending, in turns with doing so directly.
const ROUNDS: usize = 3;
/// The address of the pod behind the Service that is connected to.
const SERVER: &str = "10.7.0.3";

fn ip(n: usize) -> String {
    format!("10.96.{}.{}", n / 250 + 1, n % 250 + 1)
}

fn service(n: usize) -> Value {
    json!({"apiVersion": "v1", "kind": "Service", "metadata": {"namespace": "default", "name": format!("s{n}")},
           "spec": {"clusterIP": ip(n), "ports": [
               {"name": "web", "port": 80, "protocol": "TCP"}, {"name": "bulk", "port": 81, "protocol": "TCP"}]}})
}

/// Three endpoints: those of the last Service are the pod that answers, others are nobody.
fn slice(n: usize, count: usize, turn: usize) -> Value {
    let last = n + 1 == count;
    let addresses = (0..3).map(|i| match last {
        true => SERVER.to_owned(),
        false => format!("10.8.{}.{}", n / 250, (n % 80) * 3 + i + usize::from(i == 2) * turn % 5 + 1),
    });
    let endpoints: Vec<Value> = addresses.map(|a| json!({"addresses": [a], "nodeName": "n2"})).collect();
    json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
           "metadata": {"namespace": "default", "name": format!("s{n}-1"),
                        "labels": {"kubernetes.io/service-name": format!("s{n}")}},
           "addressType": "IPv4", "endpoints": endpoints, "ports": [
               {"name": "web", "port": 8080, "protocol": "TCP"}, {"name": "bulk", "port": BULK, "protocol": "TCP"}]})
}

/// Lists so many Services, and then tells of changes.
struct Listing {
    services: Bytes,
    slices: Bytes,
    changes: broadcast::Sender<WatchEvent>,
}

impl Listing {
    fn new(count: usize) -> Arc<Listing> {
        let list = |items: Vec<Value>| {
            Bytes::from(json!({"metadata": {"resourceVersion": "1"}, "items": items}).to_string())
        };
        Arc::new(Listing {
            services: list((0..count).map(service).collect()),
            slices: list((0..count).map(|n| slice(n, count, 0)).collect()),
            changes: broadcast::channel(64).0,
        })
    }
}

#[async_trait]
impl Api for Listing {
    async fn call(&self, request: ApiRequest) -> Result<ApiResponse, ApiError> {
        let body = match request.target.resource.as_str() {
            "services" => self.services.clone(),
            "endpointslices" => self.slices.clone(),
            _ => Bytes::from(json!({"metadata": {"resourceVersion": "1"}, "items": []}).to_string()),
        };
        Ok(ApiResponse { code: 200, body, revision: 1, warnings: Vec::new() })
    }

    async fn watch(&self, request: ApiRequest) -> Result<WatchStream, ApiError> {
        if request.target.resource != "endpointslices" {
            return Ok(Box::pin(futures::stream::pending()));
        }
        let changes = futures::stream::unfold(self.changes.subscribe(), |mut changes| async move {
            Some((changes.recv().await.ok()?, changes))
        });
        Ok(Box::pin(changes.fuse()))
    }
}

/// Seconds of processor time of this process and the programs that it ran.
fn processor_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = stat.rsplit(") ").next().unwrap().split(' ').collect();
    let ticks: u64 = fields[11..15].iter().map(|f| f.parse::<u64>().unwrap()).sum();
    ticks as f64 / 100.0
}

async fn until(proxy: &ProxyHandle, done: impl Fn(&proxy::ProxyState) -> bool) {
    loop {
        let state = proxy.state().await.unwrap();
        assert_eq!(state.error, None);
        if done(&state) {
            return;
        }
        tokio::time::sleep(Duration::from_micros(500)).await;
    }
}

fn quantile(times: &mut [Duration], q: f64) -> Duration {
    times.sort_unstable();
    times[((times.len() - 1) as f64 * q) as usize]
}

/// The times of connections from the pod `a`, each read to its end.
async fn connections(lab: &Lab, to: String) -> Vec<Duration> {
    let to: SocketAddr = to.parse().unwrap();
    lab.apart("a", move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let mut times = Vec::with_capacity(CONNECTIONS);
            for _ in 0..CONNECTIONS {
                let start = Instant::now();
                let mut stream = TcpSocket::new_v4().unwrap().connect(to).await.unwrap();
                let mut text = String::new();
                stream.read_to_string(&mut text).await.unwrap();
                times.push(start.elapsed());
            }
            times
        })
    })
    .await
}

/// Gigabits a second from the pod `a`. The proxy goes on meanwhile, on this thread.
async fn gigabits(lab: &Lab, to: String) -> f64 {
    let (from, to) = (lab.space("a"), to.parse().unwrap());
    tokio::task::spawn_blocking(move || bulk::throughput(&from, to)).await.unwrap()
}

/// The bytes that the kernel is told of everything, and of one changed endpoint.
fn told(mode: ProxyMode, count: usize, facts: &NodeFacts) -> (usize, usize) {
    let planned = |n: usize, turn: usize| -> (ServiceKey, ServicePlan) {
        let service: Service = serde_json::from_value(service(n)).unwrap();
        let slice: EndpointSlice = serde_json::from_value(slice(n, count, turn)).unwrap();
        (format!("default/s{n}").into(), plan(&service, [&slice], facts))
    };
    if mode == ProxyMode::Iptables {
        let mut rules = iptables::restore::Rules::new(Family::V4);
        for (key, plan) in (0..count).map(|n| planned(n, 0)) {
            rules.set(&key, &plan, facts);
        }
        let length = |runs: Vec<String>| runs.iter().map(String::len).sum();
        let all = length(rules.take_all(facts, "").runs);
        let (key, changed) = planned(count / 2, 1);
        rules.set(&key, &changed, facts);
        return (all, length(rules.take_changes().runs));
    }
    let mut rules = nftables::rules::Rules::default();
    // Where programs stand in for endpoints, the kernel is told of them alone.
    let standing_in = (0..count).filter(|_| mode == ProxyMode::Userspace).map(|n| {
        let listener = SocketAddr::from((ADDRESS, 1024 + (n % 60_000) as u16));
        ((format!("default/s{n}/tcp/80"), Reach::Cluster), listener)
    });
    let listeners: node::proxy::listeners::Listeners = standing_in.collect();
    for (key, plan) in (0..count).map(|n| planned(n, 0)) {
        rules.set(&key, &plan, facts, &listeners);
    }
    let all = rules.take_all(facts, &[Family::V4], None).text.len();
    let (key, changed) = planned(count / 2, 1);
    rules.set(&key, &changed, facts, &listeners);
    (all, rules.take_changes().text.len())
}

async fn measure(lab: &Lab, mode: ProxyMode, count: usize) {
    let facts = NodeFacts {
        name: "n1".into(),
        cluster_cidrs: vec!["10.7.0.0/16".parse().unwrap()],
        service_cidrs: vec!["10.96.0.0/16".parse().unwrap()],
        ..NodeFacts::default()
    };
    let listing = Listing::new(count);
    let config = ProxyConfig {
        facts: facts.clone(),
        mode,
        scheduler: Scheduler::default(),
        look_interval: node::proxy::LOOK_INTERVAL,
        services: Services::default(),
    };
    let stage = Stage::local();
    let (start, before) = (Instant::now(), processor_seconds());
    let proxy = proxy::start(&stage, config, Client::new(listing.clone(), "bench"));
    until(&proxy, |state| state.settled).await;
    let (first, first_cpu) = (start.elapsed(), processor_seconds() - before);

    let mut changes = Vec::with_capacity(CHANGES);
    let before = processor_seconds();
    for turn in 1..=CHANGES {
        let applied = proxy.state().await.unwrap().applied;
        let object = Bytes::from(slice(count / 2, count, turn).to_string());
        let trace = TraceContext::default().child();
        let start = Instant::now();
        let event = WatchEvent { kind: WatchKind::Modified, object, revision: 1 + turn as u64, trace };
        assert!(listing.changes.send(event).is_ok(), "the proxy watches");
        until(&proxy, |state| state.applied > applied).await;
        changes.push(start.elapsed());
    }
    let change_cpu = (processor_seconds() - before) / CHANGES as f64;

    let (mut times, mut direct) = (Vec::new(), Vec::new());
    let (mut through, mut past) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        times.extend(connections(lab, format!("{}:80", ip(count - 1))).await);
        direct.extend(connections(lab, format!("{SERVER}:8080")).await);
        through.push(gigabits(lab, format!("{}:81", ip(count - 1))).await);
        past.push(gigabits(lab, format!("{SERVER}:{BULK}")).await);
    }
    let (p50, p99) = (quantile(&mut times, 0.5), quantile(&mut times, 0.99));
    let direct = (quantile(&mut direct, 0.5), quantile(&mut direct, 0.99));
    let (through, past) = (bulk::median(through), bulk::median(past));
    let (all, one) = told(mode, count, &facts);
    let ratio = |a: Duration, b: Duration| a.as_secs_f64() / b.as_secs_f64();
    let times = |d: Duration| format!("{:.2} ms", d.as_secs_f64() * 1e3);
    println!(
        "{mode:?} {count}: first sync {} ({first_cpu:.2} s CPU, {all} bytes); one endpoint {} ({:.1} ms CPU, {one} bytes); \
         connection p50 {} ({:.2} x direct), p99 {} ({:.2} x); {through:.1} Gbit/s ({:.2} x direct)",
        times(first),
        times(quantile(&mut changes, 0.5)),
        change_cpu * 1e3,
        times(p50),
        ratio(p50, direct.0),
        times(p99),
        ratio(p99, direct.1),
        through / past,
    );
    let (start, before) = (Instant::now(), processor_seconds());
    proxy.stop().await.unwrap();
    let (took, cpu) = (start.elapsed(), processor_seconds() - before);
    println!("  taken away again in {} ({cpu:.2} s CPU)", times(took));
    stage.shut_down(Duration::from_secs(10)).await;
}

fn main() {
    if !is_root() {
        eprintln!("SKIPPED: network namespaces need root");
        return;
    }
    let wanted: Vec<ProxyMode> =
        std::env::args().skip(1).filter_map(|arg| ProxyMode::from_str(&arg, true).ok()).collect();
    let modes = if wanted.is_empty() { ProxyMode::value_variants().to_vec() } else { wanted };
    Lab::run(async move |lab| {
        bulk::sink(&lab.space("b"), format!("{SERVER}:{BULK}").parse().unwrap());
        for mode in modes {
            for size in sizes(mode) {
                measure(&lab, mode, size).await;
            }
        }
    });
}
