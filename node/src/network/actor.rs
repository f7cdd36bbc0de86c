//! The actor that follows the cluster's nodes: it learns its own node's pod range and makes the bridge, and keeps
//! the kernel so that the other nodes' pods are reached.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use actors::{Actor, AsyncContext, Context, Handler, TraceContext, message, trace};
use k8s_openapi::api::core::v1::Node;
use protocol::{Client, DualRange};
use tokio::sync::watch;

use super::cluster::{Bridge, ClusterNetworkConfig, Reach};
use super::happenings::{Happened, hear};
use super::netlink::Netlink;
use super::peers::{Peers, Ranges};
use super::reach::{self, Outcome, Place, ReachError};
use super::{NetworkConfig, PodBridge};
use crate::follow::{Followed, follow};
use crate::keeping::{BATCH, Batch, Keeper, Keeping, applied_under};
use crate::runtime::ContainerRuntime;

/// Pause before trying again to make the bridge.
const RETRY: Duration = Duration::from_millis(500);
/// How often the kernel is looked at though nothing happened: what it says of itself may be lost.
const RESYNC: Duration = Duration::from_secs(600);

/// Causes that are remembered until the kernel has the changes; of more, only the effect is seen.
const CAUSES_MAX: usize = 1024;

/// Something about a node.
struct NodeTold(Followed<Node>);
message!(NodeTold => (), |m| Some(m.0.key()));

/// Something about the kernel.
struct KernelTold(Happened);
message!(KernelTold => (), |_m| Some("kernel".into()));

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
    /// What the kernel was brought to, or is being brought to.
    reached: Option<Ranges>,
    /// Who caused what the kernel does not have yet.
    causes: BTreeMap<Arc<str>, TraceContext>,
    keeping: Keeping,
    /// Which interfaces carry packets, as far as the kernel has told.
    links: BTreeMap<u32, bool>,
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
            causes: BTreeMap::new(),
            keeping: Keeping::default(),
            links: BTreeMap::new(),
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
        self.schedule(BATCH, ctx);
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

    /// Looks at the kernel every now and then, for as long as the actor lives.
    fn resync(&mut self, ctx: &mut Context<Self>) {
        ctx.run_later(RESYNC, |actor, ctx| {
            actor.replace(ctx);
            actor.resync(ctx);
        });
    }

    /// Whether what happened may have taken something that was made.
    fn concerns(&mut self, happened: Happened) -> bool {
        match happened {
            Happened::RouteGone => true,
            // Also one that nobody has told of yet: it may be the one that was waited for.
            Happened::Link { index, up } => self.links.insert(index, up) != Some(up),
            Happened::LinkGone(index) => {
                self.links.remove(&index);
                true
            }
            Happened::Address(address) => address == self.config.address,
        }
    }
}

impl Keeper for NetworkActor {
    type Error = ReachError;
    const WHAT: &'static str = "the ways to other nodes";

    fn keeping(&mut self) -> &mut Keeping {
        &mut self.keeping
    }

    fn complete(&self) -> bool {
        self.listed && self.range.is_some()
    }

    fn batch(&mut self, everything: bool) -> Option<Batch<ReachError>> {
        let causes = std::mem::take(&mut self.causes);
        let wanted = self.wanted()?;
        if !everything && self.reached.as_ref() == Some(&wanted) {
            return None;
        }
        self.reached = Some(wanted.clone());
        let ClusterNetworkConfig { mode, address, service_cidr, .. } = self.config;
        let place = Place { mode, address, range: self.range?, services: service_cidr };
        let shown = self.reach.clone();
        Some(Box::pin(async move {
            let work = bring(place, wanted, shown);
            applied_under("node/network", "ReachNodes", causes.into_iter().collect(), work).await
        }))
    }

    fn refused(&mut self, _: &mut Context<Self>) {
        self.reached = None;
    }
}

/// Brings the kernel to where these ranges are reached, and shows whether they are.
async fn bring(place: Place, wanted: Ranges, shown: watch::Sender<Reach>) -> Result<(), ReachError> {
    let done = reach::reconcile(place, &wanted).await;
    // A node that others are not reached from is none; one that some are not reached from still is.
    let _ = shown.send_replace(done.as_ref().map(drop).map_err(ToString::to_string));
    let Outcome { changed, refused } = done?;
    if changed > 0 {
        tracing::info!(changed, nodes = wanted.len(), "the ways to other nodes were brought up to date");
    }
    if refused.is_empty() { Ok(()) } else { Err(ReachError::Some(refused)) }
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
        let me = ctx.me();
        let kernel = hear(move |happened| {
            let me = me.clone();
            async move { me.tell(KernelTold(happened)).await.is_ok() }
        });
        ctx.run(kernel, |_, (), _| {});
        self.resync(ctx);
    }
}

impl Handler<NodeTold> for NetworkActor {
    type Result = ();
    fn handle(&mut self, NodeTold(told): NodeTold, ctx: &mut Context<Self>) {
        let cause = trace::current();
        if !cause.is_none() && (self.causes.len() < CAUSES_MAX || self.causes.contains_key(&told.key())) {
            self.causes.insert(told.key(), cause);
        }
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

impl Handler<KernelTold> for NetworkActor {
    type Result = ();
    fn handle(&mut self, KernelTold(happened): KernelTold, ctx: &mut Context<Self>) {
        if self.concerns(happened) && self.complete() {
            self.replace(ctx);
        }
    }
}
