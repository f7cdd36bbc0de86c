//! Keeping policies, as the rest of the node sees it: how it is started, told and asked.

use std::future::Future;
use std::net::IpAddr;
use std::time::Duration;

use actors::{ActorRef, Props, RestartPolicy, Stage};
use protocol::Client;
use tokio::sync::oneshot;

use super::actor::{Ask, Plugged, PolicyActor, Unplugged};
use super::objects::Key;
use super::table::TABLE;
use crate::family::Family;
use crate::nft::{self, RulesError};

/// How policies are kept.
#[derive(Clone, Debug)]
pub struct PolicyConfig {
    /// The node's name.
    pub node: String,
    /// The address at which this node serves the cluster's DNS.
    pub cluster_dns: IpAddr,
    /// The families that pods have addresses of.
    pub families: &'static [Family],
    /// The bridge that this node's pods are on.
    pub bridge: String,
}

/// How keeping policies is doing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PolicyState {
    /// Pods, namespaces and policies were listed.
    pub complete: bool,
    /// The kernel has what the watches have told.
    pub settled: bool,
    /// Policies that isolate pods of this node.
    pub policies: usize,
    /// Addresses of this node that are isolated.
    pub isolated: usize,
    /// Transactions that the kernel took.
    pub applied: u64,
    /// Why the last transaction was refused, if it was.
    pub error: Option<String>,
}

/// Holds the running actor.
#[derive(Clone)]
pub struct PolicyHandle {
    actor: ActorRef<PolicyActor>,
}

/// Starts keeping policies, under a supervisor of its own.
pub fn start(stage: &Stage, config: PolicyConfig, client: Client) -> PolicyHandle {
    let props = Props::new("node/policy", move || PolicyActor::new(client.clone(), config.clone()));
    let actor = stage.spawn(props.capacity(1024).restart(RestartPolicy::Permanent));
    PolicyHandle { actor }
}

impl PolicyHandle {
    /// How it is doing; `None` when it doesn't answer.
    pub async fn state(&self) -> Option<PolicyState> {
        self.actor.ask(Ask, Duration::from_secs(5)).await.ok()
    }

    /// Tells that a pod was plugged in; what is answered ends when the pod is isolated as its policies say.
    pub(super) fn plugged(
        &self,
        pod: Key,
        uid: String,
        sandbox: String,
        addresses: Vec<IpAddr>,
    ) -> impl Future<Output = bool> + Send + use<> {
        let (isolated, answer) = oneshot::channel();
        let actor = self.actor.clone();
        async move {
            actor.tell(Plugged { pod, uid, sandbox, addresses, isolated }).await.is_ok()
                && answer.await.is_ok()
        }
    }

    /// Tells that a pod was unplugged.
    pub(super) async fn unplugged(&self, pod: Key, sandbox: String) {
        // An actor that is gone for good knows of no pods either.
        let _ = self.actor.tell(Unplugged { pod, sandbox }).await;
    }

    /// Stops and removes every rule.
    pub async fn stop(&self) -> Result<(), RulesError> {
        self.actor.stop();
        nft::remove_table(TABLE).await
    }
}
