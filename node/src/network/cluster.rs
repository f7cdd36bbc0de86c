//! The node's place in the cluster's network: it learns its pod range from its Node object, then plugs pods
//! into the bridge.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use actors::{Actor, ActorContext, AsyncContext, Context, Props, Stage};
use async_trait::async_trait;
use futures::StreamExt;
use ipnet::Ipv4Net;
use k8s_openapi::api::core::v1::Node;
use protocol::Client;
use tokio::sync::watch;

use super::{NetworkConfig, PodBridge, PortMap};
use crate::runtime::{ContainerRuntime, NetworkError, PodIdentity, PodNetwork, PortMapping};

/// How long a pod waits for the network before its start fails (and is tried again).
const PATIENCE: Duration = Duration::from_secs(10);
/// Pause before trying again to learn the range or to make the bridge.
const RETRY: Duration = Duration::from_millis(500);

type Bridge = Result<Arc<PodBridge>, String>;

/// Plugs pods in, once the node has its range.
pub struct ClusterNetwork {
    bridge: watch::Receiver<Bridge>,
}

/// Learns the range and makes the bridge.
struct NetworkActor {
    node: String,
    cluster_cidr: Ipv4Net,
    state_dir: PathBuf,
    client: Client,
    runtime: Arc<dyn ContainerRuntime>,
    bridge: watch::Sender<Bridge>,
}

impl ClusterNetwork {
    /// Starts the actor that prepares the network.
    pub fn start(
        stage: &Stage,
        node: &str,
        cluster_cidr: Ipv4Net,
        state_dir: PathBuf,
        client: Client,
        runtime: Arc<dyn ContainerRuntime>,
    ) -> Arc<ClusterNetwork> {
        let (bridge, made) = watch::channel(Err("the node has no pod range yet".to_owned()));
        let node = node.to_owned();
        let props = Props::new("node/network", move || NetworkActor {
            node: node.clone(),
            cluster_cidr,
            state_dir: state_dir.clone(),
            client: client.clone(),
            runtime: runtime.clone(),
            bridge: bridge.clone(),
        });
        // It ends when the bridge stands; a panic before that rebuilds it.
        stage.spawn(props);
        Arc::new(ClusterNetwork { bridge: made })
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

impl Actor for NetworkActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Context<Self>) {
        self.prepare(ctx);
    }
}

impl NetworkActor {
    fn prepare(&mut self, ctx: &mut Context<Self>) {
        let (client, node) = (self.client.clone(), self.node.clone());
        let (cluster_cidr, state_dir, runtime) =
            (self.cluster_cidr, self.state_dir.clone(), self.runtime.clone());
        let work = async move {
            let pod_cidr = pod_range(&client, &node).await?;
            let bridge = PodBridge::start(NetworkConfig::new(pod_cidr, cluster_cidr, state_dir))
                .await
                .map_err(|e| e.to_string())?;
            let missing = bridge.missing_plugins();
            if !missing.is_empty() {
                return Err(format!(
                    "CNI plugins are missing: {}; install containernetworking-plugins",
                    missing.join(", ")
                ));
            }
            let containers = runtime.list(&[]).await.map_err(|e| e.to_string())?;
            let live: BTreeSet<String> =
                containers.into_iter().filter(|c| c.is_sandbox()).map(|c| c.id).collect();
            match bridge.sweep(&live).await {
                Ok(0) => {}
                Ok(freed) => tracing::info!(freed, "addresses of pods that are gone were freed"),
                Err(e) => tracing::warn!(error = %e, "addresses of pods that are gone could not be freed"),
            }
            Ok(Arc::new(bridge))
        };
        ctx.run(work, |actor, made: Bridge, ctx| match made {
            Ok(bridge) => {
                let _ = actor.bridge.send_replace(Ok(bridge));
                // The bridge stands; nothing is left to do.
                ctx.stop();
            }
            Err(why) => {
                tracing::warn!(why, "the pods' network is not ready");
                let _ = actor.bridge.send_replace(Err(why));
                ctx.run_later(RETRY, Self::prepare);
            }
        });
    }
}

/// The node's pod range, as soon as it has one.
async fn pod_range(client: &Client, node: &str) -> Result<Ipv4Net, String> {
    let selector = format!("metadata.name={node}");
    let mut events = client.watch::<Node>("", 0, Some(&selector)).await.map_err(|e| e.to_string())?;
    while let Some(event) = events.next().await {
        let Ok(found) = serde_json::from_slice::<Node>(&event.object) else { continue };
        if let Some(range) = found.spec.and_then(|s| s.pod_cidr) {
            return range.parse().map_err(|e| format!("the node's pod range \"{range}\": {e}"));
        }
    }
    Err("the node has no pod range yet".to_owned())
}

fn failed(e: impl std::fmt::Display) -> NetworkError {
    NetworkError(e.to_string())
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
        let ports: Vec<PortMap> = ports
            .iter()
            .map(|p| PortMap {
                protocol: p.protocol.to_ascii_lowercase(),
                container_port: p.container_port,
                host_port: p.host_port,
                host_ip: p.host_ip.clone(),
            })
            .collect();
        let bridge = self.bridge().await?;
        bridge.attach(sandbox, netns, &pod.namespace, &pod.name, &pod.uid, &ports).await.map_err(failed)
    }

    async fn detach(
        &self,
        sandbox: &str,
        netns: &str,
        _pod: &PodIdentity,
        _ports: &[PortMapping],
    ) -> Result<(), NetworkError> {
        self.bridge().await?.detach(sandbox, netns).await.map_err(failed)
    }

    async fn ready(&self) -> Result<(), NetworkError> {
        self.bridge.borrow().as_ref().map(drop).map_err(|why| NetworkError(why.clone()))
    }
}
