//! What an engine leaves to others: plugging its sandboxes into a network.

use std::net::IpAddr;

use async_trait::async_trait;

use super::PodIdentity;

/// A port that a container wants on the host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortMapping {
    /// `TCP`, `UDP` or `SCTP`.
    pub protocol: String,
    /// Port in the pod.
    pub container_port: u16,
    /// Port on the host.
    pub host_port: u16,
    /// Host address; empty for all.
    pub host_ip: String,
}

/// Why a pod has no network.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("{0}")]
pub struct NetworkError(pub String);

/// Plugs pods into the cluster's network.
#[async_trait]
pub trait PodNetwork: Send + Sync + 'static {
    /// Gives the sandbox whose network namespace lies at `netns` an interface; answers its addresses.
    /// Called again for the same sandbox it answers the same.
    async fn attach(
        &self,
        sandbox: &str,
        netns: &str,
        pod: &PodIdentity,
        ports: &[PortMapping],
    ) -> std::result::Result<Vec<IpAddr>, NetworkError>;

    /// Takes the interface away; fine when there is none. `netns` is empty when the namespace is gone.
    async fn detach(
        &self,
        sandbox: &str,
        netns: &str,
        pod: &PodIdentity,
        ports: &[PortMapping],
    ) -> std::result::Result<(), NetworkError>;

    /// Whether pods can be plugged in yet; the text says why not.
    async fn ready(&self) -> std::result::Result<(), NetworkError>;
}
