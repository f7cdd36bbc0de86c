//! The node's place in the cluster's network, as the kubelet sees it: pods are plugged into the bridge, once
//! the node has its range and reaches the others.

use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use actors::{Props, RestartPolicy, Stage};
use async_trait::async_trait;
use protocol::{Client, DualRange};
use tokio::sync::watch;

use super::actor::NetworkActor;
use super::{PodBridge, PodNetworkMode};
use crate::runtime::{ContainerRuntime, NetworkError, PodIdentity, PodNetwork, PortMapping};

/// How long a pod waits for the network before its start fails (and is tried again).
const PATIENCE: Duration = Duration::from_secs(10);

/// What the network is told.
#[derive(Clone, Debug)]
pub struct ClusterNetworkConfig {
    /// The node's name.
    pub node: String,
    /// The node's own address.
    pub address: IpAddr,
    /// All pods' addresses.
    pub cluster_cidr: DualRange,
    /// All Services' addresses.
    pub service_cidr: DualRange,
    /// How pods' packets get from node to node.
    pub mode: PodNetworkMode,
    /// Where the network's state lies.
    pub state_dir: PathBuf,
}

/// The bridge, or why there is none yet.
pub(super) type Bridge = Result<Arc<PodBridge>, String>;
/// Whether other nodes' pods are reached, or why not.
pub(super) type Reach = Result<(), String>;

/// Plugs pods in, once the node has its range.
pub struct ClusterNetwork {
    bridge: watch::Receiver<Bridge>,
    reach: watch::Receiver<Reach>,
}

impl ClusterNetwork {
    /// Starts the actor that prepares the network and follows the cluster's nodes.
    pub fn start(
        stage: &Stage,
        config: ClusterNetworkConfig,
        client: Client,
        runtime: Arc<dyn ContainerRuntime>,
    ) -> Arc<ClusterNetwork> {
        let (bridge, made) = watch::channel(Err("the node has no pod range yet".to_owned()));
        let (reach, reached) = watch::channel(Err("other nodes were not looked for yet".to_owned()));
        let props = Props::new("node/network", move || {
            NetworkActor::new(config.clone(), client.clone(), runtime.clone(), bridge.clone(), reach.clone())
        });
        stage.spawn(props.restart(RestartPolicy::Permanent));
        Arc::new(ClusterNetwork { bridge: made, reach: reached })
    }

    async fn bridge(&self) -> Result<Arc<PodBridge>, NetworkError> {
        let mut made = self.bridge.clone();
        let ready = tokio::time::timeout(PATIENCE, made.wait_for(Result::is_ok)).await;
        match ready {
            Ok(Ok(bridge)) => bridge.clone().map_err(NetworkError),
            _ => Err(NetworkError(self.bridge.borrow().as_ref().err().cloned().unwrap_or_default())),
        }
    }
}

#[async_trait]
impl PodNetwork for ClusterNetwork {
    async fn attach(
        &self,
        sandbox: &str,
        netns: &str,
        pod: &PodIdentity,
        ports: &[PortMapping],
    ) -> Result<Vec<IpAddr>, NetworkError> {
        let bridge = self.bridge().await?;
        PodNetwork::attach(&*bridge, sandbox, netns, pod, ports).await
    }

    async fn detach(
        &self,
        sandbox: &str,
        netns: &str,
        pod: &PodIdentity,
        ports: &[PortMapping],
    ) -> Result<(), NetworkError> {
        let bridge = self.bridge().await?;
        PodNetwork::detach(&*bridge, sandbox, netns, pod, ports).await
    }

    async fn ready(&self) -> Result<(), NetworkError> {
        self.bridge.borrow().as_ref().map(drop).map_err(|why| NetworkError(why.clone()))?;
        self.reach.borrow().clone().map_err(NetworkError)
    }
}
