//! A whole node, put together: link, runtime, network, proxy, DNS, Ingresses, kubelet.

use std::net::{IpAddr, Ipv6Addr};
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use actors::Stage;
use async_trait::async_trait;
use futures::StreamExt;
use futures::future::LocalBoxFuture;
use k8s_openapi::api::core::v1::Node as NodeObject;
use protocol::ingress::{Ports, SERVED};
use protocol::streams::{
    AttachRequest, DialRequest, ExecRequest, FrameStream, LogBytes, LogRequest, NodeStreams,
    PortForwardRequest,
};
use protocol::{ApiError, Client, DualRange};

use crate::announce;
use crate::certificate::{NodeCertificate, Renewal};
use crate::dns::{self, DnsConfig, DnsHandle};
use crate::family::Family;
use crate::ingress::{self, IngressConfig, IngressHandle};
use crate::kubelet::{self, Kubelet, KubeletConfig, ServerConfig};
use crate::link::{self, Connector, LinkHandle};
use crate::network::{self, ClusterNetwork, ClusterNetworkConfig, PodNetworkMode};
use crate::nft::RulesError;
use crate::policy::{self, PolicyConfig};
use crate::proxy::{self, NodeFacts, ProxyConfig, ProxyHandle, ProxyMode, Scheduler};
use crate::runtime::docker::DockerRuntime;
use crate::runtime::{ContainerRuntime, labels};
use crate::services::Services;

/// What a node is told.
#[derive(Clone, Debug)]
pub struct NodeConfig {
    /// Its name.
    pub name: String,
    /// Its own address.
    pub address: IpAddr,
    /// Its own address of IPv6, where it has one beside.
    pub address6: Option<Ipv6Addr>,
    /// Where it keeps its state.
    pub state_dir: PathBuf,
    /// Address of the cluster's DNS service.
    pub cluster_dns: IpAddr,
    /// The pods' addresses of the whole cluster.
    pub cluster_cidr: DualRange,
    /// The services' addresses.
    pub service_cidr: DualRange,
    /// How pods' packets get from node to node.
    pub pod_network: PodNetworkMode,
    /// How Services' addresses lead to their endpoints.
    pub proxy_mode: ProxyMode,
    /// How endpoints are chosen, in the userspace mode.
    pub proxy_scheduler: Scheduler,
    /// The node's certificate, for its HTTP ports; renewed in time.
    pub certificate: NodeCertificate,
    /// The cluster CA in PEM.
    pub client_ca_pem: String,
    /// Static pods' manifests.
    pub static_pods_dir: Option<PathBuf>,
    /// The ports that Ingresses are served on; `None` where they are not.
    pub ingress: Option<Ports>,
}

/// Why a node did not start, or what could not be cleaned up.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// The container engine.
    #[error("container engine: {0}; does Docker's daemon run? (integration/scripts/prepare.sh up starts it)")]
    Runtime(#[from] crate::runtime::RuntimeError),
    /// The kubelet.
    #[error("kubelet: {0}")]
    Kubelet(#[from] kubelet::StartError),
    /// The API.
    #[error("API: {0}")]
    Api(#[from] ApiError),
    /// A file.
    #[error("{0}")]
    Io(#[from] std::io::Error),
    /// The node was not Ready in time.
    #[error("node \"{name}\" is not Ready after {seconds} s: {why}")]
    NotReady {
        /// Which.
        name: String,
        /// How long it had.
        seconds: u64,
        /// What its Ready condition says.
        why: String,
    },
    /// The cluster's DNS.
    #[error("DNS: {0}")]
    Dns(#[from] dns::DnsError),
    /// Ingresses.
    #[error("Ingresses: {0}")]
    Ingress(#[from] ingress::IngressError),
    /// Rules.
    #[error("rules: {0}")]
    Rules(#[from] RulesError),
    /// What the service proxy left.
    #[error("service proxy: {0}")]
    Proxy(#[from] proxy::CleanUpError),
    /// Ways to other nodes.
    #[error("network: {0}")]
    Network(#[from] network::netlink::NetlinkFailure),
}

/// A running node.
pub struct Node {
    name: String,
    client: Client,
    kubelet: Kubelet,
    link: LinkHandle,
    /// Held so that they live as long as the node.
    _renewal: actors::ActorRef<Renewal>,
    _proxy: ProxyHandle,
    _dns: DnsHandle,
    ingress: Option<IngressHandle>,
}

/// The kubelet's streams, once there is a kubelet: the link is up before.
#[derive(Default)]
pub(crate) struct LateStreams(OnceLock<kubelet::streams::Streams>);

impl LateStreams {
    pub(crate) fn set(&self, streams: kubelet::streams::Streams) {
        // There is one kubelet; a second set would find the first.
        let _ = self.0.set(streams);
    }

    fn get(&self) -> Result<&kubelet::streams::Streams, ApiError> {
        self.0.get().ok_or_else(|| ApiError::new(503, "ServiceUnavailable", "the node is still starting"))
    }
}

#[async_trait]
impl NodeStreams for LateStreams {
    async fn exec(&self, node: &str, request: ExecRequest) -> Result<FrameStream, ApiError> {
        self.get()?.exec(node, request).await
    }
    async fn attach(&self, node: &str, request: AttachRequest) -> Result<FrameStream, ApiError> {
        self.get()?.attach(node, request).await
    }
    async fn port_forward(&self, node: &str, request: PortForwardRequest) -> Result<FrameStream, ApiError> {
        self.get()?.port_forward(node, request).await
    }
    async fn dial(&self, node: &str, request: DialRequest) -> Result<FrameStream, ApiError> {
        self.get()?.dial(node, request).await
    }
    async fn logs(&self, node: &str, request: LogRequest) -> Result<LogBytes, ApiError> {
        self.get()?.logs(node, request).await
    }
}

fn kubelet_dir(state_dir: &Path) -> PathBuf {
    state_dir.join("kubelet")
}

impl Node {
    /// Starts everything. The node becomes Ready a little later.
    ///
    /// The future is boxed, so that all that this sets going is compiled once, with this crate, and not again with
    /// every program that starts a node.
    pub fn start(
        stage: &Stage,
        config: NodeConfig,
        connector: Arc<dyn Connector>,
    ) -> LocalBoxFuture<'_, Result<Node, NodeError>> {
        Box::pin(Node::put_together(stage, config, connector))
    }

    async fn put_together(
        stage: &Stage,
        config: NodeConfig,
        connector: Arc<dyn Connector>,
    ) -> Result<Node, NodeError> {
        let docker = DockerRuntime::connect(&config.name).await?;
        docker.ensure_pause_image().await?;
        let runtime: Arc<dyn ContainerRuntime> = Arc::new(docker);
        let streams = Arc::new(LateStreams::default());
        let (api, link) = link::start(stage, connector, streams.clone());
        let renewal = config.certificate.keep_renewed(stage, api.clone());
        let client = Client::new(Arc::new(api), "kubelet");

        let network = ClusterNetwork::start(
            stage,
            ClusterNetworkConfig {
                node: config.name.clone(),
                address: config.address,
                cluster_cidr: config.cluster_cidr,
                service_cidr: config.service_cidr,
                mode: config.pod_network,
                state_dir: config.state_dir.join("network"),
            },
            client.clone(),
            runtime.clone(),
        );
        let policies = PolicyConfig {
            node: config.name.clone(),
            cluster_dns: config.cluster_dns,
            families: match config.cluster_cidr.v6 {
                Some(_) => &Family::ALL,
                None => &[Family::V4],
            },
            bridge: network::pods::BRIDGE.to_owned(),
        };
        let network = policy::guard(stage, policies, client.clone(), network);
        let dns = dns::start(stage, DnsConfig::new(config.cluster_dns), client.clone()).await?;
        let facts = NodeFacts {
            name: config.name.clone(),
            cluster_cidrs: config.cluster_cidr.iter().collect(),
            service_cidrs: config.service_cidr.iter().collect(),
            served_here: [config.cluster_dns].into(),
            ..NodeFacts::default()
        };
        let services = Services::default();
        let proxy_config = ProxyConfig {
            facts,
            mode: config.proxy_mode,
            scheduler: config.proxy_scheduler,
            look_interval: proxy::LOOK_INTERVAL,
            services: services.clone(),
        };
        let proxy = proxy::start(stage, proxy_config, client.clone());
        announce::start(stage, config.name.clone(), config.address, client.clone());

        let ingress = match config.ingress {
            Some(ports) => {
                let served = IngressConfig::new(&config.name, ports);
                Some(ingress::start(stage, served, client.clone())?)
            }
            None => None,
        };

        let mut settings = KubeletConfig::new(&config.name, config.address);
        settings.node_ip6 = config.address6;
        settings.root_dir = kubelet_dir(&config.state_dir);
        settings.cluster_dns = Some(config.cluster_dns);
        // Said only now that the ports are open; taken back where they no longer are.
        settings.node_annotations.insert(SERVED.to_owned(), config.ingress.map(|ports| ports.to_string()));
        settings.static_pods_dir = config.static_pods_dir.clone();
        settings.server = Some(ServerConfig {
            port: 10250,
            read_only_port: 10255,
            health_port: 10248,
            certificate: config.certificate.clone(),
            client_ca_pem: config.client_ca_pem.clone(),
        });
        if let Some(dir) = &settings.static_pods_dir {
            tokio::fs::create_dir_all(dir).await?;
        }
        let kubelet = kubelet::start(stage, settings, client.clone(), runtime, network, services).await?;
        streams.set(kubelet.streams());
        Ok(Node {
            name: config.name,
            client,
            kubelet,
            link,
            _renewal: renewal,
            _proxy: proxy,
            _dns: dns,
            ingress,
        })
    }

    /// Waits until the node's Ready condition is True.
    pub async fn ready(&self, patience: Duration) -> Result<(), NodeError> {
        let mut why = "it has not registered".to_owned();
        let waiting = async {
            loop {
                let selector = format!("metadata.name={}", self.name);
                let mut events = self.client.watch::<NodeObject>("", 0, Some(&selector)).await?;
                while let Some(event) = events.next().await {
                    let Ok(node) = serde_json::from_slice::<NodeObject>(&event.object) else { continue };
                    let conditions = node.status.and_then(|s| s.conditions).unwrap_or_default();
                    if let Some(ready) = conditions.iter().find(|c| c.type_ == "Ready") {
                        if ready.status == "True" {
                            return Ok::<(), ApiError>(());
                        }
                        why = ready.message.clone().unwrap_or_default();
                    }
                }
            }
        };
        match tokio::time::timeout(patience, waiting).await {
            Ok(result) => Ok(result?),
            Err(_) => Err(NodeError::NotReady { name: self.name.clone(), seconds: patience.as_secs(), why }),
        }
    }

    /// Stops the node's actors, once the requests for Ingresses that are under way are answered. Pods, their network and
    /// the Services' rules stay: the next start adopts them.
    pub async fn stop(&self) {
        if let Some(ingress) = &self.ingress {
            ingress.drain().await;
        }
        self.kubelet.stop();
        self.link.stop();
    }
}

/// Removes everything that a node left on the machine: containers, interfaces, rules, mounts, logs. The
/// node's process must have ended. Safe to repeat.
pub async fn clean_up(name: &str, state_dir: &Path, cluster_dns: IpAddr) -> Result<(), NodeError> {
    let runtime = DockerRuntime::connect(name).await?;
    let containers = runtime.list(&[(labels::SCOPE, name)]).await?;
    let mut pods = std::collections::BTreeSet::new();
    // Containers first, then the sandboxes whose namespaces they live in.
    let (sandboxes, others): (Vec<_>, Vec<_>) = containers.into_iter().partition(|c| c.is_sandbox());
    for group in [others, sandboxes] {
        for found in &group {
            let pod = found.pod();
            pods.insert(format!("{}_{}_{}", pod.namespace, pod.name, pod.uid));
        }
        let removals = group.iter().map(|c| runtime.remove(&c.id));
        for result in futures::future::join_all(removals).await {
            result?;
        }
    }
    network::clean_up(&state_dir.join("network")).await;
    network::reach::clean_up().await?;
    policy::clean_up().await?;
    proxy::clean_up().await?;
    announce::clean_up().await?;
    dns::clean_up(cluster_dns).await?;
    unmount_below(&kubelet_dir(state_dir)).await?;
    remove_dir(&kubelet_dir(state_dir)).await?;
    for pod in pods {
        remove_dir(&Path::new("/var/log/pods").join(pod)).await?;
    }
    remove_dangling_links(Path::new("/var/log/containers")).await?;
    // The engine makes parents of its containers' cgroups and never removes them.
    let root = KubeletConfig::new(name, IpAddr::from([127, 0, 0, 1])).cgroup_root;
    let cgroups = move || crate::runtime::cgroup::remove_empty_below(&root);
    tokio::task::spawn_blocking(cgroups).await.map_err(std::io::Error::other)?;
    Ok(())
}

async fn remove_dir(path: &Path) -> std::io::Result<()> {
    match tokio::fs::remove_dir_all(path).await {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(e),
        _ => Ok(()),
    }
}

/// Ends every mount below a folder, the deepest first.
async fn unmount_below(folder: &Path) -> std::io::Result<()> {
    let mounts = tokio::fs::read_to_string("/proc/self/mounts").await?;
    let mut below: Vec<&str> = mounts
        .lines()
        .filter_map(|line| line.split(' ').nth(1))
        .filter(|mount| Path::new(mount).starts_with(folder))
        .collect();
    below.sort_unstable_by_key(|mount| std::cmp::Reverse(mount.len()));
    for mount in below {
        nix::mount::umount2(mount, nix::mount::MntFlags::MNT_DETACH)?;
    }
    Ok(())
}

/// Log links whose pods are gone.
async fn remove_dangling_links(folder: &Path) -> std::io::Result<()> {
    let Ok(mut entries) = tokio::fs::read_dir(folder).await else { return Ok(()) };
    while let Some(entry) = entries.next_entry().await? {
        if tokio::fs::metadata(entry.path()).await.is_err() {
            tokio::fs::remove_file(entry.path()).await?;
        }
    }
    Ok(())
}
