//! The userspace mode: programs of this node take connections and packets, choose endpoints by a [`Scheduler`], and hand
//! on what is said.
//!
//! Clients are led to them by the nftables mode's own rules, which lead to a listener where they would lead to
//! endpoints: so node ports, source ranges, policies and refusals are the same. Listeners are at [`ADDRESS`], on `lo`;
//! whoever was not led there by the rules is dropped. Answers go back the way they came, as the kernel remembers it.
//!
//! Endpoints see this node as their client, and so do NetworkPolicies. Connections end with this process. SCTP, which
//! programs cannot hand on so, and IPv6 are left to the kernel, as in the nftables mode.
//!
//! - [`schedule`]: which endpoint is next; [`sticky`]: who stays with which; [`balancer`]: both, with what endpoints
//!   have to do.
//! - [`port`]: the actor of a service port; [`tcp`] and [`udp`]: its connections and flows.

pub mod balancer;
pub mod port;
pub mod schedule;
pub mod sticky;
pub mod tcp;
pub mod udp;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use actors::{
    Actor, ActorFutureExt, ActorRef, AtomicResponse, Context, Handler, Props, RestartPolicy, WrapFuture,
};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tokio::sync::Semaphore;

use super::iptables;
use super::listeners::Listeners;
use super::mode::{Carry, CarryError, Teller};
use super::nftables::{Batch, Tables};
use super::plan::{PortPlan, Protocol, Reach};
use crate::family::Family;
use crate::network::loopback::{self, Label};
use crate::network::netlink::NetlinkFailure;
use crate::nft::RulesError;
use port::{Look, Port, PortActor};
pub use schedule::Scheduler;

/// Where listeners are: a link-local address, which no pod, Service or machine has.
pub const ADDRESS: Ipv4Addr = Ipv4Addr::new(169, 254, 96, 1);
/// Connections and flows of all ports at a time. Each holds two file descriptors and 16 KiB while it hands on.
const PLACES_MAX: usize = 8192;

/// A service port that is served.
struct Served {
    port: Arc<Port>,
    actor: ActorRef<PortActor>,
}

/// Keeps a listener for each service port, and the rules that lead to them.
pub(super) struct UserspaceActor {
    scheduler: Scheduler,
    teller: Teller,
    tables: Tables,
    room: Arc<Semaphore>,
    served: BTreeMap<String, Served>,
    listeners: Listeners,
}

impl UserspaceActor {
    pub(super) fn new(scheduler: Scheduler, teller: Teller) -> Self {
        UserspaceActor {
            tables: Tables::new(Family::here(), Some(ADDRESS.into())),
            scheduler,
            teller,
            room: Arc::new(Semaphore::new(PLACES_MAX)),
            served: BTreeMap::new(),
            listeners: Listeners::new(),
        }
    }

    /// Opens and closes doors as is told. What had listeners and is not told of when all is told, goes.
    fn serve(&mut self, carry: &Carry, ctx: &mut Context<Self>) -> Result<(), CarryError> {
        let mut gone: BTreeSet<String> = BTreeSet::new();
        if carry.all {
            gone.extend(self.served.keys().cloned());
        }
        for (service, plan) in &carry.plans {
            let prefix = format!("{service}/");
            let before = self.served.range(prefix.clone()..).take_while(|(key, _)| key.starts_with(&prefix));
            gone.extend(before.map(|(key, _)| key.clone()));
            for port in plan.ports.iter().filter(|port| handed_on(port)) {
                gone.remove(&port.key);
                self.serve_port(port, ctx)?;
            }
        }
        for key in gone {
            if let Some(served) = self.served.remove(&key) {
                served.actor.stop();
            }
            self.forget(&key);
        }
        Ok(())
    }

    fn serve_port(&mut self, plan: &PortPlan, ctx: &mut Context<Self>) -> Result<(), CarryError> {
        let served = self.served.entry(plan.key.clone()).or_insert_with(|| {
            let port = Arc::new(Port::new(self.scheduler, self.room.clone()));
            let shared = port.clone();
            let props = Props::new("node/proxy/port", move || PortActor::new(shared.clone()));
            let props = props.instance(plan.key.as_str()).capacity(8).restart(RestartPolicy::Permanent);
            Served { actor: ctx.spawn_child(props), port }
        });
        let addresses = served.port.set(plan, ADDRESS).map_err(|source| {
            let (key, ip) = (plan.key.clone(), ADDRESS.into());
            CarryError::Socket { key, ip, source }
        })?;
        // Of messages that wait, one is as good as many.
        let _ = served.actor.try_tell(Look);
        self.forget(&plan.key);
        self.listeners
            .extend(addresses.into_iter().map(|(reach, address)| ((plan.key.clone(), reach), address)));
        Ok(())
    }

    fn forget(&mut self, key: &str) {
        for reach in [Reach::Cluster, Reach::Local] {
            self.listeners.remove(&(key.to_owned(), reach));
        }
    }
}

/// Whether programs hand a port's traffic on: there is somebody to hand it to, and it can be done.
fn handed_on(port: &PortPlan) -> bool {
    port.protocol != Protocol::Sctp && port.family() == Family::V4 && port.reaches().next().is_some()
}

impl Actor for UserspaceActor {
    type Context = Context<Self>;

    fn started(&mut self, _: &mut Context<Self>) {
        self.teller.begun();
    }
}

/// Makes the address where listeners are.
async fn begin() -> Result<(), CarryError> {
    loopback::ensure(IpAddr::from(ADDRESS), Label::PROXY).await?;
    // Each service port holds a file descriptor, and each connection two; the usual limit is 1024, while that to which
    // it may be raised is high.
    if let Ok((_, most)) = getrlimit(Resource::RLIMIT_NOFILE)
        && let Err(error) = setrlimit(Resource::RLIMIT_NOFILE, most, most)
    {
        tracing::warn!(%error, "the limit of file descriptors was not raised: many Services may not be served");
    }
    Ok(())
}

impl Handler<Carry> for UserspaceActor {
    type Result = AtomicResponse<Self, Result<(), CarryError>>;
    fn handle(&mut self, carry: Carry, _: &mut Context<Self>) -> Self::Result {
        let all = carry.all;
        let ready = async move { if all { begin().await } else { Ok(()) } };
        let served = ready.into_actor(self).map(move |ready, actor: &mut Self, ctx: &mut Context<Self>| {
            ready?;
            actor.serve(&carry, ctx)?;
            actor.tables.take(carry, &actor.listeners)
        });
        let work = served.then(move |batch: Result<Batch, CarryError>, actor: &mut Self, _| {
            let run = async move {
                let done = batch?.run().await;
                if all && done.is_ok() {
                    // What a run in another mode left; now, so that Services answer all the while.
                    iptables::clean_up().await?;
                }
                Ok::<_, CarryError>(done)
            };
            run.into_actor(actor)
        });
        AtomicResponse::new(Box::pin(work.map(|result, actor: &mut Self, _| {
            let result: Result<Result<(), RulesError>, CarryError> = result;
            let result = result?;
            actor.tables.done(&result);
            Ok(result?)
        })))
    }
}

/// Removes the address where listeners were.
pub(super) async fn clean_up() -> Result<(), NetlinkFailure> {
    loopback::remove(IpAddr::from(ADDRESS), Label::PROXY).await
}
