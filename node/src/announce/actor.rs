//! The actor that takes and announces what the master gave to this node.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use actors::{Actor, ActorRef, AsyncContext, Context, Handler, Props, RestartPolicy, Stage, message, trace};
use async_trait::async_trait;
use k8s_openapi::api::core::v1::Service;
use protocol::Client;
use protocol::balancing::ANNOUNCED_BY;

use super::arp;
use crate::follow::{Followed, follow};
use crate::keeping::{BATCH, Batch, Keeper, Keeping};
use crate::network::loopback::{self, Label};

/// An address that was taken is announced so often, since nobody confirms it, …
const ANNOUNCEMENTS: u32 = 4;
/// … with this time between.
const PAUSE: Duration = Duration::from_secs(1);

/// What the actor does to the machine.
#[async_trait]
pub(super) trait Ground: Send + Sync {
    /// The addresses that it has taken, this process or an earlier one.
    async fn taken(&self) -> Result<BTreeSet<Ipv4Addr>, String>;
    /// Takes an address.
    async fn take(&self, address: Ipv4Addr) -> Result<(), String>;
    /// Gives an address up.
    async fn give_up(&self, address: Ipv4Addr) -> Result<(), String>;
    /// Tells the segment once.
    async fn announce(&self, address: Ipv4Addr) -> Result<(), String>;
}

/// The machine itself.
struct Machine {
    node: IpAddr,
}

#[async_trait]
impl Ground for Machine {
    async fn taken(&self) -> Result<BTreeSet<Ipv4Addr>, String> {
        let taken = loopback::labelled(Label::BALANCED).await.map_err(|e| e.to_string())?;
        Ok(taken.into_iter().collect())
    }

    async fn take(&self, address: Ipv4Addr) -> Result<(), String> {
        loopback::ensure(address.into(), Label::BALANCED).await.map_err(|e| e.to_string())
    }

    async fn give_up(&self, address: Ipv4Addr) -> Result<(), String> {
        loopback::remove(address.into(), Label::BALANCED).await.map_err(|e| e.to_string())
    }

    async fn announce(&self, address: Ipv4Addr) -> Result<(), String> {
        let node = self.node;
        let told = tokio::task::spawn_blocking(move || arp::announce(address, node)).await;
        told.map_err(|e| e.to_string())?.map_err(|e| e.to_string())
    }
}

/// Something about a Service of type LoadBalancer.
struct Told(Followed<Service>);
message!(Told => (), |m| Some(m.0.key()));

/// Namespace and name.
type Key = (String, String);

fn key(service: &Service) -> Key {
    let meta = &service.metadata;
    (meta.namespace.clone().unwrap_or_default(), meta.name.clone().unwrap_or_default())
}

/// The addresses of a Service that a node is to announce.
fn addresses(service: &Service, node: &str) -> BTreeSet<Ipv4Addr> {
    let said = service.metadata.annotations.as_ref().and_then(|a| a.get(ANNOUNCED_BY));
    let spec = service.spec.as_ref();
    if said.is_none_or(|said| said != node) || spec.and_then(|s| s.type_.as_deref()) != Some("LoadBalancer") {
        return BTreeSet::new();
    }
    let balancer = service.status.as_ref().and_then(|s| s.load_balancer.as_ref());
    let ingress = balancer.and_then(|b| b.ingress.as_ref()).into_iter().flatten();
    ingress.filter_map(|i| i.ip.as_deref()?.parse().ok()).collect()
}

pub(super) struct Announcer {
    node: String,
    client: Client,
    ground: Arc<dyn Ground>,
    /// What each Service wants of this node.
    wanted: BTreeMap<Key, BTreeSet<Ipv4Addr>>,
    /// What the batch under way, or else the last one, makes this node have.
    going: BTreeSet<Ipv4Addr>,
    /// What the segment has been told of.
    told: BTreeSet<Ipv4Addr>,
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

    fn announce(&mut self, address: Ipv4Addr, times: u32, ctx: &mut Context<Self>) {
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

/// Makes the machine have what is wanted and nothing else, whoever left it.
async fn settle(ground: Arc<dyn Ground>, wanted: BTreeSet<Ipv4Addr>) -> Result<(), String> {
    let taken = ground.taken().await?;
    for address in taken.difference(&wanted) {
        ground.give_up(*address).await?;
    }
    for address in wanted.difference(&taken) {
        ground.take(*address).await?;
    }
    Ok(())
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
        let wanted: BTreeSet<Ipv4Addr> = self.wanted.values().flatten().copied().collect();
        if wanted == self.going && !everything {
            return None;
        }
        self.going = wanted.clone();
        Some(Box::pin(settle(self.ground.clone(), wanted)))
    }

    /// Announces what is new.
    fn applied(&mut self, ctx: &mut Context<Self>) {
        let new: Vec<Ipv4Addr> = self.going.difference(&self.told).copied().collect();
        self.told = self.going.clone();
        for address in new {
            self.announce(address, ANNOUNCEMENTS, ctx);
        }
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

/// Starts announcing what the master gives to `node`, whose own address is `address`.
pub fn start(stage: &Stage, node: String, address: IpAddr, client: Client) {
    let ground: Arc<dyn Ground> = Arc::new(Machine { node: address });
    let props =
        Props::new("node/announce", move || Announcer::new(node.clone(), client.clone(), ground.clone()));
    let _: ActorRef<Announcer> = stage.spawn(props.capacity(256).restart(RestartPolicy::Permanent));
}

#[cfg(test)]
mod tests;
