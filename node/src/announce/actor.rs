//! The actor that takes and announces what the master gave to this node.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use actors::{Actor, ActorRef, AsyncContext, Context, Handler, Props, RestartPolicy, Stage, message, trace};
use async_trait::async_trait;
use k8s_openapi::api::core::v1::Service;
use parking_lot::Mutex;
use protocol::Client;
use protocol::balancing::ANNOUNCED_BY;

use super::{segment, taken};
use crate::follow::{Followed, follow};
use crate::keeping::{BATCH, Batch, Keeper, Keeping};
use crate::network::happenings::{Happened, hear};

/// An address that was taken is announced so often, since nobody confirms it, …
const ANNOUNCEMENTS: u32 = 4;
/// … with this time between.
const PAUSE: Duration = Duration::from_secs(1);

/// What the actor does to the machine.
#[async_trait]
pub(super) trait Ground: Send + Sync {
    /// The addresses that it has taken, this process or an earlier one.
    async fn taken(&self) -> Result<BTreeSet<IpAddr>, String>;
    /// Takes an address.
    async fn take(&self, address: IpAddr) -> Result<(), String>;
    /// Gives an address up.
    async fn give_up(&self, address: IpAddr) -> Result<(), String>;
    /// Tells the segment once.
    async fn announce(&self, address: IpAddr) -> Result<(), String>;
}

/// The machine itself.
struct Machine {
    node: IpAddr,
}

#[async_trait]
impl Ground for Machine {
    async fn taken(&self) -> Result<BTreeSet<IpAddr>, String> {
        taken::all().await.map_err(|e| e.to_string())
    }

    async fn take(&self, address: IpAddr) -> Result<(), String> {
        taken::take(address, self.node).await.map_err(|e| e.to_string())
    }

    async fn give_up(&self, address: IpAddr) -> Result<(), String> {
        taken::give_up(address).await.map_err(|e| e.to_string())
    }

    async fn announce(&self, address: IpAddr) -> Result<(), String> {
        let node = self.node;
        let told = tokio::task::spawn_blocking(move || segment::announce(address, node)).await;
        told.map_err(|e| e.to_string())?.map_err(|e| e.to_string())
    }
}

/// Something about a Service of type LoadBalancer.
struct Told(Followed<Service>);
message!(Told => (), |m| Some(m.0.key()));

/// Something about the kernel.
struct KernelTold(Happened);
message!(KernelTold => (), |_m| Some("kernel".into()));

/// Namespace and name.
type Key = (String, String);

fn key(service: &Service) -> Key {
    let meta = &service.metadata;
    (meta.namespace.clone().unwrap_or_default(), meta.name.clone().unwrap_or_default())
}

/// The addresses of a Service that a node is to announce.
fn addresses(service: &Service, node: &str) -> BTreeSet<IpAddr> {
    let said = service.metadata.annotations.as_ref().and_then(|a| a.get(ANNOUNCED_BY));
    let spec = service.spec.as_ref();
    if said.is_none_or(|said| said != node) || spec.and_then(|s| s.type_.as_deref()) != Some("LoadBalancer") {
        return BTreeSet::new();
    }
    let balancer = service.status.as_ref().and_then(|s| s.load_balancer.as_ref());
    let ingress = balancer.and_then(|b| b.ingress.as_ref()).into_iter().flatten();
    ingress.filter_map(|i| i.ip.as_deref()?.parse().ok()).collect()
}

/// What the machine has after a batch.
struct Settled {
    /// All that is wanted of it.
    held: BTreeSet<IpAddr>,
    /// Of these, those that it did not have before.
    fresh: BTreeSet<IpAddr>,
}

pub(super) struct Announcer {
    node: String,
    client: Client,
    ground: Arc<dyn Ground>,
    /// What each Service wants of this node.
    wanted: BTreeMap<Key, BTreeSet<IpAddr>>,
    /// What the batch under way, or else the last one, makes this node have.
    going: BTreeSet<IpAddr>,
    /// What came of it, until the segment is told.
    settled: Arc<Mutex<Option<Settled>>>,
    /// What the segment has been told of.
    told: BTreeSet<IpAddr>,
    listed: bool,
    keeping: Keeping,
}

impl Announcer {
    pub(super) fn new(node: String, client: Client, ground: Arc<dyn Ground>) -> Self {
        Announcer {
            node,
            client,
            ground,
            wanted: BTreeMap::new(),
            going: BTreeSet::new(),
            settled: Arc::default(),
            told: BTreeSet::new(),
            listed: false,
            keeping: Keeping::default(),
        }
    }

    fn put(&mut self, service: &Service) {
        let addresses = addresses(service, &self.node);
        if addresses.is_empty() {
            self.wanted.remove(&key(service));
        } else {
            self.wanted.insert(key(service), addresses);
        }
    }

    /// Announces what the machine has and the segment was not told of since.
    fn announce_new(&mut self, ctx: &mut Context<Self>) {
        let Some(Settled { held, fresh }) = self.settled.lock().take() else { return };
        let known: BTreeSet<IpAddr> = self.told.difference(&fresh).copied().collect();
        let new: Vec<IpAddr> = held.difference(&known).copied().collect();
        self.told = held;
        for address in new {
            self.announce(address, ANNOUNCEMENTS, ctx);
        }
    }

    fn announce(&mut self, address: IpAddr, times: u32, ctx: &mut Context<Self>) {
        if times == 0 || !self.going.contains(&address) {
            return;
        }
        let ground = self.ground.clone();
        let work = trace::step(
            "node/announce",
            "Announce",
            Some(address.to_string().into()),
            Result::is_err,
            async move { ground.announce(address).await },
        );
        ctx.run(work, move |_, told, ctx| {
            if let Err(why) = told {
                tracing::warn!(%address, why, "a balanced Service's address was not announced");
            }
            ctx.run_later(PAUSE, move |actor, ctx| actor.announce(address, times - 1, ctx));
        });
    }
}

/// Makes the machine have what is wanted and nothing else, whoever left it. One address that it cannot have is no
/// reason not to have the others.
async fn settle(
    ground: Arc<dyn Ground>,
    wanted: BTreeSet<IpAddr>,
    settled: Arc<Mutex<Option<Settled>>>,
) -> Result<(), String> {
    let taken = ground.taken().await?;
    let mut failures = Vec::new();
    for address in taken.difference(&wanted) {
        failures.extend(ground.give_up(*address).await.err());
    }
    let mut fresh = BTreeSet::new();
    for address in wanted.difference(&taken) {
        match ground.take(*address).await {
            Ok(()) => drop(fresh.insert(*address)),
            Err(why) => failures.push(why),
        }
    }
    let held = wanted.intersection(&taken).chain(&fresh).copied().collect();
    *settled.lock() = Some(Settled { held, fresh });
    if failures.is_empty() { Ok(()) } else { Err(failures.join("; ")) }
}

impl Keeper for Announcer {
    type Error = String;
    const WHAT: &'static str = "addresses of balanced Services";

    fn keeping(&mut self) -> &mut Keeping {
        &mut self.keeping
    }

    /// Half a list would give the other half's addresses up.
    fn complete(&self) -> bool {
        self.listed
    }

    fn batch(&mut self, everything: bool) -> Option<Batch<String>> {
        let wanted: BTreeSet<IpAddr> = self.wanted.values().flatten().copied().collect();
        if wanted == self.going && !everything {
            return None;
        }
        self.going = wanted.clone();
        Some(Box::pin(settle(self.ground.clone(), wanted, self.settled.clone())))
    }

    fn applied(&mut self, ctx: &mut Context<Self>) {
        self.announce_new(ctx);
    }

    fn refused(&mut self, ctx: &mut Context<Self>) {
        self.announce_new(ctx);
    }
}

impl Actor for Announcer {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Context<Self>) {
        let me = ctx.me();
        let balanced = Some("spec.type=LoadBalancer".to_owned());
        let following = follow(self.client.clone(), balanced, move |told| {
            let me = me.clone();
            async move { me.tell(Told(told)).await.is_ok() }
        });
        ctx.run(following, |_, (), _| {});
        let me = ctx.me();
        let kernel = hear(move |happened| {
            let me = me.clone();
            async move { me.tell(KernelTold(happened)).await.is_ok() }
        });
        ctx.run(kernel, |_, (), _| {});
    }
}

impl Handler<Told> for Announcer {
    type Result = ();
    fn handle(&mut self, Told(told): Told, ctx: &mut Context<Self>) {
        match told {
            Followed::Listed(services) => {
                self.wanted.clear();
                services.iter().for_each(|service| self.put(service));
                self.listed = true;
            }
            Followed::Changed(service) => self.put(&service),
            Followed::Gone(service) => drop(self.wanted.remove(&key(&service))),
        }
        self.schedule(BATCH, ctx);
    }
}

impl Handler<KernelTold> for Announcer {
    type Result = ();
    fn handle(&mut self, KernelTold(happened): KernelTold, ctx: &mut Context<Self>) {
        // An interface that goes down loses its addresses of IPv6, and has none of them when it is up again.
        let concerned = match happened {
            Happened::Link { up, .. } => up && self.going.iter().any(IpAddr::is_ipv6),
            Happened::Address(address) => self.going.contains(&address),
            Happened::RouteGone | Happened::LinkGone(_) => false,
        };
        if concerned {
            self.replace(ctx);
        }
    }
}

/// Starts announcing what the master gives to `node`, whose own address is `address`.
pub fn start(stage: &Stage, node: String, address: IpAddr, client: Client) {
    let ground: Arc<dyn Ground> = Arc::new(Machine { node: address });
    let props =
        Props::new("node/announce", move || Announcer::new(node.clone(), client.clone(), ground.clone()));
    let _: ActorRef<Announcer> = stage.spawn(props.capacity(256).restart(RestartPolicy::Permanent));
}

#[cfg(test)]
mod tests;
