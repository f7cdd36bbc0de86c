//! The proxy, as the rest of the node sees it: how it is started, asked and cleaned up.

use std::time::Duration;

use actors::{ActorRef, Props, RestartPolicy, Stage};
use protocol::Client;

use super::actor::{Ask, ProxyActor};
use super::facts::NodeFacts;
use super::mode::ProxyMode;
use super::userspace::{self, Scheduler};
use super::{iptables, nftables};
use crate::network::netlink::NetlinkFailure;
use crate::nft::RulesError;
use crate::services::Services;

/// Looking for flushed rules this often, a node is without them for no longer; upstream looks as often.
pub const LOOK_INTERVAL: Duration = Duration::from_secs(30);

/// How the proxy starts.
#[derive(Clone, Debug)]
pub struct ProxyConfig {
    /// What it knows of its node.
    pub facts: NodeFacts,
    /// How it does its work.
    pub mode: ProxyMode,
    /// How programs choose among endpoints, in the userspace mode.
    pub scheduler: Scheduler,
    /// How often it is looked whether somebody flushed the rules, in the iptables mode.
    pub look_interval: Duration,
    /// Where the Services that it follows are shown to the rest of the node.
    pub services: Services,
}

/// How the proxy is doing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProxyState {
    /// The node is as the watches have told.
    pub settled: bool,
    /// Services that are proxied.
    pub services: usize,
    /// Batches that were carried out.
    pub applied: u64,
    /// Why the last batch was refused, if it was.
    pub error: Option<String>,
}

/// What a proxy left could not all be removed.
#[derive(Debug, thiserror::Error)]
pub enum CleanUpError {
    /// Rules.
    #[error(transparent)]
    Rules(#[from] RulesError),
    /// The address at which programs took connections.
    #[error(transparent)]
    Address(#[from] NetlinkFailure),
}

/// Holds the running proxy.
#[derive(Clone)]
pub struct ProxyHandle {
    actor: ActorRef<ProxyActor>,
}

/// Removes what a proxy of any mode left in this network namespace, running or not: for `down` after a crash.
pub async fn clean_up() -> Result<(), CleanUpError> {
    // First what may be tens of thousands of chains, through which each call of nft would look.
    iptables::clean_up().await?;
    nftables::clean_up().await?;
    userspace::clean_up().await?;
    Ok(())
}

/// Starts the proxy, under a supervisor of its own.
pub fn start(stage: &Stage, config: ProxyConfig, client: Client) -> ProxyHandle {
    let props = Props::new("node/proxy", move || ProxyActor::new(client.clone(), config.clone()));
    let actor = stage.spawn(props.capacity(1024).restart(RestartPolicy::Permanent));
    ProxyHandle { actor }
}

impl ProxyHandle {
    /// How it is doing; `None` when it doesn't answer.
    pub async fn state(&self) -> Option<ProxyState> {
        self.actor.ask(Ask, Duration::from_secs(5)).await.ok()
    }

    /// Stops and removes every rule.
    pub async fn stop(&self) -> Result<(), CleanUpError> {
        self.actor.stop();
        clean_up().await
    }
}
