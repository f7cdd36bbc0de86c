//! The bridge as the kubelet sees it.

use std::net::IpAddr;

use async_trait::async_trait;

use super::pods::{PodBridge, PortMap};
use crate::runtime::{NetworkError, PodIdentity, PodNetwork, PortMapping};

fn ports(mappings: &[PortMapping]) -> Vec<PortMap> {
    let convert = |m: &PortMapping| PortMap {
        protocol: m.protocol.clone(),
        container_port: m.container_port,
        host_port: m.host_port,
        host_ip: m.host_ip.clone(),
    };
    mappings.iter().filter(|m| m.host_port != 0).map(convert).collect()
}

#[async_trait]
impl PodNetwork for PodBridge {
    async fn attach(
        &self,
        sandbox: &str,
        netns: &str,
        pod: &PodIdentity,
        mappings: &[PortMapping],
    ) -> Result<Vec<IpAddr>, NetworkError> {
        let ports = ports(mappings);
        PodBridge::attach(self, sandbox, netns, &pod.namespace, &pod.name, &pod.uid, &ports)
            .await
            .map_err(|e| NetworkError(e.to_string()))
    }

    async fn detach(
        &self,
        sandbox: &str,
        netns: &str,
        _pod: &PodIdentity,
        _ports: &[PortMapping],
    ) -> Result<(), NetworkError> {
        PodBridge::detach(self, sandbox, netns).await.map_err(|e| NetworkError(e.to_string()))
    }

    async fn ready(&self) -> Result<(), NetworkError> {
        match self.missing_plugins() {
            missing if missing.is_empty() => Ok(()),
            missing => Err(NetworkError(format!(
                "cni plugin not initialized: missing {}: install containernetworking-plugins",
                missing.join(", ")
            ))),
        }
    }
}
