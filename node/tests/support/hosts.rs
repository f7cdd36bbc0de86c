//! Machines on one network segment, out of network namespaces: each runs the node's pod network, and has pods that
//! the CNI plugins plug in.

use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use actors::Stage;
use node::network::{ClusterNetwork, ClusterNetworkConfig, PodNetworkMode, reach};
use node::proxy::{self, LOOK_INTERVAL, NodeFacts, ProxyConfig, ProxyMode, Scheduler};
use node::runtime::simulated::SimulatedRuntime;
use node::runtime::{PodIdentity, PodNetwork};
use node::services::Services;
use protocol::DualRange;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::task::LocalSet;

use super::namespace::{Namespace, enter, ip, within};
use super::scripted::Scripted;

/// The segment: a bridge that machines are connected to.
pub struct Segment {
    prefix: String,
    bridge: Namespace,
}

impl Segment {
    pub fn new(name: &str) -> Segment {
        let prefix = format!("th{}{name}", std::process::id() % 100_000);
        let bridge = Namespace::new(format!("{prefix}-seg"));
        ip(&format!("-n {} link add br0 type bridge", bridge.0));
        ip(&format!("-n {} link set br0 up", bridge.0));
        Segment { prefix, bridge }
    }

    /// A machine with this last byte of its address.
    pub fn machine(&self, last: u8) -> Machine {
        let space = Namespace::new(format!("{}-h{last}", self.prefix));
        let (ns, seg) = (&space.0, &self.bridge.0);
        ip(&format!("-n {seg} link add v{last} type veth peer name eth0 netns {ns}"));
        ip(&format!("-n {seg} link set v{last} master br0 up"));
        ip(&format!("-n {ns} addr add 192.0.2.{last}/24 dev eth0"));
        ip(&format!("-n {ns} link set eth0 up"));
        // As on any machine: a way out, which packets to pods must not take.
        ip(&format!("-n {ns} route add default via 192.0.2.254"));
        Machine { space, last, dual: false, own6: false }
    }

    /// The same, on which IPv6 is switched off, though its pods are to have addresses of both families.
    #[allow(dead_code, reason = "not every test that has machines has two families")]
    pub fn machine_without_ipv6(&self, last: u8) -> Machine {
        let machine = self.machine(last);
        within(&machine.space.0, || {
            // But for `lo`, by which the kernel tells the machine's own programs that they are refused.
            for (which, off) in [("all", "1"), ("default", "1"), ("eth0", "1"), ("lo", "0")] {
                let switch = format!("/proc/sys/net/ipv6/conf/{which}/disable_ipv6");
                std::fs::write(switch, off).expect("IPv6 is switched off");
            }
        });
        Machine { dual: true, ..machine }
    }

    /// The same, with an address of IPv6, and pods of both families.
    #[allow(dead_code, reason = "not every test that has machines has two families")]
    pub fn dual_machine(&self, last: u8) -> Machine {
        let machine = self.machine(last);
        let ns = &machine.space.0;
        ip(&format!("-n {ns} -6 addr add 2001:db8::{last}/64 dev eth0 nodad"));
        ip(&format!("-n {ns} -6 route add default via 2001:db8::fe"));
        Machine { dual: true, own6: true, ..machine }
    }

    /// A namespace for a pod.
    pub fn pod(&self, name: &str) -> Namespace {
        Namespace::new(format!("{}-{name}", self.prefix))
    }
}

pub struct Machine {
    pub space: Namespace,
    last: u8,
    /// Its pods have addresses of both families.
    dual: bool,
    /// It has one of IPv6 itself.
    own6: bool,
}

impl Machine {
    /// Its Node object.
    pub fn node(&self) -> Value {
        let mut node = node(self.last, &format!("192.0.2.{}", self.last));
        if self.dual {
            let second = |list: &mut Value, value: Value| list.as_array_mut().expect("a list").push(value);
            second(&mut node["spec"]["podCIDRs"], json!(format!("fd00:10:244:{}::/64", self.last)));
            if !self.own6 {
                return node;
            }
            let address = format!("2001:db8::{}", self.last);
            second(&mut node["status"]["addresses"], json!({"type": "InternalIP", "address": address}));
        }
        node
    }

    /// Starts the node's network on it.
    pub fn start(&self, api: &Scripted, mode: PodNetworkMode, state_dir: &Path) -> RunningNode {
        self.start_with(api, mode, state_dir, None)
    }

    /// Starts the node's network on it, and a service proxy where one is wanted.
    pub fn start_with(
        &self,
        api: &Scripted,
        mode: PodNetworkMode,
        state_dir: &Path,
        proxy: Option<ProxyMode>,
    ) -> RunningNode {
        let (commands, mut told) = mpsc::channel::<Command>(8);
        let (namespace, last, api) = (self.space.0.clone(), self.last, api.clone());
        let (pods, services) = match self.dual {
            true => ("10.244.0.0/16,fd00:10:244::/48", "10.96.0.0/16,fd00:10:96::/112"),
            false => ("10.244.0.0/16", "10.96.0.0/16"),
        };
        let (pods, services): (DualRange, DualRange) = (pods.parse().unwrap(), services.parse().unwrap());
        let proxy = proxy.map(|mode| ProxyConfig {
            facts: NodeFacts {
                name: format!("n{last}"),
                cluster_cidrs: pods.iter().collect(),
                service_cidrs: services.iter().collect(),
                ..NodeFacts::default()
            },
            mode,
            scheduler: Scheduler::default(),
            look_interval: LOOK_INTERVAL,
            services: Services::default(),
        });
        let config = ClusterNetworkConfig {
            node: format!("n{last}"),
            address: IpAddr::from([192, 0, 2, last]),
            cluster_cidr: pods,
            service_cidr: services,
            mode,
            state_dir: state_dir.join(format!("n{last}")),
        };
        let thread = std::thread::spawn(move || {
            enter(&namespace);
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            LocalSet::new().block_on(&runtime, async move {
                let stage = Stage::local();
                let engine = Arc::new(SimulatedRuntime::new(Duration::ZERO));
                let network = ClusterNetwork::start(&stage, config, api.client(), engine);
                let _proxy = proxy.map(|config| proxy::start(&stage, config, api.client()));
                while let Some(command) = told.recv().await {
                    match command {
                        Command::Attach { pod, answer } => {
                            let netns = format!("/var/run/netns/{pod}");
                            let identity = PodIdentity {
                                namespace: "default".into(),
                                name: pod.clone(),
                                uid: pod.clone(),
                            };
                            let ips = network.attach(&pod, &netns, &identity, &[]).await;
                            answer.send(ips.map_err(|e| e.to_string())).unwrap();
                        }
                        Command::Ready(answer) => {
                            answer.send(network.ready().await.map_err(|e| e.to_string())).unwrap();
                        }
                        Command::CleanUp(answer) => {
                            // Who still runs would bring back what goes.
                            stage.shut_down(Duration::from_secs(5)).await;
                            reach::clean_up().await.unwrap();
                            reach::clean_up().await.unwrap();
                            answer.send(()).unwrap();
                        }
                    }
                }
                stage.shut_down(Duration::from_secs(5)).await;
            });
        });
        RunningNode { commands: Some(commands), thread: Some(thread) }
    }
}

/// A Node object with this pod range and address.
pub fn node(number: u8, address: &str) -> Value {
    let range = format!("10.244.{number}.0/24");
    json!({
        "apiVersion": "v1", "kind": "Node", "metadata": {"name": format!("n{number}")},
        "spec": {"podCIDR": range, "podCIDRs": [range]},
        "status": {"addresses": [{"type": "InternalIP", "address": address}]},
    })
}

enum Command {
    Attach { pod: String, answer: Sender<Result<Vec<IpAddr>, String>> },
    Ready(Sender<Result<(), String>>),
    CleanUp(Sender<()>),
}

pub struct RunningNode {
    commands: Option<mpsc::Sender<Command>>,
    thread: Option<JoinHandle<()>>,
}

impl RunningNode {
    fn ask<T>(&self, command: impl FnOnce(Sender<T>) -> Command) -> T {
        let (answer, answered) = channel();
        let commands = self.commands.as_ref().expect("the node runs");
        assert!(commands.blocking_send(command(answer)).is_ok(), "the node runs");
        answered.recv().expect("the node answers")
    }

    /// Plugs a pod in; its address.
    pub fn attach(&self, pod: &Namespace) -> String {
        self.attach_all(pod).swap_remove(0).to_string()
    }

    /// Plugs a pod in; its addresses.
    pub fn attach_all(&self, pod: &Namespace) -> Vec<IpAddr> {
        let pod = pod.0.clone();
        self.ask(|answer| Command::Attach { pod, answer }).expect("the pod is plugged in")
    }

    /// Whether pods can be plugged in.
    pub fn ready(&self) -> Result<(), String> {
        self.ask(Command::Ready)
    }

    /// Ends the node, and removes what it made to reach others.
    pub fn clean_up(&self) {
        self.ask(Command::CleanUp);
    }
}

impl Drop for RunningNode {
    fn drop(&mut self) {
        self.commands = None;
        if let Some(thread) = self.thread.take() {
            let ended = thread.join();
            if !std::thread::panicking() {
                ended.expect("the node ends");
            }
        }
    }
}
