//! A network that lets no pod start before it is isolated as its policies say.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use actors::Stage;
use async_trait::async_trait;
use protocol::Client;

use super::handle::{PolicyConfig, PolicyHandle, start};
use super::objects::key;
use crate::runtime::{NetworkError, PodIdentity, PodNetwork, PortMapping};

/// How long a pod waits until the kernel has its policies.
const PATIENCE: Duration = Duration::from_secs(5);

/// A network with policies.
struct Guard {
    network: Arc<dyn PodNetwork>,
    policies: PolicyHandle,
}

/// Starts keeping policies, and puts them before a network.
pub fn guard(
    stage: &Stage,
    config: PolicyConfig,
    client: Client,
    network: Arc<dyn PodNetwork>,
) -> Arc<dyn PodNetwork> {
    Arc::new(Guard { network, policies: start(stage, config, client) })
}

#[async_trait]
impl PodNetwork for Guard {
    async fn attach(
        &self,
        sandbox: &str,
        netns: &str,
        pod: &PodIdentity,
        ports: &[PortMapping],
    ) -> Result<Vec<IpAddr>, NetworkError> {
        let addresses = self.network.attach(sandbox, netns, pod, ports).await?;
        let key = key(&pod.namespace, &pod.name);
        let isolated =
            self.policies.plugged(key.clone(), pod.uid.clone(), sandbox.to_owned(), addresses.clone());
        if tokio::time::timeout(PATIENCE, isolated).await == Ok(true) {
            return Ok(addresses);
        }
        let why = match self.policies.state().await {
            Some(state) if state.complete && state.settled => {
                // A static pod that the API has not heard of yet: there is nothing that policies could select.
                tracing::warn!(pod = %key, "the API does not know the pod; it starts without network policies");
                return Ok(addresses);
            }
            Some(state) => state.error.unwrap_or_else(|| "they are not known yet".to_owned()),
            None => "who keeps them does not answer".to_owned(),
        };
        Err(NetworkError(format!("network policies are not in force: {why}; the pod is tried again")))
    }

    async fn detach(
        &self,
        sandbox: &str,
        netns: &str,
        pod: &PodIdentity,
        ports: &[PortMapping],
    ) -> Result<(), NetworkError> {
        self.network.detach(sandbox, netns, pod, ports).await?;
        self.policies.unplugged(key(&pod.namespace, &pod.name), sandbox.to_owned()).await;
        Ok(())
    }

    async fn ready(&self) -> Result<(), NetworkError> {
        self.network.ready().await
    }
}
