//! A node without a machine: link and kubelet as they are, over a simulated engine and a made-up network.
//! For tests and for clusters of many nodes in one process.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use actors::Stage;
use protocol::Client;
use protocol::ingress::{Ports, SERVED};

use crate::ingress::{self, IngressConfig, IngressHandle};
use crate::kubelet::{self, Kubelet, KubeletConfig};
use crate::link::{self, Connector, LinkHandle};
use crate::network::made_up::MadeUpNetwork;
use crate::node::LateStreams;
use crate::runtime::simulated::SimulatedRuntime;
use crate::services::Services;

/// What a simulated node is told.
#[derive(Clone, Debug)]
pub struct SimulationConfig {
    /// The node's name.
    pub name: String,
    /// Its address.
    pub address: IpAddr,
    /// Its pods' addresses begin here.
    pub pod_addresses: Ipv4Addr,
    /// Its CPU in millicores.
    pub cpu_millis: u64,
    /// Its memory in bytes.
    pub memory_bytes: u64,
    /// The most pods that it takes.
    pub pods_max: u32,
    /// Where it serves Ingresses, for real; `None` where it does not.
    pub ingress: Option<IngressConfig>,
}

impl SimulationConfig {
    /// The `number`th node of a cluster: 4 cores, 8 GiB, 110 pods.
    pub fn numbered(number: u16) -> Self {
        let [high, low] = number.to_be_bytes();
        SimulationConfig {
            name: format!("node-{number}"),
            address: IpAddr::from([172, 16, high, low]),
            pod_addresses: Ipv4Addr::from((10 << 24) + (u32::from(number) << 12)),
            cpu_millis: 4000,
            memory_bytes: 8 << 30,
            pods_max: 110,
            ingress: None,
        }
    }
}

/// A running simulated node.
pub struct SimulatedNode {
    kubelet: Kubelet,
    link: LinkHandle,
    ingress: Option<IngressHandle>,
}

/// Why a simulated node does not start.
#[derive(Debug, thiserror::Error)]
pub enum SimulationError {
    /// The kubelet.
    #[error(transparent)]
    Kubelet(#[from] kubelet::StartError),
    /// Ingresses.
    #[error(transparent)]
    Ingress(#[from] ingress::IngressError),
}

impl SimulatedNode {
    /// Starts link and kubelet. Whatever `runtime` holds already is adopted.
    ///
    /// # Errors
    /// As for any kubelet, and when a port for Ingresses cannot be bound.
    pub async fn start(
        stage: &Stage,
        config: SimulationConfig,
        runtime: SimulatedRuntime,
        connector: Arc<dyn Connector>,
    ) -> Result<SimulatedNode, SimulationError> {
        let streams = Arc::new(LateStreams::default());
        let (api, link) = link::start(stage, connector, streams.clone());
        let client = Client::new(Arc::new(api), "kubelet");
        let mut settings = KubeletConfig::new(&config.name, config.address);
        settings.cpu_millis = Some(config.cpu_millis);
        settings.memory_bytes = Some(config.memory_bytes);
        settings.pods_max = config.pods_max;
        let ingress = match config.ingress {
            Some(served) => Some(ingress::start(stage, served, client.clone())?),
            None => None,
        };
        let port = |at: Option<std::net::SocketAddr>| at.map_or(0, |at| at.port());
        let ports = ingress.as_ref().map(|i| Ports { http: port(i.http), https: port(i.https) });
        settings.node_annotations.insert(SERVED.to_owned(), ports.map(|ports| ports.to_string()));
        let network = Arc::new(MadeUpNetwork::new(config.pod_addresses));
        let kubelet =
            kubelet::start(stage, settings, client, Arc::new(runtime), network, Services::default()).await?;
        streams.set(kubelet.streams());
        Ok(SimulatedNode { kubelet, link, ingress })
    }

    /// Its kubelet.
    pub fn kubelet(&self) -> &Kubelet {
        &self.kubelet
    }

    /// Its Ingresses, where it serves them.
    pub fn ingress(&self) -> Option<&IngressHandle> {
        self.ingress.as_ref()
    }

    /// Stops its actors. What its runtime runs goes on.
    pub fn stop(&self) {
        if let Some(ingress) = &self.ingress {
            ingress.stop();
        }
        self.kubelet.stop();
        self.link.stop();
    }
}
