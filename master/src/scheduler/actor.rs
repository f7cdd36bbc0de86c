//! The scheduler's actor: learns of changes, tries pods one after the other, acts on the decisions.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use actors::time::Instant;
use actors::trace::TraceContext;
use actors::{
    Actor, ActorRef, AsyncContext, Context, Handler, MessageResult, Props, Rejected, SpawnHandle, message,
};
use k8s_openapi::api::core::v1::{Namespace, Node, Pod};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use protocol::{Api, Client, PatchKind};
use serde_json::{Value, json};

use super::binder::{Bind, Binder};
use super::cycle::{self, Decision, Refusal};
use super::facts::Facts;
use super::followed;
use super::plugins::ClusterChange;
use super::pod::PodFacts;
use super::preemption::{self, Outcome};
use super::queue::{Place, Queue};
use super::{Config, DEFAULT_NAME};
use crate::cache::Cache;
use crate::controllers::machinery::dispatch::{Changed, Dispatch, Unfollowed};
use crate::controllers::machinery::meta::{self, Key, time};
use crate::controllers::machinery::pods::{condition, disruption, is_finished, node_name};
use protocol::events::Recorder;

/// How long a binding may take.
const BIND_MAX: Duration = Duration::from_secs(100);
/// Verdicts that are kept.
const VERDICTS_MAX: usize = 20_000;

/// Try a pod.
pub struct Try {
    uid: Arc<str>,
    key: Key,
    causes: Vec<TraceContext>,
}
impl actors::actix::Message for Try {
    type Result = ();
}
impl actors::Message for Try {
    fn key(&self) -> Option<Arc<str>> {
        Some(format!("pods/{}", self.key).into())
    }
    fn causes(&self) -> Vec<TraceContext> {
        self.causes.clone()
    }
}

/// Asks why a pod is where it is, or nowhere yet.
pub struct Why {
    /// The pod's namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
}
message!(Why => Option<Verdict>, |m| Some(format!("pods/{}/{}", m.namespace, m.name).into()));

/// The last word on a pod.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Verdict {
    /// The pod's uid.
    pub uid: String,
    /// When, in seconds since the epoch.
    pub second: i64,
    /// The chosen node, where there was one.
    pub node: Option<String>,
    /// What people are told.
    pub text: String,
    /// By node: the plugin that refused, and its reasons.
    pub refusals: BTreeMap<String, (String, Vec<String>)>,
    /// Failed attempts so far.
    pub attempts: u32,
}

/// See the module.
pub struct Scheduler {
    cache: Cache,
    dispatch: Dispatch,
    client: Client,
    api: Arc<dyn Api>,
    events: Recorder,
    config: Config,
    facts: Facts,
    queue: Queue,
    /// Uids by namespace and name, for deletions, which the cache answers by absence.
    uids: HashMap<Key, Arc<str>>,
    /// Pods that were given a node, until the cache shows it.
    assumed: HashMap<Arc<str>, Arc<str>>,
    /// Pods for which others were evicted, and the nodes that wait for them.
    nominated: HashMap<Arc<str>, (Arc<str>, Arc<PodFacts>)>,
    verdicts: HashMap<Key, Verdict>,
    binders: Vec<ActorRef<Binder>>,
    turn: u64,
    trying: bool,
    timer: Option<(Instant, SpawnHandle)>,
}

impl Scheduler {
    /// With nothing known yet.
    pub fn new(
        cache: Cache,
        dispatch: Dispatch,
        api: Arc<dyn Api>,
        events: Recorder,
        config: Config,
    ) -> Self {
        Scheduler {
            cache,
            dispatch,
            client: Client::new(api.clone(), super::AGENT),
            api,
            events,
            config,
            facts: Facts::default(),
            queue: Queue::default(),
            uids: HashMap::new(),
            assumed: HashMap::new(),
            nominated: HashMap::new(),
            verdicts: HashMap::new(),
            binders: Vec::new(),
            turn: 0,
            trying: false,
            timer: None,
        }
    }

    fn changed(&mut self, change: &ClusterChange) {
        self.queue.changed(change, &self.facts, actors::trace::current(), Instant::now());
    }

    fn node_changed(&mut self, name: &str) {
        let Some(node) = self.cache.get::<Node>("", name) else {
            if self.facts.remove_node(name) {
                self.changed(&ClusterChange::NodeRemoved);
            }
            return;
        };
        let first = self.facts.is_empty();
        let former = self.facts.set_node(node.clone());
        let Some(slot) = self.facts.slot(name) else { return };
        let Some(former) = former else {
            self.changed(&ClusterChange::NodeAdded(slot));
            if first {
                // Those that waited for any node at all were refused by no plugin.
                self.queue.retry_all(actors::trace::current(), Instant::now());
            }
            return;
        };
        let spec = |n: &Node| n.spec.clone().unwrap_or_default();
        if former.metadata.labels != node.metadata.labels {
            self.changed(&ClusterChange::NodeLabels(slot));
        }
        if spec(&former).taints != spec(&node).taints
            || spec(&former).unschedulable != spec(&node).unschedulable
        {
            self.changed(&ClusterChange::NodeTaints(slot));
        }
        let allocatable = |n: &Node| n.status.as_ref().and_then(|s| s.allocatable.clone());
        if allocatable(&former) != allocatable(&node) {
            self.changed(&ClusterChange::NodeAllocatable(slot));
        }
    }

    fn namespace_changed(&mut self, name: &str) {
        let namespace = self.cache.get::<Namespace>("", name);
        let labels = namespace.map(|n| n.metadata.labels.clone().unwrap_or_default());
        if self.facts.namespace_labels(name) != labels.as_ref() {
            self.facts.set_namespace(name, labels);
            self.changed(&ClusterChange::Namespace);
        }
    }

    fn pod_changed(&mut self, key: Key) {
        let pod = self.cache.get::<Pod>(&key.namespace, &key.name).filter(|p| !is_finished(p));
        let uid: Option<Arc<str>> = pod.as_ref().map(|p| meta::uid(&p.metadata).into());
        if let Some(former) = self.uids.get(&key).cloned().filter(|f| Some(f) != uid.as_ref()) {
            self.forget(&former);
            self.uids.remove(&key);
            self.verdicts.remove(&key);
        }
        let (Some(pod), Some(uid)) = (pod, uid) else { return };
        self.uids.insert(key, uid.clone());
        if node_name(&pod).is_empty() {
            let spec = pod.spec.as_ref();
            let asked = spec.and_then(|s| s.scheduler_name.as_deref()).filter(|n| !n.is_empty());
            if asked.unwrap_or(DEFAULT_NAME) != self.config.name || self.assumed.contains_key(&uid) {
                return;
            }
            if meta::is_deleting(&pod.metadata) {
                self.queue.remove(&uid);
                self.nominated.remove(&uid);
                return;
            }
            let gated = spec.and_then(|s| s.scheduling_gates.as_ref()).is_some_and(|g| !g.is_empty());
            let facts = Arc::new(PodFacts::of(pod));
            self.queue.set(facts, gated, actors::trace::current(), Instant::now());
        } else {
            let node = node_name(&pod).to_owned();
            self.queue.remove(&uid);
            self.assumed.remove(&uid);
            self.nominated.remove(&uid);
            let facts = Arc::new(PodFacts::of(pod));
            let former = self.facts.set_pod(&node, facts.clone());
            let same = former.is_some_and(|f| {
                f.pod.metadata.labels == facts.pod.metadata.labels
                    && f.deleting == facts.deleting
                    && f.requests == facts.requests
            });
            if !same {
                self.changed(&ClusterChange::PodPlaced(facts));
            }
        }
    }

    fn forget(&mut self, uid: &str) {
        self.queue.remove(uid);
        self.assumed.remove(uid);
        self.nominated.remove(uid);
        if let Some(gone) = self.facts.remove_pod(uid) {
            self.changed(&ClusterChange::PodGone(gone));
        }
    }

    /// Tries the next pod, or sets the alarm for when there is one.
    fn go_on(&mut self, ctx: &mut Context<Self>) {
        let now = Instant::now();
        if self.trying || !self.queue.is_ready(now) {
            self.set_timer(ctx);
            return;
        }
        let Some(next) = self.queue.pop(now) else { return };
        let uid = next.pod.uid.clone();
        let message =
            Try { uid: uid.clone(), key: Key::new(&next.pod.namespace, &next.pod.name), causes: next.causes };
        self.trying = true;
        match ctx.me().try_tell(message) {
            Ok(()) => {}
            Err(Rejected::Full(message)) => {
                let me = ctx.me();
                let wait = async move { me.tell(message).await };
                ctx.run(wait, |_, _, _| {});
            }
            Err(Rejected::Closed(_)) => {}
        }
    }

    fn set_timer(&mut self, ctx: &mut Context<Self>) {
        let due = self.queue.next_due();
        if self.timer.as_ref().map(|(at, _)| *at) == due {
            return;
        }
        if let Some((_, handle)) = self.timer.take() {
            ctx.cancel_future(handle);
        }
        if let Some(at) = due {
            let wait = at.saturating_duration_since(Instant::now());
            let handle = actors::trace::sync_under(TraceContext::default(), || {
                ctx.run_later(wait, |me, ctx| {
                    me.timer = None;
                    me.go_on(ctx);
                })
            });
            self.timer = Some((at, handle));
        }
    }

    fn attempt(&mut self, uid: &Arc<str>, ctx: &mut Context<Self>) {
        let Some(waiting) = self.queue.get(uid).filter(|w| w.place == Place::InCycle) else { return };
        let (pod, attempts) = (waiting.pod.clone(), waiting.attempts);
        self.turn = self.turn.wrapping_add(1);
        // Nodes that were cleared for pods at least as important are not free for this one.
        let held: Vec<_> = self
            .nominated
            .values()
            .filter(|(_, p)| p.uid != *uid && p.priority >= pod.priority)
            .map(|(node, p)| (node.clone(), p.clone()))
            .collect();
        for (node, other) in &held {
            self.facts.set_pod(node, other.clone());
        }
        self.facts.set_storage(self.cache.snapshot());
        let decision = cycle::decide(&self.facts, &pod, self.turn);
        for (_, other) in &held {
            self.facts.remove_pod(&other.uid);
        }
        match decision {
            Decision::Place { node, .. } => {
                let node = self.facts.name(node).clone();
                let text = format!("Successfully assigned {}/{} to {node}", pod.namespace, pod.name);
                self.verdict(&pod, attempts, Some(&node), text, &[]);
                self.bind(pod, node, ctx);
            }
            Decision::NoNodes => {
                self.unschedulable(&pod, "no nodes available to schedule pods".to_owned(), &[], None, ctx);
            }
            Decision::Nowhere(refusals) => {
                let mut text = cycle::explain(self.facts.len(), &refusals);
                let budgets = self.cache.list::<PodDisruptionBudget>("");
                let mut nominated = None;
                // Where the pod itself is at fault, upstream gives up before it has looked at its devices' claims; it says
                // so in these words.
                let hopeless = refusals.iter().any(|r| r.rejection.everywhere);
                match preemption::decide(&self.facts, &pod, &refusals, &budgets) {
                    Outcome::Helpless(_) if hopeless => text.push_str(" not found"),
                    Outcome::Helpless(why) => {
                        text = format!("{text} no new claims to deallocate, preemption: {why}")
                    }
                    Outcome::Evict { node, victims } => {
                        let node = self.facts.name(node).clone();
                        self.nominated.insert(uid.clone(), (node.clone(), pod.clone()));
                        self.evict(&pod, &node, victims, ctx);
                        nominated = Some(node);
                    }
                }
                self.unschedulable(&pod, text, &refusals, nominated, ctx);
            }
        }
    }

    fn verdict(
        &mut self,
        pod: &PodFacts,
        attempts: u32,
        node: Option<&Arc<str>>,
        text: String,
        refusals: &[Refusal],
    ) {
        if self.verdicts.len() >= VERDICTS_MAX {
            self.verdicts.clear();
        }
        let refusals = refusals.iter().map(|r| {
            (self.facts.name(r.node).to_string(), (r.plugin.to_owned(), r.rejection.reasons.clone()))
        });
        let verdict = Verdict {
            uid: pod.uid.to_string(),
            second: meta::now().as_second(),
            node: node.map(|n| n.to_string()),
            text,
            refusals: refusals.collect(),
            attempts,
        };
        self.verdicts.insert(Key::new(&pod.namespace, &pod.name), verdict);
    }

    /// Takes the pod as placed, and has it written.
    fn bind(&mut self, pod: Arc<PodFacts>, node: Arc<str>, ctx: &mut Context<Self>) {
        self.assumed.insert(pod.uid.clone(), node.clone());
        self.facts.set_pod(&node, pod.clone());
        let at = self.turn as usize % self.binders.len().max(1);
        let Some(binder) = self.binders.get(at).cloned() else { return };
        let bind = Bind {
            namespace: pod.namespace.clone(),
            name: pod.name.clone(),
            uid: pod.uid.clone(),
            node: node.clone(),
            pod: pod.pod.clone(),
        };
        let ask = async move { binder.ask(bind, BIND_MAX).await };
        ctx.run(ask, move |me, answer, ctx| {
            let error = match answer {
                Ok(Ok(())) => None,
                Ok(Err(e)) => Some(e.to_string()),
                Err(e) => Some(e.to_string()),
            };
            match error {
                None => {
                    let text = format!("Successfully assigned {}/{} to {node}", pod.namespace, pod.name);
                    me.events.act(&*pod.pod, "Normal", "Scheduled", "Binding", text);
                    me.queue.remove(&pod.uid);
                }
                Some(error) => me.not_bound(&pod, &error),
            }
            me.go_on(ctx);
        });
    }

    /// The decision could not be written: take it back, unless the cache shows it all the same.
    fn not_bound(&mut self, pod: &Arc<PodFacts>, error: &str) {
        if self.assumed.remove(&pod.uid).is_none() {
            return;
        }
        if let Some(gone) = self.facts.remove_pod(&pod.uid) {
            self.changed(&ClusterChange::PodGone(gone));
        }
        let text = format!("binding rejected: {error}");
        self.events.act(&*pod.pod, "Warning", "FailedScheduling", "Scheduling", text);
        self.queue.failed(&pod.uid, Vec::new(), Instant::now());
        // What changed meanwhile was passed over while the pod counted as placed.
        self.pod_changed(Key::new(&pod.namespace, &pod.name));
    }

    fn unschedulable(
        &mut self,
        pod: &Arc<PodFacts>,
        text: String,
        refusals: &[Refusal],
        nominated: Option<Arc<str>>,
        ctx: &mut Context<Self>,
    ) {
        let mut plugins: Vec<&'static str> = refusals.iter().map(|r| r.plugin).collect();
        plugins.sort_unstable();
        plugins.dedup();
        if plugins.is_empty() {
            // No nodes: only a first one helps.
            plugins.push("");
        }
        let attempts = self.queue.get(&pod.uid).map_or(0, |w| w.attempts) + 1;
        self.queue.failed(&pod.uid, plugins, Instant::now());
        self.verdict(pod, attempts, None, text.clone(), refusals);
        self.events.act(&*pod.pod, "Warning", "FailedScheduling", "Scheduling", text.clone());
        let Some(patch) = condition_patch(&pod.pod, &text, nominated.as_deref()) else { return };
        let (client, pod) = (self.client.clone(), pod.clone());
        let write = async move {
            client.patch::<Pod>(&pod.namespace, &pod.name, Some("status"), PatchKind::Strategic, &patch).await
        };
        ctx.run(write, |_, result, _| {
            if let Err(error) = result {
                tracing::debug!(%error, "a pod's condition was not written; its next attempt writes it");
            }
        });
    }

    fn evict(&self, pod: &PodFacts, node: &str, victims: Vec<Arc<PodFacts>>, ctx: &mut Context<Self>) {
        for victim in victims {
            let text = format!("Preempted by pod {} on node {node}", pod.uid);
            self.events.act(&*victim.pod, "Normal", "Preempted", "Preempting", text);
            let client = self.client.clone();
            let evict = async move {
                let (ns, name) = (&victim.namespace, &victim.name);
                let why = "default-scheduler: preempting to accommodate a higher priority pod";
                let patch = disruption(&victim.pod, "PreemptionByScheduler", why, meta::now());
                match client.patch::<Pod>(ns, name, Some("status"), PatchKind::Strategic, &patch).await {
                    Err(e) if e.is_not_found() => return Ok(()),
                    other => drop(other?),
                }
                match client.delete::<Pod>(ns, name, Some(&victim.uid), None).await {
                    Err(e) if !e.is_not_found() && !e.is_conflict() => Err(e),
                    _ => Ok(()),
                }
            };
            ctx.run(evict, |_, result, _| {
                if let Err(error) = result {
                    tracing::warn!(%error, "a pod was not preempted; the next attempt does it again");
                }
            });
        }
    }
}

/// The status patch that says why the pod waits; `None` where it says so already.
fn condition_patch(pod: &Pod, text: &str, nominated: Option<&str>) -> Option<Value> {
    let current = condition(pod, "PodScheduled");
    let said = current.is_some_and(|c| {
        c.status == "False"
            && c.reason.as_deref() == Some("Unschedulable")
            && c.message.as_deref() == Some(text)
    });
    let standing = pod.status.as_ref().and_then(|s| s.nominated_node_name.as_deref());
    if said && (nominated.is_none() || nominated == standing) {
        return None;
    }
    let since = current.filter(|c| c.status == "False").and_then(|c| c.last_transition_time.clone());
    let mut patch = json!({"status": {"conditions": [{
        "type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": text,
        "observedGeneration": pod.metadata.generation, "lastProbeTime": null,
        "lastTransitionTime": since.unwrap_or_else(|| time(meta::now())),
    }]}});
    if let Some(node) = nominated {
        patch["status"]["nominatedNodeName"] = node.into();
    }
    Some(patch)
}

impl Actor for Scheduler {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Context<Self>) {
        for n in 0..self.config.binders.max(1) {
            let (api, cache) = (self.api.clone(), self.cache.clone());
            let make =
                move || Binder { client: Client::new(api.clone(), super::AGENT), cache: cache.clone() };
            let props = Props::new(format!("{}/binder", ctx.path()), make);
            self.binders.push(ctx.spawn_child(props.instance(n.to_string()).capacity(256)));
        }
        // Nodes are known before the first pod is tried, so that no pod is told that there are none.
        let (me, cache) = (ctx.me(), self.cache.clone());
        let begin = async move {
            cache.ready().await;
            for node in cache.snapshot().list("", "nodes", "") {
                let key = Key::new("", &node.meta.name);
                if me.tell(Changed { resource: "nodes", key }).await.is_err() {
                    return;
                }
            }
        };
        ctx.run(begin, |me, (), ctx| {
            let (changed, unfollowed) = (ctx.me().recipient(), ctx.me().recipient());
            followed::register(&me.dispatch, &me.config.name, &changed, &unfollowed);
        });
    }
}

impl Handler<Changed> for Scheduler {
    type Result = ();

    fn handle(&mut self, m: Changed, ctx: &mut Context<Self>) {
        match m.resource {
            "nodes" => self.node_changed(&m.key.name),
            "namespaces" => self.namespace_changed(&m.key.name),
            "persistentvolumeclaims" | "persistentvolumes" | "storageclasses" => {
                self.changed(&ClusterChange::Storage);
            }
            _ => self.pod_changed(m.key),
        }
        self.go_on(ctx);
    }
}

impl Handler<Unfollowed> for Scheduler {
    type Result = ();

    fn handle(&mut self, m: Unfollowed, ctx: &mut Context<Self>) {
        ctx.fail(m.why);
    }
}

impl Handler<Try> for Scheduler {
    type Result = ();

    fn handle(&mut self, m: Try, ctx: &mut Context<Self>) {
        self.trying = false;
        self.attempt(&m.uid, ctx);
        self.go_on(ctx);
    }
}

impl Handler<Why> for Scheduler {
    type Result = MessageResult<Why>;

    fn handle(&mut self, m: Why, _: &mut Context<Self>) -> Self::Result {
        MessageResult(self.verdicts.get(&Key::new(&m.namespace, &m.name)).cloned())
    }
}
