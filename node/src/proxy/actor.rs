//! The actor that follows Services, endpoint slices and its own Node, plans, and has its mode carry the plans out.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use actors::{
    Actor, ActorRef, Context, Handler, Props, Recipient, RestartPolicy, TraceContext, message, trace,
};
use k8s_openapi::api::core::v1::{Node, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use parking_lot::RwLock;
use protocol::labels::ZONE;
use protocol::{Client, Object};

use super::ServiceKey;
use super::cache::Cache;
use super::facts::NodeFacts;
use super::handle::{ProxyConfig, ProxyState};
use super::health::{Checks, HealthActor, Look, Ports};
use super::mode::{self, Again, Carry, CarryError};
use crate::follow::{Followed, follow};
use crate::keeping::{BATCH, Batch, Keeper, Keeping};

/// A mode that takes longer over a batch hangs; the largest clusters' first ones take seconds, and `nft` itself is
/// ended before.
const CARRY_PATIENCE: Duration = Duration::from_secs(180);

/// Something about a Service, a slice, or the proxy's own Node.
enum Told {
    Service(Followed<Service>),
    Slice(Followed<EndpointSlice>),
    Node(Followed<Node>),
}
message!(Told => (), |m| Some(match m {
    Told::Service(told) => told.key(),
    Told::Slice(told) => told.key(),
    Told::Node(told) => told.key(),
}));

/// How the proxy is doing.
pub(super) struct Ask;
message!(Ask => ProxyState);

/// What was listed.
#[derive(Clone, Copy, Debug, Default)]
struct Listed {
    services: bool,
    slices: bool,
    node: bool,
}

pub(super) struct ProxyActor {
    client: Client,
    config: ProxyConfig,
    facts: Arc<NodeFacts>,
    cache: Cache,
    listed: Listed,
    /// Who caused the changes that no batch has taken yet.
    causes: BTreeMap<ServiceKey, TraceContext>,
    /// Who carries plans out.
    mode: Option<Recipient<Carry>>,
    keeping: Keeping,
    /// Who answers at health-check node ports, and by what.
    health: Option<ActorRef<HealthActor>>,
    ports: Ports,
    checks: Arc<RwLock<Checks>>,
}

impl Actor for ProxyActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Context<Self>) {
        let checks = self.checks.clone();
        let health = Props::new("node/proxy/health", move || HealthActor::new(checks.clone()));
        self.health = Some(ctx.spawn_child(health.restart(RestartPolicy::Permanent)));
        let again = ctx.me().recipient();
        self.mode = Some(mode::start(&self.config, &again, ctx));
        self.follow(None, Told::Service, ctx);
        self.follow(None, Told::Slice, ctx);
        self.follow(Some(format!("metadata.name={}", self.config.facts.name)), Told::Node, ctx);
    }
}

impl ProxyActor {
    pub(super) fn new(client: Client, config: ProxyConfig) -> Self {
        ProxyActor {
            client,
            facts: Arc::new(config.facts.clone()),
            config,
            cache: Cache::default(),
            listed: Listed::default(),
            causes: BTreeMap::new(),
            mode: None,
            keeping: Keeping::default(),
            health: None,
            ports: Ports::default(),
            checks: Arc::default(),
        }
    }

    fn follow<K: Object>(
        &self,
        fields: Option<String>,
        tell: fn(Followed<K>) -> Told,
        ctx: &mut Context<Self>,
    ) {
        let me = ctx.me();
        let following = follow(self.client.clone(), fields, move |told| {
            let me = me.clone();
            async move { me.tell(tell(told)).await.is_ok() }
        });
        ctx.run(following, |_, (), _| {});
    }

    fn service(&mut self, told: Followed<Service>) -> Option<ServiceKey> {
        let shown = &self.config.services;
        match told {
            Followed::Listed(services) => {
                let services: Vec<_> = services.into_iter().map(Arc::new).collect();
                shown.replace(services.iter().cloned());
                self.cache.clear_services();
                for service in services {
                    self.cache.service(service, false);
                }
                self.listed.services = true;
                None
            }
            Followed::Changed(service) => {
                let service = Arc::new(*service);
                shown.put(service.clone());
                Some(self.cache.service(service, false))
            }
            Followed::Gone(service) => {
                shown.remove(&service);
                Some(self.cache.service(Arc::new(*service), true))
            }
        }
    }

    fn slice(&mut self, told: Followed<EndpointSlice>) -> Option<ServiceKey> {
        match told {
            Followed::Listed(slices) => {
                self.cache.clear_slices();
                for slice in slices {
                    self.cache.slice(slice, false);
                }
                self.listed.slices = true;
                None
            }
            Followed::Changed(slice) => self.cache.slice(*slice, false),
            Followed::Gone(slice) => self.cache.slice(*slice, true),
        }
    }

    fn node(&mut self, told: Followed<Node>) {
        let name = self.facts.name.clone();
        let ours = |node: &Node| node.metadata.name.as_deref() == Some(&name);
        let node = match told {
            Followed::Listed(nodes) => {
                self.listed.node = true;
                nodes.into_iter().find(ours)
            }
            Followed::Changed(node) if ours(&node) => Some(*node),
            // A Node that is deleted while its kubelet runs comes back, with the same zone.
            Followed::Changed(_) | Followed::Gone(_) => return,
        };
        let zone = node.and_then(|node| node.metadata.labels?.remove(ZONE));
        if zone != self.facts.zone {
            self.facts = Arc::new(NodeFacts { zone, ..(*self.facts).clone() });
            self.cache.all_dirty();
        }
    }

    /// Tells what is asked at health-check node ports.
    fn show_checks(&self) {
        let checks = self.ports.checks();
        if *checks != *self.checks.read() {
            *self.checks.write() = checks.clone();
            if let Some(health) = &self.health {
                // Of messages that wait, one is as good as many.
                let _ = health.try_tell(Look);
            }
        }
    }
}

impl Keeper for ProxyActor {
    type Error = CarryError;
    const WHAT: &'static str = "service rules";

    fn keeping(&mut self) -> &mut Keeping {
        &mut self.keeping
    }

    fn complete(&self) -> bool {
        self.listed.services && self.listed.slices && self.listed.node
    }

    fn batch(&mut self, everything: bool) -> Option<Batch<CarryError>> {
        if everything {
            self.cache.all_dirty();
        }
        let plans = self.cache.plans(&self.facts);
        let causes = std::mem::take(&mut self.causes);
        for (key, plan) in &plans {
            self.ports.set(key, plan);
        }
        self.show_checks();
        if plans.is_empty() && !everything {
            return None;
        }
        let carry = Carry { facts: self.facts.clone(), all: everything, plans, causes };
        let mode = self.mode.clone()?;
        Some(Box::pin(async move { mode.ask(carry, CARRY_PATIENCE).await? }))
    }
}

impl Handler<Told> for ProxyActor {
    type Result = ();
    fn handle(&mut self, told: Told, ctx: &mut Context<Self>) {
        let key = match told {
            Told::Service(told) => self.service(told),
            Told::Slice(told) => self.slice(told),
            Told::Node(told) => {
                self.node(told);
                None
            }
        };
        let cause = trace::current();
        if let Some(key) = key
            && !cause.is_none()
        {
            self.causes.insert(key, cause);
        }
        self.schedule(BATCH, ctx);
    }
}

impl Handler<Again> for ProxyActor {
    type Result = ();
    fn handle(&mut self, _: Again, ctx: &mut Context<Self>) {
        self.replace(ctx);
    }
}

impl Handler<Ask> for ProxyActor {
    type Result = actors::MessageResult<Ask>;
    fn handle(&mut self, _: Ask, _: &mut Context<Self>) -> Self::Result {
        let Keeping { settled, applied, error, .. } = &self.keeping;
        let services = self.ports.services();
        let state = ProxyState { settled: *settled, services, applied: *applied, error: error.clone() };
        actors::MessageResult(state)
    }
}
