//! The actor that follows the cluster's nodes: it learns its own node's pod range and makes the bridge, and keeps
//! the kernel so that the other nodes' pods are reached.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use actors::{Actor, AsyncContext, Context, Handler, SpawnHandle, TraceContext, message, trace};
use k8s_openapi::api::core::v1::Node;
use protocol::{Client, DualRange};
use tokio::sync::watch;

use super::cluster::{Bridge, ClusterNetworkConfig, Reach};
use super::netlink::Netlink;
use super::peers::{Peers, Ranges};
use super::reach::{self, Outcome, Place, ReachError};
use super::{NetworkConfig, PodBridge};
use crate::follow::{Followed, follow};
use crate::runtime::ContainerRuntime;

/// Pause before trying again to make the bridge, and the first before trying the kernel again.
const RETRY: Duration = Duration::from_millis(500);
/// Longest pause before trying the kernel again.
const RETRY_MAX: Duration = Duration::from_secs(30);
/// Changes that come within this time of one another are made together.
const BATCH: Duration = Duration::from_millis(5);
/// How often the kernel is looked at though nothing changed: an interface that went down and came up again has
/// lost its routes.
const RESYNC: Duration = Duration::from_secs(30);

/// Something about a node.
struct NodeTold(Followed<Node>);
message!(NodeTold => (), |m| Some(m.0.key()));

/// Learns the range, makes the bridge, keeps the ways to the other nodes.
pub(super) struct NetworkActor {
    config: ClusterNetworkConfig,
    client: Client,
    runtime: Arc<dyn ContainerRuntime>,
    bridge: watch::Sender<Bridge>,
    reach: watch::Sender<Reach>,
    peers: Peers,
    /// The nodes were listed: who is not among them is gone.
    listed: bool,
    /// The node's pod range; the first that it has is the one that its pods live in.
    range: Option<DualRange>,
    /// What the kernel was brought to.
    reached: Option<Ranges>,
    /// Who caused the first change that the kernel does not have yet.
    cause: TraceContext,
    busy: bool,
    /// The next look at the kernel, and how long it was to wait.
    scheduled: Option<(SpawnHandle, Duration)>,
    retry: Duration,
}

impl NetworkActor {
    pub(super) fn new(
        config: ClusterNetworkConfig,
        client: Client,
        runtime: Arc<dyn ContainerRuntime>,
        bridge: watch::Sender<Bridge>,
        reach: watch::Sender<Reach>,
    ) -> Self {
        let peers = Peers::new(&config.node);
        NetworkActor {
            config,
            client,
            runtime,
            bridge,
            reach,
            peers,
            listed: false,
            range: None,
            reached: None,
            cause: TraceContext::default(),
            busy: false,
            scheduled: None,
            retry: RETRY,
        }
    }

    /// Looks at what the nodes are now.
    fn look(&mut self, ctx: &mut Context<Self>) {
        let Some(range) = self.peers.own_range() else { return };
        match self.range {
            None => {
                self.range = Some(range);
                self.prepare(range, ctx);
            }
            Some(before) if before != range => {
                tracing::warn!(%before, now = %range, "the node's pod range changed; restart the node to use it");
            }
            Some(_) => {}
        }
        let wanted = self.wanted();
        if self.listed && wanted.is_some() && wanted != self.reached {
            if self.cause.is_none() {
                self.cause = trace::current();
            }
            self.schedule(BATCH, ctx);
        }
    }

    fn wanted(&self) -> Option<Ranges> {
        Some(self.peers.ranges(self.config.address, self.range?))
    }

    fn prepare(&mut self, range: DualRange, ctx: &mut Context<Self>) {
        if self.bridge.borrow().is_ok() {
            // Made by this actor's former life.
            return;
        }
        let work = make_bridge(self.config.clone(), range, self.runtime.clone());
        ctx.run(work, move |actor, made: Bridge, ctx| {
            if let Err(why) = &made {
                tracing::warn!(why, "the pods' network is not ready");
                ctx.run_later(RETRY, move |actor: &mut Self, ctx| actor.prepare(range, ctx));
            }
            let _ = actor.bridge.send_replace(made);
        });
    }

    fn schedule(&mut self, after: Duration, ctx: &mut Context<Self>) {
        if self.busy || self.scheduled.is_some_and(|(_, waits)| waits <= after) {
            return;
        }
        // A change does not wait for the end of a pause after a failure.
        if let Some((later, _)) = self.scheduled.take() {
            ctx.cancel_future(later);
        }
        let due = ctx.run_later(after, |actor, ctx| {
            actor.scheduled = None;
            actor.reconcile(ctx);
        });
        self.scheduled = Some((due, after));
    }

    fn reconcile(&mut self, ctx: &mut Context<Self>) {
        let (Some(range), Some(wanted)) = (self.range, self.wanted()) else { return };
        if self.busy || !self.listed {
            return;
        }
        self.busy = true;
        let place = Place { mode: self.config.mode, address: self.config.address, range };
        let cause = std::mem::take(&mut self.cause);
        let work = async move {
            let work = reach::reconcile(place, &wanted);
            let done = if cause.is_none() {
                work.await
            } else {
                let failed =
                    |r: &Result<Outcome, ReachError>| r.as_ref().map_or(true, |o| !o.refused.is_empty());
                trace::step_caused_by(cause, "node/network", "ReachNodes", None, failed, work).await
            };
            (wanted, done)
        };
        ctx.run(work, |actor, (wanted, done), ctx| {
            actor.busy = false;
            actor.reconciled(wanted, done, ctx);
        });
    }

    fn reconciled(&mut self, wanted: Ranges, done: Result<Outcome, ReachError>, ctx: &mut Context<Self>) {
        let next = match done {
            Ok(Outcome { changed, refused }) => {
                if changed > 0 {
                    tracing::info!(
                        changed,
                        nodes = wanted.len(),
                        "the ways to other nodes were brought up to date"
                    );
                }
                for why in &refused {
                    tracing::warn!(why, "a node's pods are not reached; do nodes share a network segment?");
                }
                let _ = self.reach.send_replace(Ok(()));
                if refused.is_empty() {
                    self.retry = RETRY;
                    self.reached = Some(wanted);
                    // More may have come meanwhile.
                    (self.wanted() != self.reached).then_some(BATCH)
                } else {
                    Some(self.again())
                }
            }
            Err(why) => {
                tracing::warn!(%why, "other nodes' pods are not reached");
                let _ = self.reach.send_replace(Err(why.to_string()));
                Some(self.again())
            }
        };
        if let Some(next) = next {
            self.schedule(next, ctx);
        }
    }

    /// Looks at the kernel every now and then, for as long as the actor lives.
    fn resync(&mut self, ctx: &mut Context<Self>) {
        ctx.run_later(RESYNC, |actor, ctx| {
            actor.reconcile(ctx);
            actor.resync(ctx);
        });
    }

    fn again(&mut self) -> Duration {
        let pause = self.retry;
        self.retry = (pause * 2).min(RETRY_MAX);
        pause
    }
}

/// Prepares the node for its pods and finds the pods that it has already.
async fn make_bridge(
    config: ClusterNetworkConfig,
    range: DualRange,
    runtime: Arc<dyn ContainerRuntime>,
) -> Bridge {
    let host_mtu = async { reach::host_mtu(&Netlink::connect()?, config.address).await };
    let host_mtu = host_mtu.await.map_err(|e| e.to_string())?;
    let mut settings = NetworkConfig::new(range, config.cluster_cidr, config.state_dir);
    if let Some(host_mtu) = host_mtu {
        settings.mtu = config.mode.pod_mtu(host_mtu);
    }
    let bridge = PodBridge::start(settings).await.map_err(|e| e.to_string())?;
    let missing = bridge.missing_plugins();
    if !missing.is_empty() {
        return Err(format!(
            "CNI plugins are missing: {}; install containernetworking-plugins",
            missing.join(", ")
        ));
    }
    let containers = runtime.list(&[]).await.map_err(|e| e.to_string())?;
    let live: BTreeSet<String> = containers.into_iter().filter(|c| c.is_sandbox()).map(|c| c.id).collect();
    match bridge.sweep(&live).await {
        Ok(0) => {}
        Ok(freed) => tracing::info!(freed, "addresses of pods that are gone were freed"),
        Err(e) => tracing::warn!(error = %e, "addresses of pods that are gone could not be freed"),
    }
    Ok(Arc::new(bridge))
}

impl Actor for NetworkActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Context<Self>) {
        let me = ctx.me();
        let nodes = follow(self.client.clone(), None, move |told| {
            let me = me.clone();
            async move { me.tell(NodeTold(told)).await.is_ok() }
        });
        ctx.run(nodes, |_, (), _| {});
        self.resync(ctx);
    }
}

impl Handler<NodeTold> for NetworkActor {
    type Result = ();
    fn handle(&mut self, NodeTold(told): NodeTold, ctx: &mut Context<Self>) {
        match told {
            Followed::Listed(nodes) => {
                self.peers.replace(&nodes);
                self.listed = true;
            }
            Followed::Changed(node) => self.peers.put(&node),
            Followed::Gone(node) => self.peers.remove(&node),
        }
        self.look(ctx);
    }
}
