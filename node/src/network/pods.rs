//! Plugging pods into the node's bridge.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use protocol::DualRange;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::sync::Mutex;

use super::cni::{self, Call, CniError, INTERFACE};
use super::host;
use super::netlink::{Netlink, NetlinkFailure};
use crate::family::Family;

/// Where distributions put the CNI plugins.
const PLUGIN_DIRS: [&str; 3] = ["/opt/cni/bin", "/usr/lib/cni", "/usr/libexec/cni"];

/// The MTU of pods where nothing is known of the node's own network, in bytes.
const MTU_DEFAULT: u32 = 1500;

/// Smallest MTU that IPv6 permits, in bytes.
const MTU_MIN_V6: u32 = 1280;

/// The name of the bridge that pods are on.
pub const BRIDGE: &str = "troupe0";

/// The file in the state directory that says what was made.
const LAYOUT_FILE: &str = "network.json";

/// A port that a container wants on the host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortMap {
    /// `TCP`, `UDP` or `SCTP`.
    pub protocol: String,
    /// Port in the pod.
    pub container_port: u16,
    /// Port on the host.
    pub host_port: u16,
    /// Host address; empty for all.
    pub host_ip: String,
}

/// How the network is laid out.
#[derive(Clone, Debug)]
pub struct NetworkConfig {
    /// This node's pods' addresses.
    pub pod_cidr: DualRange,
    /// All pods' addresses; traffic to elsewhere is masqueraded.
    pub cluster_cidr: DualRange,
    /// The bridge's name.
    pub bridge: String,
    /// MTU of the pods' interfaces, in bytes.
    pub mtu: u32,
    /// Where the network's state lies.
    pub state_dir: PathBuf,
    /// Where the CNI plugins are.
    pub plugin_dirs: Vec<PathBuf>,
}

impl NetworkConfig {
    /// The usual layout.
    pub fn new(pod_cidr: DualRange, cluster_cidr: DualRange, state_dir: impl Into<PathBuf>) -> Self {
        NetworkConfig {
            pod_cidr,
            cluster_cidr,
            bridge: BRIDGE.to_owned(),
            mtu: MTU_DEFAULT,
            state_dir: state_dir.into(),
            plugin_dirs: PLUGIN_DIRS.map(PathBuf::from).into(),
        }
    }
}

/// Why a pod has no network.
#[derive(Debug, thiserror::Error)]
pub enum NetworkFailure {
    /// A plugin failed.
    #[error(transparent)]
    Plugin(#[from] CniError),
    /// The node itself could not be prepared.
    #[error("the node's network is not ready: {0}")]
    Host(String),
    /// The kernel refused.
    #[error("the node's network is not ready: {0}")]
    Kernel(#[from] NetlinkFailure),
    /// The state directory cannot be used.
    #[error("the network's state: {0}")]
    State(#[from] std::io::Error),
    /// Pods are to have IPv6, and the machine has none.
    #[error(
        "pods are to have addresses of {0}, and this machine's kernel has no IPv6: enable it (ipv6.disable=0), or give \
         the cluster a range of IPv4 alone"
    )]
    NoIpv6(ipnet::Ipv6Net),
    /// Pods are to have IPv6, and packets are too small for it.
    #[error(
        "pods are to have addresses of IPv6, which needs packets of {MTU_MIN_V6} bytes, and {0} bytes fit on the nodes' \
         network: raise its MTU, or give the cluster a range of IPv4 alone"
    )]
    TooSmallForIpv6(u32),
    /// The plugins gave no address.
    #[error("the plugins answered without an address")]
    NoAddress,
}

/// What is remembered of a plugged pod, for later calls, restarts and unplugging.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Attachment {
    netns: String,
    arguments: String,
    ports: Vec<PortMap>,
    result: Value,
}

/// What was made on the node, so that any later process can undo it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Layout {
    pod_cidr: DualRange,
    bridge: String,
}

impl Layout {
    async fn read(state_dir: &Path) -> Option<Layout> {
        serde_json::from_slice(&tokio::fs::read(state_dir.join(LAYOUT_FILE)).await.ok()?).ok()
    }
}

/// Undoes everything that a network with this state directory made, whichever process made it: interfaces,
/// addresses, host ports, rules, bridge, state. Safe to repeat.
pub async fn clean_up(state_dir: &Path) {
    let Some(Layout { pod_cidr, bridge }) = Layout::read(state_dir).await else { return };
    let mut config = NetworkConfig::new(pod_cidr, pod_cidr, state_dir);
    config.bridge = bridge;
    PodBridge { config, turn: Mutex::new(()) }.remove().await;
}

/// The node's bridge and the pods on it.
pub struct PodBridge {
    config: NetworkConfig,
    /// One plugin runs at a time: `bridge` races with itself over the bridge's first use.
    turn: Mutex<()>,
}

impl PodBridge {
    /// Prepares the node. A bridge left over from another pod range is removed, one with another MTU mended.
    pub async fn start(config: NetworkConfig) -> Result<Self, NetworkFailure> {
        if let Some(range) = config.pod_cidr.v6 {
            if !Family::here().contains(&Family::V6) {
                return Err(NetworkFailure::NoIpv6(range));
            }
            if config.mtu < MTU_MIN_V6 {
                return Err(NetworkFailure::TooSmallForIpv6(config.mtu));
            }
        }
        tokio::fs::create_dir_all(config.state_dir.join("attachments")).await?;
        let netlink = Netlink::connect()?;
        let layout = Layout { pod_cidr: config.pod_cidr, bridge: config.bridge.clone() };
        if Layout::read(&config.state_dir).await.as_ref() != Some(&layout) {
            netlink.remove_link(&config.bridge).await?;
            let text = serde_json::to_vec(&layout).map_err(std::io::Error::other)?;
            write_whole(&config.state_dir.join(LAYOUT_FILE), &text).await?;
        }
        host::open(&config.pod_cidr, &config.cluster_cidr, &config.bridge)
            .await
            .map_err(NetworkFailure::Host)?;
        if config.pod_cidr.v6.is_some() {
            // The plugin makes it with the first pod, and gives it its address at once, which fails where the machine
            // has IPv6 switched off.
            netlink.ensure_bridge(&config.bridge, config.mtu).await?;
            host::use_ipv6(&config.bridge).await.map_err(NetworkFailure::Host)?;
        }
        match netlink.link(&config.bridge).await? {
            Some(link) if link.mtu != config.mtu => netlink.set_mtu(link.index, config.mtu).await?,
            _ => {}
        }
        Ok(PodBridge { config, turn: Mutex::new(()) })
    }

    /// Whether the plugins are there.
    pub fn missing_plugins(&self) -> Vec<&'static str> {
        let there = |name: &str| self.config.plugin_dirs.iter().any(|d| d.join(name).is_file());
        ["bridge", "host-local", "loopback", "portmap"].into_iter().filter(|p| !there(p)).collect()
    }

    fn record(&self, sandbox: &str) -> PathBuf {
        self.config.state_dir.join("attachments").join(format!("{sandbox}.json"))
    }

    async fn recorded(&self, sandbox: &str) -> Option<Attachment> {
        let text = tokio::fs::read(self.record(sandbox)).await.ok()?;
        serde_json::from_slice(&text).ok()
    }

    fn bridge_config(&self) -> Value {
        let ipam_dir = self.config.state_dir.join("ipam");
        cni::bridge(&self.config.bridge, &self.config.pod_cidr, self.config.mtu, &ipam_dir)
    }

    /// Gives a sandbox an interface; answers its addresses. Again for the same sandbox: the same.
    pub async fn attach(
        &self,
        sandbox: &str,
        netns: &str,
        namespace: &str,
        pod: &str,
        uid: &str,
        ports: &[PortMap],
    ) -> Result<Vec<IpAddr>, NetworkFailure> {
        let _turn = self.turn.lock().await;
        if let Some(attachment) = self.recorded(sandbox).await {
            if attachment.netns == netns {
                return Ok(cni::addresses(&attachment.result));
            }
            // The sandbox was stopped and started: its old interface went with the old namespace.
            self.unplug(sandbox, "", &attachment).await?;
        }
        let arguments = format!(
            "IgnoreUnknown=1;K8S_POD_NAMESPACE={namespace};K8S_POD_NAME={pod};K8S_POD_UID={uid};\
             K8S_POD_INFRA_CONTAINER_ID={sandbox}"
        );
        let dirs = &self.config.plugin_dirs;
        let call = Call { command: "ADD", container: sandbox, netns, arguments: &arguments };
        cni::run(dirs, call, "lo", &cni::loopback()).await?;
        let mut attachment = Attachment {
            netns: netns.to_owned(),
            arguments: arguments.clone(),
            ports: ports.to_vec(),
            result: Value::Null,
        };
        let result = async {
            let mut result = cni::run(dirs, call, INTERFACE, &self.bridge_config()).await?;
            if !ports.is_empty() {
                let mut config = cni::portmap(ports);
                config["prevResult"] = result;
                result = cni::run(dirs, call, INTERFACE, &config).await?;
            }
            if cni::addresses(&result).is_empty() { Err(NetworkFailure::NoAddress) } else { Ok(result) }
        };
        match result.await {
            Ok(result) => attachment.result = result,
            Err(error) => {
                // Half a plugging must not keep an address.
                if let Err(why) = self.unplug(sandbox, netns, &attachment).await {
                    tracing::warn!(error = %why, sandbox, "a failed plugging could not be undone");
                }
                return Err(error);
            }
        }
        let text = serde_json::to_vec(&attachment).map_err(std::io::Error::other)?;
        write_whole(&self.record(sandbox), &text).await?;
        Ok(cni::addresses(&attachment.result))
    }

    /// Takes the interface away; fine when there is none. `netns` is empty when the namespace is gone.
    pub async fn detach(&self, sandbox: &str, netns: &str) -> Result<(), NetworkFailure> {
        let _turn = self.turn.lock().await;
        match self.recorded(sandbox).await {
            Some(attachment) => self.unplug(sandbox, netns, &attachment).await,
            None => Ok(()),
        }
    }

    async fn unplug(
        &self,
        sandbox: &str,
        netns: &str,
        attachment: &Attachment,
    ) -> Result<(), NetworkFailure> {
        let dirs = &self.config.plugin_dirs;
        // A namespace that is gone must not be named: the plugins would fail on opening it.
        let there = !netns.is_empty() && tokio::fs::metadata(netns).await.is_ok();
        let netns = if there { netns } else { "" };
        let call = Call { command: "DEL", container: sandbox, netns, arguments: &attachment.arguments };
        if !attachment.ports.is_empty() {
            let mut config = cni::portmap(&attachment.ports);
            if !attachment.result.is_null() {
                config["prevResult"] = attachment.result.clone();
            }
            cni::run(dirs, call, INTERFACE, &config).await?;
        }
        cni::run(dirs, call, INTERFACE, &self.bridge_config()).await?;
        match tokio::fs::remove_file(self.record(sandbox)).await {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(e.into()),
            _ => Ok(()),
        }
    }

    /// Frees what belongs to sandboxes that no longer exist. Returns how many were freed.
    pub async fn sweep(&self, live: &BTreeSet<String>) -> Result<usize, NetworkFailure> {
        let mut freed = 0;
        let mut entries = tokio::fs::read_dir(self.config.state_dir.join("attachments")).await?;
        while let Some(entry) = entries.next_entry().await? {
            let name = entry.file_name();
            let Some(sandbox) = name.to_str().and_then(|n| n.strip_suffix(".json")) else { continue };
            if !live.contains(sandbox) {
                self.detach(sandbox, "").await?;
                freed += 1;
            }
        }
        Ok(freed + self.sweep_addresses(live).await?)
    }

    /// Addresses of pluggings that ended between the plugin's work and our record of it.
    async fn sweep_addresses(&self, live: &BTreeSet<String>) -> Result<usize, NetworkFailure> {
        let _turn = self.turn.lock().await;
        let mut freed = 0;
        let Ok(mut entries) = tokio::fs::read_dir(self.config.state_dir.join("ipam/troupe")).await else {
            return Ok(0);
        };
        while let Some(entry) = entries.next_entry().await? {
            if entry.file_name().to_str().and_then(|n| n.parse::<IpAddr>().ok()).is_none() {
                continue;
            }
            let owner = tokio::fs::read_to_string(entry.path()).await.unwrap_or_default();
            let sandbox = owner.lines().next().unwrap_or_default().trim();
            if !live.contains(sandbox) {
                tokio::fs::remove_file(entry.path()).await?;
                freed += 1;
            }
        }
        Ok(freed)
    }

    /// Unplugs every pod and removes the bridge, the rules and the state.
    pub async fn remove(&self) {
        if let Err(error) = self.sweep(&BTreeSet::new()).await {
            tracing::warn!(%error, "some pods' interfaces could not be unplugged");
        }
        host::close(&self.config.bridge).await;
        if let Err(error) = tokio::fs::remove_dir_all(&self.config.state_dir).await {
            tracing::warn!(%error, "the network's state directory stays");
        }
    }
}

/// Writes a file so that a crash leaves the old one or the new one.
async fn write_whole(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let draft = path.with_extension("new");
    tokio::fs::write(&draft, bytes).await?;
    tokio::fs::rename(&draft, path).await
}
