//! The actor that keeps the kernel's rules as the cluster wants them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use actors::{
    Actor, ActorRef, AsyncContext, Context, Handler, Props, RestartPolicy, Stage, TraceContext, message,
    trace,
};
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use parking_lot::RwLock;
use protocol::Client;

use super::cache::Cache;
use super::conntrack;
use super::facts::NodeFacts;
use super::health::{Checks, HealthActor, Look};
use super::rules::{Rules, ServiceKey, TABLE, Transaction};
use crate::follow::{Followed, follow};
use crate::nft::{Nft, NftError};
use crate::services::Services;

/// Changes that come within this time of one another share a transaction.
const BATCH: Duration = Duration::from_millis(5);
/// First pause after a refused transaction.
const RETRY_MIN: Duration = Duration::from_millis(200);
/// Longest pause after a refused transaction.
const RETRY_MAX: Duration = Duration::from_secs(30);

/// How the proxy starts.
#[derive(Clone, Debug)]
pub struct ProxyConfig {
    /// What it knows of its node.
    pub facts: NodeFacts,
    /// Where its rules go.
    pub nft: Nft,
    /// Where the Services that it follows are shown to the rest of the node.
    pub services: Services,
}

/// Something about a Service.
struct ServiceTold(Followed<Service>);
message!(ServiceTold => (), |m| key_of("services", &m.0, |s| {
    Some((s.metadata.namespace.as_deref()?, s.metadata.name.as_deref()?))
}));

/// Something about an endpoint slice.
struct SliceTold(Followed<EndpointSlice>);
message!(SliceTold => (), |m| key_of("endpointslices", &m.0, |s| {
    Some((s.metadata.namespace.as_deref()?, s.metadata.name.as_deref()?))
}));

/// The node's facts changed.
struct SetFacts(NodeFacts);
message!(SetFacts => ());

/// How the proxy is doing.
struct Ask;
message!(Ask => ProxyState);

/// How the proxy is doing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProxyState {
    /// The kernel has what the watches have told.
    pub settled: bool,
    /// Services with rules.
    pub services: usize,
    /// Transactions that the kernel took.
    pub applied: u64,
    /// Why the last transaction was refused, if it was.
    pub error: Option<String>,
}

fn key_of<K>(
    plural: &str,
    told: &Followed<K>,
    name: impl Fn(&K) -> Option<(&str, &str)>,
) -> Option<Arc<str>> {
    match told {
        Followed::Changed(object) | Followed::Gone(object) => {
            name(object).map(|(namespace, name)| format!("{plural}/{namespace}/{name}").into())
        }
        Followed::Listed(_) => Some(plural.into()),
    }
}

struct ProxyActor {
    client: Client,
    config: ProxyConfig,
    cache: Cache,
    rules: Rules,
    services_complete: bool,
    slices_complete: bool,
    /// Who caused the changes that no transaction has taken yet.
    causes: BTreeMap<ServiceKey, TraceContext>,
    /// A transaction is running.
    busy: bool,
    /// A transaction is due shortly.
    scheduled: bool,
    /// The kernel's rules are not known: the next transaction replaces them all.
    replace: bool,
    retry: Duration,
    /// Who answers at health-check node ports, and by what.
    health: Option<ActorRef<HealthActor>>,
    checks: Arc<RwLock<Checks>>,
    state: ProxyState,
}

impl Actor for ProxyActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Context<Self>) {
        let checks = self.checks.clone();
        let health = Props::new("node/proxy/health", move || HealthActor::new(checks.clone()));
        self.health = Some(ctx.spawn_child(health.restart(RestartPolicy::Permanent)));
        let me = ctx.me();
        let services = follow(self.client.clone(), None, move |told| {
            let me = me.clone();
            async move { me.tell(ServiceTold(told)).await.is_ok() }
        });
        ctx.run(services, |_, (), _| {});
        let me = ctx.me();
        let slices = follow(self.client.clone(), None, move |told| {
            let me = me.clone();
            async move { me.tell(SliceTold(told)).await.is_ok() }
        });
        ctx.run(slices, |_, (), _| {});
    }
}

impl ProxyActor {
    fn new(client: Client, config: ProxyConfig) -> Self {
        ProxyActor {
            client,
            config,
            cache: Cache::default(),
            rules: Rules::default(),
            services_complete: false,
            slices_complete: false,
            causes: BTreeMap::new(),
            busy: false,
            scheduled: false,
            replace: true,
            retry: RETRY_MIN,
            health: None,
            checks: Arc::default(),
            state: ProxyState::default(),
        }
    }

    fn changed(&mut self, key: Option<ServiceKey>, ctx: &mut Context<Self>) {
        if let Some(key) = key {
            let cause = trace::current();
            if !cause.is_none() {
                self.causes.insert(key, cause);
            }
        }
        self.schedule(BATCH, ctx);
    }

    fn schedule(&mut self, after: Duration, ctx: &mut Context<Self>) {
        self.state.settled = false;
        // Half a list would take the other half's rules away.
        let complete = self.services_complete && self.slices_complete;
        if complete && !self.scheduled && !self.busy {
            self.scheduled = true;
            ctx.run_later(after, |actor, ctx| {
                actor.scheduled = false;
                actor.apply(ctx);
            });
        }
    }

    fn apply(&mut self, ctx: &mut Context<Self>) {
        if self.busy || !(self.services_complete && self.slices_complete) {
            return;
        }
        self.cache.compile_into(&mut self.rules, &self.config.facts);
        let transaction =
            if self.replace { self.rules.take_all(&self.config.facts) } else { self.rules.take_changes() };
        let causes = std::mem::take(&mut self.causes);
        self.state.services = self.rules.len();
        self.show_checks();
        if transaction.text.is_empty() {
            self.state.settled = true;
            return;
        }
        self.busy = true;
        let work = apply(self.config.nft.clone(), transaction, causes);
        ctx.run(work, |actor, result, ctx| {
            actor.busy = false;
            match result {
                Ok(()) => {
                    actor.replace = false;
                    actor.retry = RETRY_MIN;
                    actor.state.applied += 1;
                    actor.state.error = None;
                    // More may have come meanwhile; with nothing to do this only settles.
                    actor.apply(ctx);
                }
                Err(error) => {
                    tracing::error!(%error, "service rules were not applied; all of them will be replaced");
                    actor.state.error = Some(error.to_string());
                    actor.replace = true;
                    let pause = actor.retry;
                    actor.retry = (pause * 2).min(RETRY_MAX);
                    actor.schedule(pause, ctx);
                }
            }
        });
    }

    /// Tells what is asked at health-check node ports.
    fn show_checks(&self) {
        let checks = self.rules.checks();
        if *checks != *self.checks.read() {
            *self.checks.write() = checks.clone();
            if let Some(health) = &self.health {
                // Of messages that wait, one is as good as many.
                let _ = health.try_tell(Look);
            }
        }
    }
}

/// Runs one transaction and records it under each service that it changes.
async fn apply(
    nft: Nft,
    transaction: Transaction,
    mut causes: BTreeMap<ServiceKey, TraceContext>,
) -> Result<(), NftError> {
    let traced: Vec<(ServiceKey, TraceContext)> =
        transaction.keys.iter().filter_map(|k| Some((k.clone(), causes.remove(k)?))).collect();
    let key = |service: &ServiceKey| Some(Arc::<str>::from(format!("services/{service}")));
    let work = nft.apply(&transaction.text);
    match traced.split_first() {
        Some(((first, cause), rest)) => {
            let place = "node/proxy";
            trace::step_caused_by(*cause, place, "ApplyRules", key(first), Result::is_err, work).await?;
            for (service, cause) in rest {
                trace::note(*cause, place, "ApplyRules", key(service));
            }
        }
        None => work.await?,
    }
    conntrack::forget(&nft, transaction.flows).await;
    Ok(())
}

impl Handler<ServiceTold> for ProxyActor {
    type Result = ();
    fn handle(&mut self, ServiceTold(told): ServiceTold, ctx: &mut Context<Self>) {
        let shown = &self.config.services;
        let key = match told {
            Followed::Listed(services) => {
                let services: Vec<_> = services.into_iter().map(Arc::new).collect();
                shown.replace(services.iter().cloned());
                self.cache.clear_services();
                for service in services {
                    self.cache.service(service, false);
                }
                self.services_complete = true;
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
        };
        self.changed(key, ctx);
    }
}

impl Handler<SliceTold> for ProxyActor {
    type Result = ();
    fn handle(&mut self, SliceTold(told): SliceTold, ctx: &mut Context<Self>) {
        let key = match told {
            Followed::Listed(slices) => {
                self.cache.clear_slices();
                for slice in slices {
                    self.cache.slice(slice, false);
                }
                self.slices_complete = true;
                None
            }
            Followed::Changed(slice) => self.cache.slice(*slice, false),
            Followed::Gone(slice) => self.cache.slice(*slice, true),
        };
        self.changed(key, ctx);
    }
}

impl Handler<SetFacts> for ProxyActor {
    type Result = ();
    fn handle(&mut self, SetFacts(facts): SetFacts, ctx: &mut Context<Self>) {
        if facts != self.config.facts {
            self.config.facts = facts;
            self.cache.all_dirty();
            self.replace = true;
            self.schedule(BATCH, ctx);
        }
    }
}

impl Handler<Ask> for ProxyActor {
    type Result = actors::MessageResult<Ask>;
    fn handle(&mut self, _: Ask, _: &mut Context<Self>) -> Self::Result {
        actors::MessageResult(self.state.clone())
    }
}

/// Holds the running proxy.
#[derive(Clone)]
pub struct ProxyHandle {
    actor: ActorRef<ProxyActor>,
    nft: Nft,
}

/// Removes what a proxy left in this network namespace, running or not: for `down` after a crash.
pub async fn clean_up() -> Result<(), NftError> {
    Nft::new().remove_table(TABLE).await
}

/// Starts the proxy, under a supervisor of its own.
pub fn start(stage: &Stage, config: ProxyConfig, client: Client) -> ProxyHandle {
    let nft = config.nft.clone();
    let props = Props::new("node/proxy", move || ProxyActor::new(client.clone(), config.clone()));
    let actor = stage.spawn(props.capacity(1024).restart(RestartPolicy::Permanent));
    ProxyHandle { actor, nft }
}

impl ProxyHandle {
    /// Tells the proxy that its node's facts changed. They last until the actor is rebuilt from its
    /// configuration, so the caller repeats them when it learns of a restart.
    pub async fn set_facts(&self, facts: NodeFacts) -> bool {
        self.actor.tell(SetFacts(facts)).await.is_ok()
    }

    /// How it is doing; `None` when it doesn't answer.
    pub async fn state(&self) -> Option<ProxyState> {
        self.actor.ask(Ask, Duration::from_secs(5)).await.ok()
    }

    /// Stops and removes every rule.
    pub async fn stop(&self) -> Result<(), NftError> {
        self.actor.stop();
        self.nft.remove_table(TABLE).await
    }
}
