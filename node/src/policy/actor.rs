//! The actor that keeps the kernel's policy table as the cluster wants it.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use actors::{Actor, ActorRef, Context, Handler, TraceContext, message, trace};
use k8s_openapi::api::core::v1::{Namespace, Pod};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use protocol::{Client, Object};
use tokio::sync::oneshot;

use super::handle::{PolicyConfig, PolicyState};
use super::objects::{Key, Labels, PodFacts, key};
use super::rules::Policy;
use super::world::World;
use crate::follow::{Followed, follow};
use crate::keeping::{BATCH, Batch, Keeper, Keeping, applied_under};
use crate::nft::{self, RulesError};

/// Causes that are remembered until a transaction takes the changes; of more, only the effect is seen.
const CAUSES_MAX: usize = 1024;
/// Pods that wait at a time until they are isolated; more are told to come again.
const WAITING_MAX: usize = 256;

/// What is said of one object: its key, and how it is now, if it still is.
type Said<T> = (Key, Option<T>);

/// Something about pods, namespaces or policies.
enum Told {
    Pods(Vec<Said<PodFacts>>),
    Pod(Said<PodFacts>),
    Namespaces(Vec<Said<Labels>>),
    Namespace(Said<Labels>),
    Policies(Vec<Said<Policy>>),
    Policy(Said<Policy>),
}
message!(Told => (), |m| Some(match m {
    Told::Pods(_) => "pods".into(),
    Told::Pod((key, _)) => format!("pods/{key}").into(),
    Told::Namespaces(_) => "namespaces".into(),
    Told::Namespace((key, _)) => format!("namespaces/{key}").into(),
    Told::Policies(_) => "networkpolicies".into(),
    Told::Policy((key, _)) => format!("networkpolicies/{key}").into(),
}));

/// A sandbox of a pod was plugged in here.
pub(super) struct Plugged {
    pub(super) pod: Key,
    pub(super) uid: String,
    pub(super) sandbox: String,
    pub(super) addresses: Vec<IpAddr>,
    /// Told once the pod is isolated as its policies say.
    pub(super) isolated: oneshot::Sender<()>,
}
message!(Plugged => (), |m| Some(format!("pods/{}", m.pod).into()));

/// A sandbox of a pod was unplugged.
pub(super) struct Unplugged {
    pub(super) pod: Key,
    pub(super) sandbox: String,
}
message!(Unplugged => (), |m| Some(format!("pods/{}", m.pod).into()));

/// How it is doing.
pub(super) struct Ask;
message!(Ask => PolicyState);

/// Pods, namespaces, policies: which were listed.
#[derive(Clone, Copy, Debug, Default)]
struct Listed {
    pods: bool,
    namespaces: bool,
    policies: bool,
}

/// A pod that waits until it is isolated.
struct Waiting {
    pod: Key,
    uid: String,
    isolated: oneshot::Sender<()>,
}

impl Waiting {
    /// Lets it go on. Who asked may have given up.
    fn end(self) {
        let _ = self.isolated.send(());
    }
}

pub(super) struct PolicyActor {
    client: Client,
    config: PolicyConfig,
    world: World,
    listed: Listed,
    /// Who caused the changes that no transaction has taken yet.
    causes: BTreeMap<Key, TraceContext>,
    waiting: Vec<Waiting>,
    /// Those of them that the transaction is about that is on its way.
    covered: Vec<Waiting>,
    keeping: Keeping,
    state: PolicyState,
}

impl PolicyActor {
    pub(super) fn new(client: Client, config: PolicyConfig) -> Self {
        PolicyActor {
            client,
            world: World::new(config.cluster_dns, config.families),
            config,
            listed: Listed::default(),
            causes: BTreeMap::new(),
            waiting: Vec::new(),
            covered: Vec::new(),
            keeping: Keeping::default(),
            state: PolicyState::default(),
        }
    }

    fn follow<K: Object, T: 'static>(
        &self,
        ctx: &mut Context<Self>,
        read: impl Fn(&K) -> Option<T> + 'static,
        all: fn(Vec<Said<T>>) -> Told,
        one: fn(Said<T>) -> Told,
    ) {
        let me = ctx.me();
        let following = follow::<K, _>(self.client.clone(), None, move |told| {
            let message = match told {
                Followed::Listed(objects) => {
                    all(objects.iter().map(|object| (key_of(object), read(object))).collect())
                }
                Followed::Changed(object) => one((key_of(&*object), read(&object))),
                Followed::Gone(object) => one((key_of(&*object), None)),
            };
            tell(me.clone(), message)
        });
        ctx.run(following, |_, (), _| {});
    }

    fn changed(&mut self, key: Key, ctx: &mut Context<Self>) {
        let cause = trace::current();
        if !cause.is_none() && (self.causes.len() < CAUSES_MAX || self.causes.contains_key(&key)) {
            self.causes.insert(key, cause);
        }
        self.schedule(BATCH, ctx);
    }

    /// Takes out the waiting pods that what is known now is about; the others wait until the API tells of them.
    fn take_known(&mut self) -> Vec<Waiting> {
        self.waiting.retain(|waiting| !waiting.isolated.is_closed());
        let (known, unknown) = std::mem::take(&mut self.waiting).into_iter().partition(|waiting| {
            let facts = self.world.pod(&waiting.pod);
            facts.is_some_and(|facts| facts.uid == waiting.uid || facts.mirror)
        });
        self.waiting = unknown;
        known
    }
}

async fn tell(me: ActorRef<PolicyActor>, message: Told) -> bool {
    me.tell(message).await.is_ok()
}

fn key_of<K: Object>(object: &K) -> Key {
    let meta = object.metadata();
    let name = meta.name.as_deref().unwrap_or_default();
    match meta.namespace.as_deref() {
        Some(namespace) => key(namespace, name),
        None => name.into(),
    }
}

impl Keeper for PolicyActor {
    type Error = RulesError;
    const WHAT: &'static str = "network policies";

    fn keeping(&mut self) -> &mut Keeping {
        &mut self.keeping
    }

    /// Half of what there is would let through what the other half forbids.
    fn complete(&self) -> bool {
        self.listed.pods && self.listed.namespaces && self.listed.policies
    }

    fn batch(&mut self, everything: bool) -> Option<Batch<RulesError>> {
        let touched = self.world.settle();
        let text = match everything {
            true => self.world.table.take_all(&self.config.bridge),
            false => self.world.table.take_changes(),
        };
        let causes = std::mem::take(&mut self.causes);
        (self.state.policies, self.state.isolated) = self.world.active();
        self.state.complete = true;
        self.covered = self.take_known();
        if text.is_empty() {
            return None;
        }
        let causes = causes.into_iter().filter(|(key, _)| touched.contains(key)).collect();
        Some(Box::pin(async move {
            applied_under("node/policy", "ApplyPolicies", causes, nft::apply(&text)).await
        }))
    }

    fn applied(&mut self, _: &mut Context<Self>) {
        std::mem::take(&mut self.covered).into_iter().for_each(Waiting::end);
    }

    fn refused(&mut self, _: &mut Context<Self>) {
        self.waiting.append(&mut self.covered);
    }
}

/// A policy, understood. One that is not isolates nobody.
fn read_policy(policy: &NetworkPolicy) -> Option<Policy> {
    let read = Policy::of(policy);
    read.map_err(|why| tracing::error!(policy = %key_of(policy), %why, "the policy is not understood")).ok()
}

impl Actor for PolicyActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Context<Self>) {
        let node = self.config.node.clone();
        self.follow::<Pod, _>(ctx, move |pod| Some(PodFacts::of(pod, &node)), Told::Pods, Told::Pod);
        let labels = |namespace: &Namespace| Some(namespace.metadata.labels.clone().unwrap_or_default());
        self.follow::<Namespace, _>(ctx, labels, Told::Namespaces, Told::Namespace);
        self.follow::<NetworkPolicy, _>(ctx, read_policy, Told::Policies, Told::Policy);
    }
}

fn there<T>(said: Vec<Said<T>>) -> impl Iterator<Item = (Key, T)> {
    said.into_iter().filter_map(|(key, object)| Some((key, object?)))
}

impl Handler<Told> for PolicyActor {
    type Result = ();
    fn handle(&mut self, told: Told, ctx: &mut Context<Self>) {
        let key = match told {
            Told::Pods(all) => {
                self.world.replace_pods(there(all).collect());
                self.listed.pods = true;
                None
            }
            Told::Namespaces(all) => {
                self.world.replace_namespaces(there(all).map(|(name, l)| (name.to_string(), l)).collect());
                self.listed.namespaces = true;
                None
            }
            Told::Policies(all) => {
                self.world.replace_policies(there(all).collect());
                self.listed.policies = true;
                None
            }
            Told::Pod((key, facts)) => {
                self.world.set_pod(&key, facts);
                Some(key)
            }
            Told::Namespace((name, labels)) => {
                self.world.set_namespace(&name, labels);
                Some(name)
            }
            Told::Policy((key, policy)) => {
                self.world.set_policy(&key, policy);
                Some(key)
            }
        };
        match key {
            Some(key) => self.changed(key, ctx),
            None => self.schedule(BATCH, ctx),
        }
    }
}

impl Handler<Plugged> for PolicyActor {
    type Result = ();
    fn handle(&mut self, plugged: Plugged, ctx: &mut Context<Self>) {
        let Plugged { pod, uid, sandbox, addresses, isolated } = plugged;
        self.world.plug(&pod, &sandbox, Some(addresses));
        self.waiting.retain(|waiting| !waiting.isolated.is_closed());
        if self.waiting.len() < WAITING_MAX {
            self.waiting.push(Waiting { pod: pod.clone(), uid, isolated });
        }
        self.schedule(Duration::ZERO, ctx);
    }
}

impl Handler<Unplugged> for PolicyActor {
    type Result = ();
    fn handle(&mut self, Unplugged { pod, sandbox }: Unplugged, ctx: &mut Context<Self>) {
        self.world.plug(&pod, &sandbox, None);
        self.schedule(BATCH, ctx);
    }
}

impl Handler<Ask> for PolicyActor {
    type Result = actors::MessageResult<Ask>;
    fn handle(&mut self, _: Ask, _: &mut Context<Self>) -> Self::Result {
        let Keeping { settled, applied, error, .. } = &self.keeping;
        actors::MessageResult(PolicyState {
            settled: *settled,
            applied: *applied,
            error: error.clone(),
            ..self.state.clone()
        })
    }
}
